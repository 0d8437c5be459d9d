"""Scores against scikit-learn's, on rows that are easy and on rows that are not, at one, three and four ranks."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from sklearn import metrics
from sklearn.datasets import load_digits
from sklearn.metrics.cluster import expected_mutual_information

import distkmeans
from distkmeans import cli
from distkmeans.errors import InputError, WorldError
from distkmeans.evaluate import ScoreOptions, Subject, chosen, evaluate, scorers
from distkmeans.evaluate.agreement import adjusted_mutual_information, adjusted_rand
from distkmeans.evaluate.chance import expected_information
from distkmeans.evaluate.contingency import contingency
from distkmeans.evaluate.distances import distances
from distkmeans.evaluate.silhouette import silhouettes
from distkmeans.evaluate.subject import UndefinedError
from distkmeans.exact.random import Stream
from distkmeans.world import World
from tests.conftest import ROOT
from tests.problems import part, problem_of
from tests.worlds import Ranks

AGREEMENT = {
    "ari": metrics.adjusted_rand_score,
    "ami": metrics.adjusted_mutual_info_score,
    "nmi": metrics.normalized_mutual_info_score,
    "homogeneity": metrics.homogeneity_score,
    "completeness": metrics.completeness_score,
}
INTERNAL = ["silhouette", "simplified_silhouette", "davies_bouldin", "calinski_harabasz"]
NAMES = [*INTERNAL, *AGREEMENT]


class Case(NamedTuple):
    """x: rows as stored. centred: float64, the same less a constant row, exactly. shift: that row."""

    x: np.ndarray
    centred: np.ndarray
    shift: np.ndarray
    truth: np.ndarray

    @staticmethod
    def of(x: np.ndarray, truth: np.ndarray, shift: Any = 0.0) -> Case:
        wide = x.astype(np.float64)
        return Case(x, wide - shift, np.broadcast_to(shift, wide.shape[1:]), truth)


def clouds(rows: int, dims: int, clusters: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, clusters, rows)
    return random.normal(size=(clusters, dims))[truth] * 5 + random.normal(size=(rows, dims)), truth


def of_many_scales() -> tuple[np.ndarray, np.ndarray]:
    x, truth = clouds(700, 6, 5)
    return np.column_stack([x * 10.0 ** np.arange(-3, 3), np.full(len(x), 7.25)]), truth


@functools.cache
def cases() -> dict[str, Case]:
    digits, digit = load_digits(return_X_y=True)
    x, truth = clouds(900, 5, 6)
    tight = np.random.default_rng(1).normal(size=(900, 5)) * 1e-5 + 100 * np.eye(6, 5)[truth]
    scales, kinds = of_many_scales()
    return {
        "digits": Case.of(digits, digit),
        "digits-uint8": Case.of(digits.astype(np.uint8), digit),
        "digits-float16": Case.of((digits / 16).astype(np.float16), digit),
        "digits-float32": Case.of(digits.astype(np.float32), digit),
        "blobs": Case.of(x.astype(np.float32), truth),
        "scales": Case.of(scales, kinds),
        "scales-float32": Case.of(scales.astype(np.float32), kinds),
        "at-1e6": Case.of(x + 1e6, truth, 1e6),
        "at-1e6-float32": Case.of((x + 1e6).astype(np.float32), truth, 1e6),
        "at-1e8": Case.of(x + 1e8, truth, 1e8),
        "at-many": Case.of(x + np.array([1e8, -1e6, 0, 3e7, 1]), truth, np.array([1e8, -1e6, 0, 3e7, 1])),
        "spread-1e-6": Case.of(x * 1e-6 + 1, truth, 1.0),
        "tight": Case.of(tight, truth),
    }


def labelled(case: Case, clusters: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Labels and centroids: of clusters 0 and 3 with no rows, 1 with a single one, and a few rows in the wrong ones."""
    random = np.random.default_rng(5)
    seeds = case.x[random.choice(len(case.x), clusters, replace=False)].astype(np.float64)
    far = case.centred - (seeds - case.shift)[:, None]
    inner = [place for place in range(clusters) if place not in (0, 1, 3)]
    labels = np.array(inner)[(far**2).sum(2)[inner].argmin(0)]
    labels[random.choice(len(labels), 9, replace=False)] = inner[0]
    labels[17] = 1
    return labels, seeds


