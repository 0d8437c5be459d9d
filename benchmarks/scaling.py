"""Ranks on this machine, under torchrun over gloo: seconds per iteration, and what of it goes into the all-reduce.

    python benchmarks/scaling.py [--case 200000x128x256] [--ranks 1 2 4]

Strong: the same rows, shared by more ranks. Weak: the same rows per rank. Efficiency is the time of the first number of
ranks over that of W, times W over that number for "strong"; with more ranks than cores it cannot stay at 1. Medians of
the later half of the iterations, of the slowest rank. In the all-reduce a rank also waits for the slowest; "transfer"
is the share of the rank that waits least.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import machine
import tables
from cases import rows_of
from distkmeans.cost_model import Size
from ranks import launch

COLUMNS = [
    "scaling",
    "ranks",
    "rows",
    "D",
    "K",
    "s / iteration",
    "efficiency",
    "all-reduce %",
    "transfer %",
    "packet MB",
]


def options() -> Namespace:
    parser = tables.arguments(__doc__)
    parser.add_argument("--case", default="400000x64x256", help="the rows of the most ranks together")
    parser.add_argument("--ranks", nargs="*", type=int, default=[1, 2, 4])
    parser.add_argument("--threads", type=int, default=1, help="of each rank")
    parser.add_argument("--iterations", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0, help="of the first centroids")
    return parser.parse_args()


def main() -> None:
    given = options()
    machine.restart_with(given.threads)
    total = len(rows_of(given.case)[1])
    table = tables.Table(COLUMNS, f"{machine.described()} per rank")
    table.head()
    for ranks in given.ranks:
        weak = total * ranks // max(given.ranks)
        jobs = [job(given, rows) for rows in (total, weak)]
        for kind, found in zip(("strong", "weak"), launch(ranks, given.threads, jobs), strict=True):
            first = next((row for row in table.rows if row[0] == kind), None)
            table.add(*_row(kind, ranks, found, first))
    table.write(given.out / "scaling.csv")
    picture(given, table)


def job(given: Namespace, rows: int, clusters: int | None = None) -> dict[str, object]:
    """For ``ranks.launch``: iterations over so many rows of the case."""
    of_case = {"kind": "lloyd", "case": given.case, "rows": rows, "clusters": clusters}
    return {**of_case, "seed": given.seed, "iterations": given.iterations}


def _row(kind: str, ranks: int, found: dict[str, Any], first: list[Any] | None) -> list[object]:
    rows, dims, k, limbs = found["shape"]
    seconds, packet = found["seconds"], Size(rows, dims, k, ranks, limbs).packet_bytes / 1e6
    shares = [100 * found[name] / seconds for name in ("reduce", "transfer")]
    efficiency = 1.0 if first is None else first[5] / seconds * (first[1] / ranks if kind == "strong" else 1)
    return [kind, ranks, rows, dims, k, seconds, efficiency, *shares, packet]


def picture(given: Namespace, table: tables.Table) -> None:
    series = {kind: table.column("s / iteration", "scaling", kind) for kind in ("strong", "weak")}
    labels = (f"ranks of {given.threads} threads", "seconds per iteration")
    tables.lines(given.out / "scaling.png", f"Scaling, {given.case}", labels, given.ranks, series)


if __name__ == "__main__":
    main()
