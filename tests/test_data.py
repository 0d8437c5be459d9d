from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images
from sklearn.feature_extraction.image import extract_patches_2d
from sklearn.preprocessing import StandardScaler
from sklearn.preprocessing import normalize as unit_length
from torch.utils.data import TensorDataset

import distkmeans
from distkmeans import native
from distkmeans.data import sources
from distkmeans.data.array import as_rows
from distkmeans.data.blobs import Blobs
from distkmeans.data.columns import Moments, scan
from distkmeans.data.ids import read_ids
from distkmeans.data.npy import NpyFiles
from distkmeans.data.shard import compact, open_shard, own_shard
from distkmeans.transforms import apply, transforms
from distkmeans.world import World, join
from tests import oracle
from tests.worlds import Ranks

TYPES = ["float64", "float32", "float16", "uint8", "int8"]


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (70, int(sys.argv[2])))
from distkmeans.data.npy import NpyFiles
files = NpyFiles(sys.argv[1])
print(float(files.read(0, files.rows).sum()))
"""


class TestNpy:
    @pytest.mark.parametrize(
        ("most", "says"),
        [(600, "4950.0"), (300, "100 files, but a process may open 300 here; join some, or raise ulimit")],
    )
    def test_more_files_than_a_process_opens_at_first(self, tmp_path: Path, most: int, says: str) -> None:
        for index in range(100):
            np.save(tmp_path / f"{index:03}.npy", np.array([[index]], np.float32))
        command = [sys.executable, "-c", LIMITED, str(tmp_path), str(most)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert says in done.stdout + done.stderr

    @pytest.mark.parametrize("dtype", TYPES)
    def test_shards_of_uneven_and_no_rows(self, tmp_path: Path, dtype: str) -> None:
        x = np.arange(60).reshape(20, 3).astype(dtype)
        for index, (start, stop) in enumerate([(0, 0), (0, 7), (7, 7), (7, 8), (8, 20)]):
            np.save(tmp_path / f"part-{index}.npy", x[start:stop])
        for path in (tmp_path, tmp_path / "part-*.npy"):
            files = NpyFiles(str(path))
            assert (files.rows, files.dims) == (20, 3)
            for start, stop in [(0, 20), (0, 7), (6, 9), (20, 20), (7, 8), (3, 3)]:
                read = files.read(start, stop)
                assert read.dtype == getattr(torch, dtype)
                assert read.numpy().tolist() == x[start:stop].tolist()
        assert files.name(7).endswith("part-3.npy, row 0")
        assert files.name(19).endswith("part-4.npy, row 11")

    def test_a_file_is_mapped_not_copied(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.zeros((10, 2), np.float32))
        rows = NpyFiles(str(tmp_path / "x.npy")).read(2, 5)
        written = np.load(tmp_path / "x.npy", mmap_mode="r+")
        written[2, 0] = 7
        written.flush()
        assert rows[0, 0] == 7

    def test_fortran_order_and_foreign_byte_order(self, tmp_path: Path) -> None:
        x = np.arange(12.0).reshape(4, 3)
        np.save(tmp_path / "f.npy", np.asfortranarray(x))
        np.save(tmp_path / "b.npy", x.astype(">f8"))
        for name in ("f.npy", "b.npy"):
            assert NpyFiles(str(tmp_path / name)).read(1, 3).tolist() == x[1:3].tolist()

    @pytest.mark.parametrize(
        ("write", "says"),
        [
            (lambda p: None, "no such file"),
            (lambda p: p.write_bytes(b""), "the file is empty"),
            (lambda p: p.write_bytes(b"hello, world, this is text"), "not an npy file"),
            (lambda p: np.save(p, np.zeros(5)), r"shape \(5,\); expected \(rows, columns\)"),
            (lambda p: np.save(p, np.zeros((2, 2), complex)), "type complex128"),
            (lambda p: np.save(p, np.array([[{}]]), allow_pickle=True), "pickled objects"),
            (lambda p: p.mkdir(), "a directory without npy files"),
        ],
    )
    def test_refuses_naming_the_file(self, tmp_path: Path, write: Callable[[Path], None], says: str) -> None:
        write(tmp_path / "x.npy")
        with pytest.raises(distkmeans.InputError, match=f"data.path=.*x.npy: .*{says}"):
            NpyFiles(str(tmp_path / "x.npy"))

    def test_refuses_a_truncated_file(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.zeros((100, 3)))
        whole = (tmp_path / "x.npy").read_bytes()
        (tmp_path / "x.npy").write_bytes(whole[:-50])
        with pytest.raises(distkmeans.InputError, match=r"x.npy: .*shorter than its header says"):
            NpyFiles(str(tmp_path / "x.npy"))

    @pytest.mark.parametrize(
        ("second", "says"),
        [(np.zeros((2, 4), np.float32), "4 columns, but .*a.npy has 3"), (np.zeros((2, 3)), "float64, but .*a.npy")],
    )
    def test_refuses_files_that_do_not_match(self, tmp_path: Path, second: np.ndarray, says: str) -> None:
        np.save(tmp_path / "a.npy", np.zeros((2, 3), np.float32))
        np.save(tmp_path / "b.npy", second)
        with pytest.raises(distkmeans.InputError, match=f"b.npy: {says}"):
            NpyFiles(str(tmp_path))


class TestBuiltIn:
    def test_patches_are_those_of_the_photographs(self) -> None:
        source = sources.build("patches")
        assert (source.rows, source.dims, source.read(0, 1).dtype) == (133_140, 192, torch.uint8)
        image = load_sample_images().images[0]
        every = extract_patches_2d(image[:8, :40], (8, 8)).reshape(-1, 192)
        assert source.read(0, 17).numpy().tolist() == every[::2].tolist()
        per_line = (image.shape[1] - 8) // 2 + 1
        assert source.read(per_line, per_line + 1)[0].tolist() == image[2:10, :8].reshape(-1).tolist()

    def test_digits(self) -> None:
        source = sources.build("digits")
        assert (source.rows, source.dims, float(source.read(0, source.rows).max())) == (1797, 64, 16)

    def test_an_unknown_name_is_told_with_the_nearest(self) -> None:
        with pytest.raises(distkmeans.InputError, match=r"data=blob: unknown; .*did you mean blobs\?"):
            sources["blob"]
        for path in ("os", "distkmeans.job", "..errors", "__init__", 3):
            with pytest.raises(distkmeans.InputError, match="unknown"):
                sources[path]


class TestBlobs:
    def test_outliers_lie_anywhere_and_have_a_class_of_their_own(self) -> None:
        calm, blobs = Blobs(n_samples=4000), Blobs(n_samples=4000, outliers=0.1, outlier_box=(50, 60))
        x, truth = blobs.read(0, 4000), blobs.truth(0, 4000)
        out = truth < 0
        assert 320 < int(out.sum()) < 480
        assert bool(((x[out] >= 50) & (x[out] <= 60)).all())
        assert torch.equal(x[~out], calm.read(0, 4000)[~out])
        assert torch.equal(truth[~out], calm.truth(0, 4000)[~out])
        assert torch.equal(blobs.read(1000, 1010), x[1000:1010])

    def test_any_part_is_made_alone(self) -> None:
        blobs = Blobs(n_samples=200_001, n_features=3, centers=5)
        whole = blobs.read(0, blobs.rows)
        for start, stop in [(0, 10), (65_530, 65_540), (131_071, 200_001), (5, 5)]:
            assert torch.equal(blobs.read(start, stop), whole[start:stop])

    def test_billions_of_rows_cost_nothing_until_read(self) -> None:
        blobs = Blobs(n_samples=10**9, n_features=16, centers=100)
        assert blobs.read(10**9 - 5, 10**9).shape == (5, 16)

    def test_the_distribution_is_make_blobs(self) -> None:
        blobs = Blobs(n_samples=30_002, n_features=2, centers=3, cluster_std=[0.5, 1, 2], center_box=(-3, 3))
        x, truth = blobs.read(0, blobs.rows), blobs.truth(0, blobs.rows)
        assert torch.bincount(truth).tolist() == [10_001, 10_001, 10_000]
        assert blobs.centers.abs().max() <= 3
        for cluster, deviation in enumerate([0.5, 1, 2]):
            mine = x[truth == cluster].double()
            torch.testing.assert_close(mine.mean(0), blobs.centers[cluster], atol=0.06 * deviation, rtol=0)
            torch.testing.assert_close(mine.std(0), torch.full((2,), deviation).double(), rtol=0.03, atol=0)
        assert (truth[:100] != truth[0]).any()

    def test_given_sizes_and_centres(self) -> None:
        blobs = Blobs(n_samples=[3, 0, 2], centers=[[0, 0], [5, 5], [9, 9]], cluster_std=0, shuffle=False)
        assert blobs.read(0, 5).tolist() == [[0, 0]] * 3 + [[9, 9]] * 2

    @pytest.mark.parametrize(
        "options", [{"n_samples": 0}, {"centers": 0}, {"n_features": 0}, {"cluster_std": -1.0}, {"n_samples": [1, 2]}]
    )
    def test_refuses(self, options: dict[str, int]) -> None:
        with pytest.raises(distkmeans.InputError, match=r"data\."):
            sources.build("blobs", options)


class TestArrays:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [("int32", torch.float64), ("int16", torch.float32), ("bool", torch.uint8), ("uint16", torch.float32)],
    )
    def test_other_types_are_widened_without_loss(self, given: str, expected: torch.dtype) -> None:
        x = np.array([[0, 1], [1, 0]]).astype(given)
        assert as_rows(x).dtype == expected
        assert as_rows(x).tolist() == x.astype(float).tolist()

    def test_datasets_and_lists(self) -> None:
        x = torch.arange(12.0).view(4, 3)
        assert torch.equal(as_rows(TensorDataset(x, torch.zeros(4))), x)
        assert as_rows([[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]
        assert distkmeans.fit(TensorDataset(x), 2).labels.shape == (4,)

    def test_bfloat16_tensors(self) -> None:
        x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
        result = distkmeans.fit(x, 3, tol=0)
        assert result.centroids.dtype == torch.float32
        assert result.labels.tolist() == oracle.nearest(x.float().numpy(), result.centroids.numpy())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.float16, torch.bfloat16])
def test_rows_that_fit_fewer_bytes_are_kept_in_them(dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    x = (20 * torch.randn(3000, 4, generator=torch.Generator().manual_seed(0))).clamp(limits.min, limits.max).to(dtype)
    x[0, 0], x[1, 1] = limits.min, limits.max
    rows = compact(x.float())
    assert rows.dtype == dtype
    assert torch.equal(rows.float(), x.float())
    wide = x.float()
    wide[1501, 2] = 0.1  # not among the rows that are looked at first
    assert compact(wide) is wide


@pytest.mark.parametrize("weighted", [False, True])
def test_a_fit_of_rows_that_fit_fewer_bytes_has_the_same_bits(weighted: bool) -> None:
    """As float16 they are kept as given, as float32 in a copy of float16."""
    x = np.random.default_rng(0).normal(size=(3000, 20)).astype(np.float16)
    w = np.random.default_rng(1).uniform(0, 3, 3000).astype(np.float32) if weighted else None
    start = x[:200].astype(np.float32)
    given, copied = (distkmeans.fit(rows, 200, init=start, weights=w, tol=0) for rows in (x, x.astype(np.float32)))
    assert given.centroids.tobytes() == copied.centroids.tobytes()
    assert given.labels.tobytes() == copied.labels.tobytes()
    assert given.inertia == copied.inertia


def scan_part(rank: int, size: int, x: np.ndarray) -> str:
    world = join("cpu")
    cuts = [len(x) * index // size for index in range(size + 1)]
    scan(world, own_shard(world, torch.from_numpy(x[cuts[rank] : cuts[rank + 1]]), None))
    return "scanned"


class TestStatisticsPass:
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_the_first_bad_row_is_named_on_every_rank(self, ranks: Callable[[int], Ranks], value: float) -> None:
        x = np.zeros((5000, 4), np.float32)
        x[3777, 2] = x[4000, 0] = value
        errors = ranks(3)(scan_part, 3, x)
        assert {str(error) for error in errors} == {
            f"x of rank 2, row {3777 - 3333}: {value} in column 2; remove or mend that row"
        }

    def test_a_bad_row_in_a_file(self, tmp_path: Path) -> None:
        for index in range(3):
            part = np.zeros((10, 2), np.float16)
            part[4, 1] = np.nan if index == 1 else 0
            np.save(tmp_path / f"{index}.npy", part)
        shard = open_shard(World(), NpyFiles(str(tmp_path)))
        with pytest.raises(distkmeans.InputError, match=r"1\.npy, row 4: nan in column 1"):
            scan(World(), shard)

    @pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.uint8, np.int8])
    def test_compiled_ranges_are_those_of_torch(self, dtype: type, monkeypatch: pytest.MonkeyPatch) -> None:
        x = (
            (np.random.default_rng(0).normal(0, 9, (1001, 7)).round(2))
            .clip(0 if dtype == np.uint8 else -99)
            .astype(dtype)
        )
        x[:, 3] = 0
        found = []
        for choice in ("auto", "off"):
            monkeypatch.setenv(native.CHOICE, choice)
            columns = scan(World(), own_shard(World(), torch.from_numpy(x), None))
            found.append([values.tolist() for values in (columns.largest, columns.smallest, columns.top, columns.low)])
        assert found[0] == found[1]

    def test_ranges(self) -> None:
        x = np.array([[0.0, -8.0, 0.0], [0.5, 3.0, 0.0]])
        columns = scan(World(), own_shard(World(), torch.from_numpy(x), None))
        assert columns.largest.tolist() == [0.5, 8.0, 0.0]
        assert columns.smallest.tolist()[:2] == [0.5, 3.0]

    @pytest.mark.parametrize("kind", ["normal", "spread", "far", "wide64", "bytes"])
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("compiled", ["auto", "off"])
    def test_moments_are_exact(self, kind: str, weighted: bool, compiled: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(native.CHOICE, compiled)
        x = oracle.rows(kind, 60, 3, seed=1)
        w = np.random.default_rng(0).uniform(0, 3, 60) if weighted else None
        shard = own_shard(World(), torch.from_numpy(x), None if w is None else torch.from_numpy(w))
        found = Moments(World(), shard, scan(World(), shard))
        stored = np.ones(60) if shard.weights is None else shard.weights.numpy()
        for column in range(3):
            exact = oracle.fractions(x[:, column])
            assert found.sums[column] == sum(exact)
            assert found.squares[column] == sum(v * v for v in exact)
        squares = [sum(v * v for v in oracle.fractions(row)) for row in x]
        expected = sum(Fraction(float(a)) * b for a, b in zip(stored, squares, strict=True))
        assert found.weighted_square == expected
        assert Moments(World(), shard, scan(World(), shard)).weighted_square == expected  # by itself, on one grid


def standardized(x: np.ndarray) -> np.ndarray:
    shard = own_shard(World(), torch.from_numpy(x), None)
    transform = transforms.build("standardize")
    transform.fit(World(), shard, scan(World(), shard))
    return apply(transform, shard).rows.numpy()


class TestTransforms:
    @pytest.mark.parametrize("offset", [0.0, 1e6])
    def test_standardize_is_scikit_learns_and_does_not_cancel(self, offset: float) -> None:
        x = np.random.default_rng(0).standard_normal((500, 3)) + offset
        x[:, 1] = 0.1
        ours, theirs = standardized(x), StandardScaler().fit_transform(x)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)
        assert (ours[:, 1] == 0).all()

    def test_normalize_is_scikit_learns(self) -> None:
        x = oracle.rows("normal", 50, 7, seed=0).astype(np.float64)
        x[3] = 0
        ours = transforms.build("normalize")(torch.from_numpy(x)).numpy()
        np.testing.assert_allclose(ours, unit_length(x), rtol=1e-15)
        huge = transforms.build("normalize")(torch.tensor([[3e200, 4e200], [3e-320, 4e-320]], dtype=torch.float64))
        np.testing.assert_allclose(huge.numpy(), [[0.6, 0.8]] * 2, rtol=1e-3)

    def test_transformed_rows_are_float32_but_for_float64(self) -> None:
        for dtype, expected in [("uint8", np.float32), ("float32", np.float32), ("float64", np.float64)]:
            x = np.random.default_rng(0).integers(0, 9, (20, 2)).astype(dtype)
            assert standardized(x).dtype == expected


class TestWeights:
    @pytest.mark.parametrize(
        ("weights", "says"),
        [
            ([1, 2], r"shape \(2,\) for 3 rows"),
            ([1, -1, 1], "-1.0 at x, row 1"),
            ([1, 1, np.nan], "nan at x, row 2"),
            ([0, 0, 0], "all are 0"),
        ],
    )
    def test_refused(self, weights: list[float], says: str) -> None:
        with pytest.raises(distkmeans.InputError, match=says):
            distkmeans.fit(np.eye(3), 2, weights=np.array(weights, float))

    def test_number_of_weights_of_a_file(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.zeros((4, 2)))
        np.save(tmp_path / "w.npy", np.ones(3))
        with pytest.raises(distkmeans.InputError, match="3 weights for 4 rows"):
            open_shard(World(), NpyFiles(str(tmp_path / "x.npy")), NpyFiles(str(tmp_path / "w.npy"), "data.weights", 1))


def test_ids_from_npy_and_text(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("a\nb\nc\n")
    np.save(tmp_path / "ids.npy", np.array(["a", "b", "c"]))
    for name in ("ids.txt", "ids.npy"):
        assert read_ids(str(tmp_path / name), 3, 1, 3).tolist() == ["b", "c"]
        with pytest.raises(distkmeans.InputError, match=r"3 ids for 4 rows"):
            read_ids(str(tmp_path / name), 4, 0, 4)
