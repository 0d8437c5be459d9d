"""Centres that learn batch by batch: Sculley, Web-scale k-means clustering (WWW 2010), and the state that they have.

A centre is the mean of all rows that it was nearest to as they came: with weight w so far, and n rows of sum S in the
batch, it goes to (w c + S) / (w + n). ``decay`` takes from w before each batch, so that old rows count less: Zaharia et
al., the streaming k-means of Spark. Starved centres are given rows of the batch, as scikit-learn does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from distkmeans.data.shard import Shard
from distkmeans.exact import floats
from distkmeans.exact.floats import row_hash
from distkmeans.exact.random import Stream
from distkmeans.metrics import Metric
from distkmeans.solvers.batch import Measured, Scale
from distkmeans.stats import steps
from distkmeans.world import World


@dataclass
class State:
    """All that the next batch depends on, beside the batch: alike on all ranks.

    centroids: (K, D). weights: float64 (K,), of the rows that each has seen, after decay. hashes: of the centroids.
    seed: of whatever is drawn. step: batches so far. since: rows since starved centres were last looked for.
    inertia: of the last batch, per row, at the safe scale, before the centres moved; smoothed, least, idle: its moving
    average, the least of that, and batches without a new least. shift: of the last batch, squared, at the safe scale.
    told, judged: the step of the last record, and rows that the kernel's fast pass has left open since.
    """

    centroids: Tensor
    weights: Tensor
    hashes: Tensor
    seed: int
    step: int = 0
    since: int = 0
    inertia: float = math.inf
    smoothed: float | None = None
    least: float | None = None
    idle: int = 0
    shift: float = math.inf
    told: int = 0
    judged: int = 0
    converged: bool = False

    @staticmethod
    def start(centroids: Tensor, seed: int) -> State:
        weights = torch.zeros(len(centroids), dtype=torch.float64, device=centroids.device)
        return State(centroids, weights, row_hash(centroids), seed)

    def to(self, device: torch.device) -> State:
        """A copy whose tensors are on that device."""
        centroids, weights, hashes = (values.to(device) for values in (self.centroids, self.weights, self.hashes))
        return replace(self, centroids=centroids, weights=weights, hashes=hashes)


@dataclass(frozen=True)
class Rule:
    """decay: what the weight of earlier batches is multiplied by. ratio: of the largest weight, below which a centre
    is starved; 0 for never."""

    decay: float = 1.0
    ratio: float = 0.01


def learn(world: World, metric: Metric, scale: Scale, found: Measured, state: State, rule: Rule) -> None:
    """Move the centres by a batch that was measured. A collective where starved centres are given rows."""
    clusters, shard = len(state.centroids), found.shard
    looks = bool((state.weights == 0).any()) or state.since + shard.total >= 10 * clusters
    state.since = 0 if looks else state.since + shard.total
    state.inertia = found.inertia / shard.total
    centres, state.weights = moved(metric, scale, found, state, rule.decay)
    if looks and rule.ratio > 0:
        revive(world, metric, shard, centres, state, rule.ratio)
    shifts, state.hashes, _ = steps(state.centroids, centres, scale.by)
    state.shift = floats.total(shifts)
    state.centroids = centres
    state.judged += found.judged
    state.step += 1


def smooth(state: State, share: float, patience: int | None, limit: float | None) -> None:
    """The end, as scikit-learn's ``_mini_batch_convergence``: the first batch tells of the seeding alone.

    share: of all rows that the batch was. patience: batches without a new least of the smoothed inertia, None for any
    number. limit: of the squared shift, at the safe scale, None for none.
    """
    if state.step == 1:
        return
    weight = min(1.0, 2 * share)
    if state.smoothed is None or weight == 1:
        state.smoothed = state.inertia
    else:
        state.smoothed = state.smoothed * (1 - weight) + state.inertia * weight
    if state.least is None or state.smoothed < state.least:
        state.idle, state.least = 0, state.smoothed
    else:
        state.idle += 1
    state.converged = (patience is not None and state.idle >= patience) or (limit is not None and state.shift <= limit)


def moved(metric: Metric, scale: Scale, found: Measured, state: State, decay: float) -> tuple[Tensor, Tensor]:
    """New centres (K, D) and weights (K,): float64 element by element, rounded once."""
    before = state.weights * decay
    mean, gained = found.joined(state.centroids, before, scale.by)
    new = metric.place(floats.scale(mean, -scale.by)).to(state.centroids.dtype).add_(0.0)
    kept = ((gained == 0) | metric.refuse(mean)[0]).nonzero().flatten()
    if len(kept):
        new[kept] = state.centroids[kept]
    return new, before + gained


def revive(world: World, metric: Metric, shard: Shard, centres: Tensor, state: State, ratio: float) -> None:
    """Put starved centres on rows of the batch, drawn evenly without replacement, and let them weigh a little.

    As scikit-learn's ``_mini_batch_step``: at most half as many as the batch has rows, those of least weight first.
    Their weight becomes the least of the others, so that they are not at once starved again. A collective.
    """
    starved = state.weights < ratio * state.weights.max()
    if not starved.any():
        return
    rows = eligible(world, shard)
    most = min(shard.total // 2, len(rows), len(starved) - 1)
    if int(starved.sum()) > most:
        starved[torch.argsort(state.weights, stable=True)[most:]] = False
    which = starved.nonzero().flatten()
    if not len(which):
        return
    keys = Stream(state.seed, "minibatch/revive", state.step).keys(rows)
    taken = rows[torch.argsort(keys, stable=True)[: len(which)]]
    centres[which] = metric.place(shard.fetch(world, taken)).to(centres.dtype) + 0.0
    state.weights[which] = state.weights[~starved].min()


def eligible(world: World, shard: Shard) -> Tensor:
    """Numbers of the batch's rows of positive weight, over all ranks: int64, ascending. A collective with weights."""
    rows = torch.arange(shard.total, device=shard.stored[0].device)
    return rows if shard.weights is None else rows[world.concat((shard.weights > 0).to(torch.int64)) > 0]
