"""The potential of k-means++: every row's squared distance to its nearest centre so far, as integers.

Integer sums of them are the same at any world size. A new centre is held against the rows that may come closer to it
only, and takes from the sums what these lose. Distances are exact on a grid (``lattice``), or float64 where the grid is
too coarse for what is left to tell apart (``continuum``).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from distkmeans import native
from distkmeans.exact import floats
from distkmeans.init.continuum import UNIT_BITS, Continuum
from distkmeans.init.lattice import FRUGAL_ROWS, Lattice
from distkmeans.init.mass import BLOCK_ROWS, LIMB, WEIGHT_BITS, Blocks, Mass, limbs
from distkmeans.init.rounds import Rounds
from distkmeans.problem import Problem
from distkmeans.stats import safe_exponent

COARSE_CELLS = 256
"""Mean squared distance, in grid cells per column, below which rounding to the grid would distort the draw."""
KEPT_ELEMENTS, KEPT_FRUGAL = 1 << 24, 1 << 20
"""Distances of open rows to tried centres that are kept for the one that wins, so many; with memory=low."""
CHUNK_ELEMENTS = 1 << 19
"""Elements of float64 temporaries: they stay in a cache, and leave no holes in the memory that a process keeps."""
TILE_ROWS = 1 << 17
"""Rows that the fast pass takes at a time: their scores stay in a cache."""
TINY = 2.0**-300
"""Largest float64 distance below which they are scaled anew."""


class Potential:
    """This rank's rows, which centre is nearest to each (owner, in the order of coming) and how near: float64."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.shard, self.world = problem, problem.shard, problem.world
        rows, device = len(self.shard), self.world.device
        self.by = safe_exponent(problem.columns.exponent)
        self.space: Lattice | Continuum = self._space(problem)
        self.centres: list[Tensor] = []
        self.count = 0
        self.nearest = torch.full((rows,), torch.inf, dtype=torch.float64, device=device)
        self.owner = torch.zeros(rows, dtype=torch.int32, device=device)
        self.weights = self._integer_weights()
        self.blocks = Blocks(rows, self.weights, device)
        self.tried = Tried(rows, device, KEPT_FRUGAL if problem.frugal else KEPT_ELEMENTS)
        self.rounds = Rounds.of(self.space, self.nearest, self.owner, self.blocks)

    def _space(self, problem: Problem) -> Lattice | Continuum:
        return Lattice(problem, self.by)

    def _integer_weights(self) -> Tensor | None:
        weights = self.shard.weights
        if weights is None:
            return None
        largest = torch.zeros(1, dtype=torch.float64, device=self.world.device)
        if len(weights):
            largest = weights.max().to(torch.float64)[None]
        exponent = floats.exponent(self.world.max_(largest))
        return floats.scale(weights.to(torch.float64), WEIGHT_BITS - exponent).ceil()

    def add(self, centres: Tensor) -> None:
        """Take (m, D) float64 rows as centres: each row's nearest of them, where it is nearer than what it has."""
        placed = self.space.place(centres)
        labels = self.space.labels(placed)
        for tile in self._chunks(len(self.shard), self.shard.dims):
            distances = self.space.between(tile, placed, labels[tile])
            closer = distances < self.nearest[tile]
            self.nearest[tile] = torch.where(closer, distances, self.nearest[tile])
            self.owner[tile] = torch.where(closer, labels[tile] + self.count, self.owner[tile])
            self.space.follow(tile, self.nearest[tile])
        self.centres.append(centres)
        self.count += len(centres)
        if self.rounds:
            self.rounds.note(placed)
        self._fill()

    def _fill(self) -> None:
        """Sum all masses anew."""
        for tile in self.shard.tiles(TILE_ROWS):
            self.blocks.fill(tile, self.space.units(self.nearest[tile]))

    def mass(self) -> Mass:
        """What is left, over this rank's rows: (L + 1,)."""
        return self.blocks.total()

    def mass_with(self, centres: Tensor) -> Mass:
        """What would be left after adding each of (m, D) centres alone, over this rank's rows: (m, L + 1)."""
        placed = self.space.place(centres)
        self.tried.clear(len(centres))
        if self.rounds and len(centres) <= native.MOST_TRIALS:
            what_is_left, found = self.rounds.mass_with(placed, self.mass(), self.tried.which, self.tried.distances)
            self.tried.overfull = found > len(self.tried.which)
            return what_is_left
        left = self.mass().parts.repeat(len(centres), 1)
        for tile in self.shard.tiles(FRUGAL_ROWS if self.problem.frugal else TILE_ROWS):
            open_rows = self.space.open_rows(tile, placed)
            for chunk in self._chunks(len(open_rows), max(self.shard.dims, 2 * len(centres))):
                which = open_rows[chunk]
                nearest = self.nearest.index_select(0, which)
                distances = torch.minimum(self.space.distances(which, placed), nearest[:, None])
                left -= self.blocks.lost(which, self.space.units(nearest), self.space.units(distances))
                self.tried.keep(which, distances)
        return Mass(left)

    def add_tried(self, centres: Tensor, best: int) -> None:
        """Take one of the centres that ``mass_with`` has just tried."""
        if self.tried.overfull:
            self.add(centres[best : best + 1])
            return
        self.centres.append(centres[best : best + 1])
        self.count += 1
        if self.rounds and len(centres) <= native.MOST_TRIALS:
            self.rounds.take(best)
            return
        for which, distances in self.tried.pieces(best):
            before = self.nearest.index_select(0, which)
            closer = (distances < before).nonzero()[:, 0]
            which, distances, before = (part.index_select(0, closer) for part in (which, distances, before))
            self.blocks.take(which, self.space.units(before), self.space.units(distances))
            self.nearest.index_copy_(0, which, distances)
            self.owner.index_fill_(0, which, self.count - 1)
            self.space.follow(which, distances)

    def rows_at(self, places: list[int]) -> list[int]:
        """The local positions of the rows that hold these places in the running sum of this rank's mass."""
        if self.rounds:
            return self.rounds.rows_at(places)
        block, before, wanted = self.blocks.blocks_at(places)
        rows = self.blocks.rows_of(block)
        rows = self.blocks.rows_at(rows, self.space.units(self.nearest[rows]), before, wanted)
        return [int(row) for row in rows.tolist()]

    def share(self, tile: slice) -> Tensor:
        """float64 (n,): the rows' mass as plain numbers, for draws row by row."""
        parts = limbs(self.space.units(self.nearest[tile]), None if self.weights is None else self.weights[tile])
        total = parts[0]
        for part in parts[1:]:
            total = total * 2.0**LIMB + part
        return total

    def refine(self, total: int, above: int) -> bool:
        """Go over to float64 distances if ``total`` over ``above`` rows says that the grid is too coarse.

        Once there, the unit follows the largest distance. True where masses have changed. A collective.
        """
        if isinstance(self.space, Lattice):
            if total >= COARSE_CELLS * self.shard.dims * max(above, 1):
                return False
            self._rescale()
        if self._largest() < TINY:
            self._rescale()
        assert isinstance(self.space, Continuum)
        largest = self._largest()
        self.space.unit = int(floats.exponent(largest)) - UNIT_BITS if largest > 0 else 0
        self._fill()
        return True

    def _largest(self) -> Tensor:
        """The largest distance to a nearest centre, over all ranks: float64 (1,)."""
        largest = torch.zeros(1, dtype=torch.float64, device=self.world.device)
        if len(self.nearest):
            largest = self.nearest.max()[None]
        return self.world.max_(largest)

    def _rescale(self) -> None:
        """Bring the distances that are left to about 1, by the largest difference in any column, and take them anew."""
        centres, self.centres, self.count = torch.cat(self.centres), [], 0
        self.space, self.rounds = Continuum(self.problem, self.by, 0), None
        placed = self.space.place(centres).values
        reach = torch.zeros(1, dtype=torch.float64, device=self.world.device)
        for tile in self._chunks(len(self.shard), self.shard.dims):
            apart = self.space.scaled(self.shard.rows[tile]) - placed.index_select(0, self.owner[tile])
            reach = torch.maximum(reach, apart.abs().max())
        self.world.max_(reach)
        self.space.zoom = -int(floats.exponent(reach)) if reach > 0 else 0
        self.nearest.fill_(torch.inf)
        self.add(centres)

    def _chunks(self, count: int, width: int) -> Iterator[slice]:
        """Slices of ``count`` rows with ``width`` float64 elements each."""
        step = max(BLOCK_ROWS, CHUNK_ELEMENTS // width // BLOCK_ROWS * BLOCK_ROWS)
        return (slice(at, min(at + step, count)) for at in range(0, count, step))


class Tried:
    """The open rows of a round and their distances to the centres on trial, of which one will be taken."""

    def __init__(self, rows: int, device: torch.device, elements: int) -> None:
        self.rows, self.elements = rows, elements
        self.which = torch.empty(0, dtype=torch.int64, device=device)
        self.distances = torch.empty(0, 0, dtype=torch.float64, device=device)
        self.count, self.overfull = 0, False

    def clear(self, centres: int) -> None:
        """Begin a round. The memory stays the same while the number of centres does."""
        self.count, self.overfull = 0, False
        if self.distances.shape[1] != centres:
            most = min(self.rows, self.elements // centres)
            self.which = self.which.new_empty(most)
            self.distances = self.distances.new_empty(most, centres)

    def keep(self, which: Tensor, distances: Tensor) -> None:
        """Take note of (n,) rows and their distances (n, m), while there is room."""
        end = self.count + len(which)
        self.overfull |= end > len(self.which)
        if not self.overfull:
            self.which[self.count : end] = which
            self.distances[self.count : end] = distances
            self.count = end

    def pieces(self, column: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The rows and their distances to one of the centres."""
        for start in range(0, self.count, TILE_ROWS):
            piece = slice(start, min(start + TILE_ROWS, self.count))
            yield self.which[piece], self.distances[piece, column]
