"""Exact statistics of a clustering: sums and counts of its clusters, and its inertia."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from distkmeans import native
from distkmeans.data.shard import Shard
from distkmeans.exact import floats
from distkmeans.exact.fixed_point import EXACT_ROWS, Grid
from distkmeans.exact.floats import row_hash
from distkmeans.kernels import why_not_triton

CHUNK_ELEMENTS = 1 << 18
"""Elements of a temporary: they stay in a core's cache."""
MOST_ADDED = 1 << 17
"""Double-doubles that are added one after another within the error bound of the inertia."""
NARROW = 8
"""Columns up to which a histogram per column beats adding row by row."""


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

    def add(self, other: ClusterSums) -> Tensor:
        """Add in place; the clusters whose sums that changes, bool (K,)."""
        self.counts.add_(other.counts)
        compiled = native.library_for(self.limbs)
        if compiled is None:
            self.limbs.add_(other.limbs)
            return (other.limbs != 0).flatten(1).any(1)
        touched = torch.zeros(len(self.limbs), dtype=torch.bool)
        compiled.merge(self.limbs, other.limbs, touched)
        return touched


def tally(shard: Shard, old: Tensor | None, new: Tensor, into: ClusterSums, touched: Tensor | None = None) -> int:
    """Take the rows whose label changed out of their old cluster and into the new one; how many they are.

    old, new: labels (n,) of the shard's rows; ``old`` is None where no row is in any cluster yet. touched: bool (K,):
    the clusters that rows leave or enter are marked in it.
    """
    compiled = native.library_for(shard.stored[0])
    if compiled is not None and new.dtype == torch.int32 and _fits_compiled(shard, into.grid):
        return _tally_compiled(compiled, shard, old, new, into, touched)
    if touched is not None:
        changed = slice(None) if old is None else old != new
        for side in (old, new):
            if side is not None:
                touched[side[changed].to(torch.int64)] = True
    if not why_not_triton(shard.rows.device):
        from distkmeans.kernels.triton_runs import Runs, can_add  # reads TRITON_INTERPRET as it is imported

        if can_add(shard.rows, into.grid):
            return Runs(shard.rows, shard.weights, into.grid).tally(old, new, into.limbs, into.counts)
    if old is None:
        for rows in shard.tiles(EXACT_ROWS):
            _add(shard, rows, [(new[rows].to(torch.int64), 1)], into)
        return len(new)
    moved = (old != new).nonzero().flatten()
    for rows in moved.split(EXACT_ROWS) if len(moved) else ():
        _add(shard, rows, [(new[rows].to(torch.int64), 1), (old[rows].to(torch.int64), -1)], into)
    return len(moved)


def _fits_compiled(shard: Shard, grid: Grid) -> bool:
    """Products with the weights are exact in float64, limbs' units are normal numbers, rows are whole in memory."""
    exact = shard.weights is None or shard.bits + shard.weight_bits <= 53
    return exact and grid.tables is not None and shard.stored[0].stride(1) == 1 and len(shard) < 2**31


def _tally_compiled(
    compiled: native.Library,
    shard: Shard,
    old: Tensor | None,
    new: Tensor,
    into: ClusterSums,
    touched: Tensor | None,
) -> int:
    assert into.grid.tables is not None
    down, up = into.grid.tables
    weights = None if shard.weights is None else shard.weights.contiguous()
    rows, which = shard.stored
    return compiled.tally(
        native.Tally(
            rows=native.Rows.of(rows),
            which=None if which is None else which.data_ptr(),
            weights=None if weights is None else weights.data_ptr(),
            down=down.data_ptr(),
            up=up.data_ptr(),
            sums=into.limbs.data_ptr(),
            counts=into.counts.data_ptr(),
            limbs=into.grid.limbs,
            clusters=len(into.limbs),
            touched=None if touched is None else touched.data_ptr(),
        ),
        old,
        new,
    )


def _add(shard: Shard, rows: slice | Tensor, places: list[tuple[Tensor, int]], into: ClusterSums) -> None:
    """Add weight * (row, 1) of at most EXACT_ROWS rows at each of the places (clusters (n,), sign)."""
    values = shard.rows[rows]
    weights = None if shard.weights is None else shard.weights[rows].to(torch.float64)[:, None]
    _add_values(shard, values, weights, places, into)
    _add_weights(weights, places, into)


