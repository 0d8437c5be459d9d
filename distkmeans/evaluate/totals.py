"""Totals of what each row contributes: fixed-point, and so the same at any sharding, tile size and thread count."""

from __future__ import annotations

import torch
from torch import Tensor

from distkmeans.exact import floats
from distkmeans.exact.fixed_point import Grid
from distkmeans.world import World

SPAN = 96
"""Bits below the largest value that are kept: a total of N values errs by less than N 2**-96 of the largest."""
TILE_ROWS = 1 << 18


def totals(world: World, values: Tensor, labels: Tensor, clusters: int, rows: int) -> Tensor:
    """float64 (K,): the values of each cluster, added up over all ranks and rounded once. A collective.

    values: float64 (n,), finite. labels: int64 (n,). rows: how many there are over all ranks.
    """
    largest = values.abs().max() if len(values) else values.new_zeros(())
    top = world.max_(floats.exponent(largest)).reshape(1)
    grid = Grid.spanning(top, top - SPAN, rows)
    limbs = torch.zeros(clusters, grid.limbs, 1, dtype=torch.int64, device=values.device)
    with world.guard():
        for part, which in zip(values.split(TILE_ROWS), labels.split(TILE_ROWS), strict=True):
            for index, piece in enumerate(grid.pieces(part[:, None])):
                limbs[:, index].index_add_(0, which, piece.to(torch.int64))
    (high, _), _ = grid.double_double(world.sum_(limbs), 0)
    return high[:, 0]
