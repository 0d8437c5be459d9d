"""Few rows against all centroids, at once: what a fast pass leaves open is mostly a handful of rows."""

from __future__ import annotations

import torch
from torch import Tensor

from distkmeans.exact import arbiter

FEW = 1 << 18
"""Rows x columns x centroids up to which the differences are formed."""
AT_ONCE = 1 << 15
"""Differences up to which torch wakes no other threads, which takes longer than forming them."""


def are_few(count: int, centroids: Tensor) -> bool:
    """Whether so many rows may be given to ``nearest`` with these centroids (K, D)."""
    return count * centroids.numel() <= FEW


def nearest(rows: Tensor, centroids: Tensor) -> Tensor:
    """The truly nearest centroid of each row, the lowest index on a tie: int64 (M,).

    rows: (M, D), centroids: (K, D), as stored. The float64 sum of D squared differences, in any order, errs by at most
    (D + 4) 2**-53 of itself and by what underflows; one that overflows rules nothing out. Who is left is judged.
    """
    wide, targets, dims = rows.to(torch.float64), centroids.to(torch.float64), rows.shape[1]
    tiles = wide.split(max(1, AT_ONCE // max(1, targets.numel())))
    distance = torch.cat([(tile[:, None] - targets).square_().sum(2) for tile in tiles])
    least, label = distance.min(1)
    error = (dims + 8) * 2.0**-53
    limit = least * ((1 + error) / (1 - error)) + dims * 2.0**-1000
    candidates = ~(distance > limit[:, None])
    if int(candidates.sum()) == len(rows):
        return label
    row, candidate = candidates.nonzero(as_tuple=True)
    return arbiter.nearest(wide, targets, row, candidate)
