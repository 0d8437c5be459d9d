"""A model applied to the rows of files: labels and distances of every rank's part, block by block."""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

import distkmeans
from distkmeans.assignment import Assignment
from distkmeans.data import Source
from distkmeans.data.ids import check_ids, read_ids
from distkmeans.data.shard import check_shape, described, origin
from distkmeans.errors import InputError
from distkmeans.exact.weighted_sum import weighted_sum
from distkmeans.launcher import launch_seconds
from distkmeans.model import Model
from distkmeans.report.claim import claim_out
from distkmeans.report.out_dir import OutDir
from distkmeans.report.parts import Part
from distkmeans.report.progress import RowsDone
from distkmeans.stats import to_float
from distkmeans.world import World

BLOCK_ELEMENTS = 1 << 24
"""Elements of the rows that are held at a time; more where there are more centroids than such rows."""


@dataclass(frozen=True)
class Wanted:
    """model, source: how to open them. title: what the model is called. ids: a file, or None. asked: as it was written.

    out: the directory of the results. overwrite: whether it may hold earlier ones.
    """

    model: Callable[[], Model]
    title: str
    source: Callable[[], Source]
    ids: str | None
    out: str
    overwrite: bool
    asked: Mapping[str, Any]


@dataclass(frozen=True)
class Application:
    """A model and rows that fit each other. ids: of this rank's rows, or None."""

    world: World
    wanted: Wanted
    model: Model
    source: Source
    ids: np.ndarray | None

    @staticmethod
    def open(world: World, wanted: Wanted) -> Application:
        """Read the model, and the headers of the files. A collective; raises InputError on all ranks."""
        with world.guard():
            model, source = wanted.model(), wanted.source()
            check_shape(source)
            if not model.takes(source.dims):
                expected = model.dims or "others"
                raise InputError(
                    f"{origin(source)}: {source.dims} columns, but the model of {wanted.title} has {expected}"
                )
            if wanted.ids:
                check_ids(wanted.ids)
        world.agree("the model", _digest(model), "give every rank the same files")
        world.agree("the data", described(source, None), "give every rank the same files")
        with world.guard():
            ids = read_ids(wanted.ids, source.rows, *world.part(source.rows)) if wanted.ids else None
        return Application(world, wanted, model, source, ids)

    def run(self) -> dict[str, Any]:
        """Label every row and leave the results in a directory; what came of it, as in apply.json. A collective."""
        start, begin = launch_seconds(), time.perf_counter()
        directory = claim_out(self.world, self.wanted.out, self.wanted.overwrite)
        try:
            directory.begin(self.wanted.asked)
        except BaseException:
            directory.discard()  # and no more: another job may have begun there
            raise
        try:
            found = self._label(directory)
            seconds = {"start": round(start, 4), "apply": round(time.perf_counter() - begin, 4)}
            result = {**found, "seconds": seconds}
            directory.finish(self.wanted.asked, result)
        except BaseException:
            directory.give_up()
            raise
        self.world.tell(
            f"{result['rows']:,} x {result['dims']} rows, k={result['k']}, {result['world_size']} rank(s): inertia"
            f" {result['inertia']:.9g}, {seconds['apply']:.2f} s"
        )
        self.world.tell(f"labels and distances in {directory.path}")
        return result

    def _label(self, directory: OutDir) -> dict[str, Any]:
        """All blocks, one after another, in step on all ranks, so that a mistake in one ends all."""
        world, total = self.world, self.source.rows
        start, stop = world.part(total)
        step = max(1, BLOCK_ELEMENTS // self.source.dims, len(self.model.centroids))
        assign = Assignment(self.model, world.device, self.source.name)
        tally = Tally(torch.zeros(len(self.model.centroids), dtype=torch.int64, device=world.device))
        with contextlib.ExitStack() as stack:
            done = stack.enter_context(RowsDone(world, total))
            with world.guard(), directory.writing():
                parts = [stack.enter_context(part) for part in self._parts(directory, stop - start)]
            for at in range(0, -(-total // world.size), step):
                first, last = min(start + at, stop), min(start + at + step, stop)
                with world.guard():
                    found = assign(self.source.read(first, last).to(world.device), first)
                    tally.add(*found)
                    with directory.writing():
                        for part, values in zip(parts, found, strict=True):
                            part.write(values.cpu().numpy())
                self._release(first, last)
                done.reach(world.size * (at + step))
            with world.guard(), directory.writing():
                stack.close()
        return {**self._summary(assign), **tally.total(world)}

    def _release(self, first: int, last: int) -> None:
        """Rows are read once: a source that maps its files may let go of them."""
        if release := getattr(self.source, "release", None):
            release(first, last)

    def _parts(self, directory: OutDir, rows: int) -> list[Part]:
        columns = {"labels": "label", "distances": "distance"}
        return [directory.part(folder, column, rows, self.ids) for folder, column in columns.items()]

    def _summary(self, assign: Assignment) -> dict[str, Any]:
        return {
            "model": self.wanted.title,
            "rows": self.source.rows,
            "dims": self.source.dims,
            "k": len(self.model.centroids),
            "world_size": self.world.size,
            "kernel": assign.kernel,
            "device": str(self.world.device.type),
            "threads": torch.get_num_threads(),
            "versions": {"distkmeans": distkmeans.__version__, "torch": torch.__version__},
        }


@dataclass
class Tally:
    """Of this rank's rows so far. sizes: int64 (K,), rows of each cluster. cost: the exact sum of their distances."""

    sizes: Tensor
    cost: Fraction = Fraction(0)
    finite: bool = True

    def add(self, labels: Tensor, distances: Tensor) -> None:
        """A block's labels (n,) and float64 distances (n,)."""
        self.sizes += torch.bincount(labels.to(torch.int64), minlength=len(self.sizes))
        self.finite = self.finite and bool(torch.isfinite(distances).all())
        if self.finite:
            self.cost += weighted_sum(World(device=distances.device), distances, None, max(1, len(distances)))

    def total(self, world: World) -> dict[str, Any]:
        """Of all ranks: the inertia, rounded once, and the sizes. A collective."""
        costs = world.collect(self.cost if self.finite else None)
        inertia = math.inf if None in costs else to_float(sum(costs, Fraction(0)))
        return {"inertia": inertia, "sizes": world.sum_(self.sizes).tolist()}


def _digest(model: Model) -> str:
    """What tells models apart."""
    digest = hashlib.blake2b(digest_size=8)
    for tensor in (model.centroids, *model.transformed.tensors().values()):
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
