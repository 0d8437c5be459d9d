"""Loggers: who else hears of a run, on rank 0. metrics.jsonl is written in any case."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from distkmeans.registry import Registry
from distkmeans.solvers import Record
from distkmeans.world import World


class Logger(Protocol):
    """Made on every rank before any row is read: raise InputError there for what is missing. Called on rank 0 alone.

    ``close`` comes last, also after a run that fails. An error of a logger never ends the run: it is told once, and the
    logger hears no more.
    """

    def open(self, folder: Path, settings: Mapping[str, Any]) -> None:
        """The run begins: its directory, and its settings as in config.yaml."""

    def record(self, restart: int, record: Record) -> None:
        """An iteration of one of the ``n_init`` restarts, from 0, is done."""

    def end(self, summary: Mapping[str, Any], sizes: np.ndarray) -> None:
        """The run has ended well: its summary, as in summary.json, and int64 (K,), the rows of each cluster."""

    def close(self) -> None: ...


loggers: Registry[Logger] = Registry("report.loggers", "distkmeans.report.loggers")


class Loggers:
    """All loggers of a run as one: silent on other ranks than 0, and without those that have failed."""

    def __init__(self, world: World, members: Sequence[Logger]) -> None:
        self.world = world
        self.members = list(members) if world.speaks else []

    def open(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self._each(lambda logger: logger.open(folder, settings))

    def record(self, restart: int, record: Record) -> None:
        self._each(lambda logger: logger.record(restart, record))

    def end(self, summary: Mapping[str, Any], sizes: np.ndarray) -> None:
        self._each(lambda logger: logger.end(summary, sizes))

    def close(self) -> None:
        self._each(lambda logger: logger.close())

    def _each(self, tell: Callable[[Logger], None]) -> None:
        for logger in list(self.members):
            try:
                tell(logger)
            except Exception as error:  # whatever another tool has to say: the results are what counts
                self.members.remove(logger)
                name = type(logger).__name__
                self.world.warn(f"logger {name} failed and hears no more: {type(error).__name__}: {error}")
