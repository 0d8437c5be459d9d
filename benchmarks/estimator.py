"""``KMeans(...).fit(x)`` beside ``distkmeans.fit(x, ...)``: what the estimator adds. Medians of whole fits, in turns.

    python benchmarks/estimator.py [--case 1000000x16x64 ...] [--turns 5] [--threads 2]

The goal: at most 1.05 times the time, with the same bits.
"""

from __future__ import annotations

import statistics
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any

import distkmeans
import machine
import tables
from cases import rows_of

CASES = ["1000000x16x64", "1000000x16x8", "100000x128x256"]
COLUMNS = ["rows", "K", "iterations", "KMeans s", "fit s", "ratio", "goal"]


def options() -> Namespace:
    parser = tables.arguments(__doc__)
    parser.add_argument("--case", nargs="*", default=CASES, help="ROWSxCOLUMNSxK of normal rows, or patchesxK")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call, and what it returned."""
    begin = time.perf_counter()
    found = work()
    return time.perf_counter() - begin, found


def add(table: tables.Table, name: str, turns: int) -> None:
    told, x, k = rows_of(name)
    estimator = distkmeans.KMeans(k, random_state=0)
    distkmeans.fit(x, k)  # memory and threads are there before a clock runs
    with_it, without = [], []
    for _ in range(turns):
        mine, found = timed(lambda: estimator.fit(x))
        other, plain = timed(lambda: distkmeans.fit(x, k, seed=0))
        assert (found.labels_ == plain.labels).all()
        assert found.inertia_ == plain.inertia
        with_it.append(mine)
        without.append(other)
    mine, other = statistics.median(with_it), statistics.median(without)
    table.add(f"{told}, {len(x):,} x {x.shape[1]}", k, estimator.n_iter_, mine, other, mine / other, "1.05")


def main() -> None:
    given = options()
    machine.restart_with(given.threads)
    table = tables.Table(COLUMNS, machine.described())
    table.head()
    for name in given.case:
        add(table, name, given.turns)
    table.write(given.out / "estimator.csv")
    series = {"KMeans": table.numbers("KMeans s"), "fit": table.numbers("fit s")}
    tables.bars(given.out / "estimator.png", f"fits, {given.threads} threads", "seconds", table.cases(), series)


if __name__ == "__main__":
    main()
