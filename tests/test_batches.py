"""Rows that come in batches: loaders, datasets with workers, generators; told apart by numbers, or by their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, IterableDataset, TensorDataset, get_worker_info

import distkmeans
from distkmeans.data import batches
from distkmeans.data.batches import Batch, gathered, is_batches, is_once, numbered
from distkmeans.data.shard import own_shard
from distkmeans.errors import InputError
from distkmeans.world import join
from tests import oracle
from tests.worlds import Ranks

OPTIONS: dict[str, Any] = {"max_iter": 8, "tol": 0, "seed": 3}


def rows(count: int = 203, dims: int = 4) -> np.ndarray:
    return oracle.rows("normal", count, dims, seed=1)


class Numbered(Dataset[dict[str, Any]]):
    """A map-style dataset that tells each row's number."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"rows": self.x[index], "numbers": index}


class Streamed(IterableDataset[Any]):
    """Each worker yields every n-th row."""

    def __init__(self, x: np.ndarray) -> None:
        self.x = x

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for index in range(first, len(self.x), step):
            yield {"rows": self.x[index], "numbers": index}


def test_what_counts_as_batches() -> None:
    x = rows()
    assert is_batches(DataLoader(TensorDataset(torch.from_numpy(x))))
    assert is_batches(iter([x]))
    assert not any(map(is_batches, (x, torch.from_numpy(x), x.tolist(), TensorDataset(torch.from_numpy(x)))))
    assert is_once(iter([x]))
    assert not is_once(DataLoader(TensorDataset(torch.from_numpy(x))))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_what_the_array_gives(workers: int) -> None:
    x = rows()
    expected = distkmeans.fit(x, 7, **OPTIONS)
    classes = torch.arange(len(x))
    for loader in (
        DataLoader(TensorDataset(torch.from_numpy(x), classes), batch_size=50, num_workers=workers),
        DataLoader(Streamed(x), batch_size=16, num_workers=workers),
        DataLoader(Numbered(x), batch_size=16, shuffle=True, num_workers=workers),
    ):
        result = distkmeans.fit(loader, 7, **OPTIONS)
        assert result.inertia == expected.inertia
        assert result.centroids.tobytes() == expected.centroids.tobytes()


def test_labels_come_in_the_order_of_the_batches() -> None:
    x = rows()
    expected = distkmeans.fit(x, 7, **OPTIONS).labels
    order = np.random.default_rng(0).permutation(len(x))
    shuffled = ({"rows": x[part], "numbers": part} for part in np.array_split(order, 9))
    np.testing.assert_array_equal(distkmeans.fit(shuffled, 7, **OPTIONS).labels, expected[order])
    np.testing.assert_array_equal(
        distkmeans.fit((x[at : at + 10] for at in range(0, 203, 10)), 7, **OPTIONS).labels, expected
    )


def test_weights_in_the_batches() -> None:
    x, weights = rows(), np.random.default_rng(0).uniform(0, 2, 203).astype(np.float32)
    expected = distkmeans.fit(x, 5, weights=weights, **OPTIONS)
    parts = (Batch(x[part], part, weights[part]) for part in np.array_split(np.arange(203)[::-1], 5))
    result = distkmeans.fit(parts, 5, **OPTIONS)
    assert result.centroids.tobytes() == expected.centroids.tobytes()
    with pytest.raises(InputError, match="weights: given beside batches; give each batch its own"):
        distkmeans.fit(iter([x]), 5, weights=weights)


def number_rank(rank: int, size: int, numbers: list[np.ndarray], weighted: bool, piece: int) -> Any:
    world = join("cpu")
    mine = torch.from_numpy(numbers[rank])
    weights = mine.to(torch.float32) % 7 if weighted else None
    shard = own_shard(world, torch.stack([mine, -mine], 1).to(torch.float32), weights)
    batches.CHUNK, batches.PIECE_BYTES = piece, piece
    try:
        found = numbered(world, shard, mine)
    finally:
        batches.CHUNK, batches.PIECE_BYTES = 1 << 22, 1 << 24
    return found.rows.tolist(), None if found.weights is None else found.weights.tolist(), found.start, found.total


