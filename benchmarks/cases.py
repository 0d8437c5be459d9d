"""Rows to cluster, by name, and the centroids that every contender starts from."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distkmeans.data.patches import open_patches

NAMES = ["patchesx1024", "patchesx4096", "200000x128x1024", "50000x768x1000", "500000x64x256", "1000000x16x64"]
NAMES += ["1000000x2x16"]


@dataclass(frozen=True)
class Case:
    """x: float32 (N, D). start: float32 (K, D), distinct rows of it."""

    name: str
    x: np.ndarray
    start: np.ndarray

    @property
    def k(self) -> int:
        return len(self.start)

    @property
    def told(self) -> str:
        return f"{self.name}, {len(self.x):,} x {self.x.shape[1]}"


def case_arguments(parser: ArgumentParser) -> ArgumentParser:
    """With the options that say which rows, how often, and by how many threads."""
    parser.add_argument("--case", nargs="*", default=[], help="ROWSxCOLUMNSxK of normal rows, or patchesxK")
    parser.add_argument("--npy", nargs="*", default=[], help="files of rows to use, with --k")
    parser.add_argument("--k", type=int, default=1024, help="clusters for --npy")
    parser.add_argument("--rows", type=float, default=1.0, help="share of the rows to use")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the first centroids")
    return parser


def names_of(given: Namespace) -> list[str]:
    """The cases that were asked for, or all."""
    return [*given.case, *(f"{path}:{given.k}" for path in given.npy)] or NAMES


def case_of(name: str, scale: float = 1.0, seed: int = 0) -> Case:
    """ "200000x128x1024": ROWSxCOLUMNSxK of the normal distribution, "patchesx1024", or "FILE.npy:K".

    scale: share of the rows to use. seed: of the first centroids.
    """
    kind, x, k = rows_of(name)
    x = np.ascontiguousarray(x[: max(k, round(len(x) * scale))])
    return Case(kind, x, first_centroids(x, k, seed))


def rows_of(name: str) -> tuple[str, np.ndarray, int]:
    """What the rows are called, float32 (N, D), and K."""
    path, _, clusters = name.rpartition(":")
    if path:
        return Path(path).stem, np.load(path).astype(np.float32), int(clusters)
    if name.startswith("patches"):
        return "patches", open_patches().values.numpy().astype(np.float32), int(name.split("x")[1])
    count, dims, k = map(int, name.split("x"))
    return "normal", np.random.default_rng(0).standard_normal((count, dims), dtype=np.float32), k


def first_centroids(x: np.ndarray, k: int, seed: int) -> np.ndarray:
    """k rows (K, D), drawn without replacement, no two of them equal while the rows have so many distinct ones."""
    order = np.random.default_rng(seed).permutation(len(x))
    drawn = x[order[: 4 * k]]
    _, first = np.unique(drawn, axis=0, return_index=True)
    chosen = np.sort(first)[:k]
    rest = np.setdiff1d(np.arange(len(drawn)), chosen)[: k - len(chosen)]
    return np.ascontiguousarray(drawn[np.concatenate([chosen, rest])])
