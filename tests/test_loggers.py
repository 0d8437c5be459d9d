"""Loggers: one file of the user's own hears of a run; one that fails, or is not installed, is told."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distkmeans import cli
from distkmeans.report.loggers import loggers
from tests.conftest import ROOT
from tests.test_readme import blocks


@pytest.fixture
def own(plugins: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; loggers that are registered in it are forgotten afterwards."""
    loggers.names()
    monkeypatch.setattr(loggers, "_makers", dict(loggers._makers))
    return plugins


def run(*overrides: str) -> int:
    return cli.main(["run.dir=out", "data.n_samples=60", "report=none", *overrides], ROOT / "conf")


def test_a_logger_of_ones_own_as_the_docs_show_it(own: Path) -> None:
    (code,) = blocks("python", (ROOT / "docs" / "report.md").read_text())
    (own / "lines.py").write_text(code)
    shown = re.search(r"used by: python train.py (.*)", code)
    assert shown
    assert run(*shown[1].replace("'", "").split(maxsplit=1), "n_init=2") == 0
    told = [line.split(",") for line in (own / "out" / "inertia.csv").read_text().splitlines()]
    records = [json.loads(line) for line in (own / "out" / "metrics.jsonl").read_text().splitlines()]
    assert told == [[str(each["restart"]), str(each["iteration"]), repr(each["inertia"])] for each in records]


LOGGER = """
from distkmeans.report.loggers import loggers

heard = []

@loggers.register("ears")
class Ears:
    def __init__(self, fails: str = "") -> None:
        self.fails = fails

    def hear(self, what, *told):
        heard.append((what, *told))
        if what == self.fails:
            raise OSError("deaf")

    def open(self, folder, settings):
        self.hear("open", folder.name, settings["k"])

    def record(self, restart, record):
        self.hear("record", restart, record.iteration)

    def end(self, summary, sizes):
        self.hear("end", summary["inertia"], sizes)

    def close(self):
        self.hear("close")
"""


def heard_of(own: Path, *overrides: str) -> tuple[int, list[Any]]:
    (own / "ears.py").write_text(LOGGER)
    status = run("plugins=[ears]", *overrides)
    return status, sys.modules["ears"].heard


def test_a_logger_hears_all_in_order(own: Path) -> None:
    status, heard = heard_of(own, "report.loggers=[ears]", "k=3")
    summary = json.loads((own / "out" / "summary.json").read_text())
    assert status == 0
    assert heard[0] == ("open", "out", 3)
    assert heard[1:-2] == [("record", 0, step + 1) for step in range(summary["iterations"])]
    assert heard[-2][:2] == ("end", summary["inertia"])
    labels = np.load(own / "out" / "labels" / "part-00000-of-00001.npy")
    assert heard[-2][2].tolist() == np.bincount(labels, minlength=3).tolist()
    assert heard[-1] == ("close",)


def test_a_logger_that_fails_is_told_once_and_hears_no_more(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, heard = heard_of(own, "report.loggers=[{name: ears, fails: record}]")
    assert status == 0
    assert [what for what, *_ in heard] == ["open", "record"]
    assert capsys.readouterr().err.count("logger Ears failed and hears no more: OSError: deaf") == 1


def test_a_run_that_fails_closes_its_loggers(own: Path) -> None:
    status, heard = heard_of(own, "report.loggers=[ears]", "solver.empty=fail", "data.centers=2", "data.cluster_std=0")
    assert status == 1
    assert [heard[0][0], heard[-1][0]] == ["open", "close"]
    assert "end" not in [what for what, *_ in heard]


def test_mistakes_are_told_before_anything_is_read(
    own: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    for given, told in (
        ("[tensorboard]", "report.loggers=[tensorboard]: needs tensorboard; pip install 'distkmeans[tensorboard]'"),
        ("[tensorbord]", "report.loggers=tensorbord: unknown; expected tensorboard; did you mean tensorboard?"),
        ("[{name: tensorboard, port: 1}]", "report.loggers.port: unknown key"),
        ("tensorboard", "report.loggers=tensorboard: expected a list"),
    ):
        assert run(f"report.loggers={given}") == 1
        assert told in capsys.readouterr().err
        assert not (own / "out").exists()
