"""solver=lloyd: Lloyd's algorithm (1982). An iteration is a map over the rows and one all-reduce of integers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Annotated, Literal

import torch
from torch import Tensor

from distkmeans.errors import InputError, WorldError
from distkmeans.exact import floats
from distkmeans.exact.floats import mixed, row_hash
from distkmeans.kernels import Kernel
from distkmeans.kernels.choose import ROOM, KernelName, choose, row_size
from distkmeans.metrics import Geometry
from distkmeans.problem import Problem
from distkmeans.schema import Range
from distkmeans.solvers import Record, Solution, solvers
from distkmeans.solvers.alternating import Rules, alternate
from distkmeans.solvers.empty import relocate
from distkmeans.stats import ClusterSums, Terms, inertia, safe_exponent, steps, tally, to_float

Empty = Literal["farthest", "keep", "fail"]


@dataclass
class State:
    """All that the next iteration depends on: (K, D) centroids, (n,) labels, and the sums of the labelled rows.

    Before the first iteration no row has a label (-1). shift: the last one, at the problem's safe scale. square: the
    sum of weight * |x|^2. The rest follows from these, and is kept for clusters that do not change: hashes of the
    centroids, terms of the inertia, and bool (K,): ``touched``, where a centre was not yet taken from the sums;
    ``stale``, nor the terms; ``vacant``, where there is none.
    """

    centroids: Tensor
    labels: Tensor
    sums: ClusterSums
    square: Fraction
    hashes: Tensor
    terms: Terms
    touched: Tensor
    stale: Tensor
    vacant: Tensor
    iteration: int = 0
    shift: float = math.inf
    settled: bool = False
    converged: bool = False


@solvers.register("lloyd")
class Lloyd:
    """max_iter: iterations at most. tol: ends when the squared shift is at most tol * mean feature variance.

    empty: what a cluster without rows does: ``farthest`` takes the row farthest from its centroid, ``keep`` keeps its
    centroid, ``fail`` ends the run. kernel: what finds the nearest centroids, auto for the fastest. tile_rows: rows per
    tile of the dense kernel, which a number asks for.
    """

    def __init__(
        self,
        max_iter: Annotated[int, Range(1)] = 300,
        tol: Annotated[float, Range(0)] = 1e-4,
        empty: Empty = "farthest",
        kernel: KernelName = "auto",
        tile_rows: Annotated[int, Range(1)] | Literal["auto"] = "auto",
    ) -> None:
        self.kernel: KernelName = kernel
        self.max_iter, self.tol, self.empty = max_iter, tol, empty
        self.tile_rows = None if tile_rows == "auto" else tile_rows

    def refuse_metric(self, metric: Geometry) -> str:
        """Why a metric that brings its own steps cannot be served, and what to do; or nothing."""
        own = self.kernel != "auto"
        return f"solver.kernel={self.kernel} is for squared Euclidean distances; use solver.kernel=auto" if own else ""

    def fit(self, problem: Problem, centroids: Tensor, on_record: Callable[[Record], None], seed: int = 0) -> Solution:
        if isinstance(problem.metric, Geometry):
            rules = Rules(self.max_iter, self.tol, self.empty, self.tile_rows)
            return alternate(problem, rules, centroids, on_record)
        with problem.world.guard():
            largest, room = float(problem.columns.largest.max()), ROOM * row_size(problem.shard.rows)
            if not problem.frugal and problem.world.device.type == "cpu":
                shard = problem.shard.compact()
                room -= row_size(shard.rows) if shard is not problem.shard else 0
                problem = replace(problem, shard=shard)
            kernel = choose(
                problem.shard.rows, centroids, largest, self.tile_rows, problem.exact, self.kernel, problem.frugal, room
            )
        limit = self.tol * mean_variance(problem, safe_exponent(problem.columns.exponent)) if self.tol else 0.0
        state = start(problem, centroids)
        while not state.converged and state.iteration < self.max_iter:
            record = self.step(problem, kernel, state)
            state.converged = state.settled or state.shift <= limit
            on_record(record)
        return finish(problem, kernel, state)

    def step(self, problem: Problem, kernel: Kernel, state: State) -> Record:
        """One iteration: assign, add up, move the centroids."""
        begin = time.perf_counter()
        moved, undecided = update(problem, kernel, state)
        cost = inertia_of(problem, state)
        centres, empty = self.centres(problem, state)
        by = safe_exponent(problem.columns.exponent)
        shifts, state.hashes, changed = steps(state.centroids, centres, by)
        state.shift = floats.total(shifts)
        state.stale |= changed
        state.settled = not moved and not bool(changed.any())
        state.centroids = centres
        state.iteration += 1
        share, seconds = undecided / problem.shard.total, time.perf_counter() - begin
        return Record(state.iteration, cost, moved, unscaled(state.shift, by), share, empty, seconds)

    def centres(self, problem: Problem, state: State) -> tuple[Tensor, int]:
        """New centroids from the sums, and how many clusters had no rows for one."""
        centres = take_centres(problem, state, state.centroids)
        empty = state.vacant.nonzero().flatten()
        if len(empty) and self.empty == "fail":
            raise InputError(
                f"solver.empty=fail: cluster {int(empty[0])} has no rows in iteration {state.iteration + 1};"
                " use a smaller k, another seed or solver.empty=farthest"
            )
        if len(empty) and self.empty == "farthest":
            touched = relocate(problem, state.centroids, state.labels, state.sums, empty)
            state.touched |= touched
            state.stale |= touched
            centres = take_centres(problem, state, centres)
        return centres, len(empty)


def take_centres(problem: Problem, state: State, centres: Tensor) -> Tensor:
    """(K, D) ``centres``, anew where the sums were touched; where there is no centre, the state's centroid stays."""
    which = state.touched.nonzero().flatten()
    if not len(which):
        return centres
    everything = 2 * len(which) > len(centres)
    limbs = state.sums.limbs if everything else state.sums.limbs[which]
    old = state.centroids if everything else state.centroids[which]
    new = problem.metric.centres(limbs, problem.grid, centres.dtype)
    vacant = torch.isnan(new[:, 0])
    if vacant.any():
        new = torch.where(vacant[:, None], old, new)
    state.touched.zero_()
    if everything:
        state.vacant = vacant
        return new
    state.vacant[which] = vacant
    return centres.index_copy(0, which, new)


