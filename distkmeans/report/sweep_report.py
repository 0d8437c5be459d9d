"""report.html of a sweep: its points, with the way to each one's own page, and over k what they say of k."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from distkmeans.report.choice import Choice
from distkmeans.report.html import Html, definitions, element, joined, page, paragraph, picture, section, table, tiles
from distkmeans.report.run_dir import PAGE
from distkmeans.report.table import Row, Table


def show_sweep(points: Table, choice: Choice | None, html: bool) -> None:
    """sweep.png and, where asked for, report.html, in the sweep's folder. Raises whatever drawing and writing meet."""
    from distkmeans.report.elbow import draw

    drawing = points.folder / "sweep.png"
    draw(drawing, points, choice)
    if html:
        aside = points.folder / f"{PAGE}.part"
        aside.write_text(sweep_page(points, choice, drawing.read_bytes()), encoding="utf-8")
        aside.replace(points.folder / PAGE)


def sweep_page(points: Table, choice: Choice | None, drawn: bytes | None) -> str:
    """The whole page. drawn: sweep.png."""
    failed = [row for row in points.rows if row.status != "done"]
    return page(
        f"{points.folder.name}: a sweep of {len(points.rows)} runs",
        paragraph(_sentence(choice), class_="lead") if choice else None,
        tiles(_first_figures(points, choice)),
        section(
            "Picture",
            picture(drawn, "What the runs came to", "Each run's inertia, and its silhouette or time."),
            paragraph(choice.method) if choice else None,
        ),
        section("Runs", table(["run", *_columns(points)], (_line(points, row, choice) for row in points.rows))),
        section("Runs that failed", definitions((_named(row), row.error) for row in failed) if failed else None),
        section("In files", paragraph("The same table for programs: sweep.csv. The picture: sweep.png.")),
    )


def _sentence(choice: Choice) -> str:
    text = choice.sentence
    return f"{text[0].upper()}{text[1:]}."


def _first_figures(points: Table, choice: Choice | None) -> Iterable[tuple[str, str]]:
    done = [row for row in points.rows if row.status == "done"]
    yield "runs", f"{len(points.rows):,}"
    if len(done) < len(points.rows):
        yield "failed", f"{len(points.rows) - len(done):,}"
    if choice and choice.best:
        yield "best k", str(choice.best)
    if choice and choice.elbow:
        yield "elbow at k", str(choice.elbow)
    if done:
        yield "seconds of all fits", f"{sum(row.seconds or 0.0 for row in done):.2f}"


def _columns(points: Table) -> dict[str, Callable[[Row], Any]]:
    """What the table tells of a run, by heading: first what matters most."""
    scores = {name.replace("_", " "): lambda row, name=name: row.scores.get(name) for name in points.scores}
    status = {} if all(row.status == "done" for row in points.rows) else {"status": lambda row: row.status}
    rest = {name: lambda row, name=name: getattr(row, name) for name in ("iterations", "seconds")}
    return {**status, "inertia": lambda row: row.inertia, **scores, **rest}


def _line(points: Table, row: Row, choice: Choice | None) -> list[Any]:
    cells = [told(row) for told in _columns(points).values()]
    return [_link(points.folder, row, choice), *("" if cell is None else cell for cell in cells)]


def _link(folder: Path, row: Row, choice: Choice | None) -> Html:
    """The run's name, as the way to its own page where it has one, and what k it has been found to have."""
    name: Any = _named(row)
    if (folder / row.dir / PAGE).is_file():
        name = element("a", name, href=f"{quote(row.dir)}/{PAGE}")
    marks = choice.marks(row) if choice else []
    return joined([name, *(element("small", f"({word})") for word in marks)], " ")


def _named(row: Row) -> str:
    return ", ".join(f"{key.lstrip('+')}={value}" for key, value in row.overrides.items()) or row.dir