def simplified(case: Case, labels: np.ndarray, centroids: np.ndarray) -> float:
    """By its formula: (b - a) / max(a, b), over clusters with rows; 0 for a row alone in its cluster."""
    counts = np.bincount(labels, minlength=len(centroids))
    apart = np.sqrt(((case.centred[:, None] - (centroids - case.shift)) ** 2).sum(2))
    here = np.arange(len(labels))
    a = apart[here, labels]
    apart[here, labels] = np.inf
    apart[:, counts == 0] = np.inf
    b = apart.min(1)
    return float((((b - a) / np.maximum(a, b)) * (counts[labels] > 1)).mean())


def expected(case: Case, labels: np.ndarray, centroids: np.ndarray) -> dict[str, float]:
    return {
        "silhouette": metrics.silhouette_score(case.centred, labels),
        "simplified_silhouette": simplified(case, labels, centroids),
        "davies_bouldin": metrics.davies_bouldin_score(case.centred, labels),
        "calinski_harabasz": metrics.calinski_harabasz_score(case.centred, labels),
        **{name: of(case.truth, labels) for name, of in AGREEMENT.items()},
    }


def scored(rank: int, size: int, x: np.ndarray, labels: np.ndarray, centroids: Any, truth: Any, names: Any) -> Any:
    """A rank's answer, for its part of the rows: with four ranks one of them has none."""
    mine = (part(values, rank, size) for values in (x, labels, truth))
    rows, label, known = mine
    return distkmeans.score(rows, label, centroids, known, names)


@pytest.mark.parametrize("name", cases())
def test_as_scikit_learn_at_any_world_size(name: str, ranks: Callable[[int], Ranks]) -> None:
    case = cases()[name]
    labels, centroids = labelled(case)
    want = expected(case, labels, centroids)
    alone = distkmeans.score(case.x, labels, centroids, case.truth, NAMES)
    assert list(alone) == NAMES
    for score, value in want.items():
        assert alone[score] == pytest.approx(value, rel=1e-7, abs=1e-9), score
    for size in (3, 4):
        assert ranks(size)(scored, size, case.x, labels, centroids, case.truth, NAMES) == [alone] * size


def test_without_centroids_their_means_count(ranks: Callable[[int], Ranks]) -> None:
    case = cases()["at-1e8"]
    names = np.array(["oak", "elm", "yew", "ash", "fir", "box"])[case.truth]
    means = np.stack([case.centred[case.truth == k].mean(0) for k in range(6)]) + case.shift
    alone = distkmeans.score(case.x, names)
    assert list(alone) == ["calinski_harabasz", "davies_bouldin", "simplified_silhouette"]
    assert alone["simplified_silhouette"] == pytest.approx(simplified(case, case.truth, means), rel=1e-7)
    other = distkmeans.score(torch.from_numpy(case.x), torch.from_numpy(case.truth))  # clusters in another order
    assert alone == pytest.approx(other, rel=1e-12)
    assert ranks(4)(scored, 4, case.x, names, None, None, "auto") == [alone] * 4


def test_values_of_any_size() -> None:
    x, truth = clouds(200, 3, 4)
    scores = [distkmeans.score(x * scale, truth, names=INTERNAL) for scale in (1.0, 2.0**500, 2.0**-500)]
    assert scores[1] == pytest.approx(scores[0], rel=1e-12)
    assert scores[2].pop("davies_bouldin") == metrics.davies_bouldin_score(x * 2.0**-500, truth) == 0
    assert scores[2] == pytest.approx({name: scores[0][name] for name in scores[2]}, rel=1e-12)


