"""Which kernel: by what is compiled, what the rows are, and what a sample of them takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor

from distkmeans import native
from distkmeans.errors import InputError
from distkmeans.kernels import Kernel
from distkmeans.kernels.dense import Dense, Frame, largest_of
from distkmeans.kernels.head import Axes, Cut, Form
from distkmeans.kernels.narrow import Narrow
from distkmeans.kernels.pruned import Pruned

KernelName = Literal["auto", "dense", "narrow", "pruned"]

SMALL = 1e8
"""Products of all rows, centroids and columns below which a trial would cost more than it can save."""
TRIAL_ROWS = 1536, 4096
FORMS = {8: (28, 60, 92, 124, 188, 252, 380, 508), 16: (14, 22, 30, 46)}
SHARE = {8: 0.5, 16: 0.8}
"""Of the variance, that a head must hold to be tried."""
LONGEST = 1024
"""Axes of a head at most."""


def choose(
    rows: Tensor,
    centroids: Tensor,
    largest: float | None = None,
    tile_rows: int | None = None,
    exact: bool = True,
    kernel: KernelName = "auto",
) -> Kernel:
    """The kernel for these rows: (N, D) as stored, on their device. ``centroids`` (K, D) are the first to come.

    largest: absolute value that no row, of any rank, and no later centroid exceeds; None where these are all.
    tile_rows: of the dense kernel, which it asks for. kernel: its name, where not the fastest is wanted. Raises
    InputError for one that cannot be had.
    """
    reach = max(largest_of(rows) if largest is None else largest, largest_of(centroids))
    library = native.library_for(rows, centroids)
    refusal = _refusal(rows, centroids, reach, library)
    if kernel not in ("auto", "dense") and refusal:
        raise InputError(f"solver.kernel={kernel}: {refusal}; use auto or dense")
    if kernel == "dense" or tile_rows or refusal or library is None:
        return Dense(rows, centroids, reach, tile_rows, exact)
    names = [kernel] if kernel != "auto" else [name for name in get_args(KernelName) if name != "auto"]
    return Choice(rows, centroids, library, reach, exact).best(names)


def _refusal(rows: Tensor, centroids: Tensor, reach: float, library: native.Library | None) -> str:
    """Why the compiled kernels cannot serve, or nothing."""
    if library is None:
        return f"the compiled kernels cannot be used ({native.why_not() or 'rows are not on the CPU'})"
    if rows.dtype == torch.float64 or centroids.dtype != torch.float32:
        return "the compiled kernels take rows of 32 bits and fewer"
    if rows.stride(1) != 1 or Frame.around(centroids, reach).exponent:
        return "the compiled kernels take whole rows of ordinary size"
    return ""


class Choice:
    """The compiled kernels for some rows and centroids, tried on a sample of the rows."""

    def __init__(self, rows: Tensor, centroids: Tensor, library: native.Library, reach: float, exact: bool) -> None:
        self.rows, self.centroids, self.library, self.reach, self.exact = rows, centroids, library, reach, exact
        self.narrow = rows.shape[1] <= native.MOST_NARROW

    def best(self, names: list[str]) -> Kernel:
        """The fastest of the kernels of these names."""
        work = self.rows.numel() * len(self.centroids)
        if "dense" in names and work < SMALL:
            return self._narrow(self.rows) if self.narrow else Dense(self.rows, self.centroids, self.reach, None, self.exact)
        if names == ["narrow"]:
            if not self.narrow:
                raise InputError(f"solver.kernel=narrow: at most {native.MOST_NARROW} columns; use auto")
            return self._narrow(self.rows)
        least, best = float("inf"), None
        if self.narrow and "narrow" in names:
            least = self._seconds(self._narrow(self.sample))
        if "pruned" in names:
            for how, seconds in self._trials(least):
                if seconds < least:
                    least, best = seconds, how
        if best is None:
            return self._narrow(self.rows)
        return Pruned(self.rows, self.library, best, self.reach, self.exact)

    @property
    def sample(self) -> Tensor:
        """Rows at even distances, a sixteenth within limits."""
        count = len(self.rows)
        wanted = min(max(count // 16, TRIAL_ROWS[0]), TRIAL_ROWS[1], count)
        return self.rows[:: max(1, count // wanted)][:wanted].contiguous()

    def _narrow(self, rows: Tensor) -> Narrow:
        return Narrow(rows, self.library, self.centroids, self.reach, self.exact)

    def _seconds(self, kernel: Narrow | Pruned) -> float:
        """Of a pass over the sample, whose labels it knows: the better of two."""
        labels = torch.empty(len(kernel.rows), dtype=torch.int32)
        kernel.assign(self.centroids, labels)
        seconds = []
        for _ in range(2):
            if isinstance(kernel, Pruned):
                kernel.forget()
            kernel.assign(self.centroids, labels)
            seconds.append(kernel.seconds)
        return min(seconds)

    def _trials(self, least: float) -> Iterator[tuple[Cut, float]]:
        """Cuts, and what a pass over the sample takes with them: longer and longer heads, while it pays."""
        sample, dims = self.sample, self.rows.shape[1]
        count = len(self.rows)
        axes, shares = Axes.principal(self.rows[:: max(1, count // max(TRIAL_ROWS[1], 4 * dims))])
        for bits, lengths in FORMS.items():
            before = float("inf")
            tried = [length for length in lengths if length < dims and shares[length - 1] >= SHARE[bits]]
            tried += [dims] if bits == 8 and dims <= LONGEST else []
            while tried:
                length = tried.pop(0)
                how = Cut.fitting(sample, axes, Form(bits, length, axes.refined(sample) if bits == 16 else 0))
                seconds = self._seconds(Pruned(sample, self.library, how, self.reach, self.exact))
                yield how, seconds
                if seconds > 1.05 * before:
                    tried = tried[-1:] if bits == 8 else []  # but for all axes, longer ones do not pay
                before = seconds
