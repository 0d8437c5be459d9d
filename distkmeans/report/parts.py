"""A column in parts, one file per rank, in rank order: npy, or parquet beside the rows' ids."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

PATTERN = "part-*-of-*.*"


def name_of(rank: int, size: int) -> str:
    """part-00000-of-00008, without an ending."""
    return f"part-{rank:05d}-of-{size:05d}"


class Part:
    """A rank's file, written block by block: ``rows`` values in all, of the type of the first block.

    path: without an ending; .npy or, with ids (rows,), .parquet with the columns id and ``column``. Closing a part that
    was not filled leaves a file that its readers refuse.
    """

    def __init__(self, path: Path, column: str, rows: int, ids: np.ndarray | None) -> None:
        self.path, self.column, self.rows, self.ids = path, column, rows, ids
        self.filled = 0
        self._file: Any = None

    def write(self, values: np.ndarray) -> None:
        """The next values (n,). Raises OSError."""
        if self._file is None:
            self._file = self._open(values.dtype)
        if self.ids is None:
            self._file.write(np.ascontiguousarray(values).data)
        else:
            self._file.write_table(_table(self.ids[self.filled : self.filled + len(values)], self.column, values))
        self.filled += len(values)

    def _open(self, dtype: np.dtype[Any]) -> Any:
        if self.ids is not None:
            import pyarrow.parquet

            schema = _table(self.ids[:0], self.column, np.empty(0, dtype)).schema
            return pyarrow.parquet.ParquetWriter(self.path.with_suffix(".parquet"), schema)
        file = open(self.path.with_suffix(".npy"), "wb")  # noqa: SIM115 (closed by ``__exit__``)
        described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (self.rows,)}
        np.lib.format.write_array_header_1_0(file, described)
        return file

    def __enter__(self) -> Part:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            with contextlib.suppress(*([OSError] if error else [])):  # what is in flight says more than a full buffer
                self._file.close()


def _table(ids: np.ndarray, column: str, values: np.ndarray) -> Any:
    import pyarrow

    kind = pyarrow.string() if ids.dtype == object else None  # of no rows, the type could not be told
    return pyarrow.table({"id": pyarrow.array(ids, type=kind), column: values})
