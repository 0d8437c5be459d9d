"""What becomes of clusters without rows."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from distkmeans.problem import Problem
from distkmeans.stats import ClusterSums, row_costs, safe_exponent, tally


def relocate(problem: Problem, centroids: Tensor, labels: Tensor, sums: ClusterSums, empty: Tensor) -> Tensor:
    """Give each empty cluster the row that lies farthest from its centroid; the clusters that this changes, bool (K,).

    As scikit-learn's Lloyd does, in the order of distance, ties by row number; only rows of positive weight and
    distance, and never the last one of its cluster. Changes labels and sums. A collective.

    empty: int64, the clusters without a centre, ascending.
    """
    world = problem.world
    farthest = _farthest(problem, centroids, labels, sums, 2 * len(empty))
    takes = _choose(farthest, sums.counts, empty)
    change = ClusterSums.empty(problem.grid, len(centroids))
    with world.guard():
        moved = labels.clone()
        for number, cluster in takes:
            local = _local(problem, number)
            if local is not None:
                moved[local] = cluster
        tally(problem.shard, labels, moved, change)
        labels.copy_(moved)
    world.sum_(change.limbs)
    world.sum_(change.counts)
    return sums.add(change)


def _farthest(problem: Problem, centroids: Tensor, labels: Tensor, sums: ClusterSums, count: int) -> list[list[int]]:
    """[row number, cluster] of the ``count`` farthest rows over all ranks that may be taken, farthest first."""
    shard, world = problem.shard, problem.world
    with world.guard():
        costs = row_costs(shard, centroids, labels, safe_exponent(problem.columns.exponent))
        may = (costs > 0) & (sums.counts[labels.to(torch.int64)] > 1)
        if shard.weights is not None:
            may &= shard.weights > 0
        at = may.nonzero().flatten()
        best = at[torch.argsort(costs[at], descending=True, stable=True)][:count]
        numbers = shard.numbers(slice(0, len(shard)))
        keys = costs[best].view(torch.int64)  # non-negative floats sort as their bits do
        table = torch.stack([keys, numbers[best], labels[best].to(torch.int64)], dim=1)
    rows = world.concat(table).tolist()
    return [row[1:] for row in sorted(rows, key=lambda row: (-row[0], row[1]))[:count]]


def _choose(farthest: list[list[int]], counts: Tensor, empty: Tensor) -> list[tuple[int, int]]:
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


def _local(problem: Problem, number: int) -> int | None:
    local = number - problem.shard.start
    return local if 0 <= local < len(problem.shard) else None
