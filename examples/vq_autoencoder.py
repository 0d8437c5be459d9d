"""A vector-quantised autoencoder of image patches: its codebook drawn at random, or seeded by k-means.

    python examples/vq_autoencoder.py --seeds 5

A patch of 8 x 8 x 3 bytes becomes four of 256 codes, four bytes in all (van den Oord, Vinyals and Kavukcuoglu 2017).
After a short warm-up without codes the codebook is either normal random numbers, the usual start, or what
``distkmeans.fit`` makes of encoded patches; with starved codes revived, and without. Printed: the error of
reconstruction in grey levels (root mean square), how many codes are in use, and their perplexity.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor, nn

import distkmeans
from distkmeans.data.patches import SIDE, STRIDE, open_patches
from distkmeans.nn import Revival, VectorQuantize, perplexity

K, TOKENS, DIMS, WIDTH, BATCH = 256, 4, 8, 256, 512
WARM_UP = 0.2
"""Share of the steps before there are codes."""
QUANTISATION = 4.0
"""Weight of the quantiser's loss beside the squared error of a patch."""
VARIANTS = {
    "random": ("random", None),
    "random, revived": ("random", Revival()),
    "k-means": ("k-means", None),
    "k-means, revived": ("k-means", Revival()),
}


class Autoencoder(nn.Module):
    """(N, 192) patches, 0 to 1, to (N, 4, 8) and back."""

    def __init__(self) -> None:
        super().__init__()
        pixels = SIDE * SIDE * 3
        self.encoder, self.decoder = perceptron(pixels, TOKENS * DIMS), perceptron(TOKENS * DIMS, pixels)

    def encode(self, patches: Tensor) -> Tensor:
        return self.encoder(patches).reshape(-1, TOKENS, DIMS)

    def decode(self, tokens: Tensor) -> Tensor:
        return self.decoder(tokens.flatten(1))


class Outcome(NamedTuple):
    """error: root mean square, in grey levels. used: codes, of 256. perplexity: of their counts. picture: (H, W, 3)."""

    error: float
    used: int
    perplexity: float
    counts: Tensor
    picture: Tensor


def perceptron(inputs: int, outputs: int) -> nn.Sequential:
    hidden = [nn.Linear(inputs, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(WIDTH, outputs))


def train(model: Autoencoder, quantize: VectorQuantize | None, patches: Tensor, steps: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(steps):
        batch = patches[torch.randint(len(patches), (BATCH,))]
        tokens = model.encode(batch)
        loss = torch.zeros(())
        if quantize is not None:
            tokens, _, loss, _ = quantize(tokens)
        loss = QUANTISATION * loss + (model.decode(tokens) - batch).square().sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def first_codes(start: str, model: Autoencoder, patches: Tensor, seed: int) -> Tensor:
    """(256, 8): standard normal, or the centroids of 4,096 encoded patches."""
    if start == "random":
        return torch.randn(K, DIMS)
    with torch.no_grad():
        tokens = model.encode(patches[torch.randperm(len(patches))[:4096]])
    return distkmeans.fit(tokens.reshape(-1, DIMS), K, seed=seed, max_iter=20).centroids


@torch.no_grad()
def outcome(model: Autoencoder, quantize: VectorQuantize, patches: Tensor) -> Outcome:
    """Of every fourth patch."""
    quantize.eval()
    some = patches[::4]
    told = [quantize(model.encode(part)) for part in some.split(8192)]
    back = torch.cat([model.decode(part.quantized) for part in told])
    counts = torch.stack([part.counts for part in told]).sum(0)
    error = (back - some).square().mean().sqrt().item() * 255
    tiles = photograph(patches)
    picture = joined(model.decode(quantize(model.encode(tiles.reshape(-1, patches.shape[1]))).quantized), tiles.shape)
    return Outcome(error, int(counts.count_nonzero()), perplexity(counts).item(), counts, picture)


def run(patches: Tensor, seed: int, steps: int) -> dict[str, Outcome]:
    """Every variant, from the same warm model and on the same batches."""
    torch.manual_seed(seed)
    warm, told = Autoencoder(), {}
    train(warm, None, patches, round(WARM_UP * steps))
    for name, (start, revival) in VARIANTS.items():
        torch.manual_seed(seed)
        model = copy.deepcopy(warm)
        quantize = VectorQuantize(first_codes(start, model, patches, seed), revival=revival)
        torch.manual_seed(seed)
        train(model, quantize, patches, steps - round(WARM_UP * steps))
        told[name] = outcome(model, quantize, patches)
    return told


def photograph(patches: Tensor) -> Tensor:
    """The first photograph in patches side by side: (rows, columns, 192)."""
    from sklearn.datasets import load_sample_images

    high, wide = ((side - SIDE) // STRIDE + 1 for side in load_sample_images().images[0].shape[:2])
    apart = SIDE // STRIDE
    return patches[: high * wide].reshape(high, wide, -1)[::apart, ::apart]


def joined(tiles: Tensor, shape: torch.Size) -> Tensor:
    """Patches side by side as an image (H, W, 3)."""
    rows, columns = shape[:2]
    image = tiles.reshape(rows, columns, SIDE, SIDE, 3).transpose(1, 2)
    return image.reshape(rows * SIDE, columns * SIDE, 3).clamp(0, 1)


def draw(patches: Tensor, told: dict[str, Outcome], path: Path) -> None:
    """The photograph, by either start, and how often each code is used."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 6.6), dpi=80, layout="constrained")
    above, below = figure.subfigures(2, 1)
    tiles = photograph(patches)
    images = {"original": joined(tiles, tiles.shape)}
    for name in ("random", "k-means"):
        images[f"codebook: {name}, error {told[name].error:.1f}"] = told[name].picture
    for place, (name, image) in enumerate(images.items()):
        axes = above.add_subplot(1, 3, place + 1)
        axes.imshow(image[100:340, 200:500])
        axes.set_title(name, fontsize=10)
        axes.set_axis_off()
    axes = below.add_subplot()
    for name, each in told.items():
        share = 100 * each.counts.sort(descending=True).values / each.counts.sum()
        axes.plot(range(1, K + 1), share, label=f"{name}: {each.used} codes in use, perplexity {each.perplexity:.0f}")
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_xlabel("codes, from the most used to the least")
    axes.set_ylabel("share of tokens (%)")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Codebooks seeded at random and by k-means, in an autoencoder.")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--steps", type=int, default=1000, help="of training, the warm-up included")
    parser.add_argument("--out", type=Path, default=Path("runs/vq_autoencoder.png"), help="picture of the last seed")
    given = parser.parse_args()
    torch.set_num_threads(1)  # layers this small gain nothing from more
    source = open_patches()
    patches = source.read(0, source.rows).float() / 255
    runs = []
    print(f"{'':7}{'codebook':20}{'error':>8}{'in use':>8}{'perplexity':>12}")
    for seed in range(given.first, given.first + given.seeds):
        runs.append(run(patches, seed, given.steps))
        for name, each in runs[-1].items():
            print(f"{seed:<7}{name:20}{each.error:8.2f}{each.used:8}{each.perplexity:12.1f}", flush=True)
    for name in VARIANTS:
        error, used, width = (median(each[name][place] for each in runs) for place in range(3))
        print(f"{'median':7}{name:20}{error:8.2f}{used:8.0f}{width:12.1f}")
    draw(patches, runs[-1], given.out)


if __name__ == "__main__":
    main()
