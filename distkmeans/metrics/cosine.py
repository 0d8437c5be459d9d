"""metric=cosine: spherical k-means (Dhillon and Modha 2001). Rows and centroids have length 1."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from distkmeans.exact.fixed_point import Grid
from distkmeans.metrics import metrics
from distkmeans.transforms.normalize import Normalize, unit_rows


@metrics.register("cosine")
class Cosine:
    """Of unit vectors the most similar is the nearest; the centre is the sum, brought to length 1.

    Lengths are float64 in a fixed order, rounded once. A cluster whose rows add up to 0 has no centre.
    """

    def prepare(self, rows: Tensor) -> Tensor:
        return Normalize()(rows)

    def refuse(self, rows: Tensor) -> tuple[Tensor, str]:
        return (rows == 0).all(1), "a row of zeros has no direction, which metric=cosine needs"

    def centres(self, sums: Tensor, grid: Grid, dtype: torch.dtype) -> Tensor:
        (total, _), _ = grid.double_double(sums, int(grid.top.max()))
        centre = unit_rows(total[:, :-1])
        without = (total[:, :-1] == 0).all(1) | (total[:, -1] == 0)
        return centre.masked_fill(without[:, None], math.nan).to(dtype) + 0.0

    def place(self, centroids: Tensor) -> Tensor:
        return unit_rows(centroids.to(torch.float64)).to(centroids.dtype)

    def to_sklearn(self, dims: int) -> list[Any]:
        """A Normalizer: of unit vectors, the most similar is the nearest."""
        return Normalize().to_sklearn(dims)
