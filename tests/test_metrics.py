"""Metrics beside squared Euclidean distance: manhattan and dot are held to rational arithmetic, and one's own work."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

import distkmeans
from distkmeans import InputError, cli
from distkmeans.exact.contest import has_larger_product, is_nearer_l1
from distkmeans.exact.weighted_sum import weighted_sum
from distkmeans.init import inits, potential
from distkmeans.init.measured import potential_of
from distkmeans.metrics import medians, metrics
from distkmeans.metrics.geometry import Geometry
from distkmeans.metrics.own import Own
from distkmeans.problem import Problem
from distkmeans.solvers import Record, Solution
from distkmeans.solvers.lloyd import Lloyd
from distkmeans.world import World, join
from tests import oracle
from tests.conftest import ROOT
from tests.problems import part, problem_of
from tests.test_identity import fitted
from tests.worlds import Ranks

KINDS = sorted(oracle.ADVERSARIAL)
RANKS = Callable[[int], Ranks]


def solved(problem: Problem, k: int, **options: Any) -> tuple[Solution, list[Record]]:
    records: list[Record] = []
    seeds = inits.build("random")(problem, k, 3)
    return Lloyd(**options).fit(problem, seeds.centroids, records.append), records


def stored(weights: np.ndarray | None, x: np.ndarray) -> np.ndarray | None:
    """Weights as they count: of the rows' precision."""
    return None if weights is None else weights.astype(np.float64 if x.dtype == np.float64 else np.float32)


def has_direction(x: np.ndarray) -> np.ndarray:
    return x[(x != 0).any(axis=1)]


@settings(max_examples=30, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    dims=st.integers(1, 4),
    k=st.integers(1, 6),
    weighted=st.booleans(),
    seed=st.integers(0),
)
def test_manhattan_publishes_what_is_true(kind: str, dims: int, k: int, weighted: bool, seed: int) -> None:
    """Labels: the true argmin. Centroids: medians. Inertia: the true one, but for the rounding of distances."""
    x = oracle.rows(kind, 30, dims, seed)
    weights = np.random.default_rng(seed).uniform(0.5, 2, 30) if weighted else None
    solution, records = solved(problem_of(x, weights, "manhattan"), k, max_iter=50, tol=0)
    centroids, labels, counted = solution.centroids.numpy(), solution.labels.numpy(), stored(weights, x)
    assert labels.tolist() == oracle.nearest_l1(x, centroids)
    assert solution.converged
    for cluster, column in itertools.product(np.unique(labels), range(dims)):
        mine = labels == cluster
        expected = oracle.lower_median(x[mine, column], None if counted is None else counted[mine])
        assert Fraction(float(centroids[cluster, column])) == expected
    scale = [Fraction(1)] * 30 if counted is None else oracle.fractions(counted)
    true = sum(w * oracle.l1_distance(row, centroids[label]) for w, row, label in zip(scale, x, labels, strict=True))
    assert solution.inertia == pytest.approx(float(true), rel=1e-14)
    costs = [record.inertia for record in records] + [solution.inertia]
    assert all(after <= before * (1 + 1e-14) for before, after in itertools.pairwise(costs))


def fit_part(rank: int, size: int, x: np.ndarray, weights: Any, options: dict[str, Any]) -> Any:
    result = distkmeans.fit(part(x, rank, size), weights=part(weights, rank, size), **options)
    return result.centroids, result.labels, result.inertia


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["lattice", "tenths", "spread", "bytes", "halves", "edge64"])
def test_manhattan_is_brute_force_at_1_and_3_ranks(ranks: RANKS, kind: str, weighted: bool) -> None:
    x = oracle.rows(kind, 40, 3, seed=8)
    weights = np.random.default_rng(8).integers(0, 4, 40) * 0.7 if weighted else None
    start = x[[3, 11, 17, 30]].astype(np.float64)
    centroids, labels, cost = oracle.k_medians(x, start, stored(weights, x), steps=30)
    options = {"k": 4, "init": start, "metric": "manhattan", "tol": 0, "empty": "keep", "max_iter": 30}
    for size in (1, 3):
        results = ranks(size)(fit_part, size, x, weights, options)
        assert all(result[0].tolist() == centroids for result in results)
        assert np.concatenate([result[1] for result in results]).tolist() == labels
        assert all(result[2] == pytest.approx(float(cost), rel=1e-14) for result in results)


