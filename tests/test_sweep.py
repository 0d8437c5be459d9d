"""Sweeps: all ranks in step, rows read once, failures kept apart, only what is missing run again."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from distkmeans import cli
from distkmeans.errors import InputError
from distkmeans.report.table import Table
from distkmeans.sweep import Point, ordered, part
from tests.conftest import ROOT
from tests.test_job import read
from tests.worlds import Ranks

Train = Callable[..., subprocess.CompletedProcess[str]]

SCORES = ["calinski_harabasz", "davies_bouldin", "simplified_silhouette"]
SCORES += ["ami", "ari", "completeness", "homogeneity", "nmi"]  # of rows whose classes are known


def rows_of(sweep: Path) -> list[dict[str, str]]:
    with open(sweep / "sweep.csv", newline="") as file:
        return list(csv.DictReader(file))


def stamps(sweep: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in sweep.glob("*/summary.json")}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep(*overrides: str) -> int:
    return cli.main(["-m", "run.dir=s", "report=none", *overrides], ROOT / "conf")


def test_six_points_under_torchrun(train: Train, tmp_path: Path) -> None:
    done = train("-m", "k=3,5,7", "init=plus_plus,parallel", "data=digits", "run.dir=s", "seed=1", ranks=2)
    assert done.returncode == 0, done.stderr
    table = rows_of(tmp_path / "s")
    assert list(table[0]) == [
        *("k", "init", "status", "error", "inertia", "iterations", "seconds", *SCORES, "data_reads", "dir"),
    ]
    assert [(row["k"], row["init"]) for row in table] == [
        (k, init) for k in ("3", "5", "7") for init in ("plus_plus", "parallel")
    ]
    assert {row["status"] for row in table} == {"done"}
    assert sum(int(row["data_reads"]) for row in table) == 1
    for row in table:
        summary = json.loads((tmp_path / "s" / row["dir"] / "summary.json").read_text())
        assert (summary["world_size"], repr(summary["inertia"])) == (2, row["inertia"])
        assert {name: repr(score) for name, score in summary["scores"].items()} == {name: row[name] for name in SCORES}
    assert train("k=5", "init=parallel", "data=digits", "run.dir=one", "seed=1").returncode == 0
    assert read(tmp_path / "s" / "k=5,init=parallel") == read(tmp_path / "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "s"]  # no outputs/, no multirun/, no .hydra
    assert min(imread(tmp_path / "s" / "sweep.png").shape[:2]) > 400
    assert done.stdout.splitlines()[0].split() == ["k", "init", "status", "inertia", "iterations", "seconds", *SCORES]
    assert len(done.stdout.splitlines()) == 7


def test_a_failed_point_does_not_end_the_sweep_and_is_run_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("x.npy", np.arange(20.0).reshape(10, 2))
    settings = ["data=npy", "data.path=x.npy", "k=2,11,0,3"]
    assert sweep(*settings) == 1
    assert [(row["k"], row["status"]) for row in rows_of(here / "s")] == [
        *(("2", "done"), ("11", "failed"), ("0", "failed"), ("3", "done")),
    ]
    assert [row["error"] for row in rows_of(here / "s")][1:3] == [
        "k=11: more clusters than the 10 rows; choose k of at most 10",
        "k=0: expected a whole number, 1 or more",
    ]
    assert "k=11 failed: k=11: more clusters" in capsys.readouterr().err
    before = stamps(here / "s")
    np.save("x.npy", np.arange(40.0).reshape(20, 2))
    assert sweep(*settings) == 1
    assert "2 of 4 points to run" in capsys.readouterr().err
    assert [row["status"] for row in rows_of(here / "s")] == ["done", "done", "failed", "done"]
    after = stamps(here / "s")
    assert {name: after[name] for name in before} == before
    assert not (here / "s" / "k=11" / "failed.json").exists()


def test_a_point_that_cannot_be_composed_fails_alone(here: Path) -> None:
    assert sweep("init=random,nowhere", "data.n_samples=50") == 1
    assert [row["status"] for row in rows_of(here / "s")] == ["done", "failed"]
    assert "init=nowhere: unknown; expected file" in rows_of(here / "s")[1]["error"]


def test_one_reading_serves_transforms_metrics_and_precisions(here: Path) -> None:
    settings = ["data.n_samples=60", "k=2,3", "transform=none,standardize", "metric=euclidean,cosine"]
    assert sweep(*settings, "precision=exact,fast") == 0
    assert [int(row["data_reads"]) for row in rows_of(here / "s")].count(1) == 1
    assert len(rows_of(here / "s")) == 16
    alone = cli.main(
        ["data.n_samples=60", "k=3", "transform=standardize", "metric=cosine", "run.dir=one", "report=none"],
        ROOT / "conf",
    )
    assert alone == 0
    assert read(here / "s" / "k=3,transform=standardize,metric=cosine,precision=exact") == read(here / "one")


def test_each_data_configuration_is_read_once(here: Path) -> None:
    assert sweep("k=2,3", "data.random_state=0,1", "data.n_samples=40") == 0
    assert sum(int(row["data_reads"]) for row in rows_of(here / "s")) == 2


def test_more_points_join_a_sweep(here: Path) -> None:
    assert sweep("k=2,3", "data.n_samples=40") == 0
    before = stamps(here / "s")
    assert sweep("k=4", "data.n_samples=40") == 0
    assert sorted(path.parent.name for path in (here / "s").glob("*/summary.json")) == [
        *("k=2", "k=3", "k=4,data.n_samples=40"),
    ]
    assert {name: stamp for name, stamp in stamps(here / "s").items() if name in before} == before
    assert len(rows_of(here / "s")) == 3


def test_other_settings_in_the_same_directory_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("k=2,3", "data.n_samples=40") == 0
    before = stamps(here / "s")
    assert sweep("k=2,3", "data.n_samples=50") == 1
    assert "run.dir=s: k=2 was run with data.n_samples=40, now 50; choose another" in capsys.readouterr().err
    assert stamps(here / "s") == before
    assert sweep("k=2,3", "data.n_samples=50", "run.overwrite=true") == 0
    assert json.loads((here / "s" / "k=2" / "summary.json").read_text())["rows"] == 50


def test_a_finished_point_is_kept_until_its_successor_begins(here: Path) -> None:
    np.save("x.npy", np.arange(20.0).reshape(10, 2))
    settings = ["data=npy", "data.path=x.npy", "k=2,3"]
    assert sweep(*settings) == 0
    before = [(here / "s" / name / "centroids.npy").read_bytes() for name in ("k=2", "k=3")]
    np.save("x.npy", np.full((10, 2), np.nan))
    assert sweep(*settings, "run.overwrite=true") == 1
    assert [row["status"] for row in rows_of(here / "s")] == ["failed", "failed"]
    assert [(here / "s" / name / "centroids.npy").read_bytes() for name in ("k=2", "k=3")] == before
    np.save("x.npy", np.arange(40.0).reshape(20, 2))
    assert sweep(*settings) == 0
    assert [row["status"] for row in rows_of(here / "s")] == ["done", "done"]


def test_parts_of_a_sweep_make_the_whole(here: Path) -> None:
    for index in range(2):
        assert sweep("k=2,3,4", "data.n_samples=40", f"sweep.part={index}/2") == 0
    assert [row["k"] for row in rows_of(here / "s")] == ["2", "3", "4"]


def test_a_recipe_may_hold_the_sweep(here: Path) -> None:
    assert sweep("experiment=elbow", "hydra.sweeper.params.k='2,3'", "n_init=1") == 0
    assert [row["k"] for row in rows_of(here / "s")] == ["2", "3"]


def test_a_second_job_keeps_away_from_a_sweep_that_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from distkmeans.sweep import locked

    Path("s").mkdir()
    with locked(here / "s" / ".running-all.lock", 0) as mine:
        assert mine
        assert sweep("k=2,3") == 1
        assert "run.dir=s: another job runs this sweep" in capsys.readouterr().err


SOLVER = '''
import os
from distkmeans.solvers import solvers
from distkmeans.solvers.lloyd import Lloyd

@solvers.register("brittle")
class Brittle(Lloyd):
    """Fails on all ranks, or on one alone."""

    def __init__(self, rank: int = -1, max_iter: int = 300) -> None:
        super().__init__(max_iter)
        self.rank = rank

    def fit(self, problem, centroids, on_record, seed=0):
        if self.rank in (problem.world.rank, -2):
            raise RuntimeError("out of luck")
        return super().fit(problem, centroids, on_record, seed)
'''


def sweep_of_rank(rank: int, folder: Path, overrides: list[str]) -> int:
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    cli.LEAD_S = 0.0
    return sweep(*overrides)


def test_an_error_that_all_ranks_meet_does_not_end_the_sweep(ranks: Callable[[int], Ranks], tmp_path: Path) -> None:
    (tmp_path / "brittle.py").write_text(SOLVER)
    settings = ["plugins=[brittle]", "solver=brittle", "solver.rank=-2,-1", "data.n_samples=40"]
    assert ranks(2)(sweep_of_rank, tmp_path, settings) == [1, 1]
    assert [(row["status"], row["error"]) for row in rows_of(tmp_path / "s")] == [
        *(("failed", "RuntimeError: out of luck"), ("done", "")),
    ]


@pytest.mark.slow
def test_an_error_on_one_rank_alone_ends_the_job_and_keeps_what_is_done(train: Train, tmp_path: Path) -> None:
    (tmp_path / "brittle.py").write_text(SOLVER)
    settings = ["plugins=[brittle]", "solver=brittle", "solver.rank=-1,1", "run.dir=s"]
    begin = time.monotonic()
    assert train("-m", *settings, ranks=2).returncode == 1
    assert time.monotonic() - begin < 60
    assert [row["status"] for row in rows_of(tmp_path / "s")] == ["done"]


@pytest.mark.slow
def test_a_sweep_that_was_killed_runs_only_what_is_missing(train: Train, tmp_path: Path) -> None:
    settings = ["-m", "data=patches", "k=2,3,200", "init=random", "solver.max_iter=40", "run.dir=s", "report=none"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    job = subprocess.Popen(
        [*command, str(ROOT / "train.py"), *settings],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for _ in range(600):
        if (tmp_path / "s" / "k=200" / "metrics.jsonl").exists():
            break
        time.sleep(0.1)
    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    before = stamps(tmp_path / "s")
    assert sorted(before) == ["k=2", "k=3"]
    assert [row["status"] for row in rows_of(tmp_path / "s")] == ["done", "done"]
    done = train(*settings, ranks=2)
    assert done.returncode == 0, done.stderr
    assert "1 of 3 points to run" in done.stderr
    after = stamps(tmp_path / "s")
    assert sorted(after) == ["k=2", "k=200", "k=3"]
    assert {name: after[name] for name in before} == before
    assert [row["status"] for row in rows_of(tmp_path / "s")] == ["done"] * 3


class TestPoint:
    def test_is_named_by_its_overrides(self) -> None:
        assert Point({"k": "64", "init": "random"}, {}).name == "k=64,init=random"
        assert Point({"+init.rounds": "3"}, {}).name == "init.rounds=3"

    @pytest.mark.parametrize("value", ["a/b", "../x", "é ü", "x" * 300, "{a: 1}"])
    def test_has_a_name_that_a_directory_can_have(self, value: str, tmp_path: Path) -> None:
        name = Point({"data.path": value}, {}).name
        (tmp_path / name).mkdir()
        assert name != Point({"data.path": value + "x"}, {}).name

    def test_order_keeps_data_together(self) -> None:
        settings = [{"data": {"n": n}, "transform": t, "metric": "m"} for t in "ab" for n in (1, 2)]
        points = [Point({"at": str(place)}, each) for place, each in enumerate(settings)]
        assert [point.overrides["at"] for point in ordered(points)] == ["0", "2", "1", "3"]

    def test_parts(self) -> None:
        points = [Point({"k": str(k)}, {}) for k in range(5)]
        found = [[point.overrides["k"] for point in part(points, f"{index}/3")] for index in range(3)]
        assert found == [["0", "3"], ["1", "4"], ["2"]]
        for wrong in ("3/3", "1", "-1/2", "a/b"):
            with pytest.raises(InputError, match=f"sweep.part={wrong}: expected I/N"):
                part(points, wrong)


def test_a_table_keeps_the_points_of_earlier_starts(tmp_path: Path) -> None:
    (tmp_path / "k=2").mkdir()
    summary = {"inertia": 0.1, "iterations": 3, "seconds": {"fit": 0.5}, "data_reads": 1, "scores": {"ari": 0.25}}
    (tmp_path / "k=2" / "summary.json").write_text(json.dumps(summary))
    Table.read(tmp_path, {"k=2": {"k": "2"}}).write()
    (tmp_path / "k=3,seed=1").mkdir()
    (tmp_path / "k=3,seed=1" / "failed.json").write_text(json.dumps({"error": "a, b", "data_reads": 0}))
    Table.read(tmp_path, {"k=3,seed=1": {"k": "3", "seed": "1"}, "k=9": {"k": "9"}}).write()
    assert rows_of(tmp_path) == [
        dict(
            zip(
                ["k", "seed", "status", "error", "inertia", "iterations", "seconds", "ari", "data_reads", "dir"],
                values,
                strict=True,
            )
        )
        for values in (
            ["3", "1", "failed", "a, b", "", "", "", "", "0", "k=3,seed=1"],
            ["2", "", "done", "", "0.1", "3", "0.5", "0.25", "1", "k=2"],
        )
    ]
