"""report.html of a run: what was run, on what, how good it is, and what is in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from distkmeans.report.html import (
    Html,
    data_uri,
    definitions,
    element,
    escaped,
    figure_of,
    folded,
    joined,
    page,
    paragraph,
    picture,
    section,
    table,
    tiles,
)
from distkmeans.report.nearest_rows import NearestRows
from distkmeans.report.outcome import Gathered, Outcome
from distkmeans.report.scores import told_scores
from distkmeans.report.thumbnails import thumbnails
from distkmeans.schema import written

PHASES = {
    "start": "from the launch until the files were open",
    "read": "rows read, transformed and examined",
    "seed": "the first centroids (part of fit)",
    "fit": "seeding and solving",
    "evaluate": "scores",
    "write": "the files of the result, before pictures and this page",
}
CAPTIONS = {
    "clusters.png": ("Rows and centroids", "Rows, coloured by cluster, and centroids: crosses."),
    "inertia.png": ("Inertia and moved rows", "Inertia: the {objective} of rows to their centroids."),
    "sizes.png": ("Rows per cluster", "How even the clusters are; the line is their mean."),
    "silhouette.png": (
        "Silhouettes",
        "By Euclidean distances. Near 1: well inside its cluster; about 0: between two; below: nearer another.",
    ),
    "centroids.png": ("Centroids as images", "The centroids as images, the largest clusters first."),
}
"""Of each picture what it shows, and the line below it."""
JOB_GROUPS = ("run", "report", "sweep", "plugins", "dry_run")
"""Settings that say nothing of what was found."""
EXACT = (
    "Exact: every label is proved to be that of the nearest centroid, the lowest number on a tie, and centroids come"
    " from integer sums, which no order can change. Any number of ranks, threads and tiles gives the same bits."
)
FAST = (
    "precision=fast: labels are not proved, and another number of ranks, threads or tiles may give slightly different"
    " ones."
)
ROUNDED = "Results at other numbers of ranks agree to rounding, and are not bit-identical."


def run_page(outcome: Outcome, gathered: Gathered, drawn: Mapping[str, bytes], summary: Mapping[str, Any]) -> str:
    """The whole page. drawn: PNG pictures by name. summary: as in summary.json."""
    end = "Converged" if summary["converged"] else "Stopped at the most iterations allowed,"
    return page(
        outcome.title,
        paragraph(f"{end} after {_count(summary['iterations'], 'iteration')}.", class_="lead"),
        tiles(_first_figures(summary)),
        section("How good", told_scores(summary.get("scores") or {}), _sampled(summary)),
        section("Pictures", _pictures(drawn, summary)),
        section("Clusters and their nearest rows", *_clusters(outcome, gathered)),
        section(
            "What was run",
            definitions([*_data(outcome), *_settings(outcome.settings)]),
            _configuration(outcome.settings),
        ),
        section("Time and memory", _phases(summary["seconds"]), definitions(_resources(summary))),
        section("How it was computed", paragraph(_exactness(summary)), definitions(_how(summary))),
    )


def _sampled(summary: Mapping[str, Any]) -> Html | None:
    count = summary.get("silhouette_rows", summary["rows"])
    return paragraph(f"The silhouette is that of {count:,} sampled rows.") if count < summary["rows"] else None


def _exactness(summary: Mapping[str, Any]) -> str:
    if summary["precision"] == "fast":
        return FAST
    return EXACT if summary["bit_identical"] else ROUNDED


def _first_figures(summary: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "rows", f"{summary['rows']:,}"
    yield "columns", f"{summary['dims']:,}"
    yield "clusters", f"{summary['k']:,}" + (f", {summary['empty']:,} empty" if summary["empty"] else "")
    yield "inertia", figure_of(float(summary["inertia"]))
    for name in ("silhouette", "simplified_silhouette", "ari"):
        if (summary.get("scores") or {}).get(name) is not None:
            yield name.replace("_", " "), figure_of(round(summary["scores"][name], 4))
    yield "seconds of fit", f"{summary['seconds']['fit']:.2f}"


def _pictures(drawn: Mapping[str, bytes], summary: Mapping[str, Any]) -> Html | None:
    objective = summary.get("objective", "weighted sum of squared distances")
    shown = [
        picture(drawn.get(name), alt, caption.format(objective=objective), "photo" if name == "centroids.png" else None)
        for name, (alt, caption) in CAPTIONS.items()
    ]
    return element("div", *shown, class_="pictures") if any(shown) else None


def _clusters(outcome: Outcome, gathered: Gathered) -> Iterable[Html | None]:
    if not gathered.nearest:
        return
    shown, total = len(gathered.nearest), int((outcome.sizes > 0).sum())
    most = max(len(cluster.numbers) for cluster in gathered.nearest)
    which = "All clusters" if shown == total else f"The {shown:,} largest of {total:,} clusters with rows"
    space = "" if outcome.settings["transform"]["name"] == "none" else ", after the transform"
    what = f"the costs of metric={outcome.settings['metric']['name']}" if outcome.own_metric else "Euclidean"
    yield paragraph(
        f"{which}, the largest first, each with at most {_count(most, 'row')}: those nearest to its centroid. Distances"
        f" are {what}{space}."
    )
    numbers = [number for cluster in gathered.nearest for number in cluster.numbers]
    examples = dict(zip(numbers, _images_of(outcome, numbers), strict=True))
    centroids = outcome.solution.centroids[[cluster.cluster for cluster in gathered.nearest]].cpu().numpy()
    faces = thumbnails(centroids, outcome.image) if outcome.image else [None] * shown
    cards = [
        _card(cluster, _Rows(outcome, gathered.ids, examples), face)
        for cluster, face in zip(gathered.nearest, faces, strict=True)
    ]
    yield element("div", *cards, class_="cards")


class _Rows:
    """How single rows are shown. images: by row number."""

    def __init__(self, outcome: Outcome, ids: Mapping[int, str], images: Mapping[int, bytes | None]) -> None:
        self.outcome, self.ids, self.images = outcome, ids, images

    def item(self, number: int, distance: float) -> Html:
        words: list[Any] = [element("b", f"row {number}")]
        if number in self.ids:
            words.append(element("span", f"id {self.ids[number]}", class_="id"))
        name = self.outcome.source.name(number)
        if not name.endswith(f"row {number}"):  # its number within one of several files
            words.append(element("small", name.partition("=")[2] or name))
        words.append(element("small", f"distance {distance:.4g}", class_="distance"))
        return element("li", _image(self.images[number], f"row {number}"), element("span", joined(words, " ")))


def _card(cluster: NearestRows, rows: _Rows, face: bytes | None) -> Html:
    total = rows.outcome.problem.shard.total
    heading = (
        _image(face, f"centroid of cluster {cluster.cluster}"),
        element("h3", f"Cluster {cluster.cluster}"),
        element("small", f"{_count(cluster.size, 'row')}, {100 * cluster.size / total:.3g} %"),
    )
    items = [rows.item(*place) for place in zip(cluster.numbers, cluster.distances, strict=True)]
    return element("article", element("header", *heading), element("ol", *items))


def _image(png: bytes | None, alt: str) -> Html:
    return Html(f'<img class="face" src="{data_uri(png)}" alt="{escaped(alt)}">') if png else Html("")


def _images_of(outcome: Outcome, numbers: list[int]) -> list[bytes | None]:
    """Pictures of rows as they are stored, where rows are pictures."""
    if not outcome.image or not numbers:
        return [None] * len(numbers)
    rows = np.concatenate([outcome.source.read(number, number + 1).numpy() for number in numbers])
    return [*thumbnails(rows, outcome.image)]


def _data(outcome: Outcome) -> Iterable[tuple[str, str]]:
    source, seen = outcome.source, str(outcome.problem.shard.rows.dtype).removeprefix("torch.")
    stored = str(source.read(0, 1).dtype).removeprefix("torch.")
    then = "" if seen == stored else f", clustered as {seen}"
    yield "rows", f"{source.rows:,} x {source.dims:,} {stored}{then}"
    if paths := getattr(source, "paths", ()):
        yield "files", paths[0] if len(paths) == 1 else f"{len(paths):,}, from {paths[0]} to {paths[-1]}"


def _settings(settings: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """A line for each group and key that the result depends on."""
    for key, value in settings.items():
        if key in JOB_GROUPS:
            continue
        if isinstance(value, Mapping):
            rest = ", ".join(
                f"{name}={_value(inner)}" for name, inner in value.items() if name != "name" and inner is not None
            )
            yield key, joined([element("b", value["name"]) if "name" in value else "", rest], " ")
        else:
            yield key, _value(value)


def _value(value: Any) -> str:
    return f"[{', '.join(map(written, value))}]" if isinstance(value, (list, tuple)) else written(value)


def _configuration(settings: Mapping[str, Any]) -> Html:
    import yaml

    text = yaml.safe_dump(dict(settings), sort_keys=False, allow_unicode=True)
    return folded("The whole configuration (config.yaml)", element("pre", text))


def _phases(seconds: Mapping[str, float]) -> Html:
    longest = max(seconds.values(), default=0.0) or 1.0
    rows = [
        (name, element("span", f"{seconds[name]:.3f}"), _bar(seconds[name] / longest), PHASES.get(name, ""))
        for name in sorted(seconds, key=lambda name: [*PHASES, name].index(name))
    ]
    return table(("phase", "seconds", "", "what"), rows)


def _bar(share: float) -> Html:
    return Html(f'<span class="bar"><span style="width:{100 * share:.1f}%"></span></span>')


def _resources(summary: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "most memory of a rank", f"{summary['peak_memory_bytes'] / 2**20:,.0f} MiB"
    yield "rows were read", "for this run" if summary["data_reads"] else "for an earlier run of the sweep"


def _how(summary: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "kernel", summary["kernel"]
    yield "ranks", f"{summary['world_size']} on {summary['device']}, {_count(summary['threads'], 'thread')} each"
    yield (
        "restart",
        f"{summary['restart'] + 1} was the best" if summary["restart"] else "the first seeding was the best",
    )
    yield "versions", ", ".join(f"{name} {version}" for name, version in summary["versions"].items())


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"
