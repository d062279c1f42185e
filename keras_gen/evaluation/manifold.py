"""How many generated examples look real, and how many real ones the generator covers, by nearest neighbours of features."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.neighbors import NearestNeighbors

from keras_gen._arguments import positive_int
from keras_gen.evaluation.frechet import checked_features


class PrecisionRecall(NamedTuple):
    """Two shares in [0, 1]."""

    precision: float
    """Of generated examples that lie among the real ones."""
    recall: float
    """Of real examples that lie among the generated ones."""


class DensityCoverage(NamedTuple):
    """Two numbers that outliers do not spoil."""

    density: float
    """How many real neighbourhoods hold a generated example, over k: 1 in the mean if they are alike, and may be above."""
    coverage: float
    """Share of real examples whose neighbourhood holds a generated one."""


def precision_recall(real: npt.ArrayLike, generated: npt.ArrayLike, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall (Kynkäänniemi et al. 2019, arXiv:1904.06991, eq. 1 and 2).

    An example lies among others if it is in the ball of at least one of them, whose radius is the distance to its k-th neighbour.

    Args:
        real, generated: Features `[n, d]` and `[m, d]`, each of more than `k` rows.
        k: Which neighbour makes the radius.

    Raises:
        ValueError: If the features are no such matrices, or not finite, or `k` is no count.

    Example:

    >>> x = np.random.default_rng(0).normal(size=(200, 2))
    >>> precision_recall(x, x + 100)
    PrecisionRecall(precision=0.0, recall=0.0)
    """
    k = positive_int(None, "k", k)
    real, generated = checked_features(real, generated, more_than=k)
    precision = np.mean([inside.any() for inside in _inside(generated, real, k)])
    recall = np.mean([inside.any() for inside in _inside(real, generated, k)])
    return PrecisionRecall(float(precision), float(recall))


def density_coverage(real: npt.ArrayLike, generated: npt.ArrayLike, k: int = 5) -> DensityCoverage:
    """Density and coverage (Naeem et al. 2020, arXiv:2002.09797, eq. 4 and 5).

    Args:
        real, generated: Features `[n, d]` and `[m, d]`, each of more than `k` rows.
        k: Which neighbour makes the radius of a real example's ball.

    Raises:
        ValueError: If the features are no such matrices, or not finite, or `k` is no count.

    Example:

    >>> x = np.random.default_rng(0).normal(size=(200, 2))
    >>> density_coverage(x, x).coverage
    1.0
    """
    k = positive_int(None, "k", k)
    real, generated = checked_features(real, generated, more_than=k)
    covered, held = np.zeros(len(real), bool), 0
    for inside in _inside(generated, real, k):
        covered |= inside
        held += inside.sum()
    return DensityCoverage(float(held / (k * len(generated))), float(covered.mean()))


def _inside(points, centers, k):
    """For each point, whether it is in the ball of each center, `[len(centers)]`."""
    neighbours = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(
        centers
    )  # the first is the center itself
    radii = neighbours.kneighbors(centers)[0][:, -1]
    for start in range(0, len(points), 1000):
        part = points[start : start + 1000]
        squares = (
            np.sum(part**2, axis=1)[:, None] + np.sum(centers**2, axis=1) - 2 * part @ centers.T
        )
        yield from np.sqrt(np.maximum(squares, 0)) <= radii
