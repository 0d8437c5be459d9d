"""A bounded sample of rows with their labels, for pictures: the same rows at any world size."""

from __future__ import annotations

from torch import Tensor

from distkmeans.evaluate import sample as drawn
from distkmeans.exact.random import Stream
from distkmeans.problem import Problem

ROWS = 5000


def sample(problem: Problem, labels: Tensor, count: int = ROWS) -> tuple[Tensor, Tensor]:
    """float64 (m, D) rows and int64 (m,) labels on every rank, m <= count. A collective."""
    return drawn.sample(problem, labels, count, Stream(0, "report/sample"))
