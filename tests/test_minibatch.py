"""solver=minibatch: the same bytes at any world size, scikit-learn's rules on the same batches, its quality."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.cluster import MiniBatchKMeans, kmeans_plusplus
from sklearn.datasets import load_digits, make_blobs

import distkmeans
from distkmeans import native
from distkmeans.data.array import as_rows
from distkmeans.data.shard import own_shard
from distkmeans.init.given import Given
from distkmeans.metrics import metrics
from distkmeans.problem import Problem, pose
from distkmeans.solvers import Record, Solution
from distkmeans.solvers.draws import Draws
from distkmeans.solvers.minibatch import MiniBatch, finish
from distkmeans.solvers.online import State
from distkmeans.world import World, join
from tests import oracle
from tests.problems import part, problem_of
from tests.worlds import Ranks

Ran = Callable[[int], Ranks]


def posed(world: World, x: np.ndarray, weights: np.ndarray | None = None, metric: str = "euclidean") -> Problem:
    vector = None if weights is None else torch.from_numpy(weights)
    return pose(world, own_shard(world, as_rows(x), vector), metrics.build(metric))


def posed_part(rank: int, size: int, x: np.ndarray, weights: np.ndarray | None, metric: str) -> Problem:
    return posed(join("cpu"), part(x, rank, size), part(weights, rank, size), metric)


def solve(problem: Problem, start: np.ndarray, seed: int = 0, **options: Any) -> tuple[Solution, list[Record]]:
    records: list[Record] = []
    seeds = Given(start)(problem, len(start), 0)
    return MiniBatch(**options).fit(problem, seeds.centroids, records.append, seed), records


def solve_part(rank: int, size: int, x: np.ndarray, weights: Any, metric: str, options: dict[str, Any]) -> Any:
    torch.set_num_threads(options.pop("threads", 1))
    problem = posed_part(rank, size, x, weights, metric)
    solution, records = solve(problem, **options)
    torch.set_num_threads(1)
    told = [replace(record, seconds=0, judged=0) for record in records]  # how many are judged is the kernel's affair
    return solution.centroids.numpy(), solution.labels.numpy(), (solution.inertia, solution.iterations, repr(told))


def solved(ranks: Ran, size: int, x: np.ndarray, weights: Any, metric: str, **options: Any) -> tuple[Any, ...]:
    results = ranks(size)(solve_part, size, x, weights, metric, options)
    for result in results:
        if isinstance(result, Exception):
            raise result
    assert len({(result[0].tobytes(), result[2]) for result in results}) == 1
    return results[0][0].tobytes(), np.concatenate([result[1] for result in results]).tobytes(), results[0][2]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(sorted(oracle.ADVERSARIAL)),
    count=st.integers(9, 120),
    dims=st.integers(1, 5),
    k=st.integers(1, 9),
    batch=st.integers(10, 130),
    size=st.integers(2, 4),
    tile=st.sampled_from([1, 7, 64]),
    decay=st.sampled_from([1.0, 0.9]),
    weighted=st.booleans(),
    metric=st.sampled_from(["euclidean", "cosine"]),
    seed=st.integers(0, 2**31),
)
def test_the_same_bytes_at_any_world_size(
    ranks: Ran,
    kind: str,
    count: int,
    dims: int,
    k: int,
    batch: int,
    size: int,
    tile: int,
    decay: float,
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
    options = {"start": x[:k], "seed": seed, "max_iter": 2, "batch_size": batch, "decay": decay}
    expected = solved(ranks, 1, x, weights, metric, **options)
    assert solved(ranks, size, x, weights, metric, **options, tile_rows=tile) == expected


@pytest.mark.parametrize("kernel", ["dense", "narrow", "pruned"])
def test_the_same_bytes_with_any_kernel_and_threads(ranks: Ran, kernel: str) -> None:
    """With four ranks the second has no rows, and batches of six leave some without any."""
    x = oracle.rows("lattice", 200, 12, seed=3)
    for batch in (6, 100):
        options = {"start": x[:40], "max_iter": 1, "batch_size": batch, "max_no_improvement": None}
        expected = solved(ranks, 1, x, None, "euclidean", **options, kernel="dense")
        assert solved(ranks, 1, x, None, "euclidean", **options, kernel=kernel, threads=2) == expected
        assert solved(ranks, 4, x, None, "euclidean", **options, kernel=kernel) == expected


class TestBatches:
    x = oracle.rows("normal", 50, 2, seed=0)

    def numbers(self, weights: np.ndarray | None, size: int, steps: int) -> np.ndarray:
        rows = np.arange(50, dtype=np.float64)[:, None]
        draws = Draws.of(posed(World(), rows, weights), size)
        return np.array([draws.batch(7, step).rows.flatten().numpy() for step in range(steps)]).astype(int)

    def test_every_row_is_as_likely(self) -> None:
        drawn = self.numbers(None, 40, 500)
        counts = np.bincount(drawn.flatten(), minlength=50)
        assert ((counts - 400) ** 2 / 400).sum() < 85  # chi-square, 49 degrees of freedom: 99.9 %
        assert not (drawn[0] == drawn[1]).all()

    def test_rows_are_drawn_by_weight_and_then_count_once(self) -> None:
        weights = np.arange(50) % 5 * 0.3
        counts = np.bincount(self.numbers(weights, 40, 500).flatten(), minlength=50)
        expected = weights / weights.sum() * 20000
        assert counts[weights == 0].sum() == 0
        assert ((counts - expected)[weights > 0] ** 2 / expected[weights > 0]).sum() < 73  # 39 degrees of freedom
        solution, _ = solve(posed(World(), self.x, weights), self.x[1:4], max_iter=2)
        scaled, _ = solve(posed(World(), self.x, 5 * weights), self.x[1:4], max_iter=2)
        assert torch.equal(solution.centroids, scaled.centroids)

    def test_equal_weights_draw_what_no_weights_do(self) -> None:
        assert (self.numbers(np.full(50, 0.7), 40, 3) == self.numbers(None, 40, 3)).all()

    def test_weights_of_any_size(self) -> None:
        for scale in (1e-300, 1e300):
            drawn = self.numbers(np.where(np.arange(50) < 2, scale, scale * 1e-8), 40, 5)
            assert (drawn < 2).all()


class TestScikitLearnsRules:
    """On the same batches, brought to scikit-learn by its public ``partial_fit``."""

    x = oracle.rows("normal", 600, 5, seed=1).astype(np.float64)

    def run(self, steps: int, start: np.ndarray, **options: Any) -> tuple[State, list[np.ndarray]]:
        problem = problem_of(self.x)
        solver = MiniBatch(**{"max_no_improvement": None, "reassignment_ratio": 0.0, **options})
        centroids = torch.from_numpy(start)
        course, state = solver.course(problem, centroids), State.start(centroids, 5)
        batches = []
        for _ in range(steps):
            batches.append(course.draws.batch(5, state.step).rows.numpy())
            solver.step(problem, course, state)
        return state, batches

    def test_centres_and_weights(self) -> None:
        state, batches = self.run(30, self.x[:8], batch_size=64)
        theirs = MiniBatchKMeans(8, init=self.x[:8], n_init=1, reassignment_ratio=0, batch_size=64)
        for batch in batches:
            theirs.partial_fit(batch)
        np.testing.assert_allclose(state.centroids.numpy(), theirs.cluster_centers_, rtol=1e-9)
        np.testing.assert_array_equal(state.weights.numpy(), theirs._counts)

    def test_smoothed_inertia_and_stopping(self) -> None:
        """scikit-learn's formulas, in plain NumPy."""
        solver = MiniBatch(batch_size=100, reassignment_ratio=0, max_no_improvement=4)
        problem, centroids = problem_of(self.x), torch.from_numpy(self.x[:8])
        course, own = solver.course(problem, centroids), State.start(centroids, 5)
        centres, counts, smoothed, least, idle, stopped = self.x[:8].copy(), np.zeros(8), None, None, 0, 0
        for step in range(600):
            batch = course.draws.batch(5, step).rows.numpy()
            distances = ((batch[:, None] - centres) ** 2).sum(2)
            labels, cost = distances.argmin(1), distances.min(1).sum() / 100
            for cluster in range(8):
                mine = batch[labels == cluster]
                if len(mine):
                    centres[cluster] = (centres[cluster] * counts[cluster] + mine.sum(0)) / (
                        counts[cluster] + len(mine)
                    )
                    counts[cluster] += len(mine)
            if step:
                smoothed = cost if smoothed is None else smoothed * (1 - 200 / 601) + cost * 200 / 601
                idle = 0 if least is None or smoothed < least else idle + 1
                least = smoothed if not idle else least
            if idle >= 4:
                stopped = step + 1
                break
        solver.run(problem, course, own)
        assert 5 < own.step == stopped < 600
        assert own.converged
        assert own.smoothed == pytest.approx(smoothed, rel=1e-12)
        np.testing.assert_allclose(own.centroids.numpy(), centres, rtol=1e-9)

    def test_tol_is_a_share_of_the_mean_variance(self) -> None:
        limit = 0.01 * self.x.var(axis=0).mean()
        solver = MiniBatch(batch_size=100, tol=0.01, max_no_improvement=None)
        problem, centroids = problem_of(self.x), torch.from_numpy(self.x[:8])
        course, state, shifts = solver.course(problem, centroids), State.start(centroids, 0), []
        while not state.converged:
            before = state.centroids.numpy()
            solver.step(problem, course, state)
            shifts.append(((state.centroids.numpy() - before) ** 2).sum())
        assert shifts[-1] <= limit
        assert all(shift > limit for shift in shifts[1:-1])
        assert len(shifts) > 2

    def test_max_iter_is_in_passes_over_the_rows(self) -> None:
        solution, records = solve(problem_of(self.x), self.x[:8], max_iter=3, batch_size=70, max_no_improvement=None)
        assert not solution.converged
        assert [record.iteration for record in records] == [1, 2, 3]
        assert solution.iterations == 3
        assert records[-1].moved is None
        clipped, records = solve(problem_of(self.x), self.x[:8], max_iter=2, batch_size=10**6, max_no_improvement=None)
        assert [record.iteration for record in records] == [1, 2]
        assert clipped.iterations == 2


