"""The job as srun starts it, under a real Slurm."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.slow.conftest import run
from tests.test_job import read

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("slurm")]

JOB = [sys.executable, str(ROOT / "train.py")]


def test_tasks_on_two_nodes_write_what_one_process_writes(tmp_path: Path) -> None:
    done = run("srun", "-N2", "-n4", *JOB, "data=digits", "k=10", "run.dir=four", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("results in") == 1
    assert json.loads((tmp_path / "four" / "summary.json").read_text())["world_size"] == 4
    assert run(*JOB, "data=digits", "k=10", "run.dir=one", cwd=tmp_path).returncode == 0
    assert read(tmp_path / "four") == read(tmp_path / "one")


def test_a_batch_scripts_own_process_is_alone(tmp_path: Path) -> None:
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/sh\n" + " ".join([*JOB, "run.dir=out"]) + "\n")
    assert run("sbatch", "--wait", "--ntasks=2", str(script), cwd=tmp_path).returncode == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["world_size"] == 1


def test_a_mistake_ends_all_tasks_with_one_line(tmp_path: Path) -> None:
    done = run("srun", "-n3", *JOB, "k=0", cwd=tmp_path, timeout=60)
    assert done.returncode != 0
    assert done.stderr.count("distkmeans: error: k=0") == 1


def test_the_default_directory_bears_the_jobs_id(tmp_path: Path) -> None:
    done = run("srun", "-n2", *JOB, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "runs").iterdir()
    assert path.name.startswith("blobs-k4-seed0-")
    assert len(list((path / "labels").iterdir())) == 2
