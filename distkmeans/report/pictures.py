"""Pictures of a run, drawn by one process from a bounded sample of the rows."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distkmeans.report.projection import project
from distkmeans.solvers import Record

INK, RED, GREY = "#222222", "#c1272d", "#9aa5b1"
SHOWN_CENTROIDS = 2000
SHOWN_IMAGES = 100
SHOWN_BARS = 60
SHOWN_BLADES = 30
"""Clusters whose silhouettes are drawn apart."""
SIZE = (5.6, 3.9)
"""Inches: narrow, so that the words can still be read where a picture is as wide as a phone."""
DPI = 160


class Pictures:
    """Draws PNG files: ``drawn`` gets them by name, and ``folder``, where there is one.

    Every picture's heading begins with ``title``.
    """

    def __init__(self, title: str, folder: Path | None, drawn: dict[str, bytes]) -> None:
        self.title, self.folder, self.drawn = title, folder, drawn

    def clusters(self, rows: Tensor, labels: Tensor, centroids: Tensor, inertia: float, total: int) -> None:
        """clusters.png: sampled rows (m, D), labels (m,), centroids (K, D), on two columns or principal axes."""
        kind = "rows" if len(rows) == total else "sampled rows"
        crosses = "centroids" if len(centroids) <= SHOWN_CENTROIDS else f"{SHOWN_CENTROIDS:,} of the centroids"
        heading = f"{self.title}, inertia {inertia:.6g}\n{len(rows):,} {kind}, and {crosses} as crosses"
        figure, axes = canvas(heading)
        flat_rows, flat_centroids, names = project(rows, centroids.to(torch.float64).cpu())
        size = max(1.5, min(6.0, 12_000 / max(1, len(rows))))
        colours = colours_of(labels.cpu().numpy(), len(centroids))
        axes.scatter(*flat_rows.T, c=colours, s=size, alpha=0.6, linewidths=0)
        width = 55 if len(centroids) <= 20 else 16
        shown = flat_centroids[:SHOWN_CENTROIDS]
        axes.scatter(*shown.T, marker="X", s=width, c=INK, edgecolors="white", linewidths=0.7)
        axes.set_xlabel(names[0])
        axes.set_ylabel(names[1])
        if rows.shape[1] == 1:
            axes.set_yticks([])
        self._keep("clusters.png", figure)

    def convergence(self, records: Sequence[Record], rows: int) -> None:
        """inertia.png: the inertia and the share of rows that moved, by iteration."""
        figure, axes = canvas(f"{self.title}: convergence")
        steps = [record.iteration for record in records]
        axes.plot(steps, [record.inertia for record in records], color=INK, marker="o", markersize=3)
        axes.set_xlabel("iteration")
        axes.set_ylabel("inertia")
        axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        moved = [100 * record.moved / rows for record in records if record.moved is not None]
        if len(moved) == len(records):
            right = axes.twinx()
            right.plot(steps, moved, color=RED, linestyle="--", marker="o", markersize=3)
            right.set_ylabel("rows moved (%)", color=RED)
            right.set_ylim(bottom=0)
            right.tick_params(axis="y", colors=RED)
        self._keep("inertia.png", figure)

    def sizes(self, sizes: Tensor) -> None:
        """sizes.png: rows per cluster (K,), as bars by number, or from the largest to the smallest where K is large."""
        counts = sizes.cpu().numpy()
        figure, axes = canvas(f"{self.title}: rows per cluster, {counts.mean():,.1f} on average")
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
        axes.axhline(counts.mean(), color=RED, linestyle="--", linewidth=1)
        axes.set_ylabel("rows")
        self._keep("sizes.png", figure)

    def silhouettes(self, values: Tensor, labels: Tensor, clusters: int, total: int) -> None:
        """silhouette.png: the silhouette of each of some rows, float64 (m,), by cluster (Rousseeuw 1987)."""
        of = "" if len(values) == total else f" of {len(values):,} sampled rows"
        mean = float(values.mean())
        figure, axes = canvas(f"{self.title}\nsilhouettes{of}, {mean:.3f} on average")
        order = torch.argsort(values, descending=True, stable=True)
        known, counts = labels.unique(return_counts=True)
        apart = len(known) <= SHOWN_BLADES
        if apart:  # a blade for each cluster, from the top down
            order = order[torch.argsort(labels[order], stable=True)]
        drawn, places = values[order].numpy(), np.arange(len(order) + 1)
        colours = colours_of(known.numpy(), clusters) if apart else [GREY]
        ends = [0, *(counts.cumsum(0).tolist() if apart else [len(order)])]
        for colour, (start, stop) in zip(colours, itertools.pairwise(ends), strict=True):
            axes.stairs(drawn[start:stop], places[start : stop + 1], orientation="horizontal", fill=True, color=colour)
        axes.axvline(mean, color=RED, linestyle="--", linewidth=1)
        axes.invert_yaxis()
        middles = counts.cumsum(0) - counts / 2
        axes.set_yticks(middles.numpy() if apart else [], [str(cluster) for cluster in known.tolist() if apart])
        axes.tick_params(axis="y", labelsize=7)
        axes.set_xlabel("silhouette")
        axes.set_ylabel("cluster" if apart else f"{len(values):,} rows")
        self._keep("silhouette.png", figure)

    def centroids(self, centroids: Tensor, sizes: Tensor, image: tuple[int, ...], transform: str) -> None:
        """centroids.png: the centroids (K, D) of the largest clusters as images of shape ``image``."""
        order = torch.argsort(sizes, descending=True, stable=True)[:SHOWN_IMAGES].cpu()
        columns = min(len(order), 10)
        lines = -(-len(order) // columns)
        figure = blank((0.62 * columns + 0.1, 0.71 * lines + 0.6))
        after = "" if transform == "none" else f", after {transform}"
        shown = "" if len(order) == len(centroids) else f", the {len(order)} largest clusters"
        figure.suptitle(f"{self.title}: centroids{after}{shown}\n(number: rows of the cluster)", fontsize=8)
        axes = figure.add_subplot()
        pixels = shades(centroids.cpu().to(torch.float64)[order].numpy().reshape(len(order), *image))
        high, wide = image[0] * 1.3, image[1] * 1.15
        for place, number in enumerate(order.tolist()):
            left, top = place % columns * wide, place // columns * high
            box = (left, left + image[1], top + image[0], top)
            axes.imshow(pixels[place], cmap="gray", vmin=0, vmax=1, interpolation="nearest", extent=box)
            axes.text(left + image[1] / 2, top, f"{int(sizes[number]):,}", fontsize=6, ha="center", va="bottom")
        axes.set_xlim(0, columns * wide)
        axes.set_ylim(lines * high, -0.3 * image[0])
        axes.set_axis_off()
        self._keep("centroids.png", figure)

    def _keep(self, name: str, figure: Any) -> None:
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
        self.drawn[name] = buffer.getvalue()
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(self.drawn[name])


def colours_of(labels: np.ndarray, clusters: int) -> np.ndarray:
    """A colour for each label (m,) of so many clusters: (m, 4), alike in all pictures of a run."""
    from matplotlib import colormaps

    if clusters <= 20:
        return colormaps["tab10" if clusters <= 10 else "tab20"](labels)
    return colormaps["turbo"](labels / (clusters - 1))


def literal(text: str) -> str:
    """Text of a user's as it stands: what is between dollar signs would be drawn as a formula."""
    return text.replace("$", r"\$")


def shades(pixels: np.ndarray) -> np.ndarray:
    """Values of any range as float64 from 0 to 1, the least black and the largest white."""
    low, high = float(pixels.min()), float(pixels.max())
    return (pixels - low) / ((high - low) or 1.0)


def canvas(title: str) -> tuple[Any, Any]:
    """A figure with one pair of axes and a heading."""
    figure = blank(SIZE)
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=9)
    axes.grid(alpha=0.2)
    return figure, axes


def blank(size: tuple[float, float]) -> Any:
    """An empty figure, size in inches, that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