def test_coincident_means_and_rows() -> None:
    ring = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])
    x, labels = np.concatenate([ring, 3 * ring, [[9, 9]] * 4]), np.repeat([0, 1, 2], 4)
    found = distkmeans.score(x, labels, names=INTERNAL)
    assert found["davies_bouldin"] == pytest.approx(metrics.davies_bouldin_score(x, labels))
    assert found["calinski_harabasz"] == pytest.approx(metrics.calinski_harabasz_score(x, labels))
    assert found["silhouette"] == pytest.approx(metrics.silhouette_score(x, labels))
    assert found["simplified_silhouette"] == pytest.approx(1 / 3)  # rows between two equal centroids: 0
    wrong = np.where(np.arange(12) == 8, 0, labels)  # a row of the third cluster, in one of the two
    case = Case.of(x, labels)
    centroids = np.array([[0.0, 0], [0, 0], [9, 9]])
    found = distkmeans.score(x, wrong, centroids, names="simplified_silhouette")["simplified_silhouette"]
    assert found == pytest.approx(simplified(case, wrong, centroids)) == pytest.approx(2 / 12)
    same = np.repeat([[0.0, 0], [5, 5]], 3, axis=0)
    found = distkmeans.score(same, np.repeat([0, 1], 3), names=INTERNAL)
    assert found == {"silhouette": 1, "simplified_silhouette": 1, "davies_bouldin": 0, "calinski_harabasz": 1}
    found = distkmeans.score(same * 0, np.repeat([0, 1], 3), names=INTERNAL)
    assert found == {"silhouette": 0, "simplified_silhouette": 0, "davies_bouldin": 0, "calinski_harabasz": 1}


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [3, 2, 1, 0]])
def test_too_few_clusters_or_too_many(labels: list[int], caplog: pytest.LogCaptureFixture) -> None:
    x = np.arange(8.0).reshape(4, 2)
    assert distkmeans.score(x, labels, names=INTERNAL) == dict.fromkeys(INTERNAL)
    (record,) = caplog.records
    assert record.message.startswith("no silhouette, simplified_silhouette, davies_bouldin, calinski_harabasz: ")
    assert "the 4 rows; 2 to 3 can be compared" in record.message
    with pytest.raises(UndefinedError):
        silhouettes(torch.from_numpy(x), torch.tensor(labels))


@pytest.mark.parametrize("rows", [1, 2])
def test_too_few_rows(rows: int, caplog: pytest.LogCaptureFixture) -> None:
    labels = np.arange(rows)
    found = distkmeans.score(np.eye(2)[:rows], labels, truth=labels, names=NAMES)
    assert found == dict.fromkeys(INTERNAL) | dict.fromkeys(AGREEMENT, 1)
    assert f"the {rows} rows; it takes 3 rows or more to compare clusters" in caplog.text


def test_the_silhouette_of_each_row() -> None:
    case = cases()["at-1e8"]
    labels, _ = labelled(case)
    found = silhouettes(torch.from_numpy(case.x), torch.from_numpy(labels)).numpy()
    np.testing.assert_allclose(found, metrics.silhouette_samples(case.centred, labels), atol=1e-10)
    assert found[17] == 0


def test_a_sample_is_drawn_by_row_number(ranks: Callable[[int], Ranks]) -> None:
    x, truth = clouds(3000, 4, 5)
    picked = np.argsort(Stream(3, "evaluate/silhouette").keys(torch.arange(3000)).numpy())[:400]
    found = distkmeans.score(x, truth, names="silhouette", seed=3, silhouette_rows=400)
    assert found["silhouette"] == pytest.approx(metrics.silhouette_score(x[picked], truth[picked]), rel=1e-9)
    assert distkmeans.score(x, truth, names="silhouette", seed=4, silhouette_rows=400) != found
    assert ranks(3)(score_of_sample, 3, x, truth) == [found] * 3


def score_of_sample(rank: int, size: int, x: np.ndarray, truth: np.ndarray) -> Any:
    rows, labels = part(x, rank, size), part(truth, rank, size)
    return distkmeans.score(rows, labels, names="silhouette", seed=3, silhouette_rows=400)


def test_cosine_scores_rows_of_length_1() -> None:
    x, truth = clouds(300, 4, 3)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    result = distkmeans.fit(x, 3, metric="cosine")
    found = distkmeans.score(x, result.labels, result.centroids, names=INTERNAL, metric="cosine")
    case = Case.of(unit, truth)
    assert found["simplified_silhouette"] == pytest.approx(simplified(case, result.labels, result.centroids), abs=1e-7)
    assert found["davies_bouldin"] == pytest.approx(metrics.davies_bouldin_score(unit, result.labels), rel=1e-7)


def test_distances_do_not_cancel() -> None:
    random = np.random.default_rng(0)
    x = np.concatenate([random.normal(size=(40, 7)), 1e5 + 1e-6 * random.normal(size=(40, 7))])
    exact = np.sqrt(((x[:, None].astype(np.longdouble) - x) ** 2).sum(2))
    found = distances(torch.from_numpy(x), torch.from_numpy(x)).numpy()
    assert (np.diag(found) == 0).all()
    np.testing.assert_allclose(found, exact.astype(np.float64), rtol=1e-9)


