"""data.truth: the class that each row is known to belong to, which scores compare clusters with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distkmeans.data import Source
from distkmeans.data.npy import NpyFiles
from distkmeans.errors import InputError, first_line
from distkmeans.schema import listed
from distkmeans.world import World

KINDS = "biufSU"
"""Types of classes: whole numbers, as whatever number they are stored, and text."""
WORDS = {"U": "text", "S": "bytes"}
"""What those of them are called that are no numbers."""


class TruthFiles(NpyFiles):
    """npy files with the class of each row. path: FILE, GLOB or DIRECTORY. Raises InputError, naming the file."""

    def __init__(self, path: str, rows: int) -> None:
        super().__init__(path, "data.truth", 1)
        for dtype in (array.dtype for array in self.arrays if len(array)):
            if dtype.kind not in KINDS:
                raise InputError(f"{self.field}={path}: type {dtype}; expected whole numbers or text")
        if self.rows != rows:
            raise InputError(f"{self.field}={path}: {self.rows} classes for {rows} rows; one for each row")

    def truth(self, start: int, stop: int) -> np.ndarray:
        """The classes of these rows, as stored."""
        return self.read_array(start, stop)


def truth_of(source: Source, path: str | None) -> Any:
    """What has ``truth(start, stop)``: the files of ``path``, else the source itself, or None. Headers only."""
    if path:
        return TruthFiles(path, source.rows)
    return source if getattr(source, "truth", None) is not None else None


def read_truth(world: World, truth: Any, start: int, stop: int) -> Tensor:
    """The number of each row's class: int64 (stop - start,). A collective; raises InputError on all ranks."""
    if isinstance(truth, TruthFiles):
        world.agree("data.truth", truth.fingerprint(), "give every rank the same files")
    with world.guard():
        values = per_row(truth.truth(start, stop), "truth", stop - start)
    name: Callable[[int], str] = getattr(truth, "name", str)
    return numbered(world, values, "truth", lambda row: name(start + row)).to(world.device)


def per_row(values: Any, what: str, rows: int) -> np.ndarray:
    """One entry per row, as a NumPy array. Raises InputError."""
    try:
        vector = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    except ValueError as error:
        raise InputError(f"{what}: no array with one entry for each row ({first_line(error)})") from error
    if vector.shape != (rows,):
        raise InputError(f"{what}: shape {vector.shape} for {rows} rows; one for each row")
    return vector if rows else np.empty(0, np.int64)  # an empty list has no type


def numbered(world: World, values: np.ndarray, what: str, name: Callable[[int], str]) -> Tensor:
    """Classes as numbers from 0, alike on all ranks: int64 (n,). A collective; raises InputError on all ranks.

    values: (n,), this rank's, of any type in KINDS, or objects that are all text. what: they are called. name: how a
    user finds a row.
    """
    with world.guard():
        values = _plain(values, what, name)
        different = np.unique(values)
    everyone = [part for part in world.collect(different) if len(part)]
    kinds = sorted({WORDS.get(part.dtype.kind, "numbers") for part in everyone})
    if len(kinds) > 1:
        raise InputError(f"{what}: {listed(kinds, 'and')} on different ranks; give all ranks one kind of classes")
    if not len(values):
        return torch.empty(0, dtype=torch.int64)
    known = np.unique(np.concatenate(everyone))
    return torch.from_numpy(np.searchsorted(known, values).astype(np.int64))


def _plain(values: np.ndarray, what: str, name: Callable[[int], str]) -> np.ndarray:
    """The same classes in a type that can be compared. Raises InputError for what is none."""
    if values.dtype.kind == "O":
        mixed = len({isinstance(value, str) for value in values.tolist()}) > 1
        values = values if mixed else np.asarray(values.tolist())
    if values.dtype.kind not in KINDS:
        raise InputError(f"{what}: type {values.dtype}; expected whole numbers or text")
    if values.dtype.kind == "f":
        broken = np.flatnonzero(~(np.isfinite(values) & (np.floor(values) == values)))
        if len(broken):
            raise InputError(f"{name(int(broken[0]))}: class {values[broken[0]]}; expected whole numbers or text")
    return values
