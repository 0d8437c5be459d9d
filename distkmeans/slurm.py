"""hydra/launcher=slurm: each point of a sweep a Slurm job of its own, of any number of nodes, by submitit."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from distkmeans.errors import InputError
from distkmeans.launcher import place
from distkmeans.reading import Reader
from distkmeans.report.log import open_screen
from distkmeans.report.table import read_json
from distkmeans.schema import Range, listed
from distkmeans.settings import Common, Settings, import_plugins
from distkmeans.sweep import ENDS, Point, Sweep
from distkmeans.world import join

FOLLOW_S = 2.0
"""How often Slurm is asked."""
VISIBLE_S = 15.0
"""How long a shared file system may take to show what a job that has ended wrote."""
JOBS = "jobs.json"
"""Which job each point was submitted as, so that a second start follows those that still run."""


@dataclass(frozen=True)
class SlurmOptions:
    """Keys of ``hydra.launcher`` for slurm. See conf/hydra/launcher/slurm.yaml."""

    nodes: Annotated[int, Range(1)] = 1
    tasks_per_node: Annotated[int, Range(1)] = 1
    cpus_per_task: Annotated[int, Range(1)] | None = None
    gpus_per_node: Annotated[int, Range(0)] | None = None
    mem_gb: Annotated[float, Range(above=0)] | None = None
    timeout_min: Annotated[int, Range(1)] = 60
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    array_parallelism: Annotated[int, Range(1)] = 256
    setup: list[str] = field(default_factory=list)
    additional_parameters: Mapping[str, Any] = field(default_factory=dict)

    def parameters(self) -> dict[str, Any]:
        """As submitit's AutoExecutor takes them."""
        plain = ("nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node", "mem_gb", "timeout_min")
        given = {name: getattr(self, name) for name in plain if getattr(self, name) is not None}
        own = ("partition", "account", "qos", "array_parallelism", "additional_parameters")
        given |= {f"slurm_{name}": getattr(self, name) for name in own if getattr(self, name)}
        # srun has not taken the number of cores from sbatch since Slurm 22.05
        cores = ["export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"] if self.cpus_per_task else []
        return {**given, "slurm_setup": [*cores, *self.setup], "name": "distkmeans"}


@dataclass(frozen=True)
class Task:
    """What every rank of a point's job does; it travels to the job as a pickle."""

    point: Point
    common: Common
    root: Path

    def __call__(self) -> None:
        world = join(self.common.run.device)
        open_screen(world.rank == 0)
        with world.guard():
            import_plugins(self.point.settings.get("plugins") or [])
        Sweep(world, [self.point], self.common, self.root).run_point(self.point, Reader(world), 0.0)
        atexit.register(os._exit, 0)  # everything is written: no waiting for the process group to come down


def submit(sweep: Sweep, options: SlurmOptions) -> int:
    """Submit the points that are missing or failed, follow them, and tell of all; 1 where one failed, else 0."""
    if place() is not None:
        raise InputError("hydra/launcher=slurm: submits jobs that start their own ranks; start it with plain python")
    with sweep.alone():
        followed = Followed.reopen(sweep)
        fresh = [point for point in sweep.pending() if point.name not in followed.jobs and _can_be_built(sweep, point)]
        if fresh:
            followed.submit(fresh, options)
        try:
            followed.until_the_end()
        except KeyboardInterrupt:
            ids = listed(sorted(set(followed.jobs.values())), "and")
            raise InputError(f"jobs {ids} go on; the same command follows them again, scancel ends them") from None
    return sweep.finish()


