"""Milliseconds per exact Lloyd iteration on this CPU, beside the peers that are installed and the matrix product.

    python benchmarks/peers_cpu.py [--rows 0.1] [--case 200000x128x1024 ...] [--npy FILE.npy --k 1024]

Every contender gets the same rows, the same first centroids (the first K rows), the same number of iterations and
the same threads, in one process, in turns; the median of the turns counts. A peer's time per iteration is the
difference of two runs, of 2 and of 12 iterations, so that its set-up drops out; ours is that of iterations 3 to 12.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

import distkmeans
from distkmeans.api import metrics, pose
from distkmeans.data.patches import open_patches
from distkmeans.data.shard import own_shard
from distkmeans.init.given import Given
from distkmeans.solvers.lloyd import Lloyd
from distkmeans.world import World

CASES = ["1000000x2x16", "1000000x16x64", "500000x64x256", "200000x128x1024", "100000x384x1024", "50000x768x1000"]
CASES += ["patchesx1024", "patchesx4096"]
ITERATIONS = 10


def ours(x: np.ndarray, k: int) -> float:
    """Seconds per iteration of the whole step: labels, sums, all-reduce, centroids, inertia; without the first two."""
    problem = pose(World(), own_shard(World(), torch.from_numpy(x), None), metrics.build("euclidean"))
    seeds = Given(x[:k])(problem, k, 0)
    records: list = []
    Lloyd(max_iter=2 + ITERATIONS, tol=0).fit(problem, seeds.centroids, records.append)
    return statistics.fmean(record.seconds for record in records[2:])


def scikit_learn(x: np.ndarray, k: int) -> float:
    """Seconds per iteration of KMeans(algorithm="lloyd"), by difference."""
    from sklearn.cluster import KMeans

    def run(iterations: int) -> tuple[float, int]:
        model = KMeans(k, init=x[:k], n_init=1, max_iter=iterations, tol=0, algorithm="lloyd")
        begin = time.perf_counter()
        model.fit(x)
        return time.perf_counter() - begin, model.n_iter_

    (short, few), (long, many) = run(2), run(2 + ITERATIONS)
    return (long - short) / (many - few)


def faiss(x: np.ndarray, k: int) -> float:
    """Seconds per iteration of faiss.Clustering, by difference."""
    import faiss as library

    def run(iterations: int) -> float:
        task = library.Clustering(x.shape[1], k)
        task.niter, task.max_points_per_centroid, task.min_points_per_centroid = iterations, 1 << 30, 1
        begin = time.perf_counter()
        task.train(x, library.IndexFlatL2(x.shape[1]))
        return time.perf_counter() - begin

    return (run(2 + ITERATIONS) - run(2)) / ITERATIONS


def product(x: np.ndarray, k: int) -> float:
    """Seconds of the float32 matrix product of all rows and centroids: the limit of a dense pass."""
    rows, columns = torch.from_numpy(x), torch.from_numpy(x[:k]).t().contiguous()
    out = torch.empty(4096, k)
    begin = time.perf_counter()
    for start in range(0, len(rows), 4096):
        tile = rows[start : start + 4096]
        torch.mm(tile, columns, out=out[: len(tile)])
    return time.perf_counter() - begin


CONTENDERS: dict[str, Callable[[np.ndarray, int], float]] = {
    "distkmeans": ours,
    "scikit-learn": scikit_learn,
    "faiss": faiss,
    "product": product,
}


def rows_of(case: str, scale: float) -> tuple[np.ndarray, int]:
    """float32 rows and K of "200000x128x1024" (normal) or "patchesx1024"."""
    if case.startswith("patches"):
        values = open_patches().values.numpy().astype(np.float32)
        return values[: int(len(values) * scale)], int(case.split("x")[1])
    count, dims, k = map(int, case.split("x"))
    return np.random.default_rng(0).standard_normal((int(count * scale), dims), dtype=np.float32), k


def measure(x: np.ndarray, k: int, turns: int, names: list[str]) -> dict[str, float | None]:
    """Median milliseconds per iteration of each contender; None for one that is not installed."""
    times: dict[str, list[float]] = {name: [] for name in names}
    missing = set()
    for _ in range(turns):
        for name in names:
            try:
                times[name].append(CONTENDERS[name](x, k) * 1e3)
            except ImportError:
                missing.add(name)
    return {name: None if name in missing else statistics.median(times[name]) for name in names}


def main() -> None:
    """Print the table; with --csv, write it as well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="*", default=CASES, help="ROWSxCOLUMNSxK of normal rows, or patchesxK")
    parser.add_argument("--npy", help="float rows to use instead, with --k")
    parser.add_argument("--k", type=int, default=1024)
    parser.add_argument("--rows", type=float, default=1.0, help="share of the rows to use")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS), choices=list(CONTENDERS))
    parser.add_argument("--csv", help="file to write the table to")
    options = parser.parse_args()
    print(f"distkmeans {distkmeans.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("| rows | " + " | ".join(f"{name} ms" for name in options.only) + " | ours / scikit-learn | ours / product |")
    print("|---" * (len(options.only) + 3) + "|")
    table = []
    for case in [options.npy] if options.npy else options.case:
        if options.npy:
            x, k = np.load(options.npy).astype(np.float32), options.k
        else:
            x, k = rows_of(case, options.rows)
        found = measure(x, k, options.turns, options.only)
        cells = ["not installed" if value is None else f"{value:.1f}" for value in found.values()]
        ratios = [ratio(found, "scikit-learn"), ratio(found, "product")]
        label = f"{x.shape[0]} x {x.shape[1]}, K={k}" + (" patches" if case.startswith("patches") else "")
        table.append([label, *cells, *ratios])
        print("| " + " | ".join(table[-1]) + " |", flush=True)
    if options.csv:
        with open(options.csv, "w", newline="") as file:
            csv.writer(file).writerows([["rows", *options.only, "ours/scikit-learn", "ours/product"], *table])


def ratio(found: dict[str, float | None], peer: str) -> str:
    """Our time over a peer's."""
    mine, other = found.get("distkmeans"), found.get(peer)
    return f"{mine / other:.2f}" if mine and other else "-"


if __name__ == "__main__":
    sys.exit(main())