TABLES = {
    "alike": ([0, 0, 1, 1, 2], [5, 5, 7, 7, 1]),
    "apart": ([0, 1, 0, 1], [0, 0, 1, 1]),
    "one-each": ([0, 1, 2, 3], [3, 2, 1, 0]),
    "one-class": ([1, 1, 1], [0, 1, 1]),
    "one-cluster": ([0, 1, 1], [2, 2, 2]),
    "both-one": ([4, 4, 4], [9, 9, 9]),
    "text": (["b", "a", "b", "aaa"], [0, 1, 1, 0]),
    "negative": ([-1, -1, 3, 3, 0], [0, 0, 0, 1, 1]),
    "whole": ([1.0, 2.0, 2.0, 1.0], [0, 1, 0, 0]),
}


@pytest.mark.parametrize("name", TABLES)
def test_agreement_of_odd_labels(name: str) -> None:
    truth, labels = (np.asarray(values) for values in TABLES[name])
    x = np.arange(len(labels), dtype=np.float32)[:, None]
    want = {score: of(truth, labels) for score, of in AGREEMENT.items()}
    assert distkmeans.score(x, labels, truth=truth, names=list(AGREEMENT)) == pytest.approx(want, abs=1e-12)
    assert distkmeans.score(x, labels, truth=truth.tolist(), names="ari") == pytest.approx({"ari": want["ari"]})


@pytest.mark.parametrize(("rows", "classes", "clusters"), [(50, 3, 40), (5000, 70, 9), (20_000, 2, 2)])
def test_chance_as_scikit_learn(rows: int, classes: int, clusters: int) -> None:
    random = np.random.default_rng(rows)
    first = np.minimum(random.geometric(1 / classes, rows), classes)
    second = random.integers(0, clusters, rows)
    table = contingency(World(), torch.from_numpy(first), torch.from_numpy(second))
    reference = metrics.cluster.contingency_matrix(first, second)
    want = expected_mutual_information(reference, rows)
    assert expected_information(table) == pytest.approx(want, rel=1e-9)
    want = metrics.adjusted_mutual_info_score(first, second)
    assert adjusted_mutual_information(table) == pytest.approx(want, abs=1e-10)


def test_pairs_of_more_rows_than_32_bits_count() -> None:
    """scikit-learn's pairs leave 64 bits there."""
    row = torch.tensor([0, 0, 1, 1])
    small = contingency(World(), row, torch.tensor([0, 1, 1, 1]))
    large = type(small)(
        *(values * 10**10 for values in (small.count, small.in_row, small.in_column)),
        *(values * 10**10 for values in (small.rows, small.columns)),
    )
    assert large.total == 4 * 10**10
    pairs = {"both": 1e20 + 1e20 + 4e20, "rows": 8e20, "columns": 1e20 + 9e20, "all": 16e20}
    chance = pairs["rows"] * pairs["columns"] / pairs["all"]
    want = (pairs["both"] - chance) / ((pairs["rows"] + pairs["columns"]) / 2 - chance)
    assert adjusted_rand(large) == pytest.approx(want)
    assert 0 < adjusted_mutual_information(large) < 1


def test_many_classes_and_clusters_are_counted_sparsely(ranks: Callable[[int], Ranks]) -> None:
    random = np.random.default_rng(0)
    truth, labels = random.integers(0, 3000, 5000), random.integers(0, 3000, 5000)
    x = np.zeros((5000, 1), np.float32)
    alone = distkmeans.score(x, labels, truth=truth, names=list(AGREEMENT))
    assert alone == pytest.approx({name: of(truth, labels) for name, of in AGREEMENT.items()}, abs=1e-9)
    assert ranks(4)(scored, 4, x, labels, None, truth, list(AGREEMENT)) == [alone] * 4


def test_stability_is_the_mean_over_pairs() -> None:
    x, _ = clouds(300, 3, 7)
    fits: dict[int, np.ndarray] = {}

    def again(seed: int) -> torch.Tensor:
        result = distkmeans.fit(x, 5, seed=seed, init="random")
        fits[seed] = result.labels
        return torch.from_numpy(result.labels)

    first = distkmeans.fit(x, 5, init="random")
    labels, centroids = torch.from_numpy(first.labels), torch.from_numpy(first.centroids)
    subject = Subject(problem_of(x), labels, centroids, None, again, 0, ScoreOptions(9, 3))
    found = evaluate(subject, ["stability"])["stability"]
    assert len(fits) == 3
    all_labels = [first.labels, *fits.values()]
    pairs = [metrics.adjusted_rand_score(all_labels[i], all_labels[j]) for i in range(4) for j in range(i)]
    assert found == pytest.approx(np.mean(pairs))
    assert found < 1


