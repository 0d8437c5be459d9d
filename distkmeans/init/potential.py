"""The potential of k-means++: every row's squared distance to its nearest centre so far, as integers.

Rows are rounded to a grid of b bits with 2 b + log2 D + 2 <= 53, so that a float64 matrix product gives their squared
distances exactly, in any order of summation; integer sums of them are the same at any world size. Where the grid is
too coarse for what is left to tell apart (an outlier has stretched it), distances are float64, summed in a fixed
order and cut to 52 bits below the largest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distkmeans.exact import floats
from distkmeans.problem import Problem
from distkmeans.stats import safe_exponent, to_float

LIMB = 26
WEIGHT_BITS = 24
COARSE_CELLS = 256
"""Mean squared distance, in grid cells per column, below which rounding to the grid would distort the draw."""
KEPT_ELEMENTS = 1 << 24
"""Distances of the rows to tried centres that are kept for the one that wins."""
RUN_ROWS = 1 << 15
"""Rows of a running sum: it stays in a cache, and leaves no holes in the memory that a process keeps."""
TINY = 2.0**-300
"""Largest float64 distance below which they are scaled anew."""


@dataclass
class Mass:
    """Integer sums of weight * squared distance: limbs of LIMB bits, most significant first, then the rows above 0."""

    parts: Tensor

    def totals(self) -> list[int]:
        """Python integers for (..., L + 1) parts, flattened."""
        rows = self.parts[..., :-1].reshape(-1, self.parts.shape[-1] - 1).tolist()
        return [sum(limb << (LIMB * place) for place, limb in enumerate(reversed(row))) for row in rows]


class Potential:
    """This rank's rows on the grid, and the distance of each to its nearest centre so far."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.shard = problem, problem.shard
        self.world = problem.world
        self.coarse, self.unit = False, 0
        self.centres: list[Tensor] = []
        self.tried: Tensor | None = None
        self.has_tried = False
        self.nearest = torch.full((len(self.shard),), torch.inf, dtype=torch.float64, device=self.world.device)
        self.by = safe_exponent(problem.columns.exponent)
        self._place_on_grid()
        self.weights = self._integer_weights()

    def _place_on_grid(self) -> None:
        dims = self.shard.dims
        bits = min(24, (51 - max(0, (dims - 1).bit_length())) // 2)
        means = [to_float(mean) for mean in self.problem.moments.means()]
        self.shift = floats.scale(torch.tensor(means, dtype=torch.float64, device=self.world.device), self.by)
        reach = torch.zeros(1, dtype=torch.float64, device=self.world.device)
        for tile in self.shard.tiles():
            reach = torch.maximum(reach, self._shifted(self.shard.rows[tile]).abs().max())
        self.world.max_(reach)
        self.zoom = bits - int(floats.exponent(reach)[0]) if reach > 0 else 0
        self.points = torch.empty(self.shard.rows.shape, dtype=torch.float32, device=self.world.device)
        self.squares = torch.empty_like(self.nearest)
        for tile in self.shard.tiles():
            points = self.to_grid(self.shard.rows[tile])
            self.points[tile] = points
            self.squares[tile] = (points * points).sum(1)

    def _shifted(self, rows: Tensor) -> Tensor:
        return floats.scale(rows.to(torch.float64), self.by) - self.shift

    def to_grid(self, rows: Tensor) -> Tensor:
        """float64 integers (n, D), below 2**24 in size."""
        return floats.scale(self._shifted(rows), self.zoom).round()

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
        """Take (m, D) float64 rows as centres."""
        self.centres.append(centres)
        for tile in self._tiles(len(centres)):
            self.nearest[tile] = torch.minimum(self.nearest[tile], self._distances(tile, centres).amin(1))

    def mass(self) -> Mass:
        """What is left, over this rank's rows: (L + 1,)."""
        return Mass(sum((self._limbs(tile, self.nearest[tile]).sum(0) for tile in self._tiles(1)), self._zero()))

    def mass_with(self, centres: Tensor, rows: int | None = None) -> Mass:
        """What would be left after adding each of (m, D) centres alone, over this rank's (first) rows: (m, L + 1)."""
        left = self._zero().expand(len(centres), -1).clone()
        size = (len(self.shard), len(centres))
        kept = rows is None and size[0] * size[1] <= KEPT_ELEMENTS
        if kept and (self.tried is None or self.tried.shape != size):
            self.tried = self.nearest.new_empty(size)
        for tile in self._tiles(len(centres)):
            if rows is None or tile.start < rows:
                closer = torch.minimum(self.nearest[tile, None], self._distances(tile, centres))
                left += self._limbs(tile, closer).sum(0)
                if kept and self.tried is not None:
                    self.tried[tile] = closer
        self.has_tried = kept
        return Mass(left)

    def add_tried(self, centres: Tensor, best: int) -> None:
        """Take one of the centres that ``mass_with`` has just tried."""
        if not self.has_tried or self.tried is None:
            self.add(centres[best : best + 1])
            return
        self.centres.append(centres[best : best + 1])
        self.nearest.copy_(self.tried[:, best])
        self.has_tried = False

    def rows_at(self, places: list[int]) -> list[int]:
        """The local positions of the rows that hold these places in the running sum of this rank's mass."""
        found, before = [-1] * len(places), 0
        for tile in self.shard.tiles(RUN_ROWS):
            heads, rests = self._running(tile)
            low_bits = LIMB if self.weights is None else 2 * LIMB
            for index, place in enumerate(places):
                if found[index] < 0 and place >= before:
                    head, rest = (place - before) >> low_bits, (place - before) & ((1 << low_bits) - 1)
                    first, last = (int(torch.searchsorted(heads, head, right=right)) for right in (False, True))
                    at = first + int(torch.searchsorted(rests[first:last], rest, right=True))
                    found[index] = tile.start + at if at < len(heads) else -1
            before += (int(heads[-1]) << low_bits) + int(rests[-1])
        return found

    def _running(self, tile: slice) -> tuple[Tensor, Tensor]:
        """The running sum of a tile's mass, as its first limb, carried out, and the rest of its limbs joined."""
        limbs = self._limbs(tile, self.nearest[tile])[:, :-1].cumsum(0)
        for index in range(limbs.shape[1] - 1, 0, -1):
            limbs[:, index - 1] += limbs[:, index] >> LIMB
            limbs[:, index] &= (1 << LIMB) - 1
        rest = limbs[:, 1] if limbs.shape[1] == 2 else (limbs[:, 1] << LIMB) + limbs[:, 2]
        return limbs[:, 0].contiguous(), rest.contiguous()

    def share(self, tile: slice) -> Tensor:
        """float64 (n,): the rows' mass as plain numbers, for draws row by row."""
        limbs = self._limbs(tile, self.nearest[tile])[:, :-1].to(torch.float64)
        total = limbs[:, 0]
        for index in range(1, limbs.shape[1]):
            total = total * 2.0**LIMB + limbs[:, index]
        return total

    def refine(self, total: int, above: int) -> bool:
        """Go over to float64 distances if ``total`` over ``above`` rows says that the grid is too coarse.

        Once there, the unit follows the largest distance. True where masses have changed. A collective.
        """
        if not self.coarse:
            if total >= COARSE_CELLS * self.shard.dims * max(above, 1):
                return False
            self.coarse = True
            self._rescale()
        if self._largest() < TINY:
            self._rescale()
        largest = self._largest()
        self.unit = int(floats.exponent(largest)) - 52 if largest > 0 else 0
        return True

    def _largest(self) -> Tensor:
        """The largest distance to a nearest centre, over all ranks: float64 (1,)."""
        largest = torch.zeros(1, dtype=torch.float64, device=self.world.device)
        if len(self.nearest):
            largest = self.nearest.max()[None]
        return self.world.max_(largest)

    def _rescale(self) -> None:
        """Bring the distances that are left to about 1, by the largest difference in any column, and take them anew."""
        centres, self.centres = torch.cat(self.centres), []
        reach = torch.zeros(1, dtype=torch.float64, device=self.world.device)
        for tile in self._tiles(1):
            rows = self._centred(tile)
            apart = torch.full((len(rows),), torch.inf, dtype=torch.float64, device=rows.device)
            for centre in floats.scale(centres, self.by):
                apart = torch.minimum(apart, (rows - centre).abs().amax(1))
            reach = torch.maximum(reach, apart.max())
        self.world.max_(reach)
        self.zoom = -int(floats.exponent(reach)) if reach > 0 else 0
        self.nearest.fill_(torch.inf)
        self.add(centres)

    def _distances(self, tile: slice, centres: Tensor) -> Tensor:
        """float64 (n, m) squared distances: integers on the grid, or sums in a fixed order."""
        if self.coarse:
            rows = self._centred(tile)
            sums = []
            for centre in floats.scale(centres, self.by):
                difference = floats.scale(rows - centre, self.zoom)
                sums.append(floats.sum_columns(difference * difference))
            return torch.stack(sums, dim=1)
        points, targets = self.points[tile].to(torch.float64), self.to_grid(centres)
        products = torch.addmm((targets * targets).sum(1), points, targets.t(), alpha=-2)
        return products.add_(self.squares[tile, None])

    def _centred(self, tile: slice) -> Tensor:
        return floats.scale(self.shard.rows[tile].to(torch.float64), self.by)

    def _limbs(self, tile: slice, distances: Tensor) -> Tensor:
        """int64 (n, ..., L + 1): weight * distance in limbs, and whether it is above 0. Each below 2**28."""
        value = floats.scale(distances, -self.unit).floor() if self.coarse else distances
        high = torch.floor(value * 2.0**-LIMB)
        limbs = [high, value - high * 2.0**LIMB]
        if self.weights is not None:
            weights = self.weights[tile].view(-1, *[1] * (distances.ndim - 1))
            tops = [torch.floor(limb * weights * 2.0**-LIMB) for limb in limbs]
            lows = [limb * weights - top * 2.0**LIMB for limb, top in zip(limbs, tops, strict=True)]
            limbs = [tops[0], lows[0] + tops[1], lows[1]]
            value = value * weights
        return torch.stack([*limbs, (value > 0).to(torch.float64)], dim=-1).to(torch.int64)

    def _tiles(self, centres: int) -> list[slice]:
        return list(self.shard.tiles(max(256, (1 << 18) // max(self.shard.dims, 4 * centres))))

    def _zero(self) -> Tensor:
        return torch.zeros(3 if self.weights is None else 4, dtype=torch.int64, device=self.world.device)
