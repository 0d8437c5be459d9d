"""Euclidean distances of rows to all centroids."""

from __future__ import annotations

import torch
from torch import Tensor

from distkmeans.data.shard import TILE_ELEMENTS

NEAR = 2.0**-16
"""Of the squared lengths, below which a squared distance is taken from the differences themselves."""
PAIRS = 1 << 12
"""Pairs that are taken so at once."""


def distances(rows: Tensor, centroids: Tensor) -> Tensor:
    """(N, K): float64 where rows or centroids are, else float32.

    Computed in float64, with a relative error of at most about D * 2**-38.

    rows: (N, D). centroids: (K, D). A product of matrices around the centroids' mean, so that rows far from the origin
    lose nothing; what cancels in it is computed again, from differences. A row that is a centroid has distance 0.
    """
    wide = torch.float64 in (rows.dtype, centroids.dtype)
    centroids = centroids.to(rows.device, torch.float64)
    middle = centroids.mean(0)
    away = centroids - middle
    found = torch.empty(len(rows), len(centroids), dtype=torch.float64 if wide else torch.float32, device=rows.device)
    step = max(1, 2 * TILE_ELEMENTS // max(rows.shape[1], len(centroids)))
    for at in range(0, len(rows), step):
        tile = rows[at : at + step].to(torch.float64)
        shifted = tile - middle
        lengths = (shifted * shifted).sum(1)[:, None] + (away * away).sum(1)
        squares = torch.addmm(lengths, shifted, away.T, alpha=-2)
        for near in (squares <= NEAR * lengths).nonzero().split(PAIRS):
            row, centre = near.unbind(1)
            squares[row, centre] = ((tile[row] - centroids[centre]) ** 2).sum(1)
        found[at : at + step] = squares.sqrt_()
    return found
