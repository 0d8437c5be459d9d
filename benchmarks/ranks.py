"""Real ranks under torchrun, over gloo on this machine: what they measure together.

``launch`` starts this file on every rank; rank 0 leaves the measurements in a file.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

import machine
from cases import first_centroids, rows_of
from distkmeans import native
from distkmeans.cost_model import Link
from distkmeans.data.shard import own_shard
from distkmeans.kernels.pruned import Pruned
from distkmeans.metrics import metrics
from distkmeans.problem import pose
from distkmeans.solvers import Record
from distkmeans.solvers.lloyd import Lloyd
from distkmeans.world import World, join

REPEATS = 41
"""All-reduces of which the median counts."""
BUSY_S = 0.005
"""Of work before each of them, as in an iteration: ranks that have slept are served sooner."""


def launch(ranks: int, threads: int, jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each job with what was measured, on ``ranks`` ranks of ``threads`` threads. Raises RuntimeError."""
    with tempfile.TemporaryDirectory() as folder:
        there, back = Path(folder) / "jobs.json", Path(folder) / "measured.json"
        there.write_text(json.dumps(list(jobs)))
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        environment = {**os.environ, **machine.environment(threads)}
        command = [*torchrun, __file__, str(there), str(back)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{ranks} ranks failed:\n{done.stderr[-2000:]}")
        found: list[dict[str, Any]] = json.loads(back.read_text())
        return found


def lloyd(
    world: World, case: str, rows: int, seed: int, iterations: int, clusters: int | None = None
) -> dict[str, Any]:
    """Medians of the later half of the iterations over the first ``rows`` rows of a case, shared between the ranks.

    clusters: in place of the case's. seconds: of the slowest rank. reduce: seconds in the all-reduce, waiting for other
    ranks included, mean over ranks. transfer: of the rank that waits least. moved: share of rows that change cluster.
    compared: share of pairs of rows and centroids, see cost_model.Size.
    """
    _, x, k = rows_of(case)
    x, k = x[:rows], clusters or k
    own = slice(len(x) * world.rank // world.size, len(x) * (world.rank + 1) // world.size)
    own_rows = torch.from_numpy(x[own])
    problem = pose(world, own_shard(world, own_rows, None), metrics.build("euclidean"))
    start = problem.centroids(torch.from_numpy(first_centroids(x, k, seed)))
    clock, pairs, records, measured = Clock(world), Pairs(len(own_rows)), [], []

    def hear(record: Record) -> None:
        records.append(record)
        measured.append([record.seconds, clock.read(), pairs.share])

    with pairs:
        Lloyd(max_iter=iterations, tol=0).fit(problem, start, hear)
    mine = torch.tensor(measured)
    late = torch.tensor(world.collect(mine.tolist()))[:, len(records) // 2 :]
    return {
        "seconds": late[:, :, 0].amax(0).median().item(),
        "reduce": late[:, :, 1].mean(0).median().item(),
        "transfer": late[:, :, 1].amin(0).median().item(),
        "moved": statistics.fmean(record.moved or 0 for record in records[len(records) // 2 :]) / len(x),
        "compared": late[:, :, 2].mean(0).median().item(),
        "shape": [*x.shape, k, problem.grid.limbs],
    }


class Clock:
    """Adds up the seconds that a world spends in ``sum_``."""

    def __init__(self, world: World) -> None:
        self.seconds, self.sum_ = 0.0, world.sum_
        world.sum_ = self.timed  # type: ignore[method-assign]

    def timed(self, values: torch.Tensor) -> torch.Tensor:
        begin = time.perf_counter()
        result = self.sum_(values)
        self.seconds += time.perf_counter() - begin
        return result

    def read(self) -> float:
        """Seconds since the last reading."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


class Pairs:
    """Within ``with``: the share of pairs of so many rows and of centroids that the last assignment compared."""

    def __init__(self, rows: int) -> None:
        self.rows, self.share, self.assign = rows, 1.0, Pruned.assign

    def __enter__(self) -> None:
        def assign(kernel: Pruned, centroids: torch.Tensor, labels: torch.Tensor) -> int:
            undecided = self.assign(kernel, centroids, labels)
            if len(kernel.rows) == self.rows:  # not a trial's
                pairs = kernel.counts.blocks * native.ROWS * native.PANEL
                self.share = min(1.0, pairs / (self.rows * len(centroids)))
            return undecided

        setattr(Pruned, "assign", assign)  # noqa: B010

    def __exit__(self, *error: object) -> None:
        setattr(Pruned, "assign", self.assign)  # noqa: B010


def reduce(world: World, bytes: int) -> dict[str, Any]:
    """Median seconds of an all-reduce of so many bytes of int64, of the slowest rank."""
    values, times, some = torch.ones(max(1, bytes // 8), dtype=torch.int64), [], torch.ones(256, 256)
    for _ in range(REPEATS + 3):
        world.sum_(torch.zeros(1, dtype=torch.int64))  # start together
        values.fill_(1)
        begin = time.perf_counter()
        while time.perf_counter() - begin < BUSY_S:
            some @ some
        begin = time.perf_counter()
        world.sum_(values)
        times.append(time.perf_counter() - begin)
    return {"seconds": max(world.collect(statistics.median(times[3:])))}


def link_of(packets: Sequence[dict[str, Any]]) -> Link:
    """Latency of a step and bytes per second, from the smallest and the largest all-reduce of two ranks.

    A ring of two takes two steps, in which each rank sends the packet once: seconds = 2 latency + bytes / bandwidth.
    """
    small, large = (choose(packets, key=lambda packet: packet["bytes"]) for choose in (min, max))
    more = max(large["seconds"] - small["seconds"], 1e-9)
    return Link((large["bytes"] - small["bytes"]) / more, small["seconds"] / 2)


MEASURED: dict[str, Callable[..., dict[str, Any]]] = {"lloyd": lloyd, "reduce": reduce}


def main() -> None:
    there, back = map(Path, sys.argv[1:])
    world = join("cpu")
    found = []
    for job in json.loads(there.read_text()):
        options = {name: value for name, value in job.items() if name != "kind"}
        found.append({**job, **MEASURED[job["kind"]](World(world.rank, world.size), **options)})
    if world.rank == 0:
        back.write_text(json.dumps(found))
    world.close()
    os._exit(0)  # as train.py ends: a gloo group that comes down at the end of Python may abort


if __name__ == "__main__":
    main()
