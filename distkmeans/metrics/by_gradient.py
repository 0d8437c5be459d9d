"""Centres by gradient: the least weighted sum of a differentiable distance over each cluster's rows.

Values and gradients are summed rank by rank in float64 and added in rank order, so that all ranks see the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distkmeans.errors import InputError, first_line
from distkmeans.metrics.descent import Points, descend
from distkmeans.metrics.geometry import TILE_ELEMENTS, Members
from distkmeans.world import World

BETTER = 1e-12
"""A centre is moved only for a gain of more than this, relative to the cluster's sum: so that an end is reached."""
REACH = 2.0**30
"""A centre so many times as far out as any value of the rows is none."""


def gradient_centres(members: Members, distance: Callable[[Tensor, Tensor], Any], what: str) -> Tensor:
    """(K, D), in the centroids' type: no cluster's sum of distances rises. NaN for clusters without weight.

    Each descent starts from the last centroid or the mean, whichever costs less. what: how to name the distance to the
    user. A collective; raises InputError on all ranks for a distance without a gradient.
    """
    objective = Objective.of(members, distance, what)
    everything = objective.weights > 0
    current = members.centroids.to(torch.float64)
    points = Points(current, *objective(current, everything))
    values = points.values
    means = torch.where(everything[:, None], objective.sums / objective.weights[:, None], current)
    at_means = Points(means, *objective(means, everything))
    points = points.where(at_means.values < values, at_means)
    reach = REACH * (float(members.columns.largest.max()) or 1.0)

    def within_reach(at: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        costs, slopes = objective(at, which)
        away = (costs < points.values) & (at.abs().amax(1) > reach)
        if away.any():  # on all ranks, which see the same
            raise InputError(
                f"{what}: its distance has no least sum: the centre of cluster {int(away.nonzero()[0])} runs off to"
                " infinity; give a centre too: metric=(distance, centre)"
            )
        return costs, slopes

    found = descend(within_reach, points).at.to(members.centroids.dtype)
    better = objective(found.to(torch.float64), everything)[0] < values - BETTER * values.abs()
    centres = torch.where(better[:, None], found, members.centroids)
    return centres.masked_fill(~everything[:, None], math.nan)


@dataclass(frozen=True)
class Objective:
    """The weighted mean distance of each cluster's rows from a point. order: this rank's rows, sorted by cluster.

    ends: int64 (K,), where each cluster's part of them ends. weights, sums: float64 (K,) and (K, D), of the clusters
    over all ranks.
    """

    world: World
    rows: Tensor
    row_weights: Tensor | None
    order: Tensor
    ends: Tensor
    weights: Tensor
    sums: Tensor
    distance: Callable[[Tensor, Tensor], Any]
    what: str

    @staticmethod
    def of(members: Members, distance: Callable[[Tensor, Tensor], Any], what: str) -> Objective:
        world, shard, clusters = members.world, members.shard, len(members.centroids)
        order = torch.argsort(members.labels, stable=True)
        ends = torch.bincount(members.labels, minlength=clusters).cumsum(0)
        (whole, _), _ = members.grid.double_double(members.sums(), 0)
        return Objective(world, shard.rows, shard.weights, order, ends, whole[:, -1], whole[:, :-1], distance, what)

    def __call__(self, points: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Values (K,) and gradients (K, D) at points (K, D), of clusters ``which``, bool (K,). A collective."""
        local = torch.zeros(len(points), points.shape[1] + 1, dtype=torch.float64, device=points.device)
        with self.world.guard():
            starts = torch.cat([self.ends.new_zeros(1), self.ends[:-1]])
            mine = (which & (self.ends > starts)).nonzero().flatten().tolist()
            step = max(1, TILE_ELEMENTS // points.shape[1])
            for cluster, start, end in zip(mine, starts[mine].tolist(), self.ends[mine].tolist(), strict=True):
                for part in self.order[start:end].split(step):
                    local[cluster] += self._pull(part, points[cluster : cluster + 1])
        whole = self.world.per_rank(local).sum(0) / self.weights[:, None]
        values, gradients = whole[:, -1], whole[:, :-1]
        defined = torch.isfinite(values) & which
        if not torch.isfinite(gradients[defined]).all():  # on all ranks, which see the same
            raise InputError(
                f"{self.what}: the gradient of its distance is not finite; keep roots away from 0, as in"
                " (square + 1e-12).sqrt(), or give a centre too: metric=(distance, centre)"
            )
        values = torch.where(defined, values, torch.inf)
        return values, torch.where(defined[:, None], gradients, torch.zeros_like(gradients))

    def _pull(self, part: Tensor, point: Tensor) -> Tensor:
        """float64 (D + 1,): the gradient of the weighted sum of distances of some rows from a point, and the sum.

        Rows at distance 0 are at the minimum, where a root has no gradient: they are left out where it is needed.
        """
        x = self.rows[part].to(torch.float64)
        w = None if self.row_weights is None else self.row_weights[part].to(torch.float64)
        value, gradient, distances = self._weigh(x, w, point)
        if torch.isfinite(value) and not torch.isfinite(gradient).all():
            away = distances != 0
            gradient = torch.zeros_like(gradient)
            if away.any():  # a function may not know what to do with no rows
                gradient = self._weigh(x[away], None if w is None else w[away], point)[1]
        return torch.cat([gradient, value[None]])

    def _weigh(self, x: Tensor, w: Tensor | None, point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.enable_grad():
            at = point.detach().clone().requires_grad_()
            try:
                flat = self.distance(x, at).to(torch.float64).reshape(len(x))
                value = flat.sum() if w is None else (flat * w).sum()
                (gradient,) = torch.autograd.grad(value, at)
            except InputError:
                raise
            except Exception as error:  # without gradients, the function has served before
                raise InputError(
                    f"{self.what}: its distance has no gradient by which to find a centre ({first_line(error)}); write"
                    " it in torch, changing nothing in place, or give a centre too: metric=(distance, centre)"
                ) from error
        return value.detach(), gradient[0], flat.detach()
