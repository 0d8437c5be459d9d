"""What the estimators have in common: what precedes a fit, and all that follows from fitted centroids."""

from __future__ import annotations

import functools
import warnings
from abc import ABC
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from distkmeans.api import world_of
from distkmeans.data.array import as_rows
from distkmeans.data.shard import own_shard
from distkmeans.errors import InputError
from distkmeans.estimator.distances import distances
from distkmeans.estimator.rows import blocks, checked_rows, counted, dense, explained, weights_of
from distkmeans.estimator.scikit import Interval, StrOptions
from distkmeans.estimator.seeding import NAMES, is_array
from distkmeans.launcher import Place, place
from distkmeans.metrics import Metric, metrics
from distkmeans.model import assign, check_rows, like
from distkmeans.problem import Problem, pose
from distkmeans.solvers.labelling import label
from distkmeans.world import World, pick_device


class CentroidModel(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator, ABC):
    """Centroids that label rows. A subclass has ``fit`` and the parameters that are named here."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "init": [StrOptions(set(NAMES)), callable, "array-like", Tensor],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
        "metric": [StrOptions({"euclidean", "cosine"})],
        "precision": [StrOptions({"exact", "fast"})],
        "device": [StrOptions({"auto", "cpu", "cuda"}), None],
    }
    _default_n_init: ClassVar[int]
    """What n_init="auto" is for first centres that are drawn, but for k-means++."""

    n_clusters: Any
    init: Any
    n_init: Any
    metric: Any
    precision: Any
    device: Any
    cluster_centers_: Any
    labels_: Any

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> CentroidModel:
        """Fit centroids to rows X, (N, D)."""
        raise NotImplementedError

    def fit_predict(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """``fit(X)``, and the labels of its rows: (N,)."""
        return self.fit(X, sample_weight=sample_weight).labels_

    def fit_transform(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """``fit(X)``, and the distances of its rows to the centroids: (N, K)."""
        return self.fit(X, sample_weight=sample_weight)._distances(X)

    def predict(self, X: Any) -> Any:
        """The index of the truly nearest centroid of each row of X, (N, D): int32 (N,), lowest index on a true tie.

        No collective: in a job each rank may predict rows of its own.
        """
        return self._applied(X, lambda rows, centroids: assign(rows, centroids, self._metric))

    def transform(self, X: Any) -> Any:
        """The Euclidean distances of rows X, (N, D), to the centroids: (N, K), float32 for rows of up to 32 bits.

        With metric="cosine" of the rows brought to length 1. No collective.
        """
        return self._distances(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """The negative inertia of rows X, (N, D), weighted. A collective: of the rows of all ranks."""
        check_is_fitted(self)
        world = world_of(self.device, X)
        _, problem = self._posed(world, X, sample_weight, reset=False)
        centroids = self._centroids().to(world.device, problem.shard.centroid_type)
        return -label(problem, centroids).inertia

    def _applied(self, X: Any, function: Callable[[Tensor, Tensor], Tensor]) -> Any:
        """``function(rows, centroids)`` of the rows of X, in X's kind and on its device."""
        check_is_fitted(self)
        checked = checked_rows(self, X, reset=False, least=int(place() is None))
        device, centroids = self._device_for(X), self._centroids()
        with explained(checked, self):
            parts = [function(part.to(device), centroids.to(device)) for part in blocks(checked)]
        return like(torch.cat(parts), X)

    def _distances(self, X: Any) -> Any:
        def measured(rows: Tensor, centroids: Tensor) -> Tensor:
            check_rows(rows, self._metric)
            return distances(self._metric.prepare(rows), centroids)

        return self._applied(X, measured)

    def _posed(self, world: World, X: Any, sample_weight: Any, *, reset: bool) -> tuple[Any, Problem]:
        """X, checked, and the problem that it is with the rows of the other ranks. A collective.

        reset: as a fit notes the columns; else rows for the fitted centroids, in a type that holds both.
        """
        checked, rows, weights = self._read(world, X, sample_weight, reset=reset)
        with explained(checked, self):
            return checked, self._problem(world, rows, weights)

    def _read(self, world: World, X: Any, sample_weight: Any, *, reset: bool) -> tuple[Any, Tensor, Tensor | None]:
        with world.guard():
            checked = checked_rows(self, X, reset=reset, least=int(world.size == 1))
            rows = dense(checked)
            if not reset and self._centroids().dtype == torch.float64:
                rows = rows.to(torch.float64)
            weights = weights_of(sample_weight, rows)
        return checked, rows, counted(world, weights)

    def _problem(self, world: World, rows: Tensor, weights: Tensor | None) -> Problem:
        return pose(world, own_shard(world, rows, weights), self._metric, self.precision == "exact")

    def _check_count(self, total: int) -> None:
        if total < self.n_clusters:
            raise InputError(f"n_samples={total} should be >= n_clusters={self.n_clusters}.")

    def _restarts(self, world: World) -> int:
        """n_init as a number."""
        drawn = not is_array(self.init)
        if self.n_init == "auto":
            return self._default_n_init if drawn and not str(self.init).startswith("k-means") else 1
        if not drawn and self.n_init != 1:
            say(
                world,
                "Explicit initial center position passed: performing only one init in"
                f" {type(self).__name__} instead of n_init={self.n_init}.",
                RuntimeWarning,
            )
        return int(self.n_init) if drawn else 1

    @property
    def _metric(self) -> Metric:
        return metric_named(self.metric)

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    def _centroids(self) -> Tensor:
        """The fitted centroids as a tensor (K, D) of float32 or float64."""
        centroids = as_rows(self.cluster_centers_, "cluster_centers_")
        return centroids if centroids.dtype in (torch.float32, torch.float64) else centroids.to(torch.float64)

    def _device_for(self, X: Any) -> torch.device:
        """Where X is worked on, as in a fit."""
        if isinstance(X, Tensor) and self.device is None:
            return X.device
        mine = place() or Place(0, 1)
        return pick_device(self.device or "auto", mine.local_rank, mine.local_size)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


@functools.cache
def metric_named(name: str) -> Metric:
    """A metric without options; it has no state."""
    return metrics.build(name)


def say(world: World, text: str, kind: type[Warning]) -> None:
    """Warn whoever called ``fit``, once for all ranks."""
    if world.speaks:
        warnings.warn(text, kind, stacklevel=4)


def warn_of_fewer(world: World, clusters: int, empty: int) -> None:
    """Warn, as scikit-learn does, of clusters without rows."""
    if empty:
        say(
            world,
            f"Number of distinct clusters ({clusters - empty}) found smaller than n_clusters ({clusters})."
            " Possibly due to duplicate points in X.",
            ConvergenceWarning,
        )
