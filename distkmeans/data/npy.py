"""data=npy: one file, a glob, or a directory of shards. Memory-mapped, never unpickled."""

from __future__ import annotations

import bisect
import glob
import hashlib
import itertools
import mmap
import os
import resource
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from distkmeans.data import sources
from distkmeans.data.array import WIDENED, shared, widened
from distkmeans.errors import InputError

FINGERPRINT_ROWS = 16
BESIDE = 256
"""Files that a process needs beside those of its rows."""
TYPES = ("float64", "float32", "float16", "uint8", "int8")


class NpyFiles:
    """The rows of npy files, joined in the order of their sorted names.

    path: a file, a directory (its ``*.npy``) or a glob. Files without rows are passed over. ``field`` is the config
    key for messages; ``dimensions`` is 2 for rows and 1 for weights or ids. Raises InputError, naming the file.
    """

    def __init__(self, path: str, field: str = "data.path", dimensions: int = 2) -> None:
        self.field = field
        self.paths = find_files(path, field)
        _let_open(len(self.paths), f"{field}={path}")
        self.arrays = [self._open(name, dimensions) for name in self.paths]
        self.starts = [0, *itertools.accumulate(len(array) for array in self.arrays)]
        self.rows = self.starts[-1]
        full = [index for index, array in enumerate(self.arrays) if len(array)]
        for index in full[1:]:
            self._match(index, full[0])
        self.dims = self.arrays[full[0] if full else 0].shape[1] if dimensions == 2 else 1

    def read(self, start: int, stop: int) -> Tensor:
        """Rows start to stop: a view of the file where one file holds them all."""
        return shared(widened(self.read_array(start, stop), f"{self.field}={self.paths[0]}"))

    def read_array(self, start: int, stop: int) -> np.ndarray:
        """The same, as a NumPy array of whatever type is stored."""
        pieces = [
            array[max(start - first, 0) : stop - first]
            for first, array in zip(self.starts, self.arrays, strict=False)
            if first < stop and start < first + len(array)
        ]
        if len(pieces) == 1:
            return pieces[0]
        return np.concatenate(pieces) if pieces else self.arrays[0][:0]

    def release(self, start: int, stop: int) -> None:
        """Let the memory go into which rows start to stop were mapped; reading them again maps them again."""
        for first, array in zip(self.starts, self.arrays, strict=False):
            mapping: mmap.mmap | None = getattr(array, "_mmap", None)
            if first < stop and start < first + len(array) and mapping is not None and hasattr(mapping, "madvise"):
                mapping.madvise(mmap.MADV_DONTNEED)

    def name(self, row: int) -> str:
        """The file of a global row, and the row's number in it."""
        index = min(bisect.bisect_right(self.starts, row), len(self.paths)) - 1
        return f"{self.field}={self.paths[index]}, row {row - self.starts[index]}"

    def fingerprint(self) -> str:
        """What tells these rows from others of the same shape: their type, and a hash of a few of them."""
        digest = hashlib.blake2b(digest_size=6)
        for place in range(FINGERPRINT_ROWS if self.rows else 0):
            row = place * (self.rows - 1) // max(1, FINGERPRINT_ROWS - 1)
            digest.update(self.read_array(row, row + 1).tobytes())
        return f"{self.arrays[0].dtype}, checksum {digest.hexdigest()}"

    def _open(self, name: str, dimensions: int) -> np.ndarray:
        if not os.path.isfile(name):
            raise InputError(f"{self.field}={name}: not a file")
        try:
            with np.errstate(all="ignore"):
                array = np.load(name, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # whatever a header can make of it
            array = self._without_rows(name)
            if array is None:
                raise InputError(f"{self.field}={name}: cannot be read as npy ({_reason(name, error)})") from error
        if not isinstance(array, np.ndarray):
            raise InputError(f"{self.field}={name}: an npz archive; save the one array as npy")
        if array.ndim != dimensions:
            expected = "(rows, columns)" if dimensions == 2 else "(rows,)"
            raise InputError(f"{self.field}={name}: shape {array.shape}; expected {expected}")
        if dimensions == 2 and array.dtype.name not in TYPES and array.dtype.name not in WIDENED:
            raise InputError(f"{self.field}={name}: type {array.dtype}; expected {', '.join(TYPES)}, or integers")
        return array

    def _without_rows(self, name: str) -> np.ndarray | None:
        """The array of a file that cannot be mapped because it has no rows."""
        try:
            with np.errstate(all="ignore"):
                array = np.load(name, allow_pickle=False)
        except Exception:  # whatever a header can make of it
            return None
        return array if isinstance(array, np.ndarray) and array.size == 0 else None

    def _match(self, index: int, first: int) -> None:
        array, model = self.arrays[index], self.arrays[first]
        if array.shape[1:] != model.shape[1:]:
            raise InputError(
                f"{self.field}={self.paths[index]}: {array.shape[1]} columns, but {self.paths[first]} has"
                f" {model.shape[1]}; all files of one data set need the same width"
            )
        if array.dtype != model.dtype and not array.dtype.kind == model.dtype.kind in ("U", "S"):
            raise InputError(
                f"{self.field}={self.paths[index]}: {array.dtype}, but {self.paths[first]} is {model.dtype};"
                " convert them to one type"
            )


@sources.register("npy")
def open_npy(path: str | None = None) -> NpyFiles:
    """Rows from npy files. path: FILE, GLOB or DIRECTORY."""
    if not path:
        raise InputError("data.path: not given; name an npy file, a glob or a directory of npy files")
    return NpyFiles(path)


def find_files(path: str, field: str) -> Sequence[str]:
    """The npy files that a path, glob or directory names, sorted. Raises InputError where there is none."""
    if os.path.isdir(path):
        found = sorted(glob.glob(os.path.join(glob.escape(path), "*.npy")))
        if not found:
            raise InputError(f"{field}={path}: a directory without npy files")
        return found
    if os.path.exists(path):
        return [path]
    found = sorted(name for name in glob.glob(path) if os.path.isfile(name))
    if not found:
        raise InputError(f"{field}={path}: no such file or directory (relative to {os.getcwd()})")
    return found


def _let_open(count: int, what: str) -> None:
    """Let this process map so many files at once, if it may. Raises InputError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + BESIDE
    if soft == resource.RLIM_INFINITY or wanted <= soft:
        return
    if hard != resource.RLIM_INFINITY and wanted > hard:
        raise InputError(f"{what}: {count} files, but a process may open {hard} here; join some, or raise ulimit -Hn")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _reason(name: str, error: Exception) -> str:
    if os.path.getsize(name) == 0:
        return "the file is empty"
    text = str(error)
    if "pickle" in text.lower() or "Python objects" in text:
        return "not an npy file, or one of pickled objects, which are never loaded"
    return "the file is shorter than its header says" if "mmap" in text or "reshape" in text else text.split("\n")[0]
