"""A run over all ranks: settings in, run directory out."""

from __future__ import annotations

import contextlib
import json
import resource
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

import distkmeans
from distkmeans import native
from distkmeans.clustering import Clustering, best_of, cluster
from distkmeans.errors import DistkmeansError, InputError
from distkmeans.evaluate import Subject, evaluate
from distkmeans.launcher import launch_seconds
from distkmeans.reading import Opened, Read, Reader
from distkmeans.report.claim import claim
from distkmeans.report.log import also_to
from distkmeans.report.loggers import Loggers
from distkmeans.report.outcome import Outcome, sizes_of
from distkmeans.report.progress import Progress
from distkmeans.report.run_dir import RunDir
from distkmeans.report.show import Wanted, show
from distkmeans.settings import Settings
from distkmeans.solvers import Record
from distkmeans.world import World, log


def run(world: World, given: Mapping[str, Any]) -> dict[str, Any]:
    """One run; its summary, as in summary.json. A collective: raises DistkmeansError on every rank."""
    with world.guard():
        settings = Settings.build(given)
    return Job(world, settings, Reader(world)).run()


@dataclass
class Job:
    """A run's settings, and what its phases leave for each other.

    seconds: start (from the launch until files are open), read, seed, fit (seeding and solving), evaluate (the scores),
    write (the directory).
    start_seconds: that of an earlier run in this process, where there was one.
    """

    world: World
    settings: Settings
    reader: Reader
    start_seconds: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._loggers = Loggers(self.world, self.settings.loggers)

    def run(self) -> dict[str, Any]:
        """Check, read, cluster, write. Raises DistkmeansError on every rank."""
        options = self.settings.run
        with self.world.guard():
            opened = self.reader.open(self.settings)
        self.seconds["start"] = round(self.start_seconds or launch_seconds(), 4)
        with self._timed("write"):
            directory = claim(self.world, options.dir, self.settings.title, options.overwrite)
        read = self._read(opened, directory)
        with self._timed("write"):
            directory.begin(self.settings.given)
        with also_to(directory.path / "log.txt" if self.world.rank == 0 else None):
            try:
                self._loggers.open(directory.path, self.settings.given)
                return self._solve(read, directory)
            except Exception as error:
                log.error(error, exc_info=not isinstance(error, DistkmeansError))
                raise
            finally:
                self._loggers.close()

    def _read(self, opened: Opened, directory: RunDir) -> Read:
        try:
            with self._timed("read"):
                return self.reader.read(self.settings, opened)
        except InputError:  # a mistake in the data: the directory is as it was
            directory.discard()
            raise

    def _solve(self, read: Read, directory: RunDir) -> dict[str, Any]:
        plan = self.settings.plan
        if self.world.device.type == "cpu" and native.library() is None:
            self.world.tell(
                f"kernels run in torch: the compiled ones are {native.why_not()} (python -m distkmeans.native)"
            )
        progress = Progress(self.world, read.problem.shard.total, getattr(plan.solver, "max_iter", None))

        def hear(restart: int, record: Record) -> None:
            directory.append("metrics.jsonl", json.dumps({"restart": restart, **asdict(record)}))
            progress(restart, record)
            self._loggers.record(restart, record)

        try:
            found = cluster(read.problem, plan, hear)
        finally:
            progress.close()
        self.seconds["seed"] = round(found.seed_seconds, 4)
        self.seconds["fit"] = round(found.seed_seconds + found.solve_seconds, 4)
        with self._timed("write"):
            self._write(read, found, directory)
        with self._timed("evaluate"):
            scores = self._evaluate(read, found)
        memory = self.world.max_(torch.tensor(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
        summary = {
            **self._summary(read, found),
            **scores,
            "peak_memory_bytes": int(memory) * 1024,
            "data_reads": read.data_reads,
        }
        with self._timed("write"):
            self._show(read, found, summary, directory)
        directory.write_summary(summary)
        self._say(summary, directory)
        return summary

    def _write(self, read: Read, found: Clustering, directory: RunDir) -> None:
        solution = found.solution
        with self.world.guard():
            directory.write_model(solution.centroids, read.transform.tensors())
        directory.write_labels(solution.labels, read.ids)

    def _evaluate(self, read: Read, found: Clustering) -> dict[str, Any]:
        """The scores, as they stand in the summary. A collective."""
        problem, plan, options = read.problem, self.settings.plan, self.settings.scores

        def again(seed: int) -> Tensor:
            return best_of(problem, replace(plan, seed=seed), lambda restart, record: None).solution.labels

        solution, seed = found.solution, self.settings.general.seed
        subject = Subject(problem, solution.labels, solution.centroids, read.truth, again, seed, options)
        scores: dict[str, Any] = {"scores": evaluate(subject, read.scores)}
        if "silhouette" in read.scores:
            scores["silhouette_rows"] = min(problem.shard.total, options.silhouette_rows)
        return scores

    def _show(self, read: Read, found: Clustering, summary: dict[str, Any], directory: RunDir) -> None:
        """Pictures, the page and the loggers' last words, where they are asked for. A collective."""
        options, given = self.settings.report, self.settings.given
        if not (options.plots or options.html or options.loggers):
            return
        sizes = sizes_of(read.problem, found.solution)
        self._loggers.end(summary, sizes.cpu().numpy())
        if options.plots or options.html:
            outcome = Outcome(read.problem, read.source, read.ids, found.solution, found.records, sizes, given)
            show(outcome, summary, directory, Wanted(options.plots, options.html, options.sample))

    def _summary(self, read: Read, found: Clustering) -> dict[str, Any]:
        solution, shard = found.solution, read.problem.shard
        return {
            "rows": shard.total,
            "dims": shard.dims,
            "row_type": str(shard.rows.dtype).removeprefix("torch."),
            "k": len(solution.centroids),
            "world_size": self.world.size,
            "seed": self.settings.general.seed,
            "seed_rows": found.seeds.rows,
            "restart": found.restart,
            "iterations": solution.iterations,
            "converged": solution.converged,
            "inertia": solution.inertia,
            "objective": getattr(read.problem.metric, "objective", "weighted sum of squared distances"),
            "empty": solution.empty,
            "precision": self.settings.general.precision,
            "bit_identical": read.problem.bit_identical and getattr(self.settings.plan.solver, "bit_identical", True),
            "kernel": solution.kernel,
            "device": str(self.world.device.type),
            "threads": torch.get_num_threads(),
            "seconds": self.seconds,
            "versions": {"distkmeans": distkmeans.__version__, "torch": torch.__version__},
        }

    def _say(self, summary: dict[str, Any], directory: RunDir) -> None:
        if not summary["bit_identical"] and self.settings.exact:
            self.world.tell("results at other numbers of ranks agree to rounding, and are not bit-identical")
        elif not summary["bit_identical"]:
            self.world.tell("precision=fast: labels are not proved; results may differ with ranks, threads and tiles")
        end = "converged" if summary["converged"] else "stopped at max_iter"
        self.world.tell(
            f"k={summary['k']} on {summary['rows']:,} x {summary['dims']} rows, {summary['world_size']} rank(s):"
            f" {end} after {summary['iterations']} iterations, inertia {summary['inertia']:.9g},"
            f" {self.seconds['fit']:.2f} s"
        )
        if summary["scores"]:
            told = {name: "none" if score is None else f"{score:.6g}" for name, score in summary["scores"].items()}
            self.world.tell("scores: " + ", ".join(f"{name} {score}" for name, score in told.items()))
        self.world.tell(f"results in {directory.path}")

    @contextlib.contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        self.seconds[phase] = round(self.seconds.get(phase, 0.0) + time.perf_counter() - begin, 4)
