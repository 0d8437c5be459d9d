"""Rows on a grid, where squared distances to centres are exact integers, and a fast pass that finds who comes closer.

Rows are rounded to a grid of b bits with 2 b + log2 D + 2 <= 53, so that a float64 matrix product gives their squared
distances exactly, in any order of summation.

Most rows keep their nearest centre when one is added. A row p at distance d comes closer to a centre c only if

    p.c - |c|**2 / 2  >  (|p|**2 - d) / 2

The fast pass is a matrix product in float32, in which the grid's points are exact. With u = 2**-24 and
g = (D + 2) u / (1 - (D + 2) u) it computes the score s of  p.c + b,  b = -(1 - h) |c|**2 / 2,  with an error of at most
g (|p| |c| + |b|) <= g (|p|**2 + 2 |c|**2) / 2 in any order of summation (Higham, Accuracy and Stability of Numerical
Algorithms, section 3.1; |p| |c| <= (|p|**2 + |c|**2) / 2). So a row that comes closer has

    s > (|p|**2 - d) / 2 + (h - 2 g) |c|**2 / 2 - g |p|**2 / 2

and with h = 4 g also s > ((1 - h) |p|**2 - (1 + h) d) / 2, even after both sides have been rounded: what is left of h,
times |p|**2, |c|**2 and d, is more than their roundings to float32, u each. Rows below that level are left alone, and
for the others the distance is computed. Nothing can underflow: products of integers are at least 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distkmeans.exact import floats
from distkmeans.kernels import Kernel
from distkmeans.kernels.choose import choose
from distkmeans.kernels.dense import exact_products
from distkmeans.problem import Problem
from distkmeans.stats import to_float

SPAN = 2.0**24
"""No coordinate on the grid is larger: float32 holds it exactly."""
FRUGAL_ROWS = 1 << 13
"""Rows that are taken to the grid at a time where they are not kept there."""
NARROW = 48
"""Columns below which scores are laid out centre by centre: products and maxima then run along the rows."""


@dataclass(frozen=True)
class Placed:
    """Centres in a space. values: float64 (m, D). squares: |values|**2 (m,). narrow, bias: the fast pass's."""

    values: Tensor
    squares: Tensor
    narrow: Tensor
    bias: Tensor


