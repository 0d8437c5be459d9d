"""Kernels for rows that are seen once: whichever is taken, labels are the true argmin."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import distkmeans
from distkmeans import native
from distkmeans.data.patches import open_patches
from distkmeans.data.shard import Drawn, Shard
from distkmeans.kernels import once
from distkmeans.kernels.dense import Dense, largest_of
from distkmeans.kernels.once import Once, OnceName, choice_for
from distkmeans.kernels.pruned import Costs
from distkmeans.stats import distances
from tests import oracle

compiled = pytest.mark.skipif(native.library() is None, reason="no compiled kernels here")


def made(x: np.ndarray, centroids: np.ndarray, kernel: OnceName = "auto", rows: int = 0, total: int = 0) -> Once:
    rows_, targets = torch.from_numpy(x), torch.from_numpy(centroids)
    return Once(choice_for(rows_, targets, max(largest_of(rows_), largest_of(targets))), kernel, rows=rows, total=total)


def labels_of(kernel: Once, x: np.ndarray, centroids: np.ndarray) -> list[int]:
    labels = torch.empty(len(x), dtype=torch.int32)
    kernel.assign(torch.from_numpy(x), torch.from_numpy(centroids), labels)
    return labels.tolist()


@compiled
@pytest.mark.parametrize("kernel", ["auto", "dense", "narrow", "pruned"])
@pytest.mark.parametrize("kind", ["lattice", "far", "edge", "halves", "bytes", "duplicates"])
def test_batch_after_batch_with_other_centroids(kind: str, kernel: OnceName) -> None:
    x = oracle.rows(kind, 120, 6, seed=1)
    centroids = x[:30].astype(np.float32)
    taken = made(x, centroids, kernel)
    for start in (0, 40, 80, 119, 120):  # the last one brings no rows
        batch, targets = x[start : start + 40], centroids * np.float32(1 + start / 64)
        assert labels_of(taken, batch, targets) == oracle.nearest(batch, targets)


@compiled
@pytest.mark.parametrize("kind", ["normal", "spread", "duplicates"])
def test_a_trial_is_between_exact_kernels(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "WORTH", 1)
    for dims in (5, 70):
        x = oracle.rows(kind, 300, dims, seed=2)
        centroids = x[:40].copy()
        expected = torch.empty(300, dtype=torch.int32)
        Dense(torch.from_numpy(x), torch.from_numpy(centroids), 1e30, None, True).assign(
            torch.from_numpy(centroids), expected
        )
        assert labels_of(made(x, centroids, rows=200), x, centroids) == expected.tolist()


@compiled
@pytest.mark.parametrize(
    ("short", "form"),
    [({}, "int16x14r2"), ({16: (22,)}, "int16x22r2"), ({16: ()}, "int8x28"), ({16: (), 8: (60,)}, "int8x60")],
)
def test_all_heads_that_are_tried_are_exact(
    short: dict[int, tuple[int, ...]], form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of photographs short heads hold nearly all; whichever wins the trial, here each one has its turn."""
    monkeypatch.setattr(once, "SHORT", {**once.SHORT, **short})
    x = open_patches().values[::200].to(torch.float32).numpy()
    centroids = x[:50].copy()
    expected = labels_of(made(x, centroids, "dense"), x, centroids)
    taken = made(x, centroids, total=once.TURNED * 256**2)
    heads = list(taken._heads(torch.from_numpy(x)))
    assert [str(stages) for stages in heads] == ["int8x192", form]
    for taken.stages in heads:
        taken.kind = "pruned"
        assert labels_of(taken, x, centroids) == expected


