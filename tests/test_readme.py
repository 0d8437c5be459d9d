"""What the README shows is true."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from distkmeans.init import inits
from tests.conftest import ROOT
from tests.problems import problem_of

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_example_runs() -> None:
    exec(compile(blocks("python")[0], "README.md", "exec"), {})


def test_a_seeding_of_ones_own() -> None:
    exec(compile(blocks("python")[1], "README.md", "exec"), {})
    x = np.arange(12.0).reshape(6, 2)
    assert inits.build("last")(problem_of(x), 2, 0).centroids.tolist() == x[-2:].tolist()


@pytest.mark.parametrize("line", blocks("sh")[2].splitlines()[:2])
def test_the_launch_lines_run(line: str, tmp_path: Path, train: Callable[..., None]) -> None:
    (tmp_path / "shards").mkdir()
    x = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
    np.save(tmp_path / "embeddings.npy", x)
    np.save(tmp_path / "shards" / "a.npy", x)
    line = line.replace("torchrun", f"{sys.executable} -m torch.distributed.run").replace(
        "train.py", str(ROOT / "train.py")
    )
    line = re.sub(r"^python ", f"{sys.executable} ", line)
    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_the_first_two_blocks_are_one_line_each() -> None:
    main_job, tests = blocks("sh")[:2]
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
