"""What a batch of rows adds to its nearest centroids: exact integers, and one all-reduce."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import torch
from torch import Tensor

from distkmeans import native
from distkmeans.data.columns import Columns
from distkmeans.data.shard import Shard
from distkmeans.errors import WorldError
from distkmeans.exact import floats
from distkmeans.exact.fixed_point import Grid
from distkmeans.exact.floats import mixed
from distkmeans.kernels.dense import largest_of
from distkmeans.kernels.pruned import Costs
from distkmeans.stats import ClusterSums, distances, safe_exponent, tally, to_float
from distkmeans.world import World

Rows = TypeVar("Rows", bound=Shard)
Assign = Callable[[Rows, Tensor, Tensor, Costs | None], int]
"""(rows, centroids (K, D), labels (n,) and costs to be written) -> rows that the kernel's fast pass left open."""
COST_LIMBS = 5
"""Distances count down to about 2**-170 of the largest that there can be."""


@dataclass(frozen=True)
class Scale:
    """On which integers batches are added up: ``sums`` of weight * (row, 1), ``costs`` of weight * squared distance.

    largest: absolute value that no row and no centroid exceeds. by: the safe scale, a power of two by which values are
    multiplied before they are squared.
    """

    sums: Grid
    costs: Grid
    largest: float
    by: int

    @staticmethod
    def of(columns: Columns, centroids: Tensor, rows: int, weighted: bool) -> Scale:
        """For batches of so many rows. weighted: whether the rows' weights count, or every row counts once."""
        top, low = (bound[:-1] - bound[-1] for bound in (columns.top, columns.low))
        weight_top, weight_low = columns.top[-1:], columns.low[-1:]
        if not weighted:
            weight_top, weight_low = torch.ones_like(weight_top), torch.zeros_like(weight_low)
        sums = Grid.spanning(torch.cat([top + weight_top, weight_top]), torch.cat([low + weight_low, weight_low]), rows)
        largest = max(float(columns.largest.max()), largest_of(centroids))
        exponent = int(floats.exponent(torch.tensor(largest, dtype=torch.float64)))
        by = safe_exponent(exponent)
        farthest = 2 * (max(exponent, -1000) + by + 1) + len(top).bit_length() + weight_top
        return Scale(sums, Grid(farthest, Grid.spanning(farthest, farthest, rows).width, COST_LIMBS), largest, by)


@dataclass(frozen=True)
class Measured:
    """Over all ranks. inertia: at the safe scale. judged: rows that the kernel's fast pass left open.

    shard: this rank's part of the batch.
    """

    shard: Shard
    sums: ClusterSums
    inertia: float
    judged: int

    def joined(self, old: Tensor, before: Tensor, by: int) -> tuple[Tensor, Tensor]:
        """Means, float64 (K, D), at the scale 2**by, of the batch and what came before; weights gained, (K,).

        old: (K, D), the means so far, of weights ``before``, float64 (K,). NaN where both weights are 0. One operation
        after another, element by element, so that the bits are the same everywhere.
        """
        limbs, grid = self.sums.limbs, self.sums.grid
        compiled = native.library_for(limbs)
        if compiled is not None and grid.tables is not None and not by:
            return compiled.blend(limbs, grid.tables[1], old, before)
        exponents = torch.full_like(grid.top, by)
        exponents[-1] = 0
        total = torch.zeros_like(limbs[:, 0], dtype=torch.float64)
        for index in reversed(range(grid.limbs)):
            total = total + floats.scale(limbs[:, index].to(torch.float64), grid.place(index) + exponents)
        sums, gained = total[:, :-1], total[:, -1:]
        placed, before = floats.scale(old.to(torch.float64), by), before[:, None]
        return (placed * before + sums) / (before + gained), gained[:, 0]


def measure(
    world: World, scale: Scale, take: Callable[[], Rows], centroids: Tensor, hashes: Tensor, assign: Assign[Rows]
) -> Measured:
    """Assign a batch, of which ``take`` gives this rank's part, to the centroids and add it up. A collective.

    The all-reduce also carries a flag per failure and a checksum of the centroids, by their ``hashes`` (K,), per rank.
    """
    clusters, grid = len(centroids), scale.sums
    sizes = [clusters * grid.limbs * len(grid.top), clusters, COST_LIMBS, 2, world.size]
    packet = torch.zeros(sum(sizes), dtype=torch.int64, device=centroids.device)
    limbs, counts, costs, counters, checksums = packet.split(sizes)
    sums = ClusterSums(grid, limbs.view(clusters, grid.limbs, -1), counts)
    failure = None
    try:
        shard = take()
        labels = torch.empty(len(shard), dtype=torch.int32, device=centroids.device)
        each = Costs.of(len(shard), scale.by)
        counters[0] = assign(shard, centroids, labels, each)
        tally(shard, None, labels, sums)
        costs.copy_(cost_limbs(shard, centroids, labels, scale, each))
        if world.size > 1:
            checksums[world.rank] = mixed(hashes.view(1, -1))[0]
    except Exception as error:
        failure = error
        packet.zero_()
        counters[1] = 1
    world.sum_(packet)
    judged, failed, *found = packet[-sizes[-1] - sizes[-2] :].tolist()
    if failed:
        world.raise_together(failure)
    if len(set(found)) > 1:
        raise WorldError("the centroids differ between ranks: a faulty machine, or ranks that run different versions")
    total = Fraction(int(scale.costs.integers(costs[:, None])[0])) * Fraction(2) ** int(scale.costs.unit())
    return Measured(shard, sums, to_float(total), judged)


def cost_limbs(shard: Shard, centroids: Tensor, labels: Tensor, scale: Scale, known: Costs | None) -> Tensor:
    """int64 (COST_LIMBS,): the sum of weight * |2**by (x - c)|^2 over this rank's rows, some of which are known.

    Each row's is float64 in a fixed order; their sum is one of integers, so that no order can change it.
    """
    if known is None or not known.filled:
        costs = distances(shard.rows, centroids, labels, scale.by)
    else:
        costs, unknown = known.found, (known.found < 0).nonzero().flatten()
        if len(unknown):
            costs[unknown] = distances(shard.rows[unknown], centroids, labels[unknown], scale.by)
    if shard.weights is not None:
        costs = costs * shard.weights.to(torch.float64)
    return scale.costs.total(costs)
