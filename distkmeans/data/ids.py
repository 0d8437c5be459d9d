"""data.ids: what the user calls each row, carried along to the labels."""

from __future__ import annotations

import itertools
import os

import numpy as np

from distkmeans.data.npy import NpyFiles
from distkmeans.errors import InputError

KINDS = "biufSU"
"""Types of ids that parquet holds: bool, whole numbers, real numbers, bytes, text, and times."""
TIMES = ("M8[D]", "M8[s]", "M8[ms]", "M8[us]", "M8[ns]")


def read_ids(path: str, total: int, start: int, stop: int) -> np.ndarray:
    """The ids of rows start to stop of ``total``: from npy (numbers or strings), or text with one id a line."""
    if not path.endswith(".npy"):
        return _read_lines(path, total, start, stop)
    files = NpyFiles(path, "data.ids", 1)
    check_count(path, files.rows, total)
    ids = np.asarray(files.read_array(start, stop))
    return ids.astype(ids.dtype.newbyteorder("="))


def check_ids(path: str) -> None:
    """Raise InputError for ids that could not be written with the labels in the end; reads no more than headers."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise InputError("data.ids: needs pyarrow; pip install 'distkmeans[parquet]'") from error
    if path.endswith(".npy"):
        dtype = NpyFiles(path, "data.ids", 1).arrays[0].dtype
        if (dtype.str[1:] not in TIMES and dtype.kind not in KINDS) or (dtype.itemsize == 16 and dtype.kind == "f"):
            raise InputError(f"data.ids={path}: type {dtype}; expected numbers or text")
    elif not os.path.isfile(path):
        raise InputError(f"data.ids={path}: no such file (relative to {os.getcwd()})")


def check_count(path: str, found: int, total: int) -> None:
    """Raise InputError unless there is one for each row."""
    if found != total:
        raise InputError(f"data.ids={path}: {found} ids for {total} rows; one for each row")


def _read_lines(path: str, total: int, start: int, stop: int) -> np.ndarray:
    check_ids(path)
    try:
        with open(path, encoding="utf-8-sig") as file:
            mine = [line.rstrip("\r\n") for line in itertools.islice(file, start, stop)] if stop > start else []
        with open(path, encoding="utf-8-sig") as file:
            check_count(path, sum(1 for _ in file), total)
    except UnicodeDecodeError as error:
        raise InputError(f"data.ids={path}: not UTF-8 text ({error.reason}); save it as UTF-8") from error
    return np.array(mine, dtype=object)
