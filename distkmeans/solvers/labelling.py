"""Labels and inertia for centroids that stay as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from distkmeans import native
from distkmeans.kernels.dense import largest_of
from distkmeans.kernels.once import Once, choice_for
from distkmeans.problem import Problem
from distkmeans.solvers.lloyd import label_type
from distkmeans.stats import ClusterSums, inertia, tally

CHUNK_ELEMENTS = 1 << 22
"""Elements of the rows that are labelled and added up at a time, while they are near the cores."""


@dataclass(frozen=True)
class Labelled:
    """labels: (n,) of this rank's rows. inertia: over all ranks, exact as a fit's. empty: clusters without rows."""

    labels: Tensor
    inertia: float
    empty: int


def label(problem: Problem, centroids: Tensor, kernel: Once | None = None) -> Labelled:
    """The nearest of the centroids for every row, by one pass. A collective.

    centroids: (K, D), in the problem's type, on its device, alike on all ranks. kernel: for the problem's rows; None
    for the fastest.
    """
    shard, weights, world = problem.shard, problem.shard.weights, problem.world
    square, sums = problem.moments.weighted_square, ClusterSums.empty(problem.grid, len(centroids))
    with world.guard():
        if kernel is None:
            largest = max(float(problem.columns.largest.max()), largest_of(centroids))
            choice = choice_for(shard.rows, centroids, largest, problem.exact)
            kernel = Once(choice, rows=min(len(shard), chunk_rows(shard.dims)), total=len(shard))
        labels = torch.empty(len(shard), dtype=label_type(len(centroids)), device=centroids.device)
        for rows in shard.tiles(chunk_rows(shard.dims)):
            chunk = replace(shard, rows=shard.rows[rows], weights=None if weights is None else weights[rows])
            kernel.assign_part(rows, centroids, labels)
            tally(chunk, None, labels[rows], sums)
    world.sum_(sums.limbs)
    world.sum_(sums.counts)
    cost = inertia(square, sums, centroids, problem.columns.exponent)
    return Labelled(labels, cost, int((sums.counts == 0).sum()))


def chunk_rows(dims: int) -> int:
    """Rows that are labelled and added up at a time: whole blocks of the kernels."""
    return native.ROWS * max(1, CHUNK_ELEMENTS // (native.ROWS * dims))
