"""Scores and what they mean, for pages."""

from __future__ import annotations

from collections.abc import Mapping

from distkmeans.report.html import Html, figure_of, paragraph, table

MEANING = {
    "silhouette": ("1", "-1 to 1: how much nearer rows are to their own cluster than to the next one"),
    "simplified_silhouette": ("1", "the silhouette with distances to centroids, over all rows"),
    "davies_bouldin": ("0", "spread of two clusters over the distance between them, for the worst pairs"),
    "calinski_harabasz": ("high", "variance between clusters over variance within them"),
    "ari": ("1", "adjusted Rand index: pairs of rows that labels and truth treat alike; about 0 by chance"),
    "ami": ("1", "adjusted mutual information of labels and truth; about 0 by chance"),
    "nmi": ("1", "normalised mutual information of labels and truth, 0 to 1"),
    "homogeneity": ("1", "1 where each cluster holds rows of one true class only"),
    "completeness": ("1", "1 where all rows of a true class are in one cluster"),
    "stability": ("1", "mean adjusted Rand index of the labels that different seeds lead to"),
}
"""The best value, and the meaning."""


def told_scores(scores: Mapping[str, float | None]) -> Html:
    """A table of scores with what they mean."""
    if not scores:
        return paragraph("No scores were computed: evaluate=[silhouette] and others ask for them.")
    rows = [
        (name.replace("_", " "), "not defined" if value is None else figure_of(value), *MEANING.get(name, ("", "")))
        for name, value in scores.items()
    ]
    return table(("score", "value", "best", "what it says"), rows)
