"""init=parallel: k-means|| (Bahmani, Moseley, Vattani, Kumar and Vassilvitskii 2012)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from distkmeans.data.columns import moments, scan
from distkmeans.data.shard import Shard, weight_type
from distkmeans.errors import InputError, whole_number
from distkmeans.exact.random import Stream
from distkmeans.init import Seeds, inits, sample_size, sampled, seeds_of
from distkmeans.init.plus_plus import greedy
from distkmeans.init.potential import Mass, Potential
from distkmeans.init.random import draw_rows
from distkmeans.kernels import choose
from distkmeans.problem import Problem


@inits.register("parallel")
class Parallel:
    """oversampling: rows drawn per round, on average, times k. rounds: passes over the data. sample: as plus_plus."""

    draws = True

    def __init__(self, oversampling: float = 0.5, rounds: int = 5, sample: int | None = None) -> None:
        if isinstance(oversampling, str) or not 0 < oversampling < math.inf:
            raise InputError(f"init.oversampling={oversampling}: expected more than 0 (times k rows per round)")
        self.oversampling, self.rounds = oversampling, whole_number("init.rounds", rounds, 1)
        self.sample = sample_size(sample)

    def __call__(self, problem: Problem, k: int, seed: int) -> Seeds:
        chosen = sampled(problem, self.sample, k, seed)
        candidates = self.candidates(chosen, k, seed)
        if len(candidates) < k:
            stream = Stream(seed, "parallel/rest")
            rest = draw_rows(chosen, k - len(candidates), stream, without=candidates)
            return seeds_of(problem, torch.cat([candidates, rest]))
        return seeds_of(problem, candidates[_reduce(chosen, candidates, k, seed)])

    def candidates(self, problem: Problem, k: int, seed: int) -> Tensor:
        """Global row numbers, ascending: the first centre, and about oversampling * k rows of every round."""
        world, shard = problem.world, problem.shard
        candidates = draw_rows(problem, 1, Stream(seed, "parallel/first"))
        potential = Potential(problem)
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
                for tile in shard.tiles()
                for numbers in [shard.numbers(tile)]
            ]
            new = world.concat(torch.cat(drawn) if drawn else candidates[:0])
            if len(new):
                potential.add(shard.fetch(world, new))
                candidates = torch.cat([candidates, new])
        return torch.unique(candidates)


def _reduce(problem: Problem, candidates: Tensor, k: int, seed: int) -> Tensor:
    """Positions of k of the candidates: greedy k-means++ on them, weighted by the rows nearest to each."""
    world, shard = problem.world, problem.shard
    values = shard.fetch(world, candidates).to(shard.centroid_type)
    labels = torch.empty(len(shard), dtype=torch.int64, device=world.device)
    choose(shard.rows, values).assign(values, labels)
    weights = _weights(problem, labels, len(candidates)).to(weight_type(values.dtype))
    alone = world.alone()
    small = Shard(values, 0, len(values), weights, shard.name)
    columns = scan(alone, small)
    seeding = Problem(alone, small, problem.metric, columns, moments(alone, small, columns), columns.grid())
    return greedy(seeding, k, seed)


def _weights(problem: Problem, labels: Tensor, count: int) -> Tensor:
    """float64 (count,): how much weight lies nearest to each candidate. Integer sums: alike at any world size."""
    totals = torch.zeros(count, dtype=torch.int64, device=labels.device)
    weights = problem.shard.weights
    if weights is None:
        totals.index_add_(0, labels, torch.ones_like(labels))
        return problem.world.sum_(totals).to(torch.float64)
    top = int(problem.columns.top[-1]) + problem.shard.total.bit_length()
    totals.index_add_(0, labels, (weights.to(torch.float64) * 2.0 ** (62 - top)).to(torch.int64))
    return problem.world.sum_(totals).to(torch.float64) * 2.0 ** (top - 62)
