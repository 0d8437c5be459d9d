"""Metrics that are not the squared Euclidean distance: each brings its own labels, centres and objective."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from distkmeans.data.columns import Columns
from distkmeans.data.shard import Shard
from distkmeans.exact.fixed_point import Grid
from distkmeans.world import World

TILE_ELEMENTS = 1 << 20
"""float64 elements of the temporaries of a tile, about."""


@dataclass(frozen=True)
class Assigned:
    """labels: int64 (n,). costs: float64 (n,), of each row and its centroid. judged: rows the fast pass left open."""

    labels: Tensor
    costs: Tensor
    judged: int


@dataclass(frozen=True)
class Members:
    """Which rows belong to which cluster. labels: int64 (n,) of this rank's rows. centroids: (K, D), the last ones.

    touched: bool (K,), clusters whose rows have changed since; the others' centres need not be taken anew.
    sums: exact sums of weight * (row, 1), int64 (K, limbs, D + 1) on ``grid``, over all ranks. A collective.
    """

    world: World
    shard: Shard
    columns: Columns
    grid: Grid
    labels: Tensor
    centroids: Tensor
    touched: Tensor
    sums: Callable[[], Tensor]


class Geometry(ABC):
    """A metric with a distance and a centre of its own. Solvers and seedings say whether they serve one.

    name: what messages call it. objective: what the inertia is, in words. bit_identical: whether its results are the
    same bytes at any number of ranks. unit_centroids: they have length 1, whatever that of the rows.
    """

    name = "own"
    objective = "weighted sum of distances"
    bit_identical = True
    unit_centroids = False

    def prepare(self, rows: Tensor) -> Tensor:
        """Rows (n, D) as the solver shall see them."""
        return rows

    def refuse(self, rows: Tensor) -> tuple[Tensor, str]:
        """Which rows (n,) the metric has no answer for, and why."""
        return torch.zeros(len(rows), dtype=torch.bool, device=rows.device), ""

    def place(self, centroids: Tensor) -> Tensor:
        """Centroids (K, D) from elsewhere, brought to where ``recentre`` would put them."""
        return centroids

    def row_elements(self, clusters: int, dims: int) -> int:
        """float64 elements of temporaries that ``assign`` needs for each row."""
        return max(clusters, dims)

    @abstractmethod
    def assign(self, rows: Tensor, centroids: Tensor, exact: bool) -> Assigned:
        """The nearest of the centroids (K, D) for each row (n, D) of a tile; ``exact`` for a proof."""

    @abstractmethod
    def costs(self, rows: Tensor, centroids: Tensor) -> Tensor:
        """float64 (n, m): what each of the rows (n, D) would cost with each of the centroids (m, D)."""

    def apart(self, rows: Tensor, costs: Tensor) -> Tensor:
        """How far rows (n, D) are from where they cost least, 0 or more, from their float64 costs (n,) or (n, m).

        Seeding draws by it, and an empty cluster takes the row where it is largest.
        """
        return costs

    def nearer(self, rows: Tensor, centroids: Tensor, levels: Tensor) -> Tensor:
        """bool (n,): which rows may be less ``apart`` from one of the centroids than their levels (n,). A fast pass."""
        return torch.ones(len(rows), dtype=torch.bool, device=rows.device)

    @abstractmethod
    def recentre(self, members: Members) -> Tensor:
        """Centres (K, D) of the touched clusters; NaN rows for clusters without one. A collective."""


def assign_rows(
    metric: Geometry, rows: Tensor, centroids: Tensor, exact: bool = True, tile_rows: int | None = None
) -> Assigned:
    """``metric.assign``, tile by tile. labels: int32, or int64 where K needs it."""
    clusters, count = len(centroids), len(rows)
    step = tile_rows or max(1, TILE_ELEMENTS // metric.row_elements(clusters, rows.shape[1]))
    labels = torch.empty(count, dtype=torch.int32 if clusters <= 2**31 else torch.int64, device=rows.device)
    costs = torch.empty(count, dtype=torch.float64, device=rows.device)
    judged = 0
    for tile in (slice(at, at + step) for at in range(0, count, step)):
        found = metric.assign(rows[tile], centroids, exact)
        labels[tile], costs[tile] = found.labels, found.costs
        judged += found.judged
    return Assigned(labels, costs, judged)
