"""The pruned pass in Triton: exact int8 products rule most centroids out, the few that are left are measured in full.

Four kernels over a block of rows. ``guess`` takes the centroid of the best integer score, where no label is known yet.
``aim`` turns the distance d to the centroid of a row's last label into its threshold: the score reached is
(|X|^2 - d^2) / 2. ``sieve`` streams the centroids' heads past a tile of row heads and lists, row by row and in order,
the centroids that reach the threshold (``kernels.triton_head``). ``decide`` measures those: sum (x - c)^2 in float32,
whose error is *relative*,

    |computed - true| <= g true + underflow,     g = (D + 8) u / (1 - (D + 8) u),  u = 2**-24

(one rounding of a difference, one of its square, D - 1 of the sum in any order, five to spare for the comparison), so
that far from the origin costs nothing. A row is proved where the second distance exceeds the first by more than both
errors. Rows with no list, or one too long, are named for the float pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from distkmeans.kernels.triton_head import (
    LOWEST,
    NO_THRESHOLD,
    WIDEST_FINE,
    Axes,
    CentroidHeads,
    axes_of,
    principal_axes,
    quantise_centroids,
    quantise_rows,
    scores,
    thresholds,
)
from distkmeans.kernels.triton_nearest import INTERPRETED, copies

LIST_ELEMENTS = 1 << 25
"""Entries of the survivors' lists (int32): 128 MiB."""
SAMPLE, TRIED = 2048, 256
"""Rows that axes are taken from, and of them those that widths are tried on."""
MEASURE = 64
"""What a float32 term of a measured pair costs, in int8 products: tensor cores against gathered rows, roughly."""


@triton.jit
def guess(
    heads, centroid_heads, init, labels, first, count, clusters, width,
    fine: tl.constexpr, whole: tl.constexpr, block_n: tl.constexpr, block_k: tl.constexpr, block_h: tl.constexpr,
):  # fmt: skip
    """The centroid of the best integer score."""
    place = tl.program_id(0).to(tl.int64) * block_n + tl.arange(0, block_n)
    live = place < count
    head = heads + (first + place)[:, None] * (2 * width if fine else width)
    best = tl.full((block_n,), -(2**31), tl.int32)
    index = tl.zeros((block_n,), tl.int32)
    q = _head(head, live, 0, block_h)
    q_low = q
    if fine:
        q_low = _head(head, live, width, block_h)
    for start in range(0, clusters, block_k):
        scores = _scores(
            q, q_low, head, live, centroid_heads, init, start, clusters, width, fine, whole, block_n, block_k, block_h
        )
        top, where = tl.max(scores, 1, return_indices=True)
        index = tl.where(top > best, start + where, index)
        best = tl.maximum(best, top)
    tl.store(labels + first + place, index, mask=live)


@triton.jit
def aim(
    rows, row_stride, column_stride, centroids, labels, squares, residues, norms, scales, thresholds,
    first, count, clusters, dims, unit, lowest, nothing, block_n: tl.constexpr, block_d: tl.constexpr,
):  # fmt: skip
    """What q_x.q_k + init_k must reach for a centroid to be as near as that of the row's last label."""
    place = tl.program_id(0).to(tl.int64) * block_n + tl.arange(0, block_n)
    live = place < count
    n = first + place
    label = tl.load(labels + n, mask=live, other=0).to(tl.int64)
    label = tl.minimum(tl.maximum(label, 0), clusters - 1)
    distance = _distance(rows + n * row_stride, column_stride, centroids + label * dims, live, dims, block_n, block_d)
    farthest = distance.to(tl.float64) * (1 + unit) + dims * 1e-37
    reached = (tl.load(squares + n, mask=live, other=0.0) - farthest) * 0.5
    margin = tl.load(residues + n, mask=live, other=0.0).to(tl.float64) * tl.load(scales + 1)
    margin += tl.load(norms + n, mask=live, other=0.0).to(tl.float64) * tl.load(scales + 2)
    value = tl.floor(reached * tl.load(scales) - margin * (1 + 1e-6)) - 2
    known = value >= lowest  # false for a margin that is infinite or no number
    value = tl.minimum(tl.where(known, value, 0.0), nothing - 1.0)
    tl.store(thresholds + place, tl.where(known, value.to(tl.int32), nothing), mask=live)


