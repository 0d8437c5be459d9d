"""solver.loss=squared: |x - c|^2, whose least is at the mean: the loss of k-means."""

from __future__ import annotations

from torch import Tensor

from distkmeans.losses import losses


@losses.register("squared")
class Squared:
    """Squared distance to the nearest centroid."""

    def __call__(self, rows: Tensor, centroids: Tensor, labels: Tensor) -> Tensor:
        return (rows - centroids[labels]).square().sum(1)
