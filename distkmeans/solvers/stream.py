"""Mini-batches that the caller brings: rows that come one after another, in a file or for ever."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from distkmeans.data.columns import scan
from distkmeans.data.shard import Shard, own_shard
from distkmeans.errors import InputError
from distkmeans.init import Seeding
from distkmeans.kernels.once import Once, choice_for
from distkmeans.metrics import Metric
from distkmeans.problem import check_k, pose, refuse
from distkmeans.solvers.batch import Scale, measure
from distkmeans.solvers.online import Rule, State, learn, smooth
from distkmeans.transforms import apply
from distkmeans.world import World


@dataclass(frozen=True)
class Stream:
    """How to learn k centroids from batches. seeding: of the first batch. exact: labels are proved."""

    k: int
    seeding: Seeding
    metric: Metric
    rule: Rule = field(default_factory=Rule)
    seed: int = 0
    exact: bool = True

    def partial_fit(self, world: World, state: State | None, rows: Tensor, weights: Tensor | None = None) -> State:
        """The state after one more batch; None before the first, of at least k rows, from which centres are seeded.

        rows: (n, D), this rank's part of the batch, as stored; weights: (n,) or None. The same bits however the batch
        is divided between ranks. The given state, on whatever device, is left as it is. Raises InputError on all ranks.
        A collective.
        """
        return self.learn(world, None if state is None else state.to(world.device), own_shard(world, rows, weights))

    def learn(self, world: World, state: State | None, shard: Shard) -> State:
        """The same, of a shard, the given state changed in place. A collective."""
        return self._learn(world, self.begin(world, shard) if state is None else state, shard)

    def begin(self, world: World, shard: Shard) -> State:
        """Centres of weight 0, seeded from the rows. A collective."""
        check_k(self.k, shard.total)
        problem = pose(world, shard, self.metric, self.exact)
        return State.start(self.seeding(problem, self.k, self.seed).centroids, self.seed)

    def _learn(self, world: World, state: State, shard: Shard) -> State:
        centroids = state.centroids
        if shard.dims != centroids.shape[1]:
            raise InputError(f"x: {shard.dims} columns; the batches before had {centroids.shape[1]}")
        columns = scan(world, shard)
        with world.guard():
            refuse(self.metric, shard)
            prepared = apply(self.metric.prepare, shard)
        if prepared is not shard:
            shard, columns = prepared, scan(world, prepared)
        with world.guard():
            scale = Scale.of(columns, centroids, shard.total, shard.weights is not None)
            kernel = Once(choice_for(shard.rows, centroids, scale.largest, self.exact))
        found = measure(world, scale, lambda: shard, centroids, state.hashes, kernel.assign_batch)
        learn(world, self.metric, scale, found, state, self.rule)
        return state


class StreamLearner:
    """The mini-batches of a loader. As no one knows how many rows it has, the first pass has no early end."""

    def __init__(self, stream: Stream, patience: int | None) -> None:
        self.stream, self.patience = stream, patience
        self.state: State | None = None
        self.rows = 0

    @property
    def converged(self) -> bool:
        return self.state is not None and self.state.converged

    def learn(self, world: World, batch: Shard) -> float:
        self.state = self.stream.learn(world, self.state, batch)
        if self.rows:
            smooth(self.state, batch.total / (self.rows + 1), self.patience, None)
        return self.state.inertia * batch.total

    def end_pass(self, rows: int) -> None:
        self.rows = rows

    def centroids(self) -> Tensor:
        assert self.state is not None
        return self.state.centroids
