"""The nearest rows of each cluster: against brute force in rational arithmetic's order, at one and three ranks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from distkmeans.problem import Problem
from distkmeans.report.nearest_rows import NearestRows, nearest_rows
from tests.problems import part, problem_of, problem_of_rank
from tests.worlds import Ranks


def rows_of(dtype: str, n: int = 900, dims: int = 7) -> np.ndarray:
    """Few distinct values, so that many distances tie."""
    return np.random.default_rng(0).integers(0, 4, (n, dims)).astype(dtype)


def clustered(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Centroids, and labels that are theirs."""
    centroids = x[:k].astype(np.float64 if x.dtype == np.float64 else np.float32) + 0.25
    squares = ((x[:, None].astype(np.float64) - centroids[None].astype(np.float64)) ** 2).sum(2)
    return centroids, squares.argmin(1).astype(np.int32)


def brute(x: np.ndarray, centroids: np.ndarray, labels: np.ndarray, clusters: int, each: int) -> list[NearestRows]:
    sizes = np.bincount(labels, minlength=len(centroids))
    order = sorted(range(len(centroids)), key=lambda cluster: (-sizes[cluster], cluster))
    found = []
    for cluster in [cluster for cluster in order[:clusters] if sizes[cluster]]:
        members = np.flatnonzero(labels == cluster).tolist()
        squares = {row: float(((x[row].astype(np.float64) - centroids[cluster]) ** 2).sum()) for row in members}
        first = sorted(members, key=lambda row: (squares[row], row))[:each]
        found.append(NearestRows(cluster, len(members), first, [squares[row] ** 0.5 for row in first]))
    return found


def found_in(
    problem: Problem, centroids: np.ndarray, labels: np.ndarray, clusters: int, each: int
) -> list[NearestRows]:
    sizes = torch.bincount(torch.from_numpy(labels).to(torch.int64), minlength=len(centroids))
    sizes = problem.world.sum_(sizes)
    return nearest_rows(problem, torch.from_numpy(centroids), torch.from_numpy(labels), sizes, each, clusters)


def found_by_rank(
    rank: int, size: int, x: np.ndarray, centroids: np.ndarray, labels: np.ndarray, clusters: int, each: int
) -> list[NearestRows]:
    return found_in(problem_of_rank(rank, size, x), centroids, part(labels, rank, size), clusters, each)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "float16"])
def test_the_nearest_rows_are_those_of_brute_force_at_any_world_size(dtype: str, ranks: Callable[[int], Ranks]) -> None:
    x = rows_of(dtype)
    centroids, labels = clustered(x, 20)
    expected = brute(x, centroids, labels, 12, 6)
    assert found_in(problem_of(x), centroids, labels, 12, 6) == expected  # sums of few bits: the distances are exact
    for told in ranks(3)(found_by_rank, 3, x, centroids, labels, 12, 6):
        assert told == expected


def test_several_tiles_and_rough_distances_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(1).standard_normal((500, 30)).astype(np.float32)
    centroids, labels = clustered(x, 9)
    whole = found_in(problem_of(x), centroids, labels, 50, 5)
    assert [rows.numbers for rows in whole] == [rows.numbers for rows in brute(x, centroids, labels, 50, 5)]
    monkeypatch.setattr("distkmeans.report.nearest_rows.TILE_ROWS", 37)
    assert found_in(problem_of(x), centroids, labels, 50, 5) == whole
    monkeypatch.setenv("DISTKMEANS_NATIVE", "off")
    assert found_in(problem_of(x), centroids, labels, 50, 5) == whole


def test_rows_far_from_the_origin_and_far_out_of_range() -> None:
    x = np.random.default_rng(2).standard_normal((60, 3))
    centroids, labels = clustered(x, 4)
    near = found_in(problem_of(x), centroids, labels, 4, 3)
    huge = found_in(problem_of(x * 2.0**900), centroids * 2.0**900, labels, 4, 3)
    assert [rows.numbers for rows in huge] == [rows.numbers for rows in near]
    assert [rows.distances for rows in huge] == [[d * 2.0**900 for d in rows.distances] for rows in near]


@pytest.mark.parametrize("metric", ["manhattan", "dot"])
def test_metrics_with_costs_of_their_own(metric: str) -> None:
    x = np.random.default_rng(5).standard_normal((300, 4))
    problem = problem_of(x, metric=metric)
    centroids = problem.centroids(torch.from_numpy(x[:5]))
    assigned = problem.metric.assign(problem.shard.rows, centroids, True)
    labels = assigned.labels.to(torch.int32)
    for found in nearest_rows(problem, centroids, labels, torch.bincount(assigned.labels, minlength=5)):
        members = (labels == found.cluster).nonzero().flatten().tolist()
        costs = {row: float(assigned.costs[row]) for row in members}
        first = sorted(members, key=lambda row: (costs[row], row))[:5]
        assert found.numbers == first
        np.testing.assert_allclose(found.distances, [costs[row] for row in first], rtol=1e-15)


def test_fewer_rows_than_asked_for_and_clusters_without_rows() -> None:
    x = np.arange(6.0).reshape(3, 2)
    centroids = np.array([[0.0, 1.0], [50.0, 50.0], [3.0, 4.0]])
    found = found_in(problem_of(x), centroids, np.array([0, 2, 2], dtype=np.int32), 50, 5)
    assert found == [
        NearestRows(2, 2, [1, 2], [2.0**0.5, 2.0**0.5]),
        NearestRows(0, 1, [0], [0.0]),
    ]
