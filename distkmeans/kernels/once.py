"""Labels of rows that are seen once, such as the batches of a stream: nothing is kept of them.

For narrow rows the compiled float32 pass is the fastest. For wider ones heads of bytes along the axes as they are cost
no rotation, and so may pay even for one pass; that depends on the rows, and is tried on some of them.
"""

from __future__ import annotations

import time
from typing import Literal

import torch
from torch import Tensor

from distkmeans import native
from distkmeans.errors import InputError
from distkmeans.kernels import Kernel
from distkmeans.kernels.choose import Choice
from distkmeans.kernels.dense import Dense
from distkmeans.kernels.head import Axes, Cut, Form, Stages
from distkmeans.kernels.narrow import Narrow
from distkmeans.kernels.pruned import Pruned

OnceName = Literal["auto", "dense", "narrow", "pruned", "triton"]
WORTH = 1 << 26
"""Rows x columns x clusters of a call from which a trial pays."""
TRIALS = 2


class Once:
    """Assigns whatever rows it is given, of the type and width of the choice's, to centroids like the choice's.

    kernel: its name, or auto. tile_rows: of the dense kernel, which a number asks for. rows: of a later call, about,
    where there will be many; 0 for no trial. Raises InputError for a kernel that cannot be had.
    """

    def __init__(self, choice: Choice, kernel: OnceName = "auto", tile_rows: int | None = None, rows: int = 0) -> None:
        self.choice, self.tile_rows = choice, tile_rows
        refusal = "" if kernel == "auto" else choice.refusal(kernel)
        if refusal:
            raise InputError(f"solver.kernel={kernel}: {refusal}; use auto")
        self.stages: Stages | None = None
        self.kind: str = kernel
        if kernel == "auto":
            self.kind = "dense" if tile_rows else self._fastest(rows)
        if self.kind == "pruned" and self.stages is None:
            self.stages = self._stages(choice.sample())
        self.name = self._kernel(self.kind, choice.rows[:0], choice.centroids).name

    def assign(self, rows: Tensor, centroids: Tensor, labels: Tensor) -> int:
        """Write the label of each row (n, D) into ``labels`` (n,); the number of rows that the fast pass left open."""
        return self._kernel(self.kind, rows, centroids).assign(centroids, labels)

    def _fastest(self, rows: int) -> str:
        able = [name for name in ("triton", "narrow", "pruned", "dense") if not self.choice.refusal(name)]
        if able[0] != "pruned":
            return able[0]
        if rows * self.choice.rows.shape[1] * len(self.choice.centroids) < WORTH or not len(self.choice.rows):
            return "dense"
        sample = self.choice.rows[:: max(1, len(self.choice.rows) // rows)][:rows].contiguous()
        self.stages = self._stages(sample)
        return min(("pruned", "dense"), key=lambda name: self._seconds(name, sample))

    def _seconds(self, name: str, sample: Tensor) -> float:
        labels = torch.empty(len(sample), dtype=torch.int32)
        seconds = []
        for _ in range(TRIALS):
            begin = time.perf_counter()
            self._kernel(name, sample, self.choice.centroids).assign(self.choice.centroids, labels)
            seconds.append(time.perf_counter() - begin)
        return min(seconds)

    @staticmethod
    def _stages(sample: Tensor) -> Stages:
        values = sample.to(torch.float32)
        axes = Axes(values.mean(0) if len(values) else values.new_zeros(values.shape[1]), None)
        form = Form(8, values.shape[1])
        return Stages(Cut.along(values, axes, form) if len(values) else Cut(axes, form, 1.0))

    def _kernel(self, name: str, rows: Tensor, centroids: Tensor) -> Kernel:
        choice = self.choice
        if name == "triton":
            from distkmeans.kernels.triton import Fused  # reads TRITON_INTERPRET as it is imported

            return Fused(rows, centroids, choice.reach, None, choice.exact)
        if name == "narrow" and choice.library is not None:
            return Narrow(rows, choice.library, centroids, choice.reach, choice.exact)
        if name == "pruned" and choice.library is not None and self.stages is not None:
            return Pruned(rows, choice.library, self.stages, choice.reach, choice.exact)
        return Dense(rows, centroids, choice.reach, self.tile_rows, choice.exact)


def choice_for(like: Tensor, centroids: Tensor, largest: float, exact: bool = True) -> Choice:
    """Of kernels for rows like these (n, D) and centroids (K, D), none of whose values exceeds ``largest``."""
    return Choice(like, centroids, native.library_for(like, centroids), largest, exact)
