"""What a run needs, known from its settings: bytes of memory per rank, and passes over the rows."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from distkmeans import native
from distkmeans.cost_model import Size
from distkmeans.evaluate import chosen
from distkmeans.init.lattice import FRUGAL_ROWS
from distkmeans.init.plus_plus import trials
from distkmeans.init.potential import KEPT_ELEMENTS, KEPT_FRUGAL, TILE_ROWS
from distkmeans.kernels.choose import LONGEST
from distkmeans.kernels.dense import automatic_tile
from distkmeans.metrics import Geometry
from distkmeans.problem import Problem
from distkmeans.settings import Settings
from distkmeans.solvers.labelling import chunk_rows
from distkmeans.solvers.lloyd import Lloyd, label_type
from distkmeans.solvers.minibatch import MiniBatch

PROCESS_BYTES = 330 << 20
"""A process that has loaded torch, before it reads a row (torch 2.13, CPU)."""
GEOMETRY_BYTES = 32
"""Of a row with a metric that brings its own steps: costs, and labels as they are moved (solvers/alternating.py)."""
UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


@dataclass(frozen=True)
class Memory:
    """Bytes at the peak, of one rank. stored: of a row as it is read. dtype: its type's name.

    packet: of the all-reduce of an iteration.
    """

    rows: int
    seeding: int
    solving: int
    stored: int
    dtype: str
    packet: int

    @property
    def total(self) -> int:
        return PROCESS_BYTES + self.rows + max(self.seeding, self.solving)

    def told(self) -> str:
        return (
            f"rows {bytes_told(self.rows)}, seeding {bytes_told(self.seeding)}, then solving"
            f" {bytes_told(self.solving)}, and the process itself"
        )


def memory_of(settings: Settings, total: int, ranks: int, stored: torch.dtype, problem: Problem) -> Memory:
    """The peak of the rank with the most of ``total`` rows. problem: a sample's, for its types and limbs."""
    rows, dims, k = -(-total // ranks), problem.shard.dims, settings.general.k
    as_read = dims * stored.itemsize
    as_seen = (
        0
        if problem.shard.rows.dtype == stored and settings.transform.name == "none"
        else dims * (problem.shard.rows.dtype.itemsize)
    )
    size = Size(total, dims, k, ranks, problem.grid.limbs)
    scores = min(rows, automatic_tile(k)) * k * 4
    labels = rows * label_type(k).itemsize
    headed = rows if isinstance(settings.plan.solver, (Lloyd, MiniBatch)) else min(rows, chunk_rows(dims))
    heads = headed * head_bytes(settings, dims, stored)
    weights = 0 if problem.shard.weights is None else rows * problem.shard.weights.dtype.itemsize
    return Memory(
        rows=rows * (as_read + as_seen) + weights,
        seeding=_seeding_bytes(settings, rows, dims, k),
        solving=2 * labels + 9 * rows + heads + 4 * size.sums_bytes + scores,
        stored=as_read,
        dtype=str(stored).removeprefix("torch."),
        packet=size.packet_bytes,
    )


def head_bytes(settings: Settings, dims: int, stored: torch.dtype) -> int:
    """Of a row's head at most, and of its copy while heads are sorted: kernels/pruned.py."""
    if isinstance(settings.metric, Geometry):
        return GEOMETRY_BYTES
    if settings.frugal or stored == torch.float64:
        return 0
    return 2 * 4 * (native.HEADER + 1 + -(-min(dims, LONGEST) // 4))


def _seeding_bytes(settings: Settings, rows: int, dims: int, k: int) -> int:
    """Of the potential of k-means++ and k-means||: rows on its grid in float32, and what is known of each row.

    Squares, levels, nearest centres, their distances and row numbers are 32 bytes. On top come, for k-means++, scores
    and the open rows of a round, and for k-means|| the labels, lengths and scores of the assignment of its rounds.
    """
    seeding = settings.plan.seeding
    name = settings.given["init"]["name"]
    if name not in ("plus_plus", "parallel"):
        return rows * 16 if seeding.draws else 0
    taken = min(rows, getattr(seeding, "sample", None) or rows)
    on_grid = 0 if settings.frugal or isinstance(settings.metric, Geometry) else 4 * dims
    potential = taken * (on_grid + 32)
    if name == "plus_plus":
        scores = min(taken, FRUGAL_ROWS if settings.frugal else TILE_ROWS) * 4 * (trials(k) + 1)
        kept = KEPT_FRUGAL if settings.frugal else KEPT_ELEMENTS
        return potential + scores + min(taken, kept // trials(k)) * 8 * (trials(k) + 1)
    drawn = max(1, int(getattr(seeding, "oversampling", 1) * k))
    return potential + taken * 8 + min(taken, automatic_tile(drawn)) * drawn * 4


def passes_of(settings: Settings, total: int) -> list[tuple[str, str]]:
    """Phases of a run, and how often each goes over the rows."""
    transform = {"none": 0, "normalize": 2}.get(settings.transform.name, 3)
    statistics = 2 + 2 * (settings.given["metric"]["name"] == "cosine")
    most = getattr(settings.plan.solver, "max_iter", None)
    phases = [("read", "1"), ("transform", str(transform)), ("statistics", str(statistics))]
    phases += [("seeding", _seeding_passes(settings, total))]
    phases += [("iterations", f"at most {most:,}" if most else "as many as the solver needs"), ("last labels", "1")]
    times = settings.general.n_init if settings.plan.seeding.draws else 1
    if times > 1:
        phases += [("from seeding on", f"{times} times")]
    phases += _score_passes(settings)
    return [(name, count) for name, count in phases if count != "0"]


def _score_passes(settings: Settings) -> list[tuple[str, str]]:
    names = set(chosen(settings.general.evaluate, truth=True))
    moments = bool(names & {"davies_bouldin", "calinski_harabasz"})
    phases = [("scores", str(2 * moments + ("simplified_silhouette" in names)))]
    return phases + [("stability", f"{settings.scores.stability_seeds} fits more")] * ("stability" in names)


def _seeding_passes(settings: Settings, total: int) -> str:
    seeding, k = settings.plan.seeding, settings.general.k
    sample = getattr(seeding, "sample", None)
    count = {"plus_plus": k, "parallel": getattr(seeding, "rounds", 0) + 1, "random": 1}.get(
        settings.given["init"]["name"], 1 if seeding.draws else 0
    )
    return f"{count:,} over {sample:,} rows" if sample and sample < total else f"{count:,}"


def bytes_told(count: float) -> str:
    """12.3 MB: three digits, powers of 1,000."""
    place = 0
    while count >= 999.5 and place < len(UNITS) - 1:
        count, place = count / 1000, place + 1
    return f"{count:.0f} {UNITS[place]}" if place == 0 or count >= 99.5 else f"{count:.3g} {UNITS[place]}"


def seconds_told(seconds: float) -> str:
    """1.5 ms, 12 s, 3.4 min, 5.6 h or 2.1 days."""
    for limit, unit, name in ((1, 1e-3, "ms"), (120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds / 86400:.3g} days"