def expected(rows: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    labels = torch.empty(len(rows), dtype=torch.int32)
    Dense(rows, centroids, max(largest_of(rows), largest_of(centroids)), None, True).assign(centroids, labels)
    return labels


@compiled
@pytest.mark.parametrize("kind", ["normal", "lattice", "duplicates", "halves"])
@pytest.mark.parametrize("dims", [3, 70])
def test_rows_that_are_drawn_again_and_again(kind: str, dims: int) -> None:
    """Batches with repetitions, from rows some of which were never seen: labels, and costs where they were found."""
    generator = np.random.default_rng(dims)
    rows = torch.from_numpy(oracle.rows(kind, 700, dims, seed=3).astype(np.float32))
    centroids = rows[:45].contiguous()
    choice = choice_for(rows, centroids, 2 * largest_of(rows))
    taken = Once(choice, "pruned", drawn=True)
    assert taken.kept is not None
    for step in range(12):
        local = torch.from_numpy(generator.integers(0, 60 * (step + 1) % 700 + 1, 333))
        batch = Drawn(Shard(rows, 0, 700, None, str), local, torch.arange(333), 333)
        labels, costs = torch.empty(333, dtype=torch.int32), Costs.of(333, 0)
        assert costs is not None
        taken.assign_drawn(batch, centroids, labels, costs)
        assert torch.equal(labels, expected(rows[local], centroids))
        known = costs.found >= 0
        assert costs.filled
        assert kind != "normal" or known.all()
        assert torch.equal(costs.found[known], distances(rows[local], centroids, labels, 0)[known])
        centroids = centroids * 0.95 + 0.05 * rows[local[:45]]
    nothing = Drawn(Shard(rows, 0, 700, None, str), torch.empty(0, dtype=torch.int64), torch.arange(0), 333)
    assert taken.assign_drawn(nothing, centroids, torch.empty(0, dtype=torch.int32), Costs.of(0, 0)) == 0
    everything = torch.empty(700, dtype=torch.int32)
    for part in (slice(0, 27 * native.ROWS), slice(27 * native.ROWS, 700)):
        taken.assign_part(part, centroids, everything)
    assert torch.equal(everything, expected(rows, centroids))


@compiled
def test_heads_are_kept_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "WORTH", 1)
    x = torch.from_numpy(oracle.rows("normal", 5000, 256, seed=4).astype(np.float32))
    choice = choice_for(x, x[:200], largest_of(x))
    assert Once(choice, rows=1000, total=50_000, drawn=True).kind == "kept"
    narrow = torch.from_numpy(oracle.rows("normal", 5000, 4, seed=4).astype(np.float32))
    assert Once(choice_for(narrow, narrow[:8], 10.0), rows=1000, total=50_000, drawn=True).kept is None


@compiled
def test_axes_are_found_where_there_is_enough_to_do() -> None:
    x = open_patches().values[::200].to(torch.float32).numpy()
    for total, heads in ((once.TURNED * 256**2 // 50 - 1, 1), (once.TURNED * 256**2 // 50, 2)):
        assert len(list(made(x, x[:50], total=total)._heads(torch.from_numpy(x)))) == heads


def test_without_compiled_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.CHOICE, "off")
    x = oracle.rows("lattice", 90, 4, seed=0)
    assert made(x, x[:9]).name == "torch-dense"
    assert labels_of(made(x, x[:9], rows=10**9), x, x[:9]) == oracle.nearest(x, x[:9])
    with pytest.raises(distkmeans.InputError, match=r"solver.kernel=pruned: the compiled kernels cannot be used"):
        made(x, x[:9], "pruned")


def test_small_steps_leave_the_threads_as_they_were() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with native.small_steps():
            assert (torch.get_num_threads(), native.threads()) == (1, 3)
            with native.small_steps():
                assert (torch.get_num_threads(), native.threads()) == (1, 3)
            assert (torch.get_num_threads(), native.threads()) == (1, 3)
        with native.small_steps(small=False):
            assert (torch.get_num_threads(), native.threads()) == (3, 3)
        assert (torch.get_num_threads(), native.threads()) == (3, 3)
    finally:
        torch.set_num_threads(before)
