"""Losses of rows and centroids that ``solver=gradient`` makes small: one file per loss."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from distkmeans.registry import Registry


class Loss(Protocol):
    """Differentiable in the centroids. It may use the labels, or weigh all centroids by itself."""

    def __call__(self, rows: Tensor, centroids: Tensor, labels: Tensor) -> Tensor:
        """What each row costs, (n,): float64 rows (n, D), centroids (K, D) and the nearest one's number, int64 (n,)."""


losses: Registry[Loss] = Registry("solver.loss", "distkmeans.losses")
