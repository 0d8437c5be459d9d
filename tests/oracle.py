"""What is true, by rational arithmetic: slow, short, and independent of the code under test."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

ADVERSARIAL = {
    "lattice": lambda g, n, d: g.integers(-2, 3, (n, d)).astype(np.float32),
    "tenths": lambda g, n, d: g.integers(-3, 4, (n, d)) * 0.1,
    "duplicates": lambda g, n, d: g.standard_normal((4, d)).astype(np.float32)[g.integers(0, 4, n)],
    "spread": lambda g, n, d: (g.standard_normal((n, d)) * 10.0 ** g.integers(-20, 20, (n, d))).astype(np.float32),
    "far": lambda g, n, d: (1e6 + g.standard_normal((n, d))).astype(np.float32),
    "edge": lambda g, n, d: (1 + g.integers(0, 4, (n, d)) * 2.0**-23).astype(np.float32),
    "edge64": lambda g, n, d: 1e6 + g.integers(0, 3, (n, d)) * 2.0**-32,
    "huge": lambda g, n, d: g.standard_normal((n, d)) * 1e200,
    "tiny": lambda g, n, d: g.integers(-3, 4, (n, d)) * 1e-200,
    "wide64": lambda g, n, d: g.standard_normal((n, d)) * 10.0 ** g.integers(-200, 200, (n, d)),
    "subnormal": lambda g, n, d: g.integers(-3, 4, (n, d)) * 5e-324,
    "bytes": lambda g, n, d: g.integers(0, 5, (n, d)).astype(np.uint8),
    "signed": lambda g, n, d: g.integers(-100, 100, (n, d)).astype(np.int8),
    "halves": lambda g, n, d: g.standard_normal((n, d)).astype(np.float16),
    "normal": lambda g, n, d: g.standard_normal((n, d)).astype(np.float32),
}
"""Kinds of rows that break inexact k-means: name -> (generator, rows, columns) -> array."""


def rows(kind: str, count: int, dims: int, seed: int) -> np.ndarray:
    return ADVERSARIAL[kind](np.random.default_rng(seed), count, dims)


def fractions(row: np.ndarray) -> list[Fraction]:
    return [Fraction(float(value)) for value in row]


def square_distance(a: np.ndarray, b: np.ndarray) -> Fraction:
    return sum(((p - q) ** 2 for p, q in zip(fractions(a), fractions(b), strict=True)), Fraction(0))


def nearest(x: np.ndarray, centroids: np.ndarray) -> list[int]:
    """The true argmin of every row, the lowest index on a tie."""
    distances = [[square_distance(row, centroid) for centroid in centroids] for row in x]
    return [row.index(min(row)) for row in distances]


def inertia(x: np.ndarray, centroids: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> Fraction:
    scale = [Fraction(1)] * len(x) if weights is None else fractions(weights)
    pairs = zip(x, labels, scale, strict=True)
    return sum((w * square_distance(row, centroids[label]) for row, label, w in pairs), Fraction(0))


def mean(x: np.ndarray, weights: np.ndarray | None, column: int) -> Fraction:
    scale = [Fraction(1)] * len(x) if weights is None else fractions(weights)
    return sum(w * v for w, v in zip(scale, fractions(x[:, column]), strict=True)) / sum(scale)


def rounded(value: Fraction, dtype: np.dtype) -> float:
    """The nearest number of that type, ties to even, found by comparing neighbours."""
    if dtype == np.float64:
        return value.numerator / value.denominator
    guess = np.float32(value.numerator / value.denominator)
    near = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    return float(min(near, key=lambda c: (abs(Fraction(float(c)) - value), int(c.view(np.int32)) & 1)))


def l1_distance(a: np.ndarray, b: np.ndarray) -> Fraction:
    return sum((abs(p - q) for p, q in zip(fractions(a), fractions(b), strict=True)), Fraction(0))


def inner_product(a: np.ndarray, b: np.ndarray) -> Fraction:
    return sum((p * q for p, q in zip(fractions(a), fractions(b), strict=True)), Fraction(0))


def nearest_l1(x: np.ndarray, centroids: np.ndarray) -> list[int]:
    """The true argmin of the L1 distance of every row, the lowest index on a tie."""
    distances = [[l1_distance(row, centroid) for centroid in centroids] for row in x]
    return [row.index(min(row)) for row in distances]


def largest_product(x: np.ndarray, centroids: np.ndarray) -> list[int]:
    """The true argmax of the inner product of every row, the lowest index on a tie."""
    products = [[inner_product(row, centroid) for centroid in centroids] for row in x]
    return [row.index(max(row)) for row in products]


def lower_median(values: np.ndarray, weights: np.ndarray | None) -> Fraction:
    """The least value up to which half of the weight lies."""
    scale = [Fraction(1)] * len(values) if weights is None else fractions(weights)
    below, half = Fraction(0), sum(scale, Fraction(0)) / 2
    for value, weight in sorted(zip(fractions(values), scale, strict=True)):
        below += weight
        if weight and below >= half:
            return value
    raise ValueError("no weight")


def k_medians(x: np.ndarray, start: np.ndarray, weights: np.ndarray | None, steps: int) -> tuple[list, list, Fraction]:
    """Lloyd's algorithm with medians, clusters without weight keeping their centroid: (centroids, labels, cost)."""
    centroids = start.astype(np.float64)
    for _ in range(steps):
        labels = np.array(nearest_l1(x, centroids))
        moved = centroids.copy()
        for cluster in range(len(start)):
            mine = labels == cluster
            if mine.any() and (weights is None or weights[mine].any()):
                part = None if weights is None else weights[mine]
                moved[cluster] = [float(lower_median(x[mine, column], part)) for column in range(x.shape[1])]
        if (moved == centroids).all():
            break
        centroids = moved
    labels = nearest_l1(x, centroids)
    scale = [Fraction(1)] * len(x) if weights is None else fractions(weights)
    pairs = zip(x, labels, scale, strict=True)
    return centroids.tolist(), labels, sum((w * l1_distance(r, centroids[k]) for r, k, w in pairs), Fraction(0))
