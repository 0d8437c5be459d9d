"""Losses that pull rows and centroids together."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from distkmeans.errors import InputError
from distkmeans.nn.batch import ALONE, Group, Ranks, mean_of
from distkmeans.nn.distances import gaps, nearest, squared_distances, widened
from distkmeans.nn.soft_assign import Positive, scores
from distkmeans.schema import Range, check_value

Kind = Literal["kmeans", "dec", "commitment"]


class ClusterLoss(nn.Module):
    """Rows (..., D) and centroids (K, D) to a loss, a scalar of float32 (float64 for float64), times ``weight``.

    kmeans: the mean over rows of min_k ||x - c_k||^2, inertia / N; its gradient reaches rows and centroids.
    dec: the mean over rows of KL(P || Q), Q Student's t of one degree between rows and centroids, and P its
    ``target_distribution`` over the batch, or the rows' ``target`` (..., K), computed at the last update over all rows;
    P is held constant. Xie, Girshick and Farhadi (2016), equations 1 to 5. temperature: of Q, as for ``SoftAssign``.
    commitment: the mean over rows of ||x - sg(c)||^2, c the nearest; its gradient reaches the rows alone. The last term
    of van den Oord, Vinyals and Kavukcuoglu (2017), equation 3, there with weight 0.25, beside a straight-through
    decoder input: ``VectorQuantize`` gives both.

    In training mode rows are those of all ranks of ``group`` (a collective; the default group where it is None): the
    loss is the same on every rank, and the gradients are right once DistributedDataParallel has averaged them, however
    unevenly rows are spread. In evaluation mode they are this rank's. No rows: 0. Raises InputError.
    """

    def __init__(
        self,
        kind: Kind = "kmeans",
        weight: Annotated[float, Range(0)] = 1.0,
        temperature: Positive = 1.0,
        group: Group = None,
    ) -> None:
        super().__init__()
        self.kind = check_value("kind", kind, Kind)
        self.weight = check_value("weight", weight, Annotated[float, Range(0)])
        self.temperature = check_value("temperature", temperature, Positive)
        if self.kind != "dec" and self.temperature != 1:
            raise InputError(f"temperature={temperature}: a loss of kind={self.kind} has none; expected kind=dec")
        self.ranks = Ranks(group)

    def forward(self, x: Tensor, centroids: Tensor, target: Tensor | None = None) -> Tensor:
        x, centroids = widened(x, centroids)
        if target is not None:
            self._check_target(target, x.shape[:-1].numel(), len(centroids))
        ranks = self.ranks if self.training else ALONE
        rows = x.reshape(-1, x.shape[-1])
        if self.kind == "dec":
            distances = squared_distances(rows, centroids) / self.temperature
            values = _divergence(distances, target, ranks)
        else:
            held = centroids.detach() if self.kind == "commitment" else centroids
            values = gaps(rows, held, nearest(rows, held))
        return self.weight * mean_of(values, ranks)

    def _check_target(self, target: Tensor, rows: int, k: int) -> None:
        if self.kind != "dec":
            raise InputError(f"target: a loss of kind={self.kind} has none; expected kind=dec, or no target")
        if target.shape[-1:] != (k,) or target.shape[:-1].numel() != rows:
            raise InputError(
                f"target: shape {tuple(target.shape)} for {rows} rows and {k} centroids; expected (..., {k})"
            )

    def extra_repr(self) -> str:
        return f"kind={self.kind}, weight={self.weight}, temperature={self.temperature}"


def target_distribution(q: Tensor, frequencies: Tensor | None = None, group: Group = None) -> Tensor:
    """DEC's target: p_ik = (q_ik^2 / f_k) / sum_j (q_ij^2 / f_j); q (..., K) -> (..., K), without a gradient.

    frequencies: f (K,), by default the sum of q over its rows on all ranks of ``group`` (a collective; the default
    group where it is None). A centroid of no frequency gets nothing. Xie, Girshick and Farhadi (2016), equation 3.
    """
    return _target(q, frequencies, Ranks(group))


def _target(q: Tensor, frequencies: Tensor | None, ranks: Ranks) -> Tensor:
    q = q.detach()
    if frequencies is None:
        frequencies = ranks.sum({"f": q.reshape(-1, q.shape[-1]).sum(0)})["f"]
    tiny = torch.finfo(q.dtype).tiny
    # q * (q / f): q / f is at most 1, where q^2 could underflow
    raw = q * (q / frequencies.to(q.dtype).clamp(min=tiny))
    return raw / raw.sum(-1, keepdim=True).clamp(min=tiny)


def _divergence(distances: Tensor, target: Tensor | None, ranks: Ranks) -> Tensor:
    """KL(P || Q) of each row of squared distances (N, K): (N,)."""
    log_q = scores(distances, freedom=1.0).log_softmax(-1)
    p = _target(log_q.exp(), None, ranks) if target is None else target.detach().reshape(log_q.shape).to(log_q.dtype)
    return (torch.xlogy(p, p) - p * log_q).sum(-1)
