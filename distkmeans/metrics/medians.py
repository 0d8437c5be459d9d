"""Lower weighted medians over all ranks' rows, exactly: found digit by digit on the bits of the values.

Numbers map to integers that sort as they do. The answer's digits are settled from the first to the last: of the values
that share the digits known so far, a histogram over the next one (integers, added over ranks) tells in which bin the
running weight reaches half. Only the histograms cross the network, and nothing depends on order or sharding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from distkmeans.exact.arbiter import is_positive
from distkmeans.exact.fixed_point import Grid
from distkmeans.metrics.geometry import Members

TABLE_ELEMENTS = 1 << 20
"""int64 elements of the histograms that are formed at a time: of as many columns as fit."""
DIGIT_BITS = 8
"""Bits of a digit at most: with fewer, there are more passes over the rows and smaller tables."""
TILE_ELEMENTS = 1 << 20
"""Values that are looked at together."""
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Types in which the bits of a float can be seen, by its size in bytes."""


@dataclass
class Weights:
    """Of this rank's rows, as exact integers. limbs: int64 (n, L) on ``grid``, or None where every row counts once."""

    grid: Grid
    limbs: Tensor | None

    @staticmethod
    def of(members: Members) -> Weights:
        columns, weights = members.columns, members.shard.weights
        if weights is None:
            return Weights(Grid(torch.ones_like(columns.top[-1:]), 62, 1), None)
        grid = Grid.spanning(columns.top[-1:], columns.low[-1:], columns.total)
        return Weights(grid, grid.split(weights.to(torch.float64)[:, None])[:, :, 0])

    def added(self, places: Tensor, rows: Tensor, count: int) -> Tensor:
        """int64 (count, L): the weights of rows (m,) added up at places (m,)."""
        if self.limbs is None:
            return torch.bincount(places, minlength=count)[:, None]
        table = torch.zeros(count, self.grid.limbs, dtype=torch.int64, device=places.device)
        return table.index_add_(0, places, self.limbs[rows])


@dataclass
class Search:
    """Medians of C columns of M clusters. known: int64 (M, C), the digits found so far.

    below: int64 (M, C, L), limbs of the weight of smaller values. whole: (M, 1, L), of all.
    """

    known: Tensor
    below: Tensor
    whole: Tensor


