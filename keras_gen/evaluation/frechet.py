"""Distances between two sets of features: Fréchet distance (FID) and kernel distance (KID)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from keras_gen._arguments import positive_int

_LARGEST_SUBSET = 1000


class KernelDistance(NamedTuple):
    """An unbiased estimate and its standard error."""

    value: float
    """Squared maximum mean discrepancy, lower is better. Its expectation is 0 for two samples of
    the same distribution, so the value can be negative."""
    standard_error: float
    """Standard error of the value, estimated by subsampling. It is NaN if the subsets are the
    whole sets."""


def frechet_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Return the Fréchet distance of two sets of features, lower is better.

    It is ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) (Heusel et al. 2017, arXiv:1706.08500,
    equation 6). With the features of Inception it is called FID. It is biased: fewer features give
    a larger distance. So compare only numbers from equally many features, and compare them with the
    distance between two halves of the real data.

    Args:
        a: Features `[n, d]`, at least two rows.
        b: Features `[m, d]`, at least two rows.

    Raises:
        ValueError: If the features have other shapes or are not finite.

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
    # tr (Σ_a Σ_b)^½ from the eigenvalues of the symmetric Σ_a^½ Σ_b Σ_a^½, which are the same.
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

    The kernel is (x·y/d + 1)³ (Bińkowski et al. 2018, arXiv:1801.01401, section 4). With the
    features of Inception the estimate is called KID. It is unbiased.

    Args:
        a: Features `[n, d]`, at least two rows.
        b: Features `[m, d]`, at least two rows.
        num_subsets: Number of pairs of subsets that are averaged, sampled without replacement.
        subset_size: Features per subset; half of the smaller set, but at most 1,000, if None.
        seed: Seed of the subsets.

    Returns:
        `KernelDistance(value, standard_error)`.

    Raises:
        ValueError: If the features have other shapes or are not finite, `num_subsets` is not a
            positive integer, or `subset_size` is below two.

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
    """Return the standard error of the mean of estimates from subsets.

    For a variance V per feature, an estimate from a subset varies around the one from the whole set
    by V (1/size − 1/count). The one from the whole set varies by V/count, and the mean over the
    subsets by a share of the former.

    Args:
        values: Estimates `[subsets]`.
        size: Features per subset.
        count: Features in the smaller set.
    """
    if len(values) == 1 or size == count:
        return float("nan")
    per_subset = np.std(values, ddof=1)
    return float(per_subset * np.sqrt(size / (count - size) + 1 / len(values)))


def _cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the kernel (x·y/d + 1)³ between all rows, `[len(x), len(y)]`."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def checked_features(
    a: npt.ArrayLike, b: npt.ArrayLike, more_than: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return two sets of features as float64 arrays `[n, d]` and `[m, d]`.

    Args:
        a: First set.
        b: Second set.
        more_than: Each set must have more rows than this number.

    Raises:
        ValueError: If the features have other shapes, too few rows, or are not finite.
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
