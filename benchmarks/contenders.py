"""Who runs against whom on a CPU: distkmeans and its peers behind one function each, and turns that are fair."""

from __future__ import annotations

import importlib
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

import machine
from cases import Case
from distkmeans.data.shard import own_shard
from distkmeans.metrics import metrics
from distkmeans.problem import pose
from distkmeans.solvers import Record
from distkmeans.solvers.lloyd import Lloyd
from distkmeans.world import World

FOREVER = 1000
"""Iterations that stand for: until it has converged. A contender that needs more has not."""


@dataclass(frozen=True)
class Outcome:
    """Of one whole run. seconds: set-up and last labels included. each: seconds of the iterations, where known."""

    seconds: float
    iterations: int
    centroids: np.ndarray
    each: list[float] = field(default_factory=list)


Run = Callable[[Case, int, int], Outcome]
"""(case, iterations at most, threads): run it from the case's first centroids."""


@dataclass(frozen=True)
class Contender:
    """name: in tables. module: without it there is nothing to run. own_start: it draws its own first centroids.

    until: how it ends by itself, which is "" for one that cannot. columns: it needs so many, at least.
    """

    name: str
    module: str
    run: Run
    own_start: bool = False
    until: str = "labels settle"
    columns: int = 1

    def hindrance(self, case: Case) -> str:
        """Why it cannot run the case, or ""."""
        if not self.installed():
            return "not installed"
        return "" if case.x.shape[1] >= self.columns else f"needs {self.columns} columns"

    def installed(self) -> bool:
        try:
            importlib.import_module(self.module)
        except ImportError:
            return False
        return True