@settings(max_examples=16, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    count=st.integers(9, 60),
    dims=st.integers(1, 5),
    k=st.integers(1, 9),
    size=st.integers(2, 4),
    tile=st.sampled_from([1, 7, 64]),
    init=st.sampled_from(["plus_plus", "random", "parallel"]),
    weighted=st.booleans(),
    metric=st.sampled_from(["manhattan", "dot"]),
    seed=st.integers(0, 2**31),
)
def test_the_same_bytes_at_any_number_of_ranks(
    ranks: RANKS,
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
    x = has_direction(x) if metric == "dot" else x
    if not len(x):
        return
    weights = 10.0 ** np.random.default_rng(seed).uniform(-5, 5, len(x)) if weighted else None
    options = {"k": min(k, len(x)), "init": init, "seed": seed, "max_iter": 8, "tol": 0, "metric": metric}
    expected = fitted(ranks, 1, x, weights, **options)
    assert fitted(ranks, size, x, weights, **options, tile_rows=tile) == expected


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    dims=st.integers(1, 4),
    k=st.integers(1, 6),
    weighted=st.booleans(),
    seed=st.integers(0),
)
def test_dot_publishes_what_is_true(kind: str, dims: int, k: int, weighted: bool, seed: int) -> None:
    """Labels: the true argmax over the stored centroids, of length 1. The objective never falls but for rounding."""
    x = has_direction(oracle.rows(kind, 30, dims, seed))
    if len(x) < k:
        return
    weights = np.random.default_rng(seed).uniform(0.5, 2, len(x)) if weighted else None
    solution, records = solved(problem_of(x, weights, "dot"), k, max_iter=20, tol=0)
    centroids, labels, counted = solution.centroids.numpy(), solution.labels.numpy(), stored(weights, x)
    assert labels.tolist() == oracle.largest_product(x, centroids)
    assert np.linalg.norm(centroids.astype(np.float64), axis=1) == pytest.approx(1, rel=1e-6)
    scale = [Fraction(1)] * len(x) if counted is None else oracle.fractions(counted)
    terms = [w * oracle.inner_product(row, centroids[label]) for w, row, label in zip(scale, x, labels, strict=True)]
    size = len(x) * max(float(w) * np.abs(row.astype(np.float64)).max() for w, row in zip(scale, x, strict=True))
    assert solution.inertia == pytest.approx(-float(sum(terms)), rel=1e-12, abs=max(1e-12 * size, 1e-320))
    costs = [record.inertia for record in records] + [solution.inertia]
    assert all(after <= before + max(1e-6 * size, 1e-320) for before, after in itertools.pairwise(costs))
    if records[-1].moved or not solution.converged:
        return
    for cluster in np.unique(labels):
        rows = [oracle.fractions(row) for row in x[labels == cluster]]
        weight = [w for w, label in zip(scale, labels, strict=True) if label == cluster]
        total = [sum(w * row[d] for w, row in zip(weight, rows, strict=True)) for d in range(dims)]
        largest = max(map(abs, total)) or 1
        direction = np.array([float(value / largest) for value in total])
        if direction.any():
            expected = direction / np.linalg.norm(direction)
            assert centroids[cluster] == pytest.approx(expected, rel=1e-6, abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), dims=st.integers(1, 6), seed=st.integers(0))
