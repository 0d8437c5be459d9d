"""Exact Lloyd iterations on this CPU, beside the peers that are installed and the bare float32 matrix product.

    python benchmarks/peers_cpu.py [--case 200000x128x1024 patchesx1024 ...] [--npy FILE.npy --k 1024]
    python benchmarks/peers_cpu.py --converge [...]

Every contender gets the same float32 rows, the same first centroids (rows drawn with --seed), the same number of
iterations and of threads, in one process, in turns; medians of the turns count. Those marked "own start" draw their
first centroids themselves. The time of an iteration is the difference of a run of 1 + ITERATIONS iterations and one
of 1, over ITERATIONS, so that set-up drops out. With --converge, whole runs until each ends by itself, set-up included.
"""

from __future__ import annotations

import statistics
from argparse import Namespace

import torch

import machine
import tables
from cases import Case, case_arguments, case_of, names_of
from contenders import FOREVER, OURS, PEERS, Contender, Timing, in_turns, inertia_of, product_seconds

ALL = [OURS, *PEERS]
End = tuple[float, int, float]
"""Of a run that ended by itself: seconds, iterations, inertia."""


def options() -> Namespace:
    parser = case_arguments(tables.arguments(__doc__))
    parser.add_argument("--only", nargs="*", default=[one.name for one in ALL], help="contenders")
    parser.add_argument("--converge", action="store_true", help="whole runs, until each ends by itself")
    given = parser.parse_args()
    given.cases = names_of(given)
    given.contenders = [one for one in ALL if one.name in given.only]
    return given


def iterations(given: Namespace) -> None:
    """The table of iterations, and that of details."""
    names = [one.name for one in given.contenders]
    columns = [
        "rows",
        "K",
        *(f"{name} ms" for name in names),
        "product ms",
        "best peer",
        "ours / best",
        "ours / product",
    ]
    header = f"{machine.described()}; milliseconds per iteration"
    summary, details = tables.Table(columns, header), tables.Table(DETAILS, f"{header}, in detail")
    summary.head()
    later = []
    for name in given.cases:
        case = case_of(name, given.rows, given.seed)
        ready = [one for one in given.contenders if not one.hindrance(case)]
        timings = in_turns(ready, case, given)
        found = {one.name: timing for one, timing in zip(ready, timings, strict=True)}
        summary.add(*_compared(case, given.contenders, found))
        later += _detailed(case, given.contenders, found)
    details.head()
    for row in later:
        details.add(*row)
    summary.write(given.out / "peers_cpu.csv")
    details.write(given.out / "peers_cpu_details.csv")
    _draw(given, summary, names)


DETAILS = ["rows", "K", "contender", "ms", "spread %", "whole run s", "first ms", "mean ms", "late ms", "ours / this"]
DETAILS += ["inertia vs scikit-learn", "start"]


def _compared(case: Case, contenders: list[Contender], found: dict[str, Timing]) -> list[object]:
    """A row of the summary."""
    ms = {name: timing.iteration * 1e3 for name, timing in found.items()}
    product = product_seconds(case) * 1e3
    mine, peers = ms.get(OURS.name), [name for name in ms if name != OURS.name]
    best = min(peers, key=lambda name: ms[name], default=None)
    against = mine / ms[best] if mine and best else None
    cells = [ms.get(one.name, one.hindrance(case)) for one in contenders]
    return [case.told, case.k, *cells, product, best, against, mine / product if mine else None]


def _detailed(case: Case, contenders: list[Contender], found: dict[str, Timing]) -> list[list[object]]:
    """A row per contender. first, mean and late (median of the second half): of iterations, where it tells them."""
    costs = {name: inertia_of(case.x, timing.centroids) for name, timing in found.items()}
    mine, reference = found.get(OURS.name), costs.get("scikit-learn")
    rows: list[list[object]] = []
    for one in contenders:
        timing = found.get(one.name)
        if timing is None:
            rows.append([case.told, case.k, one.name, one.hindrance(case), *[None] * 8])
            continue
        ratio = mine.iteration / timing.iteration if mine else None
        apart = costs[one.name] / reference - 1 if reference else None
        told: list[object] = [timing.iteration * 1e3, timing.spread * 100, timing.whole, *_each(timing)]
        rows.append([case.told, case.k, one.name, *told, ratio, apart, "own" if one.own_start else "same"])
    return rows


def _each(timing: Timing) -> list[float | None]:
    """Milliseconds of the first iteration, of the mean of the first ten, and the median of the later half."""
    ms = [seconds * 1e3 for seconds in timing.each]
    if not ms:
        return [None] * 3
    return [ms[0], statistics.fmean(ms[:10]), statistics.median(ms[len(ms) // 2 :])]


def _draw(given: Namespace, summary: tables.Table, names: list[str]) -> None:
    series = {name: summary.numbers(f"{name} ms") for name in [*names, "product"]}
    title = f"One Lloyd iteration, {given.threads} threads"
    tables.bars(given.out / "peers_cpu.png", title, "milliseconds", summary.cases(), series)


def converge(given: Namespace) -> None:
    """The table of whole runs."""
    columns = ["rows", "K", "contender", "iterations", "s", "ours / this", "inertia", "vs ours", "start", "ends when"]
    table = tables.Table(columns, f"{machine.described()}; whole runs to the end, set-up included")
    table.head()
    for name in given.cases:
        case, mine = case_of(name, given.rows, given.seed), None
        for one in given.contenders:
            found = _until_the_end(one, case, given)
            mine = found if one is OURS else mine
            table.add(case.told, case.k, one.name, *_ended(one, case, found, mine))
    table.write(given.out / "peers_cpu_converge.csv")
    series = {one.name: table.numbers("s", "contender", one.name) for one in given.contenders}
    path = given.out / "peers_cpu_converge.png"
    tables.bars(path, f"To convergence, {given.threads} threads", "seconds", table.cases(), series)


def _until_the_end(one: Contender, case: Case, given: Namespace) -> End | None:
    """Median seconds, iterations and inertia; None for one that is missing or does not end by itself."""
    if one.hindrance(case) or not one.until:
        return None
    outcomes = []
    for _ in range(given.turns):
        machine.use_threads(given.threads)
        outcomes.append(one.run(case, FOREVER, given.threads))
    seconds = statistics.median(outcome.seconds for outcome in outcomes)
    return seconds, outcomes[-1].iterations, inertia_of(case.x, outcomes[-1].centroids)


def _ended(one: Contender, case: Case, found: End | None, mine: End | None) -> list[object]:
    start = "own" if one.own_start else "same"
    if found is None:
        return [None, one.hindrance(case) or None, *[None] * 3, start, one.until or "runs a fixed number of iterations"]
    seconds, count, cost = found
    if count >= FOREVER:
        return [count, seconds, None, cost, None, start, f"not in {FOREVER:,} iterations"]
    against = [mine[0] / seconds, cost / mine[2] - 1] if mine else [None, None]
    return [count, seconds, against[0], cost, against[1], start, one.until]


def main() -> None:
    given = options()
    machine.restart_with(given.threads)
    torch.manual_seed(0)
    (converge if given.converge else iterations)(given)


if __name__ == "__main__":
    main()
