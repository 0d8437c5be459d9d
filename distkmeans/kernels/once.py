"""Labels of rows that are seen once, such as the batches of a stream: nothing is kept of them, unless they are drawn
again and again from rows at hand.

For few columns the compiled float32 pass is the fastest, or a matrix product. For many, heads may pay even for one
pass: of bytes along the columns as they are, which costs no rotation, or short ones along the principal axes, where few
of these hold the most. That depends on the rows, and is tried once on some of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Literal

import torch
from torch import Tensor

from distkmeans import native
from distkmeans.data.shard import Drawn, Shard
from distkmeans.errors import InputError
from distkmeans.kernels import Kernel
from distkmeans.kernels.choose import ROOM, Choice, row_size, taken
from distkmeans.kernels.dense import Dense, Frame
from distkmeans.kernels.head import Axes, Cut, Form, Stages
from distkmeans.kernels.kept import Kept
from distkmeans.kernels.narrow import Narrow
from distkmeans.kernels.pruned import Costs, Pruned

OnceName = Literal["auto", "dense", "narrow", "pruned", "triton"]
WORTH = 1 << 26
"""Rows x columns x clusters of a call from which a trial pays."""
WORTH_KEEPING = 1 << 29
"""The same of all calls, where heads may be kept of rows that are not narrow."""
TRIAL_ELEMENTS, TRIAL_ROWS, TRIAL_SHARE = 1 << 17, (192, 1024), 192
"""Elements of the rows of a trial, and its rows; at most one in so many of all that there will be."""
SAMPLE_ROWS = 4096
"""Rows of which axes are found."""
SHORT = {16: (14, 22), 8: (28, 60)}
"""Lengths of short heads, by their bits: the first that is long enough is tried."""
SHARE = {16: 0.9, 8: 0.6}
"""Of the variance, that the first axes must hold for a short head to be tried."""
HOPELESS = 1.5
"""A first call that takes so many times the best so far is not repeated."""
TURNED = 500
"""Rows x clusters of all calls, over columns squared, 256 at least, from which it may pay to find principal axes: both
what that takes and what it saves, over columns."""


class Once:
    """Assigns whatever rows it is given, of the type and width of the choice's, to centroids like the choice's.

    kernel: its name, or auto. tile_rows: of the dense kernel, which a number asks for. rows, total: of a later call and
    of all, about, where there will be many; 0 for no trial. drawn: whether rows are drawn from the choice's, each
    several times: their heads may be kept. Raises InputError for a kernel that cannot be had.
    """

    def __init__(
        self,
        choice: Choice,
        kernel: OnceName = "auto",
        tile_rows: int | None = None,
        rows: int = 0,
        total: int = 0,
        drawn: bool = False,
    ) -> None:
        refusal = "" if kernel == "auto" else choice.refusal(kernel)
        if refusal:
            raise InputError(f"solver.kernel={kernel}: {refusal}; use auto")
        self.choice, self.tile_rows = choice, tile_rows
        self.frame, self.total = Frame.around(choice.centroids, choice.reach), total
        names = [kernel] if kernel != "auto" else ["dense"] if tile_rows else ["triton", "narrow", "dense", "pruned"]
        names = [name for name in names if not choice.refusal(name)]
        self.kind, self.stages = self._fastest([*names, "kept"] if drawn and "pruned" in names else names, rows)
        self.name = self._kernel(self.kind, self.stages, choice.rows[:0], choice.centroids).name
        self.kept = self._kept(self.stages, choice.rows) if self.kind == "kept" and self.stages else None

    @property
    def compiled(self) -> bool:
        """Whether all of the work is that of the compiled kernels."""
        return self.kind in ("narrow", "pruned", "kept")

    def assign(self, rows: Tensor, centroids: Tensor, labels: Tensor) -> int:
        """Write the label of each row (n, D) into ``labels`` (n,); the number of rows that the fast pass left open."""
        return self._kernel(self.kind, self.stages, rows, centroids).assign(centroids, labels)

    def assign_batch(self, rows: Shard, centroids: Tensor, labels: Tensor, costs: Costs | None = None) -> int:
        """The same, of a shard."""
        return self.assign(rows.rows, centroids, labels)

    def assign_drawn(self, rows: Drawn, centroids: Tensor, labels: Tensor, costs: Costs | None = None) -> int:
        """The same, of rows drawn from those of the choice. costs: filled if they are found on the way."""
        if self.kept:
            return self.kept.assign(rows.local, centroids, labels, costs)
        return self.assign(rows.rows, centroids, labels)

    def assign_part(self, rows: slice, centroids: Tensor, labels: Tensor) -> int:
        """The same, of a part of the choice's rows that starts with a block of the kernels. labels: of all of them."""
        if self.kept:
            return self.kept.assign_part(rows, centroids, labels)
        return self.assign(self.choice.rows[rows], centroids, labels[rows])

    def _fastest(self, names: list[str], rows: int) -> tuple[str, Stages | None]:
        """Of these kernels, in the order of preference where there is no trial; and its heads."""
        choice = self.choice
        if names[0] == "pruned":
            return names[-1], as_they_are(choice.sample())
        drawn = "kept" in names
        if names[0] == "triton" or "pruned" not in names or not self._pays(rows, drawn):
            return names[0], None
        sample = self._sample(rows)
        best: tuple[str, Stages | None] = names[0], None
        least = math.inf
        for stages in self._heads(sample):
            if drawn and taken(stages.first.form, None) <= ROOM * row_size(choice.rows):
                name, seconds = "kept", self._keeping(stages, sample, rows, least)
            else:
                name, seconds = "pruned", self._cutting_anew("pruned", stages, sample, rows, drawn, least)
            if seconds < least:
                best, least = (name, stages), seconds
        return best if least <= self._cutting_anew(names[0], None, sample, rows, drawn, least) else (names[0], None)

    def _pays(self, rows: int, drawn: bool) -> bool:
        """Whether a trial does. rows: of a call. drawn: whether heads may be kept."""
        count, dims = self.choice.rows.shape
        each = dims * len(self.choice.centroids)
        keeps = drawn and dims > native.MOST_NARROW and self.total * each >= WORTH_KEEPING
        return bool(count) and (rows * each >= WORTH or keeps)

    def _sample(self, rows: int) -> Tensor:
        """Rows of a trial, at even distances."""
        (count, dims), (fewest, most) = self.choice.rows.shape, TRIAL_ROWS
        wanted = min(rows, max(fewest, min(most, TRIAL_ELEMENTS // dims, self.total // TRIAL_SHARE)))
        return self.choice.rows[:: max(1, count // wanted)][:wanted].contiguous()

    def _heads(self, sample: Tensor) -> Iterator[Stages]:
        rows, dims = self.choice.rows, self.choice.rows.shape[1]
        yield as_they_are(sample)
        if self.total * len(self.choice.centroids) < TURNED * max(dims, 256) ** 2:
            return
        axes, shares = Axes.principal(rows[:: max(1, len(rows) // SAMPLE_ROWS)])
        for bits, lengths in SHORT.items():
            for length in lengths:
                if length < dims and shares[length - 1] >= SHARE[bits]:
                    refined = axes.refined(sample, length) if bits == 16 else 0
                    yield Stages.fitting(sample, axes, Form(bits, length, refined))
                    return

    def _cutting_anew(
        self,
        name: str,
        stages: Stages | None,
        sample: Tensor,
        rows: int,
        drawn: bool,
        least: float = math.inf,
    ) -> float:
        """Seconds of a call with so many rows by a kernel that keeps nothing of them. drawn: rows must be brought
        together before, and their distances found after it."""
        centroids, library = self.choice.centroids, self.choice.library
        assert library is not None

        def call(count: int) -> float:
            labels, places = torch.empty(count, dtype=torch.int32), torch.arange(count)
            begin = time.perf_counter()
            values = library.take(sample, places) if drawn else sample[:count]
            self._kernel(name, stages, values, centroids).assign(centroids, labels)
            if drawn:
                library.distances(values, centroids, labels, 1.0)
            return time.perf_counter() - begin

        fixed = call(0)  # what does not grow with the rows
        return better(lambda: fixed + max(0.0, call(len(sample)) - fixed) * rows / len(sample), least)

    def _keeping(self, stages: Stages, sample: Tensor, rows: int, least: float) -> float:
        """The same, where heads of all rows are kept, and their share of what it takes to cut these."""
        labels, places = torch.empty(len(sample), dtype=torch.int32), torch.arange(len(sample))
        begin = time.perf_counter()
        self._kept(stages, sample[:0])
        middle = time.perf_counter()
        kept, centroids = self._kept(stages, sample), self.choice.centroids
        cutting = max(0.0, time.perf_counter() - middle - (middle - begin)) / len(sample)
        kept.assign(places, centroids, labels)  # as for most rows, labels are known

        def call() -> float:
            begin, kept.seen = time.perf_counter(), None  # as if all centroids had moved
            kept.assign(places, centroids, labels, Costs.of(len(sample), 0))
            return time.perf_counter() - begin + kept.seconds * (rows / len(sample) - 1)

        return better(call, least) + cutting * rows * len(self.choice.rows) / self.total

    def _kept(self, stages: Stages, rows: Tensor) -> Kept:
        choice = self.choice
        assert choice.library is not None
        return Kept(rows, choice.library, stages, choice.reach, choice.exact)

    def _kernel(self, name: str, stages: Stages | None, rows: Tensor, centroids: Tensor) -> Kernel:
        choice = self.choice
        if name == "triton":
            from distkmeans.kernels.triton import Fused  # reads TRITON_INTERPRET as it is imported

            return Fused(rows, centroids, choice.reach, None, choice.exact)
        if name == "narrow" and choice.library is not None:
            return Narrow(rows, choice.library, centroids, choice.reach, choice.exact, self.frame)
        if name in ("pruned", "kept") and choice.library is not None and stages is not None:
            return Pruned(rows, choice.library, stages, choice.reach, choice.exact)
        return Dense(rows, centroids, choice.reach, self.tile_rows, choice.exact)


def better(call: Callable[[], float], least: float) -> float:
    """Of two calls, the time that they tell; of one, where the ``least`` so far is far below it."""
    first = call()
    return first if first > HOPELESS * least else min(first, call())


def as_they_are(sample: Tensor) -> Stages:
    """Heads of bytes along the columns, seen from the mean of a sample of the rows (n, D)."""
    values, dims = sample.to(torch.float32), sample.shape[1]
    if not len(values):
        values = values.new_zeros(1, dims)
    return Stages(Cut.along(values, Axes(values.mean(0), None), Form(8, dims)))


def choice_for(like: Tensor, centroids: Tensor, largest: float, exact: bool = True) -> Choice:
    """Of kernels for rows like these (n, D) and centroids (K, D), none of whose values exceeds ``largest``."""
    return Choice(like, centroids, native.library_for(like, centroids), largest, exact)
