"""``distkmeans.nn``: gradients, compilation, the formulas of the papers, and N ranks against one."""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel

import distkmeans
from distkmeans import InputError, nn
from distkmeans.nn import distances
from tests.conftest import ROOT
from tests.worlds import Ranks

KINDS = ("kmeans", "dec", "commitment")


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def leaves(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [normal(*shape, seed=i, dtype=torch.float64).requires_grad_() for i, shape in enumerate(shapes)]


def assigned(freedom: float | None) -> Callable[[Tensor, Tensor], Tensor]:
    module = nn.SoftAssign(torch.zeros(4, 3), temperature=0.7, freedom=freedom)
    return lambda x, c: functional_call(module, {"centroids": c}, (x,))


TARGET = normal(6, 4, seed=9, dtype=torch.float64).softmax(-1)
SMOOTH: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "distances": nn.squared_distances,
    "gaussian": assigned(None),
    "student": assigned(1.0),
    "kmeans": nn.ClusterLoss("kmeans"),
    "dec": lambda x, c: nn.ClusterLoss("dec", weight=0.3, temperature=0.7)(x, c, TARGET),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_in_rows_and_centroids(name: str) -> None:
    assert torch.autograd.gradcheck(SMOOTH[name], leaves((6, 3), (4, 3)))
    assert torch.autograd.gradcheck(SMOOTH[name], leaves((2, 3, 3), (4, 3)))


def test_gradients_of_what_is_held_constant() -> None:
    x, c = leaves((6, 3), (4, 3))
    nearest = torch.cdist(x, c).argmin(1)
    nn.ClusterLoss("commitment", weight=0.25)(x, c).backward()
    torch.testing.assert_close(x.grad, 0.25 * 2 * (x - c[nearest]).detach() / 6)
    assert c.grad is None
    nn.ClusterLoss("dec")(x, c).backward()
    free, x.grad, c.grad = c.grad, None, None
    q = nn.SoftAssign(c.detach(), freedom=1.0)(x)
    nn.ClusterLoss("dec")(x, c, nn.target_distribution(q)).backward()
    torch.testing.assert_close(free, c.grad)


def test_straight_through() -> None:
    (x,) = leaves((2, 5, 3))
    for ema in (nn.Ema(), None):
        x.grad = None
        quantize = nn.VectorQuantize(normal(4, 3, seed=1, dtype=torch.float64), ema=ema)
        before = quantize.codebook.detach().clone()
        quantized, indices, loss, counts = quantize(x)
        assert torch.equal(quantized, before[indices])
        assert torch.equal(indices, torch.cdist(x.detach(), before).argmin(-1))
        assert torch.equal(counts, torch.bincount(indices.flatten(), minlength=4).double())
        error = (x.detach() - before[indices]).square().sum(-1).mean()
        torch.testing.assert_close(loss.detach(), error * (1.25 if ema is None else 0.25))
        weight = normal(2, 5, 3, seed=2, dtype=torch.float64)
        (quantized * weight).sum().backward(retain_graph=True)
        assert torch.equal(x.grad, weight)
        loss.backward()
        torch.testing.assert_close(x.grad, weight + 0.25 * 2 * (x.detach() - before[indices]) / 10)
        if ema is None:
            pull = torch.zeros(4, 3, dtype=torch.float64)
            pull.index_add_(0, indices.flatten(), 2 * (before[indices] - x.detach()).reshape(-1, 3) / 10)
            torch.testing.assert_close(quantize.codebook.grad, pull)


def test_target_distribution_is_the_papers() -> None:
    q = normal(7, 3, dtype=torch.float64).softmax(-1)
    given = q.numpy()
    f = given.sum(0)
    expected = np.array([[row[j] ** 2 / f[j] / sum(row**2 / f) for j in range(3)] for row in given])
    np.testing.assert_allclose(nn.target_distribution(q), expected, rtol=1e-12)
    half = nn.target_distribution(q[:3], frequencies=q.sum(0))
    np.testing.assert_allclose(half, expected[:3], rtol=1e-12)
    loss = nn.ClusterLoss("dec")
    x, c = normal(7, 2, dtype=torch.float64), normal(3, 2, seed=1, dtype=torch.float64)
    student = 1 / (1 + torch.cdist(x, c).square())
    student /= student.sum(1, keepdim=True)
    p = nn.target_distribution(student)
    torch.testing.assert_close(loss(x, c), (p * (p / student).log()).sum() / 7)
    torch.testing.assert_close(nn.SoftAssign(c, freedom=1.0)(x), student)
    torch.testing.assert_close(nn.ClusterLoss("dec", temperature=4.0)(2 * x, 2 * c), loss(x, c))


def test_soft_assignment_hardens_with_the_temperature() -> None:
    x, c = normal(20, 3), normal(4, 3, seed=1)
    expected = torch.softmax(-torch.cdist(x, c).square() / 2.5, -1)
    torch.testing.assert_close(nn.SoftAssign(c, temperature=2.5)(x), expected)
    assert torch.equal(nn.SoftAssign(c, temperature=1e-6)(x).argmax(1), torch.cdist(x, c).argmin(1))


def test_moving_averages_against_numpy() -> None:
    codebook = normal(4, 3, dtype=torch.float64)
    quantize = nn.VectorQuantize(codebook, ema=nn.Ema(0.9, 1e-3), revival=None)
    codes, weight, sums = codebook.numpy().copy(), np.ones(4), codebook.numpy().copy()
    for step in range(6):
        x = normal(10, 3, seed=step, dtype=torch.float64).numpy()
        labels = ((x[:, None] - codes) ** 2).sum(-1).argmin(1)
        for k in range(4):
            weight[k] = 0.9 * weight[k] + 0.1 * (labels == k).sum()
            sums[k] = 0.9 * sums[k] + 0.1 * x[labels == k].sum(0)
        codes = sums / ((weight + 1e-3) / (weight.sum() + 4 * 1e-3) * weight.sum())[:, None]
        assert np.array_equal(quantize(torch.from_numpy(x)).indices, labels)
        np.testing.assert_allclose(quantize.codebook, codes, rtol=1e-12)
    quantize.eval()
    quantize(normal(10, 3, dtype=torch.float64))
    np.testing.assert_allclose(quantize.codebook, codes, rtol=1e-12)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("ema", [nn.Ema(), None])
def test_a_batch_that_is_no_numbers_teaches_nothing(ema: nn.Ema | None, bad: float) -> None:
    quantize = nn.VectorQuantize(normal(4, 3), ema=ema, revival=nn.Revival(after=1))
    quantize(normal(10, 3, seed=1))
    before = copy.deepcopy(quantize.state_dict())
    x = normal(10, 3, seed=2)
    x[3, 1] = bad
    assert not torch.isfinite(quantize(x).loss)
    for name, value in quantize.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.isfinite(quantize(normal(10, 3, seed=3)).loss)


@pytest.mark.parametrize("ema", [nn.Ema(), None])
def test_starved_codes_become_rows_of_the_batch(ema: nn.Ema | None) -> None:
    codebook = torch.cat([normal(3, 2), torch.full((5, 2), 100.0)])
    quantize = nn.VectorQuantize(codebook, ema=ema, revival=nn.Revival(after=3, at_once=2))
    for step in range(6):
        x = normal(40, 2, seed=step)
        before = quantize.codebook.detach().clone()
        quantize(x)
        new = quantize.codebook.detach()
        revived = [k for k in range(3, 8) if not torch.equal(new[k], before[k]) and (new[k] - before[k]).norm() > 50]
        assert revived == {2: [3, 4], 3: [5, 6], 4: [7]}.get(step, [])
        for k in revived:
            assert any(torch.equal(new[k], row) for row in x)
            assert quantize.idle[k] == 0
        assert len({tuple(new[k].tolist()) for k in revived}) == len(revived)
    assert quantize(x).counts.gt(0).sum() > 3
    few = nn.VectorQuantize(codebook, ema=ema, revival=nn.Revival(after=1))
    few(normal(1, 2, seed=7))
    assert [torch.equal(code, normal(1, 2, seed=7)[0]) for code in few.codebook].count(True) == 1


def test_a_seed_draws_its_own_rows() -> None:
    def revived(seed: int) -> Tensor:
        quantize = nn.VectorQuantize(torch.full((8, 2), 100.0), ema=None, revival=nn.Revival(1, 32, seed))
        quantize(normal(40, 2))
        return quantize.codebook.detach()

    assert torch.equal(revived(0), revived(0))
    assert not torch.equal(revived(0), revived(1))


def test_perplexity() -> None:
    counts = torch.tensor([[3.0, 3, 3, 3], [7, 0, 0, 0], [0, 0, 0, 0], [5, 5, 0, 0]])
    torch.testing.assert_close(nn.perplexity(counts), torch.tensor([4.0, 1, 1, 2]))
    torch.testing.assert_close(nn.perplexity(counts / 100), torch.tensor([4.0, 1, 1, 2]))
    torch.testing.assert_close(nn.perplexity(counts.long()), torch.tensor([4.0, 1, 1, 2]))


ROWS = {
    "no rows": torch.zeros(0, 3),
    "zeros": torch.zeros(5, 3),
    "centroids": torch.tensor([[1.0, 0, 0], [1, 0, 0], [-1, 2, 5]]),
    "apart": torch.tensor([[1e15, 0, 0], [0, 0, 0]]),
}


@pytest.mark.parametrize("name", ROWS)
def test_nothing_is_ever_nan(name: str) -> None:
    codebook = torch.tensor([[1.0, 0, 0], [1, 0, 0], [-1, 2, 5], [1e6, 1e6, 1e6]])
    for piece in (*map(nn.ClusterLoss, KINDS), nn.SoftAssign(codebook), nn.SoftAssign(codebook, freedom=1.0)):
        x, c = ROWS[name].clone().requires_grad_(), codebook.clone().requires_grad_()
        out = piece(x, c) if isinstance(piece, nn.ClusterLoss) else piece(x).square().sum()
        out.backward()
        assert all(torch.isfinite(value).all() for value in (out, x.grad, *([] if c.grad is None else [c.grad])))
        assert all(torch.isfinite(parameter.grad).all() for parameter in piece.parameters())
    for ema in (nn.Ema(decay=0.0), None):
        quantize = nn.VectorQuantize(codebook, ema=ema, revival=nn.Revival(after=2))
        for _ in range(4):
            x = ROWS[name].clone().requires_grad_()
            out = quantize(x)
            (out.loss + out.quantized.sum()).backward()
            assert torch.isfinite(out.loss)
            assert torch.isfinite(x.grad).all()
        assert all(torch.isfinite(value).all() for value in quantize.state_dict().values())
        if not len(x):
            assert torch.equal(quantize.codebook, codebook)
            assert quantize.steps == 0


def test_far_from_the_origin() -> None:
    x, c = normal(50, 8) + 3e4, normal(5, 8, seed=1) + 3e4
    true = (x.double()[:, None] - c.double()).square().sum(-1)
    torch.testing.assert_close(nn.squared_distances(x, c).double(), true, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(nn.ClusterLoss()(x, c).double(), true.min(1).values.mean(), atol=0, rtol=1e-6)
    assert torch.equal(nn.VectorQuantize(c)(x).indices, true.argmin(1))


def test_the_search_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x, c = normal(50, 3), normal(7, 3, seed=1)
    monkeypatch.setattr(distances, "CHUNK", 7 * 8)
    assert torch.equal(distances.nearest(x, c), torch.cdist(x, c).argmin(1))


def test_seeded_by_fit() -> None:
    x = (normal(3, 1, 4) * 10 + normal(3, 30, 4, seed=1)).reshape(-1, 4).numpy()
    result = distkmeans.fit(x, 3)
    quantize = nn.VectorQuantize(result.centroids)
    out = quantize(torch.from_numpy(x).reshape(3, 30, 4))
    assert np.array_equal(out.indices.flatten(), result.labels)
    assert out.loss.item() == pytest.approx(0.25 * result.inertia / 90)
    assert nn.ClusterLoss()(torch.from_numpy(x), torch.from_numpy(result.centroids)).item() == pytest.approx(
        result.inertia / 90
    )


@pytest.mark.parametrize("ema", [nn.Ema(), None])
def test_a_saved_state_goes_on_alike(ema: nn.Ema | None) -> None:
    first = nn.VectorQuantize(normal(8, 3) * 3, ema=ema, revival=nn.Revival(after=2, at_once=1))
    for step in range(4):
        first(normal(6, 3, seed=step))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = nn.VectorQuantize(torch.zeros(8, 3), ema=ema, revival=nn.Revival(after=2, at_once=1))
    second.load_state_dict(torch.load(file, weights_only=True))
    third = copy.deepcopy(first)
    for step in range(4, 9):
        outs = [module(normal(6, 3, seed=step)) for module in (first, second, third)]
        for out in outs[1:]:
            assert all(torch.equal(a, b) for a, b in zip(outs[0], out, strict=True))
    for module in (second, third):
        assert all(
            torch.equal(a, b) for a, b in zip(first.state_dict().values(), module.state_dict().values(), strict=True)
        )


def test_autocast_does_not_reach_the_distances() -> None:
    codebook = normal(5, 3)
    x = normal(40, 3, seed=1).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        q = nn.SoftAssign(codebook)(x)
        out = nn.VectorQuantize(codebook)(x)
        losses = [nn.ClusterLoss(kind)(x, codebook) for kind in KINDS]
    assert torch.equal(q, nn.SoftAssign(codebook)(x.float()))
    assert out.quantized.dtype == x.dtype
    assert torch.equal(out.indices, nn.VectorQuantize(codebook)(x.float()).indices)
    for kind, loss in zip(KINDS, losses, strict=True):
        assert torch.equal(loss, nn.ClusterLoss(kind)(x.float(), codebook))
    (out.quantized.float().sum() + out.loss + sum(losses)).backward()
    assert torch.isfinite(x.grad).all()
    half = nn.VectorQuantize(codebook)(x.detach().half())
    assert half.quantized.dtype == torch.float16
    assert half.loss.dtype == torch.float32


def test_moves_with_its_module() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(3, 3), nn.VectorQuantize(normal(5, 3))).double()
    assert module(normal(4, 3, dtype=torch.float64)).quantized.dtype == torch.float64
    moved = nn.VectorQuantize(normal(5, 3)).to("meta")
    assert {value.device.type for value in moved.state_dict().values()} == {"meta"}


MISTAKES: list[tuple[Callable[[], Any], str]] = [
    (lambda: nn.SoftAssign(torch.zeros(3)), r"centroids: shape \(3,\); expected \(K, D\)"),
    (lambda: nn.VectorQuantize(torch.full((2, 2), torch.nan)), "codebook: values that are no finite numbers"),
    (lambda: nn.SoftAssign(normal(2, 2), temperature=0), "temperature=0: expected a number, above 0"),
    (lambda: nn.SoftAssign(normal(2, 2), freedom=-1), "freedom=-1: expected a number, above 0 or null"),
    (lambda: nn.ClusterLoss("dek"), "kind=dek: expected kmeans, dec or commitment; did you mean dec"),
    (lambda: nn.ClusterLoss()(normal(3, 2), normal(2, 3)), r"x: shape \(3, 2\), but the centroids have 3 columns"),
    (lambda: nn.ClusterLoss()(normal(3, 2), normal(2, 2), normal(3, 2)), "target: a loss of kind=kmeans has none"),
    (lambda: nn.ClusterLoss("kmeans", temperature=2), "temperature=2: a loss of kind=kmeans has none"),
    (lambda: nn.VectorQuantize(normal(2, 2), ema=nn.Ema(decay=2)), "ema.decay=2: expected a number, 0 to 1"),
    (lambda: nn.VectorQuantize(normal(2, 2), revival=nn.Revival(after=0)), "revival.after=0: expected a whole number"),
    (lambda: nn.VectorQuantize(normal(2, 2), commitment=-1), "commitment=-1: expected a number, 0 or more"),
    (lambda: nn.VectorQuantize(normal(2, 2))(torch.ones(2, 2, dtype=torch.int64)), "x: torch.int64; expected floating"),
    (lambda: nn.VectorQuantize(normal(2, 2))(torch.tensor(1.0)), r"x: shape \(\), but the centroids have 2 columns"),
    (lambda: nn.VectorQuantize(normal(2, 2))(normal(3, 0)), r"x: shape \(3, 0\), but the centroids have 2 columns"),
    (lambda: nn.VectorQuantize(normal(2, 2), ema=0.99), r"ema=0.99: expected Ema\(...\) or None"),
    (lambda: nn.VectorQuantize(normal(2, 2), revival=50), r"revival=50: expected Revival\(...\) or None"),
    (lambda: nn.squared_distances(normal(3, 2), normal(2)), r"centroids: shape \(2,\); expected a tensor \(K, D\)"),
    (lambda: nn.ClusterLoss("commitment")(normal(3, 2), normal(2, 2).numpy()), "centroids: ndarray; expected a tensor"),
    (
        lambda: nn.ClusterLoss("dec")(normal(3, 2), normal(4, 2), normal(9, 4)),
        r"target: shape \(9, 4\) for 3 rows and 4",
    ),
    (
        lambda: nn.ClusterLoss("dec")(normal(3, 2), normal(4, 2), normal(4, 3)),
        r"target: shape \(4, 3\) for 3 rows and 4",
    ),
]


@pytest.mark.parametrize(("mistake", "message"), MISTAKES)
def test_mistakes(mistake: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        mistake()


class Compressor(torch.nn.Module):
    """An encoder, codes, soft clusters and every loss, as a user would put them together."""

    def __init__(self, ema: nn.Ema | None, group: Any = None) -> None:
        super().__init__()
        self.encode = torch.nn.Linear(6, 4)
        self.decode = torch.nn.Linear(4, 6)
        with torch.no_grad():
            for seed, layer in enumerate((self.encode, self.decode)):
                layer.weight.copy_(normal(*layer.weight.shape, seed=20 + seed) / 2)
                layer.bias.zero_()
        codebook = torch.cat([normal(5, 4, seed=3), torch.full((3, 4), 9.0)])
        revival = nn.Revival(after=2, at_once=2)
        self.quantize = nn.VectorQuantize(codebook, ema=ema, revival=revival, group=group)
        self.assign = nn.SoftAssign(normal(3, 4, seed=4), freedom=1.0)
        self.losses = torch.nn.ModuleList([nn.ClusterLoss(kind, 0.1, group=group) for kind in KINDS])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.encode(x)
        out = self.quantize(z.reshape(-1, 2, 4))
        errors = (self.decode(out.quantized.reshape(-1, 4)) - x).square().sum(-1)
        loss = out.loss + sum(part(z, self.assign.centroids) for part in self.losses)
        return loss, errors.mean() if len(errors) else errors.sum() + 0 * self.decode.bias.sum()


def batches(even: bool) -> list[Tensor]:
    """Samples of two rows; uneven ones leave a rank without any."""
    sizes = [12] * 6 if even else [12, 7, 1, 8, 5, 2]
    return [normal(size, 2, 6, seed=30 + step) * 2 for step, size in enumerate(sizes)]


def trained(rank: int, size: int, ema: nn.Ema | None, even: bool, compiled: str | None = None) -> dict[str, Any]:
    """Losses, gradients and state of a few steps; one rank has the batches of all."""
    inner = Compressor(ema)
    module = DistributedDataParallel(inner) if size > 1 else inner
    run = torch.compile(inner, fullgraph=True, backend=compiled) if compiled else module
    optimizer = torch.optim.SGD(inner.parameters(), lr=0.05, momentum=0.5)
    told: dict[str, Any] = {"losses": [], "gradients": [], "codebooks": []}
    for batch in batches(even):
        mine = batch[rank::size].reshape(-1, 6)
        optimizer.zero_grad()
        loss, error = run(mine)
        (loss + error * (0.1 if even else 0.0)).backward()
        if compiled and size > 1:
            _average(inner)
        told["losses"].append(loss.item())
        told["gradients"].append([parameter.grad.clone() for parameter in inner.parameters()])
        optimizer.step()
        told["codebooks"].append(inner.quantize.codebook.detach().clone())
    return {**told, "state": {name: value.clone() for name, value in inner.state_dict().items()}}


def _average(module: torch.nn.Module) -> None:
    """What DistributedDataParallel does with gradients."""
    for parameter in module.parameters():
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()


def alike(one: dict[str, Any], other: dict[str, Any], tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(other["losses"], one["losses"], atol=tolerance, rtol=tolerance)
    for name in ("gradients", "codebooks", "state"):
        torch.testing.assert_close(other[name], one[name], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("ema", [nn.Ema(0.8), None])
@pytest.mark.parametrize("size", [2, 3])
def test_ranks_learn_what_one_rank_learns(
    ranks: Callable[[int], Ranks], size: int, ema: nn.Ema | None, even: bool
) -> None:
    alone = trained(0, 1, ema, even)
    far = [codebook[5:].min() > 8 for codebook in alone["codebooks"]]
    assert (far[0], far[2]) == (True, False)  # starved codes were revived
    together = ranks(size)(trained, size, ema, even)
    for told in together:
        alike(alone, told)
        assert torch.equal(told["state"]["quantize.codebook"], together[0]["state"]["quantize.codebook"])
        assert told["losses"] == together[0]["losses"]


@pytest.mark.parametrize("ema", [nn.Ema(0.8), None])
def test_compiles_without_a_graph_break(ema: nn.Ema | None) -> None:
    torch._dynamo.reset()
    told = torch._dynamo.explain(Compressor(ema))(normal(24, 6))
    assert (told.graph_count, told.graph_break_count) == (1, 0)
    torch._dynamo.reset()
    alike(trained(0, 1, ema, True), trained(0, 1, ema, True, compiled="aot_eager"))


def test_compiles_for_batches_of_any_size() -> None:
    torch._dynamo.reset()
    alike(trained(0, 1, nn.Ema(0.8), False), trained(0, 1, nn.Ema(0.8), False, compiled="eager"))


@pytest.mark.slow
def test_compiles_on_two_ranks(ranks: Callable[[int], Ranks]) -> None:
    alone = trained(0, 1, nn.Ema(0.8), True)
    for told in ranks(2)(trained, 2, nn.Ema(0.8), True, "aot_eager"):
        alike(alone, told)


def in_groups(rank: int) -> list[Any]:
    """Ranks 0 and 1 learn together, rank 2 on its own; a copy stays in its group."""
    groups = [dist.new_group([0, 1]), dist.new_group([2])]
    quantize = copy.deepcopy(nn.VectorQuantize(normal(4, 3), group=groups[rank == 2]))
    loss = nn.ClusterLoss(group=groups[rank == 2])
    x = normal(5, 3, seed=rank)
    told = [quantize(x).counts.sum().item(), loss(x, normal(4, 3)).item()]
    quantize.eval(), loss.eval()
    told += [quantize(x).counts.sum().item(), loss(x, normal(4, 3)).item()]
    try:
        nn.ClusterLoss(group=groups[rank != 2])
    except InputError as error:
        told.append(str(error))
    return told


def test_groups_and_evaluation(ranks: Callable[[int], Ranks]) -> None:
    told = ranks(3)(in_groups)
    assert [rank[0] for rank in told] == [10, 10, 5]
    assert [rank[2] for rank in told] == [5, 5, 5]
    assert told[0][1] == told[1][1] == pytest.approx((told[0][3] + told[1][3]) / 2)
    assert told[2][1] == told[2][3]
    assert told[0][3] != told[1][3]
    assert all(rank[4].startswith("group: this rank is not in it") for rank in told)


def test_the_docs_code_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "nn.md").read_text()
    codes = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(codes) == 2
    for code in codes:
        exec(compile(code, "docs/nn.md", "exec"), {})
    assert re.fullmatch(r"perplexity \d+\.\d of 32 codes\n", capsys.readouterr().out)
    assert {name for name in nn.__all__ if name not in page} == set()
