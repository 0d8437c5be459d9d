"""What is to be judged: rows, their labels, and what several scores have in common, found once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor

from distkmeans.evaluate.contingency import Contingency, contingency
from distkmeans.evaluate.spread import Spread, spread
from distkmeans.problem import Problem
from distkmeans.schema import Range


class UndefinedError(Exception):
    """A clustering has no such score; the message says why. Raised on every rank."""


@dataclass(frozen=True)
class ScoreOptions:
    """silhouette_rows: of so many rows at most is the silhouette: of all of them, or of a sample.

    stability_seeds: further seeds that the stability compares.
    """

    silhouette_rows: Annotated[int, Range(3, 1_000_000)] = 10_000
    stability_seeds: Annotated[int, Range(1)] = 4


@dataclass(frozen=True)
class Subject:
    """A clustering of a problem's rows.

    labels: (n,) of this rank's rows, each the number of a centroid. centroids: (K, D), alike on all ranks; of the
    clusters without rows they do not count. truth: int64 (n,), the number of each row's true class, or None.
    again: from another seed to the labels (n,) that the same plan finds with it, where there is a plan; a collective.
    seed: of what is drawn.
    """

    problem: Problem
    labels: Tensor
    centroids: Tensor
    truth: Tensor | None = None
    again: Callable[[int], Tensor] | None = None
    seed: int = 0
    options: ScoreOptions = field(default_factory=ScoreOptions)

    @functools.cached_property
    def counts(self) -> Tensor:
        """Rows of each cluster over all ranks: int64 (K,). First asked for by all ranks together."""
        with self.problem.world.guard():
            counts = torch.bincount(self.labels.to(torch.int64), minlength=len(self.centroids))
        return self.problem.world.sum_(counts)

    @functools.cached_property
    def used(self) -> Tensor:
        """The clusters with rows: int64 (C,), ascending."""
        return self.counts.nonzero().flatten()

    @functools.cached_property
    def place(self) -> Tensor:
        """Of a cluster's number its place among those with rows: int64 (K,)."""
        place = torch.full_like(self.counts, -1)
        place[self.used] = torch.arange(len(self.used), device=place.device)
        return place

    @functools.cached_property
    def spread(self) -> Spread:
        """Means of the clusters with rows, and distances from them."""
        self.check_clusters()
        return spread(self.problem, self.labels, self.place, self.counts[self.used])

    @functools.cached_property
    def against_truth(self) -> Contingency:
        """Rows of each true class and cluster."""
        assert self.truth is not None
        return contingency(self.problem.world, self.truth, self.labels)

    def check_clusters(self) -> None:
        """Raise UndefinedError unless there are 2 to N - 1 clusters with rows. A collective."""
        check_clusters(len(self.used), self.problem.shard.total)


def check_clusters(clusters: int, rows: int) -> None:
    """Raise UndefinedError unless so many clusters with rows can be compared: 2 to rows - 1, as in scikit-learn."""
    if not 2 <= clusters < rows:
        words = "cluster has" if clusters == 1 else "clusters have"
        limits = f"2 to {rows - 1} can be compared" if rows > 2 else "it takes 3 rows or more to compare clusters"
        raise UndefinedError(f"{clusters} {words} the {rows} rows; {limits}")
