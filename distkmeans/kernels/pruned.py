"""The compiled kernel of integer heads: heads bound the scores, full distances decide what they leave.

A *record* holds a row's head and what is known of it: its label, and the squared distance to that centroid. From pass
to pass the kernel remembers the centroids that it saw. One that did not change is no nearer than before, so rows
whose own centroid did not change, or came no farther, are compared only with those that moved. Records sorted by
label make such rows neighbours, and let whole blocks of rows pass by whole panels of centroids. Pairs that the first
heads leave meet longer ones, kept aside, before they are compared in full. Near ties are told apart in float64; what
is open then goes to the judge.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from distkmeans import native
from distkmeans.exact import arbiter
from distkmeans.kernels.dense import Dense
from distkmeans.kernels.head import UNIT, Facing, Heads, Stages, Target

FLOAT_MAX = 3.4028234663852886e38
RESTRICT_BELOW = 0.6
"""Share of moved centroids below which it pays to compare settled rows with these alone."""
DISORDER = 0.15
"""Share of the rows that have left their place before the records are sorted anew."""
STRAYED = 0.3
"""The same, before the panels are made anew."""
PLACED, MISPLACED = 20, 1.0
"""Passes before rows are moved to the place of their records, which costs what ten or more save; then, as DISORDER."""
WORTH_KEEPING, MOST_KEPT = 24, 1536
"""Words of a head from which the scores of guesses are kept for the pruning; centroids up to which a tile's stay in a
cache."""
SIGNS = -0x7F7F7F80
"""0x80808080, the highest bits of four bytes, as int32."""
KEPT = 0.7
"""Share of blocks above which skipping does not pay for its own test."""


@dataclass
class Costs:
    """found: float64 (n,), for |scale (x - c)|^2 of each row and its centroid, -1 of rows left open. filled: is it?"""

    found: Tensor
    scale: float
    filled: bool = False

    @staticmethod
    def of(rows: int, exponent: int) -> Costs | None:
        """scale: 2**exponent, None for one beyond float64."""
        if not -1022 <= exponent <= 1023:
            return None
        return Costs(torch.empty(rows, dtype=torch.float64), 2.0**exponent)


class Pruned:
    """Assign rows on the CPU: float32 or narrower (N, D) with contiguous columns, to float32 centroids."""

    def __init__(
        self,
        rows: Tensor,
        library: native.Library,
        stages: Stages,
        largest: float,
        exact: bool,
        may_copy: bool = False,
        drawn: tuple[Tensor, Tensor | None] | None = None,
    ) -> None:
        """drawn: records of some of the rows, and longer heads of all, where they are at hand."""
        self.rows, self.library, self.stages, self.largest, self.exact = rows, library, stages, largest, exact
        self.name = f"{library.name} {stages}"
        self.records, self.longer = drawn or stages.records(library, rows)
        self.places, self.row_by, self.may_copy = rows, native.PLACE if drawn else native.ID, may_copy
        self.misplaced, self.passes = math.inf, 0
        self.open = torch.empty(len(self.records) + 1024, 2, dtype=torch.int32)
        self.seen: Tensor | None = None
        self.forgotten = False
        self.aim = Aim(stages)
        form = stages.first.form
        self.may_skip = form.bits == 16 and form.words <= 64
        self.order, self.disorder, self.strayed = torch.empty(0, dtype=torch.int32), 1.0, math.inf
        self.means, self.shapes = torch.empty(2, 0, form.words, dtype=torch.int32)
        self.counts, self.seconds = native.Counts(), 0.0

    def assign(self, centroids: Tensor, labels: Tensor) -> int:
        """Write the nearest centroid of each row into ``labels``; the number of rows left to the exact judge."""
        if self.seen is not None and len(self.seen) != len(centroids):
            self._begin()
            self.seen = None
            self.records[:, native.LABEL] = -1
        moved = changed = torch.ones(len(centroids), dtype=torch.bool)
        if self.seen is not None:
            changed = self.library.follow(self.seen, centroids)
            moved = moved if self.forgotten else changed
        self.forgotten = False
        undecided = self.run(centroids, labels, moved, self.aim.at(centroids, changed))
        if self.seen is None:
            self.seen = centroids.clone()
        return undecided

    def run(
        self, centroids: Tensor, labels: Tensor, moved: Tensor, targets: list[Target], costs: Costs | None = None
    ) -> int:
        """``assign``, where the moved centroids, bool (K,), and the heads of all of them are known."""
        task = self._task(centroids, moved, *targets)
        if costs:
            scratch = torch.empty(native.threads(), 2 * centroids.shape[1], dtype=torch.float64)
            task.costs, task.scratch, task.scale = costs.found.data_ptr(), scratch.data_ptr(), costs.scale
            costs.filled = True
        written = labels if labels.dtype == torch.int32 else torch.empty(len(labels), dtype=torch.int32)
        task.labels, task.open = written.data_ptr(), self.open.data_ptr()
        task.room = len(self.open)
        begin = time.perf_counter()
        self.library.run("assign", task, len(self.records) * len(centroids) * task.words // 16)
        self.seconds = time.perf_counter() - begin
        self.counts = task.counts
        self._learn(task)
        undecided = self._judge(centroids, written, task.opened) if self.exact else 0
        if written is not labels:
            labels.copy_(written)
        return undecided

    def start(self, labels: Tensor, clusters: int) -> None:
        """Begin from labels (N,) that someone else found: guesses; all ``clusters`` centroids count as moved."""
        self.records[: len(labels), native.LABEL] = labels
        self.seen = torch.full((clusters, self.rows.shape[1]), torch.nan)
        self._begin()

    def _begin(self) -> None:
        self.aim, self.order = Aim(self.stages), torch.empty(0, dtype=torch.int32)
        self.disorder, self.strayed = 1.0, math.inf

    def forget(self) -> None:
        """Take all centroids for moved in the next pass, so that a pass can be timed twice."""
        self.forgotten, self.may_skip = True, False

    def _task(
        self, centroids: Tensor, moved: Tensor, target: Target, further: Target | None = None
    ) -> native.Assignment:
        first = self.seen is None
        restricted = not first and int(moved.sum()) < RESTRICT_BELOW * len(moved)
        if not first and (restricted or self.may_skip) and self.disorder > DISORDER:
            self._sort(target)
        if len(self.order) != padded(len(centroids)):
            self.order = in_panels(torch.arange(len(centroids), dtype=torch.int32))
        dims = self.rows.shape[1]
        task = native.Assignment(
            rows=native.Rows.of(self.places),
            row_by=self.row_by,
            means=self.means.data_ptr(),
            shapes=self.shapes.data_ptr(),
            records=self.records.data_ptr(),
            count=len(self.records),
            step=self.records.shape[1],
            words=self.stages.first.form.words,
            bits=self.stages.first.form.bits,
            restricted=restricted,
            skip=self.may_skip and not first,
            centroids=centroids.data_ptr(),
            moved=moved.data_ptr(),
            margin=native.Margin(target.unit, target.reach, target.residue),
            gap=target.gap,
            relative=(dims / 8 + 40) * UNIT,
            absolute=dims * 2.0**-120,
        )
        words = unsigned(target.heads)
        near, *far = self.aim.facing
        order = self.order[self.order >= 0] if near.order is None else near.order
        sets = {"all": order, "some": order[moved[order]]} if restricted else {"all": order}
        keep = [moved, centroids]
        if further is not None and self.longer is not None:
            heads = unsigned(further.heads)
            heads = torch.nn.functional.pad(heads, (0, self.longer.shape[1] - heads.shape[1]))
            margin = native.Margin(further.unit, further.reach, further.residue)
            task.longer = native.Longer(
                rows=self.longer.data_ptr(),
                centroids=heads.data_ptr(),
                bias=further.bias.data_ptr(),
                level=None if far[0].level is None else far[0].level.data_ptr(),
                words=self.longer.shape[1],
                margin=margin,
            )
            keep += [heads, further.bias]
        for name, which in sets.items():
            known = self.aim.panels if name == "all" else None
            panels, level = known or of_levels(which, near.level)
            packed, bias = self.library.pack(words, target.bias, panels)
            keep += [packed, bias, panels, level]
            places = packed.data_ptr(), bias.data_ptr(), panels.data_ptr(), level.data_ptr()
            setattr(task, name, native.Panels(*places, len(panels) // native.PANEL))
        if first and words.shape[1] >= WORTH_KEEPING and len(self.order) <= MOST_KEPT:
            scores = torch.empty(native.threads(), native.BLOCKS * native.ROWS * len(panels), dtype=torch.int32)
            task.scores = scores.data_ptr()
            keep.append(scores)
        task.kept_alive = keep
        return task

    def _sort(self, target: Target) -> None:
        """Sort the records by label; labels in the order of the panels, which holds near centroids together."""
        count = len(target.bias)
        if self.strayed > STRAYED:
            order = near_together(target.heads) if self.may_skip else torch.arange(count, dtype=torch.int32)
            self.order, self.strayed = in_panels(order), 0.0
        order = self.order[self.order >= 0]
        rank = torch.empty(count, dtype=torch.int32)
        rank[order.to(torch.int64)] = torch.arange(count, dtype=torch.int32)
        into = torch.empty_like(self.records)
        self.library.sort(self.records, into, rank)
        self.records, self.disorder = into, 0.0
        if self.passes >= PLACED and self.misplaced > MISPLACED:
            self._place()
        if self.may_skip:
            blocks, words = len(self.records) // native.ROWS, self.stages.first.form.words
            if not len(self.means):
                self.means = torch.zeros(blocks + native.BLOCKS, words, dtype=torch.int32)
                self.shapes = torch.empty(blocks, native.SHAPE, dtype=torch.int32)
            task = native.Assignment(
                records=self.records.data_ptr(),
                count=len(self.records),
                step=self.records.shape[1],
                words=words,
                means=self.means.data_ptr(),
                shapes=self.shapes.data_ptr(),
            )
            self.library.run("shapes", task, self.records.numel())

    def _place(self) -> None:
        """Put what belongs to the records in their order, as memory is read fastest."""
        count = len(self.rows)
        if self.longer is not None:
            self.longer = self.library.gather(self.longer, self.records, count, native.PLACE)
        if self.may_copy:
            self.places, self.row_by = self.library.gather(self.places, self.records, count, self.row_by), native.PLACE
        self.records[:count, native.PLACE] = torch.arange(count, dtype=torch.int32)
        self.misplaced = 0.0

    def _learn(self, task: native.Assignment) -> None:
        changed = task.counts.changed / max(1, len(self.rows))
        self.disorder, self.strayed, self.misplaced = (
            total + changed for total in (self.disorder, self.strayed, self.misplaced)
        )
        self.passes += 1
        blocks = task.counts.full * task.all.count
        if task.skip and blocks and task.counts.blocks > KEPT * blocks:
            self.may_skip = False

    def _judge(self, centroids: Tensor, labels: Tensor, opened: int) -> int:
        """Decide the open pairs of records and centroids exactly; how many rows they are."""
        if not opened:
            return 0
        if opened > len(self.open) or (self.open[:opened, 1] == native.EVERY).any():
            return self._judge_all(centroids, labels)
        pairs = self.open[:opened].to(torch.int64)
        pairs = pairs[(pairs[:, 0] * len(centroids) + pairs[:, 1]).argsort()]
        places, row = torch.unique_consecutive(pairs[:, 0], return_inverse=True)
        which, at = self.records[places][:, [native.ID, self.row_by]].to(torch.int64).unbind(1)
        wide = self.places[at].to(torch.float64)
        decided = arbiter.nearest(wide, centroids.to(torch.float64), row, pairs[:, 1]).to(torch.int32)
        labels[which] = decided
        self.records[places, native.LABEL] = decided
        return len(places)

    def _judge_all(self, centroids: Tensor, labels: Tensor) -> int:
        """So many near ties that they could not be listed: all rows by the dense kernel."""
        real = self.records[:, native.ID] >= 0
        which, at = self.records[real][:, [native.ID, self.row_by]].to(torch.int64).unbind(1)
        rows = self.places.new_empty(len(which), self.places.shape[1]).index_copy_(0, which, self.places[at])
        undecided = Dense(rows, centroids, self.largest, None, True).assign(centroids, labels)
        self.records[real, native.LABEL] = labels[which]
        self.records.view(torch.float32)[:, native.HIGH] = FLOAT_MAX
        return undecided


class Aim:
    """The centroids' heads of each stage, kept from pass to pass: only those that moved are cut anew.

    When all are, for the first, second, fourth, ... time, scales are chosen that suit them: from rows they shrink to
    means.
    """

    def __init__(self, stages: Stages) -> None:
        self.stages = stages
        self.facing: list[Facing] = []
        self.panels: tuple[Tensor, Tensor] | None = None  # of all centroids, where their levels differ
        self.heads: list[Heads] = []
        self.common: list[float | None] = [None, None]
        self.times = 0

    def at(self, centroids: Tensor, moved: Tensor) -> list[Target]:
        which = moved.nonzero().flatten()
        if not self.heads or 2 * len(which) > len(moved):
            self.times += 1
            if self.times & (self.times - 1) == 0:
                self.facing = self.stages.facing(centroids, native.LEVELS)
                order, level = self.facing[0].order, self.facing[0].level
                self.panels = None if order is None else of_levels(order, level)
                self.common = [None, None]
            self.heads = self.stages.heads(centroids, self.facing)
        elif len(which):
            facing = [facing.part(which) for facing in self.facing]
            for kept, new in zip(self.heads, self.stages.heads(centroids[which], facing), strict=True):
                for whole, piece in zip(kept.parts, new.parts, strict=True):
                    whole[which] = piece
        each = zip(self.heads, self.stages.cuts, self.facing, self.common, strict=False)
        targets = [Target.of(heads, cut, facing, common) for heads, cut, facing, common in each]
        self.common = [target.residue for target in targets]
        return targets


def unsigned(heads: Tensor) -> Tensor:
    """Centroids' heads as words, int32 (K, words): bytes are unsigned, 128 more than they were."""
    words = heads.view(torch.int32)
    return words ^ SIGNS if heads.dtype == torch.int8 else words


