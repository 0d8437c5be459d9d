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
    def dims(self) -> int:
        """Columns that rows have before the transform."""
        return len(self.transformed.tensors().get("mean", self.centroids[0]))

    def transform(self, x: Any) -> Any:
        """Rows (N, D) as stored, as the solver would see them: float32, or float64 for float64 rows."""
        rows = self.transformed(self._rows(x))
        return like(self.metric.prepare(rows), x)

    def predict(self, x: Any) -> Any:
        """The label of each row (N, D) as stored: the index of the truly nearest centroid, int32 (N,)."""
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
        if rows.shape[1] != self.dims:
            raise InputError(f"x: {rows.shape[1]} columns; the model was fitted on {self.dims}")
        return rows


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
