"""python -m distkmeans.apply: the labels of ``Model.predict`` and their distances, the same bytes at any world size."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import distkmeans
from distkmeans import application, apply, cli
from distkmeans.init.file import File
from distkmeans.kernels.choose import again, choose
from distkmeans.kernels.dense import Dense, largest_of
from distkmeans.metrics import metrics
from distkmeans.report.out_dir import OutDir
from distkmeans.report.progress import RowsDone
from distkmeans.transforms import transforms
from distkmeans.world import World
from tests.conftest import ROOT
from tests.worlds import Ranks

DATA = ["data=npy", "data.path=new.npy"]
MODELS = {
    "plain": [],
    "standard": ["transform=standardize"],
    "cosine": ["metric=cosine"],
    "manhattan": ["metric=manhattan"],
}


def rows(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 6)).astype(np.float32) * [1, 2, 3, 1, 1, 5] + 3


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of every kind, new rows, and what is wrong with some."""
    home = tmp_path_factory.mktemp("apply")
    with contextlib.chdir(home):
        x, new = rows(900, 0).astype(np.float32), rows(501, 1).astype(np.float32)
        np.save("x.npy", x)
        np.save("new.npy", new)
        np.save("narrow.npy", new[:, :5])
        np.save("nan.npy", np.where(np.arange(501)[:, None] == 400, np.nan, new))
        np.save("zero.npy", np.where(np.arange(501)[:, None] == 33, 0, new))
        np.save("ids.npy", np.arange(501) * 7)
        np.save("c.npy", np.load("x.npy")[:5])
        Path("ids.txt").write_text("".join(f"row {row}\n" for row in range(501)))
        Path("model.joblib").write_bytes(pickle.dumps(x))
        for name, options in MODELS.items():
            train = ["data=npy", "data.path=x.npy", "k=11", f"run.dir={name}", "report=none", "evaluate=[]"]
            assert cli.main([*train, *options], ROOT / "conf") == 0
        for name in ("unfinished", "sweep/k=2", "sweep/k=3", "failed", "empty", "foreign/labels"):
            Path(name).mkdir(parents=True)
        Path("unfinished/config.yaml").write_text("k: 3\n")
        Path("sweep/sweep.csv").touch()
        Path("sweep/k=3/summary.json").write_text("{}")
        Path("failed/failed.json").write_text(json.dumps({"error": "k=9: more clusters than rows", "data_reads": 0}))
        Path("foreign/labels/mine.txt").touch()
        np.save("damaged.npy", x[:5])
        (home / "cut").mkdir()
        for file in ("config.yaml", "summary.json", "transform.safetensors"):
            (home / "cut" / file).write_bytes((home / "plain" / file).read_bytes())
        Path("cut/centroids.safetensors").write_bytes(Path("plain/centroids.safetensors").read_bytes()[:40])
    return home


def attempt(rank: int, folder: Path, arguments: list[str], block: int = 0) -> tuple[int, str]:
    """The exit status and what a rank said, in this process; ``block`` elements of rows at a time."""
    said, before = io.StringIO(), apply.Application.open.__globals__["BLOCK_ELEMENTS"]
    cli.LEAD_S = 0.0
    apply.Application.open.__globals__["BLOCK_ELEMENTS"] = block or before
    try:
        with contextlib.chdir(folder), contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            return apply.main(arguments), said.getvalue()
    finally:
        apply.Application.open.__globals__["BLOCK_ELEMENTS"] = before


def joined(folder: Path) -> np.ndarray:
    return np.concatenate([np.load(part) for part in sorted(folder.glob("part-*.npy"))])


