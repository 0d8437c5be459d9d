"""The potential of k-means++ by a metric's own distance: each row is drawn in proportion to how far ``apart`` it is.

For ``metric=manhattan`` that is the L1 distance itself, not its square, which is what makes k-means++ a good start for
sums of distances (Arthur and Vassilvitskii 2007, section 5).
"""

from __future__ import annotations

import torch
from torch import Tensor

from distkmeans.exact import floats
from distkmeans.init.continuum import UNIT_BITS, Continuum
from distkmeans.init.lattice import Lattice, Placed
from distkmeans.init.mass import Mass
from distkmeans.init.potential import Potential
from distkmeans.metrics.geometry import Geometry, assign_rows
from distkmeans.problem import Problem

COARSE_BITS = 30
"""Bits of the mean mass of a row below which distances are counted in a finer unit."""


def potential_of(problem: Problem) -> Potential:
    """The potential that the problem's metric asks for."""
    return MeasuredPotential(problem) if isinstance(problem.metric, Geometry) else Potential(problem)


class Measured(Continuum):
    """This rank's rows, with a metric's own distances in the place of squared ones."""

    def __init__(self, problem: Problem, metric: Geometry) -> None:
        super().__init__(problem, 0, 0)
        self.problem, self.metric = problem, metric
        self.found = self.levels = torch.empty(0, dtype=torch.float64, device=problem.world.device)
        self.has_unit = False

    def place(self, centres: Tensor) -> Placed:
        values = self.problem.centroids(centres)
        return Placed(values, values[:, 0], values, values[:, 0])

    def labels(self, placed: Placed) -> Tensor:
        """The nearest of the centres; what ``between`` tells is found on the way. A collective."""
        with self.problem.world.guard():
            assigned = assign_rows(self.metric, self.shard.rows, placed.values)
            self.found = torch.empty_like(assigned.costs)
            for tile in self.shard.tiles():
                self.found[tile] = self.metric.apart(self.shard.rows[tile], assigned.costs[tile])
        return assigned.labels

    def between(self, tile: slice, placed: Placed, labels: Tensor) -> Tensor:
        return self.found[tile]

    def distances(self, which: Tensor, placed: Placed) -> Tensor:
        rows = self.shard.rows.index_select(0, which)
        return self.metric.apart(rows, self.metric.costs(rows, placed.values))

    def open_rows(self, tile: slice, placed: Placed) -> Tensor:
        is_open = self.metric.nearer(self.shard.rows[tile], placed.values, self.levels[tile])
        return is_open.nonzero()[:, 0] + tile.start

    def follow(self, which: Tensor | slice, nearest: Tensor) -> None:
        if not len(self.levels):
            self.levels = nearest.new_full((len(self.shard),), torch.inf)
        self.levels[which] = nearest


class MeasuredPotential(Potential):
    """Distances are float64, and cut to UNIT_BITS bits below the largest that is left."""

    def _space(self, problem: Problem) -> Lattice | Continuum:
        assert isinstance(problem.metric, Geometry)
        return Measured(problem, problem.metric)

    def mass_with(self, centres: Tensor) -> Mass:
        """As ``Potential``, but a collective: a distance of the user's own may fail on one rank.

        Where one rank cannot keep the distances, all take them anew: ``add`` is a collective too.
        """
        with self.world.guard():
            left = super().mass_with(centres)
        overfull = torch.tensor(int(self.tried.overfull), device=self.world.device)
        self.tried.overfull = bool(self.world.max_(overfull))
        return left

    def refine(self, total: int, above: int) -> bool:
        """Count in a finer unit where ``total`` over ``above`` rows has become small, and at first. A collective."""
        assert isinstance(self.space, Measured)
        if self.space.has_unit and total >= max(above, 1) << COARSE_BITS:
            return False
        self.space.has_unit = True  # before, distances that are too large have no mass
        largest = self._largest()
        unit = int(floats.exponent(largest)) - UNIT_BITS if largest > 0 else 0
        if unit == self.space.unit:
            return False
        self.space.unit = unit
        self._fill()
        return True
