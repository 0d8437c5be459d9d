"""solver=minibatch: k-means from random batches (Sculley 2010), with scikit-learn's stopping and starved centres."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor

from distkmeans import native
from distkmeans.errors import InputError
from distkmeans.kernels.once import Once, OnceName, choice_for
from distkmeans.problem import Problem
from distkmeans.schema import Range
from distkmeans.solvers import Record, Solution, solvers
from distkmeans.solvers.batch import Scale, measure
from distkmeans.solvers.draws import Draws
from distkmeans.solvers.labelling import label
from distkmeans.solvers.learning import Task
from distkmeans.solvers.lloyd import mean_variance, unscaled
from distkmeans.solvers.online import Rule, State, learn, smooth
from distkmeans.solvers.stream import Stream, StreamLearner

SEVERAL = 1.5
"""Times that a row is labelled, on average, the last pass included, from which heads of all rows may be kept."""
SMALL = 1 << 22
"""Values of a rank's part of a batch up to which torch works on one thread."""


@dataclass(frozen=True)
class Course:
    """What follows from the problem alone, made once: nothing in it changes from step to step.

    steps: at most. limit: of the squared shift, at the safe scale; None for none. small: whether torch's own part of a
    step is too small for more than one thread.
    """

    draws: Draws
    scale: Scale
    kernel: Once
    steps: int
    limit: float | None
    small: bool


@solvers.register("minibatch")
class MiniBatch:
    """max_iter: passes at most, of as many drawn rows as there are. batch_size: rows of a batch, at most all.

    tol: ends when the squared shift of a batch is at most tol * mean feature variance; 0 for no such end.
    max_no_improvement: ends after so many batches in a row that do not lower the smoothed inertia; null for no such
    end. reassignment_ratio: of the largest weight of a centre, below which another is given a row of the batch.
    decay: what the weight of earlier batches is multiplied by at each. kernel, tile_rows: as of ``lloyd``.
    """

    def __init__(
        self,
        max_iter: Annotated[int, Range(1)] = 100,
        batch_size: Annotated[int, Range(1)] = 4096,
        tol: Annotated[float, Range(0)] = 0.0,
        max_no_improvement: Annotated[int, Range(0)] | None = 10,
        reassignment_ratio: Annotated[float, Range(0)] = 0.01,
        decay: Annotated[float, Range(0, 1)] = 1.0,
        kernel: OnceName = "auto",
        tile_rows: Annotated[int, Range(1)] | Literal["auto"] = "auto",
    ) -> None:
        self.max_iter, self.batch_size, self.tol, self.patience = max_iter, batch_size, tol, max_no_improvement
        self.rule = Rule(decay, reassignment_ratio)
        self.kernel: OnceName = kernel
        self.tile_rows = None if tile_rows == "auto" else tile_rows

    def fit(self, problem: Problem, centroids: Tensor, on_record: Callable[[Record], None], seed: int = 0) -> Solution:
        course, state = self.course(problem, centroids), State.start(centroids, seed)
        self.run(problem, course, state, on_record)
        return finish(problem, course, state)

    def course(self, problem: Problem, centroids: Tensor) -> Course:
        """A collective. Raises InputError for a kernel that cannot be had."""
        total = problem.shard.total
        size = min(self.batch_size, total)
        steps = self.max_iter * total // size
        with problem.world.guard():
            scale = Scale.of(problem.columns, centroids, size, weighted=False)
            choice = choice_for(problem.shard.rows, centroids, scale.largest, problem.exact)
            share, own = (-(-rows // problem.world.size) for rows in (size, total))
            certain = steps * share if self.patience is None and not self.tol else min(own, steps * share)
            expected = own + certain  # the last labels, and batches of a pass at least
            drawn = not problem.frugal and expected >= SEVERAL * own
            kernel = Once(choice, self.kernel, self.tile_rows, share, expected, drawn)
        limit = self.tol * mean_variance(problem, scale.by) if self.tol else None
        small = kernel.compiled and share * problem.shard.dims < SMALL
        return Course(Draws.of(problem, size), scale, kernel, steps, limit, small)

    def run(
        self, problem: Problem, course: Course, state: State, on_record: Callable[[Record], None] = lambda record: None
    ) -> None:
        """Steps until the end; a record for each pass, and for the last. A collective."""
        begin = time.perf_counter()
        while not state.converged and state.step < course.steps:
            self.step(problem, course, state)
            end = state.converged or state.step == course.steps
            if end or passes(course, state.step + 1) > passes(course, state.step):
                on_record(record(course, state, time.perf_counter() - begin))
                begin, state.told, state.judged = time.perf_counter(), state.step, 0

    def step(self, problem: Problem, course: Course, state: State) -> None:
        """One batch: draw, assign, add up, move the centres. A collective: one all-reduce, two where some starve."""
        world, scale = problem.world, course.scale
        take = functools.partial(course.draws.batch, state.seed, state.step)
        assign = course.kernel.assign_drawn
        with native.small_steps(course.small):
            found = measure(world, scale, take, state.centroids, state.hashes, assign)
            learn(world, problem.metric, scale, found, state, self.rule)
        smooth(state, course.draws.size / (course.draws.shard.total + 1), self.patience, course.limit)

    def learner(self, task: Task) -> StreamLearner:
        """Of batches that a loader brings: ``batch_size`` is the loader's. Raises InputError."""
        if self.tol:
            raise InputError(
                f"solver.tol={self.tol:g}: a share of the variance of all rows, which a loader hides; use 0"
            )
        return StreamLearner(Stream(task.k, task.seeding, task.metric, self.rule, task.seed, task.exact), self.patience)


def passes(course: Course, step: int) -> int:
    """In how many passes, begun or done, so many batches are."""
    return -(-step * course.draws.size // course.draws.shard.total)


def record(course: Course, state: State, seconds: float) -> Record:
    """Of the batches since the last one. Its inertia is estimated, for all rows, by the moving average of batches."""
    by, rows = course.scale.by, (state.step - state.told) * course.draws.size
    level = state.inertia if state.smoothed is None else state.smoothed
    empty = int((state.weights == 0).sum())
    return Record(
        iteration=passes(course, state.step),
        inertia=unscaled(level, by) * course.draws.weight,
        moved=None,
        shift=unscaled(state.shift, by),
        judged=state.judged / rows,
        empty=empty,
        seconds=seconds,
    )


def finish(problem: Problem, course: Course, state: State) -> Solution:
    """Labels of all rows, and their inertia: exact, by one pass. A collective."""
    found = label(problem, state.centroids, course.kernel)
    end, name = (passes(course, state.step), state.converged), course.kernel.name
    return Solution(state.centroids, found.labels, found.inertia, *end, found.empty, name)
