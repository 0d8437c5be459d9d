"""Sums as integers: exact, so that order, sharding, tiles and atomics cannot change them.

A column of numbers lies on a grid: every value is a multiple of 2**low and smaller than 2**top. It is cut into
``limbs`` of ``width`` bits, each an int64. The width leaves room for ``count`` additions, so that a limb's sum never
overflows, and integer addition is associative. Sums, means and totals are formed from those integers and rounded once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from distkmeans import native
from distkmeans.exact import floats

ACCUMULATOR_BITS = 60
"""|sum of a limb| stays below 2**60; two bits are left for the terms of a product, which are added limb by limb."""
WIDEST, EXACT_ROWS = 34, 1 << 16
"""Bits of a limb at most, so that so many limbs, of up to four terms each, can be added in float64 exactly."""


@dataclass(frozen=True)
class Grid:
    """How the values of C columns are cut: value = sum over l of limb_l * 2**(top - (l + 1) * width).

    top: int64 (C,), with |value| < 2**top. width: bits of a limb. limbs: how many.
    """

    top: Tensor
    width: int
    limbs: int

    @staticmethod
    def spanning(top: Tensor, low: Tensor, count: int) -> Grid:
        """The grid of ``count`` values per column that are below 2**top and multiples of 2**low (int64, (C,))."""
        width = min(WIDEST, ACCUMULATOR_BITS - max(count, 2).bit_length())
        span = int((top - low).clamp(min=1).max()) if top.numel() else 1
        return Grid(top, width, -(-span // width))

    def place(self, index: int) -> Tensor:
        """int64 (C,): the exponent of the unit of a limb."""
        return self.top - (index + 1) * self.width

    def unit(self) -> Tensor:
        """int64 (C,): the exponent of the last limb's unit."""
        return self.place(self.limbs - 1)

    def columns(self, which: Tensor | slice) -> Grid:
        """The grid of some columns, or of some columns repeated."""
        return Grid(self.top[which], self.width, self.limbs)

    @functools.cached_property
    def tables(self) -> tuple[Tensor, Tensor] | None:
        """2**-place and 2**place of every limb and column, float64 (limbs, C), where all of them are normal numbers."""
        if self._factors is None:
            return None
        down, up = zip(*self._factors, strict=True)
        return torch.stack(down), torch.stack(up)

    @functools.cached_property
    def _twice(self) -> tuple[Tensor, Tensor] | None:
        """``tables`` with one column more, for the ones of the rows: of the only one."""
        return self.columns(torch.tensor([0, 0])).tables

    @functools.cached_property
    def _factors(self) -> list[tuple[Tensor, Tensor]] | None:
        """2**-place and 2**place of every limb, where all of them are normal numbers."""
        places = [self.place(index) for index in range(self.limbs)]
        if any(int(place.abs().max()) > 1000 for place in places if place.numel()):
            return None
        return [(floats.power_of_two(-place), floats.power_of_two(place)) for place in places]

    def pieces(self, values: Tensor, exponents: Tensor | None = None) -> Iterator[Tensor]:
        """values * 2**exponents, float64 (..., C), limb by limb: float64 integers (..., C), exact on the grid."""
        for index in range(self.limbs):
            if exponents is None and self._factors is not None:
                down, up = self._factors[index]
                piece = (values * down).trunc_()
                if index + 1 < self.limbs:
                    values = torch.addcmul(values, piece, up, value=-1)  # exact, so contraction changes nothing
            else:
                place = self.place(index) - (0 if exponents is None else exponents)
                piece = floats.scale(values, -place).trunc_()
                if index + 1 < self.limbs:
                    values = values - floats.scale(piece, place)
            yield piece

    def product_pieces(self, *factors: tuple[Tensor, int]) -> Iterator[Tensor]:
        """The exact product of float64 factors, each with its number of significant bits, limb by limb.

        Products that fit 53 bits are formed directly (such factors are float32 or narrower, so that nothing leaves
        the range of float64); wider ones from mantissas and exponents, split without error (TwoProduct).
        """
        if sum(bits for _, bits in factors) <= 53:
            yield from self.pieces(math.prod((value for value, _ in factors[1:]), start=factors[0][0]))
            return
        mantissa, e = torch.frexp(factors[0][0])
        terms, exponents = [mantissa], e.to(torch.int64)
        for value, _ in factors[1:]:
            mantissa, e = torch.frexp(value)
            terms = [part for term in terms for part in floats.two_product(term, mantissa)]
            exponents = exponents + e.to(torch.int64)
        for parts in zip(*(self.pieces(term, exponents) for term in terms), strict=True):
            yield functools.reduce(torch.add, parts)

    def split(self, values: Tensor) -> Tensor:
        """float64 values (..., C) as int64 limbs (..., limbs, C)."""
        return torch.stack([piece.to(torch.int64) for piece in self.pieces(values)], dim=-2)

    def total(self, values: Tensor) -> Tensor:
        """int64 (limbs,): the limbs of the sum of values, float64 (n,), on a grid of one column that has room for n."""
        compiled = native.library_for(values)
        if compiled is not None and self._twice is not None:
            return compiled.totals(values[:, None], self._twice, squared=False)[:, 0]
        return torch.stack([piece.to(torch.int64).sum() for piece in self.pieces(values)])

    def integers(self, limbs: Tensor) -> np.ndarray:
        """limbs (..., limbs, C) as Python integers in units of 2**unit(): object array (..., C)."""
        whole = limbs.cpu().numpy().astype(object)
        value = whole[..., 0, :]
        for index in range(1, self.limbs):
            value = value * (1 << self.width) + whole[..., index, :]
        return value

    def double_double(self, limbs: Tensor, shift: Tensor | int) -> tuple[floats.DoubleDouble, Tensor]:
        """Limb sums (..., limbs, C) times 2**-shift as a double-double (..., C), and the sum of the |terms|.

        Error at most 2**-98 of that sum plus 2**-900, for shifts not far below the top.
        """
        value, size = None, torch.zeros_like(limbs[..., 0, :], dtype=torch.float64)
        for index in range(self.limbs):
            place = self.place(index) - shift
            whole = limbs[..., index, :].to(torch.float64)
            rest = (limbs[..., index, :] - whole.to(torch.int64)).to(torch.float64)
            term = floats.scale(whole, place), floats.scale(rest, place)
            size = size + term[0].abs()
            value = term if value is None else floats.add(value, term)
        assert value is not None
        return value, size


