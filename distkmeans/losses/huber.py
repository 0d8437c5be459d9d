"""solver.loss=huber: squared near a centroid, linear far from it, so that outliers pull no harder than others.

Huber, Robust estimation of a location parameter (1964), of the distance r = |x - c|: r^2 / 2 up to delta, and
delta (r - delta / 2) beyond. The pull of a row, |d loss / d c|, is at most delta.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from distkmeans.losses import losses
from distkmeans.schema import Range


@losses.register("huber")
class Huber:
    """delta: distance, in units of the rows as the solver sees them, from which the loss is linear."""

    def __init__(self, delta: Annotated[float, Range(above=0)] = 1.0) -> None:
        self.delta = delta

    def __call__(self, rows: Tensor, centroids: Tensor, labels: Tensor) -> Tensor:
        square = (rows - centroids[labels]).square().sum(1)
        near = square <= self.delta**2
        distance = torch.where(near, self.delta**2, square).sqrt()  # no root of 0, whose slope is infinite
        return torch.where(near, square / 2, self.delta * (distance - self.delta / 2))
