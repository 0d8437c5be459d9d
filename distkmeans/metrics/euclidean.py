"""metric=euclidean: squared Euclidean distance, and the mean."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from distkmeans.exact import fixed_point
from distkmeans.metrics import metrics


@metrics.register("euclidean")
class Euclidean:
    """The mean is rounded correctly, so that it is the best centre that can be stored."""

    def prepare(self, rows: Tensor) -> Tensor:
        return rows

    def refuse(self, rows: Tensor) -> tuple[Tensor, str]:
        return torch.zeros(len(rows), dtype=torch.bool, device=rows.device), ""

    def centres(self, sums: Tensor, grid: fixed_point.Grid, dtype: torch.dtype) -> Tensor:
        return fixed_point.means(sums, grid, dtype)

    def place(self, centroids: Tensor) -> Tensor:
        return centroids

    def to_sklearn(self, dims: int) -> list[Any]:
        """No step."""
        return []
