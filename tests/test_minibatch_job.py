"""solver=minibatch as a user starts it, and beside scikit-learn's in the benchmark."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from distkmeans import cli
from tests.conftest import ROOT
from tests.test_benchmarks import bench, is_picture, table
from tests.test_job import read

Train = Callable[..., subprocess.CompletedProcess[str]]
DIGITS = ["solver=minibatch", "data=digits", "k=10", "solver.batch_size=200", "report=none"]


def run(*overrides: str) -> int:
    return cli.main([*DIGITS, *overrides], ROOT / "conf")


@pytest.mark.slow
def test_three_ranks_write_what_one_does(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("run.dir=alone") == 0
    done = train(*DIGITS, "run.dir=three", ranks=3)
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "alone") == read(tmp_path / "three")
    summary = json.loads((tmp_path / "three" / "summary.json").read_text())
    records = [json.loads(line) for line in (tmp_path / "three" / "metrics.jsonl").read_text().splitlines()]
    assert [record["iteration"] for record in records] == list(range(1, summary["iterations"] + 1))
    assert all(record["moved"] is None for record in records)
    assert records[-1]["inertia"] == pytest.approx(summary["inertia"], rel=0.05)


def test_seedings_are_repeated_with_seeds_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each restart draws other batches, the best is kept."""
    monkeypatch.chdir(tmp_path)
    assert run("run.dir=one", "init=random") == 0
    assert run("run.dir=four", "init=random", "n_init=4") == 0
    one, four = (json.loads((tmp_path / name / "summary.json").read_text()) for name in ("one", "four"))
    assert four["inertia"] <= one["inertia"]
    lines = [json.loads(line) for line in (tmp_path / "four" / "metrics.jsonl").read_text().splitlines()]
    assert {line["restart"] for line in lines} == {0, 1, 2, 3}


def test_a_sweep_over_solvers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = ["-m", "solver=lloyd,minibatch", "data=digits", "k=10", "report=none", "run.dir=both", "evaluate=[]"]
    assert cli.main(sweep, ROOT / "conf") == 0
    told = (tmp_path / "both" / "sweep.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in told] == ["solver", "lloyd", "minibatch"]


def test_a_dry_run_tells_of_batches(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("dry_run=true", "run.device=cpu") == 0
    assert "iterations at most 100" in capsys.readouterr().out


def test_mistakes_name_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("solver.decay=1.5") == 1
    assert "solver.decay=1.5: expected a number, 0 to 1" in capsys.readouterr().err
    assert run("solver.max_no_improvement=some") == 1
    assert "solver.max_no_improvement=some: expected a whole number, 0 or more or null" in capsys.readouterr().err


def test_the_benchmark_beside_scikit_learn(tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--case", "3000x5x4", "--batch", "500", "--passes", "2", "--seeds", "2", "--threads", "1"]
    done = bench("minibatch", *options, out=out)
    assert done.returncode == 0, done.stderr
    [row] = table(out / "minibatch.csv", done.stdout)
    assert (row["rows"], row["K"], row["batches"]) == ("normal, 3,000 x 5", "4", "12")
    assert float(row["ratio"]) == pytest.approx(float(row["ours s"]) / float(row["scikit-learn s"]))
    assert abs(float(row["difference %"])) < 5
    assert is_picture(out / "minibatch.png")
