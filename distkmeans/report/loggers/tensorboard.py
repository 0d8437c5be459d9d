"""report.loggers=[tensorboard]: scalars of every iteration, the scores, and a histogram of the cluster sizes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from distkmeans.errors import InputError
from distkmeans.report.loggers import loggers
from distkmeans.solvers import Record

SCALARS = ("inertia", "moved", "shift", "judged", "seconds")
"""What is told of an iteration; see ``Record``."""


@loggers.register("tensorboard")
class TensorBoard:
    """Event files in tensorboard/ of the run directory: ``tensorboard --logdir runs`` shows all runs.

    Restarts after the first have names of their own: restart-1/inertia. Needs the extra ``tensorboard``.
    """

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            text = "report.loggers=[tensorboard]: needs tensorboard; pip install 'distkmeans[tensorboard]'"
            raise InputError(text) from error
        self.make: Any = SummaryWriter
        self.writer: Any = None
        self.iterations = 0

    def open(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.writer = self.make(str(folder / "tensorboard"))

    def record(self, restart: int, record: Record) -> None:
        self.iterations = record.iteration
        for name in SCALARS:
            value = getattr(record, name)
            if value is not None:
                self.writer.add_scalar(f"restart-{restart}/{name}" if restart else name, value, record.iteration)

    def end(self, summary: Mapping[str, Any], sizes: np.ndarray) -> None:
        for name, value in (summary.get("scores") or {}).items():
            if value is not None:
                self.writer.add_scalar(f"scores/{name}", value, self.iterations)
        self.writer.add_histogram("cluster sizes", sizes, self.iterations)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
