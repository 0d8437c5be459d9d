"""Batches that the caller brings, and the best of several seedings."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.cluster import MiniBatchKMeans

import distkmeans
from distkmeans.init import Seeds
from distkmeans.init.given import Given
from distkmeans.init.plus_plus import PlusPlus
from distkmeans.init.random import Random
from distkmeans.metrics import metrics
from distkmeans.problem import Problem
from distkmeans.solvers.best_seeds import best_seeds, validation_inertia
from distkmeans.solvers.online import Rule, State
from distkmeans.solvers.stream import Stream
from distkmeans.world import World, join
from tests import oracle
from tests.conftest import ROOT
from tests.problems import part, problem_of, problem_of_rank
from tests.worlds import Ranks

Ran = Callable[[int], Ranks]
X = oracle.rows("normal", 900, 4, seed=3)


def learner(start: np.ndarray | None = None, metric: str = "euclidean", **rule: float) -> Stream:
    seeding = Random() if start is None else Given(start)
    return Stream(6 if start is None else len(start), seeding, metrics.build(metric), Rule(**rule), seed=2)


def follow(rank: int, size: int, metric: str, weighted: bool) -> bytes:
    """Batches of 300 rows, of which every rank brings a part; on four ranks the second brings none."""
    weights, state = np.random.default_rng(0).uniform(0.1, 3, 900).astype(np.float32), None
    for batch in range(3):
        rows = slice(batch * 300, batch * 300 + 300)
        own = torch.from_numpy(part(X[rows], rank, size))
        each = torch.from_numpy(part(weights[rows], rank, size)) if weighted else None
        state = learner(metric=metric, decay=0.8, ratio=0.3).partial_fit(join("cpu"), state, own, each)
    return pickle.dumps(state)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_same_bytes_however_a_batch_is_divided(ranks: Ran, metric: str, weighted: bool) -> None:
    states = [pickle.loads(state) for size in (1, 3, 4) for state in ranks(size)(follow, size, metric, weighted)]
    for state in states:
        assert state.centroids.numpy().tobytes() == states[0].centroids.numpy().tobytes()
        assert torch.equal(state.weights, states[0].weights)
        assert state.inertia == states[0].inertia


def test_the_steps_are_scikit_learns() -> None:
    """With weights, which count in the sums."""
    x, weights = X.astype(np.float64), np.random.default_rng(1).uniform(0, 2, 900)
    theirs, state = MiniBatchKMeans(5, init=x[:5], n_init=1, reassignment_ratio=0), None
    for rows in np.split(np.arange(900), 9):
        theirs.partial_fit(x[rows], sample_weight=weights[rows])
        ours = learner(x[:5], ratio=0.0)
        state = ours.partial_fit(World(), state, torch.from_numpy(x[rows]), torch.from_numpy(weights[rows]))
    assert state is not None
    np.testing.assert_allclose(state.centroids.numpy(), theirs.cluster_centers_, rtol=1e-9)
    np.testing.assert_allclose(state.weights.numpy(), theirs._counts, rtol=1e-12)
    assert state.step == 9


def test_decay_is_per_batch_and_of_the_weight_before_it() -> None:
    """Zaharia's: c' = (c n a + x m) / (n a + m); a = 0 keeps the last batch alone."""
    for decay in (0.0, 0.5, 1.0):
        state, total, weight = None, np.zeros(4), 0.0
        for rows in np.split(X.astype(np.float64), 3):
            state = learner(np.zeros((1, 4)), decay=decay).partial_fit(World(), state, torch.from_numpy(rows))
            total, weight = total * decay + rows.sum(0), weight * decay + len(rows)
        assert state is not None
        np.testing.assert_allclose(state.centroids.numpy()[0], total / weight, rtol=1e-10)
        assert float(state.weights[0]) == weight


def test_a_drift_is_followed_by_decay_alone() -> None:
    follows = {}
    for decay in (0.3, 1.0):
        state = None
        for batch in range(20):
            rows = torch.from_numpy(X[:300] + np.float32(batch))
            state = learner(np.zeros((1, 4)), decay=decay).partial_fit(World(), state, rows)
        assert state is not None
        follows[decay] = float((state.centroids - (torch.from_numpy(X[:300]).mean(0) + 19)).abs().max())
    assert follows[0.3] < 0.5
    assert follows[1.0] > 9


def test_the_state_that_is_given_stays_as_it_is() -> None:
    first = learner(ratio=0.9).partial_fit(World(), None, torch.from_numpy(X[:300]))
    before = pickle.dumps(first)
    one, other = (learner(ratio=0.9).partial_fit(World(), first, torch.from_numpy(X[300:600])) for _ in range(2))
    assert pickle.dumps(first) == before
    assert torch.equal(one.centroids, other.centroids)
    assert not torch.equal(one.centroids, first.centroids)


def test_rows_without_weight_are_never_centres() -> None:
    rows, weights = torch.from_numpy(np.repeat([[0.0], [1.0], [50.0]], 40, axis=0)), torch.ones(120)
    weights[80:] = 0
    start = np.array([[0.4], [1e6], [-1e6]])
    state = learner(start).partial_fit(World(), None, rows, weights.to(torch.float64))
    assert state.centroids.abs().max() <= 1


def test_batches_of_other_types() -> None:
    state = learner(X[:4]).partial_fit(World(), None, torch.from_numpy(X[:300]))
    for dtype in (torch.float64, torch.float16, torch.uint8):
        state = learner(X[:4]).partial_fit(World(), state, torch.from_numpy(X[:50]).abs().to(dtype))
        assert state.centroids.dtype == torch.float32
    assert state.step == 4
    assert float(state.weights.sum()) == 450


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (np.ones((5, 3), np.float32), "x: 3 columns; the batches before had 4"),
        (np.full((5, 4), np.nan, np.float32), "x, row 0: nan in column 0"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(rows: np.ndarray, told: str) -> None:
    state = learner().partial_fit(World(), None, torch.from_numpy(X[:300]))
    with pytest.raises(distkmeans.InputError, match=told):
        learner().partial_fit(World(), state, torch.from_numpy(rows))


def test_the_first_batch_must_have_k_rows() -> None:
    with pytest.raises(distkmeans.InputError, match="k=6: more clusters than the 5 rows"):
        learner().partial_fit(World(), None, torch.from_numpy(X[:5]))
    state = learner().partial_fit(World(), None, torch.from_numpy(X[:300]))
    assert learner().partial_fit(World(), state, torch.from_numpy(X[:2])).step == 2


class Noted:
    """Remembers what it is asked for."""

    draws = True

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.found: list[Seeds] = []

    def __call__(self, problem: Problem, k: int, seed: int) -> Seeds:
        self.sizes.append(problem.shard.total)
        self.found.append(Random()(problem, k, seed))
        return self.found[-1]


def test_the_best_seeding_of_several_is_kept() -> None:
    problem, noted = problem_of(X), Noted()
    seeds = best_seeds(problem, noted, 6, 4, size=100, tries=5)
    assert noted.sizes == [100] * 5
    costs = [validation_inertia(problem, tried, 6, 4, 100) for tried in noted.found]
    assert len(set(costs)) == 5
    assert torch.equal(seeds.centroids, noted.found[costs.index(min(costs))].centroids)


def test_the_validation_inertia_is_that_of_sampled_rows() -> None:
    problem, seeds = problem_of(X), Random()(problem_of(X), 6, 0)
    centroids = seeds.centroids.numpy()
    labels = np.array(oracle.nearest(X, centroids))
    whole = validation_inertia(problem, seeds, 6, 0, 10**6)
    assert whole == pytest.approx(float(oracle.inertia(X, centroids, labels)), rel=1e-14)
    assert 0.05 * whole < validation_inertia(problem, seeds, 6, 0, 100) < 0.2 * whole


def seed_part(rank: int, size: int, weights: np.ndarray | None) -> Any:
    problem = problem_of_rank(rank, size, X, weights)
    seeds = best_seeds(problem, PlusPlus(), 6, 1, size=200, tries=3)
    return seeds.centroids.numpy().tobytes(), seeds.rows


@pytest.mark.parametrize("weighted", [False, True])
def test_the_same_seeds_at_any_world_size(ranks: Ran, weighted: bool) -> None:
    weights = np.random.default_rng(0).uniform(0, 2, 900).astype(np.float32) if weighted else None
    found = [answer for size in (1, 2, 4) for answer in ranks(size)(seed_part, size, weights)]
    assert all(answer == found[0] for answer in found)


def test_a_start_that_draws_nothing_is_tried_once() -> None:
    seeds = best_seeds(problem_of(X), Given(X[:6]), 6, 0, size=100, tries=5)
    assert (seeds.centroids.numpy() == X[:6]).all()
    assert State.start(seeds.centroids, 0).weights.tolist() == [0] * 6


def test_the_stream_of_the_docs() -> None:
    page = (ROOT / "docs" / "minibatch.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["state"].step == 24
    assert float(names["state"].weights.sum()) == pytest.approx(
        500 * (1 - 0.9**24) / 0.1, rel=0.1
    )  # starved ones weigh too
    assert 10 < float(names["state"].centroids.mean()) < 23
