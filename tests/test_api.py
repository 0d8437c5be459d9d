"""``fit`` and ``predict`` from Python: what they take, and what a mistake says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import distkmeans
from distkmeans import InputError
from distkmeans.solvers.minibatch import MiniBatch

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
