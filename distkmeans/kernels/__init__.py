"""Assignment kernels: which centroid is nearest to each row.

Kernels are interchangeable: with ``exact=True`` every one of them publishes the same labels, the true argmin. They
differ in how they bound the error of their fast pass, and so in how many rows go to ``exact.arbiter``.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Kernel(Protocol):
    """Assigns the rows that it was made for, iteration after iteration."""

    name: str

    def assign(self, centroids: Tensor, labels: Tensor) -> int:
        """Write the label of each row into ``labels`` (N,); the number of rows that the fast pass left open."""
