"""What becomes of clusters without rows."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from distkmeans import native
from distkmeans.problem import Problem
from distkmeans.stats import ClusterSums, row_costs, safe_exponent, tally

ORDINARY = 40
"""Exponents of values whose squares are ordinary float32 numbers."""


def relocate(problem: Problem, centroids: Tensor, labels: Tensor, sums: ClusterSums, empty: Tensor) -> Tensor:
    """Give each empty cluster the row that lies farthest from its centroid; the clusters that this changes, bool (K,).

    As scikit-learn's Lloyd does, in the order of distance, ties by row number; only rows of positive weight and
    distance, and never the last one of its cluster. Changes labels and sums. A collective.

    empty: int64, the clusters without a centre, ascending.
    """
    world = problem.world
    farthest = _farthest(problem, centroids, labels, sums, 2 * len(empty))
    takes = choose(farthest, sums.counts, empty)
    change = ClusterSums.empty(problem.grid, len(centroids))
    with world.guard():
        moved = labels.clone()
        if takes:
            taken = torch.tensor(takes, dtype=torch.int64, device=labels.device)
            local, mine = problem.shard.local_of(taken[:, 0])
            moved[local] = taken[mine, 1].to(moved.dtype)
        tally(problem.shard, labels, moved, change)
        labels.copy_(moved)
    world.sum_(change.limbs)
    world.sum_(change.counts)
    return sums.add(change)


def _farthest(problem: Problem, centroids: Tensor, labels: Tensor, sums: ClusterSums, count: int) -> list[list[int]]:
    """[row number, cluster] of the ``count`` farthest rows over all ranks that may be taken, farthest first."""
    shard = problem.shard
    with problem.world.guard():
        may = sums.counts[labels.to(torch.int64)] > 1
        if shard.weights is not None:
            may &= shard.weights > 0
        at = _far(problem, centroids, labels, may.nonzero().flatten(), count)
        exponent = safe_exponent(problem.columns.exponent)
        costs = row_costs(shard.subset(at, len(at)), centroids, labels[at], exponent)
    return ranked(problem, labels, at, costs, count)


def ranked(problem: Problem, labels: Tensor, at: Tensor, costs: Tensor, count: int) -> list[list[int]]:
    """[row number, cluster] of the ``count`` rows that cost most over all ranks, ties by number; none that cost 0.

    at: local rows, int64 (m,). costs: float64 (m,) of these, 0 or more. labels: (n,). A collective.
    """
    shard, world = problem.shard, problem.world
    with world.guard():
        order = torch.argsort(costs, descending=True, stable=True)
        order = order[costs[order] > 0][:count]
        keys = costs[order].view(torch.int64)  # non-negative floats sort as their bits do
        table = torch.stack([keys, shard.numbers_of(at[order]), labels[at[order]].to(torch.int64)], dim=1)
    rows = world.concat(table).tolist()
    return [row[1:] for row in sorted(rows, key=lambda row: (-row[0], row[1]))[:count]]


def _far(problem: Problem, centroids: Tensor, labels: Tensor, at: Tensor, count: int) -> Tensor:
    """Of the local rows ``at``, ascending, those that may be among the ``count`` farthest: by rough distances."""
    rows = problem.shard.rows
    compiled = native.library_for(rows)
    narrow = rows.dtype != torch.float64 and rows.stride(1) == 1 and labels.dtype == torch.int32
    if compiled is None or not narrow or len(at) <= count or abs(problem.columns.exponent) > ORDINARY:
        return at
    rough = compiled.costs(rows, centroids, labels)[at]
    least = rough.topk(count).values[-1] * (1 - 4 * (rows.shape[1] + 40) * 2.0**-24) - rows.shape[1] * 2.0**-110
    return at[rough >= least]


def choose(farthest: list[list[int]], counts: Tensor, empty: Tensor) -> list[tuple[int, int]]:
    """(row number, new cluster) for as many of the empty clusters as there are rows to take."""
    targets, taken, left = iter(empty.tolist()), [], Counter(dict(enumerate(counts.tolist())))
    for number, cluster in farthest:
        if left[cluster] > 1:
            target = next(targets, None)
            if target is None:
                break
            left[cluster] -= 1
            taken.append((number, target))
    return taken
