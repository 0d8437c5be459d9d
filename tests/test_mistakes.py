"""What a user gets wrong, on one rank and on three: one clear line on rank 0, and a failing exit status on all."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from distkmeans import cli
from tests.conftest import ROOT
from tests.worlds import Ranks

NPY = ["data=npy", "k=2"]
SHORT = "expected a whole number, 1 or more"

CASES: list[tuple[list[str], str]] = [
    # keys and groups
    (["kk=3"], "kk: unknown key; did you mean k?; the keys here are k, seed"),
    (["solver.maxiter=3"], "solver.maxiter: unknown key; did you mean solver.max_iter?; the keys here are solver."),
    (["init.rounds=3"], "init.rounds: unknown key; the keys here are init.name and init.sample"),
    (["+solver.steps=3"], "solver.steps: unknown key; the keys here are solver.max_iter"),
    (["+speed=3"], "speed: unknown key"),
    (["datas=npy"], "datas: unknown key; did you mean data?"),
    (["+model=big"], "model: unknown key"),
    (["data=npz"], "data=npz: unknown; expected blobs, digits, npy or patches; did you mean npy?"),
    (["solver=loyd"], "solver=loyd: unknown; expected gradient, lloyd or minibatch; did you mean lloyd?"),
    (
        ["experiment=elbo"],
        "experiment=elbo: unknown; expected article, choose_k, codebook, elbow, embeddings or huber;"
        " did you mean elbow?",
    ),
    (["metric.name=canberra"], "metric=canberra: unknown; expected cosine, dot, euclidean or manhattan"),
    (["data.name=os"], "data=os: unknown; expected blobs"),
    (["init=null"], "init=null: expected file, parallel, plus_plus or random"),
    (["run=here"], "run=here: expected its keys, such as run.dir=..."),
    (["hydra.run.dir=x"], "hydra.run.dir: has no effect here"),
    (["hydra/launcher=slum"], "hydra/launcher=slum: unknown; expected basic or slurm; did you mean slurm?"),
    (["hydra/launcher=slurm"], "hydra/launcher=slurm: submits the points of a sweep; add -m"),
    (["k"], "k: expected KEY=VALUE"),
    (["k=[1"], "k=[1: cannot be read"),
    (["--fast"], "unrecognized arguments: --fast; see python train.py --help"),
    (["k=2,3"], "k=2,3: several values; add -m to run each"),
    (["-m", "run.dir=a,b"], "run.dir=a,b: run.dir is the same for all points; give it one value"),
    (["-m", "k=interval(1,3)"], "k=interval(1,3): expected a list of values or a range"),
    (["-m", "k=2,3", "sweep.part=2/2"], "sweep.part=2/2: expected I/N, with I from 0 to N-1"),
    (["+solver._target_=torch.utils.collect_env.run"], "solver._target_=torch.utils.collect_env.run: not a registered"),
    (["+data._target_=builtins.eval"], "data._target_=builtins.eval: not a registered piece"),
    (["init=3"], "init=3: expected file, parallel, plus_plus or random"),
    (["init=[random,parallel]"], "init=[random,parallel]: expected file, parallel, plus_plus or random"),
    (["hydra.launcher=slurm"], "hydra.launcher=slurm: a launcher is chosen with a slash"),
    (["hydra/launcher=null"], "hydra/launcher=null: "),
    (["k=glob(*)"], "k=glob(*): "),
    (["-m", "k=range(2,1)"], "k=range(2,1): holds no value"),
    (["-m", "hydra.sweeper.params.run.dir='a,b'"], "hydra.sweeper.params.run"),
    (["k=${nope}"], "k: Interpolation key 'nope' not found"),
    (["run.dir=???"], "run.dir: Missing mandatory value"),
    (["k=3=4"], """k=3=4: cannot be read; quote a value with special characters, twice: k="'3=4'\""""),
    (["~run.dir"], "run.dir: cannot be taken away; set it to null"),
    (["--config-dir=nowhere"], "--config-dir nowhere: no such directory"),
    (["--config-dir=own", "experiment=broken"], "...own/experiment/broken.yaml, line 3: expected"),
    (["--config-dir=own", "experiment=strange"], "solver.speed: unknown key"),
    (["--cfg", "bogus"], "argument --cfg/-c: invalid choice: 'bogus'"),
    (["plugins=my.pieces"], "plugins="),
    (["=3"], "=3: expected KEY=VALUE"),
    (["plugins=[no.such.module]"], "plugins=[no.such.module]: cannot be imported (ModuleNotFoundError"),
    # types and ranges
    (["k=0"], f"k=0: {SHORT}"),
    (["k=-3"], f"k=-3: {SHORT}"),
    (["k=2.5"], f"k=2.5: {SHORT}"),
    (["k=null"], f"k=null: {SHORT}"),
    (["k=true"], f"k=true: {SHORT}"),
    (["k=many"], f"k=many: {SHORT}"),
    (["n_init=0"], f"n_init=0: {SHORT}"),
    (["seed=x"], "seed=x: expected a whole number"),
    (["precision=double"], "precision=double: expected exact or fast"),
    (["dry_run=3"], "dry_run=3: expected true or false"),
    (["solver.tol=-1"], "solver.tol=-1: expected a number, 0 or more"),
    (["solver.tol=nan"], "solver.tol=nan: expected a number, 0 or more"),
    (["solver.max_iter=0"], f"solver.max_iter=0: {SHORT}"),
    (["solver.empty=drop"], "solver.empty=drop: expected farthest, keep or fail"),
    (["solver.tile_rows=0"], f"solver.tile_rows=0: {SHORT} or auto"),
    (["init=parallel", "init.oversampling=0"], "init.oversampling=0: expected a number, above 0"),
    (["init=parallel", "init.rounds=1.5"], f"init.rounds=1.5: {SHORT}"),
    (["init.sample=2", "k=3"], "init.sample=2: fewer rows than k=3"),
    (["report.sample=1"], "report.sample=1: expected a whole number, 2 to 100,000"),
    (["run.device=tpu"], "run.device=tpu: expected auto, cpu or cuda"),
    (["data.n_samples=0"], "data.n_samples=0: expected a whole number, 1 or more"),
    (["data.centers=[[1,2],[3]]"], "data.centers: the centres have 1 and 2 columns"),
    (["data.cluster_std=-1"], "data.cluster_std=-1: expected a number, 0 or more"),
    (["data.n_samples=1e30"], "data.n_samples=1e+30: expected a whole number"),
    (["data.n_samples=1000000", "data.n_features=1000000"], "out of memory ("),
    (["data.center_box=[1]"], "data.center_box=[1.0]: expected two numbers"),
    # rows
    ([*NPY], "data.path: not given"),
    ([*NPY, "data.path=none.npy"], "data.path=none.npy: no such file or directory"),
    ([*NPY, "data.path=nowhere/*.npy"], "data.path=nowhere/*.npy: no such file or directory"),
    ([*NPY, "data.path=hollow"], "data.path=hollow: a directory without npy files"),
    ([*NPY, "data.path=3"], "data.path=3: expected text or null"),
    ([*NPY, "data.path=nan.npy"], "data.path=nan.npy, row 7: nan in column 1"),
    ([*NPY, "data.path=inf.npy"], "data.path=inf.npy, row 19: -inf in column 0"),
    ([*NPY, "data.path=object.npy"], "data.path=object.npy: cannot be read as npy (not an npy file, or one of pickled"),
    ([*NPY, "data.path=complex.npy"], "data.path=complex.npy: type complex128; expected float64"),
    ([*NPY, "data.path=text.npy"], "data.path=text.npy: type <U1; expected float64"),
    ([*NPY, "data.path=pipe.npy"], "data.path=pipe.npy: not a file"),
    ([*NPY, "data.path=lies.npy"], "data.path=lies.npy: cannot be read as npy"),
    ([*NPY, "data.path=big.npy"], "data.path=big.npy: int64 values beyond 2**53 are no float64 numbers"),
    ([*NPY, "data.path=flat.npy"], "data.path=flat.npy: shape (20,); expected (rows, columns)"),
    ([*NPY, "data.path=cube.npy"], "data.path=cube.npy: shape (2, 2, 5); expected (rows, columns)"),
    ([*NPY, "data.path=cut.npy"], "data.path=cut.npy: cannot be read as npy (the file is shorter than its header"),
    ([*NPY, "data.path=empty.npy"], "data.path=empty.npy: cannot be read as npy (the file is empty)"),
    ([*NPY, "data.path=words.npy"], "data.path=words.npy: cannot be read as npy (not an npy file"),
    ([*NPY, "data.path=archive.npy"], "data.path=archive.npy: an npz archive"),
    ([*NPY, "data.path=norows.npy", "k=1"], "data.path=norows.npy: 0 rows of 2 columns; there is nothing to do"),
    ([*NPY, "data.path=nocolumns.npy"], "data.path=nocolumns.npy: 20 rows of 0 columns; there is nothing to do"),
    ([*NPY, "data.path=widths"], "data.path=widths/b.npy: 3 columns, but widths/a.npy has 2"),
    ([*NPY, "data.path=types"], "data.path=types/b.npy: float32, but types/a.npy is float64"),
    ([*NPY, "data.path=x.npy", "k=21"], "k=21: more clusters than the 20 rows; choose k of at most 20"),
    ([*NPY, "data.path=zero.npy", "metric=cosine"], "data.path=zero.npy, row 3: a row of zeros has no direction"),
    # weights and ids
    ([*NPY, "data.path=x.npy", "data.weights=none.npy"], "data.weights=none.npy: no such file"),
    ([*NPY, "data.path=x.npy", "data.weights=w-short.npy"], "data.weights=w-short.npy: 19 weights for 20 rows"),
    ([*NPY, "data.path=x.npy", "data.weights=w-negative.npy"], "weights: -1.0 at data.weights=w-negative.npy, row 4"),
    ([*NPY, "data.path=x.npy", "data.weights=w-nan.npy"], "weights: nan at data.weights=w-nan.npy, row 4"),
    ([*NPY, "data.path=x.npy", "data.weights=w-zero.npy"], "weights: all are 0 (data.weights=w-zero.npy)"),
    ([*NPY, "data.path=x.npy", "data.weights=x.npy"], "data.weights=x.npy: shape (20, 2); expected (rows,)"),
    ([*NPY, "data.path=x.npy", "data.ids=none.txt"], "data.ids=none.txt: no such file"),
    ([*NPY, "data.path=x.npy", "data.ids=latin.txt"], "data.ids=latin.txt: not UTF-8 text"),
    ([*NPY, "data.path=x.npy", "data.ids=complex.npy"], "data.ids=complex.npy: shape (20, 2); expected (rows,)"),
    ([*NPY, "data.path=x.npy", "data.ids=ids-complex.npy"], "data.ids=ids-complex.npy: type complex128; expected"),
    ([*NPY, "data.path=x.npy", "data.ids=ids.txt"], "data.ids=ids.txt: 3 ids for 20 rows; one for each row"),
    # scores and classes
    (["evaluate=[silhouete]"], "evaluate=silhouete: unknown; expected ami, ari"),
    (["evaluate=auto2"], "evaluate=auto2: unknown; expected ami, ari"),
    (["scores.silhouette_rows=2"], "scores.silhouette_rows=2: expected a whole number, 3 to 1,000,000"),
    ([*NPY, "data.path=x.npy", "evaluate=[ari]"], "evaluate=[ari]: needs the true classes of the rows, which are not"),
    ([*NPY, "data.path=x.npy", "data.truth=none.npy"], "data.truth=none.npy: no such file"),
    ([*NPY, "data.path=x.npy", "data.truth=w-short.npy"], "data.truth=w-short.npy: 19 classes for 20 rows; one"),
    ([*NPY, "data.path=x.npy", "data.truth=w-nan.npy"], "data.truth=w-nan.npy, row 4: class nan; expected"),
    ([*NPY, "data.path=x.npy", "data.truth=object.npy"], "data.truth=object.npy: cannot be read as npy (not"),
    # start files
    ([*NPY, "data.path=x.npy", "init=file"], "init.path: not given; init=file needs"),
    ([*NPY, "data.path=x.npy", "init=file", "init.path=none.npy"], "init.path=none.npy: no such file"),
    (
        [*NPY, "data.path=x.npy", "init=file", "init.path=x.npy"],
        "init.path=x.npy: shape (20, 2); expected k=2 rows of 2",
    ),
    (
        [*NPY, "data.path=x.npy", "init=file", "init.path=wide.npy"],
        "init.path=wide.npy: shape (2, 3); expected k=2 rows",
    ),
    (
        [*NPY, "data.path=x.npy", "init=file", "init.path=start-nan.npy"],
        "init.path=start-nan.npy: NaN, Inf or too large",
    ),
    ([*NPY, "data.path=x.npy", "init=file", "init.path=words.npy"], "init.path=words.npy: cannot be read as npy"),
    ([*NPY, "data.path=x.npy", "init=file", "init.path=object.npy"], "init.path=object.npy: cannot be read as npy"),
    ([*NPY, "data.path=x.npy", "init=file", "init.path=bad.safetensors"], "init.path=bad.safetensors: cannot be read"),
    ([*NPY, "data.path=x.npy", "init=file", "init.path=start-huge.npy"], "init.path=start-huge.npy: NaN, Inf or too"),
    # where results go
    (["run.dir=x.npy"], "run.dir=x.npy: a file, not a directory; choose another"),
    (["run.dir=x.npy/sub"], "run.dir=x.npy/sub: Not a directory; choose another"),
    (["run.dir=/proc/out"], "run.dir=/proc/out: No such file or directory; choose another"),
    (["run.dir=dangling"], "run.dir=dangling: a broken link; choose another"),
    (["run.dir='\0'"], "run.dir=\0: embedded null byte; choose another"),
    (["run.dir=foreign"], "run.dir=foreign: holds labels, which no run wrote; choose another"),
    (["run.dir=tool", "run.overwrite=true"], "run.dir=tool: holds labels/mine.txt, which no run wrote"),
    (["run.dir=finished"], "run.dir=finished: holds a run already; choose another, or run.overwrite=true"),
    (["run.dir=sweep"], "run.dir=sweep: holds a sweep; choose another, or go on with it: -m"),
    (["-m", "k=2,3", "run.dir=finished"], "run.dir=finished: holds a single run, not a sweep; choose another"),
    (["-m", "k=2,3", "run.dir=x.npy"], "run.dir=x.npy: a file, not a directory; choose another"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with everything that can be wrong with them."""
    path = tmp_path_factory.mktemp("mistakes")
    x = np.arange(1.0, 41).reshape(20, 2)
    arrays = {
        "x": x,
        "flat": x[:, 0],
        "cube": x.reshape(2, 2, -1)[..., :5],
        "complex": x * 1j,
        "wide": x[:2, [0, 0, 1]],
    }
    arrays |= {"nan": np.where(x == x[7, 1], np.nan, x), "inf": np.where(x == x[19, 0], -np.inf, x)}
    arrays |= {"zero": np.where(np.arange(20)[:, None] == 3, 0, x), "text": np.full((20, 2), "a")}
    arrays |= {"norows": x[:0], "nocolumns": x[:, :0], "start-nan": np.array([[1, np.nan], [2, 3]])}
    weights = np.ones(20)
    arrays |= {"w-short": weights[1:], "w-zero": 0 * weights}
    arrays |= {"w-negative": np.where(x[:, 0] == x[4, 0], -1, weights)}
    arrays |= {"w-nan": np.where(x[:, 0] == x[4, 0], np.nan, weights)}
    for name, values in arrays.items():
        np.save(path / f"{name}.npy", values)
    np.save(path / "object.npy", np.array([[1, "a"]], dtype=object), allow_pickle=True)
    (path / "cut.npy").write_bytes((path / "x.npy").read_bytes()[:-50])
    (path / "empty.npy").touch()
    for name in ("words.npy", "bad.safetensors"):
        (path / name).write_text("neither of the two")
    (path / "ids.txt").write_text("a\nb\nc\n")
    (path / "latin.txt").write_bytes("Fränti\n".encode("latin-1"))
    np.save(path / "ids-complex.npy", x[:, 0] * 1j)
    np.save(path / "big.npy", np.full((20, 2), 2**60 + 1))
    np.save(path / "start-huge.npy", np.array([[1e300, 1], [2, 3]]))
    lies = (path / "x.npy").read_bytes().replace(b"(20, 2)", b"(9" + b"0" * 21 + b", 2)")
    (path / "lies.npy").write_bytes(lies)
    os.mkfifo(path / "pipe.npy")
    (path / "dangling").symlink_to(path / "nowhere")
    np.savez(path / "archive.npz", x=x)
    (path / "archive.npz").rename(path / "archive.npy")
    for name in ("hollow", "widths", "types", "finished", "sweep"):
        (path / name).mkdir()
    for name, other in (("widths", x[:, [0, 0, 1]]), ("types", x.astype(np.float32))):
        np.save(path / name / "a.npy", x)
        np.save(path / name / "b.npy", other)
    for name, sign in (("foreign", None), ("tool", "config.yaml")):
        (path / name / "labels").mkdir(parents=True)
        (path / name / "labels" / "mine.txt").touch()
        if sign:
            (path / name / sign).touch()
    (path / "own" / "experiment").mkdir(parents=True)
    (path / "own" / "experiment" / "broken.yaml").write_text("k: 3\nseed: [1\n")
    (path / "own" / "experiment" / "strange.yaml").write_text("# @package _global_\nsolver:\n  speed: 3\n")
    (path / "finished" / "summary.json").write_text("{}")
    (path / "sweep" / "sweep.csv").write_text("status\n")
    return path


def attempt(rank: int, folder: Path, overrides: list[str]) -> tuple[int, str, list[str]]:
    """The exit status and what was said by a rank, and the new files; in this process."""
    said = io.StringIO()
    before, here = set(os.listdir(folder)), Path.cwd()
    os.chdir(folder)
    cli.LEAD_S = 0.0
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            status = cli.main(overrides, ROOT / "conf")
    finally:
        os.chdir(here)
    return status, said.getvalue(), sorted(set(os.listdir(folder)) - before - {"runs"})


def check(results: list[tuple[int, str, list[str]]], says: str) -> None:
    assert [status for status, _, _ in results] == [1] * len(results)
    spoken = results[0][1].splitlines()
    assert len(spoken) == 1, spoken
    assert spoken[0].startswith("distkmeans: error: ")
    where = spoken[0].find(says.removeprefix("..."))
    assert where > 0 if says.startswith("...") else where == len("distkmeans: error: "), spoken[0]
    assert [said for _, said, _ in results[1:]] == [""] * (len(results) - 1)
    assert not results[0][2]


@pytest.mark.parametrize(("overrides", "says"), CASES, ids=[" ".join(overrides) for overrides, _ in CASES])
def test_a_mistake_is_one_line(overrides: list[str], says: str, folder: Path, ranks: Callable[[int], Ranks]) -> None:
    check([attempt(0, folder, overrides)], says)
    check(ranks(3)(attempt, folder, overrides), says)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_a_device_that_is_not_there(folder: Path, ranks: Callable[[int], Ranks]) -> None:
    check([attempt(0, folder, ["run.device=cuda"])], "run.device=cuda: 1 ranks on this node, but torch")
    check(ranks(3)(attempt, folder, ["run.device=cuda"]), "run.device=cuda: 3 ranks on this node, but torch")


def attempt_own(rank: int, folder: Path, overrides: list[list[str]]) -> tuple[int, str, list[str]]:
    return attempt(rank, folder, overrides[rank])


@pytest.mark.parametrize(
    ("each", "says"),
    [
        ([["k=3"], ["k=3"], ["k=4"]], "k: rank 0 has 3, rank 2 has 4; start all ranks with the same command"),
        ([["k=3"], ["data=digits", "k=3"], ["k=3"]], "data.center_box: rank 0 has [-10, 10], rank 1 has None"),
        ([["-m", "k=3,4"], ["-m", "k=3,4"], ["-m", "k=3,5"]], "data.center_box: rank 0 has [-10, 10], rank 2 has None"),
        ([["k=3"], ["kk=3"], ["k=3"]], "kk: unknown key"),
        (
            [["data=npy", "k=2", f"data.path={name}.npy"] for name in ("x", "x", "zero")],
            "data.path: rank 0 has x.npy, rank 2 has zero.npy",
        ),
    ],
)
def test_ranks_that_differ(each: list[list[str]], says: str, folder: Path, ranks: Callable[[int], Ranks]) -> None:
    check(ranks(3)(attempt_own, folder, each), says)


def attempt_in(rank: int, folders: list[Path], overrides: list[str]) -> tuple[int, str, list[str]]:
    return attempt(rank, folders[rank], overrides)


def test_files_that_differ_between_ranks(folder: Path, ranks: Callable[[int], Ranks], tmp_path: Path) -> None:
    x = np.load(folder / "x.npy")
    overrides = ["data=npy", "k=2", "data.path=x.npy"]
    for name, values, says in [
        ("longer", np.concatenate([x, x]), "rank 1 has 40 rows of 2 columns"),
        ("other", x[::-1], "rank 1 has 20 rows of 2 columns (float64, checksum"),
        ("typed", x.astype(np.float32), "rank 1 has 20 rows of 2 columns (float32, checksum"),
    ]:
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "x.npy", values)
        results = ranks(3)(attempt_in, [folder, tmp_path / name, folder], overrides)
        check(results, "the data differs between ranks: rank 0 has 20 rows of 2 columns (float64, checksum")
        assert says in results[0][1]


@pytest.mark.parametrize("ranks", [0, 3])
def test_a_mistake_ends_a_real_job_at_once(
    ranks: int, train: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    x = np.ones((20, 2))
    x[7, 1] = np.nan
    np.save(tmp_path / "bad.npy", x)
    begin = time.monotonic()
    done = train("data=npy", "data.path=bad.npy", "k=2", ranks=ranks, timeout=60)
    assert time.monotonic() - begin < 30
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if "distkmeans: error:" in line]
    assert line.endswith("distkmeans: error: data.path=bad.npy, row 7: nan in column 1; remove or mend that row")
    assert str(ROOT / "distkmeans") not in done.stderr
