"""The part of the rows that one rank holds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from distkmeans import native
from distkmeans.data import Source
from distkmeans.data.npy import NpyFiles
from distkmeans.errors import InputError
from distkmeans.exact.floats import MANTISSA_BITS
from distkmeans.world import World

TILE_ELEMENTS = 1 << 18
"""Elements of a float64 tile in the passes over the data that are not the solver's."""


NARROWER, SAMPLE = (torch.uint8, torch.int8, torch.float16, torch.bfloat16), 256
"""Types in which float32 rows may fit, narrowest first; rows that are looked at before all are."""


@dataclass(frozen=True)
class Shard:
    """Contiguous rows ``start`` .. ``start + len`` of ``total``, as stored, on the rank's device.

    rows: (n, D). weights: float32 (n,), float64 for float64 rows, or None where every row counts once.
    picked: int64 (n,) global numbers, ascending, where the rows are a sample and not contiguous.
    name: how to tell a user about a global row.
    """

    rows: Tensor
    start: int
    total: int
    weights: Tensor | None
    name: Callable[[int], str]
    picked: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def stored(self) -> tuple[Tensor, Tensor | None]:
        """Rows (N, D) in memory, and which of them these are, int64 (n,); None for all, one after another."""
        return self.rows, None

    @property
    def dims(self) -> int:
        return self.rows.shape[1]

    @property
    def bits(self) -> int:
        """Significant bits of a stored value."""
        return MANTISSA_BITS[self.rows.dtype]

    @property
    def weight_bits(self) -> int:
        """Significant bits of a weight."""
        return MANTISSA_BITS[weight_type(self.rows.dtype)]

    @property
    def centroid_type(self) -> torch.dtype:
        return torch.float64 if self.rows.dtype == torch.float64 else torch.float32

    def numbers(self, tile: slice) -> Tensor:
        """Global row numbers of a tile: int64 (n,)."""
        if self.picked is not None:
            return self.picked[tile]
        return torch.arange(self.start + tile.start, self.start + tile.stop, device=self.rows.device)

    def numbers_of(self, local: Tensor) -> Tensor:
        """Global row numbers of local positions: int64, shaped as they are."""
        return self.start + local if self.picked is None else self.picked[local]

    def tiles(self, rows: int | None = None) -> Iterator[slice]:
        """Slices that cover the rows, each of at most ``rows`` or about TILE_ELEMENTS elements."""
        step = rows or max(1, TILE_ELEMENTS // max(1, self.dims))
        return (slice(at, min(at + step, len(self))) for at in range(0, len(self), step))

    def with_rows(self, rows: Tensor) -> Shard:
        """The same rows after a transform; weights keep up with the type."""
        weights = None if self.weights is None else self.weights.to(weight_type(rows.dtype))
        return replace(self, rows=rows, weights=weights)

    def compact(self) -> Shard:
        """The same values in fewer bytes where all of them fit: passes over rows are bound by memory. A copy."""
        rows = compact(self.rows)
        return self if rows is self.rows else replace(self, rows=rows)

    def subset(self, which: Tensor, total: int) -> Shard:
        """The rows at these local positions (ascending), with their global numbers kept; ``total`` over all ranks."""
        everything = self.numbers(slice(0, len(self)))
        weights = None if self.weights is None else self.weights[which]
        return Shard(self.rows[which], self.start, total, weights, self.name, everything[which])

    def fetch(self, world: World, numbers: Tensor) -> Tensor:
        """The rows of these global numbers (M,), on every rank: float64 (M, D). A collective."""
        found = torch.zeros(len(numbers), self.dims, dtype=torch.float64, device=self.rows.device)
        local, mine = self.local_of(numbers)
        found[mine] = self.rows[local].to(torch.float64)
        return world.sum_(found)

    def local_of(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Local positions of those global numbers (M,) that are rows of this shard; and which these are, bool (M,)."""
        if self.picked is None:
            mine = (numbers >= self.start) & (numbers < self.start + len(self))
            return numbers[mine] - self.start, mine
        local = torch.searchsorted(self.picked, numbers.contiguous()).clamp(max=max(0, len(self) - 1))
        mine = (self.picked[local] == numbers) if len(self) else torch.zeros_like(numbers, dtype=torch.bool)
        return local[mine], mine


class Drawn(Shard):
    """Rows drawn from those of a shard, which counts them once each; they are only brought together when asked for.

    local: int64 (n,), where they are. numbers: int64 (n,), ascending, of ``total``.
    """

    source: Shard
    local: Tensor

    def __init__(self, source: Shard, local: Tensor, numbers: Tensor, total: int) -> None:
        fields = {"source": source, "local": local, "start": 0, "total": total, "weights": None, "name": source.name}
        vars(self).update(fields, picked=numbers)

    def __len__(self) -> int:
        return len(self.local)

    @functools.cached_property
    def rows(self) -> Tensor:
        rows, compiled = self.source.rows, native.library_for(self.source.rows)
        if compiled is not None and rows.stride(1) == 1:
            return compiled.take(rows, self.local)
        return rows.index_select(0, self.local)

    @property
    def stored(self) -> tuple[Tensor, Tensor | None]:
        return (self.rows, None) if "rows" in vars(self) else (self.source.rows, self.local)

    @property
    def dims(self) -> int:
        return self.source.dims

    @property
    def bits(self) -> int:
        return self.source.bits

    def fetch(self, world: World, numbers: Tensor) -> Tensor:
        """As of any shard."""
        found = torch.zeros(len(numbers), self.dims, dtype=torch.float64, device=self.local.device)
        place, mine = self.local_of(numbers)
        found[mine] = self.source.rows[self.local[place]].to(torch.float64)
        return world.sum_(found)


def compact(rows: Tensor) -> Tensor:
    """float32 (n, D) rows in the narrowest type that holds every value of them, or as they are."""
    if rows.dtype != torch.float32 or not len(rows):
        return rows
    for dtype in NARROWER:
        if narrowed(rows[:: max(1, len(rows) // SAMPLE)], dtype) is None:
            continue
        parts = rows.split(max(1, TILE_ELEMENTS // rows.shape[1]))
        copy, at = torch.empty(rows.shape, dtype=dtype, device=rows.device), 0
        for part in parts:
            values = narrowed(part, dtype)
            if values is None:
                break
            copy[at : at + len(part)] = values
            at += len(part)
        if at == len(rows):
            return copy
    return rows


def narrowed(values: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Values in another type, None if that changes any of them."""
    limits = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    converted = values.clamp(limits.min, limits.max).to(dtype)
    return converted if torch.equal(converted.to(values.dtype), values) else None


def weight_type(rows: torch.dtype) -> torch.dtype:
    """Weights are float32, and float64 beside float64 rows."""
    return torch.float64 if rows == torch.float64 else torch.float32


def origin(source: Source) -> str:
    """How a user knows a source, such as its first file: the name of a row, without the row."""
    return source.name(0).rpartition(", row ")[0] or source.name(0)


def check_shape(source: Source, weights: Source | None = None) -> None:
    """Raise InputError where there is nothing to cluster, or not one weight for each row."""
    if source.rows < 1 or source.dims < 1:
        raise InputError(f"{origin(source)}: {source.rows} rows of {source.dims} columns; there is nothing to do")
    if weights is not None and weights.rows != source.rows:
        file = getattr(weights, "paths", [None])[0]
        where = f"data.weights={file}" if file else "data.weights"
        raise InputError(f"{where}: {weights.rows} weights for {source.rows} rows; one for each row")


def open_shard(world: World, source: Source, weights: Source | None = None) -> Shard:
    """This rank's balanced, contiguous part of a source. Raises the same InputError on all ranks. A collective."""
    with world.guard():
        check_shape(source, weights)
    world.agree("the data", described(source, weights), "give every rank the same files")
    start, stop = world.part(source.rows)
    with world.guard():
        rows = source.read(start, stop).to(world.device)
        read = None if weights is None else weights.read(start, stop).reshape(-1).to(world.device)
        shard = Shard(rows, start, source.rows, None, source.name)
    return weighted(world, shard, read, (weights or source).name)


def described(source: Source, weights: Source | None) -> str:
    """What all ranks must find alike."""
    prints = [file.fingerprint() for file in (source, weights) if isinstance(file, NpyFiles)]
    return f"{source.rows} rows of {source.dims} columns" + "".join(f" ({text})" for text in prints)


def own_shard(world: World, rows: Tensor, weights: Tensor | None) -> Shard:
    """Each rank's own rows as one data set, in rank order. Raises the same InputError on all ranks. A collective."""
    rows = rows.to(world.device)
    shapes = world.collect((len(rows), rows.shape[1], str(rows.dtype), weights is not None))
    filled = [rank for rank, shape in enumerate(shapes) if shape[0]] or [0]
    model = shapes[filled[0]]
    for rank in filled:
        if shapes[rank][1:] != model[1:]:
            raise InputError(f"x: rank {rank} passes {_told(shapes[rank])}, rank {filled[0]} {_told(model)}")
    counts = [shape[0] for shape in shapes]
    if not sum(counts) or not model[1]:
        raise InputError(f"x: {sum(counts)} rows of {model[1]} columns; there is nothing to do")
    if not len(rows):
        rows = rows.new_empty(0, model[1]).to(getattr(torch, model[2].removeprefix("torch.")))
        weights = rows.new_empty(0) if model[3] else None
    start = sum(counts[: world.rank])

    def name(row: int) -> str:
        return f"x, row {row}" if world.size == 1 else f"x of rank {world.rank}, row {row - start}"

    shard = Shard(rows, start, sum(counts), None, name)
    return weighted(world, shard, None if weights is None else weights.to(world.device), name)


def _told(shape: tuple[int, int, str, bool]) -> str:
    return f"{shape[1]} columns of {shape[2].removeprefix('torch.')} {'with' if shape[3] else 'without'} weights"


def weighted(world: World, shard: Shard, weights: Tensor | None, name: Callable[[int], str]) -> Shard:
    """The shard with its rows' weights, checked. Raises the same InputError on all ranks. A collective."""
    if weights is None:
        return shard
    with world.guard():
        if weights.shape != (len(shard),):
            raise InputError(f"weights: shape {tuple(weights.shape)} for {len(shard)} rows; one weight for each row")
        stored = weights.to(weight_type(shard.rows.dtype)) + 0.0
        bad = ~(torch.isfinite(stored) & (stored >= 0))
        if bad.any():
            at = int(bad.nonzero()[0])
            where = name(int(shard.numbers_of(torch.tensor(at, device=shard.rows.device))))
            most = torch.finfo(stored.dtype).max
            raise InputError(f"weights: {float(weights[at])} at {where}; expected 0 or more, at most {most:.3g}")
    if not world.max_((stored > 0).any().to(torch.int64)):
        file = name(0).rpartition(", row ")[0]
        where = f" ({file})" if "=" in file else ""
        raise InputError(f"weights: all are 0{where}; at least one row needs a weight above 0")
    return replace(shard, weights=stored)
