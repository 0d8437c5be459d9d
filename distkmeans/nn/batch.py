"""One batch, spread over ranks: sums over all of it, and means whose gradients DistributedDataParallel gets right.

The only file of ``distkmeans.nn`` that names torch.distributed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor

from distkmeans.errors import InputError

Group: TypeAlias = "dist.ProcessGroup | None"


@dataclass(frozen=True)
class Ranks:
    """The ranks that hold parts of a batch: those of ``group``, or of the default group where it is None.

    This one, if ``alone`` or without a process group. ``sum`` and ``gather`` are collectives that torch.compile traces.
    Raises InputError for a group without this rank.
    """

    group: Group = None
    alone: bool = False

    def __post_init__(self) -> None:
        if self._joined and self.rank < 0:
            raise InputError("group: this rank is not in it; expected a process group that it is in, or None")

    @property
    def size(self) -> int:
        return dist.get_world_size(self.group) if self._joined else 1

    @property
    def rank(self) -> int:
        return dist.get_rank(self.group) if self._joined else 0

    @property
    def _joined(self) -> bool:
        return not self.alone and dist.is_available() and dist.is_initialized()

    def sum(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each part summed over ranks, float64: one all-reduce for all of them, through which no gradient flows."""
        values = torch.cat([part.detach().to(torch.float64).flatten() for part in parts.values()])
        if self.size > 1:
            dist.all_reduce(values, group=self.group)
        pieces = values.split([part.numel() for part in parts.values()])
        return {name: piece.reshape(part.shape) for (name, part), piece in zip(parts.items(), pieces, strict=True)}

    def gather(self, values: Tensor) -> Tensor:
        """Every rank's integers (...), stacked: (W, ...)."""
        slots = values.new_zeros((self.size, *values.shape))
        slots[self.rank] = values
        if self.size > 1:
            dist.all_reduce(slots, group=self.group)
        return slots

    def __deepcopy__(self, memo: dict[int, Any]) -> Ranks:
        return self  # a copied module speaks to the same ranks; a process group cannot be copied


ALONE = Ranks(alone=True)


def mean_of(values: Tensor, ranks: Ranks) -> Tensor:
    """The mean of every rank's values (n_r,), the same on every rank, 0 of none; see ``share_of``."""
    wide = values.detach().to(torch.float64)
    seen = ranks.sum({"total": wide.sum(), "count": torch.ones_like(wide).sum()})
    return share_of(values, seen["total"], seen["count"], ranks.size)


def share_of(values: Tensor, total: Tensor, count: Tensor, size: int) -> Tensor:
    """total / count, with the gradient of this rank's values (n_r,) times ``size``.

    DistributedDataParallel averages gradients over ``size`` ranks, which leaves the gradient of the mean over all rows,
    however unevenly they are spread.
    """
    count = count.clamp(min=1)
    share = values.sum() * (size / count).to(values.dtype)
    return (total / count).to(values.dtype) + (share - share.detach())
