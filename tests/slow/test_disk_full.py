"""A disk that is full: one line, and what was complete stays."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

Train = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    path = tmp_path / "full"
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(path)], capture_output=True, text=True
    )
    if mounted.returncode:
        assert not os.environ.get("CI"), mounted.stderr
        pytest.skip(f"no mount: {mounted.stderr}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("ranks", [0, 2])
def test_a_run(disk: Path, train: Train, ranks: int) -> None:
    done = train("data.n_samples=200000", f"run.dir={disk}/run", ranks=ranks)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("distkmeans: error:")]
    assert line.startswith(f"distkmeans: error: run.dir={disk}/run: ")
    assert "make room, or choose another directory" in line
    assert "distkmeans/" not in done.stderr.replace(str(disk), "")
    assert np.load(disk / "run" / "centroids.npy").shape == (4, 2)


def test_a_sweep_goes_on(disk: Path, train: Train) -> None:
    done = train("-m", "data.n_samples=200000,100", f"run.dir={disk}/sweep", "report=none")
    assert done.returncode == 1
    assert "data.n_samples=200000 failed: run.dir=" in done.stderr
    assert "point 2 of 2" in done.stderr


@pytest.mark.parametrize("ranks", [0, 2])
def test_applying(disk: Path, tmp_path: Path, train: Train, ranks: int) -> None:
    assert train("run.dir=run", "report=none").returncode == 0
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"] if ranks else []
    command = [sys.executable, *launcher, "-m", "distkmeans.apply", "run.dir=run", "data=blobs"]
    done = subprocess.run(
        [*command, "data.n_samples=200000", f"out.dir={disk}/out"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("distkmeans: error:")]
    assert line.startswith(f"distkmeans: error: out.dir={disk}/out: ")
    assert "make room, or choose another directory" in line
    assert not (disk / "out").exists()