class TestStarvedCentres:
    x = np.concatenate([oracle.rows("normal", 400, 2, seed=2)])
    start = np.concatenate([x[:3], [[1e4, 1e4], [-1e4, 0]]]).astype(np.float32)

    def step(self, weights: list[float], ratio: float, batch: int = 50, since: int = 0) -> tuple[State, np.ndarray]:
        problem, centroids = problem_of(self.x), torch.from_numpy(self.start)
        solver = MiniBatch(batch_size=batch, reassignment_ratio=ratio)
        course, state = solver.course(problem, centroids), State.start(centroids, 0)
        state.weights, state.since = torch.tensor(weights, dtype=torch.float64), since
        rows = course.draws.batch(0, 0).rows.numpy()
        solver.step(problem, course, state)
        return state, rows

    def test_they_go_to_rows_of_the_batch(self) -> None:
        state, batch = self.step([0, 0, 0, 0, 0], 0.01)
        revived = state.centroids.numpy()[3:]
        assert all((batch == row).all(1).any() for row in revived)
        assert (revived[0] != revived[1]).any()
        assert (state.weights[3:] == state.weights[:3].min()).all()
        assert state.weights[:3].sum() == 50

    def test_ratio_0_leaves_them_alone(self) -> None:
        state, _ = self.step([0, 0, 0, 0, 0], 0.0)
        assert state.centroids.numpy()[3:].tolist() == self.start[3:].tolist()

    def test_the_share_of_the_heaviest_counts(self) -> None:
        """As scikit-learn: looked for at once where a centre weighs nothing, else after 10 k rows."""
        state, _ = self.step([900, 900, 900, 5, 20], 0.01, batch=40, since=9)
        assert state.centroids.numpy()[3:].tolist() == self.start[3:].tolist()
        assert state.since == 49
        state, batch = self.step([900, 900, 900, 5, 20], 0.01, batch=40, since=10)
        assert state.since == 0
        assert state.centroids.numpy()[4].tolist() == self.start[4].tolist()
        assert (batch == state.centroids.numpy()[3]).all(1).any()
        assert float(state.weights[3]) == 20

    def test_at_most_half_of_the_batch(self) -> None:
        state, _ = self.step([9, 9, 9, 1, 0], 0.5, batch=3)
        assert state.centroids.numpy()[3].tolist() == self.start[3].tolist()
        assert np.abs(state.centroids.numpy()[4]).max() < 10

    def test_a_small_start_is_mended(self) -> None:
        x, _ = make_blobs(3000, centers=8, cluster_std=0.3, random_state=0)
        start = x[:8].copy()
        start[4:] = 1e5
        mended, _ = solve(problem_of(x), start, batch_size=200)
        kept, _ = solve(problem_of(x), start, batch_size=200, reassignment_ratio=0)
        assert mended.inertia < 0.5 * kept.inertia


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_labels_and_inertia_are_those_of_the_last_centroids(metric: str) -> None:
    x = oracle.rows("tenths", 60, 3, seed=5)
    x = x[(x != 0).any(axis=1)]
    weights = np.random.default_rng(0).uniform(0.5, 2, len(x))
    problem = posed(World(), x, weights, metric)
    solution, _ = solve(problem, x[:5], batch_size=20)
    seen, centroids = problem.shard.rows.numpy(), solution.centroids.numpy()
    assert solution.labels.tolist() == oracle.nearest(seen, centroids)
    assert solution.inertia == float(oracle.inertia(seen, centroids, solution.labels.numpy(), weights))
    if metric == "cosine":
        np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, rtol=1e-12)


