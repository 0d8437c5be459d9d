"""Exact Lloyd iterations on a CUDA card, beside flash-kmeans, flashlib and plain torch, and beside the card's limits.

    python benchmarks/peers_gpu.py [--case 1000000x128x1024 ...] [--type float32]
    python benchmarks/peers_gpu.py --device cpu --case 2000x16x8        (no card: does everything run?)

As in peers_cpu.py: same rows, already on the card, same first centroids, same number of iterations, in turns; the time
of an iteration is the difference of two runs, so that set-up and compilation drop out. Peers get the rows as --type;
flash-kmeans and flashlib multiply float32 as TF32. distkmeans gets them as stored, too, and proves its labels.
Without a card, and without --device cpu, it ends with one line and exit code 1.
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable
from functools import partial

import torch

import machine
import tables
from cases import Case, case_of
from contenders import OURS, Contender, Outcome, Timing, in_turns, inertia_of, ours

NAMES = ["1000000x128x1024", "1000000x128x16384", "200000x768x4096", "4000000x64x256"]
TILE = 1 << 28
"""Bytes of the scores of a tile, for plain torch."""
COLUMNS = ["rows", "K", "contender", "ms", "spread %", "whole run s", "ours / this", "of the product's rate %"]
COLUMNS += ["inertia vs plain torch"]


def options() -> Namespace:
    parser = tables.arguments(__doc__)
    parser.add_argument("--case", nargs="*", default=NAMES, help="ROWSxCOLUMNSxK of normal rows, patchesxK, FILE.npy:K")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--type", default="float32", choices=["float32", "bfloat16", "float16"], help="of the rows")
    parser.add_argument("--rows", type=float, default=1.0, help="share of the rows to use")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of the host")
    parser.add_argument("--seed", type=int, default=0, help="of the first centroids")
    return parser.parse_args()


def on_card(given: Namespace, run: Callable[..., tuple[torch.Tensor, int]]) -> Callable[[Case, int, int], Outcome]:
    """A contender's run, from rows on the card. ``run(x, start, iterations)`` gives centroids and iterations."""

    def timed(case: Case, iterations: int, threads: int) -> Outcome:
        dtype = getattr(torch, given.type)
        x, start = (torch.from_numpy(values).to(given.device, dtype) for values in (case.x, case.start))
        machine.settle(given.device)
        begin = time.perf_counter()
        centroids, count = run(x, start, iterations)
        machine.settle(given.device)
        seconds = time.perf_counter() - begin
        return Outcome(seconds, count, centroids.float().cpu().numpy())

    return timed


