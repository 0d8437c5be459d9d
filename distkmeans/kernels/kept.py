"""Labels of rows that are drawn again and again from those at hand: heads of all are cut once, and a row's last label is
the guess for its next.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distkmeans import native
from distkmeans.kernels.head import Stages
from distkmeans.kernels.pruned import Aim, Costs, Pruned


class Kept:
    """Assigns rows drawn from these (N, D), which ``largest`` bounds, and centroids like those that follow."""

    def __init__(self, rows: Tensor, library: native.Library, stages: Stages, largest: float, exact: bool) -> None:
        self.library, self.stages, self.largest, self.exact = library, stages, largest, exact
        self.records, self.longer = stages.records(library, rows)
        self.labels = torch.full((len(rows),), -1, dtype=torch.int32)
        self.unknown, self.aim = True, Aim(stages)

    def assign(
        self, rows: Tensor, places: Tensor, centroids: Tensor, labels: Tensor, costs: Costs | None = None
    ) -> int:
        """As of a kernel, for rows (n, D) that stand at these places, int64 (n,), among all; and what they cost."""
        records = self.library.draw(self.records, self.labels, places), self.longer
        self.unknown = self.unknown and bool((self.labels < 0).any())
        everyone = torch.ones(len(centroids), dtype=torch.bool)
        kernel = Pruned(rows, self.library, self.stages, self.largest, self.exact, records=records)
        kernel.aim = self.aim
        undecided = kernel.run(centroids, labels, everyone, self.aim.at(centroids, everyone, guess=self.unknown), costs)
        self.labels[places] = labels.to(torch.int32)
        return undecided