def start(problem: Problem, centroids: Tensor) -> State:
    """The state before the first iteration. A collective."""
    labels = torch.full((len(problem.shard),), -1, dtype=label_type(len(centroids)), device=centroids.device)
    clusters, device = len(centroids), centroids.device
    everything, none = (torch.full((clusters,), value, device=device) for value in (True, False))
    return State(
        centroids,
        labels,
        ClusterSums.empty(problem.grid, clusters),
        problem.moments.weighted_square,
        row_hash(centroids),
        Terms.empty(clusters, problem.columns.exponent, device),
        touched=everything,
        stale=everything.clone(),
        vacant=none,
    )


def label_type(clusters: int) -> torch.dtype:
    """int32, or int64 where K needs it."""
    return torch.int32 if clusters <= 2**31 else torch.int64


def update(problem: Problem, kernel: Kernel, state: State) -> tuple[int, int]:
    """Assign the rows to the centroids and bring the sums up to date; rows moved, and rows judged, over all ranks."""
    before = state.labels if state.iteration else None
    moved, undecided, touched = (_together if problem.world.size > 1 else _alone)(problem, kernel, state, before)
    state.touched |= touched
    state.stale |= touched
    return moved, undecided


def _alone(problem: Problem, kernel: Kernel, state: State, before: Tensor | None) -> tuple[int, int, Tensor]:
    """Rows that moved go straight to the sums, which are spared a pass."""
    labels = torch.empty_like(state.labels)
    undecided = kernel.assign(state.centroids, labels)
    touched = torch.full_like(state.touched, before is None)
    moved = tally(problem.shard, before, labels, state.sums, touched)
    state.labels = labels
    return moved, undecided, touched


def _together(problem: Problem, kernel: Kernel, state: State, before: Tensor | None) -> tuple[int, int, Tensor]:
    """The one all-reduce carries the change of the sums, the counters, a flag per failure and a checksum of the
    centroids per rank: ranks that differ stop here.
    """
    world, clusters = problem.world, len(state.centroids)
    size = state.sums.limbs.numel()
    packet = torch.zeros(size + clusters + 3 + world.size, dtype=torch.int64, device=world.device)
    change = ClusterSums(problem.grid, packet[:size].view_as(state.sums.limbs), packet[size : size + clusters])
    counters, checksums = packet[size + clusters :][:3], packet[size + clusters + 3 :]
    failure = None
    try:
        labels = torch.empty_like(state.labels)
        counters[1] = kernel.assign(state.centroids, labels)
        counters[0] = tally(problem.shard, before, labels, change)
        checksums[world.rank] = mixed(state.hashes.view(1, -1))[0]
        state.labels = labels
    except Exception as error:
        failure = error
        packet.zero_()
        counters[2] = 1
    moved, undecided, failed = world.sum_(packet)[size + clusters :][:3].tolist()
    if failed:
        world.raise_together(failure)
    if len(set(checksums.tolist())) > 1:
        raise WorldError(_differing(checksums.tolist(), state.iteration))
    return moved, undecided, state.sums.add(change)


def _differing(checksums: list[int], iteration: int) -> str:
    common = max(checksums, key=checksums.count)
    ranks = ", ".join(str(rank) for rank, checksum in enumerate(checksums) if checksum != common)
    return (
        f"the centroids differ between ranks after iteration {iteration}: rank {ranks} from the others;"
        " a faulty machine, or ranks that run different versions"
    )


def mean_variance(problem: Problem, exponent: int) -> float:
    """The mean over columns of the variance of 2**exponent * rows, unweighted: the scale of ``tol``."""
    return to_float(sum(problem.moments.variances(), Fraction(0)) / problem.shard.dims * Fraction(4) ** exponent)


def unscaled(square: float, exponent: int) -> float:
    """A squared length at the safe scale, brought back; infinite or 0 where float64 cannot hold it."""
    return to_float(Fraction(square) / Fraction(4) ** exponent)


def inertia_of(problem: Problem, state: State) -> float:
    """Of the state's labels and the centroids that they were assigned to."""
    state.terms.renew(state.sums, state.centroids, state.stale.nonzero().flatten())
    state.stale.zero_()
    return inertia(state.square, state.sums, state.centroids, problem.columns.exponent, state.terms)


def finish(problem: Problem, kernel: Kernel, state: State) -> Solution:
    """Labels and inertia that belong to the last centroids."""
    if not state.settled:
        update(problem, kernel, state)
    cost, empty = inertia_of(problem, state), int((state.sums.counts == 0).sum())
    return Solution(state.centroids, state.labels, cost, state.iteration, state.converged, empty, kernel.name)
