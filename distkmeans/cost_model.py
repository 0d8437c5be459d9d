"""A model of the seconds of a Lloyd iteration, for sizes, ranks and machines that are not at hand.

An iteration over N rows of D columns, K clusters and W ranks, without the first (which adds up all rows):

    seconds =  N/W * compared * K * D / assign             labels: rows against centroids
             + N/W * (8 + moved * D * (b + 32 L)) / copy   labels compared; rows that moved read, added up twice
             + passes * 8 L K (D + 1) / copy               means and inertia, from the sums, alike on every rank
             + steps * latency + share * packet / bandwidth           the one all-reduce, of two ranks and more
             + 4 * packet / copy                                      its packet cleared, and added to the sums
             + overhead                                    what does not depend on sizes

    packet  =  8 (L K (D + 1) + K + 3 + W)  bytes: limbs of the sums, counts, counters, a checksum per rank

with L limbs of 8 bytes per sum, b bytes of a value as stored, the share of rows that ``moved``, and the share of pairs
that were ``compared``, as whole clusters come to rest: the sooner, the fewer rows they have. A sum is read and
written, 2 * 8 bytes per limb, in the old and in the new cluster: 32 L. A ring all-reduce takes 2 (W - 1) steps, in each
of which a rank sends 1/W of the packet, so its share is 2 (W - 1) / W.

``assign`` is not the peak of a processor: kernels prune pair by pair, which depends on the rows. So it is calibrated,
with ``passes`` and ``overhead``, from iterations timed on samples of the same rows (``calibrated``). What comes out is
an estimate. It knows nothing of ranks that wait for one another: skew is not in it, nor are more ranks than cores.
"""

from __future__ import annotations

from dataclasses import dataclass

WORD = 8
"""Bytes of an integer in the sums."""


@dataclass(frozen=True)
class Size:
    """Of a job. limbs: of the sums. value_bytes: of a value as stored. moved: share of rows that change cluster.

    compared: share of the pairs of rows and centroids that are not passed over a whole panel of centroids at a time.
    """

    rows: int
    dims: int
    clusters: int
    ranks: int = 1
    limbs: int = 2
    value_bytes: int = 4
    moved: float = 0.0
    compared: float = 1.0

    @property
    def own_rows(self) -> float:
        return self.rows / self.ranks

    @property
    def products(self) -> float:
        """Of a row's and a centroid's value, of one rank."""
        return self.own_rows * self.compared * self.clusters * self.dims

    @property
    def sums_bytes(self) -> int:
        return WORD * self.limbs * self.clusters * (self.dims + 1)

    @property
    def packet_bytes(self) -> int:
        """What the all-reduce of an iteration carries."""
        return self.sums_bytes + WORD * (self.clusters + 3 + self.ranks)

    @property
    def update_bytes(self) -> float:
        """Bytes per row that the update of the sums reads and writes."""
        return 2 * 4 + self.moved * self.dims * (self.value_bytes + 4 * WORD * self.limbs)


@dataclass(frozen=True)
class Link:
    """Between neighbours in the ring. bandwidth: bytes per second, each way. latency: seconds per step."""

    bandwidth: float
    latency: float

    def seconds(self, size: Size) -> float:
        """Of a ring all-reduce; 0 for one rank."""
        steps = 2 * (size.ranks - 1)
        return steps * self.latency + steps / size.ranks * size.packet_bytes / self.bandwidth


@dataclass(frozen=True)
class Rates:
    """Of one rank. assign: row x centroid x column per second. copy: bytes per second, read plus written.

    passes: over the sums, for means and inertia. overhead: seconds per iteration.
    """

    assign: float
    copy: float
    passes: float
    overhead: float = 0.0


@dataclass(frozen=True)
class Iteration:
    """Seconds of an iteration, by what they are spent on."""

    assign: float
    update: float
    centroids: float
    reduce: float
    overhead: float

    @property
    def total(self) -> float:
        return self.assign + self.update + self.centroids + self.reduce + self.overhead


@dataclass(frozen=True)
class Sample:
    """An iteration that was timed, of one rank."""

    size: Size
    seconds: float


def predicted(size: Size, rates: Rates, link: Link) -> Iteration:
    """The model above."""
    return Iteration(
        assign=size.products / rates.assign,
        update=size.own_rows * size.update_bytes / rates.copy,
        centroids=rates.passes * size.sums_bytes / rates.copy,
        reduce=link.seconds(size) + (4 * size.packet_bytes / rates.copy if size.ranks > 1 else 0),
        overhead=rates.overhead,
    )


def calibrated(few: Sample, many: Sample, wide: Sample, copy: float) -> Rates:
    """Rates from three samples, at ``copy`` bytes per second. few, many: differ in rows; wide: has more clusters.

    What grows with the rows is assignment and update. Of the rest, what grows with the clusters is the centroids'.
    Raises ValueError where more rows took no longer.
    """
    seconds = many.seconds - few.seconds
    if seconds <= 0:
        raise ValueError(f"{many.size.rows} rows took no longer than {few.size.rows}: time more rows")
    updates = [sample.size.rows * sample.size.update_bytes for sample in (few, many)]
    seconds = max(seconds - (updates[1] - updates[0]) / copy, seconds / 100)
    rates = Rates((many.size.products - few.size.products) / seconds, copy, 0.0)
    less, more = (sample.seconds - predicted(sample.size, rates, Link(1, 0)).total for sample in (many, wide))
    passes = max(0.0, more - less) * copy / (wide.size.sums_bytes - many.size.sums_bytes)
    overhead = max(0.0, less - passes * many.size.sums_bytes / copy)
    return Rates(rates.assign, copy, passes, overhead)
