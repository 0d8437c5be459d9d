"""The integer head: a short vector of small integers for each row and centroid, whose products bound true scores.

Seen from a centre m, with X = x - m, C = c - m, the nearest centroid has the largest score S_k = X.C_k - |C_k|^2 / 2,
and |x - c_k|^2 = |X|^2 - 2 S_k. Q has orthonormal rows, the first axes of the data; T is the norm of what they leave
out. Both are scaled and rounded: q_x = s QX - e_x, q_k = t QC_k - e_k. Centroids are means of rows, the shorter the
more rows they have: bytes hold them at scales t of their own, powers of two apart; 16 bits take t = s. The products of
these integers are exact, as they fit int32. Here |e| holds the residue of the rounding, which is measured, and s |X|,
or t |C|, times a ``spill`` for what came before it: the rounding of X, of the products of the rotation, and of the axes
themselves (A with |A A' - I| = d is within d of a matrix with orthonormal rows). By Cauchy and Schwarz (block vectors:
Bottesch, Buehler and Kaechele, ICML 2016)

    s t S_k  <=  q_x.q_k + s t T_x T_k - s t |C_k|^2 / 2 + |e_x| (|q_k| + |e_k|) + |q_x| |e_k|

The tails T are a coordinate of their own, split evenly over those that fill a word; each is rounded *up*, so that it
needs no error term. The margin's products of row and centroid are parted, with any constants E, e and the largest |q_x|
and r_k = |q_k| + |e_k|:  |e_x| r_k <= E r_k + (|e_x| - E)+ max r,   |q_x| |e_k| <= |q_x| e + max |q_x| (|e_k| - e)+.
So a centroid can be nearer than one of score S only if, with the heads h of tail and coordinates,

    h_x.h_k + bias_k  >=  s t S - (|e_x| - E)+ max r - |q_x| e
    bias_k  >=  -s t |C_k|^2 / 2 + E r_k + max |q_x| (|e_k| - e)+

A few axes can be far longer than the others (the brightness of photographs), and would make |q| large. Such an axis is
*refined*: y = s QX there is a + b / B with integers a and b, |b| <= B / 2, and three coordinates replace one, (a, b,
[a / B]) of rows against (a, [a / B], b) of centroids. Their products miss at most

    B / 2 + 1/4 + (|y_x| + |y_k|) / (2 B)

by the rounding of both [a / B], by b b / B^2 and by what is left of y. This is added to every bias, and |e|, |q| leave
refined axes out; the spill, which does not, is added for all of s^2 |X| |C|.

What does not fit the integers is marked by a residue beyond all others (rows), or a bias that always wins (centroids).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from distkmeans import native

UNIT = 2.0**-24
CAPS = {8: 127, 16: 32767}
ALWAYS = 1 << 30
"""Bias of a centroid that has no head: it survives every threshold."""
NEVER_FITS = 1e30
"""Residue or reach of what has no head, finite so that no product of it is NaN."""
OUTLIERS, STRETCH = 2e-3, {8: 1.5, 16: 3.0}
"""Share of the rows that a scale may leave out, if they exceed the others by so much: they are compared in full."""
MOST, MOST_REFINED = 1024, 4
"""Columns up to which all axes are found; axes that are refined at most."""
FARTHEST = 1024
"""How much larger than the rows' scale the centroids' may be."""
FINE = 128
"""B, the steps between two integers on a refined axis."""
UP = 1 + 2.0**-16
"""Covers the float32 rounding of norms, of up to 2**12 coordinates in lanes."""


@dataclass(frozen=True)
class Form:
    """bits: 8 or 16, of a coordinate. length: axes kept. refined: so many of them, the first, are refined (16 bits)."""

    bits: int
    length: int
    refined: int = 0

    @property
    def per_word(self) -> int:
        return 32 // self.bits

    @property
    def words(self) -> int:
        """Of a head: its tail, then its coordinates."""
        return 1 + -(-(self.length + 2 * self.refined) // self.per_word)

    @property
    def dtype(self) -> torch.dtype:
        return torch.int8 if self.bits == 8 else torch.int16

    def __str__(self) -> str:
        return f"int{self.bits}x{self.length}" + (f"r{self.refined}" if self.refined else "")


@dataclass(frozen=True, eq=False)
class Axes:
    """centre: (D,). axes: (h, D), nearly orthonormal rows, or None for the D axes as they are. float64, or float32."""

    centre: Tensor
    axes: Tensor | None
    defect: float = 0.0

    @staticmethod
    def principal(sample: Tensor) -> tuple[Axes, Tensor]:
        """Axes by falling variance, float64, from a sample (n, D) of the rows; the share of it that the first i hold.

        All D axes, or the first MOST by a randomised decomposition (Halko, Martinsson and Tropp 2011).
        """
        values = sample.to(torch.float32)
        centre = values.mean(0)
        centred = values - centre
        total = float(centred.square().sum()) or 1.0
        if centred.shape[1] <= MOST:
            variances, vectors = torch.linalg.eigh(centred.t() @ centred)
            variances, vectors = variances.flip(0).clamp(min=0), vectors.flip(1)
        else:
            _, singular, vectors = torch.svd_lowrank(centred, q=MOST // 2, niter=1)
            variances = singular.square()
        axes = Axes(centre.to(torch.float64), vectors.to(torch.float64).t())
        return axes, variances.cumsum(0) / total

    def refined(self, sample: Tensor, length: int) -> int:
        """How many of the first axes to refine, so that the rest of most rows is a tenth of them."""
        assert self.axes is not None
        turned = (sample.to(torch.float64) - self.centre) @ self.axes[: MOST_REFINED + 1].t()
        square = (sample.to(torch.float64) - self.centre).square().sum(1)
        for count in range(min(MOST_REFINED, length) + 1):
            rest = square - turned[:, :count].square().sum(1)
            if float((100 * rest - square).median()) <= 0:
                return count
        return 0

    def for_form(self, form: Form) -> Axes:
        """Those that a form needs, with their distance from orthonormality: a head of all needs no rotation.

        16 bits see errors that 8 do not: they turn in float64.
        """
        assert self.axes is not None
        if form.bits == 8 and form.length >= self.axes.shape[1]:
            return Axes(self.centre.to(torch.float32), None)
        axes = self.axes[: form.length]
        # mixed, coordinates are of one size: the widest would set the scale. The axes were found in float32
        axes = (_mixing(form.length) @ axes).float() if form.bits == 8 else torch.linalg.qr(axes.t()).Q.t()
        wide = axes.to(torch.float64)
        identity = torch.eye(len(axes), dtype=torch.float64)
        defect = float(torch.linalg.matrix_norm(wide @ wide.t() - identity)) * 1.001 + 1e-13
        return Axes(self.centre.to(axes.dtype), axes.contiguous(), defect)

    def turn(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates (n, h) and float64 |X|^2 (n,) of values (n, D)."""
        centred = values - self.centre
        square = torch.linalg.vector_norm(centred, dim=1, dtype=torch.float64).square()
        return centred if self.axes is None else centred @ self.axes.t(), square

    @cached_property
    def stripes(self) -> Tensor | None:
        """The axes as the compiled kernels want them: (stripes, D, STRIPE), filled up with zeros."""
        if self.axes is None:
            return None
        length, dims = self.axes.shape
        whole = torch.nn.functional.pad(self.axes, (0, 0, 0, -length % native.STRIPE))
        return whole.view(-1, native.STRIPE, dims).transpose(1, 2).contiguous()

    @property
    def spill(self) -> float:
        """The error over |X| of what ``turn`` gives."""
        unit = torch.finfo(self.centre.dtype).eps / 2
        if self.axes is None:
            return 2 * unit
        length, dims = self.axes.shape
        return 4 * unit + self.defect + math.sqrt(length) * (dims + 4) * unit


