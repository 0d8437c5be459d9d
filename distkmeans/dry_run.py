"""dry_run=true: tell what a run would read, need and take, and every mistake that can be known before it starts."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from distkmeans.cost import Memory, bytes_told, memory_of, passes_of, seconds_told
from distkmeans.data.ids import read_ids
from distkmeans.data.shard import Shard, described, weighted
from distkmeans.errors import InputError
from distkmeans.init.random import Random
from distkmeans.metrics import Geometry
from distkmeans.problem import Problem, pose
from distkmeans.reading import Opened, Reader
from distkmeans.report.claim import check_free, existing
from distkmeans.settings import Common, Settings
from distkmeans.solvers import Record
from distkmeans.solvers.lloyd import label_type
from distkmeans.sweep import Point, Sweep
from distkmeans.transforms import fitted
from distkmeans.world import World

PROBE_OPERATIONS = 1 << 32
"""Rows x clusters x columns of the largest timed iteration: a fraction of a second."""
PROBE_ELEMENTS = 1 << 22
"""Rows x columns that are read at most for it."""
PROBE_ROWS = 2048
"""Rows that are timed at least."""
PROBE_ITERATIONS = 4
BLOCKS = 16
"""Places of a rank's part from which the timed rows are taken."""


@dataclass(frozen=True)
class Speed:
    """seconds = fixed + per_row * (rows of a rank), of an iteration. rows: how many were timed on each rank."""

    fixed: float
    per_row: float
    rows: int

    def seconds(self, rows: int) -> float:
        return self.fixed + self.per_row * rows


def rehearse(world: World, points: Sequence[Point], common: Common, multirun: bool, ranks: int | None) -> int:
    """Print an estimate for every point; 1 where one has a mistake. A collective.

    ranks: of the job that is to be submitted, where that is not this one. Raises InputError for a single point.
    """
    with world.guard():
        check_free(common.run.dir, common.run.overwrite, multirun)
        if multirun and common.run.dir:
            Sweep(world, points, common, Path(common.run.dir)).refuse_changes()
    reader = Reader(world, [point.settings for point in points if not point.error])
    failed = False
    for point in points:
        try:
            text = _estimate(world, point, reader, ranks or world.size)
            text = f"{point.name}:\n{text}\n" if multirun else f"{text}\ndry run: nothing was written"
        except InputError as error:
            if not multirun:
                raise
            failed, text = True, f"{point.name}: error: {error}"
        if world.rank == 0:
            print(text)
    return int(failed)


def _estimate(world: World, point: Point, reader: Reader, ranks: int) -> str:
    """The lines that are told of a point. A collective; raises InputError on all ranks."""
    with world.guard():
        if point.error:
            raise InputError(point.error)
        settings = Settings.build(point.settings)
        opened = reader.open(settings)
        _check_ids(settings, opened)
    world.agree("the data", described(opened.source, opened.weights), "give every rank the same files")
    speed, memory = _probe(world, settings, opened, ranks)
    return "\n".join(f"{name:<10} {text}" for name, text in _lines(world, settings, opened, ranks, speed, memory))


def _check_ids(settings: Settings, opened: Opened) -> None:
    if settings.companions.ids:
        read_ids(settings.companions.ids, opened.source.rows, 0, 0)


