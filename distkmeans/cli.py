"""The command line of train.py: a run, a sweep, a dry run or a submission. Every mistake is one line on rank 0."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from distkmeans import config, job
from distkmeans.errors import DistkmeansError, InputError, RankLostError, is_shared
from distkmeans.launcher import end_with_launcher, is_rank_zero
from distkmeans.report.log import open_screen
from distkmeans.settings import flattened
from distkmeans.slurm import submit
from distkmeans.sweep import Sweep
from distkmeans.world import World, join

TRACEBACK = "DISTKMEANS_TRACEBACK"
"""Environment variable: set, it shows where an error was raised."""
OUT_OF_MEMORY = re.compile("can't allocate memory|out of memory", re.IGNORECASE)
LEAD_S = 0.5
"""How long other ranks wait before they fail: launchers end all ranks once one has failed, and rank 0 speaks first."""


def main(arguments: Sequence[str], conf: Path) -> int:
    """Do what the command line asks for, by the configuration groups in ``conf``; the exit status, on every rank."""

    def read() -> config.Request | None:
        flags = config.Arguments().parse_intermixed_args(list(arguments))
        if not config.asks_to_be_told(flags):
            return config.read(flags, conf)
        if is_rank_zero():
            config.tell(flags, conf)
        return None

    return answered(lambda: together(read, _carry_out))


def answered(work: Callable[[], int]) -> int:
    """The exit status of ``work``, on every rank; a mistake is told in one line, by one rank."""
    end_with_launcher()
    open_screen(is_rank_zero())
    try:
        return work()
    except BrokenPipeError:  # nobody reads the table any more
        return 1
    except KeyboardInterrupt:
        _tell("interrupted", is_rank_zero())
        return 130
    except Exception as error:
        if os.environ.get(TRACEBACK):
            traceback.print_exc()
        _tell(told(error), _speaks(error))
        return 1


class Asked(Protocol):
    """What a command line asks for."""

    @property
    def device(self) -> str: ...


Request = TypeVar("Request", bound=Asked)


def together(read: Callable[[], Request | None], work: Callable[[World, Request], int]) -> int:
    """Read what this rank is asked for, join the others, and work; 0 where there is nothing to do but to read.

    What is wrong with the request of any rank is told once all are there.
    """
    request, failure = None, None
    try:
        request = read()
        if request is None:
            return 0
    except Exception as error:  # it may be the mistake of this rank alone
        failure = error
    world = join(request.device if request else "cpu")
    try:
        with world.guard():
            if failure:
                raise failure
        assert request is not None
        return work(world, request)
    finally:
        world.close()


def told(error: Exception) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, DistkmeansError):
        return text
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(text):
        return f"out of memory ({text or 'no reason given'}); use more ranks: dry_run=true tells what a run needs"
    return f"{type(error).__name__}: {text} (not foreseen: {TRACEBACK}=1 shows where)"


def leave(status: int) -> None:
    """End this process at once. Everything is written, and taking down a process group must not keep a rank."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # nobody may be listening
            stream.flush()
    os._exit(status)


def _speaks(error: Exception) -> bool:
    """Whether this rank tells of the error: rank 0, but for what the others do not know of."""
    if isinstance(error, RankLostError):
        return error.speaks
    return is_rank_zero() or not (isinstance(error, DistkmeansError) or is_shared(error))


def _tell(text: str, speaks: bool) -> None:
    if not speaks:
        time.sleep(LEAD_S)
        return
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(f"distkmeans: error: {text}", file=sys.stderr, flush=True)


def _carry_out(world: World, request: config.Request) -> int:
    agree(world, request)
    if request.common.dry_run:
        from distkmeans.dry_run import rehearse

        return rehearse(world, request.points, request.common, request.multirun, request.ranks)
    if request.multirun:
        sweep = Sweep.open(world, request.points, request.common)
        return submit(sweep, request.slurm) if request.slurm else sweep.run()
    job.run(world, request.points[0].settings)
    return 0


def agree(world: World, request: config.Request) -> None:
    """Raise InputError on all ranks unless every rank has the same settings; it names the first key that differs."""
    mine = {point.name: {**flattened(point.settings), "error": point.error} for point in request.points}
    digest = hashlib.blake2b(repr(sorted(mine.items())).encode()).hexdigest()
    if len(set(world.collect(digest))) == 1:
        return
    everyone = world.collect(mine)
    for rank, theirs in enumerate(everyone):
        for point, key in _different(everyone[0], theirs):
            values = [str(settings.get(point, {}).get(key)) for settings in (everyone[0], theirs)]
            raise InputError(
                f"{key}: rank 0 has {values[0]}, rank {rank} has {values[1]}; start all ranks with the same command"
            )


def _different(one: dict[str, dict[str, object]], other: dict[str, dict[str, object]]) -> list[tuple[str, str]]:
    return [
        (point, key)
        for point in sorted(one.keys() | other.keys())
        for key in sorted(one.get(point, {}).keys() | other.get(point, {}).keys())
        if str(one.get(point, {}).get(key)) != str(other.get(point, {}).get(key))  # NaN is not equal to itself
    ]
