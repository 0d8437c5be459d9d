from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine

import distkmeans
from distkmeans.init.given import Given
from distkmeans.kernels.choose import choose
from distkmeans.problem import Problem
from distkmeans.solvers import Record, Solution
from distkmeans.solvers.lloyd import Lloyd
from distkmeans.stats import ClusterSums, inertia, tally
from tests import oracle
from tests.problems import problem_of, problem_of_rank
from tests.worlds import Ranks

LOADERS = {"digits": load_digits, "iris": load_iris, "wine": load_wine, "cancer": load_breast_cancer}


def solve(problem: Problem, centroids: np.ndarray, **options: Any) -> tuple[Solution, list[Record]]:
    records: list[Record] = []
    seeds = Given(centroids)(problem, len(centroids), 0)
    return Lloyd(**options).fit(problem, seeds.centroids, records.append), records


@pytest.mark.parametrize("k", [3, 10, 32])
@pytest.mark.parametrize("name", sorted(LOADERS))
def test_the_trajectory_is_scikit_learns(name: str, k: int) -> None:
    """Up to the first iteration with an empty cluster or a near tie, where float64 rounding decides elsewhere."""
    x = LOADERS[name]().data.astype(np.float64)
    generator, distinct = np.random.default_rng(k), np.unique(x, axis=0)
    start = distinct[generator.permutation(len(distinct))[:k]]
    start += 0.01 * x.std() * generator.standard_normal(start.shape)  # off the lattice of the rows
    compared = 0
    for iterations in range(1, 9):
        ours, records = solve(problem_of(x), start, max_iter=iterations, tol=0)
        distances = np.sort(((x[:, None] - ours.centroids.numpy()) ** 2).sum(2), axis=1)
        if (distances[:, 1] - distances[:, 0]).min() < 1e-9 or records[-1].empty or ours.empty:
            break
        theirs = KMeans(k, init=start, n_init=1, max_iter=iterations, tol=0, algorithm="lloyd").fit(x)
        assert (ours.labels.numpy() == theirs.labels_).all()
        assert ours.inertia == pytest.approx(theirs.inertia_, rel=1e-6)
        compared += 1
    assert compared >= 2


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(oracle.ADVERSARIAL)),
    dims=st.integers(1, 4),
    k=st.integers(1, 6),
    weighted=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_what_is_published_is_true(kind: str, dims: int, k: int, weighted: bool, seed: int) -> None:
    """Labels: the true argmin. Centroids: correctly rounded means. Inertia: the true one, never rising."""
    x = oracle.rows(kind, 30, dims, seed)
    weights = np.random.default_rng(seed).uniform(0.5, 2, 30).astype(np.float64) if weighted else None
    start = x[np.random.default_rng(seed).permutation(30)[:k]]
    solution, records = solve(problem_of(x, weights), start, max_iter=50, tol=0)
    centroids, labels = solution.centroids.numpy(), solution.labels.numpy()
    stored = None if weights is None else weights.astype(x.dtype if x.dtype == np.float64 else np.float32)
    assert labels.tolist() == oracle.nearest(x, centroids)
    assert solution.converged
    for cluster in np.unique(labels):
        mine = labels == cluster
        for column in range(dims):
            exact = oracle.mean(x[mine], None if stored is None else stored[mine], column)
            assert centroids[cluster, column] == oracle.rounded(exact, centroids.dtype)
    true = oracle.inertia(x, centroids, labels, stored)
    try:
        expected = true.numerator / true.denominator
    except OverflowError:
        expected = np.inf
    assert solution.inertia == expected
    costs = [record.inertia for record in records] + [solution.inertia]
    assert all(after <= before for before, after in itertools.pairwise(costs))


def test_inertia_survives_cancellation() -> None:
    x = np.full((50, 3), 1e8) + np.random.default_rng(0).integers(0, 2, (50, 3)) * 2.0**-20
    problem = problem_of(x)
    labels = torch.arange(50) % 4
    sums = ClusterSums.empty(problem.grid, 4)
    tally(problem.shard, None, labels, sums)
    centroids = problem.metric.centres(sums.limbs, problem.grid, torch.float64)
    true = oracle.inertia(x, centroids.numpy(), labels.numpy())
    assert inertia(problem.moments.weighted_square, sums, centroids, problem.columns.exponent) == float(true)


