"""transform=none: rows as they are stored."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from distkmeans.data.columns import Columns
from distkmeans.data.shard import Shard
from distkmeans.transforms import transforms
from distkmeans.world import World


@transforms.register("none")
class Identity:
    """Leaves rows alone, their type included."""

    name = "none"

    def fit(self, world: World, shard: Shard, columns: Columns) -> None:
        """Nothing to learn."""

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Nothing to take back."""

    def __call__(self, rows: Tensor) -> Tensor:
        return rows

    def to_sklearn(self, dims: int) -> list[Any]:
        """No step."""
        return []
