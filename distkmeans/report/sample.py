"""A bounded sample of rows with their labels, for pictures: the same rows at any world size."""

from __future__ import annotations

import torch
from torch import Tensor

from distkmeans.exact.random import Stream
from distkmeans.init.smallest import smallest
from distkmeans.problem import Problem

ROWS = 5000


def sample(problem: Problem, labels: Tensor, count: int = ROWS) -> tuple[Tensor, Tensor]:
    """float64 (m, D) rows and int64 (m,) labels on every rank, m <= count. A collective."""
    shard, world = problem.shard, problem.world
    numbers = shard.numbers(slice(0, len(shard)))
    chosen = smallest(world, Stream(0, "report/sample").keys(numbers), numbers, count)
    here = torch.isin(numbers, chosen).nonzero().flatten()
    rows = world.concat(shard.rows[here].to(torch.float64))
    return rows, world.concat(labels[here].to(torch.int64))