def ours(
    case: Case,
    iterations: int,
    threads: int,
    exact: bool = True,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Outcome:
    """distkmeans, from rows on their device: statistics of the rows, Lloyd with tol=0, last labels and inertia."""
    world = World(device=torch.device(device))
    rows = torch.from_numpy(case.x).to(device, dtype)
    machine.settle(device)
    begin = time.perf_counter()
    problem = pose(world, own_shard(world, rows, None), metrics.build("euclidean"), exact)
    records: list[Record] = []
    start = problem.centroids(torch.from_numpy(case.start).to(device))
    solution = Lloyd(max_iter=iterations, tol=0).fit(problem, start, records.append)
    centroids = solution.centroids.cpu().numpy()  # which waits for the device
    each = [record.seconds for record in records]
    return Outcome(time.perf_counter() - begin, solution.iterations, centroids, each)


def scikit_learn(case: Case, iterations: int, threads: int) -> Outcome:
    from sklearn.cluster import KMeans

    return _sklearn_like(KMeans, case, iterations)


def intelex(case: Case, iterations: int, threads: int) -> Outcome:
    import daal4py
    from sklearnex.cluster import KMeans

    daal4py.daalinit(threads)
    return _sklearn_like(KMeans, case, iterations)


def _sklearn_like(estimator: Callable[..., Any], case: Case, iterations: int) -> Outcome:
    begin = time.perf_counter()
    model = estimator(case.k, init=case.start, n_init=1, max_iter=iterations, tol=0, algorithm="lloyd").fit(case.x)
    return Outcome(time.perf_counter() - begin, int(model.n_iter_), np.asarray(model.cluster_centers_))


def faiss(case: Case, iterations: int, threads: int) -> Outcome:
    """faiss.Clustering over IndexFlatL2, all rows; it stops early where its float32 objective stands still."""
    import faiss as library

    library.omp_set_num_threads(threads)
    task = library.Clustering(case.x.shape[1], case.k)
    task.niter, task.max_points_per_centroid, task.min_points_per_centroid = iterations, 1 << 30, 1
    library.copy_array_to_vector(case.start.ravel(), task.centroids)
    begin = time.perf_counter()
    task.train(case.x, library.IndexFlatL2(case.x.shape[1]))
    seconds = time.perf_counter() - begin
    centroids = library.vector_to_array(task.centroids).reshape(case.start.shape)
    return Outcome(seconds, task.iteration_stats.size(), centroids)


def faiss_pruned(case: Case, iterations: int, threads: int) -> Outcome:
    """faiss.SuperKmeans, faiss's own pruned k-means (from 1.15 on)."""
    import faiss as library

    library.omp_set_num_threads(threads)
    options = {"niter": iterations, "max_points_per_centroid": 1 << 30, "min_points_per_centroid": 1}
    model = library.SuperKmeans(case.x.shape[1], case.k, **options)
    begin = time.perf_counter()
    model.train(case.x)
    return Outcome(time.perf_counter() - begin, len(model.iteration_stats), model.centroids)


def super_kmeans(case: Case, iterations: int, threads: int, products_only: bool) -> Outcome:
    """SuperKMeans on all rows, flat. products_only: matrix products alone; else it prunes, where D and K are large."""
    from superkmeans import SuperKMeans

    model = SuperKMeans(
        case.k,
        case.x.shape[1],
        hierarchical=False,
        iters=iterations,
        sampling_fraction=1.0,
        max_points_per_cluster=1 << 30,
        n_threads=threads,
        use_blas_only=products_only,
        tol=1e-30,  # a shift of 0 is not below a tolerance of 0
        early_termination=iterations == FOREVER,
    )
    begin = time.perf_counter()
    centroids = model.train(case.x)
    return Outcome(time.perf_counter() - begin, len(model.iteration_stats), centroids)


def products_only(case: Case, iterations: int, threads: int) -> Outcome:
    return super_kmeans(case, iterations, threads, True)


def pruned(case: Case, iterations: int, threads: int) -> Outcome:
    return super_kmeans(case, iterations, threads, False)


EARLY = "its own rule"
OURS = Contender("distkmeans", "distkmeans", ours)
PEERS = [
    Contender("scikit-learn", "sklearn", scikit_learn),
    Contender("scikit-learn-intelex", "sklearnex.cluster", intelex),
    Contender("faiss", "faiss", faiss, until="float32 objective stands still"),
    Contender("faiss SuperKmeans", "faiss.extra_wrappers", faiss_pruned, own_start=True, until="", columns=32),
    Contender("SuperKMeans BLAS", "superkmeans", products_only, own_start=True, until=EARLY),
    Contender("SuperKMeans pruned", "superkmeans", pruned, own_start=True, until=EARLY),
]


@dataclass(frozen=True)
class Timing:
    """Medians over turns. iteration: seconds, of the difference of a long and a short run, so that set-up drops out.

    whole: seconds of the long run. spread: of ``iteration`` between turns, as a share of it. each: seconds of each
    iteration of the long run, where known. centroids: of the last long run.
    """

    iteration: float
    whole: float
    spread: float
    each: list[float]
    centroids: np.ndarray


def in_turns(contenders: Sequence[Contender], case: Case, given: Namespace) -> list[Timing]:
    """Time runs of 1 and of 1 + ``given.iterations`` iterations, every contender once in each of ``given.turns``."""
    found: list[list[tuple[float, Outcome]]] = [[] for _ in contenders]
    for _ in range(given.turns):
        for place, contender in enumerate(contenders):
            machine.use_threads(given.threads)
            short, long = (contender.run(case, count, given.threads) for count in (1, 1 + given.iterations))
            found[place].append((_difference(short, long), long))
    return [_timing(runs) for runs in found]


def _difference(short: Outcome, long: Outcome) -> float:
    """Seconds per iteration; of the whole run where it took no more iterations than the short one."""
    more = long.iterations - short.iterations
    return (long.seconds - short.seconds) / more if more else long.seconds / long.iterations


def _timing(runs: list[tuple[float, Outcome]]) -> Timing:
    differences = [difference for difference, _ in runs]
    iteration = statistics.median(differences)
    whole = statistics.median(outcome.seconds for _, outcome in runs)
    each = [statistics.median(turn) for turn in zip(*(outcome.each for _, outcome in runs), strict=True)]
    spread = (max(differences) - min(differences)) / iteration
    return Timing(iteration, whole, spread, each, runs[-1][1].centroids)


def inertia_of(x: np.ndarray, centroids: np.ndarray) -> float:
    """Sum of squared distances to the nearest centroid: found in float32, measured in float64, for all alike."""
    rows, centres = torch.from_numpy(x), torch.from_numpy(np.ascontiguousarray(centroids, dtype=np.float32))
    bias, total = -0.5 * centres.square().sum(1), 0.0
    for tile in rows.split(max(1, (1 << 24) // len(centres))):
        nearest = torch.addmm(bias, tile, centres.t()).argmax(1)
        total += float((tile.double() - centres[nearest].double()).square().sum())
    return total


def product_seconds(case: Case) -> float:
    """Of the float32 matrix product of all rows and centroids, tile by tile: the limit of a dense pass."""
    rows, columns = torch.from_numpy(case.x), torch.from_numpy(case.start).t().contiguous()
    out = torch.empty(4096, case.k)

    def multiply() -> None:
        for tile in rows.split(4096):
            torch.mm(tile, columns, out=out[: len(tile)])

    return machine.seconds_of(multiply, at_least=0.1)
