"""The statistics pass: what has to be known of every column before anything is solved."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from distkmeans import native
from distkmeans.data.shard import TILE_ELEMENTS, Shard
from distkmeans.errors import InputError
from distkmeans.exact import floats
from distkmeans.exact.fixed_point import EXACT_ROWS, Grid
from distkmeans.world import World


@dataclass(frozen=True)
class Columns:
    """The range of every column over all ranks, and of the weights.

    largest, smallest: float64 (D,), of the absolute values, the smallest of the non-zero ones (inf where all are 0).
    top, low: int64 (D + 1,): every weight * value is below 2**top and a multiple of 2**low; last, the weights alone.
    """

    total: int
    largest: Tensor
    smallest: Tensor
    top: Tensor
    low: Tensor

    @property
    def exponent(self) -> int:
        """All values are below 2**exponent."""
        return int(floats.exponent(self.largest).max())

    def grid(self) -> Grid:
        """Where sums of weight * (row, 1) are exact: D + 1 columns."""
        return Grid.spanning(self.top, self.low, self.total)


def scan(world: World, shard: Shard) -> Columns:
    """One pass over the rows. Raises InputError, naming the first row that holds NaN or Inf. A collective."""
    ranges = torch.full((2, shard.dims + 1), -torch.inf, dtype=torch.float64, device=world.device)
    ranges[0] = 0
    with world.guard():
        compiled = native.library_for(shard.rows) if shard.rows.stride(1) == 1 else None
        found = compiled.scan(shard.rows) if compiled is not None else None
        if found is not None:
            ranges[0, :-1], ranges[1, :-1] = found[0], -found[1]
        else:
            for tile in shard.tiles():
                _widen(ranges[:, :-1], shard.rows[tile].to(torch.float64).abs())
                _refuse_bad_rows(ranges, shard, tile)
        weights = torch.ones(1, device=world.device) if shard.weights is None else shard.weights
        _widen(ranges[:, -1:], weights.to(torch.float64)[:, None])
    world.max_(ranges)
    largest, smallest = ranges[0], -ranges[1]
    top = floats.exponent(largest)
    low = floats.exponent(smallest.clamp(max=1e308)) - shard.bits
    low[-1] += shard.bits - shard.weight_bits
    if not shard.rows.is_floating_point():
        low[:-1] = 0
    if shard.weights is None:
        top[-1], low[-1] = 1, 0
    top[:-1] += top[-1]
    low[:-1] += low[-1]
    empty = largest == 0
    top[empty], low[empty] = low[-1] + 1, low[-1]
    return Columns(shard.total, largest[:-1].clone(), smallest[:-1].clone(), top, low)


def _widen(ranges: Tensor, size: Tensor) -> None:
    if len(size):
        ranges[0] = torch.maximum(ranges[0], size.amax(0))
        ranges[1] = torch.maximum(ranges[1], -torch.where(size > 0, size, torch.inf).amin(0))


def _refuse_bad_rows(ranges: Tensor, shard: Shard, tile: slice) -> None:
    if torch.isfinite(ranges[0]).all():
        return
    row, column = (~torch.isfinite(shard.rows[tile])).nonzero()[0].tolist()
    value = float(shard.rows[tile][row, column])
    number = int(shard.numbers(tile)[row])
    raise InputError(f"{shard.name(number)}: {value} in column {column}; remove or mend that row")


@dataclass(frozen=True)
class Moments:
    """Exact sums over all ranks' rows. sums, squares: of each column's values and their squares, unweighted (D,).

    weighted_square: the sum of weight * |x|^2.
    """

    total: int
    sums: list[Fraction]
    squares: list[Fraction]
    weighted_square: Fraction

    def means(self) -> list[Fraction]:
        return [value / self.total for value in self.sums]

    def variances(self) -> list[Fraction]:
        """Per column, divided by the number of rows, exact."""
        pairs = zip(self.squares, self.means(), strict=True)
        return [square / self.total - mean * mean for square, mean in pairs]


def moments(world: World, shard: Shard, columns: Columns) -> Moments:
    """One pass over the rows. A collective."""
    top, low = (bound[:-1] - bound[-1] for bound in (columns.top, columns.low))
    weight_top, weight_low = columns.top[-1], columns.low[-1]
    grids = [
        Grid.spanning(top, low, columns.total),
        Grid.spanning(2 * top, 2 * low, columns.total),
        Grid.spanning(2 * top + weight_top, 2 * low + weight_low, columns.total),
    ]
    if shard.weights is None:
        grids.pop()
    with world.guard():
        sums = _compiled_sums(shard, grids) or _torch_sums(shard, grids)
    totals = [_fractions(world.sum_(total), grid) for total, grid in zip(sums, grids, strict=True)]
    return Moments(columns.total, totals[0], totals[1], sum(totals[-1], Fraction(0)))


def _torch_sums(shard: Shard, grids: list[Grid]) -> list[Tensor]:
    """Limb sums, int64 (limbs, D) each: of the values, of their squares and, with weights, of the weighted squares."""
    sums = [torch.zeros(grid.limbs, shard.dims, dtype=torch.int64, device=shard.rows.device) for grid in grids]
    for tile in shard.tiles(max(1, min(EXACT_ROWS, TILE_ELEMENTS // shard.dims))):
        x = (shard.rows[tile].to(torch.float64), shard.bits)
        factors = [(x,), (x, x)]
        if shard.weights is not None:
            factors.append((x, x, (shard.weights[tile].to(torch.float64)[:, None], shard.weight_bits)))
        for total, grid, product in zip(sums, grids, factors, strict=True):
            for index, piece in enumerate(grid.product_pieces(*product)):
                total[index] += piece.sum(0).to(torch.int64)  # at most EXACT_ROWS: exact
    return sums


def _compiled_sums(shard: Shard, grids: list[Grid]) -> list[Tensor]:
    """``_torch_sums`` without weights; nothing where torch has to add them up."""
    library = native.library_for(shard.rows)
    if library is None or len(grids) > 2 or 2 * shard.bits > 53 or shard.rows.stride(1) != 1 or len(shard) >= 2**31:
        return []
    found = []
    for squared, grid in enumerate(grids):
        top = torch.cat([grid.top, grid.top.new_full((1,), 1)])  # and one column for the ones of the rows
        tables = Grid(top, grid.width, grid.limbs).tables
        if tables is None:
            return []
        found.append(library.totals(shard.rows, tables, bool(squared))[:, :-1].contiguous())
    return found


def _fractions(limbs: Tensor, grid: Grid) -> list[Fraction]:
    pairs = zip(grid.integers(limbs).tolist(), grid.unit().tolist(), strict=True)
    return [Fraction(value << unit) if unit >= 0 else Fraction(value, 1 << -unit) for value, unit in pairs]