def test_verdicts_are_those_of_rational_arithmetic(kind: str, dims: int, seed: int) -> None:
    x, a, b = oracle.rows(kind, 36, dims, seed).astype(np.float64).reshape(3, 12, dims)
    a[::3] = b[::3]  # ties
    a[1::3, 0], b[1::3, 0] = x[1::3, 0] - 1, x[1::3, 0] + 1
    tensors = [torch.from_numpy(values) for values in (x, a, b)]
    triples = list(zip(x, a, b, strict=True))
    nearer = [oracle.l1_distance(row, p) < oracle.l1_distance(row, q) for row, p, q in triples]
    larger = [oracle.inner_product(row, p) > oracle.inner_product(row, q) for row, p, q in triples]
    assert is_nearer_l1(*tensors).tolist() == nearer
    assert has_larger_product(*tensors).tolist() == larger


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", [pytest.param("wide64", marks=pytest.mark.slow), "halves", "signed", "normal"])
def test_small_tables_find_the_same_medians(monkeypatch: pytest.MonkeyPatch, kind: str, weighted: bool) -> None:
    x = oracle.rows(kind, 200, 5, seed=1)
    weights = np.random.default_rng(1).uniform(0, 2, 200) if weighted else None
    results = []
    for elements in (1 << 20, 40, 4):  # digits of 8 bits, of a few, of one
        monkeypatch.setattr(medians, "TABLE_ELEMENTS", elements)
        results.append(solved(problem_of(x, weights, "manhattan"), 3, max_iter=4, tol=0)[0].centroids)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_bfloat16_rows_have_medians() -> None:
    x = torch.randn(99, 3, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    result = distkmeans.fit(x, 1, metric="manhattan")
    assert torch.equal(result.centroids[0], x.to(torch.float32).median(0).values)


def summed(rank: int, size: int, values: np.ndarray, weights: np.ndarray | None) -> Fraction:
    tensors = [None if v is None else torch.from_numpy(part(v, rank, size).copy()) for v in (values, weights)]
    assert tensors[0] is not None
    return weighted_sum(join("cpu"), tensors[0], tensors[1], len(values))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["wide64", "tenths", "subnormal", "far"])
def test_weighted_sums_are_exact(ranks: RANKS, kind: str, weighted: bool) -> None:
    values = oracle.rows(kind, 300, 1, seed=2)[:, 0].astype(np.float64)
    weights = np.random.default_rng(2).uniform(0, 1e9, 300) if weighted else None
    scale = [Fraction(1)] * 300 if weights is None else oracle.fractions(weights)
    expected = sum((w * v for w, v in zip(scale, oracle.fractions(values), strict=True)), Fraction(0))
    assert summed(0, 1, values, weights) == expected
    assert ranks(4)(summed, 4, values, weights) == [expected] * 4
    assert weighted_sum(World(), torch.zeros(3, dtype=torch.float64), None, 3) == 0


def test_digits_are_clustered_by_medians_and_products() -> None:
    x = load_digits().data[::3].astype(np.float32)
    result = distkmeans.fit(x, 10, metric="manhattan", tol=0)
    distances = np.abs(x[:, None] - result.centroids).sum(2)
    assert (result.labels == distances.argmin(1)).all()
    assert result.inertia == distances.min(1).sum()
    better = distkmeans.fit(x, 10, tol=0)
    assert result.inertia < np.abs(x - better.centroids[better.labels]).sum()
    result = distkmeans.fit(x, 10, metric="dot", tol=0)
    assert result.inertia == pytest.approx(-(x @ result.centroids.T).max(1).sum(), rel=1e-6)
    assert result.inertia < distkmeans.fit(x, 10, metric="dot", init="random", max_iter=1).inertia


