"""Exact sums of clusters in Triton: row numbers sorted by label, and one atomic addition per run of rows.

What is added are the int64 limbs of ``exact.fixed_point``: integers, so that neither the order of the runs nor that of
the atomics can change a bit of the sums.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from distkmeans.exact.fixed_point import Grid
from distkmeans.exact.floats import power_of_two
from distkmeans.kernels.triton_nearest import INTERPRETED

BLOCK_ROWS, BLOCK_COLUMNS = (16, 16) if INTERPRETED else (32, 64)
"""Sorted rows and columns of a program."""


@triton.jit
def add_runs(
    rows, row_stride, column_stride, weights, order, clusters_of, count, dims,
    limbs, limb_stride, cluster_stride, counts, down, up, sign,
    weighted: tl.constexpr, nothing: tl.constexpr, block_n: tl.constexpr, block_c: tl.constexpr,
):  # fmt: skip
    """Add sign * limb program_id(2) of weight * (row, 1), and once sign * (weight > 0), at the rows' clusters.

    order, clusters_of: int64 (count,), row numbers sorted by cluster, and those clusters.
    """
    place = tl.program_id(0).to(tl.int64) * block_n + tl.arange(0, block_n)
    live = place < count
    n = tl.load(order + place, mask=live, other=0)
    cluster = tl.load(clusters_of + place, mask=live, other=nothing)
    c = tl.program_id(1) * block_c + tl.arange(0, block_c)
    at = rows + n[:, None] * row_stride + c.to(tl.int64)[None, :] * column_stride
    value = tl.load(at, mask=live[:, None] & (c < dims)[None, :], other=0).to(tl.float64)
    value = tl.where((c == dims)[None, :], 1.0, value)
    has_weight = live
    if weighted:
        weight = tl.load(weights + n, mask=live, other=0.0).to(tl.float64)
        value *= weight[:, None]  # of at most 48 bits: exact
        has_weight = live & (weight > 0)
    limb = tl.program_id(2)
    factor = down + c
    for above in range(limb):  # cut off the limbs above: exact, so contraction changes nothing
        higher = (value * tl.load(factor + above * (dims + 1), mask=c <= dims, other=0.0)[None, :]).to(tl.int64)
        unit = tl.load(up + above * (dims + 1) + c, mask=c <= dims, other=0.0)
        value -= higher.to(tl.float64) * unit[None, :]
    piece = (value * tl.load(factor + limb * (dims + 1), mask=c <= dims, other=0.0)[None, :]).to(tl.int64) * sign
    current = tl.min(cluster, 0)
    while current < nothing:
        mine = cluster == current
        total = tl.sum(tl.where(mine[:, None], piece, 0), 0)
        tl.atomic_add(limbs + current * cluster_stride + limb * limb_stride + c, total, mask=c <= dims)
        if (tl.program_id(1) == 0) & (limb == 0):
            tl.atomic_add(counts + current, tl.sum((mine & has_weight).to(tl.int64), 0) * sign)
        current = tl.min(tl.where(cluster > current, cluster, nothing), 0)


def can_add(rows: Tensor, grid: Grid) -> bool:
    """Whether ``add_moved`` adds up such rows: products of at most 53 bits, on grids of normal numbers."""
    places = torch.stack([grid.place(index) for index in range(grid.limbs)])
    return rows.dtype != torch.float64 and bool((places.abs() <= 1000).all())


class Runs:
    """Adds rows (N, D), with weights (N,) or none, to sums on a grid of D + 1 columns. Holds for ``can_add``."""

    def __init__(self, rows: Tensor, weights: Tensor | None, grid: Grid) -> None:
        self.rows, self.weights, self.limbs = rows, weights, grid.limbs
        places = torch.stack([grid.place(index) for index in range(grid.limbs)])
        self.down, self.up = power_of_two(-places), power_of_two(places)

    def tally(self, old: Tensor | None, new: Tensor, limbs: Tensor, counts: Tensor) -> int:
        """``stats.tally``: move the rows whose label changed to their new cluster, and count them.

        limbs: int64 (K, limbs, D + 1). counts: int64 (K,). The host waits for the number of rows that moved.
        """
        if old is None:
            self._add(torch.arange(len(new), device=new.device), new, 1, limbs, counts)
            return len(new)
        moved = (old != new).nonzero().flatten()
        self._add(moved, new, 1, limbs, counts)
        self._add(moved, old, -1, limbs, counts)
        return len(moved)

    def _add(self, which: Tensor, labels: Tensor, sign: int, limbs: Tensor, counts: Tensor) -> None:
        """Add ``sign`` times the rows numbered ``which`` at their labels."""
        if not len(which):
            return
        clusters, order = torch.sort(labels[which].to(torch.int64), stable=True)
        dims = self.rows.shape[1]
        grid = (triton.cdiv(len(which), BLOCK_ROWS), triton.cdiv(dims + 1, BLOCK_COLUMNS), self.limbs)
        add_runs[grid](
            self.rows, *self.rows.stride(), self.rows if self.weights is None else self.weights,
            which[order], clusters, len(which), dims,
            limbs, limbs.stride(1), limbs.stride(0), counts, self.down, self.up, sign,
            weighted=self.weights is not None, nothing=2**62, block_n=BLOCK_ROWS, block_c=BLOCK_COLUMNS,
        )  # fmt: skip
