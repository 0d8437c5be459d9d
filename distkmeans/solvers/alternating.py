"""Lloyd's two steps for metrics that bring their own: assign, recentre, until no label changes.

Labels, centres and the rows' costs are the metric's (``metrics/geometry.py``); what is summed over rows is summed
exactly, and empty clusters, ``tol`` and records are those of ``solver=lloyd``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from distkmeans.errors import InputError, WorldError
from distkmeans.exact import floats
from distkmeans.exact.weighted_sum import weighted_sum
from distkmeans.metrics.geometry import Geometry, Members, assign_rows
from distkmeans.problem import Problem
from distkmeans.solvers import Record, Solution
from distkmeans.solvers.empty import choose, ranked
from distkmeans.stats import ClusterSums, safe_exponent, steps, tally, to_float

REMEDY = "a faulty machine, or ranks that run different versions"


@dataclass(frozen=True)
class Rules:
    """When to end, and what to do without rows: as the parameters of ``Lloyd``."""

    max_iter: int
    tol: float
    empty: str
    tile_rows: int | None


@dataclass
class State:
    """All that the next iteration depends on: (K, D) centroids and (n,) labels, -1 before the first.

    shift: the last one, at the problem's safe scale.
    """

    centroids: Tensor
    labels: Tensor
    iteration: int = 0
    shift: float = math.inf
    settled: bool = False
    converged: bool = False


@dataclass(frozen=True)
class Pass:
    """What one assignment has found. costs: float64 (n,), of this rank's rows. The rest is over all ranks.

    counts: int64 (K,), rows of positive weight. touched: bool (K,), clusters whose rows have changed.
    """

    costs: Tensor
    inertia: float
    moved: int
    judged: int
    counts: Tensor
    touched: Tensor


def alternate(problem: Problem, rules: Rules, centroids: Tensor, on_record: Callable[[Record], None]) -> Solution:
    """Improve centroids (K, D) by the problem's metric. A collective; raises InputError on all ranks."""
    metric = geometry_of(problem)
    by = 0 if metric.unit_centroids else safe_exponent(problem.columns.exponent)
    limit = rules.tol * _scale(problem, by) if rules.tol else 0.0
    state = State(centroids, torch.full((len(problem.shard),), -1, device=centroids.device))
    while not state.converged and state.iteration < rules.max_iter:
        begin = time.perf_counter()
        found = assign(problem, rules, state)
        centres, empty = _centres(problem, rules, state, found)
        squares, _, _ = steps(state.centroids, centres, by)
        state.shift = floats.total(squares)
        state.settled = not found.moved and torch.equal(centres, state.centroids)
        state.centroids, state.iteration = centres, state.iteration + 1
        state.converged = state.settled or state.shift <= limit
        shift = to_float(Fraction(state.shift) / Fraction(4) ** by)
        share, seconds = found.judged / problem.shard.total, time.perf_counter() - begin
        on_record(Record(state.iteration, found.inertia, found.moved, shift, share, empty, seconds))
    if not state.settled:
        found = assign(problem, rules, state)
    vacant = int((found.counts == 0).sum())
    return Solution(
        state.centroids, state.labels, found.inertia, state.iteration, state.converged, vacant, f"torch-{metric.name}"
    )


def _scale(problem: Problem, by: int) -> float:
    """What ``tol`` is relative to: the mean over columns of the variance of 2**by * rows, or of c**2 if |c| = 1."""
    if geometry_of(problem).unit_centroids:
        return 1 / problem.shard.dims
    return to_float(sum(problem.moments.variances(), Fraction(0)) / problem.shard.dims * Fraction(4) ** by)


def geometry_of(problem: Problem) -> Geometry:
    """The problem's metric, which brings its own steps."""
    assert isinstance(problem.metric, Geometry)
    return problem.metric


