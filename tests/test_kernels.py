"""The compiled kernels: every instruction set and form gives the true argmin, and the same statistics as torch."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import distkmeans
import distkmeans.kernels.choose as choosing
from distkmeans import native, stats
from distkmeans.data.patches import open_patches
from distkmeans.errors import InputError
from distkmeans.kernels.choose import JUDGED, Choice, Judged, KernelName, choose
from distkmeans.kernels.dense import Dense, Frame, largest_of
from distkmeans.kernels.head import ALWAYS, NEVER_FITS, Axes, Cut, Form, Stages, Target
from distkmeans.kernels.integer import Integer
from distkmeans.kernels.narrow import Narrow
from distkmeans.kernels.pruned import FLOAT_MAX, PLACED, Pruned, near_together
from distkmeans.native.__main__ import FLAGS
from tests import oracle
from tests.conftest import ROOT
from tests.test_nearest import with_traps

BUILT = native.library() is not None
needs_compiler = pytest.mark.skipif(not BUILT, reason="the compiled kernels are not built here")
FAST_SETTINGS = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
KINDS = sorted(oracle.ADVERSARIAL)
TYPES = [torch.float32, torch.float16, torch.bfloat16, torch.uint8, torch.int8]


@pytest.fixture(params=list(native.variants()) or ["none"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[native.Library]:
    if not BUILT:
        pytest.skip("the compiled kernels are not built here")
    monkeypatch.setenv(native.CHOICE, request.param)
    found = native.library()
    assert found is not None
    assert found.name == request.param
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield found
    torch.set_num_threads(before)


def pruned(rows: torch.Tensor, library: native.Library, form: Form, longer: Form | None = None) -> Pruned:
    sample = rows.to(torch.float32)
    axes, _ = Axes.principal(sample)
    stages = Stages.fitting(sample, axes, form, Cut.fitting(sample, axes, longer) if longer else None)
    return Pruned(rows, library, stages, largest_of(rows), exact=True, may_copy=longer is not None)


def cut_of(rows: torch.Tensor, bits: int, length: int, refined: int) -> Cut:
    """Of at most so many axes, of which at most so many are refined."""
    length = min(length, rows.shape[1])
    axes, _ = Axes.principal(rows.float())
    return Cut.fitting(rows.float(), axes, Form(bits, length, min(refined, length) if bits == 16 else 0))


def forms(dims: int) -> list[tuple[Form, Form | None]]:
    """All bytes; a head of some axes with bits of both sizes, refined or not; with a second stage and without."""
    some = max(1, dims // 2)
    return [
        (Form(8, dims), None),
        (Form(8, some), Form(8, dims)),
        (Form(16, some), None),
        (Form(16, some, min(2, some)), Form(16, min(dims, some + 1), min(2, some))),
        (Form(16, dims, 1), None),
    ]


def paths(centroids: torch.Tensor, seed: int) -> Iterator[torch.Tensor]:
    """Centroids as iterations move them: all, some, none, one, all again."""
    generator = torch.Generator().manual_seed(seed)
    now = centroids
    for share in (1.0, 0.3, 0.0, 1 / len(centroids), 1.0):
        yield now
        moves = torch.rand(len(now), generator=generator) <= share * (share > 0) - (share == 0)
        step = now * 0.01 * torch.randn(now.shape, generator=generator)
        now = torch.where(moves[:, None], now + step, now)


def ordinary(x: np.ndarray) -> bool:
    """Whether the compiled kernels take these rows, and moved ones."""
    rows = torch.from_numpy(x)
    return x.dtype != np.float64 and not Frame.around(rows.float(), 4 * largest_of(rows)).exponent


@settings(max_examples=20, **FAST_SETTINGS)
@given(kind=st.sampled_from(KINDS), dims=st.integers(1, 9), k=st.integers(1, 80), seed=st.integers(0, 2**32))
def test_heads_give_the_true_argmin(library: native.Library, kind: str, dims: int, k: int, seed: int) -> None:
    x = oracle.rows(kind, 30, dims, seed)
    if not ordinary(x):
        return
    for form in forms(dims):
        kernel = pruned(torch.from_numpy(x), library, *form)
        kernel.passes = PLACED  # rows are moved to their records when these are sorted first
        labels = torch.empty(len(x), dtype=torch.int32)
        for centroids in paths(torch.from_numpy(with_traps(x, k, seed)), seed):
            kernel.assign(centroids.contiguous(), labels)
            assert labels.tolist() == oracle.nearest(x, centroids.numpy()), form


@pytest.mark.parametrize("most", [native.MOST_NARROW, 0])
@settings(max_examples=20, **FAST_SETTINGS)
@given(kind=st.sampled_from(KINDS), dims=st.integers(1, 9), k=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_float32_scores_give_the_true_argmin(
    library: native.Library, monkeypatch: pytest.MonkeyPatch, most: int, kind: str, dims: int, k: int, seed: int
) -> None:
    """With rows side by side, and as they lie."""
    monkeypatch.setattr(native, "MOST_NARROW", most)
    x = oracle.rows(kind, 70, dims, seed)
    if not ordinary(x):
        return
    centroids = torch.from_numpy(with_traps(x, k, seed))
    labels = torch.empty(len(x), dtype=torch.int32)
    Narrow(torch.from_numpy(x), library, centroids, largest_of(torch.from_numpy(x)), True).assign(centroids, labels)
    assert labels.tolist() == oracle.nearest(x, centroids.numpy())


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("count", "dims", "k"), [(700, 40, 70), (333, 16, 5000), (400, 131, 33)])
def test_types_and_sizes(library: native.Library, dtype: torch.dtype, count: int, dims: int, k: int) -> None:
    generator = torch.Generator().manual_seed(dims)
    rows = (30 * torch.randn(count, dims, generator=generator)).clamp(-100, 100)
    rows = (rows.abs() if dtype == torch.uint8 else rows).to(dtype)
    centroids = rows[torch.randint(count, (k,), generator=generator)].float()
    centroids += torch.randn(k, dims, generator=generator)
    expected, labels = torch.empty(count, dtype=torch.int32), torch.empty(count, dtype=torch.int64)
    kernels: list = [pruned(rows, library, Form(8, dims)), pruned(rows, library, Form(8, dims // 2), Form(8, dims))]
    kernels += [pruned(rows, library, Form(16, 10, 2)), pruned(rows, library, Form(16, 10, 2), Form(16, dims - 1, 2))]
    if dims <= native.MOST_NARROW or k <= native.MOST_FEW:
        kernels.append(Narrow(rows, library, centroids, 200.0, True))
    for moved in paths(centroids, seed=k):
        Dense(rows, moved, 200.0, None, True).assign(moved, expected)
        for kernel in kernels:
            kernel.assign(moved.contiguous(), labels)
            assert torch.equal(labels.to(torch.int32), expected), kernel.name


@pytest.mark.parametrize("form", [Form(8, 24), Form(16, 9, 1)])
def test_the_number_of_centroids_may_change(library: native.Library, form: Form) -> None:
    """As from round to round of k-means||, within a panel or beyond it."""
    rows = torch.randn(700, 24, generator=torch.Generator().manual_seed(4))
    kernel, (labels, expected) = pruned(rows, library, form), torch.empty(2, 700, dtype=torch.int32)
    for count in (27, 32, 32, 29, 1, 40, 40, 33, 12):
        centroids = rows[-count:] * (1 + count / 100)
        kernel.assign(centroids, labels)
        Dense(rows, centroids, 10.0, None, True).assign(centroids, expected)
        assert torch.equal(labels, expected), count


@pytest.mark.parametrize("longer", [None, Form(8, 64)])
def test_centroids_at_scales_of_their_own(library: native.Library, longer: Form | None) -> None:
    """Means of few rows and of many: of each level there are panels, among all centroids and among those that move."""
    generator = torch.Generator().manual_seed(5)
    rows = torch.randn(2500, 64, generator=generator)
    sizes = torch.tensor([1.0, 0.5, 0.2, 0.1, 0.04]).repeat_interleave(60)[torch.randperm(300, generator=generator)]
    centroids = torch.randn(300, 64, generator=generator) * sizes[:, None]
    kernel = pruned(rows, library, Form(8, 40) if longer else Form(8, 64), longer)
    (labels, expected), seen = torch.empty(2, 2500, dtype=torch.int32), 0
    for moved in paths(centroids, seed=2):
        kernel.assign(moved.contiguous(), labels)
        Dense(rows, moved, 10.0, None, True).assign(moved, expected)
        assert torch.equal(labels, expected)
        seen = seen or kernel.counts.changed
    assert longer or seen < 250  # the first labels are guessed across levels
    levels = [facing.level for facing in kernel.aim.facing]
    assert all(level is not None and level.unique().tolist() == [0, 1, 2, 3] for level in levels)


def test_outliers_among_rows_and_centroids(library: native.Library) -> None:
    """What does not fit the integers is compared in full, and spoils nothing for the others."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(3000, 24, generator=generator)
    rows[::500] *= 1e4
    rows[1::700] *= 300
    centroids = torch.cat([rows[::500], rows[1::700], rows[2:90]]) * 1.01
    for form in (Form(8, 24), Form(8, 8), Form(16, 8), Form(16, 8, 2)):
        kernel, labels, expected = pruned(rows, library, form), *torch.empty(2, 3000, dtype=torch.int32)
        for moved in paths(centroids, seed=1):
            kernel.assign(moved.contiguous(), labels)
            Dense(rows, moved, 1e6, None, True).assign(moved, expected)
            assert torch.equal(labels, expected)