def test_decay_forgets() -> None:
    """Where labels do not change, a centre is the mean of its rows, weighted by decay to the power of their age."""
    generator = np.random.default_rng(0)
    x = np.concatenate([generator.uniform(0, 1, (200, 2)), generator.uniform(10, 11, (200, 2))])
    problem, centroids = problem_of(x), torch.tensor([[0.5, 0.5], [10.5, 10.5]], dtype=torch.float64)
    solver = MiniBatch(batch_size=30, decay=0.7)
    course, state = solver.course(problem, centroids), State.start(centroids, 0)
    batches = [course.draws.batch(0, step).rows.numpy() for step in range(9)]
    for _ in batches:
        solver.step(problem, course, state)
    for cluster, mine in enumerate((x[:, 0] < 5, x[:, 0] > 5)):
        parts = [(batch[(batch[:, 0] > 5) == bool(cluster)], 0.7 ** (8 - step)) for step, batch in enumerate(batches)]
        weight = sum(len(rows) * share for rows, share in parts)
        mean = sum(rows.sum(0) * share for rows, share in parts) / weight
        np.testing.assert_allclose(state.centroids.numpy()[cluster], mean, rtol=1e-12)
        assert float(state.weights[cluster]) == pytest.approx(weight, rel=1e-12)
        assert mine.any()


