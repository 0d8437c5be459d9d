"""Centroids that the caller hands over: an array, or a function that makes one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from distkmeans.data.array import as_rows
from distkmeans.errors import InputError
from distkmeans.init import Seeds
from distkmeans.problem import Problem

REACH = 400
"""Powers of two by which a centroid may exceed the rows: squared distances stay numbers."""


class Given:
    """values: (K, D). what: how to name them to the user. Rank 0's are used on all ranks."""

    draws = False

    def __init__(self, values: Any, what: str = "init") -> None:
        self.values, self.what = values, what

    def __call__(self, problem: Problem, k: int, seed: int) -> Seeds:
        with problem.world.guard():
            centroids = self._checked(as_rows(self.values, self.what), problem, k)
        return Seeds(problem.world.share(centroids.cpu()).to(problem.shard.rows.device))

    def _checked(self, values: Tensor, problem: Problem, k: int) -> Tensor:
        check_shape(values, k, problem.shard.dims, self.what)
        centroids = problem.centroids(values.to(torch.float64))
        largest = 2.0 ** min(1023, max(problem.columns.exponent, 0) + REACH)
        bad = ~(torch.isfinite(centroids) & (centroids.abs() < largest)).all(1)
        if bad.any():
            raise InputError(f"{self.what}: NaN, Inf or too large a value in row {int(bad.nonzero()[0])}")
        refused, why = problem.metric.refuse(centroids)
        if refused.any():
            raise InputError(f"{self.what}: row {int(refused.nonzero()[0])}: {why}")
        return centroids


def check_shape(values: Tensor, k: int, dims: int, what: str) -> None:
    """Raise InputError unless the centroids (K, D) are k of ``dims`` columns."""
    if tuple(values.shape) != (k, dims):
        raise InputError(f"{what}: shape {tuple(values.shape)}; expected k={k} rows of {dims} columns")


class Called:
    """function(rows, k, seed) -> (K, D): called on every rank with that rank's rows (n, D); rank 0's answer is used."""

    draws = True

    def __init__(self, function: Callable[[Tensor, int, int], Any]) -> None:
        self.function = function

    def __call__(self, problem: Problem, k: int, seed: int) -> Seeds:
        with problem.world.guard():
            values = self.function(problem.shard.rows, k, seed)
        return Given(values, "init")(problem, k, seed)