@triton.jit
def sieve(
    heads, centroid_heads, init, thresholds, lists, seen, first, count, clusters, width,
    capacity: tl.constexpr, fine: tl.constexpr, whole: tl.constexpr,
    block_n: tl.constexpr, block_k: tl.constexpr, block_h: tl.constexpr,
):  # fmt: skip
    """The centroids whose integer score reaches the row's threshold: ``seen``, of which ``capacity`` are listed."""
    place = tl.program_id(0).to(tl.int64) * block_n + tl.arange(0, block_n)
    live = place < count
    head = heads + (first + place)[:, None] * (2 * width if fine else width)
    threshold = tl.load(thresholds + place, mask=live, other=2**31 - 1)
    found = tl.zeros((block_n,), tl.int32)
    q = _head(head, live, 0, block_h)
    q_low = q
    if fine:
        q_low = _head(head, live, width, block_h)
    for start in range(0, clusters, block_k):
        scores = _scores(
            q, q_low, head, live, centroid_heads, init, start, clusters, width, fine, whole, block_n, block_k, block_h
        )
        passing = (scores >= threshold[:, None]).to(tl.int32)
        hits = tl.sum(passing, 1)
        if tl.max(hits, 0) > 0:
            at = found[:, None] + tl.cumsum(passing, 1) - 1
            k = start + tl.arange(0, block_k)[None, :] + tl.zeros_like(at)
            tl.store(lists + place[:, None] * capacity + at, k, mask=(passing > 0) & (at < capacity))
        found += hits
    tl.store(seen + place, found, mask=live)


@triton.jit
def _head(head, live, at, block_h: tl.constexpr):
    """Places at .. at + block_h of a tile's heads."""
    return tl.load(head + at + tl.arange(0, block_h)[None, :], mask=live[:, None], other=0)


@triton.jit
def _scores(
    q, q_low, head, live, centroid_heads, init, start, clusters, width, fine: tl.constexpr, whole: tl.constexpr,
    block_n: tl.constexpr, block_k: tl.constexpr, block_h: tl.constexpr,
):  # fmt: skip
    """int32 (block_n, block_k): q_x.q_k + init_k, exact; q, q_low are the tile's heads where these are ``whole``."""
    k = tl.arange(0, block_k)
    there = (start + k < clusters)[None, :]
    stride = 2 * width if fine else width
    block = centroid_heads + tl.cast(start, tl.int64) * stride
    offset = k[None, :] * stride + tl.arange(0, block_h)[:, None]  # within a block 32 bits are enough
    high = tl.zeros((block_n, block_k), tl.int32)
    if whole:
        c = tl.load(block + offset, mask=there, other=0)
        high = tl.dot(q, c, high, out_dtype=tl.int32)
        if fine:
            c_low = tl.load(block + width + offset, mask=there, other=0)
            cross = tl.dot(q_low, c, tl.zeros_like(high), out_dtype=tl.int32)
            cross = tl.dot(q, c_low, cross, out_dtype=tl.int32)
            low = tl.dot(q_low, c_low, tl.zeros_like(high), out_dtype=tl.int32)
            high = high * 128 + cross + (low >> 7) + 1
    else:
        for at in range(0, width, block_h):
            part = _head(head, live, at, block_h)
            high = tl.dot(part, tl.load(block + at + offset, mask=there, other=0), high, out_dtype=tl.int32)
    return tl.where(there, high + tl.load(init + start + k, mask=start + k < clusters, other=0)[None, :], -(2**31))


@triton.jit
def decide(
    rows, row_stride, column_stride, centroids, lists, seen, labels, is_open, left, left_count,
    first, count, dims, unit, capacity: tl.constexpr, block_n: tl.constexpr, block_d: tl.constexpr,
):  # fmt: skip
    """The nearest of the listed centroids, and whether that is proved; rows without a list go to ``left``."""
    place = tl.program_id(0).to(tl.int64) * block_n + tl.arange(0, block_n)
    live = place < count
    n = first + place
    found = tl.load(seen + place, mask=live, other=0)
    listed = live & (found > 0) & (found <= capacity)
    length = tl.where(listed, found, 0)
    best = tl.full((block_n,), float("inf"), tl.float32)
    second = tl.full((block_n,), float("inf"), tl.float32)
    index = tl.zeros((block_n,), tl.int32)
    for at in range(tl.max(length, 0)):
        here = at < length
        k = tl.load(lists + place * capacity + at, mask=here, other=0)
        centroid = centroids + k.to(tl.int64) * dims
        distance = _distance(rows + n * row_stride, column_stride, centroid, here, dims, block_n, block_d)
        distance = tl.where(here, distance, float("inf"))
        second = tl.minimum(tl.maximum(best, distance), second)
        index = tl.where(distance < best, k, index)
        best = tl.minimum(best, distance)
    proved = second * (1 - unit) > best * (1 + unit) + dims * 1e-37
    tl.store(labels + n, index, mask=listed)
    tl.store(is_open + n, proved == 0, mask=listed)
    rest = (live & (listed == 0)).to(tl.int32)
    if tl.max(rest, 0) > 0:
        end = tl.atomic_add(left_count, tl.sum(rest, 0)) + tl.cumsum(rest, 0)
        tl.store(left + end - 1, place.to(tl.int32), mask=rest > 0)


