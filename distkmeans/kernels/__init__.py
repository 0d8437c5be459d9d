"""Assignment kernels: which centroid is nearest to each row.

Kernels are interchangeable: with ``exact=True`` every one of them publishes the same labels, the true argmin. They
differ in how they bound the error of their fast pass, and so in how many rows go to ``exact.arbiter``.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from distkmeans.kernels.dense import Dense


class Kernel(Protocol):
    """Assigns the rows that it was made for, iteration after iteration."""

    name: str

    def assign(self, centroids: Tensor, labels: Tensor) -> int:
        """Write the label of each row into ``labels`` (N,); the number of rows that the fast pass left open."""


def choose(
    rows: Tensor, centroids: Tensor, largest: float | None = None, tile_rows: int | None = None, exact: bool = True
) -> Kernel:
    """The kernel for these rows: (N, D) as stored, on their device. ``centroids`` (K, D) are the first to come.

    largest: absolute value that no centroid to come exceeds; None where none but these will come.
    """
    reach = max(largest_of(rows), largest_of(centroids), largest or 0.0)
    return Dense(rows, centroids, reach, tile_rows, exact)


def largest_of(values: Tensor) -> float:
    """Largest absolute value of a tensor of any type that rows may have, 0 for an empty one."""
    if not values.numel():
        return 0.0
    low, high = torch.aminmax(values)
    return max(abs(float(low)), abs(float(high)))