@pytest.mark.parametrize("weighted", [False, True])
def test_moved_rows_correct_the_sums_without_drift(weighted: bool) -> None:
    generator = np.random.default_rng(1)
    x = oracle.rows("spread", 500, 20, seed=2)
    problem = problem_of(x, generator.uniform(0, 5, 500) if weighted else None)
    labels = torch.from_numpy(generator.integers(0, 30, 500))
    sums = ClusterSums.empty(problem.grid, 30)
    tally(problem.shard, None, labels, sums)
    for count in (3, 400, 0, 500):
        new = labels.clone()
        new[:count] = torch.from_numpy(generator.integers(0, 30, count))
        assert tally(problem.shard, labels, new, sums) == int((labels != new).sum())
        labels = new
    fresh = ClusterSums.empty(problem.grid, 30)
    tally(problem.shard, None, labels, fresh)
    assert torch.equal(sums.counts, fresh.counts)
    assert (problem.grid.integers(sums.limbs) == problem.grid.integers(fresh.limbs)).all()


def count_reductions(rank: int, size: int, x: np.ndarray) -> list[int]:
    problem = problem_of_rank(rank, size, x)
    counts: list[int] = []
    seeds = Given(x[:5])(problem, 5, 0)
    Lloyd(max_iter=6, tol=0).fit(problem, seeds.centroids, lambda record: counts.append(problem.world.reductions))
    return counts


def test_an_iteration_is_one_all_reduce(ranks: Callable[[int], Ranks]) -> None:
    counts = ranks(2)(count_reductions, 2, oracle.rows("normal", 2000, 6, seed=0))
    assert len(counts[0]) == 6
    assert {after - before for rank in counts for before, after in itertools.pairwise(rank)} == {1}


def diverge(rank: int, size: int, x: np.ndarray) -> None:
    problem = problem_of_rank(rank, size, x)
    centroids = torch.from_numpy(x[:3]) + (1e-6 if rank == 2 else 0)
    Lloyd().fit(problem, centroids, lambda record: None)


def test_ranks_that_differ_are_named(ranks: Callable[[int], Ranks]) -> None:
    for error in ranks(4)(diverge, 4, oracle.rows("normal", 50, 2, seed=0)):
        assert isinstance(error, distkmeans.WorldError)
        assert "rank 2 from the others" in str(error)


def break_one(rank: int, size: int, x: np.ndarray) -> None:
    problem = problem_of_rank(rank, size, x)
    solver = Lloyd()

    def fail(record: Record) -> None:
        if record.iteration == 2 and rank == 1:
            problem.shard.rows.resize_(0)

    solver.fit(problem, torch.from_numpy(x[:3]), fail)


def test_a_rank_that_fails_takes_all_along(ranks: Callable[[int], Ranks]) -> None:
    errors = ranks(3)(break_one, 3, oracle.rows("normal", 50, 2, seed=0))
    assert all(isinstance(error, Exception) for error in errors)
    assert "rank 1 failed" in str(errors[0]) == str(errors[2])


class TestStopping:
    x = oracle.rows("normal", 400, 3, seed=3)

    def test_max_iter_then_labels_of_the_last_centroids(self) -> None:
        solution, records = solve(problem_of(self.x), self.x[:9], max_iter=3, tol=0)
        assert [record.iteration for record in records] == [1, 2, 3]
        assert not solution.converged
        assert solution.labels.tolist() == oracle.nearest(self.x, solution.centroids.numpy())

    def test_no_label_changed(self) -> None:
        solution, records = solve(problem_of(self.x), self.x[:9], tol=0)
        assert solution.converged
        assert records[-1].moved == 0 == records[-1].shift

    def test_tol_is_a_share_of_the_mean_variance(self) -> None:
        limit = 0.01 * self.x.astype(np.float64).var(axis=0).mean()
        solution, records = solve(problem_of(self.x), self.x[:9], tol=0.01)
        assert solution.converged
        assert records[-1].shift <= limit
        assert all(record.shift > limit for record in records[:-1])
        theirs = KMeans(9, init=self.x[:9], n_init=1, tol=0.01, algorithm="lloyd").fit(self.x)
        assert solution.iterations == theirs.n_iter_