@dataclass
class Followed:
    """jobs: the Slurm job of each point that has been submitted and whose end has not been seen."""

    sweep: Sweep
    jobs: dict[str, str]

    @staticmethod
    def reopen(sweep: Sweep) -> Followed:
        """The jobs of an earlier start that are still queued or running."""
        known = read_json(sweep.root / "slurm" / JOBS) or {}
        alive = states(known.values()) if known else {}
        jobs = {name: job for name, job in known.items() if job in alive}
        if jobs:
            sweep.world.tell(f"{len(jobs)} points are in the queue or run already: following them")
        return Followed(sweep, jobs)

    def submit(self, points: Sequence[Point], options: SlurmOptions) -> None:
        """Submit a job for each point. Raises InputError with Slurm's own words where it refuses them."""
        submitit, sweep = _submitit(), self.sweep
        home = str(Path(__file__).resolve().parent.parent)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [home, os.environ.get("PYTHONPATH")]))
        tasks = [Task(point, sweep.common, sweep.root.absolute()) for point in points]
        try:
            executor = submitit.AutoExecutor(folder=sweep.root / "slurm", cluster="slurm")
            executor.update_parameters(**options.parameters())
            submitted = executor.map_array(Task.__call__, tasks)
        except (submitit.core.utils.FailedJobError, RuntimeError, ValueError, OSError) as error:
            raise InputError(f"hydra/launcher=slurm: {_last_words(error)}") from error
        self.jobs |= {point.name: str(job.job_id) for point, job in zip(points, submitted, strict=True)}
        (sweep.root / "slurm" / JOBS).write_text(json.dumps(self.jobs, indent=2) + "\n", encoding="utf-8")
        ids = sorted({str(job.job_id).split("_")[0] for job in submitted})
        size = f"{options.nodes} x {options.tasks_per_node} ranks"
        sweep.world.tell(f"{len(points)} points submitted as job {listed(ids, 'and')}, {size} each; logs in slurm/")

    def until_the_end(self) -> None:
        """Tell of changes, and of each point that ends, until none is left."""
        told = ""
        while self.jobs:
            alive = states(self.jobs.values())
            for name in [name for name, job in self.jobs.items() if job not in alive]:
                self._end(name, self.jobs.pop(name))
            counts = Counter(alive[job].lower() for job in self.jobs.values())
            now = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
            if now and now != told:
                self.sweep.world.tell(now)
            told = now
            if self.jobs:
                time.sleep(FOLLOW_S)

    def _end(self, name: str, job: str) -> None:
        point = next(point for point in self.sweep.points if point.name == name)
        if not self._has_result(name):
            log = self.sweep.root / "slurm"
            self.sweep.note(point, InputError(f"job {job} ended without a result; see {log}{os.sep}{job}_*"), 0)
        self.sweep.world.tell(f"{name}: job {job} has ended")
        self.sweep.table()

    def _has_result(self, name: str) -> bool:
        end = time.monotonic() + VISIBLE_S
        while not (found := self.sweep.has_result(name)) and time.monotonic() < end:
            time.sleep(0.2)
        return found


def states(jobs: Any) -> dict[str, str]:
    """The state of each of these jobs that is queued or runs, by its id: 12, or 12_3 for a task of an array."""
    main = ",".join(sorted({job.split("_")[0] for job in jobs}))
    while True:
        told = subprocess.run(["squeue", "-h", "-r", "-j", main, "-o", "%i %T"], capture_output=True, text=True)
        if told.returncode == 0:
            return dict(line.split() for line in told.stdout.splitlines())
        if "Invalid job id" in told.stderr:  # all ended a while ago
            return {}
        time.sleep(FOLLOW_S)  # the controller is busy or away


def _can_be_built(sweep: Sweep, point: Point) -> bool:
    """Whether a job for the point can be of use; where not, the reason is noted."""
    try:
        if point.error:
            raise InputError(point.error)
        Settings.build(sweep.placed(point))
    except InputError as error:
        sweep.note(point, error, 0)
        return False
    sweep.forget(point, ENDS)  # so that the job's own end can be told from an earlier one
    return True


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise InputError("hydra/launcher=slurm: needs submitit; pip install 'distkmeans[slurm]'") from error
    return submitit


def _last_words(error: Exception) -> str:
    """The line of an error that says most: Slurm's own, where it is among them."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "error:" in line), lines[-1] if lines else type(error).__name__)