@pytest.mark.parametrize("metric", ["manhattan", "dot"])
@pytest.mark.parametrize("kind", ["normal", "lattice", "far", "wide64"])
def test_rows_that_a_fast_pass_leaves_out_are_no_nearer(
    monkeypatch: pytest.MonkeyPatch, metric: str, kind: str
) -> None:
    """k-means++ draws the same rows when every row is measured against every centre."""
    x = has_direction(oracle.rows(kind, 300, 4, seed=3))
    maker = metrics[metric]
    seeds = [inits.build("plus_plus")(problem_of(x, None, metric), 20, seed).rows for seed in range(3)]
    monkeypatch.setattr(maker, "nearer", Geometry.nearer)
    assert seeds == [inits.build("plus_plus")(problem_of(x, None, metric), 20, seed).rows for seed in range(3)]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("metric", ["manhattan", "dot"])
def test_seeding_does_not_depend_on_the_scale_of_rows(metric: str, weighted: bool) -> None:
    x = oracle.rows("normal", 3000, 3, seed=0)
    weights = np.random.default_rng(1).uniform(0.5, 2, 3000) if weighted else None
    scaled = [problem_of(np.ldexp(x, by), weights, metric) for by in (0, 78, 81, 84, 120)]
    for name in ("plus_plus", "parallel"):
        assert len({tuple(inits.build(name)(problem, 8, 0).rows or []) for problem in scaled}) == 1