@pytest.mark.parametrize("model", MODELS)
def test_labels_and_distances_at_any_world_size(model: str, home: Path, ranks: Callable[[int], Ranks]) -> None:
    arguments = [f"run.dir={model}", *DATA]
    assert attempt(0, home, [*arguments, f"out.dir={model}-1"])[0] == 0
    told = ranks(3)(attempt, home, [*arguments, f"out.dir={model}-3"], 6 * 50)  # 50 rows at a time
    assert [status for status, _ in told] == [0, 0, 0], told
    one, three = home / f"{model}-1", home / f"{model}-3"
    assert [path.name for path in sorted((three / "labels").iterdir())] == [
        f"part-0000{rank}-of-00003.npy" for rank in range(3)
    ]
    for folder in ("labels", "distances"):
        assert joined(one / folder).tobytes() == joined(three / folder).tobytes()
    fitted, x = distkmeans.load(home / model), np.load(home / "new.npy")
    labels, distances = joined(one / "labels"), joined(one / "distances")
    assert labels.dtype == np.int32
    assert distances.dtype == np.float64
    assert labels.tobytes() == fitted.predict(x).tobytes()
    difference = fitted.transform(x).astype(np.float64) - fitted.centroids.numpy().astype(np.float64)[labels]
    expected = np.abs(difference).sum(1) if model == "manhattan" else (difference**2).sum(1)
    np.testing.assert_allclose(distances, expected, rtol=1e-13)
    results = [json.loads((folder / "apply.json").read_text()) for folder in (one, three)]
    assert results[0]["inertia"] == results[1]["inertia"] == pytest.approx(distances.sum(), rel=1e-14)
    assert results[0]["sizes"] == results[1]["sizes"] == np.bincount(labels, minlength=11).tolist()
    assert [result["world_size"] for result in results] == [1, 3]
    assert (results[0]["rows"], results[0]["dims"], results[0]["k"]) == (501, 6, 11)