class Lattice:
    """This rank's rows on the grid. by: the power of two at which rows are safe from overflow."""

    def __init__(self, problem: Problem, by: int) -> None:
        self.shard, self.world, self.by = problem.shard, problem.world, by
        dims, device = self.shard.dims, self.world.device
        means = [to_float(mean) for mean in problem.moments.means()]
        self.shift = floats.scale(torch.tensor(means, dtype=torch.float64, device=device), by)
        self.zoom = self._finest(min(24, (51 - max(0, (dims - 1).bit_length())) // 2))
        self.frugal = problem.frugal
        size = (0, dims) if self.frugal else self.shard.rows.shape
        self.kept = torch.empty(size, dtype=torch.float32, device=device)
        self.squares = torch.empty(len(self.shard), dtype=torch.float64, device=device)
        self.levels = torch.empty(len(self.shard), dtype=torch.float32, device=device)
        self.slack = 4 * (dims + 2) * 2.0**-24 / (1 - (dims + 2) * 2.0**-24)
        for tile in self.shard.tiles():
            points = self.to_grid(self.shard.rows[tile])
            if not self.frugal:
                self.kept[tile] = points
            self.squares[tile] = (points * points).sum(1)
        self.kernel: Kernel | None = None  # this and the next two are kept from round to round
        self.scores = torch.empty(0, device=device)
        self.best = torch.empty(0, device=device)

    def _finest(self, bits: int) -> int:
        """The power of two that takes the farthest row, of any rank, to ``bits`` bits."""
        reach = torch.zeros(1, dtype=torch.float64, device=self.world.device)
        for tile in self.shard.tiles():
            reach = torch.maximum(reach, self._shifted(self.shard.rows[tile]).abs().max())
        self.world.max_(reach)
        return bits - int(floats.exponent(reach)[0]) if reach > 0 else 0

    def _shifted(self, rows: Tensor) -> Tensor:
        return floats.scale(rows.to(torch.float64), self.by) - self.shift

    def to_grid(self, rows: Tensor) -> Tensor:
        """float64 integers (n, D), at most SPAN in size."""
        return floats.scale(self._shifted(rows), self.zoom).round()

    def points(self, which: slice | Tensor) -> Tensor:
        """float32 (n, D): rows on the grid, kept, or taken there anew with memory=low."""
        if not self.frugal:
            return self.kept[which] if isinstance(which, slice) else self.kept.index_select(0, which)
        if isinstance(which, Tensor):
            return self.to_grid(self.shard.rows.index_select(0, which)).to(torch.float32)
        points = self.kept.new_empty(which.stop - which.start, self.shard.dims)
        for tile in self.shard.tiles():
            low, high = max(tile.start, which.start), min(tile.stop, which.stop)
            if low < high:
                points[low - which.start : high - which.start] = self.to_grid(self.shard.rows[low:high])
        return points

    def place(self, centres: Tensor) -> Placed:
        """Centres (m, D), given as rows are, on the grid."""
        values = self.to_grid(centres)
        squares = (values * values).sum(1)
        return Placed(values, squares, values.to(torch.float32), (squares * (-0.5 * (1 - self.slack))).float())

    def labels(self, placed: Placed) -> Tensor:
        """int32 (n,): the nearest of the centres, the lowest index on a tie."""
        labels = torch.zeros(len(self.shard), dtype=torch.int32, device=self.kept.device)
        if len(placed.values) == 1 or not len(labels):
            return labels
        if self.frugal:
            for tile in self.shard.tiles(FRUGAL_ROWS):
                choose(self.points(tile), placed.narrow, SPAN, frugal=True).assign(placed.narrow, labels[tile])
            return labels
        self.kernel = self.kernel or choose(self.kept, placed.narrow, SPAN)
        self.kernel.assign(placed.narrow, labels)
        return labels

    def between(self, tile: slice, placed: Placed, labels: Tensor) -> Tensor:
        """float64 (n,): squared distances of the rows of a tile to the centres of these indices (n,)."""
        difference = placed.values.index_select(0, labels).sub_(self.points(tile))
        return difference.square_().sum(1)

    def distances(self, which: Tensor, placed: Placed) -> Tensor:
        """float64 (n, m): squared distances of the rows ``which`` to every centre."""
        points = self.points(which).to(torch.float64)
        products = torch.addmm(placed.squares, points, placed.values.t(), alpha=-2)
        return products.add_(self.squares.index_select(0, which)[:, None])

    def open_rows(self, tile: slice, placed: Placed) -> Tensor:
        """The rows of a tile, int64 ascending, that may come closer to one of the centres: no other row does."""
        rows, count = self.points(tile), tile.stop - tile.start
        if len(self.best) < count or self.scores.numel() < count * len(placed.bias):
            self.best = self.best.new_empty(count)
            self.scores = self.scores.new_empty(count * len(placed.bias))
        with exact_products():
            if self.shard.dims < NARROW:
                scores = self.scores[: count * len(placed.bias)].view(-1, count)
                scores = torch.addmm(placed.bias[:, None], placed.narrow, rows.t(), out=scores).t()
            else:
                scores = self.scores[: count * len(placed.bias)].view(count, -1)
                scores = torch.addmm(placed.bias, rows, placed.narrow.t(), out=scores)
        best = torch.amax(scores, 1, out=self.best[:count])
        return torch.ge(best, self.levels[tile]).nonzero()[:, 0].add_(tile.start)

    def follow(self, which: Tensor | slice, nearest: Tensor) -> None:
        """Take note of the rows' distances (n,) to their nearest centres."""
        squares = self.squares[which] if isinstance(which, slice) else self.squares.index_select(0, which)
        self.levels[which] = squares.mul(0.5 * (1 - self.slack)).sub_(nearest, alpha=0.5 * (1 + self.slack)).float()

    def units(self, distances: Tensor) -> Tensor:
        """Squared distances as the integers that masses are made of."""
        return distances
