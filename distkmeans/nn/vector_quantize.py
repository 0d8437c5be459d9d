"""A layer that replaces rows by the nearest of K codes: van den Oord, Vinyals and Kavukcuoglu (2017), VQ-VAE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from distkmeans.errors import InputError
from distkmeans.exact.random import scramble
from distkmeans.nn.batch import ALONE, Group, Ranks, share_of
from distkmeans.nn.distances import as_centroids, gaps, nearest, widened
from distkmeans.nn.revival import NOBODY, REVIVAL, Revival, draw, numbers
from distkmeans.schema import Range, check, check_value


@dataclass(frozen=True)
class Ema:
    """A codebook of moving averages: van den Oord et al. (2017), appendix A.1.

    With n_k rows of sum s_k in a batch, N_k <- decay N_k + (1 - decay) n_k and m_k <- decay m_k + (1 - decay) s_k;
    the code is m_k / N'_k, N'_k = (N_k + smoothing) / (N + K smoothing) N, where N is the sum of all N_k. At the start
    N_k is 1 and m_k the code.
    """

    decay: Annotated[float, Range(0, 1)] = 0.99
    smoothing: Annotated[float, Range(above=0)] = 1e-5


Options = TypeVar("Options", Ema, Revival)


class Quantized(NamedTuple):
    """quantized: (..., D), the codes, of the input's type; the gradient goes straight through to the input.

    indices: int64 (...). loss: a scalar, to be added to the model's. counts: float64 (K,), rows of each code.
    """

    quantized: Tensor
    indices: Tensor
    loss: Tensor
    counts: Tensor


class VectorQuantize(nn.Module):
    """Rows (..., D) to the nearest of K codes (..., D), see ``Quantized``; any leading shape, D last.

    codebook: (K, D), a tensor or an array, such as ``distkmeans.fit(encoded, k).centroids``. ema: how it follows the
    rows in training mode; None makes it a parameter, which an optimiser trains by the loss. commitment: the weight of
    the mean over rows of ||x - sg(c)||^2 in the loss; with ema=None ||sg(x) - c||^2 is added (equation 3: squared
    norms, no averages over D). revival: when starved codes become rows of the batch; None: never.

    In training mode a batch is the rows of all ranks of ``group`` (the default group where it is None): each rank calls
    it as often, codebook, loss and counts are the same on all, and gradients are right once DistributedDataParallel has
    averaged them. In evaluation mode nothing is learned, and loss and counts are of this rank's rows. A batch that is
    empty, or has a row with NaN or Inf on any rank, changes nothing. All that is learned is in the state_dict. Raises
    InputError.
    """

    weight: Tensor
    sums: Tensor
    idle: Tensor
    steps: Tensor

    def __init__(
        self,
        codebook: Any,
        *,
        ema: Ema | None = Ema(),
        commitment: Annotated[float, Range(0)] = 0.25,
        revival: Revival | None = REVIVAL,
        group: Group = None,
    ) -> None:
        super().__init__()
        codes = as_centroids(codebook, "codebook")
        self.commitment = check_value("commitment", commitment, Annotated[float, Range(0)])
        self.ema = _checked("ema", ema, Ema)
        self.revival = _checked("revival", revival, Revival)
        self.words = (0, 0) if self.revival is None else self.revival.words()
        self.ranks = Ranks(group)
        if self.ema is None:
            self.codebook = nn.Parameter(codes)
        else:
            self.register_buffer("codebook", codes)
            self.register_buffer("weight", codes.new_ones(len(codes)))
            self.register_buffer("sums", codes.clone())
        self.register_buffer("idle", torch.zeros(len(codes), dtype=torch.int64, device=codes.device))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64, device=codes.device))

    def forward(self, x: Tensor) -> Quantized:
        if not x.is_floating_point():
            raise InputError(f"x: {x.dtype}; expected floating point, so that a gradient can go through")
        wide, _ = widened(x, self.codebook)
        rows = wide.reshape(-1, x.shape[-1])
        indices = nearest(rows, self.codebook)
        errors = self.commitment * gaps(rows, self.codebook.detach(), indices)
        if self.ema is None:
            errors = errors + gaps(rows.detach(), self.codebook, indices)
        quantized = straight_through(x, self.codebook[indices].reshape(x.shape))
        ranks = self.ranks if self.training else ALONE
        parts, found = self._parts(x, indices, errors, ranks)
        seen = ranks.sum(parts)
        if self.training:
            self._follow(seen, found)
        loss = share_of(errors, seen["errors"], seen["counts"].sum(), ranks.size)
        return Quantized(quantized, indices.reshape(x.shape[:-1]), loss, seen["counts"])

    @torch.no_grad()
    def _parts(
        self, x: Tensor, indices: Tensor, errors: Tensor, ranks: Ranks
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """What this rank has seen, to be summed over ranks, and what rows there are for starved codes: bool (R,)."""
        k, rows, found = len(self.codebook), x.reshape(-1, x.shape[-1]), None
        parts = {"errors": errors.to(torch.float64).sum(), "counts": _added(torch.ones_like(errors), indices, k)}
        if self.training and self.ema is not None:
            parts["sums"] = _added(rows, indices, k)
        if self.training and self.revival is not None:
            keys = scramble(numbers(x.shape, ranks, x.device) + (self.steps << 32), self.words) & NOBODY
            parts["rows"], found = draw(rows, keys, min(self.revival.at_once, k), ranks)
        return parts, found

    @torch.no_grad()
    def _follow(self, seen: dict[str, Tensor], found: Tensor | None) -> None:
        step = (seen["counts"].sum() > 0) & torch.isfinite(seen["errors"])
        self.steps += step
        self.idle.copy_(torch.where(step & (seen["counts"] > 0), 0, self.idle + step))
        if self.ema is not None:
            self._average(self.ema, seen["counts"], seen["sums"], step)
        if self.revival is not None and found is not None:
            self._revive(step & (self.idle >= self.revival.after), seen["rows"], found)

    def _average(self, ema: Ema, counts: Tensor, sums: Tensor, step: Tensor) -> None:
        gain = 1 - ema.decay
        counts, sums = torch.where(step, counts, self.weight), torch.where(step, sums, self.sums)
        self.weight.copy_(self.weight + gain * (counts - self.weight))
        self.sums.copy_(self.sums + gain * (sums - self.sums))
        weight = self.weight.to(counts.dtype)
        total = weight.sum()
        smooth = (weight + ema.smoothing) / (total + len(weight) * ema.smoothing) * total
        self.codebook.copy_(torch.where(step, self.sums / smooth[:, None], self.codebook))

    def _revive(self, starved: Tensor, rows: Tensor, found: Tensor) -> None:
        """The i-th starved code becomes the i-th of the rows (R, D), where that was found: bool (R,)."""
        place = starved.cumsum(0) - 1
        slot = place.clamp(0, len(rows) - 1)
        chosen = starved & (place < len(rows)) & found[slot]
        codes = rows[slot].to(self.codebook.dtype)
        self.codebook.copy_(torch.where(chosen[:, None], codes, self.codebook))
        self.idle.masked_fill_(chosen, 0)
        if self.ema is not None:
            self.weight.masked_fill_(chosen, 1)
            self.sums.copy_(torch.where(chosen[:, None], codes, self.sums))

    def extra_repr(self) -> str:
        k, dims = self.codebook.shape
        return f"k={k}, dims={dims}, commitment={self.commitment}, ema={self.ema}, revival={self.revival}"


def straight_through(x: Tensor, codes: Tensor) -> Tensor:
    """The codes to the last bit, in x's type, with the gradient of x: Bengio, Leonard and Courville (2013)."""
    return codes.detach().to(x.dtype) + (x - x.detach())


def perplexity(counts: Tensor) -> Tensor:
    """How many codes are in use, were they used evenly: exp of the entropy of counts (..., K), 0 or more -> (...).

    1 to K; 1 where there are no counts.
    """
    total = counts.sum(-1, keepdim=True)
    shares = counts / torch.where(total > 0, total, 1)
    return torch.special.entr(shares).sum(-1).exp()


def _added(values: Tensor, indices: Tensor, k: int) -> Tensor:
    """Sums of values (N, ...) by index: float64 (K, ...)."""
    out = torch.zeros(k, *values.shape[1:], dtype=torch.float64, device=values.device)
    return out.index_add(0, indices, values.detach().to(torch.float64))


def _checked(name: str, given: Options | None, kind: type[Options]) -> Options | None:
    """The options with values that may be. Raises InputError."""
    if given is None:
        return None
    if not isinstance(given, kind):
        raise InputError(f"{name}={given}: expected {kind.__name__}(...) or None")
    return kind(**check(kind, vars(given), f"{name}."))
