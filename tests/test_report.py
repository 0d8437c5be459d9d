"""The page of a run: whole, escaped, the same at any world size, and never the end of the run."""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

from distkmeans import cli
from distkmeans.errors import InputError
from distkmeans.report.claim import check_free
from distkmeans.report.comparison import Comparison
from distkmeans.report.elbow import draw
from distkmeans.report.history import Run, in_words
from distkmeans.report.html import Html, element, escaped, page, table
from distkmeans.report.listing import as_table
from distkmeans.report.pictures import Pictures
from distkmeans.report.projection import project, thinned
from distkmeans.report.run_dir import RunDir
from distkmeans.report.table import Row, Table
from distkmeans.report.thumbnails import thumbnails
from distkmeans.world import World
from tests.conftest import ROOT
from tests.worlds import Ranks

CLUSTERS = re.compile(r"<article>.*?</article>", re.DOTALL)


class Parsed(HTMLParser):
    """Tags in a page, what they refer to, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.refers: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.refers += [str(value) for name, value in attributes if name in ("src", "href", "srcset", "data", "action")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag  # every element is closed, in order

    def handle_data(self, text: str) -> None:
        self.text += text


def run(*overrides: str) -> int:
    return cli.main(["run.dir=out", *overrides], ROOT / "conf")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_of_digits_holds_all_of_it_and_needs_nothing_else(here: Path) -> None:
    assert run("data=digits", "k=10", "evaluate=[silhouette,ari]") == 0
    text = (here / "out" / "report.html").read_text()
    found = Parsed(text)
    assert not found.open
    assert len(text) < 1_000_000
    assert "default-src &#x27;none&#x27;" in text
    assert 'name="viewport" content="width=device-width' in text
    assert "script" not in found.tags
    assert "link" not in found.tags
    assert all(reference.startswith("data:image/png;base64,") for reference in found.refers)
    assert not re.search(r"url\(|@import|https?:", text)
    assert found.tags.count("figure") == 5
    assert found.tags.count("article") == 10
    assert text.count('class="face"') == 10 * 6  # a centroid and five rows each
    summary = json.loads((here / "out" / "summary.json").read_text())
    for words in (
        *("digits: 1,797 rows, k = 10", f"{summary['inertia']:,.0f}", f"{summary['scores']['silhouette']:.4g}"),
        *("How good", "Pictures", "Clusters and their nearest rows", "What was run", "Time and memory"),
        *("How it was computed", "Exact: every label is proved", summary["kernel"], f"{summary['seconds']['fit']:.3f}"),
    ):
        assert words in found.text
    assert sorted(path.name for path in (here / "out" / "plots").iterdir()) == [
        *("centroids.png", "clusters.png", "inertia.png", "silhouette.png", "sizes.png"),
    ]


def test_what_users_name_is_escaped(here: Path) -> None:
    evil = "<script>alert(1)</script>"
    folder = here / "<img src=x onerror=alert(2)>"
    folder.mkdir()
    np.save(folder / "x.npy", np.random.default_rng(0).standard_normal((40, 3)))
    Path("ids.txt").write_text("\n".join(f"{row}'\"&{evil}" for row in range(40)), encoding="utf-8")
    path = f'data.path="{folder.name}/x.npy"'
    assert run("data=npy", path, "data.ids=ids.txt", "k=3") == 0
    text = (here / "out" / "report.html").read_text()
    found = Parsed(text)
    assert "script" not in found.tags
    assert all(reference.startswith("data:") for reference in found.refers)
    assert text.count("onerror") == text.count("&lt;img src=x onerror") > 0
    assert f"'\"&{evil}" in found.text


def test_the_configuration_is_told_as_it_was_written(here: Path) -> None:
    np.save("Größe.npy", np.random.default_rng(0).standard_normal((40, 3)))
    assert run("data=npy", 'data.path="Größe.npy"', "k=3", "report.plots=false") == 0
    text = Parsed((here / "out" / "report.html").read_text(encoding="utf-8")).text
    assert "  path: Größe.npy" in text
    assert "\\x" not in text


def page_of_rank(rank: int, folder: Path, overrides: list[str]) -> int:
    os.chdir(folder)
    return cli.main(overrides, ROOT / "conf")


def test_clusters_and_nearest_rows_are_the_same_on_three_ranks(here: Path, ranks: Callable[[int], Ranks]) -> None:
    np.save("x.npy", np.random.default_rng(3).integers(0, 9, (700, 8)).astype(np.float32))
    Path("ids.txt").write_text("\n".join(f"digit {row}" for row in range(700)))
    data = ["data=npy", "data.path=x.npy", "data.ids=ids.txt"]
    settings = [*data, "k=12", "transform=standardize", "report.plots=false", "evaluate=[]"]
    assert run(*settings) == 0
    assert ranks(3)(page_of_rank, here, [*settings, "run.dir=three"]) == [0, 0, 0]
    alone, three = ((here / name / "report.html").read_text() for name in ("out", "three"))
    assert CLUSTERS.findall(alone) == CLUSTERS.findall(three)
    assert len(CLUSTERS.findall(alone)) == 12
    labels = {}
    import pyarrow.parquet

    for part in (here / "out" / "labels").iterdir():
        rows = pyarrow.parquet.read_table(part)
        labels |= dict(zip(rows["id"].to_pylist(), rows["label"].to_pylist(), strict=True))
    for card in CLUSTERS.findall(alone):
        cluster, shown = int(re.findall(r"Cluster (\d+)", card)[0]), re.findall(r"id (digit \d+)<", card)
        assert len(shown) == 5
        assert {labels[name] for name in shown} == {cluster}
    assert not (here / "out" / "plots").exists()
    assert alone.count("<figure") == 4  # drawn for the page alone


def test_rows_of_several_files_are_told_by_their_files(here: Path) -> None:
    Path("x").mkdir()
    x = np.random.default_rng(1).standard_normal((60, 2))
    for name, part in (("a", x[:20]), ("b", x[20:])):
        np.save(f"x/{name}.npy", part)
    assert run("data=npy", "data.path=x", "k=2", "report.plots=false") == 0
    found = dict(
        re.findall(r"<b>row (\d+)</b> <small>x/b\.npy, row (\d+)<", (here / "out" / "report.html").read_text())
    )
    assert found
    assert all(int(row) == int(within) + 20 for row, within in found.items())
    text = Parsed((here / "out" / "report.html").read_text()).text
    assert "60 x 2 float64" in text
    assert "2, from x/a.npy to x/b.npy" in text


def test_a_page_or_pictures_that_fail_do_not_cost_the_run(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("distkmeans.report.show.run_page", lambda *_: 1 / 0)
        assert run("data.n_samples=60") == 0
    assert "no report.html: ZeroDivisionError" in capsys.readouterr().err
    assert (here / "out" / "summary.json").exists()
    assert not (here / "out" / "report.html").exists()
    with monkeypatch.context() as patch:
        patch.setattr("distkmeans.report.pictures.Pictures.sizes", lambda *_: 1 / 0)
        assert run("data.n_samples=60", "run.overwrite=true") == 0
    assert (here / "out" / "report.html").read_text().count("<figure") == 2  # those drawn before
    with monkeypatch.context() as patch:
        patch.setattr("distkmeans.report.show.gather", lambda *_: 1 / 0)
        assert run("data.n_samples=60", "run.overwrite=true") == 0
    assert "no report: ZeroDivisionError" in capsys.readouterr().err


def test_a_page_promises_no_more_than_was_proved(here: Path) -> None:
    settings = ["precision=fast", "transform=standardize", "evaluate=[silhouette]", "scores.silhouette_rows=30"]
    assert run("data.n_samples=60", *settings, "report.plots=false") == 0
    text = Parsed((here / "out" / "report.html").read_text()).text
    assert "precision=fast: labels are not proved" in text
    assert "The silhouette is that of 30 sampled rows." in text
    assert "Exact: every label" not in text
    assert "Distances are Euclidean, after the transform." in text


def test_an_overwritten_page_goes(here: Path) -> None:
    assert run("data.n_samples=60", "report.plots=false") == 0
    assert run("data.n_samples=60", "report=none", "run.overwrite=true") == 0
    assert not (here / "out" / "report.html").exists()


@pytest.mark.parametrize(
    "overrides",
    [
        ["k=1"],  # no silhouettes
        ["k=40", "data.n_samples=40"],  # every row alone
        pytest.param(
            ["k=300", "data.n_samples=4000"], marks=pytest.mark.slow
        ),  # more clusters than are shown, and sizes as a curve
        ["k=3", "data.n_features=1"],
        ["k=3", "data.n_features=1500", "data.n_samples=30"],  # fewer rows than columns
        ["k=4", "data.n_samples=40", "data.cluster_std=0", "data.centers=2"],  # empty clusters, all distances 0
    ],
    ids=str,
)
def test_corner_cases_are_drawn(overrides: list[str], here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*overrides, "report.plots=false", "solver.max_iter=3") == 0
    text = (here / "out" / "report.html").read_text()
    assert not Parsed(text).open
    assert text.count("<figure") >= 3
    assert text.count("<article") <= 50
    assert len(text) < 3_000_000
    assert "no pictures" not in capsys.readouterr().err


class TestHtml:
    def test_all_but_html_is_escaped(self) -> None:
        assert element("a", "<&", Html("<b>x</b>"), href="\"'<") == '<a href="&quot;&#x27;&lt;">&lt;&amp;<b>x</b></a>'
        assert escaped(escaped("<")) == "&lt;"
        assert "<i>" not in page("<i>", "<i>", table(["<i>"], [["<i>", 1.0]]))

    def test_names_that_are_not_utf_8_can_be_written(self) -> None:
        assert "a?b.npy" in page("x", os.fsdecode(b"a\xffb.npy"))

    def test_numbers_are_told_as_people_read_them(self) -> None:
        assert re.findall(r'number">([^<]*)<', table(["x"], [[1797, 1204868.3, 0.0123456]])) == [
            *("1,797", "1,204,868", "0.01235"),
        ]


class TestThumbnails:
    def read(self, png: bytes) -> np.ndarray:
        return np.rint(matplotlib.image.imread(io.BytesIO(png)) * 255).astype(int)

    def test_bytes_are_shown_as_they_are(self) -> None:
        grey = np.arange(12, dtype=np.uint8).reshape(1, 12)
        assert (self.read(thumbnails(grey, (3, 4))[0]) == grey.reshape(3, 4)).all()
        colour = np.random.default_rng(0).integers(0, 256, (2, 60), dtype=np.uint8)
        for row, png in zip(colour, thumbnails(colour, (4, 5, 3)), strict=True):
            assert (self.read(png) == row.reshape(4, 5, 3)).all()

    def test_others_from_black_to_white(self) -> None:
        shown = [self.read(png) for png in thumbnails(np.array([[-1.0, 0.0], [0.0, 1.0]]), (1, 2))]
        assert [pixels.ravel().tolist() for pixels in shown] == [[0, 128], [128, 255]]
        assert self.read(thumbnails(np.full((1, 4), 7.0), (2, 2, 1))[0]).max() == 0

    def test_large_pictures_are_thinned(self) -> None:
        assert self.read(thumbnails(np.zeros((1, 100 * 40), dtype=np.uint8), (100, 40))[0]).shape == (25, 10)


class TestProjection:
    @pytest.mark.parametrize("shape", [(200, 5), (8, 30), (1, 4)])
    def test_axes_are_those_of_largest_variance(self, shape: tuple[int, int]) -> None:
        rows = torch.from_numpy(np.random.default_rng(0).standard_normal(shape) * np.arange(1, shape[1] + 1))
        flat, _, names = project(rows, rows[:1])
        expected = torch.linalg.svdvals(rows - rows.mean(0))
        got = np.sort(np.sqrt((flat**2).sum(0)))[::-1]
        np.testing.assert_allclose(got, [*expected.tolist(), 0.0][:2], rtol=1e-9, atol=1e-12)
        assert names[0].startswith("principal axis 1 (")

    def test_a_thinned_sample_is_spread_evenly(self) -> None:
        assert thinned(5, 10).tolist() == [0, 1, 2, 3, 4]
        assert thinned(10, 4).tolist() == [0, 2, 5, 7]

    @pytest.mark.parametrize("shape", [(200, 5), (8, 30)])
    @pytest.mark.parametrize("scale", [2.0**900, 2.0**-700])
    def test_values_of_any_size(self, shape: tuple[int, int], scale: float) -> None:
        rows = torch.from_numpy(np.random.default_rng(0).standard_normal(shape))
        flat, _, names = project(rows, rows[:1])
        scaled, _, scaled_names = project(rows * scale, rows[:1] * scale)
        np.testing.assert_allclose(scaled, flat * scale, rtol=1e-6)
        assert names == scaled_names


class TestPictures:
    def shades(self, png: bytes) -> np.ndarray:
        return np.rint(matplotlib.image.imread(io.BytesIO(png))[..., :3] * 255).astype(int)

    @pytest.mark.parametrize("clusters", [10, 400])
    def test_every_silhouette_is_seen_however_small_its_cluster(self, clusters: int) -> None:
        drawn: dict[str, bytes] = {}
        labels = torch.arange(clusters)
        Pictures("x", None, drawn).silhouettes(torch.full((clusters,), 0.5).double(), labels, clusters, clusters)
        colours = self.shades(drawn["silhouette.png"])
        assert ((colours.max(2) - colours.min(2) > 10) | (colours.max(2) < 200)).mean() > 0.3

    def test_dollar_signs_are_no_formulas(self, tmp_path: Path) -> None:
        folder = tmp_path / "$a_$"
        folder.mkdir()
        rows = [Row("x", {"k": str(k), "data.path": "$b_$"}, "done", inertia=9.0 / k, seconds=0.1) for k in (2, 3)]
        for number, some in enumerate((rows, rows[:1])):  # curves, and bars
            draw(tmp_path / f"{number}.png", Table(folder, some), None)
            assert (tmp_path / f"{number}.png").exists()


class TestRunsOfOthers:
    def of(self, inertia: float, **scores: float) -> Run:
        return Run(Path("x"), "finished", summary={"inertia": inertia, "scores": scores})

    def test_a_change_has_the_sign_of_the_difference(self, tmp_path: Path) -> None:
        told = Comparison.of(self.of(-4.0), self.of(-3.0), ({}, {})).text()
        assert "+25 %" in told
        assert Comparison.of(self.of(4.0), self.of(3.0), ({}, {})).text().count("-25 %") == 1

    def test_names_of_scores_and_settings_cannot_command_the_terminal(self) -> None:
        run = self.of(1.0, **{"\x1b[2J": 1.0})
        for told in (as_table([run]), Comparison.of(run, run, ({"\x1b[3J": 1}, {})).text()):
            assert "?[2J" in told
            assert "\x1b" not in told

    def test_digits_of_any_script_sort(self) -> None:
        assert sorted(["k=10", "k=9²", "k=9", "k=²", "k=٣"], key=in_words)[:3] == ["k=9", "k=9²", "k=10"]


class TestDirectories:
    def test_a_name_that_is_too_long(self, here: Path) -> None:
        with pytest.raises(InputError, match=r"run\.dir=x{300}: File name too long; choose another"):
            check_free("x" * 300, False, False)

    def test_what_cannot_be_replaced_is_a_mistake(self, here: Path) -> None:
        Path("plots/clusters.png").mkdir(parents=True)
        with pytest.raises(InputError, match=r"run.dir=.*; make room, or choose another directory"):
            RunDir(World(), here, replaces=True).begin({})

    def test_a_table_that_a_spreadsheet_has_saved(self, here: Path) -> None:
        Path("a").mkdir()
        Path("a/failed.json").write_text('{"error": "of\\nlines", "data_reads": 0}')
        line = "k,data.path,status,error,dir\n4,ü.npy,done,,a\n"
        Path("sweep.csv").write_bytes(line.encode("utf-8-sig"))
        (found,) = Table.read(here, {}).rows
        assert found.overrides == {"k": "4", "data.path": "ü.npy"}
        assert Table.read(here, {}).text().splitlines()[1:] == ["4  ü.npy      failed  of lines"]
        Path("sweep.csv").write_bytes(line.encode("latin-1"))
        with pytest.raises(InputError, match=r"sweep\.csv: cannot be read .*; save it as UTF-8, or remove it"):
            Table.read(here, {})
