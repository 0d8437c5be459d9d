"""Solvers: from the first centroids to the result, step by step over an explicit state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from distkmeans.problem import Problem
from distkmeans.registry import Registry


@dataclass(frozen=True)
class Record:
    """What one iteration did, over all ranks. inertia: of its labels and the centroids they were assigned to.

    moved: rows whose label changed, None where a solver does not keep all labels. shift: squared distance that the
    centroids moved together. judged: share of the rows that the kernel's fast pass left open. empty: clusters without
    rows. seconds: by rank 0's clock.
    """

    iteration: int
    inertia: float
    moved: int | None
    shift: float
    judged: float
    empty: int
    seconds: float


@dataclass(frozen=True)
class Solution:
    """centroids: (K, D). labels: (n,) of this rank's rows, the nearest of these centroids. inertia: of the two.

    converged: whether it ended before max_iter. kernel: what computed the labels. objective: what the solver made
    small, where that is not the inertia.
    """

    centroids: Tensor
    labels: Tensor
    inertia: float
    iterations: int
    converged: bool
    empty: int
    kernel: str
    objective: float | None = None

    @property
    def cost(self) -> float:
        """By which restarts are compared."""
        return self.inertia if self.objective is None else self.objective


class Solver(Protocol):
    """Improves centroids. A collective.

    seed: what it draws is a function of this; a solver that draws nothing takes it all the same.
    """

    def fit(
        self, problem: Problem, centroids: Tensor, on_record: Callable[[Record], None], seed: int = 0
    ) -> Solution: ...


solvers: Registry[Solver] = Registry("solver", "distkmeans.solvers")
