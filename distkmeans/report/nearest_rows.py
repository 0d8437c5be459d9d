"""The rows nearest to the centroids of the largest clusters: the same rows at any world size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distkmeans import native
from distkmeans.exact import floats
from distkmeans.metrics import Geometry
from distkmeans.problem import Problem
from distkmeans.stats import row_costs, safe_exponent

CLUSTERS, EACH = 50, 5
"""Clusters of which the nearest rows are looked for, the largest, and how many of each."""
ORDINARY = 40
"""Exponents of values whose squares are ordinary float32 numbers."""
TILE_ROWS, TILE_ELEMENTS = 1 << 16, 1 << 22
"""Rows of a tile, and values of them: what is copied at a time."""


@dataclass(frozen=True)
class NearestRows:
    """numbers: the global rows of a cluster that are nearest to its centroid, nearest first, ties by row number.

    distances: theirs, Euclidean, in the space of the centroids; of a metric with costs of its own, these. size: rows of
    the cluster.
    """

    cluster: int
    size: int
    numbers: list[int]
    distances: list[float]


def nearest_rows(
    problem: Problem, centroids: Tensor, labels: Tensor, sizes: Tensor, each: int = EACH, clusters: int = CLUSTERS
) -> list[NearestRows]:
    """Of the largest clusters, ties by cluster number, the ``each`` nearest rows. A collective.

    centroids: (K, D). labels: (n,) of this rank's rows. sizes: int64 (K,), rows per cluster over all ranks. Distances
    are float64 sums in a fixed order. At most ``clusters * each`` entries of every rank cross the network.
    """
    order = torch.argsort(sizes, descending=True, stable=True)[:clusters]
    shown = order[sizes[order] > 0]
    exponent = safe_exponent(problem.columns.exponent)
    with problem.world.guard():
        places = torch.full((len(centroids),), -1, dtype=torch.int64, device=labels.device)
        places[shown] = torch.arange(len(shown), device=labels.device)
        mine = _Search(problem, centroids, labels, places, exponent).nearest(each)
    table = _first(problem.world.concat(mine), each).cpu()
    costs = _costs(table[:, 1])
    if not isinstance(problem.metric, Geometry):
        costs = floats.scale(costs.sqrt(), -exponent)
    return [
        NearestRows(cluster, int(sizes[cluster]), table[at, 2].tolist(), costs[at].tolist())
        for place, cluster in enumerate(shown.tolist())
        for at in [table[:, 0] == place]
    ]


@dataclass(frozen=True)
class _Search:
    """places: int64 (K,), where a cluster stands among those that are shown, -1 for the others.

    Tables are int64 (m, 3): place, bits of the cost (they sort as the number does), row number.
    """

    problem: Problem
    centroids: Tensor
    labels: Tensor
    places: Tensor
    exponent: int

    def nearest(self, each: int) -> Tensor:
        """The table of this rank's nearest rows."""
        table = self.labels.new_empty(0, 3, dtype=torch.int64)
        step = max(1, min(TILE_ROWS, TILE_ELEMENTS // self.problem.shard.dims))
        for tile in self.problem.shard.tiles(step):
            local = torch.arange(tile.start, tile.stop, device=self.labels.device)
            local = local[self.places[self.labels[tile].to(torch.int64)] >= 0]
            table = _first(torch.cat([table, self._table(self._near(local, each))]), each)
        return table

    def _table(self, local: Tensor) -> Tensor:
        shard, labels, metric = self.problem.shard, self.labels[local], self.problem.metric
        if isinstance(metric, Geometry):
            costs = own_costs(metric, shard.rows[local], self.centroids, labels)
        else:
            costs = row_costs(shard.subset(local, len(local)), self.centroids, labels, self.exponent)
        return torch.stack([self.places[labels.to(torch.int64)], _bits(costs), shard.numbers_of(local)], dim=1)

    def _near(self, local: Tensor, each: int) -> Tensor:
        """Of local rows those that may be among the nearest of their cluster: by rough distances."""
        rows = self.problem.shard.rows
        compiled = None if isinstance(self.problem.metric, Geometry) else native.library_for(rows)
        narrow = rows.dtype != torch.float64 and rows.stride(1) == 1 and self.labels.dtype == torch.int32
        if compiled is None or not narrow or abs(self.problem.columns.exponent) > ORDINARY or not len(local):
            return local
        rough = compiled.costs(rows[local], self.centroids, self.labels[local]).to(torch.float64)
        places = self.places[self.labels[local].to(torch.int64)]
        best = _first(torch.stack([places, _bits(rough), local], dim=1), each)
        last = torch.zeros(len(self.places), dtype=torch.float64)
        last.scatter_reduce_(0, best[:, 0], _costs(best[:, 1]), "amax")
        # a rough distance errs by (D / 8 + 40) 2**-24 of itself at most, on either side, but for underflow
        most = last * (1 + 4 * (rows.shape[1] + 40) * 2.0**-24) + rows.shape[1] * 2.0**-110
        return local[rough <= most[places]]


def _first(table: Tensor, each: int) -> Tensor:
    """The first ``each`` entries of every place, in the order of (place, distance, row number)."""
    for column in (2, 1, 0):  # stable, so that the last counts most
        table = table[torch.argsort(table[:, column], stable=True)]
    places = table[:, 0].contiguous()
    return table[torch.arange(len(table), device=table.device) - torch.searchsorted(places, places) < each]


def own_costs(metric: Geometry, rows: Tensor, centroids: Tensor, labels: Tensor) -> Tensor:
    """float64 (n,): what each of the rows (n, D) costs with the centroid of its label (n,)."""
    costs = torch.empty(len(rows), dtype=torch.float64, device=rows.device)
    for cluster in labels.unique().tolist():
        members = labels == cluster
        costs[members] = metric.costs(rows[members], centroids[cluster : cluster + 1])[:, 0]
    return costs


def _bits(costs: Tensor) -> Tensor:
    """float64 as int64 that sort alike."""
    return _turned((costs + 0.0).view(torch.int64))


def _costs(bits: Tensor) -> Tensor:
    return _turned(bits).view(torch.float64)


def _turned(bits: Tensor) -> Tensor:
    """Of negative numbers all bits but the sign turned round; what undoes itself."""
    return bits ^ ((bits >> 63) & 0x7FFFFFFFFFFFFFFF)
