"""Where rows come from: one file per format, and the part of them that a rank holds."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from distkmeans.registry import Registry


class Source(Protocol):
    """Rows that can be read by number. Opening one reads no more than headers.

    rows, dims: the shape. A source that knows the class of each row has ``truth(start, stop)`` too, one per row:
    whole numbers or text. Weights, ids and classes of a user's own are files beside it: see ``Companions``.
    """

    rows: int
    dims: int

    def read(self, start: int, stop: int) -> Tensor:
        """Rows start to stop, (stop - start, D), as stored: uint8, int8, float16, bfloat16, float32 or float64."""

    def name(self, row: int) -> str:
        """How a user finds a row again, for error messages: ``emb/part-003.npy, row 17``."""


sources: Registry[Source] = Registry("data", "distkmeans.data")
"""Built from a config's ``data`` group: ``sources.build(name, options)``."""
