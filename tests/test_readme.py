"""What the README and the docs show is true: every command in them is run, here or in the slow tier."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from distkmeans import cli
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CLUSTER = re.compile(r"^(sbatch|srun) |hydra/launcher=slurm")
TWO_HOSTS = "torchrun --nnodes=2"


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands() -> list[str]:
    """Every line of a shell block, but for the two that set everything up, which CI runs."""
    lines = [line for page in PAGES for block in blocks("sh", page.read_text()) for line in block.splitlines()]
    return list(dict.fromkeys(lines[2:]))


def on_this_machine() -> list[str]:
    return [line for line in commands() if not CLUSTER.search(line) and not line.startswith(TWO_HOSTS)]


def on_slurm() -> list[str]:
    return [line for line in commands() if CLUSTER.search(line)]


def typed(line: str, shared: Path) -> str:
    """A line of the docs as it is typed here: our Python, our clone, and a folder of ours for /shared."""
    line = re.sub(r"(?<![\w/])train\.py", str(ROOT / "train.py"), line.replace("/shared/", f"{shared}/"))
    line = line.replace(" launch/", f" {ROOT}/launch/").replace("--nproc-per-node=4", "--nproc-per-node=3")
    line = re.sub(r"(^| )python ", rf"\1{sys.executable} ", line)
    line = re.sub(r"^launch/", f"{ROOT}/launch/", line)
    return re.sub(r"^torchrun ", f"{sys.executable} -m torch.distributed.run ", line)


def lay_out(folder: Path) -> None:
    """The files that the docs speak of."""
    x = np.random.default_rng(0).standard_normal((1500, 3)).astype(np.float32)
    for name in ("shards", "embeddings", "runs"):
        (folder / name).mkdir(exist_ok=True)
    for path in ("embeddings.npy", "shards/a.npy", "embeddings/a.npy"):
        np.save(folder / path, x)
    np.save(folder / "centroids.npy", x[:8])


def lay_out_runs(folder: Path) -> None:
    """Two finished runs, for the lines that use what is there."""
    with contextlib.chdir(folder):
        for name in ("first", "second"):
            rows = ["data=npy", "data.path=embeddings.npy", f"run.dir=runs/{name}", "report=none"]
            assert cli.main(rows, ROOT / "conf") == 0


def run_line(line: str, folder: Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    lay_out(folder)
    if "distkmeans.apply" in line or "distkmeans.runs" in line:
        lay_out_runs(folder)
    return subprocess.run(
        typed(line, folder),
        shell=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable, "RANKS": "2"},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


@pytest.mark.parametrize("line", on_this_machine())
def test_a_command_of_the_docs_runs(line: str, tmp_path: Path) -> None:
    if "distkmeans.native" in line and not any(map(shutil.which, ("cc", "gcc", "clang"))):
        pytest.skip("there is no compiler here")
    done = run_line(line, tmp_path)
    assert done.returncode == 0, done.stderr
    if "distkmeans.native" in line:
        assert done.stdout.startswith("built _kernels")
    elif "distkmeans.apply" in line:
        assert (tmp_path / "labelled" / "apply.json").exists()
    elif "distkmeans.runs" in line:
        assert all(text in done.stdout for text in ("runs/first", "runs/second", "finished"))
    elif "dry_run" in line or "--help" in line or "--cfg" in line:
        assert len(done.stdout.splitlines()) > 5
        assert not list((tmp_path / "runs").iterdir())
    else:
        assert list((tmp_path / "runs").glob("**/summary.json"))


def test_every_way_to_launch_is_shown() -> None:
    shown = "\n".join(commands())
    for way in ("\npython train.py", "torchrun --standalone", "launch/local.sh", "srun", "sbatch", "launcher=slurm"):
        assert way in f"\n{shown}"
    assert sum(line.startswith(TWO_HOSTS) for line in commands()) == 1


def test_the_python_example_runs() -> None:
    exec(compile(blocks("python")[0], "README.md", "exec"), {})


def test_a_seeding_of_ones_own(plugins: Path) -> None:
    code = blocks("python")[1]
    (plugins / "last.py").write_text(code)
    np.save("x.npy", np.arange(40.0).reshape(20, 2))
    shown = re.search(r"used by: python train.py (.*)", code)
    assert shown
    overrides = [*shown[1].split(), "data=npy", "data.path=x.npy", "k=2", "run.dir=out", "report=none"]
    assert cli.main(overrides, ROOT / "conf") == 0
    assert yaml.safe_load((plugins / "out" / "summary.json").read_text())["seed_rows"] == [13, 14]


def test_a_metric_of_ones_own(plugins: Path) -> None:
    code = blocks("python")[2]
    (plugins / "hinge.py").write_text(code)
    np.save("x.npy", np.random.default_rng(0).standard_normal((60, 3)))
    shown = re.search(r"used by: python train.py (.*)", code)
    assert shown
    overrides = [*shown[1].split(), "data=npy", "data.path=x.npy", "k=3", "run.dir=out", "report=none"]
    assert cli.main(overrides, ROOT / "conf") == 0
    summary = yaml.safe_load((plugins / "out" / "summary.json").read_text())
    assert summary["converged"]
    assert summary["bit_identical"] is False


def test_a_format_of_ones_own(plugins: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = blocks("python", (ROOT / "docs" / "extending.md").read_text())
    (plugins / "csv_rows.py").write_text(code)
    x = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    np.savetxt("rows.csv", x, delimiter=",", header="a,b,c", comments="")
    np.save("x.npy", x)
    shown = re.search(r"used by: python train.py (.*)", code)
    assert shown
    for overrides in ([*shown[1].split(), "run.dir=csv"], ["data=npy", "data.path=x.npy", "run.dir=npy"]):
        assert cli.main([*overrides, "k=3", "report=none"], ROOT / "conf") == 0
    assert (plugins / "csv" / "centroids.npy").read_bytes() == (plugins / "npy" / "centroids.npy").read_bytes()
    Path("rows.csv").write_text("a,b,c\n1,2,3\n4,nan,6\n")
    assert cli.main([*shown[1].split(), "k=1"], ROOT / "conf") == 1
    assert "error: data.path=rows.csv, line 3: nan in column 1" in capsys.readouterr().err
    assert cli.main(["--help", "plugins=[csv_rows]"], ROOT / "conf") == 0
    told = capsys.readouterr().out
    assert "csv          Numbers in a text file, a row per line." in told
    assert "data.skip=0   a whole number" in told


def test_the_first_two_blocks_are_one_line_each() -> None:
    main_job, tests = blocks("sh")[:2]
    assert commands()[0] not in main_job + tests
    assert main_job.count("\n") == tests.count("\n") == 1
    assert "train.py data=digits" in main_job
    assert "pytest" in tests


def test_every_key_that_the_readme_names_is_in_conf() -> None:
    named = set(re.findall(r"`((?:solver|init|data|run)\.\w+)=?`", README))
    known = {
        f"{path.parent.name}.{key}"
        for path in (ROOT / "conf").glob("*/*.yaml")
        for key in yaml.safe_load(path.read_text())
    }
    known |= {f"run.{key}" for key in yaml.safe_load((ROOT / "conf" / "config.yaml").read_text())["run"]}
    assert len(named) > 6
    assert named <= known
