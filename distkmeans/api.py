"""``fit`` and ``predict``: k-means from Python, in a plain process or on every rank of a torchrun job."""

from __future__ import annotations

import atexit
import hashlib
import inspect
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distkmeans.clustering import Plan, check_served, cluster
from distkmeans.data.array import as_rows
from distkmeans.data.batches import Batch, gathered, is_batches
from distkmeans.data.shard import Shard, own_shard
from distkmeans.errors import InputError
from distkmeans.init import Seeding, inits
from distkmeans.init.given import Called, Given
from distkmeans.kernels.choose import KernelName
from distkmeans.loader import in_order, learn
from distkmeans.metrics import metric_of
from distkmeans.model import assign, like, placed
from distkmeans.problem import Memory, Precision, pose
from distkmeans.schema import check, check_value
from distkmeans.solvers import solvers
from distkmeans.solvers.learning import Task, can_learn
from distkmeans.world import World, join


@dataclass(frozen=True)
class Result:
    """centroids: (K, D). labels: (N,) of the rows that were passed. inertia: weighted sum of squared distances, or what
    the metric has in their place.

    iterations: of the best restart. converged: whether it ended before max_iter.
    """

    centroids: Any
    labels: Any
    inertia: float
    iterations: int
    converged: bool


def fit(
    x: Any,
    k: int,
    *,
    init: Any = "plus_plus",
    metric: Any = "euclidean",
    weights: Any = None,
    n_init: int = 1,
    max_iter: int = 300,
    tol: float = 1e-4,
    seed: int = 0,
    precision: str = "exact",
    memory: str = "auto",
    empty: str = "farthest",
    kernel: KernelName = "auto",
    tile_rows: int | None = None,
    device: str | None = None,
    solver: Any = "lloyd",
) -> Result:
    """Cluster rows by Lloyd's algorithm, or another.

    x: (N, D) NumPy array, torch tensor or map-style torch dataset, of uint8, int8, float16, bfloat16, float32 or
    float64; in a torchrun job every rank passes its own rows, together they are one data set. Or batches of such rows:
    a torch DataLoader, an iterable dataset, a generator; see ``data.batches.Batch`` for row numbers and weights, and
    ``loader.Learned`` for the labels. k: clusters.
    init: plus_plus, random or parallel, an array (K, D), or a function (rows, k, seed) -> (K, D). metric: euclidean,
    cosine, manhattan or dot; a function (rows, centroids) -> distances (n, K), a pair of it and one for the centre,
    (rows, weights or None) -> (D,), or an object that has them as methods. weights: (N,), 0 or more. n_init: seedings
    to try. tol: times the mean feature variance. precision: exact, or fast, which skips the proofs. memory: auto, or
    low, which keeps little beside the rows. empty: farthest, keep or fail. kernel: as solver.kernel. device: auto
    (default), cpu or cuda. solver: lloyd, which has max_iter, tol, empty, kernel and tile_rows; minibatch or gradient
    with their defaults, or an object such as ``solvers.minibatch.MiniBatch(batch_size=1024)``: these learn from a
    loader batch by batch, where Lloyd's algorithm reads all of it into memory.

    Results are bit-identical at any number of ranks, threads and tile size, with precision=exact; ``labels`` are the
    true argmin. NumPy in, NumPy out; torch in, torch out. Raises InputError on every rank, and WorldError
    where ranks ask for different things.
    """
    world = world_of(device, x)
    with world.guard():
        tiles = "auto" if tile_rows is None else tile_rows
        options = {"max_iter": max_iter, "tol": tol, "empty": empty, "kernel": kernel, "tile_rows": tiles}
        pieces: dict[str, Any] = {"seeding": _seeding(init), "solver": _solver(solver, options)}
        plan = Plan(**check(Plan, {"k": k, **pieces, "n_init": n_init, "seed": seed}))
        near = metric_of(metric)
        check_served(near, plan)
        exact = check_value("precision", precision, Precision) == "exact"
        frugal = check_value("memory", memory, Memory) == "low"
        if is_batches(x) and weights is not None:
            raise InputError("weights: given beside batches; give each batch its own: data.batches.Batch")
        streams = is_batches(x) and can_learn(plan.solver)
        if streams and n_init > 1:
            raise InputError(f"n_init={n_init}: a loader is learned from once; use n_init=1, or pass rows in memory")
    asked = {"k": k, "init": init, "metric": metric, "n_init": n_init, "seed": seed, "solver": solver, **options}
    agree_on(world, "fit", {**asked, "precision": precision, "memory": memory, "batches": is_batches(x)})
    if streams:
        learned = learn(world, x, pieces["solver"], Task(k, plan.seeding, near, seed, exact))
        labels = None if learned.labels is None else like(learned.labels, x)
        return Result(like(learned.centroids, x), labels, learned.inertia, learned.passes, learned.converged)
    given, shard = _passed(world, x, weights)
    problem = replace(pose(world, shard, near, exact), frugal=frugal)
    solution = cluster(problem, plan, lambda restart, record: None).solution
    labels = solution.labels
    if not len(given.rows):  # but maybe some of other ranks', by their numbers
        labels = labels[:0]
    elif given.numbers is not None:  # rows have gone to other ranks
        labels = assign(given.rows.to(world.device), solution.centroids, near)
    centroids, iterations = like(solution.centroids, x), solution.iterations
    return Result(centroids, like(labels, x), solution.inertia, iterations, solution.converged)


