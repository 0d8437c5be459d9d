"""Seeding that touches only the rows that may come closer picks what a plain one picks, which measures all of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distkmeans import native
from distkmeans.exact import floats
from distkmeans.exact.random import Stream
from distkmeans.init import inits, mass, potential
from distkmeans.init.lattice import Lattice
from distkmeans.init.parallel import Parallel, _weights
from distkmeans.init.plus_plus import greedy, trials
from distkmeans.init.potential import COARSE_CELLS, Potential
from distkmeans.init.random import draw_rows
from distkmeans.problem import Problem
from tests import oracle
from tests.problems import problem_of, problem_of_rank
from tests.worlds import Ranks

KINDS = ["lattice", "tenths", "duplicates", "spread", "far", "edge", "edge64", "bytes", "halves", "normal", "outlier"]


class Plain:
    """All rows against all centres: integers from the grid, or float64 in a fixed order where that is too coarse."""

    def __init__(self, problem: Problem) -> None:
        grid = Potential(problem)
        self.problem, self.by = problem, grid.by
        self.points = grid.space.points(slice(0, len(problem.shard))).to(torch.float64)
        weights = torch.ones(len(self.points)) if grid.weights is None else grid.weights
        self.weights = [int(weight) for weight in weights.tolist()]
        self.nearest = torch.full((len(self.points),), torch.inf, dtype=torch.float64)
        self.owner, self.count, self.coarse = [0] * len(self.points), 0, False

    def distances(self, rows: torch.Tensor) -> torch.Tensor:
        if not self.coarse:
            return (self.points[:, None] - self.points[rows]).square().sum(2)
        x = floats.scale(self.problem.shard.rows.to(torch.float64), self.by)
        return floats.sum_columns((x[:, None] - x[rows]) ** 2)

    def add(self, rows: torch.Tensor) -> None:
        distances = self.distances(rows)
        nearest = distances.argmin(1)
        if self.coarse:  # of the true nearest
            x = self.problem.shard.rows.numpy()
            nearest = torch.tensor(oracle.nearest(x, x[rows.numpy()]))
        found = distances[torch.arange(len(distances)), nearest]
        owner = torch.tensor(self.owner)
        self.owner = torch.where(found < self.nearest, nearest + self.count, owner).tolist()
        self.nearest = torch.minimum(self.nearest, found)
        self.count += len(rows)

    def masses(self, nearest: torch.Tensor, unit: int) -> list[int]:
        whole = floats.scale(nearest, -unit).floor() if self.coarse else nearest
        return [int(value) * weight for value, weight in zip(whole.tolist(), self.weights, strict=True)]

    def settle(self, picked: torch.Tensor) -> int:
        """Whether to go over to float64; the unit of masses."""
        masses = self.masses(self.nearest, 0)
        above = sum(value > 0 for value in masses)
        if not self.coarse and sum(masses) < COARSE_CELLS * self.points.shape[1] * max(above, 1):
            self.coarse, self.count = True, 0
            self.nearest.fill_(torch.inf)
            self.add(picked)
        largest = self.nearest.max()
        return int(floats.exponent(largest[None])) - 52 if self.coarse and largest > 0 else 0


def plain_greedy(problem: Problem, k: int, seed: int) -> list[int]:
    picked, plain = draw_rows(problem, 1, Stream(seed, "plus_plus/first")), Plain(problem)
    plain.add(picked)
    while len(picked) < k:
        unit = plain.settle(picked)
        masses = plain.masses(plain.nearest, unit)
        if not sum(masses):
            rest = draw_rows(problem, k - len(picked), Stream(seed, "plus_plus/rest"), without=picked)
            return torch.cat([picked, rest]).tolist()
        ends, stream = np.cumsum(np.array(masses, dtype=object)), Stream(seed, "plus_plus/draw", len(picked))
        places = [stream.integer(1 << 504, trial) * sum(masses) >> 504 for trial in range(trials(k))]
        drawn = torch.tensor([next(row for row, end in enumerate(ends) if place < end) for place in places])
        closer = torch.minimum(plain.nearest[:, None], plain.distances(drawn)).unbind(1)
        left = [sum(plain.masses(column, unit)) for column in closer]
        best = drawn[left.index(min(left))][None]
        plain.nearest = torch.minimum(plain.nearest, plain.distances(best)[:, 0])
        picked = torch.cat([picked, best])
    return picked.tolist()


def plain_parallel(problem: Problem, k: int, seed: int, oversampling: float) -> tuple[list[int], list[int]]:
    """The candidates of two rounds, as they come, and what the rows nearest to each weigh."""
    picked, plain = draw_rows(problem, 1, Stream(seed, "parallel/first")), Plain(problem)
    plain.add(picked)
    numbers = torch.arange(len(plain.points))
    for step in range(2):
        unit = plain.settle(picked)
        masses = plain.masses(plain.nearest, unit)
        chances = Stream(seed, "parallel/draw", step).uniform(numbers).tolist()
        drawn = [n for n, c in enumerate(chances) if c * float(sum(masses)) < float(masses[n]) * (oversampling * k)]
        if drawn:
            plain.add(torch.tensor(drawn))
            picked = torch.cat([picked, torch.tensor(drawn)])
    weights = problem.shard.weights
    each = [1] * len(numbers) if weights is None else weights.to(torch.int64).tolist()
    totals = [sum(w for w, owner in zip(each, plain.owner, strict=True) if owner == c) for c in range(plain.count)]
    return picked.tolist(), totals


def rows_of(kind: str, count: int, dims: int, seed: int) -> np.ndarray:
    x = oracle.rows("normal" if kind == "outlier" else kind, count, dims, seed)
    if kind == "outlier":
        x[seed % count] *= np.float32(10.0 ** (seed % 12))
    return x


def weights_of(kind: str, count: int, seed: int) -> np.ndarray | None:
    generator = np.random.default_rng(seed + 1)
    if kind == "none":
        return None
    weights = generator.integers(0, 2, count) if kind == "zeros and ones" else generator.uniform(0, 3, count)
    weights[: min(12, count)] = 1  # enough rows for every k below
    return weights.astype(np.float64)


CHOICES = ["off", *native.variants()]
cases = {
    "kind": st.sampled_from(KINDS),
    "weighting": st.sampled_from(["none", "zeros and ones", "uniform"]),
    "count": st.integers(12, 120),
    "dims": st.sampled_from([1, 2, 3, 17, 64]),
    "k": st.integers(1, 12),
    "seed": st.integers(0, 1000),
}


@settings(max_examples=120, deadline=None)
@given(choice=st.sampled_from(CHOICES), **cases)
def test_greedy_picks_what_a_plain_one_picks(
    choice: str, kind: str, weighting: str, count: int, dims: int, k: int, seed: int
) -> None:
    problem = problem_of(rows_of(kind, count, dims, seed), weights_of(weighting, count, seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(native.CHOICE, choice)
        assert greedy(problem, k, seed).tolist() == plain_greedy(problem, k, seed)


@pytest.mark.parametrize("weighting", ["none", "uniform"])
@pytest.mark.parametrize(("dims", "spread"), [(2, 0.0), (2, 1e-3), (24, 0.1), (200, 1.0)])
def test_compiled_rounds_pick_what_torch_picks(
    monkeypatch: pytest.MonkeyPatch, dims: int, spread: float, weighting: str
) -> None:
    """Clusters so tight that most rows are passed over, on a lattice of centres, where distances tie."""
    generator = np.random.default_rng(dims)
    x = generator.integers(0, 3, (5000, dims)) + spread * generator.standard_normal((5000, dims))
    problem, found = problem_of(x.astype(np.float32), weights_of(weighting, 5000, 0)), []
    for choice in CHOICES:
        monkeypatch.setenv(native.CHOICE, choice)
        found.append(greedy(problem, 70, 0).tolist())
    assert found.count(found[0]) == len(found)


@settings(max_examples=40, deadline=None)
@given(oversampling=st.sampled_from([0.5, 3.0]), **cases)
def test_parallel_draws_and_weighs_what_a_plain_one_does(
    kind: str, weighting: str, count: int, dims: int, k: int, seed: int, oversampling: float
) -> None:
    weights = weights_of("zeros and ones" if weighting == "uniform" else weighting, count, seed)
    problem = problem_of(rows_of(kind, count, dims, seed), weights)
    drawn, left = Parallel(oversampling, rounds=2)._draw(problem, k, seed)
    expected, totals = plain_parallel(problem, k, seed, oversampling)
    assert drawn.tolist() == expected
    assert _weights(problem, left).tolist() == totals


def seed_rank(rank: int, size: int, x: np.ndarray, weights: np.ndarray | None, name: str, k: int, seed: int) -> list:
    torch.set_num_threads(1 + (size + rank) % 2)
    rows = inits[name]()(problem_of_rank(rank, size, x, weights), k, seed).rows
    torch.set_num_threads(1)
    assert rows is not None
    return rows


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["plus_plus", "parallel"]), size=st.sampled_from([2, 3, 4]), **cases)
def test_ranks_pick_what_one_picks(
    ranks: Callable[[int], Ranks],
    name: str,
    size: int,
    kind: str,
    weighting: str,
    count: int,
    dims: int,
    k: int,
    seed: int,
) -> None:
    x, weights = rows_of(kind, count, dims, seed), weights_of(weighting, count, seed)
    expected = inits[name]()(problem_of(x, weights), k, seed).rows
    assert ranks(size)(seed_rank, size, x, weights, name, k, seed) == [expected] * size


@pytest.mark.parametrize("kept", [1 << 24, 2000])
@pytest.mark.parametrize("weighting", ["none", "uniform"])
@pytest.mark.parametrize(("kind", "dims"), [("normal", 60), ("bytes", 5), ("outlier", 5)])
@pytest.mark.parametrize("choice", ["off", "auto"])
def test_tiles_do_not_matter(
    monkeypatch: pytest.MonkeyPatch, choice: str, kind: str, dims: int, weighting: str, kept: int
) -> None:
    """Many tiles, chunks and blocks, and no room to keep the distances of the rounds that open many rows."""
    monkeypatch.setenv(native.CHOICE, choice)
    x, weights = rows_of(kind, 2300, dims, 11), weights_of(weighting, 2300, 0)
    expected = plain_greedy(problem_of(x, weights), 12, 0)
    monkeypatch.setattr(potential, "TILE_ROWS", 2 * mass.BLOCK_ROWS)
    monkeypatch.setattr(potential, "CHUNK_ELEMENTS", 1)
    monkeypatch.setattr(potential, "KEPT_ELEMENTS", kept)
    assert greedy(problem_of(x, weights), 12, 0).tolist() == expected


@settings(max_examples=60, deadline=None)
@given(
    dims=st.sampled_from([1, 2, 16, 100, 192]),
    away=st.sampled_from([0.0, 1.0, 1e3, 1e6]),
    spread=st.sampled_from([1e-4, 1.0]),
    seed=st.integers(0, 1000),
)
def test_every_row_that_comes_closer_is_open(dims: int, away: float, spread: float, seed: int) -> None:
    """Rows at a distance that is larger by the least there is than to the new centre are open; equal may be closed."""
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((200, dims)) * spread + away * (np.arange(200) % 2)[:, None]
    space = Potential(problem_of(x.astype(np.float32))).space
    assert isinstance(space, Lattice)
    placed = space.place(torch.from_numpy(x[:3].astype(np.float32).astype(np.float64)))
    distances = space.distances(torch.arange(200), placed)
    for column in range(3):
        space.follow(slice(0, 200), distances[:, column] + 1)
        assert space.open_rows(slice(0, 200), placed).tolist() == list(range(200))
    nearest = distances.amin(1)
    space.follow(slice(0, 200), nearest * 0.99 - 1 - 2.0**-10 * space.squares)
    assert not len(space.open_rows(slice(0, 200), placed))
