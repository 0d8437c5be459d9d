"""Configuration: one description of every key, in conf/ and in signatures; recipes; plugins; help."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

import distkmeans
from distkmeans import cli, schema
from distkmeans.config import Arguments, read
from distkmeans.errors import InputError
from distkmeans.help import manual
from distkmeans.schema import Range
from distkmeans.settings import GROUPS, PLAIN, Companions, General, Settings
from distkmeans.slurm import SlurmOptions
from tests.conftest import ROOT

CONF = ROOT / "conf"
FILES = sorted(CONF.glob("*/*.yaml"))


def request(*overrides: str) -> Any:
    return read(Arguments().parse_intermixed_args(list(overrides)), CONF)


def settings(*overrides: str) -> Settings:
    return Settings.build(request(*overrides).points[0].settings)


def run(*overrides: str) -> int:
    return cli.main(overrides, CONF)


class TestFilesAndSignaturesAgree:
    @pytest.mark.parametrize("path", [path for path in FILES if path.parent.name in GROUPS], ids=str)
    def test_pieces(self, path: Path) -> None:
        options = OmegaConf.to_container(OmegaConf.load(path))
        maker = GROUPS[path.parent.name][options.pop("name")]
        parameters = {**inspect.signature(maker).parameters}
        if path.parent.name == "data":
            parameters |= inspect.signature(Companions).parameters
        assert sorted(options) == sorted(parameters)
        for key, value in options.items():
            checked = schema.check_value(key, value, schema.hints_of(maker).get(key, str | None))
            default = parameters[key].default
            assert checked == (list(default) if isinstance(default, tuple) else default)

    def test_every_piece_has_a_file(self) -> None:
        for group, registry in GROUPS.items():
            files = {yaml.safe_load(path.read_text())["name"] for path in (CONF / group).glob("*.yaml")}
            assert files == {name for name in registry.names() if registry[name].__module__.startswith("distkmeans.")}

    def test_the_top_level(self) -> None:
        top = yaml.safe_load((CONF / "config.yaml").read_text())
        general = {key: value for key, value in top.items() if key in schema.hints_of(General)}
        assert set(general) == set(schema.hints_of(General))
        assert {**General(4).__dict__, "plugins": []} == general
        for name in ("run", "scores", "sweep"):
            assert top[name] == PLAIN[name]().__dict__
        for name in ("standard", "none"):
            options = yaml.safe_load((CONF / "report" / f"{name}.yaml").read_text())
            drawn = name == "standard"
            assert options == {**PLAIN["report"]().__dict__, "plots": drawn, "html": drawn, "loggers": []}

    def test_slurm(self) -> None:
        assert yaml.safe_load((CONF / "hydra/launcher/slurm.yaml").read_text()) == SlurmOptions().__dict__

    @pytest.mark.parametrize("path", [*CONF.rglob("*.yaml")], ids=str)
    def test_every_key_says_what_it_is(self, path: Path) -> None:
        if path.parent.name == "experiment":
            assert len(path.read_text().splitlines()[1]) > 20
            return
        for line in path.read_text().split("\nhydra:")[0].splitlines():
            if re.match(r" *\w+: *[^ #]", line) and not line.startswith("name:"):
                assert re.search(r"# .{8}", line), f"{path.name}: {line}"


class TestHelp:
    def test_tells_every_key(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("--help") == 0
        text = capsys.readouterr().out
        for path in FILES:
            if path.parent.name in GROUPS:
                for key in yaml.safe_load(path.read_text()):
                    assert key == "name" or f"{path.parent.name}.{key}=" in text
        for key in ("k=4", "run.device=auto", "sweep.part=null", "hydra.launcher.nodes=1", "experiment=NAME"):
            assert key in text
        assert max(map(len, text.splitlines())) < 160
        assert text.rstrip() == manual(CONF)

    def test_version_and_hydras_own_flags(self, train: Callable[..., subprocess.CompletedProcess[str]]) -> None:
        assert train("--version").stdout == f"distkmeans {distkmeans.__version__}\n"
        told = train("--cfg", "job", "k=7", "init=parallel").stdout
        assert OmegaConf.create(told).k == 7
        assert OmegaConf.create(told).init.rounds == 5


class TestRecipes:
    @pytest.mark.parametrize("path", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
    def test_composes(self, path: Path) -> None:
        found = request("-m", f"experiment={path.stem}", *(["data.path=x.npy"] if path.stem == "embeddings" else []))
        assert all(point.error is None for point in found.points)
        assert [Settings.build(point.settings) for point in found.points]

    def test_the_command_line_has_the_last_word(self) -> None:
        found = settings("experiment=codebook", "data=digits", "k=3", "solver.tol=0.5")
        assert (found.given["data"]["name"], found.general.k, found.given["solver"]["tol"]) == ("digits", 3, 0.5)
        assert found.given["solver"]["max_iter"] == 50

    def test_from_a_folder_of_ones_own(self, tmp_path: Path) -> None:
        (tmp_path / "experiment").mkdir()
        (tmp_path / "experiment" / "mine.yaml").write_text("# @package _global_\nk: 9\ninit:\n  sample: 50\n")
        found = settings("--config-dir", str(tmp_path), "experiment=mine")
        assert (found.general.k, found.given["init"]["sample"]) == (9, 50)


class TestSchema:
    @pytest.mark.parametrize(
        ("hint", "value", "expected"),
        [
            (int, 1e6, 1_000_000),
            (int, np.int64(3), 3),
            (float, 3, 3.0),
            (Annotated[float, Range(0)], 0, 0.0),
            (Annotated[int, Range(1)] | None, None, None),
            (Literal["a", "b"], "b", "b"),
            (Annotated[int, Range(1)] | Literal["auto"], "auto", "auto"),
            (list[int], [1, 2.0], [1, 2]),
        ],
    )
    def test_takes(self, hint: Any, value: Any, expected: Any) -> None:
        found = schema.check_value("key", value, hint)
        assert found == expected
        assert type(found) is type(expected)

    @pytest.mark.parametrize(
        ("hint", "value", "expected"),
        [
            (int, True, "a whole number"),
            (int, 1.5, "a whole number"),
            (int, "3", "a whole number"),
            (float, float("inf"), "a number"),
            (Annotated[float, Range(above=0)], 0, "a number, above 0"),
            (Annotated[int, Range(2, 5)], 6, "a whole number, 2 to 5"),
            (bool, 1, "true or false"),
            (str, None, "text"),
            (Literal["far", "keep"], "kep", "far or keep; did you mean keep?"),
            (list[float], 3.0, "a list, each a number"),
            (list[int], [1, "x"], "a list, each a whole number"),
        ],
    )
    def test_refuses(self, hint: Any, value: Any, expected: str) -> None:
        with pytest.raises(InputError, match=rf"^key={re.escape(schema.written(value))}: expected {expected}"):
            schema.check_value("key", value, hint)

    def test_the_nearest_key_is_found_by_its_last_part_too(self) -> None:
        known = ["k", "seed", "solver.max_iter", "solver.tol", "data.path"]
        assert schema.nearest_key("max_iter", known).endswith("solver.max_iter?")
        assert schema.nearest_key("solver.maxiter", known).endswith("solver.max_iter?")
        assert schema.nearest_key("sead", known).endswith("seed?")
        assert schema.nearest_key("zzz", known) == ""


PLUGIN = '''
import torch
from distkmeans.init import Seeds, inits, seeds_of
from distkmeans.problem import Problem
from typing import Annotated
from distkmeans.schema import Range

@inits.register("{name}")
class First:
    """The first k rows, from an offset on."""

    draws = False

    def __init__(self, offset: Annotated[int, Range(0)] = 0) -> None:
        self.offset = offset

    def __call__(self, problem: Problem, k: int, seed: int) -> Seeds:
        return seeds_of(problem, torch.arange(self.offset, self.offset + k))

class Unregistered:
    pass
'''


class TestPlugins:
    @pytest.fixture(autouse=True)
    def plugin(self, plugins: Path) -> None:
        (plugins / "my_first.py").write_text(PLUGIN.format(name="my_first"))

    def test_a_piece_of_ones_own_is_used_by_name(self, tmp_path: Path) -> None:
        assert run("plugins=[my_first]", "init=my_first", "init.offset=5", "k=3", "run.dir=out", "report=none") == 0
        assert json.loads((tmp_path / "out" / "summary.json").read_text())["seed_rows"] == [5, 6, 7]

    def test_its_signature_is_checked(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run("plugins=[my_first]", "init=my_first", "init.offset=-1") == 1
        assert "init.offset=-1: expected a whole number, 0 or more" in capsys.readouterr().err

    def test_targets_lead_to_registered_pieces_alone(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "init").mkdir()
        (tmp_path / "init" / "mine.yaml").write_text("_target_: my_first.First\noffset: 0\n")
        assert run("--config-dir", ".", "plugins=[my_first]", "init=mine", "k=2", "run.dir=a", "report=none") == 0
        assert json.loads((tmp_path / "a" / "summary.json").read_text())["seed_rows"] == [0, 1]
        for wrong in ("my_first.Unregistered", "os.system", "torch.utils.collect_env.run", "distkmeans.cli.main"):
            assert run("plugins=[my_first]", f"+init._target_={wrong}") == 1
            assert f"init._target_={wrong}: not a registered piece" in capsys.readouterr().err

    def test_a_file_cannot_name_plugins(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "experiment").mkdir()
        (tmp_path / "experiment" / "sly.yaml").write_text("# @package _global_\nplugins: [sly_module]\n")
        (tmp_path / "sly_module.py").write_text("raise SystemExit('imported')\n")
        assert run("--config-dir", ".", "experiment=sly") == 1
        assert "plugins=['sly_module']: set by a file" in capsys.readouterr().err

    def test_a_module_that_fails_is_told(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "broken_plugin.py").write_text("1 / 0\n")
        assert run("plugins=[broken_plugin]") == 1
        told = capsys.readouterr().err
        assert "plugins=[broken_plugin]: cannot be imported (ZeroDivisionError: division by zero)" in told
