"""The ranks of a job and what they say to each other. The only file of the job that names torch.distributed."""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor

from distkmeans.errors import InputError, RankLostError, WorldError, share
from distkmeans.launcher import Place, is_rank_zero, place
from distkmeans.roll_call import RollCall
from distkmeans.schema import check_value

log = logging.getLogger("distkmeans")

Device = Literal["auto", "cpu", "cuda"]

TIMEOUT_S = 600.0
"""How long a collective waits for ranks that hang. A rank that died is noticed at once."""
MEETING_S = 60.0
"""How long tasks that srun started wait for each other to come up."""
ARRIVAL_S = 15.0
"""How long ranks wait for each other to fail in the same place."""


@dataclass
class World:
    """W ranks, of which this process is ``rank``. A world of one runs the same code without a process group.

    Every method but ``part`` and ``guard``'s body is a collective: all ranks call it, in the same order.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    reductions: int = 0
    _owns_group: bool = False
    _arrivals: int = 0
    _roll: RollCall | None = None

    def sum_(self, values: Tensor) -> Tensor:
        """Sum over ranks, in place. Exact and the same on every rank for integers."""
        return self._reduce(values, "SUM")

    def max_(self, values: Tensor) -> Tensor:
        """Maximum over ranks, in place."""
        return self._reduce(values, "MAX")

    def _reduce(self, values: Tensor, operation: str) -> Tensor:
        self.reductions += 1
        if self.size > 1:
            with self._watched():
                dist.all_reduce(values, getattr(dist.ReduceOp, operation))
        return values

    def per_rank(self, values: Tensor) -> Tensor:
        """Every rank's (...) tensor of one shape, stacked: (W, ...)."""
        slots = values.new_zeros((self.size, *values.shape))
        slots[self.rank] = values
        return self.sum_(slots)

    def part(self, total: int, rank: int | None = None) -> tuple[int, int]:
        """Where the even, contiguous part of this rank, or of another, begins and ends. No collective."""
        rank = self.rank if rank is None else rank
        return total * rank // self.size, total * (rank + 1) // self.size

    def concat(self, values: Tensor) -> Tensor:
        """Every rank's (n_r, ...) tensor, joined in rank order."""
        counts = self.per_rank(torch.tensor(len(values), device=values.device)).tolist()
        joined = values.new_zeros((sum(counts), *values.shape[1:]))
        start = sum(counts[: self.rank])
        joined[start : start + len(values)] = values
        return self.sum_(joined)

    def share(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        box = [value]
        if self.size > 1:
            with self._watched():
                dist.broadcast_object_list(box, src=0)
        return box[0]

    def collect(self, value: Any) -> list[Any]:
        """The values of all ranks, in rank order."""
        everyone: list[Any] = [value] * self.size
        if self.size > 1:
            with self._watched():
                dist.all_gather_object(everyone, value)
        return everyone

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        """Local work, with no collective inside: where it fails on any rank, every rank raises the same error."""
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
        # on the CPU where that can be said there: a rank whose device is the failure has no other
        flag = torch.tensor(int(failure is not None), device="cpu" if self._owns_group else self.device)
        if self.sum_(flag).item():
            self.raise_together(failure)

    def raise_together(self, failure: Exception | None) -> None:
        """Raise, on every rank, the error of the lowest rank that has one. All ranks call this or none."""
        mine = None if failure is None else (isinstance(failure, InputError), str(failure), type(failure).__name__)
        told = [(rank, error) for rank, error in enumerate(self.collect(mine)) if error is not None]
        rank, (is_input, text, kind) = told[0]
        if failure is not None and self.rank == rank:
            share(failure)
            raise failure
        raise InputError(text) if is_input else WorldError(f"rank {rank} failed: {kind}: {text}")

    def all_arrive(self) -> bool:
        """Whether every rank calls this within ARRIVAL_S: after an error outside ``guard``, can all go on together?

        Said by way of the key-value store, as a rank may still be waiting in some collective. No collective itself.
        """
        if self.size == 1:
            return True
        self._arrivals += 1
        keys = [f"distkmeans/arrival/{self._arrivals}/{rank}" for rank in range(self.size)]
        end = time.monotonic() + ARRIVAL_S
        try:
            store = _store()
            store.set(keys[self.rank], "1")
            while not (all_here := store.check(keys)) and time.monotonic() < end:
                time.sleep(0.05)
        except (RuntimeError, ValueError):
            return False
        return bool(all_here)

    def agree(self, what: str, value: str, remedy: str) -> None:
        """Raise on every rank, naming those that differ, unless all ranks hold the same ``value``."""
        values = self.collect(value)
        different = [rank for rank, other in enumerate(values) if other != values[0]]
        if different:
            ranks = ", ".join(map(str, different))
            raise WorldError(
                f"{what} differs between ranks: rank 0 has {values[0]}, rank {different[0]} has"
                f" {values[different[0]]} (ranks that differ from rank 0: {ranks}); {remedy}"
            )

    @property
    def speaks(self) -> bool:
        """Whether this rank tells the user what all ranks know."""
        return self.rank == 0

    def warn(self, text: str) -> None:
        """Tell the user something, once for all ranks. No collective."""
        if self.rank == 0:
            log.warning(text)

    def tell(self, text: str) -> None:
        """Log something, once for all ranks. No collective."""
        if self.rank == 0:
            log.info(text)

    def alone(self) -> World:
        """A world of this rank alone, for work that every rank repeats on the same data."""
        return World(device=self.device)

    def close(self) -> None:
        """Leave the job and, if this world opened it and it holds cards, the process group.

        Gloo's is left to the end of the process: leaving it can hang (seen with torch 2.4.1) when other ranks are gone.
        """
        if self._roll:
            self._roll.leave()
        if self._owns_group and self.device.type == "cuda" and dist.is_initialized():
            dist.destroy_process_group()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            mine = place()
            roll = self._roll or RollCall(_store(), self.rank, self.size)
            missing, speaks = roll.call(mine is None or mine.local_rank == 0)
            who = f"rank {', '.join(map(str, missing))} is gone" if missing else "the connection broke or timed out"
            text = f"{who}: {str(error).splitlines()[0]}; see that rank's own output"
            raise RankLostError(text, speaks=speaks) from error


def join(device: str = "auto") -> World:
    """This process's world: torchrun's or Slurm's, or a world of one where neither started it.

    device: auto (CUDA where there is a card for each local rank), cpu or cuda. Raises InputError for a device that
    is not there, on all ranks if it is missing on one, and RankLostError where the other ranks cannot be reached.
    """
    mine = place()
    if dist.is_available() and dist.is_initialized():
        local = mine or Place(0, 1)
        chosen = pick_device(device, local.local_rank, local.local_size)
        return World(dist.get_rank(), dist.get_world_size(), chosen)
    if mine is None:
        return World(device=pick_device(device))
    failure = None
    try:
        chosen = pick_device(device, mine.local_rank, mine.local_size)
    except InputError as error:
        failure, chosen = error, torch.device("cpu")
    share_cores(mine.local_size)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo",
            store=_open_store(mine) if mine.master else None,
            rank=mine.rank,
            world_size=mine.size,
            timeout=datetime.timedelta(seconds=TIMEOUT_S),
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        text = f"rank {mine.rank} of {mine.size} cannot reach the others: {reason}"
        raise RankLostError(text, speaks=mine.local_rank == 0) from error
    roll = RollCall(_store(), mine.rank, mine.size, holds_store=bool(mine.master) and mine.rank == 0)
    roll.attend()
    world = World(mine.rank, mine.size, chosen, _owns_group=True, _roll=roll)
    with world.guard():
        if failure:
            raise failure
    return world


def _store() -> Any:
    """The job's key-value store."""
    return dist.distributed_c10d._get_default_store()


def _open_store(mine: Place) -> Any:
    """The key-value store at which tasks that srun started meet; rank 0 holds it."""
    host, _, port = str(mine.master).rpartition(":")
    host = _address(host)
    wait = datetime.timedelta(seconds=MEETING_S)
    return dist.TCPStore(  # type: ignore[attr-defined]
        host, int(port), mine.size, is_master=mine.rank == 0, timeout=wait
    )


def _address(host: str) -> str:
    """A node's name, or the address that Slurm knows it by where the name alone leads nowhere."""
    with contextlib.suppress(OSError):
        socket.getaddrinfo(host, None)
        return host
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(["scontrol", "show", "node", host], capture_output=True, text=True, timeout=20).stdout
        found = re.search(r"NodeAddr=(\S+)", told)
        if found and found.group(1) != host:
            return found.group(1)
    text = f"node {host}: its name cannot be resolved; set MASTER_ADDR to the address of rank 0's node"
    raise RankLostError(text, speaks=is_rank_zero())


def share_cores(local_size: int) -> None:
    """Divide this node's cores between its ranks, unless OMP_NUM_THREADS says how many threads a rank has."""
    if "OMP_NUM_THREADS" not in os.environ and local_size > 1:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        torch.set_num_threads(max(1, min(torch.get_num_threads(), cores // local_size)))


def pick_device(name: str, local_rank: int = 0, local_size: int = 1) -> torch.device:
    """The torch device for ``auto``, ``cpu`` or ``cuda``. Raises InputError for one that is not there."""
    check_value("run.device", name, Device)
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and local_size > cards):
        return torch.device("cpu")
    if local_rank >= cards:
        raise InputError(
            f"run.device=cuda: {local_size} ranks on this node, but torch {torch.__version__} sees {cards} CUDA"
            " devices; start fewer ranks, or use run.device=cpu"
        )
    return torch.device("cuda", local_rank)
