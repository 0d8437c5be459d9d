"""The examples and recipes run as the README says, and what they claim holds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distkmeans import cli
from tests.conftest import ROOT


def example(name: str, folder: Path, *options: str, timeout: float = 300) -> str:
    command = [sys.executable, str(ROOT / "examples" / name), *options, "--out", "picture.png"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr
    assert (folder / "picture.png").stat().st_size > 10_000
    return done.stdout


def test_few_colours(tmp_path: Path) -> None:
    told = example("colour_quantisation.py", tmp_path, "--photos", "china.jpg", "--colours", "8")
    found = re.search(r"china.jpg +8 +([\d.]+) +([\d.]+) +([\d.]+)", told)
    assert found
    assert float(found[1]) < 0.5 * float(found[2])


@pytest.mark.slow
def test_centres_that_withstand_outliers(tmp_path: Path) -> None:
    told = example("robust_centres.py", tmp_path, "--seeds", "1", "--first", "11")
    found = re.search(r"median +([\d.]+) +([\d.]+)", told)
    assert found
    assert float(found[2]) < 0.2 < 5 < float(found[1])


@pytest.mark.parametrize("name", ["article", "huber"])
def test_recipes(name: str, plugins: Path) -> None:
    assert cli.main([f"experiment={name}", "run.dir=out", "n_init=1"], ROOT / "conf") == 0
    summary = json.loads((plugins / "out" / "summary.json").read_text())
    assert summary["k"] == 4
    assert (plugins / "out" / "plots" / "clusters.png").exists()
    if name == "article":
        assert summary["rows"] == 300
        assert summary["scores"]["silhouette"] > 0.6
        assert summary["scores"]["ari"] > 0.95
        assert "ilhouette" in (plugins / "out" / "report.html").read_text()
    else:
        assert summary["bit_identical"] is False


@pytest.mark.slow
def test_deep_clustering(tmp_path: Path) -> None:
    """All of it, for less than a third of the epochs; what the docs claim is tested in the slow tier."""
    told = example("deep_clustering.py", tmp_path, "--epochs", "60")
    found = re.search(r"median +([\d.]+) +([\d.]+) +([\d.]+)", told)
    assert found
    pixels, _, sharpened = map(float, found.groups())
    assert sharpened > pixels + 0.02


@pytest.mark.slow
def test_vq_autoencoder(tmp_path: Path) -> None:
    told = example("vq_autoencoder.py", tmp_path, "--steps", "60")
    errors = {name: float(error) for name, error in re.findall(r"median +(random|k-means) +([\d.]+)", told)}
    assert errors["k-means"] < errors["random"]
