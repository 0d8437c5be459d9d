"""From a problem to the best of several solutions: what a run and ``distkmeans.fit`` share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from distkmeans.exact.random import Stream
from distkmeans.init import Seeding, Seeds
from distkmeans.problem import Problem, check_k
from distkmeans.schema import Range
from distkmeans.solvers import Record, Solution, Solver


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
