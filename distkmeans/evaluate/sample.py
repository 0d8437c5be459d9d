"""A bounded sample of rows with their labels: the same rows at any world size."""

from __future__ import annotations

import torch
from torch import Tensor

from distkmeans.exact.random import Stream
from distkmeans.init.smallest import smallest_of
from distkmeans.problem import Problem


def sample(problem: Problem, labels: Tensor, count: int, stream: Stream) -> tuple[Tensor, Tensor]:
    """float64 (m, D) rows and int64 (m,) labels on every rank, in row order; m <= count. A collective.

    All rows where there are no more than ``count``, else those with the smallest keys of the stream.
    """
    shard, world = problem.shard, problem.world
    rows, picked = shard.rows, labels
    if shard.total > count:
        chosen = smallest_of(world, shard, lambda tile, numbers: stream.keys(numbers), count)
        here = torch.isin(shard.numbers(slice(0, len(shard))), chosen).nonzero().flatten()
        rows, picked = rows[here], labels[here]
    return world.concat(rows.to(torch.float64)), world.concat(picked.to(torch.int64))
