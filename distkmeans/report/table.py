"""sweep.csv: a row per point, from the points' own files."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distkmeans.errors import InputError, first_line
from distkmeans.report.listing import cut, shown
from distkmeans.report.run_dir import FAILURE, SWEEP

STATUS = ("status", "error")
RESULTS = ("inertia", "iterations", "seconds")
ORIGIN = ("data_reads", "dir")
WIDTH = 60
"""Characters of a cell that is printed."""


@dataclass(frozen=True)
class Row:
    """A point that was run. status: done or failed, with its error. seconds: of seeding and solving.

    data_reads: how often the rows were read for it. dir: its directory, within the sweep's.
    """

    dir: str
    overrides: Mapping[str, str]
    status: str
    error: str = ""
    inertia: float | None = None
    iterations: int | None = None
    seconds: float | None = None
    scores: Mapping[str, float | None] = field(default_factory=dict)
    data_reads: int | None = None


@dataclass(frozen=True)
class Table:
    """The points of a sweep that were run, in ``folder``."""

    folder: Path
    rows: list[Row]

    @staticmethod
    def read(folder: Path, points: Mapping[str, Mapping[str, str]]) -> Table:
        """What the directories tell: of these points (directory: overrides), and of those of earlier starts.

        Raises InputError for a sweep.csv that another program has spoilt.
        """
        known = {**points, **{name: told for name, told in _earlier(folder).items() if name not in points}}
        rows = [_row(folder / name, overrides) for name, overrides in known.items()]
        return Table(folder, [row for row in rows if row])

    def write(self) -> None:
        """Write sweep.csv, whole or not at all."""
        aside = self.folder / f"{SWEEP}.part"
        with open(aside, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([self.header, *([_text(cell) for cell in line] for line in self._lines())])
        aside.replace(self.folder / SWEEP)

    def text(self) -> str:
        """The table for a terminal."""
        hidden = {"data_reads", "dir", *(() if any(row.error for row in self.rows) else ("error",))}
        shown = [place for place, name in enumerate(self.header) if name not in hidden]
        lines = [self.header, *([_shown(cell) for cell in line] for line in self._lines())]
        widths = [max(len(line[place]) for line in lines) for place in shown]
        cells = [[line[place].ljust(width) for place, width in zip(shown, widths, strict=True)] for line in lines]
        return "\n".join("  ".join(line).rstrip() for line in cells)

    @property
    def axes(self) -> list[str]:
        """The keys that vary, in the order in which they came up."""
        return list(dict.fromkeys(key for row in self.rows for key in row.overrides))

    @property
    def scores(self) -> list[str]:
        return list(dict.fromkeys(key for row in self.rows for key in row.scores))

    @property
    def header(self) -> list[str]:
        return [*self.axes, *STATUS, *RESULTS, *self.scores, *ORIGIN]

    def _lines(self) -> list[list[Any]]:
        return [
            [
                *(row.overrides.get(axis) for axis in self.axes),
                *(getattr(row, name) for name in (*STATUS, *RESULTS)),
                *(row.scores.get(name) for name in self.scores),
                *(getattr(row, name) for name in ORIGIN),
            ]
            for row in self.rows
        ]


def _earlier(folder: Path) -> dict[str, dict[str, str]]:
    """The points of the sweep.csv that is there: directory and overrides."""
    if not (folder / SWEEP).exists():
        return {}
    try:
        with open(folder / SWEEP, newline="", encoding="utf-8-sig") as file:
            lines = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        reason = f"cannot be read ({first_line(error)}); save it as UTF-8, or remove it"
        raise InputError(f"{folder / SWEEP}: {reason}") from error
    return {line["dir"]: _overrides(line) for line in lines if line.get("dir") and "status" in line}


def _overrides(line: Mapping[str, str]) -> dict[str, str]:
    """The cells before the status that are not empty."""
    names = list(line)
    return {name: line[name] for name in names[: names.index("status")] if line[name]}


def _row(folder: Path, overrides: Mapping[str, str]) -> Row | None:
    """What a point's directory tells; None where it was not run to an end."""
    failure = read_json(folder / FAILURE)
    if failure:  # newer than a summary that is there: that one was to be replaced
        return Row(folder.name, overrides, "failed", failure["error"], data_reads=failure["data_reads"])
    if summary := read_json(folder / "summary.json"):
        return Row(
            folder.name,
            overrides,
            "done",
            inertia=summary["inertia"],
            iterations=summary["iterations"],
            seconds=summary["seconds"]["fit"],
            scores=summary.get("scores", {}),
            data_reads=summary["data_reads"],
        )
    return None


def is_done(folder: Path) -> bool:
    """Whether a directory holds a finished run that no later one has failed to replace."""
    return read_json(folder / "summary.json") is not None and not (folder / FAILURE).exists()


def read_json(path: Path) -> dict[str, Any] | None:
    """The object that a file holds; None for a file that is not there or damaged: its run is as good as missing."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found else None


def _text(cell: Any) -> str:
    return "" if cell is None else repr(cell) if isinstance(cell, float) else str(cell)


def _shown(cell: Any) -> str:
    return shown(cell) if isinstance(cell, float) else cut(_text(cell), WIDTH)
