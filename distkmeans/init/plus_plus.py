"""init=plus_plus: greedy k-means++ (Arthur and Vassilvitskii 2007), with 2 + log k local trials as scikit-learn's."""

from __future__ import annotations

import bisect
import itertools
import math
import time

import torch
from torch import Tensor

from distkmeans.exact.random import Stream
from distkmeans.init import SampleSize, Seeds, inits, sampled, seeds_of
from distkmeans.init.potential import Mass, Potential
from distkmeans.init.random import draw_rows
from distkmeans.problem import Problem

LONG_S = 300.0
"""A seeding that will take longer is announced."""
PROBE_ROWS = 1 << 18


@inits.register("plus_plus")
class PlusPlus:
    """sample: seed from so many rows, drawn at random; None for all."""

    draws = True

    def __init__(self, sample: SampleSize = None) -> None:
        self.sample = sample

    def __call__(self, problem: Problem, k: int, seed: int) -> Seeds:
        numbers = greedy(sampled(problem, self.sample, k, seed), k, seed)
        return seeds_of(problem, numbers)


def greedy(problem: Problem, k: int, seed: int) -> Tensor:
    """k global row numbers: int64 (k,). A collective.

    Each round draws candidates in proportion to the potential, and keeps the one that leaves the least. Two
    collectives a round: the candidates' coordinates, and what each would leave on every rank.
    """
    world, shard = problem.world, problem.shard
    picked = draw_rows(problem, 1, Stream(seed, "plus_plus/first"))
    potential = Potential(problem)
    potential.add(shard.fetch(world, picked))
    count = trials(k)
    _announce(problem, potential, k, count)
    per_rank = Mass(world.per_rank(potential.mass().parts))
    while len(picked) < k:
        totals = per_rank.totals()
        if potential.refine(sum(totals), int(per_rank.parts[:, -1].sum())):
            per_rank = Mass(world.per_rank(potential.mass().parts))
            totals = per_rank.totals()
        if not sum(totals):  # every row lies on a centre: any others will do
            rest = draw_rows(problem, k - len(picked), Stream(seed, "plus_plus/rest"), without=picked)
            return torch.cat([picked, rest])
        stream = Stream(seed, "plus_plus/draw", len(picked))
        numbers, values = _draw(problem, potential, totals, [stream.integer(sum(totals), t) for t in range(count)])
        left = world.per_rank(potential.mass_with(values).parts)
        whole = Mass(left.sum(0)).totals()
        best = whole.index(min(whole))
        potential.add_tried(values, best)
        picked = torch.cat([picked, numbers[best : best + 1]])
        per_rank = Mass(left[:, best])
    return picked


def trials(k: int) -> int:
    """Candidates of a round: 2 + log k, as scikit-learn has them."""
    return 2 + int(math.log(k))


def _draw(problem: Problem, potential: Potential, totals: list[int], places: list[int]) -> tuple[Tensor, Tensor]:
    """The rows at these places of the running sum over ranks: global numbers (m,), values (m, D)."""
    world, shard = problem.world, problem.shard
    ends = list(itertools.accumulate(totals))
    numbers = torch.zeros(len(places), dtype=torch.int64, device=world.device)
    mine = [index for index, place in enumerate(places) if bisect.bisect_right(ends, place) == world.rank]
    if mine:
        before = ends[world.rank] - totals[world.rank]
        local = torch.tensor(potential.rows_at([places[index] - before for index in mine]), device=world.device)
        numbers[mine] = shard.numbers_of(local)
    numbers = world.sum_(numbers)
    return numbers, shard.fetch(world, numbers)


def _announce(problem: Problem, potential: Potential, k: int, count: int) -> None:
    """Say beforehand when this will take long, from the time of one round over a part of the rows."""
    rows = min(PROBE_ROWS, len(problem.shard))
    if not rows or k < 2:
        return
    start = time.perf_counter()
    potential.mass_with(potential.centres[0].expand(count, -1), rows)
    seconds = (time.perf_counter() - start) / rows * len(problem.shard) * (k - 1)
    if seconds > LONG_S:
        problem.world.warn(
            f"init=plus_plus: {k - 1:,} passes over {problem.shard.total:,} rows, about {_span(seconds)};"
            f" init=parallel needs 6 passes, and init.sample={min(problem.shard.total, 100 * k)} seeds from a sample"
        )


def _span(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"
