"""From float64 scores and a bound on their error to the index that truly has the least, lowest index on a true tie.

The L1 distance and the inner product are decided here as ``arbiter`` decides squared distances: what the bound leaves
open goes to integers, whole batches at a time. Both are sums of terms that limbs hold exactly.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from distkmeans.exact.arbiter import has_gain, products, winners

Judge = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(open rows (m,), and pairs (P,) of a place among these and a candidate) -> winners int64 (m,)."""


def decide(scores: Tensor, reach: Callable[[Tensor], Tensor], judge: Judge | None) -> tuple[Tensor, int]:
    """int64 (n,): where float64 scores (n, K) are truly least; and how many rows were left to the judge.

    reach: from the least score of each row (n,) to the score up to which another may truly be the least. judge: None
    where scores are exact, or need no proof: the lowest index among equals is taken.
    """
    least, labels = scores.min(1)  # the first of equals
    if judge is None:
        return labels, 0
    within = scores <= reach(least)[:, None]
    rows = (within.sum(1) > 1).nonzero().flatten()
    if len(rows):
        pairs = within[rows].nonzero(as_tuple=True)
        labels[rows] = judge(rows, *pairs)
    return labels, len(rows)


def least_l1(x: Tensor, centroids: Tensor, row: Tensor, candidate: Tensor) -> Tensor:
    """Of the candidates of each float64 row (M, D), the one at the least L1 distance: int64 (M,)."""
    return winners(x, centroids, row, candidate, is_nearer_l1)


def largest_product(x: Tensor, centroids: Tensor, row: Tensor, candidate: Tensor) -> Tensor:
    """Of the candidates of each float64 row (M, D), the one with the largest inner product: int64 (M,)."""
    return winners(x, centroids, row, candidate, has_larger_product)


def is_nearer_l1(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Whether |x - a|_1 < |x - b|_1 over the reals, for float64 (M, D) rows: bool (M,)."""
    return has_gain((x, a, b), min(40, 58 - x.shape[1].bit_length()), _gain_l1)


def _gain_l1(x: Tensor, a: Tensor, b: Tensor, values: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Limbs (M, L) of |x - b|_1 - |x - a|_1. A term is below 2**(width + 2), and D of them below 2**61."""
    near, far = (torch.where(values[0] >= other, 1, -1)[:, None] for other in values[1:])
    return (far * (x - b) - near * (x - a)).sum(2)


def has_larger_product(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Whether x.a > x.b over the reals, for float64 (M, D) rows: bool (M,)."""
    return has_gain((x, a, b), (52 - x.shape[1].bit_length()) // 2, lambda x, a, b, _: products(a - b, x))