def lower_medians(members: Members) -> Tensor:
    """(K, D), in the centroids' type: the least value up to which half of a cluster's weight lies. A collective.

    NaN for touched clusters without weight; untouched ones keep their centroids.
    """
    touched, world, shard = members.touched.nonzero().flatten(), members.world, members.shard
    if not len(touched):
        return members.centroids
    found, count = members.centroids.clone(), len(touched)
    with world.guard():
        place = torch.full((len(found),), -1, device=touched.device)
        place[touched] = torch.arange(count, device=touched.device)
        labels, weights = place[members.labels], Weights.of(members)
        rows = (labels >= 0).nonzero().flatten()
        whole = weights.added(labels[rows], rows, count)
    world.sum_(whole)
    cells = count * weights.grid.limbs
    bits = min(DIGIT_BITS, max(1, (TABLE_ELEMENTS // cells).bit_length() - 1))
    width = max(1, TABLE_ELEMENTS // (cells << bits))
    for columns in (slice(at, min(at + width, shard.dims)) for at in range(0, shard.dims, width)):
        known = torch.zeros(count, columns.stop - columns.start, dtype=torch.int64, device=touched.device)
        search = Search(known, torch.zeros_like(whole)[:, None].repeat(1, known.shape[1], 1), whole[:, None])
        for digit in digits(shard.rows.dtype, bits):
            with world.guard():
                table = histogram(shard.rows[:, columns], labels, weights, search.known, digit)
            settle(search, world.sum_(table), digit[1], weights.grid.width)
        values = from_keys(search.known, shard.rows.dtype).to(found.dtype)
        found[touched, columns] = values.masked_fill((whole == 0).all(1)[:, None], math.nan)
    return found


def digits(dtype: torch.dtype, bits: int) -> Iterator[tuple[int, int]]:
    """(shift, bits) of the digits of a type's keys, most significant first."""
    left = dtype.itemsize * 8
    while left:
        taken = min(bits, left)
        left -= taken
        yield left, taken


def histogram(rows: Tensor, labels: Tensor, weights: Weights, known: Tensor, digit: tuple[int, int]) -> Tensor:
    """int64 (M, C, 2**bits, L): the weight of the values that begin with the digits known, by the next one.

    rows: (n, C). labels: int64 (n,), -1 for rows that do not count. known: int64 (M, C).
    """
    (shift, taken), (clusters, width) = digit, known.shape
    table = torch.zeros(clusters * width << taken, weights.grid.limbs, dtype=torch.int64, device=rows.device)
    is_first = shift + taken == rows.dtype.itemsize * 8
    limits = None if is_first else bounds(known, shift + taken, rows.dtype)
    step = max(1, TILE_ELEMENTS // width)
    for start in range(0, len(rows), step):
        mine = (labels[start : start + step] >= 0).nonzero()[:, 0] + start
        values, cluster = rows.index_select(0, mine), labels.index_select(0, mine)
        cell = (cluster[:, None] * width + torch.arange(width, device=rows.device)).flatten()
        row = mine[:, None].expand(-1, width).flatten()
        if limits is not None:
            low, high = (limit.index_select(0, cluster) for limit in limits)
            left = ((values >= low) & (values <= high)).flatten().nonzero()[:, 0]
            values, cell, row = values.flatten()[left], cell[left], row[left]
        next_digit = (to_keys(values.flatten()) >> shift) & ((1 << taken) - 1)
        table += weights.added((cell << taken) + next_digit, row, len(table))
    return table.view(clusters, width, 1 << taken, -1)


def bounds(known: Tensor, shift: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The least and the largest number, in the rows' type, whose keys begin with ``known``, before the last bits."""
    first = known << shift
    last = first + ((1 << shift) - 1)
    if not dtype.is_floating_point:
        return from_keys(first, dtype), from_keys(last, dtype)
    minus_zero = (1 << (dtype.itemsize * 8 - 1)) - 1
    last = torch.where(last == minus_zero, last - 1, last)  # 0 has the next key, and equals it
    low, high = from_keys(first, dtype), from_keys(last, dtype)
    return torch.where(torch.isnan(low), -torch.inf, low), torch.where(torch.isnan(high), torch.inf, high)


def settle(search: Search, table: Tensor, taken: int, limb_bits: int) -> None:
    """Append the digit at which the running weight reaches half: the first where 2 * weight >= whole."""
    running = table.cumsum_(2).add_(search.below[:, :, None])
    short = search.whole[:, :, None] - 2 * running
    digit = is_positive(short.flatten(0, 2), limb_bits).view(short.shape[:-1]).sum(2)
    before = (digit - 1).clamp(min=0)[:, :, None, None].expand(-1, -1, 1, table.shape[3])
    search.below = torch.where(digit[:, :, None] > 0, running.gather(2, before)[:, :, 0], search.below)
    search.known = (search.known << taken) | digit


def to_keys(values: Tensor) -> Tensor:
    """Integers of the type's size whose bits, read without a sign, sort as the values do; -0 as 0.

    Of a float all bits are turned over where it is negative, else the first.
    """
    if values.dtype == torch.uint8:
        return values.to(torch.int64)
    if values.dtype == torch.int8:
        return values.to(torch.int64) + 128
    bits = (values + 0.0).view(INTEGERS[values.dtype.itemsize])
    size = values.dtype.itemsize * 8
    return bits ^ ((bits >> (size - 1)) | -(1 << (size - 1)))


def from_keys(keys: Tensor, dtype: torch.dtype) -> Tensor:
    """The values that ``to_keys`` came from; int64, of which only the last bits count."""
    if not dtype.is_floating_point:
        return (keys - (128 if dtype == torch.int8 else 0)).to(dtype)
    size, bits = dtype.itemsize * 8, keys.to(INTEGERS[dtype.itemsize])
    return (bits ^ (~(bits >> (size - 1)) | -(1 << (size - 1)))).view(dtype)
