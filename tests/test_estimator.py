"""``KMeans`` and ``MiniBatchKMeans``: what scikit-learn's own tests (test_sklearn_suite.py) do not ask."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import sklearn
import torch
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import pairwise_distances
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import distkmeans
from distkmeans import InputError, KMeans, MiniBatchKMeans
from distkmeans.estimator import rows as rows_module
from tests.conftest import ROOT
from tests.problems import part
from tests.worlds import Ranks

X, TRUTH = make_blobs(600, 5, centers=6, cluster_std=0.7, random_state=3)
WEIGHTS = np.random.default_rng(1).uniform(0, 3, len(X))
BOTH = pytest.mark.parametrize("estimator", [KMeans, MiniBatchKMeans])


def test_the_page_is_true() -> None:
    page = (ROOT / "docs" / "estimator.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        exec(example, {})


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_bits_as_fit(dtype: Any) -> None:
    x = X.astype(dtype)
    ours = KMeans(6, random_state=5, n_init=3).fit(x, sample_weight=WEIGHTS)
    plain = distkmeans.fit(x, 6, seed=5, n_init=3, weights=WEIGHTS)
    assert np.array_equal(ours.labels_, plain.labels)
    assert np.array_equal(ours.cluster_centers_, plain.centroids)
    assert (ours.inertia_, ours.n_iter_) == (plain.inertia, plain.iterations)
    assert np.array_equal(ours.predict(x), plain.labels)
    assert ours.score(x, sample_weight=WEIGHTS) == -plain.inertia


@BOTH
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors_in_and_out(estimator: Any, dtype: torch.dtype) -> None:
    x = torch.from_numpy(X).to(dtype)
    found = estimator(6, random_state=0).fit(x)
    kept = torch.float64 if dtype == torch.float64 else torch.float32
    for tensor, kind in ((found.cluster_centers_, kept), (found.labels_, torch.int32), (found.transform(x), kept)):
        assert isinstance(tensor, torch.Tensor)
        assert (tensor.dtype, tensor.device) == (kind, x.device)
    assert torch.equal(found.predict(x), found.labels_)
    assert isinstance(found.inertia_, float)
    assert -found.score(x) == found.inertia_
    assert isinstance(found.predict(X), np.ndarray)
    assert isinstance(clone(found), estimator)
    with pytest.raises(ValueError, match=r"X has 3 features, but .*KMeans is expecting 5 features as input"):
        found.predict(x[:, :3])
    with pytest.raises(ValueError, match=r"nan in column 0|NaN"):
        found.fit(torch.full_like(x, torch.nan))


def test_weights_and_first_centres_may_be_tensors() -> None:
    x, weights, init = torch.from_numpy(X), torch.from_numpy(WEIGHTS), torch.from_numpy(X[:6])
    ours = KMeans(6, init=init).fit(x, sample_weight=weights)
    other = KMeans(6, init=X[:6]).fit(X, sample_weight=WEIGHTS)
    assert np.array_equal(ours.cluster_centers_.numpy(), other.cluster_centers_)

    def function(rows: torch.Tensor, clusters: int, random_state: np.random.RandomState) -> torch.Tensor:
        assert isinstance(rows, torch.Tensor)
        return rows[random_state.permutation(len(rows))[:clusters]]

    assert KMeans(6, init=function, n_init=2, random_state=0).fit(x)._n_init == 2


@pytest.mark.parametrize("given", ["float16", "uint8", "int8", "int16", "bool", "int64", "longdouble", "object"])
def test_narrow_types_stay_and_others_are_float64(given: str) -> None:
    x = np.clip(np.rint(X * 5 + 50), 0, 120).astype(given)
    kind = np.float32 if given in ("float16", "uint8", "int8") else np.float64
    found = KMeans(4, random_state=0).fit(x)
    assert found.cluster_centers_.dtype == found.transform(x).dtype == kind
    assert np.array_equal(found.labels_, KMeans(4, random_state=0).fit(x.astype(kind)).labels_)
    assert np.array_equal(found.predict(x), found.labels_)


def test_in_a_pipeline_and_a_search() -> None:
    steps = make_pipeline(StandardScaler(), KMeans(random_state=0))
    search = GridSearchCV(steps, {"kmeans__n_clusters": [2, 6], "kmeans__metric": ["euclidean"]}, cv=3).fit(X)
    assert search.best_params_["kmeans__n_clusters"] == 6
    assert len(np.unique(search.predict(X))) == 6
    assert list(search.best_estimator_.get_feature_names_out()) == [f"kmeans{i}" for i in range(6)]


def test_routed_weights() -> None:
    with sklearn.config_context(enable_metadata_routing=True):
        kmeans = KMeans(6, random_state=0).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        routed = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), kmeans).fit(
            X, sample_weight=WEIGHTS
        )
        plain = KMeans(6, random_state=0).fit(StandardScaler().fit_transform(X), sample_weight=WEIGHTS)
        assert routed[-1].inertia_ == plain.inertia_
        GridSearchCV(kmeans, {"n_clusters": [2, 3]}, cv=2).fit(X, sample_weight=WEIGHTS)


@BOTH
def test_pickled(estimator: Any) -> None:
    found = estimator(6, random_state=0).fit(X)
    again = pickle.loads(pickle.dumps(found))
    assert np.array_equal(again.predict(X), found.labels_)
    assert again.get_params() == found.get_params()


def test_a_stream_goes_on_after_pickling() -> None:
    batches = np.split(X, 4)
    stream, other = MiniBatchKMeans(6, random_state=0), MiniBatchKMeans(6, random_state=0)
    for batch in batches:
        stream.partial_fit(batch)
        other = pickle.loads(pickle.dumps(other)).partial_fit(batch)
    assert np.array_equal(stream.cluster_centers_, other.cluster_centers_)
    assert (stream.n_steps_, len(stream.labels_)) == (4, len(batches[-1]))
    assert np.array_equal(stream.labels_, stream.predict(batches[-1]))
    assert -stream.score(batches[-1]) == stream.inertia_


def test_decay_forgets() -> None:
    found = MiniBatchKMeans(1, init=X[:1], decay=0.0, reassignment_ratio=0).partial_fit(X[:300]).partial_fit(X[300:])
    np.testing.assert_allclose(found.cluster_centers_[0], X[300:].mean(0), rtol=1e-12)
    kept = MiniBatchKMeans(1, init=X[:1], reassignment_ratio=0).partial_fit(X[:300]).partial_fit(X[300:])
    np.testing.assert_allclose(kept.cluster_centers_[0], X.mean(0), rtol=1e-12)


@BOTH
def test_data_frames(estimator: Any) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcde"))
    found = estimator(6, random_state=0).set_output(transform="pandas").fit(frame)
    assert list(found.feature_names_in_) == list("abcde")
    distances = found.transform(frame)
    assert list(distances.columns) == [f"{estimator.__name__.lower()}{i}" for i in range(6)]
    assert list(found.fit_transform(frame).columns) == list(distances.columns)
    with pytest.raises(ValueError, match="feature names should match"):
        found.predict(frame[list("edcba")])


@BOTH
@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_sparse_as_dense(estimator: Any, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "BLOCK_ELEMENTS", 64)
    x = np.where(X > 0, X, 0).astype(np.float32)
    sparse = sp.csr_array(x).asformat(form)
    ours, other = (estimator(5, random_state=0).fit(rows) for rows in (sparse, x))
    assert np.array_equal(ours.cluster_centers_, other.cluster_centers_)
    assert np.array_equal(ours.predict(sparse), other.labels_)
    np.testing.assert_allclose(ours.transform(sparse), other.transform(x), rtol=1e-6)
    assert ours.score(sparse) == other.score(x)


@BOTH
def test_a_function_sees_sparse_rows(estimator: Any) -> None:
    def first(rows: Any, clusters: int, random_state: Any) -> Any:
        assert sp.issparse(rows)
        return rows[:clusters]

    found = estimator(5, init=first, n_init=1).fit(sp.csr_array(X))
    assert found.cluster_centers_.shape == (5, 5)


@pytest.mark.parametrize("offset", [0, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_from_the_origin(offset: float, dtype: Any) -> None:
    x = (X + offset).astype(dtype)
    found = KMeans(6, init=x[:6], tol=0).fit(x)
    rows, centres = x.astype(np.float64) - offset, found.cluster_centers_.astype(np.float64) - offset
    expected = np.sqrt(((rows[:, None] - centres) ** 2).sum(2))
    np.testing.assert_allclose(found.transform(x), expected, rtol=1e-6 if dtype == np.float32 else 1e-11)
    np.testing.assert_allclose(found.inertia_, (expected.min(1) ** 2).sum(), rtol=1e-12)
    assert np.array_equal(found.labels_, expected.argmin(1))


def test_distances_of_large_and_of_equal_rows() -> None:
    x = np.array([[1e30, 0], [-1e30, 1e30], [0, 0]], dtype=np.float32)
    found = KMeans(3, init=x).fit(x)
    np.testing.assert_allclose(found.transform(x), pairwise_distances(x.astype(np.float64)), rtol=1e-6)
    assert not found.transform(x).diagonal().any()


def test_cosine() -> None:
    found = KMeans(6, metric="cosine", random_state=0).fit(X)
    np.testing.assert_allclose(np.linalg.norm(found.cluster_centers_, axis=1), 1)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    np.testing.assert_allclose(found.transform(X), pairwise_distances(unit, found.cluster_centers_), atol=1e-7)
    assert np.array_equal(found.predict(3 * X), found.labels_)
    assert found.score(X) == -found.inertia_
    for method in (found.fit, found.predict, found.transform, found.score):
        with pytest.raises(ValueError, match="a row of zeros has no direction"):
            method(np.zeros((6, 5)))


def test_random_state() -> None:
    def centres(random_state: Any) -> bytes:
        return (
            KMeans(6, init="random", n_init=1, max_iter=1, random_state=random_state).fit(X).cluster_centers_.tobytes()
        )

    assert centres(3) == centres(np.int64(3))
    generator = np.random.RandomState(0)
    first, second = centres(generator), centres(generator)
    assert first != second
    assert centres(np.random.RandomState(0)) == first
    np.random.seed(7)
    drawn = centres(None), centres(None)
    np.random.seed(7)
    assert (centres(None), centres(None)) == drawn
    assert drawn[0] != drawn[1]


@BOTH
@pytest.mark.parametrize("init", ["k-means++", "random", "k-means||"])
def test_no_first_centre_without_weight(estimator: Any, init: str) -> None:
    """As scikit-learn's test_sample_weight_zero: as many centres as rows that weigh, of which each must be one."""
    weights = np.where(np.arange(len(X)) % 60 == 0, WEIGHTS, 0)
    found = estimator(10, init=init, random_state=0, max_iter=1).fit(X, sample_weight=weights)
    np.testing.assert_allclose(np.sort(found.cluster_centers_, axis=0), np.sort(X[::60], axis=0))


