"""Two runs beside each other: what was asked for, what came of it, and how far their labels agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distkmeans.errors import first_line
from distkmeans.evaluate.agreement import adjusted_rand
from distkmeans.evaluate.contingency import contingency
from distkmeans.report.history import DamagedError, Run, label_parts
from distkmeans.report.listing import cut, scores_of, shown, value_of
from distkmeans.schema import written
from distkmeans.world import World

RESULTS = ("status", "rows", "inertia", "iterations", "seconds")
HEADS, CELL = 26, 30
"""Columns of a line's name, and of each run's value."""


@dataclass(frozen=True)
class Comparison:
    """settings: those that differ, by key. results: name and both values. ari: of the labels, or why there is none."""

    runs: tuple[Run, Run]
    settings: Mapping[str, tuple[Any, Any]]
    results: Mapping[str, tuple[Any, Any]]
    ari: float | None
    why_not: str = ""

    @staticmethod
    def of(first: Run, second: Run, settings: tuple[Mapping[str, Any], Mapping[str, Any]]) -> Comparison:
        """settings: of both, flat."""
        one, other = settings
        keys = [key for key in dict.fromkeys([*one, *other]) if key != "run.dir" and one.get(key) != other.get(key)]
        names = [*RESULTS, *scores_of([first, second])]
        results = {name: (value_of(first, name), value_of(second, name)) for name in names}
        different = {key: (one.get(key), other.get(key)) for key in keys}
        try:
            return Comparison((first, second), different, results, ari_of(first.path, second.path))
        except DamagedError as error:
            return Comparison((first, second), different, results, None, str(error))

    def text(self) -> str:
        """For a terminal of 100 columns."""
        lines = []
        for letter, run in zip("AB", self.runs, strict=True):
            lines += [f"{letter}  {shown(str(run.path))}", *([f"   {cut(run.problem, 90)}"] if run.problem else [])]
        lines += ["", _line("settings that differ", "A", "B")] if self.settings else ["", "the same settings"]
        lines += [_line(f"  {key}", *map(written, pair)) for key, pair in self.settings.items()]
        lines += ["", _line("results", "A", "B")]
        lines += [_line(f"  {name}", *map(_figure, pair), _change(pair)) for name, pair in self.results.items()]
        agreement = f"none: {cut(self.why_not, 2 * CELL)}" if self.ari is None else f"{self.ari:.6g}"
        return "\n".join([*lines, _line("  ARI of their labels", agreement)])

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        paths = [str(run.path) for run in self.runs]
        return {
            "runs": paths,
            "settings": {key: list(pair) for key, pair in self.settings.items()},
            "results": {name: list(pair) for name, pair in self.results.items()},
            "ari": self.ari,
            "why_no_ari": self.why_not or None,
        }


def _line(name: str, *cells: str) -> str:
    name = shown(name)
    name = name if len(name) < HEADS or len(cells) < 2 else f"{name}\n{' ' * (HEADS - 2)}"
    parts = [text if len(cells) < 2 else cut(text, CELL - 2).ljust(CELL) for text in cells]
    return f"{name:<{HEADS}}{''.join(parts)}".rstrip()


def _figure(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else shown(value)


def _change(pair: tuple[Any, Any]) -> str:
    """By how much the second number differs from the first."""
    numbers = [value for value in pair if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) < 2 or not numbers[0] or numbers[0] == numbers[1]:
        return ""
    before, after = numbers
    return f"{100 * (after - before) / abs(before):+.3g} %"


def ari_of(first: Path, second: Path) -> float:
    """The adjusted Rand index of two runs' labels. Raises DamagedError, saying why, where there is none."""
    (one, one_ids), (other, other_ids) = labels_of(first), labels_of(second)
    if len(one) != len(other):
        raise DamagedError(f"A has {len(one):,} rows, B {len(other):,}")
    if not len(one):
        raise DamagedError("there are no rows")
    if one_ids is not None and other_ids is not None and not one_ids.equals(other_ids):
        raise DamagedError("their ids differ, and so do their rows")
    return float(adjusted_rand(contingency(World(), one, other)))


def labels_of(run: Path) -> tuple[Tensor, Any]:
    """A run's labels in row order, and their ids, None where they have none. Raises DamagedError."""
    parts = label_parts(run)
    try:
        if parts[0].suffix == ".npy":
            arrays, ids = [np.load(part, mmap_mode="r", allow_pickle=False) for part in parts], None
        else:
            arrays, ids = _parquet(parts)
        labels = np.concatenate(arrays)
    except ImportError as error:
        raise DamagedError(f"labels/ is parquet, which needs pyarrow: {first_line(error)}") from error
    except Exception as error:  # whatever the libraries raise for a damaged file
        raise DamagedError(f"labels/ cannot be read ({first_line(error)})") from error
    if labels.ndim != 1 or labels.dtype not in (np.int32, np.int64) or (len(labels) and labels.min() < 0):
        raise DamagedError("labels/ holds no labels")
    return torch.from_numpy(labels), ids


def _parquet(parts: Sequence[Path]) -> tuple[list[np.ndarray], Any]:
    import pyarrow
    import pyarrow.parquet

    tables = [pyarrow.parquet.read_table(part) for part in parts]
    ids = pyarrow.chunked_array([chunk for table in tables for chunk in table["id"].chunks])
    return [table["label"].to_numpy() for table in tables], ids
