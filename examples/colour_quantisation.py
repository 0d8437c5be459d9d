"""Few colours for a photograph: k-means of its pixels, each drawn in the colour of its centroid.

    python examples/colour_quantisation.py --colours 8 32 --out quantised.png

The two photographs ship with scikit-learn. Prints how far the new colours are from the old ones (root mean square, of
255), beside colours spread evenly over the cube, and draws before and after.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_sample_image

import distkmeans


def quantised(photo: np.ndarray, colours: int, seed: int = 0) -> np.ndarray:
    """uint8 (H, W, 3) in so many colours: centroids of the pixels, rounded to whole values."""
    pixels = photo.reshape(-1, 3)
    found = distkmeans.fit(pixels, colours, seed=seed)
    palette = found.centroids.round().astype(np.uint8)
    return palette[found.labels].reshape(photo.shape)


def evenly(photo: np.ndarray, colours: int) -> np.ndarray:
    """The same in at most so many colours that divide the cube evenly."""
    levels = int(colours ** (1 / 3) + 1e-9)
    step = 256 / levels
    return ((np.floor(photo / step) + 0.5) * step).astype(np.uint8)


def error(photo: np.ndarray, other: np.ndarray) -> float:
    """Root mean square of the differences, over pixels and channels."""
    return float(np.sqrt(np.mean((photo.astype(float) - other) ** 2)))


def draw(path: Path, rows: list[list[tuple[str, np.ndarray]]]) -> None:
    figure = Figure(figsize=(4 * len(rows[0]), 2.9 * len(rows)), dpi=100, layout="constrained")
    for line, pictures in enumerate(rows):
        for column, (title, picture) in enumerate(pictures):
            axes = figure.add_subplot(len(rows), len(pictures), line * len(pictures) + column + 1)
            axes.imshow(picture)
            axes.set_title(title, fontsize=10)
            axes.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--photos", nargs="+", default=["china.jpg", "flower.jpg"], choices=["china.jpg", "flower.jpg"])
    parser.add_argument("--colours", nargs="+", type=int, default=[8, 64])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("quantised.png"))
    options = parser.parse_args()
    print(f"{'photo':12}{'colours':>8}{'k-means':>9}{'even':>8}{'ratio':>7}")
    rows = []
    for name in options.photos:
        photo = load_sample_image(name)
        row = [(f"{name}: {len(np.unique(photo.reshape(-1, 3), axis=0)):,} colours", photo)]
        for colours in options.colours:
            ours = quantised(photo, colours, options.seed)
            mine, plain = error(photo, ours), error(photo, evenly(photo, colours))
            print(f"{name:12}{colours:8}{mine:9.2f}{plain:8.2f}{mine / plain:7.2f}")
            row.append((f"{colours} colours, error {mine:.1f} of 255", ours))
        rows.append(row)
    draw(options.out, rows)
    print(f"{options.out}: before and after")


if __name__ == "__main__":
    main()