@pytest.mark.parametrize("piece", [5, 1 << 22])
@pytest.mark.parametrize("spread", [1, 10**12])
@pytest.mark.parametrize("weighted", [False, True])
def test_rows_go_to_where_their_numbers_say(
    ranks: Callable[[int], Ranks], piece: int, spread: int, weighted: bool
) -> None:
    """Numbers are closed up, repeated rows count once, parts are even and contiguous."""
    rng = np.random.default_rng(0)
    numbers = [np.sort(rng.choice(40, count) - 3) * spread for count in (12, 0, 25)]
    numbers[2] = rng.permutation(numbers[2])
    expected = np.unique(np.concatenate(numbers)).astype(np.float32)
    parts = ranks(3)(number_rank, 3, numbers, weighted, piece)
    at = 0
    for rank, (values, weights, start, total) in enumerate(parts):
        assert (start, total) == (at, len(expected))
        assert len(values) == len(expected) * (rank + 1) // 3 - len(expected) * rank // 3
        part = expected[at : at + len(values)]
        np.testing.assert_array_equal(np.array(values), np.stack([part, -part], 1))
        assert weights == ((torch.from_numpy(part) % 7).tolist() if weighted else None)
        at += len(values)


def fit_sampled(rank: int, size: int, x: np.ndarray, options: dict[str, Any]) -> Any:
    data = Numbered(x)
    sampler: DistributedSampler[Any] = DistributedSampler(data, size, rank, shuffle=True)  # pads to a multiple of size
    result = distkmeans.fit(DataLoader(data, batch_size=20, sampler=sampler), **options)
    return list(sampler), result.labels, result.centroids, result.inertia


def fit_first_alone(rank: int, size: int, x: np.ndarray, options: dict[str, Any]) -> Any:
    return distkmeans.fit(DataLoader(Numbered(x), batch_size=20) if rank == 0 else iter([]), **options).labels


def test_ranks_without_rows_get_no_labels(ranks: Callable[[int], Ranks]) -> None:
    """Though rows of the first one go there."""
    x = rows()
    first, *others = ranks(3)(fit_first_alone, 3, x, {"k": 7, **OPTIONS})
    np.testing.assert_array_equal(first, distkmeans.fit(x, 7, **OPTIONS).labels)
    assert [len(labels) for labels in others] == [0, 0]


@pytest.mark.parametrize("size", [2, 3, 4])
def test_a_distributed_sampler_changes_nothing(ranks: Callable[[int], Ranks], size: int) -> None:
    x = rows()
    expected = distkmeans.fit(x, 7, **OPTIONS)
    for numbers, labels, centroids, inertia in ranks(size)(fit_sampled, size, x, {"k": 7, **OPTIONS}):
        assert centroids.tobytes() == expected.centroids.tobytes()
        assert inertia == expected.inertia
        np.testing.assert_array_equal(labels, expected.labels[numbers])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "x: 0 rows of 0 columns; there is nothing to do"),
        ([np.zeros((3, 2)), np.zeros((3, 4))], "x, batch 1: 4 columns of torch.float64, but batch 0 has 2"),
        ([{"x": np.zeros((3, 2))}], "x, batch 0: a dict of x; expected rows, and maybe numbers and weights"),
        ([Batch(np.zeros((3, 2)), [1, 2])], "x, batch 0: 2 numbers of torch.int64 for 3 rows"),
        (
            [Batch(np.zeros((3, 2)), [1, 2, 3]), np.zeros((3, 2))],
            "x, batch 1: numbers are given in some",
        ),
        ([Batch(np.zeros((3, 2)), None, [1.0])], "x, batch 0: 1 weights for 3 rows; one for each"),
        ([np.zeros((3, 2, 2))], "x, batch 0: 3 dimensions"),
        ([Batch(np.zeros((2, 2)), ["a", "b"])], "x, batch 0: numbers of type <U1; expected one number for each row"),
        ([Batch(np.zeros((2, 2)), None, ["a", "b"])], "x, batch 0: weights of type <U1; expected one number for each"),
        ([[[1.0, 2.0], [3.0]]], "x, batch 0: a list that is no array"),
    ],
)
def test_mistakes_are_told(given: list[Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        distkmeans.fit(iter(given), 2)
    if given:
        with pytest.raises(InputError):
            gathered(iter(given))
