"""Integer sums of weight * squared distance, block by block, and the rows that hold given places of the running sum.

A mass is kept in limbs of LIMB bits, most significant first, each within 2**28 of 0, so that float64 and int64 sums of
them are exact in any order. Limbs of a sum are not carried: they may exceed LIMB bits, or be below 0 once something
has been taken off. Only ``Mass.totals`` and ``_running`` carry them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LIMB = 26
WEIGHT_BITS = 24
BLOCK_ROWS = 512
"""Rows whose mass is kept as one sum: a draw looks through the sums, and then through the rows of one block."""


@dataclass
class Mass:
    """Integer sums of weight * squared distance: limbs of LIMB bits, most significant first, then the rows above 0."""

    parts: Tensor

    def totals(self) -> list[int]:
        """Python integers for (..., L + 1) parts, flattened."""
        rows = self.parts[..., :-1].reshape(-1, self.parts.shape[-1] - 1).tolist()
        return [sum(limb << (LIMB * place) for place, limb in enumerate(reversed(row))) for row in rows]


def limbs(units: Tensor, weights: Tensor | None) -> list[Tensor]:
    """float64 limbs of weights * units: two without weights, three with. units: integers from 0 up to 2**53.

    weights: integers up to 2**WEIGHT_BITS, of a shape that broadcasts.
    """
    high = torch.floor(units * 2.0**-LIMB)
    low = torch.add(units, high, alpha=-(2.0**LIMB))
    if weights is None:
        return [high, low]
    tops, lows = [], []
    for limb in (high, low):
        product = limb * weights
        tops.append(torch.floor(product * 2.0**-LIMB))
        lows.append(product.add_(tops[-1], alpha=-(2.0**LIMB)))
    return [tops[0], lows[0].add_(tops[1]), lows[1]]


class Blocks:
    """The masses of blocks of BLOCK_ROWS of this rank's rows: int64 (blocks, L + 1)."""

    def __init__(self, rows: int, weights: Tensor | None, device: torch.device) -> None:
        self.rows, self.weights = rows, weights
        self.width = 3 if weights is None else 4
        self.sums = torch.zeros(-(-rows // BLOCK_ROWS), self.width, dtype=torch.int64, device=device)

    def total(self) -> Mass:
        """Over this rank's rows: (L + 1,)."""
        return Mass(self.sums.sum(0))

    def fill(self, tile: slice, units: Tensor) -> None:
        """Set the masses of a tile that starts with a block, and ends with one or with the rows. units: (n,)."""
        weights = None if self.weights is None else self.weights[tile]
        parts = torch.stack([*limbs(units, weights), _above(units, weights)], dim=1)
        whole = torch.nn.functional.pad(parts, (0, 0, 0, -len(parts) % BLOCK_ROWS))
        first = tile.start // BLOCK_ROWS
        sums = whole.view(-1, BLOCK_ROWS, self.width).sum(1).to(torch.int64)
        self.sums[first : first + len(sums)] = sums

    def lost(self, which: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """int64 (m, L + 1): what each column of units ``after`` (n, m) takes off the mass of rows with units (n,)."""
        weights = None if self.weights is None else self.weights.index_select(0, which)[:, None]
        parts = limbs(before[:, None] - after, weights)
        parts.append(_above(before[:, None], weights) - _above(after, weights))
        return torch.stack([part.sum(0) for part in parts], dim=1).to(torch.int64)

    def take(self, which: Tensor, before: Tensor, after: Tensor) -> None:
        """Take off what the rows ``which`` (n,) lose from units ``before`` to ``after`` (n,)."""
        weights = None if self.weights is None else self.weights.index_select(0, which)
        parts = [*limbs(before - after, weights), _above(before, weights) - _above(after, weights)]
        lost = torch.stack(parts, dim=1).to(torch.int64)
        self.sums.index_add_(0, which.div(BLOCK_ROWS, rounding_mode="floor"), lost, alpha=-1)

    def blocks_at(self, places: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """For m places of the running sum: their blocks (m,), the mass before these (m, L), and the places, split."""
        bits = LIMB * (self.width - 2)
        wanted = torch.tensor([[place >> bits, place & ((1 << bits) - 1)] for place in places])
        wanted = wanted.to(self.sums.device)[:, :, None]
        sums = self.sums[:, :-1].cumsum(0)
        block = _passed(sums, wanted).clamp_(max=len(sums) - 1)
        return block, sums.index_select(0, block) - self.sums.index_select(0, block)[:, :-1], wanted

    def rows_of(self, block: Tensor) -> Tensor:
        """int64 (m, BLOCK_ROWS): the rows of these blocks; beyond the last row, the last row."""
        inside = torch.arange(BLOCK_ROWS, device=block.device)
        return (block[:, None] * BLOCK_ROWS + inside).clamp_(max=self.rows - 1)

    def rows_at(self, rows: Tensor, units: Tensor, before: Tensor, wanted: Tensor) -> Tensor:
        """Which of ``rows`` (m, BLOCK_ROWS), with these units, hold the places that ``blocks_at`` has split: (m,).

        A repeated last row changes nothing: its place comes before its repetitions.
        """
        weights = None if self.weights is None else self.weights[rows]
        masses = torch.stack(limbs(units, weights), dim=2).to(torch.int64)
        masses[:, 0] += before
        at = _passed(masses.cumsum(1), wanted).clamp_(max=BLOCK_ROWS - 1)
        return rows.gather(1, at[:, None])[:, 0]


def _above(units: Tensor, weights: Tensor | None) -> Tensor:
    """float64: 1 where the mass is above 0."""
    above = units > 0 if weights is None else (units > 0) & (weights > 0)
    return above.to(torch.float64)


def _passed(sums: Tensor, wanted: Tensor) -> Tensor:
    """How many of the running sums, limbs (n, L) or (m, n, L), are at most each wanted place: int64 (m,).

    wanted: (m, 2, 1), a place's first limb and the rest of its limbs joined.
    """
    columns = list(sums.unbind(-1))
    for index in range(len(columns) - 1, 0, -1):
        columns[index - 1] = columns[index - 1] + (columns[index] >> LIMB)
        columns[index] = columns[index] & ((1 << LIMB) - 1)
    head, rest = columns[0], columns[1] if len(columns) == 2 else (columns[1] << LIMB) + columns[2]
    first, second = wanted[:, 0], wanted[:, 1]
    return ((head < first) | ((head == first) & (rest <= second))).sum(-1)
