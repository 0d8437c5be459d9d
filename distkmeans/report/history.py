"""What run directories tell of their runs. Only they are read: no link is followed, nothing unpickled or imported."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distkmeans.errors import first_line
from distkmeans.report.out_dir import OUT
from distkmeans.report.run_dir import FAILURE, SIGNS, read_config

TRACES = (*SIGNS, "metrics.jsonl", "transform.safetensors")
"""Files by one of which a directory is taken for a run's, whole or not."""
TAIL = 1 << 16
"""Bytes at the end of a log in which an error is looked for."""
ERROR = re.compile(r"^\d{4}-\d\d-\d\d [\d:,]+ ERROR (.+)$", re.MULTILINE)
PART = re.compile(r"part-(\d+)-of-(\d+)\.(?:npy|parquet)")


class DamagedError(Exception):
    """What is wrong with a file of a run."""


@dataclass(frozen=True)
class Run:
    """status: finished, unfinished, failed or damaged; problem: what is wrong, where something is.

    settings: config.yaml, nested. summary: summary.json. Both empty where they cannot be read.
    """

    path: Path
    status: str
    problem: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> Any:
        group = self.settings.get("data")
        return group.get("name") if isinstance(group, Mapping) else group

    @property
    def k(self) -> Any:
        return self.summary.get("k", self.settings.get("k"))

    @property
    def inertia(self) -> Any:
        return self.summary.get("inertia")

    @property
    def iterations(self) -> Any:
        return self.summary.get("iterations")

    @property
    def rows(self) -> Any:
        return self.summary.get("rows")

    @property
    def seconds(self) -> Any:
        """Of seeding and solving."""
        return self.summary.get("seconds", {}).get("fit")

    @property
    def scores(self) -> Mapping[str, Any]:
        return self.summary.get("scores") or {}


def find(folder: Path) -> Iterator[Run]:
    """The runs in a directory, those of sweeps too, at any depth, in the order of their names' numbers."""
    if any(os.path.lexists(folder / name) for name in TRACES):
        yield read(folder)
    elif not OUT.is_in(folder):
        yield from _below(folder)


def _below(folder: Path) -> Iterator[Run]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: in_words(entry.name))
    except OSError as error:
        yield Run(folder, "damaged", f"cannot be read ({error.strerror})")
        return
    for entry in entries:
        if not entry.is_dir(follow_symlinks=False):
            continue
        if _is_empty(entry.path):
            yield Run(Path(entry.path), "unfinished", "nothing is in it yet")
        else:
            yield from find(Path(entry.path))


