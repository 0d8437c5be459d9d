"""The rows with the smallest keys over all ranks: how a sample without replacement is drawn."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from distkmeans.data.shard import Shard
from distkmeans.world import World

KEY_BITS = 63
NEVER = (1 << 63) - 1
"""The key of a row that is not to be taken."""
TILE_ROWS = 1 << 18
"""Rows whose keys are formed at a time: of the others only the smallest are kept."""


def smallest_of(world: World, shard: Shard, keys_of: Callable[[slice, Tensor], Tensor], count: int) -> Tensor:
    """``smallest`` of a shard's rows, whose keys below NEVER count. keys_of: (tile, its numbers) -> int64 (n,)."""
    keys = numbers = torch.empty(0, dtype=torch.int64, device=shard.rows.device)
    for tile in shard.tiles(TILE_ROWS):
        more = shard.numbers(tile)
        new = keys_of(tile, more)
        eligible = new < NEVER
        keys, numbers = torch.cat([keys, new[eligible]]), torch.cat([numbers, more[eligible]])
        if len(keys) > count:  # those of the same key may all be among the first
            kept = keys <= torch.kthvalue(keys, count).values
            keys, numbers = keys[kept], numbers[kept]
    return smallest(world, keys, numbers, count)


def smallest(world: World, keys: Tensor, numbers: Tensor, count: int) -> Tensor:
    """The ``count`` global numbers with the smallest non-negative int64 keys, in the order of (key, number).

    keys, numbers: int64 (n,) of this rank's rows. Fewer where there are not as many. The largest key that is taken is
    found by bisection over its bits, so that only the rows taken cross the network. A collective.
    """
    ordered = torch.sort(keys).values
    low, high = 0, (1 << KEY_BITS) - 1
    while low < high:
        middle = (low + high) // 2
        below = torch.searchsorted(ordered, torch.tensor(middle, device=keys.device), right=True)
        if int(world.sum_(below.to(torch.int64))) >= count:
            high = middle
        else:
            low = middle + 1
    taken = keys <= low
    pairs = world.concat(torch.stack([keys[taken], numbers[taken]], dim=1))
    pairs = pairs[torch.argsort(pairs[:, 1], stable=True)]
    return pairs[torch.argsort(pairs[:, 0], stable=True)][:count, 1]
