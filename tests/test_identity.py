"""The promise: the same bytes at any world size, sharding, tile size and thread count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import distkmeans
from distkmeans.data.blobs import Blobs
from distkmeans.data.patches import open_patches
from tests import oracle
from tests.problems import part
from tests.worlds import Ranks

Fitted = tuple[bytes, bytes, float]


def fit_part(rank: int, size: int, x: np.ndarray, weights: np.ndarray | None, options: dict[str, Any]) -> Any:
    threads = options.pop("threads", 1)
    torch.set_num_threads(threads)
    result = distkmeans.fit(part(x, rank, size), weights=part(weights, rank, size), **options)
    torch.set_num_threads(1)
    return result.centroids, result.labels, result.inertia


def fitted(ranks: Callable[[int], Ranks], size: int, x: np.ndarray, weights: Any, **options: Any) -> Fitted:
    """Centroids, labels of all rows and inertia, from ``size`` real processes that hold uneven parts of the rows."""
    results = ranks(size)(fit_part, size, x, weights, options)
    for result in results:
        if isinstance(result, Exception):
            raise result
    centroids, inertias = {result[0].tobytes() for result in results}, {result[2] for result in results}
    assert len(centroids) == len(inertias) == 1
    return centroids.pop(), np.concatenate([result[1] for result in results]).tobytes(), inertias.pop()


def real_rows(name: str) -> np.ndarray:
    if name == "blobs":
        return Blobs(n_samples=3000, n_features=5, centers=7).read(0, 3000).numpy()
    if name == "digits":
        return load_digits().data
    return open_patches().values[::60].numpy()


@pytest.mark.parametrize("weighted", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("init", ["plus_plus", "random", "parallel"])
@pytest.mark.parametrize("name", ["blobs", "digits", "patches"])
def test_real_rows(ranks: Callable[[int], Ranks], name: str, init: str, weighted: bool) -> None:
    x = real_rows(name)
    weights = np.random.default_rng(0).uniform(0, 3, len(x)) if weighted else None
    options = {"k": 12, "init": init, "seed": 5, "max_iter": 12, "tol": 0}
    expected = fitted(ranks, 1, x, weights, **options)
    assert fitted(ranks, 2, x, weights, **options, tile_rows=64) == expected
    assert fitted(ranks, 3, x, weights, **options, tile_rows=8192, threads=2) == expected
    assert fitted(ranks, 4, x, weights, **options) == expected


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(oracle.ADVERSARIAL)),
    count=st.integers(9, 120),
    dims=st.integers(1, 5),
    k=st.integers(1, 9),
    size=st.integers(2, 4),
    tile=st.sampled_from([1, 7, 64, 8192]),
    init=st.sampled_from(["plus_plus", "random", "parallel"]),
    weighted=st.booleans(),
    metric=st.sampled_from(["euclidean", "cosine"]),
    seed=st.integers(0, 2**31),
)
def test_adversarial_rows(
    ranks: Callable[[int], Ranks],
    kind: str,
    count: int,
    dims: int,
    k: int,
    size: int,
    tile: int,
    init: str,
    weighted: bool,
    metric: str,
    seed: int,
) -> None:
    x = oracle.rows(kind, count, dims, seed)
    if metric == "cosine":
        x = x[(x != 0).any(axis=1)]
        k = min(k, len(x))
    if not len(x):
        return
    weights = 10.0 ** np.random.default_rng(seed).uniform(-5, 5, len(x)) if weighted else None
    options = {"k": k, "init": init, "seed": seed, "max_iter": 20, "tol": 0, "metric": metric}
    expected = fitted(ranks, 1, x, weights, **options)
    assert fitted(ranks, size, x, weights, **options, tile_rows=tile) == expected


def test_restarts_keep_the_same_best(ranks: Callable[[int], Ranks]) -> None:
    x = real_rows("digits")
    options = {"k": 10, "init": "random", "n_init": 4}
    best = fitted(ranks, 1, x, None, **options)
    assert fitted(ranks, 3, x, None, **options) == best
    assert best[2] <= fitted(ranks, 1, x, None, **{**options, "n_init": 1})[2]


def test_another_seed_gives_another_start() -> None:
    x = real_rows("digits")
    results = {distkmeans.fit(x, 10, seed=seed).inertia for seed in range(4)}
    assert len(results) > 1
