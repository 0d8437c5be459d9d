"""The pages of runs and sweeps in a headless Chromium: on a phone, on a screen, in the dark and on paper."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from distkmeans import cli
from tests.conftest import ROOT
from tests.slow.chromium import Browser, binary

pytestmark = pytest.mark.slow

PAGES = ("digits", "wide", "sweep", "bars")
PHONE, SCREEN = (390, 844), (1280, 900)
OVERFLOW = "document.documentElement.scrollWidth - window.innerWidth"
CLIPPED = """[...document.querySelectorAll('.wide, dl, article, figure, pre, p, h1')]
    .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.className || e.tagName)"""
BROKEN = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
CONTRAST = """(() => {
    const light = c => { const v = c.match(/[0-9.]+/g).slice(0, 3).map(x => x / 255)
        .map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
        return 0.2126 * v[0] + 0.7152 * v[1] + 0.0722 * v[2] };
    const ground = e => { while (e) { const c = getComputedStyle(e).backgroundColor;
        if (!/, 0\\)/.test(c)) return c; e = e.parentElement } return 'rgb(255, 255, 255)' };
    return Math.min(...[...document.querySelectorAll('p, h1, h2, h3, dt, dd, th, td, a, small, b, summary, figcaption')]
        .filter(e => e.textContent.trim()).map(e => { const a = light(getComputedStyle(e).color), b = light(ground(e));
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) })) })()"""
"""The least contrast of text with what is behind it, by WCAG 2.1."""
SECTIONS = {
    "digits": (
        *("digits: 1,797 rows, k = 10", "How good", "silhouette", "Pictures", "Clusters and their nearest rows"),
        *("Cluster 9", "What was run", "Time and memory", "How it was computed", "Exact: every label"),
    ),
    "sweep": ("a sweep of 4 runs", "the elbow is at k", "Picture", "Runs", "k=5", "Kneedle"),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The pages of a run on images, of one with long names, of a sweep over k, and of one with failures."""
    root = tmp_path_factory.mktemp("pages")
    name = "a_rather_long_name_without_any_place_to_break_" * 4
    with contextlib.chdir(root):
        Path("ids.txt").write_text("\n".join(f"{name}{row}.png" for row in range(1797)))
        assert cli.main(["data=digits", "k=10", "evaluate=[auto,silhouette]", "run.dir=digits"], ROOT / "conf") == 0
        assert cli.main(["data=digits", "data.ids=ids.txt", "k=60", "run.dir=wide"], ROOT / "conf") == 0
        sweep = ["-m", "experiment=choose_k", "k=3,4,5,6", "data.n_samples=600", "run.dir=sweep"]
        assert cli.main(sweep, ROOT / "conf") == 0
        bars = [
            "-m",
            "init=random,plus_plus,nowhere",
            "seed=1,2",
            "data=digits",
            "evaluate=[auto,silhouette,stability]",
        ]
        assert cli.main([*bars, "run.dir=bars"], ROOT / "conf") == 1
    return {page: root / page / "report.html" for page in PAGES}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not binary():
        assert not os.environ.get("CI"), "no Chromium here: apt-get install chromium"
        pytest.skip("no Chromium here: apt-get install chromium")
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, SCREEN], ids=["phone", "screen"])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_whole_and_legible(
    page: str, size: tuple[int, int], dark: bool, browser: Browser, pages: dict[str, Path]
) -> None:
    browser.visit(pages[page], *size, dark=dark)
    assert browser.complaints == []
    assert [url for url in browser.requests if not url.startswith("data:")] == [pages[page].as_uri()]
    assert browser.value(OVERFLOW) <= 0
    assert browser.value("window.innerWidth") == size[0]
    clipped = browser.value(CLIPPED)
    assert [each for each in clipped if not each.startswith("wide")] == []  # a wide table scrolls by itself
    assert browser.value(BROKEN) == 0
    assert browser.value("document.images.length") >= 1
    assert browser.value(CONTRAST) >= 4.5
    assert browser.value("parseFloat(getComputedStyle(document.body).fontSize)") >= 16


@pytest.mark.parametrize("page", SECTIONS)
def test_a_page_prints_with_all_of_it(page: str, browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    assert shutil.which("pdftotext"), "no pdftotext here: apt-get install poppler-utils"
    browser.visit(pages[page], *SCREEN, dark=True)
    printed = tmp_path / "printed.pdf"
    printed.write_bytes(browser.pdf())
    text = subprocess.run(["pdftotext", "-layout", printed, "-"], capture_output=True, text=True, check=True).stdout
    for words in SECTIONS[page]:
        assert words in text
    sheets = text.count("\f")
    assert 1 <= sheets <= 6


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_clipped_on_paper(page: str, browser: Browser, pages: dict[str, Path]) -> None:
    browser.visit(pages[page], 690, 1000)  # what a sheet of A4 leaves between its margins
    browser.media("print", dark=True)
    assert browser.value(OVERFLOW) <= 0
    assert browser.value(CLIPPED) == []
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_sweeps_page_leads_to_those_of_its_runs(browser: Browser, pages: dict[str, Path]) -> None:
    browser.visit(pages["sweep"], *PHONE)
    links = browser.value("[...document.querySelectorAll('a')].map(a => a.href)")
    assert len(links) == 4
    for link in links:
        browser.events.clear()
        browser.call("Page.navigate", url=link)
        while not any(event["method"] == "Page.loadEventFired" for event in browser.events):
            browser._next()
        assert browser.value("document.querySelector('h1').textContent").startswith("blobs: 600 rows, k = ")
