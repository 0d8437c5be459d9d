"""What the examples that stand on distkmeans.nn claim holds, for other seeds than those of the docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_examples import example

pytestmark = pytest.mark.slow


def test_deep_clustering_beats_kmeans_on_pixels(tmp_path: Path) -> None:
    told = example("deep_clustering.py", tmp_path, "--seeds", "5", "--first", "20", timeout=1800)
    found = re.search(r"median +([\d.]+) +([\d.]+) +([\d.]+)", told)
    assert found
    pixels, _, ours = map(float, found.groups())
    assert ours >= pixels + 0.08


def test_a_seeded_codebook_beats_a_random_one(tmp_path: Path) -> None:
    told = example("vq_autoencoder.py", tmp_path, "--seeds", "5", "--first", "20", timeout=3600)
    found = dict(re.findall(r"median +(random|k-means) +([\d.]+ +\d+ +[\d.]+)", told))
    (random, used, _), (seeded, in_use, _) = (map(float, found[name].split()) for name in ("random", "k-means"))
    assert seeded <= 0.92 * random
    assert in_use >= 0.85 * 256
    assert used <= 0.3 * 256
