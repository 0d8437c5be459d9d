"""Labels of rows that are seen once, such as the batches of a stream: nothing is kept of them, unless they are drawn
again and again from rows at hand.

For few columns the compiled float32 pass is the fastest, or a matrix product. For many, heads may pay even for one
pass: of bytes along the columns as they are, which costs no rotation, or short ones along the principal axes, where few
of these hold the most. That depends on the rows, and is tried once on some of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from distkmeans import native
from distkmeans.data.shard import Drawn, Shard
from distkmeans.errors import InputError
from distkmeans.kernels import Kernel
from distkmeans.kernels.choose import ROOM, Choice, row_size, taken
from distkmeans.kernels.dense import Dense, Frame
from distkmeans.kernels.head import Axes, Form, Stages
from distkmeans.kernels.kept import Kept
from distkmeans.kernels.narrow import Narrow
from distkmeans.kernels.pruned import Costs, Pruned

OnceName = Literal["auto", "dense", "narrow", "pruned", "triton"]
WORTH = 1 << 26
"""Rows x columns x clusters of a call from which a trial pays."""
TRIAL_ROWS, TRIAL_SHARE = (192, 512), 192
"""Rows of a trial: one in so many of all that will be labelled, within limits."""
SAMPLE_ROWS = 4096
"""Rows of which axes are found."""
SHORT = {16: (14, 22), 8: (28, 60)}
"""Lengths of short heads, by their bits: the first that is long enough is tried."""
SHARE = {16: 0.9, 8: 0.6}
"""Of the variance, that the first axes must hold for a short head to be tried."""
HOPELESS = 2.0
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
        few = rows * choice.rows.shape[1] * len(choice.centroids) < WORTH or not len(choice.rows)
        if few or names[0] == "triton" or "pruned" not in names:
            return names[0], None
        wanted = min(rows, max(TRIAL_ROWS[0], min(TRIAL_ROWS[1], self.total // TRIAL_SHARE)))
        sample = choice.rows[:: max(1, len(choice.rows) // wanted)][:wanted].contiguous()
        contenders: list[tuple[str, Stages | None]] = [(names[0], None)]
        contenders += [(self._with_heads(stages, "kept" in names), stages) for stages in self._heads(sample)]
        best, least = contenders[0], math.inf
        for contender in contenders:
            seconds = self._seconds(*contender, sample, rows, least)
            if seconds < least:
                best, least = contender, seconds
        return best

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

    def _with_heads(self, stages: Stages, drawn: bool) -> str:
        """Heads of all rows are kept where there is room for them: that costs less than to cut them again and again."""
        return "kept" if drawn and taken(stages.first.form, None) <= ROOM * row_size(self.choice.rows) else "pruned"

    def _seconds(self, name: str, stages: Stages | None, sample: Tensor, rows: int, least: float) -> float:
        """Of a call with so many rows, from one with the sample: the better of two, or the first where the ``least`` is
        far below it."""
        labels, centroids = torch.empty(len(sample), dtype=torch.int32), self.choice.centroids
        seconds: list[float] = []
        if name == "kept" and stages is not None:
            kept, places = self._kept(stages, sample), torch.arange(len(sample))
            kept.assign(places, centroids, labels)  # as for most rows, labels are known
        while len(seconds) < 2 and min(seconds, default=0.0) <= HOPELESS * least:
            begin = time.perf_counter()
            if name == "kept":
                kept.seen = None  # as if all centroids had moved
                kept.assign(places, centroids, labels)
            else:
                self._kernel(name, stages, sample, centroids).assign(centroids, labels)
            whole = time.perf_counter() - begin
            grows = kept.seconds if name == "kept" else whole  # with the rows: cutting the centroids does not
            seconds.append(whole + grows * (rows / len(sample) - 1))
        return min(seconds)

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


def as_they_are(sample: Tensor) -> Stages:
    """Heads of bytes along the columns, seen from the mean of a sample of the rows (n, D)."""
    values, dims = sample.to(torch.float32), sample.shape[1]
    if not len(values):
        values = values.new_zeros(1, dims)
    return Stages.fitting(values, Axes(values.mean(0), torch.eye(dims, dtype=torch.float64)), Form(8, dims))


def choice_for(like: Tensor, centroids: Tensor, largest: float, exact: bool = True) -> Choice:
    """Of kernels for rows like these (n, D) and centroids (K, D), none of whose values exceeds ``largest``."""
    return Choice(like, centroids, native.library_for(like, centroids), largest, exact)