@triton.jit
def _distance(row, stride, centroid, live, dims, block_n: tl.constexpr, block_d: tl.constexpr):
    """float32 (block_n,): sum (x - c)^2 of rows and centroids given by pointers (block_n,), 0 where not ``live``."""
    total = tl.zeros((block_n, block_d), tl.float32)
    for at in range(0, dims, block_d):
        d = at + tl.arange(0, block_d)
        mask = live[:, None] & (d < dims)[None, :]
        x = tl.load(row[:, None] + d.to(tl.int64)[None, :] * stride, mask=mask, other=0).to(tl.float32)
        difference = x - tl.load(centroid[:, None] + d[None, :], mask=mask, other=0.0)
        total += difference * difference
    return tl.sum(total, 1)


@dataclass(frozen=True)
class Shapes:
    """Tiles of the four kernels: rows x centroids x places of integer scores, rows x columns of measured pairs."""

    rows: int
    clusters: int
    places: int
    measured: int
    columns: int

    @staticmethod
    def of(axes: Axes, dims: int) -> Shapes:
        """Heads that fit stay on the chip; a measured tile has as many columns as a warp's threads read at once."""
        width = axes.width
        places = width if width <= 256 and width & (width - 1) == 0 else 64
        if INTERPRETED:
            return Shapes(16, 32, places, 16, 32)
        return Shapes(64, 64 if axes.fine else 128, places, 16, min(128, max(16, triton.next_power_of_2(dims))))


