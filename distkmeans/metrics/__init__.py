"""What "near" and "centre" mean: a pair that a solver plugs in."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from distkmeans.exact.fixed_point import Grid
from distkmeans.registry import Registry


class Metric(Protocol):
    """Labels go to the centroid at the least squared Euclidean distance from the prepared row."""

    def prepare(self, rows: Tensor) -> Tensor:
        """Rows (n, D) as the solver shall see them."""

    def refuse(self, rows: Tensor) -> tuple[Tensor, str]:
        """Which rows (n,) the metric has no answer for, and why."""

    def centres(self, sums: Tensor, grid: Grid, dtype: torch.dtype) -> Tensor:
        """Centres (K, D) from the exact sums (K, limbs, D + 1), weights last; NaN rows for clusters without one."""

    def place(self, centroids: Tensor) -> Tensor:
        """Centroids (K, D) from elsewhere, brought to where ``centres`` would put them."""


metrics: Registry[Metric] = Registry("metric", "distkmeans.metrics")
