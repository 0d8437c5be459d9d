"""What the exact contract costs: precision=exact beside precision=fast, which skips the proofs. The goal is 10 %.

    python benchmarks/exactness.py [--case 200000x128x1024 patchesx1024 ...] [--npy FILE.npy --k 1024]

Same rows, same first centroids, same number of iterations, in turns; medians. Times as in peers_cpu.py.
"""

from __future__ import annotations

from argparse import Namespace

import machine
import tables
from cases import NAMES, Case, case_of
from contenders import Contender, Outcome, in_turns, inertia_of, ours

GOAL = 1.10
COLUMNS = ["rows", "K", "exact ms", "fast ms", "exact / fast", "within 10 %", "spread %", "inertia apart"]


def fast(case: Case, iterations: int, threads: int) -> Outcome:
    return ours(case, iterations, threads, exact=False)


PAIR = [Contender("exact", "distkmeans", ours), Contender("fast", "distkmeans", fast)]


def options() -> Namespace:
    parser = tables.arguments(__doc__)
    parser.add_argument("--case", nargs="*", default=[], help="ROWSxCOLUMNSxK of normal rows, or patchesxK")
    parser.add_argument("--npy", nargs="*", default=[], help="files of rows to use, with --k")
    parser.add_argument("--k", type=int, default=1024, help="clusters for --npy")
    parser.add_argument("--rows", type=float, default=1.0, help="share of the rows to use")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the first centroids")
    given = parser.parse_args()
    given.cases = [*given.case, *(f"{path}:{given.k}" for path in given.npy)] or NAMES
    return given


def main() -> None:
    given = options()
    machine.restart_with(given.threads)
    table = tables.Table(COLUMNS, machine.described())
    table.head()
    for name in given.cases:
        case = case_of(name, given.rows, given.seed)
        exact, quick = in_turns(PAIR, case, given)
        ratio = exact.iteration / quick.iteration
        apart = inertia_of(case.x, exact.centroids) / inertia_of(case.x, quick.centroids) - 1
        times = [exact.iteration * 1e3, quick.iteration * 1e3, ratio, "yes" if ratio <= GOAL else "no"]
        table.add(case.told, case.k, *times, 100 * max(exact.spread, quick.spread), apart)
    table.write(given.out / "exactness.csv")
    series = {one.name: table.numbers(f"{one.name} ms") for one in PAIR}
    title = f"precision=exact and fast, {given.threads} threads"
    tables.bars(given.out / "exactness.png", title, "milliseconds", table.cases(), series)


if __name__ == "__main__":
    main()
