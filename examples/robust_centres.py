"""Centroids that withstand outliers: a Huber loss beside the mean.

    python examples/robust_centres.py --seeds 5 --out robust.png

Four Gaussian clusters, of whose rows a twentieth lies anywhere in a box six times as wide. Prints how far the centroids
are from the true centres (root mean square over centres, each with its nearest partner): of Lloyd's algorithm, which
takes means, and of solver=gradient with a Huber loss, from the same starts; and draws the first seed's.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import linear_sum_assignment

import distkmeans
from distkmeans.data.blobs import Blobs
from distkmeans.solvers.gradient import Gradient

STARTS = 8


def rows_of(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 (4000, 2) rows, and the four true centres (4, 2)."""
    blobs = Blobs(n_samples=4000, centers=4, random_state=seed, outliers=0.05, outlier_box=(-60, 60))
    return blobs.read(0, blobs.rows).numpy(), blobs.centers.numpy()


def fitted(x: np.ndarray, solver: Any, seed: int) -> np.ndarray:
    return distkmeans.fit(x, 4, init="random", n_init=STARTS, seed=seed, solver=solver).centroids


def error(centroids: np.ndarray, centres: np.ndarray) -> float:
    """Root mean square distance of centres and centroids, paired so that it is least."""
    square = ((centroids[:, None] - centres[None]) ** 2).sum(2)
    return float(np.sqrt(square[linear_sum_assignment(square)].mean()))


def draw(path: Path, x: np.ndarray, centres: np.ndarray, found: dict[str, np.ndarray]) -> None:
    figure = Figure(figsize=(11, 4.6), dpi=90, layout="constrained")
    for place, (name, centroids) in enumerate(found.items(), 1):
        axes = figure.add_subplot(1, len(found), place)
        axes.scatter(*x.T, s=3, color="#9aa5b1", linewidths=0)
        axes.scatter(*centres.T, s=110, facecolors="none", edgecolors="#222222", label="true centres")
        axes.scatter(*centroids.T, s=60, marker="X", color="#c1272d", label="centroids")
        axes.set_title(f"{name}: {error(centroids, centres):.2f} from the true centres")
        axes.set_aspect("equal")
        axes.legend(loc="upper right", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--out", type=Path, default=Path("robust.png"))
    options = parser.parse_args()
    huber = Gradient(loss="huber", loss_options={"delta": 1.0}, lr=0.02)
    errors: dict[str, list[float]] = {"means": [], "huber": []}
    print(f"{'seed':>6}{'means':>9}{'huber':>9}")
    for seed in range(options.first, options.first + options.seeds):
        x, centres = rows_of(seed)
        found = {"means": fitted(x, "lloyd", seed), "huber": fitted(x, huber, seed)}
        for name, centroids in found.items():
            errors[name].append(error(centroids, centres))
        print(f"{seed:6}{errors['means'][-1]:9.3f}{errors['huber'][-1]:9.3f}", flush=True)
        if seed == options.first:
            draw(options.out, x, centres, found)
    print(f"median{median(errors['means']):9.3f}{median(errors['huber']):9.3f}")


if __name__ == "__main__":
    main()
