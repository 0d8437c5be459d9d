"""TensorBoard reads what report.loggers=[tensorboard] has written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from distkmeans import cli
from tests.conftest import ROOT


@pytest.mark.slow
def test_tensorboard_finds_every_iteration_scores_and_sizes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    settings = ["data=digits", "k=12", "n_init=2", "report=none", "report.loggers=[tensorboard]", "run.dir=out"]
    assert cli.main(settings, ROOT / "conf") == 0
    assert cli.main([*settings, "run.overwrite=true"], ROOT / "conf") == 0
    assert len(list((tmp_path / "out" / "tensorboard").iterdir())) == 1  # of the second run alone
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    records = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    for restart, prefix in ((0, ""), (1, "restart-1/")):
        mine = [record for record in records if record["restart"] == restart]
        for name in ("inertia", "moved", "shift", "seconds"):
            told = [(event.step, event.value) for event in events.Scalars(prefix + name)]
            assert [step for step, _ in told] == [record["iteration"] for record in mine]
            np.testing.assert_allclose([value for _, value in told], [record[name] for record in mine], rtol=1e-6)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["scores"]
    for name, value in summary["scores"].items():
        assert events.Scalars(f"scores/{name}")[0].value == pytest.approx(value, rel=1e-6)
    (histogram,) = events.Histograms("cluster sizes")
    assert histogram.histogram_value.num == 12
    assert histogram.histogram_value.sum == 1797
