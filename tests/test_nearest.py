"""Labels are the true argmin: the arbiter, the dense kernel and ``predict``, held to rational arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import distkmeans
from distkmeans.exact import arbiter
from distkmeans.kernels import dense
from distkmeans.kernels.choose import choose
from tests import oracle

ALL_KINDS = sorted(oracle.ADVERSARIAL)


def with_traps(x: np.ndarray, k: int, seed: int) -> np.ndarray:
    """Centroids that make ties: rows, a copy of one, and one mirrored at a row so that the row lies midway."""
    stored = x.astype(np.float64) if x.dtype == np.float64 else x.astype(np.float32)
    centroids = stored[np.random.default_rng(seed).integers(0, len(x), k)].copy()
    if k > 3:
        centroids[3] = centroids[1]
        with np.errstate(over="ignore"):
            mirrored = 2 * stored[0] - centroids[2]
        centroids[-1] = np.where(np.isfinite(mirrored), mirrored, centroids[2])
    return centroids


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize(("dims", "k"), [(1, 5), (2, 33), (5, 70), (3, 100)])
def test_predict_is_the_true_argmin(kind: str, dims: int, k: int) -> None:
    x = oracle.rows(kind, 40, dims, seed=dims)
    centroids = with_traps(x, k, seed=k)
    assert distkmeans.predict(x, centroids).tolist() == oracle.nearest(x, centroids)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(ALL_KINDS),
    dims=st.integers(1, 6),
    k=st.integers(1, 80),
    tile=st.integers(1, 40),
    seed=st.integers(0, 2**32),
)
def test_the_kernel_is_the_true_argmin(kind: str, dims: int, k: int, tile: int, seed: int) -> None:
    x = oracle.rows(kind, 15, dims, seed)
    centroids = with_traps(x, k, seed)
    labels = torch.empty(len(x), dtype=torch.int32)
    first = torch.from_numpy(centroids)
    choose(torch.from_numpy(x), first + 0.0, tile_rows=tile).assign(first, labels)
    assert labels.tolist() == oracle.nearest(x, centroids)


@pytest.mark.parametrize("types", [(np.float32, np.float64), (np.float64, np.float32), (np.uint8, np.float64)])
def test_rows_and_centroids_may_differ_in_type(types: tuple[type, type]) -> None:
    generator = np.random.default_rng(0)
    x, centroids = generator.uniform(0, 9, (40, 3)).astype(types[0]), generator.uniform(0, 9, (7, 3)).astype(types[1])
    assert distkmeans.predict(x, centroids).tolist() == oracle.nearest(x, centroids)


@pytest.mark.parametrize("dims", [384, 768])
def test_wide_rows(dims: int) -> None:
    x = oracle.rows("normal", 20, dims, seed=1)
    centroids = with_traps(x, 40, seed=2)
    assert distkmeans.predict(x, centroids).tolist() == oracle.nearest(x, centroids)


def test_layouts_do_not_matter() -> None:
    x, centroids = oracle.rows("lattice", 60, 4, seed=5), oracle.rows("lattice", 9, 4, seed=6)
    expected = oracle.nearest(x, centroids)
    frozen = x.copy()
    frozen.flags.writeable = False
    for same in (np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], x.astype(">f4"), frozen, torch.from_numpy(x)):
        assert distkmeans.predict(same, centroids).tolist() == expected
    assert distkmeans.predict(x, np.where(centroids == 0, -0.0, centroids)).tolist() == expected


def test_bf16_products_elsewhere_do_not_weaken_the_bound() -> None:
    x, centroids = oracle.rows("normal", 200, 32, seed=7), oracle.rows("normal", 50, 32, seed=8)
    expected = oracle.nearest(x, centroids)
    torch.set_float32_matmul_precision("medium")
    try:
        assert distkmeans.predict(x, centroids).tolist() == expected
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_few_rows_of_ordinary_data_need_the_judge() -> None:
    """Speed rests on this: a wrong bound would still be exact, and slow."""
    x = torch.randn(20_000, 64, generator=torch.Generator().manual_seed(0))
    labels = torch.empty(len(x), dtype=torch.int32)
    centroids = x[:256].clone()
    assert choose(x, centroids).assign(centroids, labels) < 0.002 * len(x)
    assert choose(x + 100, centroids + 100).assign(centroids + 100, labels) < 0.002 * len(x)


def test_the_bound_covers_the_error_of_every_score() -> None:
    generator = torch.Generator().manual_seed(0)
    for scale in (1.0, 1e3):
        x = torch.randn(500, 96, generator=generator) * scale + 3
        centroids = torch.randn(64, 96, generator=generator) * scale
        kernel = dense.Dense(x, centroids, 1e4, None, True)
        target = dense.Target.of(centroids, kernel.frame, torch.float32)
        scores, margin = kernel._scores(slice(0, 500), target, kernel._buffer(500, target))
        rows, places = (kernel.frame.place(v, torch.float64) for v in (x, centroids))
        true = rows @ places.t() - 0.5 * (places**2).sum(1)
        assert ((scores.double() - true).abs().amax(1) <= margin.double() / 2).all()


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_the_arbiter_decides_among_all_centroids(kind: str) -> None:
    x = oracle.rows(kind, 25, 3, seed=9).astype(np.float64)
    centroids = with_traps(x, 8, seed=10)
    row, candidate = torch.arange(25).repeat_interleave(8), torch.arange(8).repeat(25)
    found = arbiter.nearest(torch.from_numpy(x), torch.from_numpy(centroids), row, candidate)
    assert found.tolist() == oracle.nearest(x, centroids)


def test_is_nearer_sees_the_last_bit() -> None:
    x = torch.zeros(3, 2, dtype=torch.float64)
    one = torch.tensor([[1.0, 1e-170]] * 3, dtype=torch.float64)
    other = one.clone()
    other[0, 1], other[2, 1] = 2e-170, 0.5e-170
    assert arbiter.is_nearer(x, one, other).tolist() == [True, False, False]
    assert arbiter.is_nearer(x, other, one).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("x", "centroids", "says"),
    [
        (np.zeros((3, 2)), np.zeros((2, 3)), "2 columns, but the centroids have 3"),
        (np.array([[0.0], [np.nan]]), np.zeros((2, 1)), "NaN or Inf in row 1"),
        (np.zeros((3, 1)), np.array([[np.inf]]), "centroids: NaN or Inf in row 0"),
        (np.zeros(3), np.zeros((2, 3)), "1 dimensions"),
        (np.zeros((3, 1)), np.zeros((0, 1)), "centroids: none"),
        (np.zeros((3, 1), complex), np.zeros((1, 1)), "complex128"),
        (np.array([[2**60]]), np.zeros((1, 1)), "beyond 2**53"),
    ],
)
def test_predict_refuses_what_has_no_answer(x: np.ndarray, centroids: np.ndarray, says: str) -> None:
    with pytest.raises(distkmeans.InputError, match=says.replace("*", r"\*")):
        distkmeans.predict(x, centroids)


def test_centroids_may_come_from_far_outside_a_ranks_own_rows() -> None:
    rows = torch.tensor([[1e-9, 0.0], [-2e-9, 1e-30]], dtype=torch.float64)
    near = torch.tensor([[1e-9, 0.0], [0.0, 0.0]], dtype=torch.float64)
    far = torch.tensor([[-1e104, -3e196], [-1e104, -2e196]], dtype=torch.float64)
    for announced in (3e196, None):  # even unannounced, what overflows is not taken for proved
        kernel, labels = choose(rows, near, announced), torch.empty(2, dtype=torch.int32)
        for centroids in (near, far):
            kernel.assign(centroids, labels)
            assert labels.tolist() == oracle.nearest(rows.numpy(), centroids.numpy())
