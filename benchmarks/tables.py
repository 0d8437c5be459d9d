"""What a benchmark leaves behind: a table on the screen, the same as CSV, and a picture of it."""

from __future__ import annotations

import argparse
import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the CSV files and the picture")
    return parser


class Table:
    """Rows under fixed columns. Numbers are kept whole for the CSV, and shown with three digits."""

    def __init__(self, columns: Sequence[str], header: str) -> None:
        self.columns, self.header = list(columns), header
        self.rows: list[list[Any]] = []

    def head(self) -> None:
        """Print the header and the names of the columns."""
        print(f"\n{self.header}\n\n| {' | '.join(self.columns)} |\n{'|---' * len(self.columns)}|", flush=True)

    def add(self, *cells: object) -> None:
        """Add a row, and print it: runs are long."""
        assert len(cells) == len(self.columns), (cells, self.columns)
        self.rows.append(list(cells))
        print(f"| {' | '.join(shown(cell) for cell in cells)} |", flush=True)

    def column(self, name: str, where: str = "", equals: object = None) -> list[Any]:
        """The cells of a column, or of those rows in which the column ``where`` has a value."""
        rows = self.rows if not where else [row for row in self.rows if row[self.columns.index(where)] == equals]
        return [row[self.columns.index(name)] for row in rows]

    def numbers(self, name: str, where: str = "", equals: object = None) -> list[float | None]:
        """Of a column, None for other cells."""
        return [cell if isinstance(cell, float) else None for cell in self.column(name, where, equals)]

    def cases(self) -> list[str]:
        """The rows and K of each case once, as labels of a picture."""
        told = zip(self.column("rows"), self.column("K"), strict=True)
        return list(dict.fromkeys(f"{rows}\nK={k}".replace(", ", "\n") for rows, k in told))

    def write(self, path: Path) -> None:
        """CSV, under a line with # that tells of the machine; an empty cell for what is unknown."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            file.write("".join(f"# {line}\n" for line in self.header.splitlines()))
            csv.writer(file).writerows([self.columns, *self.rows])


def shown(cell: object) -> str:
    """Three digits of a number, a dash for None."""
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 999.5 else f"{cell:.3g}"
    return "-" if cell is None else f"{cell:,}" if isinstance(cell, int) else str(cell)


def bars(
    path: Path, title: str, unit: str, groups: Sequence[str], series: Mapping[str, Sequence[float | None]]
) -> None:
    """A picture of bars, on a logarithmic scale: a group per case, a bar per contender."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(max(6, 1.8 * len(groups) + 2), 4.5), layout="constrained")
    width = 0.8 / len(series)
    for place, (name, values) in enumerate(series.items()):
        at = [(group + (place + 0.5) * width - 0.4, value) for group, value in enumerate(values) if value]
        axes.bar([x for x, _ in at], [value for _, value in at], width, label=name)
    axes.set(title=title, ylabel=unit, yscale="log", xticks=range(len(groups)))
    axes.set_xticklabels(groups, fontsize=8)
    axes.legend(fontsize=8)
    _save(figure, path)


def lines(
    path: Path, title: str, labels: tuple[str, str], x: Sequence[float], series: Mapping[str, Sequence[float]]
) -> None:
    """A picture of lines over x, on logarithmic scales. labels: of the two axes."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(6.5, 4.5), layout="constrained")
    for name, values in series.items():
        axes.plot(x, values, marker="o", label=name)
    axes.set(title=title, xlabel=labels[0], ylabel=labels[1], xscale="log", yscale="log")
    axes.set_xticks(list(x), [f"{value:g}" for value in x])
    axes.minorticks_off()
    axes.legend(fontsize=8)
    _save(figure, path)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    print(f"\nwritten: {path}, and the tables beside it as CSV")
