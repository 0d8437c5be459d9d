"""Seconds of seeding on this CPU: greedy k-means++ beside scikit-learn's, and k-means|| beside a Lloyd iteration.

    python benchmarks/seeding.py [--turns 3] [--greedy normal:100000x128x1000 ...] [--parallel patchesx1024 ...]

Both seed the same rows with as many trials a round, in one process with the same threads, in turns; medians count. Ours
is exact and the same at any world size, and starts from rows that are posed (read and scanned once per run).
k-means|| makes 5 rounds with an oversampling of K/2, and is counted in iterations of Lloyd's algorithm in plain torch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from peers_cpu import rows_of
from sklearn.cluster import kmeans_plusplus

import distkmeans
from distkmeans.api import metrics, pose
from distkmeans.data.shard import own_shard
from distkmeans.init.given import Given
from distkmeans.init.parallel import Parallel
from distkmeans.init.plus_plus import greedy
from distkmeans.problem import Problem
from distkmeans.solvers.lloyd import Lloyd
from distkmeans.world import World

GREEDY = ["normal:100000x128x1000", "clustered:100000x128x1000", "normal:1000000x16x400", "clustered:1000000x16x400"]
PARALLEL = ["patchesx1024", "200000x128x1024"]
SPREAD = 4
"""Standard deviation of the centres of clustered rows, in those of a cluster."""


def posed(x: np.ndarray) -> Problem:
    """The rows as a problem of one rank."""
    return pose(World(), own_shard(World(), torch.from_numpy(x), None), metrics.build("euclidean"))


def case_of(case: str) -> tuple[np.ndarray, int]:
    """float32 rows and K of "normal:ROWSxCOLUMNSxK" or "clustered:...": 1,000 normal clusters."""
    kind, _, shape = case.partition(":")
    x, k = rows_of(shape, 1)
    if kind == "clustered":
        generator = np.random.default_rng(1)
        centres = generator.standard_normal((1000, x.shape[1]), dtype=np.float32) * SPREAD
        x += centres[generator.integers(0, 1000, len(x))]
    return x, k


def seconds(function: Callable[[], object]) -> float:
    """What one call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def greedy_row(case: str, turns: int) -> str:
    """Our greedy k-means++ and scikit-learn's, in turns."""
    x, k = case_of(case)
    problem = posed(x)
    greedy(problem, 8, 0)  # memory and threads are there before a clock runs
    ours, theirs = [], []
    for turn in range(turns):
        ours.append(seconds(lambda seed=turn: greedy(problem, k, seed)))
        theirs.append(seconds(lambda seed=turn: kmeans_plusplus(x, k, random_state=seed)))
    mine, other = statistics.median(ours), statistics.median(theirs)
    return f"| {case} | {mine:.2f} | {other:.2f} | {mine / other:.2f} |"


def parallel_row(case: str, turns: int) -> str:
    """k-means|| and the median of dense iterations, in turns."""
    x, k = rows_of(case, 1)
    problem = posed(x)
    seeding, iterations, first = [], [], Given(x[:k])(problem, k, 0).centroids
    for turn in range(turns):
        records: list = []
        Lloyd(max_iter=5, tol=0).fit(problem, first, records.append)
        iterations += [record.seconds for record in records[1:]]
        seeding.append(seconds(lambda seed=turn: Parallel()(problem, k, seed)))
    mine, one = statistics.median(seeding), statistics.median(iterations)
    return f"| {case} | {mine:.2f} | {one:.3f} | {mine / one:.1f} |"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--greedy", nargs="*", default=GREEDY, help="normal:ROWSxCOLUMNSxK or clustered:...")
    parser.add_argument("--parallel", nargs="*", default=PARALLEL, help="ROWSxCOLUMNSxK of normal rows, or patchesxK")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    print(f"distkmeans {distkmeans.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    if options.greedy:
        print("| greedy k-means++ | distkmeans s | scikit-learn s | ratio |\n|---|---|---|---|")
    for case in options.greedy:
        print(greedy_row(case, options.turns), flush=True)
    if options.parallel:
        print("| k-means\\|\\| | seconds | a Lloyd iteration | iterations |\n|---|---|---|---|")
    for case in options.parallel:
        print(parallel_row(case, options.turns), flush=True)


if __name__ == "__main__":
    main()
