"""The dense kernel in plain torch: tiles of rows, a matrix product, an error bound, exact arithmetic for the rest.

The nearest centroid has the largest score  s_k = X.C_k - |C_k|^2 / 2  of the shifted and scaled row and centroids
X = 2**e x - m, C_k = 2**e c_k - m. A pass computes scores in float32 (or float64) and proves most labels:

    |computed s_k - s_k| <= (D + 10) u / (1 - (D + 10) u) * (|X| max|C| + max|C|^2 / 2) + underflow     for every k

The D + 1 products and sums of the matrix product and its bias, in whatever order, account for (D + 1) u, the rounding
of X, of C and of |C|^2 / 2 for three more, the threshold's own arithmetic for the rest (u = 2**-24 or 2**-53; Higham,
Accuracy and Stability of Numerical Algorithms, section 3.1). Flushed denormals lose at most 2**-126 times the largest
operand per product. So only centroids whose score lies within twice the bound of the best can be nearest: mostly one.
Rows with more go through a float64 pass, and what that leaves open to ``exact.arbiter``.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from distkmeans.exact import arbiter, floats
from distkmeans.exact.floats import row_hash
from distkmeans.kernels import few

BLOCK = 32
"""Columns whose maximum is taken together: a maximum is four times cheaper than an argmax."""
SMALL_K = 64
"""Up to here the winning column is found among all of them at once."""
NARROW_K = 32
"""Below this, scores are laid out centroid by centroid, so that maxima run along the rows."""
CODE = 1 << 20
"""More than there are columns (blocks of columns), and exact in float32 together with their numbers."""
NEVER = -(2.0**126)
"""Score of a centroid that cannot win: padding, or the bit-equal copy of an earlier one."""
PAIRS = 1 << 20
"""(row, candidate) pairs that go to the arbiter at a time."""


@dataclass(frozen=True)
class Frame:
    """Where the fast pass sees rows and centroids from: 2**exponent * value - shift, shift float64 (D,)."""

    exponent: int
    shift: Tensor

    @staticmethod
    def around(centroids: Tensor, largest: float) -> Frame:
        """Centred on the centroids' mean; values up to ``largest`` come to lie where squares cannot overflow."""
        e = int(floats.exponent(torch.tensor(max(largest, 0.0), dtype=torch.float64)))
        by = 0 if -20 <= e <= 40 or e == floats.ZERO_EXPONENT else -e
        placed = floats.scale(centroids.to(torch.float64), by)
        shift = placed.mean(0)
        spread = (placed - shift).square().sum(1).mean()
        if 4 * shift.square().sum() < spread:  # near the origin already: rows can be used as they are
            shift = torch.zeros_like(shift)
        return Frame(by, shift.to(torch.float32).to(torch.float64))

    @functools.cached_property
    def shift32(self) -> Tensor | None:
        """The shift as float32, in which it is exact; None for no shift."""
        return self.shift.to(torch.float32) if self.shift.any() else None

    def place(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """(n, D) values seen from the frame, each rounded once to ``dtype`` from a difference rounded once."""
        if self.exponent or values.dtype == torch.float64 or dtype == torch.float64:
            return (floats.scale(values.to(torch.float64), self.exponent) - self.shift).to(dtype)
        values = values.to(torch.float32)
        return values if self.shift32 is None else values - self.shift32


@dataclass(frozen=True)
class Target:
    """The centroids as one pass sees them: ``columns`` (D, K padded), ``bias`` (K padded), and the bound's parts."""

    columns: Tensor
    bias: Tensor
    slope: float
    floor: float

    @staticmethod
    def of(centroids: Tensor, frame: Frame, dtype: torch.dtype) -> Target:
        placed = frame.place(centroids, torch.float64)
        square = (placed * placed).sum(1)
        half_square = (0.5 * square).masked_fill_(repeated(centroids), -NEVER)
        count, dims = centroids.shape
        padding = 0 if count <= SMALL_K else -count % BLOCK
        columns = torch.nn.functional.pad(placed.to(dtype), (0, 0, 0, padding)).t().contiguous()
        bias = torch.nn.functional.pad(-half_square.to(dtype), (0, padding), value=NEVER)
        largest = float(square.max()) ** 0.5 * (1 + 1e-6)
        unit = (dims + 10) * (torch.finfo(dtype).eps / 2)
        unit = unit / (1 - unit) if unit < 0.5 else float("inf")
        underflow = dims * 2.0**-80
        return Target(columns, bias, 2 * unit * largest, 2 * (unit * largest**2 / 2 + underflow))

    def margin(self, norms: Tensor) -> Tensor:
        """Twice the bound on the scores of rows with these norms (n,), rounded up."""
        floor = torch.tensor(self.floor * (1 + 1e-6), dtype=norms.dtype, device=norms.device)
        return torch.add(floor, norms, alpha=self.slope * (1 + 1e-6))


def repeated(centroids: Tensor) -> Tensor:
    """Which centroids equal one of lower index: bool (K,). Candidates are found by a hash, then compared."""
    hashes = row_hash(centroids)
    ordered = hashes.sort().values
    if not (ordered[1:] == ordered[:-1]).any():
        return torch.zeros(len(centroids), dtype=torch.bool, device=centroids.device)
    _, group = torch.unique(hashes, return_inverse=True)
    first = torch.full((int(group.max()) + 1,), len(group), device=group.device)
    index = torch.arange(len(group), device=group.device)
    first = first.scatter_reduce(0, group, index, "amin")[group]
    return (first < index) & (centroids == centroids[first]).all(1)


class Dense:
    """Assign rows by matrix products. Works on any device that torch has; ``exact=False`` skips the proofs."""

    name = "torch-dense"

    def __init__(self, rows: Tensor, centroids: Tensor, largest: float, tile_rows: int | None, exact: bool) -> None:
        self.rows = rows
        self.exact = exact
        self.scores = torch.empty(0, device=rows.device)  # kept from pass to pass: fresh memory is slow to touch
        self.tile_rows = tile_rows or automatic_tile(centroids.shape[0])
        self.frame = Frame.around(centroids, largest)
        self.norms = torch.empty(len(rows), dtype=torch.float32, device=rows.device)
        for tile in self._tiles(len(rows)):
            placed = self.frame.place(rows[tile], torch.float32)
            self.norms[tile] = torch.linalg.vector_norm(placed, dim=1)
        # the norm's own rounding, and denormals that it may have lost
        self.norms.mul_(1 + (rows.shape[1] + 8) * 2.0**-24).add_(rows.shape[1] * 2.0**-60)

    def assign(self, centroids: Tensor, labels: Tensor) -> int:
        """Write the nearest centroid of each row into ``labels``; the number of rows the first pass left open."""
        target = Target.of(centroids, self.frame, torch.float32)
        undecided = self._pass(target, labels, None)
        if not self.exact:
            self._take_best(target, labels, undecided)
            return 0
        self._settle(centroids, labels, undecided)
        return len(undecided)

    def _settle(self, centroids: Tensor, labels: Tensor, which: Tensor) -> None:
        """Decide the rows numbered ``which``: few of them at once, many in float64, then exactly."""
        if not len(which):
            return
        if few.are_few(len(which), centroids):
            labels[which] = few.nearest(self.rows[which], centroids).to(labels.dtype)
            return
        target = Target.of(centroids, self.frame, torch.float64)
        rest = self._pass(target, labels, which)
        if len(rest):
            self._arbitrate(target, centroids.to(torch.float64), labels, rest)

    def _pass(self, target: Target, labels: Tensor, which: Tensor | None) -> Tensor:
        """Label all rows, or those numbered ``which``; the numbers of the rows that remain open."""
        count = len(self.rows) if which is None else len(which)
        undecided = torch.empty(count, dtype=torch.bool, device=self.rows.device)
        with exact_products():
            buffer = self._buffer(count, target)
            for tile in self._tiles(count):
                index = tile if which is None else which[tile]
                column, undecided[tile] = _pick(*self._scores(index, target, buffer))
                if which is None:
                    labels[tile].copy_(column)
                else:
                    labels[index] = column.to(labels.dtype)
        open_rows = undecided.nonzero().flatten()
        return open_rows if which is None else which[open_rows]

    def _scores(self, index: slice | Tensor, target: Target, buffer: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (n, K padded) of a tile, and how far (n,) below the best the score of the nearest can lie."""
        placed = self.frame.place(self.rows[index], target.columns.dtype)
        count, clusters = len(placed), len(target.bias)
        if clusters < NARROW_K:
            scores = buffer[: count * clusters].view(clusters, count)
            scores = torch.addmm(target.bias[:, None], target.columns.t(), placed.t(), out=scores).t()
        else:
            scores = buffer[: count * clusters].view(count, clusters)
            scores = torch.addmm(target.bias, placed, target.columns, out=scores)
        norms = self.norms[index].to(scores.dtype)
        return scores, target.margin(norms) if self.exact else torch.zeros_like(norms)

    def _take_best(self, target: Target, labels: Tensor, which: Tensor) -> None:
        """Label the rows numbered ``which``, whose best float32 score several centroids share, by any of these."""
        for rows in which.split(self.tile_rows):
            scores, _ = self._scores(rows, target, self._buffer(len(rows), target))
            labels[rows] = scores.argmax(1).to(labels.dtype)

    def _arbitrate(self, target: Target, centroids: Tensor, labels: Tensor, which: Tensor) -> None:
        """Decide the rows numbered ``which`` among the candidates that the float64 pass leaves."""
        for rows in which.split(max(1, min(self.tile_rows, PAIRS // len(target.bias)))):
            with exact_products():
                scores, margin = self._scores(rows, target, self._buffer(len(rows), target))
            candidates = ~(scores < (scores.amax(1) - margin)[:, None])  # what is not ruled out, NaN included
            candidates &= target.bias != NEVER
            row, candidate = candidates.nonzero(as_tuple=True)
            nearest = arbiter.nearest(self.rows[rows].to(torch.float64), centroids, row, candidate)
            labels[rows] = nearest.to(labels.dtype)

    def _tiles(self, count: int) -> Iterator[slice]:
        return (slice(start, min(start + self.tile_rows, count)) for start in range(0, count, self.tile_rows))

    def _buffer(self, count: int, target: Target) -> Tensor:
        size, dtype = min(self.tile_rows, count) * len(target.bias), target.columns.dtype
        if self.scores.numel() < size or self.scores.dtype != dtype:
            self.scores = torch.empty(size, dtype=dtype, device=self.rows.device)
        return self.scores


def _pick(scores: Tensor, margin: Tensor) -> tuple[Tensor, Tensor]:
    """The best column (n,) of the scores, which it overwrites, and whether it is not alone within the margin."""
    if scores.shape[1] <= SMALL_K:
        return _alone(scores, scores.amax(1).sub_(margin))
    blocks = scores.view(len(scores), -1, BLOCK)
    maxima = blocks.amax(2)
    threshold = maxima.amax(1).sub_(margin)
    block, several_blocks = _alone(maxima, threshold)
    block = block.to(torch.int64)
    column, several = _alone(blocks[torch.arange(len(blocks), device=blocks.device), block], threshold)
    return block * BLOCK + column.to(torch.int64), several_blocks | several


def _alone(scores: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
    """The column (n,) that alone reaches the threshold, and where there is no such column.

    Read from the sum of CODE + column over the columns that do, as a product, which is fast: one column gives exactly
    its code, two or more at least 2 CODE, however the sum is rounded, and none (a NaN) gives 0.
    """
    codes = torch.arange(CODE, CODE + scores.shape[1], dtype=scores.dtype, device=scores.device)
    read = (scores.ge_(threshold[:, None]) @ codes).sub_(CODE)
    column = read.clamp(0, scores.shape[1] - 1)
    return column, column != read


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """Matrix products in full float32: the bound does not hold for TF32 or bfloat16 operands."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def automatic_tile(clusters: int) -> int:
    """Rows per tile: the scores of a tile stay near the cores' caches, and at most 128 MiB."""
    return max(1, min(65536 if clusters < NARROW_K else 32768 if clusters <= SMALL_K else 8192, 2**25 // clusters))


def largest_of(values: Tensor) -> float:
    """Largest absolute value of a tensor of any type that rows may have, 0 for an empty one."""
    if not values.numel():
        return 0.0
    low, high = torch.aminmax(values)
    return max(abs(float(low)), abs(float(high)))
