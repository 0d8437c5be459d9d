"""``MiniBatchKMeans``: scikit-learn's estimator, on ``solver=minibatch``."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from torch import Tensor

from distkmeans.api import warn_of_copies, world_of
from distkmeans.estimator.base import CentroidModel, say
from distkmeans.estimator.rows import explained
from distkmeans.estimator.scikit import Interval, checks_parameters
from distkmeans.estimator.seeding import seed_of, seeding_of
from distkmeans.init.given import Given
from distkmeans.kernels.once import Once
from distkmeans.model import like
from distkmeans.problem import Problem
from distkmeans.solvers.best_seeds import best_seeds
from distkmeans.solvers.labelling import label
from distkmeans.solvers.lloyd import unscaled
from distkmeans.solvers.minibatch import Course, MiniBatch, passes
from distkmeans.solvers.online import Rule, State
from distkmeans.solvers.stream import Stream
from distkmeans.world import World


class MiniBatchKMeans(CentroidModel):
    """k-means from random batches of rows, with scikit-learn's parameters, attributes, errors and warnings.

    n_clusters: K. init: as of ``KMeans``, from ``init_size`` rows. max_iter: passes at most, of as many drawn rows as
    there are. batch_size: rows of a batch, over all ranks. verbose: tells of every batch. compute_labels: label all
    rows in the end. random_state: a whole number is the seed. tol: ends when a batch moves the centroids by a squared
    shift of at most tol times the mean variance of the columns; 0 for no such end. max_no_improvement: ends after so
    many batches in a row that do not lower the smoothed inertia; None for no such end. init_size: None for 3 *
    batch_size, or 3 * n_clusters where that is less than n_clusters. n_init: seedings, of which the best on
    ``init_size`` rows is taken; "auto" is 3 for "random" and functions, else 1. reassignment_ratio: of the largest
    weight of a centre, below which another is given a row of the batch.

    Our own: decay: what the weight of earlier batches is multiplied by at each, for streams that drift. metric:
    "euclidean" or "cosine". precision, device: as of ``KMeans``.

    Fitted: cluster_centers_, labels_, inertia_, n_features_in_, feature_names_in_ as of ``KMeans``; without
    compute_labels, no labels, and inertia_ is the smoothed inertia of batches times the weight of all rows. n_iter_:
    passes, begun or done. n_steps_: batches.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CentroidModel._parameter_constraints,
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "compute_labels": ["boolean"],
        "max_no_improvement": [Interval(Integral, 0, None, closed="left"), None],
        "init_size": [Interval(Integral, 1, None, closed="left"), None],
        "reassignment_ratio": [Interval(Real, 0, None, closed="left")],
        "decay": [Interval(Real, 0, 1, closed="both")],
    }
    _default_n_init = 3

    def __init__(
        self,
        n_clusters: Any = 8,
        *,
        init: Any = "k-means++",
        max_iter: Any = 100,
        batch_size: Any = 1024,
        verbose: Any = 0,
        compute_labels: Any = True,
        random_state: Any = None,
        tol: Any = 0.0,
        max_no_improvement: Any = 10,
        init_size: Any = None,
        n_init: Any = "auto",
        reassignment_ratio: Any = 0.01,
        decay: Any = 1.0,
        metric: Any = "euclidean",
        precision: Any = "exact",
        device: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.verbose = verbose
        self.compute_labels = compute_labels
        self.random_state = random_state
        self.tol = tol
        self.max_no_improvement = max_no_improvement
        self.init_size = init_size
        self.n_init = n_init
        self.reassignment_ratio = reassignment_ratio
        self.decay = decay
        self.metric = metric
        self.precision = precision
        self.device = device

    @checks_parameters
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchKMeans:
        """Fit centroids to rows X, (N, D), by random batches of them. sample_weight: (N,), how often they are drawn.

        A collective: raises ValueError on every rank.
        """
        world = world_of(self.device, X)
        checked, problem = self._posed(world, X, sample_weight, reset=True)
        warn_of_copies(world, problem.shard.rows)
        self._prepare(world, problem.shard.total)
        clusters, seed = int(self.n_clusters), seed_of(world, self.random_state)
        with world.guard():
            seeding = seeding_of(self.init, (clusters, problem.shard.dims), checked)
        seeds = best_seeds(problem, seeding, clusters, seed, self._init_size, self._n_init)
        solver, state = self._solver(), State.start(seeds.centroids, seed)
        course = solver.course(problem, state.centroids)
        while not state.converged and state.step < course.steps:
            solver.step(problem, course, state)
            if self.verbose and world.speaks:
                print(told(course, state))
        self._keep(state, X)
        self.n_iter_ = passes(course, state.step)
        if self.compute_labels:
            self._label(problem, X, course.kernel)
        else:
            self.inertia_ = mean_inertia(course, state) * course.draws.weight
        return self

    @checks_parameters
    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> MiniBatchKMeans:
        """Learn from one batch of rows X, (N, D): the first, of at least n_clusters, is also what centres start from.

        sample_weight: (N,). labels_ and inertia_ are of this batch and the centres after it. A collective: the rows of
        all ranks are one batch. Raises ValueError on every rank.
        """
        world = world_of(self.device, X)
        state = getattr(self, "_state", None)
        checked, rows, weights = self._read(world, X, sample_weight, reset=state is None)
        stream = self._stream(world, checked, rows, state)
        with explained(checked, self):
            state = stream.partial_fit(world, state, rows, weights)
            problem = self._problem(world, rows, weights) if self.compute_labels else None
        self._keep(state, X)
        if problem is not None:
            self._label(problem, X)
        return self

    def _prepare(self, world: World, total: int) -> None:
        """Check the numbers against the rows; how many seedings, and of how many rows."""
        self._check_count(total)
        self._n_init = self._restarts(world)
        size = self.init_size
        if size is None:
            size = 3 * min(self.batch_size, total)
        elif size < self.n_clusters:
            text = f"init_size={size} should be larger than n_clusters={self.n_clusters}."
            say(world, f"{text} Setting it to min(3*n_clusters, n_samples)", RuntimeWarning)
        if size < self.n_clusters:
            size = 3 * self.n_clusters
        self._init_size = min(int(size), total)

    def _stream(self, world: World, checked: Any, rows: Tensor, state: State | None) -> Stream:
        """What learns from the next batch, of which these are this rank's rows. A collective."""
        rule, exact = Rule(float(self.decay), float(self.reassignment_ratio)), self.precision == "exact"
        clusters = int(self.n_clusters)
        if state is not None:
            return Stream(clusters, Given(state.centroids), self._metric, rule, state.seed, exact)
        self._prepare(world, int(world.sum_(torch.tensor(len(rows), device=world.device))))
        with world.guard():
            seeding = seeding_of(self.init, (clusters, rows.shape[1]), checked, self._init_size)
        return Stream(clusters, seeding, self._metric, rule, seed_of(world, self.random_state), exact)

    def _solver(self) -> MiniBatch:
        patience = None if self.max_no_improvement is None else int(self.max_no_improvement)
        ratio, decay = float(self.reassignment_ratio), float(self.decay)
        return MiniBatch(int(self.max_iter), int(self.batch_size), float(self.tol), patience, ratio, decay)

    def _keep(self, state: State, X: Any) -> None:
        """On the CPU what the next batch needs, so that a model of arrays can be unpickled where there is no card."""
        self._state, self.n_steps_ = state.to(torch.device("cpu")), state.step
        self.cluster_centers_ = like(state.centroids, X)

    def _label(self, problem: Problem, X: Any, kernel: Once | None = None) -> None:
        centroids = self._state.centroids.to(problem.shard.rows.device, problem.shard.centroid_type)
        found = label(problem, centroids, kernel)
        self.labels_, self.inertia_ = like(found.labels, X), found.inertia


def mean_inertia(course: Course, state: State) -> float:
    """Of a row: smoothed over the batches, but for the first, which tells of the seeding alone."""
    return unscaled(state.inertia if state.smoothed is None else state.smoothed, course.scale.by)


def told(course: Course, state: State) -> str:
    """A batch, in scikit-learn's words."""
    at, by = f"step {state.step}/{course.steps}", course.scale.by
    text = f"Minibatch {at}: mean batch inertia: {unscaled(state.inertia, by)}"
    if state.smoothed is not None:
        text += f", ewa inertia: {unscaled(state.smoothed, by)}"
    if not state.converged:
        return text
    small = course.limit is not None and state.shift <= course.limit
    return f"{text}\nConverged ({'small centers change' if small else 'lack of improvement in inertia'}) at {at}"
