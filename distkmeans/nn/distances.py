"""Squared Euclidean distances that can be differentiated, and the nearest centroid."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from distkmeans.errors import InputError

CHUNK = 1 << 24
"""Scores (rows times centroids) that the search for the nearest holds at a time."""


def squared_distances(x: Tensor, centroids: Tensor) -> Tensor:
    """||x - c||^2 of every pair: x (..., D), centroids (K, D) -> (..., K), 0 or more; float32, float64 if either is.

    Computed as ||x||^2 - 2 x.c + ||c||^2 about the mean of the centroids, so that data far from the origin keep their
    digits: the absolute error is that of ||x||^2 about that mean. The gradient is finite where x meets a centroid.
    Raises InputError.
    """
    x, centroids = _centred(x, centroids)
    with torch.autocast(x.device.type, enabled=False):
        products = x @ centroids.T
    return (x.square().sum(-1, keepdim=True) - 2 * products + centroids.square().sum(-1)).clamp(min=0)


@torch.no_grad()
def nearest(x: Tensor, centroids: Tensor) -> Tensor:
    """The index of the nearest centroid: x (N, D), centroids (K, D) -> int64 (N,).

    Near ties are decided by float32 (``distkmeans.predict`` proves them). Memory: CHUNK scores, whatever N and K.
    """
    x, centroids = _centred(x, centroids)
    half = centroids.square().sum(-1) / 2
    parts = x.split(max(1, CHUNK // len(centroids)))
    with torch.autocast(x.device.type, enabled=False):
        return torch.cat([torch.argmin(half - part @ centroids.T, dim=1) for part in parts])


def gaps(x: Tensor, centroids: Tensor, labels: Tensor) -> Tensor:
    """||x - c||^2 of each row's own centroid, by differences: (N, D), (K, D), (N,) -> (N,)."""
    x, centroids = widened(x, centroids)
    return (x - centroids[labels]).square().sum(-1)


def widened(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Both in their common type, at least float32. Raises InputError for no centroids, or of other columns than x."""
    if not isinstance(centroids, Tensor) or centroids.dim() != 2:
        told = f"shape {tuple(centroids.shape)}" if isinstance(centroids, Tensor) else type(centroids).__name__
        raise InputError(f"centroids: {told}; expected a tensor (K, D)")
    if x.shape[-1:] != centroids.shape[1:]:
        raise InputError(
            f"x: shape {tuple(x.shape)}, but the centroids have {centroids.shape[1]} columns; x is (..., D)"
        )
    dtype = torch.promote_types(torch.promote_types(x.dtype, centroids.dtype), torch.float32)
    return x.to(dtype), centroids.to(dtype)


def as_centroids(given: Any, name: str) -> Tensor:
    """A copy of centroids (K, D), a tensor or an array, at least float32. Raises InputError."""
    tensor = torch.as_tensor(np.asarray(given) if not isinstance(given, Tensor) else given).detach()
    if tensor.dim() != 2 or not tensor.numel():
        raise InputError(f"{name}: shape {tuple(tensor.shape)}; expected (K, D), at least one centroid of one column")
    if tensor.is_complex() or not bool(torch.isfinite(tensor).all()):
        raise InputError(f"{name}: values that are no finite numbers; expected centroids such as fit(...).centroids")
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32), copy=True)


def _centred(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    x, centroids = widened(x, centroids)
    middle = centroids.detach().mean(0)
    return x - middle, centroids - middle