def _mixing(length: int) -> Tensor:
    """A fixed orthogonal matrix, float64 (length, length): the DCT-II of shuffled coordinates with random signs."""
    generator = torch.Generator().manual_seed(length)
    place = torch.randperm(length, generator=generator).to(torch.float64)
    sign = 2.0 * torch.randint(2, (length,), generator=generator) - 1
    angles = torch.arange(length, dtype=torch.float64)[:, None] * (2 * place + 1) * (math.pi / (2 * length))
    matrix = angles.cos() * sign * math.sqrt(2 / length)
    matrix[0] *= math.sqrt(0.5)
    return matrix


@dataclass(frozen=True, eq=False)
class Facing:
    """How centroids are scaled: by ``scale * 2**level``; level: uint8 (K,), None for 0. order: int32 (K,), by level."""

    scale: float
    level: Tensor | None = None
    order: Tensor | None = None

    def part(self, which: Tensor) -> Facing:
        """Of some of the centroids."""
        return self if self.level is None else Facing(self.scale, self.level[which])

    def of_each(self) -> Tensor:
        """float64 (K,), or one number, for all."""
        scale = torch.tensor(self.scale, dtype=torch.float64)
        return scale if self.level is None else scale * self.level.to(torch.float64).exp2()


@dataclass(frozen=True, eq=False)
class Heads:
    """values: int8 or int16 (n, per_word * words), the tail first. square: float64 |X|^2 (n,).

    residue, size: |e|, |q|, float32 (n,), rounded up. own: float64 (n,), |h|^2.
    """

    values: Tensor
    square: Tensor
    residue: Tensor
    size: Tensor
    own: Tensor

    @property
    def parts(self) -> tuple[Tensor, ...]:
        return self.values, self.square, self.residue, self.size, self.own


