"""The nearest centroid but a row's own: what a silhouette compares with. The dense kernel, one column masked."""

from __future__ import annotations

import torch
from torch import Tensor

from distkmeans.kernels.dense import NEVER, Dense, Target


class Rival(Dense):
    """Assigns each row to the nearest of the other centroids: the true argmin, as for the dense kernel.

    own: int64 (n,), the centroid that a row may not have. Of bit-equal centroids the first alone is found.
    """

    name = "torch-rival"

    def __init__(self, rows: Tensor, centroids: Tensor, largest: float, own: Tensor) -> None:
        super().__init__(rows, centroids, largest, None, exact=True)
        self.own = own

    def _scores(self, index: slice | Tensor, target: Target, buffer: Tensor) -> tuple[Tensor, Tensor]:
        scores, margin = super()._scores(index, target, buffer)
        scores[torch.arange(len(scores), device=scores.device), self.own[index]] = NEVER
        return scores, margin

    def _settle(self, centroids: Tensor, labels: Tensor, which: Tensor) -> None:
        """Decide the rows numbered ``which`` by masked scores alone: other ways to the nearest find a row's own."""
        if len(which):
            target = Target.of(centroids, self.frame, torch.float64)
            rest = self._pass(target, labels, which)
            if len(rest):
                self._arbitrate(target, centroids.to(torch.float64), labels, rest)
