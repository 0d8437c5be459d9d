"""From a problem to the best of several solutions: what a run and ``distkmeans.fit`` share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from distkmeans.errors import InputError
from distkmeans.exact.random import Stream
from distkmeans.init import Seeding, Seeds, inits
from distkmeans.metrics import Geometry
from distkmeans.problem import Problem, check_k
from distkmeans.schema import Range, listed
from distkmeans.solvers import Record, Solution, Solver, solvers


@dataclass(frozen=True)
class Clustering:
    """The best solution and where it began. restart: which of the n_init it was, from 0.

    records: its iterations. seed_seconds, solve_seconds: of all restarts together, by rank 0's clock.
    """

    solution: Solution
    seeds: Seeds
    restart: int
    records: list[Record]
    seed_seconds: float
    solve_seconds: float


@dataclass(frozen=True)
class Plan:
    """What to do with a problem: k clusters from ``n_init`` seedings, each solved, the best kept."""

    k: Annotated[int, Range(1)]
    seeding: Seeding
    solver: Solver
    n_init: Annotated[int, Range(1)] = 1
    seed: int = 0


def check_served(metric: Any, plan: Plan) -> None:
    """Raise InputError where the plan's solver or seeding cannot serve a metric that brings its own steps.

    They tell by a method ``refuse_metric``: why not, and what to use, or nothing. Without it seedings serve any metric,
    and solvers only squared Euclidean distances.
    """
    if not isinstance(metric, Geometry):
        return
    for registry, piece in ((solvers, plan.solver), (inits, plan.seeding)):
        why = piece.refuse_metric(metric) if hasattr(piece, "refuse_metric") else ""
        if registry is solvers and not hasattr(piece, "refuse_metric"):
            serving = [name for name in solvers.names() if hasattr(solvers[name], "refuse_metric")]
            why = f"it is made for squared Euclidean distances; use solver={listed(serving, 'or')}"
        if why:
            names = [name for name, maker in registry.known().items() if maker is type(piece)]
            raise InputError(f"metric={metric.name} {registry.field}={''.join(names[:1])}: {why}")


def cluster(problem: Problem, plan: Plan, on_record: Callable[[int, Record], None]) -> Clustering:
    """Carry the plan out, and warn of clusters without rows; ``on_record(restart, record)`` hears of every iteration.

    A collective.
    """
    best = best_of(problem, plan, on_record)
    _warn_of_empty(problem, best.solution)
    return best


def best_of(problem: Problem, plan: Plan, on_record: Callable[[int, Record], None]) -> Clustering:
    """Carry the plan out, without a word to the user. A collective."""
    check_k(plan.k, problem.shard.total)
    best: Clustering | None = None
    seed_seconds = solve_seconds = 0.0
    for restart in range(plan.n_init if plan.seeding.draws else 1):
        begin = time.perf_counter()
        seed = restart_seed(plan.seed, restart)
        seeds = plan.seeding(problem, plan.k, seed)
        seeded = time.perf_counter()
        records: list[Record] = []

        def hear(record: Record, restart: int = restart, records: list[Record] = records) -> None:
            records.append(record)
            on_record(restart, record)

        solution = plan.solver.fit(problem, seeds.centroids, hear, seed)
        seed_seconds += seeded - begin
        solve_seconds += time.perf_counter() - seeded
        if best is None or solution.cost < best.solution.cost:
            best = Clustering(solution, seeds, restart, records, 0.0, 0.0)
    assert best is not None
    return Clustering(best.solution, best.seeds, best.restart, best.records, seed_seconds, solve_seconds)


def restart_seed(seed: int, restart: int) -> int:
    """The seed of a restart; the first has the run's own."""
    return Stream(seed, "restart", restart).integer(1 << 62) if restart else seed


def _warn_of_empty(problem: Problem, solution: Solution) -> None:
    if solution.empty:
        problem.world.warn(
            f"{solution.empty} of {len(solution.centroids)} clusters have no rows: there are fewer distinct rows than"
            " clusters, or solver.empty=keep; choose a smaller k"
        )
