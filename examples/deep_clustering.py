"""Deep clustering of handwritten digits: an autoencoder whose codes are drawn to centroids that k-means has seeded.

    python examples/deep_clustering.py --seeds 5

The encoder learns to see through small warps, as the decoder has to draw each digit as it was; ``distkmeans.fit`` finds
ten centroids among its codes; DEC's loss then sharpens clusters and codes together (Xie, Girshick and Farhadi 2016),
with the reconstruction kept (Guo, Gao, Liu and Yin 2017) and warped rows drawn to the targets of the rows as they are
(Guo, Zhu, Liu and Yin 2018). Labels serve the printed NMI alone: the normalised mutual information of clusters and
digits.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch
from sklearn.datasets import load_digits
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor, nn
from torch.nn import functional

import distkmeans
from distkmeans.nn import ClusterLoss, SoftAssign, target_distribution

K, SIDE, WIDTH, CODE, BATCH = 10, 8, 256, 10, 128
WARPS = torch.tensor([0.25, 0.15, 0.2, 0.25, 0.25])
"""The largest turn (radians), change of size, shear, and moves right and down (1 is half an image)."""
TEMPERATURE = 0.1
"""Of the soft clusters, where a code is about 0.8 from its centroid, squared."""
RECONSTRUCTION = 0.1
"""Its weight beside DEC's loss."""


class Autoencoder(nn.Module):
    """(N, 64) pixels to (N, 10) codes and back."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = perceptron(SIDE * SIDE, CODE), perceptron(CODE, SIDE * SIDE)

    def error(self, codes: Tensor, pixels: Tensor) -> Tensor:
        return (self.decode(codes) - pixels).square().sum(1).mean()


def perceptron(inputs: int, outputs: int) -> nn.Sequential:
    hidden = [nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(WIDTH, outputs))


def warped(pixels: Tensor) -> Tensor:
    """Each image (N, 64) turned, scaled, sheared and moved a little, in its own way."""
    turn, size, shear, right, down = ((torch.rand(len(pixels), len(WARPS)) * 2 - 1) * WARPS).unbind(1)
    a, b = turn.cos() * (1 + size), turn.sin() * (1 + size)
    maps = torch.stack([a, shear - b, right, b, a, down], 1).reshape(-1, 2, 3)
    images = pixels.reshape(-1, 1, SIDE, SIDE)
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False).reshape(pixels.shape)


def batches(rows: int, epochs: int = 1) -> Iterator[Tensor]:
    for _ in range(epochs):
        yield from torch.randperm(rows).split(BATCH)


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def pretrain(model: Autoencoder, pixels: Tensor, epochs: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for batch in batches(len(pixels), epochs):
        step(optimizer, model.error(model.encode(warped(pixels[batch])), pixels[batch]))


def sharpen(model: Autoencoder, assign: SoftAssign, pixels: Tensor, epochs: int) -> None:
    """DEC: each epoch begins with the target of all rows."""
    clustering = ClusterLoss("dec", temperature=assign.temperature)
    optimizer = torch.optim.Adam([*model.parameters(), *assign.parameters()], 1e-3)
    for _ in range(epochs):
        with torch.no_grad():
            target = target_distribution(assign(model.encode(pixels)))
        for batch in batches(len(pixels)):
            codes = model.encode(warped(pixels[batch]))
            loss = clustering(codes, assign.centroids, target[batch])
            step(optimizer, loss + RECONSTRUCTION * model.error(codes, pixels[batch]))


def cluster(pixels: Tensor, seed: int, epochs: int) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Codes (N, 10), centroids (10, 10) and labels (N,): as seeded in the trained codes, and sharpened.

    epochs: of the autoencoder alone; the clusters take a quarter as many.
    """
    torch.manual_seed(seed)
    model = Autoencoder()
    pretrain(model, pixels, epochs)
    with torch.no_grad():
        codes = model.encode(pixels)
    seeded = distkmeans.fit(codes, K, n_init=10, seed=seed)
    assign = SoftAssign(seeded.centroids, temperature=TEMPERATURE, freedom=1.0)
    sharpen(model, assign, pixels, epochs // 4)
    with torch.no_grad():
        sharp = model.encode(pixels)
        labels = assign(sharp).argmax(1)
    return {
        "k-means in its codes": (codes, seeded.centroids, seeded.labels),
        "with DEC's loss": (sharp, assign.centroids.detach(), labels),
    }


def draw(found: dict[str, tuple[Tensor, Tensor, Tensor]], digits: Tensor, told: dict[str, float], path: Path) -> None:
    """Codes and centroids on their two principal axes, coloured by the digit that each row shows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5), dpi=110, layout="constrained")
    for place, (name, (codes, centroids, _)) in enumerate(found.items()):
        axes = figure.add_subplot(1, 2, place + 1)
        middle = codes.mean(0)
        basis = torch.linalg.svd(codes - middle, full_matrices=False).Vh[:2].T
        flat, centres = (codes - middle) @ basis, (centroids - middle) @ basis
        dots = axes.scatter(*flat.T, c=digits, cmap="tab10", s=5, alpha=0.7, linewidths=0)
        axes.scatter(*centres.T, marker="X", s=90, c="#222222", edgecolors="white", linewidths=0.8)
        axes.set_title(f"{name}: NMI {told[name]:.3f}")
        axes.set_axis_off()
    figure.legend(*dots.legend_elements(), title="digit", loc="outside right center")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Deep clustering of the digits beside k-means on their pixels.")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--epochs", type=int, default=200, help="of the autoencoder alone")
    parser.add_argument("--out", type=Path, default=Path("runs/deep_clustering.png"), help="picture of the last seed")
    given = parser.parse_args()
    torch.set_num_threads(1)  # layers this small gain nothing from more
    data = load_digits()
    pixels, digits = torch.from_numpy(data.data).float() / 16, torch.from_numpy(data.target)
    scores: dict[str, list[float]] = {}
    for seed in range(given.first, given.first + given.seeds):
        found = cluster(pixels, seed, given.epochs)
        labels = {"k-means on pixels": distkmeans.fit(pixels, K, n_init=10, seed=seed).labels}
        labels |= {name: labels for name, (_, _, labels) in found.items()}
        told = {name: normalized_mutual_info_score(digits, mine) for name, mine in labels.items()}
        for name, score in told.items():
            scores.setdefault(name, []).append(score)
        if seed == given.first:
            print(f"{'NMI':8}" + "".join(f"{name:>22}" for name in told))
        print(f"seed {seed:<3}" + "".join(f"{score:22.3f}" for score in told.values()), flush=True)
    print(f"{'median':8}" + "".join(f"{median(each):22.3f}" for each in scores.values()))
    draw(found, digits, told, given.out)


if __name__ == "__main__":
    main()
