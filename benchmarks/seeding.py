"""Seconds of seeding: greedy k-means++ beside scikit-learn's, k-means|| in dense Lloyd iterations. Medians, in turns.

    python benchmarks/seeding.py [--greedy normal:100000x128x1000 ...] [--parallel patchesx1024 ...]

The goals: greedy k-means++ in half of scikit-learn's time; k-means||, 5 rounds of K / 2 rows, in 6 iterations of
the dense float32 kernel on the same rows.
"""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from sklearn.cluster import kmeans_plusplus

import machine
import tables
from cases import rows_of
from distkmeans.data.shard import own_shard
from distkmeans.init.given import Given
from distkmeans.init.parallel import Parallel
from distkmeans.init.plus_plus import greedy
from distkmeans.metrics import metrics
from distkmeans.problem import Problem, pose
from distkmeans.solvers import Record
from distkmeans.solvers.lloyd import Lloyd
from distkmeans.world import World

GREEDY = ["normal:100000x128x1000", "clustered:100000x128x1000", "normal:1000000x16x400", "clustered:1000000x16x400"]
PARALLEL = ["patchesx1024", "200000x128x1024"]
SPREAD = 4
"""Standard deviation of the centres of clustered rows, in those of a cluster."""
COLUMNS = ["rows", "K", "seeding", "ours s", "against", "its s", "ratio", "goal"]


def options() -> Namespace:
    parser = tables.arguments(__doc__)
    parser.add_argument("--greedy", nargs="*", default=GREEDY, help="normal:ROWSxCOLUMNSxK or clustered:...")
    parser.add_argument("--parallel", nargs="*", default=PARALLEL, help="ROWSxCOLUMNSxK of normal rows, or patchesxK")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def posed(x: np.ndarray) -> Problem:
    """The rows as a problem of one rank."""
    return pose(World(), own_shard(World(), torch.from_numpy(x), None), metrics.build("euclidean"))


def clustered(name: str) -> tuple[str, np.ndarray, int]:
    """What the rows are called, float32 rows, and K, of "normal:ROWSxCOLUMNSxK" or "clustered:...": 1,000 clusters."""
    kind, _, shape = name.partition(":")
    _, x, k = rows_of(shape)
    if kind == "clustered":
        generator = np.random.default_rng(1)
        centres = generator.standard_normal((1000, x.shape[1]), dtype=np.float32) * SPREAD
        x += centres[generator.integers(0, 1000, len(x))]
    return f"{kind}, {len(x):,} x {x.shape[1]}", x, k


def once(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def add_greedy(table: tables.Table, name: str, turns: int) -> None:
    told, x, k = clustered(name)
    problem = posed(x)
    greedy(problem, 8, 0)  # memory and threads are there before a clock runs
    ours, theirs = [], []
    for turn in range(turns):
        ours.append(once(partial(greedy, problem, k, turn)))
        theirs.append(once(partial(kmeans_plusplus, x, k, random_state=turn)))
    mine, other = statistics.median(ours), statistics.median(theirs)
    table.add(told, k, "greedy k-means++", mine, "scikit-learn", other, mine / other, "0.5")


def add_parallel(table: tables.Table, name: str, turns: int) -> None:
    told, x, k = rows_of(name)
    problem = posed(x)
    first = Given(x[:k])(problem, k, 0).centroids
    seeding, iterations = [], []
    for turn in range(turns):
        records: list[Record] = []
        Lloyd(max_iter=4, tol=0, kernel="dense").fit(problem, first, records.append)
        iterations += [record.seconds for record in records[1:]]
        seeding.append(once(partial(Parallel(), problem, k, turn)))
    mine, one = statistics.median(seeding), statistics.median(iterations)
    told = f"{told}, {len(x):,} x {x.shape[1]}"
    table.add(told, k, "k-means||", mine, "dense iteration", one, mine / one, "6")


def main() -> None:
    given = options()
    machine.restart_with(given.threads)
    table = tables.Table(COLUMNS, machine.described())
    table.head()
    for name in given.greedy:
        add_greedy(table, name, given.turns)
    for name in given.parallel:
        add_parallel(table, name, given.turns)
    table.write(given.out / "seeding.csv")
    series = {"ours": table.numbers("ours s"), "against": table.numbers("its s")}
    tables.bars(given.out / "seeding.png", f"seeding, {given.threads} threads", "seconds", table.cases(), series)


if __name__ == "__main__":
    main()