def in_words(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts k=4 before k=16."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"([0-9]+)", name)]


def _is_empty(folder: str) -> bool:
    """Whether it holds nothing but what a claim leaves for a moment."""
    try:
        return all(entry.name.startswith(".seen-") for entry in os.scandir(folder))
    except OSError:
        return False


def read(folder: Path) -> Run:
    """What the files in a run's directory tell; never raises."""
    problems: list[str] = []

    def try_to(read: Callable[[Path], Mapping[str, Any] | None]) -> Mapping[str, Any]:
        try:
            return read(folder) or {}
        except DamagedError as error:
            problems.append(str(error))
            return {}

    failure, settings, summary = (try_to(of) for of in (_failure, _settings, _summary))
    if failure:
        return Run(folder, "failed", str(failure.get("error", "")), settings, summary)
    if not problems and summary:
        problems += _missing(folder, settings)
    if problems or summary or not settings:
        problem = "; ".join(problems) or ("" if summary else "config.yaml and summary.json are missing")
        return Run(folder, "damaged" if problem else "finished", problem, settings, summary)
    error = _last_error(folder)
    return Run(folder, "failed" if error else "unfinished", error or _progress(folder), settings)


def text_of(folder: Path, name: str) -> str | None:
    """A file's text; None where there is none. Raises DamagedError."""
    path = folder / name
    if path.is_symlink():
        raise DamagedError(f"{name} is a link, which is not followed")
    if not path.is_file():
        if path.exists():
            raise DamagedError(f"{name} is no file")
        return None
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedError(f"{name} cannot be read ({first_line(error)})") from error


def _object(folder: Path, name: str) -> dict[str, Any] | None:
    text = text_of(folder, name)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{name} is no JSON ({first_line(error)})") from error
    if not isinstance(found, dict) or not found:
        raise DamagedError(f"{name} holds no results")
    return found


def _failure(folder: Path) -> dict[str, Any] | None:
    return _object(folder, FAILURE)


def _settings(folder: Path) -> dict[str, Any] | None:
    if text_of(folder, "config.yaml") is None:
        return None
    try:
        found = read_config(folder)
    except Exception as error:  # whatever a YAML parser makes of a damaged file
        raise DamagedError(f"config.yaml is no YAML ({first_line(error)})") from error
    if not isinstance(found, dict) or not found:
        raise DamagedError("config.yaml holds no settings")
    return {str(key): value for key, value in found.items()}


def _summary(folder: Path) -> dict[str, Any] | None:
    found = _object(folder, "summary.json")
    if found is None:
        return None
    for key in ("rows", "k", "iterations", "inertia"):
        if not _is_number(found.get(key)):
            raise DamagedError(f"summary.json: {key} is {'missing' if key not in found else 'no number'}")
    for key in ("seconds", "scores"):
        if not isinstance(found.get(key, {}), dict):
            raise DamagedError(f"summary.json: {key} is no object")
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def _missing(folder: Path, settings: Mapping[str, Any]) -> list[str]:
    """What a finished run has and this one has not."""
    found = [] if settings else ["config.yaml"]
    found += [name for name in ("centroids.safetensors", "centroids.npy") if not (folder / name).is_file()]
    problems = [f"{', '.join(found)} {'are' if len(found) > 1 else 'is'} missing"] if found else []
    try:
        label_parts(folder)
    except DamagedError as error:
        problems.append(str(error))
    return problems


def label_parts(folder: Path) -> list[Path]:
    """The files of a run's labels, in rank order. Raises DamagedError where one is missing."""
    labels = folder / "labels"
    if labels.is_symlink() or not labels.is_dir():
        raise DamagedError("labels/ is a link, which is not followed" if labels.is_symlink() else "labels/ is missing")
    try:
        entries = sorted(labels.iterdir())
    except OSError as error:
        raise DamagedError(f"labels/ cannot be read ({error.strerror})") from error
    parts = {path: match for path in entries if (match := PART.fullmatch(path.name))}
    if not parts:
        raise DamagedError("labels/ holds no parts")
    size = int(next(iter(parts.values()))[2])
    have = [(int(match[1]), int(match[2])) for match in parts.values()]
    lacking = [rank for rank in range(min(size, len(have) + 1)) if (rank, size) not in have]
    if lacking:
        raise DamagedError(f"labels/part-{lacking[0]:05d}-of-{size:05d} is missing")
    if len(have) != size:
        raise DamagedError(f"labels/ holds {len(have)} parts of {size}")
    if links := [path.name for path in parts if path.is_symlink() or not path.is_file()]:
        raise DamagedError(f"labels/{links[0]} is no file")
    return list(parts)


def _last_error(folder: Path) -> str:
    """The last error in log.txt, or nothing."""
    path = folder / "log.txt"
    if path.is_symlink() or not path.is_file():
        return ""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            found = ERROR.findall(file.read().decode("utf-8", "replace"))
    except OSError:
        return ""
    return str(found[-1]) if found else ""


def _progress(folder: Path) -> str:
    """How far an unfinished run has come."""
    try:
        lines = (text_of(folder, "metrics.jsonl") or "").splitlines()
        last = json.loads(lines[-1]) if lines else {}
        return f"iteration {last['iteration']}, inertia {last['inertia']:.6g}" if last else "no iteration yet"
    except (DamagedError, ValueError, KeyError, TypeError):
        return "how far it has come cannot be read"
