"""What is done to rows before anything sees them: float64 in a fixed order, rounded once, fitted over all ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from distkmeans.data.columns import Columns, scan
from distkmeans.data.shard import Shard
from distkmeans.registry import Registry
from distkmeans.world import World


class Transform(Protocol):
    """A row-wise map. ``tensors`` is all that it learned: what is saved beside the centroids."""

    name: str

    def fit(self, world: World, shard: Shard, columns: Columns) -> None:
        """Learn from all ranks' rows. A collective."""

    def tensors(self) -> dict[str, Tensor]:
        """float64 tensors that ``restore`` takes back."""

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Become what another fitted transform was."""

    def __call__(self, rows: Tensor) -> Tensor:
        """(n, D) rows as stored; float32 (n, D'), or float64 for float64 rows."""


transforms: Registry[Transform] = Registry("transform", "distkmeans.transforms")


def rounded(values: Tensor, like: torch.dtype) -> Tensor:
    """float64 results in the type that transformed rows of type ``like`` have."""
    return values if like == torch.float64 else values.to(torch.float32)


def fitted(world: World, transform: Transform, shard: Shard) -> Shard:
    """The shard after the transform has learned from all ranks' rows. A collective; raises InputError on all ranks."""
    if transform.name == "none":
        return shard
    transform.fit(world, shard, scan(world, shard))
    with world.guard():
        return apply(transform, shard)


def apply(transform: Callable[[Tensor], Tensor], shard: Shard) -> Shard:
    """The shard with its rows transformed, tile by tile; the shard itself for a transform that leaves rows alone."""
    probe = shard.rows[:0]
    example = transform(probe)
    if example is probe:
        return shard
    rows = example.new_empty(len(shard), example.shape[1])
    for tile in shard.tiles():
        rows[tile] = transform(shard.rows[tile])
    return shard.with_rows(rows)
