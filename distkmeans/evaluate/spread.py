"""Means of clusters, and how far their rows lie from them: what two scores are made of.

Everything is seen from the mean of all rows, and differences come before squares: far from the origin nothing cancels.
Sums are exact integers (``stats.py``), means double-doubles less the common mean, distances float64.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from distkmeans.evaluate.totals import totals
from distkmeans.exact import floats
from distkmeans.exact.fixed_point import Grid
from distkmeans.problem import Problem
from distkmeans.stats import ClusterSums, safe_exponent, tally


@dataclass(frozen=True)
class Spread:
    """Of C clusters with rows, in units of 2**-exponent: 1, but for values whose squares leave the range of float64.

    counts: int64 (C,), rows. means: float64 (C, D), less the mean of all rows. distances: float64 (C,), the mean
    distance of a cluster's rows from its mean. within: the sum of all squares of these distances.
    """

    counts: Tensor
    means: Tensor
    distances: Tensor
    within: float
    exponent: int


def spread(problem: Problem, labels: Tensor, place: Tensor, counts: Tensor) -> Spread:
    """Over all ranks' rows, each of which counts once. A collective; two passes over the rows.

    labels: (n,). place: int64 (K,), which of the C clusters with rows a label stands for. counts: int64 (C,).
    """
    world, exponent = problem.world, safe_exponent(problem.columns.exponent)
    sums = unweighted_sums(problem, labels, len(place))
    used = (place >= 0).nonzero().flatten()
    origin, means = _seen_from_mean(sums, used, exponent)
    clusters = torch.empty(len(labels), dtype=torch.int64, device=labels.device)
    distances = torch.empty(len(labels), dtype=torch.float64, device=labels.device)
    with world.guard():
        for tile in problem.shard.tiles():
            clusters[tile] = place[labels[tile].to(torch.int64)]
            rows = floats.scale(problem.shard.rows[tile].to(torch.float64), exponent) - origin
            distances[tile] = torch.linalg.vector_norm(rows - means.index_select(0, clusters[tile]), dim=1)
    total = problem.shard.total
    mean_distances = totals(world, distances, clusters, len(used), total) / counts
    squares = totals(world, distances.square_(), torch.zeros_like(clusters), 1, total)
    return Spread(counts, means, mean_distances, float(squares), exponent)


def unweighted_sums(problem: Problem, labels: Tensor, clusters: int) -> ClusterSums:
    """Exact sums of the rows of each cluster, each of which counts once. A collective."""
    top, low = (bound - bound[-1] for bound in (problem.columns.top, problem.columns.low))
    top[-1], low[-1] = 1, 0
    sums = ClusterSums.empty(Grid.spanning(top, low, problem.shard.total), clusters)
    with problem.world.guard():
        tally(replace(problem.shard, weights=None), None, labels, sums)
    problem.world.sum_(sums.limbs)
    problem.world.sum_(sums.counts)
    return sums


def _seen_from_mean(sums: ClusterSums, used: Tensor, exponent: int) -> tuple[Tensor, Tensor]:
    """An origin, float64 (D,), near the mean of all rows; and the used clusters' means (C, D) as seen from there."""
    origin, _ = means(sums.grid, sums.limbs.sum(0, keepdim=True), exponent)
    high, low = means(sums.grid, sums.limbs[used], exponent)
    return origin[0], (high - origin) + low


def means(grid: Grid, limbs: Tensor, exponent: int = 0) -> floats.DoubleDouble:
    """Double-double means (K, D), times 2**exponent, of limb sums (K, limbs, D + 1) whose last column is the weight."""
    (high, low), _ = grid.double_double(limbs, -exponent)
    weight = floats.scale(high[:, -1:], -exponent), floats.scale(low[:, -1:], -exponent)
    return floats.divide((high[:, :-1], low[:, :-1]), weight)
