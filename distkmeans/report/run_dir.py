"""The directory of a run: who may have it, and the files in it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distkmeans.errors import InputError
from distkmeans.launcher import is_restart, launch_id, node_name
from distkmeans.world import World

FAILURE = "failed.json"
"""Why a point of a sweep failed."""
OWN_FILES = (
    *("config.yaml", "centroids.safetensors", "centroids.npy", "transform.safetensors"),
    *("metrics.jsonl", "summary.json", "log.txt", FAILURE),
)
BEFORE_THE_FIRST_ITERATION = ("config.yaml", "log.txt")
OWN_FOLDERS = ("labels", "labels.part", "plots")
SIGNS = ("config.yaml", "summary.json")
"""Files by which a directory is known to hold a run, finished or not."""
SWEEP = "sweep.csv"
"""The file by which a directory is known to hold a sweep."""
VISIBLE_S = 8.0
"""How long a shared file system may take to show a new file on another node."""


@dataclass(frozen=True)
class RunDir:
    """A claimed directory. Rank 0 writes, but for the labels, of which every rank writes its own."""

    world: World
    path: Path
    made: bool = False

    def discard(self) -> None:
        """Give up a claim before the first iteration: remove what was written, and the directory if new (rank 0)."""
        if self.world.rank == 0:
            for name in BEFORE_THE_FIRST_ITERATION:
                (self.path / name).unlink(missing_ok=True)
            if self.made:
                with contextlib.suppress(OSError):  # somebody has put a file there
                    self.path.rmdir()

    def write_text(self, name: str, text: str) -> None:
        """Write a file whole or not at all (rank 0)."""
        if self.world.rank == 0:
            aside = self.path / f"{name}.part"
            aside.write_text(text, encoding="utf-8")
            aside.replace(self.path / name)

    def write_config(self, settings: Mapping[str, Any]) -> None:
        """config.yaml: the resolved settings (rank 0)."""
        from omegaconf import OmegaConf

        self.write_text("config.yaml", OmegaConf.to_yaml(dict(settings)))

    def append(self, name: str, line: str) -> None:
        """Add a line to a file (rank 0)."""
        if self.world.rank == 0:
            with open(self.path / name, "a", encoding="utf-8") as file:
                file.write(line + "\n")

    def write_model(self, centroids: Tensor, transform: dict[str, Tensor]) -> None:
        """centroids.safetensors, centroids.npy and transform.safetensors (rank 0)."""
        from safetensors.torch import save_file

        if self.world.rank == 0:
            stored = centroids.cpu().contiguous()
            save_file({"centroids": stored}, self.path / "centroids.safetensors")
            np.save(self.path / "centroids.npy", stored.numpy())
            learned = {name: values.cpu().contiguous() for name, values in transform.items()}
            save_file(learned, self.path / "transform.safetensors")

    def write_labels(self, labels: Tensor, ids: np.ndarray | None) -> None:
        """labels/part-00000-of-00008.npy, one part per rank, or parquet with ids; renamed as a whole. A collective."""
        world, aside = self.world, self.path / "labels.part"
        with world.guard():
            aside.mkdir(exist_ok=True)
            part = aside / f"part-{world.rank:05d}-of-{world.size:05d}"
            if ids is None:
                np.save(part.with_suffix(".npy"), labels.cpu().numpy())
            else:
                _write_parquet(part.with_suffix(".parquet"), labels.cpu().numpy(), ids)
        with world.guard():
            if world.rank == 0:
                aside.replace(self.path / "labels")

    def write_summary(self, summary: dict[str, Any]) -> None:
        """summary.json, last of all: a run that has one is finished (rank 0)."""
        self.write_text("summary.json", json.dumps(summary, indent=2) + "\n")


def claim(world: World, path: str | os.PathLike[str] | None, name: str, overwrite: bool) -> RunDir:
    """The directory ``path``, or a new one under ``runs`` that bears ``name`` and the launch's id. A collective.

    Raises InputError on all ranks for one that holds a run, unless ``overwrite``, that cannot be written to, or that
    is not the same directory on all nodes.
    """
    return _claim(world, path, lambda: _take(Path(path), overwrite) if path else _make_new(name))


def claim_sweep(world: World, path: str | None, name: str) -> RunDir:
    """The directory of a sweep, which may hold points of it already. A collective; raises as ``claim``."""
    return _claim(world, path, lambda: _take_sweep(Path(path)) if path else _make_new(name))


def check_free(path: str | os.PathLike[str] | None, overwrite: bool, sweep: bool) -> None:
    """Raise InputError where claiming would, as far as can be known without making anything."""
    if path:
        if sweep:
            _refuse_sweep(Path(path))
        else:
            _refuse(Path(path), overwrite)
        folder = next(folder for folder in (Path(path).absolute(), *Path(path).absolute().parents) if folder.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise InputError(f"run.dir={path}: {folder} cannot be written to; choose another")


def _claim(world: World, asked: str | os.PathLike[str] | None, take: Callable[[], tuple[Path, bool]]) -> RunDir:
    chosen, made, token = Path(), False, ""
    with world.guard():
        if world.rank == 0:
            try:
                chosen, made = take()
                token = f".seen-{secrets.token_hex(8)}"
                (chosen / token).touch()
            except OSError as error:
                raise InputError(f"run.dir={error.filename or asked}: {error.strerror}; choose another") from error
    there, token = world.share((os.path.abspath(chosen), token))
    try:
        _check_shared(world, Path(there), token)
    finally:
        if world.rank == 0:
            (chosen / token).unlink(missing_ok=True)
    return RunDir(world, chosen if world.rank == 0 else Path(there), made)


def _check_shared(world: World, path: Path, token: str) -> None:
    """Raise InputError on all ranks, naming nodes, unless every rank sees rank 0's file in ``path``. A collective."""
    end = time.monotonic() + VISIBLE_S
    while not (seen := (path / token).exists()) and time.monotonic() < end:
        time.sleep(0.1)
    writable = seen and os.access(path, os.W_OK | os.X_OK)
    blind = [(rank, told) for rank, told in enumerate(world.collect(None if writable else (node_name(), seen))) if told]
    if blind:
        node, seen = blind[0][1]
        ranks = ", ".join(str(rank) for rank, _ in blind)
        what = "cannot write to" if seen else "does not see"
        raise InputError(
            f"run.dir={path}: node {node} {what} the folder that rank 0 writes to (ranks {ranks}); choose one on a file"
            " system that all nodes share"
        )


