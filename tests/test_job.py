"""The main job as a user starts it: real processes, real files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from safetensors.torch import load_file

import distkmeans
from distkmeans import cli
from tests.conftest import ROOT

Train = Callable[..., subprocess.CompletedProcess[str]]

FILES = {"centroids.npy", "centroids.safetensors", "config.yaml", "labels", "log.txt", "metrics.jsonl", "plots"}
FILES |= {"report.html", "summary.json", "transform.safetensors"}


def read(run: Path) -> tuple[bytes, bytes, str]:
    labels = [np.load(part) for part in sorted((run / "labels").iterdir())]
    inertia = json.loads((run / "summary.json").read_text())["inertia"]
    return (run / "centroids.npy").read_bytes(), np.concatenate(labels).tobytes(), repr(inertia)


def test_one_process_and_torchrun_write_the_same(train: Train, tmp_path: Path) -> None:
    settings = ["data=digits", "k=10", "transform=standardize", "seed=4", "solver.tol=0"]
    for name, ranks in (("alone", 0), ("three", 3)):
        done = train(*settings, f"run.dir={name}", ranks=ranks)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("results in") == 1
    assert read(tmp_path / "alone") == read(tmp_path / "three")
    assert {path.name for path in (tmp_path / "three").iterdir()} == FILES
    assert sorted(p.name for p in (tmp_path / "three" / "labels").iterdir()) == [
        f"part-0000{rank}-of-00003.npy" for rank in range(3)
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"alone", "three"}  # no outputs/, no .hydra
    check_records(tmp_path / "three")
    check_model(tmp_path / "alone")


def check_records(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    assert {"rows": 1797, "dims": 64, "k": 10, "world_size": 3, "converged": True}.items() <= summary.items()
    assert len(summary["seed_rows"]) == 10
    assert set(summary["seconds"]) == {"start", "read", "seed", "fit", "evaluate", "write"}
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["iteration"] for record in records] == list(range(1, summary["iterations"] + 1))
    assert {"iteration", "inertia", "moved", "shift", "judged", "seconds"} <= set(records[0])
    assert records[0]["moved"] == 1797
    assert records[-1]["inertia"] == summary["inertia"]
    for name in ("clusters.png", "inertia.png", "sizes.png", "centroids.png"):
        picture = imread(run / "plots" / name)
        assert min(picture.shape[:2]) > (200 if name == "centroids.png" else 400)  # ten digits are one line
        assert len(np.unique((picture[..., :3] * 15).astype(int).reshape(-1, 3), axis=0)) > 10


def check_model(run: Path) -> None:
    from sklearn.datasets import load_digits

    model = distkmeans.load(run)
    x = load_digits().data
    labels = np.load(run / "labels" / "part-00000-of-00001.npy")
    assert labels.dtype == np.int32
    assert (model.predict(x) == labels).all()
    assert (distkmeans.predict(model.transform(x), model.centroids) == labels).all()
    assert torch.equal(model.centroids, load_file(run / "centroids.safetensors")["centroids"])
    assert np.load(run / "centroids.npy").tolist() == model.centroids.tolist()
    with pytest.raises(distkmeans.InputError, match="63 columns; the model was fitted on 64"):
        model.predict(x[:, :63])


def test_more_ranks_than_rows(train: Train, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([[0.0, 0.0], [9.0, 9.0]], np.float16))
    done = train("data=npy", "data.path=x.npy", "k=2", "run.dir=out", "init=random", ranks=4)
    assert done.returncode == 0, done.stderr
    sizes = [len(np.load(part)) for part in sorted((tmp_path / "out" / "labels").iterdir())]
    assert len(sizes) == 4
    assert sum(sizes) == 2


def test_weights_ids_and_a_start_file(train: Train, tmp_path: Path) -> None:
    import pyarrow.parquet as pyarrow

    x = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "w.npy", np.arange(50))
    np.save(tmp_path / "start.npy", x[10:13])
    (tmp_path / "ids.txt").write_text("".join(f"row-{index}\n" for index in range(50)))
    settings = ["data=npy", "data.path=x.npy", "data.weights=w.npy", "data.ids=ids.txt", "k=3"]
    done = train(*settings, "init=file", "init.path=start.npy", "run.dir=out", ranks=2)
    assert done.returncode == 0, done.stderr
    parts = [pyarrow.read_table(part) for part in sorted((tmp_path / "out" / "labels").iterdir())]
    assert [name for part in parts for name in part["id"].to_pylist()] == [f"row-{index}" for index in range(50)]
    expected = distkmeans.fit(x, 3, init=x[10:13], weights=np.arange(50))
    assert [label for part in parts for label in part["label"].to_pylist()] == expected.labels.tolist()
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["seed_rows"] is None


def test_default_directories_are_new_ones(train: Train, tmp_path: Path) -> None:
    for ranks in (0, 0, 2):
        assert train("data.n_samples=50", ranks=ranks).returncode == 0
    names = {path.name for path in (tmp_path / "runs").iterdir()}
    assert names > {"blobs-k4-seed0-1", "blobs-k4-seed0-2"}
    assert len(names) == 3


def test_a_finished_run_is_kept_unless_told_otherwise(train: Train, tmp_path: Path) -> None:
    assert train("run.dir=out", "data.n_samples=50").returncode == 0
    (tmp_path / "out" / "mine.txt").write_text("keep me")
    before = (tmp_path / "out" / "summary.json").read_bytes()
    refused = train("run.dir=out", "data.n_samples=60")
    assert refused.returncode == 1
    assert "run.dir=out: holds a run already; choose another, or run.overwrite=true" in refused.stderr
    assert (tmp_path / "out" / "summary.json").read_bytes() == before
    assert train("run.dir=out", "data.n_samples=60", "run.overwrite=true").returncode == 0
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["rows"] == 60
    assert (tmp_path / "out" / "mine.txt").read_text() == "keep me"


def test_a_run_is_not_replaced_before_the_new_one_can_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    x = np.arange(20.0).reshape(10, 2)
    for name, values in (("x", x), ("nan", np.where(x == 3, np.nan, x)), ("start", x[:3])):
        np.save(f"{name}.npy", values)
    run = ["data=npy", "data.path=x.npy", "k=2", "run.dir=out"]
    assert cli.main(run, ROOT / "conf") == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    for wrong in (
        ["data.path=nan.npy"],
        ["init=file", "init.path=start.npy"],
        ["k=11"],
        ["data.weights=start.npy"],
        ["init.sample=1"],
    ):
        assert cli.main([*run, "run.overwrite=true", *wrong], ROOT / "conf") == 1
        assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    assert cli.main([*run, "run.overwrite=true", "report=none"], ROOT / "conf") == 0
    assert not (tmp_path / "out" / "plots").exists()


def test_a_new_directory_goes_with_a_mistake_in_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("nan.npy", np.full((5, 2), np.nan))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    for name in ("new", "mine"):
        assert cli.main(["data=npy", "data.path=nan.npy", "k=2", f"run.dir={name}"], ROOT / "conf") == 1
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_pictures_that_fail_do_not_cost_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("distkmeans.report.pictures.Pictures.sizes", lambda *_: 1 / 0)
    assert cli.main(["run.dir=out"], ROOT / "conf") == 0
    assert "no pictures: ZeroDivisionError: division by zero" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["converged"]


def test_no_compiled_kernels_are_told_once_and_change_no_byte(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train("data=patches", "k=20", "init=random", "run.dir=with", "solver.max_iter=3")
    monkeypatch.setenv("DISTKMEANS_NATIVE", "off")
    done = train("data=patches", "k=20", "init=random", "run.dir=without", "solver.max_iter=3")
    assert done.stderr.count("kernels run in torch: the compiled ones are switched off") == 1
    assert json.loads((tmp_path / "without" / "summary.json").read_text())["kernel"].startswith("torch")
    for name in ("centroids.npy", "labels/part-00000-of-00001.npy"):
        assert (tmp_path / "with" / name).read_bytes() == (tmp_path / "without" / name).read_bytes()


def test_precision_fast_says_so(train: Train, tmp_path: Path) -> None:
    done = train("precision=fast", "run.dir=out")
    assert "precision=fast: labels are not proved" in done.stderr
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["bit_identical"] is False


def start_task(tmp_path: Path, rank: int, size: int, *overrides: str) -> subprocess.Popen[str]:
    """A process as srun starts it, by its variables."""
    variables = {"SLURM_PROCID": rank, "SLURM_NTASKS": size, "SLURM_LOCALID": rank, "SLURM_JOB_ID": 4242}
    variables |= {"SLURM_NODELIST": "localhost", "SLURM_STEP_ID": os.getpid() % 9000, "OMP_NUM_THREADS": 1}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *overrides],
        cwd=tmp_path,
        env={**os.environ, **{name: str(value) for name, value in variables.items()}},
        stderr=subprocess.PIPE,
        text=True,
    )


def test_processes_started_by_srun(train: Train, tmp_path: Path) -> None:
    tasks = [start_task(tmp_path, rank, 3, "data=digits", "k=5") for rank in range(3)]
    assert [task.communicate(timeout=100)[1].count("results in") for task in tasks] == [1, 0, 0]
    assert train("data=digits", "k=5", "run.dir=alone").returncode == 0
    assert read(tmp_path / "runs" / "digits-k5-seed0-4242") == read(tmp_path / "alone")


def test_ranks_with_different_settings_are_told(tmp_path: Path) -> None:
    tasks = [start_task(tmp_path, rank, 2, f"k={3 + rank}") for rank in range(2)]
    said = [task.communicate(timeout=100)[1] for task in tasks]
    assert [task.returncode for task in tasks] == [1, 1]
    assert "k: rank 0 has 3, rank 1 has 4; start all ranks with the same command" in said[0]
    assert not said[1]


def test_a_killed_rank_is_named_within_seconds(tmp_path: Path) -> None:
    tasks = [start_task(tmp_path, rank, 3, "data=patches", "k=200", "init=random", "run.dir=out") for rank in range(3)]
    metrics = tmp_path / "out" / "metrics.jsonl"
    for _ in range(600):
        if metrics.exists() and metrics.read_text().count("\n") > 1:
            break
        time.sleep(0.1)
    tasks[2].kill()
    said = [task.communicate(timeout=30)[1] for task in tasks]
    assert [task.returncode for task in tasks[:2]] == [1, 1]
    # one line over all ranks: rank 0's, unless it still waits in the collective when another has called the roll
    (line,) = [line for text in said for line in text.splitlines() if line.startswith("distkmeans: error:")]
    assert line.startswith("distkmeans: error: rank 2 is gone: ")
    assert metrics.read_text().count("\n") > 1
    assert not (tmp_path / "out" / "summary.json").exists()
