"""Which k, from a sweep over k: the best silhouette, and the elbow of the inertia."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distkmeans.report.table import Row, Table
from distkmeans.schema import listed

SCORES = ("silhouette", "simplified_silhouette")
"""Scores by which a k is chosen: the first that is known."""
POOLED = ("k", "seed", "n_init", "init", "solver", "precision", "memory", "report", "evaluate", "scores")
"""First parts of keys that lead to other solutions of one problem: of these the best counts for each k."""
BEST = "The best k has the largest {score}, the smaller k on a tie. "
ELBOW = (
    "The elbow is where the inertia lies farthest below the straight line from its first point to its last, both axes"
    " scaled to 0 to 1 (Kneedle: Satopaa et al. 2011)."
)


@dataclass(frozen=True)
class Choice:
    """The points of a sweep that cluster one problem. ks: those that are done, ascending.

    inertias: the least at each k. scores: the largest value of ``score`` at each, None where there is none. shared:
    the overrides that set this problem apart from others of the sweep. tried: all numbers of clusters, those without a
    result too.
    """

    ks: list[int]
    inertias: list[float]
    scores: list[float | None]
    score: str
    shared: Mapping[str, str]
    tried: list[int]

    @property
    def best(self) -> int | None:
        """The k of the largest score, the smallest such k."""
        known = [(-score, k) for score, k in zip(self.scores, self.ks, strict=True) if score is not None]
        return min(known)[1] if known else None

    @property
    def elbow(self) -> int | None:
        return elbow(self.ks, self.inertias)

    @property
    def sentence(self) -> str:
        """What the sweep says of k, in one sentence."""
        where = f" with {', '.join(f'{key}={value}' for key, value in self.shared.items())}" if self.shared else ""
        if len(self.ks) == 1:
            return f"only k = {self.ks[0]}{where} is done ({self._told()}): there is nothing to choose from"
        knee = self.elbow
        bend = f"the elbow is at k = {knee}" if knee else "the inertia has no elbow"
        if len(self.ks) < 3:
            bend = "an elbow needs three values of k"
        if self.best is None:
            return f"{bend}{where} ({self._told()}); evaluate=[silhouette] tells the best k"
        value = self.scores[self.ks.index(self.best)]
        return f"best k = {self.best}{where}: {self.score.replace('_', ' ')} {value:.2f} ({self._told()}); {bend}"

    @property
    def method(self) -> str:
        """How the best k, where there is one, and the elbow are found."""
        return ELBOW if self.best is None else BEST.format(score=self.score.replace("_", " ")) + ELBOW

    def marks(self, row: Row) -> list[str]:
        """What k a point of this problem has been found to have."""
        found = {"best k": self.best, "elbow": self.elbow} if shared_of(row) == self.shared else {}
        return [word for word, k in found.items() if row.overrides.get("k") == str(k)]

    def _told(self) -> str:
        first, last = self.tried[0], self.tried[-1]
        whole = self.tried == list(range(first, last + 1))
        some = f"{first} to {last}" if whole else listed([str(k) for k in self.tried], "and")
        if not whole and len(self.tried) > 6:
            some = f"{len(self.tried)} values from {first} to {last}"
        failed = len(self.tried) - len(self.ks)
        return f"{some} tried" + (f", {failed} without a result" if failed else "")


def choose(table: Table) -> Choice | None:
    """What a table says of k; None where k does not vary, or nothing is done."""
    rows = [row for row in table.rows if row.overrides.get("k", "").isdecimal()]
    tried = sorted({int(row.overrides["k"]) for row in rows})
    done = [row for row in rows if row.status == "done" and row.inertia is not None and math.isfinite(row.inertia)]
    if len(tried) < 2 or not done:
        return None
    score = next((name for name in SCORES if any(row.scores.get(name) is not None for row in done)), SCORES[0])
    problems: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    for row in done:
        problems.setdefault(tuple(shared_of(row).items()), []).append(row)
    choices = [_choice(same, score, dict(shared), tried) for shared, same in problems.items()]
    return max(choices, key=lambda choice: max((each for each in choice.scores if each is not None), default=-math.inf))


def _choice(rows: Sequence[Row], score: str, shared: Mapping[str, str], tried: list[int]) -> Choice:
    by_k: dict[int, list[Row]] = {}
    for row in sorted(rows, key=lambda row: int(row.overrides["k"])):
        by_k.setdefault(int(row.overrides["k"]), []).append(row)
    inertias = [min(row.inertia for row in same if row.inertia is not None) for same in by_k.values()]
    found = [[value for row in same if (value := row.scores.get(score)) is not None] for same in by_k.values()]
    return Choice(list(by_k), inertias, [max(values, default=None) for values in found], score, shared, tried)


def shared_of(row: Row) -> dict[str, str]:
    """The overrides of a point that make another problem of it, and not another solution."""
    return {key: value for key, value in row.overrides.items() if key.lstrip("+").partition(".")[0] not in POOLED}


def elbow(ks: Sequence[int], inertias: Sequence[float]) -> int | None:
    """The k, of ascending ones, at which a falling inertia lies farthest below the chord of its curve.

    Kneedle without smoothing, for a convex and falling curve (Satopaa et al. 2011, section III). None for fewer than
    three points, and for a curve that does not fall or is nowhere below its chord.
    """
    if len(ks) < 3 or not inertias[0] > inertias[-1]:
        return None
    width, height = ks[-1] - ks[0], inertias[0] - inertias[-1]
    depths = [(ks[-1] - k) / width - (cost - inertias[-1]) / height for k, cost in zip(ks, inertias, strict=True)]
    deepest = max(depths)
    return ks[depths.index(deepest)] if deepest > 0 else None
