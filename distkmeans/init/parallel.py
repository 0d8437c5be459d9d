"""init=parallel: k-means|| (Bahmani, Moseley, Vattani, Kumar and Vassilvitskii 2012)."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from distkmeans.data.columns import Moments, scan
from distkmeans.data.shard import Shard, weight_type
from distkmeans.exact import floats
from distkmeans.exact.random import Stream
from distkmeans.init import SampleSize, Seeds, inits, sampled, seeds_of
from distkmeans.init.mass import Mass
from distkmeans.init.measured import potential_of
from distkmeans.init.plus_plus import greedy
from distkmeans.init.potential import Potential
from distkmeans.init.random import draw_rows
from distkmeans.problem import Problem
from distkmeans.schema import Range

DRAWN_ROWS = 1 << 15
"""Rows that draw at a time: their random numbers stay in a cache."""


@inits.register("parallel")
class Parallel:
    """oversampling: rows drawn per round, on average, times k. rounds: passes over the data. sample: as plus_plus."""

    draws = True

    def __init__(
        self,
        oversampling: Annotated[float, Range(above=0)] = 0.5,
        rounds: Annotated[int, Range(1)] = 5,
        sample: SampleSize = None,
    ) -> None:
        self.oversampling, self.rounds, self.sample = oversampling, rounds, sample

    def __call__(self, problem: Problem, k: int, seed: int) -> Seeds:
        chosen = sampled(problem, self.sample, k, seed)
        drawn, potential = self._draw(chosen, k, seed)
        candidates, order = torch.sort(drawn)
        values = torch.cat(potential.centres)[order].to(chosen.shard.centroid_type)
        weights = _weights(chosen, potential)[order]
        counting = weights > 0  # a copy of another candidate, or one without weight, is no seed
        if int(counting.sum()) < k:
            found = candidates[counting]
            stream = Stream(seed, "parallel/rest")
            rest = draw_rows(chosen, k - len(found), stream, without=found)
            return seeds_of(problem, torch.cat([found, rest]))
        return seeds_of(problem, candidates[_reduce(chosen, values, weights, k, seed)])

    def candidates(self, problem: Problem, k: int, seed: int) -> Tensor:
        """Global row numbers, ascending: the first centre, and about oversampling * k rows of every round."""
        return torch.sort(self._draw(problem, k, seed)[0]).values

    def _draw(self, problem: Problem, k: int, seed: int) -> tuple[Tensor, Potential]:
        """The candidates in the order in which they come, and what they leave of the potential. None comes twice."""
        world, shard = problem.world, problem.shard
        candidates = draw_rows(problem, 1, Stream(seed, "parallel/first"))
        potential = potential_of(problem)
        potential.add(shard.fetch(world, candidates))
        for step in range(self.rounds):
            mass = Mass(world.sum_(potential.mass().parts))
            if potential.refine(mass.totals()[0], int(mass.parts[-1])):
                mass = Mass(world.sum_(potential.mass().parts))
            total = mass.totals()[0]
            if not total:
                break
            stream = Stream(seed, "parallel/draw", step)
            drawn = [
                numbers[stream.uniform(numbers) * float(total) < potential.share(tile) * (self.oversampling * k)]
                for tile in shard.tiles(DRAWN_ROWS)
                for numbers in [shard.numbers(tile)]
            ]
            new = world.concat(torch.cat(drawn) if drawn else candidates[:0])
            if len(new):
                potential.add(shard.fetch(world, new))
                candidates = torch.cat([candidates, new])
        return candidates, potential


def _reduce(problem: Problem, values: Tensor, weights: Tensor, k: int, seed: int) -> Tensor:
    """Positions of k of the candidates (M, D): greedy k-means++ on them, with these weights (M,)."""
    alone = problem.world.alone()
    small = Shard(values, 0, len(values), weights.to(weight_type(values.dtype)), problem.shard.name)
    columns = scan(alone, small)
    seeding = Problem(alone, small, problem.metric, columns, Moments(alone, small, columns), columns.grid())
    return greedy(seeding, k, seed)


def _weights(problem: Problem, potential: Potential) -> Tensor:
    """float64 (M,): the weight of the rows that each centre owns. Integer sums: alike at any world size."""
    shard, owner = problem.shard, potential.owner
    totals = torch.zeros(potential.count, dtype=torch.int64, device=owner.device)
    if shard.weights is None:
        totals.index_add_(0, owner, torch.ones_like(owner, dtype=torch.int64))
        return problem.world.sum_(totals).to(torch.float64)
    top = int(problem.columns.top[-1]) + shard.total.bit_length()
    totals.index_add_(0, owner, floats.scale(shard.weights.to(torch.float64), 62 - top).to(torch.int64))
    return floats.scale(problem.world.sum_(totals).to(torch.float64), top - 62)
