"""``score``: how good any labelling of rows is, from Python, in a plain process or on every rank of a torchrun job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distkmeans.api import agree_on, warn_of_copies, world_of
from distkmeans.data.array import as_rows
from distkmeans.data.shard import own_shard
from distkmeans.data.truth import numbered, per_row
from distkmeans.errors import InputError
from distkmeans.evaluate import AUTO, ScoreOptions, Subject, chosen, evaluate
from distkmeans.evaluate.spread import means, unweighted_sums
from distkmeans.metrics import metrics
from distkmeans.metrics.geometry import Geometry
from distkmeans.problem import Problem, pose
from distkmeans.schema import check, check_value
from distkmeans.solvers.lloyd import label_type


def score(
    x: Any,
    labels: Any,
    centroids: Any = None,
    truth: Any = None,
    names: str | Sequence[str] = AUTO,
    *,
    metric: str = "euclidean",
    seed: int = 0,
    silhouette_rows: int = 10_000,
    device: str | None = None,
) -> dict[str, float | None]:
    """Scores of a clustering by name; None, with a word in the log, for those that are not defined for it.

    x: (N, D) as for ``fit``; in a torchrun job every rank passes its own rows, with their labels and classes, and gets
    the scores of all. labels: (N,) whole numbers or text; the numbers of centroids where these are given. centroids:
    (K, D) that the simplified silhouette compares with; None for the means of the labelled rows. truth: (N,) the true
    classes, whole numbers or text. names: as ``evaluate=`` of a run, but for ``stability``, which needs a plan; auto:
    the cheap ones, and with ``truth`` the scores of agreement. metric: cosine for rows brought to length 1 first.
    silhouette_rows: up to so many rows the silhouette is of all of them, else of a sample, drawn by ``seed``.

    Every row counts once. The same at any number of ranks. Raises InputError on every rank, and WorldError where ranks
    ask for different scores.

    >>> distkmeans.score(x, result.labels, truth=digit, names=["silhouette", "ari"])
    {'silhouette': 0.19, 'ari': 0.61}
    """
    world = world_of(device, x)
    with world.guard():
        rows = as_rows(x)
        space = metrics.build(metric)
        if isinstance(space, Geometry):
            raise InputError(f"metric={metric}: scores go by Euclidean distances; use euclidean or cosine")
        wanted = _wanted(names, truth is not None)
        options = ScoreOptions(**check(ScoreOptions, {"silhouette_rows": silhouette_rows}))
        seed = check_value("seed", seed, int)
        label = per_row(labels, "labels", len(rows))
        known = None if truth is None else per_row(truth, "truth", len(rows))
        given = None if centroids is None else as_rows(centroids, "centroids")
    asked = {"names": wanted, "metric": metric, "seed": seed, "silhouette_rows": silhouette_rows}
    agree_on(world, "score", {**asked, "truth": known is not None, "centroids": given})
    problem = pose(world, own_shard(world, rows, None), space)
    warn_of_copies(world, rows)
    classes = (
        None if known is None else numbered(world, known, "truth", lambda row: f"truth, row {row}").to(world.device)
    )
    if given is None:
        number = numbered(world, label, "labels", lambda row: f"labels, row {row}")
        where, targets = _means(problem, number)
    else:
        with world.guard():
            where, targets = _checked(problem, label, given)
    return evaluate(Subject(problem, where, targets, classes, None, seed, options), wanted)


def _wanted(names: str | Sequence[str], truth: bool) -> list[str]:
    wanted = chosen(check_value("names", names, str | Sequence[str]), truth, "; pass truth=")
    if "stability" in wanted:
        raise InputError("names=[stability]: needs a plan to carry out again: python train.py evaluate=[stability]")
    return wanted


def _means(problem: Problem, number: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (n,) from numbers, and the float64 means (K, D) of the rows that have them. A collective."""
    world = problem.world
    last = torch.tensor(int(number.max()) if len(number) else -1, device=world.device)
    clusters = int(world.max_(last)) + 1
    labels = number.to(label_type(clusters)).to(world.device)
    sums = unweighted_sums(problem, labels, clusters)
    return labels, problem.metric.place(means(sums.grid, sums.limbs)[0])


def _checked(problem: Problem, label: np.ndarray, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Labels (n,) and centroids (K, D) on the problem's device. Raises InputError where they do not belong together."""
    if not len(centroids) or centroids.shape[1] != problem.shard.dims or not torch.isfinite(centroids).all():
        raise InputError(
            f"centroids: shape {tuple(centroids.shape)}; expected finite rows of {problem.shard.dims} columns"
        )
    expected = f"expected whole numbers from 0 to {len(centroids) - 1}, as there are centroids"
    if label.dtype.kind not in "biu":
        raise InputError(f"labels: type {label.dtype}; {expected}")
    outside = np.flatnonzero((label < 0) | (label >= len(centroids)))
    if len(outside):
        raise InputError(f"labels, row {outside[0]}: {label[outside[0]]}; {expected}")
    wide = centroids if centroids.dtype in (torch.float32, torch.float64) else centroids.to(torch.float64)
    where = torch.from_numpy(label.astype(np.int64)).to(label_type(len(centroids)))
    return where.to(problem.world.device), wide.to(problem.world.device)
