"""What "near" and "centre" mean: a pair that a solver plugs in.

``Metric`` is for squared Euclidean distances between prepared rows and centroids; ``geometry.Geometry`` is for all
others, of which ``own.Own`` makes one from a function of the user's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from distkmeans.exact.fixed_point import Grid
from distkmeans.metrics.geometry import Geometry
from distkmeans.metrics.own import Own, adopted, maker_of
from distkmeans.registry import Maker, Registry

__all__ = ["Geometry", "Metric", "Own", "metric_of", "metrics"]


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


class Metrics(Registry[Any]):
    """The metrics by name. A user's own may be a function (rows, centroids) alone, or have a method ``distance``."""

    def register(self, name: str) -> Callable[[Maker], Maker]:
        keep = super().register(name)

        def take(maker: Maker) -> Maker:
            keep(maker_of(maker, name))
            return maker

        return take

    def build(self, name: str, options: Mapping[str, Any] | None = None, prefix: str | None = None) -> Any:
        return adopted(super().build(name, options, prefix), name)


metrics = Metrics("metric", "distkmeans.metrics")


def metric_of(given: Any) -> Any:
    """The metric of a name, a function, a pair (distance, centre), or an object that is or has one; or InputError."""
    return metrics.build(given) if isinstance(given, str) else adopted(given)
