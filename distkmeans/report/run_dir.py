"""The files of a run's directory."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from distkmeans.errors import InputError
from distkmeans.report.directory import Directory, Layout
from distkmeans.report.parts import PATTERN

FAILURE = "failed.json"
"""Why a point of a sweep failed."""
SIGNS = ("config.yaml", "summary.json", FAILURE)
"""Files by which a directory is known to hold a run, finished or not."""
PAGE = "report.html"
"""The page of a run, or of a sweep."""
OWN_FILES = (
    *SIGNS,
    *("centroids.safetensors", "centroids.npy", "transform.safetensors", "metrics.jsonl", "log.txt", PAGE),
)
PICTURES = ("clusters.png", "inertia.png", "sizes.png", "silhouette.png", "centroids.png")
OWN_FOLDERS = {
    "labels": (PATTERN,),
    "labels.part": (PATTERN,),
    "plots": PICTURES,
    "tensorboard": ("events.out.tfevents.*",),
}
"""Folders, and the names of what a run writes into them."""
SWEEP = "sweep.csv"
"""The file by which a directory is known to hold a sweep."""


RUN = Layout("run.dir", "a run", "run", SIGNS, OWN_FILES, OWN_FOLDERS)


@dataclass(frozen=True)
class RunDir(Directory):
    """The directory of a run."""

    layout: ClassVar[Layout] = RUN

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Put config.yaml, the resolved settings, in the place of what an earlier run wrote. A collective."""
        from omegaconf import OmegaConf

        with self.world.guard(), self.writing():
            if self.world.rank == 0:
                if not self.replaces and holds_run(self.path):
                    raise InputError(f"run.dir={self.path}: another job has begun a run there; choose another")
                RUN.clear(self.path)
                self.write_text("config.yaml", OmegaConf.to_yaml(dict(settings)))

    def append(self, name: str, line: str) -> None:
        """Add a line to a file (rank 0)."""
        if self.world.rank == 0:
            with self.writing(), open(self.path / name, "a", encoding="utf-8") as file:
                file.write(line + "\n")

    def write_model(self, centroids: Tensor, transform: dict[str, Tensor]) -> None:
        """centroids.safetensors, centroids.npy and transform.safetensors (rank 0)."""
        from safetensors.torch import save

        if self.world.rank == 0:
            stored = centroids.cpu().contiguous()
            learned = {name: values.cpu().contiguous() for name, values in transform.items()}
            with self.writing():
                (self.path / "centroids.safetensors").write_bytes(save({"centroids": stored}))
                (self.path / "transform.safetensors").write_bytes(save(learned))
                np.save(self.path / "centroids.npy", stored.numpy())

    def write_labels(self, labels: Tensor, ids: np.ndarray | None) -> None:
        """labels/part-00000-of-00008.npy, one part per rank, or parquet with ids; renamed as a whole. A collective."""
        with self.world.guard(), self.writing(), self.part("labels", "label", len(labels), ids) as part:
            part.write(labels.cpu().numpy())
        self.publish("labels")

    def write_summary(self, summary: dict[str, Any]) -> None:
        """summary.json, last of all: a run that has one is finished (rank 0)."""
        self.write_text("summary.json", json.dumps(summary, indent=2) + "\n")


def holds_run(path: Path) -> bool:
    """Whether a directory holds a run, finished or not."""
    return RUN.is_in(path)


def read_transform(run_dir: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors of a run's fitted transform."""
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = load_file(Path(run_dir) / "transform.safetensors")
    return tensors


def read_config(run_dir: str | os.PathLike[str]) -> Any:
    """The resolved configuration of a run, as nested dicts."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(OmegaConf.load(Path(run_dir) / "config.yaml"))