def _add_values(
    shard: Shard, values: Tensor, weights: Tensor | None, places: list[tuple[Tensor, int]], into: ClusterSums
) -> None:
    """Many rows are added up in float64, which is exact and three times as fast, before they go to the integers."""
    grid = into.grid.columns(slice(0, -1))
    limbs = into.limbs[:, :, :-1]
    totals = None
    if 2 * len(values) > len(limbs):
        totals = torch.zeros(grid.limbs, len(limbs), shard.dims, dtype=torch.float64, device=values.device)
    step = max(1, CHUNK_ELEMENTS // shard.dims)
    for part in (slice(at, at + step) for at in range(0, len(values), step)):
        factors = [(values[part].to(torch.float64), shard.bits)]
        if weights is not None:
            factors.append((weights[part], shard.weight_bits))
        for index, piece in enumerate(grid.product_pieces(*factors)):
            for target, sign in places:
                if totals is None:
                    limbs[:, index].index_add_(0, target[part], piece.to(torch.int64), alpha=sign)
                else:
                    _scatter(totals[index], target[part], piece, sign)
    if totals is not None:
        limbs.add_(totals.to(torch.int64).transpose(0, 1))


def _scatter(total: Tensor, target: Tensor, piece: Tensor, sign: int) -> None:
    """total[target] += sign * piece for float64 integers (n, C). Narrow rows go column by column: far cheaper."""
    if piece.shape[1] > NARROW:
        total.index_add_(0, target, piece, alpha=sign)
        return
    for column in range(piece.shape[1]):
        total[:, column].add_(torch.bincount(target, piece[:, column], minlength=len(total)), alpha=sign)


def _add_weights(weights: Tensor | None, places: list[tuple[Tensor, int]], into: ClusterSums) -> None:
    """Add the rows' weights (n, 1), and count those above 0."""
    grid = into.grid.columns(slice(-1, None))
    for target, sign in places:
        if weights is None:
            counts = torch.bincount(target, minlength=len(into.counts))
            one = grid.split(torch.ones(1, dtype=torch.float64, device=target.device))
            into.limbs[:, :, -1].add_(counts[:, None] * one[:, 0], alpha=sign)
        else:
            counts = torch.bincount(target[weights[:, 0] > 0], minlength=len(into.counts))
            into.limbs[:, :, -1].index_add_(0, target, grid.split(weights)[:, :, 0], alpha=sign)
        into.counts.add_(counts, alpha=sign)


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


@dataclass(frozen=True)
class Terms:
    """sum over columns of c (W c - 2 S), of every cluster, at a safe scale: what the inertia adds to sum w |x|^2.

    values: float64 (3, K), double-doubles and the sums of their |terms|. largest: exponent of the largest value.
    """

    values: Tensor
    largest: int

    @staticmethod
    def empty(clusters: int, largest: int, device: torch.device) -> Terms:
        return Terms(torch.zeros(3, clusters, dtype=torch.float64, device=device), largest)

    def renew(self, sums: ClusterSums, centroids: Tensor, which: Tensor) -> None:
        """Take those of the clusters ``which``, int64 (M,), from their sums and centroids (K, D)."""
        by, grid = safe_exponent(self.largest), sums.grid
        shift = self._shift(grid)
        places = torch.stack([grid.place(index) for index in range(grid.limbs)]) - shift
        compiled = native.library_for(centroids)
        if compiled is not None and max(abs(by), int(places.abs().max())) < 1000:
            compiled.inertia(sums.limbs, floats.power_of_two(places), centroids, 2.0**by, which, self.values)
            return
        c = floats.scale(centroids[which].to(torch.float64), by)
        total, size = grid.double_double(sums.limbs[which], shift)
        weight = (total[0][:, -1:], total[1][:, -1:])
        s = (-2 * total[0][:, :-1], -2 * total[1][:, :-1])
        high, low = floats.sum_dd(floats.multiply(floats.add(floats.multiply(weight, c), s), c))
        magnitude = (c.abs() * (c.abs() * size[:, -1:] + 2 * size[:, :-1])).sum(1)
        self.values[:, which] = torch.stack([high, low, magnitude])

    def _shift(self, grid: Grid) -> Tensor:
        """By which the limbs' exponents are brought to the safe scale; the weight's to 2**0."""
        shift = torch.full_like(grid.top, int(grid.top[-1]) - safe_exponent(self.largest))
        shift[-1] = grid.top[-1]
        return shift

    def total(self, square: Fraction, grid: Grid) -> float | None:
        """square + the sum of all terms, correctly rounded; None where a rounding boundary is too near to tell."""
        compiled = native.library_for(self.values)
        if compiled is not None and self.values.shape[1] <= MOST_ADDED:
            high, low, magnitude = compiled.total(self.values)
        else:
            high, low = (float(part) for part in floats.sum_dd((self.values[0], self.values[1])))
            magnitude = float(self.values[2].sum())
        if not math.isfinite(magnitude):
            return None
        unit = Fraction(2) ** (int(grid.top[-1]) - 2 * safe_exponent(self.largest))
        value = square / unit + Fraction(high) + Fraction(low)
        error = Fraction(magnitude) * Fraction(1, 2**85) + Fraction(1, 2**880)
        below, above = (to_float((value + side) * unit) for side in (-error, error))
        return below if below == above else None


def inertia(square: Fraction, sums: ClusterSums, centroids: Tensor, largest: int, terms: Terms | None = None) -> float:
    """sum w |x|^2 + sum_k c_k . (W_k c_k - 2 S_k), correctly rounded, without a pass over the rows.

    square: the exact sum of w |x|^2. terms: of these sums and centroids, where they are known. The K * D terms are
    added in double-double; where a rounding boundary lies within the error bound (the terms cancel, as they do far from
    the origin), in integers. So it never rises from one iteration to the next.
    """
    if terms is None:
        terms = Terms.empty(len(centroids), largest, centroids.device)
        terms.renew(sums, centroids, torch.arange(len(centroids), device=centroids.device))
    value = terms.total(square, sums.grid)
    return to_float(square + _cross_terms(sums, centroids)) if value is None else value


def steps(was: Tensor, now: Tensor, exponent: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of centroids (K, D): |2**exponent (now - was)|^2, float64 (K,), in a fixed order; hashes after; which moved."""
    compiled = native.library_for(now)
    if compiled is not None and -1022 <= exponent <= 1023:
        return compiled.steps(was, now, 2.0**exponent)
    step = floats.scale(now.to(torch.float64), exponent) - floats.scale(was.to(torch.float64), exponent)
    return floats.sum_columns(step * step), row_hash(now), (now != was).any(1)


def distances(rows: Tensor, centroids: Tensor, labels: Tensor, exponent: int) -> Tensor:
    """|2**exponent (x - c)|^2 of rows (n, D) and the centroids (K, D) of their int32 labels: float64 (n,).

    In a fixed order, with the same bits on every device.
    """
    compiled = native.library_for(rows)
    if compiled is not None and -1022 <= exponent <= 1023:
        return compiled.distances(rows, centroids, labels, 2.0**exponent)
    placed, size = floats.scale(centroids.to(torch.float64), exponent), max(1, CHUNK_ELEMENTS // max(1, rows.shape[1]))
    found = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
    for part, label, into in zip(*(t.split(size) for t in (rows, labels, found)), strict=True):
        step = floats.scale(part.to(torch.float64), exponent) - placed.index_select(0, label)
        into.copy_(floats.sum_columns(step * step))
    return found


def _cross_terms(sums: ClusterSums, centroids: Tensor) -> Fraction:
    """sum_k c_k . (W_k c_k - 2 S_k) in integers."""
    c64 = centroids.to(torch.float64).cpu()
    unit = min(int(floats.lowest_bit(c64).min()), 0)
    mantissa, e = torch.frexp(c64)
    whole = (mantissa * 2.0**53).to(torch.int64)
    shift = e.to(torch.int64) - 53 - unit
    pairs = zip(whole.flatten().tolist(), shift.flatten().tolist(), strict=True)
    c = np.array([v << s if s >= 0 else v >> -s for v, s in pairs], dtype=object).reshape(c64.shape)
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
