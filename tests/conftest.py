from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before whatever test is the first to import triton

from distkmeans.settings import GROUPS
from tests.worlds import Ranks

ROOT = Path(__file__).parent.parent

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, torch.get_num_threads()))


@pytest.fixture(scope="session")
def ranks() -> Iterator[Callable[[int], Ranks]]:
    """``ranks(3)``: three real processes, started once."""
    groups: dict[int, Ranks] = {}

    def of_size(size: int) -> Ranks:
        if size not in groups:
            groups[size] = Ranks(size)
        return groups[size]

    yield of_size
    for group in groups.values():
        group.close()


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``train("k=3", ranks=2)``: the command that a user types, in an empty directory."""

    def run(*overrides: str, ranks: int = 0, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        launcher = [sys.executable]
        if ranks:
            launcher += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        return subprocess.run(
            [*launcher, str(ROOT / "train.py"), *overrides],
            cwd=tmp_path,
            env={**environment, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory whose modules can be plugins; what they register is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for registry in GROUPS.values():
        registry.names()
        monkeypatch.setattr(registry, "_makers", dict(registry._makers))
    Plugins.instance()  # Hydra's own pieces register once, as they are imported: not within what is forgotten
    store, modules = ConfigStore.instance(), set(sys.modules)
    monkeypatch.setattr(store, "repo", copy.deepcopy(store.repo))
    yield tmp_path
    for module in set(sys.modules) - modules:
        if Path(getattr(sys.modules[module], "__file__", None) or "/").parent == tmp_path:
            del sys.modules[module]
