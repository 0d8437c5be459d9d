from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from distkmeans import native
from distkmeans.exact.random import Stream, log, permute, scramble

ROWS = torch.arange(200_000)
PUBLISHED = [-495967326111537935, 6483255105427188297, 3481104314540682308]
PUBLISHED_INTEGER = 479724504832480835919016670416


def test_numbers_belong_to_rows_not_to_calls() -> None:
    stream = Stream(3, "test", 1)
    whole = stream.bits(ROWS)
    assert torch.equal(whole[1000:1010], stream.bits(ROWS[1000:1010]))
    for other in (Stream(4, "test", 1), Stream(3, "rest", 1), Stream(3, "test", 2)):
        assert not torch.equal(whole[:10], other.bits(ROWS[:10]))


@pytest.mark.parametrize("kernels", ["auto", "off"])
def test_the_bits_are_the_ones_that_were_published(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds of old runs must stay reproducible: these values may never change."""
    monkeypatch.setenv(native.CHOICE, kernels)
    assert Stream(0, "init/random").bits(torch.arange(3)).tolist() == PUBLISHED
    assert Stream(0, "plus_plus/draw", 7).integer(10**30, 2) == PUBLISHED_INTEGER


def test_compiled_bits_are_those_of_torch() -> None:
    numbers = torch.cat([ROWS[:1000] * 2**43, -ROWS[:999]])[::2]
    stream = Stream(9, "test")
    assert torch.equal(stream.bits(numbers), scramble(numbers, stream.words()))


@pytest.mark.parametrize("limit", [1, 2, 1000, 2**31 - 1, 2**31, 2**31 + 1, 10**12 + 7, 2**62 - 1, 2**62])
def test_integers_below_a_limit_are_rounded_down_once(limit: int) -> None:
    stream = Stream(5, "test")
    drawn = stream.below(ROWS[:300], limit).tolist()
    for bits, number in zip(stream.bits(ROWS[:300]).tolist(), drawn, strict=True):
        unsigned = bits % 2**64
        fraction = ((unsigned >> 33) << 31) + unsigned % 2**31
        assert number == fraction * limit >> 62 < limit
    counts = np.bincount(stream.below(ROWS, 50).numpy(), minlength=50)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_uniform_and_normal_have_their_distributions() -> None:
    stream = Stream(1, "test")
    assert stats.kstest(stream.uniform(ROWS).numpy(), "uniform").pvalue > 1e-3
    assert stats.kstest(stream.normal(ROWS).numpy(), "norm").pvalue > 1e-3
    assert stats.kstest(stream.exponential(ROWS).numpy(), "expon").pvalue > 1e-3


def test_neighbouring_rows_and_seeds_are_independent() -> None:
    a = Stream(1, "test").uniform(ROWS).numpy()
    b = Stream(2, "test").uniform(ROWS).numpy()
    assert abs(np.corrcoef(a[1:], a[:-1])[0, 1]) < 0.01
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.01


def test_normal_is_the_inverse_of_the_normal_distribution() -> None:
    stream = Stream(1, "test")
    exact = stats.norm.ppf(stream.uniform(ROWS).numpy())
    np.testing.assert_allclose(stream.normal(ROWS).numpy(), exact, rtol=1e-13, atol=1e-14)


def test_log_is_accurate_over_the_whole_range() -> None:
    values = torch.tensor([5e-324, 1e-300, 0.5, 1 - 2**-53, 1.0, 1 + 2**-52, 2.0, 3.7, 1e300], dtype=torch.float64)
    np.testing.assert_allclose(log(values).numpy(), np.log(values.numpy()), rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 1000, 1537])
def test_permute_is_a_permutation(count: int) -> None:
    rows = torch.arange(count)
    whole = permute(rows, count, Stream(0, "test"))
    assert sorted(whole.tolist()) == rows.tolist()
    assert torch.equal(permute(rows[count // 2 :], count, Stream(0, "test")), whole[count // 2 :])


def test_integers_are_uniform_below_any_bound() -> None:
    draws = [Stream(0, "test", step).integer(6) for step in range(6000)]
    assert stats.chisquare(np.bincount(draws, minlength=6)).pvalue > 1e-3
    assert all(0 <= Stream(0, "big", step).integer(10**40) < 10**40 for step in range(100))
