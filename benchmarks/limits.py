"""The limits of this machine: matrix products, copies, and the all-reduce between two local ranks over gloo.

    python benchmarks/limits.py [--threads 2]

Products are (M, D) times (D, K), in operations (multiplications and additions) per second; int8 is torch._int_mm, with
int32 results. Copies count bytes read plus bytes written. An all-reduce's rate is that of its packet: bytes / seconds.
"""

from __future__ import annotations

from argparse import Namespace

import torch

import machine
import tables
from ranks import launch, link_of

SIZES = ["8192x64x256", "8192x128x1024", "8192x384x1024", "8192x768x1024"]
TYPES = [torch.float32, torch.bfloat16, torch.int8]
COPY_BYTES = [1 << 18, 1 << 22, 1 << 28]
PACKET_BYTES = [8, 1 << 14, 1 << 18, 1 << 22, 1 << 25]


def options() -> Namespace:
    parser = tables.arguments(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", nargs="*", default=SIZES, help="MxDxK of products")
    parser.add_argument("--copy", nargs="*", type=int, default=COPY_BYTES, help="bytes")
    parser.add_argument("--packet", nargs="*", type=int, default=PACKET_BYTES, help="bytes of an all-reduce")
    return parser.parse_args()


def main() -> None:
    given = options()
    machine.restart_with(given.threads)
    table = tables.Table(["what", "type", "size", "rate", "unit", "of float32"], machine.described())
    table.head()
    for size in given.size:
        rates = {kind: machine.product_rate(kind, shape(size)) / 1e9 for kind in TYPES}
        for kind, rate in rates.items():
            table.add("product", name(kind), size, rate, "Gop/s", rate / rates[torch.float32])
    for count in given.copy:
        table.add("copy", "bytes", str(count), machine.copy_rate(count) / 1e9, "GB/s", None)
    packets = launch(2, 1, [{"kind": "reduce", "bytes": count} for count in given.packet])
    for packet in packets:
        microseconds, rate = packet["seconds"] * 1e6, packet["bytes"] / packet["seconds"] / 1e9
        table.add("all-reduce of 2", "int64", str(packet["bytes"]), microseconds, "us", None)
        table.add("all-reduce of 2", "int64", str(packet["bytes"]), rate, "GB/s", None)
    link = link_of(packets)
    table.add("link, fitted", "latency", "-", link.latency * 1e6, "us", None)
    table.add("link, fitted", "bandwidth", "-", link.bandwidth / 1e9, "GB/s", None)
    table.write(given.out / "limits.csv")
    products = table.column("rate", "what", "product")
    series = {name(kind): products[place :: len(TYPES)] for place, kind in enumerate(TYPES)}
    tables.bars(given.out / "limits.png", "Matrix products", "Gop/s", given.size, series)


def shape(size: str) -> tuple[int, int, int]:
    m, d, k = map(int, size.split("x"))
    return m, d, k


def name(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")


if __name__ == "__main__":
    main()
