"""A metric of the user's own: a function for the distance, and one for the centre, or none where gradients will do."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from distkmeans import schema
from distkmeans.errors import InputError
from distkmeans.metrics.answer import answer
from distkmeans.metrics.by_gradient import gradient_centres
from distkmeans.metrics.gathered import gathered_centres
from distkmeans.metrics.geometry import Assigned, Geometry, Members

Distance = Callable[[Tensor, Tensor], Any]
"""rows (n, D), centroids (K, D), both float64 -> (n, K), a tensor or an array. The smaller the nearer."""
Centre = Callable[[Tensor, Tensor | None], Any]
"""rows (m, D), weights (m,) or None, both float64 -> (D,), a tensor or an array."""


@dataclass(frozen=True)
class Own(Geometry):
    """distance: as ``Distance``. centre: as ``Centre``; without it, by the distance's gradient. name: for messages.

    Labels are the argmin of the float64 values that the distance returns, the lowest index on a tie. Rows reach the
    centre in the order of their numbers, those of weight 0 left out. Values may depend on how many rows a call brings,
    so results at other numbers of ranks agree to rounding, and are not bit-identical.
    """

    distance: Distance
    centre: Centre | None = None
    name: str = "own"
    bit_identical = False

    @property
    def objective(self) -> str:  # type: ignore[override]
        return f"weighted sum of the distances of metric={self.name}"

    def row_elements(self, clusters: int, dims: int) -> int:
        return clusters * dims  # of differences, which most distances form

    def assign(self, rows: Tensor, centroids: Tensor, exact: bool) -> Assigned:
        values = self.costs(rows, centroids)
        costs, labels = values.min(1)  # the first of equals
        return Assigned(labels, costs, 0)

    def costs(self, rows: Tensor, centroids: Tensor) -> Tensor:
        x, c = (values.to(torch.float64, copy=True) for values in (rows, centroids))  # it may write to them
        with torch.no_grad():
            values = answer(self.distance, x, c, (len(x), len(c)), f"metric={self.name}: its distance")
        if not torch.isfinite(values).all():
            row, cluster = (~torch.isfinite(values)).nonzero()[0].tolist()
            shown = ", ".join(f"{value:.6g}" for value in rows[row, :4].tolist()) + ", ..." * (x.shape[1] > 4)
            raise InputError(
                f"metric={self.name}: its distance is {float(values[row, cluster])} between the row [{shown}] and"
                f" centroid {cluster}; expected a finite number"
            )
        return values

    def apart(self, rows: Tensor, costs: Tensor) -> Tensor:
        return costs.clamp(min=0)  # 1 - cosine is a little below 0 by rounding

    def recentre(self, members: Members) -> Tensor:
        if self.centre is not None:
            return gathered_centres(members, self.centre, f"metric={self.name}")
        return gradient_centres(members, self.distance, f"metric={self.name}")


def adopted(given: Any, name: str = "") -> Any:
    """A metric as it is; an ``Own`` of a function, of (distance, centre), or of what has a method ``distance``.

    Raises InputError for anything else.
    """
    if inspect.isclass(given):
        raise InputError(f"metric={given.__name__}: a class; make one of it: metric={given.__name__}()")
    if hasattr(given, "prepare"):
        return given
    if isinstance(given, (tuple, list)) and 1 <= len(given) <= 2 and all(map(callable, given)):
        distance, centre = (*given, None)[:2]
        return Own(distance, centre, name or _name_of(distance))
    if callable(getattr(given, "distance", None)):
        return Own(given.distance, getattr(given, "centre", None), name or type(given).__name__)
    if callable(given):
        return Own(given, None, name or _name_of(given))
    raise InputError(
        f"metric={name or given}: expected a name, a function (rows, centroids) -> distances, (distance, centre), or an"
        " object with a method distance"
    )


def _name_of(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def maker_of(maker: Any, name: str) -> Any:
    """What a registry shall call to make a metric: the maker, or for a bare distance function, one that returns it."""
    if not inspect.isfunction(maker) or not _is_distance(maker):
        return maker

    def make() -> Own:
        return Own(maker, None, name)

    make.__module__, make.__qualname__, make.__doc__ = maker.__module__, maker.__qualname__, maker.__doc__
    return make


def _is_distance(function: Callable[..., Any]) -> bool:
    """Whether a function needs two arguments, neither of a type that a key may have."""
    parameters = inspect.signature(function).parameters
    needed = [key for key, parameter in parameters.items() if parameter.default is parameter.empty]
    hints = schema.hints_of(function)
    return len(needed) == 2 and all(hints.get(key, Any) not in schema.KINDS for key in needed)
