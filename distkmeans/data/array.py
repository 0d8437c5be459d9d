"""Rows that are in memory already: NumPy arrays, torch tensors, map-style torch datasets."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distkmeans.errors import InputError
from distkmeans.exact.floats import MANTISSA_BITS

WIDENED = {
    "bool": np.uint8,
    "int16": np.float32,
    "uint16": np.float32,
    "int32": np.float64,
    "uint32": np.float64,
    "int64": np.float64,
    "uint64": np.float64,
}
"""Types that are no row types, and the narrowest one that holds all their values (64-bit integers: up to 2**53)."""


def as_rows(values: Any, what: str = "x") -> Tensor:
    """An array, tensor, nested list or map-style dataset as a contiguous (N, D) tensor of a type that rows may have.

    Raises InputError for other shapes, and for types that hold no real numbers.
    """
    if hasattr(values, "toarray") or (isinstance(values, torch.Tensor) and values.layout != torch.strided):
        dense = "to_dense" if isinstance(values, torch.Tensor) else "toarray"
        raise InputError(f"{what}: sparse; pass {what}.{dense}()")
    if not isinstance(values, (np.ndarray, torch.Tensor)):
        values = _stacked(values, what)
    if values.ndim != 2:
        raise InputError(f"{what}: {values.ndim} dimensions, shape {tuple(values.shape)}; expected (rows, columns)")
    if isinstance(values, torch.Tensor):
        values = values.detach()
        return values.contiguous() if values.dtype in MANTISSA_BITS else as_rows(values.cpu().numpy(), what)
    return shared(widened(values, what))


def widened(values: np.ndarray, what: str) -> np.ndarray:
    """The array in native byte order and C order, other integers widened to floats that hold them."""
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    wide = WIDENED.get(values.dtype.name)
    if wide is not None:
        if values.dtype.itemsize == 8 and values.size and max(-int(values.min()), int(values.max())) > 2**53:
            raise InputError(f"{what}: {values.dtype} values beyond 2**53 are no float64 numbers; scale them down")
        values = values.astype(wide)
    if values.dtype.name not in ("uint8", "int8", "float16", "float32", "float64"):
        raise InputError(f"{what}: values of type {values.dtype}; expected real numbers, such as float32")
    return np.ascontiguousarray(values)


def shared(values: np.ndarray) -> Tensor:
    """The array's memory as a tensor. Read-only memory may be passed: rows are never written to."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(values)


def _stacked(values: Any, what: str) -> np.ndarray | Tensor:
    if hasattr(values, "__getitem__") and hasattr(values, "__len__") and not isinstance(values, (list, tuple)):
        if hasattr(values, "__array__"):
            return np.asarray(values)
        items = [values[index] for index in range(len(values))]
        items = [item[0] if isinstance(item, (tuple, list)) else item for item in items]
        if items and isinstance(items[0], torch.Tensor):
            return torch.stack([item.reshape(-1) for item in items])
        return np.stack([np.asarray(item).reshape(-1) for item in items]) if items else np.empty((0, 0))
    try:
        return np.asarray(values, dtype=None if len(values) else np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what}: {type(values).__name__} is no array of rows ({error})") from error
