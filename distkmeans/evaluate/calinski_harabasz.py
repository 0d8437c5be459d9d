"""calinski_harabasz: the variance between clusters beside that within them (Caliński and Harabasz 1974)."""

from __future__ import annotations

from distkmeans.evaluate import scorers
from distkmeans.evaluate.subject import Subject
from distkmeans.exact import floats


@scorers.register("calinski_harabasz")
class CalinskiHarabasz:
    """sum_k n_k |m_k - m|^2 / (K - 1) over sum |x - m_k|^2 / (N - K): scikit-learn's ``calinski_harabasz_score``.

    m_k: the mean of a cluster's rows (which is not the stored centroid, where the solver has not converged), m: that
    of all rows. 1 where all rows lie on their means. Weights are ignored.
    """

    cheap, needs_truth = True, False

    def __call__(self, subject: Subject) -> float:
        spread, rows = subject.spread, subject.problem.shard.total
        if spread.within == 0:
            return 1.0
        clusters, weights = len(spread.counts), spread.counts[:, None]
        middle = floats.sum_columns((weights * spread.means).t().contiguous()) / rows
        squares = weights * (spread.means - middle).square()
        between = floats.total(squares.flatten())
        return between * (rows - clusters) / (spread.within * (clusters - 1))
