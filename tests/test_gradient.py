"""solver=gradient: any torch optimiser, any loss, over ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from distkmeans.errors import InputError
from distkmeans.init.given import Given
from distkmeans.losses.huber import Huber
from distkmeans.losses.squared import Squared
from distkmeans.solvers import Record, Solution
from distkmeans.solvers.gradient import Gradient
from distkmeans.solvers.lloyd import Lloyd
from tests.problems import problem_of, problem_of_rank
from tests.worlds import Ranks


def three_blobs(rows: int = 600, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0], [8.0, 1.0], [-3.0, 9.0]])
    return (centres[rng.integers(0, 3, rows)] + rng.standard_normal((rows, 2))).astype(np.float32)


def solved(x: np.ndarray, solver: Any, start: np.ndarray, weights: np.ndarray | None = None) -> Solution:
    problem = problem_of(x, weights)
    return solver.fit(problem, Given(start)(problem, len(start), 0).centroids, lambda record: None, 3)


@pytest.mark.parametrize("optimizer", ["Adam", "SGD", "RMSprop", "LBFGS"])
def test_squared_loss_ends_at_the_means(optimizer: str) -> None:
    """On clusters that lie apart, where the mean is the least of every cluster's loss."""
    x = three_blobs()
    start = x[[0, 1, 2]] * 0 + np.array([[1.0, -1.0], [7.0, 3.0], [-2.0, 7.0]], dtype=np.float32)
    lr, batch = {"SGD": (0.5, 100), "LBFGS": (1.0, 10_000)}.get(optimizer, (0.05, 100))
    solver = Gradient(batch_size=batch, optimizer=optimizer, lr=lr)
    found, exact = solved(x, solver, start), solved(x, Lloyd(), start)
    assert found.inertia <= exact.inertia * 1.005
    np.testing.assert_allclose(found.centroids, exact.centroids, atol=0.15)


def test_the_loss_and_the_labels_belong_to_the_centroids() -> None:
    x = three_blobs()
    found = solved(x, Gradient(max_iter=3, loss="huber", loss_options={"delta": 0.5}), x[:3])
    distance = np.linalg.norm(x[:, None].astype(np.float64) - found.centroids.numpy()[None], axis=2)
    np.testing.assert_array_equal(found.labels, distance.argmin(1))
    assert found.inertia == pytest.approx((distance.min(1) ** 2).sum(), rel=1e-12)
    least = distance.min(1)
    expected = np.where(least <= 0.5, least**2 / 2, 0.5 * (least - 0.25)).sum()
    assert found.objective == found.cost == pytest.approx(expected, rel=1e-12)


def test_huber_withstands_outliers() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([three_blobs(), rng.uniform(-200, 200, (30, 2)).astype(np.float32)])
    centres = np.array([[0.0, 0.0], [8.0, 1.0], [-3.0, 9.0]], dtype=np.float32)
    robust = solved(x, Gradient(max_iter=40, batch_size=128, lr=0.01, loss="huber"), centres)
    mean = solved(x, Lloyd(), centres)
    off = [np.linalg.norm(solution.centroids.numpy() - centres, axis=1).max() for solution in (robust, mean)]
    assert off[0] < 1.0 < off[1]


