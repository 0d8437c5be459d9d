"""data.ids: what the user calls each row, carried along to the labels."""

from __future__ import annotations

import itertools
import os

import numpy as np

from distkmeans.data.npy import NpyFiles
from distkmeans.errors import InputError


def read_ids(path: str, total: int, start: int, stop: int) -> np.ndarray:
    """The ids of rows start to stop of ``total``: from npy (numbers or strings), or text with one id a line."""
    if not path.endswith(".npy"):
        return _read_lines(path, total, start, stop)
    files = NpyFiles(path, "data.ids", 1)
    _check(path, files.rows, total)
    return np.asarray(files.read_array(start, stop))


def _read_lines(path: str, total: int, start: int, stop: int) -> np.ndarray:
    if not os.path.isfile(path):
        raise InputError(f"data.ids={path}: no such file (relative to {os.getcwd()})")
    with open(path, encoding="utf-8") as file:
        mine = [line.rstrip("\r\n") for line in itertools.islice(file, start, stop)] if stop > start else []
        file.seek(0)
        _check(path, sum(1 for _ in file), total)
    return np.array(mine, dtype=object)


def _check(path: str, found: int, total: int) -> None:
    if found != total:
        raise InputError(f"data.ids={path}: {found} ids for {total} rows; one for each row")
