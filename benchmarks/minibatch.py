"""MiniBatchKMeans beside scikit-learn's: whole fits of as many batches of 4,096 rows, from the same first centroids.

    python benchmarks/minibatch.py [--case patchesx256 1000000x16x64 ...] [--passes 1] [--seeds 10] [--threads 2]

Neither stops early. Seconds and inertia are medians over the seeds, which take turns.
"""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from typing import Any

import sklearn.cluster

import distkmeans
import machine
import tables
from cases import first_centroids, rows_of

CASES = ["patchesx256", "1000000x16x64", "200000x64x100"]
COLUMNS = ["rows", "K", "batches", "ours s", "scikit-learn s", "ratio", "ours inertia", "its inertia", "difference %"]


def options() -> Namespace:
    parser = tables.arguments(__doc__)
    parser.add_argument("--case", nargs="*", default=CASES, help="ROWSxCOLUMNSxK of normal rows, or patchesxK")
    parser.add_argument("--batch", type=int, default=4096, help="rows of a batch")
    parser.add_argument("--passes", type=int, default=1, help="over the rows: max_iter")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def fitted(maker: Any, x: Any, **given: Any) -> tuple[float, float, int]:
    """Seconds of a fit, its inertia, and its batches."""
    model = maker(max_no_improvement=None, n_init=1, **given)
    begin = time.perf_counter()
    model.fit(x)
    return time.perf_counter() - begin, float(model.inertia_), int(model.n_steps_)


def add(table: tables.Table, name: str, given: Namespace) -> None:
    told, x, k = rows_of(name)
    common = {"n_clusters": k, "batch_size": given.batch, "max_iter": given.passes}
    ours, theirs = [], []
    for seed in range(given.seeds):
        turn = {**common, "init": first_centroids(x, k, seed), "random_state": seed}
        ours.append(fitted(distkmeans.MiniBatchKMeans, x, **turn))
        theirs.append(fitted(sklearn.cluster.MiniBatchKMeans, x, **turn))
    (mine, inertia), (other, its) = (
        [statistics.median(c) for c in list(zip(*f, strict=True))[:2]] for f in (ours, theirs)
    )
    assert {steps for _, _, steps in ours} == {steps for _, _, steps in theirs}
    rows = f"{told}, {len(x):,} x {x.shape[1]}"
    table.add(rows, k, ours[0][2], mine, other, mine / other, inertia, its, 100 * (inertia / its - 1))


def main() -> None:
    given = options()
    machine.restart_with(given.threads)
    table = tables.Table(COLUMNS, machine.described())
    table.head()
    for name in given.case:
        add(table, name, given)
    table.write(given.out / "minibatch.csv")
    series = {"ours": table.numbers("ours s"), "scikit-learn": table.numbers("scikit-learn s")}
    tables.bars(given.out / "minibatch.png", f"mini-batches, {given.threads} threads", "seconds", table.cases(), series)


if __name__ == "__main__":
    main()
