"""What a batch of rows adds to its nearest centroids: exact integers, and one all-reduce."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from distkmeans import native
from distkmeans.data.columns import Columns
from distkmeans.data.shard import Shard
from distkmeans.errors import WorldError
from distkmeans.exact import floats
from distkmeans.exact.fixed_point import Grid
from distkmeans.exact.floats import mixed
from distkmeans.stats import ClusterSums, inertia, safe_exponent, tally
from distkmeans.world import World

Assign = Callable[[Tensor, Tensor, Tensor], int]
"""(rows (n, D), centroids (K, D), labels (n,) to be written) -> rows that the kernel's fast pass left open."""


@dataclass(frozen=True)
class Scale:
    """On which integers batches are added up: ``sums`` of weight * (row, 1), ``squares`` of weight * value**2.

    largest: all values are below 2**largest. by: the power of two by which they are scaled where they are squared.
    """

    sums: Grid
    squares: Grid
    largest: int

    @staticmethod
    def of(columns: Columns, rows: int, weighted: bool) -> Scale:
        """For batches of so many rows. weighted: whether the rows' weights count, or every row counts once."""
        top, low = (bound[:-1] - bound[-1] for bound in (columns.top, columns.low))
        weight_top, weight_low = columns.top[-1:], columns.low[-1:]
        if not weighted:
            weight_top, weight_low = torch.ones_like(weight_top), torch.zeros_like(weight_low)
        sums = Grid.spanning(torch.cat([top + weight_top, weight_top]), torch.cat([low + weight_low, weight_low]), rows)
        squares = Grid.spanning(2 * top.amax(0, True) + weight_top, 2 * low.amin(0, True) + weight_low, rows * len(top))
        return Scale(sums, squares, columns.exponent)

    @property
    def by(self) -> int:
        return safe_exponent(self.largest)


@dataclass(frozen=True)
class Measured:
    """Over all ranks. square: the sum of weight * |x|^2. judged: rows that the kernel's fast pass left open."""

    sums: ClusterSums
    square: Fraction
    judged: int

    def inertia(self, centroids: Tensor, scale: Scale) -> float:
        """Of the batch and the centroids (K, D) that it was assigned to, at the safe scale, correctly rounded."""
        by = scale.by
        if not by:
            return inertia(self.square, self.sums, centroids, scale.largest)
        grid = self.sums.grid
        top = torch.cat([grid.top[:-1] + by, grid.top[-1:]])
        sums = replace(self.sums, grid=replace(grid, top=top))
        placed = floats.scale(centroids.to(torch.float64), by)
        return inertia(self.square * Fraction(4) ** by, sums, placed, scale.largest + by)

    def totals(self, by: int) -> tuple[Tensor, Tensor]:
        """Sums of weight * 2**by * row, float64 (K, D), and of the weights (K, 1): in a fixed order."""
        limbs, grid, total = self.sums.limbs.to(torch.float64), self.sums.grid, None
        exponents = torch.full_like(grid.top, by)
        exponents[-1] = 0
        for index in reversed(range(grid.limbs)):
            term = floats.scale(limbs[:, index], grid.place(index) + exponents)
            total = term if total is None else total + term
        assert total is not None
        return total[:, :-1], total[:, -1:]


def measure(world: World, scale: Scale, shard: Shard, centroids: Tensor, hashes: Tensor, assign: Assign) -> Measured:
    """Assign a batch, of which ``shard`` is this rank's part, to the centroids and add it up. A collective.

    The all-reduce also carries a flag per failure and a checksum of the centroids, by their ``hashes`` (K,), per rank.
    """
    into, count = ClusterSums.empty(scale.sums, len(centroids)), scale.squares.limbs
    size, clusters = into.limbs.numel(), len(centroids)
    packet = torch.zeros(size + clusters + count + 2 + world.size, dtype=torch.int64, device=world.device)
    limbs, counts, squares, counters, checksums = packet.split([size, clusters, count, 2, world.size])
    sums = ClusterSums(scale.sums, limbs.view_as(into.limbs), counts)
    failure = None
    try:
        labels = torch.empty(len(shard), dtype=torch.int32, device=centroids.device)
        counters[0] = assign(shard.rows, centroids, labels)
        tally(shard, None, labels, sums)
        squares.copy_(square_limbs(shard, scale.squares))
        checksums[world.rank] = mixed(hashes.view(1, -1))[0]
    except Exception as error:
        failure = error
        packet.zero_()
        counters[1] = 1
    world.sum_(packet)
    judged, failed = counters.tolist()
    if failed:
        world.raise_together(failure)
    if len(set(checksums.tolist())) > 1:
        raise WorldError("the centroids differ between ranks: a faulty machine, or ranks that run different versions")
    integer = int(scale.squares.integers(squares[:, None])[0])
    return Measured(sums, Fraction(integer) * Fraction(2) ** int(scale.squares.unit()), judged)


def square_limbs(shard: Shard, grid: Grid) -> Tensor:
    """int64 (limbs,): the sum of weight * value**2 over this rank's rows and all columns. grid: of one column."""
    library = native.library_for(shard.rows)
    tables = grid.tables
    fits = 2 * shard.bits <= 53 and shard.weights is None and shard.rows.stride(1) == 1
    if library is not None and fits and tables is not None:
        wide = [table.expand(-1, shard.dims + 1) for table in tables]
        return library.totals(shard.rows, (wide[0], wide[1]), True)[:, :-1].sum(1)
    total = torch.zeros(grid.limbs, dtype=torch.int64, device=shard.rows.device)
    for tile in shard.tiles():
        x = (shard.rows[tile].to(torch.float64), shard.bits)
        factors = [x, x]
        if shard.weights is not None:
            factors.append((shard.weights[tile].to(torch.float64)[:, None], shard.weight_bits))
        for index, piece in enumerate(grid.product_pieces(*factors)):
            total[index] += piece.to(torch.int64).sum()
    return total
