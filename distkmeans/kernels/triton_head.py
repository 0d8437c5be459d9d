"""The integer head: a few int8 numbers per row whose exact products bound every score from above.

Seen from m, the rows' mean, the score of a row X = x - m and a centroid C = c - m is S = X.C - |C|^2 / 2. R (h, D)
holds the first h principal axes, orthonormal but for rounding. A head is the rotated row as integers and, in r further
places, the norm T of what the axes leave out, rounded up (r = 0 where there are all D axes):

    q_x = (round(s_x R X), ceil(s_x T_x / sqrt r), ...)        q_k = (round(s_c R C), ceil(s_c T_k / sqrt r), ...)

X.C = (R X).(R C) + rest, and |rest| <= T_x T_k is at most the product of the further places (Cauchy-Schwarz). With
e_x = s_x R X - q'_x, where q' is the first h places of q, e_k likewise, and P = s_x s_c,

    P S <= q_x.q_k + init_k + M_x,     init_k = ceil(-P |C|^2 / 2),
    M_x = |e_x| max_k(|q'_k| + |e_k|) + |q'_x| max_k |e_k|

A sum of int8 products in 32 bits is exact, so that is all. A centroid cannot be nearest, nor tie with the nearest,
where q_x.q_k + init_k < floor(P S' - M_x) for any S' that some centroid's score surely reaches.

A *fine* head has places of 15 bits, q = 128 high + low, for rows whose norms are many times their distances. Its
product in units of 128 is 128 high.high + (high.low + low.high) + low.low / 128, the last rounded up: four int8
products. P and M_x are then in these units too.

Rotations are computed in float64. ``eta`` bounds, relative to |X|, the error of a rotated vector and |R R' - 1|, by
which (R X).(R C) and T are off. It enters as 4 s eta |X| in |e_x| and |e_k|, and as 4 eta |X|^2 in T^2: T_x T_k then
covers the error of the product as well, since sqrt((a + b)(c + d)) >= sqrt(a c) + sqrt(b d).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LARGEST, REACH = 127, 126
"""Of an int8 place, and what scales aim at, so that rounding up does not pass it. 128 times as much in a fine head."""
FINE = 128
"""Units of a fine place in its high part."""
NEVER = -(2**31) + 2**28
"""``init`` of a centroid that cannot win: with any product below 2**28 it stays below every threshold."""
LOWEST = -(2**30)
"""Least ``init`` of a centroid that can win. Raising one keeps the bound."""
WIDEST, WIDEST_FINE = 16_000, 128
"""Places of a head at most, so that products stay below 2**28."""
NO_THRESHOLD = 2**31 - 1
"""Threshold of a row about which the heads say nothing."""
ELEMENTS = 1 << 22
"""Elements of a float64 temporary."""


@dataclass(frozen=True)
class Axes:
    """Where heads see rows from. mean: float64 (D,). rotation: float64 (h, D). rests: r, places for the rest's norm.

    width: places of a head; h + r of them, and zeros. scale: s_x. eta: relative error of everything that is rotated.
    fine: whether places have 15 bits.
    """

    mean: Tensor
    rotation: Tensor
    rests: int
    width: int
    scale: float
    eta: float
    fine: bool

    @property
    def unit(self) -> int:
        """What products are in units of, and places are multiples of in their high part."""
        return FINE if self.fine else 1


@dataclass(frozen=True)
class RowHeads:
    """heads: int8 (N, width), fine ones (N, 2 width), high parts first. squares: float64 (N,), |X|^2 or a little less.

    residues, norms: float32 (N,), |e_x| and |q'_x| or a little more; a residue is infinite where the rest does not fit.
    """

    heads: Tensor
    squares: Tensor
    residues: Tensor
    norms: Tensor


@dataclass(frozen=True)
class CentroidHeads:
    """heads: as of rows. init: int32 (K,). scales: float64 (3,): P, max(|q'_k| + |e_k|), max |e_k|, in product unit."""

    heads: Tensor
    init: Tensor
    scales: Tensor


def principal_axes(sample: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (D,) of float64 rows (n, D), and orthonormal axes (min(n, D), D) in the order of their variance."""
    mean = sample.mean(0)
    centred = sample - mean
    if len(sample) < sample.shape[1]:  # the axes from the smaller of the two Gram matrices
        basis = centred.t() @ torch.linalg.eigh(centred @ centred.t()).eigenvectors.flip(1)
    else:
        basis = torch.linalg.eigh(centred.t() @ centred).eigenvectors.flip(1)
    return mean, torch.linalg.qr(basis).Q.t().contiguous()


def axes_of(sample: Tensor, principal: tuple[Tensor, Tensor], width: int, fine: bool) -> Axes:
    """The first of the axes, as many as ``width`` has places for; scales from float64 rows (n, D).

    Places for the rest are added until they need no smaller scale than the others.
    """
    (mean, rotation), dims = principal, sample.shape[1]
    for rests in (0,) if len(rotation) == dims <= width else (1, 2, 4, 8, 16):
        head = rotation[: max(1, width - rests)]
        largest, rest = _reach(sample - mean, head)
        if not rests or rest <= largest * rests**0.5:
            break
    reach = max(largest, rest / max(1, rests) ** 0.5 if rests else 0.0)
    defect = head @ head.t() - torch.eye(len(head), dtype=head.dtype, device=head.device)
    unit = 2.0**-53
    eta = 4 * (dims + 8) * (len(head) + 1) ** 0.5 * unit + 2 * float(defect.norm()) + dims * len(head) * unit
    scale = REACH * (FINE if fine else 1) / reach if reach > 0 else 1.0
    return Axes(mean, head.contiguous(), rests, width, scale, eta, fine)


def _reach(centred: Tensor, rotation: Tensor) -> tuple[float, float]:
    """What all but a thousandth of the rows stay below: their largest rotated value, and the norm of their rest."""
    rotated = centred @ rotation.t()
    rest = (centred.square().sum(1) - rotated.square().sum(1)).clamp(min=0).sqrt()
    largest, most = torch.stack([rotated.abs().amax(1), rest]).quantile(0.999, dim=1).tolist()
    return largest, most


def quantise_rows(rows: Tensor, axes: Axes) -> RowHeads:
    """The heads of stored rows (N, D), a block at a time."""
    count, device = len(rows), rows.device
    heads = torch.empty(count, axes.width * (1 + axes.fine), dtype=torch.int8, device=device)
    kept = torch.empty(count, dtype=torch.float64, device=device)
    sizes = torch.empty(2, count, dtype=torch.float32, device=device)
    step = max(1, ELEMENTS // rows.shape[1])
    for part in (slice(at, at + step) for at in range(0, count, step)):
        squares, rotated, rests = _rotated(rows[part], axes)
        heads[part], residues, norms, fits = _rounded(rotated * axes.scale, rests * axes.scale, axes)
        residues = residues + 4 * axes.scale * axes.eta * squares.sqrt()
        sizes[:, part] = (torch.stack([residues.masked_fill(~fits, torch.inf), norms]) * (1 + 1e-6)).to(torch.float32)
        kept[part] = squares * (1 - (rows.shape[1] + 8) * 2.0**-52)
    return RowHeads(heads, kept, sizes[0], sizes[1])


def quantise_centroids(centroids: Tensor, copies: Tensor, axes: Axes) -> CentroidHeads:
    """The heads of centroids (K, D), at a scale that holds them all; ``copies`` (K,) of others cannot win.

    The host waits for nothing.
    """
    squares, rotated, rests = _rotated(centroids, axes)
    reach = rotated.abs().amax()
    if axes.rests:
        reach = torch.maximum(reach, rests.amax() / axes.rests**0.5)
    scale = REACH * axes.unit / reach.clamp(min=1e-6 / axes.scale)
    heads, residues, norms, _ = _rounded(rotated * scale, rests * scale, axes)
    residues = residues + 4 * scale * axes.eta * squares.sqrt()
    product = scale * axes.scale / axes.unit
    init = torch.ceil(-product * squares * (1 - (centroids.shape[1] + 8) * 2.0**-52) / 2) + 1
    init = init.clamp(min=LOWEST).to(torch.int32).masked_fill(copies, NEVER)
    scales = torch.stack([product, (norms + residues).max() / axes.unit, residues.max() / axes.unit])
    return CentroidHeads(heads, init, scales)


def _rotated(values: Tensor, axes: Axes) -> tuple[Tensor, Tensor, Tensor]:
    """|X|^2 (n,), R X (n, h), and T (n,), at least the norm of the rest, of stored values (n, D): float64."""
    centred = values.to(torch.float64) - axes.mean
    squares = centred.square().sum(1)
    rotated = centred @ axes.rotation.t()
    rest = squares - rotated.square().sum(1) + 4 * axes.eta * squares
    return squares, rotated, rest.clamp(min=0).sqrt() * (1 + 1e-12)


def _rounded(scaled: Tensor, rests: Tensor, axes: Axes) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Heads (n, width or twice that) of scaled values (n, h) and rests (n,); |e| and |q'| (n,) and a little more, and
    whether the rest fits its places (n,)."""
    most = LARGEST * axes.unit
    whole = scaled.round().clamp(-most, most)
    places = torch.ceil(rests / max(1, axes.rests) ** 0.5 * (1 + 1e-12))
    fits = (places <= most) if axes.rests else torch.ones_like(places, dtype=torch.bool)
    more = places.clamp(max=most)[:, None].expand(-1, axes.rests)
    padding = axes.width - whole.shape[1] - axes.rests
    heads = torch.nn.functional.pad(torch.cat([whole, more], dim=1), (0, padding))
    if axes.fine:
        high = torch.round(heads / FINE)
        heads = torch.cat([high, heads - FINE * high], dim=1)
    residues, norms = (torch.linalg.vector_norm(v, dim=1) * (1 + 1e-9) for v in (scaled - whole, whole))
    return heads.to(torch.int8), residues, norms, fits


def scores(heads: Tensor, centroids: CentroidHeads, axes: Axes) -> Tensor:
    """float64 (n, K): q_x.q_k + init_k, exact, in plain torch: what the kernels compute."""
    x, c = heads.to(torch.float64), centroids.heads.to(torch.float64)
    if not axes.fine:
        return x @ c.t() + centroids.init
    (high, low), (c_high, c_low) = (v.split(axes.width, dim=1) for v in (x, c))
    products = FINE * (high @ c_high.t()) + high @ c_low.t() + low @ c_high.t()
    return products + torch.floor(low @ c_low.t() / FINE) + 1 + centroids.init


def thresholds(heads: RowHeads, centroids: CentroidHeads, reached: Tensor) -> Tensor:
    """float64 (n,): floor(P S' - M_x), less 2, for rows of which some centroid's score S' is at least ``reached``."""
    product, most, residue = centroids.scales
    margin = heads.residues.to(torch.float64) * most + heads.norms.to(torch.float64) * residue
    return torch.floor(reached * product - margin * (1 + 1e-6)) - 2
