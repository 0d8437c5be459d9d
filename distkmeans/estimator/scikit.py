"""What the estimators need of scikit-learn that has no public name, or had another one before 1.6."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sklearn.base import _fit_context
from sklearn.utils._param_validation import Interval, StrOptions

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # before 1.6 these were methods
    validate_data = None

__all__ = ["Interval", "StrOptions", "checks_parameters", "note_columns", "validated"]

Fit = TypeVar("Fit", bound=Callable[..., Any])
checks_parameters: Callable[[Fit], Fit] = _fit_context(prefer_skip_nested_validation=True)
"""Decorator of ``fit``: parameters are checked by ``_parameter_constraints`` first, with scikit-learn's errors."""


def validated(estimator: Any, X: Any, *, reset: bool, **options: Any) -> Any:
    """X as an array or a sparse matrix, of columns that the estimator knows or notes; NaN and Inf pass.

    Whether values are finite is found out by the pass over the rows that is made in any case.
    """
    if validate_data is None:
        return estimator._validate_data(X, reset=reset, force_all_finite=False, **options)
    return validate_data(estimator, X, reset=reset, ensure_all_finite=False, **options)


def note_columns(estimator: Any, X: Any, *, reset: bool) -> None:
    """Note number and names of the columns, or raise ValueError where they are not those that were noted."""
    if validate_data is None:
        estimator._check_feature_names(X, reset=reset)
        estimator._check_n_features(X, reset=reset)
    else:
        validate_data(estimator, X, reset=reset, skip_check_array=True)