def assign(problem: Problem, rules: Rules, state: State) -> Pass:
    """Label every row, and add up what that costs. A collective: ranks whose centroids differ stop here."""
    world, shard, clusters = problem.world, problem.shard, len(state.centroids)
    packet = torch.zeros(2 + 2 * clusters + world.size, dtype=torch.int64, device=world.device)
    counts, touched, checksums = packet[2:].split([clusters, clusters, world.size])
    with world.guard():
        found = assign_rows(geometry_of(problem), shard.rows, state.centroids, problem.exact, rules.tile_rows)
        moved = (found.labels != state.labels).nonzero().flatten()
        packet[0], packet[1] = len(moved), found.judged
        counts += torch.bincount(_counting(problem, found.labels), minlength=clusters)
        for labels in (found.labels, state.labels) if state.iteration else (found.labels,):
            touched += torch.bincount(labels[moved].to(torch.int64), minlength=clusters)
        checksums[world.rank] = floats.mixed(floats.row_hash(state.centroids).view(1, -1))[0]
    if len(set(world.sum_(packet)[-world.size :].tolist())) > 1:
        raise WorldError(f"the centroids differ between ranks after iteration {state.iteration}: {REMEDY}")
    weights = None if shard.weights is None else shard.weights.to(torch.float64)
    total = to_float(weighted_sum(world, found.costs, weights, shard.total))
    state.labels = found.labels
    everything = touched > 0 if state.iteration else torch.ones_like(touched, dtype=torch.bool)
    return Pass(found.costs, total, int(packet[0]), int(packet[1]), counts, everything)


def _counting(problem: Problem, labels: Tensor) -> Tensor:
    """The labels, int64, of rows with a weight above 0."""
    weights = problem.shard.weights
    return (labels if weights is None else labels[weights > 0]).to(torch.int64)


def _centres(problem: Problem, rules: Rules, state: State, found: Pass) -> tuple[Tensor, int]:
    """New centroids, and how many clusters had no rows for one."""
    centres, vacant = _recentred(problem, state, found.counts, found.touched)
    empty = vacant.nonzero().flatten()
    if len(empty) and rules.empty == "fail":
        raise InputError(
            f"solver.empty=fail: cluster {int(empty[0])} has no rows in iteration {state.iteration + 1};"
            " use a smaller k, another seed or solver.empty=farthest"
        )
    if len(empty) and rules.empty == "farthest":
        changed = _relocate(problem, state, found, empty)
        centres, _ = _recentred(problem, state, found.counts, found.touched | changed)
    return centres, len(empty)


def _recentred(problem: Problem, state: State, counts: Tensor, touched: Tensor) -> tuple[Tensor, Tensor]:
    """The metric's centres, and bool (K,): where there is none, and the last centroid stays."""

    def sums() -> Tensor:
        """The exact sums of the clusters as they are."""
        added = ClusterSums.empty(problem.grid, len(state.centroids))
        with problem.world.guard():
            tally(problem.shard, None, state.labels, added)
        return problem.world.sum_(added.limbs)

    labels = state.labels.to(torch.int64)
    members = Members(
        problem.world, problem.shard, problem.columns, problem.grid, labels, state.centroids, touched, sums
    )
    centres = geometry_of(problem).recentre(members)
    vacant = torch.isnan(centres[:, 0]) | (counts == 0)
    return torch.where(vacant[:, None], state.centroids, centres), vacant


def _relocate(problem: Problem, state: State, found: Pass, empty: Tensor) -> Tensor:
    """Give each empty cluster the row that is farthest from its centroid, as ``empty.relocate`` does: bool (K,).

    Changes labels and counts; returns the clusters that this changes. A collective.
    """
    world, shard = problem.world, problem.shard
    with world.guard():
        may = found.counts[state.labels.to(torch.int64)] > 1
        if shard.weights is not None:
            may &= shard.weights > 0
        at = may.nonzero().flatten()
        far = geometry_of(problem).apart(shard.rows[at], found.costs[at])
    farthest = ranked(problem, state.labels, at, far, 2 * len(empty))
    old_of = {row[0]: row[1] for row in farthest}
    changed = torch.zeros(len(found.counts), dtype=torch.bool, device=world.device)
    for number, new in choose(farthest, found.counts, empty):
        local, _ = shard.local_of(torch.tensor([number], device=world.device))
        state.labels[local] = new
        changed[[old_of[number], new]] = True
        found.counts[old_of[number]] -= 1
        found.counts[new] += 1
    return changed
