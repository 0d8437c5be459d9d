"""scikit-learn's estimators on the exact core: from plain Python, or on every rank of a torchrun job."""

from distkmeans.estimator.kmeans import KMeans
from distkmeans.estimator.minibatch import MiniBatchKMeans

__all__ = ["KMeans", "MiniBatchKMeans"]
