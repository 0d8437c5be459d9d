"""Few open rows are decided at once, many by a pass in float64: both truly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from distkmeans import native
from distkmeans.kernels import few
from distkmeans.kernels.dense import Dense, largest_of
from distkmeans.kernels.narrow import Narrow
from tests import oracle


@pytest.mark.parametrize("kind", sorted(oracle.ADVERSARIAL))
def test_few_rows_and_their_nearest(kind: str) -> None:
    for dims, clusters in ((1, 3), (3, 15), (17, 5)):
        x = oracle.rows(kind, 30, dims, seed=dims)
        x[20:] = x[:10]
        centroids: Any = x[:clusters].astype(np.float64 if x.dtype == np.float64 else np.float32)
        centroids = np.concatenate([centroids, centroids[:1], (centroids[:-1] + centroids[1:]) / 2])
        found = few.nearest(torch.from_numpy(x), torch.from_numpy(centroids))
        assert found.tolist() == oracle.nearest(x, centroids)


@pytest.mark.parametrize("most", [0, few.FEW])
@pytest.mark.parametrize("kind", sorted(oracle.ADVERSARIAL))
def test_what_a_pass_leaves_open(kind: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no row counting as few, all go the way of many."""
    monkeypatch.setattr(few, "FEW", most)
    x = oracle.rows(kind, 40, 3, seed=6)
    centroids = x[:12].astype(np.float64 if x.dtype == np.float64 else np.float32)
    rows, targets = torch.from_numpy(x), torch.from_numpy(centroids)
    largest = max(largest_of(rows), largest_of(targets))
    labels = torch.empty(40, dtype=torch.int32)
    Dense(rows, targets, largest, 16, True).assign(targets, labels)
    assert labels.tolist() == oracle.nearest(x, centroids)
    library = native.library()
    if library is not None and x.dtype != np.float64 and largest < 1e10:
        Narrow(rows, library, targets, largest, True).assign(targets, labels)
        assert labels.tolist() == oracle.nearest(x, centroids)


def test_how_many_are_few() -> None:
    centroids = torch.empty(64, 16)
    assert few.are_few(few.FEW // 1024, centroids)
    assert not few.are_few(few.FEW // 1024 + 1, centroids)
