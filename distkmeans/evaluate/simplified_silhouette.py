"""simplified_silhouette: the silhouette with distances to centroids in place of rows (Hruschka et al. 2004)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distkmeans.evaluate import scorers
from distkmeans.evaluate.subject import Subject
from distkmeans.evaluate.totals import totals
from distkmeans.exact import floats
from distkmeans.kernels.rival import Rival
from distkmeans.stats import distances, safe_exponent

BLOCK_ROWS = 1 << 18
"""Rows that go through at a time: what is kept of them is small beside all rows."""


@scorers.register("simplified_silhouette")
class SimplifiedSilhouette:
    """The mean of (b - a) / max(a, b) over all rows, whose weights are ignored.

    a: a row's distance to its own centroid. b: that to the nearest of the other centroids that have rows, which is
    found as labels are: over the real numbers. A row that is alone in its cluster scores 0, and so does one for which
    a and b are 0. Costs about one pass of the dense kernel. See Vendramin, Campello and Hruschka 2010.
    """

    cheap, needs_truth = True, False

    def __call__(self, subject: Subject) -> float:
        subject.check_clusters()
        shard, world = subject.problem.shard, subject.problem.world
        values = torch.empty(len(shard), dtype=torch.float64, device=shard.rows.device)
        with world.guard():
            judge = _Judge.of(subject)
            for block in shard.tiles(BLOCK_ROWS):
                cluster = subject.place[subject.labels[block].to(torch.int64)]
                values[block] = judge.silhouettes(shard.rows[block], cluster)
        together = torch.zeros(len(values), dtype=torch.int64, device=values.device)
        return float(totals(world, values, together, 1, shard.total)) / shard.total


@dataclass(frozen=True)
class _Judge:
    """distinct: (K', D), the different ones of the C centroids with rows. which: int64 (C,), its place among them.

    alone: bool (C,), clusters of one row. twin: bool (C,), where a centroid is another cluster's too: b is at most a.
    largest: absolute value that nothing exceeds. exponent: of the scale at which distances are taken.
    """

    distinct: Tensor
    which: Tensor
    alone: Tensor
    twin: Tensor
    largest: float
    exponent: int

    @staticmethod
    def of(subject: Subject) -> _Judge:
        centroids = subject.centroids[subject.used]
        distinct, which, members = torch.unique(centroids, dim=0, return_inverse=True, return_counts=True)
        alone, twin = subject.counts[subject.used] == 1, members[which] > 1
        largest = max(float(subject.problem.columns.largest.max()), float(centroids.abs().max()))
        exponent = safe_exponent(int(floats.exponent(torch.tensor(largest, dtype=torch.float64))))
        return _Judge(distinct, which, alone, twin, largest, exponent)

    def silhouettes(self, rows: Tensor, cluster: Tensor) -> Tensor:
        """float64 (n,), of rows (n, D) and their clusters, int64 (n,)."""
        if len(self.distinct) == 1:
            return torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        own = self.which[cluster]
        other = torch.empty_like(own)
        Rival(rows, self.distinct, self.largest, own).assign(self.distinct, other)
        a, b = (self._distances(rows, which) for which in (own, other))
        values = ((b - a) / torch.maximum(a, b)).nan_to_num(0.0)
        values = torch.where(self.twin[cluster], values.clamp(max=0.0), values)
        return values.masked_fill_(self.alone[cluster], 0.0)

    def _distances(self, rows: Tensor, which: Tensor) -> Tensor:
        """float64 (n,): of rows (n, D) from centroids, int64 (n,), at the common scale, in a fixed order."""
        return distances(rows, self.distinct, which.to(torch.int32), self.exponent).sqrt_()
