"""stability: whether other seeds find the same clusters: the mean adjusted Rand index of pairs of solutions."""

from __future__ import annotations

import itertools
import math

from distkmeans.errors import InputError
from distkmeans.evaluate import scorers
from distkmeans.evaluate.agreement import adjusted_rand
from distkmeans.evaluate.contingency import contingency
from distkmeans.evaluate.subject import Subject, UndefinedError
from distkmeans.exact.random import Stream


@scorers.register("stability")
class Stability:
    """Over all pairs of the solution and those of ``scores.stability_seeds`` further seeds (see Ben-Hur et al. 2002).

    Each further solution is the whole plan again, its restarts included: so many times the cost of the fit, and the
    labels of all are kept meanwhile. 1 where the plan draws nothing. Weights count in the plan, and not in the index.
    Not defined where a further fit ends in a mistake, as it may with ``solver.empty=fail``.
    """

    cheap, needs_truth = False, False

    def __call__(self, subject: Subject) -> float:
        if subject.again is None:
            raise InputError("evaluate=[stability]: needs a plan to carry out again, and there are labels only")
        seeds = [
            Stream(subject.seed, "evaluate/stability", number).integer(1 << 62)
            for number in range(subject.options.stability_seeds)
        ]
        world = subject.problem.world
        world.tell(f"stability: {len(seeds)} fits more")
        try:
            solutions = [subject.labels, *map(subject.again, seeds)]
        except InputError as error:
            raise UndefinedError(f"with another seed: {error}") from error
        pairs = list(itertools.combinations(solutions, 2))
        return math.fsum(adjusted_rand(contingency(world, *pair)) for pair in pairs) / len(pairs)
