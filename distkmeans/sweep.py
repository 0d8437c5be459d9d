"""A sweep: one run after another over all ranks, in step, with one process group, rows read once."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from distkmeans.errors import DistkmeansError, InputError, RankLostError, first_line
from distkmeans.job import Job
from distkmeans.reading import Reader, data_key, problem_key, transform_key
from distkmeans.report.choice import Choice, choose
from distkmeans.report.claim import claim_sweep
from distkmeans.report.run_dir import FAILURE, SWEEP, read_config
from distkmeans.report.table import Table, is_done
from distkmeans.schema import written
from distkmeans.settings import Common, Settings, flattened
from distkmeans.world import World

NAME_LENGTH = 120
"""Characters of a point's directory name; a file system takes 255 bytes."""
SWEEP_PATIENCE_S = 5.0
"""How long a job waits for another one that runs the same sweep: a killed one may be about to end."""
TABLE_PATIENCE_S = 60.0
ENDS = ("summary.json", FAILURE)
"""Files that a point leaves at its end."""
IMMATERIAL = ("run.", "report.", "sweep.", "dry_run", "plugins")
"""Settings that may differ between the start of a sweep and its continuation."""


@dataclass(frozen=True)
class Point:
    """overrides: what sets it apart, such as {"k": "64"}. settings: all of them. error: why there are none."""

    overrides: Mapping[str, str]
    settings: Mapping[str, Any]
    error: str | None = None

    @property
    def name(self) -> str:
        """Its directory's name: the overrides, with a hash where that alone would not do for a directory."""
        text = ",".join(f"{key.lstrip('+')}={value}" for key, value in self.overrides.items()) or "run"
        safe = re.sub(r"[^\w.,=+@%()\[\]-]+", "_", text)
        if safe == text and len(text) <= NAME_LENGTH and not text.startswith("."):
            return text
        return f"{safe[:NAME_LENGTH].lstrip('.')}-{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}"