def padded(count: int) -> int:
    return -(-count // native.PANEL) * native.PANEL


def in_panels(order: Tensor) -> Tensor:
    """int32 centroid numbers, filled up with -1 to whole panels."""
    return torch.nn.functional.pad(order, (0, padded(len(order)) - len(order)), value=-1).contiguous()


def of_levels(order: Tensor, level: Tensor | None) -> tuple[Tensor, Tensor]:
    """Panels of one level each, with padding; and that of each panel, uint8. level: of every centroid, None for 0."""
    if level is None:
        panels = in_panels(order)
        return panels, torch.zeros(len(panels) // native.PANEL, dtype=torch.uint8)
    each = [in_panels(order[level[order] == height]) for height in range(native.LEVELS)]
    counts = torch.tensor([len(panels) // native.PANEL for panels in each])
    return torch.cat(each), torch.arange(native.LEVELS, dtype=torch.uint8).repeat_interleave(counts)


def near_together(heads: Tensor) -> Tensor:
    """An order of centroids in which panels are compact: halved again and again along the widest coordinate."""
    count = len(heads)
    groups = 1 << max(0, (-(-count // native.PANEL) - 1).bit_length())
    values = torch.nn.functional.pad(heads.to(torch.float32), (0, 0, 0, groups * native.PANEL - count), value=torch.inf)
    order = torch.arange(len(values)).view(1, -1)
    while order.shape[0] < groups:
        group = values[order]
        finite = group.masked_fill(torch.isinf(group), 0)  # what fills up goes last, wherever it is
        column = finite.var(1, correction=0).argmax(1)
        ranked = group.gather(2, column[:, None, None].expand(-1, group.shape[1], 1)).squeeze(2).argsort(1)
        order = order.gather(1, ranked).view(2 * len(order), -1)
    order = order.flatten()
    return order[order < count].to(torch.int32)
