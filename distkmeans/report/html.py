"""Pages of HTML that need nothing else: no network, no script. What is not marked as HTML is escaped."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a browser may load for a page: nothing but what the page holds."""

MANY = 8
"""Columns of a table that fit on paper at the usual size."""


class Html(str):
    """Text that is HTML already; everything else is escaped where it enters a page."""


def escaped(value: Any) -> Html:
    """A value as it may stand in a page."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def joined(parts: Iterable[Any], between: str = "") -> Html:
    """Values one after another."""
    return Html(between.join(escaped(part) for part in parts))


def element(name: str, *content: Any, **attributes: Any) -> Html:
    """``element("a", "here", href="x")``; class_ is the attribute class, and None leaves an attribute out."""
    told = "".join(
        f' {key.rstrip("_")}="{html.escape(str(value))}"' for key, value in attributes.items() if value is not None
    )
    return Html(f"<{name}{told}>{joined(content)}</{name}>")


def page(title: str, *content: Any) -> str:
    """A whole page: its heading is the ``title``. What UTF-8 cannot hold, as in names of files, becomes a ?."""
    style = resources.files("distkmeans.report").joinpath("page.css").read_text(encoding="utf-8")
    text = "\n".join(
        (
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{html.escape(POLICY)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{html.escape(title)}</title>",
            f"<style>\n{style}</style></head>",
            f"<body><main><h1>{html.escape(title)}</h1>",
            joined(filter(None, content), "\n"),
            "</main></body></html>\n",
        )
    )
    return text.encode("utf-8", "replace").decode("utf-8")


def section(heading: str, *content: Any) -> Html:
    """A part of a page, under its heading; nothing where it has no content."""
    told = [part for part in content if part]
    return element("section", element("h2", heading), *told) if told else Html("")


def paragraph(*content: Any, class_: str | None = None) -> Html:
    return element("p", *content, class_=class_)


def table(header: Sequence[Any], rows: Iterable[Sequence[Any]]) -> Html:
    """A table that scrolls by itself where the screen is narrower, and is set smaller on paper where it is wide."""
    head = element("tr", *(element("th", name, scope="col") for name in header))
    lines = [element("tr", *(_cell(cell) for cell in row)) for row in rows]
    whole = element("table", element("thead", head), element("tbody", *lines))
    return element("div", whole, class_="wide many" if len(header) > MANY else "wide", tabindex="0")


def _cell(cell: Any) -> Html:
    number = isinstance(cell, (int, float)) and not isinstance(cell, bool)
    return element("td", figure_of(cell) if number else cell, class_="number" if number else None)


def definitions(pairs: Iterable[tuple[Any, Any]], class_: str | None = None) -> Html:
    """Names and what they are, such as settings."""
    lines = (element("div", element("dt", name), element("dd", value)) for name, value in pairs)
    return element("dl", *lines, class_=class_)


def tiles(pairs: Iterable[tuple[Any, Any]]) -> Html:
    """The few figures that are to be seen first."""
    return definitions(pairs, "tiles")


def folded(heading: str, *content: Any) -> Html:
    """Content that is shown on demand."""
    return element("details", element("summary", heading), *content)


def picture(png: bytes | None, alt: str, caption: Any, class_: str | None = None) -> Html:
    """A picture with a line below it; nothing where there is none. class_: photo where its colours are its own."""
    if not png:
        return Html("")
    image = Html(f'<img src="{data_uri(png)}" alt="{html.escape(alt)}">')
    return element("figure", image, element("figcaption", caption), class_=class_)


def data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def figure_of(number: float) -> str:
    """A number as people read it: 1,797, 1,204,868 or 0.01234."""
    if isinstance(number, int):
        return f"{number:,}"
    return f"{number:,.0f}" if 1e3 <= abs(number) < 1e12 else f"{number:.4g}"