def fit_keeping_little(rank: int, size: int, x: np.ndarray, options: dict[str, Any]) -> Any:
    """k-means++ cannot keep the distances to tried centres on the ranks that hold more than 100 rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(potential, "KEPT_ELEMENTS", 300)
        return fit_part(rank, size, x, None, options)


def test_ranks_of_which_some_cannot_keep_distances_seed_alike(ranks: RANKS) -> None:
    options = {"k": 5, "metric": (taxi, mean), "max_iter": 2}
    results = [ranks(size)(fit_keeping_little, size, blobs(), options) for size in (1, 2)]
    assert results[1][0][2] == results[1][1][2] == pytest.approx(results[0][0][2], rel=1e-9)


def test_seeding_draws_by_the_l1_distance() -> None:
    """Not by its square."""
    x = np.array([[0.0], [1.0], [3.0]])
    weights = np.array([1.0, 1e-12, 1e-12])
    problem = problem_of(x, weights, "manhattan")
    measured = potential_of(problem)
    measured.add(torch.zeros(1, 1, dtype=torch.float64))
    assert measured.nearest.tolist() == [0, 1, 3]
    assert sorted(inits.build("plus_plus")(problem, 3, 0).rows or []) == [0, 1, 2]


class TestEmptyClusters:
    start = np.array([[0.0, 0], [1, 0], [100, 100]])
    x = np.array([[0.0, 0], [0, 1], [1, 0], [9, 0]])

    @pytest.mark.parametrize("metric", ["manhattan", (lambda r, c: torch.cdist(r, c, p=1.0))])
    def test_the_farthest_row_is_taken(self, metric: Any) -> None:
        result = distkmeans.fit(self.x, 3, metric=metric, init=self.start, tol=0)
        assert result.labels.tolist() == [0, 0, 1, 2]
        assert result.inertia == pytest.approx(1)

    def test_or_the_centroid_kept(self) -> None:
        result = distkmeans.fit(self.x, 3, metric="manhattan", init=self.start, empty="keep", tol=0)
        assert result.centroids[2].tolist() == [100, 100]
        assert result.labels.max() == 1

    def test_or_it_is_a_mistake(self) -> None:
        with pytest.raises(InputError, match=r"solver\.empty=fail: cluster 2 has no rows in iteration 1"):
            distkmeans.fit(self.x, 3, metric="manhattan", init=self.start, empty="fail")

    @pytest.mark.parametrize("metric", ["manhattan", "dot"])
    @pytest.mark.parametrize("init", ["plus_plus", "random", "parallel"])
    def test_fewer_distinct_rows_than_clusters(self, init: str, metric: str, caplog: pytest.LogCaptureFixture) -> None:
        result = distkmeans.fit(np.repeat([[1.0, 2], [2.0, 1]], 5, axis=0), 4, init=init, metric=metric)
        assert len(set(result.labels.tolist())) == 2
        assert "2 of 4 clusters have no rows" in caplog.text


def test_tolerance_of_dot_does_not_depend_on_the_length_of_rows() -> None:
    x = np.random.default_rng(0).standard_normal((500, 6)).astype(np.float32)
    short, long = (distkmeans.fit(x * scale, 5, metric="dot", seed=2) for scale in (1.0, 1024.0))
    assert short.iterations == long.iterations > 2
    assert short.labels.tolist() == long.labels.tolist()


def test_precision_fast_gives_much_the_same() -> None:
    x = load_digits().data[::4]
    exact, fast = (distkmeans.fit(x, 8, metric="manhattan", precision=p) for p in ("exact", "fast"))
    assert fast.inertia == pytest.approx(exact.inertia, rel=0.02)


def mahalanobis(rows: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    matrix = torch.tensor([[2.0, 0.6, 0.0], [0.6, 1.0, 0.0], [0.0, 0.0, 0.5]], dtype=torch.float64)
    apart = rows[:, None] - centroids
    return ((apart @ matrix) * apart).sum(2)


def root(rows: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    return mahalanobis(rows, centroids).sqrt()  # has no gradient at 0, where seeds lie


def taxi(rows: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    return (rows[:, None] - centroids).abs().sum(2)


def hinge(rows: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    apart = rows[:, None] - centroids
    return apart[:, :, 1:].square().sum(2) + (apart[:, :, 0].abs() - 1).clamp(min=0)


def unlike(rows: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    return 1 - torch.nn.functional.cosine_similarity(rows[:, None], centroids, dim=2)  # -2e-16 by rounding


def mean(rows: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    return rows.mean(0) if weights is None else weights @ rows / weights.sum()


def blobs(count: int = 240) -> np.ndarray:
    generator = np.random.default_rng(5)
    return (generator.standard_normal((count, 3)) + generator.integers(-2, 3, (count, 1)) * 6).astype(np.float32)


class TestOwn:
    def test_the_centre_of_a_quadratic_is_the_mean(self) -> None:
        x = blobs()
        weights = np.random.default_rng(0).uniform(0, 2, len(x)).astype(np.float32)
        by_gradient = distkmeans.fit(x, 5, metric=mahalanobis, weights=weights, tol=0)
        by_function = distkmeans.fit(x, 5, metric=(mahalanobis, mean), weights=weights, tol=0)
        assert (by_gradient.labels == by_function.labels).all()
        assert by_gradient.centroids == pytest.approx(by_function.centroids, abs=1e-5)
        assert by_gradient.inertia == pytest.approx(by_function.inertia, rel=1e-10)

    @pytest.mark.parametrize("metric", [root, taxi, hinge, lambda r, c: 1e-7 * taxi(r, c) ** 3])
    def test_no_other_centre_near_by_costs_less(self, metric: Any) -> None:
        x = blobs()
        x[::40] += 30  # a mean is far from the best
        result = distkmeans.fit(x, 4, metric=metric, tol=0)
        assert result.converged
        generator = np.random.default_rng(1)
        for cluster in range(4):
            rows = torch.from_numpy(x[result.labels == cluster]).to(torch.float64)
            at = torch.from_numpy(result.centroids[cluster]).to(torch.float64)
            steps = torch.from_numpy(generator.standard_normal((300, 3)) * 10 ** generator.uniform(-4, 0, (300, 1)))
            costs = metric(rows, torch.cat([at[None], at + steps])).sum(0)
            assert float(costs[0]) <= float(costs.min()) * (1 + 1e-9)

    def test_taxi_by_gradient_is_manhattan(self) -> None:
        x = load_digits().data[:300]  # integers: kinks everywhere, the worst for a descent
        start = distkmeans.fit(x, 3, metric="manhattan", seed=1, max_iter=3).centroids
        own, exact = (distkmeans.fit(x, 3, metric=metric, init=start, max_iter=9) for metric in (taxi, "manhattan"))
        assert own.inertia == pytest.approx(exact.inertia, rel=0.02)

    def test_the_objective_never_rises(self) -> None:
        for metric in (Own(root), Own(hinge), Own(mahalanobis, mean)):
            solution, records = solved(replace(problem_of(blobs()), metric=metric), 6, tol=0)
            costs = [record.inertia for record in records] + [solution.inertia]
            assert all(after <= before * (1 + 1e-12) for before, after in itertools.pairwise(costs))

    @pytest.mark.parametrize("metric", [root, pytest.param(hinge, marks=pytest.mark.slow), (mahalanobis, mean)])
    def test_ranks_agree_to_rounding(self, ranks: RANKS, metric: Any) -> None:
        x = blobs()
        weights = np.random.default_rng(0).uniform(0, 2, len(x))
        options = {"k": 5, "metric": metric, "init": x[[1, 60, 100, 170, 230]], "tol": 0}
        results = {size: ranks(size)(fit_part, size, x, weights, options) for size in (1, 2, 3)}
        for size in (2, 3):
            assert all((result[0] == results[size][0][0]).all() for result in results[size])  # of one run
            assert results[size][0][0] == pytest.approx(results[1][0][0], abs=1e-4)
            assert results[size][0][2] == pytest.approx(results[1][0][2], rel=1e-9)
            labels = np.concatenate([result[1] for result in results[size]])
            assert (labels == results[1][0][1]).all()

    def test_weights_count_as_copies(self) -> None:
        x = blobs(60)
        weights = np.random.default_rng(0).integers(0, 4, 60)
        for metric in (hinge, (mahalanobis, mean)):
            weighted = distkmeans.fit(x, 3, init=x[:3], metric=metric, weights=weights, tol=0)
            copied = distkmeans.fit(np.repeat(x, weights, axis=0), 3, init=x[:3], metric=metric, tol=0)
            assert weighted.centroids == pytest.approx(copied.centroids, abs=1e-4)

    def test_it_may_be_handed_over_as_an_object(self) -> None:
        class Near:
            def distance(self, rows: torch.Tensor, centroids: torch.Tensor) -> Any:
                return np.square(rows.numpy()[:, None] - centroids.numpy()).sum(2)  # no tensor, no gradient

            def centre(self, rows: torch.Tensor, weights: torch.Tensor | None) -> Any:
                return np.asarray(rows).mean(0)

        x = blobs()
        result = distkmeans.fit(x, 5, metric=Near(), tol=0)
        assert (distkmeans.predict(x, result.centroids, metric=Near()) == result.labels).all()
        plain = distkmeans.fit(x, 5, init=result.centroids, tol=0)
        assert (plain.labels == result.labels).all()

    @pytest.mark.parametrize("init", ["plus_plus", "parallel", "random"])
    @pytest.mark.parametrize("metric", [taxi, unlike, (lambda r, c: -r @ c.T, mean)])
    def test_every_seeding_serves_it(self, init: str, metric: Any) -> None:
        result = distkmeans.fit(blobs(), 5, metric=metric, init=init, max_iter=20)
        assert (distkmeans.predict(blobs(), result.centroids, metric=metric) == result.labels).all()

    CASES = (
        (lambda r, c: torch.zeros(3), "its distance returns the shape (3,); expected (240, 1)"),
        (lambda r, c: None, "its distance returns NoneType; expected a tensor or an array of the shape (240, 1)"),
        (lambda r, c: r @ torch.eye(4).to(r) @ c.T, "(240x3 and 4x4)); it is given (240, 3) and (1, 3), torch.float64"),
        (lambda r, c: r[:, 7:] - c[:, 7], "its distance fails (IndexError: index 7 is out of bounds"),
        (lambda r, c: torch.cdist(r, c).log(), "its distance is -inf between the row ["),
        (lambda r, c: torch.cdist(r, c).detach(), "its distance has no gradient by which to find a centre"),
        (
            lambda r, c: np.abs(r.numpy()[:, None] - c.numpy()).sum(2),
            "no gradient by which to find a centre (Can't call",
        ),
        (lambda r, c: r @ c.T.exp().mul_(c.T), "by which to find a centre (one of the variables needed for"),
        (lambda r, c: r @ c.float().T, "it is given (240, 3) and (1, 3), torch.float64 on cpu"),
        (lambda r, c: torch.einsum("nd,de,ke->nk", r, torch.eye(3), c), ", torch.float64 on cpu"),
        (lambda r, c: -r @ c.T, "its distance has no least sum: the centre of cluster"),
        ((taxi, lambda r, w: r), "its centre returns the shape ("),
        ((taxi, lambda r, w: None), "its centre returns NoneType; expected a tensor or an array of the shape (3,)"),
        ((taxi, lambda r, w: r[:, 9]), "its centre fails (IndexError: index 9 is out of bounds"),
        ((taxi, lambda r, w: r[0] * torch.nan), "its centre of cluster 0 holds NaN or Inf"),
        (Own, "metric=Own: a class; make one of it: metric=Own()"),
        (3, "metric=3: expected a name, a function (rows, centroids) -> distances, (distance, centre)"),
        ("taxi", "metric=taxi: unknown; expected cosine, dot, euclidean or manhattan"),
    )

    def test_what_it_is_given_is_its_own(self) -> None:
        def unlike_in_place(rows: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
            rows /= rows.norm(dim=1, keepdim=True)
            return 1 - rows @ centroids.div_(centroids.norm(dim=1, keepdim=True)).T

        x, start = blobs().astype(np.float64), blobs()[:3].astype(np.float64)
        kept = x.copy(), start.copy()
        distkmeans.fit(x, 3, metric=(unlike_in_place, mean), init=start, max_iter=5)
        assert np.array_equal(x, kept[0])
        assert np.array_equal(start, kept[1])

    def test_a_cluster_of_one_row_has_a_centre(self) -> None:
        """A root has no gradient there, and the function is not asked about no rows."""

        def root_of_view(rows: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
            return (rows[:, None] - centroids).view(len(rows), len(centroids), -1).square().sum(2).sqrt()

        result = distkmeans.fit(blobs(6), 6, metric=root_of_view)
        assert sorted(result.labels.tolist()) == list(range(6))
        assert result.inertia == 0

    @pytest.mark.parametrize(("metric", "expected"), CASES)
    def test_mistakes_are_one_line(self, metric: Any, expected: str) -> None:
        with pytest.raises(InputError, match=re.escape(expected)) as caught:
            distkmeans.fit(blobs(), 3, metric=metric)
        assert "\n" not in str(caught.value)

    def test_a_mistake_on_one_rank_is_raised_on_all(self, ranks: RANKS) -> None:
        x = blobs()
        x[-1] = 777
        errors = ranks(3)(fit_part, 3, x, None, {"k": 4, "metric": bad_at_777})
        assert [type(error) for error in errors] == [InputError] * 3
        assert len({str(error) for error in errors}) == 1
        assert "its distance is nan" in str(errors[0])


def bad_at_777(rows: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    return taxi(rows, centroids).masked_fill((rows[:, :1] == 777), torch.nan)


@pytest.mark.parametrize("solver", ["minibatch", "gradient"])
def test_a_solver_that_cannot_serve_says_so_before_data_is_read(
    solver: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = ["metric=manhattan", f"solver={solver}", "data=npy", f"data.path={tmp_path}/none.npy"]
    assert cli.main(overrides, ROOT / "conf") == 1
    told = capsys.readouterr().err
    assert (
        f"error: metric=manhattan solver={solver}: it is made for squared Euclidean distances; use solver=lloyd" in told
    )


def test_a_kernel_for_squared_distances_is_refused() -> None:
    with pytest.raises(InputError, match=r"metric=dot solver=lloyd: solver\.kernel=dense is for squared Euclidean"):
        distkmeans.fit(blobs(), 3, metric="dot", kernel="dense")


@pytest.mark.parametrize(
    ("metric", "x", "expected"),
    [
        ("dot", [[1.0, 2], [0, 0]], "x, row 1: a row of zeros has no direction, which metric=dot needs"),
        ("manhattan", [[1e301, 2], [1e302, 0]], "x, row 1: a value of 1.07e+301 or more, whose distances overflow"),
        ("dot", [[1e301, 2], [1e302, 0]], "x, row 1: a value of 1.07e+301 or more, whose products overflow"),
    ],
)
def test_rows_without_an_answer_are_named(metric: str, x: list[list[float]], expected: str) -> None:
    with pytest.raises(InputError, match=re.escape(expected)):
        distkmeans.fit(x, 1, metric=metric)


def code_of_the_page() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "metrics.md").read_text(), re.DOTALL)


def test_the_page_runs_from_python(plugins: Path) -> None:
    module, use = code_of_the_page()
    (plugins / "near.py").write_text(module)
    sys.path.insert(0, str(plugins))
    exec(compile(use, "metrics.md", "exec"), {})
    centres = distkmeans.fit(blobs(), 3, metric=sys.modules["near"].hinge, tol=0).centroids
    assert np.isfinite(centres).all()


@pytest.mark.parametrize("shown", [0, 1])
def test_the_page_runs_from_the_command_line(plugins: Path, shown: int, train: Any) -> None:
    module, _ = code_of_the_page()
    (plugins / "near.py").write_text(module)
    x = blobs(600)
    np.save("x.npy", x)
    overrides = re.findall(r"python train.py (.*)", module)[shown].split()
    overrides += ["data=npy", "data.path=x.npy", "k=4", "transform=standardize"]
    assert cli.main([*overrides, "run.dir=one", "report=none"], ROOT / "conf") == 0
    if shown:  # two ranks agree on it in TestOwn
        assert cli.main([*overrides, "run.dir=two", "report=none", "solver.tile_rows=50"], ROOT / "conf") == 0
    else:
        done = train(*overrides, "run.dir=two", "report=none", ranks=2)
        assert done.returncode == 0, done.stderr
    one, two = (json.loads((plugins / run / "summary.json").read_text()) for run in ("one", "two"))
    assert two["inertia"] == pytest.approx(one["inertia"], rel=1e-9)
    assert not one["bit_identical"]
    assert not two["bit_identical"]
    name = overrides[1].removeprefix("metric=")
    assert one["objective"] == f"weighted sum of the distances of metric={name}"
    labels = np.concatenate([np.load(path) for path in sorted((plugins / "two" / "labels").iterdir())])
    assert (distkmeans.load("two").predict(x) == labels).all()


@pytest.mark.parametrize("metric", ["manhattan", "dot"])
def test_a_run_of_the_command_line_can_be_loaded(plugins: Path, metric: str) -> None:
    x = blobs(300)
    np.save("x.npy", x)
    overrides = ["data=npy", "data.path=x.npy", "k=4", f"metric={metric}", "run.dir=run", "report.html=false"]
    assert cli.main(overrides, ROOT / "conf") == 0
    summary = json.loads((plugins / "run" / "summary.json").read_text())
    assert summary["bit_identical"]
    assert summary["objective"] == metrics.build(metric).objective
    assert (distkmeans.load("run").predict(x) == np.load("run/labels/part-00000-of-00001.npy")).all()


def test_the_help_and_the_dry_run_know_them(plugins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"], ROOT / "conf") == 0
    told = capsys.readouterr().out
    assert "manhattan    L1 distance; centroids are medians" in told
    assert "dot          Largest inner product" in told
    assert cli.main(["dry_run=true", "metric=manhattan", "data.n_samples=500"], ROOT / "conf") == 0
    assert "dry run: nothing was written" in capsys.readouterr().out
