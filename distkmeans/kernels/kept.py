"""Labels of rows that are drawn again and again from those at hand.

Heads of all of them are cut once, and a row's last label is the guess for its next.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distkmeans import native
from distkmeans.kernels.head import Stages
from distkmeans.kernels.pruned import Aim, Costs, Pruned


class Kept:
    """Assigns some of these rows (N, D), none of whose values, nor a centroid's, exceeds ``largest``.

    seen: the last centroids (K, D), whose heads are at hand, or None. seconds: of the last call, in the kernel.
    """

    def __init__(self, rows: Tensor, library: native.Library, stages: Stages, largest: float, exact: bool) -> None:
        self.rows, self.library, self.stages, self.largest, self.exact = rows, library, stages, largest, exact
        self.records, self.longer = stages.records(library, rows)
        self.labels = torch.full((len(rows),), -1, dtype=torch.int32)
        self.aim, self.seconds = Aim(stages), 0.0
        self.seen: Tensor | None = None

    def assign(self, which: Tensor, centroids: Tensor, labels: Tensor, costs: Costs | None = None) -> int:
        """As of a kernel, of the rows ``which``, int64 (n,); costs: filled."""
        records = self.library.draw(self.records, self.labels, which)
        undecided = self._run(records, centroids, labels, costs)
        self.labels[which] = labels.to(torch.int32)
        return undecided

    def assign_part(self, rows: slice, centroids: Tensor, labels: Tensor) -> int:
        """The same, of a part of the rows that starts with a block, in place. labels: (N,)."""
        end = -(-rows.stop // native.ROWS) * native.ROWS
        self.records[rows, native.LABEL] = self.labels[rows]
        undecided = self._run(self.records[rows.start : end], centroids, labels)
        self.labels[rows] = labels[rows].to(torch.int32)
        return undecided

    def _run(self, records: Tensor, centroids: Tensor, labels: Tensor, costs: Costs | None = None) -> int:
        everyone = torch.ones(len(centroids), dtype=torch.bool)
        moved = everyone if self.seen is None else self.library.follow(self.seen, centroids)
        self.seen = centroids.clone() if self.seen is None else self.seen
        drawn = records, self.longer
        kernel = Pruned(self.rows, self.library, self.stages, self.largest, self.exact, drawn=drawn)
        kernel.aim = self.aim
        undecided = kernel.run(centroids, labels, everyone, self.aim.at(centroids, moved), costs)
        self.seconds = kernel.seconds
        return undecided