def test_a_fit_that_fails_leaves_stability_without_a_value(caplog: pytest.LogCaptureFixture) -> None:
    def again(seed: int) -> torch.Tensor:
        raise InputError("solver.empty=fail: cluster 2 has no rows")

    x, truth = clouds(30, 2, 3)
    subject = Subject(problem_of(x), torch.from_numpy(truth), torch.zeros(3, 2), again=again)
    assert evaluate(subject, ["stability"]) == {"stability": None}
    assert "no stability: with another seed: solver.empty=fail: cluster 2 has no rows" in caplog.messages


class TestNames:
    def test_auto(self) -> None:
        internal = ["calinski_harabasz", "davies_bouldin", "simplified_silhouette"]
        assert chosen("auto", truth=False) == internal
        assert chosen("auto", truth=True) == internal + sorted(AGREEMENT)
        assert chosen(["ari", "auto", "silhouette"], truth=True)[0] == "ari"
        assert len(chosen(["ari", "auto", "silhouette"], truth=True)) == 3 + 5 + 1
        assert chosen("silhouette", truth=False) == ["silhouette"]
        assert chosen([], truth=True) == []

    def test_all(self) -> None:
        assert scorers.names() == sorted([*NAMES, "stability"])

    @pytest.mark.parametrize(
        ("wrong", "says"),
        [
            ({"names": ["silhouete"]}, "evaluate=silhouete: unknown; .*did you mean silhouette?"),
            ({"names": ["spread"]}, "evaluate=spread: unknown; expected ami, ari"),
            ({"names": "ari"}, r"evaluate=\[ari\]: needs the true classes .* are not known; pass truth="),
            ({"names": ["stability"]}, r"names=\[stability\]: needs a plan to carry out again"),
            ({"names": 3}, "names=3: expected text or a list, each text"),
            ({"labels": [0, 1]}, r"labels: shape \(2,\) for 4 rows; one for each row"),
            ({"labels": [[0], [1, 2], [3], [4]]}, "labels: no array with one entry for each row"),
            ({"labels": [0, 1, 0.5, 1]}, "labels, row 2: class 0.5; expected whole numbers or text"),
            ({"labels": np.array([1, "a", 2, 3], dtype=object)}, "labels: type object; expected whole numbers or text"),
            ({"labels": [0, 1, 2, 0], "centroids": np.eye(2)}, "labels, row 2: 2; expected whole numbers from 0 to 1"),
            ({"labels": [0, -1, 1, 0], "centroids": np.eye(2)}, "labels, row 1: -1; expected whole numbers from 0 to"),
            ({"labels": list("abab"), "centroids": np.eye(2)}, "labels: type <U1; expected whole numbers from 0 to 1"),
            ({"centroids": np.eye(3)}, r"centroids: shape \(3, 3\); expected finite rows of 2 columns"),
            ({"centroids": np.empty((0, 2))}, r"centroids: shape \(0, 2\); expected finite rows of 2 columns"),
            ({"truth": np.eye(4)}, r"truth: shape \(4, 4\) for 4 rows"),
            ({"truth": [0, 1, np.nan, 1]}, "truth, row 2: class nan"),
            ({"truth": np.array([1, "a", 2, 3], dtype=object)}, "truth: type object; expected whole numbers or text"),
            ({"x": np.full((4, 2), np.nan)}, "x, row 0: nan in column 0"),
            ({"seed": "x"}, "seed=x: expected a whole number"),
            ({"silhouette_rows": 1}, "silhouette_rows=1: expected a whole number, 3 to 1,000,000"),
            ({"metric": "l3"}, "metric=l3: unknown"),
            ({"metric": "manhattan"}, "metric=manhattan: scores go by Euclidean distances; use euclidean or cosine"),
        ],
    )
    def test_mistakes(self, wrong: dict[str, Any], says: str) -> None:
        given = {"x": np.arange(8.0).reshape(4, 2), "labels": [0, 1, 0, 1], **wrong}
        with pytest.raises(InputError, match=says):
            distkmeans.score(**given)

    @pytest.mark.parametrize(
        ("other", "kind", "says"),
        [
            ({"truth": None}, WorldError, "the call of score differs between ranks: rank 0 has .*truth=True"),
            ({"centroids": np.eye(2)}, WorldError, "the call of score differs .*centroids=None"),
            ({"names": "silhouette"}, WorldError, "the call of score differs .*davies_bouldin"),
            ({"seed": 1}, WorldError, r"the call of score differs .*\(ranks that differ from rank 0: 1\); pass every"),
            ({"labels": list("abab")}, InputError, "labels: numbers and text on different ranks; give all ranks one"),
            ({"truth": [b"a", b"b"] * 2}, InputError, "truth: bytes and numbers on different ranks; give all"),
        ],
        ids=str,
    )
    def test_mistakes_of_one_rank(
        self, other: dict[str, Any], kind: type[Exception], says: str, ranks: Callable[[int], Ranks]
    ) -> None:
        for error in ranks(3)(score_apart, other):
            assert isinstance(error, kind)
            assert re.search(says, str(error))


