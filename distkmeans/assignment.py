"""Labels and distances of one block of rows after another: a model applied to more rows than memory holds."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from distkmeans.data.shard import Shard
from distkmeans.errors import InputError
from distkmeans.kernels import Kernel
from distkmeans.kernels.choose import again, choose
from distkmeans.kernels.dense import largest_of
from distkmeans.metrics import Geometry
from distkmeans.metrics.geometry import assign_rows
from distkmeans.model import Model
from distkmeans.problem import refuse
from distkmeans.stats import row_costs
from distkmeans.transforms import apply


class Assignment:
    """Labels as ``Model.predict`` gives them, and distances; the first block chooses the kernel for all.

    name: how to tell a user about a global row.
    """

    def __init__(self, model: Model, device: torch.device, name: Callable[[int], str]) -> None:
        self.model, self.name = model, name
        self.centroids = model.centroids.to(device)
        self._kernel: Kernel | None = None

    def __call__(self, rows: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Of rows (n, D) as stored, from global row ``start`` on: labels int32 (n,), and distances float64 (n,).

        Distances are in the space that the solver saw: |x - c|^2, summed in float64 in a fixed order, so that a row has
        the same bits wherever it is computed; for a metric of another kind, what it minimises. Raises InputError,
        naming the row, for NaN, Inf and what the metric has no answer for.
        """
        model = self.model
        shard = Shard(rows, start, start + len(rows), None, self.name)
        refuse_infinite(shard, "remove or mend that row")
        stored, shard = shard, apply(model.transformed, shard)
        if shard is not stored:
            refuse_infinite(shard, "too large for the transform")
        refuse(model.metric, shard)
        shard = apply(model.metric.prepare, shard)
        if isinstance(model.metric, Geometry):
            found = assign_rows(model.metric, shard.rows, self.centroids)
            return found.labels, found.costs
        labels = torch.empty(len(rows), dtype=torch.int32, device=rows.device)
        if len(rows):
            self._kernel = self._next_kernel(shard.rows)
            self._kernel.assign(self.centroids, labels)
        return labels, row_costs(shard, self.centroids, labels)

    @property
    def kernel(self) -> str:
        """What computes the labels."""
        return self._kernel.name if self._kernel else "none"

    def _next_kernel(self, rows: Tensor) -> Kernel:
        return again(self._kernel, rows, self.centroids) if self._kernel else choose(rows, self.centroids)


def refuse_infinite(shard: Shard, remedy: str) -> None:
    """Raise InputError for the first row that holds NaN or Inf."""
    if math.isfinite(largest_of(shard.rows)):  # NaN too comes through its minimum and maximum
        return
    for tile in shard.tiles():
        bad = ~torch.isfinite(shard.rows[tile])
        if bad.any():
            row, column = bad.nonzero()[0].tolist()
            value = float(shard.rows[tile][row, column])
            raise InputError(f"{shard.name(shard.start + tile.start + row)}: {value} in column {column}; {remedy}")
