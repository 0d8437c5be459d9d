"""Every benchmark runs, at a size that tells nothing of speed: its table, CSV and picture come out whole."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import ROOT

TINY = ["--iterations", "2", "--turns", "1", "--threads", "1"]
MISSING = ("faiss", "sklearnex", "superkmeans", "flash_kmeans", "flashlib")
"""Peers that are made to be missing, whatever is installed here."""


@pytest.fixture
def without_peers(tmp_path: Path) -> Path:
    folder = tmp_path / "without"
    folder.mkdir()
    for name in MISSING:
        (folder / f"{name}.py").write_text(f"raise ImportError('no {name}')\n")
    return folder


def bench(name: str, *options: str, out: Path, shadow: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A benchmark as a user starts it, with files into ``out``; modules of ``shadow`` come before installed ones."""
    path = os.pathsep.join([*([str(shadow)] if shadow else []), str(ROOT)])
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *options, "--out", str(out)]
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=env, cwd=out.parent, capture_output=True, text=True, timeout=120)


def table(path: Path, said: str) -> list[dict[str, str]]:
    """The rows of a CSV, which was printed as well, under a line that tells of the machine."""
    first, *rest = path.read_text().splitlines()
    assert first.startswith("# ")
    assert first.removeprefix("# ") in said
    assert f"torch {torch.__version__}" in first or "PROJECTION: a model, not a measurement" in first
    columns = next(csv.reader(rest))
    assert f"| {' | '.join(columns)} |" in said
    return list(csv.DictReader(rest))


def is_picture(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


def test_the_docs_tell_of_every_benchmark() -> None:
    scripts = {path for path in (ROOT / "benchmarks").glob("*.py") if "tables.arguments" in path.read_text()}
    told = re.findall(r"`python benchmarks/(\w+)\.py`", (ROOT / "docs" / "benchmarks.md").read_text())
    assert sorted(path.stem for path in scripts) == sorted(told)


def test_peers_on_a_cpu(tmp_path: Path, without_peers: Path) -> None:
    out = tmp_path / "out"
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).standard_normal((400, 5)).astype(np.float16))
    cases = ["--case", "600x8x4", "--npy", "rows.npy", "--k", "3"]
    done = bench("peers_cpu", *cases, *TINY, out=out, shadow=without_peers)
    assert done.returncode == 0, done.stderr
    summary = table(out / "peers_cpu.csv", done.stdout)
    assert [(row["rows"], row["K"]) for row in summary] == [("normal, 600 x 8", "4"), ("rows, 400 x 5", "3")]
    for row in summary:
        assert row["best peer"] == "scikit-learn"
        assert float(row["ours / best"]) == pytest.approx(float(row["distkmeans ms"]) / float(row["scikit-learn ms"]))
        for name in ("scikit-learn-intelex", "faiss", "faiss SuperKmeans", "SuperKMeans BLAS", "SuperKMeans pruned"):
            assert row[f"{name} ms"] == "not installed"
        assert float(row["product ms"]) > 0
    details = table(out / "peers_cpu_details.csv", done.stdout)
    assert len(details) == 14
    ours, sklearn, missing = details[:3]
    assert float(ours["first ms"]) > 0
    assert float(ours["late ms"]) > 0
    assert abs(float(ours["inertia vs scikit-learn"])) < 1e-6
    assert sklearn["first ms"] == ""
    assert missing["ms"] == "not installed"
    assert is_picture(out / "peers_cpu.png")


def test_peers_to_convergence(tmp_path: Path, without_peers: Path) -> None:
    out = tmp_path / "out"
    done = bench("peers_cpu", "--converge", "--case", "600x8x4", *TINY, out=out, shadow=without_peers)
    assert done.returncode == 0, done.stderr
    ours, sklearn, *others = table(out / "peers_cpu_converge.csv", done.stdout)
    assert ours["iterations"] == sklearn["iterations"]
    assert float(ours["inertia"]) == pytest.approx(float(sklearn["inertia"]), rel=1e-6)
    assert float(sklearn["ours / this"]) == pytest.approx(float(ours["s"]) / float(sklearn["s"]))
    assert [row["s"] for row in others] == ["not installed"] * 5
    assert is_picture(out / "peers_cpu_converge.png")


def test_peers_on_a_card_ask_for_one(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a card here")
    done = bench("peers_gpu", out=tmp_path / "out")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "peers_gpu.py: no CUDA card here; run it on one, or try it out with --device cpu"
    ]