def score_apart(rank: int, other: dict[str, Any]) -> Any:
    """One rank of three is told something else; the last has no rows."""
    rows = 0 if rank == 2 else 4
    x, labels, truth = np.arange(8.0).reshape(4, 2) + rank, [0, 1, 0, 1], [0, 1, 1, 1]
    given = {"x": x[:rows], "labels": labels[:rows], "truth": truth[:rows]}
    return distkmeans.score(**{**given, **(other if rank == 1 else {})})


def run(*overrides: str) -> dict[str, Any]:
    assert cli.main([*overrides, "report=none", "run.dir=out", "run.overwrite=true"], ROOT / "conf") == 0
    return json.loads(Path("out/summary.json").read_text())


def run_on_rank(rank: int, folder: Path, overrides: list[str]) -> int:
    import os

    os.chdir(folder)
    return cli.main(overrides, ROOT / "conf")


class TestRuns:
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def test_digits_and_their_own_truth(self, ranks: Callable[[int], Ranks], tmp_path: Path) -> None:
        settings = ["data=digits", "k=10", "solver.max_iter=2", "transform=standardize", "evaluate=[auto,silhouette]"]
        summary = run(*settings)
        assert summary["seconds"]["evaluate"] > 0
        assert summary["silhouette_rows"] == 1797
        assert sorted(summary["scores"]) == sorted(NAMES)
        model, labels = distkmeans.load("out"), np.load("out/labels/part-00000-of-00001.npy")
        digits, digit = load_digits(return_X_y=True)
        case = Case.of(model.transform(digits), digit)
        want = expected(case, labels, model.centroids.numpy().astype(np.float64))
        assert summary["scores"] == pytest.approx(want, rel=1e-9)
        three = [*settings, "report=none", "run.dir=three"]
        assert ranks(3)(run_on_rank, tmp_path, three) == [0] * 3
        assert json.loads(Path("three/summary.json").read_text())["scores"] == summary["scores"]

    def test_weights_do_not_count(self) -> None:
        x, truth = clouds(200, 3, 3)
        np.save("x.npy", x)
        np.save("w.npy", np.arange(200) % 3)
        np.save("truth-0.npy", np.array(["a", "b", "c"])[truth[:120]])
        np.save("truth-1.npy", np.array(["a", "bb", "cc"])[truth[120:]])
        settings = ["data=npy", "data.path=x.npy", "data.weights=w.npy", "data.truth='truth-*.npy'", "k=3"]
        names = np.concatenate([np.load("truth-0.npy"), np.load("truth-1.npy")])
        found = run(*settings)["scores"]
        model, labels = distkmeans.load("out"), np.load("out/labels/part-00000-of-00001.npy")
        want = expected(Case.of(x, names), labels, model.centroids.numpy().astype(np.float64))
        assert found == pytest.approx({name: want[name] for name in want if name != "silhouette"}, rel=1e-9)

    def test_blobs_know_where_they_come_from(self) -> None:
        settings = ["data.n_samples=2000", "data.cluster_std=0.01", "evaluate=[ari,nmi,stability]", "n_init=2"]
        summary = run(*settings, "scores.stability_seeds=2")
        assert summary["scores"] == {"ari": 1, "nmi": 1, "stability": 1}
        assert "silhouette_rows" not in summary
        assert run(*settings, "data.truth=null", "evaluate=[]")["scores"] == {}
        np.save("mine.npy", np.arange(2000) // 1000)
        assert abs(run(*settings, "data.truth=mine.npy", "evaluate=ari")["scores"]["ari"]) < 0.1

    def test_a_sample_for_the_silhouette(self) -> None:
        summary = run("evaluate=[silhouette]", "scores.silhouette_rows=500", "seed=2")
        assert summary["silhouette_rows"] == 500
        assert summary["scores"]["silhouette"] > 0.5

    def test_one_cluster_has_none(self, capsys: pytest.CaptureFixture[str]) -> None:
        found = run("k=1", "data.n_samples=50")["scores"]
        assert found["davies_bouldin"] is found["calinski_harabasz"] is found["simplified_silhouette"] is None
        assert found["ari"] == 0
        said = capsys.readouterr().err
        assert said.count("1 cluster has the 50 rows; 2 to 49 can be compared") == 1

    def test_a_sweep_has_a_column_for_each(self) -> None:
        settings = ["-m", "k=3,4", "evaluate=[ari,silhouette]", "data.n_samples=300", "report=none", "run.dir=sweep"]
        assert cli.main(settings, ROOT / "conf") == 0
        assert {path.name for path in Path("sweep").iterdir()} >= {"k=3", "k=4"}
        header, *lines = (line.split(",") for line in Path("sweep/sweep.csv").read_text().splitlines())
        for line in lines:
            row = dict(zip(header, line, strict=True))
            scores = json.loads(Path("sweep", row["dir"], "summary.json").read_text())["scores"]
            assert {name: float(row[name]) for name in ("ari", "silhouette")} == scores
        assert cli.main(["-m", "evaluate=[ari]", "report=none", "run.dir=one"], ROOT / "conf") == 0
        assert Path("one/run/summary.json").exists()

    def test_what_is_wrong_with_classes_is_told_before_rows_are_read(self, capsys: pytest.CaptureFixture[str]) -> None:
        np.save("x.npy", np.full((20, 2), np.nan))  # never read
        arrays = {"short": np.arange(19), "wide": np.eye(20), "times": np.zeros(20, "M8[D]"), "half": np.full(20, 0.5)}
        for name, values in arrays.items():
            np.save(f"{name}.npy", values)
        for overrides, says in {
            "evaluate=[ari]": "evaluate=[ari]: needs the true classes of the rows, which are not known for data=npy",
            "data.truth=none.npy": "data.truth=none.npy: no such file",
            "data.truth=short.npy": "data.truth=short.npy: 19 classes for 20 rows; one for each row",
            "data.truth=wide.npy": "data.truth=wide.npy: shape (20, 20); expected (rows,)",
            "data.truth=times.npy": "data.truth=times.npy: type datetime64[D]; expected whole numbers or text",
            "evaluate=[silhouete]": "evaluate=silhouete: unknown; expected ami, ari",
            "evaluate=3": "evaluate=3: expected text or a list, each text",
        }.items():
            for dry in ("true", "false"):
                assert cli.main(["data=npy", "data.path=x.npy", "k=2", overrides, f"dry_run={dry}"], ROOT / "conf") == 1
                assert f"error: {says}" in capsys.readouterr().err
        np.save("x.npy", np.zeros((20, 2)))
        assert cli.main(["data=npy", "data.path=x.npy", "k=2", "data.truth=half.npy"], ROOT / "conf") == 1
        assert "error: data.truth=half.npy, row 0: class 0.5; expected whole numbers or text" in capsys.readouterr().err

    def test_a_score_of_ones_own(self, plugins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(scorers, "_makers", dict(scorers._makers))
        code = examples()[1]
        (plugins / "largest.py").write_text(code)
        shown = re.search(r"used by: python train.py (.*)", code)
        assert shown
        found = run(*shown[1].split(), "data.n_samples=100", "data.cluster_std=0.01", "n_init=2")["scores"]
        assert list(found) == [*chosen("auto", truth=True), "largest"]
        assert found["largest"] == 0.25


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "scores.md").read_text(), re.DOTALL)


def test_the_example_of_the_docs(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(examples()[0], "scores.md", "exec"), {})
    found = ast.literal_eval(capsys.readouterr().out)
    assert list(found) == [*chosen("auto", truth=True), "silhouette"]
    assert found["ari"] == found["nmi"] == found["homogeneity"] == found["completeness"] == 1
