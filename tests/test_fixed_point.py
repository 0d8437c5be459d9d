from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distkmeans import native
from distkmeans.exact import floats
from distkmeans.exact.fixed_point import EXACT_ROWS, WIDEST, Grid, means, round_fraction
from tests import oracle

KINDS = sorted(set(oracle.ADVERSARIAL) - {"bytes", "signed", "halves"})


def grid_of(x: np.ndarray, weights: np.ndarray) -> tuple[Grid, torch.Tensor]:
    """The grid of weight * (row, 1), and those products as int64 limbs (n, limbs, D + 1)."""
    bits = 24 if x.dtype == np.float32 else 53
    columns = torch.cat([torch.from_numpy(x).double(), torch.ones(len(x), 1, dtype=torch.float64)], dim=1)
    w = torch.from_numpy(weights).double()[:, None]
    top = floats.exponent(columns).amax(0) + floats.exponent(w).max()
    low = floats.lowest_bit(columns).amin(0) + floats.lowest_bit(w).min()
    empty = top < low
    top[empty], low[empty] = 1, 0
    grid = Grid.spanning(top, low, len(x))
    pieces = [piece.to(torch.int64) for piece in grid.product_pieces((columns, bits), (w, bits))]
    return grid, torch.stack(pieces, dim=1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_products_are_cut_without_error(kind: str, weighted: bool) -> None:
    x = oracle.rows(kind, 12, 3, seed=1)
    weights = np.ones(12, x.dtype) if not weighted else oracle.rows("spread", 12, 1, seed=2)[:, 0].astype(x.dtype)
    weights = np.abs(weights)
    grid, limbs = grid_of(x, weights)
    whole, units = grid.integers(limbs), grid.unit().tolist()
    for row in range(len(x)):
        for column in range(x.shape[1]):
            exact = Fraction(float(x[row, column])) * Fraction(float(weights[row]))
            assert Fraction(int(whole[row, column])) * Fraction(2) ** units[column] == exact


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_means_are_correctly_rounded(kind: str, weighted: bool) -> None:
    x = oracle.rows(kind, 40, 3, seed=3)
    weights = np.random.default_rng(4).uniform(0.1, 9, 40).astype(x.dtype) if weighted else np.ones(40, x.dtype)
    labels = np.arange(40) % 5
    grid, limbs = grid_of(x, weights)
    sums = torch.zeros(6, *limbs.shape[1:], dtype=torch.int64).index_add_(0, torch.from_numpy(labels), limbs)
    result = means(sums, grid, torch.from_numpy(x).dtype).numpy()
    assert np.isnan(result[5]).all()
    for cluster in range(5):
        mine = labels == cluster
        for column in range(3):
            exact = oracle.mean(x[mine], weights[mine], column)
            assert result[cluster, column] == oracle.rounded(exact, x.dtype)


def test_a_mean_on_a_rounding_boundary_goes_to_even() -> None:
    x = np.array([[1.0], [1.0 + 2.0**-23], [1.0 + 2.0**-23], [1.0 + 2.0**-22]], np.float32)
    grid, limbs = grid_of(x, np.ones(4, np.float32))
    sums = torch.stack([limbs[:2].sum(0), limbs[2:].sum(0)])
    assert means(sums, grid, torch.float32)[:, 0].tolist() == [1.0, 1.0 + 2.0**-22]


@given(
    st.integers(1 << 23, (1 << 24) - 2),
    st.sampled_from([-1, 1]),
    st.integers(1, 1 << 20),
    st.integers(-1, 1),
    st.integers(0, 12),
    st.integers(-140, 90),
    st.integers(12, 34),
)
def test_a_mean_on_or_beside_a_rounding_boundary(
    mantissa: int, sign: int, weight: int, beside: int, fine: int, unit: int, width: int
) -> None:
    """Between two neighbours of float32, or a unit of the sum off, with limbs that need not be proper ones."""
    total = sign * ((2 * mantissa + 1) * weight << fine) + beside
    limbs = -(-60 // width)
    top = torch.tensor([unit, 0]) + limbs * width
    pieces = [[abs(v) >> width * (limbs - 1 - at) & (1 << width) - 1 for v in (total, weight)] for at in range(limbs)]
    pieces[0] = [abs(v) >> width * (limbs - 1) for v in (total, weight)]
    sums = torch.tensor(pieces) * torch.tensor([sign if total else 1, 1])
    if limbs > 1:
        sums[0, 0] -= 1
        sums[1, 0] += 1 << width
    expected = round_fraction(Fraction(total, weight) * Fraction(2) ** unit, torch.float32)
    for choice in ("auto", "off"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(native.CHOICE, choice)
            assert float(means(sums[None], Grid(top, width, limbs), torch.float32)) == expected


def test_float64_runs_cannot_round() -> None:
    assert 2 * EXACT_ROWS * 2**WIDEST * 4 <= 2**54  # sums of + and - over a run, of four terms each, stay below 2**53


@given(st.fractions(), st.sampled_from([torch.float32, torch.float64]))
def test_round_fraction_takes_the_nearest(value: Fraction, dtype: torch.dtype) -> None:
    kind = np.dtype(np.float32 if dtype == torch.float32 else np.float64)
    result = round_fraction(value, dtype)
    around = [float(np.nextafter(kind.type(result), kind.type(side))) for side in (-np.inf, np.inf)]
    assert all(abs(Fraction(result) - value) <= abs(Fraction(other) - value) for other in around)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_two_sum_is_exact(a: float, b: float) -> None:
    s, e = (float(part) for part in floats.two_sum(torch.tensor(a).double(), torch.tensor(b).double()))
    if np.isfinite(s) and np.isfinite(e):
        assert Fraction(s) + Fraction(e) == Fraction(float(np.float32(a))) + Fraction(float(np.float32(b)))


@given(st.floats(-1e100, 1e100), st.floats(-1e100, 1e100))
def test_two_product_is_exact(a: float, b: float) -> None:
    left, right = (torch.tensor(v, dtype=torch.float64) for v in (a, b))
    p, e = (float(part) for part in floats.two_product(left, right))
    if abs(p) > 1e-250 or 0 in (a, b):
        assert Fraction(p) + Fraction(e) == Fraction(a) * Fraction(b)


@given(st.floats(allow_nan=False, allow_infinity=False).filter(bool))
def test_exponent_and_lowest_bit_bracket_a_number(value: float) -> None:
    number = torch.tensor([value], dtype=torch.float64)
    top, low = int(floats.exponent(number)), int(floats.lowest_bit(number))
    assert Fraction(2) ** (top - 1) <= abs(Fraction(value)) < Fraction(2) ** top
    assert (Fraction(value) / Fraction(2) ** low).denominator == 1
    assert (Fraction(value) / Fraction(2) ** (low + 1)).denominator == 2


def test_sum_dd_does_not_lose_what_cancels() -> None:
    terms = torch.tensor([1e30, 1.0, -1e30, 1e-10, 3.0], dtype=torch.float64)
    high, _ = floats.sum_dd((terms, torch.zeros_like(terms)))
    assert float(high) == 4.0000000001


def test_a_total_is_added_up_as_columns_are() -> None:
    for count in (0, 1, 2, 3, 7, 64, 101):
        values = torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(count))
        assert floats.total(values) == float(floats.sum_columns(values.view(1, -1)))
    assert floats.total(torch.full((3,), 1e308, dtype=torch.float64)) == np.inf
