"""One moving line per run: iteration, inertia, rows moved, time left."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from distkmeans.solvers import Record
from distkmeans.world import World


class Progress:
    """A bar on rank 0's terminal; silent on other ranks, and where standard error is no terminal."""

    def __init__(self, world: World, rows: int, max_iter: int | None) -> None:
        self.rows, self.max_iter, self.restart = rows, max_iter, -1
        self.shown = world.rank == 0
        self.bar: Any = None

    def __call__(self, restart: int, record: Record) -> None:
        if not self.shown:
            return
        if restart != self.restart:
            self.close()
            self.restart, self.bar = restart, self._open()
        moved = "" if record.moved is None else f", moved {100 * record.moved / self.rows:.2f} %"
        self.bar.set_postfix_str(f"inertia {record.inertia:.6g}{moved}", refresh=False)
        self.bar.update(record.iteration - self.bar.n)

    def _open(self) -> Any:
        from tqdm import tqdm

        return tqdm(total=self.max_iter, unit="it", desc="k-means", disable=None, leave=False)

    def close(self) -> None:
        """Take the bar off the screen."""
        if self.bar is not None:
            self.bar.close()


class RowsDone:
    """The same for rows that ranks go through in step: how many of ``total`` are done."""

    def __init__(self, world: World, total: int) -> None:
        from tqdm import tqdm

        self.bar: Any = None
        if world.rank == 0:
            self.bar = tqdm(total=total, unit=" rows", unit_scale=True, desc="apply", disable=None, leave=False)

    def reach(self, rows: int) -> None:
        """So many are done now."""
        if self.bar is not None:
            self.bar.update(min(rows, self.bar.total) - self.bar.n)

    def __enter__(self) -> RowsDone:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()
