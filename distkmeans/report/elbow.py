"""sweep.png: what the points of a sweep came to; over k, where k varies: the elbow and the best k."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from distkmeans.report.choice import SCORES, Choice
from distkmeans.report.pictures import GREY, RED, SIZE, blank, literal
from distkmeans.report.table import Row, Table

MOST_LINES = 10
MOST_BARS = 40
LABEL = 40
"""Characters of a bar's label."""

Panel = tuple[str, Callable[[Row], float | None]]
"""A heading, and what it shows of a point."""


def draw(path: Path, table: Table, choice: Choice | None) -> None:
    """Draw the points that are done, one panel below the other, and mark what was chosen."""
    rows = [row for row in table.rows if row.status == "done"]
    panels, curves = _panels(rows), _curves(rows)
    height = 3.1 if curves else 0.9 + 0.21 * min(len(rows), MOST_BARS)
    figure = blank((SIZE[0], 0.4 + height * len(panels)))
    figure.suptitle(literal(f"{table.folder.name}: {len(rows)} runs"), fontsize=9)
    for place, (label, value) in enumerate(panels):
        axes = figure.add_subplot(len(panels), 1, place + 1)
        axes.grid(alpha=0.2)
        if curves:
            _draw_curves(axes, curves, value, legend=place == 0)
            axes.set_ylabel(label)
        else:
            _draw_bars(axes, rows[:MOST_BARS], value)
            axes.set_xlabel(label)
    if curves and choice:
        _mark(figure.axes, choice)
    figure.savefig(path)


def _panels(rows: list[Row]) -> list[Panel]:
    """Inertia, and the silhouette where it is known, else the time."""
    panels: list[Panel] = [("inertia", lambda row: row.inertia)]
    score = next((name for name in SCORES if any(row.scores.get(name) is not None for row in rows)), None)
    if score:
        return [*panels, (score.replace("_", " "), lambda row: row.scores.get(score))]
    return [*panels, ("seeding and solving (s)", lambda row: row.seconds)]


def _curves(rows: list[Row]) -> dict[str, list[tuple[int, Row]]]:
    """(k, row) for every combination of the other overrides, ascending in k; {} where k does not vary."""
    if len({row.overrides.get("k") for row in rows}) < 2 or not all(_is_number(row.overrides.get("k")) for row in rows):
        return {}
    curves: dict[str, list[tuple[int, Row]]] = {}
    for row in rows:
        others = ", ".join(f"{key}={value}" for key, value in row.overrides.items() if key != "k")
        curves.setdefault(others, []).append((int(row.overrides["k"]), row))
    return {name: sorted(curve, key=lambda place: place[0]) for name, curve in curves.items()}


def _is_number(text: str | None) -> bool:
    return text is not None and text.isdecimal()


def _draw_curves(
    axes: Any, curves: dict[str, list[tuple[int, Row]]], value: Callable[[Row], float | None], legend: bool
) -> None:
    for others, curve in list(curves.items())[:MOST_LINES]:
        known = [(k, value(row)) for k, row in curve if value(row) is not None]
        label = literal(others) or None
        axes.plot([k for k, _ in known], [y for _, y in known], marker="o", markersize=3.5, label=label)
    ks = sorted({k for curve in curves.values() for k, _ in curve})
    if ks[-1] > 20 * ks[0]:
        axes.set_xscale("log", base=2)
    axes.set_xticks(ks if len(ks) <= 20 else ks[:: -(-len(ks) // 12)])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set_xlabel("k (clusters)")
    if axes.get_ylim()[0] > 0:
        axes.set_ylim(bottom=0)
    if legend and any(curves):
        more = len(curves) - MOST_LINES
        axes.legend(fontsize=7, title=f"{more} more not shown" if more > 0 else None)


def _mark(panels: list[Any], choice: Choice) -> None:
    """A ring and a line where the elbow and the best k are, and the chord that the elbow is farthest from."""
    knee, best = choice.elbow, choice.best
    if knee:
        if panels[0].get_xscale() == "linear":
            panels[0].plot(choice.ks[:: len(choice.ks) - 1], choice.inertias[:: len(choice.ks) - 1], ":", color=GREY)
        _ring(panels[0], knee, choice.inertias[choice.ks.index(knee)], f"elbow: k = {knee}")
    if best:
        value = choice.scores[choice.ks.index(best)]
        assert value is not None
        _ring(panels[1], best, value, f"best: k = {best}, {value:.3g}")


def _ring(axes: Any, k: int, value: float, text: str) -> None:
    axes.axvline(k, color=RED, linestyle="--", linewidth=1)
    axes.plot(
        [k], [value], marker="o", markersize=9, markerfacecolor="none", markeredgecolor=RED, linestyle="", clip_on=False
    )
    axes.set_title(text, loc="right", fontsize=9, color=RED)


def _draw_bars(axes: Any, rows: list[Row], value: Callable[[Row], float | None]) -> None:
    places = range(len(rows))
    axes.barh(places, [value(row) or 0.0 for row in rows], color=GREY)
    axes.invert_yaxis()
    axes.set_yticks(places, [_shortened(row) for row in rows], fontsize=7)


def _shortened(row: Row) -> str:
    text = ", ".join(f"{key}={value}" for key, value in row.overrides.items())
    return literal(text if len(text) <= LABEL else f"{text[: LABEL // 2]}…{text[-LABEL // 2 :]}")