def _passed(world: World, x: Any, weights: Any) -> tuple[Batch, Shard]:
    """What this rank was passed, and its part of all rows. Raises InputError on all ranks. A collective."""
    with world.guard():
        vector = None if weights is None else _vector(weights)
        given = gathered(x) if is_batches(x) else Batch(as_rows(x), None, vector)
    shard = own_shard(world, given.rows, given.weights)
    if is_batches(x):
        return given, in_order(world, shard, given.numbers)
    warn_of_copies(world, given.rows)
    return given, shard


def predict(x: Any, centroids: Any, metric: Any = "euclidean") -> Any:
    """The index of the truly nearest centroid of each row, lowest index on a true tie: int32 (N,).

    x: (N, D) as for ``fit``; in a torchrun job each rank predicts its own rows, with nothing to agree on.
    centroids: (K, D); for cosine and dot they are brought to length 1. Compared over the real numbers, whatever the two
    types. Raises InputError.
    """
    rows, targets = as_rows(x), as_rows(centroids, "centroids")
    if not len(targets):
        raise InputError("centroids: none; expected at least one")
    if rows.shape[1] != targets.shape[1]:
        raise InputError(f"x: {rows.shape[1]} columns, but the centroids have {targets.shape[1]}")
    if targets.dtype not in (torch.float32, torch.float64):
        targets = targets.to(torch.float64)
    near = metric_of(metric)
    return like(assign(rows, placed(targets, near), near), x)


def world_of(device: str | None, x: Any) -> World:
    """This process's world, on the device that is named, or on that of a tensor ``x``. Raises InputError."""
    if device is None and isinstance(x, torch.Tensor):
        world = join(x.device.type if x.device.type in ("cpu", "cuda") else "auto")
        world.device = x.device
    else:
        world = join(device or "auto")
    if world._owns_group:  # the first of a process; those that follow find the group open
        atexit.register(world.close)
    return world


def _seeding(init: Any) -> Seeding:
    if isinstance(init, str):
        return inits.build(init)
    return Called(init) if callable(init) and not hasattr(init, "__array__") else Given(init)


def _solver(given: Any, options: dict[str, Any]) -> Any:
    """options: of Lloyd's algorithm, refused beside another solver unless they are its defaults."""
    if isinstance(given, str) and given == "lloyd":
        return solvers.build(given, options, prefix="")
    defaults = inspect.signature(solvers["lloyd"]).parameters
    for name, value in options.items():
        if value != defaults[name].default:
            raise InputError(
                f"{name}={value}: goes with solver=lloyd; give another its own, as in MiniBatch(max_iter=9)"
            )
    return solvers.build(given) if isinstance(given, str) else given


def _vector(weights: Any) -> Tensor:
    """(N,) numbers of whatever kind. Raises InputError."""
    values = weights if isinstance(weights, Tensor) else np.asarray(weights)
    if values.ndim != 1:
        raise InputError(f"weights: shape {tuple(values.shape)}; expected (rows,)")
    return as_rows(values.reshape(-1, 1), "weights").reshape(-1)


def agree_on(world: World, call: str, asked: dict[str, Any]) -> None:
    """Raise WorldError on every rank unless all of them ask for the same. A collective."""
    if world.size > 1:
        told = ", ".join(f"{name}={_told(value)}" for name, value in asked.items())
        world.agree(f"the call of {call}", told, "pass every rank the same, but for its rows")


def _told(value: Any) -> str:
    """A value in a word: a checksum of numbers, the name of a function or of an object's class."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, Tensor) or hasattr(value, "__array__"):
        values = np.ascontiguousarray(value.detach().cpu().double() if isinstance(value, Tensor) else value)
        return f"{values.shape} {hashlib.blake2b(values.tobytes(), digest_size=6).hexdigest()}"
    if isinstance(value, (list, tuple)):
        told = f"({', '.join(map(_told, value))})"
        return told if len(told) < 300 else hashlib.blake2b(told.encode(), digest_size=6).hexdigest()
    if value is None or isinstance(value, (bool, int, float, str)):
        return str(value)
    return getattr(value, "__qualname__", type(value).__qualname__)


def warn_of_copies(world: World, rows: Tensor) -> None:
    """A world whose ranks all hold the same rows most likely meant to pass each its part. A collective."""
    if world.size == 1 or not len(rows):
        world.collect(None)
        return
    ends = torch.cat([rows[:64], rows[-64:]]).contiguous().view(torch.uint8).cpu().numpy().tobytes()
    digests = world.collect((len(rows), hashlib.blake2b(ends).hexdigest()))
    if len(set(digests)) == 1 and len(rows) > 1:
        world.warn(
            f"x: all {world.size} ranks pass the same {len(rows)} rows, which count {world.size} times; pass each rank"
            " its own part, such as x[rank::world_size]"
        )
