"""The pictures and the page of a run. They never cost the run: what goes wrong with them is a warning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distkmeans.errors import RankLostError
from distkmeans.report.outcome import Gathered, Outcome, gather
from distkmeans.report.run_dir import PAGE, RunDir
from distkmeans.report.run_report import run_page
from distkmeans.world import World

SILHOUETTE_ROWS = 2000
"""Sampled rows whose silhouettes are drawn: their cost grows with the square."""


@dataclass(frozen=True)
class Wanted:
    """plots: pictures in plots/. html: the page. sample: rows that pictures are drawn from at most."""

    plots: bool
    html: bool
    sample: int


def show(outcome: Outcome, summary: Mapping[str, Any], directory: RunDir, wanted: Wanted) -> None:
    """Draw the pictures of a run, and write its page, report.html, from its summary. A collective."""
    world = outcome.problem.world
    gathered: list[Gathered] = []
    _tried(world, "report", lambda: gathered.append(gather(outcome, wanted.sample, wanted.html)))
    if world.rank == 0 and gathered:
        drawn: dict[str, bytes] = {}
        folder = directory.path / "plots" if wanted.plots else None
        _tried(world, "pictures", lambda: _draw(outcome, gathered[0], folder, drawn))
        if wanted.html:
            _tried(world, PAGE, lambda: directory.write_text(PAGE, run_page(outcome, gathered[0], drawn, summary)))


def _tried(world: World, what: str, make: Callable[[], None]) -> None:
    try:
        make()
    except RankLostError:
        raise
    except Exception as error:  # whatever the drawing library or a full disk has to say: the results are what counts
        world.warn(f"no {what}: {type(error).__name__}: {error}")


def _draw(outcome: Outcome, gathered: Gathered, folder: Path | None, drawn: dict[str, bytes]) -> None:
    """All pictures, into ``drawn`` and the folder."""
    from distkmeans.report.pictures import Pictures

    problem, solution, total = outcome.problem, outcome.solution, outcome.problem.shard.total
    pictures = Pictures(outcome.title, folder, drawn)
    pictures.clusters(gathered.rows, gathered.labels, solution.centroids, solution.inertia, total)
    pictures.convergence(outcome.records, total)
    pictures.sizes(outcome.sizes)
    if outcome.image:
        transform = outcome.settings["transform"]["name"]
        pictures.centroids(solution.centroids, outcome.sizes, outcome.image, transform)
    _draw_silhouettes(pictures, gathered, len(solution.centroids), problem.shard.total)


def _draw_silhouettes(pictures: Any, gathered: Gathered, clusters: int, total: int) -> None:
    """Not where the sampled rows are all of one cluster, or each of its own."""
    from distkmeans.evaluate.silhouette import silhouettes
    from distkmeans.report.projection import thinned

    some = thinned(len(gathered.rows), SILHOUETTE_ROWS)
    rows, labels = gathered.rows.cpu()[some], gathered.labels.cpu()[some]
    if 2 <= len(labels.unique()) < len(rows):
        pictures.silhouettes(silhouettes(rows, labels), labels, clusters, total)
