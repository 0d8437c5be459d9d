"""Integer heads in plain torch, by ``torch._int_mm``: what the compiled kernel does, where there is no compiler."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from distkmeans.exact import arbiter
from distkmeans.kernels.head import ALWAYS, UNIT, Cut, Target

TILE_SCORES = 1 << 22
"""Integer scores of a tile."""
PAIR_ELEMENTS = 1 << 20
"""Elements of the differences that are formed at a time."""


@functools.cache
def works() -> bool:
    """Whether torch multiplies bytes exactly here: some processors and versions saturated."""
    left = torch.full((32, 64), 127, dtype=torch.int8)
    left[1::2] = -127
    try:
        product = torch._int_mm(left, left.t().contiguous())
    except (AttributeError, RuntimeError):
        return False
    return torch.equal(product.to(torch.int64), left.to(torch.int64) @ left.to(torch.int64).t())


class Integer:
    """Assign rows (N, D) on the CPU, float32 or narrower, by heads of bytes; ``exact=False`` skips the judge."""

    def __init__(self, rows: Tensor, how: Cut, exact: bool) -> None:
        self.rows, self.how, self.exact = rows, how, exact
        self.name = f"torch {how.form}"
        parts = [how.heads(rows[tile]) for tile in self._tiles(how.form.per_word * how.form.words)]
        self.values = torch.cat([part.values for part in parts]) if parts else torch.empty(0, 4, dtype=torch.int8)
        joined = [torch.cat([getattr(part, name) for part in parts]) for name in ("square", "residue", "size")]
        self.square, self.size = joined[0] * (1 - 8 * UNIT), joined[2].to(torch.float64)
        self.excess = (joined[1].to(torch.float64) - how.base).clamp(min=0)
        self.excess[self.size > how.largest] = torch.inf
        self.guess: Tensor | None = None
        self.error = (rows.shape[1] + 40) * UNIT
        self.seconds = 0.0

    def assign(self, centroids: Tensor, labels: Tensor) -> int:
        """Write the nearest centroid of each row into ``labels``; the number of rows left to the exact judge."""
        begin = time.perf_counter()
        facing = self.how.facing(centroids)
        target = Target.of(self.how.heads(centroids, facing), self.how, facing)
        columns, undecided = target.heads.t().contiguous(), 0
        found = torch.empty(len(self.rows), dtype=torch.int64)
        for tile in self._tiles(len(centroids)):
            score = torch._int_mm(self.values[tile], columns).add_(target.bias)
            own = score.argmax(1) if self.guess is None else self.guess[tile]
            found[tile], open_rows = self._tile(tile, own, score, target, centroids)
            undecided += open_rows
        self.guess = found
        labels.copy_(found)
        self.seconds = time.perf_counter() - begin
        return undecided

    def _tile(self, tile: slice, own: Tensor, score: Tensor, target: Target, centroids: Tensor) -> tuple[Tensor, int]:
        """Labels of a tile's rows, and how many the judge decided."""
        rows = self.rows[tile]
        everyone = torch.arange(len(rows))
        most = self._distances(rows, centroids, everyone, own).to(torch.float64) * (1 + self.error) + 2.0**-100
        least = 0.5 * target.unit * (self.square[tile] - most)
        least = least - self.excess[tile].mul(target.reach).nan_to_num(0.0) - self.size[tile] * target.residue
        least = torch.where(torch.isinf(self.excess[tile]), -torch.inf, least)
        threshold = least.floor().sub(2).clamp(-(2**31), ALWAYS - 1).to(torch.int32)
        survives = score >= threshold[:, None]
        survives[everyone, own] = True
        row, candidate = survives.nonzero(as_tuple=True)
        distance = self._distances(rows, centroids, row, candidate).to(torch.float64)
        best = torch.full((len(rows),), torch.inf, dtype=torch.float64).scatter_reduce(0, row, distance, "amin")
        near = distance * (1 - self.error) <= best[row] * (1 + self.error) + 2.0**-100
        row, candidate = row[near], candidate[near]
        labels = torch.empty(len(rows), dtype=torch.int64).index_copy_(0, row.flip(0), candidate.flip(0))
        several = torch.bincount(row, minlength=len(rows)) > 1
        if not self.exact or not several.any():
            return labels, 0
        place = several.cumsum(0) - 1
        chosen = several[row]
        wide = rows[several].to(torch.float64)
        labels[several] = arbiter.nearest(wide, centroids.to(torch.float64), place[row[chosen]], candidate[chosen])
        return labels, int(several.sum())

    def _distances(self, rows: Tensor, centroids: Tensor, row: Tensor, candidate: Tensor) -> Tensor:
        """float32 squared distances of pairs, from the differences: each step rounds relatively."""
        step = max(1, PAIR_ELEMENTS // rows.shape[1])
        parts = [
            (rows[row[part]].to(torch.float32) - centroids[candidate[part]]).square_().sum(1)
            for part in (slice(at, at + step) for at in range(0, len(row), step))
        ]
        return torch.cat(parts) if parts else torch.empty(0)

    def _tiles(self, width: int) -> Iterator[slice]:
        step = max(1, TILE_SCORES // max(1, width))
        return (slice(at, min(at + step, len(self.rows))) for at in range(0, len(self.rows), step))
