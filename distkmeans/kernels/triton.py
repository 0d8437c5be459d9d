"""The kernel for GPUs, in Triton: an integer head rules most centroids out, a fused float pass takes what it cannot.

Nothing waits for the device but the one count that ``assign`` answers with: the rows left open by whatever pass, which
go through ``kernels.dense``'s float64 pass and ``exact.arbiter``. Only where there are some does more cross over.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distkmeans.kernels.dense import Dense
from distkmeans.kernels.triton_nearest import FloatPass
from distkmeans.kernels.triton_sieve import Sieve, choose_sieve

SPLIT_COST, FLOAT_COST = 4, 32
"""A product of the float pass in int8 products, on tensor cores and without: the ratios of rates that vendors print."""


class Fused(Dense):
    """Assign rows by Triton kernels. float64 rows and extreme exponents are left to ``Dense``.

    sieve: the pruned pass, None where a sample of the rows shows no gain in it, or once most rows pass it by.
    """

    name = "triton"

    def __init__(
        self, rows: Tensor, centroids: Tensor, largest: float, tile_rows: int | None = None, exact: bool = True
    ) -> None:
        super().__init__(rows, centroids, largest, tile_rows, exact)
        self.fits = rows.dtype != torch.float64 and not self.frame.exponent
        self.sieve: Sieve | None = None
        self.last: Tensor | None = None
        if self.fits:
            self.float_pass = FloatPass(rows, self.frame, self.norms)
            cost = FLOAT_COST if self.float_pass.split is None else SPLIT_COST
            self.sieve = choose_sieve(rows, centroids, cost * rows.shape[1]) if exact and len(rows) else None

    def assign(self, centroids: Tensor, labels: Tensor) -> int:
        """Write the nearest centroid of each row into ``labels``; the number of rows the fast passes left open."""
        if not self.fits or centroids.dtype == torch.float64:
            return super().assign(centroids, labels)
        centroids = centroids.contiguous()
        if self.sieve is None:
            self.float_pass.run(self.float_pass.facing(centroids), labels, slice(0, len(self.rows)))
        else:
            self._pruned(self.sieve, centroids, labels)
        self.last = labels
        if not self.exact:
            return 0
        undecided = self.float_pass.is_open.nonzero().flatten()  # here the host waits, once
        if self.sieve is not None and 2 * int(self.sieve.left_counts.sum()) > len(self.rows):
            self.sieve = None
        self._settle(centroids, labels, undecided)
        return len(undecided)

    def _pruned(self, sieve: Sieve, centroids: Tensor, labels: Tensor) -> None:
        facing, heads = self.float_pass.facing(centroids), sieve.facing(centroids)
        if self.last is None:
            sieve.guess(heads, labels)
            self.last = labels
        for rows in sieve.blocks():
            sieve.aim(heads, centroids, self.last, rows)
            sieve.sift(heads, rows)
            left = sieve.decide(centroids, labels, self.float_pass.is_open, rows)
            self.float_pass.run(facing, labels, rows, left)
