"""A directory of results: what it may hold, and how files come into it whole or not at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from distkmeans.errors import InputError
from distkmeans.report.parts import Part, name_of
from distkmeans.world import World


@dataclass(frozen=True)
class Layout:
    """What a kind of results looks like on disk.

    field: the key that names its directory. what, job: what the results are called, and who writes them. signs: the
    files by which they are known, finished or not. files, folders: all that is written, with the names of what is in a
    folder.
    """

    field: str
    what: str
    job: str
    signs: tuple[str, ...]
    files: tuple[str, ...]
    folders: Mapping[str, tuple[str, ...]]

    def is_in(self, path: Path) -> bool:
        """Whether a directory holds such results, finished or not."""
        return any((path / sign).exists() for sign in self.signs)

    def clear(self, path: Path) -> None:
        """Remove what was written, and nothing else."""
        for file in self.files:
            (path / file).unlink(missing_ok=True)
        for folder in self.folders:
            self.clear_folder(path, folder)

    def clear_folder(self, path: Path, folder: str) -> None:
        """Remove what was written into a folder, and the folder if that is all."""
        for own in {own for pattern in self.folders[folder] for own in (path / folder).glob(pattern)}:
            own.unlink()
        with contextlib.suppress(OSError):  # it is not there, or holds something else
            (path / folder).rmdir()


@dataclass(frozen=True)
class Directory:
    """A claimed directory. Rank 0 writes, but for parts, of which every rank writes its own.

    made: whether the claim has made it. replaces: whether it may replace results that are there.
    """

    world: World
    path: Path
    made: bool = False
    replaces: bool = False

    layout: ClassVar[Layout]

    def discard(self) -> None:
        """Give up the claim before the beginning (rank 0): earlier results are as they were, a new directory goes."""
        if self.world.rank == 0 and self.made:
            with contextlib.suppress(OSError):  # somebody has put a file there
                self.path.rmdir()

    def write_text(self, name: str, text: str) -> None:
        """Write a file whole or not at all (rank 0)."""
        if self.world.rank == 0:
            with self.writing():
                aside = self.path / f"{name}.part"
                aside.write_text(text, encoding="utf-8")
                aside.replace(self.path / name)

    def part(self, folder: str, column: str, rows: int, ids: np.ndarray | None) -> Part:
        """This rank's part of ``folder``, aside until ``publish``: ``rows`` values, named ``column`` beside ids."""
        aside = self.path / f"{folder}.part"
        aside.mkdir(exist_ok=True)
        return Part(aside / name_of(self.world.rank, self.world.size), column, rows, ids)

    def publish(self, folder: str) -> None:
        """Put a folder of whole parts in its place. A collective."""
        with self.world.guard(), self.writing():
            if self.world.rank == 0:
                self.layout.clear_folder(self.path, folder)
                (self.path / f"{folder}.part").replace(self.path / folder)

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """What goes wrong with a file inside becomes an InputError."""
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(
                f"{self.layout.field}={self.path}: {reason}; make room, or choose another directory"
            ) from error
