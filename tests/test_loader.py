"""Learning from loaders: batches that are never held together, on all ranks in step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import distkmeans
from distkmeans.data.batches import Batch
from distkmeans.data.blobs import Blobs
from distkmeans.errors import InputError
from distkmeans.solvers.gradient import Gradient
from distkmeans.solvers.minibatch import MiniBatch
from tests.conftest import ROOT
from tests.test_readme import blocks
from tests.worlds import Ranks


def blobs(count: int = 3000) -> np.ndarray:
    return Blobs(n_samples=count, n_features=3, centers=6, cluster_std=0.5).read(0, count).numpy()


def loader_of(x: np.ndarray, size: int = 250) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.from_numpy(x)), batch_size=size)


@pytest.mark.parametrize("solver", ["minibatch", "gradient", MiniBatch(max_iter=5), Gradient(max_iter=5, lr=0.02)])
def test_labels_and_inertia_belong_to_the_centroids(solver: Any) -> None:
    x = blobs()
    found = distkmeans.fit(loader_of(x), 6, solver=solver, seed=1)
    distance = ((x[:, None].astype(np.float64) - found.centroids.astype(np.float64)[None]) ** 2).sum(2)
    np.testing.assert_array_equal(found.labels, distance.argmin(1))
    assert found.inertia == pytest.approx(distance.min(1).sum(), rel=1e-12)
    assert found.inertia < 1.1 * distkmeans.fit(x, 6, n_init=3).inertia
    assert 0 < found.iterations <= getattr(solver, "max_iter", 100)


class Growing:
    """Walked through as often as one likes; tells how often that was."""

    def __init__(self, parts: list[Any]) -> None:
        self.parts, self.walks = parts, 0

    def __iter__(self) -> Iterator[Any]:
        self.walks += 1
        return iter(self.parts)


def test_a_generator_is_walked_through_once() -> None:
    x = blobs()
    parts = np.array_split(x, 10)
    found = distkmeans.fit(iter(parts), 6, solver="minibatch")
    assert found.labels is None
    assert found.iterations == 1
    again = Growing(parts)
    once = distkmeans.fit(again, 6, solver=MiniBatch(max_iter=1))
    assert again.walks == 2  # to learn, and to label
    assert found.centroids.tobytes() == once.centroids.tobytes()
    assert found.inertia > once.inertia > 0  # before the centroids moved


def test_the_first_batches_are_joined_to_seed_from() -> None:
    x = blobs(300)
    found = distkmeans.fit(([row] for row in x.tolist()), 6, solver="minibatch")
    assert found.centroids.shape == (6, 3)
    with pytest.raises(InputError, match="k=6: more clusters than the 4 rows"):
        distkmeans.fit(iter([x[:4]]), 6, solver="minibatch")


def stream_rank(rank: int, size: int, parts: list[np.ndarray], numbers: list[np.ndarray] | None, solver: Any) -> Any:
    """Every batch is divided between the ranks; with numbers, by a rule that has nothing to do with their order."""

    def mine() -> Iterator[Batch]:
        for index, part in enumerate(parts):
            where = np.arange(len(part)) % size == rank
            if numbers is None:
                cut = [len(part) * place // size for place in range(size + 1)]
                where = slice(cut[rank], cut[rank + 1])
            yield Batch(part[where], None if numbers is None else numbers[index][where])

    result = distkmeans.fit(Growing(list(mine())), 6, solver=solver, seed=2)
    return result.centroids, result.labels, result.inertia


@pytest.mark.parametrize("numbered", [False, True])
def test_the_same_bits_however_batches_are_divided(ranks: Callable[[int], Ranks], numbered: bool) -> None:
    x = blobs(1000)
    parts = np.array_split(x, 7)
    numbers = np.array_split(1000 * np.arange(1000), 7)
    arguments = (parts, numbers if numbered else None, MiniBatch(max_iter=3))
    ((centroids, labels, inertia),) = ranks(1)(stream_rank, 1, *arguments)
    for size in (2, 3):
        results = ranks(size)(stream_rank, size, *arguments)
        for found in results:
            assert found[0].tobytes() == centroids.tobytes()
            assert found[2] == inertia
        assert sorted(np.concatenate([found[1] for found in results])) == sorted(labels)


def uneven_rank(rank: int, size: int, x: np.ndarray) -> Any:
    """Ranks with 0, 3 and 6 batches."""
    parts = np.array_split(x, 6)[: 3 * rank]
    result = distkmeans.fit(Growing(parts), 6, solver=MiniBatch(max_iter=2))
    return result.centroids, result.labels


def test_ranks_may_have_different_numbers_of_batches(ranks: Callable[[int], Ranks]) -> None:
    results = ranks(3)(uneven_rank, 3, blobs(600))
    assert len({centroids.tobytes() for centroids, _ in results}) == 1
    assert [len(labels) for _, labels in results] == [0, 300, 600]


def breaking_rank(rank: int, size: int) -> Any:
    def mine() -> Iterator[Any]:
        yield blobs(100)
        if rank == 1:
            raise RuntimeError("the disk is gone")
        yield blobs(100)

    return distkmeans.fit(mine(), 3, solver="minibatch")


def test_a_loader_that_breaks_on_one_rank_ends_all(ranks: Callable[[int], Ranks]) -> None:
    for result in ranks(2)(breaking_rank, 2):
        assert isinstance(result, Exception)
        assert "the disk is gone" in str(result)


def generator_beside_loader(rank: int, size: int) -> Any:
    return distkmeans.fit(loader_of(blobs(100)) if rank == 0 else iter([]), 3, solver="minibatch")


def loader_beside_none(rank: int, size: int) -> Any:
    return distkmeans.fit(loader_of(blobs(100)) if rank == 0 else DataLoader([]), 3, solver="minibatch").labels


def test_all_ranks_walk_equally_often(ranks: Callable[[int], Ranks]) -> None:
    for result in ranks(2)(generator_beside_loader, 2):
        assert "x differs between ranks: rank 0 has a loader, rank 1 has a generator" in str(result)
    assert [len(labels) for labels in ranks(2)(loader_beside_none, 2)] == [100, 0]


def bad_row_of_rank(rank: int, size: int, numbered: bool) -> Any:
    """NaN in the fourth row of the second rank's third batch."""
    parts = [blobs(50) for _ in range(3)]
    if rank == 1:
        parts[2][3, 0] = np.nan
    numbers = np.arange(50) * size + rank if numbered else None
    return distkmeans.fit(Growing([Batch(part, numbers) for part in parts]), 3, solver="minibatch")