@dataclass(frozen=True, eq=False)
class Cut:
    """How values become heads. scale: integers per unit of length. base, largest: E and max |q_x| of rows."""

    axes: Axes
    form: Form
    scale: float
    base: float = 0.0
    largest: float = 0.0

    @staticmethod
    def fitting(sample: Tensor, axes: Axes, form: Form) -> Cut:
        """``axes``: all of them, of which the form takes the first. sample: some of the rows (n, D)."""
        return Cut.along(sample, axes.for_form(form), form)

    @staticmethod
    def along(sample: Tensor, axes: Axes, form: Form) -> Cut:
        how = Cut(axes, form, _holding(*_reach(sample, axes, form), form))
        heads = how.heads(sample)
        fitting = heads.residue < NEVER_FITS
        if not fitting.any():
            return how
        return replace(how, base=_quantile(heads.residue[fitting], 0.1), largest=1.05 * float(heads.size.max()) + 1)

    @property
    def constant(self) -> float:
        """What every bias holds for the refined axes and for the spill of 16 bits, in units of s^2."""
        if self.form.bits == 8:
            return 0.0
        return self.form.refined * (FINE / 2 + 1 + CAPS[16] / FINE) + 3 * self.axes.spill * CAPS[16] ** 2

    def facing(self, centroids: Tensor, levels: int = 1, together: int = 1) -> Facing:
        """The scales for centroids (K, D): bytes, of so many levels, each shared by ``together`` centroids."""
        if self.form.bits == 16 or not len(centroids):
            return Facing(self.scale)
        reach, cap = _reach(centroids, self.axes, self.form)
        scale = min(_holding(reach, cap, self.form), FARTHEST * self.scale)
        order = reach.argsort(descending=True)
        widest = reach[order[::together]].clamp(min=cap / (2**levels * scale))
        level = (cap / (scale * widest)).log2().floor().clamp(0, levels - 1).to(torch.uint8)
        if not level.any():
            return Facing(scale)
        of_each = torch.empty(len(order), dtype=torch.uint8)
        of_each[order] = level.repeat_interleave(together)[: len(order)]
        return Facing(scale, of_each, order.to(torch.int32))

    def heads(self, values: Tensor, facing: Facing | None = None) -> Heads:
        """The heads of values (n, D): rows, or centroids ``facing`` rows."""
        return Stages(self).heads(values, None if facing is None else [facing])[0]

    def stage(self, heads: int, step: int, facing: Facing | None = None, **places: int) -> native.Stage:
        """For the compiled kernels, which write to these places: ``step`` words from one head to the next."""
        form, facing = self.form, facing or Facing(self.scale)
        lengths = {"length": form.length, "refined": form.refined, "bits": form.bits, "words": form.words}
        scale = {"scale": facing.scale, "level": None if facing.level is None else facing.level.data_ptr()}
        return native.Stage(heads, base=self.base, largest=self.largest, step=step, **scale, **lengths, **places)

    def of_turned(self, turned: Tensor, square: Tensor, dims: int, facing: Facing | None = None) -> Heads:
        """The heads of values whose coordinates, (n, h) or more, and |X|^2, (n,), are known."""
        form, cap, spill = self.form, CAPS[self.form.bits], self.axes.spill
        scale, rows = (facing or Facing(self.scale)).of_each(), facing is None
        turned = turned[:, : form.length]
        norm = square.sqrt() * scale
        scaled = turned * scale.to(turned.dtype)[..., None]
        whole = scaled.round().clamp_(-cap, cap)
        size = torch.linalg.vector_norm(whole[:, form.refined :], dim=1).to(torch.float32) * UP
        residue = torch.linalg.vector_norm((scaled - whole)[:, form.refined :], dim=1)
        spilled = spill * norm if form.bits == 8 else 0.0  # the constant has it for 16
        residue = ((residue + spilled + 2 * UNIT * size) * UP).to(torch.float32) * UP
        shared = (_outside(scaled, norm, spill, dims) * (UP / math.sqrt(form.per_word))).ceil()
        coordinates = [shared[:, None].expand(-1, form.per_word), *_refine(scaled, whole, form.refined, rows)]
        coordinates.append(whole[:, form.refined :])
        heads = torch.zeros(len(turned), form.per_word * form.words, dtype=torch.float32, device=turned.device)
        at = 0
        for part in coordinates:
            heads[:, at : at + part.shape[1]] = part
            at += part.shape[1]
        own = torch.linalg.vector_norm(heads, dim=1, dtype=torch.float64)
        fits = (shared <= cap) & (norm <= CAPS[16])
        if form.bits == 16:  # products of two such heads stay below 2**30, partial sums too
            fits &= own <= cap
        if not fits.all():
            heads[~fits] = 0
        residue = torch.where(fits, residue, NEVER_FITS)
        return Heads(heads.to(form.dtype), square, residue, size, torch.where(fits, own.square(), 0))


