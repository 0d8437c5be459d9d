"""The float pass in Triton: a tile of rows stays on the chip while the centroids stream past.

Best score, its index and the second best score stay in registers; the N x K scores are never in memory. Scores are
those of ``kernels.dense``, s_k = X.C_k - |C_k|^2 / 2, and a row is proved where the second best lies below the best by
more than twice the bound on the error of a score. With u = 2**-24, in two kinds of product:

*one* product in float32 ("ieee": fused or separate multiply-adds, in any order): as in ``kernels.dense``,

    |computed s_k - s_k| <= g (|X| max|C| + max|C|^2 / 2) + underflow,     g = (D + 10) u / (1 - (D + 10) u)

*split*, for float16 and bfloat16 rows seen from the origin: X is the stored row x, C_k = hi_k + lo_k + r_k with hi and
lo in the row's type, and tensor cores add up x.hi_k + x.lo_k in float32. They form products exactly, bring the b + 1
terms of a step (b >= 4 products and the accumulator) to the exponent of the largest and cut them to at least 24 bits:
at most (b + 2) 2u of the largest, (1 + 2/b) 2u per product (Fasi, Higham, Mikaitis, Pranesh: Numerical behavior of
NVIDIA tensor cores, PeerJ Computer Science, 2021). Over 2 D products whose absolute sum is at most
|x| max|C| (1 + 2**-7) that is below 8 D u:

    |computed s_k - s_k| <= 8 g (|X| max|C| + max|C|^2 / 2) + |X| max|r| + underflow

The three-fold TF32 product for float32 rows would need the same assumptions on the hardware, and a bound as wide.

Rows whose bound is no number, or whose scores could overflow, are open.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from distkmeans.exact.floats import row_hash
from distkmeans.kernels.dense import NEVER, Frame

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether kernels run in Triton's interpreter, on the CPU: as it was when they were defined."""


@dataclass(frozen=True)
class Tiles:
    """What one program holds: ``rows`` x ``clusters`` scores, and ``dims`` columns of either side at a time."""

    rows: int
    clusters: int
    dims: int

    @staticmethod
    def of(dims: int, on_tensor_cores: bool) -> Tiles:
        """No more scores than leave registers for the rest. Whole rows stay on the chip up to the widest block."""
        if INTERPRETED:
            return Tiles(16, 16, 32)
        if not on_tensor_cores:
            return Tiles(64, 64, 32)  # the loop over a block of columns is unrolled
        return Tiles(128, 64, 64 if dims > 128 else max(32, triton.next_power_of_2(dims)))


@dataclass(frozen=True)
class Facing:
    """The centroids as the pass sees them, without a word from the device to the host.

    parts: (1 or 2, K padded, D padded), their float32 values, or high and low parts in the rows' type. bias: float32
    (K padded). bound: float32 (3,), slope and floor of twice the bound, and max|C|.
    """

    parts: Tensor
    bias: Tensor
    bound: Tensor

    @staticmethod
    def of(centroids: Tensor, frame: Frame, tiles: Tiles, split: torch.dtype | None) -> Facing:
        """``split``: the rows' type where they are multiplied by high and low parts."""
        dims = centroids.shape[1]
        placed = frame.place(centroids, torch.float64)
        squares = (placed * placed).sum(1)
        bias = (-0.5 * squares).masked_fill(copies(centroids), NEVER)
        unit = (dims + 10) * 2.0**-24 * (1 if split is None else 8)
        unit = unit / (1 - unit) if unit < 0.5 else float("inf")
        largest = squares.max().sqrt() * (1 + 1e-6)
        high = placed.to(split or torch.float32)
        parts, left = [high], placed - high.to(torch.float64)
        slope = unit * largest
        if split is not None:
            parts.append(left.to(split))
            left = left - parts[1].to(torch.float64)
            slope = slope + left.square().sum(1).max().sqrt()
        floor = unit * largest**2 / 2 + dims * 2.0**-80
        bound = torch.stack([2 * slope, 2 * floor, largest]) * (1 + 4e-6)
        more = -len(centroids) % tiles.clusters
        stacked = torch.nn.functional.pad(torch.stack(parts), (0, -dims % tiles.dims, 0, more))
        return Facing(stacked, torch.nn.functional.pad(bias, (0, more), value=NEVER).float(), bound.float())


def copies(centroids: Tensor) -> Tensor:
    """Which centroids equal one of lower index: bool (K,). As ``dense.repeated``, but the host waits for nothing."""
    order = torch.argsort(row_hash(centroids), stable=True)
    sorted_hash = row_hash(centroids)[order]
    begins = torch.ones_like(sorted_hash, dtype=torch.bool)
    begins[1:] = sorted_hash[1:] != sorted_hash[:-1]
    place = torch.arange(len(order), device=order.device)
    first = order[torch.where(begins, place, 0).cummax(0).values]
    same = (first != order) & (centroids[order] == centroids[first]).all(1)
    return torch.zeros_like(same).scatter(0, order, same)


