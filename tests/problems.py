"""Problems built from arrays, in this process or as one rank's part."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from distkmeans.data.array import as_rows
from distkmeans.data.shard import own_shard
from distkmeans.metrics import metrics
from distkmeans.problem import Problem, pose
from distkmeans.world import World, join


def part(values: Any, rank: int, size: int) -> Any:
    """An uneven contiguous part; with four ranks the second has no rows."""
    cuts = {1: [0, 1], 2: [0, 0.3, 1], 3: [0, 0.5, 0.55, 1], 4: [0, 0.2, 0.2, 0.7, 1]}[size]
    return None if values is None else values[int(cuts[rank] * len(values)) : int(cuts[rank + 1] * len(values))]


def problem_of(x: np.ndarray, weights: np.ndarray | None = None, metric: str = "euclidean") -> Problem:
    """All rows, in this process."""
    return _posed(World(), x, weights, metric)


def problem_of_rank(rank: int, size: int, x: np.ndarray, weights: np.ndarray | None = None) -> Problem:
    """This rank's part of the rows, in a process of ``tests.worlds``."""
    return _posed(join("cpu"), part(x, rank, size), part(weights, rank, size), "euclidean")


def _posed(world: World, x: np.ndarray, weights: np.ndarray | None, metric: str) -> Problem:
    vector = None if weights is None else torch.from_numpy(weights)
    return pose(world, own_shard(world, as_rows(x), vector), metrics.build(metric))
