"""k-means for embeddings at any scale, as one PyTorch job: exact, and bit-identical on 1 rank or 1,000."""

import importlib
from typing import TYPE_CHECKING, Any

from distkmeans.api import Result, fit, predict
from distkmeans.errors import DistkmeansError, InputError, WorldError
from distkmeans.model import Model
from distkmeans.saved import load
from distkmeans.scoring import score

if TYPE_CHECKING:
    from distkmeans import nn
    from distkmeans.estimator import KMeans, MiniBatchKMeans

__version__ = "0.1.0"
__all__ = [
    "DistkmeansError",
    "InputError",
    "KMeans",
    "MiniBatchKMeans",
    "Model",
    "Result",
    "WorldError",
    "fit",
    "load",
    "nn",
    "predict",
    "score",
]


def __getattr__(name: str) -> Any:
    """The estimators, which import scikit-learn, and what goes into models, when they are first asked for."""
    if name in ("KMeans", "MiniBatchKMeans"):
        from distkmeans import estimator

        return getattr(estimator, name)
    if name == "nn":
        return importlib.import_module("distkmeans.nn")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
