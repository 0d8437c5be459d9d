"""solver=gradient: centroids trained by a torch optimiser to make any loss of rows and centroids small.

Bottou and Bengio, Convergence properties of the k-means algorithms (NIPS 1994): k-means by stochastic gradient
descent. Each step takes a batch, labels it, and moves the centroids by the gradient over all ranks' rows of it. A pass
takes every row once, in an order that belongs to row numbers, and labels are exact, but gradients are sums of floats,
one per rank: results agree over world sizes to rounding, not to the bit.
"""

from __future__ import annotations

import copy
import inspect
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

import torch
from torch import Tensor

from distkmeans import schema
from distkmeans.data.shard import Shard
from distkmeans.errors import InputError
from distkmeans.exact.random import Stream, permute
from distkmeans.kernels.dense import largest_of
from distkmeans.kernels.once import Once, choice_for
from distkmeans.losses import Loss, losses
from distkmeans.problem import Problem, check_k, pose
from distkmeans.schema import Range
from distkmeans.solvers import Record, Solution, solvers
from distkmeans.solvers.labelling import label
from distkmeans.solvers.learning import Task
from distkmeans.stats import to_float
from distkmeans.world import World

OptimizerMaker = Callable[[list[Tensor]], torch.optim.Optimizer]
"""Makes the optimiser of some parameters."""
UNFIT = ("Optimizer", "SparseAdam")
"""Of torch.optim, that step along no dense gradient."""
UNHEARD = "of no use to a function; bind them to it, as functools.partial does"
PATIENCE, SLOWER, SLOWEST = 3, 0.3, 1e-3
"""Passes in a row without progress after which lr is multiplied by SLOWER, and the share of it below which it ends."""


@dataclass
class State:
    """All that the next step depends on, beside its batch: alike on all ranks.

    parameters: float64 (K, D), the centroids in units of ``scale``; what is learned besides is in the optimiser. loss:
    sum over the pass so far, and of its rows' weights. least: mean loss of the best pass. idle: passes since it was
    beaten by more than tol, or lr became less. pace: lr as a share of the first.
    """

    parameters: Tensor
    optimizer: torch.optim.Optimizer
    scale: float
    seed: int
    step: int = 0
    loss: tuple[float, float] = (0.0, 0.0)
    least: float = math.inf
    idle: int = 0
    pace: float = 1.0
    converged: bool = False

    def centroids(self) -> Tensor:
        """float64 (K, D), differentiable in the parameters."""
        return self.parameters * self.scale


@solvers.register("gradient")
class Gradient:
    """max_iter: passes over the rows at most. batch_size: rows of a batch, at most all.

    optimizer: the name of one of torch.optim, a class, or a function that makes one of a list of parameters. lr: its
    step, where rows and losses are in units in which the mean variance of the columns is 1. optimizer_options: its
    further arguments. loss: a registered one, or a function (rows, centroids, labels) to (n,). loss_options: its
    arguments. A function takes neither lr nor options. tol: lr goes down to 0.3 of it when the mean loss has not fallen
    by this share in 3 passes; below 0.001 of the first, it ends. Raises InputError.
    """

    bit_identical = False

    def __init__(
        self,
        max_iter: Annotated[int, Range(1)] = 100,
        batch_size: Annotated[int, Range(1)] = 1024,
        optimizer: Any = "Adam",
        lr: Annotated[float, Range(above=0)] = 0.05,
        optimizer_options: Mapping[str, Any] | None = None,
        loss: Any = "squared",
        loss_options: Mapping[str, Any] | None = None,
        tol: Annotated[float, Range(0)] = 1e-4,
    ) -> None:
        self.max_iter, self.batch_size, self.lr, self.tol = max_iter, batch_size, lr, tol
        if callable(loss) and loss_options:
            raise InputError(f"solver.loss_options: {UNHEARD}")
        self.loss: Loss = loss if callable(loss) else losses.build(loss, loss_options, "solver.loss_options.")
        self.optimizer = optimizer_maker(optimizer, lr, optimizer_options or {})

    def fit(self, problem: Problem, centroids: Tensor, on_record: Callable[[Record], None], seed: int = 0) -> Solution:
        training = Training(problem, self, centroids)
        state = self.start(problem, centroids, seed)
        while not state.converged and state.step < self.max_iter * training.steps:
            begin, before = time.perf_counter(), problem.centroids(state.centroids().detach())
            for _ in range(training.steps):
                training.step(state)
            cost = state.loss[0]
            self.end_pass(state)
            shift = (problem.centroids(state.centroids().detach()) - before).to(torch.float64).square().sum()
            passes, seconds = state.step // training.steps, time.perf_counter() - begin
            on_record(Record(passes, cost, None, float(shift), 0.0, 0, seconds))
        return self.finish(problem, state, training)

    def learner(self, task: Task) -> GradientLearner:
        """Of batches that a loader brings: ``batch_size`` is the loader's."""
        return GradientLearner(self, task)

    def start(self, problem: Problem, centroids: Tensor, seed: int) -> State:
        """The state before the first step."""
        variances = problem.moments.variances()
        scale = math.sqrt(to_float(sum(variances, Fraction(0)) / len(variances))) or 1.0
        parameters = (centroids.to(torch.float64) / scale).requires_grad_()
        return State(parameters, self.optimizer([parameters]), scale, seed)

    def end_pass(self, state: State) -> None:
        """Slow down where the mean loss of the pass does not fall, and see to the end."""
        mean = state.loss[0] / state.loss[1]
        progress = mean < state.least - self.tol * abs(state.least) or state.least == math.inf
        state.least, state.idle = min(state.least, mean), 0 if progress else state.idle + 1
        if state.idle >= PATIENCE:
            state.idle, state.pace = 0, state.pace * SLOWER
            for group in state.optimizer.param_groups:
                group["lr"] *= SLOWER
        state.converged, state.loss = state.pace < SLOWEST, (0.0, 0.0)

    def finish(self, problem: Problem, state: State, training: Training) -> Solution:
        """Exact labels and inertia of the centroids, rounded, alike on all ranks. A collective."""
        world = problem.world
        centroids = world.share(problem.centroids(state.centroids().detach()).cpu()).to(world.device)
        found = label(problem, centroids, training.kernel)
        objective = training.total(centroids.to(torch.float64), found.labels)
        passes = state.step // training.steps
        return Solution(
            centroids,
            found.labels,
            found.inertia,
            passes,
            state.converged,
            found.empty,
            training.kernel.name,
            objective,
        )


