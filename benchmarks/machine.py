"""What this machine is, and how fast it multiplies, copies and reduces: the limits that no iteration can beat."""

from __future__ import annotations

import datetime
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits

import distkmeans

FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "sve")
LOAD = os.getloadavg()[0]
"""Of the minute before this process began: what else runs here."""
TIMED_SECONDS = 0.3
"""How long a rate is measured, at least."""


def described(device: str = "cpu") -> str:
    """One line: date, processor with the features that matter here, cores, load, threads, versions, card."""
    model, flags = _processor()
    features = " ".join(name for name in FEATURES if name in flags) or "no vector features known"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [datetime.date.today().isoformat(), f"{model} ({features})", f"{cores} cores"]
    parts += [
        f"load {LOAD:.1f}",
        f"{torch.get_num_threads()} threads",
        f"torch {torch.__version__}",
        f"distkmeans {distkmeans.__version__}",
    ]
    if device.startswith("cuda"):
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def _processor() -> tuple[str, set[str]]:
    """Model and flags, as Linux tells them; elsewhere what Python knows."""
    try:
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    except OSError:
        return platform.processor() or platform.machine(), set()
    told = {name.strip(): value.strip() for name, _, value in reversed(lines)}
    return told.get("model name", platform.machine()), set(told.get("flags", told.get("Features", "")).split())


def environment(threads: int) -> dict[str, str]:
    """What a process with so many threads has in its environment.

    Threads that wait sleep, instead of spinning: the contenders of one process would take each other's cores. Whoever
    sets OMP_WAIT_POLICY has the last word.
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"), **dict.fromkeys(names, str(threads))}


def restart_with(threads: int) -> None:
    """Start this script again in that environment, which libraries read once, when they are loaded."""
    wanted = environment(threads)
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})
    use_threads(threads)


def use_threads(threads: int) -> None:
    """So many threads for torch and for every pool that is loaded by now: OpenMP's and the BLAS libraries'."""
    torch.set_num_threads(threads)
    threadpool_limits(threads)


def foreign_seconds() -> float:
    """CPU seconds that others have used since the machine started: all but this process's and its children's."""
    own = sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    try:
        times = [int(word) for word in Path("/proc/stat").read_text().split(None, 9)[1:9]]
    except OSError:
        return 0.0
    idle, waiting = times[3:5]
    return (sum(times) - idle - waiting) / os.sysconf("SC_CLK_TCK") - own


def seconds_of(work: Callable[[], object], device: str = "cpu", at_least: float = TIMED_SECONDS) -> float:
    """Median seconds of ``work``, after one call that is not counted; five calls or more, for ``at_least`` seconds."""
    work()
    times: list[float] = []
    end = time.perf_counter() + at_least
    while len(times) < 5 or time.perf_counter() < end:
        settle(device)
        begin = time.perf_counter()
        work()
        settle(device)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def settle(device: str) -> None:
    """Wait for what a card still has to do."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def product_rate(dtype: torch.dtype, size: tuple[int, int, int], device: str = "cpu") -> float:
    """Operations (multiplications and additions) per second of (M, D) times (D, K); int8 by torch._int_mm."""
    m, d, k = size
    if dtype == torch.int8:
        left = torch.randint(-127, 128, (m, d), dtype=dtype, device=device)
        right = torch.randint(-127, 128, (k, d), dtype=dtype, device=device).t()
        seconds = seconds_of(lambda: torch._int_mm(left, right), device)
    else:
        left, right = torch.randn(m, d, device=device).to(dtype), torch.randn(d, k, device=device).to(dtype)
        out = torch.empty(m, k, dtype=dtype, device=device)
        seconds = seconds_of(lambda: torch.mm(left, right, out=out), device)
    return 2 * m * d * k / seconds


def copy_rate(size: int, device: str = "cpu") -> float:
    """Bytes per second, read plus written, of a copy of ``size`` bytes."""
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * size / seconds_of(lambda: target.copy_(source), device)
