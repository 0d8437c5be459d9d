"""launch/slurm.sbatch under a real Slurm."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.slow.conftest import run
from tests.test_job import read
from tests.test_launch import clone_with

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("slurm")]

SCRIPT = ROOT / "launch" / "slurm.sbatch"
ECHO = "import json, sys\nprint(json.dumps(sys.argv[1:]))\n"
ONE_FAILS = "import os, sys, time\nsys.exit(3) if os.environ['RANK'] == '1' else time.sleep(300)\n"


def submit(
    cwd: Path, *arguments: str, script: Path = SCRIPT, options: tuple[str, ...] = (), **settings: str
) -> tuple[int, str]:
    """The highest exit status of the job, or of its array's tasks, and what they printed."""
    done = run("sbatch", "--parsable", "--output=log-%a", *options, str(script), *arguments, cwd=cwd, **settings)
    assert done.returncode == 0, done.stderr
    told = wait_for(done.stdout.strip(), cwd)
    status = max(map(int, re.findall(r" ExitCode=(\d+):", told)))
    return status, "".join(log.read_text() for log in sorted(cwd.glob("log-*")))


def wait_for(job: str, cwd: Path, timeout: float = 120) -> str:
    """What Slurm says of a job once it is over. (sbatch --wait looks rarely: after 2, 6, 12, 20, 30, 42 s.)"""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        told = run("scontrol", "-o", "show", "job", job, cwd=cwd).stdout
        if not re.search(r"JobState=(PENDING|CONFIGURING|RUNNING|COMPLETING)", told):
            return told
        time.sleep(0.2)
    run("scancel", job, cwd=cwd)
    raise AssertionError(f"job {job} is not over after {timeout} s: {told}")


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """One whose train.py prints its arguments."""
    return clone_with(ECHO, tmp_path)


def test_two_nodes_write_what_one_process_writes(tmp_path: Path) -> None:
    job = ["data=digits", "k=10"]
    status, log = submit(tmp_path, *job, "run.dir=four", options=("--nodes=2",), RANKS_PER_NODE="2")
    assert status == 0, log
    assert log.count("results in") == 1
    assert json.loads((tmp_path / "four" / "summary.json").read_text())["world_size"] == 4
    assert run(sys.executable, str(ROOT / "train.py"), *job, "run.dir=one", cwd=tmp_path).returncode == 0
    assert read(tmp_path / "four") == read(tmp_path / "one")


def test_a_mistake_fails_the_job_with_one_line(tmp_path: Path) -> None:
    status, log = submit(tmp_path, "k=0", options=("--nodes=2",))
    assert status != 0
    assert log.count("distkmeans: error:") == log.count("distkmeans: error: k=0") == 1


def test_one_rank_that_fails_ends_the_job(clone: Path, tmp_path: Path) -> None:
    (clone / "train.py").write_text(ONE_FAILS)
    status, _ = submit(tmp_path, script=clone / "launch" / "slurm.sbatch", options=("--nodes=2",), RANKS_PER_NODE="1")
    assert status != 0


@pytest.mark.parametrize("array", ["0-2", "1-5:2%1", "3,7,11"])
def test_an_array_divides_a_sweep(array: str, clone: Path, tmp_path: Path) -> None:
    sweep = ["-m", "k=2,3,4", "data.path=a b/*.npy", "note=$HOME"]
    options = (f"--array={array}", "--oversubscribe")
    status, log = submit(tmp_path, *sweep, script=clone / "launch" / "slurm.sbatch", options=options)
    assert status == 0, log
    told = [json.loads(line) for line in log.splitlines() if line.startswith("[")]
    assert all(line[:4] == sweep for line in told)
    assert sorted(line[5] for line in told) == [f"sweep.part={part}/3" for part in range(3)]
    (directory,) = {line[4] for line in told}
    assert directory.startswith("run.dir=runs/sweep-")


def test_a_part_and_a_directory_that_are_given_stay(clone: Path, tmp_path: Path) -> None:
    given = ["-m", "k=2,3", "run.dir=mine", "sweep.part=1/2"]
    status, log = submit(tmp_path, *given, script=clone / "launch" / "slurm.sbatch", options=("--array=7",))
    assert status == 0, log
    assert [json.loads(line) for line in log.splitlines() if line.startswith("[")] == [given]


@pytest.mark.parametrize(
    ("options", "settings", "says"),
    [
        ((), {"RANKS_PER_NODE": "none"}, "RANKS_PER_NODE=none: expected a whole number, 1 or more"),
        ((), {"DISTKMEANS_HOME": "elsewhere"}, "DISTKMEANS_HOME=elsewhere: no train.py there"),
        (("--array=0,1,4",), {}, "--array: ids are not evenly spaced; use --array=0-2, or give sweep.part=I/N"),
    ],
)
def test_mistakes(options: tuple[str, ...], settings: dict[str, str], says: str, clone: Path, tmp_path: Path) -> None:
    status, log = submit(tmp_path, script=clone / "launch" / "slurm.sbatch", options=options, **settings)
    assert status != 0
    assert [line for line in log.splitlines() if "error:" in line] == [f"distkmeans: error: {says}"]


def test_no_train_py(tmp_path: Path) -> None:
    lonely = tmp_path / "slurm.sbatch"
    shutil.copy(SCRIPT, lonely)
    status, log = submit(tmp_path, "k=3", script=lonely)
    assert status == 2
    assert log.count("\n") == 1
    assert f"distkmeans: error: no train.py beside {lonely} k=3 or in {tmp_path}; set DISTKMEANS_HOME" in log