class TestEmptyClusters:
    x = np.concatenate([np.arange(12.0), [100.0, 101.0]])[:, None]
    start = np.array([[5.0], [6.0], [1e6], [-1e6]])

    def test_farthest_rows_are_taken_as_scikit_learn_does(self) -> None:
        ours, records = solve(problem_of(self.x), self.start, max_iter=1, tol=0)
        theirs = KMeans(4, init=self.start, n_init=1, max_iter=1, tol=0, algorithm="lloyd").fit(self.x)
        assert records[0].empty == 2
        np.testing.assert_allclose(np.sort(ours.centroids.numpy()[:, 0]), np.sort(theirs.cluster_centers_[:, 0]))

    def test_keep(self) -> None:
        solution, _ = solve(problem_of(self.x), self.start, empty="keep")
        assert solution.centroids[2:, 0].tolist() == [1e6, -1e6]
        assert solution.empty == 2

    def test_fail(self) -> None:
        with pytest.raises(distkmeans.InputError, match="cluster 2 has no rows in iteration 1"):
            solve(problem_of(self.x), self.start, empty="fail")

    def test_rows_without_weight_do_not_fill_a_cluster(self) -> None:
        weights = np.where(self.x[:, 0] > 50, 0.0, 1.0)
        solution, _ = solve(problem_of(self.x, weights), self.start, tol=0)
        assert solution.centroids.abs().max() <= 11

    def test_the_last_row_of_a_cluster_is_not_taken(self) -> None:
        x = np.array([[0.0], [10.0], [10.0], [10.0]])
        solution, _ = solve(problem_of(x), np.array([[1.0], [12.0], [500.0]]), tol=0)
        assert sorted(solution.centroids[:, 0].tolist())[:2] == [0.0, 10.0]

    @pytest.mark.parametrize("init", ["plus_plus", "random", "parallel"])
    def test_fewer_distinct_rows_than_clusters(self, init: str, caplog: pytest.LogCaptureFixture) -> None:
        result = distkmeans.fit(np.repeat([[1.0], [2.0]], 5, axis=0), 4, init=init)
        assert result.inertia == 0
        assert "2 of 4 clusters have no rows" in caplog.text


@pytest.mark.parametrize("scale", [1.0, 1e-20])
def test_cosine_is_spherical_k_means(scale: float) -> None:
    x = (oracle.rows("normal", 300, 8, seed=4) * scale).astype(np.float32)
    result = distkmeans.fit(x, 6, metric="cosine", tol=0)
    unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    np.testing.assert_allclose(np.linalg.norm(result.centroids, axis=1), 1, rtol=1e-6)
    similarity = unit @ result.centroids.T.astype(np.float64)
    assert (similarity.argmax(1) == result.labels).mean() > 0.99
    for cluster in range(6):
        total = unit[result.labels == cluster].sum(0)
        np.testing.assert_allclose(result.centroids[cluster], total / np.linalg.norm(total), rtol=1e-5, atol=1e-7)
    assert (distkmeans.predict(x, result.centroids, metric="cosine") == result.labels).all()


def test_weights_count_as_copies() -> None:
    x = oracle.rows("normal", 60, 3, seed=6)
    weights = np.random.default_rng(0).integers(1, 5, 60)
    weighted = distkmeans.fit(x, 5, init=x[:5], weights=weights, tol=0)
    copied = distkmeans.fit(np.repeat(x, weights, axis=0), 5, init=x[:5], tol=0)
    assert weighted.centroids.tobytes() == copied.centroids.tobytes()
    assert weighted.inertia == copied.inertia


def test_precision_fast_is_close() -> None:
    x = load_digits().data.astype(np.float32)
    fast, exact = (distkmeans.fit(x, 10, init=x[:10], precision=p) for p in ("fast", "exact"))
    assert fast.inertia == pytest.approx(exact.inertia, rel=1e-3)
    lattice = oracle.rows("lattice", 500, 3, seed=0)  # float32 ties everywhere: any of the nearest will do
    for k in (7, 100):
        labels = torch.empty(500, dtype=torch.int32)
        centroids = torch.from_numpy(lattice[:k])
        choose(torch.from_numpy(lattice), centroids, exact=False).assign(centroids, labels)
        distances = ((lattice[:, None] - lattice[None, :k]) ** 2).sum(2)
        assert (distances[np.arange(500), labels.numpy()] == distances.min(1)).all()


def test_inertia_is_a_fraction_rounded_once() -> None:
    x = np.array([[0.1], [0.2], [0.4]])
    result = distkmeans.fit(x, 1)
    center = Fraction(float(result.centroids[0, 0]))
    assert result.inertia == float(sum((Fraction(v) - center) ** 2 for v in (0.1, 0.2, 0.4)))
