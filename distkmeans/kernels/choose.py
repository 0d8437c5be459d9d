"""Which kernel: by what is compiled, what the rows are, and what a sample of them takes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from distkmeans import native
from distkmeans.errors import InputError
from distkmeans.kernels import Kernel, integer, why_not_triton
from distkmeans.kernels.dense import Dense, Frame, largest_of
from distkmeans.kernels.head import Axes, Cut, Form, Stages
from distkmeans.kernels.integer import Integer
from distkmeans.kernels.narrow import Narrow
from distkmeans.kernels.pruned import Pruned

KernelName = Literal["auto", "dense", "integer", "narrow", "pruned", "triton"]

KEEPERS = ("integer", "pruned", "triton")
"""Kernels that keep a head of every row."""
SMALL = 1e8
"""Products of all rows, centroids and columns below which a trial would cost more than it can save."""
TRIAL_ROWS = 1536, 4096
LENGTHS = {8: (28, 60, 92, 124, 188, 252, 380, 508), 16: (14, 22, 30, 46)}
SHARE = {8: 0.6, 16: 0.8}
"""Of the variance, that a head must hold to be tried."""
SIMPLER = 0.2
"""By which heads must beat the kernel for narrow rows: they cost more than the pass over the rows."""
RIVALS, JUDGED = 3, (20, 80)
"""Heads that stay in the race, and the passes before which they are judged again."""
LEAN = 1.25
"""How much slower heads may be in the trial that are so much shorter than the fastest: its centroids are the first, and
as they settle, pairs grow fewer."""
LONGER, WHOLE = {8: 64, 16: 32}, 1024
"""Words of the longer heads; columns up to which those of bytes take them all, which costs no rotation."""
ROOM = 1.5
"""How much a kernel may keep beside the rows, as a multiple of them."""
LONGEST = 1 << 12
"""Columns up to which a head of all axes is tried: norms of so many coordinates are covered by head.UP."""


def choose(
    rows: Tensor,
    centroids: Tensor,
    largest: float | None = None,
    tile_rows: int | None = None,
    exact: bool = True,
    kernel: KernelName = "auto",
    frugal: bool = False,
    room: float | None = None,
) -> Kernel:
    """The kernel for these rows: (N, D) as stored, on their device. ``centroids`` (K, D) are the first to come.

    largest: absolute value that no row, of any rank, and no later centroid exceeds; None where these are all.
    tile_rows: of the dense kernel, which it asks for. kernel: its name, where not the fastest is wanted. Raises
    InputError for one that cannot be had. frugal: only kernels that keep no heads of the rows. room: bytes that may be
    kept beside each row; None for ROOM times its own.
    """
    reach = max(largest_of(rows) if largest is None else largest, largest_of(centroids))
    if kernel == "dense" or (tile_rows and kernel == "auto"):
        return Dense(rows, centroids, reach, tile_rows, exact)
    room = ROOM * row_size(rows) if room is None else room
    choice = Choice(rows, centroids, native.library_for(rows, centroids), reach, exact, room)
    if kernel == "auto":
        names = [name for name in get_args(KernelName)[1:] if not (frugal and name in KEEPERS)]
        return choice.fastest([name for name in names if not choice.refusal(name)])
    refusal = choice.refusal(kernel)
    if refusal:
        raise InputError(f"solver.kernel={kernel}: {refusal}; use auto")
    return choice.fastest([kernel])


def again(kernel: Kernel, rows: Tensor, centroids: Tensor) -> Kernel:
    """A kernel of the same kind for other rows of the same data (n, D), without a trial, where they allow it.

    Heads are cut as they were for the rows that ``kernel`` was chosen for: where that fits these badly it costs time.
    """
    reach = max(largest_of(rows), largest_of(centroids))
    choice = Choice(rows, centroids, native.library_for(rows, centroids), reach, exact=True)
    name, how = _kind(kernel)
    return choose(rows, centroids) if choice.refusal(name) else choice.kernel(name, rows, how)


def _kind(kernel: Kernel) -> tuple[str, Stages | None]:
    """The name of a kernel and how it cuts heads."""
    if isinstance(kernel, Judged):
        kernel = kernel.kernel
    if isinstance(kernel, Pruned):
        return "pruned", kernel.stages
    if isinstance(kernel, Integer):
        return "integer", Stages(kernel.how)
    return ("dense" if isinstance(kernel, Dense) else "narrow" if isinstance(kernel, Narrow) else "triton"), None


@dataclass(frozen=True)
class Choice:
    """The kernels for some rows and centroids. library: the compiled ones, None where there are none.

    room: bytes that may be kept beside each row.
    """

    rows: Tensor
    centroids: Tensor
    library: native.Library | None
    reach: float
    exact: bool
    room: float = math.inf

    def refusal(self, kernel: str) -> str:
        """Why a kernel cannot serve, or nothing."""
        if kernel == "dense":
            return ""
        if kernel == "triton":
            return why_not_triton(self.rows.device)
        if self.rows.device.type != "cpu":
            return "it is for rows on the CPU"
        if kernel in ("narrow", "pruned") and self.library is None:
            return f"the compiled kernels cannot be used ({native.why_not()})"
        if self.rows.dtype == torch.float64 or self.centroids.dtype != torch.float32:
            return "it is for values of 32 bits and fewer"
        if self.rows.stride(1) != 1 or Frame.around(self.centroids, self.reach).exponent:
            return "it is for values of ordinary size, rows whole in memory"
        many = self.rows.shape[1] > native.MOST_NARROW and len(self.centroids) > native.MOST_FEW
        if kernel == "narrow" and many:
            return f"it is for at most {native.MOST_NARROW} columns, or {native.MOST_FEW} clusters"
        if kernel == "integer" and not integer.works():
            return "torch._int_mm is not exact here"
        return ""

    def fastest(self, names: list[str]) -> Kernel:
        """Of these kernels, the one that takes a sample of the rows in the least time; small problems see no trial."""
        small = self.rows.numel() * len(self.centroids) < SMALL
        for name in ("triton", "narrow", "dense"):
            if name in names and (small or name == "triton" or len(names) == 1):
                return self.kernel(name, self.rows, None)
        trials = list(self._trials(names, self.sample()))
        if not trials:
            return self.kernel(names[0], self.rows, None)
        best, how, _ = min(trials, key=lambda trial: trial[2])
        if best != "pruned" or how is None:
            return self.kernel(best, self.rows, how)
        return Judged(self, self._rivals(trials, how.first.form.bits))

    @staticmethod
    def _rivals(trials: list[tuple[str, Stages | None, float]], bits: int) -> list[Stages]:
        """Heads of so many bits that stay in the race: first the shortest that is about the best, then the fastest."""
        ours = [(seconds, cut) for _, cut, seconds in trials if cut and cut.first.form.bits == bits]
        heads = sorted(ours, key=lambda head: head[0])
        least, best = heads[0]
        lean = [cut for s, cut in heads if s <= LEAN * least and LEAN * cut.first.form.length <= best.first.form.length]
        first = min(lean, key=lambda cut: cut.first.form.length, default=best)
        return [first, *(cut for _, cut in heads if cut is not first)][:RIVALS]

    def _trials(self, names: list[str], sample: Tensor) -> Iterator[tuple[str, Stages | None, float]]:
        """Contenders, and their seconds for a pass over the sample. What is compiled beats its like in torch."""
        if "narrow" in names:
            yield "narrow", None, self.seconds("narrow", sample, None) * (1 - SIMPLER)
        elif "dense" in names and "pruned" not in names:
            yield "dense", None, self.seconds("dense", sample, None)
        if "pruned" in names or "integer" in names:
            name = "pruned" if "pruned" in names else "integer"
            count, dims = self.rows.shape
            axes, shares = Axes.principal(self.rows[:: max(1, count // max(TRIAL_ROWS[1], 4 * dims))])
            labels = torch.full((len(sample),), -1, dtype=torch.int32)
            for bits in (8, 16) if name == "pruned" else (8,):
                for cut, seconds in self._heads(name, bits, axes, shares, sample, labels):
                    yield name, cut, seconds

    def _heads(
        self, name: str, bits: int, axes: Axes, shares: Tensor, sample: Tensor, labels: Tensor
    ) -> Iterator[tuple[Stages, float]]:
        """Longer and longer heads, while it pays, and one of all axes, or the longest where there are too many."""
        dims = self.rows.shape[1]
        lengths = [length for length in LENGTHS[bits] if length < dims and shares[length - 1] >= SHARE[bits]]
        if bits == 8:
            lengths += [dims] if dims <= LONGEST else [] if lengths else LENGTHS[8][-1:]
        refined = axes.refined(sample, min(lengths)) if bits == 16 and lengths else 0
        second = self._second(bits, refined, axes, sample) if name == "pruned" and lengths else None
        before = math.inf
        while lengths:
            form = Form(bits, lengths.pop(0), refined)
            pays = second is not None and second.form.length > form.length and taken(form, second.form) <= self.room
            cut = Stages.fitting(sample, axes, form, second if pays else None)
            seconds = self.seconds(name, sample, cut, labels=labels)
            yield cut, seconds
            if seconds > 1.05 * before:
                lengths = lengths[-1:] if bits == 8 else []
            before = seconds

    def _second(self, bits: int, refined: int, axes: Axes, sample: Tensor) -> Cut | None:
        """The longer heads: so many words, or all axes."""
        dims, most = self.rows.shape[1], 32 // bits * (LONGER[bits] - 1) - 2 * refined
        form = Form(bits, dims if bits == 8 and dims <= WHOLE else min(dims, most), refined)
        return Cut.fitting(sample, axes, form) if min(LENGTHS[bits]) < form.length else None

    def sample(self) -> Tensor:
        """Rows at even distances, a sixteenth within limits."""
        return self.sampled(self.rows)

    def sampled(self, values: Tensor) -> Tensor:
        """The sample's part of values, one for each row."""
        count = len(values)
        wanted = max(1, min(max(count // 16, TRIAL_ROWS[0]), TRIAL_ROWS[1], count))
        return values[:: max(1, count // wanted)][:wanted].contiguous()

    def kernel(self, name: str, rows: Tensor, how: Stages | None) -> Kernel:
        if name == "triton":
            from distkmeans.kernels.triton import Fused  # reads TRITON_INTERPRET as it is imported

            return Fused(rows, self.centroids, self.reach, None, self.exact)
        if name == "narrow" and self.library is not None:
            return Narrow(rows, self.library, self.centroids, self.reach, self.exact)
        if name == "pruned" and self.library is not None and how is not None:
            return self.pruned(rows, how)
        if name == "integer" and how is not None:
            return Integer(rows, how.first, self.exact)
        return Dense(rows, self.centroids, self.reach, None, self.exact)

    def pruned(self, rows: Tensor, how: Stages) -> Pruned:
        assert self.library is not None
        size = taken(how.first.form, how.second.form if how.second else None) + row_size(rows)
        return Pruned(rows, self.library, how, self.reach, self.exact, may_copy=size <= self.room)

    def seconds(
        self,
        name: str,
        sample: Tensor,
        how: Stages | None,
        centroids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> float:
        """Of a pass over the sample, whose labels the kernel knows: the better of two.

        labels: of the sample, int32, filled in; -1 where none is known yet.
        """
        kernel = self.kernel(name, sample, how)
        labels = torch.full((len(sample),), -1, dtype=torch.int32) if labels is None else labels
        centroids = self.centroids if centroids is None else centroids
        if isinstance(kernel, Pruned) and len(labels) and labels[0] >= 0:
            kernel.start(labels, len(centroids))
        else:
            kernel.assign(centroids, labels)
        seconds = []
        for _ in range(2):
            if isinstance(kernel, Pruned):
                kernel.forget()
            begin = time.perf_counter()
            kernel.assign(centroids, labels)
            own = getattr(kernel, "seconds", 0.0)  # without what does not grow with the rows
            seconds.append(own or time.perf_counter() - begin)
        return min(seconds)


def row_size(rows: Tensor) -> int:
    """Bytes of a row."""
    return rows.shape[1] * rows.element_size()


def taken(first: Form, second: Form | None) -> int:
    """Bytes per row of the pruned kernel's heads, at most: while records, or the longer heads, are being moved."""
    record = 4 * (native.HEADER + first.words)
    longer = 4 * native.whole_vectors(second.words) if second else 0
    return record + longer + max(record, longer)


class Judged:
    """The pruned kernel with the best head of some, which are timed again as centroids settle: then others may win.

    A change costs the time of cutting all rows, so it must pay for that over three times the passes so far.
    """

    def __init__(self, choice: Choice, rivals: list[Stages]) -> None:
        self.choice, self.rivals, self.passes = choice, rivals, 0
        self.labels: Tensor | None = None  # of the last pass, and to how many centroids
        self.clusters = len(choice.centroids)
        self._take(rivals[0])

    @property
    def name(self) -> str:
        return self.kernel.name

    def assign(self, centroids: Tensor, labels: Tensor) -> int:
        self.passes += 1
        if len(centroids) != self.clusters:
            self.labels, self.clusters = None, len(centroids)
        if self.passes in JUDGED and len(self.rivals) > 1:
            self._judge(centroids)
        self.labels = labels
        return self.kernel.assign(centroids, labels)

    def _judge(self, centroids: Tensor) -> None:
        sample, labels = self.choice.sample(), None if self.labels is None else self.choice.sampled(self.labels)
        times = [self.choice.seconds("pruned", sample, cut, centroids, labels) for cut in self.rivals]
        best = min(range(len(times)), key=times.__getitem__)
        now = self.rivals.index(self.kernel.stages)
        gain = (times[now] - times[best]) * len(self.choice.rows) / len(sample)
        if 3 * self.passes * gain > self.cost and self.labels is not None:
            self._take(self.rivals[best], self.labels)

    def _take(self, how: Stages, labels: Tensor | None = None) -> None:
        begin = time.perf_counter()
        choice = self.choice
        assert choice.library is not None
        self.kernel = choice.pruned(choice.rows, how)
        if labels is not None:
            self.kernel.start(labels, self.clusters)
        self.cost = time.perf_counter() - begin
