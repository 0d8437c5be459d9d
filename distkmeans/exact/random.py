"""Random numbers that are pure functions of (seed, purpose, round, global row number).

There is no generator and no state: any rank computes the numbers of its own rows, and a resumed run finds the same
ones. The hash is the finaliser of SplitMix64 (Steele, Lea and Flood 2014), applied twice under a key that BLAKE2b
derives from the seed, the purpose and the round.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from distkmeans import native

_INT64 = 1 << 64


@dataclass(frozen=True)
class Stream:
    """One independent sequence of random numbers, for one purpose and round."""

    seed: int
    purpose: str
    round: int = 0

    def _key(self, size: int, *more: int) -> int:
        text = ":".join(map(str, (self.seed, self.purpose, self.round, *more)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=size).digest(), "little")

    def integer(self, below: int, draw: int = 0) -> int:
        """One integer in [0, below), of any size, the same on every rank; the bias is under 2**-128."""
        return self._key(min(64, below.bit_length() // 8 + 17), draw) % below

    def bits(self, rows: Tensor) -> Tensor:
        """64 random bits, as int64, for each int64 row number."""
        compiled = native.library_for(rows)
        return scramble(rows, self.words()) if compiled is None else compiled.scramble(rows, self.words())

    def words(self) -> tuple[int, int]:
        """The two words of the key, for ``scramble``."""
        return _signed(self._key(8, 1)), _signed(self._key(8, 2))

    def keys(self, rows: Tensor) -> Tensor:
        """63 random bits as non-negative int64: the k rows with the smallest keys are a sample of k."""
        return self.bits(rows) & 0x7FFFFFFFFFFFFFFF

    def below(self, rows: Tensor, limit: int) -> Tensor:
        """An integer in [0, limit) for each row number, limit at most 2**62: floor(u limit / 2**62), u of 62 bits."""
        bits, mask = self.bits(rows), (1 << 31) - 1
        high, low = (bits >> 33) & mask, bits & mask
        limit_high, limit_low = limit >> 31, limit & mask
        middle = high * limit_low + ((low * limit_low) >> 31)
        if not limit_high:
            return middle >> 31
        lower = low * limit_high + (middle & mask)
        return high * limit_high + (middle >> 31) + (lower >> 31)

    def uniform(self, rows: Tensor) -> Tensor:
        """float64 in (0, 1), multiples of 2**-53 shifted by half of that."""
        return ((self.keys(rows) >> 10).to(torch.float64) + 0.5) * 2.0**-53

    def normal(self, rows: Tensor) -> Tensor:
        """Standard normal float64, by inversion (Wichura 1988, AS 241)."""
        return _inverse_normal(self.uniform(rows))

    def exponential(self, rows: Tensor) -> Tensor:
        """Standard exponential float64, by inversion."""
        return -log(self.uniform(rows))


def scramble(rows: Tensor, words: tuple[int, int]) -> Tensor:
    """64 random bits, as int64, for each int64 number: tensor operations alone, which torch.compile can trace."""
    return _mix(_mix(rows * _signed(0x9E3779B97F4A7C15) + words[0]) + words[1])


def permute(rows: Tensor, count: int, stream: Stream) -> Tensor:
    """A random permutation of 0 .. count - 1, read at ``rows``: a four-round Feistel network, walked until in range."""
    bits = max(1, math.ceil(max(count - 1, 1).bit_length() / 2))
    mask = (1 << bits) - 1
    result, outside = rows.clone(), torch.ones_like(rows, dtype=torch.bool)
    while outside.any():
        left, right = result[outside] >> bits, result[outside] & mask
        for step in range(4):
            word = Stream(stream.seed, stream.purpose, 4 * stream.round + step).bits(right)
            left, right = right, left ^ (word & mask)
        result[outside] = (left << bits) | right
        outside = result >= count
    return result


def log(values: Tensor) -> Tensor:
    """Natural logarithm of positive float64 from additions, products and one quotient alone.

    The libraries' logarithms differ between processors in their last bits; this one (an atanh series on
    [0.70, 1.42), relative error about 2**-52) does not.
    """
    mantissa, e = torch.frexp(values)
    low = mantissa < math.sqrt(0.5)
    mantissa = torch.where(low, mantissa * 2, mantissa)
    e = torch.where(low, e - 1, e).to(torch.float64)
    s = (mantissa - 1) / (mantissa + 1)
    square = s * s
    series = torch.full_like(s, 1 / 23)
    for odd in range(21, 0, -2):
        series = series * square + 1 / odd
    return e * math.log(2) + 2 * s * series


def _signed(word: int) -> int:
    return word - _INT64 if word >= _INT64 // 2 else word


def _shift_right(z: Tensor, by: int) -> Tensor:
    return (z >> by) & ((1 << (64 - by)) - 1)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift_right(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _shift_right(z, 27)) * _signed(0x94D049BB133111EB)
    return z ^ _shift_right(z, 31)


# Coefficients of AS 241, PPND16: rational functions for the middle, the shoulders and the far tails.
_MIDDLE = (
    (
        3.3871328727963665,
        133.14166789178438,
        1971.5909503065513,
        13731.69376550946,
        45921.95393154987,
        67265.7709270087,
        33430.57558358813,
        2509.0809287301227,
    ),
    (
        1.0,
        42.31333070160091,
        687.1870074920579,
        5394.196021424751,
        21213.794301586597,
        39307.89580009271,
        28729.085735721943,
        5226.495278852546,
    ),
)
_SHOULDER = (
    (
        1.4234371107496835,
        4.630337846156546,
        5.769497221460691,
        3.6478483247632045,
        1.2704582524523684,
        0.2417807251774506,
        0.022723844989269184,
        0.0007745450142783414,
    ),
    (
        1.0,
        2.053191626637759,
        1.6763848301838038,
        0.6897673349851,
        0.14810397642748008,
        0.015198666563616457,
        0.0005475938084995345,
        1.0507500716444169e-09,
    ),
)
_TAIL = (
    (
        6.657904643501103,
        5.463784911164114,
        1.7848265399172913,
        0.29656057182850487,
        0.026532189526576124,
        0.0012426609473880784,
        2.7115555687434876e-05,
        2.0103343992922881e-07,
    ),
    (
        1.0,
        0.599832206555888,
        0.1369298809227358,
        0.014875361290850615,
        0.0007868691311456133,
        1.8463183175100548e-05,
        1.421511758316446e-07,
        2.0442631033899397e-15,
    ),
)


def _inverse_normal(u: Tensor) -> Tensor:
    q = u - 0.5
    middle = q * _ratio(0.180625 - q * q, _MIDDLE)
    r = torch.sqrt(-log(torch.minimum(u, 1 - u)))
    outer = torch.where(r <= 5, _ratio(r - 1.6, _SHOULDER), _ratio(r - 5, _TAIL))
    return torch.where(q.abs() <= 0.425, middle, torch.where(q < 0, -outer, outer))


def _ratio(r: Tensor, coefficients: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    top, bottom = (_polynomial(r, part) for part in coefficients)
    return top / bottom


def _polynomial(r: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    value = torch.full_like(r, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * r + coefficient
    return value