@triton.jit
def nearest(
    rows, row_stride, column_stride, shift, norms,
    which, how_many, first,
    parts, bias, bound,
    labels, best_scores, second_scores, is_open,
    clusters, dims, width, part_stride,
    listed: tl.constexpr, shifted: tl.constexpr, split: tl.constexpr, whole: tl.constexpr, operand: tl.constexpr,
    block_n: tl.constexpr, block_k: tl.constexpr, block_d: tl.constexpr,
):  # fmt: skip
    """Label rows first .. first + how_many, or (``listed``) the how_many[0] rows that ``which`` lists from there on."""
    place = tl.program_id(0).to(tl.int64) * block_n + tl.arange(0, block_n)
    count = how_many
    if listed:
        count = tl.load(how_many).to(tl.int64)
        if tl.program_id(0).to(tl.int64) * block_n >= count:
            return
    live = place < count
    n = first + (tl.load(which + place, mask=live, other=0).to(tl.int64) if listed else place)
    d = tl.arange(0, block_d)
    row = rows + n[:, None] * row_stride
    if whole:
        x = _placed(row, column_stride, shift, d, live, dims, shifted, operand)
    best = tl.full((block_n,), float("-inf"), tl.float32)
    second = tl.full((block_n,), float("-inf"), tl.float32)
    index = tl.zeros((block_n,), tl.int32)
    for start in range(0, clusters, block_k):
        k = tl.arange(0, block_k)
        block = parts + tl.cast(start, tl.int64) * width
        offset = k[None, :] * width + d[:, None]  # within a block 32 bits are enough
        scores = tl.zeros((block_n, block_k), tl.float32)
        if whole:
            scores = _multiply(x, block, offset, part_stride, scores, split, operand)
        else:
            for at in range(0, dims, block_d):
                x = _placed(row, column_stride, shift, at + d, live, dims, shifted, operand)
                scores = _multiply(x, block + at, offset, part_stride, scores, split, operand)
        scores += tl.load(bias + start + k)[None, :]
        top, where = tl.max(scores, 1, return_indices=True)
        others = tl.where(k[None, :] == where[:, None], float("-inf"), scores)
        second = tl.maximum(tl.minimum(best, top), tl.maximum(second, tl.max(others, 1)))
        index = tl.where(top > best, start + where, index)
        best = tl.maximum(best, top)
    norm = tl.load(norms + n, mask=live, other=0.0)
    largest = tl.load(bound + 2)
    margin = tl.load(bound + 1) + norm * tl.load(bound)
    proved = (second < best - margin) & ((norm + largest) * largest < 1e36)  # false where anything is not a number
    tl.store(labels + n, index, mask=live)
    tl.store(best_scores + n, best, mask=live)
    tl.store(second_scores + n, second, mask=live)
    tl.store(is_open + n, proved == 0, mask=live)


@triton.jit
def _placed(row, stride, shift, d, live, dims, shifted: tl.constexpr, operand: tl.constexpr):
    """Columns ``d`` of a tile of rows, seen from the frame: one rounding."""
    x = tl.load(row + d.to(tl.int64)[None, :] * stride, mask=live[:, None] & (d < dims)[None, :], other=0)
    x = x.to(operand)
    if shifted:
        x -= tl.load(shift + d, mask=d < dims, other=0.0)[None, :]
    return x


@triton.jit
def _multiply(x, block, offset, part_stride, scores, split: tl.constexpr, operand: tl.constexpr):
    """scores + x times a block of centroids, of which ``block`` points to the high parts."""
    scores = tl.dot(x, tl.load(block + offset).to(operand), scores, input_precision="ieee")
    if split:
        scores = tl.dot(x, tl.load(block + part_stride + offset).to(operand), scores, input_precision="ieee")
    return scores


class FloatPass:
    """Runs ``nearest`` over rows seen from a frame. best, second: float32 (N,), is_open: bool (N,), of the last run."""

    def __init__(self, rows: Tensor, frame: Frame, norms: Tensor) -> None:
        self.rows, self.frame, self.norms = rows, frame, norms
        self.shift = frame.shift32
        half = rows.dtype in (torch.float16, torch.bfloat16)
        # the bound of the split product is known of these tensor cores only
        self.split = rows.dtype if half and self.shift is None and torch.version.hip is None else None
        self.tiles = Tiles.of(rows.shape[1], self.split is not None)
        self.best, self.second = torch.empty_like(norms), torch.empty_like(norms)
        self.is_open = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)

    def facing(self, centroids: Tensor) -> Facing:
        return Facing.of(centroids, self.frame, self.tiles, self.split)

    def run(self, facing: Facing, labels: Tensor, rows: slice, listed: tuple[Tensor, Tensor] | None = None) -> None:
        """Label these rows; or those that ``listed`` names, int32 (n,) counted from the first, int32 (1,) how many."""
        tiles, dims, count = self.tiles, self.rows.shape[1], rows.stop - rows.start
        which, how_many = (self.rows, count) if listed is None else listed
        if not count:
            return
        nearest[(triton.cdiv(count, tiles.rows),)](
            self.rows, *self.rows.stride(), self.norms if self.shift is None else self.shift, self.norms,
            which, how_many, rows.start,
            facing.parts, facing.bias, facing.bound,
            labels, self.best, self.second, self.is_open,
            len(facing.bias), dims, facing.parts.shape[2], facing.parts.stride(0),
            listed=listed is not None, shifted=self.shift is not None, split=self.split is not None,
            whole=dims <= tiles.dims, operand=self._operand(),
            block_n=tiles.rows, block_k=tiles.clusters, block_d=tiles.dims,
        )  # fmt: skip

    def _operand(self) -> tl.dtype:
        if self.split == torch.float16:
            return tl.float16
        # the interpreter would multiply bfloat16 numbers as if they were integers
        return tl.bfloat16 if self.split == torch.bfloat16 and not INTERPRETED else tl.float32
