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
from distkmeans.init.mass import Mass
from distkmeans.init.measured import potential_of
from distkmeans.init.potential import TILE_ROWS, Potential
from distkmeans.init.random import draw_rows
from distkmeans.problem import Problem

LONG_S = 300.0
"""A seeding that will take longer is announced."""
ROUND = 1.4
"""A round takes so many times the time of its fast pass: 1.2 with 10**6 x 16 rows, 1.5 with 10**5 x 128."""
PLACE_BITS = 504
"""Random bits of a place: those of the whole, and more than 128 beyond them."""


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
    first = draw_rows(problem, 1, Stream(seed, "plus_plus/first"))
    potential = potential_of(problem)
    potential.add(shard.fetch(world, first))
    count, picked = trials(k), [first]
    _announce(problem, potential, k, count)
    per_rank = Mass(world.per_rank(potential.mass().parts))
    while len(picked) < k:
        totals = per_rank.totals()
        if potential.refine(sum(totals), int(per_rank.parts[:, -1].sum())):
            per_rank = Mass(world.per_rank(potential.mass().parts))
            totals = per_rank.totals()
        whole = sum(totals)
        if not whole:  # every row lies on a centre: any others will do
            stream, found = Stream(seed, "plus_plus/rest"), torch.cat(picked)
            return torch.cat([found, draw_rows(problem, k - len(found), stream, without=found)])
        stream = Stream(seed, "plus_plus/draw", len(picked))
        numbers, values = _draw(problem, potential, totals, [place(stream, whole, trial) for trial in range(count)])
        left = world.per_rank(potential.mass_with(values).parts)
        leaves = Mass(left.sum(0)).totals()
        best = leaves.index(min(leaves))
        potential.add_tried(values, best)
        picked.append(numbers[best : best + 1])
        per_rank = Mass(left[:, best])
    return torch.cat(picked)


def place(stream: Stream, whole: int, trial: int) -> int:
    """A place below ``whole``, in proportion to it: rows of another type, or of scaled weights, are drawn alike."""
    return stream.integer(1 << PLACE_BITS, trial) * whole >> PLACE_BITS


def trials(k: int) -> int:
    """Candidates of a round: 2 + log k, as scikit-learn has them."""
    return 2 + int(math.log(k))


def _draw(problem: Problem, potential: Potential, totals: list[int], places: list[int]) -> tuple[Tensor, Tensor]:
    """The rows at these places of the running sum over ranks: global numbers (m,), values (m, D)."""
    world, shard = problem.world, problem.shard
    ends = list(itertools.accumulate(totals))
    drawn = torch.zeros(len(places), shard.dims + 1, dtype=torch.float64, device=world.device)  # the number comes last
    mine = [index for index, place in enumerate(places) if bisect.bisect_right(ends, place) == world.rank]
    if mine:
        before = ends[world.rank] - totals[world.rank]
        rows = torch.tensor(potential.rows_at([places[index] - before for index in mine]), device=world.device)
        drawn[mine, :-1] = shard.rows.index_select(0, rows).to(torch.float64)
        drawn[mine, -1] = shard.numbers_of(rows).to(torch.float64)
    world.sum_(drawn)
    return drawn[:, -1].to(torch.int64), drawn[:, :-1]


def _announce(problem: Problem, potential: Potential, k: int, count: int) -> None:
    """Say beforehand when this will take long, from the time of the fast pass, in torch over a part of the rows."""
    rows = len(problem.shard) if potential.rounds else min(TILE_ROWS, len(problem.shard))
    if not rows or k < 2:
        return
    centres = potential.centres[0].expand(count, -1)
    start = time.perf_counter()
    if potential.rounds:
        potential.mass_with(centres)
    else:
        potential.space.open_rows(slice(0, rows), potential.space.place(centres))
    seconds = ROUND * (time.perf_counter() - start) / rows * len(problem.shard) * (k - 1)
    if seconds > LONG_S:
        problem.world.warn(
            f"init=plus_plus: {k - 1:,} passes over {problem.shard.total:,} rows, about {_span(seconds)};"
            f" init=parallel needs 6 passes, and init.sample={min(problem.shard.total, 100 * k)} seeds from a sample"
        )


def _span(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"