@pytest.mark.parametrize("init", ["k-means++", "random"])
def test_first_centres_heed_weights(init: str) -> None:
    """As scikit-learn's test_sample_weight_init."""
    one, other = (
        KMeans(6, init=init, n_init=1, max_iter=1, tol=1e9, random_state=0).fit(X, sample_weight=weights)
        for weights in (None, np.where(TRUTH < 3, 1e-6, 1))
    )
    assert not np.allclose(np.sort(one.cluster_centers_, axis=0), np.sort(other.cluster_centers_, axis=0))


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"n_clusters": 0}, "The 'n_clusters' parameter of KMeans must be an int in the range"),
        ({"init": "kmeans"}, "The 'init' parameter of KMeans must be a str among"),
        ({"metric": "manhattan"}, "The 'metric' parameter of KMeans must be a str among"),
        ({"tol": -1}, "The 'tol' parameter of KMeans must be a float in the range"),
        ({"algorithm": "full"}, "The 'algorithm' parameter of KMeans must be a str among"),
        ({"random_state": "a"}, "The 'random_state' parameter of KMeans must be"),
        ({"empty": "fail", "init": np.full((8, 5), 1e3)}, "cluster 1 has no rows"),
        ({"init": np.full((8, 5), np.nan)}, "Input contains NaN"),
    ],
)
def test_mistakes(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        KMeans(**parameters).fit(X)


@BOTH
def test_no_card(estimator: Any) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a card here")
    with pytest.raises(InputError, match=r"run\.device=cuda"):
        estimator(device="cuda").fit(X)


def job_of(rank: int, size: int, estimator: Any, options: dict[str, Any], weighted: bool) -> dict[str, Any]:
    x, weights = part(X, rank, size), part(WEIGHTS, rank, size) if weighted else None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        found = estimator(**options).fit(x, sample_weight=weights)
    return {
        "own": found.labels_,
        "again": found.predict(x),
        "centres": found.cluster_centers_,
        "numbers": (found.inertia_, found.n_iter_, found.score(x, sample_weight=weights), found.n_features_in_),
        "warned": sum(issubclass(each.category, ConvergenceWarning) for each in caught),
    }


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("estimator", "options"),
    [
        (KMeans, {"n_clusters": 7, "n_init": 2, "random_state": 0}),
        (KMeans, {"n_clusters": 4, "init": np.repeat(X[:1], 4, axis=0), "empty": "keep", "max_iter": 2}),
        (MiniBatchKMeans, {"n_clusters": 7, "batch_size": 90, "random_state": 1, "init": "random"}),
    ],
)
def test_on_three_ranks_as_on_one(
    ranks: Callable[[int], Ranks], estimator: Any, options: dict[str, Any], weighted: bool
) -> None:
    (alone,) = ranks(1)(job_of, 1, estimator, options, weighted)
    three = ranks(3)(job_of, 3, estimator, options, weighted)
    assert np.array_equal(np.concatenate([each["own"] for each in three]), alone["own"])
    for each in three:
        assert np.array_equal(each["own"], each["again"])
        assert np.array_equal(each["centres"], alone["centres"])
        assert each["numbers"] == alone["numbers"]
    assert [each["warned"] for each in three] == [alone["warned"], 0, 0]
    assert alone["warned"] == ("empty" in options)


