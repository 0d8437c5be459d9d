"""Many small minimisations in step: L-BFGS (Liu and Nocedal 1989) for each row of a table, none of which may rise.

The line search looks for a weak Wolfe point by bisection, which also serves functions with kinks (Lewis and Overton
2013). Inner products are sums in a fixed order, so that ranks of unlike machines that are given the same values and
gradients take the same steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from distkmeans.exact.floats import sum_columns

STEPS, TRIALS, MEMORY = 60, 40, 10
"""Steps at most, trials of a line search, and steps of which the curvature is remembered."""
DECREASE, CURVATURE = 1e-4, 0.9
"""Shares of the slope: what a step has to gain at least, and what may be left of it at its end."""
FLAT = 1e-14
"""A step that gains less, relative to the value, is the last, or the last but for one along the gradient."""

Evaluate = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""points (K, D), which of them matter, bool (K,) -> values (K,), infinite where undefined; gradients (K, D)."""


@dataclass
class Curvature:
    """The last steps and the changes of gradient along them: (K, D) each; rho (K,), 0 where there is none to use."""

    pairs: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def add(self, step: Tensor, change: Tensor, moved: Tensor) -> None:
        product = sum_columns(step * change)
        useful = moved & (product > 1e-12 * sum_columns(change * change).sqrt() * sum_columns(step * step).sqrt())
        rho = torch.where(useful, 1 / torch.where(useful, product, torch.ones_like(product)), torch.zeros_like(product))
        self.pairs = [*self.pairs, (step, change, rho)][-MEMORY:]

    def forget(self, which: Tensor) -> None:
        for _, _, rho in self.pairs:
            rho[which] = 0

    def known(self) -> Tensor | bool:
        """bool (K,): where there is any."""
        return torch.stack([rho > 0 for _, _, rho in self.pairs]).any(0) if self.pairs else False

    def direction(self, gradients: Tensor) -> Tensor:
        """Minus the inverse Hessian's estimate times the gradients, by the two-loop recursion."""
        result, shares, scale = -gradients, [], torch.ones_like(gradients[:, 0])
        for step, change, rho in reversed(self.pairs):
            share = rho * sum_columns(step * result)
            result = result - share[:, None] * change
            shares.append(share)
        for _, change, rho in self.pairs:  # the last one that can be used
            square = sum_columns(change * change)
            scale = torch.where(rho > 0, 1 / torch.where(rho > 0, rho * square, torch.ones_like(rho)), scale)
        result = result * scale[:, None]
        for (step, change, rho), share in zip(self.pairs, reversed(shares), strict=True):
            result = result + step * (share - rho * sum_columns(change * result))[:, None]
        return result


@dataclass
class Points:
    """at: float64 (K, D). values: (K,). gradients: (K, D)."""

    at: Tensor
    values: Tensor
    gradients: Tensor

    def where(self, which: Tensor, other: Points) -> Points:
        """Of the other where ``which``, bool (K,), else of this."""
        pick = which[:, None]
        return Points(
            torch.where(pick, other.at, self.at),
            torch.where(which, other.values, self.values),
            torch.where(pick, other.gradients, self.gradients),
        )


def descend(evaluate: Evaluate, start: Points) -> Points:
    """The lowest points found, never above the start. ``evaluate`` is called alike on all ranks."""
    points, curvature = start, Curvature()
    active = torch.isfinite(points.values)
    for _ in range(STEPS):
        direction = curvature.direction(points.gradients)
        uphill = ~(sum_columns(direction * points.gradients) < 0)
        curvature.forget(uphill)
        direction = torch.where(uphill[:, None], -points.gradients, direction)
        active = active & (sum_columns(direction * points.gradients) < 0)
        if not active.any():
            break
        known = torch.as_tensor(curvature.known(), device=active.device).expand_as(active).clone()
        found = _search(evaluate, points, direction, active)
        moved = found.values < points.values
        flat = ~(points.values - found.values > FLAT * points.values.abs())
        curvature.add(found.at - points.at, found.gradients - points.gradients, moved)
        curvature.forget(flat)
        points, active = found, active & (~flat | known)
    return points


def _search(evaluate: Evaluate, start: Points, direction: Tensor, active: Tensor) -> Points:
    """Weak Wolfe points along the directions where ``active``; the start where no step goes down."""
    slope = sum_columns(start.gradients * direction)
    step, low = torch.ones_like(slope), torch.zeros_like(slope)
    high = torch.full_like(slope, torch.inf)
    least = 2.0**-52 * start.at.abs().amax(1) / direction.abs().amax(1)  # less does not move the point
    best, searching = start, active
    for _ in range(TRIALS):
        at = torch.where(searching[:, None], start.at + step[:, None] * direction, start.at)
        tried = Points(at, *evaluate(at, searching))
        gains = searching & (tried.values <= start.values + DECREASE * step * slope)
        steep = sum_columns(tried.gradients * direction) < CURVATURE * slope
        best = best.where(gains & (tried.values <= best.values), tried)
        high = torch.where(searching & ~gains, step, high)
        low = torch.where(gains, step, low)
        searching = searching & ~(gains & ~steep) & (step > least)
        if not searching.any():
            break
        step = torch.where(torch.isfinite(high), (low + high) / 2, 2 * step)
    return best