def go_on(rank: int, size: int, x: np.ndarray, state: bytes | None, steps: int) -> bytes:
    problem = posed_part(rank, size, x, None, "euclidean")
    centroids = torch.from_numpy(x[:6])
    solver = MiniBatch(batch_size=50, max_no_improvement=None)
    course = solver.course(problem, centroids)
    now = State.start(centroids, 9) if state is None else pickle.loads(state)
    for _ in range(steps):
        solver.step(problem, course, now)
    return pickle.dumps(now)


def test_the_state_is_all_there_is(ranks: Ran) -> None:
    """A run that stops after any step and goes on elsewhere ends with the same bits."""
    x = oracle.rows("normal", 500, 4, seed=8)
    whole = pickle.loads(ranks(1)(go_on, 1, x, None, 25)[0])
    half = ranks(3)(go_on, 3, x, None, 11)[2]
    resumed = pickle.loads(ranks(2)(go_on, 2, x, half, 14)[1])
    for name, value in vars(whole).items():
        other = getattr(resumed, name)
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other, name
    solver, problem = MiniBatch(batch_size=50, max_no_improvement=None), problem_of(x)
    course = solver.course(problem, whole.centroids)
    assert finish(problem, course, resumed).inertia == finish(problem, course, whole).inertia


def count_reductions(rank: int, size: int, x: np.ndarray) -> list[int]:
    problem, centroids = posed_part(rank, size, x, None, "euclidean"), torch.from_numpy(x[:5])
    solver = MiniBatch(batch_size=64, reassignment_ratio=0)
    course, state, counts = solver.course(problem, centroids), State.start(centroids, 0), []
    for _ in range(5):
        solver.step(problem, course, state)
        counts.append(problem.world.reductions)
    return counts


