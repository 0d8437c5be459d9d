"""Batches by row number: the rows of batch t are a function of the seed and t alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from distkmeans.data.shard import Drawn, Shard
from distkmeans.exact import floats
from distkmeans.exact.random import Stream
from distkmeans.problem import Problem

MASS_BITS = 61
"""Bits of the sum of all rows' weights, as integers."""


@dataclass(frozen=True)
class Draws:
    """Rows drawn with replacement, in proportion to their weights, by their place in the running sum over all ranks.

    size: rows of a batch. total: of the running sum; before, own: what ranks below and this one hold of it.
    mass: int64 (n,), the running sum over this rank's rows, or None where every row counts 1.
    unit: what 1 in it stands for.
    """

    shard: Shard
    size: int
    total: int
    before: int
    own: int
    mass: Tensor | None
    unit: float

    @staticmethod
    def of(problem: Problem, size: int) -> Draws:
        """A collective."""
        world, shard = problem.world, problem.shard
        mass, unit, own = None, 1.0, len(shard)
        if shard.weights is not None:
            top = int(problem.columns.top[-1])
            places = MASS_BITS - math.ceil(math.log2(shard.total)) - top
            # rounded up, so that every row with a weight can be drawn
            mass = floats.scale(shard.weights.to(torch.float64), places).ceil_().to(torch.int64).cumsum(0)
            own, unit = int(mass[-1]) if len(mass) else 0, math.ldexp(1.0, -places)
        held = world.per_rank(torch.tensor(own, device=world.device)).tolist()
        return Draws(shard, size, sum(held), sum(held[: world.rank]), own, mass, unit)

    @property
    def weight(self) -> float:
        """Of all rows together."""
        return self.total * self.unit

    def batch(self, seed: int, step: int) -> Drawn:
        """This rank's rows of a batch, each counting once; their numbers are their places in it, 0 to size - 1."""
        positions = torch.arange(self.size, device=self.shard.rows.device)
        places = Stream(seed, "minibatch/rows", step).below(positions, self.total) - self.before
        mine, local = positions, places
        if self.own < self.total:
            mine = ((places >= 0) & (places < self.own)).nonzero().flatten()
            local = places[mine]
        if self.mass is not None:
            local = torch.searchsorted(self.mass, local, right=True)
        return Drawn(self.shard, local, mine, self.size)
