"""The command line of train.py: a run, a sweep, a dry run or a submission. Every mistake is one line on rank 0."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from distkmeans import config, job
from distkmeans.errors import DistkmeansError, InputError, RankLostError
from distkmeans.launcher import end_with_launcher, is_rank_zero
from distkmeans.report.log import open_screen
from distkmeans.settings import flattened
from distkmeans.slurm import submit
from distkmeans.sweep import Sweep
from distkmeans.world import World, join

LEAD_S = 0.5
"""How long other ranks wait before they fail: launchers end all ranks once one has failed, and rank 0 speaks first."""


def main(arguments: Sequence[str], conf: Path) -> int:
    """Do what the command line asks for, by the configuration groups in ``conf``; the exit status, on every rank."""
    end_with_launcher()
    open_screen(is_rank_zero())
    try:
        return _main(arguments, conf)
    except (DistkmeansError, OSError, MemoryError) as error:
        if error.speaks if isinstance(error, RankLostError) else is_rank_zero():
            print(f"distkmeans: error: {told(error)}", file=sys.stderr, flush=True)
        else:
            time.sleep(LEAD_S)
        return 1


def told(error: Exception) -> str:
    """An error in one line."""
    if isinstance(error, OSError) and error.strerror and not isinstance(error, DistkmeansError):
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = str(error).strip().splitlines()[0] if str(error).strip() else ""
    return text if isinstance(error, DistkmeansError) else f"{type(error).__name__}: {text}".removesuffix(": ")


def leave(status: int) -> None:
    """End this process at once. Everything is written, and taking down a process group must not keep a rank."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _main(arguments: Sequence[str], conf: Path) -> int:
    request, failure = None, None
    try:
        flags = config.Arguments().parse_intermixed_args(list(arguments))
        if config.asks_to_be_told(flags):
            return config.tell(flags, conf) if is_rank_zero() else 0
        request = config.read(flags, conf)
    except InputError as error:  # told once all ranks are there: it may be the mistake of one
        failure = error
    world = join(request.device if request else "cpu")
    try:
        with world.guard():
            if failure:
                raise failure
        assert request is not None
        agree(world, request)
        return _carry_out(world, request)
    finally:
        world.close()


def _carry_out(world: World, request: config.Request) -> int:
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
