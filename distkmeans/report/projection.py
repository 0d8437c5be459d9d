"""Rows and centroids in two dimensions, for pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

AXES_ROWS = 1000
"""Rows from which principal axes are computed at most."""


def project(rows: Tensor, centroids: Tensor) -> tuple[Any, Any, tuple[str, str]]:
    """Rows (m, D) and centroids (K, D) in two dimensions, as NumPy arrays, and the names of the axes.

    One column is drawn against 0, two as they are, more on the sample's two principal axes.
    """
    rows = rows.cpu()
    if rows.shape[1] == 1:
        rows, centroids = (torch.cat([part, torch.zeros_like(part)], dim=1) for part in (rows, centroids))
        return rows.numpy(), centroids.numpy(), ("column 0", "")
    if rows.shape[1] == 2:
        return rows.numpy(), centroids.numpy(), ("column 0", "column 1")
    middle = rows.mean(0)
    basis, share = principal_axes((rows - middle)[thinned(len(rows), AXES_ROWS)])
    names = (f"principal axis 1 ({100 * share[0]:.0f} % of variance)", f"principal axis 2 ({100 * share[1]:.0f} %)")
    return ((rows - middle) @ basis).numpy(), ((centroids - middle) @ basis).numpy(), names


def principal_axes(rows: Tensor) -> tuple[Tensor, list[float]]:
    """The two principal axes (D, 2) of centred rows (m, D), and their shares of the variance."""
    wide = rows.shape[1] > len(rows)
    rows = rows / rows.abs().max().clamp(min=1e-300)  # values of any size have squares
    # NumPy's, which for a few hundred columns is several times faster than torch's
    squares, vectors = map(torch.from_numpy, np.linalg.eigh((rows @ rows.T if wide else rows.T @ rows).numpy()))
    missing = max(0, 2 - len(squares))
    squares = torch.nn.functional.pad(squares, (missing, 0)).clamp(min=0)[-2:].flip(0)
    vectors = torch.nn.functional.pad(vectors, (missing, 0))[:, -2:].flip(1)
    axes = rows.T @ vectors / squares.sqrt().clamp(min=1e-300) if wide else vectors
    return axes, (squares / rows.square().sum().clamp(min=1e-300)).tolist()


def thinned(count: int, most: int) -> Tensor:
    """At most ``most`` of ``count`` places, evenly spread and ascending: int64."""
    return torch.arange(count) if count <= most else torch.arange(most) * count // most
