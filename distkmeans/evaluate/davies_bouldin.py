"""davies_bouldin: how wide clusters are beside their distance from the most similar one (Davies and Bouldin 1979)."""

from __future__ import annotations

import math

import torch

from distkmeans.evaluate import scorers
from distkmeans.evaluate.distances import distances
from distkmeans.evaluate.spread import Spread
from distkmeans.evaluate.subject import Subject

NOTHING = 1e-8
"""Distances up to here count as 0, as in scikit-learn, where all of them are so small: then the score is 0."""
TILE_ELEMENTS = 1 << 22


@scorers.register("davies_bouldin")
class DaviesBouldin:
    """The mean over clusters of the largest (s_i + s_j) / d_ij: scikit-learn's ``davies_bouldin_score``. Less is good.

    s_i: the mean distance of the rows of a cluster from their mean (which is not the stored centroid, where the solver
    has not converged). d_ij: the distance of two means; coincident ones are left out. Weights are ignored. Each rank
    does a part of the clusters.
    """

    cheap, needs_truth = True, False

    def __call__(self, subject: Subject) -> float:
        spread, world = subject.spread, subject.problem.world
        nothing = NOTHING * 2.0 ** max(-1000, min(1000, spread.exponent))
        found = torch.zeros(2, len(spread.counts), dtype=torch.float64, device=spread.means.device)
        with world.guard():
            step = max(1, TILE_ELEMENTS // len(spread.counts))
            for number, at in enumerate(range(0, len(spread.counts), step)):
                if number % world.size == world.rank:
                    tile = slice(at, at + step)
                    found[:, tile] = torch.stack(_ratios(spread, tile))
        ratios, farthest = world.sum_(found)
        if float(spread.distances.max()) <= nothing or float(farthest.max()) <= nothing:
            return 0.0
        return math.fsum(ratios.tolist()) / len(ratios)


def _ratios(spread: Spread, tile: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """Of some clusters, float64 (B,) each: the largest ratio to another cluster, and the farthest mean's distance."""
    apart = distances(spread.means, spread.means[tile])
    farthest = apart.amax(0)
    apart[apart == 0] = torch.inf
    ratios = (spread.distances[:, None] + spread.distances[tile]) / apart
    return ratios.amax(0), farthest
