"""data=blobs: isotropic Gaussian clusters, as scikit-learn's ``make_blobs`` has them, made row by row.

Each value is a pure function of the random state and the row's number, so that every rank makes only its own rows and
there can be any number of them. The numbers are not those that ``make_blobs`` draws; their distribution is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from distkmeans.data import sources
from distkmeans.errors import InputError
from distkmeans.exact.random import Stream, permute
from distkmeans.schema import Range, listed

Count = Annotated[int, Range(1, 2**53)]
Deviation = Annotated[float, Range(0)]


@sources.register("blobs")
class Blobs:
    """float32 rows in Gaussian clusters.

    n_samples: how many rows in all, divided evenly, or a list with one number per cluster. n_features: columns.
    centers: how many clusters, or their (clusters, columns) centres. cluster_std: standard deviation, one or one per
    cluster. center_box: the interval from which random centres are drawn. shuffle: mix the clusters' rows. outliers:
    share of the rows that lie anywhere in outlier_box in place of their cluster; their class is -1.
    """

    def __init__(
        self,
        n_samples: Count | Sequence[Annotated[int, Range(0)]] = 10_000,
        n_features: Count = 2,
        centers: Count | Sequence[Sequence[float]] = 4,
        cluster_std: Deviation | Sequence[Deviation] = 1.0,
        center_box: Sequence[float] = (-10.0, 10.0),
        shuffle: bool = True,
        random_state: int = 0,
        outliers: Annotated[float, Range(0, 1)] = 0.0,
        outlier_box: Sequence[float] = (-100.0, 100.0),
    ) -> None:
        for key, box in (("center_box", center_box), ("outlier_box", outlier_box)):
            if len(box) != 2:
                raise InputError(f"data.{key}={box}: expected two numbers, the least and the largest coordinate")
        self.random_state, self.shuffle = random_state, shuffle
        self.outliers, self.outlier_box = outliers, outlier_box
        self.centers = _centers(centers, n_features, center_box, random_state)
        count, self.dims = self.centers.shape
        self.ends = _sizes(n_samples, count).cumsum(0)
        self.rows = int(self.ends[-1])
        self.std = _deviations(cluster_std, count)
        if self.rows < 1 or self.dims < 1:
            raise InputError(f"data.n_samples={n_samples}: no rows; expected at least 1 row and 1 column")

    def truth(self, start: int, stop: int) -> Tensor:
        """The cluster that each row was drawn from, -1 for outliers: int64 (stop - start,)."""
        rows = torch.arange(start, stop)
        return self._cluster(rows).masked_fill(self._is_outlier(rows), -1)

    def _cluster(self, rows: Tensor) -> Tensor:
        if self.shuffle:
            rows = permute(rows, self.rows, Stream(self.random_state, "blobs/order"))
        return torch.searchsorted(self.ends, rows, right=True)

    def _is_outlier(self, rows: Tensor) -> Tensor:
        return Stream(self.random_state, "blobs/outliers").uniform(rows) < self.outliers

    def read(self, start: int, stop: int) -> Tensor:
        """float32 (stop - start, D)."""
        values = torch.empty(stop - start, self.dims, dtype=torch.float32)
        stream, columns = Stream(self.random_state, "blobs/values"), torch.arange(self.dims)
        for first in range(start, stop, 1 << 16):
            last = min(stop, first + (1 << 16))
            rows = torch.arange(first, last)
            cluster, places = self._cluster(rows), rows[:, None] * self.dims + columns
            drawn = self.centers[cluster] + stream.normal(places) * self.std[cluster, None]
            if self.outliers:
                low, high = self.outlier_box
                anywhere = low + (high - low) * Stream(self.random_state, "blobs/anywhere").uniform(places)
                drawn = torch.where(self._is_outlier(rows)[:, None], anywhere, drawn)
            values[first - start : last - start] = drawn
        return values

    def name(self, row: int) -> str:
        return f"data=blobs, row {row}"


def _centers(centers: int | Sequence[Sequence[float]], dims: int, box: Sequence[float], random_state: int) -> Tensor:
    if isinstance(centers, int):
        places = torch.arange(centers * dims).view(centers, dims)
        return box[0] + (box[1] - box[0]) * Stream(random_state, "blobs/centers").uniform(places)
    widths = sorted({len(center) for center in centers})
    if len(widths) != 1:
        told = f"the centres have {listed([str(width) for width in widths], 'and')} columns" if widths else "none"
        raise InputError(f"data.centers: {told}; expected centres of one width")
    return torch.tensor([list(center) for center in centers], dtype=torch.float64)


def _sizes(n_samples: int | Sequence[int], count: int) -> Tensor:
    if isinstance(n_samples, int):
        sizes = torch.full((count,), n_samples // count)
        sizes[: n_samples % count] += 1
        return sizes
    sizes = torch.as_tensor(list(n_samples), dtype=torch.int64)
    if len(sizes) != count or (sizes < 0).any():
        raise InputError(f"data.n_samples: {len(sizes)} sizes for {count} clusters; one number of rows for each")
    return sizes


def _deviations(cluster_std: float | Sequence[float], count: int) -> Tensor:
    std = torch.as_tensor(cluster_std, dtype=torch.float64)
    if std.ndim and len(std) != count:
        raise InputError(
            f"data.cluster_std: {len(std)} deviations for {count} clusters; one number for each, or for all"
        )
    return std.expand(count)
