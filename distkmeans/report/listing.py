"""Runs in a table for the terminal, and as JSON."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Sequence
from typing import Any

from distkmeans.errors import InputError
from distkmeans.report.history import Run, in_words
from distkmeans.schema import listed, nearest

COLUMNS = ("name", "data", "k", "inertia", "seconds", "status")
MORE_KEYS = ("rows", "iterations")
"""What runs can be sorted by, beside the columns and the scores."""
WIDTH, NAME_WIDTH = 100, 24
"""Columns of the terminal; those that names have at least, longer ones get a line of their own."""


def scores_of(runs: Sequence[Run]) -> list[str]:
    """The names of the scores that any of the runs has."""
    return list(dict.fromkeys(name for run in runs for name in run.scores))


def ordered(runs: Sequence[Run], key: str | None) -> list[Run]:
    """By a column or score, those that have none last. Raises InputError for one that there is not."""
    if key is None:
        return list(runs)
    known = [*COLUMNS, *MORE_KEYS, *scores_of(runs)]
    if key not in known:
        raise InputError(f"--sort {key}: unknown; expected {listed(known, 'or')}{nearest(key, known)}")
    return sorted(runs, key=lambda run: _place(value_of(run, key)))


def value_of(run: Run, key: str) -> Any:
    """What a run has in a column, or as a score; None where it has nothing."""
    if key == "name":
        return str(run.path)
    return getattr(run, key) if key in (*COLUMNS, *MORE_KEYS) else run.scores.get(key)


def _place(value: Any) -> tuple[int, Any]:
    if isinstance(value, (int, float)) and not math.isnan(value):
        return 0, value
    return (2, 0) if value is None or isinstance(value, float) else (1, in_words(str(value)))


def as_json(runs: Sequence[Run]) -> str:
    """A list of objects; a number that JSON has no word for is null."""
    keys = ("name", "status", "problem", "data", "k", "rows", "iterations", "inertia", "scores", "seconds")
    found = [{key: plain(run.problem if key == "problem" else value_of_json(run, key)) for key in keys} for run in runs]
    return json.dumps(found, indent=2)


def value_of_json(run: Run, key: str) -> Any:
    return dict(run.scores) if key == "scores" else value_of(run, key)


def plain(value: Any) -> Any:
    """A value that JSON can hold."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)


def as_table(runs: Sequence[Run]) -> str:
    """A line per run, at most WIDTH wide; scores are columns where there is room for all, else lines below each run."""
    columns = [*COLUMNS, *scores_of(runs)]
    in_columns = NAME_WIDTH + sum(_width(runs, key) + 2 for key in columns[1:]) <= WIDTH
    columns = columns if in_columns else list(COLUMNS)
    widths = {key: _width(runs, key) for key in columns}
    room = WIDTH - sum(width + 2 for key, width in widths.items() if key != "name")
    widths["name"] = min(widths["name"], max(room, NAME_WIDTH))
    lines = _header(columns, widths)
    for run in runs:
        lines += _lines(run, columns, widths)
        lines += [] if in_columns else _score_lines(run)
    return "\n".join(line.rstrip() for line in lines)


def _width(runs: Sequence[Run], key: str) -> int:
    return max([*map(len, key.split("_")), *(len(_cell(run, key)) for run in runs)])


def _cell(run: Run, key: str) -> str:
    value = value_of(run, key)
    return f"{value:.4g}" if isinstance(value, float) and key != "inertia" else shown(value)


def _score_lines(run: Run) -> list[str]:
    """Names and values, in lines that fit."""
    told = "  ".join(f"{shown(name)}={_cell(run, name)}" for name in run.scores)
    return textwrap.wrap(told, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _header(columns: Sequence[str], widths: dict[str, int]) -> list[str]:
    """The names of the columns, their words below each other."""
    words = {key: shown(key).split("_") for key in columns}
    height = max(map(len, words.values()))
    padded = {key: [""] * (height - len(parts)) + parts for key, parts in words.items()}
    return ["  ".join(_aligned(padded[key][line], key, widths) for key in columns) for line in range(height)]


def _lines(run: Run, columns: Sequence[str], widths: dict[str, int]) -> list[str]:
    name = _cell(run, "name")
    above = [name] if len(name) > widths["name"] else []
    cells = {key: _cell(run, key) for key in columns} | {"name": "" if above else name}
    below = [f"  {cut(run.problem, WIDTH - 2)}"] if run.problem else []
    return [*above, "  ".join(_aligned(cells[key], key, widths) for key in columns), *below]


def _aligned(text: str, key: str, widths: dict[str, int]) -> str:
    return text.ljust(widths[key]) if key in ("name", "data", "status") else text.rjust(widths[key])


def shown(value: Any) -> str:
    """A value in a cell: numbers in six digits, nothing that a terminal would take for a command."""
    if isinstance(value, float):
        return f"{value:.6g}"
    text = "" if value is None else str(value)
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def cut(text: str, width: int) -> str:
    """Text in one line of at most ``width``."""
    text = shown(" ".join(text.split()))
    return text if len(text) <= width else f"{text[: width - 3]}..."
