"""Which k: the elbow and the best silhouette, in one sentence, one picture and the page of the sweep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from matplotlib.image import imread

from distkmeans import cli
from distkmeans.report.choice import choose, elbow
from distkmeans.report.table import Row, Table
from tests.conftest import ROOT
from tests.test_report import Parsed


def row(k: object, inertia: float | None = 1.0, score: float | None = None, **overrides: str) -> Row:
    status = "failed" if inertia is None else "done"
    scores: Mapping[str, float] = {} if score is None else {"silhouette": score}
    return Row(f"k={k}", {"k": str(k), **overrides}, status, inertia=inertia, seconds=0.1, iterations=1, scores=scores)


def sentence(*rows: Row) -> str:
    choice = choose(Table(Path("s"), list(rows)))
    assert choice is not None
    return choice.sentence


class TestElbow:
    def test_is_where_a_curve_bends(self) -> None:
        for bend in (3, 5, 8):
            costs = [100.0 - 20 * k if k <= bend else 100.0 - 20 * bend - (k - bend) for k in range(2, 13)]
            assert elbow(range(2, 13), costs) == bend

    def test_is_the_largest_distance_from_the_chord(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(50):
            ks = np.sort(rng.choice(60, 9, replace=False)) + 1
            costs = np.sort(rng.random(9))[::-1] ** 3
            x, y = (ks - ks[0]) / (ks[-1] - ks[0]), (costs - costs[-1]) / (costs[0] - costs[-1])
            distances = (1 - x - y) / np.sqrt(2)  # of (x, y) from the line through (0, 1) and (1, 0)
            expected = int(ks[distances.argmax()]) if distances.max() > 1e-12 else None
            assert elbow(ks.tolist(), costs.tolist()) == expected

    @pytest.mark.parametrize("costs", [[3.0, 2.0], [3.0, 3.0, 3.0], [3.0, 2.0, 1.0], [3.0, 2.9, 0.0], [1.0, 2.0, 3.0]])
    def test_there_may_be_none(self, costs: list[float]) -> None:
        assert elbow(range(1, len(costs) + 1), costs) is None


class TestSentence:
    def test_names_the_best_k_and_the_elbow(self) -> None:
        rows = [row(k, 100 / k**2, 0.78 if k == 4 else 0.5) for k in range(2, 13)]
        assert sentence(*rows) == "best k = 4: silhouette 0.78 (2 to 12 tried); the elbow is at k = 4"

    def test_ties_go_to_the_smaller_k(self) -> None:
        assert sentence(row(2, 9, 0.5), row(3, 4, 0.6), row(5, 3, 0.6)).startswith("best k = 3:")

    def test_tells_what_failed(self) -> None:
        told = sentence(row(2, 9.0, 0.4), row(3, None), row(4, 3.0, 0.5), row(8, 2.0, 0.2))
        assert told == "best k = 4: silhouette 0.50 (2, 3, 4 and 8 tried, 1 without a result); the elbow is at k = 4"

    def test_without_scores(self) -> None:
        told = sentence(*(row(k, 100 / k) for k in (1, 2, 4, 8, 16, 32, 64)))
        assert told == "the elbow is at k = 8 (7 values from 1 to 64 tried); evaluate=[silhouette] tells the best k"

    def test_scores_that_are_not_defined_are_passed_over(self) -> None:
        assert sentence(row(1, 9.0), row(2, 4.0, -0.25), row(3, 3.0)).startswith("best k = 2: silhouette -0.25 (1 to 3")

    def test_two_points_and_one(self) -> None:
        assert sentence(row(2, 9.0, 0.1), row(3, 8.0, 0.2)).endswith("; an elbow needs three values of k")
        told = sentence(row(2, 9.0, 0.1), row(3, None))
        assert told == "only k = 2 is done (2 to 3 tried, 1 without a result): there is nothing to choose from"

    def test_the_best_of_several_solutions_counts(self) -> None:
        rows = [
            row(k, cost + seed, 0.5 - cost / 100 + seed / 10, seed=str(seed))
            for k, cost in ((2, 9), (3, 2), (4, 1))
            for seed in (0, 1)
        ]
        choice = choose(Table(Path("s"), rows))
        assert choice is not None
        assert (choice.ks, choice.inertias, choice.best, choice.elbow) == ([2, 3, 4], [9.0, 2.0, 1.0], 4, 3)

    def test_other_problems_are_kept_apart(self) -> None:
        rows = [row(k, k + 5.0, 0.3, transform="none") for k in (2, 3)]
        rows += [row(k, 90.0 / k, 0.2 * k, transform="standardize") for k in (2, 3, 4)]
        assert sentence(*rows).startswith("best k = 4 with transform=standardize: silhouette 0.80 (2 to 4 tried)")

    def test_points_of_other_problems_are_not_marked(self) -> None:
        here, there = (row(4, 2.0, 0.8, transform=name) for name in ("standardize", "none"))
        other = row(3, 9.0, 0.7, transform="standardize", seed="1")
        choice = choose(Table(Path("s"), [here, other]))
        assert choice is not None
        assert [choice.marks(point) for point in (here, other, there)] == [["best k"], [], []]

    def test_the_method_tells_of_what_was_found(self) -> None:
        for score, words in ((0.5, "The best k has the largest silhouette, "), (None, "The elbow is where ")):
            choice = choose(Table(Path("s"), [row(2, 9.0, score), row(3, 8.0, score)]))
            assert choice is not None
            assert choice.method.startswith(words)

    def test_nothing_is_said_where_k_does_not_vary(self) -> None:
        assert choose(Table(Path("s"), [row(2, seed="1"), row(2, seed="2")])) is None
        assert choose(Table(Path("s"), [row(2, None), row(3, None)])) is None
        assert choose(Table(Path("s"), [Row("x", {"init": "random"}, "done", inertia=1.0)])) is None


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sweep(*overrides: str) -> int:
    return cli.main(["-m", "run.dir=s", *overrides], ROOT / "conf")


def test_the_recipe_ends_in_one_sentence_and_one_picture(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("experiment=choose_k", "k=2,3,4,5,6,0", "data.n_samples=400", "report.plots=false", "n_init=1") == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("distkmeans: best k = 4: silhouette 0.7")
    assert told.endswith("(0, 2, 3, 4, 5 and 6 tried, 1 without a result); the elbow is at k = 3")
    assert min(imread(here / "s" / "sweep.png").shape[:2]) > 800
    found = Parsed((here / "s" / "report.html").read_text())
    assert told.removeprefix("distkmeans: best") in found.text
    links = [reference for reference in found.refers if not reference.startswith("data:")]
    assert links == [f"k%3D{k}/report.html" for k in range(2, 7)]
    assert all((here / "s" / unquote(link)).is_file() for link in links)
    assert "k=4 (best k)" in found.text
    assert "k=3 (elbow)" in found.text
    assert "k=0: expected a whole number, 1 or more" in found.text


def test_the_recipe_holds_the_values_of_k_and_leaves_the_data_to_the_user(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-m", "experiment=choose_k", "data=digits", "--cfg", "job"], ROOT / "conf") == 0
    told = capsys.readouterr().out
    assert [line for line in told.splitlines() if line.startswith("# ")] == [f"# k={k}" for k in range(2, 21)]
    assert told.count("name: digits") == 19


def test_a_sweep_over_something_else_has_its_table_and_bars(here: Path) -> None:
    assert sweep("init=random,plus_plus", "data.n_samples=60", "report.plots=false", "evaluate=[]") == 0
    found = Parsed((here / "s" / "report.html").read_text())
    assert "init=random" in found.text
    assert "best k" not in found.text
    assert found.tags.count("figure") == 1


def test_no_page_is_written_where_no_point_has_one(here: Path) -> None:
    assert sweep("k=2,3", "data.n_samples=60", "report=none", "evaluate=[]") == 0
    assert (here / "s" / "sweep.png").exists()
    assert not (here / "s" / "report.html").exists()
