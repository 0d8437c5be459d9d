"""A bounded sample of rows with their labels, for pictures: the same rows at any world size."""

from __future__ import annotations

import torch
from torch import Tensor

from distkmeans.exact.random import Stream
from distkmeans.init.smallest import smallest_of
from distkmeans.problem import Problem

ROWS = 5000


def sample(problem: Problem, labels: Tensor, count: int = ROWS) -> tuple[Tensor, Tensor]:
    """float64 (m, D) rows and int64 (m,) labels on every rank, m <= count. A collective."""
    shard, world = problem.shard, problem.world
    stream = Stream(0, "report/sample")
    chosen = smallest_of(world, shard, lambda tile, numbers: stream.keys(numbers), count)
    numbers = shard.numbers(slice(0, len(shard)))
    here = torch.isin(numbers, chosen).nonzero().flatten()
    rows = world.concat(shard.rows[here].to(torch.float64))
    return rows, world.concat(labels[here].to(torch.int64))
