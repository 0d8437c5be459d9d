"""The rows with the smallest keys over all ranks: how a sample without replacement is drawn."""

from __future__ import annotations

import torch
from torch import Tensor

from distkmeans.world import World

KEY_BITS = 63


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
