"""silhouette: how much nearer a row's own cluster is than the next one, from all pairs of rows (Rousseeuw 1987)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from distkmeans.evaluate import scorers
from distkmeans.evaluate.distances import distances
from distkmeans.evaluate.sample import sample
from distkmeans.evaluate.subject import Subject, check_clusters
from distkmeans.exact import floats
from distkmeans.exact.random import Stream
from distkmeans.stats import safe_exponent

TILE_ELEMENTS, MOST_ROWS = 1 << 22, 256
"""Distances of a tile, and rows of it, at most: they depend on the number of rows alone, so that ranks cut alike."""


@scorers.register("silhouette")
class Silhouette:
    """The mean of (b - a) / max(a, b) over rows: scikit-learn's ``silhouette_score``.

    a: the mean distance to the other rows of the own cluster. b: the least mean distance to the rows of another one. A
    row that is alone in its cluster scores 0. Of all rows up to ``scores.silhouette_rows``; beyond, of a sample of so
    many, drawn by row number and seed. Weights are ignored. Each rank does a part of the pairs.
    """

    cheap, needs_truth = False, False

    def __call__(self, subject: Subject) -> float:
        subject.check_clusters()
        world = subject.problem.world
        stream = Stream(subject.seed, "evaluate/silhouette")
        rows, labels = sample(subject.problem, subject.labels, subject.options.silhouette_rows, stream)
        values = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        clusters = len(labels.unique())
        check_clusters(clusters, len(rows))
        with world.guard():
            sorted_rows = _Sorted.of(rows, labels)
            for number, tile in enumerate(sorted_rows.tiles()):
                if number % world.size == world.rank:
                    values[tile] = sorted_rows.silhouettes(tile)
        return math.fsum(world.sum_(values).tolist()) / len(values)


def silhouettes(x: Tensor, labels: Tensor) -> Tensor:
    """float64 (m,): the silhouette of each row among these rows, as scikit-learn's ``silhouette_samples``.

    x: (m, D). labels: integers (m,). O(m^2 D) time, O(m) memory. Local. Raises UndefinedError unless there are 2 to
    m - 1 clusters.
    """
    check_clusters(len(labels.unique()), len(x))
    rows = _Sorted.of(x, labels)
    values = torch.cat([rows.silhouettes(tile) for tile in rows.tiles()])
    return torch.empty_like(values).index_copy_(0, rows.order, values)


@dataclass(frozen=True)
class _Sorted:
    """Rows in the order of their clusters, so that a tile's rows are near each other and its distances do not cancel.

    rows: float64 (m, D), less their mean. order: int64 (m,), which rows they were. cluster: int64 (m,), 0 to C - 1.
    """

    rows: Tensor
    order: Tensor
    cluster: Tensor
    counts: Tensor

    @staticmethod
    def of(x: Tensor, labels: Tensor) -> _Sorted:
        _, cluster, counts = torch.unique(labels, return_inverse=True, return_counts=True)
        cluster, order = cluster.sort(stable=True)
        rows = x[order].to(torch.float64)
        rows = floats.scale(rows, safe_exponent(int(floats.exponent(rows.abs().max()))))
        return _Sorted(rows - rows.mean(0), order, cluster, counts)

    def tiles(self) -> Iterator[slice]:
        step = max(1, min(MOST_ROWS, TILE_ELEMENTS // len(self.rows)))
        return (slice(at, min(at + step, len(self.rows))) for at in range(0, len(self.rows), step))

    def silhouettes(self, tile: slice) -> Tensor:
        """float64 (B,), of a tile's rows."""
        own = self.cluster[tile]
        to_rows = distances(self.rows, self.rows[tile])
        sums = to_rows.new_zeros(len(self.counts), len(own)).index_add_(0, self.cluster, to_rows)
        here = torch.arange(len(own), device=own.device)
        a = sums[own, here] / (self.counts[own] - 1)
        means = sums.div_(self.counts[:, None])
        means[own, here] = torch.inf
        b = means.amin(0)
        return ((b - a) / torch.maximum(a, b)).nan_to_num(0.0)  # 0 / 0 for a row alone in its cluster
