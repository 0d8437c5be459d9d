"""What the exact contract costs: precision=exact beside precision=fast, which skips the proofs. The goal is 10 %.

    python benchmarks/exactness.py [--case 200000x128x1024 patchesx1024 ...] [--npy FILE.npy --k 1024]

Same rows, same first centroids, same number of iterations, in turns; medians. Times as in peers_cpu.py.
"""

from __future__ import annotations

from argparse import Namespace

import machine
import tables
from cases import Case, case_arguments, case_of, names_of
from contenders import Contender, Outcome, in_turns, inertia_of, ours

GOAL = 1.10
COLUMNS = ["rows", "K", "exact ms", "fast ms", "exact / fast", "within 10 %", "spread %", "inertia apart"]


def fast(case: Case, iterations: int, threads: int) -> Outcome:
    return ours(case, iterations, threads, exact=False)


PAIR = [Contender("exact", "distkmeans", ours), Contender("fast", "distkmeans", fast)]


def options() -> Namespace:
    parser = case_arguments(tables.arguments(__doc__))
    given = parser.parse_args()
    given.cases = names_of(given)
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
