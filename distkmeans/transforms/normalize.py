"""transform=normalize: every row to Euclidean length 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from distkmeans.data.columns import Columns
from distkmeans.data.shard import Shard
from distkmeans.exact import floats
from distkmeans.transforms import rounded, transforms
from distkmeans.world import World


@transforms.register("normalize")
class Normalize:
    """x / |x|; a row of zeros stays zero, as in scikit-learn's ``normalize``."""

    name = "normalize"

    def fit(self, world: World, shard: Shard, columns: Columns) -> None:
        """Nothing to learn."""

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Nothing to take back."""

    def __call__(self, rows: Tensor) -> Tensor:
        return rounded(unit_rows(rows.to(torch.float64)), rows.dtype)

    def to_sklearn(self, dims: int) -> list[Any]:
        """A fitted Normalizer."""
        import numpy as np
        from sklearn.preprocessing import Normalizer

        return [Normalizer().fit(np.zeros((1, dims)))]


def unit_rows(values: Tensor) -> Tensor:
    """float64 (n, D) rows divided by their length, first scaled by a power of two so that no square overflows."""
    largest = floats.exponent(values.abs().amax(1, keepdim=True))
    scaled = floats.scale(values, -largest)
    length = floats.sum_columns(scaled * scaled).sqrt()[:, None]
    return scaled / torch.where(length > 0, length, torch.ones_like(length))
