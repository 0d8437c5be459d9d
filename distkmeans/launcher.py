"""Where a launcher has put this process: torchrun, srun, or none, told by the environment."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import sys
from dataclasses import dataclass

from distkmeans.errors import InputError

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that this process gets when its parent ends."""


@dataclass(frozen=True)
class Place:
    """rank of ``size`` ranks, local_rank of the ``local_size`` on this node. master: host:port, where srun's meet."""

    rank: int
    size: int
    local_rank: int = 0
    local_size: int = 1
    master: str | None = None


def place() -> Place | None:
    """Where a launcher has put this process; None where none started it."""
    env = dict(os.environ)
    return _torchrun(env) or _slurm(env)


def _torchrun(env: dict[str, str]) -> Place | None:
    if "RANK" not in env or "WORLD_SIZE" not in env or "MASTER_ADDR" not in env:
        return None
    size = _whole(env, "WORLD_SIZE")
    local_rank, local_size = _whole(env, "LOCAL_RANK", 0), _whole(env, "LOCAL_WORLD_SIZE", size)
    return _checked(Place(_whole(env, "RANK"), size, local_rank, local_size), "RANK", "WORLD_SIZE")


def _slurm(env: dict[str, str]) -> Place | None:
    """The place of a task that srun started. A batch script's own process is no task, though it has a SLURM_PROCID."""
    if "SLURM_PROCID" not in env or (env.get("ENVIRONMENT") == "BATCH" and "SLURM_STEP_ID" not in env):
        return None
    counts = ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "SLURM_NPROCS")
    size = next((_whole(env, name) for name in counts if env.get(name)), 1)
    if size == 1:
        return None
    host = env.get("MASTER_ADDR") or _first_host(
        env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST") or env.get("SLURM_NODELIST") or "127.0.0.1"
    )
    step = int(env["SLURM_STEP_ID"]) if env.get("SLURM_STEP_ID", "").isdigit() else 0
    port = env.get("MASTER_PORT") or str(12000 + (_whole(env, "SLURM_JOB_ID", 0) * 7 + step) % 20000)
    per_node = re.match(r"\d+", env.get("SLURM_STEP_TASKS_PER_NODE") or env.get("SLURM_TASKS_PER_NODE") or str(size))
    local_size = int(per_node.group()) if per_node else size
    mine = Place(_whole(env, "SLURM_PROCID"), size, _whole(env, "SLURM_LOCALID", 0), local_size, f"{host}:{port}")
    return _checked(mine, "SLURM_PROCID", "the number of tasks")


def _whole(env: dict[str, str], name: str, default: int | None = None) -> int:
    text = env.get(name, "" if default is None else str(default))
    if not text.isdecimal():
        raise InputError(f"{name}={text}: expected a whole number; it is set by the launcher, unset it without one")
    return int(text)


def _checked(mine: Place, rank: str, size: str) -> Place:
    if mine.rank >= mine.size:
        raise InputError(f"{rank}={mine.rank}: expected less than {size}, {mine.size}")
    return mine


def _first_host(nodes: str) -> str:
    """The first name of a Slurm node list: gpu[003-007,9],cpu1 begins with gpu003."""
    found = re.match(r"([^,\[]+)(?:\[([^\],-]+)[^\]]*\])?([^,\[]*)", nodes)
    return "".join(part or "" for part in found.groups()) if found else nodes


def launch_id() -> str | None:
    """What names this launch, the same on all its ranks and over its restarts; None for a process on its own."""
    env = os.environ
    slurm = env.get("SLURM_JOB_ID") if "SLURM_PROCID" in env else None
    elastic = env.get("TORCHELASTIC_RUN_ID")
    found = elastic if elastic and elastic != "none" else slurm
    if found and UUID.fullmatch(found):  # torchrun's own, of which the beginning is enough to tell launches apart
        found = found[:8]
    return re.sub(r"[^\w.+-]+", "-", found) if found else None


def is_restart() -> bool:
    """Whether the launcher started these ranks again after a failure."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") not in ("", "0")


def is_rank_zero() -> bool:
    """Whether this process speaks for the job, also before it has joined one."""
    try:
        mine = place()
    except InputError:  # what is wrong with the environment is told by all that it is wrong for
        return True
    return mine is None or mine.rank == 0


def end_with_launcher() -> None:
    """Let the operating system end this rank when torchrun's agent is gone: killed, it could not do so itself.

    Elsewhere than on Linux, such ranks run on to their end.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def node_name() -> str:
    """What this machine calls itself."""
    return socket.gethostname()


def launch_seconds() -> float:
    """Seconds since the job's command was started, by the operating system's count; 0 where it does not tell.

    Under torchrun the command is the agent, this process's parent; a rank that was started again counts from then.
    """
    by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ and not is_restart()
    return _seconds_of(os.getppid() if by_torchrun else os.getpid())


def _seconds_of(process: int) -> float:
    try:
        with open(f"/proc/{process}/stat") as stat, open("/proc/uptime") as uptime:
            ticks = int(stat.read().rpartition(")")[2].split()[19])
            return float(uptime.read().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0