def test_torchrun_on_the_runs_own_rows(home: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3"]
    command += ["-m", "distkmeans.apply", "run.dir=standard", "data=npy", "data.path=x.npy", "out.dir=own"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("labels and distances in") == 1
    assert joined(home / "own" / "labels").tobytes() == joined(home / "standard" / "labels").tobytes()
    summary = json.loads((home / "standard" / "summary.json").read_text())
    assert json.loads((home / "own" / "apply.json").read_text())["inertia"] == pytest.approx(summary["inertia"], 1e-15)


@pytest.mark.parametrize(("ids", "first"), [("ids.npy", 7), ("ids.txt", "row 1")])
def test_ids_make_parquet(ids: str, first: Any, home: Path, ranks: Callable[[int], Ranks]) -> None:
    from pyarrow import parquet

    out = f"with-{ids}"
    told = ranks(3)(attempt, home, ["run.dir=plain", *DATA, f"data.ids={ids}", f"out.dir={out}"], 6 * 50)
    assert [status for status, _ in told] == [0, 0, 0], told
    labels, distances = (parquet.read_table(home / out / folder) for folder in ("labels", "distances"))
    assert (labels.column_names, distances.column_names) == (["id", "label"], ["id", "distance"])
    assert labels["id"][1].as_py() == distances["id"][1].as_py() == first
    assert labels["label"].to_pylist() == distkmeans.load(home / "plain").predict(np.load(home / "new.npy")).tolist()
    assert len(distances) == 501


RUN = ["run.dir=plain"]
MISTAKES = [
    (["run.dir=none", *DATA], "run.dir=none: no such directory"),
    (["run.dir=x.npy", *DATA], "run.dir=x.npy: a file; expected the directory of a finished run"),
    (["run.dir=empty", *DATA], "run.dir=empty: holds no run"),
    (["run.dir=unfinished", *DATA], "run.dir=unfinished: holds an unfinished run"),
    (["run.dir=failed", *DATA], "run.dir=failed: holds a run that failed (k=9: more clusters than rows)"),
    (["run.dir=sweep", *DATA], "run.dir=sweep: holds a sweep; name one of its points, such as k=3"),
    (["run.dir=cut", *DATA], "run.dir=cut: centroids.safetensors cannot be read ("),
    (DATA, "run.dir: not given; expected a finished run, or centroids=FILE instead of one"),
    ([*RUN, "centroids=c.npy", *DATA], "centroids=c.npy: given beside run.dir=plain"),
    ([*RUN, "metric=cosine", *DATA], "metric: the run in run.dir=plain has its own"),
    (["centroids=c.npy", "metric=cosin", *DATA], "metric=cosin: unknown; expected"),
    (["centroids=none.npy", *DATA], "centroids=none.npy: no such file"),
    (
        ["centroids=model.joblib", *DATA],
        "centroids=model.joblib: cannot be read as npy or safetensors (a pickle,",
    ),
    (["centroids=nan.npy", *DATA], "centroids=nan.npy, row 400: NaN or Inf"),
    (["centroids=narrow.npy", *DATA], "data.path=new.npy: 6 columns, but the model of centroids=narrow.npy has 5"),
    (
        [*RUN, "data=npy", "data.path=narrow.npy"],
        "data.path=narrow.npy: 5 columns, but the model of run.dir=plain has 6",
    ),
    ([*RUN, "data=npy", "data.path=nan.npy"], "data.path=nan.npy, row 400: nan in column 0; remove or mend that row"),
    (
        ["run.dir=cosine", "data=npy", "data.path=zero.npy"],
        "data.path=zero.npy, row 33: a row of zeros has no direction",
    ),
    ([*RUN, "data=npy"], "data.path: not given"),
    ([*RUN, "data=npz"], "data=npz: unknown; expected"),
    (RUN, "data=null: expected blobs, digits, npy or patches"),
    ([*RUN, *DATA, "data.pth=x"], "data.pth: unknown key; did you mean data.path?"),
    ([*RUN, *DATA, "data.weights=x.npy"], "data.weights: labels and distances do not depend on it"),
    ([*RUN, *DATA, "data.ids=none.npy"], "data.ids=none.npy: no such file"),
    ([*RUN, *DATA, "k=3"], "k: unknown key; "),
    ([*RUN, *DATA, "run.devise=cpu"], "run.devise: unknown key; did you mean run.device?"),
    ([*RUN, *DATA, "run.device=gpu"], "run.device=gpu: expected auto, cpu or cuda"),
    ([*RUN, "data=npy", "data.path=a,b"], "data.path=a,b: expected one value"),
    ([*RUN, *DATA, "~data"], "~data: there is nothing to take away"),
    ([*RUN, *DATA, "plugins=[no.such]"], "plugins=[no.such]: cannot be imported"),
    ([*RUN, *DATA, "--fast"], "--fast: unknown flag; see python -m distkmeans.apply --help"),
    ([*RUN, *DATA, "fast"], "fast: expected KEY=VALUE"),
    ([*RUN, *DATA, "out.dir=plain"], "out.dir=plain: holds a run; choose another"),
    ([*RUN, *DATA, "out.dir=sweep"], "out.dir=sweep: holds a sweep; choose another"),
    ([*RUN, *DATA, "out.dir=x.npy"], "out.dir=x.npy: a file, not a directory"),
    ([*RUN, *DATA, "out.dir=foreign", "out.overwrite=true"], "out.dir=foreign: holds labels, which no apply wrote"),
]


@pytest.mark.parametrize(("arguments", "says"), MISTAKES, ids=[" ".join(case[0]) for case in MISTAKES])
def test_a_mistake_is_one_line(arguments: list[str], says: str, home: Path, ranks: Callable[[int], Ranks]) -> None:
    given = arguments if any(text.startswith("out.dir") for text in arguments) else [*arguments, "out.dir=out"]
    for told in ([attempt(0, home, given)], ranks(3)(attempt, home, given)):
        assert [status for status, _ in told] == [1] * len(told)
        assert told[0][1].startswith(f"distkmeans: error: {says}"), told
        assert told[0][1].count("\n") == 1
        assert not "".join(said for _, said in told[1:])
        assert not (home / "out").exists()


def test_results_are_replaced_whole_or_not_at_all(home: Path, ranks: Callable[[int], Ranks]) -> None:
    arguments = [*RUN, *DATA, "out.dir=kept"]
    assert attempt(0, home, arguments)[0] == 0
    before = {path: path.read_bytes() for path in (home / "kept").rglob("*") if path.is_file()}
    assert "holds results of apply already; choose another, or out.overwrite=true" in attempt(0, home, arguments)[1]
    wrong = ["run.dir=plain", "data=npy", "data.path=nan.npy", "out.dir=kept", "out.overwrite=true"]
    assert ranks(3)(attempt, home, wrong, 6 * 50)[0][0] == 1
    assert {path: path.read_bytes() for path in (home / "kept").rglob("*") if path.is_file()} == before
    told = ranks(3)(attempt, home, ["run.dir=cosine", *DATA, "out.dir=kept", "out.overwrite=true"])
    assert told[0][0] == 0
    assert len(list((home / "kept" / "labels").iterdir())) == 3
    assert json.loads((home / "kept" / "apply.json").read_text())["model"] == "run.dir=cosine"
    assert sorted(path.name for path in (home / "kept").iterdir()) == [
        "apply.json",
        "apply.yaml",
        "distances",
        "labels",
    ]


def test_what_another_job_has_begun_stays(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = application.claim_out

    def claimed_by_two(world: World, path: str, overwrite: bool) -> OutDir:
        mine = claim(world, path, overwrite)
        claim(world, path, overwrite).begin({"another": "job"})
        (mine.path / "labels.part").mkdir()
        (mine.path / "labels.part" / "part-00000-of-00001.npy").touch()
        return mine

    monkeypatch.setattr(application, "claim_out", claimed_by_two)
    status, said = attempt(0, home, [*RUN, *DATA, "out.dir=two"])
    assert status == 1
    assert "out.dir=two: another job has begun to write there; choose another" in said.replace(f"{home}/", "")
    assert sorted(path.name for path in (home / "two").rglob("*")) == [
        "apply.yaml",
        "labels.part",
        "part-00000-of-00001.npy",
    ]


def test_a_transform_that_changes_the_number_of_columns(plugins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (plugins / "head.py").write_text(
        "import torch\nfrom distkmeans.transforms import rounded, transforms\n\n@transforms.register('head')\n"
        "class Head:\n    name = 'head'\n    factor = torch.tensor(0.0)\n"
        "    def fit(self, world, shard, columns):\n        self.factor = torch.tensor(2.0)\n"
        "    def tensors(self):\n        return {'factor': self.factor}\n"
        "    def restore(self, tensors):\n        self.factor = tensors['factor']\n"
        "    def __call__(self, rows):\n"
        "        turned = rows.to(torch.float64) @ torch.eye(6, 3, dtype=torch.float64)\n"
        "        return rounded(turned * self.factor, rows.dtype)\n"
    )
    x = rows(80, 6).astype(np.float32)
    np.save("x.npy", x)
    np.save("narrow.npy", x[:, :5])
    own = ["plugins=[head]", "data=npy"]
    train = [*own, "transform=head", "data.path=x.npy", "k=4", "run.dir=run", "report=none"]
    assert cli.main(train, ROOT / "conf") == 0
    model = distkmeans.load("run")
    assert model.dims is None
    assert model.transform(x).tolist() == (2 * x[:, :3]).tolist()
    assert apply.main([*own, "run.dir=run", "data.path=x.npy", "out.dir=out"]) == 0
    labels = np.load("run/labels/part-00000-of-00001.npy")
    assert joined(plugins / "out" / "labels").tolist() == model.predict(x).tolist() == labels.tolist()
    with pytest.raises(distkmeans.InputError, match="x: 5 columns; the model was fitted on others"):
        model.predict(x[:, :5])
    assert apply.main([*own, "run.dir=run", "data.path=narrow.npy", "out.dir=narrow"]) == 1
    assert "data.path=narrow.npy: 5 columns, but the model of run.dir=run has others" in capsys.readouterr().err


def test_help_tells_every_source_and_key(plugins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (plugins / "ones.py").write_text(
        "import torch\nfrom distkmeans.data import sources\n\n@sources.register('ones')\nclass Ones:\n"
        "    '''Rows of ones.'''\n    dims = 6\n    def __init__(self, rows: int = 4):\n        self.rows = rows\n"
        "    def read(self, start, stop):\n        return torch.ones(stop - start, 6)\n"
        "    def name(self, row):\n        return f'row {row}'\n"
    )
    assert apply.main(["--help", "plugins=[ones]"]) == 0
    told = capsys.readouterr().out
    for text in ("run.dir=DIR", "data.n_samples=10000", "ones         Rows of ones.", "data.rows=4   a whole number"):
        assert text in told
    np.save("c.npy", np.eye(6)[:2])
    assert apply.main(["centroids=c.npy", "plugins=[ones]", "data=ones", "data.rows=3", "out.dir=out"]) == 0
    assert joined(plugins / "out" / "labels").tolist() == [0, 0, 0]
    assert joined(plugins / "out" / "distances").tolist() == [5, 5, 5]


def test_a_metric_of_ones_own(plugins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (plugins / "power.py").write_text(
        "from distkmeans.metrics import metrics\n\n@metrics.register('power')\nclass Power:\n"
        "    def __init__(self, p: float):\n        self.p = p\n"
        "    def distance(self, rows, centroids):\n"
        "        return (rows[:, None] - centroids).abs().pow(self.p).sum(2)\n"
    )
    np.save("c.npy", np.eye(3)[:2])
    np.save("x.npy", np.full((4, 3), 0.75))
    command = ["centroids=c.npy", "plugins=[power]", "metric=power", "data=npy", "data.path=x.npy", "out.dir=out"]
    assert apply.main([*command, "metric.p=4"]) == 0
    assert joined(plugins / "out" / "distances").tolist() == [0.25**4 + 2 * 0.75**4] * 4
    assert apply.main([*command, "metric.q=4"]) == 1
    assert "metric.q: unknown key" in capsys.readouterr().err


def test_a_bar_on_rank_0_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for rank in (0, 1):
        monkeypatch.setattr("sys.stderr", screen := Terminal())
        monkeypatch.setenv("COLUMNS", "100")
        with RowsDone(World(rank, 2), 2000) as done:
            done.reach(1200)
            done.bar and done.bar.refresh()
            done.reach(2400)  # the last block is not full
        assert ("1.20k/2.00k" in screen.getvalue()) == (rank == 0)
        assert "2.40k" not in screen.getvalue()


def test_a_killed_apply_can_be_done_again(home: Path) -> None:
    parts = home / "killed" / "labels.part"
    parts.mkdir(parents=True)
    (home / "killed" / "apply.yaml").touch()
    (parts / "part-00006-of-00008.npy").touch()
    arguments = [*RUN, *DATA, "out.dir=killed"]
    assert "holds results of apply already" in attempt(0, home, arguments)[1]
    assert attempt(0, home, [*arguments, "out.overwrite=true"])[0] == 0
    assert [path.name for path in (home / "killed" / "labels").iterdir()] == ["part-00000-of-00001.npy"]
    assert not parts.exists()


def test_a_kernel_serves_rows_that_it_was_not_chosen_for() -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((30_000, 48)).astype(np.float32))
    centroids = x[:128].clone()
    kernel = choose(x[:20_000], centroids)
    assert not isinstance(kernel, Dense)
    for later in (x[20_000:], x[20_000:] * 1000 + 50, x[20_000:] * 1e-3, x[:1], x[:0]):
        labels, expected = (torch.empty(len(later), dtype=torch.int32) for _ in range(2))
        again(kernel, later, centroids).assign(centroids, labels)
        reach = max(map(largest_of, (later, centroids)))
        Dense(later, centroids, reach, None, exact=True).assign(centroids, expected)
        assert torch.equal(labels, expected)


def saved(path: Path, values: np.ndarray) -> None:
    np.save(path, values)


def mapped(path: Path, values: np.ndarray) -> None:
    np.lib.format.open_memmap(path, "w+", values.dtype, values.shape)[:] = values


class TestCentroidFiles:
    """Whoever wrote them: cluster_centers_ of scikit-learn, centroids of faiss and ssl-data-curation are (K, D)."""

    x = rows(200, 3).astype(np.float32)

    @pytest.mark.parametrize("write", [saved, mapped])
    @pytest.mark.parametrize("order", ["C", "F"])
    @pytest.mark.parametrize("kind", ["float32", "float64", "float16", ">f4", "int32"])
    def test_are_read(self, tmp_path: Path, kind: str, order: Any, write: Callable[[Path, np.ndarray], None]) -> None:
        values = np.asarray(self.x[:4] * 10, dtype=kind, order=order)
        write(tmp_path / "c.npy", values)
        model = distkmeans.load(tmp_path / "c.npy")
        assert model.centroids.numpy().tolist() == values.tolist()
        assert model.predict(self.x).tolist() == distkmeans.predict(self.x, values).tolist()

    def test_begin_a_run(self, home: Path) -> None:
        first = np.asfortranarray(np.load(home / "x.npy")[:3].astype(np.float64))
        with contextlib.chdir(home):
            np.save("start.npy", first)
            train = ["data=npy", "data.path=x.npy", "k=3", "init=file", "report=none", "solver.max_iter=4"]
            for name, path in (("from64", "start.npy"), ("from32", "start32.npy")):
                np.save("start32.npy", first.astype(np.float32))
                assert cli.main([*train, f"init.path={path}", f"run.dir={name}"], ROOT / "conf") == 0
        assert (home / "from64/centroids.npy").read_bytes() == (home / "from32/centroids.npy").read_bytes()
        assert distkmeans.fit(np.load(home / "x.npy"), 3, init=first, max_iter=4).centroids.tolist() == (
            np.load(home / "from64/centroids.npy").tolist()
        )

    def test_have_the_metric_that_is_asked_for(self, tmp_path: Path) -> None:
        np.save(tmp_path / "c.npy", self.x[:5])
        save_file({"centroids": torch.from_numpy(self.x[:5])}, tmp_path / "c.safetensors")
        for name in ("c.npy", "c.safetensors"):
            model = distkmeans.load(tmp_path / name, metric="cosine")
            unit = self.x / np.linalg.norm(self.x, axis=1, keepdims=True)
            assert model.predict(self.x).tolist() == (unit @ unit[:5].T).argmax(1).tolist()

    def test_of_a_run_keep_their_bits(self, tmp_path: Path) -> None:
        fitted = distkmeans.fit(self.x.astype(np.float64), 40, metric="cosine").centroids
        np.save(tmp_path / "c.npy", fitted)
        assert distkmeans.load(tmp_path / "c.npy", metric="cosine").centroids.numpy().tobytes() == fitted.tobytes()

    @pytest.mark.parametrize("name", ["m.pkl", "m.joblib", "m.sav", "m", "gz.joblib", "zip", "m.pt", "m.npy"])
    def test_pickles_are_refused_with_the_reason(self, tmp_path: Path, name: str, home: Path) -> None:
        path = tmp_path / name
        if name == "m.pt":
            torch.save(torch.ones(2, 2), path)
        elif name == "m.npy":
            np.save(path, np.array([[1, "a"]], dtype=object), allow_pickle=True)
        elif name in ("gz.joblib", "zip"):
            joblib.dump({"a": Armed()}, path, compress=("zlib" if name == "zip" else "gzip", 3))
        else:
            path.write_bytes(pickle.dumps(Armed()))
        with pytest.raises(distkmeans.InputError) as caught:
            distkmeans.load(path)
        assert "unpickling runs whatever code a file holds" in str(caught.value)
        assert "np.save('centroids.npy', model.cluster_centers_)" in str(caught.value)
        with pytest.raises(distkmeans.InputError, match="unpickling"):
            File(str(path)).check(2, 2)
        assert not Armed.fired

    def test_others_are_refused(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=self.x)
        (tmp_path / "words.npy").write_text("centroids")
        np.save(tmp_path / "flat.npy", self.x[0])
        (tmp_path / "cut.npz").write_bytes(b"PK\x05\x06" + bytes(4) + b"\xff" * 12 + bytes(2))
        np.save(tmp_path / "none.npy", self.x[:0])
        for name, says in (
            ("a.npz", "an npz archive; save the one array as npy"),
            ("words.npy", "it is neither"),
            ("flat.npy", "1 dimensions"),
            ("cut.npz", "cannot be read as npy or safetensors"),
            ("none.npy", "at least one centroid"),
        ):
            with pytest.raises(distkmeans.InputError, match=says):
                distkmeans.load(tmp_path / name)
        with pytest.raises(distkmeans.InputError, match="has a metric of its own"):
            distkmeans.load(tmp_path, metric="cosine")


class Armed:
    """What fires when it is unpickled."""

    fired = False

    def __reduce__(self) -> Any:
        return setattr, (Armed, "fired", True)


class TestToSklearn:
    @pytest.mark.parametrize("metric", ["euclidean", "cosine"])
    @pytest.mark.parametrize("transform", ["none", "standardize", "normalize"])
    @pytest.mark.parametrize("kind", ["float32", "float64", "uint8"])
    def test_predicts_the_same(self, tmp_path: Path, kind: str, transform: str, metric: str) -> None:
        x = (rows(300, 4) * 10 + 60).clip(1, 255).astype(kind)
        with contextlib.chdir(tmp_path):
            np.save("x.npy", x)
            train = ["data=npy", "data.path=x.npy", "k=5", "run.dir=out", "report=none", "evaluate=[]"]
            assert cli.main([*train, f"transform={transform}", f"metric={metric}"], ROOT / "conf") == 0
        model = distkmeans.load(tmp_path / "out")
        stored = pickle.dumps(model.to_sklearn())
        assert b"distkmeans" not in stored
        estimator = pickle.loads(stored)
        assert (estimator.predict(x) == model.predict(x)).all()
        distances = estimator.transform(x)
        assert distances.shape == (300, 5)
        inertia = json.loads((tmp_path / "out" / "summary.json").read_text())["inertia"]
        assert -estimator.score(x) == pytest.approx(inertia, rel=1e-5)
        assert estimator.n_features_in_ == 6
        assert len(estimator.get_feature_names_out()) == 5

    def test_is_a_kmeans_that_can_be_cloned_and_fitted(self) -> None:
        from sklearn.base import clone
        from sklearn.cluster import KMeans

        x = rows(100, 5).astype(np.float32)
        model = distkmeans.Model(torch.from_numpy(x[:3]), transforms.build("none"), metrics.build("euclidean"))
        estimator = model.to_sklearn()
        assert type(estimator) is KMeans
        assert estimator.cluster_centers_.tolist() == x[:3].tolist()
        estimator.cluster_centers_[:] = 0
        assert model.centroids.tolist() == x[:3].tolist()
        assert clone(estimator).fit(x).cluster_centers_.shape == (3, 6)

    def test_what_scikit_learn_has_no_equal_of(self, home: Path) -> None:
        with pytest.raises(distkmeans.InputError, match="metric=manhattan: scikit-learn's KMeans has no equal"):
            distkmeans.load(home / "manhattan").to_sklearn()
