"""Solvers that learn from one batch after another, and so from a loader whose rows are never held together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from distkmeans.data.shard import Shard
from distkmeans.init import Seeding
from distkmeans.world import World


@dataclass(frozen=True)
class Task:
    """k centroids, seeded from the first batch. metric: euclidean or cosine. exact: labels are proved."""

    k: int
    seeding: Seeding
    metric: Any
    seed: int = 0
    exact: bool = True


class Learner(Protocol):
    """What has been learned so far. converged: no further batch is wanted. All methods are collectives."""

    converged: bool

    def learn(self, world: World, batch: Shard) -> float:
        """Learn from a batch, of which the shard is this rank's part; its loss, before the centroids moved."""

    def end_pass(self, rows: int) -> None:
        """Hear that a pass over the loader, of so many rows over all ranks, is over."""

    def centroids(self) -> Tensor:
        """(K, D), alike on all ranks."""


class LearningSolver(Protocol):
    """A solver that can serve a loader. max_iter: passes at most."""

    max_iter: int

    def learner(self, task: Task) -> Learner: ...


def can_learn(solver: Any) -> bool:
    """Whether a solver can learn from batches."""
    return hasattr(solver, "learner")
