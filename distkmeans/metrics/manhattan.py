"""metric=manhattan: the L1 distance, and the median of every column (k-medians; Bradley, Mangasarian, Street 1997)."""

from __future__ import annotations

import torch
from torch import Tensor

from distkmeans.exact import floats
from distkmeans.exact.contest import decide, least_l1
from distkmeans.kernels.dense import repeated
from distkmeans.metrics import metrics
from distkmeans.metrics.geometry import Assigned, Geometry, Members
from distkmeans.metrics.medians import lower_medians

LARGEST = 2.0**1000
"""Sums of 2**20 differences of smaller values are float64 numbers."""


@metrics.register("manhattan")
class Manhattan(Geometry):
    """Centres are lower weighted medians, exactly: values of rows, and the best centres that there are.

    A distance in float64 rounds D differences and D - 1 sums of terms that are 0 or more: in whatever order of
    summation it errs by at most (D + 3) 2**-53 of itself. Nothing underflows, as sums and differences of float64
    numbers below the normal range are exact.
    """

    name = "manhattan"
    objective = "weighted sum of L1 distances"

    def refuse(self, rows: Tensor) -> tuple[Tensor, str]:
        large = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
        if rows.dtype == torch.float64:
            large = (rows.amax(1) >= LARGEST) | (rows.amin(1) <= -LARGEST)
        return large, f"a value of {LARGEST:.3g} or more, whose distances overflow; scale the rows down"

    def assign(self, rows: Tensor, centroids: Tensor, exact: bool) -> Assigned:
        x, c = rows.to(torch.float64), centroids.to(torch.float64)
        scores = torch.cdist(x, c, p=1.0)
        scores[:, repeated(c)] = torch.inf  # only the first of equals can win
        error = (x.shape[1] + 4) * 2.0**-53

        def judge(open_rows: Tensor, row: Tensor, candidate: Tensor) -> Tensor:
            if _is_exact(x[open_rows], c):
                return scores[open_rows].min(1).indices
            return least_l1(x[open_rows], c, row, candidate)

        labels, judged = decide(scores, lambda least: least * (1 + 4 * error), judge if exact else None)
        return Assigned(labels, _distance(x, c[labels]), judged)

    def costs(self, rows: Tensor, centroids: Tensor) -> Tensor:
        x = rows.to(torch.float64)
        return torch.stack([_distance(x, centroid) for centroid in centroids.to(torch.float64)], dim=1)

    def nearer(self, rows: Tensor, centroids: Tensor, levels: Tensor) -> Tensor:
        rough = torch.cdist(rows.to(torch.float64), centroids.to(torch.float64), p=1.0).amin(1)
        return rough < levels * (1 + (rows.shape[1] + 4) * 2.0**-51)

    def recentre(self, members: Members) -> Tensor:
        return lower_medians(members)


def _distance(x: Tensor, c: Tensor) -> Tensor:
    """float64 (n,): the L1 distances of rows (n, D) and centroids (n, D) or (D,), summed in a fixed order."""
    return floats.sum_columns((x - c).abs_())


def _is_exact(x: Tensor, c: Tensor) -> bool:
    """Whether all sums of |x - c| are exact: the values' common grid is coarse enough for 53 bits."""
    top = max(int(floats.exponent(values).max()) for values in (x, c))
    low = min(int(floats.lowest_bit(values).min()) for values in (x, c))
    return top + 1 + x.shape[1].bit_length() - low <= 53
