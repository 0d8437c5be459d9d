"""From settings to a problem, reading and transforming once what several points of a sweep have in common."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from distkmeans.data import Source
from distkmeans.data.ids import check_ids, read_ids
from distkmeans.data.npy import NpyFiles
from distkmeans.data.shard import Shard, check_shape, open_shard
from distkmeans.data.truth import read_truth, truth_of
from distkmeans.errors import InputError
from distkmeans.evaluate import chosen, needs_truth
from distkmeans.init import check_sample
from distkmeans.problem import Problem, check_k, pose
from distkmeans.settings import Settings
from distkmeans.transforms import Transform, fitted
from distkmeans.world import World


@dataclass(frozen=True)
class Opened:
    """Files whose headers have been read. truth: what has ``truth(start, stop)``, None where no class is known."""

    source: Source
    weights: NpyFiles | None
    truth: Any = None


@dataclass(frozen=True)
class Read:
    """source: what was read. transform: fitted. ids: of this rank's rows, None where data.ids is not given.

    data_reads: how often the data was read for this point, 0 or 1. scores: names of those that are asked for. truth:
    int64 (n,), the number of each row's class, None where no score needs it.
    """

    source: Source
    problem: Problem
    transform: Transform
    ids: Any
    data_reads: int
    scores: list[str] = field(default_factory=list)
    truth: Tensor | None = None


@dataclass
class Reader:
    """Reads for one point after another, and keeps the last rows that a point may have in common with the next.

    upcoming: the settings of all points, by which it knows what it may let go of.
    """

    world: World
    upcoming: Sequence[Mapping[str, Any]] = ()
    reads: int = 0
    _kept: dict[str, tuple[str, Any]] = field(default_factory=dict)

    def open(self, settings: Settings) -> Opened:
        """Headers only. Raises InputError on the rank that finds a mistake: call it in ``World.guard``."""
        opened = self._once("opened", data_key(settings.given), lambda: open_files(settings))
        check_shape(opened.source, opened.weights)
        _scores(settings, opened)
        check_k(settings.plan.k, opened.source.rows)
        check_sample(getattr(settings.plan.seeding, "sample", None), settings.plan.k)
        if (check := getattr(settings.plan.seeding, "check", None)) and self.world.rank == 0:
            check(settings.plan.k, opened.source.dims)
        return opened

    def read(self, settings: Settings, opened: Opened) -> Read:
        """The problem that these settings pose. A collective; raises InputError on all ranks."""
        before = self.reads
        given = settings.given
        transform, problem = self._once("problem", problem_key(given), lambda: self._pose(settings, opened))
        ids = self._once("ids", data_key(given), lambda: self._ids(settings, problem.shard))
        scores = _scores(settings, opened)
        truth = (
            self._once("truth", data_key(given), lambda: self._truth(opened, problem)) if needs_truth(scores) else None
        )
        problem = replace(problem, exact=settings.exact, frugal=settings.frugal)
        return Read(opened.source, problem, transform, ids, self.reads - before, scores, truth)

    def _pose(self, settings: Settings, opened: Opened) -> tuple[Transform, Problem]:
        transform, shard = self._once(
            "transformed", transform_key(settings.given), lambda: self._transform(settings, opened)
        )
        return transform, pose(self.world, shard, settings.metric, settings.exact)

    def _transform(self, settings: Settings, opened: Opened) -> tuple[Transform, Shard]:
        shard = self._once("shard", data_key(settings.given), lambda: self._open_shard(opened))
        return settings.transform, fitted(self.world, settings.transform, shard)

    def _open_shard(self, opened: Opened) -> Shard:
        self.reads += 1
        return open_shard(self.world, opened.source, opened.weights)

    def _ids(self, settings: Settings, shard: Shard) -> Any:
        path = settings.companions.ids
        with self.world.guard():
            return read_ids(path, shard.total, shard.start, shard.start + len(shard)) if path else None

    def _truth(self, opened: Opened, problem: Problem) -> Tensor:
        shard = problem.shard
        return read_truth(self.world, opened.truth, shard.start, shard.start + len(shard))

    def _once(self, stage: str, key: str, make: Callable[[], Any]) -> Any:
        """What ``make`` makes, or the mistake that it finds, kept while another point may ask for it."""
        if self._kept.get(stage, ("", None))[0] != key:
            self._kept.pop(stage, None)
            if stage == "opened":  # nothing that was made from other rows is of use now
                self._kept.clear()
            try:
                made = make()
            except InputError as error:
                made = error
            if not self._wanted_again(stage, key):
                return _or_raise(made)
            self._kept[stage] = (key, made)
        return _or_raise(self._kept[stage][1])

    def _wanted_again(self, stage: str, key: str) -> bool:
        """Whether points ahead, by their settings, need this stage's result more than once."""
        asks = {"opened": data_key, "ids": data_key, "truth": data_key, "problem": problem_key}.get(stage)
        if asks:
            return sum(asks(point) == key for point in self.upcoming) > 1
        mine, next_stage = (data_key, transform_key) if stage == "shard" else (transform_key, problem_key)
        return len({next_stage(point) for point in self.upcoming if mine(point) == key}) > 1


def open_files(settings: Settings) -> Opened:
    """The source, and the weights that go with it; headers only. Raises InputError."""
    source, weights = settings.source(), settings.companions.weights
    if settings.companions.ids:
        check_ids(settings.companions.ids)
    truth = truth_of(source, settings.companions.truth)
    return Opened(source, NpyFiles(weights, "data.weights", 1) if weights else None, truth)


def _scores(settings: Settings, opened: Opened) -> list[str]:
    """The names of the scores that are asked for. Raises InputError."""
    remedy = f" for data={settings.given['data']['name']}; give data.truth=FILE"
    return chosen(settings.general.evaluate, opened.truth is not None, remedy)


def _or_raise(made: Any) -> Any:
    if isinstance(made, InputError):
        raise made
    return made


def data_key(settings: Mapping[str, Any]) -> str:
    """What the rows depend on."""
    return json.dumps(settings.get("data"), sort_keys=True, default=str)


def transform_key(settings: Mapping[str, Any]) -> str:
    """What the transformed rows depend on."""
    return data_key(settings) + json.dumps(settings.get("transform"), sort_keys=True, default=str)


def problem_key(settings: Mapping[str, Any]) -> str:
    """What the problem depends on, but for its precision."""
    return transform_key(settings) + json.dumps(settings.get("metric"), sort_keys=True, default=str)
