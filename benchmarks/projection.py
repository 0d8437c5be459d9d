"""Check the model of cost on this machine, then project it to GPUs. A projection is a model, not a measurement.

    python benchmarks/projection.py [--case 100000x128x1024] [--project 1000000000x128x65536] [--product-tflops 67] ...

The model (distkmeans/cost_model.py) is calibrated here: iterations of one rank over an eighth and over half of the rows
of --case, and over a few rows with eight times the clusters; a copy of memory; all-reduces of two ranks, of nothing and
of an iteration's packet. Then it is held to iterations of other numbers of rows and ranks, which should lie within 25
%. More ranks than cores wait for each other's time slices, and so they do where other programs use the cores: there, no
verdict is given.

Last, it is carried to cards of which the rates are assumed, on the command line: published peaks of an H100 SXM
(float32 outside of tensor cores, memory, NVLink each way) and a 400 Gbit/s network card each. What the kernel here
reaches of this machine's matrix product is taken to hold there too, unless --share says otherwise; so are the passes
over the sums, the share of rows that move and that of pairs that are compared. So choose a --case that is like the rows
of the job.
"""

from __future__ import annotations

import os
import time
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

import machine
import tables
from cases import rows_of
from distkmeans.cost_model import Link, Rates, Sample, Size, calibrated, predicted
from ranks import launch, link_of
from scaling import job

CHECKS = ["ranks", "rows", "D", "K", "measured ms", "model ms", "model / measured"]
CHECKS += ["cores of others", "within 25 %"]
PROJECTED = ["GPUs", "rows each", "D", "K", "labels ms", "sums ms", "centroids ms", "all-reduce ms", "overhead ms"]
PROJECTED += ["total ms", "efficiency"]
COPY_BYTES = 1 << 26
DISTURBED = 0.05
"""Share of the cores that other programs may use beyond what the ranks leave."""


def options() -> Namespace:
    parser = tables.arguments(__doc__)
    parser.add_argument("--case", default="100000x128x1024", help="rows to calibrate and check with")
    parser.add_argument("--ranks", nargs="*", type=int, default=[1, 2, 4], help="to check with")
    parser.add_argument("--threads", type=int, default=1, help="of each rank")
    parser.add_argument("--iterations", type=int, default=12)
    parser.add_argument("--turns", type=int, default=3, help="of which the median counts")
    parser.add_argument("--seed", type=int, default=0, help="of the first centroids")
    cards = parser.add_argument_group("assumptions of the projection")
    cards.add_argument("--project", default="1000000000x128x65536", help="ROWSxCOLUMNSxK of the job")
    cards.add_argument("--gpus", nargs="*", type=int, default=[8, 64, 1024])
    cards.add_argument("--product-tflops", type=float, default=67, help="a card's matrix product (H100 SXM, float32)")
    cards.add_argument("--copy-tb-s", type=float, default=3.35, help="a card's memory, read plus written (H100 SXM)")
    cards.add_argument("--node-link-gb-s", type=float, default=450, help="between cards of a node, each way (NVLink)")
    cards.add_argument("--link-gb-s", type=float, default=50, help="between nodes, per card, each way (400 Gbit/s)")
    cards.add_argument("--node-size", type=int, default=8, help="cards of a node")
    cards.add_argument("--latency-us", type=float, default=5, help="of a step of the all-reduce")
    cards.add_argument("--overhead-ms", type=float, default=2, help="of an iteration, for starting kernels")
    cards.add_argument("--share", type=float, help="row x centroid x column per operation of the product")
    return parser.parse_args()


def size_of(found: dict[str, Any], ranks: int) -> Size:
    rows, dims, clusters, limbs = found["shape"]
    return Size(rows, dims, clusters, ranks, limbs, moved=found["moved"], compared=found["compared"])


