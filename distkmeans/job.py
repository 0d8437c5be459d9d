"""A run: configuration in, run directory out. The only part of distkmeans that sees a configuration."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from omegaconf import DictConfig, OmegaConf

import distkmeans
from distkmeans.clustering import Clustering, Plan, cluster
from distkmeans.data import Source, sources
from distkmeans.data.columns import scan
from distkmeans.data.ids import read_ids
from distkmeans.data.npy import NpyFiles
from distkmeans.data.shard import Shard, open_shard
from distkmeans.errors import DistkmeansError, InputError, one_of, whole_number
from distkmeans.init import Seeding, inits
from distkmeans.metrics import Metric, metrics
from distkmeans.problem import PRECISIONS, Problem, check_k, pose
from distkmeans.registry import Registry
from distkmeans.report.progress import Progress
from distkmeans.report.run_dir import RunDir, claim
from distkmeans.report.sample import sample
from distkmeans.solvers import Record, Solver, solvers
from distkmeans.transforms import Transform, apply, transforms
from distkmeans.world import World, is_rank_zero, join, log, process_seconds

Piece = TypeVar("Piece")


def main(config: DictConfig) -> int:
    """Run, and tell a user's mistake in one line, once. The exit status: 0, or 1 on every rank."""
    try:
        run(config)
    except DistkmeansError as error:
        if is_rank_zero():
            print(f"distkmeans: error: {error}", file=sys.stderr, flush=True)
        else:
            time.sleep(0.5)  # launchers end the other ranks once one has failed: rank 0 speaks first
        return 1
    return 0


def run(config: DictConfig) -> dict[str, Any]:
    """One run over all ranks; its summary, as in summary.json. Raises DistkmeansError on every rank."""
    settings = cast("dict[str, Any]", OmegaConf.to_container(config, resolve=True))
    world = join(str(settings["run"]["device"]))
    try:
        return Job(world, settings, OmegaConf.to_yaml(config, resolve=True)).run()
    finally:
        world.close()


@dataclass
class Job:
    """A run's settings, and what its phases leave for each other."""

    world: World
    settings: dict[str, Any]
    yaml: str
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """Check, read, cluster, write."""
        self._agree()
        with self.world.guard():
            pieces = Pieces.build(self.settings)
        directory = claim(self.world, self.settings["run"]["dir"], self._name(), self.settings["run"]["overwrite"])
        close_log = open_log(directory)
        try:
            directory.write_text("config.yaml", self.yaml)
            self._tick("start", process_seconds())
            return self._solve(pieces, directory)
        except DistkmeansError as error:
            log.error(error)
            raise
        finally:
            close_log()

    def _solve(self, pieces: Pieces, directory: RunDir) -> dict[str, Any]:
        begin = time.perf_counter()
        problem, ids = self._read(pieces)
        self._tick("read", time.perf_counter() - begin)
        progress = Progress(self.world, problem.shard.total, getattr(pieces.solver, "max_iter", None))

        def hear(restart: int, record: Record) -> None:
            directory.append("metrics.jsonl", json.dumps({"restart": restart, **asdict(record)}))
            progress(restart, record)

        try:
            found = cluster(problem, pieces.plan, hear)
        finally:
            progress.close()
        self._tick("seed", found.seed_seconds)
        self._tick("fit", found.solve_seconds)
        return self._write(pieces, problem, found, ids, directory)

    def _read(self, pieces: Pieces) -> tuple[Problem, Any]:
        world, options = self.world, self.settings["data"]
        with world.guard():
            source = pieces.source()
            check_k(pieces.plan.k, source.rows)
            weights = NpyFiles(options["weights"], "data.weights", 1) if options.get("weights") else None
        shard = open_shard(world, source, weights)
        with world.guard():
            path = options.get("ids")
            ids = read_ids(path, shard.total, shard.start, shard.start + len(shard)) if path else None
        return pose(world, self._transformed(pieces, shard), pieces.metric, pieces.exact), ids

    def _transformed(self, pieces: Pieces, shard: Shard) -> Shard:
        if pieces.transform.name == "none":
            return shard
        pieces.transform.fit(self.world, shard, scan(self.world, shard))
        with self.world.guard():
            return apply(pieces.transform, shard)

    def _write(
        self, pieces: Pieces, problem: Problem, found: Clustering, ids: Any, directory: RunDir
    ) -> dict[str, Any]:
        begin = time.perf_counter()
        solution = found.solution
        directory.write_labels(solution.labels, ids)
        picture = sample(problem, solution.labels)
        with self.world.guard():
            directory.write_model(solution.centroids, pieces.transform.tensors())
            if self.world.rank == 0:
                self._draw(problem, found, picture, directory.path / "plots")
        self._tick("write", time.perf_counter() - begin)
        summary = self._summary(problem, found)
        directory.write_summary(summary)
        self._say(summary, directory)
        return summary

    def _draw(self, problem: Problem, found: Clustering, picture: tuple[Any, Any], folder: Path) -> None:
        from distkmeans.report import plots

        title = f"{self.settings['data']['name']}: {problem.shard.total:,} rows, k = {len(found.solution.centroids)}"
        cost = f"inertia {found.solution.inertia:.6g}"
        plots.clusters(folder / "clusters.png", f"{title}, {cost}", picture, found.solution.centroids)
        plots.inertia(folder / "inertia.png", f"{title}: convergence", found.records, problem.shard.total)

    def _summary(self, problem: Problem, found: Clustering) -> dict[str, Any]:
        solution = found.solution
        return {
            "rows": problem.shard.total,
            "dims": problem.shard.dims,
            "k": len(solution.centroids),
            "world_size": self.world.size,
            "seed": self.settings["seed"],
            "seed_rows": found.seeds.rows,
            "restart": found.restart,
            "iterations": solution.iterations,
            "converged": solution.converged,
            "inertia": solution.inertia,
            "empty": solution.empty,
            "precision": self.settings["precision"],
            "bit_identical": problem.exact,
            "kernel": solution.kernel,
            "device": str(self.world.device.type),
            "threads": torch.get_num_threads(),
            "seconds": self.seconds,
            "versions": {"distkmeans": distkmeans.__version__, "torch": torch.__version__},
        }

    def _say(self, summary: dict[str, Any], directory: RunDir) -> None:
        if not summary["bit_identical"]:
            self.world.tell("precision=fast: labels are not proved; results may differ with ranks, threads and tiles")
        end = "converged" if summary["converged"] else "stopped at max_iter"
        self.world.tell(
            f"k={summary['k']} on {summary['rows']:,} x {summary['dims']} rows, {summary['world_size']} rank(s):"
            f" {end} after {summary['iterations']} iterations, inertia {summary['inertia']:.9g},"
            f" {self.seconds['seed'] + self.seconds['fit']:.2f} s"
        )
        self.world.tell(f"results in {directory.path}")

    def _agree(self) -> None:
        """Every rank runs the same configuration; name the first key that differs."""
        flat = self.world.collect(flattened(self.settings))
        for rank, other in enumerate(flat):
            for key in sorted(flat[0].keys() | other.keys()):
                if flat[0].get(key) != other.get(key):
                    raise InputError(
                        f"{key}: rank 0 has {flat[0].get(key)}, rank {rank} has {other.get(key)};"
                        " start all ranks with the same command"
                    )

    def _name(self) -> str:
        return f"{self.settings['data']['name']}-k{self.settings['k']}-seed{self.settings['seed']}"

    def _tick(self, phase: str, seconds: float) -> None:
        self.seconds[phase] = round(seconds, 4)


