"""Peak memory, by the operating system: near what a dry run says, and not growing with the rounds of seeding."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

Train = Callable[..., subprocess.CompletedProcess[str]]
UNITS = {"MB": 1e6, "GB": 1e9}


def peak(train: Train, tmp_path: Path, *overrides: str) -> float:
    done = train(*overrides, "run.dir=out", "run.overwrite=true", "report=none", "solver.max_iter=2")
    assert done.returncode == 0, done.stderr
    return float(json.loads((tmp_path / "out" / "summary.json").read_text())["peak_memory_bytes"])


def test_seeding_does_not_grow_with_its_rounds(train: Train, tmp_path: Path) -> None:
    few, many = (peak(train, tmp_path, "data.n_samples=300000", f"k={k}") for k in (16, 100))
    assert many < few + 60e6  # a temporary per row and round would be 200 MB


@pytest.mark.parametrize(
    "overrides",
    [
        ["k=64", "init=random"],
        ["k=16"],
        ["k=64", "init=parallel", "transform=standardize"],
        ["k=64", "init=random", "metric=cosine"],
    ],
)
def test_a_dry_run_is_near_the_truth(train: Train, tmp_path: Path, overrides: list[str]) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((400_000, 96), dtype=np.float32))
    settings = ["data=npy", "data.path=x.npy", *overrides]
    told = re.search(r"memory +about ([\d.]+) (MB|GB) per rank", train("dry_run=true", *settings).stdout)
    assert told
    ratio = peak(train, tmp_path, *settings) / (float(told[1]) * UNITS[told[2]])
    assert 0.7 < ratio < 1.25