def test_a_batch_is_one_all_reduce(ranks: Ran) -> None:
    counts = ranks(2)(count_reductions, 2, oracle.rows("normal", 500, 6, seed=0))
    assert {after - before for rank in counts for before, after in itertools.pairwise(rank)} == {1}


def fail_on(rank: int, size: int, x: np.ndarray, what: str) -> None:
    problem, centroids = posed_part(rank, size, x, None, "euclidean"), torch.from_numpy(x[:3])
    solver = MiniBatch(batch_size=40)
    course, state = solver.course(problem, centroids), State.start(centroids, 0)
    solver.step(problem, course, state)
    if rank == 1 and what == "differs":
        state.hashes = state.hashes + 1
    if rank == 1 and what == "fails":
        problem.shard.rows.resize_(0)
    solver.step(problem, course, state)


def test_a_rank_that_fails_takes_all_along(ranks: Ran) -> None:
    errors = ranks(3)(fail_on, 3, oracle.rows("normal", 90, 2, seed=0), "fails")
    assert all(isinstance(error, Exception) for error in errors)
    assert "rank 1 failed" in str(errors[0]) == str(errors[2])


def test_ranks_that_differ_are_told(ranks: Ran) -> None:
    for error in ranks(3)(fail_on, 3, oracle.rows("normal", 90, 2, seed=0), "differs"):
        assert isinstance(error, distkmeans.WorldError)
        assert "the centroids differ between ranks" in str(error)


def blobs() -> np.ndarray:
    return make_blobs(6000, 12, centers=15, cluster_std=2.0, random_state=1)[0].astype(np.float32)


@pytest.mark.parametrize(("name", "k"), [("blobs", 15), ("digits", 10)])
def test_as_good_as_scikit_learns(name: str, k: int) -> None:
    """The median inertia over ten seeds, from the same first centroids, is within 2 %."""
    x = blobs() if name == "blobs" else load_digits().data.astype(np.float32)
    problem, ours, theirs = problem_of(x), [], []
    for seed in range(10):
        start = kmeans_plusplus(x, k, random_state=seed)[0]
        ours.append(solve(problem, start, seed, batch_size=256)[0].inertia)
        peer = MiniBatchKMeans(k, init=start, n_init=1, batch_size=256, random_state=seed).fit(x)
        theirs.append(peer.inertia_)
    assert np.median(ours) <= 1.02 * np.median(theirs)


def test_values_of_any_size_stop_alike() -> None:
    """Distances are taken at a safe scale, where their squares neither overflow nor vanish."""
    x = oracle.rows("normal", 300, 3, seed=4).astype(np.float64)
    steps = []
    for exponent in (0, 700, -700):
        scaled = np.ldexp(x, exponent)
        solver, problem = MiniBatch(batch_size=30), problem_of(scaled)
        course = solver.course(problem, torch.from_numpy(scaled[:4]))
        state = State.start(torch.from_numpy(scaled[:4]), 0)
        solver.run(problem, course, state)
        assert state.smoothed is not None
        assert math.isfinite(state.smoothed)
        assert state.smoothed > 0
        steps.append((state.step, np.ldexp(state.centroids.numpy(), -exponent).tobytes()))
    assert len(set(steps)) == 1


def test_a_kernel_that_cannot_be_had_is_refused() -> None:
    x = oracle.rows("normal", 40, 3, seed=0).astype(np.float64)
    with pytest.raises(distkmeans.InputError, match=r"solver.kernel=narrow: it is for values of 32 bits and fewer"):
        solve(problem_of(x), x[:3], kernel="narrow")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["lattice", "far", "edge", "halves", "spread", "bytes"])
def test_compiled_kernels_change_nothing(kind: str, weighted: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    x = oracle.rows(kind, 400, 9, seed=3)
    weights = np.random.default_rng(1).uniform(0, 3, 400).astype(np.float32) if weighted else None
    found = []
    for choice in ("off", *native.variants()):
        monkeypatch.setenv(native.CHOICE, choice)
        solution, records = solve(
            posed(World(), x, weights), x[:20], batch_size=64, max_iter=3, max_no_improvement=None
        )
        told = repr([replace(record, seconds=0, judged=0) for record in records])
        found.append((solution.centroids.numpy().tobytes(), solution.labels.tolist(), solution.inertia, told))
    assert all(other == found[0] for other in found)
