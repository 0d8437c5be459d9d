"""The statistics pass: what has to be known of every column before anything is solved."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

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


class Moments:
    """Exact sums over all ranks' rows. What is asked for first costs a pass over the rows, and is a collective."""

    def __init__(self, world: World, shard: Shard, columns: Columns) -> None:
        self.world, self.shard, self.total = world, shard, columns.total
        self.top, self.low = (bound[:-1] - bound[-1] for bound in (columns.top, columns.low))
        self.weight = columns.top[-1], columns.low[-1]

    @cached_property
    def sums(self) -> list[Fraction]:
        """Of each column's values, unweighted."""
        return self._added(Grid.spanning(self.top, self.low, self.total), squared=False)

    @cached_property
    def squares(self) -> list[Fraction]:
        """Of their squares, unweighted."""
        return self._added(Grid.spanning(2 * self.top, 2 * self.low, self.total), squared=True)

    @cached_property
    def weighted_square(self) -> Fraction:
        """The sum of weight * |x|^2."""
        if self.shard.weights is None:
            grid = self._common_grid()
            if grid is None or "squares" in vars(self):
                return sum(self.squares, Fraction(0))
            with self.world.guard():
                limbs = _sum_of_squares(self.shard, grid)
            return _fractions(self.world.sum_(limbs), grid)[0]
        top, low = (2 * bound + weight for bound, weight in zip((self.top, self.low), self.weight, strict=True))
        return sum(self._added(Grid.spanning(top, low, self.total), squared=True, weighted=True), Fraction(0))

    def means(self) -> list[Fraction]:
        return [value / self.total for value in self.sums]

    def variances(self) -> list[Fraction]:
        """Per column, divided by the number of rows, exact."""
        pairs = zip(self.squares, self.means(), strict=True)
        return [square / self.total - mean * mean for square, mean in pairs]

    def _common_grid(self) -> Grid | None:
        """One of so few limbs for the squares of all columns, or nothing."""
        grid = Grid.spanning(2 * self.top.max()[None], 2 * self.low.min()[None], self.total * len(self.top))
        grid = Grid(grid.top, grid.width, native.SQUARE_LIMBS) if grid.limbs <= native.SQUARE_LIMBS else grid
        serves = grid.limbs == native.SQUARE_LIMBS and grid.tables is not None and 2 * self.shard.bits <= 53
        return grid if serves else None

    def _added(self, grid: Grid, squared: bool, weighted: bool = False) -> list[Fraction]:
        with self.world.guard():
            limbs = None if weighted else _compiled_sum(self.shard, grid, squared)
            limbs = _torch_sum(self.shard, grid, squared, weighted) if limbs is None else limbs
        return _fractions(self.world.sum_(limbs), grid)


def _torch_sum(shard: Shard, grid: Grid, squared: bool, weighted: bool) -> Tensor:
    """Limb sums, int64 (limbs, D), of the values or of their squares, each times its row's weight or not."""
    total = torch.zeros(grid.limbs, shard.dims, dtype=torch.int64, device=shard.rows.device)
    for tile in shard.tiles(max(1, min(EXACT_ROWS, TILE_ELEMENTS // shard.dims))):
        factors = [(shard.rows[tile].to(torch.float64), shard.bits)] * (1 + squared)
        if weighted and shard.weights is not None:
            factors.append((shard.weights[tile].to(torch.float64)[:, None], shard.weight_bits))
        for index, piece in enumerate(grid.product_pieces(*factors)):
            total[index] += piece.sum(0).to(torch.int64)  # at most EXACT_ROWS: exact
    return total


def _sum_of_squares(shard: Shard, grid: Grid) -> Tensor:
    """int64 (limbs, 1): limb sums of the squares of all values, on a grid of one column that has room for them."""
    library = native.library_for(shard.rows)
    if library is not None and shard.rows.stride(1) == 1:
        places = [int(grid.place(index)) for index in range(grid.limbs)]
        return torch.tensor(library.squares(shard.rows, places))[:, None]
    total = torch.zeros(grid.limbs, 1, dtype=torch.int64, device=shard.rows.device)
    for tile in shard.tiles():
        for index, piece in enumerate(grid.pieces(shard.rows[tile].to(torch.float64).square().view(-1, 1))):
            total[index] += piece.to(torch.int64).sum(0)
    return total


def _compiled_sum(shard: Shard, grid: Grid, squared: bool) -> Tensor | None:
    """``_torch_sum`` without weights; nothing where torch has to add them up."""
    library = native.library_for(shard.rows)
    if library is None or 2 * shard.bits > 53 or shard.rows.stride(1) != 1 or len(shard) >= 2**31:
        return None
    top = torch.cat([grid.top, grid.top.new_full((1,), 1)])  # and one column for the ones of the rows
    tables = Grid(top, grid.width, grid.limbs).tables
    return None if tables is None else library.totals(shard.rows, tables, squared)[:, :-1].contiguous()


def _fractions(limbs: Tensor, grid: Grid) -> list[Fraction]:
    pairs = zip(grid.integers(limbs).tolist(), grid.unit().tolist(), strict=True)
    return [Fraction(value << unit) if unit >= 0 else Fraction(value, 1 << -unit) for value, unit in pairs]
