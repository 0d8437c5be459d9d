"""init=random: k distinct rows, drawn in proportion to the weights."""

from __future__ import annotations

import torch
from torch import Tensor

from distkmeans.errors import InputError
from distkmeans.exact.random import Stream
from distkmeans.init import SampleSize, Seeds, inits, sampled, seeds_of
from distkmeans.init.smallest import NEVER, smallest_of
from distkmeans.problem import Problem


@inits.register("random")
class Random:
    """sample: seed from so many rows, drawn at random; None for all."""

    draws = True

    def __init__(self, sample: SampleSize = None) -> None:
        self.sample = sample

    def __call__(self, problem: Problem, k: int, seed: int) -> Seeds:
        numbers = draw_rows(sampled(problem, self.sample, k, seed), k, Stream(seed, "init/random"))
        return seeds_of(problem, numbers)


def draw_rows(problem: Problem, count: int, stream: Stream, without: Tensor | None = None) -> Tensor:
    """``count`` distinct global row numbers, in proportion to the weights, none of ``without``. A collective.

    With weights the keys are exponential variables over the weight (Efraimidis and Spirakis 2006); their bit patterns
    sort as the numbers do.
    """
    weights = problem.shard.weights

    def keys_of(tile: slice, numbers: Tensor) -> Tensor:
        if weights is None:
            keys = stream.keys(numbers) >> 1
        else:
            keys = (stream.exponential(numbers) / weights[tile].to(torch.float64)).view(torch.int64)
            keys = torch.where(weights[tile] > 0, keys, NEVER)
        return keys if without is None else keys.masked_fill(torch.isin(numbers, without), NEVER)

    found = smallest_of(problem.world, problem.shard, keys_of, count)
    if len(found) < count:
        taken = 0 if without is None else len(without)
        raise InputError(f"k={count + taken}: only {len(found) + taken} rows have a weight above 0; choose a smaller k")
    return found