@pytest.mark.parametrize("loss", [Squared(), Huber(0.7)])
def test_losses_are_differentiable(loss: Callable[..., Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(20, 3, dtype=torch.float64, generator=generator)
    centroids = torch.randn(4, 3, dtype=torch.float64, generator=generator).requires_grad_()
    labels = torch.randint(0, 4, (20,), generator=generator)
    assert torch.autograd.gradcheck(lambda c: loss(rows, c, labels), [centroids])
    on_it = loss(centroids.detach()[labels], centroids, labels)
    (slope,) = torch.autograd.grad(on_it.sum(), [centroids])
    assert torch.equal(slope, torch.zeros_like(slope))


def absolute(rows: Tensor, centroids: Tensor, labels: Tensor) -> Tensor:
    return (rows - centroids[labels]).abs().sum(1)


def fit_rank(rank: int, size: int, x: np.ndarray, weights: np.ndarray | None, metric: str) -> tuple[Any, ...]:
    problem = problem_of_rank(rank, size, x, weights)
    solver = Gradient(max_iter=4, batch_size=90, loss=absolute, tol=0)
    records: list[Record] = []
    solution = solver.fit(problem, Given(x[:5])(problem, 5, 0).centroids, records.append, 7)
    return solution.centroids.numpy(), solution.labels.numpy(), solution.inertia, [record.inertia for record in records]


@pytest.mark.parametrize("weighted", [pytest.param(False, marks=pytest.mark.slow), True])
def test_ranks_agree_to_rounding(ranks: Callable[[int], Ranks], weighted: bool) -> None:
    x = three_blobs(400)
    weights = np.random.default_rng(1).uniform(0, 2, len(x)).astype(np.float32) if weighted else None
    (alone,) = ranks(1)(fit_rank, 1, x, weights, "euclidean")
    for size in (3, 4):
        parts = ranks(size)(fit_rank, size, x, weights, "euclidean")
        assert len({part[0].tobytes() for part in parts}) == 1
        np.testing.assert_allclose(parts[0][0], alone[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), alone[1])
        np.testing.assert_allclose(parts[0][3], alone[3], rtol=1e-6)  # Adam makes more of a rounding at a kink


def test_cosine_centroids_keep_their_length() -> None:
    x = np.abs(three_blobs()) + 0.1
    problem = problem_of(x, None, "cosine")
    found = Gradient(max_iter=5).fit(problem, Given(x[:3])(problem, 3, 0).centroids, lambda record: None, 0)
    np.testing.assert_allclose(found.centroids.norm(dim=1), 1, rtol=1e-6)


def test_weights_count_as_repeated_rows_do() -> None:
    x = three_blobs(200)
    x = np.repeat(x, 2, axis=0)
    counts = np.tile([1, 3], len(x) // 2)  # four of each row: the variance, and so the step, is the same
    options = {"max_iter": 5, "batch_size": 10_000, "tol": 0}
    weighted = solved(x, Gradient(**options), x[:3], counts.astype(np.float32))
    repeated = solved(np.repeat(x, counts, axis=0), Gradient(**options), x[:3])
    np.testing.assert_allclose(weighted.centroids, repeated.centroids, rtol=1e-5)
    assert weighted.cost == pytest.approx(repeated.cost, rel=1e-9)


@pytest.mark.parametrize("optimizer", ["Adam", "LBFGS"])
def test_batches_of_weight_0_pull_nowhere(optimizer: str) -> None:
    x = three_blobs(100)
    weights = np.zeros(len(x), dtype=np.float32)
    weights[:5] = 1
    found = solved(x, Gradient(max_iter=3, batch_size=4, optimizer=optimizer), x[:3], weights)
    assert torch.isfinite(found.centroids).all()
    assert np.isfinite(found.cost)


def test_an_optimizer_by_its_class() -> None:
    x = three_blobs(200)
    options = {"lr": 0.3, "optimizer_options": {"momentum": 0.5}, "max_iter": 2}
    named, given = (solved(x, Gradient(optimizer=kind, **options), x[:3]) for kind in ("SGD", torch.optim.SGD))
    made = solved(
        x, Gradient(optimizer=lambda parameters: torch.optim.SGD(parameters, 0.3, momentum=0.5), max_iter=2), x[:3]
    )
    assert torch.equal(named.centroids, given.centroids)
    assert torch.equal(named.centroids, made.centroids)


def test_a_pass_takes_every_row_once() -> None:
    seen: list[Tensor] = []

    def watching(rows: Tensor, centroids: Tensor, labels: Tensor) -> Tensor:
        seen.append(rows.detach())
        return absolute(rows, centroids, labels)

    x = three_blobs(130)
    solved(x, Gradient(max_iter=2, batch_size=30, loss=watching, optimizer="SGD"), x[:3])
    passes = [torch.cat(seen[:5]).numpy(), torch.cat(seen[5:10]).numpy()]
    for rows in passes:
        np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(x.astype(np.float64), axis=0))
    assert not np.array_equal(*passes)


def test_ends_when_the_loss_does_not_fall() -> None:
    x = np.repeat(np.array([[0.0, 0.0], [1.0, 1.0]], dtype=np.float32), 50, axis=0)
    found = solved(x, Gradient(max_iter=200, optimizer="SGD", lr=1e-9), x[[0, 99]])
    assert found.converged
    assert found.iterations < 30


def one_number(rows: Tensor, centroids: Tensor, labels: Tensor) -> Tensor:
    return (rows - centroids[labels]).sum()


def no_centroids(rows: Tensor, centroids: Tensor, labels: Tensor) -> Tensor:
    return rows.sum(1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"optimizer": "Adan"}, r"solver.optimizer=Adan: unknown; .*did you mean Adam\?"),
        (
            {"optimizer_options": {"momentun": 1}, "optimizer": "SGD"},
            r"optimizer_options.momentun: .*did you mean momentum",
        ),
        ({"loss": "hubert"}, "solver.loss=hubert: unknown; expected huber or squared; did you mean huber"),
        ({"loss": "huber", "loss_options": {"delta": 0}}, "solver.loss_options.delta=0: expected a number, above 0"),
        ({"loss": absolute, "loss_options": {"delta": 1}}, "solver.loss_options: of no use to a function"),
        (
            {"optimizer": torch.optim.SGD, "optimizer_options": {"momentun": 1}},
            r"optimizer_options.momentun: SGD .*did you mean momentum",
        ),
        (
            {"optimizer": lambda parameters: torch.optim.SGD(parameters, 0.1), "optimizer_options": {"momentum": 1}},
            "solver.optimizer_options: of no use to a function",
        ),
        ({"optimizer": "SparseAdam"}, "solver.optimizer=SparseAdam: unknown"),
        ({"loss": one_number}, "solver.loss: gives .* for 10 rows; expected one number for each row"),
        ({"loss": no_centroids}, "solver.loss: does not depend on the centroids"),
        ({"optimizer": "SGD", "lr": 1e300}, "use a smaller solver.lr"),
    ],
)
def test_mistakes_are_told(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        solved(three_blobs(10), Gradient(**options), three_blobs(10)[:3])
