from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy import stats
from sklearn.cluster import kmeans_plusplus
from sklearn.datasets import make_blobs

import distkmeans
from distkmeans.data.centroid_file import read_centroids
from distkmeans.exact.random import Stream
from distkmeans.init import Seeds, inits
from distkmeans.init.given import Called
from distkmeans.init.plus_plus import PlusPlus, greedy
from distkmeans.init.potential import Mass, Potential
from distkmeans.init.random import draw_rows
from distkmeans.init.smallest import smallest
from distkmeans.world import World, join
from tests import oracle
from tests.problems import problem_of, problem_of_rank
from tests.worlds import Ranks


def seed_rank(rank: int, size: int, x: np.ndarray, weights: np.ndarray | None, name: str, options: dict) -> list[int]:
    seeds = inits[name](**options)(problem_of_rank(rank, size, x, weights), 9, 3)
    assert seeds.rows is not None
    return seeds.rows


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("options", [{}, {"sample": 150}])
@pytest.mark.parametrize("name", ["plus_plus", "random", "parallel"])
def test_the_same_rows_at_any_world_size(
    ranks: Callable[[int], Ranks], name: str, options: dict[str, int], weighted: bool
) -> None:
    x = oracle.rows("normal", 700, 4, seed=0)
    weights = np.random.default_rng(1).uniform(0, 2, 700) if weighted else None
    expected = ranks(1)(seed_rank, 1, x, weights, name, options)
    assert len(set(expected[0])) == 9
    for size in (2, 3, 4):
        assert ranks(size)(seed_rank, size, x, weights, name, options) == expected * size


def test_seeds_are_rows() -> None:
    x = oracle.rows("normal", 100, 4, seed=0)
    for name in ("plus_plus", "random", "parallel"):
        seeds = inits.build(name)(problem_of(x), 7, 1)
        assert seeds.centroids.numpy().tolist() == x[seeds.rows].tolist()


class TestRandom:
    @pytest.mark.slow
    def test_rows_are_drawn_in_proportion_to_the_weights(self) -> None:
        weights = np.array([0.0, 1.0, 2.0, 5.0])
        problem = problem_of(np.arange(4.0)[:, None], weights)
        drawn = Counter(int(draw_rows(problem, 1, Stream(seed, "test"))[0]) for seed in range(4000))
        assert drawn[0] == 0
        assert stats.chisquare([drawn[1], drawn[2], drawn[3]], np.array([500, 1000, 2500])).pvalue > 1e-3

    def test_without_weights_all_alike_and_distinct(self) -> None:
        problem = problem_of(np.arange(5.0)[:, None])
        drawn: Counter[int] = Counter()
        for seed in range(2000):
            rows = draw_rows(problem, 2, Stream(seed, "test")).tolist()
            assert len(set(rows)) == 2
            drawn.update(rows)
        assert stats.chisquare(list(drawn.values())).pvalue > 1e-3

    def test_too_few_rows_with_weight(self) -> None:
        for name in ("random", "plus_plus", "parallel"):
            with pytest.raises(distkmeans.InputError, match="k=2: only 1 rows have"):
                distkmeans.fit(np.eye(3), 2, init=name, weights=[0, 1, 0])


