"""dry_run=true: what it tells is near the truth, what is wrong is told, and nothing is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from distkmeans import cli
from distkmeans.cost import bytes_told, seconds_told
from tests.conftest import ROOT
from tests.test_mistakes import attempt
from tests.worlds import Ranks


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).standard_normal((3000, 8)).astype(np.float32)
    np.save("x.npy", x)
    (tmp_path / "parts").mkdir()
    for part in range(3):
        np.save(tmp_path / "parts" / f"{part}.npy", x[part * 1000 : part * 1000 + 1000])
    return tmp_path


def rehearse(*overrides: str) -> int:
    return cli.main(["dry_run=true", *overrides], ROOT / "conf")


def told(text: str) -> dict[str, str]:
    return {line.split()[0]: line.split(maxsplit=1)[1] for line in text.splitlines() if " " in line}


def test_tells_what_a_run_will_read_and_take(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(here.rglob("*"))
    assert rehearse("data=npy", "data.path=parts", "k=16", "n_init=3", "transform=standardize", "run.dir=out") == 0
    lines = told(capsys.readouterr().out)
    assert lines["rows"] == "3,000 x 8 float32, 96 kB, 3 files"
    assert lines["ranks"].startswith(f"1 on cpu, {torch.get_num_threads()} thread")
    assert lines["network"] == "not used"
    assert lines["disk"].startswith("12 kB of labels, ")
    assert lines["passes"] == (
        "read 1, transform 3, statistics 2, seeding 16, iterations at most 300, last labels 1, from seeding on 3 times,"
        " scores 3"
    )
    assert re.match(r"about [\d.]+ .?s per iteration, from [\d,]+ rows of each rank here, at most", lines["time"])
    assert lines["results"] == "out/"
    assert sorted(here.rglob("*")) == before


def test_on_three_ranks_rank_0_speaks(here: Path, ranks: Callable[[int], Ranks]) -> None:
    overrides = ["dry_run=true", "data=npy", "data.path=x.npy", "k=5", "init=parallel", "metric=cosine"]
    results = ranks(3)(attempt, here, overrides)
    assert [status for status, _, _ in results] == [0, 0, 0]
    assert [bool(said) for _, said, _ in results] == [True, False, False]
    lines = told(results[0][1])
    assert lines["ranks"].startswith("3 on cpu")
    assert lines["network"].startswith("one all-reduce of ")
    assert "statistics 4, seeding 6" in lines["passes"]


def test_a_sweep_is_told_point_by_point(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rehearse("-m", "data=npy", "data.path=x.npy", "k=5,4000", "run.dir=s") == 1
    text = capsys.readouterr().out
    assert text.startswith("k=5:\nrows       3,000 x 8 float32")
    assert text.rstrip().endswith("k=4000: error: k=4000: more clusters than the 3000 rows; choose k of at most 3000")
    assert not (here / "s").exists()


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["k=4000"], "k=4000: more clusters than the 3000 rows"),
        (["init=file", "init.path=x.npy"], "init.path=x.npy: shape (3000, 8); expected k=4 rows of 8 columns"),
        (["init.sample=3"], "init.sample=3: fewer rows than k=4"),
        (["data.weights=short.npy"], "data.weights=short.npy: 5 weights for 3000 rows"),
        (["data.ids=ids.txt"], "data.ids=ids.txt: 1 ids for 3000 rows"),
        (["run.dir=x.npy"], "run.dir=x.npy: a file, not a directory"),
        (["run.dir=x.npy/deeper"], "run.dir=x.npy/deeper: "),
        (["data.path=bad.npy"], "data.path=bad.npy, row 2: nan in column 0"),
    ],
)
def test_mistakes_are_told_before_a_run(
    here: Path, overrides: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("short.npy", np.ones(5))
    np.save("bad.npy", np.where(np.arange(20)[:, None] == 2, np.nan, np.ones((20, 2))))
    Path("ids.txt").write_text("one\n")
    assert rehearse("data=npy", "data.path=x.npy", *overrides) == 1
    assert capsys.readouterr().err.startswith(f"distkmeans: error: {says}")


def test_weights_of_zero_in_what_is_timed_are_no_mistake(here: Path) -> None:
    np.save("w.npy", np.where(np.arange(3000) == 2999, 1.0, 0.0))
    assert rehearse("data=npy", "data.path=x.npy", "data.weights=w.npy", "k=1") == 0


def test_numbers_are_told_with_three_digits() -> None:
    assert [bytes_told(count) for count in (0, 999, 1000, 25_562_880, 999_900, 5e12)] == [
        *("0 B", "999 B", "1 kB", "25.6 MB", "1 MB", "5 TB"),
    ]
    assert [seconds_told(seconds) for seconds in (0.0015, 12.0, 200.0, 7300.0, 2e5)] == [
        *("1.5 ms", "12 s", "3.33 min", "2.03 h", "2.31 days"),
    ]