class Training:
    """What follows from the problem and the solver alone, and does not change from step to step. A collective."""

    def __init__(self, problem: Problem, solver: Gradient, centroids: Tensor) -> None:
        self.problem, self.solver = problem, solver
        self.size = min(solver.batch_size, problem.shard.total)
        self.steps = -(-problem.shard.total // self.size)
        with problem.world.guard():
            largest = max(float(problem.columns.largest.max()), largest_of(centroids))
            self.kernel = Once(choice_for(problem.shard.rows, centroids, largest, problem.exact))

    def step(self, state: State) -> None:
        """One batch: label, take the gradient over all ranks, move. A collective: one all-reduce per evaluation."""
        costs: list[tuple[float, float]] = []

        def closure() -> float:
            costs.append(self.evaluate(state))
            return costs[-1][0] / (costs[-1][1] or 1.0) / state.scale**2

        state.optimizer.step(closure)
        with torch.no_grad():
            state.parameters.copy_(self.problem.metric.place(state.parameters * state.scale) / state.scale)
        state.loss = (state.loss[0] + costs[0][0], state.loss[1] + costs[0][1])
        state.step += 1

    def evaluate(self, state: State) -> tuple[float, float]:
        """Loss and weight of the step's batch, over all ranks; the gradient of their quotient goes to the parameters.

        It is 0 where all rows have weight 0. Raises InputError on all ranks where one is no number. A collective.
        """
        world, size = self.problem.world, state.parameters.numel()
        packet = torch.zeros(size + 3, dtype=torch.float64, device=world.device)
        failure = None
        try:
            batch = self.batch(state)
            loss, gradient = self._differentiate(state, batch)
            packet[:size] = gradient.flatten()
            packet[size], packet[size + 1] = loss, len(batch) if batch.weights is None else batch.weights.sum()
        except Exception as error:
            failure = error
            packet.zero_()
            packet[size + 2] = 1
        cost, count, failed = world.sum_(packet)[size:].tolist()
        if failed:
            world.raise_together(failure)
        if not bool(torch.isfinite(packet).all()):
            told = f"the loss is {cost:.6g}, or its gradient no number, in step {state.step + 1}"
            raise InputError(f"solver=gradient: {told}; use a smaller solver.lr (now {self.solver.lr:g})")
        state.parameters.grad = packet[:size].view_as(state.parameters) / ((count or 1.0) * state.scale**2)
        return cost, count

    def batch(self, state: State) -> Shard:
        """This rank's rows of the step's batch: the next of all rows in an order of the pass."""
        shard, (number, at) = self.problem.shard, divmod(state.step, self.steps)
        places = torch.arange(at * self.size, min((at + 1) * self.size, shard.total), device=shard.rows.device)
        rows = permute(places, shard.total, Stream(state.seed, "gradient/order", number)) if self.steps > 1 else places
        return shard.subset(shard.local_of(rows)[0], len(places))

    def _differentiate(self, state: State, batch: Shard) -> tuple[Tensor, Tensor]:
        """The weighted loss of these rows, and its gradient (K, D) in the parameters."""
        with torch.enable_grad():
            centroids = state.centroids()
            labels = torch.empty(len(batch), dtype=torch.int32, device=batch.rows.device)
            self.kernel.assign(batch.rows, self.problem.centroids(centroids.detach()), labels)
            loss = self._sum(batch, centroids, labels)
            if not loss.requires_grad:
                raise InputError("solver.loss: does not depend on the centroids")
            (gradient,) = torch.autograd.grad(loss, [state.parameters])
        return loss.detach(), gradient

    def total(self, centroids: Tensor, labels: Tensor) -> float:
        """The weighted loss of all rows. A collective."""
        shard, world = self.problem.shard, self.problem.world
        cost = torch.zeros(1, dtype=torch.float64, device=world.device)
        with world.guard(), torch.no_grad():
            for tile in shard.tiles():
                where = torch.arange(tile.start, tile.stop, device=world.device)
                cost += self._sum(shard.subset(where, len(where)), centroids, labels[tile])
        return float(world.sum_(cost))

    def _sum(self, batch: Shard, centroids: Tensor, labels: Tensor) -> Tensor:
        each = self._each(batch.rows, centroids, labels.to(torch.int64))
        return each.sum() if batch.weights is None else each @ batch.weights.to(torch.float64)

    def _each(self, rows: Tensor, centroids: Tensor, labels: Tensor) -> Tensor:
        """The loss of each row, float64 (n,). Raises InputError for a loss of another shape."""
        loss = self.solver.loss(rows.to(torch.float64), centroids, labels)
        if not isinstance(loss, Tensor) or loss.shape != (len(rows),):
            shape = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise InputError(f"solver.loss: gives {shape} for {len(rows)} rows; expected one number for each row")
        return loss.to(torch.float64)


class GradientLearner:
    """A step for each batch of a loader; the first one tells the scale of lr."""

    def __init__(self, solver: Gradient, task: Task) -> None:
        self.solver, self.task = replaced_size(solver), task
        self.state: State | None = None
        self.place: Callable[[Tensor], Tensor] | None = None

    @property
    def converged(self) -> bool:
        return self.state is not None and self.state.converged

    def learn(self, world: World, batch: Shard) -> float:
        task = self.task
        if self.state is None:
            check_k(task.k, batch.total)
        elif batch.dims != self.state.parameters.shape[1]:
            width = self.state.parameters.shape[1]
            raise InputError(f"x: {batch.dims} columns; the batches before had {width}")
        problem = pose(world, batch, task.metric, task.exact)
        if self.state is None:
            seeds = task.seeding(problem, task.k, task.seed)
            self.state, self.place = self.solver.start(problem, seeds.centroids, task.seed), problem.centroids
        before = self.state.loss[0]
        Training(problem, self.solver, self.centroids()).step(self.state)
        return self.state.loss[0] - before

    def end_pass(self, rows: int) -> None:
        assert self.state is not None
        self.solver.end_pass(self.state)

    def centroids(self) -> Tensor:
        assert self.state is not None
        assert self.place is not None
        return self.place(self.state.centroids().detach())


def replaced_size(solver: Gradient) -> Gradient:
    """The same solver, whose batches are whatever they are given."""
    other = copy.copy(solver)
    other.batch_size = 2**62
    return other


def optimizer_maker(given: Any, lr: float, options: Mapping[str, Any]) -> OptimizerMaker:
    """What makes the optimiser: a class, its name in torch.optim, or the caller's own function. Raises InputError."""
    if inspect.isclass(given):
        return _maker_of(given, lr, options)
    if callable(given):
        if options:
            raise InputError(f"solver.optimizer_options: {UNHEARD}")
        return given
    known = sorted(name for name, kind in vars(torch.optim).items() if inspect.isclass(kind) and name not in UNFIT)
    if given not in known:
        near = schema.nearest(str(given), known)
        listed = schema.listed(known, "or")
        raise InputError(f"solver.optimizer={given}: unknown; expected one of torch.optim: {listed}{near}")
    return _maker_of(getattr(torch.optim, given), lr, options)


def _maker_of(kind: Any, lr: float, options: Mapping[str, Any]) -> OptimizerMaker:
    name, taken = kind.__name__, inspect.signature(kind).parameters
    for key in options:
        if key not in taken:
            near = schema.nearest(key, list(taken))
            raise InputError(f"solver.optimizer_options.{key}: {name} takes no such argument{near}")

    def make(parameters: list[Tensor]) -> torch.optim.Optimizer:
        try:
            made: torch.optim.Optimizer = kind(parameters, lr=lr, **options)
        except (TypeError, ValueError) as error:
            raise InputError(f"solver.optimizer={name}: {error}") from error
        return made

    return make
