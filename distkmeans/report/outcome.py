"""What a run has found, as its report needs it: gathered over ranks, and bounded in size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from distkmeans.data import Source
from distkmeans.evaluate import Subject
from distkmeans.metrics import Geometry
from distkmeans.problem import Problem
from distkmeans.report.nearest_rows import NearestRows, nearest_rows
from distkmeans.report.sample import sample
from distkmeans.solvers import Record, Solution


@dataclass(frozen=True)
class Outcome:
    """The end of a run. records: of its iterations. ids: of this rank's rows, or None. settings: of the run, nested.

    sizes: int64 (K,), rows per cluster over all ranks.
    """

    problem: Problem
    source: Source
    ids: np.ndarray | None
    solution: Solution
    records: Sequence[Record]
    sizes: Tensor
    settings: Mapping[str, Any]

    @property
    def image(self) -> tuple[int, ...] | None:
        """The shape of a row that is a picture."""
        return getattr(self.source, "image", None)

    @property
    def own_metric(self) -> bool:
        """Whether rows are told apart by costs of the metric's own, and not by Euclidean distances."""
        return isinstance(self.problem.metric, Geometry)

    @property
    def title(self) -> str:
        """The data, the rows and k, in a few words."""
        return f"{self.settings['data']['name']}: {self.problem.shard.total:,} rows, k = {len(self.sizes):,}"


def sizes_of(problem: Problem, solution: Solution) -> Tensor:
    """Rows per cluster over all ranks: int64 (K,). A collective."""
    return Subject(problem, solution.labels, solution.centroids).counts


@dataclass(frozen=True)
class Gathered:
    """rows, labels: float64 (m, D), int64 (m,), of a sample. nearest: of the largest clusters. ids: by row number."""

    rows: Tensor
    labels: Tensor
    nearest: list[NearestRows]
    ids: dict[int, str]


def gather(outcome: Outcome, count: int, with_nearest: bool) -> Gathered:
    """What crosses the network for a report, ``count`` sampled rows at most. A collective."""
    problem, solution = outcome.problem, outcome.solution
    rows, labels = sample(problem, solution.labels, count)
    if not with_nearest:
        return Gathered(rows, labels, [], {})
    nearest = nearest_rows(problem, solution.centroids, solution.labels, outcome.sizes)
    numbers = [number for cluster in nearest for number in cluster.numbers]
    return Gathered(rows, labels, nearest, ids_of(outcome, numbers))


def ids_of(outcome: Outcome, numbers: Sequence[int]) -> dict[int, str]:
    """What the user calls the rows of these global numbers; {} where that is not told. A collective."""
    shard, mine = outcome.problem.shard, {}
    if outcome.ids is not None:
        here = [number for number in numbers if shard.start <= number < shard.start + len(shard)]
        mine = {number: _text(outcome.ids[number - shard.start]) for number in here}
    return {number: text for part in outcome.problem.world.collect(mine) for number, text in part.items()}


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
