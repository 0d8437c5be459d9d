"""metric=dot: the largest inner product with centroids of length 1 (spherical k-means on rows of any length)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from distkmeans.exact import floats
from distkmeans.exact.contest import decide, largest_product
from distkmeans.exact.fixed_point import Grid
from distkmeans.kernels.dense import repeated
from distkmeans.metrics import metrics
from distkmeans.metrics.geometry import Assigned, Geometry, Members
from distkmeans.transforms.normalize import unit_rows

LARGEST = 2.0**1000
"""Sums of 2**20 products of smaller values with a centroid's are float64 numbers."""


@metrics.register("dot")
class Dot(Geometry):
    """Maximises sum w x.c over labels and centroids with |c| = 1, so that long rows count for more.

    The centre of a cluster is the sum of its rows, brought to length 1 and rounded; a sum of 0 has none. The inertia
    is -sum w x.c, in which x.c is float64, summed in a fixed order. A label is the true argmax of x.c over the
    centroids as they are stored.

    With every row brought below 1 by a power of two, a float64 product errs by at most (D + 2) 2**-53 |x| |c| in any
    order of summation (Higham, section 3.1), and by D 2**-1000 for what underflows.
    """

    name = "dot"
    objective = "-(weighted sum of inner products with centroids of length 1)"
    unit_centroids = True

    def refuse(self, rows: Tensor) -> tuple[Tensor, str]:
        zero = (rows == 0).all(1)
        if zero.any():
            return zero, "a row of zeros has no direction, which metric=dot needs"
        large = (rows.amax(1) >= LARGEST) | (rows.amin(1) <= -LARGEST)
        return large, f"a value of {LARGEST:.3g} or more, whose products overflow; scale the rows down"

    def place(self, centroids: Tensor) -> Tensor:
        return unit_rows(centroids.to(torch.float64)).to(centroids.dtype)

    def assign(self, rows: Tensor, centroids: Tensor, exact: bool) -> Assigned:
        x, c = rows.to(torch.float64), centroids.to(torch.float64)
        scores, slack = _scores(x, c)
        scores[:, repeated(c)] = torch.inf  # only the first of equals can win

        def judge(open_rows: Tensor, row: Tensor, candidate: Tensor) -> Tensor:
            return largest_product(x[open_rows], c, row, candidate)

        labels, judged = decide(scores, lambda least: least + 2 * slack, judge if exact else None)
        return Assigned(labels, -floats.sum_columns(x * c[labels]), judged)

    def costs(self, rows: Tensor, centroids: Tensor) -> Tensor:
        x = rows.to(torch.float64)
        return torch.stack([-floats.sum_columns(x * c) for c in centroids.to(torch.float64)], dim=1)

    def apart(self, rows: Tensor, costs: Tensor) -> Tensor:
        """|x| - x.c: what the row would gain by a centroid of its own; 0 where that is less than a rounding of it."""
        length = _lengths(rows.to(torch.float64))
        bits = 22 if rows.dtype != torch.float64 else 46
        gain = costs + (length if costs.ndim == 1 else length[:, None])
        return torch.where(gain > (gain - costs) * 2.0**-bits, gain, torch.zeros_like(gain))

    def nearer(self, rows: Tensor, centroids: Tensor, levels: Tensor) -> Tensor:
        x = rows.to(torch.float64)
        scores, slack = _scores(x, centroids.to(torch.float64))
        scale = floats.exponent(x.abs().amax(1))
        least = floats.scale(scores.amin(1) - 2 * slack, scale)
        length = _lengths(x)
        return least + length * (1 - (rows.shape[1] + 8) * 2.0**-50) < levels

    def recentre(self, members: Members) -> Tensor:
        limbs, grid = members.sums()[:, :, :-1], members.grid.columns(slice(0, -1))
        (total, _), _ = grid.double_double(limbs, _largest(limbs, grid))
        centres = unit_rows(total).to(members.centroids.dtype) + 0.0
        return centres.masked_fill((total == 0).all(1)[:, None], math.nan)


def _largest(limbs: Tensor, grid: Grid) -> Tensor:
    """int64 (K, 1): the exponent of the largest limb (K, L, D) of each sum of rows, perhaps far below the grid's."""
    places = torch.stack([grid.place(index) for index in range(grid.limbs)])
    exponents = floats.exponent(limbs.to(torch.float64)) + places
    return exponents.flatten(1).amax(1, keepdim=True)


def _scores(x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """-x.c of float64 rows (n, D) and centroids (K, D), each row at a scale of its own; bounds on their errors (n,)."""
    scaled = floats.scale(x, -floats.exponent(x.abs().amax(1, keepdim=True)))
    scores = scaled @ -c.t()
    slack = (x.shape[1] + 8) * 2.0**-53 * torch.linalg.vector_norm(scaled, dim=1)
    largest = float(torch.linalg.vector_norm(c, dim=1).max()) * (1 + 2.0**-40)
    return scores, slack * largest + x.shape[1] * 2.0**-1000


def _lengths(x: Tensor) -> Tensor:
    """Euclidean lengths of float64 rows (n, D), summed in a fixed order, safe from overflow."""
    by = floats.exponent(x.abs().amax(1))
    scaled = floats.scale(x, -by[:, None])
    return floats.scale(floats.sum_columns(scaled * scaled).sqrt(), by)