@dataclass(frozen=True, eq=False)
class Stages:
    """Heads for all pairs, and longer ones for the pairs that these cannot rule out, or None."""

    first: Cut
    second: Cut | None = None

    @staticmethod
    def fitting(sample: Tensor, axes: Axes, form: Form, second: Cut | None = None) -> Stages:
        """As Cut.fitting. 16 bits: both stages go along the same axes, and rows are turned but once."""
        if second is None or form.bits == 8:
            return Stages(Cut.fitting(sample, axes, form), second)
        return Stages(Cut.along(sample, second.axes, form), second)

    @property
    def cuts(self) -> list[Cut]:
        return [self.first, self.second] if self.second else [self.first]

    def facing(self, centroids: Tensor, levels: int = 1) -> list[Facing]:
        """As ``Cut.facing``: of the first stage, panels of the compiled kernels are of one level.

        Few centroids take one panel of each level at most.
        """
        together = min(native.PANEL, -(-len(centroids) // native.LEVELS))
        each = [self.first.facing(centroids, levels, together)]
        return [*each, self.second.facing(centroids, levels)] if self.second else each

    def heads(self, values: Tensor, facing: list[Facing] | None = None) -> list[Heads]:
        """Of each stage: rows, or centroids ``facing`` rows."""
        compiled, found = native.library_for(values), []
        for group in self._groups():
            scales = [facing[self.cuts.index(cut)] if facing else None for cut in group]
            if compiled is not None and values.dtype != torch.float64 and values.stride(1) == 1:
                found += _compiled_heads(compiled, group, values, scales)
            else:
                turned, square = group[0].axes.turn(values)
                each = zip(group, scales, strict=True)
                found += [cut.of_turned(turned, square, values.shape[1], scale) for cut, scale in each]
        return found

    def records(self, compiled: native.Library, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Records for rows (n, D), int32 (n, HEADER + words) with a whole number of blocks; longer heads, for which see
        native/kernels.h: int32 (n, words), None where there is no second stage.
        """
        count, size = len(rows), native.HEADER + self.first.form.words
        records = torch.empty(-(-count // native.ROWS) * native.ROWS, size, dtype=torch.int32)
        records[count:] = 0
        records[count:, native.ID] = -1
        stages = [self.first.stage(records.data_ptr() + 4 * native.HEADER, size, margin=native.MARGIN)]
        longer = None
        if self.second:
            longer = torch.zeros(count, native.whole_vectors(self.second.form.words), dtype=torch.int32)
            stages.append(self.second.stage(longer.data_ptr(), longer.shape[1], margin=native.LONG_MARGIN))
        for group in self._groups():
            own = [stage for stage, cut in zip(stages, self.cuts, strict=True) if cut in group]
            opens = group[0] is self.first
            _cut(compiled, group[0].axes, rows, own, of_rows=True, records=records.data_ptr(), record=size, opens=opens)
        return records, longer

    def _groups(self) -> list[list[Cut]]:
        """Stages along the same axes."""
        if self.second and self.first.axes is self.second.axes:
            return [self.cuts]
        return [[cut] for cut in self.cuts]

    def __str__(self) -> str:
        return f"{self.first.form}" + (f"+{self.second.form.length}" if self.second else "")


def _compiled_heads(
    compiled: native.Library, cuts: list[Cut], values: Tensor, facing: list[Facing | None]
) -> list[Heads]:
    """``of_turned`` along the same axes, turning included, in one pass over the values."""
    count = len(values)
    square = torch.empty(count, dtype=torch.float64)
    found, stages = [], []
    for cut, scale in zip(cuts, facing, strict=True):
        heads = torch.empty(count, cut.form.per_word * cut.form.words, dtype=cut.form.dtype)
        bounds = torch.empty(count), torch.empty(count), torch.empty(count, dtype=torch.float64)
        found.append(Heads(heads, square, *bounds))
        residue, size, own = (bound.data_ptr() for bound in bounds)
        stages.append(cut.stage(heads.data_ptr(), cut.form.words, scale, residue=residue, size=size, own=own))
    _cut(compiled, cuts[0].axes, values, stages, of_rows=facing[0] is None, square=square.data_ptr())
    return found


def _cut(compiled: native.Library, axes: Axes, values: Tensor, stages: list[native.Stage], **places: int) -> None:
    wide = axes.centre.dtype == torch.float64
    lanes = 0 if axes.stripes is None else axes.stripes.shape[0] * native.STRIPE
    scratch = torch.empty(native.threads(), native.MOST_TOGETHER * (values.shape[1] + lanes), dtype=axes.centre.dtype)
    task = native.Cutting(
        values=native.Rows.of(values),
        centre=axes.centre.data_ptr(),
        axes=None if axes.stripes is None else axes.stripes.data_ptr(),
        spill=axes.spill,
        scratch=scratch.data_ptr(),
        count=len(values),
        lanes=lanes,
        wide=wide,
        stages=len(stages),
        stage=tuple(stages),
        **places,
    )
    compiled.run("cut", task, values.numel() * (lanes + 16) // 4)


def _refine(scaled: Tensor, whole: Tensor, count: int, rows: bool) -> list[Tensor]:
    """The three coordinates of each of the first ``count`` axes, (n, count) each."""
    if not count:
        return []
    whole = whole[:, :count]
    fine, coarse = ((scaled[:, :count] - whole) * FINE).round(), (whole / FINE).round()
    return [whole, fine, coarse] if rows else [whole, coarse, fine]


def _outside(scaled: Tensor, norm: Tensor, spill: float, dims: int) -> Tensor:
    """float64 (n,): at most how long the part of rows of this scaled norm is that lies outside these coordinates."""
    if scaled.shape[1] >= dims:
        return torch.zeros_like(norm)
    inside = torch.linalg.vector_norm(scaled, dim=1, dtype=torch.float64) - (2 * spill + 4 * UNIT) * norm
    return (norm.square() * (1 + 8 * UNIT) - inside.clamp(min=0).square()).clamp(min=0).sqrt()


def _reach(values: Tensor, axes: Axes, form: Form) -> tuple[Tensor, float]:
    """float32 (n,): what of each value sets its scale; and the integer that may become."""
    turned, square = axes.turn(values)
    if form.bits == 16:
        return square.sqrt().to(torch.float32), CAPS[16] * (1 - 1e-3)
    tail = _outside(turned, square.sqrt(), 0.0, values.shape[1]) / math.sqrt(form.per_word)
    return torch.maximum(turned.abs().amax(1), tail).to(torch.float32), CAPS[8] - 0.5


def _holding(reach: Tensor, cap: float, form: Form) -> float:
    """By which all but a few outliers fit the integers."""
    most = float(reach[reach <= STRETCH[form.bits] * _quantile(reach, OUTLIERS)].max())
    return cap / most if most > 0 else 1.0


def _quantile(values: Tensor, above: float) -> float:
    """What a share ``above`` of the values exceeds."""
    return float(torch.sort(values).values[min(len(values) - 1, int(len(values) * (1 - above)))])


@dataclass(frozen=True, eq=False)
class Target:
    """Centroids' heads and int32 bias (K,), and constants. unit: s t, of level 0. reach: max r. residue: e.

    gap: max of |h_k|^2 + 2 bias_k.
    """

    heads: Tensor
    bias: Tensor
    unit: float
    reach: float
    residue: float
    gap: float

    @staticmethod
    def of(centroids: Heads, how: Cut, facing: Facing, common: float | None = None) -> Target:
        """common: e, where it is known; any will do that many |e_k| do not exceed."""
        unit, fits = how.scale * facing.scale, centroids.residue < NEVER_FITS
        if common is None:
            common = _quantile(centroids.residue[fits], 0.1) if fits.any() else 0.0
        compiled = native.library_for(centroids.values)
        if compiled is not None:
            numbers = unit, how.base * UP, how.constant, how.largest, common
            parts = centroids.residue, centroids.size, centroids.square, centroids.own
            bias, largest, gap = compiled.bias(parts, numbers, facing.level)
            return Target(centroids.values, bias, unit, largest * UP, common, gap + 1)
        reach, residue = (centroids.size + centroids.residue).double(), centroids.residue.double()
        units = how.scale * facing.of_each()
        bias = -0.5 * units * (1 - 8 * UNIT) * centroids.square + how.base * UP * reach + how.constant
        bias = (bias + how.largest * (residue - common).clamp(min=0)).ceil()
        bias = torch.where(fits & (bias < ALWAYS), bias.clamp(min=-ALWAYS), ALWAYS).to(torch.int32)
        gap = float((centroids.own + 2 * bias).max()) + 1
        largest = float(reach[fits].max()) if fits.any() else 0.0
        return Target(centroids.values, bias, unit, largest * UP, common, gap)