def test_peers_on_a_card_tried_out_without_one(tmp_path: Path, without_peers: Path) -> None:
    out = tmp_path / "out"
    done = bench("peers_gpu", "--device", "cpu", "--case", "600x8x4", *TINY, out=out, shadow=without_peers)
    assert done.returncode == 0, done.stderr
    rows = table(out / "peers_gpu.csv", done.stdout)
    assert [row["contender"] for row in rows] == ["distkmeans", "plain torch", "flash-kmeans", "flashlib"]
    assert [row["ms"] for row in rows[2:]] == ["not installed"] * 2
    assert abs(float(rows[0]["inertia vs plain torch"])) < 1e-6
    assert is_picture(out / "peers_gpu.png")


def test_limits(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sizes = ["--size", "64x16x32", "--copy", "4096", "--packet", "8", "65536"]
    done = bench("limits", *sizes, "--threads", "1", out=out)
    assert done.returncode == 0, done.stderr
    rows = table(out / "limits.csv", done.stdout)
    kinds = [(row["what"], row["type"], row["unit"]) for row in rows]
    assert kinds[:4] == [("product", kind, "Gop/s") for kind in ("float32", "bfloat16", "int8")] + [
        ("copy", "bytes", "GB/s")
    ]
    assert kinds[-2:] == [("link, fitted", "latency", "us"), ("link, fitted", "bandwidth", "GB/s")]
    assert all(float(row["rate"]) > 0 for row in rows)
    assert is_picture(out / "limits.png")


def test_seeding(tmp_path: Path) -> None:
    out = tmp_path / "out"
    cases = ["--greedy", "normal:400x4x5", "clustered:400x4x5", "--parallel", "500x4x6", "--turns", "1"]
    done = bench("seeding", *cases, "--threads", "1", out=out)
    assert done.returncode == 0, done.stderr
    rows = table(out / "seeding.csv", done.stdout)
    assert [row["seeding"] for row in rows] == ["greedy k-means++", "greedy k-means++", "k-means||"]
    for row in rows:
        assert float(row["ratio"]) == pytest.approx(float(row["ours s"]) / float(row["its s"]))
    assert is_picture(out / "seeding.png")


def test_estimator(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = bench("estimator", "--case", "500x4x6", "--turns", "1", "--threads", "1", out=out)
    assert done.returncode == 0, done.stderr
    (row,) = table(out / "estimator.csv", done.stdout)
    assert float(row["ratio"]) == pytest.approx(float(row["KMeans s"]) / float(row["fit s"]))
    assert is_picture(out / "estimator.png")


def test_exactness(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = bench("exactness", "--case", "600x8x4", *TINY, out=out)
    assert done.returncode == 0, done.stderr
    (row,) = table(out / "exactness.csv", done.stdout)
    ratio = float(row["exact ms"]) / float(row["fast ms"])
    assert float(row["exact / fast"]) == pytest.approx(ratio)
    assert row["within 10 %"] == ("yes" if ratio <= 1.1 else "no")
    assert abs(float(row["inertia apart"])) < 1e-6
    assert is_picture(out / "exactness.png")


@pytest.mark.slow
def test_scaling(tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = bench("scaling", "--case", "600x8x4", "--ranks", "1", "2", "--iterations", "4", out=out)
    assert done.returncode == 0, done.stderr
    rows = table(out / "scaling.csv", done.stdout)
    told = [(row["scaling"], row["ranks"], row["rows"]) for row in rows]
    assert told == [("strong", "1", "600"), ("weak", "1", "300"), ("strong", "2", "600"), ("weak", "2", "600")]
    for row in rows:
        sent, waited = float(row["transfer %"]), float(row["all-reduce %"])
        assert 0 < sent <= waited < 100 if row["ranks"] == "2" else sent == waited == 0
    assert is_picture(out / "scaling.png")


@pytest.mark.slow
def test_projection(tmp_path: Path) -> None:
    out = tmp_path / "out"
    small = ["--case", "60000x16x32", "--ranks", "2", "--iterations", "4", "--project", "1000000x16x32"]
    done = bench("projection", *small, "--gpus", "8", "64", out=out)
    assert done.returncode == 0, done.stderr
    checks = table(out / "projection_check.csv", done.stdout)
    assert [(row["ranks"], row["rows"]) for row in checks] == [("2", "60000"), ("2", "15000")]
    for row in checks:
        assert float(row["model / measured"]) == pytest.approx(float(row["model ms"]) / float(row["measured ms"]))
    eight, many = table(out / "projection.csv", done.stdout)
    assert (eight["GPUs"], many["GPUs"]) == ("8", "64")
    assert float(eight["labels ms"]) == pytest.approx(8 * float(many["labels ms"]))
    parts = ("labels ms", "sums ms", "centroids ms", "all-reduce ms", "overhead ms")
    assert float(many["total ms"]) == pytest.approx(sum(float(many[name]) for name in parts))
    assert is_picture(out / "projection.png")
