"""The mutual information that two labellings share by chance, with clusters of the sizes that they have."""

from __future__ import annotations

import math

import numpy as np

from distkmeans.evaluate.contingency import Contingency

TAIL = 50.0
"""Minus the logarithm of the probability that is left out at either side: below float64's rounding of any sum."""
BLOCK = 1 << 20
"""Probabilities that are formed at a time."""


def expected_information(table: Contingency) -> float:
    """Over all tables with these sums, in nats: ``expected_mutual_information`` (Vinh, Epps and Bailey 2009).

    The rows of a cell are hypergeometric. Probabilities come from their ratios n to n + 1, in a window that leaves out
    less than exp(-TAIL) (Hoeffding 1963, Bernstein's bound), and are divided by their sum: no logarithm of a factorial
    loses digits where there are many rows, and equal sizes are done once.
    """
    rows, row_times = np.unique(table.rows, return_counts=True)
    columns, column_times = np.unique(table.columns, return_counts=True)
    terms = [
        times * float((part_times * _of_cells(int(size), part, table.total)).sum())
        for size, times in zip(rows, row_times, strict=True)
        for part, part_times in _parts(int(size), columns, column_times, table.total)
    ]
    return math.fsum(terms)


def _reach(a: int, b: np.ndarray, total: int) -> np.ndarray:
    """How far from the mean the window goes."""
    variance = a * (b / total) * (1 - b / total)
    return np.ceil(np.sqrt(2 * TAIL * variance) + TAIL).astype(np.int64)


def _parts(a: int, b: np.ndarray, times: np.ndarray, total: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The columns in blocks whose windows fit."""
    step = max(1, BLOCK // (2 * int(_reach(a, b, total).max()) + 1))
    return [(b[at : at + step], times[at : at + step]) for at in range(0, len(b), step)]


def _of_cells(a: int, b: np.ndarray, total: int) -> np.ndarray:
    """sum over n of n / N log(N n / (a b)) P(n), for cells of row sum a and column sums b (C,): float64 (C,)."""
    mean, reach = a * (b / total), _reach(a, b, total)
    low = np.maximum(np.maximum(0, a + b - total), np.floor(mean).astype(np.int64) - reach)
    high = np.minimum(np.minimum(a, b), np.ceil(mean).astype(np.int64) + reach)
    n = low[:, None] + np.arange(int((high - low).max()) + 1)
    inside = n <= high[:, None]
    n = np.where(inside, n, high[:, None])
    b = b[:, None]
    up, down = (a - n).astype(np.float64) * (b - n), (n + 1.0) * (total - a - b + n + 1)
    with np.errstate(divide="ignore"):
        steps = np.where(inside[:, 1:], np.log(up[:, :-1]) - np.log(down[:, :-1]), 0.0)
        surprise = np.where(n > 0, np.log(np.maximum(n, 1) / (a * (b / total))), 0.0)
    chance = np.concatenate([np.zeros((len(n), 1)), steps.cumsum(1)], axis=1)
    chance = np.where(inside, np.exp(chance - chance.max(1, keepdims=True)), 0.0)
    return (n / total * surprise * chance).sum(1) / chance.sum(1)
