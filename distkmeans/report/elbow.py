"""sweep.png: inertia and time over the points of a sweep; over k, where k varies: the elbow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from distkmeans.report.pictures import GREY, blank
from distkmeans.report.table import Row, Table

MOST_LINES = 10
MOST_BARS = 40
LABEL = 40
"""Characters of a bar's label."""


def draw(path: Path, table: Table) -> None:
    """Draw the points that are done."""
    rows = [row for row in table.rows if row.status == "done"]
    panels = (("inertia (weighted sum of squared distances)", "inertia"), ("seeding and solving (s)", "seconds"))
    figure = blank((11, 4.8))
    figure.suptitle(f"{table.folder.name}: {len(rows)} runs")
    curves = _curves(rows)
    for place, (label, name) in enumerate(panels, 1):
        axes = figure.add_subplot(1, 2, place)
        axes.grid(alpha=0.2)
        if curves:
            _draw_curves(axes, curves, name)
        else:
            _draw_bars(axes, rows[:MOST_BARS], name)
        (axes.set_ylabel if curves else axes.set_xlabel)(label)
    figure.savefig(path)


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


def _draw_curves(axes: Any, curves: dict[str, list[tuple[int, Row]]], name: str) -> None:
    for others, curve in list(curves.items())[:MOST_LINES]:
        ks = [k for k, _ in curve]
        axes.plot(ks, [getattr(row, name) for _, row in curve], marker="o", markersize=4, label=others or None)
    ks = sorted({k for curve in curves.values() for k, _ in curve})
    if ks[-1] > 20 * ks[0]:
        axes.set_xscale("log", base=2)
    axes.set_xticks(ks if len(ks) <= 12 else ks[:: -(-len(ks) // 12)])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.minorticks_off()
    axes.set_xlabel("k (clusters)")
    axes.set_ylim(bottom=0)
    if any(curves):
        more = len(curves) - MOST_LINES
        axes.legend(fontsize=8, title=f"{more} more not shown" if more > 0 else None)


def _draw_bars(axes: Any, rows: list[Row], name: str) -> None:
    places = range(len(rows))
    axes.barh(places, [getattr(row, name) for row in rows], color=GREY)
    axes.invert_yaxis()
    first = axes.get_subplotspec().is_first_col()
    axes.set_yticks(places, [_shortened(row) for row in rows] if first else [""] * len(rows), fontsize=7)


def _shortened(row: Row) -> str:
    text = ", ".join(f"{key}={value}" for key, value in row.overrides.items())
    return text if len(text) <= LABEL else f"{text[: LABEL // 2]}…{text[-LABEL // 2 :]}"
