"""k-means from a loader: batches are learned from as they come, on all ranks in step, and never held together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from distkmeans.data.batches import Batch, batches, gathered, is_once, numbered
from distkmeans.data.shard import Shard, own_shard
from distkmeans.errors import InputError
from distkmeans.exact.weighted_sum import weighted_sum
from distkmeans.model import assign
from distkmeans.solvers.learning import Learner, LearningSolver, Task
from distkmeans.stats import row_costs, to_float
from distkmeans.world import World

SEED_ROWS = 10
"""Rows, as a multiple of k, that the first batches are joined to have: centroids are seeded from them."""
EXHAUSTED = (
    "x: no rows came when it was walked through again; pass what begins anew each time, as a DataLoader does, or a"
    " generator, which is walked through once"
)


@dataclass(frozen=True)
class Learned:
    """centroids: (K, D). passes: over the loader. labels: (n,) of this rank's rows in a further pass; in the order of
    their numbers where the loader gives some. inertia: of that pass. For what can be walked through once, labels are
    None, and inertia is the sum of the losses of the batches as they came, each before the centroids moved.
    """

    centroids: Tensor
    labels: Tensor | None
    inertia: float
    passes: int
    converged: bool


def learn(world: World, x: Iterable[Any], solver: LearningSolver, task: Task) -> Learned:
    """Walk through the loader until the solver has learned enough. A collective.

    Every rank walks through its own; the n-th batches of all ranks are one batch. Ranks may have different numbers.
    Raises, on all ranks, InputError, and WorldError where only some have a generator.
    """
    learner, once, loss, passes = solver.learner(task), is_once(x), 0.0, 0
    world.agree("x", "a generator" if once else "a loader", "pass the same kind on all, for no rows DataLoader([])")
    while passes < (1 if once else solver.max_iter) and not learner.converged:
        walk, loss = Walk(world, x), 0.0
        for batch in walk.joint(SEED_ROWS * task.k if not passes else 1):
            loss += learner.learn(world, batch)
            if learner.converged:
                break
        if not walk.rows:
            raise InputError(EXHAUSTED if passes else "x: no rows came; there is nothing to do")
        passes += 1
        learner.end_pass(walk.rows)
    if once:
        return Learned(learner.centroids(), None, loss, passes, learner.converged)
    labels, inertia = labelled(world, x, learner, task)
    return Learned(learner.centroids(), labels, inertia, passes, learner.converged)


@dataclass
class Walk:
    """One way through a loader. rows: that have come by, over all ranks."""

    world: World
    x: Iterable[Any]
    rows: int = 0
    _mine: int = 0
    _left: list[Batch] = field(default_factory=list)

    def joint(self, least: int = 1) -> Iterator[Shard]:
        """All ranks' next batches as one; the first ones joined until they have ``least`` rows. A collective."""
        mine = batches(self.x)
        while True:
            batch = self._next(mine)
            waiting = sum(len(part.rows) for part in self._left)
            held = torch.tensor([waiting, int(batch is not None)], device=self.world.device)
            count, more = self.world.sum_(held).tolist()
            if more and count < least:
                continue
            if not count:
                break
            yield self._join()
            least = 1

    def _next(self, mine: Iterator[Batch]) -> Batch | None:
        batch = None
        with self.world.guard():  # whatever a user's loader raises
            batch = next(mine, None)
        if batch is not None:
            self._left.append(batch)
        return batch

    def _join(self) -> Shard:
        """What is held back, as one batch over all ranks. A collective."""
        with self.world.guard():
            held = gathered(self._left)
        self._left = []
        shard = own_shard(self.world, held.rows, held.weights)
        named = _named_from(shard, self._mine)
        self.rows, self._mine = self.rows + shard.total, self._mine + len(shard)
        return in_order(self.world, named, held.numbers)


def _named_from(shard: Shard, before: int) -> Shard:
    """The shard, whose rows are told to the user as those that followed on so many."""
    return replace(shard, name=lambda row: shard.name(row + before))


def in_order(world: World, shard: Shard, numbers: Tensor | None) -> Shard:
    """The shard by its rows' numbers; as it is where no rank has numbers. A collective.

    Raises InputError on all ranks where only some have them.
    """
    given = [numbers is not None and len(shard) > 0, numbers is None and len(shard) > 0]
    has = torch.tensor(given, dtype=torch.int64, device=world.device)
    some, others = world.max_(has).tolist()
    if some and others:
        raise InputError("x: numbers are given on some ranks, not on all")
    if not some:
        return shard
    return numbered(world, shard, torch.empty(0, dtype=torch.int64) if numbers is None else numbers)


def labelled(world: World, x: Iterable[Any], learner: Learner, task: Task) -> tuple[Tensor, float]:
    """Labels of this rank's rows by one more pass, and their inertia over all ranks. A collective."""
    centroids, metric = learner.centroids(), task.metric
    labels, numbers = [], []
    costs, weights = [], []
    with world.guard():
        for batch in batches(x):
            rows = batch.rows.to(world.device)
            found = assign(rows, centroids, metric)
            prepared = Shard(metric.prepare(rows), 0, len(rows), None, lambda row: f"x, row {row}")
            labels.append(found)
            costs.append(row_costs(prepared, centroids, found))
            weights.append(torch.ones(len(rows)) if batch.weights is None else batch.weights)
            if batch.numbers is not None:
                numbers.append(batch.numbers)
        joined = torch.cat(labels) if labels else torch.empty(0, dtype=torch.int32)
        if numbers:
            ordered = torch.cat(numbers)
            if len(ordered) < len(joined):
                raise InputError("x: numbers are given in some batches, not in all")
            joined = joined[torch.argsort(ordered, stable=True).to(joined.device)]
        cost = torch.cat(costs) if costs else torch.empty(0, dtype=torch.float64)
        weight = torch.cat(weights).to(cost) if weights else cost.clone()
    total = int(world.sum_(torch.tensor(len(joined), device=world.device)))
    if not total:
        raise InputError(EXHAUSTED)
    return joined, to_float(weighted_sum(world, cost, weight, total))
