"""Rows of the batch for codes that nobody uses: the same on every rank, and on one rank with the whole batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from distkmeans.exact.random import Stream
from distkmeans.nn.batch import Ranks
from distkmeans.schema import Range

NOBODY = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class Revival:
    """A code that no row chose in ``after`` steps becomes a random row of the batch, at most ``at_once`` codes a step.

    seed: of the draw, a pure function of seed, step and the row's number in the batch of all ranks.
    """

    after: Annotated[int, Range(1)] = 50
    at_once: Annotated[int, Range(1)] = 32
    seed: int = 0

    def words(self) -> tuple[int, int]:
        """What the draw is keyed by."""
        return Stream(self.seed, "revival").words()


REVIVAL = Revival()


def numbers(shape: torch.Size, ranks: Ranks, device: torch.device) -> Tensor:
    """The number of each row of (B, ..., D) in the batch of all ranks, int64 (B * ...,).

    Sample i of rank r is sample i * W + r, as DistributedSampler deals them: one rank with the same data set and W
    times the batch size meets the same rows under the same numbers.
    """
    inner = max(1, shape[1:-1].numel())
    row = torch.arange(shape[:-1].numel(), device=device)
    return (row // inner * ranks.size + ranks.rank) * inner + row % inner


def draw(rows: Tensor, keys: Tensor, count: int, ranks: Ranks) -> tuple[Tensor, Tensor]:
    """The ``count`` rows with the smallest keys on all ranks, in that order.

    rows: (n, D); keys: int64 (n,), distinct over ranks. Returns (count, D), 0 in the place of other ranks' rows, so
    that a sum over ranks completes it, and bool (count,): whether there were so many rows. One collective.
    """
    padded = torch.cat([keys, keys.new_full((count,), NOBODY)])
    mine, places = padded.topk(count, largest=False, sorted=True)
    chosen, slots = ranks.gather(mine).flatten().topk(count, largest=False, sorted=True)
    found = chosen != NOBODY
    own = found & (slots // count == ranks.rank)
    if not len(rows):
        return rows.new_zeros((count, rows.shape[1])), found
    taken = rows[places[slots % count].clamp(max=len(rows) - 1)]
    return torch.where(own[:, None], taken, 0), found
