"""Which of several centroids is truly nearest: the last word, over the real numbers, lowest index on a true tie.

The fast pass leaves rows for which its error bound cannot tell some centroids apart. Here those (row, centroid) pairs
are decided, whole batches at a time: squared distances in float64 with a relative bound, and what is still open in
integer arithmetic on  |x - a|^2 - |x - b|^2 = sum (b - a)(2x - a - b), which is exact for any float64 input.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from distkmeans.exact import floats
from distkmeans.exact.fixed_point import Grid

CHUNK = 1 << 21
"""Elements of a temporary (pairs times dimensions times limbs)."""


def nearest(x: Tensor, centroids: Tensor, row: Tensor, candidate: Tensor) -> Tensor:
    """The nearest candidate of each row: int64 (M,).

    x: float64 (M, D). centroids: float64 (K, D). row, candidate: int64 (P,) pairs, sorted by row, then candidate;
    every row has at least one pair and one of its pairs is the true nearest.
    """
    keep = _not_farther(x, centroids, row, candidate)
    return winners(x, centroids, row[keep], candidate[keep], is_nearer)


def winners(x: Tensor, centroids: Tensor, row: Tensor, candidate: Tensor, beats: Callable[..., Tensor]) -> Tensor:
    """The candidate of each row that no other beats, the first of equals: int64 (M,).

    row, candidate: as for ``nearest``. beats: (rows, challengers, holders), float64 (m, D) each -> bool (m,).
    """
    best = torch.empty(x.shape[0], dtype=torch.int64, device=x.device)
    counts = torch.bincount(row, minlength=x.shape[0])
    first = counts.cumsum(0) - counts
    best[:] = candidate[first]
    for place in range(1, int(counts.max()) if len(counts) else 0):
        rows = (counts > place).nonzero().flatten()
        challenger = candidate[first[rows] + place]
        wins = beats(x[rows], centroids[challenger], centroids[best[rows]])
        best[rows[wins]] = challenger[wins]
    return best


def _not_farther(x: Tensor, centroids: Tensor, row: Tensor, candidate: Tensor) -> Tensor:
    """Pairs that float64 distances cannot rule out: bool (P,).

    Each difference, square and sum of D non-negative terms rounds relatively: |computed - true| <= (D + 4) 2**-53 of
    the true value, plus what underflows once the row and its candidates are scaled to at most 1.
    """
    dims = x.shape[1]
    distance = torch.empty(len(row), dtype=torch.float64, device=x.device)
    size = x.abs().amax(1)
    reach = torch.zeros_like(size).scatter_reduce(0, row, centroids.abs().amax(1)[candidate], "amax")
    fit = -floats.exponent(torch.maximum(size, reach))
    for part in torch.arange(len(row), device=x.device).split(max(1, CHUNK // dims)):
        by = fit[row[part]].unsqueeze(1)
        difference = floats.scale(x[row[part]], by) - floats.scale(centroids[candidate[part]], by)
        distance[part] = (difference * difference).sum(1)
    least = torch.full_like(size, torch.inf).scatter_reduce(0, row, distance, "amin")
    error = (dims + 8) * 2.0**-53
    return distance * (1 - error) <= least[row] * (1 + error) + dims * 2.0**-1000


def is_nearer(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Whether |x - a| < |x - b| over the reals, for float64 (M, D) rows: bool (M,)."""
    return has_gain((x, a, b), (52 - x.shape[1].bit_length()) // 2, _gain)


def has_gain(triples: tuple[Tensor, Tensor, Tensor], width: int, gain: Callable[..., Tensor]) -> Tensor:
    """Whether an exact number formed from each of M triples of rows is above 0: bool (M,).

    triples: x, a, b, float64 (M, D) each. gain: from their int64 limbs of ``width`` bits (m, L, D), and the three
    themselves, to limbs (m, L') of the number, of the same width, most significant first.
    """
    x, a, b = triples
    answer = torch.zeros(x.shape[0], dtype=torch.bool, device=x.device)
    if not len(x):
        return answer
    top = torch.stack([floats.exponent(v).amax(1) for v in (x, a, b)]).amax(0)
    low = torch.stack([floats.lowest_bit(v).amin(1) for v in (x, a, b)]).amin(0)
    limbs = (top - low).clamp(min=1).add(width - 1) // width
    for count in limbs.unique().tolist():
        rows = (limbs == count).nonzero().flatten()
        for part in rows.split(max(1, CHUNK // (x.shape[1] * count))):
            grid = Grid(top[part].unsqueeze(1), width, count)
            values = (x[part], a[part], b[part])
            answer[part] = is_positive(gain(*(grid.split(v) for v in values), values), width)
    return answer


def _gain(x: Tensor, a: Tensor, b: Tensor, _: tuple[Tensor, ...]) -> Tensor:
    """Limbs (M, 2L - 1), most significant first, of sum over D of (a - b)(2x - a - b) = |x-b|^2 - |x-a|^2.

    Factors are below 2**(width + 1) and 2**(width + 2); with at most L <= 2**7 products per limb and D terms a sum
    stays below 2**(2 width + 10 + log2 D) <= 2**62.
    """
    return products(a - b, 2 * x - a - b)


def products(left: Tensor, right: Tensor) -> Tensor:
    """Limbs (M, 2L - 1) of sum over D of left * right, int64 limbs (M, L, D) each, most significant first."""
    count = left.shape[1]
    gain = torch.zeros(left.shape[0], 2 * count - 1, dtype=torch.int64, device=left.device)
    for i in range(count):
        for j in range(count):
            gain[:, i + j] += (left[:, i] * right[:, j]).sum(1)
    return gain


def is_positive(limbs: Tensor, width: int) -> Tensor:
    """Whether a number given by signed limbs (M, L) of that width, most significant first, is above 0: carry, look."""
    carry = torch.zeros_like(limbs[:, 0])
    rest = torch.zeros_like(carry, dtype=torch.bool)
    for index in range(limbs.shape[1] - 1, 0, -1):
        value = limbs[:, index] + carry
        carry = value >> width
        rest |= (value & ((1 << width) - 1)) != 0
    head = limbs[:, 0] + carry
    return (head > 0) | ((head == 0) & rest)
