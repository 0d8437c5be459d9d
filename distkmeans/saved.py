"""Models from disk: of a finished run, or centroids that another program has written."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distkmeans.data.centroid_file import read_centroids
from distkmeans.errors import InputError, first_line
from distkmeans.metrics import Metric, metrics
from distkmeans.model import Model, placed
from distkmeans.registry import Registry
from distkmeans.report.run_dir import FAILURE, SWEEP, holds_run, read_config, read_transform
from distkmeans.report.table import read_json
from distkmeans.transforms import transforms


def load(path: str | os.PathLike[str], metric: str | None = None) -> Model:
    """The model of a finished run, or of centroids in a file.

    path: a run directory; or an npy file (K, D), by whatever program, or a safetensors file with the tensor
    ``centroids``. metric: of such a file, euclidean unless told; a run has its own. Raises InputError, naming the file.
    """
    what = os.fspath(path)
    if os.path.isfile(path):
        return of_file(path, metrics.build(metric or "euclidean"), what)
    if metric is not None:
        raise InputError(f"metric={metric}: {what} is no file of centroids, and a run has a metric of its own")
    return of_run(path, what)


def of_file(path: str | os.PathLike[str], metric: Metric, what: str) -> Model:
    """Centroids as they are stored, float64 where they are neither float32 nor float64, placed by the metric."""
    centroids = read_centroids(os.fspath(path), what)
    if centroids.dtype not in (torch.float32, torch.float64):
        centroids = centroids.to(torch.float64)
    if not len(centroids) or not centroids.shape[1]:
        raise InputError(f"{what}: shape {tuple(centroids.shape)}; expected at least one centroid of one column")
    bad = ~torch.isfinite(centroids).all(1)
    if bad.any():
        raise InputError(f"{what}, row {int(bad.nonzero()[0])}: NaN or Inf")
    refused, why = metric.refuse(centroids)
    if refused.any():
        raise InputError(f"{what}, row {int(refused.nonzero()[0])}: {why}")
    return Model(placed(centroids, metric), transforms.build("none"), metric)


def of_run(path: str | os.PathLike[str], what: str) -> Model:
    """Centroids, transform and metric of a finished run. what: how to name it in messages."""
    folder = Path(path)
    _refuse_unfinished(folder, what)
    config = _read(what, "config.yaml", lambda: dict(read_config(folder)))
    try:
        transform, metric = (_built(registry, config) for registry in (transforms, metrics))
    except InputError as error:
        modules = ", ".join(config.get("plugins") or [])
        raise InputError(f"{what}: {error}" + (f"; first import {modules}" if modules else "")) from error
    centroids = _read(what, "centroids.safetensors", lambda: _centroids(folder))
    _read(what, "transform.safetensors", lambda: transform.restore(read_transform(folder)))
    return Model(centroids, transform, metric, _row_type(folder))


def _refuse_unfinished(folder: Path, what: str) -> None:
    """Raise InputError for anything but the directory of a finished run."""
    if not folder.is_dir():
        kind = "a file" if folder.exists() else f"no such directory (relative to {os.getcwd()})"
        raise InputError(f"{what}: {kind}; expected the directory of a finished run")
    if (folder / SWEEP).exists():
        points = sorted(point.name for point in folder.iterdir() if (point / "summary.json").exists())
        raise InputError(
            f"{what}: holds a sweep; name one of its points" + (f", such as {points[0]}" if points else "")
        )
    failure = read_json(folder / FAILURE)
    if failure:
        raise InputError(f"{what}: holds a run that failed ({failure.get('error')}); run it again first")
    if not holds_run(folder):
        raise InputError(f"{what}: holds no run; expected the directory of a finished one")
    if not (folder / "summary.json").exists():
        raise InputError(f"{what}: holds an unfinished run; wait for it, or run it again first")


def _built(registry: Registry[Any], config: Mapping[str, Any]) -> Any:
    """The piece that a run's configuration names."""
    options = config.get(registry.field)
    if not isinstance(options, Mapping) or not {"name", "_target_"} & options.keys():
        raise InputError(f"config.yaml does not say which {registry.field} it had")
    rest = {key: value for key, value in options.items() if key not in ("name", "_target_")}
    name = registry.name_of(str(options["_target_"])) if "_target_" in options else str(options["name"])
    return registry.build(name, rest)


def _centroids(folder: Path) -> Tensor:
    from safetensors.torch import load_file

    centroids: Tensor = load_file(folder / "centroids.safetensors")["centroids"]
    return centroids


def _row_type(folder: Path) -> torch.dtype | None:
    """Of the rows that were clustered; runs of earlier versions do not tell."""
    name = (read_json(folder / "summary.json") or {}).get("row_type")
    found = getattr(torch, str(name), None)
    return found if isinstance(found, torch.dtype) else None


def _read(what: str, name: str, read: Any) -> Any:
    """What ``read`` makes of a file of the run. Raises InputError for one that is missing or damaged."""
    try:
        return read()
    except FileNotFoundError as error:
        raise InputError(f"{what}: holds no {name}; expected the directory of a finished run") from error
    except Exception as error:  # whatever the libraries raise for a damaged file
        raise InputError(f"{what}: {name} cannot be read ({first_line(error)})") from error
