"""A fitted model: what a run leaves behind, ready to be applied to new rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distkmeans.data.array import as_rows
from distkmeans.errors import InputError
from distkmeans.kernels.choose import choose
from distkmeans.metrics import Geometry, Metric
from distkmeans.metrics.geometry import assign_rows
from distkmeans.transforms import Transform


@dataclass(frozen=True)
class Model:
    """centroids: (K, D), in the space that the solver saw: after the transform.

    row_type: of the rows that it was fitted on, None where that is not known.
    """

    centroids: Tensor
    transformed: Transform
    metric: Metric
    row_type: torch.dtype | None = None

    @property
    def dims(self) -> int | None:
        """Columns that rows have before the transform; None where that is one which changes their number."""
        width = self.centroids.shape[1]
        return width if self._columns_after(width) == width else None

    def takes(self, columns: int) -> bool:
        """Whether rows of so many columns have those of the centroids after the transform."""
        return columns == self.dims if self.dims else self._columns_after(columns) == self.centroids.shape[1]

    def transform(self, x: Any) -> Any:
        """Rows (N, D) as stored, as the solver would see them. Raises InputError for rows of another width.

        float32, or float64 for float64 rows; as they are where neither the transform nor the metric changes rows.
        """
        rows = self.transformed(self._rows(x))
        return like(self.metric.prepare(rows), x)

    def predict(self, x: Any) -> Any:
        """The label of each row (N, D) as stored: the index of the truly nearest centroid, int32 (N,).

        Raises InputError for rows of another width, NaN, Inf, and what the metric has no answer for.
        """
        return like(assign(self.transformed(self._rows(x)), self.centroids, self.metric), x)

    def to_sklearn(self) -> Any:
        """A fitted ``sklearn.cluster.KMeans``, after the transform in a Pipeline where there is one.

        It predicts the same labels but for near ties, and needs scikit-learn alone. Raises InputError for a transform
        or metric that scikit-learn's KMeans has no equal of.
        """
        from distkmeans.to_sklearn import to_sklearn

        return to_sklearn(self)

    def _rows(self, x: Any) -> Tensor:
        rows = as_rows(x)
        if not self.takes(rows.shape[1]):
            raise InputError(f"x: {rows.shape[1]} columns; the model was fitted on {self.dims or 'others'}")
        return rows

    def _columns_after(self, columns: int) -> int | None:
        """How many the transform makes of so many; None where it takes no such rows."""
        try:
            return self.transformed(self.centroids.new_empty(0, columns)).shape[1]
        except Exception:  # whatever a transform makes of rows of another width
            return None


def assign(rows: Tensor, centroids: Tensor, metric: Metric) -> Tensor:
    """Labels (N,) of rows (N, D): the true argmin, lowest index on a tie. Raises InputError for NaN and Inf."""
    check_rows(rows, metric)
    check_rows(centroids, metric, "centroids")
    centroids = centroids.to(rows.device)
    if isinstance(metric, Geometry):
        return assign_rows(metric, rows, centroids).labels
    labels = torch.empty(len(rows), dtype=torch.int32, device=rows.device)
    choose(metric.prepare(rows), centroids).assign(centroids, labels)
    return labels


def placed(centroids: Tensor, metric: Metric) -> Tensor:
    """Centroids (K, D), float32 or float64, where the metric has them; those that only rounding keeps away stay."""
    there = metric.place(centroids)
    near = (there - centroids).abs() <= 2 * torch.finfo(centroids.dtype).eps * there.abs()
    return torch.where(near.all(1)[:, None], centroids, there) + 0.0


def check_rows(rows: Tensor, metric: Metric, what: str = "x") -> None:
    """Raise InputError for the first row of (N, D) that holds NaN or Inf, or that the metric has no answer for."""
    bad = ~torch.isfinite(rows).all(1)
    if bad.any():
        raise InputError(f"{what}: NaN or Inf in row {int(bad.nonzero()[0])}")
    refused, why = metric.refuse(rows)
    if refused.any():
        raise InputError(f"{what}: row {int(refused.nonzero()[0])}: {why}")


def like(result: Tensor, given: Any) -> Any:
    """A tensor for who gave a tensor, on its device; else a NumPy array."""
    return result.to(given.device) if isinstance(given, torch.Tensor) else result.cpu().numpy()