@pytest.mark.parametrize(("numbered", "told"), [(False, "x of rank 1, row 103"), (True, "x, row 7 in the order")])
def test_a_bad_row_is_named(ranks: Callable[[int], Ranks], numbered: bool, told: str) -> None:
    for result in ranks(2)(bad_row_of_rank, 2, numbered):
        assert str(result).startswith(told)
        assert "nan in column 0" in str(result)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"solver": MiniBatch(tol=0.1)},
            "solver.tol=0.1: a share of the variance of all rows, which a loader hides; use 0",
        ),
        ({"solver": "minibatch", "n_init": 2}, "n_init=2: a loader is learned from once"),
        ({"solver": "minibatch", "metric": "manhattan"}, "metric=manhattan solver=minibatch"),
        ({"solver": "minibach"}, "solver=minibach: unknown; .*did you mean minibatch"),
    ],
)
def test_mistakes_are_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        distkmeans.fit(loader_of(blobs(100)), 3, **options)


@pytest.mark.parametrize("solver", ["minibatch", "gradient"])
def test_the_width_of_a_later_batch(solver: str) -> None:
    with pytest.raises(InputError, match="x: 2 columns; the batches before had 3"):
        distkmeans.fit(iter([blobs(100), blobs(100)[:, :2]]), 3, solver=solver)


class Spent(Growing):
    """Goes on where the walk before has ended."""

    def __init__(self, parts: list[Any]) -> None:
        super().__init__(parts)
        self.left = iter(parts)

    def __iter__(self) -> Iterator[Any]:
        return self.left


@pytest.mark.parametrize("passes", [1, 5])
def test_what_does_not_begin_anew(passes: int) -> None:
    with pytest.raises(InputError, match="x: no rows came when it was walked through again"):
        distkmeans.fit(Spent([blobs(100)]), 3, solver=MiniBatch(max_iter=passes))


def test_numbers_in_some_batches() -> None:
    x = blobs(100)
    with pytest.raises(InputError, match="x: numbers are given in some batches, not in all"):
        distkmeans.fit(Growing([Batch(x, np.arange(100)), x]), 3, solver=MiniBatch(max_iter=1))


def test_the_examples_of_the_docs_run() -> None:
    for code in blocks("python", (ROOT / "docs" / "loaders.md").read_text()):
        exec(compile(code, "loaders.md", "exec"), {"__name__": "loaders"})
