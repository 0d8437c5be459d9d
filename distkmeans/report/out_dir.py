"""The files that ``distkmeans.apply`` leaves behind."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml

from distkmeans.errors import InputError
from distkmeans.report.directory import Directory, Layout
from distkmeans.report.parts import PATTERN

ASKED, RESULT = "apply.yaml", "apply.json"
"""What was asked for, written first; what came of it, written last."""
FOLDERS = ("labels", "distances")
OUT = Layout(
    "out.dir",
    "results of apply",
    "apply",
    (ASKED, RESULT),
    (ASKED, RESULT),
    {name: (PATTERN,) for folder in FOLDERS for name in (folder, f"{folder}.part")},
)


@dataclass(frozen=True)
class OutDir(Directory):
    """The directory of labels and distances. Earlier results stay whole until ``finish``."""

    layout: ClassVar[Layout] = OUT

    def begin(self, asked: Mapping[str, Any]) -> None:
        """Leave a sign of what this is, and make room for new parts. A collective."""
        with self.world.guard(), self.writing():
            if self.world.rank == 0:
                known = OUT.is_in(self.path)
                if known and not self.replaces:
                    raise InputError(f"out.dir={self.path}: another job has begun to write there; choose another")
                self._clear_parts()
                if not known:
                    self._write_asked(asked)

    def finish(self, asked: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Put the new parts, and what came of them, in the place of earlier results. A collective."""
        with self.world.guard(), self.writing():
            if self.world.rank == 0:
                (self.path / RESULT).unlink(missing_ok=True)
        for folder in FOLDERS:
            self.publish(folder)
        with self.world.guard():
            self._write_asked(asked)
            self.write_text(RESULT, json.dumps(result, indent=2) + "\n")

    def give_up(self) -> None:
        """Take away what was begun (rank 0): earlier results are as they were, a new directory goes."""
        if self.world.rank == 0:
            with contextlib.suppress(OSError):
                self._clear_parts()
                if not (self.path / RESULT).exists():
                    OUT.clear(self.path)
            self.discard()

    def _clear_parts(self) -> None:
        for folder in FOLDERS:
            OUT.clear_folder(self.path, f"{folder}.part")

    def _write_asked(self, asked: Mapping[str, Any]) -> None:
        self.write_text(ASKED, yaml.safe_dump(dict(asked), sort_keys=False, allow_unicode=True))
