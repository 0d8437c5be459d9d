"""The files of a run's directory."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distkmeans.errors import InputError
from distkmeans.world import World

FAILURE = "failed.json"
"""Why a point of a sweep failed."""
SIGNS = ("config.yaml", "summary.json", FAILURE)
"""Files by which a directory is known to hold a run, finished or not."""
OWN_FILES = (
    *SIGNS,
    *("centroids.safetensors", "centroids.npy", "transform.safetensors", "metrics.jsonl", "log.txt"),
)
PICTURES = ("clusters.png", "inertia.png", "sizes.png", "centroids.png")
OWN_FOLDERS = {"labels": ("part-*-of-*.*",), "labels.part": ("part-*-of-*.*",), "plots": PICTURES}
"""Folders, and the names of what a run writes into them."""
SWEEP = "sweep.csv"
"""The file by which a directory is known to hold a sweep."""


@dataclass(frozen=True)
class RunDir:
    """A claimed directory. Rank 0 writes, but for the labels, of which every rank writes its own.

    made: whether the claim has made it. replaces: whether it may replace a run that is there.
    """

    world: World
    path: Path
    made: bool = False
    replaces: bool = False

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Put config.yaml, the resolved settings, in the place of what an earlier run wrote. A collective."""
        from omegaconf import OmegaConf

        with self.world.guard():
            if self.world.rank == 0:
                if not self.replaces and holds_run(self.path):
                    raise InputError(f"run.dir={self.path}: another job has begun a run there; choose another")
                clear(self.path)
                self.write_text("config.yaml", OmegaConf.to_yaml(dict(settings)))

    def discard(self) -> None:
        """Give up the claim before the beginning (rank 0): an earlier run is as it was, a new directory goes."""
        if self.world.rank == 0 and self.made:
            with contextlib.suppress(OSError):  # somebody has put a file there
                self.path.rmdir()

    def write_text(self, name: str, text: str) -> None:
        """Write a file whole or not at all (rank 0)."""
        if self.world.rank == 0:
            with self._writing():
                aside = self.path / f"{name}.part"
                aside.write_text(text, encoding="utf-8")
                aside.replace(self.path / name)

    def append(self, name: str, line: str) -> None:
        """Add a line to a file (rank 0)."""
        if self.world.rank == 0:
            with self._writing(), open(self.path / name, "a", encoding="utf-8") as file:
                file.write(line + "\n")

    def write_model(self, centroids: Tensor, transform: dict[str, Tensor]) -> None:
        """centroids.safetensors, centroids.npy and transform.safetensors (rank 0)."""
        from safetensors.torch import save

        if self.world.rank == 0:
            stored = centroids.cpu().contiguous()
            learned = {name: values.cpu().contiguous() for name, values in transform.items()}
            with self._writing():
                (self.path / "centroids.safetensors").write_bytes(save({"centroids": stored}))
                (self.path / "transform.safetensors").write_bytes(save(learned))
                np.save(self.path / "centroids.npy", stored.numpy())

    def write_labels(self, labels: Tensor, ids: np.ndarray | None) -> None:
        """labels/part-00000-of-00008.npy, one part per rank, or parquet with ids; renamed as a whole. A collective."""
        world, aside = self.world, self.path / "labels.part"
        with world.guard(), self._writing():
            aside.mkdir(exist_ok=True)
            part = aside / f"part-{world.rank:05d}-of-{world.size:05d}"
            if ids is None:
                np.save(part.with_suffix(".npy"), labels.cpu().numpy())
            else:
                _write_parquet(part.with_suffix(".parquet"), labels.cpu().numpy(), ids)
        with world.guard(), self._writing():
            if world.rank == 0:
                aside.replace(self.path / "labels")

    def write_summary(self, summary: dict[str, Any]) -> None:
        """summary.json, last of all: a run that has one is finished (rank 0)."""
        self.write_text("summary.json", json.dumps(summary, indent=2) + "\n")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError(f"run.dir={self.path}: {reason}; make room, or choose another directory") from error


def holds_run(path: Path) -> bool:
    """Whether a directory holds a run, finished or not."""
    return any((path / sign).exists() for sign in SIGNS)


def clear(path: Path) -> None:
    """Remove what a run wrote, and nothing else."""
    for file in OWN_FILES:
        (path / file).unlink(missing_ok=True)
    for folder, patterns in OWN_FOLDERS.items():
        for own in {own for pattern in patterns for own in (path / folder).glob(pattern)}:
            own.unlink()
        with contextlib.suppress(OSError):  # it is not there, or holds something else
            (path / folder).rmdir()


def _write_parquet(path: Path, labels: np.ndarray, ids: np.ndarray) -> None:
    import pyarrow
    import pyarrow.parquet

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