class TestPlusPlus:
    def test_masses_are_the_true_squared_distances_on_the_grid(self) -> None:
        x = np.random.default_rng(0).integers(-50, 50, (300, 6)).astype(np.float64)
        weights = np.random.default_rng(1).integers(0, 2, 300).astype(np.float64)
        for w in (None, weights):
            potential = Potential(problem_of(x, w))
            points = potential.space.points(slice(0, len(potential.shard))).double()
            potential.add(torch.from_numpy(x[:2]))
            true = torch.minimum(((points - points[0]) ** 2).sum(1), ((points - points[1]) ** 2).sum(1)).long()
            scale = [1] * 300 if potential.weights is None else potential.weights.long().tolist()
            exact = [v * s for v, s in zip(true.tolist(), scale, strict=True)]
            assert potential.mass().totals() == [sum(exact)]
            ends = np.cumsum(np.array(exact, dtype=object))
            places = [0, 1, sum(exact) // 2, sum(exact) - 1]
            expected = [next(index for index, end in enumerate(ends) if place < end) for place in places]
            assert potential.rows_at(places) == expected

    @pytest.mark.slow
    def test_draws_follow_squared_distance(self) -> None:
        """With one local trial's worth of choice left (k = 2, D² on a line), against scikit-learn's own picks."""
        x = np.array([[0.0], [1.0], [3.0], [7.0]])
        ours = Counter(tuple(greedy(problem_of(x), 2, seed).tolist()) for seed in range(3000))
        theirs = Counter(tuple(kmeans_plusplus(x, 2, random_state=seed)[1].tolist()) for seed in range(3000))
        pairs = sorted(pair for pair in ours | theirs if ours[pair] + theirs[pair] > 20)
        table = [[ours[pair] for pair in pairs], [theirs[pair] for pair in pairs]]
        assert stats.chi2_contingency(table).pvalue > 1e-3

    @pytest.mark.slow
    @pytest.mark.parametrize("weighted", [False, True])
    def test_as_good_as_scikit_learns(self, weighted: bool) -> None:
        x, _ = make_blobs(600, 2, centers=15, cluster_std=0.7, random_state=1)
        weights = np.random.default_rng(0).uniform(0.1, 4, 600) if weighted else np.ones(600)

        def cost(rows: np.ndarray) -> float:
            return float(np.log((weights * ((x[:, None] - x[rows]) ** 2).sum(2).min(1)).sum()))

        ours = [cost(greedy(problem_of(x, weights), 15, seed).numpy()) for seed in range(60)]
        theirs = [cost(kmeans_plusplus(x, 15, sample_weight=weights, random_state=seed)[1]) for seed in range(60)]
        assert stats.ttest_ind(ours, theirs).pvalue > 1e-3

    def test_an_outlier_does_not_hide_the_rest(self) -> None:
        """The grid that holds the outlier puts all other rows into one cell."""
        near = np.concatenate([oracle.rows("normal", 50, 2, seed=c) * 0.01 + c for c in range(4)]).astype(np.float64)
        for outlier in (1e9, 1e15, 1e200):
            x = np.concatenate([near, [[outlier, 0.0]]])
            rows = greedy(problem_of(x), 5, 0).numpy()
            assert 200 in rows
            assert len(set(np.round(x[rows[rows < 200], 0]))) == 4

    def test_equal_rows_are_drawn_among_the_unchosen(self) -> None:
        rows = greedy(problem_of(np.ones((6, 2))), 4, 0).tolist()
        assert len(set(rows)) == 4

    def test_a_long_seeding_is_announced(self, caplog: pytest.LogCaptureFixture) -> None:
        from distkmeans.init import plus_plus

        problem = problem_of(oracle.rows("normal", 500, 4, seed=0))
        potential = Potential(problem)
        potential.add(torch.zeros(1, 4, dtype=torch.float64))
        plus_plus._announce(problem, potential, 10, 4)
        assert not caplog.text
        plus_plus._announce(problem, potential, 10**8, 20)
        assert "99,999,999 passes over 500 rows, about" in caplog.text
        assert "init=parallel" in caplog.text


class TestParallel:
    def test_oversampling_and_rounds_give_the_number_of_candidates(self) -> None:
        problem = problem_of(oracle.rows("normal", 4000, 3, seed=0))
        counts = [len(inits["parallel"](oversampling=0.5, rounds=5).candidates(problem, 40, seed)) for seed in range(8)]
        assert 70 < np.mean(counts) < 110  # 1 + 5 x 20, less those that p = 1 caps
        assert len(inits["parallel"](oversampling=2, rounds=1).candidates(problem, 40, 0)) < 120

    def test_nearly_as_good_as_plus_plus(self) -> None:
        x, _ = make_blobs(2000, 4, centers=20, random_state=0)
        costs = {
            name: np.median([distkmeans.fit(x, 20, init=name, seed=seed).inertia for seed in range(9)])
            for name in ("plus_plus", "parallel", "random")
        }
        assert costs["parallel"] < 1.3 * costs["plus_plus"] < costs["random"]

    def test_fewer_candidates_than_k_are_filled_up(self) -> None:
        seeds = inits["parallel"](oversampling=0.01, rounds=1)(problem_of(oracle.rows("normal", 50, 2, seed=0)), 30, 0)
        assert len(set(seeds.rows or [])) == 30

    @pytest.mark.parametrize("options", [{"oversampling": 0}, {"oversampling": -1.0}, {"rounds": 0}, {"sample": 0}])
    def test_refuses(self, options: dict[str, float]) -> None:
        with pytest.raises(distkmeans.InputError, match=rf"init\.{next(iter(options))}="):
            inits.build("parallel", options)


class TestGiven:
    x = oracle.rows("normal", 50, 3, seed=0)

    def test_files(self, tmp_path: Path) -> None:
        np.save(tmp_path / "c.npy", self.x[:4])
        save_file({"centroids": torch.from_numpy(self.x[:4])}, tmp_path / "c.safetensors")
        for name in ("c.npy", "c.safetensors"):
            seeds: Seeds = inits["file"](path=str(tmp_path / name))(problem_of(self.x), 4, 0)
            assert seeds.centroids.numpy().tolist() == self.x[:4].tolist()

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            (np.zeros((5, 3)), r"shape \(5, 3\); expected k=4 rows of 3 columns"),
            (np.zeros((4, 2)), r"shape \(4, 2\); expected k=4 rows of 3 columns"),
            (np.full((4, 3), np.nan), "NaN"),
            (np.full((4, 3), 1e300), "too large"),
        ],
    )
    def test_refused(self, tmp_path: Path, values: np.ndarray, says: str) -> None:
        np.save(tmp_path / "c.npy", values)
        with pytest.raises(distkmeans.InputError, match=f"init.path=.*c.npy: .*{says}"):
            inits["file"](path=str(tmp_path / "c.npy"))(problem_of(self.x), 4, 0)

    def test_unreadable(self, tmp_path: Path) -> None:
        with pytest.raises(distkmeans.InputError, match="not given"):
            inits.build("file")
        with pytest.raises(distkmeans.InputError, match="no such file"):
            read_centroids(str(tmp_path / "none.npy"), "init.path")
        (tmp_path / "c.safetensors").write_bytes(b"junk")
        with pytest.raises(distkmeans.InputError, match="cannot be read"):
            read_centroids(str(tmp_path / "c.safetensors"), "init.path")
        save_file({"other": torch.zeros(1)}, tmp_path / "d.safetensors")
        with pytest.raises(distkmeans.InputError, match="holds other; expected the tensor centroids"):
            read_centroids(str(tmp_path / "d.safetensors"), "init.path")

    def test_a_function(self) -> None:
        def last(rows: torch.Tensor, k: int, seed: int) -> torch.Tensor:
            return rows[-k:]

        assert Called(last)(problem_of(self.x), 4, 0).centroids.tolist() == self.x[-4:].tolist()
        assert distkmeans.fit(self.x, 4, init=last, max_iter=1).iterations == 1