class Sieve:
    """The pruned pass over rows (N, D), with their heads.

    seen: int32, survivors of each row of the last block. left_counts: int32, per block, the rows that the last
    ``decide`` named for the float pass.
    """

    def __init__(self, rows: Tensor, axes: Axes, clusters: int) -> None:
        self.rows, self.axes = rows, axes
        self.heads = quantise_rows(rows, axes)
        self.shapes = Shapes.of(axes, rows.shape[1])
        self.capacity = capacity_of(clusters)
        self.block = max(1, min(len(rows), LIST_ELEMENTS // self.capacity))
        numbers = torch.empty(3, self.block, dtype=torch.int32, device=rows.device)
        self.thresholds, self.seen, self.left = numbers
        self.left_counts = numbers.new_zeros(max(1, triton.cdiv(len(rows), self.block)))
        self.lists = numbers.new_empty(self.block * self.capacity)
        unit = (rows.shape[1] + 8) * 2.0**-24
        self.unit = unit / (1 - unit) * (1 + 1e-6) if unit < 0.5 else float("inf")

    def facing(self, centroids: Tensor) -> CentroidHeads:
        return quantise_centroids(centroids, copies(centroids), self.axes)

    def blocks(self) -> Iterator[slice]:
        """The rows, a block at a time."""
        return (slice(at, min(at + self.block, len(self.rows))) for at in range(0, len(self.rows), self.block))

    def guess(self, facing: CentroidHeads, labels: Tensor) -> None:
        """Write a first label for every row: often the nearest centroid, never proved."""
        guess[self._grid(len(self.rows), self.shapes.rows)](
            self.heads.heads, facing.heads, facing.init, labels, 0, len(self.rows), len(facing.init), self.axes.width,
            **self._score_blocks(),
        )  # fmt: skip

    def aim(self, facing: CentroidHeads, centroids: Tensor, last: Tensor, rows: slice) -> None:
        """Set the thresholds of these rows, at most ``block``; ``last`` (N,) has a label to start from."""
        count = rows.stop - rows.start
        aim[self._grid(count, self.shapes.measured)](
            self.rows, *self.rows.stride(), centroids, last,
            self.heads.squares, self.heads.residues, self.heads.norms, facing.scales, self.thresholds,
            rows.start, count, len(centroids), self.rows.shape[1], self.unit, float(2 * LOWEST + 2**29), NO_THRESHOLD,
            block_n=self.shapes.measured, block_d=self.shapes.columns,
        )  # fmt: skip

    def sift(self, facing: CentroidHeads, rows: slice) -> None:
        """List the survivors of these rows, whose thresholds are set."""
        count = rows.stop - rows.start
        sieve[self._grid(count, self.shapes.rows)](
            self.heads.heads, facing.heads, facing.init, self.thresholds, self.lists, self.seen,
            rows.start, count, len(facing.init), self.axes.width,
            **self._score_blocks(), capacity=self.capacity,
        )  # fmt: skip

    def decide(self, centroids: Tensor, labels: Tensor, is_open: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """Label the rows whose survivors ``sift`` has listed; the others, counted from the first one, and how many."""
        count, block = rows.stop - rows.start, rows.start // self.block
        left_count = self.left_counts[block : block + 1].zero_()
        decide[self._grid(count, self.shapes.measured)](
            self.rows, *self.rows.stride(), centroids, self.lists, self.seen, labels, is_open,
            self.left, left_count, rows.start, count, self.rows.shape[1], self.unit,
            capacity=self.capacity, block_n=self.shapes.measured, block_d=self.shapes.columns,
        )  # fmt: skip
        return self.left, left_count

    def _score_blocks(self) -> dict[str, int | bool]:
        s, blocks = self.shapes, {"fine": self.axes.fine, "whole": self.shapes.places == self.axes.width}
        return {**blocks, "block_n": s.rows, "block_k": s.clusters, "block_h": s.places, "num_stages": 2}

    @staticmethod
    def _grid(count: int, block: int) -> tuple[int]:
        return (triton.cdiv(count, block),)


def capacity_of(clusters: int) -> int:
    """Survivors a row may have: a thirty-second of the centroids, three times what real rows were seen to need."""
    return min(128, max(16, triton.next_power_of_2(clusters // 32)))


def choose_sieve(rows: Tensor, centroids: Tensor, dense_cost: float) -> Sieve | None:
    """The sieve whose head costs least on a sample of the rows; None where the float pass costs less.

    dense_cost: of one float score, in int8 products. Costs are the head's places, and a full measure for the pairs that
    it lets through.
    """
    step = max(1, len(rows) // SAMPLE)
    sample = rows[::step][:SAMPLE].to(torch.float64)
    if len(sample) < 2:
        return None
    principal, dims = principal_axes(sample), rows.shape[1]
    tried = sample[:: max(1, len(sample) // TRIED)]
    cheapest, found = dense_cost, None
    most = capacity_of(len(centroids)) / len(centroids)
    for width, fine in forms(dims):
        axes = axes_of(sample, principal, width, fine)
        passing = pass_rate(tried, centroids, axes)
        measured = torch.where(passing <= most, passing * dims * MEASURE, dense_cost)
        cost = width * (4 if fine else 1) + float(measured.mean())
        if cost < cheapest:
            cheapest, found = cost, axes
    return None if found is None else Sieve(rows, found, len(centroids))


def forms(dims: int) -> list[tuple[int, bool]]:
    """Heads to try, (width, fine): as tensor cores take them whole, up to one that holds all axes."""
    plain = [32, 64, 128, 256, 384, 512, 768, 1024]
    enough = next((index for index, width in enumerate(plain) if width >= dims), len(plain) - 1)
    tried = plain[: enough + 1]
    return [(width, False) for width in tried] + [(width, True) for width in tried if width <= WIDEST_FINE]


def pass_rate(rows: Tensor, centroids: Tensor, axes: Axes) -> Tensor:
    """Share (n,) of the centroids that the heads do not rule out, once a row's nearest centroid is known."""
    heads, facing = quantise_rows(rows, axes), quantise_centroids(centroids, copies(centroids), axes)
    placed, facing_placed = rows - axes.mean, centroids.to(torch.float64) - axes.mean
    reached = (placed @ facing_placed.t() - facing_placed.square().sum(1) / 2).amax(1)
    passing = scores(heads.heads, facing, axes) >= thresholds(heads, facing, reached)[:, None]
    return passing.to(torch.float64).mean(1)
