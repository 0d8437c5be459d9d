"""Rows as they are, for where an outlier makes every grid too coarse to tell the others apart.

Squared distances are float64, summed in a fixed order, and cut to 52 bits below the largest that is left.
"""

from __future__ import annotations

import torch
from torch import Tensor

from distkmeans.exact import floats
from distkmeans.init.lattice import Placed
from distkmeans.kernels.choose import choose
from distkmeans.problem import Problem

UNIT_BITS = 52


class Continuum:
    """This rank's rows. by: the power of two at which rows are safe from overflow. zoom: what differences are taken to.

    unit: the power of two that distances are counted in.
    """

    def __init__(self, problem: Problem, by: int, zoom: int) -> None:
        self.shard, self.by, self.zoom, self.unit = problem.shard, by, zoom, 0
        self.frugal = problem.frugal

    def place(self, centres: Tensor) -> Placed:
        """Centres (m, D), given as rows are."""
        values = floats.scale(centres, self.by)
        return Placed(values, values[:, 0], centres.to(self.shard.centroid_type), values[:, 0])

    def labels(self, placed: Placed) -> Tensor:
        """int32 (n,): the nearest of the centres over the real numbers, the lowest index on a tie."""
        labels = torch.zeros(len(self.shard), dtype=torch.int32, device=self.shard.rows.device)
        if len(placed.values) > 1:
            choose(self.shard.rows, placed.narrow, frugal=self.frugal).assign(placed.narrow, labels)
        return labels

    def between(self, tile: slice, placed: Placed, labels: Tensor) -> Tensor:
        """float64 (n,): squared distances of the rows of a tile to the centres of these indices (n,)."""
        return self._square(self.scaled(self.shard.rows[tile]) - placed.values.index_select(0, labels))

    def distances(self, which: Tensor, placed: Placed) -> Tensor:
        """float64 (n, m): squared distances of the rows ``which`` to every centre."""
        rows = self.scaled(self.shard.rows.index_select(0, which))
        return torch.stack([self._square(rows - centre) for centre in placed.values], dim=1)

    def open_rows(self, tile: slice, placed: Placed) -> Tensor:
        """The rows of a tile that may come closer to one of the centres: all of them."""
        return torch.arange(tile.start, tile.stop, device=self.shard.rows.device)

    def follow(self, which: Tensor | slice, nearest: Tensor) -> None:
        """Nothing is kept of distances."""

    def units(self, distances: Tensor) -> Tensor:
        """Squared distances as the integers that masses are made of."""
        return floats.scale(distances, -self.unit).floor()

    def scaled(self, rows: Tensor) -> Tensor:
        """float64, safe from overflow."""
        return floats.scale(rows.to(torch.float64), self.by)

    def _square(self, differences: Tensor) -> Tensor:
        differences = floats.scale(differences, self.zoom)
        return floats.sum_columns(differences * differences)
