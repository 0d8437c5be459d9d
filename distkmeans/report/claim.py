"""Who may have a run directory: a new one, an empty one, one whose run is to be replaced, or a sweep's."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from distkmeans.errors import InputError
from distkmeans.launcher import is_restart, launch_id, node_name
from distkmeans.report.directory import Layout
from distkmeans.report.out_dir import OUT, OutDir
from distkmeans.report.run_dir import RUN, SWEEP, RunDir, holds_run
from distkmeans.world import World

VISIBLE_S = 8.0
"""How long a shared file system may take to show a new file on another node."""


@dataclass(frozen=True)
class Chosen:
    """A directory that rank 0 has chosen. made: now. replaces: it may hold results, which will be replaced."""

    path: Path
    made: bool
    replaces: bool = False


def claim(world: World, path: str | None, name: str, overwrite: bool) -> RunDir:
    """The directory ``path``, or a new one under ``runs`` that bears ``name`` and the launch's id. A collective.

    Nothing in it is touched yet: ``RunDir.begin`` does that. Raises InputError on all ranks for one that holds a run,
    unless ``overwrite``, or something else, that cannot be written to, or that is not the same on all nodes.
    """

    def choose() -> Chosen:
        if not path:
            return _make_new(name)
        _refuse(Path(path), overwrite, RUN)
        return _take(Path(path), overwrite)

    found = _claim(world, path, choose)
    return RunDir(world, found.path, found.made, found.replaces)


def claim_out(world: World, path: str, overwrite: bool) -> OutDir:
    """The directory for labels and distances, by the same rules. A collective; raises as ``claim``."""

    def choose() -> Chosen:
        if holds_run(Path(path)):
            raise InputError(f"out.dir={path}: holds a run; choose another")
        _refuse(Path(path), overwrite, OUT)
        return _take(Path(path), overwrite)

    found = _claim(world, path, choose, OUT)
    return OutDir(world, found.path, found.made, found.replaces)


def claim_sweep(world: World, path: str | None, name: str) -> Path:
    """The directory of a sweep, which may hold points of it already. A collective; raises as ``claim``."""

    def choose() -> Chosen:
        if not path:
            return _make_new(name)
        _refuse_sweep(Path(path))
        return _take(Path(path))

    return _claim(world, path, choose).path


def check_free(path: str | None, overwrite: bool, sweep: bool) -> None:
    """Raise InputError where claiming would, as far as can be known without making anything."""
    if path:
        with _told(RUN, path):
            _refuse_sweep(Path(path)) if sweep else _refuse(Path(path), overwrite, RUN)
            folder = existing(Path(path))
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"run.dir={path}: {folder} cannot be written to; choose another")


def existing(path: Path) -> Path:
    """The path, or the nearest of its parents that is there."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if os.path.exists(folder))


def _claim(world: World, asked: str | None, take: Callable[[], Chosen], layout: Layout = RUN) -> Chosen:
    """Take a directory on rank 0, and see on all ranks that it is the same. A collective."""
    chosen, token = Chosen(Path(), False), ""
    with world.guard():
        if world.rank == 0:
            with _told(layout, asked or "runs"):
                chosen = take()
                token = f".seen-{secrets.token_hex(8)}"
                (chosen.path / token).touch()
    there, token = world.share((os.path.abspath(chosen.path), token))
    try:
        _check_shared(world, Path(there), token, layout)
    finally:
        if world.rank == 0:
            (chosen.path / token).unlink(missing_ok=True)
    return chosen if world.rank == 0 else replace(chosen, path=Path(there))


@contextlib.contextmanager
def _told(layout: Layout, path: str) -> Iterator[None]:
    """What the file system has against a path becomes an InputError."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{layout.field}={path}: {reason}; choose another") from error


def _check_shared(world: World, path: Path, token: str, layout: Layout) -> None:
    """Raise InputError on all ranks, naming nodes, unless every rank sees rank 0's file in ``path``. A collective."""
    end = time.monotonic() + VISIBLE_S
    while not (seen := os.path.exists(path / token)) and time.monotonic() < end:
        time.sleep(0.1)
    writable = seen and os.access(path, os.W_OK | os.X_OK)
    blind = [(rank, told) for rank, told in enumerate(world.collect(None if writable else (node_name(), seen))) if told]
    if blind:
        node, seen = blind[0][1]
        ranks = ", ".join(str(rank) for rank, _ in blind)
        what = "cannot write to" if seen else "does not see"
        raise InputError(
            f"{layout.field}={path}: node {node} {what} the folder that rank 0 writes to (ranks {ranks}); choose one on"
            " a file system that all nodes share"
        )


def _refuse(path: Path, overwrite: bool, layout: Layout) -> None:
    """Raise InputError for what is no place for these results."""
    _refuse_file(path, layout)
    field = layout.field
    if (path / SWEEP).exists():
        remedy = "choose another, or go on with it: -m" if layout is RUN else "choose another"
        raise InputError(f"{field}={path}: holds a sweep; {remedy}")
    if layout.is_in(path) and not overwrite:
        group = field.partition(".")[0]
        raise InputError(f"{field}={path}: holds {layout.what} already; choose another, or {group}.overwrite=true")
    if foreign := next(_foreign(path, layout), None):
        raise InputError(f"{field}={path}: holds {foreign}, which no {layout.job} wrote; choose another")


def _refuse_file(path: Path, layout: Layout) -> None:
    if path.is_symlink() and not path.exists():
        raise InputError(f"{layout.field}={path}: a broken link; choose another")
    if path.exists() and not path.is_dir():
        raise InputError(f"{layout.field}={path}: a file, not a directory; choose another")


def _foreign(path: Path, layout: Layout) -> Iterator[str]:
    """What is in the places of the results' files and is none of them."""
    ours = layout.is_in(path)
    for name in layout.files:
        if (path / name).exists() and not (ours and (path / name).is_file()):
            yield name
    for folder, patterns in layout.folders.items():
        if os.path.lexists(path / folder) and not (ours and (path / folder).is_dir()):
            yield folder
        elif (path / folder).is_dir():
            for entry in (path / folder).iterdir():
                if not any(entry.match(pattern) for pattern in patterns):
                    yield f"{folder}/{entry.name}"


def _take(path: Path, replaces: bool = False) -> Chosen:
    made = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    return Chosen(path, made, replaces)


def _refuse_sweep(path: Path) -> None:
    _refuse_file(path, RUN)
    if holds_run(path):
        raise InputError(f"run.dir={path}: holds a single run, not a sweep; choose another")


def _make_new(name: str) -> Chosen:
    """runs/<name>-<launch>, made by this call alone; a launch that starts again takes its unfinished one back."""
    launch = launch_id()
    path = Path("runs") / f"{name}-{launch}"
    if launch and is_restart() and path.is_dir() and not (path / "summary.json").exists():
        return Chosen(path, made=False, replaces=True)
    Path("runs").mkdir(exist_ok=True)
    for path in _candidates(name, launch):
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return Chosen(path, made=True)
    raise AssertionError("the candidates never end")


def _candidates(name: str, launch: str | None) -> Iterator[Path]:
    if launch:
        yield Path("runs") / f"{name}-{launch}"
    count = 1
    while True:
        yield Path("runs") / (f"{name}-{launch}-{count}" if launch else f"{name}-{count}")
        count += 1
