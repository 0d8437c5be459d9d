"""Rows and weights as an estimator is given them: checked by scikit-learn's rules, and made tensors."""

from __future__ import annotations

import contextlib
import numbers
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.utils import assert_all_finite, check_array
from torch import Tensor

from distkmeans.data.array import as_rows
from distkmeans.errors import InputError
from distkmeans.estimator.scikit import note_columns, validated
from distkmeans.world import World

ROW_TYPES = [np.float64, np.float32, np.float16, np.uint8, np.int8]
"""Types that rows keep; all others become the first, as in scikit-learn."""
BLOCK_ELEMENTS = 1 << 22
"""Elements of the dense blocks that a sparse matrix is read in."""


def checked_rows(estimator: Any, X: Any, *, reset: bool, least: int = 1) -> Any:
    """X as scikit-learn would have it: an array (N, D), a CSR matrix, or the tensor that was given.

    reset: note the columns, or else compare them with those that were noted. least: rows at least. Raises ValueError.
    """
    if isinstance(X, Tensor):
        rows = as_rows(X, "X")
        note_columns(estimator, rows, reset=reset)
        return rows
    return validated(
        estimator, X, reset=reset, accept_sparse="csr", dtype=ROW_TYPES, order="C", ensure_min_samples=least
    )


def dense(checked: Any) -> Tensor:
    """What ``checked_rows`` returned as one (N, D) tensor."""
    return as_rows(checked.toarray() if issparse(checked) else checked, "X")


def blocks(checked: Any) -> Iterator[Tensor]:
    """What ``checked_rows`` returned, a sparse matrix block by block and all else at once: tensors (n, D)."""
    if not issparse(checked):
        yield dense(checked)
        return
    step = max(1, BLOCK_ELEMENTS // max(1, checked.shape[1]))
    for at in range(0, max(1, checked.shape[0]), step):
        yield dense(checked[at : at + step])


def weights_of(sample_weight: Any, rows: Tensor) -> Tensor | None:
    """(N,) weights of the rows, from a vector or one number for all. Raises ValueError."""
    if sample_weight is None:
        return None
    if isinstance(sample_weight, numbers.Number):
        return torch.full((len(rows),), float(sample_weight), dtype=torch.float64)  # type: ignore[arg-type]
    if isinstance(sample_weight, Tensor):
        weights = sample_weight.detach()
    else:
        kinds = [np.float64, np.float32]
        weights = torch.from_numpy(
            np.array(
                check_array(
                    sample_weight, ensure_2d=False, ensure_min_samples=0, dtype=kinds, input_name="sample_weight"
                )
            )
        )
    if weights.ndim != 1:
        raise InputError(f"Sample weights must be 1D array or scalar; got shape {tuple(weights.shape)}")
    if len(weights) != len(rows):
        raise InputError(f"sample_weight.shape == {tuple(weights.shape)}, expected {(len(rows),)}!")
    return weights


def counted(world: World, weights: Tensor | None) -> Tensor | None:
    """The weights, or None where all are 1 on all ranks: then each row counts once. Raises ValueError. A collective."""
    plain = weights is None or bool((weights == 1).all())
    nothing = weights is not None and not bool((weights != 0).any())
    differs, something = world.max_(torch.tensor([not plain, not nothing], dtype=torch.int64, device=world.device))
    if not something:
        raise InputError("Sample weights must contain at least one non-zero number.")
    return weights if differs else None


@contextlib.contextmanager
def explained(checked: Any, estimator: Any) -> Iterator[None]:
    """Work on rows, in which scikit-learn's ValueError takes the place of ours where they hold NaN or Inf."""
    try:
        yield
    except InputError as error:
        values = checked.data if issparse(checked) else checked
        if not isinstance(values, Tensor):
            try:
                assert_all_finite(values, estimator_name=type(estimator).__name__, input_name="X")
            except ValueError as theirs:
                raise theirs from error
        raise