@pytest.mark.parametrize("kind", ["normal", "lattice"])
def test_ties_beyond_what_can_be_listed(library: native.Library, kind: str) -> None:
    """All centroids alike: every row is open, and there are more pairs than room for them."""
    rows = torch.from_numpy(oracle.rows(kind, 400, 4, seed=1)).float()
    centroids = rows[:1].repeat(200, 1)
    kernel, labels = pruned(rows, library, Form(16, 4)), torch.empty(400, dtype=torch.int32)
    kernel.assign(centroids, labels)
    assert (kernel.records.view(torch.float32)[:400, native.HIGH] == FLOAT_MAX).all()
    kernel.assign(centroids, labels)
    assert (labels == 0).all()


@settings(max_examples=40, **FAST_SETTINGS)
@given(
    compiled=st.booleans(),
    kind=st.sampled_from(KINDS),
    dims=st.integers(1, 12),
    bits=st.sampled_from([8, 16]),
    length=st.integers(1, 12),
    refined=st.integers(0, 3),
    levels=st.integers(1, native.LEVELS),
    together=st.integers(1, 4),
    seed=st.integers(0, 2**32),
)
def test_the_margin_holds(
    compiled: bool, kind: str, dims: int, bits: int, length: int, refined: int, levels: int, together: int, seed: int
) -> None:
    """Integer scores never rule out a centroid that is nearer: in rational arithmetic, on adversarial rows."""
    x = oracle.rows(kind, 12, dims, seed)
    if not ordinary(x):
        return
    rows = torch.from_numpy(x).float()
    how = cut_of(rows, bits, length, refined)
    centroids = torch.from_numpy(with_traps(x, 9, seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(native.CHOICE, "auto" if compiled else "off")
        facing = how.facing(centroids, levels, together)
        heads, target = how.heads(rows), Target.of(how.heads(centroids, facing), how, facing)
    products = heads.values.double() @ target.heads.double().t() + target.bias.double()
    assert products.abs().max() < 2**31
    centre, units = how.axes.centre.double().numpy(), (how.scale * facing.of_each()).expand(9).tolist()
    for row in range(len(x)):
        if heads.residue[row] >= NEVER_FITS or heads.size[row] > how.largest:
            continue
        square = oracle.square_distance(x[row].astype(np.float64), centre)
        margin = float((heads.residue[row] - how.base).clamp(min=0)) * target.reach
        margin += float(heads.size[row]) * target.residue
        for k in range(9):
            if target.bias[k] == ALWAYS:
                continue
            score = (square - oracle.square_distance(x[row], centroids[k].numpy())) / 2
            assert float(products[row, k]) + 1 >= units[k] * float(score) - margin, (row, k)


@settings(max_examples=60, **FAST_SETTINGS)
@given(
    kind=st.sampled_from(KINDS),
    dims=st.integers(1, 40),
    bits=st.sampled_from([8, 16]),
    length=st.integers(1, 40),
    refined=st.integers(0, 2),
    seed=st.integers(0, 2**32),
)
def test_compiled_heads_are_those_of_torch(
    library: native.Library, kind: str, dims: int, bits: int, length: int, refined: int, seed: int
) -> None:
    """But for a rounding of what is turned in another order, and its consequences for bounds."""
    x = oracle.rows(kind, 50, dims, seed)
    if not ordinary(x):
        return
    rows = torch.from_numpy(x)
    how = cut_of(rows, bits, length, refined)
    for facing in (None, how.facing(rows), how.facing(rows, native.LEVELS, 3)):
        mine = how.heads(rows, facing)
        turned, square = how.axes.turn(rows)
        plain = how.of_turned(turned, square, dims, facing)
        assert torch.allclose(mine.square, plain.square, rtol=1e-12, atol=1e-30)
        fits = (mine.residue < NEVER_FITS) & (plain.residue < NEVER_FITS)
        assert (fits | (mine.residue >= NEVER_FITS) & (plain.residue >= NEVER_FITS) | (plain.own > 0.99 * 2**30)).all()
        assert not len(x[fits]) or (mine.values[fits].int() - plain.values[fits].int()).abs().max() <= 1
        assert torch.allclose(mine.residue[fits], plain.residue[fits], rtol=1e-3, atol=0.1)
        assert torch.allclose(
            mine.size[fits], plain.size[fits], rtol=1e-3, atol=how.form.length**0.5
        )  # ties of rounding


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("clusters", "dims", "exponent"), [(1, 1, 0), (7, 2, 5), (33, 17, -30), (200, 96, 0)])
def test_steps_and_hashes_are_those_of_torch(
    library: native.Library,
    dtype: torch.dtype,
    clusters: int,
    dims: int,
    exponent: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """To the last bit: ranks with and without compiled kernels compare their hashes, and stop by the same shift."""
    was, now = torch.randn(2, clusters, dims, dtype=dtype, generator=torch.Generator().manual_seed(dims))
    now[0], now[clusters // 2] = -0.0, was[clusters // 2]
    compiled = stats.steps(was, now, exponent)
    monkeypatch.setenv(native.CHOICE, "off")
    for mine, plain in zip(compiled, stats.steps(was, now, exponent), strict=True):
        assert torch.equal(mine, plain)
    assert compiled[2].tolist() == [k != clusters // 2 for k in range(clusters)]


@pytest.mark.parametrize("dtype", [*stats.floats.MANTISSA_BITS])
@pytest.mark.parametrize(("clusters", "dims", "exponent"), [(1, 1, 0), (7, 2, 5), (33, 17, -30), (9, 96, 0)])
def test_distances_are_those_of_torch(
    library: native.Library,
    dtype: torch.dtype,
    clusters: int,
    dims: int,
    exponent: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = torch.Generator().manual_seed(dims)
    rows = (100 * torch.randn(50, 2 * dims, generator=made)).to(dtype)[:, :dims]
    centroids = torch.randn(clusters, dims, generator=made)
    labels = torch.randint(clusters, (50,), dtype=torch.int32, generator=made)
    compiled = stats.distances(rows, centroids, labels, exponent)
    monkeypatch.setenv(native.CHOICE, "off")
    assert torch.equal(compiled, stats.distances(rows, centroids, labels, exponent))
    assert torch.allclose(compiled, (rows.double() - centroids.double()[labels.long()]).square().sum(1) * 4.0**exponent)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("count", "dims"), [(1, 1), (40, 17), (5_000_000, 1)])
def test_squares_are_added_exactly(library: native.Library, dtype: torch.dtype, count: int, dims: int) -> None:
    """Most of them about the largest that there may be: more than float64 adds up before they are taken as integers."""
    rows = torch.full((count, dims), 0.9939 if dtype.is_floating_point else 127).to(dtype)
    rows[:9] = (torch.randn(9, dims, generator=torch.Generator().manual_seed(dims)) * 0.1)[:count].to(dtype)
    top = 14 if not dtype.is_floating_point else 0 if dtype == torch.float32 else 2
    places = [top - 34 * (limb + 1) for limb in range(native.SQUARE_LIMBS)]
    limbs = library.squares(rows, places)
    exact = sum(Fraction(value) ** 2 for value in rows[:9].flatten().tolist())
    exact += max(0, count - 9) * dims * Fraction(rows[-1, 0].item()) ** 2
    assert sum(Fraction(limb) * Fraction(2) ** place for limb, place in zip(limbs, places, strict=True)) == exact


def test_which_centroids_moved_is_told_bit_by_bit(library: native.Library) -> None:
    was = torch.randn(40, 3)
    was[5] = torch.nan
    now = was.clone()
    now[7, 2], now[30] = -was[7, 2], 0.0
    kept = was.clone()
    assert library.follow(kept, now).nonzero().flatten().tolist() == [7, 30]
    assert torch.equal(kept.view(torch.int32), now.view(torch.int32))


@needs_compiler
def test_more_columns_than_axes_are_looked_for() -> None:
    rows = torch.randn(1500, 1100, generator=torch.Generator().manual_seed(0))
    labels, expected = torch.empty(2, 1500, dtype=torch.int32)
    kernel = choose(rows, rows[:90].clone())
    assert "int" in kernel.name
    for centroids in paths(rows[:90], seed=1):
        kernel.assign(centroids.contiguous(), labels)
        Dense(rows, centroids, 10.0, None, True).assign(centroids, expected)
        assert torch.equal(labels, expected)


def test_both_ways_to_build_take_the_same_flags() -> None:
    (extension,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["ext-modules"]
    assert {*extension["extra-compile-args"], "-shared", "-fPIC"} == set(FLAGS)
    assert {Path(path).name for path in extension["depends"]} == {
        path.name for path in (ROOT / "distkmeans" / "native").glob("*.h")
    }


@needs_compiler
def test_heads_prune_photographs() -> None:
    """A guard of speed that no clock can blur: how many pairs are compared in full, how many blocks are skipped."""
    rows = open_patches().values[::8].float().contiguous()
    kernel = pruned(rows, native.library(), Form(16, 14, 2))
    centroids, labels = rows[::70].clone(), torch.empty(len(rows), dtype=torch.int32)
    for _ in range(3):
        kernel.assign(centroids, labels)
        kernel.seen = torch.full_like(centroids, math.nan)
    assert kernel.counts.pairs < 0.04 * len(rows) * len(centroids)
    assert kernel.counts.blocks < 0.5 * kernel.counts.full * len(kernel.order) / native.PANEL


@needs_compiler
@needs_compiler
@pytest.mark.parametrize(("dims", "length"), [(40, 40), (300, 300), (1030, 252)])
def test_longer_heads_take_all_columns_where_these_are_not_many(dims: int, length: int) -> None:
    rows = torch.randn(400, dims, generator=torch.Generator().manual_seed(0))
    choice = Choice(rows, rows[:50], native.library(), largest_of(rows), True)
    second = choice._second(8, 0, Axes.principal(rows)[0], rows)
    assert second is not None
    assert second.form.length == length


def test_settled_rows_are_left_alone() -> None:
    """Where no centroid moves nothing is compared, and where one does, one panel at most for settled rows."""
    rows = torch.randn(5000, 16, generator=torch.Generator().manual_seed(0))
    kernel, centroids = pruned(rows, native.library(), Form(8, 16)), rows[:200].clone()
    labels = torch.empty(len(rows), dtype=torch.int32)
    kernel.assign(centroids, labels)
    kernel.assign(centroids, labels)
    assert (kernel.counts.pairs, kernel.counts.blocks, kernel.counts.full) == (0, 0, 0)
    centroids[7] += 1e-3
    kernel.assign(centroids, labels)
    assert kernel.counts.blocks <= len(kernel.records) / native.ROWS + kernel.counts.full * 7


def test_unknown_labels_are_marked(library: native.Library) -> None:
    """A row that the judge decided has no bounds of its own until it is seen again."""
    rows = torch.zeros(30, 3)
    rows[:, 0] = torch.arange(30)
    centroids = torch.tensor([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]]) + rows[:, None][:2, 0]
    kernel, labels = pruned(rows, library, Form(16, 3)), torch.empty(30, dtype=torch.int32)
    assert kernel.assign(torch.stack([centroids[0], centroids[0] * torch.tensor([1, -1, 1])]), labels) == 30
    assert (kernel.records.view(torch.float32)[:30, native.HIGH] == FLOAT_MAX).all()
    assert (labels == 0).all()


@needs_compiler
def test_another_head_can_take_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judged again, the head that the clock favours takes over from labels that are known, and labels stay true."""
    rows = torch.randn(3000, 40, generator=torch.Generator().manual_seed(1)) * torch.linspace(4, 0.1, 40)
    library = native.library()
    assert library is not None
    choice = Choice(rows, rows[:100], library, 30.0, True)
    axes, _ = Axes.principal(rows)
    rivals = [Stages.fitting(rows, axes, Form(8, length), None) for length in (12, 40)]
    kernel, (labels, expected) = Judged(choice, rivals), torch.empty(2, 3000, dtype=torch.int32)
    monkeypatch.setattr(Choice, "seconds", lambda self, name, sample, how, *rest: float(how is rivals[0]))
    for step in range(JUDGED[0] + 2):
        centroids = rows[:100] * (1 + step / 50)
        kernel.assign(centroids, labels)
        Dense(rows, centroids, 30.0, None, True).assign(centroids, expected)
        assert torch.equal(labels, expected)
        assert kernel.kernel.stages is rivals[step >= JUDGED[0] - 1]


@needs_compiler
def test_heads_are_judged_without_labels_of_other_centroids(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(3000, 40, generator=torch.Generator().manual_seed(1))
    library = native.library()
    assert library is not None
    choice, (axes, _) = Choice(rows, rows[:100], library, 30.0, True), Axes.principal(rows)
    kernel = Judged(choice, [Stages.fitting(rows, axes, Form(8, length), None) for length in (12, 40)])
    known: list[torch.Tensor | None] = []
    monkeypatch.setattr(Choice, "seconds", lambda self, name, sample, how, centroids, labels: known.append(labels) or 1)
    labels, expected = torch.empty(2, 3000, dtype=torch.int32)
    for count in (*[100] * (JUDGED[0] - 1), 20, 20):
        kernel.assign(rows[:count].clone(), labels)
    Dense(rows, rows[:20], 30.0, None, True).assign(rows[:20], expected)
    assert torch.equal(labels, expected)
    assert known == [None, None]


def test_near_together_is_an_order() -> None:
    heads = torch.randint(-100, 100, (333, 8), dtype=torch.int16)
    assert sorted(near_together(heads).tolist()) == list(range(333))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weighted", [False, True])
def test_a_fit_has_the_same_bits_without_compiled_kernels(
    kind: str, weighted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = oracle.rows(kind, 200, 6, seed=4)
    weights = np.random.default_rng(0).uniform(0, 3, len(x)) if weighted else None
    results = []
    for choice in ["off", *native.variants()]:
        monkeypatch.setenv(native.CHOICE, choice)
        fitted = distkmeans.fit(x, 20, weights=weights, tol=0, max_iter=15)
        results.append((fitted.centroids.tobytes(), fitted.labels.tobytes(), fitted.inertia, fitted.iterations))
    assert len(set(results)) == 1


@pytest.mark.parametrize("init", ["plus_plus", "parallel", "random"])
@pytest.mark.parametrize("kind", ["normal", "bytes", "halves", "far"])
def test_low_memory_has_the_same_bits(kind: str, init: str) -> None:
    x = oracle.rows(kind, 3000, 70, seed=2)
    low, usual = (distkmeans.fit(x, 40, init=init, memory=memory, max_iter=4) for memory in ("low", "auto"))
    assert low.centroids.tobytes() == usual.centroids.tobytes()
    assert low.labels.tobytes() == usual.labels.tobytes()
    rows = torch.from_numpy(x)
    assert "int" not in choose(rows, rows[:40].float(), frugal=True).name


@needs_compiler
@pytest.mark.parametrize(("kernel", "name"), [("narrow", " float32"), ("pruned", " int"), ("dense", "torch-dense")])
def test_a_kernel_can_be_asked_for(kernel: KernelName, name: str) -> None:
    x = torch.randn(300, 8)
    assert name in choose(x, x[:5], kernel=kernel).name
    assert distkmeans.fit(x, 5, kernel=kernel).inertia == distkmeans.fit(x, 5).inertia


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), dims=st.integers(1, 9), k=st.integers(1, 80), seed=st.integers(0, 2**32))
def test_integers_in_torch_give_the_true_argmin(kind: str, dims: int, k: int, seed: int) -> None:
    x = oracle.rows(kind, 30, dims, seed)
    if not ordinary(x):
        return
    rows, labels = torch.from_numpy(x), torch.empty(len(x), dtype=torch.int32)
    axes, _ = Axes.principal(rows.float())
    kernels = [Integer(rows, Cut.fitting(rows, axes, Form(8, length)), True) for length in (dims, max(1, dims // 2))]
    for centroids in paths(torch.from_numpy(with_traps(x, k, seed)), seed):
        for kernel in kernels:
            kernel.assign(centroids, labels)
            assert labels.tolist() == oracle.nearest(x, centroids.numpy())


def test_without_a_compiler_torch_multiplies_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.CHOICE, "off")
    monkeypatch.setattr(choosing, "LENGTHS", {8: (), 16: ()})  # no trial of shorter ones, which depends on the time
    x = torch.randn(4000, 200, generator=torch.Generator().manual_seed(0))
    kernel = choose(x, x[:200], kernel="integer")
    labels, expected = torch.empty(2, 4000, dtype=torch.int32)
    assert kernel.name == "torch int8x200"
    for centroids in paths(x[:200], seed=0):
        kernel.assign(centroids, labels)
        Dense(x, centroids, 10.0, None, True).assign(centroids, expected)
        assert torch.equal(labels, expected)
    assert choose(x, x[:200]).name in ("torch int8x200", "torch-dense")


def test_a_kernel_that_cannot_be_had_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(130, 130)
    with pytest.raises(InputError, match=r"solver.kernel=pruned: it is for values of 32 bits and fewer; use auto"):
        choose(x.double(), x[:5].double(), kernel="pruned")
    if BUILT:
        with pytest.raises(InputError, match=r"kernel=narrow: it is for at most 128 columns, or 128 clusters; use"):
            choose(x, x, kernel="narrow")
        monkeypatch.setenv(native.CHOICE, "sse9")
        with pytest.raises(InputError, match=r"DISTKMEANS_NATIVE=sse9: this processor runs .*; or off"):
            native.library()
    monkeypatch.setenv(native.CHOICE, "off")
    with pytest.raises(InputError, match=r"solver.kernel=narrow: the compiled kernels cannot be used \(switched off\)"):
        choose(x, x[:5], kernel="narrow")
    assert choose(x, x[:5]).name == "torch-dense"
