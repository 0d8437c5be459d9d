"""Pictures of a run, from a bounded sample of its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distkmeans.solvers import Record

INK, RED = "#222222", "#c1272d"
SHOWN_CENTROIDS = 2000


def clusters(path: Path, title: str, sample: tuple[Tensor, Tensor], centroids: Tensor) -> None:
    """Scatter of a sample (rows (m, D), labels (m,)) with the centroids (K, D), on two columns or principal axes."""
    figure, axes = _canvas(title)
    rows, labels = sample
    flat_rows, flat_centroids, names = project(rows, centroids.to(torch.float64).cpu())
    flat_centroids = flat_centroids[:SHOWN_CENTROIDS]
    few = len(centroids) <= 20
    palette = "tab10" if len(centroids) <= 10 else "tab20" if few else "turbo"
    axes.scatter(*flat_rows.T, c=labels, cmap=palette, s=8, alpha=0.6, linewidths=0)
    size = 90 if few else 24
    axes.scatter(*flat_centroids.T, marker="X", s=size, c=INK, edgecolors="white", linewidths=0.8, label="centroids")
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.legend(loc="best", framealpha=0.9)
    figure.savefig(path)


def inertia(path: Path, title: str, records: list[Record], rows: int) -> None:
    """Curves of the inertia and of the share of rows that moved, by iteration."""
    figure, axes = _canvas(title)
    steps = [record.iteration for record in records]
    axes.plot(steps, [record.inertia for record in records], color=INK, marker="o", markersize=3, label="inertia")
    axes.set_xlabel("iteration")
    axes.set_ylabel("inertia (weighted sum of squared distances)")
    axes.xaxis.get_major_locator().set_params(integer=True)
    right = axes.twinx()
    moved = [100 * record.moved / rows for record in records]
    right.plot(steps, moved, color=RED, linestyle="--", marker="o", markersize=3, label="rows moved")
    right.set_ylabel("rows moved (%)", color=RED)
    right.set_ylim(bottom=0)
    right.tick_params(axis="y", colors=RED)
    figure.savefig(path)


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
    _, spread, axes = torch.linalg.svd(rows - middle, full_matrices=False)
    share = [*(spread**2 / (spread**2).sum().clamp(min=1e-300) * 100).tolist(), 0.0]
    basis = torch.cat([axes, torch.zeros(2, rows.shape[1], dtype=rows.dtype)])[:2].T
    names = (f"principal axis 1 ({share[0]:.0f} % of variance)", f"principal axis 2 ({share[1]:.0f} %)")
    return ((rows - middle) @ basis).numpy(), ((centroids - middle) @ basis).numpy(), names


def _canvas(title: str) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.grid(alpha=0.2)
    return figure, axes
