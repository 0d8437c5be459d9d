"""scikit-learn's own checks of an estimator, and its own tests of k-means with our classes in the place of its own."""

from __future__ import annotations

import ast
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from distkmeans import KMeans, MiniBatchKMeans

OURS = ("KMeans", "MiniBatchKMeans")

PRIVATE = {
    "test_relocate_empty_clusters": "calls _relocate_empty_clusters_dense and _sparse, and no estimator",
    "test_minibatch_update_consistency": "calls _mini_batch_step and _labels_inertia, and no estimator",
    "test_minibatch_reassign": "calls _mini_batch_step and _labels_inertia, and no estimator",
    "test_euclidean_distance": "calls _euclidean_dense_dense and _sparse_dense, and no estimator",
    "test_inertia": "calls _inertia_dense and _sparse, and no estimator",
    "test_is_same_clustering": "calls _is_same_clustering, and no estimator",
    "test_sample_weight_init": "calls the method _init_centroids; tests/test_estimator.py asks the same of fit",
    "test_sample_weight_zero": "calls the method _init_centroids; tests/test_estimator.py asks the same of fit",
}
"""Tests that are left out, as they are of private functions."""

FAIL_THERE_TOO = {
    f"check_sample_weight_equivalence_on_{kind}_data": "random draws belong to rows: repeated rows are drawn otherwise"
    " than one row of that weight, in scikit-learn's own classes too"
    for kind in ("dense", "sparse")
}
"""Checks that scikit-learn's KMeans and MiniBatchKMeans fail as well, and that it lists as expected to fail."""


@parametrize_with_checks([KMeans(), MiniBatchKMeans()], expected_failed_checks=lambda estimator: FAIL_THERE_TOO)
def test_checks(estimator: Any, check: Callable[[Any], None]) -> None:
    check(estimator)


@pytest.fixture
def global_random_seed() -> int:
    """What scikit-learn's tests ask for by this name, from where scikit-learn takes it too."""
    return int(os.environ.get("SKLEARN_TESTS_GLOBAL_RANDOM_SEED", "42"))


@pytest.fixture(params=[np.float32, np.float64])
def global_dtype(request: pytest.FixtureRequest) -> Any:
    """Another fixture of scikit-learn's."""
    return request.param


def substituted() -> ast.Module:
    """scikit-learn's test module, without its own two classes and without the tests of private functions."""
    found = importlib.util.find_spec("sklearn.cluster.tests.test_k_means")
    if found is None or found.origin is None:
        pytest.skip("scikit-learn is installed without its tests", allow_module_level=True)
    module = ast.parse(Path(found.origin).read_text())
    for node in module.body:
        if isinstance(node, ast.ImportFrom) and node.module == "sklearn.cluster":
            node.names = [alias for alias in node.names if alias.name not in OURS]
    module.body = [node for node in module.body if getattr(node, "name", None) not in PRIVATE]
    return module


exec(compile(substituted(), "sklearn/cluster/tests/test_k_means.py, substituted", "exec"), globals())
