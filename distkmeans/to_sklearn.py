"""A model as a fitted estimator of scikit-learn, which needs nothing of distkmeans to be unpickled and used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from distkmeans.errors import InputError

if TYPE_CHECKING:
    from distkmeans.model import Model


def to_sklearn(model: Model) -> Any:
    """A KMeans, or a Pipeline that ends with one. Raises InputError for what scikit-learn has no equal of.

    The steps before it are those of the transform and the metric, as their ``to_sklearn`` gives them, and a change of
    type: KMeans takes float64 rows to float64 centroids only, and float32 rows to float32 ones.
    """
    from sklearn.pipeline import make_pipeline

    steps: list[Any] = []
    for what, piece in (("transform", model.transformed), ("metric", model.metric)):
        if not hasattr(piece, "to_sklearn"):
            kind = getattr(piece, "name", type(piece).__name__)
            raise InputError(f"{what}={kind}: scikit-learn's KMeans has no equal; use model.predict")
        steps += piece.to_sklearn(model.centroids.shape[1])
    if not steps:
        return _kmeans(model.centroids, _type_for(model))
    return make_pipeline(*steps, _caster(model), _kmeans(model.centroids, model.centroids.dtype))


def _type_for(model: Model) -> torch.dtype:
    """The type to which KMeans itself brings rows of the type that the model was fitted on."""
    narrow = model.row_type is not None and model.row_type not in (torch.float32, torch.float64)
    return torch.float64 if narrow else model.centroids.dtype


def _kmeans(centroids: Tensor, dtype: torch.dtype) -> Any:
    """Fitted on one row, so that scikit-learn itself sets what is private, then given all centroids."""
    from sklearn.cluster import KMeans

    centers = centroids.to("cpu", dtype, copy=True).contiguous().numpy()
    kmeans = KMeans(n_clusters=1, n_init=1).fit(centers[:1])
    kmeans.set_params(n_clusters=len(centers))
    kmeans.cluster_centers_ = centers
    kmeans._n_features_out = len(centers)
    for of_the_row in ("labels_", "inertia_", "n_iter_"):
        delattr(kmeans, of_the_row)
    return kmeans


def _caster(model: Model) -> Any:
    """Transformed rows in the centroids' type, as the solver saw them."""
    from sklearn.preprocessing import FunctionTransformer

    dtype = np.float64 if model.centroids.dtype == torch.float64 else np.float32
    caster = FunctionTransformer(np.asarray, kw_args={"dtype": dtype}, feature_names_out="one-to-one")
    return caster.fit(np.zeros((1, model.centroids.shape[1])))
