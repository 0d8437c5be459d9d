"""``fit`` and ``predict`` from Python: what they take, and what a mistake says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

import distkmeans
from distkmeans import InputError
from distkmeans.errors import WorldError
from distkmeans.solvers.minibatch import MiniBatch
from tests.worlds import Ranks

X = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
WEIGHTS = np.random.default_rng(1).integers(1, 9, 60)


@pytest.mark.parametrize("kind", ["list", "reversed", "big-endian", "int16", "object of a frame", "tensor"])
def test_weights_of_every_kind(kind: str) -> None:
    weights: Any = WEIGHTS.astype(np.float64)
    expected = distkmeans.fit(X, 3, weights=weights)
    if kind == "object of a frame":
        pandas = pytest.importorskip("pandas")
        weights = pandas.Series(np.repeat(WEIGHTS, 2))[::2]  # its index begins 0, 2, 4
    elif kind == "reversed":
        weights = weights[::-1].copy()[::-1]
    else:
        weights = {
            "list": WEIGHTS.tolist(),
            "big-endian": weights.astype(">f8"),
            "int16": WEIGHTS.astype(np.int16),
            "tensor": torch.from_numpy(WEIGHTS),
        }[kind]
    assert distkmeans.fit(X, 3, weights=weights).inertia == expected.inertia


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"weights": np.ones((30, 2))}, r"weights: shape \(30, 2\); expected \(rows,\)"),
        ({"weights": 2.0}, r"weights: shape \(\); expected \(rows,\)"),
        ({"weights": ["heavy"] * 60}, "weights: values of type <U5; expected real numbers"),
        ({"weights": np.ones(59)}, r"weights: shape \(59,\) for 60 rows; one weight for each row"),
        ({"solver": "minibatch", "max_iter": 5}, r"max_iter=5: goes with solver=lloyd"),
        ({"solver": MiniBatch(), "empty": "keep"}, r"empty=keep: goes with solver=lloyd"),
        ({"solver": "minibatch", "tile_rows": 7}, r"tile_rows=7: goes with solver=lloyd"),
        ({"solver": "loyd"}, "solver=loyd: unknown; expected gradient, lloyd or minibatch; did you mean lloyd"),
    ],
)
def test_mistakes(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        distkmeans.fit(X, 3, **options)


def test_no_rows_have_no_labels() -> None:
    for metric in ("euclidean", "cosine", "manhattan"):
        assert distkmeans.predict(X[:0], X[:3], metric).shape == (0,)


@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_centroids_of_any_length(metric: str) -> None:
    lengths = np.arange(1, 6)[:, None]
    unit = X[:5] / np.linalg.norm(X[:5], axis=1, keepdims=True)
    assert distkmeans.predict(X, lengths * unit, metric).tolist() == (X @ unit.T).argmax(1).tolist()


def fit_otherwise(rank: int, size: int, options: dict[str, Any]) -> Any:
    x = np.arange(60.0).reshape(20, 3)
    try:
        distkmeans.fit(x, **{"k": 4, **(options if rank else {})})
    except WorldError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "options", [{"k": 5}, {"seed": 1}, {"metric": "cosine"}, {"init": np.eye(4, 3)}, {"max_iter": 9}]
)
def test_ranks_that_ask_for_different_things_are_told(ranks: Callable[[int], Ranks], options: dict[str, Any]) -> None:
    told = ranks(2)(fit_otherwise, 2, options)
    assert all("the call of fit differs between ranks: rank 0 has k=4" in text for text in told)
    assert all("pass every rank the same, but for its rows" in text for text in told)


def test_sparse_rows_are_told() -> None:
    with pytest.raises(InputError, match=r"x: sparse; pass x.toarray\(\)"):
        distkmeans.fit(scipy.sparse.eye(9), 2)
    with pytest.raises(InputError, match=r"x: sparse; pass x.to_dense\(\)"):
        distkmeans.fit(torch.eye(9).to_sparse(), 2)
