"""Fréchet distance and kernel distance between two sets of features."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from keras_gen._arguments import positive_int

_LARGEST_SUBSET = 1000


class KernelDistance(NamedTuple):
    """Result of `kernel_distance`: the squared maximum mean discrepancy and its standard error."""

    value: float
    """Unbiased estimate of the squared maximum mean discrepancy, lower is better. If the two sets
    of features come from the same distribution, the expectation of the estimate is 0. Therefore a
    single estimate can be negative."""
    standard_error: float
    """Standard error of `value`, estimated from the variation between random subsets. The standard
    error is NaN if `kernel_distance` used only one pair of subsets. It is also NaN if each subset
    had as many rows as the smaller set of features."""


def frechet_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return the Fréchet distance between two sets of features, lower is better.

    The distance is ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½). μ_a and μ_b are the means of the
    sets `a` and `b`. Σ_a and Σ_b are their covariances. The source is Heusel et al. 2017,
    arXiv:1706.08500, equation 6. With features of the Inception network, the distance is called
    Fréchet Inception distance (FID).

    The distance is biased: with fewer rows, it is larger on average. Therefore compare two
    distances only if they were computed from the same numbers of rows. The distance between two
    halves of the real data is a useful baseline.

    Args:
        a: First set of features, `[n, d]`, at least two rows.
        b: Second set of features, `[m, d]`, at least two rows.

    Raises:
        ValueError: If the shapes are not `[n, d]` and `[m, d]`. If a set has fewer than two rows.
            If a value is NaN or infinite.

    Example:

    >>> x = np.random.default_rng(0).normal(size=(1000, 3))
    >>> round(frechet_distance(x, x + 1), 6)
    3.0
    """
    a, b = checked_features(a, b)
    mean_a = a.mean(axis=0)
    mean_b = b.mean(axis=0)
    covariance_a = np.atleast_2d(np.cov(a, rowvar=False))
    covariance_b = np.atleast_2d(np.cov(b, rowvar=False))
    # Σ_a Σ_b and the symmetric matrix Σ_a^½ Σ_b Σ_a^½ have the same eigenvalues. Therefore the
    # square roots of these two matrices have the same trace.
    values, vectors = np.linalg.eigh(covariance_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    eigenvalues = np.linalg.eigvalsh(root @ covariance_b @ root)
    trace_of_root = np.sum(np.sqrt(np.maximum(eigenvalues, 0)))
    traces = np.trace(covariance_a) + np.trace(covariance_b) - 2 * trace_of_root
    return float(np.sum((mean_a - mean_b) ** 2) + max(traces, 0.0))


def kernel_distance(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    num_subsets: int = 100,
    subset_size: int | None = None,
    seed: int = 0,
) -> KernelDistance:
    """Estimate the squared maximum mean discrepancy of two sets of features, lower is better.

    The kernel of two rows x and y with d features is (x·y/d + 1)³ (Bińkowski et al. 2018,
    arXiv:1801.01401, section 4). With features of the Inception network, the estimate is called
    kernel Inception distance (KID). The estimate is unbiased.

    Args:
        a: First set of features, `[n, d]`, at least two rows.
        b: Second set of features, `[m, d]`, at least two rows.
        num_subsets: Number of pairs of random subsets. Each pair has one subset of `a` and one of
            `b`, and gives one estimate. The result is the mean of these estimates. Default: 100.
        subset_size: Number of rows per subset, sampled without replacement. A number above the size
            of the smaller set is reduced to this size. Default: half of the rows of the smaller
            set, but at least 2 and at most 1,000.
        seed: Seed of the random subsets. Default: 0.

    Returns:
        A `KernelDistance` with the estimate `value` and its `standard_error`.

    Raises:
        ValueError: If the shapes are not `[n, d]` and `[m, d]`. If a set has fewer than two rows.
            If a value is NaN or infinite. If `num_subsets` is not a positive integer. If
            `subset_size` is neither None nor an integer of at least 2.

    Example:

    >>> x = np.random.default_rng(0).normal(size=(500, 3))
    >>> kernel_distance(x, x + 1, num_subsets=10).value > 1
    True
    """
    num_subsets = positive_int(None, "num_subsets", num_subsets)
    a, b = checked_features(a, b)
    count = min(len(a), len(b))
    if subset_size is None:
        subset_size = max(2, min(_LARGEST_SUBSET, count // 2))
    size = min(positive_int(None, "subset_size", subset_size, at_least=2), count)
    random = np.random.default_rng(seed)

    def distance_of_subsets() -> float:
        x = a[random.choice(len(a), size, replace=False)]
        y = b[random.choice(len(b), size, replace=False)]
        within = sum(np.sum(kernel) - np.trace(kernel) for kernel in (_cubic(x, x), _cubic(y, y)))
        return within / (size * (size - 1)) - 2 * np.mean(_cubic(x, y))

    values = [distance_of_subsets() for _ in range(num_subsets)]
    return KernelDistance(
        float(np.mean(values)), _standard_error_of_mean(np.asarray(values), size, count)
    )


def _standard_error_of_mean(values: np.ndarray, size: int, count: int) -> float:
    """Return the standard error of the mean of estimates from random subsets of one data set.

    The function assumes that an estimate from n independent rows has the variance V / n, with a
    constant V. The squared standard error is the sum of two variances:

    - The data set is a random sample of `count` rows. Therefore the first variance is V / count.
    - The subsets are random samples of the data set. Estimates from subsets of the same data set
      have the variance V (1/size − 1/count). The mean of k estimates has 1/k of this variance,
      which is the second variance.

    The function computes V from the variance of `values`. The result is NaN if there is only one
    value, or if each subset is the whole data set.

    Args:
        values: Estimates `[k]`, one per subset.
        size: Number of rows per subset.
        count: Number of rows of the data set. If estimates compare two sets of different sizes, the
            number of rows of the smaller set.
    """
    if len(values) == 1 or size == count:
        return float("nan")
    per_subset = np.std(values, ddof=1)
    return float(per_subset * np.sqrt(size / (count - size) + 1 / len(values)))


def _cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the cubic kernel (x_i·y_j/d + 1)³ for each row x_i of `x` and each row y_j of `y`.

    Here d is the number of features per row. The shape of the result is `[len(x), len(y)]`.
    """
    return (x @ y.T / x.shape[1] + 1) ** 3


def checked_features(
    a: npt.ArrayLike, b: npt.ArrayLike, more_than: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Check two sets of features, and return them as float64 arrays `[n, d]` and `[m, d]`.

    Args:
        a: First set, with one row per example and one column per feature.
        b: Second set, with the same number of columns.
        more_than: Each set must have more rows than this number. Default: 1.

    Raises:
        ValueError: If the shapes are not `[n, d]` and `[m, d]`, if a set has too few rows, or if a
            value is NaN or infinite.
    """
    a = np.asarray(a, np.float64)
    b = np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) <= more_than:
        raise ValueError(
            f"Features must have shapes (n, d) and (m, d), with n and m larger than {more_than}. "
            f"Received: shapes {a.shape} and {b.shape}."
        )
    for name, x in (("first", a), ("second", b)):
        if not np.isfinite(x).all():
            raise ValueError(
                f"Features must be finite. Received: NaN or infinite values in the {name} set."
            )
    return a, b
