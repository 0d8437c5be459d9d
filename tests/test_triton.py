"""The Triton kernels, in Triton's interpreter where there is no GPU, held to plain torch and to rational arithmetic."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before a kernel is defined
pytest.importorskip("triton", reason="triton is not installed: pip install triton, or a torch for CUDA")

from distkmeans.kernels import dense, triton_head, triton_nearest, triton_sieve
from distkmeans.kernels.choose import choose
from distkmeans.kernels.triton import Fused
from distkmeans.kernels.triton_head import axes_of, principal_axes, quantise_centroids, quantise_rows
from distkmeans.kernels.triton_runs import Runs, can_add
from distkmeans.kernels.triton_sieve import Sieve
from distkmeans.stats import ClusterSums, tally
from tests import oracle
from tests.problems import problem_of
from tests.test_nearest import ALL_KINDS, with_traps

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FORMS = {"float": None, "coarse": (32, False), "whole": (64, False), "long": (384, False), "fine": (32, True)}
"""What the pruned pass works on: the width of its heads, and whether they are fine; None for the float pass alone."""
HALF = (torch.float16, torch.bfloat16)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The interpreter's arrays are tiny: a second thread costs more than it brings."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sieve_of(rows: torch.Tensor, clusters: int, form: str) -> Sieve | None:
    if FORMS[form] is None:
        return None
    sample = rows.to(torch.float64)
    return Sieve(rows, axes_of(sample, principal_axes(sample), *FORMS[form]), clusters)


def fused(rows: torch.Tensor, centroids: torch.Tensor, form: str) -> Fused:
    kernel = Fused(rows, centroids, max(map(dense.largest_of, (rows, centroids))))
    kernel.sieve = sieve_of(rows, len(centroids), form) if kernel.fits else None
    return kernel


def assigned(kernel: Fused, centroids: torch.Tensor) -> torch.Tensor:
    labels = torch.full((len(kernel.rows),), -1, dtype=torch.int32, device=DEVICE)
    kernel.assign(centroids, labels)
    return labels


def stored(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values).to(DEVICE)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("form", FORMS)
def test_labels_are_the_true_argmin(kind: str, form: str) -> None:
    x = oracle.rows(kind, 21, 5, seed=1)
    centroids = with_traps(x, 35, seed=2)
    rows, facing = stored(x), stored(centroids)
    kernel = fused(rows, facing, form)
    for _ in range(2):  # from a guess, then from the last labels
        assert assigned(kernel, facing).tolist() == oracle.nearest(x, centroids)


@settings(max_examples=20, deadline=None)
@given(
    kind=st.sampled_from(["lattice", "far", "duplicates", "bytes", "signed", "halves", "normal", "edge"]),
    form=st.sampled_from(sorted(FORMS)),
    count=st.integers(1, 40),
    dims=st.integers(1, 70),
    k=st.integers(1, 50),
    layout=st.sampled_from(["rows", "columns", "strided", "bfloat16"]),
    seed=st.integers(0, 2**32),
)
def test_any_shape_layout_and_type(kind: str, form: str, count: int, dims: int, k: int, layout: str, seed: int) -> None:
    x = oracle.rows(kind, count, dims, seed)
    centroids = stored(with_traps(x, k, seed))
    rows = stored(x)
    if layout == "columns":
        rows = rows.t().contiguous().t()
    elif layout == "strided":
        rows = rows.repeat_interleave(3, 0).repeat_interleave(2, 1)[::3, ::2]
    elif layout == "bfloat16" and rows.is_floating_point():
        rows = rows.to(torch.bfloat16)
    expected = torch.empty(count, dtype=torch.int32, device=DEVICE)
    choose(rows, centroids, kernel="dense").assign(centroids, expected)
    assert assigned(fused(rows, centroids, form), centroids).tolist() == expected.tolist()


@pytest.mark.parametrize("form", FORMS)
def test_iterations_follow_plain_torch(form: str) -> None:
    rows = normal(150, 37) + 3 * normal(12, 37, seed=1).repeat(13, 1)[:150]
    centroids = rows[:40].clone()
    kernel, expected = fused(rows, centroids, form), torch.empty(150, dtype=torch.int32, device=DEVICE)
    for _ in range(4):
        choose(rows, centroids, kernel="dense").assign(centroids, expected)
        assert assigned(kernel, centroids).tolist() == expected.tolist()
        means = torch.zeros_like(centroids).index_add_(0, expected.long(), rows)
        centroids = means / expected.long().bincount(minlength=40).clamp(min=1)[:, None]


def test_wide_rows_pass_in_blocks_of_columns() -> None:
    for dims in (129, 300):
        rows = normal(20, dims).to(torch.float16)
        centroids = normal(18, dims, seed=1)
        expected = oracle.nearest(rows.double().cpu().numpy(), centroids.cpu().numpy())
        for form in FORMS:
            assert assigned(fused(rows, centroids, form), centroids).tolist() == expected


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_twins_a_last_bit_apart(form: str, dtype: type) -> None:
    """No float32 score or distance can tell them apart."""
    x = oracle.rows("normal", 30, 20, seed=1).astype(dtype)
    centroids = np.repeat(oracle.rows("normal", 12, 20, seed=2), 2, axis=0)
    centroids[1::2] = np.nextafter(centroids[1::2], np.random.default_rng(3).choice([-9, 9], (12, 20)).astype("f4"))
    assert assigned(fused(stored(x), stored(centroids), form), stored(centroids)).tolist() == oracle.nearest(
        x, centroids
    )


@pytest.mark.parametrize("form", ["float", "coarse"])
def test_rows_may_lie_more_than_2_to_the_31_elements_apart(form: str) -> None:
    stride = 2**25 + 16
    storage = torch.empty(70 * stride, dtype=torch.uint8, device=DEVICE)  # of which little is touched
    rows = storage.as_strided((70, 8), (stride, 1))
    rows.copy_(torch.arange(70 * 8).view(70, 8) % 251)
    centroids = rows[::7].float()
    expected = oracle.nearest(rows.cpu().numpy(), centroids.cpu().numpy())
    assert assigned(fused(rows, centroids, form), centroids).tolist() == expected


def test_the_first_centroids_are_no_limit_for_the_later_ones() -> None:
    rows = normal(30, 6)
    kernel = Fused(rows, rows[:20].clone(), 1e30)
    kernel.sieve = sieve_of(rows, 20, "coarse")
    for scale in (1.0, 1e3, 1e15, 1e30):
        centroids = rows[:20] * scale
        expected = oracle.nearest(rows.cpu().numpy(), centroids.cpu().numpy())
        assert assigned(kernel, centroids).tolist() == expected


def test_no_rows_and_one_centroid() -> None:
    rows = normal(5, 3)
    assert assigned(Fused(rows[:0], rows[:2], 9.0), rows[:2]).tolist() == []
    for form in FORMS:
        assert assigned(fused(rows, rows[:1].clone(), form), rows[:1].clone()).tolist() == [0] * 5


def test_fast_precision_takes_the_best_float_score() -> None:
    rows, centroids = normal(60, 20), normal(25, 20, seed=1)
    kernel = Fused(rows, centroids, 9.0, exact=False)
    labels = torch.empty(60, dtype=torch.int32, device=DEVICE)
    assert kernel.sieve is None
    assert kernel.assign(centroids, labels) == 0
    assert labels.tolist() == torch.cdist(rows.double(), centroids.double()).argmin(1).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
@pytest.mark.parametrize(("scale", "offset"), [(1.0, 0.0), (1e3, 0.0), (1.0, 300.0)])
def test_the_float_bound_covers_the_error_of_best_and_second(dtype: torch.dtype, scale: float, offset: float) -> None:
    rows = (normal(40, 96) * scale + offset).to(dtype)
    centroids = normal(30, 96, seed=1) * scale + offset
    kernel = fused(rows, centroids, "float")
    assert (kernel.float_pass.split is not None) == (dtype in HALF and not offset)
    labels = assigned(kernel, centroids)
    x, c = (kernel.frame.place(v, torch.float64) for v in (rows, centroids))
    true = (x @ c.t() - c.square().sum(1) / 2).topk(2, dim=1).values
    slope, floor, _ = kernel.float_pass.facing(centroids).bound.double()
    bound = (slope * kernel.norms + floor) / 2
    found = torch.stack([kernel.float_pass.best, kernel.float_pass.second], 1).double()
    assert ((found - true).abs() <= bound[:, None]).all()
    assert (bound <= 1e-3 * (x.norm(dim=1) + c.norm(dim=1).max()) ** 2).all()
    assert labels.tolist() == (x @ c.t() - c.square().sum(1) / 2).argmax(1).tolist()


def test_copies_are_those_that_plain_torch_finds() -> None:
    centroids = torch.randint(0, 3, (60, 2), generator=torch.Generator().manual_seed(0)).float().to(DEVICE)
    centroids[7] = -0.0 * centroids[7]
    assert triton_nearest.copies(centroids).tolist() == dense.repeated(centroids).tolist()


def exact_scores(rows: torch.Tensor, centroids: torch.Tensor, mean: torch.Tensor) -> list[list[Fraction]]:
    """S = X.C - |C|^2 / 2 over the rationals."""
    m = oracle.fractions(mean.cpu().numpy())
    x, c = ([[a - b for a, b in zip(oracle.fractions(v), m, strict=True)] for v in w.cpu().numpy()]
            for w in (rows.double(), centroids.double()))  # fmt: skip
    return [[sum((a - b / 2) * b for a, b in zip(p, q, strict=True)) for q in c] for p in x]


@pytest.mark.parametrize("kind", ["lattice", "far", "duplicates", "edge", "bytes", "halves", "normal", "tenths"])
@pytest.mark.parametrize(("dims", "width", "fine"), [(3, 32, False), (40, 32, False), (40, 32, True), (5, 32, True)])
def test_heads_bound_every_score_from_above(kind: str, dims: int, width: int, fine: bool) -> None:
    x = oracle.rows(kind, 12, dims, seed=3).astype(np.float32)
    x[0] *= 50  # an outlier that the scale does not hold
    rows, centroids = stored(x), stored(with_traps(x, 7, seed=4).astype(np.float32))
    sample = rows[1:].double()
    axes = axes_of(sample, principal_axes(sample), width, fine)
    heads, facing = quantise_rows(rows, axes), quantise_centroids(centroids, dense.repeated(centroids), axes)
    product, most, residue = (Fraction(float(v)) for v in facing.scales)
    integers = triton_head.scores(heads.heads, facing, axes)
    for i, row in enumerate(exact_scores(rows, centroids, axes.mean)):
        if not torch.isfinite(heads.residues[i]):
            continue
        margin = Fraction(float(heads.residues[i])) * most + Fraction(float(heads.norms[i])) * residue
        for k, score in enumerate(row):
            if int(facing.init[k]) != triton_head.NEVER:
                assert product * score <= int(integers[i, k]) + margin
    true = [max(row) for row in exact_scores(rows, centroids, axes.mean)]
    reached = torch.tensor([float(v) for v in true], dtype=torch.float64, device=DEVICE)
    least = triton_head.thresholds(heads, facing, reached * (1 - 1e-12) - 1e-12)
    for i, nearest in enumerate(oracle.nearest(rows.cpu().numpy(), centroids.cpu().numpy())):
        assert integers[i, nearest] >= least[i] or not torch.isfinite(heads.residues[i])


@pytest.mark.parametrize("fine", [False, True])
def test_the_rest_is_rounded_up(fine: bool) -> None:
    """Parallel rests, and heads without residues: the bound has nothing to spare."""
    one = torch.eye(2, dtype=torch.float64, device=DEVICE)
    axes = triton_head.Axes(0 * one[0], one[:1], 1, 32, 1.0, 0.0, fine)
    rows, centroids = torch.tensor([[3.0, 2.5]], device=DEVICE), torch.tensor([[5.0, 4.5]], device=DEVICE)
    heads, facing = quantise_rows(rows, axes), quantise_centroids(centroids, torch.zeros(1, device=DEVICE) > 0, axes)
    product, _, residue = facing.scales
    score = (rows * centroids).sum() - centroids.square().sum() / 2
    assert heads.residues == 0
    assert product * score <= triton_head.scores(heads.heads, facing, axes) + heads.norms * residue


@pytest.mark.parametrize("form", ["coarse", "whole", "long", "fine"])
def test_thresholds_and_survivors_are_those_of_plain_torch(form: str) -> None:
    rows, centroids = normal(70, 45) + 5, normal(90, 45, seed=1) / 2 + 5
    sieve, last = sieve_of(rows, 90, form), torch.arange(70, dtype=torch.int32, device=DEVICE)
    facing = sieve.facing(centroids)
    sieve.aim(facing, centroids, last, slice(20, 70))
    aimed = sieve.thresholds[:50].clone()
    scores = triton_head.scores(sieve.heads.heads, facing, sieve.axes)[20:]
    for median in (scores.median(1).values, scores.median(1).values + 1):  # on a score, and just above it
        sieve.thresholds[:50] = median.int()
        sieve.sift(facing, slice(20, 70))
        passing = scores >= median[:, None]
        assert sieve.seen[:50].tolist() == passing.sum(1).tolist()
        for row, expected in zip(sieve.lists.view(-1, sieve.capacity)[:50], passing, strict=True):
            assert row.tolist() == expected.nonzero().flatten().tolist()[: sieve.capacity]
    x, c = (v.double() - sieve.axes.mean for v in (rows[20:], centroids[last[20:].long()]))
    reached = (x * c).sum(1) - c.square().sum(1) / 2
    heads = triton_head.RowHeads(*(values[20:] for values in vars(sieve.heads).values()))
    best_possible = triton_head.thresholds(heads, facing, reached)
    assert (aimed <= best_possible + 2).all()
    spread = facing.scales[0] * (x.square() + c.square()).sum(1)
    assert (aimed >= best_possible - 4 - 1e-5 * spread).all()


def test_rows_with_too_many_survivors_take_the_float_pass_and_then_all_do() -> None:
    rows, crowd = normal(50, 8) * 100, normal(64, 8, seed=1) * 0.01
    kernel = fused(rows, crowd, "coarse")
    expected = oracle.nearest(rows.cpu().numpy(), crowd.cpu().numpy())
    assert assigned(kernel, crowd).tolist() == expected
    assert kernel.sieve is None
    assert assigned(kernel, crowd).tolist() == expected


def test_rows_go_through_the_sieve_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_sieve, "LIST_ELEMENTS", 16 * 20)
    rows, centroids = normal(90, 10), normal(30, 10, seed=1)
    kernel = fused(rows, centroids, "coarse")
    assert len(list(kernel.sieve.blocks())) == 5
    assert assigned(kernel, centroids).tolist() == oracle.nearest(rows.cpu().numpy(), centroids.cpu().numpy())


def clustered(count: int, dims: int, groups: int) -> torch.Tensor:
    place = torch.randint(0, groups, (count,), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    return 2 * normal(groups, dims, seed=2)[place] + normal(count, dims, seed=3)


def test_the_head_prunes() -> None:
    """Speed rests on this: a wrong margin may still be exact, and slow."""
    rows = clustered(4000, 96, 64)
    centroids = rows[:512].clone()
    sieve = triton_sieve.choose_sieve(rows, centroids, 32 * 96)
    assert triton_sieve.pass_rate(rows[:300].double(), centroids, sieve.axes).mean() < 0.02
    far = torch.cat([50 * rows[:, :1], rows[:, 1:]], 1)  # one direction that dwarfs the others, as brightness does
    sieve = triton_sieve.choose_sieve(far, far[:512], 32 * 96)
    assert sieve.axes.fine
    assert triton_sieve.pass_rate(far[:300].double(), far[:512], sieve.axes).mean() < 0.05


def test_pruned_rows_of_ordinary_data_need_neither_float_pass_nor_judge() -> None:
    rows = clustered(200, 64, 40)
    centroids = clustered(96, 64, 40)
    kernel = fused(rows, centroids, "fine")
    labels = torch.empty(200, dtype=torch.int32, device=DEVICE)
    for _ in range(2):
        assert kernel.assign(centroids, labels) == 0
    assert kernel.sieve.seen.float().mean() < 0.05 * 96
    assert kernel.sieve.left_counts.sum() <= 10


def test_no_head_where_it_gains_nothing() -> None:
    assert Fused(normal(500, 40) * 100, 50 + normal(64, 40, seed=1) * 0.01, 1e3).sieve is None  # a far crowd
    assert Fused(normal(50, 2), normal(4, 2, seed=1), 9.0).sieve is None
    assert Fused(normal(500, 40), normal(500, 40), 9.0).sieve is not None


@pytest.mark.parametrize("kind", ["normal", "lattice", "spread", "bytes", "signed", "halves", "far"])
@pytest.mark.parametrize("weighted", [False, True])
def test_runs_add_up_to_the_same_integers(kind: str, weighted: bool) -> None:
    generator = np.random.default_rng(5)
    x = oracle.rows(kind, 90, 19, seed=1)
    weights = generator.integers(0, 4, 90).astype(np.float32) * 0.1 if weighted else None
    problem = problem_of(x, weights)
    old, new = (torch.from_numpy(generator.integers(0, 7, 90).astype(np.int32)) for _ in range(2))
    new[30:] = old[30:]
    assert can_add(problem.shard.rows, problem.grid)
    runs = Runs(problem.shard.rows.to(DEVICE), problem.shard.weights, problem.grid)
    for before, after in ((None, old), (old, new), (new, new)):
        expected, found = ClusterSums.empty(problem.grid, 7), ClusterSums.empty(problem.grid, 7)
        moved = tally(problem.shard, before, after, expected)
        assert runs.tally(before, after, found.limbs, found.counts) == moved
        assert torch.equal(found.limbs, expected.limbs)
        assert torch.equal(found.counts, expected.counts)
    assert not can_add(problem.shard.rows.double(), problem.grid)