@dataclass
class Sweep:
    """Points of one directory. Every rank walks them in the same order.

    points: those that this job runs. everyone: all points of the sweep, for its table.
    """

    world: World
    points: Sequence[Point]
    common: Common
    root: Path
    everyone: Sequence[Point] = ()

    @staticmethod
    def open(world: World, points: Sequence[Point], common: Common) -> Sweep:
        """Claim the sweep's directory, which may hold points of it already. A collective; raises InputError."""
        mine = part(points, common.sweep.part)
        first = next((point.settings for point in points if not point.error), {})
        data = first.get("data", {})
        name = f"{data.get('name', 'runs') if isinstance(data, Mapping) else 'runs'}-sweep"
        sweep = Sweep(world, mine, common, claim_sweep(world, common.run.dir, name), points)
        with world.guard():
            if world.rank == 0:
                sweep.refuse_changes()
                sweep.table()
        return sweep

    def run(self) -> int:
        """Run the points that are missing or failed, and tell of all; 1 where one failed, else 0. A collective."""
        with self.alone():
            pending = ordered(self.pending())
            self.world.tell(f"{len(pending)} of {len(self.points)} points to run; results in {self.root}")
            reader = Reader(self.world, [point.settings for point in pending if not point.error])
            start = 0.0
            for number, point in enumerate(pending, 1):
                self.world.tell(f"point {number} of {len(pending)}: {point.name}")
                start = self.run_point(point, reader, start)
        return self.finish()

    def run_point(self, point: Point, reader: Reader, start: float) -> float:
        """Run a point, or leave in its directory why it failed; its start in seconds, for the next. A collective."""
        reads = reader.reads
        try:
            with self.world.guard():
                self.forget(point)
                if point.error:
                    raise InputError(point.error)
                settings = Settings.build(self.placed(point))
            job = Job(self.world, settings, reader, start)
            job.run()
            start = job.seconds["start"]
        except Exception as error:
            if isinstance(error, RankLostError) or not self.world.all_arrive():
                raise
            self.note(point, error, reader.reads - reads)
        if self.world.rank == 0:
            self.table()
        return start

    def forget(self, point: Point, names: Sequence[str] = (FAILURE,)) -> None:
        """Take away what tells of an earlier end (rank 0)."""
        if self.world.rank == 0:
            for name in names:
                (self.root / point.name / name).unlink(missing_ok=True)

    def note(self, point: Point, error: Exception, data_reads: int) -> None:
        """Tell that a point has failed, and leave the reason in its directory."""
        kind = "" if isinstance(error, DistkmeansError) else f"{type(error).__name__}: "
        text = f"{kind}{first_line(error)}"
        self.world.warn(f"{point.name} failed: {text}")
        if self.world.rank == 0:
            folder = self.root / point.name
            failure = json.dumps({"error": text, "data_reads": data_reads})
            try:
                folder.mkdir(exist_ok=True)
                (folder / FAILURE).write_text(failure + "\n", encoding="utf-8")
            except OSError as trouble:  # a full disk, or a file of that name: the sweep goes on
                self.world.warn(f"{folder}: {trouble.strerror}; the failure is not recorded")

    def pending(self) -> list[Point]:
        """The points that are not done, as rank 0 sees it. A collective."""
        if self.common.run.overwrite:
            return list(self.points)
        done = [is_done(self.root / point.name) for point in self.points]
        return [point for point, finished in zip(self.points, self.world.share(done), strict=True) if not finished]

    def has_result(self, name: str) -> bool:
        """Whether the point of this name has been run to an end, good or bad, since all of it was forgotten."""
        return any((self.root / name / file).exists() for file in ENDS)

    def placed(self, point: Point) -> dict[str, Any]:
        """The point's settings with its own directory, which it may take whatever an earlier start has left there."""
        run = {**point.settings["run"], "dir": str(self.root / point.name), "overwrite": True}
        return {**point.settings, "run": run}

    def finish(self) -> int:
        """Tell what is known of all points, and show it; 1 where one of this job's points failed. A collective."""
        failed = False
        with self.world.guard():
            if self.world.rank == 0:
                table = self.table()
                mine = {point.name for point in self.points}
                done = {row.dir for row in table.rows if row.status == "done"}
                failed = not mine <= done
                choice = choose(table)
                if done:
                    self._show(table, choice)
                print(table.text(), flush=True)
                self.world.tell(f"{len(done)} of {len(table.rows)} points done; results in {self.root}")
                if choice:
                    self.world.tell(choice.sentence)
        return int(self.world.share(failed))

    def table(self) -> Table:
        """sweep.csv, brought up to date with the points' own files (rank 0)."""
        with locked(self.root / ".sweep.lock", TABLE_PATIENCE_S):
            known = self.everyone or self.points
            table = Table.read(self.root, {point.name: point.overrides for point in known})
            try:
                table.write()
            except OSError as error:  # the next start can make it anew from the points' own files
                self.world.warn(f"{self.root / SWEEP}: {error.strerror}; not up to date")
        return table

    def refuse_changes(self) -> None:
        """Raise InputError where a point of this name was run with other settings (rank 0)."""
        for point in self.points:
            folder = self.root / point.name
            if point.error or self.common.run.overwrite or not is_done(folder):
                continue
            before, now = flattened(read_config(folder)), flattened(point.settings)
            for key in sorted(before.keys() | now.keys()):
                if before.get(key) != now.get(key) and not key.startswith(IMMATERIAL):
                    raise InputError(
                        f"run.dir={self.root}: {point.name} was run with {key}={written(before.get(key))}, now"
                        f" {written(now.get(key))}; choose another run.dir, or run.overwrite=true to run all again"
                    )

    def _show(self, table: Table, choice: Choice | None) -> None:
        """sweep.png, and report.html where a point asks for its own (rank 0)."""
        from distkmeans.report.sweep_report import show_sweep

        try:
            show_sweep(table, choice, html=any(_has_page(point.settings) for point in self.everyone or self.points))
        except Exception as error:  # whatever the drawing library meets: the table is what counts
            self.world.warn(f"no sweep.png: {type(error).__name__}: {error}")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Refuse to run the same points as another job that is at it. A collective."""
        with contextlib.ExitStack() as stack:
            with self.world.guard():
                if self.world.rank == 0:
                    name = f".running-{(self.common.sweep.part or 'all').replace('/', '-of-')}.lock"
                    if not stack.enter_context(locked(self.root / name, SWEEP_PATIENCE_S)):
                        raise InputError(f"run.dir={self.root}: another job runs this sweep; wait for it, or end it")
            yield


def _has_page(settings: Mapping[str, Any]) -> bool:
    report = settings.get("report")
    return isinstance(report, Mapping) and report.get("html") is True


def part(points: Sequence[Point], which: str | None) -> list[Point]:
    """Every N-th point from the I-th, where ``which`` is I/N; all points for None. Raises InputError."""
    if which is None:
        return list(points)
    found = re.fullmatch(r"(\d+)/(\d+)", which)
    if not found or int(found[1]) >= int(found[2]):
        raise InputError(f"sweep.part={which}: expected I/N, with I from 0 to N-1")
    return list(points[int(found[1]) :: int(found[2])])


def ordered(points: Sequence[Point]) -> list[Point]:
    """Points that read, transform and pose alike one after another, otherwise in the order that they came in."""
    order = list(points)
    for key in (problem_key, transform_key, data_key):
        first: dict[str, int] = {}
        for place, point in enumerate(order):
            first.setdefault(key(point.settings), place)
        order.sort(key=lambda point: first[key(point.settings)])
    return order


@contextlib.contextmanager
def locked(path: Path, patience_s: float) -> Iterator[bool]:
    """Hold a lock that ends with this process at the latest; False where another holds it for all of ``patience_s``."""
    with open(path, "a") as file:
        free, end = _lock(file), time.monotonic() + patience_s
        while not free and time.monotonic() < end:
            time.sleep(0.05)
            free = _lock(file)
        yield free  # closing the file ends the lock


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True
