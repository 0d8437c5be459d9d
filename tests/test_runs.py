"""python -m distkmeans.runs: what run directories tell, whatever state they are in, and nothing beside them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from sklearn.metrics import adjusted_rand_score

from distkmeans import cli, runs
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and a sweep one of whose points fails, as train.py leaves them."""
    real = tmp_path_factory.mktemp("runs")
    with contextlib.chdir(real):
        common = ["data=digits", "report=none"]
        assert cli.main([*common, "k=10", "transform=normalize", "run.dir=runs/one"], ROOT / "conf") == 0
        assert cli.main(["-m", *common, "k=4,16,5000", "run.dir=runs/elbow"], ROOT / "conf") == 1
        assert cli.main([*common, "k=3", "data.ids=ids.txt", "run.dir=runs/named"], ROOT / "conf") == 1
        Path("ids.txt").write_text("".join(f"{row}\n" for row in range(1797)))
        assert cli.main([*common, "k=3", "data.ids=ids.txt", "run.dir=runs/named"], ROOT / "conf") == 0
    return real


@pytest.fixture
def here(real: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of them, to be damaged."""
    shutil.copytree(real, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert runs.main(arguments) == status
    out, error = capsys.readouterr()
    assert "Traceback" not in error
    return out if status == 0 else error


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, object]]:
    found = json.loads(said(capsys, "--json", *arguments), parse_constant=lambda word: pytest.fail(word))
    return {run["name"]: run for run in found}


def test_runs_and_points_are_listed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys)
    points = [f"runs/elbow/k={k}" for k in (4, 16, 5000)]
    assert list(found) == [*points, "runs/named", "runs/one"]
    summary = json.loads(Path("runs/one/summary.json").read_text())
    one = found["runs/one"]
    assert (one["data"], one["k"], one["status"], one["problem"]) == ("digits", 10, "finished", "")
    assert (one["inertia"], one["iterations"]) == (summary["inertia"], summary["iterations"])
    assert (one["scores"], one["seconds"]) == (summary["scores"], summary["seconds"]["fit"])
    failed = found["runs/elbow/k=5000"]
    assert (failed["status"], failed["inertia"]) == ("failed", None)
    assert str(failed["problem"]).startswith("k=5000: more clusters than the 1797 rows")
    table = said(capsys)
    for text in ("runs/one", "1.61447e+06", "finished", "davies_bouldin", "  k=5000: more clusters than the 1797 rows"):
        assert text in table
    assert max(map(len, table.splitlines())) <= 100
    assert list(listed(capsys, "runs/elbow", "runs/one")) == [*points, "runs/one"]
    assert list(listed(capsys, "runs/one")) == ["runs/one"]


def test_few_scores_are_columns_and_long_names_have_a_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "runs/" + "a-long-name-" * 5
    for name in ("runs/one", "runs/named", "runs/elbow/k=4", "runs/elbow/k=16"):
        path = Path(name) / "summary.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "scores": {"ari": 0.25, "davies_bouldin": 2}}))
    shutil.move("runs/one", long)
    lines = said(capsys).splitlines()
    assert lines[0].split() == ["davies"]
    assert lines[1].split() == ["name", "data", "k", "inertia", "seconds", "status", "ari", "bouldin"]
    assert long in lines
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("key", ["inertia", "k", "seconds", "calinski_harabasz", "name", "status"])
def test_sorted_with_what_is_missing_last(key: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = list(listed(capsys, "--sort", key).values())
    values = [run.get(key, run["scores"].get(key)) for run in found]  # type: ignore[attr-defined]
    known = [value for value in values if value is not None]
    assert values[: len(known)] == known
    if key != "name":  # whose numbers are in order
        assert known == sorted(known)
    told = said(capsys, "--sort", "inerta", status=1)
    assert told.startswith("distkmeans: error: --sort inerta: unknown; expected name, ")
    assert told.endswith("did you mean inertia?\n")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link(path: Path) -> None:
    shutil.copy(path, "elsewhere")
    path.unlink()
    path.symlink_to(Path("elsewhere").absolute())


DAMAGE: list[tuple[Callable[[Path], object], str, str]] = [
    (lambda run: (run / "summary.json").write_text('{"rows": 3'), "damaged", "summary.json is no JSON"),
    (lambda run: (run / "summary.json").write_text("[]"), "damaged", "summary.json holds no results"),
    (lambda run: (run / "summary.json").write_text('{"rows": 3}'), "damaged", "summary.json: k is missing"),
    (lambda run: (run / "summary.json").write_text("[" * 100_000), "damaged", "summary.json is no JSON"),
    (lambda run: (run / "summary.json").write_bytes(b"\xff\xfe\x00"), "damaged", "summary.json cannot be read"),
    (lambda run: link(run / "summary.json"), "damaged", "summary.json is a link, which is not followed"),
    (lambda run: pipe(run / "summary.json"), "damaged", "summary.json is no file"),
    (lambda run: (run / "config.yaml").write_text("k: [1"), "damaged", "config.yaml is no YAML"),
    (lambda run: (run / "config.yaml").write_text("- 1"), "damaged", "config.yaml holds no settings"),
    (
        lambda run: (run / "config.yaml").write_text("x: !!python/object/apply:os.abort []"),
        "damaged",
        "config.yaml is no",
    ),
    (lambda run: (run / "config.yaml").unlink(), "damaged", "config.yaml is missing"),
    (lambda run: (run / "centroids.npy").unlink(), "damaged", "centroids.npy is missing"),
    (lambda run: shutil.rmtree(run / "labels"), "damaged", "labels/ is missing"),
    (lambda run: (run / "labels" / "part-00000-of-00001.npy").unlink(), "damaged", "labels/ holds no parts"),
    (
        lambda run: (run / "labels" / "part-00000-of-00001.npy").rename(run / "labels" / "part-00001-of-00002.npy"),
        "damaged",
        "labels/part-00000-of-00002 is missing",
    ),
    (lambda run: (run / "summary.json").unlink(), "unfinished", "iteration "),
    (lambda run: (run / "failed.json").write_text('{"error": "no luck"}'), "failed", "no luck"),
    (lambda run: (run / "failed.json").write_text("{"), "damaged", "failed.json is no JSON"),
]


@pytest.mark.parametrize(("damage", "status", "says"), DAMAGE, ids=[says for _, _, says in DAMAGE])
def test_damaged_and_half_written(
    damage: Callable[[Path], object], status: str, says: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(Path("runs/one"))
    found = listed(capsys)["runs/one"]
    assert found["status"] == status
    assert str(found["problem"]).startswith(says)
    assert f"  {says}"[:60] in said(capsys)
    assert runs.main(["compare", "runs/one", "runs/elbow/k=4"]) in (0, 1)
    assert "Traceback" not in capsys.readouterr().err


def test_a_run_that_its_log_says_failed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/one/summary.json").unlink()
    with open("runs/one/log.txt", "a") as log:
        log.write("2026-11-25 10:00:00,123 ERROR rank 1 is gone: no connection\nTraceback (most recent call last):\n")
    found = listed(capsys)["runs/one"]
    assert (found["status"], found["problem"]) == ("failed", "rank 1 is gone: no connection")


def test_nothing_outside_is_followed_and_no_plugin_imported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("runs/one", "outside")
    Path("runs/link").symlink_to(here / "outside")
    Path("trap.py").write_text("raise SystemExit('imported')\n")
    config = Path("runs/one/config.yaml")
    assert "plugins: []" in config.read_text()
    config.write_text(config.read_text().replace("plugins: []", "plugins: [trap]\nsecret: ${oc.env:HOME}"))
    Path("runs/applied/labels").mkdir(parents=True)
    Path("runs/applied/apply.json").write_text("{}")
    Path("runs/new").mkdir()
    found = listed(capsys)
    assert "runs/link" not in found
    assert "runs/applied" not in found
    assert found["runs/one"]["status"] == "finished"
    assert (found["runs/new"]["status"], found["runs/new"]["problem"]) == ("unfinished", "nothing is in it yet")
    told = said(capsys, "compare", "runs/one", "runs/elbow/k=4")
    assert "${oc.env:HOME}" in told


def test_comparing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, "compare", "runs/elbow/k=4", "runs/elbow/k=16")
    assert max(map(len, told.splitlines())) <= 100
    lines = [line.split() for line in told.splitlines()]
    assert ["k", "4", "16"] in lines
    assert not any(line[:1] in (["run.dir"], ["seed"]) for line in lines)
    summaries = [json.loads(Path(f"runs/elbow/k={k}/summary.json").read_text()) for k in (4, 16)]
    change = 100 * (summaries[1]["inertia"] / summaries[0]["inertia"] - 1)
    assert ["inertia", *(f"{summary['inertia']:.9g}" for summary in summaries), f"{change:.3g}", "%"] in lines
    labels = [np.load(f"runs/elbow/k={k}/labels/part-00000-of-00001.npy") for k in (4, 16)]
    found = json.loads(said(capsys, "compare", "runs/elbow/k=4", "runs/elbow/k=16", "--json"))
    assert found["ari"] == pytest.approx(adjusted_rand_score(*labels), abs=1e-12)
    assert found["settings"] == {"k": [4, 16]}
    assert found["results"]["iterations"] == [summary["iterations"] for summary in summaries]
    assert f"{found['ari']:.6g}" in told
    assert json.loads(said(capsys, "compare", "runs/one", "runs/one", "--json"))["ari"] == 1


def test_labels_in_parts_and_in_parquet(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ari = json.loads(said(capsys, "compare", "runs/one", "runs/named", "--json"))["ari"]
    one = np.load("runs/one/labels/part-00000-of-00001.npy")
    named = parquet.read_table("runs/named/labels")["label"].to_numpy()
    assert ari == pytest.approx(adjusted_rand_score(one, named), abs=1e-12)
    Path("runs/one/labels/part-00000-of-00001.npy").unlink()
    for part, (start, stop) in enumerate([(0, 5), (5, 5), (5, 1797)]):
        np.save(f"runs/one/labels/part-{part:05d}-of-00003.npy", one[start:stop])
    assert json.loads(said(capsys, "compare", "runs/one", "runs/named", "--json"))["ari"] == ari
    shutil.copytree("runs/named", "runs/other")
    table = pyarrow.table({"id": [str(row + 1) for row in range(1797)], "label": named})
    parquet.write_table(table, "runs/other/labels/part-00000-of-00001.parquet")
    found = json.loads(said(capsys, "compare", "runs/other", "runs/named", "--json"))
    assert (found["ari"], found["why_no_ari"]) == (None, "their ids differ, and so do their rows")
    np.save("runs/one/labels/part-00002-of-00003.npy", one[5:-1])
    assert "none: A has 1,796 rows, B 1,797" in said(capsys, "compare", "runs/one", "runs/named")
    np.save("runs/one/labels/part-00002-of-00003.npy", np.array([{}]), allow_pickle=True)
    assert "none: labels/ cannot be read" in said(capsys, "compare", "runs/one", "runs/named")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none"], "none: no such directory; name folders with runs"),
        (["ids.txt"], "ids.txt: a file; name folders with runs"),
        (["--fast"], "unrecognized arguments: --fast; see python -m distkmeans.runs --help"),
        (["compare", "runs/one"], "compare: expected two run directories"),
        (["compare", "runs/one", "runs/named", "--sort", "k"], "--sort k: is for lists of runs; leave it out beside"),
        (["compare", "runs/one", "none"], "none: no such directory; expected a run's directory"),
        (["compare", "runs/one", "runs/elbow"], "runs/elbow: holds a sweep; name one of its points"),
        (["compare", "runs/one", "runs"], "runs: holds no run that can be read ("),
    ],
)
def test_mistakes(arguments: list[str], says: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = said(capsys, *arguments, status=1)
    assert told.startswith(f"distkmeans: error: {says}")
    assert told.count("\n") == 1


def test_no_runs_and_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    assert said(capsys) == "no runs in runs\n"
    assert said(capsys, "--json") == "[]\n"
    assert "compare A B" in said(capsys, "--help")


def test_a_name_cannot_command_the_terminal(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree("runs/one", "runs/\x1b[31mred")
    assert "\x1b" not in said(capsys)
