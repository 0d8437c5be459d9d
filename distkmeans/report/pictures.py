"""Pictures of a run, drawn by one process from a bounded sample of the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distkmeans.solvers import Record

INK, RED, GREY = "#222222", "#c1272d", "#9aa5b1"
SHOWN_CENTROIDS = 2000
SHOWN_IMAGES = 100
SHOWN_BARS = 60
AXES_ROWS = 1000
"""Rows from which principal axes are computed, about."""


class Pictures:
    """Writes PNG files into ``folder``; every picture's heading begins with ``title``."""

    def __init__(self, folder: Path, title: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.title = folder, title

    def clusters(self, rows: Tensor, labels: Tensor, centroids: Tensor, inertia: float, total: int) -> None:
        """clusters.png: sampled rows (m, D), labels (m,), centroids (K, D), on two columns or principal axes."""
        figure, axes = canvas(f"{self.title}, inertia {inertia:.6g}")
        flat_rows, flat_centroids, names = project(rows, centroids.to(torch.float64).cpu())
        few = len(centroids) <= 20
        palette = "tab10" if len(centroids) <= 10 else "tab20" if few else "turbo"
        size = max(2.0, min(8.0, 20_000 / max(1, len(rows))))
        axes.scatter(*flat_rows.T, c=labels.cpu(), cmap=palette, s=size, alpha=0.6, linewidths=0)
        shown = flat_centroids[:SHOWN_CENTROIDS]
        name = "centroids" if len(shown) == len(centroids) else f"{len(shown):,} of the centroids"
        width = 90 if few else 24
        axes.scatter(*shown.T, marker="X", s=width, c=INK, edgecolors="white", linewidths=0.8, label=name)
        axes.set_xlabel(names[0])
        axes.set_ylabel(names[1])
        if rows.shape[1] == 1:
            axes.set_yticks([])
        axes.legend(
            loc="best", framealpha=0.9, title=f"{len(rows):,} {'rows' if len(rows) == total else 'sampled rows'}"
        )
        figure.savefig(self.folder / "clusters.png")

    def convergence(self, records: list[Record], rows: int) -> None:
        """inertia.png: the inertia and the share of rows that moved, by iteration."""
        figure, axes = canvas(f"{self.title}: convergence")
        steps = [record.iteration for record in records]
        axes.plot(steps, [record.inertia for record in records], color=INK, marker="o", markersize=3)
        axes.set_xlabel("iteration")
        axes.set_ylabel("inertia (weighted sum of squared distances)")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        right = axes.twinx()
        moved = [100 * record.moved / rows for record in records]
        right.plot(steps, moved, color=RED, linestyle="--", marker="o", markersize=3)
        right.set_ylabel("rows moved (%)", color=RED)
        right.set_ylim(bottom=0)
        right.tick_params(axis="y", colors=RED)
        figure.savefig(self.folder / "inertia.png")

    def sizes(self, sizes: Tensor) -> None:
        """sizes.png: rows per cluster (K,), as bars by number, or from the largest to the smallest where K is large."""
        figure, axes = canvas(f"{self.title}: rows per cluster")
        counts = sizes.cpu().numpy()
        if len(counts) <= SHOWN_BARS:
            axes.bar(range(len(counts)), counts, color=GREY)
            axes.set_xlabel("cluster")
            axes.xaxis.get_major_locator().set_params(integer=True)
        else:
            axes.plot(np.arange(1, len(counts) + 1), np.sort(counts)[::-1], color=INK)
            axes.set_xlabel("clusters, from the largest to the smallest")
            axes.set_yscale("log" if counts.min() > 0 else "symlog")
            for plain in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
                plain(lambda value, _: f"{value:,.0f}")
        axes.axhline(counts.mean(), color=RED, linestyle="--", linewidth=1, label=f"mean, {counts.mean():,.1f}")
        axes.set_ylabel("rows")
        axes.legend(loc="best")
        figure.savefig(self.folder / "sizes.png")

    def centroids(self, centroids: Tensor, sizes: Tensor, image: tuple[int, ...], transform: str) -> None:
        """centroids.png: the centroids (K, D) of the largest clusters as images of shape ``image``."""
        order = torch.argsort(sizes, descending=True, stable=True)[:SHOWN_IMAGES].cpu()
        columns = min(len(order), 10)
        lines = -(-len(order) // columns)
        figure = blank((1.0 * columns + 0.6, 1.2 * lines + 0.9))
        after = "" if transform == "none" else f", after {transform}"
        shown = "" if len(order) == len(centroids) else f", the {len(order)} largest clusters"
        figure.suptitle(f"{self.title}: centroids{after}{shown}\n(number: rows of the cluster)", fontsize=9)
        pixels = centroids.cpu().to(torch.float64)[order].numpy().reshape(len(order), *image)
        low, high = float(pixels.min()), float(pixels.max())
        pixels = (pixels - low) / ((high - low) or 1.0)
        for place, number in enumerate(order.tolist()):
            axes = figure.add_subplot(lines, columns, place + 1)
            axes.imshow(pixels[place], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set_title(f"{int(sizes[number]):,}", fontsize=7, pad=2)
            axes.set_axis_off()
        figure.savefig(self.folder / "centroids.png")


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
    few = (rows - middle)[:: max(1, len(rows) // AXES_ROWS)]
    _, spread, axes = torch.linalg.svd(few, full_matrices=False)
    share = [*(spread**2 / (spread**2).sum().clamp(min=1e-300) * 100).tolist(), 0.0]
    basis = torch.cat([axes, torch.zeros(2, rows.shape[1], dtype=rows.dtype)])[:2].T
    names = (f"principal axis 1 ({share[0]:.0f} % of variance)", f"principal axis 2 ({share[1]:.0f} %)")
    return ((rows - middle) @ basis).numpy(), ((centroids - middle) @ basis).numpy(), names


def canvas(title: str) -> tuple[Any, Any]:
    """A figure with one pair of axes and a heading."""
    figure = blank((8, 5.5))
    axes = figure.add_subplot()
    axes.set_title(title)
    axes.grid(alpha=0.2)
    return figure, axes


def blank(size: tuple[float, float]) -> Any:
    """An empty figure, size in inches, that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