@dataclass(frozen=True)
class Pieces:
    """What a configuration names, built. ``source`` opens the data."""

    source: Callable[[], Source]
    transform: Transform
    metric: Metric
    plan: Plan
    exact: bool

    @staticmethod
    def build(settings: dict[str, Any]) -> Pieces:
        """Raises InputError for a name or value that is unknown, before any data is read."""
        one_of("precision", settings["precision"], PRECISIONS)
        seeding: Seeding = make(inits, settings["init"])
        solver: Solver = make(solvers, settings["solver"])
        plan = Plan(
            whole_number("k", settings["k"], 1),
            seeding,
            solver,
            whole_number("n_init", settings["n_init"], 1),
            whole_number("seed", settings["seed"]),
        )
        data = {key: value for key, value in settings["data"].items() if key not in ("weights", "ids")}
        sources[data["name"]]  # a wrong name is told now
        return Pieces(
            lambda: make(sources, data),
            make(transforms, settings["transform"]),
            make(metrics, settings["metric"]),
            plan,
            settings["precision"] == "exact",
        )

    @property
    def solver(self) -> Solver:
        return self.plan.solver


def make(registry: Registry[Callable[..., Piece]], options: dict[str, Any]) -> Piece:
    """The piece that a config group names, built with the group's other keys."""
    arguments = {key: value for key, value in options.items() if key != "name"}
    piece = registry[options["name"]]
    try:
        return piece(**arguments)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{registry.field}={options['name']}: {error}") from error


def flattened(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings as {"run.dir": value}."""
    if not isinstance(settings, dict):
        return {prefix: settings}
    return {
        name: value
        for key, inner in settings.items()
        for name, value in flattened(inner, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def open_log(directory: RunDir) -> Callable[[], None]:
    """Send the log to rank 0's standard error and log.txt; the returned function ends that."""
    log.setLevel(logging.INFO)
    log.propagate = False
    if directory.world.rank:
        log.handlers = [logging.NullHandler()]
        return log.handlers.clear
    screen, file = logging.StreamHandler(), logging.FileHandler(directory.path / "log.txt", encoding="utf-8")
    screen.addFilter(lambda record: record.levelno < logging.ERROR)  # errors are told once, at the end
    screen.setFormatter(logging.Formatter("distkmeans: %(message)s"))
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    log.handlers = [screen, file]

    def close() -> None:
        log.handlers = []
        file.close()

    return close
