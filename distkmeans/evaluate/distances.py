"""Euclidean distances by a matrix product, and again by differences where the product cancels."""

from __future__ import annotations

import torch
from torch import Tensor

NEAR = 2.0**-16
"""Share of |x|^2 + |y|^2 below which |x - y|^2 is formed from differences."""
PAIR_ELEMENTS = 1 << 21
"""Elements of a temporary of differences."""


def distances(x: Tensor, y: Tensor) -> Tensor:
    """float64 (M, B): |x - y| of all rows of x (M, D) and y (B, D), float64 of an ordinary size.

    |x|^2 + |y|^2 - 2 x.y, seen from the mean of y, errs by at most (D + 4) 2**-52 (|x|^2 + |y|^2): what is left of it
    is at least NEAR of that, or replaced, so that distances err by less than (D + 4) 2**-37 of their own.
    """
    centre = y.mean(0)
    x, y = x - centre, y - centre
    size = x.square().sum(1)[:, None] + y.square().sum(1)
    square = torch.addmm(size, x, y.t(), alpha=-2)
    left, right = (square < NEAR * size).nonzero(as_tuple=True)
    step = max(1, PAIR_ELEMENTS // x.shape[1])
    for i, j in zip(left.split(step), right.split(step), strict=True):
        square[i, j] = (x[i] - y[j]).square_().sum(1)
    return square.sqrt_()
