from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import distkmeans
from distkmeans.errors import InputError, WorldError
from distkmeans.launcher import _first_host, _slurm
from distkmeans.world import World, join, pick_device
from tests.worlds import Ranks


def guarded(rank: int, failing: dict[int, Exception]) -> None:
    with join("cpu").guard():
        if rank in failing:
            raise failing[rank]


def test_an_error_on_one_rank_is_raised_on_all(ranks: Callable[[int], Ranks]) -> None:
    assert ranks(3)(guarded, {}) == [None] * 3
    mistakes = ranks(3)(guarded, {1: InputError("row 7"), 2: InputError("row 9")})
    assert [(type(error), str(error)) for error in mistakes] == [(InputError, "row 7")] * 3
    faults = ranks(3)(guarded, {2: KeyError("oops")})
    assert [type(error) for error in faults] == [WorldError, WorldError, KeyError]
    assert str(faults[0]) == "rank 2 failed: KeyError: 'oops'"


def agreed(rank: int, values: list[str]) -> None:
    join("cpu").agree("the data", values[rank], "use the same files")


def test_agree_names_the_ranks_that_differ(ranks: Callable[[int], Ranks]) -> None:
    assert ranks(4)(agreed, ["a"] * 4) == [None] * 4
    errors = ranks(4)(agreed, ["a", "a", "b", "c"])
    assert {str(error) for error in errors} == {
        "the data differs between ranks: rank 0 has a, rank 2 has b (ranks that differ from rank 0: 2, 3);"
        " use the same files"
    }


def exchange(rank: int) -> dict[str, Any]:
    world = join("cpu")
    return {
        "sum": world.sum_(torch.tensor([rank, 2**60])).tolist(),
        "max": world.max_(torch.tensor([float(rank), -1.0])).tolist(),
        "per_rank": world.per_rank(torch.tensor([rank, 1])).tolist(),
        "concat": world.concat(torch.full((rank, 2), rank)).tolist(),
        "share": world.share({"rank": rank}),
        "alone": world.alone().sum_(torch.tensor([rank])).tolist(),
    }


def test_collectives(ranks: Callable[[int], Ranks]) -> None:
    for rank, result in enumerate(ranks(3)(exchange)):
        assert result == {
            "sum": [3, 3 * 2**60],
            "max": [2.0, -1.0],
            "per_rank": [[0, 1], [1, 1], [2, 1]],
            "concat": [[1, 1], [2, 2], [2, 2]],
            "share": {"rank": 0},
            "alone": [rank],
        }


def test_a_world_of_one_needs_no_process_group() -> None:
    world = World()
    assert world.concat(torch.arange(3)).tolist() == [0, 1, 2]
    assert world.collect("a") == ["a"]
    with pytest.raises(KeyError), world.guard():
        raise KeyError


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("gpu[003-007,9],cpu1", "gpu003"), ("n1", "n1"), ("a1,a2", "a1"), ("r[1,3]-x", "r1-x"), ("node-7", "node-7")],
)
def test_first_host_of_a_node_list(nodes: str, first: str) -> None:
    assert _first_host(nodes) == first


def test_slurm_places() -> None:
    task = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "12"}
    task |= {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_ID": "0", "SLURM_TASKS_PER_NODE": "4(x2)"}
    place = _slurm(task)
    assert place is not None
    assert (place.rank, place.size, place.local_rank, place.local_size) == (5, 8, 1, 4)
    assert str(place.master).startswith("n1:")
    assert _slurm({**task, "SLURM_NTASKS": "1"}) is None
    assert _slurm({"SLURM_NTASKS": "8"}) is None  # a shell inside an allocation
    batch = {name: value for name, value in task.items() if not name.startswith("SLURM_STEP")}
    assert _slurm({**batch, "ENVIRONMENT": "BATCH"}) is None  # a batch script's own process


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_devices() -> None:
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match=r"run\.device=cuda"):
        pick_device("cuda")
    with pytest.raises(InputError, match=r"run\.device=gpu: expected auto, cpu or cuda"):
        pick_device("gpu")


def fit_own(rank: int, x: np.ndarray, size: int) -> tuple[list[int], float, str]:
    import logging

    heard: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("distkmeans").addHandler(handler)
    result = distkmeans.fit(x if size == 0 else x[rank::size], 3)
    logging.getLogger("distkmeans").removeHandler(handler)
    return result.labels.tolist(), result.inertia, " ".join(heard)


def test_each_rank_passes_its_own_rows(ranks: Callable[[int], Ranks]) -> None:
    x = np.random.default_rng(0).standard_normal((31, 2))
    results = ranks(2)(fit_own, x, 2)
    assert [len(labels) for labels, _, _ in results] == [16, 15]
    joined = np.concatenate([x[0::2], x[1::2]])
    assert results[0][1] == distkmeans.fit(joined, 3).inertia
    assert not results[0][2]


def test_ranks_that_all_pass_the_same_are_told(ranks: Callable[[int], Ranks]) -> None:
    results = ranks(2)(fit_own, np.random.default_rng(0).standard_normal((30, 2)), 0)
    assert "all 2 ranks pass the same 30 rows, which count 2 times" in results[0][2]
    assert not results[1][2]


def fit_mismatched(rank: int) -> None:
    distkmeans.fit(np.zeros((5, 2 + rank)), 2)


def test_ranks_with_different_widths(ranks: Callable[[int], Ranks]) -> None:
    for error in ranks(2)(fit_mismatched):
        assert str(error) == (
            "x: rank 1 passes 3 columns of float64 without weights, rank 0 2 columns of float64 without weights"
        )
