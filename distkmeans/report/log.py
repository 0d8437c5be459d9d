"""The job's log: rank 0's standard error, and log.txt in the run directory."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from distkmeans.world import log


def open_screen(speaks: bool) -> None:
    """Send the log to standard error in the process that ``speaks`` for the job, and nowhere in the others."""
    log.setLevel(logging.INFO)
    log.propagate = False
    screen = logging.StreamHandler()
    screen.addFilter(lambda record: record.levelno < logging.ERROR)  # errors are told once, at the end
    screen.setFormatter(logging.Formatter("distkmeans: %(message)s"))
    screen.handleError = _ignore  # type: ignore[method-assign]
    log.handlers = [screen if speaks else logging.NullHandler()]


@contextlib.contextmanager
def also_to(path: Path | None) -> Iterator[None]:
    """Send the log to a file as well; None for a rank that writes none."""
    if path is None:
        yield
        return
    file = logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    file.handleError = _ignore  # type: ignore[method-assign]
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(file)
    try:
        yield
    finally:
        log.removeHandler(file)
        with contextlib.suppress(OSError):  # a full disk: the results say so themselves
            file.close()


def _ignore(record: logging.LogRecord) -> None:
    """A log that cannot be written, for a full disk or a closed terminal, is no reason to say so a line each."""
