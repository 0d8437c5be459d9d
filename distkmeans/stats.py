"""Exact statistics of a clustering: sums and counts of its clusters, and its inertia."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from distkmeans.data.shard import Shard
from distkmeans.exact import floats
from distkmeans.exact.fixed_point import Grid

CHUNK_ROWS = 1 << 15
"""Moved rows whose limbs are in memory at a time."""


@dataclass(frozen=True)
class ClusterSums:
    """Over all ranks' rows: limbs, int64 (K, limbs, D + 1), of the sums of weight * (row, 1); counts, int64 (K,), of
    the rows with a weight above 0."""

    grid: Grid
    limbs: Tensor
    counts: Tensor

    @staticmethod
    def empty(grid: Grid, clusters: int) -> ClusterSums:
        limbs = torch.zeros(clusters, grid.limbs, len(grid.top), dtype=torch.int64, device=grid.top.device)
        return ClusterSums(grid, limbs, limbs.new_zeros(clusters))

    def add(self, other: ClusterSums) -> None:
        """Add in place."""
        self.limbs.add_(other.limbs)
        self.counts.add_(other.counts)


def tally(shard: Shard, old: Tensor | None, new: Tensor, into: ClusterSums) -> int:
    """Take the rows whose label changed out of their old cluster and into the new one; how many they are.

    old, new: labels (n,) of the shard's rows; ``old`` is None where no row is in any cluster yet.
    """
    moved = torch.arange(len(new), device=new.device) if old is None else (old != new).nonzero().flatten()
    flat = into.limbs.flatten(1)
    for rows in moved.split(CHUNK_ROWS):
        limbs = row_limbs(shard, rows, into.grid).flatten(1)
        ones = torch.ones_like(rows) if shard.weights is None else (shard.weights[rows] > 0).to(torch.int64)
        target = new[rows].to(torch.int64)
        flat.index_add_(0, target, limbs)
        into.counts.index_add_(0, target, ones)
        if old is not None:
            source = old[rows].to(torch.int64)
            flat.index_add_(0, source, limbs, alpha=-1)
            into.counts.index_add_(0, source, ones, alpha=-1)
    return len(moved)


def row_limbs(shard: Shard, rows: Tensor, grid: Grid) -> Tensor:
    """int64 (n, limbs, D + 1): weight * (row, 1) of the rows at these local positions."""
    x = shard.rows[rows].to(torch.float64)
    x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
    if shard.weights is None:
        return grid.split(x)
    weights = shard.weights[rows].to(torch.float64)[:, None]
    return grid.split_product((x, shard.bits), (weights, shard.weight_bits))


def row_costs(shard: Shard, centroids: Tensor, labels: Tensor, exponent: int = 0) -> Tensor:
    """float64 (n,): |2**exponent (x - c)|^2 of each row and its centroid, summed over columns in a fixed order."""
    costs = torch.empty(len(shard), dtype=torch.float64, device=shard.rows.device)
    exact_centroids = centroids.to(torch.float64)
    for tile in shard.tiles():
        difference = shard.rows[tile].to(torch.float64) - exact_centroids[labels[tile].to(torch.int64)]
        if exponent:
            difference = floats.scale(difference, exponent)
        costs[tile] = floats.sum_columns(difference * difference)
    return costs


def safe_exponent(largest: int) -> int:
    """The power of two by which values below 2**largest are scaled before they are squared: 0 for ordinary ones."""
    return 0 if -400 <= largest <= 400 or largest == floats.ZERO_EXPONENT else -largest


def inertia(square: Fraction, sums: ClusterSums, centroids: Tensor, largest: int) -> float:
    """sum w |x|^2 + sum_k c_k . (W_k c_k - 2 S_k), correctly rounded, without a pass over the rows.

    square: the exact sum of w |x|^2. The K * D terms are added in double-double, in a fixed order; where a rounding
    boundary lies within the error bound (the terms cancel, as they do far from the origin), in integers. So it never
    rises from one iteration to the next.
    """
    by, weight_by = safe_exponent(largest), int(sums.grid.top[-1])
    c = floats.scale(centroids.to(torch.float64), by)
    (total, size) = sums.grid.double_double(sums.limbs, weight_by - by)
    weight = (total[0][:, -1:], total[1][:, -1:])
    s = (-2 * total[0][:, :-1], -2 * total[1][:, :-1])
    terms = floats.multiply(floats.add(floats.multiply(weight, c), s), c)
    high, low = (float(part) for part in floats.sum_dd(terms))
    magnitude = float((c.abs() * (c.abs() * size[:, -1:] + 2 * size[:, :-1])).sum())
    error = Fraction(magnitude) * Fraction(1, 2**92) + Fraction(1, 2**880)
    unit = Fraction(2) ** (weight_by - 2 * by)
    value = square / unit + Fraction(high) + Fraction(low) if math.isfinite(magnitude) else Fraction(0)
    below, above = (to_float((value + side) * unit) for side in (-error, error))
    if below == above and math.isfinite(magnitude):
        return below
    return to_float(square + _cross_terms(sums, centroids))


def _cross_terms(sums: ClusterSums, centroids: Tensor) -> Fraction:
    """sum_k c_k . (W_k c_k - 2 S_k) in integers."""
    c64 = centroids.to(torch.float64).cpu()
    unit = min(int(floats.lowest_bit(c64).min()), 0)
    mantissa, e = torch.frexp(c64)
    whole = (mantissa * 2.0**53).to(torch.int64)
    shift = e.to(torch.int64) - 53 - unit
    c = np.array(
        [v << s if s >= 0 else v >> -s for v, s in zip(whole.flatten().tolist(), shift.flatten().tolist(), strict=True)],
        dtype=object,
    ).reshape(c64.shape)
    integers, places = sums.grid.integers(sums.limbs), sums.grid.unit().tolist()
    squares = (c * c * integers[:, -1:]).sum()
    total = Fraction(int(squares)) * Fraction(2) ** (2 * unit + places[-1])
    for column in range(c.shape[1]):
        cross = int((c[:, column] * integers[:, column]).sum())
        total -= Fraction(2 * cross) * Fraction(2) ** (unit + places[column])
    return total


def to_float(value: Fraction) -> float:
    """Correctly rounded; infinite beyond float64."""
    try:
        return value.numerator / value.denominator
    except OverflowError:
        return math.inf if value > 0 else -math.inf