def plain_torch(x: torch.Tensor, start: torch.Tensor, iterations: int) -> tuple[torch.Tensor, int]:
    """A tile of rows at a time: product, argmax, index_add_; a cluster without rows keeps its centroid."""
    centroids = start
    for _ in range(iterations):
        bias = -0.5 * centroids.square().sum(1)
        sums = torch.zeros_like(centroids, dtype=torch.float32)
        counts = torch.zeros(len(centroids), device=x.device)
        for tile in x.split(max(1, TILE // (len(centroids) * x.element_size()))):
            labels = torch.addmm(bias, tile, centroids.t()).argmax(1)
            sums.index_add_(0, labels, tile.float())
            counts.index_add_(0, labels, torch.ones(len(tile), device=x.device))
        means = (sums / counts[:, None]).to(x.dtype)
        centroids = torch.where(counts[:, None] > 0, means, centroids)
    return centroids, iterations


def flash_kmeans(x: torch.Tensor, start: torch.Tensor, iterations: int) -> tuple[torch.Tensor, int]:
    if x.device.type == "cuda":
        from flash_kmeans import batch_kmeans_Euclid as cluster
    else:
        from flash_kmeans.torch_fallback import batch_kmeans_Euclid_torch_native as cluster
    _, centroids, count = cluster(x[None], len(start), max_iters=iterations, tol=0.0, init_centroids=start[None])
    return centroids[0], int(count)


def flashlib(x: torch.Tensor, start: torch.Tensor, iterations: int) -> tuple[torch.Tensor, int]:
    """Its own choice of kernel on a card; its torch path elsewhere."""
    from flashlib import flash_kmeans as cluster

    backend = None if x.device.type == "cuda" else "torch"
    given = {"max_iters": iterations, "tol": 0.0, "init_centroids": start[None], "backend": backend}
    _, centroids, count = cluster(x[None], len(start), **given)
    return centroids[0], int(count)


def distkmeans_(given: Namespace) -> Callable[[Case, int, int], Outcome]:
    """As in peers_cpu.py, but with rows of --type."""
    return partial(ours, device=given.device, dtype=getattr(torch, given.type))


def contenders(given: Namespace) -> list[Contender]:
    return [
        Contender(OURS.name, OURS.module, distkmeans_(given)),
        Contender("plain torch", "torch", on_card(given, plain_torch)),
        Contender("flash-kmeans", "flash_kmeans", on_card(given, flash_kmeans)),
        Contender("flashlib", "flashlib.primitives.kmeans", on_card(given, flashlib)),
    ]


def limits(given: Namespace) -> dict[str, float]:
    """Operations per second of the card's matrix products, and bytes per second of a copy."""
    large = given.device == "cuda"
    shape, size = ((8192, 4096, 8192), 1 << 30) if large else ((256, 64, 256), 1 << 20)
    kinds = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    rates = {name: machine.product_rate(kind, shape, given.device) for name, kind in kinds.items()}
    return {**rates, "copy": machine.copy_rate(size, given.device)}


def compare(given: Namespace, table: tables.Table, case: Case, peak: float) -> None:
    """The rows of a case. peak: operations per second of a product of the rows' type."""
    everyone = contenders(given)
    ready = [one for one in everyone if not one.hindrance(case)]
    timings = dict(zip([one.name for one in ready], in_turns(ready, case, given), strict=True))
    costs = {name: inertia_of(case.x, timing.centroids) for name, timing in timings.items()}
    for one in everyone:
        timing: Timing | None = timings.get(one.name)
        if timing is None:
            table.add(case.told, case.k, one.name, one.hindrance(case), *[None] * 5)
            continue
        rate = 2 * case.x.size * case.k / timing.iteration / peak
        ratio, apart = timings[OURS.name].iteration / timing.iteration, costs[one.name] / costs["plain torch"] - 1
        told = [timing.iteration * 1e3, 100 * timing.spread, timing.whole, ratio, 100 * rate, apart]
        table.add(case.told, case.k, one.name, *told)


def main() -> int:
    given = options()
    if given.device == "cuda" and not torch.cuda.is_available():
        print("peers_gpu.py: no CUDA card here; run it on one, or try it out with --device cpu", file=sys.stderr)
        return 1
    machine.restart_with(given.threads)
    rates = limits(given)
    told = ", ".join(f"{name} {rates[name] / 1e12:.3g} Top/s" for name in ("float32", "bfloat16"))
    header = (
        f"{machine.described(given.device)}; products: {told}; copy {rates['copy'] / 1e12:.3g} TB/s; rows {given.type}"
    )
    table = tables.Table(COLUMNS, header)
    table.head()
    for name in given.case:
        compare(given, table, case_of(name, given.rows, given.seed), rates.get(given.type, rates["bfloat16"]))
    table.write(given.out / "peers_gpu.csv")
    draw(given, table)
    return 0


def draw(given: Namespace, table: tables.Table) -> None:
    names = dict.fromkeys(table.column("contender"))
    series = {name: table.numbers("ms", "contender", name) for name in names}
    path = given.out / "peers_gpu.png"
    tables.bars(path, f"One Lloyd iteration, {given.device}, {given.type}", "milliseconds", table.cases(), series)


if __name__ == "__main__":
    sys.exit(main())
