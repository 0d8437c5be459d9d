"""Scores: how good a clustering is, from the rows of all ranks. One small file per idea."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from distkmeans.errors import InputError
from distkmeans.evaluate.subject import ScoreOptions, Subject, UndefinedError
from distkmeans.registry import Registry

__all__ = [
    "AUTO",
    "ScoreOptions",
    "Scorer",
    "Subject",
    "UndefinedError",
    "chosen",
    "evaluate",
    "needs_truth",
    "scorers",
]

AUTO = "auto"
"""The name for the cheap scores, and for those against the true classes where they are known."""


class Scorer(Protocol):
    """One score of a clustering. A collective; the same number on every rank.

    cheap: costs no more than a few passes over the rows, and is part of ``auto``. needs_truth: compares with the true
    classes. Raises UndefinedError, with the reason and on every rank, for a clustering that has no such score.
    """

    cheap: bool
    needs_truth: bool

    def __call__(self, subject: Subject) -> float: ...


scorers: Registry[Scorer] = Registry("evaluate", "distkmeans.evaluate")


def chosen(asked: str | Sequence[str], truth: bool, remedy: str = "") -> list[str]:
    """The names of the scores that are asked for: ``auto``, a name, or a list of both.

    truth: whether the true classes are known. Raises InputError for an unknown name, and for one that needs the true
    classes where there are none; ``remedy`` tells where they could come from.
    """
    names = [asked] if isinstance(asked, str) else list(asked)
    expanded = [name for given in names for name in (_cheap(truth) if given == AUTO else [given])]
    for name in dict.fromkeys(expanded):
        if scorers.build(name).needs_truth and not truth:
            raise InputError(f"evaluate=[{name}]: needs the true classes of the rows, which are not known{remedy}")
    return list(dict.fromkeys(expanded))


def needs_truth(names: Sequence[str]) -> bool:
    """Whether one of these scores compares with the true classes."""
    return any(scorers.build(name).needs_truth for name in names)


def _cheap(truth: bool) -> list[str]:
    """The names that ``auto`` stands for, those that need no truth first."""
    built = {name: scorers.build(name) for name in scorers.names()}
    names = sorted(built, key=lambda name: (built[name].needs_truth, name))
    return [name for name in names if built[name].cheap and (truth or not built[name].needs_truth)]


def _finite(score: float) -> float:
    if not math.isfinite(score):
        raise UndefinedError(f"{score} is no number that JSON holds")
    return score


def evaluate(subject: Subject, names: Sequence[str]) -> dict[str, float | None]:
    """The scores of these names; None, with a word in the log, for those that are not defined. A collective."""
    scores: dict[str, float | None] = {}
    without: dict[str, list[str]] = {}
    for name in names:
        try:
            scores[name] = _finite(scorers.build(name)(subject))
        except UndefinedError as error:
            scores[name] = None
            without.setdefault(str(error), []).append(name)
    for reason, undefined in without.items():
        subject.problem.world.warn(f"no {', '.join(undefined)}: {reason}")
    return scores
