"""ari, ami, nmi, homogeneity, completeness: how far two labellings say the same, whatever the labels are called."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from distkmeans.evaluate import scorers
from distkmeans.evaluate.chance import expected_information
from distkmeans.evaluate.contingency import Contingency
from distkmeans.evaluate.subject import Subject

EPSILON = float(np.finfo(np.float64).eps)


class Agreement:
    """A score of clusters against the true classes, from how many rows each pair of them has. Weights are ignored."""

    cheap, needs_truth = True, True

    def __init__(self, of: Callable[[Contingency], float]) -> None:
        self.of = of

    def __call__(self, subject: Subject) -> float:
        return self.of(subject.against_truth)


def adjusted_rand(table: Contingency) -> float:
    """The adjusted Rand index (Hubert and Arabie 1985) of pairs of rows, in whole numbers: ``adjusted_rand_score``."""
    both, classes, clusters = (_squares(count) for count in (table.count, table.rows, table.columns))
    split, joined = classes - both, clusters - both  # pairs of one class that clusters split, and the reverse
    if not split and not joined:
        return 1.0
    together, total = both - table.total, table.total
    apart = total * total - split - joined - both
    chance = (together + split) * (split + apart) + (together + joined) * (joined + apart)
    return 2 * (together * apart - split * joined) / chance


def mutual_information(table: Contingency) -> float:
    """Mutual information in nats: ``mutual_info_score``."""
    if len(table.rows) == 1 or len(table.columns) == 1:
        return 0.0
    share = table.count / table.total
    terms = share * np.log((table.count / table.in_row) * (table.total / table.in_column))
    return max(0.0, math.fsum(terms[np.abs(terms) >= EPSILON]))


def entropy(counts: np.ndarray) -> float:
    """Of labels with so many rows each, in nats."""
    total = counts.sum()
    return math.fsum(counts / total * np.log(total / counts)) if len(counts) > 1 else 0.0


def normalised_mutual_information(table: Contingency) -> float:
    """Mutual information over the mean of the entropies: ``normalized_mutual_info_score``."""
    if len(table.rows) == len(table.columns) == 1:
        return 1.0
    mutual = mutual_information(table)
    return min(1.0, mutual / _mean_entropy(table)) if mutual else 0.0  # rounding alone goes beyond 1


def adjusted_mutual_information(table: Contingency) -> float:
    """The same with what chance gives taken off both (Vinh, Epps and Bailey 2010): ``adjusted_mutual_info_score``."""
    if len(table.rows) == len(table.columns) == 1:
        return 1.0
    if len(table.rows) == 1 or len(table.columns) == 1:
        return 0.0
    chance = expected_information(table)
    return _off_zero(mutual_information(table) - chance) / _off_zero(_mean_entropy(table) - chance)


def homogeneity(table: Contingency) -> float:
    """How far clusters hold one class each (Rosenberg and Hirschberg 2007): ``homogeneity_score``."""
    return _share(table, table.rows)


def completeness(table: Contingency) -> float:
    """How far classes lie in one cluster each: ``completeness_score``."""
    return _share(table, table.columns)


def _share(table: Contingency, counts: np.ndarray) -> float:
    whole = entropy(counts)
    return min(1.0, mutual_information(table) / whole) if whole else 1.0


def _mean_entropy(table: Contingency) -> float:
    return (entropy(table.rows) + entropy(table.columns)) / 2


def _off_zero(value: float) -> float:
    """At least EPSILON from 0, where a perfect agreement by chance leaves 0 / 0: scikit-learn's way."""
    return min(value, -EPSILON) if value < 0 else max(value, EPSILON)


def _squares(counts: np.ndarray) -> int:
    """Their sum of squares, which 64 bits may not hold."""
    return int((counts.astype(object) ** 2).sum())


for name, of in (
    ("ari", adjusted_rand),
    ("ami", adjusted_mutual_information),
    ("nmi", normalised_mutual_information),
    ("homogeneity", homogeneity),
    ("completeness", completeness),
):
    scorers.register(name)(lambda of=of: Agreement(of))
