"""The compiled kernel for narrow rows, or few centroids: float32 scores, best and second best in registers.

Its scores and their bound are those of ``kernels.dense``; rows that the bound leaves open go there, or to ``few``.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from distkmeans import native
from distkmeans.kernels import few
from distkmeans.kernels.dense import NEVER, Dense, Frame, Target

AT_ONCE = 4
"""Centroids whose scores the kernel forms together."""


class Narrow:
    """Assign rows on the CPU: float32 or narrower (N, D) with contiguous columns.

    It is made for D of at most ``native.MOST_NARROW``, or K of at most ``native.MOST_FEW``.
    """

    def __init__(
        self,
        rows: Tensor,
        library: native.Library,
        centroids: Tensor,
        largest: float,
        exact: bool,
        frame: Frame | None = None,
    ) -> None:
        self.rows, self.library, self.largest, self.exact = rows, library, largest, exact
        self.name = f"{library.name} float32"
        self.frame = frame or Frame.around(centroids, largest)
        self.open = torch.empty(len(rows), dtype=torch.int32)
        self.seconds = 0.0

    def assign(self, centroids: Tensor, labels: Tensor) -> int:
        """Write the nearest centroid of each row into ``labels``; the number of rows that the pass left open."""
        target = Target.of(centroids, self.frame, torch.float32)
        count, dims = centroids.shape
        size = -(-count // AT_ONCE) * AT_ONCE
        wide = dims > native.MOST_NARROW
        width = native.whole_vectors(dims) if wide else dims
        scratch = torch.zeros(native.threads(), native.MOST_TOGETHER, width) if wide else None
        placed = torch.zeros(size, width)
        placed[:count, :dims] = target.columns.t()[:count]
        bias = torch.full((size,), NEVER)
        bias[:count] = target.bias[:count]
        shift = torch.zeros(dims) if wide and self.frame.shift32 is None else self.frame.shift32
        written = labels if labels.dtype == torch.int32 else torch.empty(len(labels), dtype=torch.int32)
        task = native.Narrow(
            rows=native.Rows.of(self.rows),
            count=len(self.rows),
            centroids=placed.data_ptr(),
            bias=bias.data_ptr(),
            shift=None if shift is None else shift.data_ptr(),
            clusters=size,
            slope=target.slope * (1 + (dims + 8) * 2.0**-23) * self.exact,
            floor=target.floor * (1 + 2.0**-20) * self.exact,
            labels=written.data_ptr(),
            open=self.open.data_ptr(),
            scratch=None if scratch is None else scratch.data_ptr(),
            width=width,
        )
        begin = time.perf_counter()
        self.library.run("narrow", task, len(self.rows) * dims * (size + 16) // 16)
        self.seconds = time.perf_counter() - begin
        if self.exact and task.opened:
            which = self.open[: task.opened].to(torch.int64)
            written[which] = self._settled(self.rows[which], centroids)
        if written is not labels:
            labels.copy_(written)
        return task.opened if self.exact else 0

    def _settled(self, rows: Tensor, centroids: Tensor) -> Tensor:
        """Exact labels, int32 (M,), of rows that the pass left open."""
        if few.are_few(len(rows), centroids):
            return few.nearest(rows, centroids).to(torch.int32)
        labels = torch.empty(len(rows), dtype=torch.int32)
        Dense(rows, centroids, self.largest, None, True).assign(centroids, labels)
        return labels
