"""Which kernel: by what is compiled, where the rows are, their shape, and what a sample of them takes."""

from __future__ import annotations

from torch import Tensor

from distkmeans import native
from distkmeans.kernels import Kernel
from distkmeans.kernels.dense import Dense, largest_of


def choose(
    rows: Tensor, centroids: Tensor, largest: float | None = None, tile_rows: int | None = None, exact: bool = True
) -> Kernel:
    """The kernel for these rows: (N, D) as stored, on their device. ``centroids`` (K, D) are the first to come.

    largest: absolute value that no row, of any rank, and no later centroid exceeds; None where these are all.
    """
    reach = max(largest_of(rows) if largest is None else largest, largest_of(centroids))
    return Dense(rows, centroids, reach, tile_rows, exact)


_ = native
