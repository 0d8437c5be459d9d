"""Greedy k-means++ is as good as scikit-learn's, over 200 seeds each."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.cluster import KMeans
from sklearn.datasets import load_wine, make_blobs

import distkmeans

pytestmark = pytest.mark.slow
SEEDS = range(200)


def overlapping() -> np.ndarray:
    """Fifteen clusters on a ring grid, like Fränti and Virmajoki's S sets."""
    centers = np.stack(np.meshgrid(np.arange(5), np.arange(3)), axis=-1).reshape(-1, 2) * 4.0
    return make_blobs(3000, centers=centers, cluster_std=0.8, random_state=0)[0]


def lopsided() -> np.ndarray:
    """Columns of very different scale."""
    return load_wine().data


@pytest.mark.parametrize(("x", "k"), [(overlapping(), 15), (lopsided(), 8)])
def test_as_good_as_scikit_learns(x: np.ndarray, k: int) -> None:
    ours = [distkmeans.fit(x, k, seed=seed).inertia for seed in SEEDS]
    theirs = [KMeans(k, n_init=1, random_state=seed).fit(x).inertia_ for seed in SEEDS]
    assert np.mean(np.log(ours)) <= np.mean(np.log(theirs)) + 0.01
    best = 1.01 * min(*ours, *theirs)
    found, expected = (sum(cost < best for cost in costs) for costs in (ours, theirs))
    table = [[found, len(SEEDS) - found], [expected, len(SEEDS) - expected]]
    assert stats.fisher_exact(table, alternative="less").pvalue > 0.01
