"""What is to be clustered: the rows of all ranks, what is known of them, and what near and centre mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from distkmeans.data.columns import Columns, Moments, scan
from distkmeans.data.shard import Shard
from distkmeans.errors import InputError
from distkmeans.exact.fixed_point import Grid
from distkmeans.metrics import Metric
from distkmeans.transforms import apply
from distkmeans.world import World

Precision = Literal["exact", "fast"]
"""exact: every label is proved. fast: the proofs are skipped, and results may differ in near ties."""
Memory = Literal["auto", "low"]
"""low: nothing of the size of the rows is kept beside them, at some speed. The results are the same."""


@dataclass(frozen=True)
class Problem:
    """columns, moments: of the rows as the solver sees them. grid: where sums of weight * (row, 1) are exact.

    exact: labels are proved. frugal: nothing of the size of the rows is kept beside them.
    """

    world: World
    shard: Shard
    metric: Metric
    columns: Columns
    moments: Moments
    grid: Grid
    exact: bool = True
    frugal: bool = False

    def centroids(self, values: Tensor) -> Tensor:
        """float64 (K, D) values as centroids: the problem's type and device, placed by its metric."""
        stored = values.to(self.shard.rows.device, self.shard.centroid_type)
        return self.metric.place(stored) + 0.0

    @property
    def bit_identical(self) -> bool:
        """Whether the results are the same bytes at any number of ranks, as far as rows and metric are concerned."""
        return self.exact and getattr(self.metric, "bit_identical", True)

    def subset(self, which: Tensor, total: int) -> Problem:
        """The problem of some rows: local positions (ascending), ``total`` of them over all ranks."""
        return replace(self, shard=self.shard.subset(which, total))


def pose(world: World, shard: Shard, metric: Metric, exact: bool = True) -> Problem:
    """Prepare and examine the rows. Raises the same InputError on all ranks. A collective."""
    columns = scan(world, shard)
    with world.guard():
        refuse(metric, shard)
        prepared = apply(metric.prepare, shard)
    if prepared is not shard:
        shard, columns = prepared, scan(world, prepared)
    return Problem(world, shard, metric, columns, Moments(world, shard, columns), columns.grid(), exact)


def refuse(metric: Metric, shard: Shard) -> None:
    """Raise InputError for the first row for which the metric has no answer."""
    bad, why = metric.refuse(shard.rows)
    if bad.any():
        number = int(shard.numbers_of(bad.nonzero()[0, 0]))
        raise InputError(f"{shard.name(number)}: {why}")


def check_k(k: int, total: int) -> None:
    """Raise InputError where there are more clusters than rows."""
    if k > total:
        raise InputError(f"k={k}: more clusters than the {total} rows; choose k of at most {total}")
