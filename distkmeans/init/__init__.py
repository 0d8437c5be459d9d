"""Seeding: the first centroids. The same rows are picked at any world size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from torch import Tensor

from distkmeans.errors import InputError
from distkmeans.exact.random import Stream
from distkmeans.init.smallest import smallest_of
from distkmeans.problem import Problem
from distkmeans.registry import Registry
from distkmeans.schema import Range


@dataclass(frozen=True)
class Seeds:
    """centroids: (K, D), in the problem's type, alike on all ranks. rows: their global numbers, if they are rows."""

    centroids: Tensor
    rows: list[int] | None = None


class Seeding(Protocol):
    """Picks k centroids for a problem. ``draws`` says whether another seed would give other ones. A collective."""

    draws: bool

    def __call__(self, problem: Problem, k: int, seed: int) -> Seeds: ...


SampleSize = Annotated[int, Range(1)] | None

inits: Registry[Seeding] = Registry("init", "distkmeans.init")


def seeds_of(problem: Problem, numbers: Tensor) -> Seeds:
    """The rows of these global numbers (K,) as centroids. A collective."""
    values = problem.shard.fetch(problem.world, numbers)
    return Seeds(problem.centroids(values), numbers.tolist())


def check_sample(sample: int | None, k: int) -> None:
    """Raise InputError for a sample of fewer rows than clusters."""
    if sample is not None and sample < k:
        raise InputError(f"init.sample={sample}: fewer rows than k={k}; use at least k, better 50 times k")


def sampled(problem: Problem, sample: int | None, k: int, seed: int) -> Problem:
    """The problem itself, or that of ``sample`` of its rows, chosen by their numbers alone. A collective."""
    check_sample(sample, k)
    if sample is None or sample >= problem.shard.total:
        return problem
    shard = problem.shard
    stream = Stream(seed, "init/sample")
    chosen = smallest_of(problem.world, shard, lambda tile, numbers: stream.keys(numbers), sample)
    numbers = shard.numbers(slice(0, len(shard)))
    here = torch.isin(numbers, chosen, assume_unique=True).nonzero().flatten()
    return problem.subset(here, sample)