def stream_of(rank: int, size: int) -> Any:
    stream = MiniBatchKMeans(6, random_state=0)
    for batch in np.split(X, 3):
        stream.partial_fit(part(batch, rank, size))
    return stream.cluster_centers_, stream.inertia_


def test_a_stream_on_three_ranks_as_on_one(ranks: Callable[[int], Ranks]) -> None:
    ((centres, inertia),) = ranks(1)(stream_of, 1)
    for other, cost in ranks(3)(stream_of, 3):
        assert np.array_equal(other, centres)
        assert cost == inertia


def without_a_seed(rank: int, size: int) -> Any:
    np.random.seed(rank)
    return KMeans(6, init="random", n_init=1, max_iter=1).fit(part(X, rank, size)).cluster_centers_


def with_a_bad_row_on_one(rank: int, size: int) -> Any:
    x = part(X, rank, size).copy()
    x[0, 0] = np.nan if rank == 1 else 0
    return KMeans(3).fit(x)


def search_of(rank: int, size: int) -> Any:
    search = GridSearchCV(KMeans(random_state=0), {"n_clusters": [2, 3, 6]}, cv=2).fit(X[rank::size])
    return search.best_params_, search.cv_results_["mean_test_score"].tolist()


def test_ranks_agree(ranks: Callable[[int], Ranks]) -> None:
    first, second, third = ranks(3)(without_a_seed, 3)
    assert np.array_equal(first, second)
    assert np.array_equal(first, third)
    for error in ranks(3)(with_a_bad_row_on_one, 3):
        assert isinstance(error, ValueError)
        assert "NaN" in str(error) or "nan in column 0" in str(error)
    first, second, third = ranks(3)(search_of, 3)
    assert first == second == third
    assert first[0] == {"n_clusters": 6}
