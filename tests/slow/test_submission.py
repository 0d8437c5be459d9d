"""Sweeps under a real Slurm: a job per point by hydra/launcher=slurm, and parts of one by an array of launches."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.slow.conftest import run
from tests.slow.test_sbatch import submit as sbatch
from tests.slow.test_sbatch import wait_for
from tests.test_job import read
from tests.test_readme import on_slurm, run_line
from tests.test_sweep import rows_of, stamps

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("slurm")]

TRAIN = [sys.executable, str(ROOT / "train.py")]
SLURM = ["-m", "hydra/launcher=slurm", "run.dir=s", "report=none"]
LONG = ["data=patches", "init=random", "solver.max_iter=100000", "solver.tol=0", "solver.kernel=dense", "k=900"]


def submit(cwd: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return run(*TRAIN, *SLURM, *overrides, cwd=cwd, timeout=150, OMP_NUM_THREADS="1")


def start(cwd: Path, *overrides: str) -> subprocess.Popen[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*TRAIN, *SLURM, *overrides], cwd=cwd, env=env, stderr=subprocess.PIPE, text=True)


def job_of(cwd: Path) -> str:
    """The job that the first point was submitted as, once there is one that runs."""
    jobs = cwd / "s" / "slurm" / "jobs.json"
    for _ in range(300):
        if jobs.exists() and list(cwd.glob("s/*/metrics.jsonl")):
            return str(next(iter(json.loads(jobs.read_text()).values())))
        time.sleep(0.2)
    raise AssertionError("no job runs")


def test_a_job_of_two_nodes_for_each_point(tmp_path: Path) -> None:
    size = ["hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=2"]
    done = submit(tmp_path, *size, "data=digits", "k=5,10,3000,0")
    assert done.returncode == 1
    assert "3 points submitted as job" in done.stderr
    assert [(row["k"], row["status"]) for row in rows_of(tmp_path / "s")] == [
        *(("5", "done"), ("10", "done"), ("3000", "failed"), ("0", "failed")),
    ]
    assert "k=3000: more clusters than the 1797 rows" in done.stdout
    assert json.loads((tmp_path / "s" / "k=5" / "summary.json").read_text())["world_size"] == 4
    assert run(*TRAIN, "data=digits", "k=10", "run.dir=one", cwd=tmp_path).returncode == 0
    assert read(tmp_path / "s" / "k=10") == read(tmp_path / "one")
    before = stamps(tmp_path / "s")
    again = submit(tmp_path, *size, "data=digits", "k=5,10,3000")
    assert "1 points submitted as job" in again.stderr
    assert stamps(tmp_path / "s") == before


def test_a_cancelled_job_is_a_failed_point(tmp_path: Path) -> None:
    process = start(tmp_path, *LONG)
    job = job_of(tmp_path)
    assert run("scancel", job, cwd=tmp_path).returncode == 0
    said = process.communicate(timeout=90)[1]
    assert process.returncode == 1
    assert "k=900" in said
    assert f"job {job} ended without a result; see" in rows_of(tmp_path / "s")[0]["error"]


def test_a_second_start_follows_the_jobs_of_the_first(tmp_path: Path) -> None:
    process = start(tmp_path, *LONG)
    job = job_of(tmp_path)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 1
    assert f"distkmeans: error: jobs {job} go on; the same command follows them again" in said
    again = start(tmp_path, *LONG)
    time.sleep(6)
    assert run("scancel", job, cwd=tmp_path).returncode == 0
    said = again.communicate(timeout=90)[1]
    assert "1 points are in the queue or run already: following them" in said
    assert "submitted" not in said


def test_what_slurm_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    done = submit(tmp_path, "k=2,3", "hydra.launcher.partition=nowhere")
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "distkmeans: error:" in line]
    assert re.match(r"distkmeans: error: hydra/launcher=slurm: .*invalid partition specified: nowhere", line)


def test_a_dry_run_submits_nothing(tmp_path: Path) -> None:
    done = submit(tmp_path, "k=2,3", "dry_run=true", "hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=4")
    assert done.returncode == 0
    assert done.stdout.count("ranks      8 on ") == 2
    assert not (tmp_path / "s").exists()


def test_an_array_of_launches_shares_a_sweep(tmp_path: Path) -> None:
    sweep = ["-m", "k=2,3,4", "data=digits", "run.dir=s", "report=none"]
    options = ("--array=0-1", "--oversubscribe", "--cpus-per-task=1")
    status, log = sbatch(tmp_path, *sweep, options=options, RANKS_PER_NODE="2")
    assert status == 0, log
    assert [(row["k"], row["status"]) for row in rows_of(tmp_path / "s")] == [(k, "done") for k in "234"]
    assert sum(int(row["data_reads"]) for row in rows_of(tmp_path / "s")) == 2


@pytest.mark.parametrize("line", on_slurm())
def test_a_command_of_the_docs_runs(line: str, tmp_path: Path) -> None:
    begun = run_line(re.sub(r"^sbatch ", "sbatch --parsable ", line), tmp_path, timeout=240)
    assert begun.returncode == 0, begun.stderr
    if line.startswith("sbatch"):
        told = wait_for(begun.stdout.strip(), tmp_path)
        assert "ExitCode=0:0" in told
        assert not re.search(r"ExitCode=[1-9]", told)
    runs = list((tmp_path / "runs").glob("**/summary.json"))
    values = re.search(r"-m .*k=(\S+)", line)
    assert len(runs) == (len(values[1].split(",")) if values else 1)