def _refuse(path: Path, overwrite: bool) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f"run.dir={path}: a file, not a directory; choose another")
    if (path / SWEEP).exists():
        raise InputError(f"run.dir={path}: holds a sweep; choose another, or go on with it: -m")
    if not overwrite and any((path / sign).exists() for sign in SIGNS):
        raise InputError(f"run.dir={path}: holds a run already; choose another, or run.overwrite=true")


def _take(path: Path, overwrite: bool) -> tuple[Path, bool]:
    _refuse(path, overwrite)
    made = not path.exists()
    if any((path / sign).exists() for sign in SIGNS):
        _clear(path)
    path.mkdir(parents=True, exist_ok=True)
    return path, made


def _refuse_sweep(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise InputError(f"run.dir={path}: a file, not a directory; choose another")
    if any((path / sign).exists() for sign in SIGNS):
        raise InputError(f"run.dir={path}: holds a single run, not a sweep; choose another")


def _take_sweep(path: Path) -> tuple[Path, bool]:
    _refuse_sweep(path)
    made = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    return path, made


def _clear(path: Path) -> None:
    """Remove what a run wrote, and nothing else."""
    for file in OWN_FILES:
        (path / file).unlink(missing_ok=True)
    for folder in OWN_FOLDERS:
        if (path / folder).is_dir():
            shutil.rmtree(path / folder)


def _make_new(name: str) -> tuple[Path, bool]:
    """runs/<name>-<launch>, made by this call alone; a launch that starts again takes its unfinished one back."""
    launch = launch_id()
    path = Path("runs") / f"{name}-{launch}"
    if launch and is_restart() and path.is_dir() and not (path / "summary.json").exists():
        _clear(path)
        return path, False
    Path("runs").mkdir(exist_ok=True)
    for path in _candidates(name, launch):
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return path, True
    raise AssertionError("the candidates never end")


def _candidates(name: str, launch: str | None) -> Iterator[Path]:
    if launch:
        yield Path("runs") / f"{name}-{launch}"
    count = 1
    while True:
        yield Path("runs") / (f"{name}-{launch}-{count}" if launch else f"{name}-{count}")
        count += 1


def _write_parquet(path: Path, labels: np.ndarray, ids: np.ndarray) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("data.ids: needs pyarrow; pip install 'distkmeans[parquet]'") from error
    pyarrow.parquet.write_table(pyarrow.table({"id": ids, "label": labels}), path)


def read_transform(run_dir: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a run's fitted transform."""
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = load_file(Path(run_dir) / "transform.safetensors")
    return tensors


def read_config(run_dir: str | os.PathLike[str]) -> Any:
    """The resolved configuration of a run, as nested dicts."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.load(Path(run_dir) / "config.yaml"))
