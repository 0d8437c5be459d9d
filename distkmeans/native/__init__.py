"""The compiled CPU kernels, if they were built: loaded once, called through ctypes on torch tensors.

They are optional: without a compiler at installation everything runs on torch, and publishes the same bits.
``DISTKMEANS_NATIVE`` chooses: ``off``, or an instruction set (``avx512``, ``avx2``, ``generic``) instead of the best
that the processor has. ``python -m distkmeans.native`` builds them in a checkout.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
from collections.abc import Iterable, Iterator
from ctypes import c_double, c_float, c_int32, c_int64, c_uint64, c_void_p
from pathlib import Path

import torch
from torch import Tensor

from distkmeans.errors import InputError

CHOICE = "DISTKMEANS_NATIVE"
TYPES = {
    torch.float32: 0,
    torch.float64: 1,
    torch.float16: 2,
    torch.bfloat16: 3,
    torch.uint8: 4,
    torch.int8: 5,
}
ROWS, BLOCKS, PANEL, VECTOR, STRIPE, SHAPE, MOST_TOGETHER, LEVELS = 12, 12, 32, 16, 16, 16, 8, 4
"""Rows of a block, blocks of a tile, centroids of a panel, words that longer heads come in, axes of a stripe, words of
a Shape: as in C."""
ID, PLACE, LABEL, SQUARE, LOW, HIGH, MARGIN, _, _, LONG_MARGIN, _, _, HEADER = range(13)
"""Words of a record, and where its head begins: as in kernels.h."""
SQUARE_LIMBS, EXACT_TERMS = 3, 1 << 16
"""Limbs of a sum of squares; terms of 36 bits that a lane of float64, of at least four, adds up exactly."""
EVERY = -1
"""In place of a centroid: all of them may be nearest."""
MOST_NARROW, MOST_FEW = 128, 128
"""Columns up to which the float32 kernel lays rows side by side; clusters up to which it takes rows of more."""
MOST_TRIALS = 32
"""Centres on trial in a round of greedy k-means++."""
GRAIN = 1 << 17
"""Elements of work for each thread: what takes longer than to wake one that sleeps."""


class Rows(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("stride", c_int64), ("type", c_int32), ("dims", c_int32)]

    @staticmethod
    def of(rows: Tensor) -> Rows:
        """(N, D) rows whose columns are contiguous."""
        return Rows(rows.data_ptr(), rows.stride(0), TYPES[rows.dtype], rows.shape[1])


class Panels(ctypes.Structure):
    _fields_ = [
        ("words", c_void_p),
        ("bias", c_void_p),
        ("map", c_void_p),
        ("level", c_void_p),
        ("count", c_int64),
    ]


class Margin(ctypes.Structure):
    _fields_ = [("unit", c_double), ("reach", c_double), ("residue", c_double)]


class Longer(ctypes.Structure):
    _fields_ = [
        ("rows", c_void_p),
        ("centroids", c_void_p),
        ("bias", c_void_p),
        ("level", c_void_p),
        ("words", c_int32),
        ("margin", Margin),
    ]


class Counts(ctypes.Structure):
    _fields_ = [("pairs", c_int64), ("blocks", c_int64), ("full", c_int64), ("changed", c_int64)]


class Assignment(ctypes.Structure):
    _fields_ = [
        ("rows", Rows),
        ("records", c_void_p),
        ("count", c_int64),
        ("means", c_void_p),
        ("shapes", c_void_p),
        ("step", c_int32),
        ("words", c_int32),
        ("bits", c_int32),
        ("restricted", c_int32),
        ("skip", c_int32),
        ("row_by", c_int32),
        ("all", Panels),
        ("some", Panels),
        ("centroids", c_void_p),
        ("moved", c_void_p),
        ("margin", Margin),
        ("longer", Longer),
        ("gap", c_double),
        ("relative", c_float),
        ("absolute", c_float),
        ("labels", c_void_p),
        ("open", c_void_p),
        ("scores", c_void_p),
        ("costs", c_void_p),
        ("scratch", c_void_p),
        ("scale", c_double),
        ("room", c_int64),
        ("opened", c_int64),
        ("next", c_int64),
        ("counts", Counts),
    ]


class Narrow(ctypes.Structure):
    _fields_ = [
        ("rows", Rows),
        ("count", c_int64),
        ("centroids", c_void_p),
        ("bias", c_void_p),
        ("shift", c_void_p),
        ("clusters", c_int32),
        ("slope", c_float),
        ("floor", c_float),
        ("labels", c_void_p),
        ("open", c_void_p),
        ("opened", c_int64),
        ("next", c_int64),
        ("scratch", c_void_p),
        ("width", c_int32),
    ]


class Tally(ctypes.Structure):
    _fields_ = [
        ("rows", Rows),
        ("weights", c_void_p),
        ("down", c_void_p),
        ("up", c_void_p),
        ("sums", c_void_p),
        ("counts", c_void_p),
        ("limbs", c_int32),
        ("clusters", c_int32),
        ("entries", c_void_p),
        ("listed", c_int64),
        ("run", c_void_p),
        ("scratch", c_void_p),
        ("runs", c_int64),
        ("next", c_int64),
        ("which", c_void_p),
        ("touched", c_void_p),
        ("squared", c_int32),
    ]


class Scan(ctypes.Structure):
    _fields_ = [
        ("rows", Rows),
        ("count", c_int64),
        ("largest", c_void_p),
        ("smallest", c_void_p),
        ("bad", c_int32),
    ]


class Squares(ctypes.Structure):
    _fields_ = [
        ("rows", Rows),
        ("scratch", c_void_p),
        ("count", c_int64),
        ("flush", c_int64),
        ("unit", c_double * SQUARE_LIMBS),
        ("split", c_double * SQUARE_LIMBS),
        ("limbs", c_int64 * SQUARE_LIMBS),
    ]


class Means(ctypes.Structure):
    _fields_ = [
        ("sums", c_void_p),
        ("up", c_void_p),
        ("means", c_void_p),
        ("open", c_void_p),
        ("scratch", c_void_p),
        ("count", c_int64),
        ("opened", c_int64),
        ("limbs", c_int32),
        ("dims", c_int32),
    ]


class Inertia(ctypes.Structure):
    _fields_ = [
        ("sums", c_void_p),
        ("which", c_void_p),
        ("unit", c_void_p),
        ("centroids", c_void_p),
        ("high", c_void_p),
        ("low", c_void_p),
        ("size", c_void_p),
        ("scale", c_double),
        ("count", c_int64),
        ("limbs", c_int32),
        ("dims", c_int32),
        ("wide", c_int32),
    ]


class Steps(ctypes.Structure):
    _fields_ = [
        ("was", Rows),
        ("now", Rows),
        ("which", c_void_p),
        ("shift", c_void_p),
        ("scratch", c_void_p),
        ("hash", c_void_p),
        ("moved", c_void_p),
        ("scale", c_double),
        ("count", c_int64),
    ]


class Blend(ctypes.Structure):
    _fields_ = [
        ("sums", c_void_p),
        ("up", c_void_p),
        ("before", c_void_p),
        ("old", Rows),
        ("means", c_void_p),
        ("gained", c_void_p),
        ("scratch", c_void_p),
        ("count", c_int64),
        ("limbs", c_int32),
    ]


class Costs(ctypes.Structure):
    _fields_ = [
        ("rows", Rows),
        ("centroids", c_void_p),
        ("labels", c_void_p),
        ("out", c_void_p),
        ("count", c_int64),
    ]


class Stage(ctypes.Structure):
    _fields_ = [
        ("heads", c_void_p),
        ("level", c_void_p),
        ("residue", c_void_p),
        ("size", c_void_p),
        ("own", c_void_p),
        ("scale", c_double),
        ("base", c_double),
        ("largest", c_double),
        ("length", c_int32),
        ("refined", c_int32),
        ("bits", c_int32),
        ("words", c_int32),
        ("step", c_int32),
        ("margin", c_int32),
    ]


class Cutting(ctypes.Structure):
    _fields_ = [
        ("values", Rows),
        ("centre", c_void_p),
        ("axes", c_void_p),
        ("square", c_void_p),
        ("spill", c_double),
        ("scratch", c_void_p),
        ("count", c_int64),
        ("records", c_void_p),
        ("lanes", c_int32),
        ("wide", c_int32),
        ("of_rows", c_int32),
        ("stages", c_int32),
        ("record", c_int32),
        ("opens", c_int32),
        ("stage", Stage * 2),
    ]


class Trial(ctypes.Structure):
    _fields_ = [
        ("points", c_void_p),
        ("point_squares", c_void_p),
        ("weights", c_void_p),
        ("nearest", c_void_p),
        ("owner", c_void_p),
        ("levels", c_void_p),
        ("blocks", c_void_p),
        ("centres", c_void_p),
        ("columns", c_void_p),
        ("bias", c_void_p),
        ("squares", c_void_p),
        ("before", c_void_p),
        ("before_squares", c_void_p),
        ("apart", c_void_p),
        ("slack", c_double),
        ("keep", c_double),
        ("give", c_double),
        ("lost", c_void_p),
        ("which", c_void_p),
        ("distances", c_void_p),
        ("count", c_int64),
        ("taken", c_int64),
        ("room", c_int64),
        ("found", c_int64),
        ("next", c_int64),
        ("dims", c_int32),
        ("trials", c_int32),
        ("width", c_int32),
        ("block_rows", c_int32),
    ]


STRUCTURES = (Assignment, Narrow, Tally, Means, Inertia, Steps, Blend, Costs, Cutting, Scan, Squares, Trial)


class Library:
    """The loaded kernels in one instruction set; a call that is worth it runs on as many threads as torch does."""

    def __init__(self, handle: ctypes.CDLL, variant: int, name: str) -> None:
        self.handle, self.variant, self.name = handle, variant, name

    def run(self, kernel: str, task: ctypes.Structure, work: int) -> None:
        """work: elements that the kernel goes through, about: few are not worth waking other threads."""
        getattr(self.handle, f"dkm_{kernel}")(ctypes.byref(task), self.variant, threads_for(work))

    def tally(self, task: Tally, before: Tensor | None, after: Tensor) -> int:
        """Rows moved, whose sums the task now holds."""
        moved = self.handle.dkm_tally(
            ctypes.byref(task),
            None if before is None else c_void_p(before.data_ptr()),
            c_void_p(after.data_ptr()),
            c_int64(len(after)),
            self.variant,
            threads(),
        )
        if moved < 0:
            raise MemoryError("no memory for the rows that change clusters")
        return moved

    def totals(self, rows: Tensor, tables: tuple[Tensor, Tensor], squared: bool) -> Tensor:
        """int64 (limbs, D + 1): limb sums of all rows (N, D), or of their squares; last, whatever a row's 1 gives.

        tables: 2**-place and 2**place, float64 (limbs, D + 1).
        """
        down, up = (table.contiguous() for table in tables)
        sums, counts = torch.zeros(down.shape, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
        task = Tally(Rows.of(rows), None, *(t.data_ptr() for t in (down, up, sums, counts)), len(down), 1)
        task.squared = squared
        self.tally(task, None, torch.zeros(len(rows), dtype=torch.int32))
        return sums

    def scan(self, rows: Tensor) -> Tensor | None:
        """float64 (2, D): of each column the largest |x|, the smallest but 0 (or inf); None where one is not finite."""
        parts = threads_for(rows.numel())
        largest = torch.zeros(parts, rows.shape[1], dtype=torch.float64)
        smallest = torch.full_like(largest, torch.inf)
        task = Scan(Rows.of(rows), len(rows), largest.data_ptr(), smallest.data_ptr())
        self.run("scan", task, rows.numel())
        return None if task.bad else torch.stack([largest.amax(0), smallest.amin(0)])

    def squares(self, rows: Tensor, places: list[int]) -> list[int]:
        """Limbs of the sum of the squares of all values of rows (N, D), in units of 2**place, exactly.

        places: SQUARE_LIMBS of them, at most 36 apart. No square exceeds 2**36 of the first unit, and all are multiples
        of the last.
        """
        width = whole_vectors(rows.shape[1])
        scratch = torch.empty(threads(), width, dtype=torch.float64)
        units = [2.0**place for place in places]
        tables = ((c_double * SQUARE_LIMBS)(*(factor * unit for unit in units)) for factor in (1, 1.5 * 2.0**52))
        task = Squares(Rows.of(rows), scratch.data_ptr(), len(rows), max(1, EXACT_TERMS * 4 // width), *tables)
        self.run("squares", task, rows.numel())
        return list(task.limbs)

    def means(self, sums: Tensor, up: Tensor) -> tuple[Tensor, Tensor | None]:
        """float32 means (K, C - 1) of limb sums (K, limbs, C), and which are not proved, bool, or None where all are.

        up: float64 (limbs, C), the units of the limbs.
        """
        count, limbs, columns = sums.shape
        means, is_open = torch.empty(count, columns - 1), torch.empty(count, columns - 1, dtype=torch.bool)
        scratch = torch.empty(threads(), 2 * columns, dtype=torch.float64)
        used = sums.contiguous(), up.contiguous()
        places = [tensor.data_ptr() for tensor in (*used, means, is_open, scratch)]
        task = Means(*places, count=count, limbs=limbs, dims=columns - 1)
        self.run("means", task, sums.numel())
        return means, is_open if task.opened else None

    def inertia(self, sums: Tensor, unit: Tensor, centroids: Tensor, scale: float, which: Tensor, into: Tensor) -> None:
        """Write double-doubles and sums of |terms| of the clusters ``which``, int64, into float64 (3, K).

        sums: (K, limbs, C). unit: float64 (limbs, C). centroids: (K, C - 1), float32 or float64.
        """
        limbs, columns = sums.shape[1:]
        used = sums.contiguous(), which.contiguous(), unit.contiguous(), centroids.contiguous(), *into
        places = [tensor.data_ptr() for tensor in used]
        wide = centroids.dtype == torch.float64
        task = Inertia(*places, scale, len(which), limbs=limbs, dims=columns - 1, wide=wide)
        self.run("inertia", task, 4 * len(which) * limbs * columns)

    def costs(self, rows: Tensor, centroids: Tensor, labels: Tensor) -> Tensor:
        """float32 (N,): squared distance of each row, float32 or narrower, to the centroid of its int32 label.

        From the differences; it errs by (D / 8 + 40) 2**-24 of itself at most, but for underflow.
        """
        out = torch.empty(len(rows))
        used = centroids.contiguous(), labels.contiguous()
        self.run("costs", Costs(Rows.of(rows), *(t.data_ptr() for t in (*used, out)), len(rows)), rows.numel())
        return out

    def total(self, values: Tensor) -> tuple[float, float, float]:
        """The sum of float64 (3, K): double-doubles, then plain; error at most K * 2**-103 of the third."""
        total = torch.empty(3, dtype=torch.float64)
        self.handle.dkm_total(*_pointers(*values), c_int64(values.shape[1]), *_pointers(total))
        high, low, size = total.tolist()
        return high, low, size

    def steps(self, was: Tensor, now: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
        """Of centroids (K, D): squared steps, scaled, float64 (K,), hashes after them, int64, and which moved, bool."""
        hashes, moved = torch.empty(len(now), dtype=torch.int64), torch.empty(len(now), dtype=torch.bool)
        return self._steps(was, None, now, scale, hashes, moved), hashes, moved

    def distances(self, rows: Tensor, centroids: Tensor, labels: Tensor, scale: float) -> Tensor:
        """Squared distances of rows (N, D) to the centroids of their int32 labels, scaled, float64 (N,)."""
        return self._steps(centroids, labels, rows, scale)

    def _steps(
        self,
        was: Tensor,
        which: Tensor | None,
        now: Tensor,
        scale: float,
        hashes: Tensor | None = None,
        moved: Tensor | None = None,
    ) -> Tensor:
        was, now = (t if t.stride(1) == 1 else t.contiguous() for t in (was, now))
        shift = torch.empty(len(now), dtype=torch.float64)
        scratch = torch.empty(threads(), 2 * now.shape[1], dtype=torch.float64)
        places = [None if t is None else t.data_ptr() for t in (which, shift, scratch, hashes, moved)]
        self.run("steps", Steps(Rows.of(was), Rows.of(now), *places, scale=scale, count=len(now)), 2 * now.numel())
        return shift

    def follow(self, was: Tensor, now: Tensor) -> Tensor:
        """Which rows of ``now`` (K, D) differ in any bit from ``was``, bool (K,); contiguous ``was`` becomes it."""
        moved = torch.empty(len(now), dtype=torch.bool)
        row, threads = now.shape[1] * now.element_size(), threads_for(now.numel() // 4)
        self.handle.dkm_follow(*_pointers(was, now, moved), c_int64(len(now)), c_int64(row), threads)
        return moved

    def blend(self, sums: Tensor, up: Tensor, old: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Means (K, D) of ``old`` with weights ``before`` (K,) and what the limb sums add; added weights (K,): float64.

        sums: (K, limbs, D + 1). up: float64 (limbs, D + 1), the units of the limbs. old: (K, D). before: float64.
        """
        count, dims = old.shape
        means, gained = torch.empty(count, dims, dtype=torch.float64), torch.empty(count, dtype=torch.float64)
        scratch = torch.empty(threads(), 2 * dims + 1, dtype=torch.float64)
        used = sums.contiguous(), up.contiguous(), before.contiguous()
        old = old.contiguous()
        inputs, outputs = ([t.data_ptr() for t in group] for group in (used, (means, gained, scratch)))
        self.run("blend", Blend(*inputs, Rows.of(old), *outputs, count=count, limbs=sums.shape[1]), sums.numel())
        return means, gained

    def merge(self, sums: Tensor, change: Tensor, touched: Tensor) -> None:
        """Add ``change`` (K, ...) to ``sums`` and mark in ``touched``, bool (K,), the clusters that it changes."""
        self.handle.dkm_merge(*_pointers(sums, change, touched), c_int64(len(sums)), c_int64(sums[0].numel()))

    def scramble(self, numbers: Tensor, words: tuple[int, int]) -> Tensor:
        """64 random bits of each number, int64: as ``exact.random.scramble``."""
        numbers = numbers.contiguous()
        bits, words_ = torch.empty_like(numbers), (c_uint64(word % (1 << 64)) for word in words)
        self.handle.dkm_scramble(*_pointers(numbers, bits), c_int64(numbers.numel()), *words_)
        return bits

    def sort(self, records: Tensor, into: Tensor, rank: Tensor) -> None:
        """Records (N, step) in the order of their labels' ranks, int32 (K,)."""
        places, step = _pointers(records, into), records.shape[1]
        threads = threads_for(records.numel())
        if self.handle.dkm_sort(*places, c_int64(len(records)), step, *_pointers(rank), len(rank), threads):
            raise MemoryError("no memory to sort the rows")

    def gather(self, rows: Tensor, records: Tensor, count: int, by: int) -> Tensor:
        """The first ``count`` rows in the order of their records, whose word ``by`` tells where they are."""
        into = torch.empty(count, rows.shape[1], dtype=rows.dtype)
        bytes_ = rows.element_size()
        stride, size = c_int64(rows.stride(0) * bytes_), c_int64(rows.shape[1] * bytes_)
        (source, target, at), step = _pointers(rows, into, records), records.shape[1]
        self.handle.dkm_gather(source, stride, target, size, at, c_int64(count), step, by, threads_for(into.numel()))
        return into

    def take_trial(self, task: Trial, best: int) -> None:
        """Take one of the centres that ``try`` has tried."""
        self.handle.dkm_take(ctypes.byref(task), best)

    def rows_at(self, task: Trial, places: list[int]) -> list[int]:
        """The rows that hold these places, of up to 127 bits, in the running sum of the task's masses."""
        halves = [half for place in places for half in (place % (1 << 64), place >> 64)]
        wanted, found = (c_uint64 * len(halves))(*halves), (c_int64 * len(places))()
        self.handle.dkm_find(ctypes.byref(task), wanted, c_int64(len(places)), found)
        return list(found)

    def take(self, rows: Tensor, which: Tensor, room: int | None = None) -> Tensor:
        """Rows ``which``, int64 (n,), of rows (N, D) with contiguous columns; (room, D), the rest open."""
        into = rows.new_empty(len(which) if room is None else room, rows.shape[1])
        stride, size = (c_int64(many * rows.element_size()) for many in (rows.stride(0), rows.shape[1]))
        source, at, target = _pointers(rows, which, into)
        self.handle.dkm_rows(source, stride, at, target, size, c_int64(len(which)), threads_for(into.numel()))
        return into

    def draw(self, records: Tensor, labels: Tensor, which: Tensor) -> Tensor:
        """Records (n, step), in blocks, of the rows ``which``, int64 (n,), with their int32 labels of (N,)."""
        count = len(which)
        into = self.take(records, which, -(-count // ROWS) * ROWS)
        into[:count, ID], into[:count, LABEL] = torch.arange(count), labels[which]
        if len(into) > count:
            into[count:] = 0
            into[count:, ID] = -1
        return into

    def bias(
        self, parts: tuple[Tensor, ...], numbers: tuple[float, ...], level: Tensor | None
    ) -> tuple[Tensor, float, float]:
        """int32 constants (K,) of centroids' heads, the largest reach, and the largest |h|^2 + 2 bias.

        parts: residue, size, square and own, (K,). numbers: unit, base, constant, largest, common. level: uint8 (K,).
        """
        bias, bounds = torch.empty(len(parts[0]), dtype=torch.int32), torch.empty(2, dtype=torch.float64)
        numbers_ = [c_double(number) for number in numbers]
        levels = c_void_p(None if level is None else level.data_ptr())
        self.handle.dkm_bias(*_pointers(*parts), c_int64(len(bias)), *numbers_, levels, *_pointers(bias, bounds))
        reach, gap = bounds.tolist()
        return bias, reach, gap

    def pack(self, heads: Tensor, bias: Tensor, order: Tensor) -> tuple[Tensor, Tensor]:
        """Heads int32 (K, words) and their constants (K,) as panels, in ``order``; -1 for padding."""
        words = heads.shape[1]
        panels = torch.empty(len(order), words, dtype=torch.int32)
        constants = torch.empty(len(order), dtype=torch.int32)
        inputs = _pointers(heads, bias, order)
        self.handle.dkm_pack(*inputs, c_int64(len(order)), words, *_pointers(panels, constants))
        return panels, constants


_own = threading.local()


def threads() -> int:
    """Of the kernels: as many as torch has, or had before ``small_steps``."""
    return getattr(_own, "threads", None) or torch.get_num_threads()


@contextlib.contextmanager
def small_steps(small: bool = True) -> Iterator[None]:
    """Within, if ``small``, torch works on one thread and the kernels on as many as before.

    For many operations on small tensors: to wake other threads for each costs more than they save.
    """
    before = torch.get_num_threads()
    if not small or before == 1:
        yield
        return
    _own.threads = before
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _own.threads = None


def whole_vectors(words: int) -> int:
    """So many, up to whole VECTORs."""
    return -(-words // VECTOR) * VECTOR


def threads_for(work: int) -> int:
    return max(1, min(threads(), work // GRAIN))


def _pointers(*tensors: Tensor) -> Iterable[c_void_p]:
    return [c_void_p(tensor.data_ptr()) for tensor in tensors]


@functools.cache
def _opened() -> tuple[ctypes.CDLL | None, str]:
    """The library, or why there is none."""
    files = sorted(Path(__file__).parent.glob("_kernels*.so"), key=lambda path: path.stat().st_mtime, reverse=True)
    if not files:
        return None, "not built"
    try:
        handle = ctypes.CDLL(str(files[0]))
    except OSError as error:
        return None, str(error)
    handle.dkm_variant_name.restype = ctypes.c_char_p
    handle.dkm_size.restype = handle.dkm_tally.restype = c_int64
    if [handle.dkm_size(index) for index in range(len(STRUCTURES))] != [ctypes.sizeof(s) for s in STRUCTURES]:
        return None, "built from another version: build it anew"
    _share_threads(handle)
    return handle, ""


def _share_threads(handle: ctypes.CDLL) -> None:
    """Let the kernels run on torch's own OpenMP threads, where it brings GNU's; else they start threads per call."""
    try:
        mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libgomp" in line}
    except OSError:
        return
    torchs = [path for path in mapped if Path(torch.__file__).parent in Path(path).parents] or sorted(mapped)
    if len(torchs) == 1:
        openmp = ctypes.CDLL(torchs[0])
        names = "GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads"
        handle.dkm_use_pool(*(ctypes.cast(getattr(openmp, name), c_void_p) for name in names))


def library() -> Library | None:
    """The kernels for this processor, None where there are none. Raises InputError for a choice it cannot run."""
    return _chosen(os.environ.get(CHOICE, "auto"))


@functools.cache
def _chosen(choice: str) -> Library | None:
    handle, able = _opened()[0], variants()
    if choice == "off" or handle is None:
        return None
    if choice not in ("auto", *able):
        raise InputError(f"{CHOICE}={choice}: this processor runs {', '.join(able)}; or off")
    name = next(iter(able)) if choice == "auto" else choice
    return Library(handle, able[name], name)


def variants() -> dict[str, int]:
    """The instruction sets that this processor can run, best first, with their numbers."""
    handle, _ = _opened()
    if handle is None:
        return {}
    found = range(handle.dkm_variants())
    return {handle.dkm_variant_name(v).decode(): v for v in found if handle.dkm_variant_runs(v)}


def library_for(*tensors: Tensor) -> Library | None:
    """The kernels, where all of these are on the CPU."""
    return library() if all(tensor.device.type == "cpu" for tensor in tensors) else None


def why_not() -> str:
    """Why there are no compiled kernels."""
    return "switched off" if os.environ.get(CHOICE) == "off" else _opened()[1]
