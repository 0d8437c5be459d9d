"""Rows that come in batches: from a torch DataLoader, an IterableDataset with workers, a generator."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from distkmeans.data.array import as_rows
from distkmeans.data.shard import Shard
from distkmeans.errors import InputError
from distkmeans.world import World

CHUNK = 1 << 22
"""Row numbers that ranks compare at a time."""
SPARSE = 16
"""How many times the number of rows their numbers may reach."""


@dataclass(frozen=True)
class Batch:
    """What a loader yields: rows (n, D) or (D,) for one of them; numbers, which rows of the whole they are, or None.

    numbers: int (n,). weights: (n,), or None. Also read from a dict with these keys; of a tuple or list, as a
    DataLoader over a TensorDataset yields, the first item is the rows.
    """

    rows: Any
    numbers: Any = None
    weights: Any = None


def is_batches(x: Any) -> bool:
    """Whether x can only be walked through: neither an array nor a map-style dataset nor a nested list."""
    return isinstance(x, Iterable) and not hasattr(x, "__getitem__") and not hasattr(x, "__array__")


def is_once(x: Any) -> bool:
    """Whether it can be walked through once only, as a generator."""
    return iter(x) is x


def batches(x: Iterable[Any]) -> Iterator[Batch]:
    """Each batch with tensors: rows (n, D), numbers int64 (n,) or None, weights (n,) or None. Raises InputError."""
    for index, given in enumerate(x):
        what = f"x, batch {index}"
        batch = _batch(given, what)
        rows = torch.as_tensor(batch.rows) if not isinstance(batch.rows, Tensor) else batch.rows
        rows = as_rows(rows.reshape(1, -1) if rows.ndim == 1 else rows, what)
        yield Batch(rows, _numbers(batch.numbers, len(rows), what), _vector(batch.weights, len(rows), what))


def gathered(x: Iterable[Any]) -> Batch:
    """All batches as one. Raises InputError where only some have numbers or weights, or widths or types differ."""
    parts = list(batches(x))
    if not parts:
        return Batch(torch.empty(0, 0))
    first = parts[0]
    for index, part in enumerate(parts):
        if part.rows.shape[1] != first.rows.shape[1] or part.rows.dtype != first.rows.dtype:
            raise InputError(
                f"x, batch {index}: {part.rows.shape[1]} columns of {part.rows.dtype}, but batch 0 has"
                f" {first.rows.shape[1]} of {first.rows.dtype}"
            )
        for name in ("numbers", "weights"):
            if (getattr(part, name) is None) != (getattr(first, name) is None):
                raise InputError(f"x, batch {index}: {name} are given in some batches, not in all")
    joined = {
        name: None if getattr(first, name) is None else torch.cat([getattr(part, name) for part in parts])
        for name in ("rows", "numbers", "weights")
    }
    return Batch(**joined)


def numbered(world: World, shard: Shard, numbers: Tensor) -> tuple[Shard, Tensor]:
    """The shard in the order of the rows' numbers, which from now on tell its rows apart; and its rows' old positions.

    numbers: int64 (n,), 0 or more, alike wherever a row comes up. A row that came more than once, here or on another
    rank, as samplers pad, counts once: the lowest rank keeps it. Numbers that nobody has are closed up. So the result
    does not depend on which rank read which row. Raises InputError on all ranks. A collective.
    """
    top = int(world.max_(torch.tensor(int(numbers.max()) if len(numbers) else -1)))
    low = -int(world.max_(torch.tensor(-int(numbers.min()) if len(numbers) else -(2**62))))
    if low < 0 or top >= SPARSE * shard.total + CHUNK:
        raise InputError(f"numbers: {low} to {top} for {shard.total} rows; expected row numbers from 0 on")
    order = torch.argsort(numbers, stable=True)
    ascending = numbers[order]
    again = torch.zeros_like(ascending, dtype=torch.bool)
    again[1:] = ascending[1:] == ascending[:-1]
    order, ascending = order[~again], ascending[~again]
    kept, picked, total = [], [], 0
    for start in range(0, top + 1, CHUNK):
        first, last = torch.searchsorted(ascending, torch.tensor([start, start + CHUNK])).tolist()
        local = ascending[first:last] - start
        owner = torch.zeros(min(CHUNK, top + 1 - start), dtype=torch.int32)
        owner[local] = world.size - world.rank
        owner = world.max_(owner.to(world.device)).cpu()
        place = (owner > 0).cumsum(0) - 1 + total
        mine = owner[local] == world.size - world.rank
        kept.append(order[first:last][mine])
        picked.append(place[local[mine]])
        total = int(place[-1]) + 1
    positions = torch.cat(kept) if kept else order
    at = positions.to(shard.rows.device)
    weights = None if shard.weights is None else shard.weights[at]
    places = (torch.cat(picked) if picked else order).to(shard.rows.device)
    return replace(shard, rows=shard.rows[at], weights=weights, start=0, total=total, picked=places), positions


def _batch(given: Any, what: str) -> Batch:
    if isinstance(given, Batch):
        return given
    if isinstance(given, Mapping):
        unknown = sorted(str(key) for key in given.keys() - {"rows", "numbers", "weights"})
        if "rows" not in given or unknown:
            raise InputError(
                f"{what}: a dict of {', '.join(map(str, given))}; expected rows, and maybe numbers and weights"
            )
        return Batch(**given)
    if isinstance(given, (tuple, list)) and given and hasattr(given[0], "shape"):
        return Batch(given[0])
    return Batch(given)


def _numbers(given: Any, count: int, what: str) -> Tensor | None:
    if given is None:
        return None
    numbers = torch.as_tensor(given).reshape(-1).cpu()
    if len(numbers) != count or numbers.dtype.is_floating_point or numbers.dtype == torch.bool:
        raise InputError(
            f"{what}: {len(numbers)} numbers of {numbers.dtype} for {count} rows; expected an integer each"
        )
    return numbers.to(torch.int64)


def _vector(given: Any, count: int, what: str) -> Tensor | None:
    if given is None:
        return None
    weights = torch.as_tensor(given).reshape(-1)
    if len(weights) != count:
        raise InputError(f"{what}: {len(weights)} weights for {count} rows; one for each")
    return weights