def means(sums: Tensor, grid: Grid, dtype: torch.dtype) -> Tensor:
    """Correctly rounded means (K, C - 1) from limb sums (K, limbs, C) whose last column is the weight.

    Round to nearest, ties to even, from the exact rational number. A cluster of weight 0 gives NaN. Tried in float64
    with an error bound (for float32 means), then in double-double, and decided in rational arithmetic where a
    rounding boundary lies within the bound.
    """
    if dtype == torch.float32:
        compiled = native.library_for(sums)
        if compiled is not None and grid.tables is not None:
            result, is_open = compiled.means(sums, grid.tables[1])
        else:
            result, is_open = _means_float64(sums, grid)
    else:
        result = torch.full((sums.shape[0], sums.shape[2] - 1), math.nan, dtype=dtype, device=sums.device)
        is_open = ~(sums[:, :, -1:] == 0).all(dim=1).expand_as(result)
    if is_open is not None and is_open.any():
        cluster, column = is_open.nonzero(as_tuple=True)
        sum_grid, weight_grid = grid.columns(column), grid.columns(torch.full_like(column, -1))
        sums_m, weights_m = sums[cluster, :, column].t(), sums[cluster, :, -1].t()
        result[cluster, column] = _quotients((sums_m, sum_grid), (weights_m, weight_grid), dtype)
    return result


def _means_float64(sums: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """float32 means, and where they are not proved. A sum of L terms errs by (L + 1) 2**-53 of the sum of |terms|."""
    total = size = torch.zeros_like(sums[:, 0], dtype=torch.float64)
    for index in range(grid.limbs):
        term = floats.scale(sums[:, index].to(torch.float64), grid.place(index))
        total = total + term
        size = size + term.abs()
    weight = total[:, -1:]
    quotient = total[:, :-1] / weight
    error = size[:, :-1] / weight * ((2 * grid.limbs + 8) * 2.0**-53)
    low, high = (quotient - error).to(torch.float32), (quotient + error).to(torch.float32)
    is_open = ((low != high) | ~torch.isfinite(quotient)) & (weight > 0)
    return quotient.to(torch.float32) + 0.0, is_open


def _quotients(numerator: tuple[Tensor, Grid], denominator: tuple[Tensor, Grid], dtype: torch.dtype) -> Tensor:
    """Correctly rounded (M,) quotients of limb sums (limbs, M): by double-double, else by rationals."""
    (sums, sum_grid), (weights, weight_grid) = numerator, denominator
    total, size = sum_grid.double_double(sums, sum_grid.top)
    weight, _ = weight_grid.double_double(weights, weight_grid.top)
    quotient = floats.divide(total, weight)
    error = (size * 2.0**-96 + 2.0**-900) / weight[0]
    shift = sum_grid.top - weight_grid.top
    bounds = [floats.two_sum(quotient[0], quotient[1] + side) for side in (-error, error)]
    twice = dtype != torch.float64  # rounded a second time
    low, high = (floats.scale(floats.to_odd(b) if twice else b[0], shift).to(dtype) for b in bounds)
    tiny = torch.finfo(dtype).tiny * 4  # below it the scaling above rounds a second time
    unsure = ((low != high) | ~torch.isfinite(low) | (low.abs() < tiny)).nonzero().flatten().cpu()
    if len(unsure):
        low = low.cpu()
        tops = sum_grid.integers(sums)[unsure.numpy()], weight_grid.integers(weights)[unsure.numpy()]
        units = (sum_grid.unit() - weight_grid.unit()).tolist()
        for index, top, bottom in zip(unsure.tolist(), *tops, strict=True):
            low[index] = round_fraction(Fraction(top, bottom) * Fraction(2) ** units[index], dtype)
    return low.to(sums.device) + 0.0


def round_fraction(value: Fraction, dtype: torch.dtype) -> float:
    """The float64 or float32 number nearest to a rational one, ties to even."""
    near = value.numerator / value.denominator
    if dtype == torch.float64:
        return near
    guess = np.float32(near)
    around = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    return float(min(around, key=lambda c: (abs(Fraction(float(c)) - value), int(c.view(np.int32)) & 1)))
