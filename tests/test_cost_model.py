"""The model of an iteration's seconds: what it counts is what is sent, and it finds the rates that it is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from distkmeans.cost_model import Link, Rates, Sample, Size, calibrated, predicted
from distkmeans.solvers.lloyd import Lloyd
from tests import oracle
from tests.problems import problem_of_rank
from tests.worlds import Ranks

RATES = Rates(assign=4e10, copy=1e10, passes=50, overhead=0.003)
LINK = Link(bandwidth=1e9, latency=1e-4)


def bytes_sent(rank: int, size: int, x: np.ndarray) -> tuple[list[int], int]:
    problem, sent = problem_of_rank(rank, size, x), []
    world, sum_ = problem.world, problem.world.sum_
    world.sum_ = lambda values: sent.append(values.numel() * values.itemsize) or sum_(values)
    Lloyd(max_iter=1, tol=0).fit(problem, torch.from_numpy(x[:5]), lambda record: None)
    return sent, problem.grid.limbs


def test_the_packet_is_what_an_iteration_sends(ranks: Callable[[int], Ranks]) -> None:
    x = oracle.rows("normal", 500, 7, seed=0).astype(np.float32)
    for sent, limbs in ranks(2)(bytes_sent, 2, x):
        assert Size(500, 7, 5, ranks=2, limbs=limbs).packet_bytes in sent


def test_a_ring_sends_the_packet_almost_twice() -> None:
    size = Size(1000, 16, 8)
    assert LINK.seconds(size) == 0
    two, many = (replace(size, ranks=ranks) for ranks in (2, 100))
    assert LINK.seconds(two) == pytest.approx(2 * 1e-4 + two.packet_bytes / 1e9)
    assert LINK.seconds(many) == pytest.approx(198 * 1e-4 + 1.98 * many.packet_bytes / 1e9)


def test_ranks_share_the_rows_but_not_the_centroids() -> None:
    one = predicted(Size(10**6, 64, 256, moved=0.1), RATES, LINK)
    four = predicted(Size(10**6, 64, 256, ranks=4, moved=0.1), RATES, LINK)
    assert (four.assign, four.update) == pytest.approx((one.assign / 4, one.update / 4))
    assert (four.centroids, four.overhead) == (one.centroids, one.overhead)
    assert one.assign == pytest.approx(10**6 * 64 * 256 / 4e10)
    assert four.total == pytest.approx(four.assign + four.update + four.centroids + four.reduce + four.overhead)


def test_calibration_finds_the_rates() -> None:
    few, many = Size(20_000, 64, 256, moved=0.02, compared=0.6), Size(90_000, 64, 256, moved=0.05, compared=0.9)
    sizes = [few, many, Size(8_000, 64, 2048, moved=0.01, compared=0.4)]
    samples = [Sample(size, predicted(size, RATES, LINK).total) for size in sizes]
    found = calibrated(*samples, copy=RATES.copy)
    assert (found.assign, found.passes, found.overhead) == pytest.approx((4e10, 50, 0.003))


def test_calibration_refuses_what_tells_nothing() -> None:
    few, many = Size(2000, 8, 16), Size(8000, 8, 16)
    with pytest.raises(ValueError, match="8000 rows took no longer than 2000"):
        calibrated(Sample(few, 0.2), Sample(many, 0.1), Sample(Size(2000, 8, 128), 0.3), 1e10)
