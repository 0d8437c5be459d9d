"""``KMeans``: scikit-learn's estimator, on the exact core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from distkmeans.api import warn_of_copies, world_of
from distkmeans.clustering import Plan, best_of
from distkmeans.estimator.base import CentroidModel, say, warn_of_fewer
from distkmeans.estimator.scikit import StrOptions, checks_parameters
from distkmeans.estimator.seeding import seed_of, seeding_of
from distkmeans.model import like
from distkmeans.problem import Problem
from distkmeans.solvers import Record
from distkmeans.solvers.lloyd import Lloyd, mean_variance
from distkmeans.world import World


class KMeans(CentroidModel):
    """k-means by Lloyd's algorithm, with scikit-learn's parameters, attributes, errors and warnings.

    n_clusters: K. init: "k-means++" (greedy), "random", "k-means||" (for a large K), an array (K, D), or a function
    (X, n_clusters, random_state) -> (K, D). n_init: seedings, of which the least inertia is kept; "auto" is 10 for
    "random" and functions, else 1. max_iter: iterations at most. tol: ends when the squared shift of the centroids is
    at most tol times the mean variance of the columns. verbose: tells of every iteration. random_state: a whole number
    is the seed of ``distkmeans.fit``. copy_x: rows are never written to, with either value. algorithm: "lloyd" or
    "elkan", for the same result: what prunes distances is chosen by the kernel.

    Our own: metric: "euclidean" or "cosine". empty: what a cluster without rows does, "farthest" takes the farthest
    row, as scikit-learn, "keep" keeps its centroid, "fail" raises. precision: "exact", or "fast", without proofs.
    device: None (a tensor's own, else as auto), "auto", "cpu" or "cuda".

    Fitted: cluster_centers_, (K, D) in float32, or float64 for float64 rows. labels_, int32 (N,): of the rows that were
    passed, the nearest of these centroids. inertia_: weighted sum of squared distances. n_iter_: iterations of the best
    restart. n_features_in_, feature_names_in_. NumPy, pandas or a sparse matrix in: NumPy out; a tensor in: tensors on
    its device. In a torchrun job every rank passes its own rows, and all attributes but labels_ are alike on all ranks.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CentroidModel._parameter_constraints,
        "copy_x": ["boolean"],
        "algorithm": [StrOptions({"lloyd", "elkan"})],
        "empty": [StrOptions({"farthest", "keep", "fail"})],
    }
    _default_n_init = 10

    def __init__(
        self,
        n_clusters: Any = 8,
        *,
        init: Any = "k-means++",
        n_init: Any = "auto",
        max_iter: Any = 300,
        tol: Any = 1e-4,
        verbose: Any = 0,
        random_state: Any = None,
        copy_x: Any = True,
        algorithm: Any = "lloyd",
        metric: Any = "euclidean",
        empty: Any = "farthest",
        precision: Any = "exact",
        device: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state
        self.copy_x = copy_x
        self.algorithm = algorithm
        self.metric = metric
        self.empty = empty
        self.precision = precision
        self.device = device

    @checks_parameters
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> KMeans:
        """Fit centroids to rows X, (N, D): an array, tensor, data frame or sparse matrix. sample_weight: (N,).

        A collective: raises ValueError on every rank.
        """
        world = world_of(self.device, X)
        checked, problem = self._posed(world, X, sample_weight, reset=True)
        warn_of_copies(world, problem.shard.rows)
        plan = self._plan(world, checked, problem)
        solution = best_of(problem, plan, self._narrator(problem)).solution
        warn_of_fewer(world, plan.k, solution.empty)
        self.cluster_centers_ = like(solution.centroids, X)
        self.labels_ = like(solution.labels, X)
        self.inertia_, self.n_iter_ = solution.inertia, solution.iterations
        return self

    def _plan(self, world: World, checked: Any, problem: Problem) -> Plan:
        self._check_count(problem.shard.total)
        self._n_init = self._restarts(world)
        if self.algorithm == "elkan" and self.n_clusters == 1:
            say(
                world,
                "algorithm='elkan' doesn't make sense for a single cluster. Using 'lloyd' instead.",
                RuntimeWarning,
            )
        clusters = int(self.n_clusters)
        with world.guard():
            seeding = seeding_of(self.init, (clusters, problem.shard.dims), checked)
        solver = Lloyd(int(self.max_iter), float(self.tol), self.empty)
        return Plan(clusters, seeding, solver, self._n_init, seed_of(world, self.random_state))

    def _narrator(self, problem: Problem) -> Callable[[int, Record], None]:
        """What hears of every iteration, and prints it as scikit-learn does, where that is wanted."""
        tolerance = self.tol * mean_variance(problem, 0) if self.tol else 0.0

        def tell(restart: int, record: Record) -> None:
            at = record.iteration - 1
            if not at:
                print("Initialization complete")
            print(f"Iteration {at}, inertia {record.inertia}.")
            if at and not record.moved:
                print(f"Converged at iteration {at}: strict convergence.")
            elif record.shift <= tolerance:
                print(f"Converged at iteration {at}: center shift {record.shift} within tolerance {tolerance}.")

        return tell if self.verbose and problem.world.speaks else lambda restart, record: None