def smallest_of(rank: int, size: int, keys: list[int], count: int) -> list[int]:
    world = join("cpu")
    mine = torch.arange(len(keys)) % size == rank
    return smallest(world, torch.tensor(keys)[mine], torch.arange(len(keys))[mine], count).tolist()


@pytest.mark.parametrize("count", [0, 1, 3, 5, 6, 9])
def test_smallest_breaks_ties_by_number(ranks: Callable[[int], Ranks], count: int) -> None:
    keys = [5, 2, 2, 2**62, 2, 0]
    expected = [5, 1, 2, 4, 0, 3][:count]
    assert ranks(3)(smallest_of, 3, keys, count) == [expected] * 3
    assert smallest(World(), torch.tensor(keys), torch.arange(6), count).tolist() == expected


def test_seeding_from_a_sample_only_takes_rows_of_it() -> None:
    problem = problem_of(oracle.rows("normal", 500, 2, seed=0))
    once = set(PlusPlus(sample=20)(problem, 10, 0).rows or [])
    twice = set(PlusPlus(sample=20)(problem, 20, 0).rows or [])
    assert once < twice
    with pytest.raises(distkmeans.InputError, match=r"init\.sample=5: fewer rows than k=10"):
        PlusPlus(sample=5)(problem, 10, 0)


def test_limbs_of_a_mass_add_up() -> None:
    assert Mass(torch.tensor([[1, 2, 3, 9]])).totals() == [(1 << 52) + (2 << 26) + 3]
