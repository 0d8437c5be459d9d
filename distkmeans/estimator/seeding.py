"""scikit-learn's ``init`` and ``random_state`` as a seeding and a seed."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_array, check_random_state
from torch import Tensor

from distkmeans.data.array import as_rows
from distkmeans.errors import InputError
from distkmeans.estimator.rows import ROW_TYPES
from distkmeans.init import Seeding, inits
from distkmeans.init.given import Called, Given
from distkmeans.model import like
from distkmeans.world import World

NAMES = {"k-means++": "plus_plus", "k-means||": "parallel", "random": "random"}
"""What ``init`` may be called, and what the pieces are called that do it."""


def is_array(init: Any) -> bool:
    """Whether centres are given, and not how to find them."""
    return not isinstance(init, str) and (hasattr(init, "__array__") or not callable(init))


def seeding_of(init: Any, shape: tuple[int, int], checked: Any, sample: int | None = None) -> Seeding:
    """The seeding that ``init`` asks for. shape: (K, D). checked: rows of the kind that a function is to see.

    sample: rows that one of our own looks at, None for all. Raises ValueError for centres of another shape.
    """
    if isinstance(init, str):
        return inits.build(NAMES[init], {"sample": sample})
    if not is_array(init):
        return Called(_called(init, shape, checked))
    values = as_rows(init, "init") if isinstance(init, Tensor) else check_array(init, dtype=ROW_TYPES)
    check_centres(values.shape, shape)
    return Given(values)


def check_centres(shape: Any, expected: tuple[int, int]) -> None:
    """Raise ValueError, in scikit-learn's words, for first centres that are not (K, D)."""
    told = f"The shape of the initial centers {tuple(shape)} does not match the number of"
    if shape[0] != expected[0]:
        raise InputError(f"{told} clusters {expected[0]}.")
    if shape[1] != expected[1]:
        raise InputError(f"{told} features of the data {expected[1]}.")


def _called(function: Any, shape: tuple[int, int], checked: Any) -> Callable[[Tensor, int, int], Any]:
    """scikit-learn's function(X, n_clusters, random_state) as one of (rows, k, seed)."""

    def call(rows: Tensor, k: int, seed: int) -> Any:
        shown = type(checked)(rows.cpu().numpy()) if issparse(checked) else like(rows, checked)
        found = function(shown, k, random_state=np.random.RandomState(seed % 2**32))
        found = as_rows(found.toarray() if issparse(found) else found, "init")
        check_centres(found.shape, shape)
        return found

    return call


def seed_of(world: World, random_state: Any) -> int:
    """A whole number is the seed itself; else it is drawn, from NumPy's generator for None. Rank 0's, on all ranks."""
    if isinstance(random_state, numbers.Integral):
        return world.share(int(random_state))
    return world.share(int(check_random_state(random_state).randint(np.iinfo(np.int32).max)))