def calibrate(given: Namespace, total: int, k: int) -> tuple[Rates, Link, Size]:
    """Rates of a rank here, the link between ranks, and the larger sample."""
    jobs = [job(given, total // 8), job(given, total // 2), job(given, min(total, 32 * k), 8 * k)]
    found = in_turns(given, 1, jobs)
    few, many, wide = (Sample(size_of(job, 1), job["seconds"]) for job in found)
    rates = calibrated(few, many, wide, machine.copy_rate(COPY_BYTES))
    packets = [{"kind": "reduce", "bytes": count} for count in (8, many.size.packet_bytes)]
    return rates, link_of(launch(2, 1, packets)), many.size


def in_turns(given: Namespace, ranks: int, jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each job, the turn of median seconds."""
    turns = launch(ranks, given.threads, list(jobs) * given.turns)
    each = [sorted(turns[at :: len(jobs)], key=lambda found: found["seconds"]) for at in range(len(jobs))]
    return [found[len(found) // 2] for found in each]


def check(given: Namespace, total: int, rates: Rates, link: Link) -> tables.Table:
    """Iterations of other rows and ranks than those of the calibration, against the model."""
    table = tables.Table(CHECKS, f"{machine.described()} per rank; the model against measured iterations")
    table.head()
    cores = len(os.sched_getaffinity(0))
    for ranks in given.ranks:
        begin, others = time.perf_counter(), machine.foreign_seconds()
        measured = in_turns(given, ranks, [job(given, rows) for rows in (total, total // 4)])
        others = (machine.foreign_seconds() - others) / (time.perf_counter() - begin)
        crowd = ranks * given.threads / cores
        for found in measured:
            size = size_of(found, ranks)
            spent = predicted(size, rates, link)
            model = max(1.0, crowd) * (spent.total - spent.reduce) + spent.reduce
            ratio = model / found["seconds"]
            cells = [size.rows, size.dims, size.clusters, found["seconds"] * 1e3, model * 1e3, ratio]
            table.add(ranks, *cells, others, verdict(ratio, crowd, others / cores))
    return table


def verdict(ratio: float, crowd: float, others: float) -> str:
    """crowd, others: the share of the cores that the ranks ask for, and that other programs used meanwhile."""
    if crowd > 1:
        return "more ranks than cores"
    if min(crowd, 1.0) + others > 1 + DISTURBED:
        return "others used the cores"
    return "yes" if 0.75 <= ratio <= 1.25 else "no"


def project(given: Namespace, here: Rates, sample: Size) -> tables.Table:
    """The table for cards."""
    shape = (4096, sample.dims, sample.clusters)
    share = given.share or here.assign / machine.product_rate(torch.float32, shape)
    copy = given.copy_tb_s * 1e12
    rates = Rates(share * given.product_tflops * 1e12, copy, here.passes, given.overhead_ms / 1e3)
    rows, dims, clusters = map(int, given.project.split("x"))
    table = tables.Table(PROJECTED, _assumed(given, share, here, sample))
    table.head()
    for count in given.gpus:
        size = replace(sample, rows=rows, dims=dims, clusters=clusters, ranks=count)
        spent = predicted(size, rates, _ring(given, count))
        first = table.rows[0] if table.rows else None
        ms = [1e3 * part for part in (spent.assign, spent.update, spent.centroids, spent.reduce, spent.overhead)]
        total = 1e3 * spent.total
        efficiency = first[9] / total * first[0] / count if first else 1.0
        table.add(count, round(size.own_rows), dims, clusters, *ms, total, efficiency)
    return table


def _ring(given: Namespace, ranks: int) -> Link:
    """A ring is as fast as its slowest link."""
    slowest = given.node_link_gb_s if ranks <= given.node_size else min(given.link_gb_s, given.node_link_gb_s)
    return Link(slowest * 1e9, given.latency_us / 1e6)


def _assumed(given: Namespace, share: float, here: Rates, sample: Size) -> str:
    source = "given" if given.share else "measured here"
    return (
        f"PROJECTION: a model, not a measurement. Assumed per card: {given.product_tflops:g} TFLOP/s,"
        f" {given.copy_tb_s:g} TB/s, {given.node_link_gb_s:g} GB/s within {given.node_size} cards and"
        f" {given.link_gb_s:g} GB/s beyond, {given.latency_us:g} us a step, {given.overhead_ms:g} ms overhead;"
        f" {share:.3g} row x centroid x column per operation ({source}), {here.passes:.3g} passes over the sums and"
        f" {sample.moved:.3g} of the rows moved, {sample.compared:.3g} of the pairs compared (measured here)"
    )


def main() -> None:
    given = options()
    machine.restart_with(given.threads)
    _, x, k = rows_of(given.case)
    total = len(x)
    rates, link, sample = calibrate(given, total, k)
    print(f"calibrated: {rates}, {link}")
    check(given, total, rates, link).write(given.out / "projection_check.csv")
    table = project(given, rates, sample)
    table.write(given.out / "projection.csv")
    names = [name.removesuffix(" ms") for name in PROJECTED if name.endswith(" ms")]
    series = {name: table.column(f"{name} ms") for name in names}
    title = f"Projected (a model, not a measurement): {given.project}"
    tables.lines(given.out / "projection.png", title, ("GPUs", "ms per iteration"), given.gpus, series)


if __name__ == "__main__":
    main()
