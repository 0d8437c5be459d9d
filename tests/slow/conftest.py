from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm with two nodes or more: the one that answers or, for these tests, two virtual nodes on this host."""
    if not shutil.which("slurmctld"):
        assert not os.environ.get("CI"), "no Slurm here: apt-get install slurm-wlm"
        pytest.skip("no Slurm here: apt-get install slurm-wlm")
    if answers():
        yield
        return
    root = tmp_path_factory.mktemp("slurm")
    start = Path(__file__).with_name("start_slurm.sh")
    log = tmp_path_factory.mktemp("start") / "log"
    with open(log, "w") as output:  # the daemons keep the file open: a pipe would never end
        done = subprocess.run([start, root], stdout=output, stderr=output, timeout=90)
    assert done.returncode == 0, log.read_text()
    yield
    for pid in root.glob("*.pid"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), signal.SIGTERM)


def answers() -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        idle = subprocess.run(["sinfo", "-h", "-t", "idle", "-o", "%D"], capture_output=True, text=True, timeout=20)
        return sum(map(int, idle.stdout.split())) >= 2
    return False


def run(*command: str, cwd: Path, timeout: float = 90, **settings: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHON": sys.executable, **settings}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout)
