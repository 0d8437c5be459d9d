"""Centres by a function of all rows of a cluster: rows are brought together, and clusters shared among the ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from distkmeans.errors import InputError
from distkmeans.metrics.answer import answer
from distkmeans.metrics.geometry import Members

BATCH_ELEMENTS = 1 << 24
"""float64 elements of rows that are brought together at a time, or those of one cluster."""


def gathered_centres(members: Members, centre: Callable[[Tensor, Tensor | None], Any], what: str) -> Tensor:
    """(K, D): the centres of touched clusters, each computed by one rank, from rows in the order of their numbers.

    centre: float64 rows (m, D), weights (m,) or None -> (D,). what: how to name it to the user. NaN for clusters
    without weight. A collective; raises InputError on all ranks.
    """
    world, shard, clusters = members.world, members.shard, len(members.centroids)
    counting = members.touched[members.labels]
    if shard.weights is not None:
        counting &= shard.weights > 0
    rows = counting.nonzero().flatten()
    counts = world.sum_(torch.bincount(members.labels[rows], minlength=clusters))
    sizes = counts.tolist()
    found = torch.zeros(clusters, shard.dims, dtype=torch.float64, device=world.device)
    for batch in _batches(sizes, BATCH_ELEMENTS // shard.dims):
        within = (members.labels[rows] >= batch.start) & (members.labels[rows] < batch.stop)
        mine = rows[within]
        labels = world.concat(members.labels[mine])
        values = world.concat(shard.rows[mine].to(torch.float64))
        weights = None if shard.weights is None else world.concat(shard.weights[mine].to(torch.float64))
        with world.guard():
            parts = torch.argsort(labels, stable=True).split(sizes[batch.start : batch.stop])
            for cluster, at in zip(batch, parts, strict=True):
                if len(at) and cluster % world.size == world.rank:
                    given = None if weights is None else weights[at]
                    found[cluster] = answer(centre, values[at], given, (shard.dims,), f"{what}: its centre")
                    if not torch.isfinite(found[cluster]).all():
                        raise InputError(f"{what}: its centre of cluster {cluster} holds NaN or Inf")
    world.sum_(found)
    found[counts == 0] = math.nan
    return torch.where(members.touched[:, None], found.to(members.centroids.dtype), members.centroids)


def _batches(counts: list[int], most: int) -> Iterator[range]:
    """Ranges of clusters with at most so many rows together, or one cluster."""
    start, rows = 0, 0
    for cluster, count in enumerate(counts):
        if rows and rows + count > most:
            yield range(start, cluster)
            start, rows = cluster, 0
        rows += count
    if rows:
        yield range(start, len(counts))
