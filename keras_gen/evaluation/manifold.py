"""Precision, recall, density and coverage, computed from nearest neighbours of features."""

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
    """Precision and recall of generated examples, each from 0 to 1. Higher is better.

    The docstring of `precision_recall` defines both scores.
    """

    precision: float
    """Fraction of the generated examples that lie in the neighbourhood of at least one real
    example. A high precision means that the generated examples are realistic. The docstring of
    `precision_recall` defines the neighbourhood of an example."""
    recall: float
    """Fraction of the real examples that lie in the neighbourhood of at least one generated
    example. A high recall means that the generated examples are as varied as the real ones."""


class DensityCoverage(NamedTuple):
    """The density and the coverage of generated examples. For both scores, higher is better.

    The neighbourhood of a real example is a ball around the example. The radius is the distance to
    the k-th nearest real neighbour, where `k` is the argument of `density_coverage`. The density is
    the mean number of neighbourhoods in which a generated example lies, divided by `k`. The
    coverage is the fraction of the neighbourhoods that contain a generated example. A few outliers
    among the real examples change these scores only a little.
    """

    density: float
    """For each generated example, count the real examples in whose neighbourhood it lies. The
    density is the mean of these counts, divided by `k`, the argument of `density_coverage`. If real
    and generated examples have the same distribution, the density is 1 on average. A density can
    be larger than 1."""
    coverage: float
    """Fraction of the real examples whose neighbourhood contains at least one generated example."""


def precision_recall(real: npt.ArrayLike, generated: npt.ArrayLike, k: int = 3) -> PrecisionRecall:
    """Return the precision and recall of generated examples.

    The neighbourhood of an example is a ball around the example. For a real example, the radius is
    the Euclidean distance to its k-th nearest real neighbour. For a generated example, the radius
    is the Euclidean distance to its k-th nearest generated neighbour.

    Precision is the fraction of the generated examples that lie in the neighbourhood of a real
    example. Recall is the fraction of the real examples that lie in the neighbourhood of a
    generated example. The source is Kynkäänniemi et al. 2019, arXiv:1904.06991, equations 1 and 2.

    Args:
        real: Features of real examples, `[n, d]`, more than `k` rows.
        generated: Features of generated examples, `[m, d]`, more than `k` rows.
        k: Rank of the neighbour that determines the radius. The nearest neighbour has rank 1.
            Default: 3.

    Raises:
        ValueError: If the shapes are not `[n, d]` and `[m, d]`, if `real` or `generated` has at
            most `k` rows, or if a value is NaN or infinite. Also if `k` is not a positive integer.

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
    """Return the density and coverage of generated examples.

    The neighbourhood of a real example is a ball around the example. The radius is the Euclidean
    distance from the example to its k-th nearest real neighbour.

    For each generated example, let c be the number of neighbourhoods that contain it. Density is
    the mean of c over the generated examples, divided by k. Coverage is the fraction of the real
    examples whose neighbourhood contains a generated example. The source is Naeem et al. 2020,
    arXiv:2002.09797, equations 4 and 5.

    Args:
        real: Features of real examples, `[n, d]`, more than `k` rows.
        generated: Features of generated examples, `[m, d]`, more than `k` rows.
        k: Rank of the neighbour that determines the radius. The nearest neighbour has rank 1.
            Default: 5.

    Raises:
        ValueError: If the shapes are not `[n, d]` and `[m, d]`, if a set has at most `k` rows, or
            if a value is NaN or infinite. If `k` is not a positive integer.

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
    """For each point, find the centers in whose neighbourhood the point lies.

    The neighbourhood of a center is a ball around the center. The radius is the Euclidean distance
    from the center to its k-th nearest neighbour among all other centers.

    Yields:
        For each row of `points`, a bool array with one element per row of `centers`. An element is
        True if the neighbourhood of the center contains the point.
    """
    # The first of the k + 1 nearest neighbours of a center is the center itself.
    neighbours = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(centers)
    radii = neighbours.kneighbors(centers)[0][:, -1]
    center_norms = np.sum(centers**2, axis=1)
    for start in range(0, len(points), _ROWS_PER_CHUNK):
        chunk = points[start : start + _ROWS_PER_CHUNK]
        squares = np.sum(chunk**2, axis=1)[:, None] + center_norms - 2 * chunk @ centers.T
        yield from np.sqrt(np.maximum(squares, 0)) <= radii
