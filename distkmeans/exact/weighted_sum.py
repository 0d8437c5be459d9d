"""The exact sum over all ranks of weight * value, for float64 values that are known row by row."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from distkmeans.exact import floats
from distkmeans.exact.fixed_point import EXACT_ROWS, Grid
from distkmeans.world import World


def weighted_sum(world: World, values: Tensor, weights: Tensor | None, total: int) -> Fraction:
    """values: finite float64 (n,) of this rank's rows. weights: float64 (n,), or None for 1. total: rows of all ranks.

    The first of two collectives finds the bits that the products span, the second adds integers: the sum depends on
    neither order nor sharding.
    """
    factors = [values] if weights is None else [values, weights]
    spans = world.max_(torch.tensor([_span(factor) for factor in factors], device=world.device))
    if int(spans[:, 0].min()) == floats.ZERO_EXPONENT:
        return Fraction(0)
    top, low = spans.sum(0).split(1)
    grid = Grid.spanning(top, -low, total)
    limbs = torch.zeros(grid.limbs, dtype=torch.int64, device=world.device)
    for part in range(0, len(values), EXACT_ROWS):
        columns = [(factor[part : part + EXACT_ROWS, None], 53) for factor in factors]
        for index, piece in enumerate(grid.product_pieces(*columns)):
            limbs[index] += piece.sum().to(torch.int64)  # at most EXACT_ROWS: exact
    whole = grid.integers(world.sum_(limbs)[:, None])[0]
    return Fraction(int(whole)) * Fraction(2) ** int(grid.unit()[0])


def _span(values: Tensor) -> tuple[int, int]:
    """The exponent of the largest value, and minus that of the lowest set bit."""
    if not len(values):
        return floats.ZERO_EXPONENT, floats.ZERO_EXPONENT
    return int(floats.exponent(values).max()), -int(floats.lowest_bit(values).min())
