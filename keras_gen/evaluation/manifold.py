"""Precision, recall, density and coverage: nearest neighbours of real and generated features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from keras_gen._arguments import positive_int
from keras_gen.evaluation.frechet import checked_features

_ROWS_PER_CHUNK = 1000


class PrecisionRecall(NamedTuple):
    """Two shares in [0, 1], higher is better."""

    precision: float
    """Share of the generated examples that lie among the real ones: how realistic they are."""
    recall: float
    """Share of the real examples that lie among the generated ones: how varied these are."""


class DensityCoverage(NamedTuple):
    """Two numbers that are robust to outliers, higher is better."""

    density: float
    """Number of real neighbourhoods that contain a generated example, divided by k. Its expectation
    is 1 if both distributions are equal, and it can be larger."""
    coverage: float
    """Share of the real examples whose neighbourhood contains a generated one, in [0, 1]."""


def precision_recall(real: npt.ArrayLike, generated: npt.ArrayLike, k: int = 3) -> PrecisionRecall:
    """Return improved precision and recall.

    An example lies among others if at least one of them has it in its neighbourhood: the ball up to
    the k-th nearest neighbour (Kynkäänniemi et al. 2019, arXiv:1904.06991, equations 1 and 2).

    Args:
        real: Features of real examples, `[n, d]`, more than `k` rows.
        generated: Features of generated examples, `[m, d]`, more than `k` rows.
        k: Number of the neighbour that defines the radius.

    Raises:
        ValueError: If the features have other shapes, too few rows or are not finite, or `k` is not
            a positive integer.

    Example:

    >>> x = np.random.default_rng(0).normal(size=(200, 2))
    >>> precision_recall(x, x + 100)
    PrecisionRecall(precision=0.0, recall=0.0)
    """
    k = positive_int(None, "k", k)
    real, generated = checked_features(real, generated, more_than=k)
    among_real = [inside.any() for inside in _in_neighbourhoods(generated, real, k)]
    among_generated = [inside.any() for inside in _in_neighbourhoods(real, generated, k)]
    return PrecisionRecall(float(np.mean(among_real)), float(np.mean(among_generated)))


def density_coverage(real: npt.ArrayLike, generated: npt.ArrayLike, k: int = 5) -> DensityCoverage:
    """Return density and coverage (Naeem et al. 2020, arXiv:2002.09797, equations 4 and 5).

    Args:
        real: Features of real examples, `[n, d]`, more than `k` rows.
        generated: Features of generated examples, `[m, d]`, more than `k` rows.
        k: Number of the neighbour that defines the radius of a real example's neighbourhood.

    Raises:
        ValueError: If the features have other shapes, too few rows or are not finite, or `k` is not
            a positive integer.

    Example:

    >>> x = np.random.default_rng(0).normal(size=(200, 2))
    >>> density_coverage(x, x).coverage
    1.0
    """
    k = positive_int(None, "k", k)
    real, generated = checked_features(real, generated, more_than=k)
    covered = np.zeros(len(real), bool)
    neighbourhoods = 0
    for inside in _in_neighbourhoods(generated, real, k):
        covered |= inside
        neighbourhoods += int(inside.sum())
    density = neighbourhoods / (k * len(generated))
    return DensityCoverage(float(density), float(covered.mean()))


def _in_neighbourhoods(points: np.ndarray, centers: np.ndarray, k: int) -> Iterator[np.ndarray]:
    """Yield, per point, whether it lies in each center's neighbourhood, bool `[centers]`."""
    # The nearest neighbour of a center is the center itself.
    neighbours = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(centers)
    radii = neighbours.kneighbors(centers)[0][:, -1]
    center_norms = np.sum(centers**2, axis=1)
    for start in range(0, len(points), _ROWS_PER_CHUNK):
        chunk = points[start : start + _ROWS_PER_CHUNK]
        squares = np.sum(chunk**2, axis=1)[:, None] + center_norms - 2 * chunk @ centers.T
        yield from np.sqrt(np.maximum(squares, 0)) <= radii
