"""Soft assignment: how much of a row each centroid gets."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor, nn

from distkmeans.nn.distances import as_centroids, squared_distances
from distkmeans.schema import Range, check_value

Positive = Annotated[float, Range(above=0)]


class SoftAssign(nn.Module):
    """Rows (..., D) to shares of K centroids (..., K), which sum to 1; float32, or float64 for float64.

    centroids: (K, D), a tensor or an array, such as ``distkmeans.fit(...).centroids``; the parameter ``centroids``,
    trained unless it is frozen by ``requires_grad_(False)``. temperature: in squared units of the rows.

    With d_k = ||x - c_k||^2 / temperature, q is softmax(-d); or, with ``freedom``, Student's t of so many degrees,
    q_k proportional to (1 + d_k / freedom)^(-(freedom + 1) / 2): van der Maaten and Hinton (2008) and, with freedom=1,
    Xie, Girshick and Farhadi (2016), equation 1. Raises InputError.
    """

    def __init__(self, centroids: Any, temperature: float = 1.0, freedom: float | None = None) -> None:
        super().__init__()
        self.centroids = nn.Parameter(as_centroids(centroids, "centroids"))
        self.temperature = check_value("temperature", temperature, Positive)
        self.freedom = check_value("freedom", freedom, Positive | None)

    def forward(self, x: Tensor) -> Tensor:
        distances = squared_distances(x, self.centroids) / self.temperature
        return scores(distances, self.freedom).softmax(-1)

    def extra_repr(self) -> str:
        k, dims = self.centroids.shape
        return f"k={k}, dims={dims}, temperature={self.temperature}, freedom={self.freedom}"


def scores(distances: Tensor, freedom: float | None = None) -> Tensor:
    """Squared distances over the temperature (..., K) to what softmax takes (..., K); see ``SoftAssign``."""
    if freedom is None:
        return -distances
    return torch.log1p(distances / freedom) * (-(freedom + 1) / 2)
