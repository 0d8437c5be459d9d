"""launch/local.sh: how many ranks, how many threads, and overrides that arrive as they were typed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.test_job import Train, read

LOCAL = ROOT / "launch" / "local.sh"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
TYPED = ["-m", "k=2,3", "data.path=a b/*.npy", 'note="it\'s $HOME"', "columns=[1,2]", "", "~solver"]
ECHO = (
    "import json, os, sys\nprint(json.dumps([sys.argv[1:], os.environ['OMP_NUM_THREADS'], os.environ['WORLD_SIZE']]))"
)


def launch(cwd: Path, *overrides: str, script: Path = LOCAL, **settings: str) -> subprocess.CompletedProcess[str]:
    ours = ("SLURM_", "OMP_", "CUDA_VISIBLE_DEVICES", "RANKS")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    env |= {"PYTHON": sys.executable, **settings}
    return subprocess.run([script, *overrides], cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def program(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def python(tmp_path: Path) -> str:
    """A Python that prints its arguments and its OMP_NUM_THREADS, a line each."""
    return program(tmp_path / "python", r'printf "%s\n" "$@" "$OMP_NUM_THREADS"')


def clone_with(body: str, folder: Path) -> Path:
    """A clone, in a directory with spaces, whose train.py is ``body``."""
    home = folder / "a clone of mine"
    shutil.copytree(ROOT / "launch", home / "launch")
    (home / "train.py").write_text(body)
    return home


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """One that prints its arguments, its threads and the number of ranks."""
    return clone_with(ECHO, tmp_path)


def test_a_job_from_another_directory(train: Train, tmp_path: Path) -> None:
    done = launch(tmp_path, "data=digits", "k=10", "run.dir=by two", RANKS="2")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "by two" / "summary.json").read_text())["world_size"] == 2
    assert train("data=digits", "k=10", "run.dir=alone").returncode == 0
    assert read(tmp_path / "by two") == read(tmp_path / "alone")


def test_overrides_arrive_as_typed(clone: Path, tmp_path: Path) -> None:
    done = launch(tmp_path, *TYPED, script=clone / "launch" / "local.sh", RANKS="2")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines == [[TYPED, str(max(1, CORES // 2)), "2"]] * 2


@pytest.mark.parametrize("ranks", ["0", "abc", "-1", "1.5", "2 3", "007"])
def test_ranks_that_are_none(ranks: str, tmp_path: Path) -> None:
    done = launch(tmp_path, RANKS=ranks)
    assert done.returncode == 2
    assert done.stderr == f"distkmeans: error: RANKS={ranks}: expected a whole number, 1 or more\n"


def ranks_and_threads(done: subprocess.CompletedProcess[str]) -> tuple[int, int]:
    assert done.returncode == 0, done.stderr
    *arguments, threads = done.stdout.splitlines()
    (ranks,) = [line.split("=")[1] for line in arguments if line.startswith("--nproc-per-node=")]
    return int(ranks), int(threads)


def test_threads_are_a_share_of_the_cores(python: str, tmp_path: Path) -> None:
    without_cards = {"PYTHON": python, "CUDA_VISIBLE_DEVICES": ""}
    default = -(-CORES // 8)
    assert ranks_and_threads(launch(tmp_path, **without_cards)) == (default, CORES // default)
    assert ranks_and_threads(launch(tmp_path, RANKS=str(3 * CORES), **without_cards)) == (3 * CORES, 1)
    assert ranks_and_threads(launch(tmp_path, OMP_NUM_THREADS="5", **without_cards)) == (default, 5)


@pytest.mark.parametrize(
    ("visible", "ranks"),
    [({}, 3), ({"CUDA_VISIBLE_DEVICES": "2,0"}, 2), ({"CUDA_VISIBLE_DEVICES": "GPU-1b,1"}, 2)]
    + [({"CUDA_VISIBLE_DEVICES": seen}, -(-CORES // 8)) for seen in ("", "-1", "NoDevFiles")]
    + [({"CUDA_VISIBLE_DEVICES": seen}, 1) for seen in ("1,7,2", "0,-1,2", "GPU-1b,GPU-9")],
)
def test_a_rank_for_each_visible_card(visible: dict[str, str], ranks: int, python: str, tmp_path: Path) -> None:
    cards = "".join(f"GPU {index}: Card (UUID: GPU-1{letter})\n" for index, letter in enumerate("abc"))
    program(tmp_path / "nvidia-smi", f"cat <<END\n{cards}END")
    found = launch(tmp_path, PYTHON=python, PATH=f"{tmp_path}:{os.environ['PATH']}", **visible)
    assert ranks_and_threads(found)[0] == ranks


def test_the_exit_status_is_the_jobs(tmp_path: Path) -> None:
    assert launch(tmp_path, PYTHON=program(tmp_path / "python", "exit 7")).returncode == 7


def test_a_python_that_is_not_there(tmp_path: Path) -> None:
    done = launch(tmp_path, PYTHON="no-such-python")
    assert (done.returncode, done.stderr) == (2, "distkmeans: error: PYTHON=no-such-python: no such program\n")


def test_the_clones_own_environment_is_taken_unless_another_is_active(clone: Path, tmp_path: Path) -> None:
    (clone / ".venv" / "bin").mkdir(parents=True)
    program(clone / ".venv" / "bin" / "python", "exit 7")
    program(tmp_path / "python", "exit 8")
    settings = {"script": clone / "launch" / "local.sh", "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHON": ""}
    assert launch(tmp_path, VIRTUAL_ENV="", CONDA_PREFIX="", **settings).returncode == 7
    assert launch(tmp_path, VIRTUAL_ENV="active", **settings).returncode == 8
