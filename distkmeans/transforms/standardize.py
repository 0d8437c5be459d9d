"""transform=standardize: every column to mean 0 and variance 1."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from distkmeans.data.columns import Columns, Moments
from distkmeans.data.shard import Shard
from distkmeans.transforms import rounded, transforms
from distkmeans.world import World


@transforms.register("standardize")
class Standardize:
    """(x - mean) / deviation, unweighted, from exact sums; a constant column becomes 0, as in ``StandardScaler``."""

    name = "standardize"

    def __init__(self) -> None:
        self.mean = self.scale = torch.zeros(0, dtype=torch.float64)

    def fit(self, world: World, shard: Shard, columns: Columns) -> None:
        known = Moments(world, shard, columns)
        self.mean = torch.tensor([_float(mean) for mean in known.means()], dtype=torch.float64)
        self.scale = torch.tensor([_deviation(variance) for variance in known.variances()], dtype=torch.float64)

    def tensors(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "scale": self.scale}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self.mean, self.scale = tensors["mean"], tensors["scale"]

    def __call__(self, rows: Tensor) -> Tensor:
        centred = rows.to(torch.float64) - self.mean.to(rows.device)
        return rounded(centred / self.scale.to(rows.device), rows.dtype)

    def to_sklearn(self, dims: int) -> list[Any]:
        """A StandardScaler with these means and deviations."""
        from sklearn.preprocessing import StandardScaler

        mean, scale = (values.numpy().copy() for values in (self.mean, self.scale))
        scaler = StandardScaler().fit(mean[None])
        scaler.mean_, scaler.scale_, scaler.var_ = mean, scale, scale * scale
        return [scaler]


def _float(value: Fraction) -> float:
    return value.numerator / value.denominator


def _deviation(variance: Fraction) -> float:
    """The square root, at a scale where float64 holds the variance; 1 for a constant column."""
    if not variance:
        return 1.0
    half = (variance.numerator.bit_length() - variance.denominator.bit_length()) // 2
    return math.ldexp(math.sqrt(_float(variance / Fraction(4) ** half)), half)
