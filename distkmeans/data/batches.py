"""Rows that come in batches: from a torch DataLoader, an IterableDataset with workers, a generator."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distkmeans.data.array import as_rows
from distkmeans.data.shard import Shard
from distkmeans.errors import InputError, first_line
from distkmeans.world import World

CHUNK = 1 << 22
"""Row numbers that ranks compare at a time."""
PIECE_BYTES = 1 << 24
"""Of the rows that ranks exchange at a time."""


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
    """Whether x can only be walked through: no array, sparse or not, no map-style dataset and no nested list."""
    other = ("__getitem__", "__array__", "toarray")
    return isinstance(x, Iterable) and not any(hasattr(x, name) for name in other)


def is_once(x: Any) -> bool:
    """Whether it can be walked through once only, as a generator."""
    return isinstance(x, Iterator)


def batches(x: Iterable[Any]) -> Iterator[Batch]:
    """Each batch with tensors: rows (n, D), numbers int64 (n,) or None, weights (n,) or None. Raises InputError."""
    for index, given in enumerate(x):
        what = f"x, batch {index}"
        batch = _batch(given, what)
        rows = batch.rows if isinstance(batch.rows, Tensor) else _array(batch.rows, what)
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


def numbered(world: World, shard: Shard, numbers: Tensor) -> Shard:
    """The rows in the order of their numbers, divided anew between the ranks, in even contiguous parts.

    numbers: int64 (n,), any integers, alike wherever a row comes up. A row that came more than once, here or on another
    rank, as samplers pad, counts once: the lowest rank's. Numbers that nobody has are closed up. So the result does not
    depend on which rank read which row. A collective: what is held comes by every rank once.
    """
    order = torch.argsort(numbers, stable=True)
    ascending = numbers[order]
    again = torch.zeros_like(ascending, dtype=torch.bool)
    again[1:] = ascending[1:] == ascending[:-1]
    order, ascending = order[~again], ascending[~again]
    kept, places, total = [], [], 0
    for span in _spans(world, ascending, shard.total):
        mine = ascending[span]
        known, owner = _owners(world, mine)
        place = torch.searchsorted(known, mine)
        is_mine = owner[place] == world.rank
        kept.append(order[span][is_mine])
        places.append(total + place[is_mine])
        total += len(known)
    return _divided(world, shard, torch.cat(kept), torch.cat(places), total)


def _divided(world: World, shard: Shard, at: Tensor, places: Tensor, total: int) -> Shard:
    """The rows at these positions, int64 (n,), whose places among ``total`` rows ascend: each where it belongs."""
    rows = shard.rows[at.to(shard.rows.device)]
    columns = [rows]
    if shard.weights is not None:
        columns.append(shard.weights[at.to(shard.rows.device)][:, None])
    packed = torch.cat([column.contiguous().view(torch.uint8) for column in columns], dim=1)
    step = max(1, PIECE_BYTES // max(1, packed.shape[1]))
    mine = [packed[:0]]
    for rank in range(world.size):
        first, last = world.part(total, rank)
        for start in range(first, last, step):
            piece = packed.new_zeros(min(step, last - start), packed.shape[1])
            ends = torch.tensor([start, start + len(piece)])
            low, high = torch.searchsorted(places, ends).tolist()
            piece[(places[low:high] - start).to(piece.device)] = packed[low:high]
            world.sum_(piece)  # every byte is one rank's
            if rank == world.rank:
                mine.append(piece)
    joined, width = torch.cat(mine), rows.shape[1] * rows.element_size()
    weights = None if shard.weights is None else joined[:, width:].contiguous().view(shard.weights.dtype).reshape(-1)
    rows = joined[:, :width].contiguous().view(rows.dtype)
    return replace(
        shard,
        rows=rows,
        weights=weights,
        start=world.part(total)[0],
        total=total,
        name=lambda row: f"x, row {row} in the order of the numbers",
    )


def _spans(world: World, ascending: Tensor, total: int) -> list[slice]:
    """Slices of this rank's ascending numbers that ranks look at together, about CHUNK in all. A collective."""
    ends = [int(ascending[0]), int(ascending[-1])] if len(ascending) else None
    held = [pair for pair in world.collect(ends) if pair is not None]
    low, high = min(pair[0] for pair in held), max(pair[1] for pair in held)
    count = max(1, -(-total // CHUNK))
    bounds = torch.tensor([low + (high - low) * place // count for place in range(1, count)], dtype=torch.int64)
    cuts = [0, *torch.searchsorted(ascending, bounds).tolist(), len(ascending)]
    return [slice(first, last) for first, last in itertools.pairwise(cuts)]


def _owners(world: World, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """All ranks' numbers, int64 (m,) ascending, each once; and the lowest rank that has it. A collective."""
    everyone = world.concat(numbers.to(world.device)).cpu()
    counts = world.per_rank(torch.tensor(len(numbers), device=world.device)).cpu()
    ranks = torch.repeat_interleave(torch.arange(world.size), counts)
    order = torch.argsort(everyone, stable=True)  # ranks come in order, so the lowest is first
    known, many = torch.unique_consecutive(everyone[order], return_counts=True)
    return known, ranks[order[many.cumsum(0) - many]]


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
    numbers = _tensor(given, f"{what}: numbers").reshape(-1).cpu()
    if len(numbers) != count or numbers.dtype.is_floating_point or numbers.dtype == torch.bool:
        raise InputError(
            f"{what}: {len(numbers)} numbers of {numbers.dtype} for {count} rows; expected an integer each"
        )
    return numbers.to(torch.int64)


def _vector(given: Any, count: int, what: str) -> Tensor | None:
    if given is None:
        return None
    weights = _tensor(given, f"{what}: weights").reshape(-1)
    if len(weights) != count:
        raise InputError(f"{what}: {len(weights)} weights for {count} rows; one for each")
    return weights


def _tensor(given: Any, what: str) -> Tensor:
    if isinstance(given, Tensor):
        return given
    array = _array(given, what)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{what} of type {array.dtype}; expected one number for each row")
    return torch.from_numpy(np.ascontiguousarray(array))


def _array(given: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(given)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: a {type(given).__name__} that is no array ({first_line(error)})") from error