def _lines(
    world: World, settings: Settings, opened: Opened, ranks: int, speed: Speed, memory: Memory
) -> list[tuple[str, str]]:
    source, k = opened.source, settings.general.k
    files = len(getattr(source, "paths", ()))
    where = f"{files} file{'s' * (files > 1)}" if files else f"data={settings.given['data']['name']}"
    most = getattr(settings.plan.solver, "max_iter", None)
    each = speed.seconds(-(-source.rows // ranks))
    bound = f", at most {seconds_told(each * most * settings.general.n_init)} for {most} iterations" if most else ""
    bound += f" of each of {settings.general.n_init} seedings" if most and settings.general.n_init > 1 else ""
    bound += "; seeding comes on top"
    device = f"{world.device.type}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)} each"
    return [
        (
            "rows",
            f"{source.rows:,} x {source.dims:,} {memory.dtype}, {bytes_told(memory.stored * source.rows)}, {where}",
        ),
        ("ranks", f"{ranks} on {device}"),
        ("memory", f"about {bytes_told(memory.total)} per rank: {memory.told()}; {_available(world, memory, ranks)}"),
        ("passes", ", ".join(f"{name} {count}" for name, count in passes_of(settings, source.rows))),
        ("network", _network(settings, memory) if ranks > 1 else "not used"),
        ("disk", _disk(source.rows * label_type(k).itemsize, Path(settings.run.dir or "runs"))),
        (
            "time",
            f"about {seconds_told(each)} per iteration, from {speed.rows:,} rows of each rank here{bound}",
        ),
        ("results", f"{settings.run.dir or 'a new directory under runs'}{os.sep}"),
    ]


def _network(settings: Settings, memory: Memory) -> str:
    if isinstance(settings.metric, Geometry):
        return f"several all-reduces per iteration, as metric={settings.metric.name} finds its centres"
    each = "batch" if hasattr(settings.plan.solver, "batch_size") else "iteration"
    return f"one all-reduce of {bytes_told(memory.packet)} per {each}"


def _disk(labels: int, path: Path) -> str:
    there = existing(path)
    free = shutil.disk_usage(there).free
    enough = "" if labels < free else ": NOT ENOUGH; choose another run.dir"
    return f"{bytes_told(labels)} of labels, {bytes_told(free)} free at {there}{enough}"


def _available(world: World, memory: Memory, ranks: int) -> str:
    """What this machine has left, and whether that is enough for the ranks that run on it."""
    if world.device.type == "cuda":
        free, here = torch.cuda.mem_get_info(world.device)[0], 1
    else:
        free, here = free_memory(), min(ranks, world.size)
    enough = "" if memory.total * here < free else ": NOT ENOUGH; use more ranks on more machines"
    return (
        f"{bytes_told(free)} free here for {here} of them{enough}" if here > 1 else f"{bytes_told(free)} free{enough}"
    )


def free_memory() -> int:
    """Bytes that the operating system says are available."""
    try:
        with open("/proc/meminfo") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _probe(world: World, settings: Settings, opened: Opened, ranks: int) -> tuple[Speed, Memory]:
    """Time iterations over the first rows of every rank's part, as the run would do them. A collective."""
    source, k = opened.source, settings.general.k
    part = -(-source.rows // world.size)
    affordable = min(PROBE_OPERATIONS // (k * source.dims), PROBE_ELEMENTS // source.dims)
    rows = min(part, max(PROBE_ROWS, -(-k // world.size) + 1, affordable))
    problem, stored = _sample(world, settings, opened, rows)
    seeding = settings.plan.seeding
    centroids = (Random() if seeding.draws else seeding)(problem, k, 0).centroids
    memory = memory_of(settings, source.rows, ranks, stored, problem)
    whole = _time(world, settings, problem, centroids)
    fewer = rows // 4
    if rows == part or fewer < 1:
        return Speed(0.0, whole / rows, rows), memory
    quarter = problem.subset(torch.arange(min(fewer, len(problem.shard)), device=world.device), fewer * world.size)
    per_row = max(0.0, whole - _time(world, settings, quarter, centroids)) / (rows - fewer)
    return Speed(max(0.0, whole - per_row * rows), per_row or whole / rows, rows), memory


def _sample(world: World, settings: Settings, opened: Opened, rows: int) -> tuple[Problem, torch.dtype]:
    """The problem of about ``rows`` rows from all over each rank's part, and the type in which they are stored."""
    source, weights = opened.source, opened.weights
    start, stop = world.part(source.rows)
    blocks = _blocks(start, stop, rows)
    with world.guard():
        values = torch.cat([source.read(*block) for block in blocks]).to(world.device)
        numbers = torch.cat([torch.arange(*block) for block in blocks]).to(world.device)
        vector = None if weights is None else torch.cat([weights.read(*block).reshape(-1) for block in blocks])
    if vector is not None and not world.max_((vector != 0).any().to(world.device, torch.int64)):
        vector = None  # what weighs is elsewhere
    count = int(world.sum_(torch.tensor(len(values), device=world.device)))
    shard = Shard(values, start, count, None, source.name, numbers)
    shard = weighted(world, shard, None if vector is None else vector.to(world.device), (weights or source).name)
    shard = fitted(world, settings.transform, shard)
    return pose(world, shard, settings.metric, settings.exact), values.dtype


def _blocks(start: int, stop: int, rows: int) -> list[tuple[int, int]]:
    """At most BLOCKS blocks of rows, spread evenly; one without rows where there are none."""
    rows = min(rows, stop - start)
    count = max(1, min(BLOCKS, rows // 64))
    firsts = [start + (stop - start) * block // count for block in range(count)]
    return [(first, first + rows * (block + 1) // count - rows * block // count) for block, first in enumerate(firsts)]


class _EnoughError(Exception):
    """The iterations that were to be timed are done."""


def _time(world: World, settings: Settings, problem: Problem, centroids: torch.Tensor) -> float:
    """Seconds of an iteration, of the slowest rank. A collective."""
    times = [time.perf_counter()]

    def hear(record: Record) -> None:
        times.append(time.perf_counter())
        if record.iteration == PROBE_ITERATIONS:
            raise _EnoughError

    with contextlib.suppress(_EnoughError):
        settings.plan.solver.fit(problem, centroids, hear, settings.general.seed)
    each = [after - before for before, after in itertools.pairwise(times)]
    mine = min(each[1:] or each)  # the others were disturbed; the first adds up all rows
    return float(world.max_(torch.tensor(mine, dtype=torch.float64, device=world.device)))
