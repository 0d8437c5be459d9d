"""The best of several seedings, each of some rows and judged on others: how scikit-learn starts its mini-batches."""

from __future__ import annotations

from distkmeans.exact.random import Stream
from distkmeans.init import Seeding, Seeds, sampled
from distkmeans.kernels.once import Once, choice_for
from distkmeans.problem import Problem, check_k
from distkmeans.solvers.batch import Scale, measure
from distkmeans.solvers.online import State


def best_seeds(problem: Problem, seeding: Seeding, k: int, seed: int, size: int, tries: int = 1) -> Seeds:
    """Of ``tries`` seedings, each of ``size`` rows drawn anew, the one of least inertia on ``size`` further rows.

    Rows are drawn without replacement, evenly (all, where there are no more). The first of equals is kept. A seeding
    that draws nothing is tried once. Raises InputError for a size below k. A collective.
    """
    check_k(k, problem.shard.total)
    tries = tries if seeding.draws else 1
    best: Seeds | None = None
    least = 0.0
    for each in range(tries):
        own = Stream(seed, "best_seeds/try", each).integer(1 << 62) if each else seed
        seeds = seeding(sampled(problem, size, k, own) if seeding.draws else problem, k, own)
        cost = validation_inertia(problem, seeds, k, seed, size) if tries > 1 else 0.0
        if best is None or cost < least:
            best, least = seeds, cost
    assert best is not None
    return best


def validation_inertia(problem: Problem, seeds: Seeds, k: int, seed: int, size: int) -> float:
    """Of the seeds on ``size`` rows that are the same for all tries. A collective."""
    chosen = sampled(problem, size, k, Stream(seed, "best_seeds/validation").integer(1 << 62)).shard
    state = State.start(seeds.centroids, seed)
    with problem.world.guard():
        scale = Scale.of(problem.columns, seeds.centroids, chosen.total, chosen.weights is not None)
        kernel = Once(choice_for(chosen.rows, seeds.centroids, scale.largest, problem.exact))
    return measure(problem.world, scale, lambda: chosen, state.centroids, state.hashes, kernel.assign_batch).inertia
