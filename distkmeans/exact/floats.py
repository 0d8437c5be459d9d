"""Floating-point numbers taken apart and put together exactly.

Every operation here is one IEEE operation per element and tensor call, so that no compiler can contract or
re-associate it. ``two_sum`` is Knuth's, ``two_product`` is Dekker's with Veltkamp's splitting (no fused
multiply-add is needed). A *double-double* is a pair (high, low) whose sum is the number.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

ZERO_EXPONENT = -4096
"""What ``exponent`` answers for 0: below the exponent of every float64."""

MANTISSA_BITS = {
    torch.uint8: 8,
    torch.int8: 8,
    torch.bfloat16: 8,
    torch.float16: 11,
    torch.float32: 24,
    torch.float64: 53,
}
"""Significant bits of a stored value, and with them the types that rows may have."""

DoubleDouble = tuple[Tensor, Tensor]


def power_of_two(exponents: Tensor) -> Tensor:
    """2**e as float64 for int64 e, clamped to the normal range [-1022, 1023]."""
    return ((exponents.clamp(-1022, 1023) + 1023) << 52).view(torch.float64)


def scale(values: Tensor, exponents: Tensor | int) -> Tensor:
    """values * 2**exponents in float64, with no overflow or double rounding on the way to a normal result.

    Exact wherever the result is zero or normal. Exponents beyond +-2044 act as +-2044.
    """
    if isinstance(exponents, int) and -1022 <= exponents <= 1023:
        return values * 2.0**exponents if exponents else values
    e = torch.as_tensor(exponents, dtype=torch.int64, device=values.device)
    half = torch.div(e, 2, rounding_mode="trunc")
    return values * power_of_two(half) * power_of_two(e - half)


def exponent(values: Tensor) -> Tensor:
    """The int64 e with 2**(e-1) <= |v| < 2**e for float64 v; ZERO_EXPONENT for 0."""
    _, e = torch.frexp(values)
    return torch.where(values == 0, torch.full_like(e, ZERO_EXPONENT), e).to(torch.int64)


def lowest_bit(values: Tensor) -> Tensor:
    """The int64 e of the lowest set bit of float64 v: v is an odd multiple of 2**e; -ZERO_EXPONENT for 0."""
    mantissa, e = torch.frexp(values)
    integer = (mantissa * 2.0**53).to(torch.int64)
    low = (integer & -integer).to(torch.float64)
    trailing = torch.frexp(low).exponent - 1
    low_exponent = e.to(torch.int64) - 53 + trailing
    return torch.where(integer == 0, torch.full_like(low_exponent, -ZERO_EXPONENT), low_exponent)


def two_sum(a: Tensor, b: Tensor) -> DoubleDouble:
    """(s, e) with s = fl(a + b) and s + e = a + b exactly."""
    s = a + b
    bb = s - a
    return s, (a - (s - bb)) + (b - bb)


def two_product(a: Tensor, b: Tensor) -> DoubleDouble:
    """(p, e) with p = fl(a * b) and p + e = a * b exactly, where neither over- nor underflows."""
    a_high, a_low = _halves(a)
    b_high, b_low = _halves(b)
    p = a * b
    e = ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low
    return p, e


def _halves(a: Tensor) -> DoubleDouble:
    t = a * 134217729.0  # 2**27 + 1
    high = t - (t - a)
    return high, a - high


def add(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    """Double-double sum; error at most 2**-103 (|a| + |b|)."""
    s, e = two_sum(a[0], b[0])
    return _normal(s, e + (a[1] + b[1]))


def multiply(a: DoubleDouble, b: Tensor) -> DoubleDouble:
    """Double-double times float64; relative error at most 2**-102."""
    p, e = two_product(a[0], b)
    return _normal(p, e + a[1] * b)


def divide(a: DoubleDouble, b: DoubleDouble) -> DoubleDouble:
    """Double-double quotient; relative error at most 2**-99."""
    first = a[0] / b[0]
    p, e = two_product(first, b[0])
    rest = ((a[0] - p) - e) + (a[1] - first * b[1])
    return _normal(first, rest / b[0])


def to_odd(a: DoubleDouble) -> Tensor:
    """Its sum rounded to the float64 with an odd last bit, where it is not one itself.

    To round this once more, to a type of at most 51 bits, is to round the sum (Boldo and Melquiond 2008).
    """
    s, e = a
    even = (s.view(torch.int64) & 1) == 0
    beside = torch.nextafter(s, torch.where(e > 0, torch.inf, -torch.inf).to(s.dtype))
    return torch.where(even & (e != 0), beside, s)


def _normal(s: Tensor, e: Tensor) -> DoubleDouble:
    high = s + e
    return high, e - (high - s)


def sum_dd(terms: DoubleDouble) -> DoubleDouble:
    """Sum of a (..., M) double-double over the last dimension by halving: the same bits whatever the thread count.

    Error at most ceil(log2 M) * 2**-103 * sum |terms|.
    """
    high, low = terms
    while high.shape[-1] > 1:
        if high.shape[-1] % 2:
            high, low = (torch.nn.functional.pad(part, (0, 1)) for part in (high, low))
        half = high.shape[-1] // 2
        high, low = add((high[..., :half], low[..., :half]), (high[..., half:], low[..., half:]))
    return high[..., 0], low[..., 0]


def sum_columns(values: Tensor) -> Tensor:
    """Sum of (..., D) over the last dimension in a fixed order, by halving: (...,)."""
    while values.shape[-1] > 1:
        half = values.shape[-1] // 2
        pairs = values[..., :half] + values[..., half : 2 * half]
        values = torch.cat([pairs, values[..., 2 * half :]], dim=-1) if values.shape[-1] % 2 else pairs
    return values.squeeze(-1) if values.shape[-1] else values.new_zeros(values.shape[:-1])


def total(values: Tensor) -> float:
    """The same of (D,), in numpy: few values, and many calls, which torch takes longer for."""
    array = values.cpu().numpy()
    with np.errstate(all="ignore"):
        while len(array) > 1:
            half = len(array) // 2
            pairs = array[:half] + array[half : 2 * half]
            array = np.append(pairs, array[-1]) if len(array) % 2 else pairs
    return float(array[0]) if len(array) else 0.0


def row_hash(values: Tensor) -> Tensor:
    """int64 (K,): a hash of each row's values (K, D), alike for rows that are equal."""
    return mixed((values.to(torch.float64) + 0.0).view(torch.int64))


def mixed(bits: Tensor) -> Tensor:
    """int64 (K,): a hash of each row of int64 (K, D)."""
    place = torch.arange(1, bits.shape[1] + 1, device=bits.device)
    product = (bits ^ (bits >> 29)) * (place * 0x2545F4914F6CDD1D | 1)
    return (product ^ (product >> 32)).sum(1)
