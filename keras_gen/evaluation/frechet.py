"""Distances between two sets of features: of their means and covariances (FID), and of all their moments to the third (KID)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from keras_gen._arguments import positive_int


class KernelDistance(NamedTuple):
    """An unbiased estimate and its error."""

    value: float
    """Squared maximum mean discrepancy; 0 in expectation for two samples of one distribution, so it may be below."""
    standard_error: float
    """Of the value, by subsampling: how far it may lie from that of infinitely many features. NaN if the subsets are the sets."""


def frechet_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) of two sets of features (Heusel et al. 2017, arXiv:1706.08500, eq. 6).

    With features of Inception's last pooling it is the FID. It is biased: the fewer features, the larger; compare numbers of equal
    sizes only, and with that of two halves of the real data.

    Args:
        a, b: Features `[n, d]` and `[m, d]`, each of at least two rows.

    Raises:
        ValueError: If they are no such matrices, or not finite.

    Example:

    >>> x = np.random.default_rng(0).normal(size=(1000, 3))
    >>> round(frechet_distance(x, x + 1), 6)
    3.0
    """
    a, b = checked_features(a, b)
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    covariance_a, covariance_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    # tr (Σ_a Σ_b)^½ from the eigenvalues of the symmetric Σ_a^½ Σ_b Σ_a^½, which are those of Σ_a Σ_b
    values, vectors = np.linalg.eigh(covariance_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    products = np.linalg.eigvalsh(root @ covariance_b @ root)
    traces = (
        np.trace(covariance_a)
        + np.trace(covariance_b)
        - 2 * np.sum(np.sqrt(np.maximum(products, 0)))
    )
    return float(np.sum((mean_a - mean_b) ** 2) + max(traces, 0.0))


def kernel_distance(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    num_subsets: int = 100,
    subset_size: int | None = None,
    seed: int = 0,
) -> KernelDistance:
    """The unbiased squared maximum mean discrepancy under (x·y/d + 1)³ (Bińkowski et al. 2018, arXiv:1801.01401, section 4): KID.

    Args:
        a, b: Features `[n, d]` and `[m, d]`, each of at least two rows.
        num_subsets: How many pairs of subsets, drawn without replacement, are averaged.
        subset_size: Features in each; half of the smaller set, but 1,000 at most, if None.
        seed: Seed of the subsets.

    Returns:
        `KernelDistance(value, standard_error)`.

    Raises:
        ValueError: If the features are no such matrices, or not finite, or there are no subsets of at least two.

    Example:

    >>> x = np.random.default_rng(0).normal(size=(500, 3))
    >>> kernel_distance(x, x + 1, num_subsets=10).value > 1
    True
    """
    num_subsets = positive_int(None, "num_subsets", num_subsets)
    a, b = checked_features(a, b)
    count, random = min(len(a), len(b)), np.random.default_rng(seed)
    wanted = (
        min(1000, count // 2)
        if subset_size is None
        else positive_int(None, "subset_size", subset_size, at_least=2)
    )
    size = min(max(2, wanted), count)

    def one():
        x, y = (of[random.choice(len(of), size, replace=False)] for of in (a, b))
        within = sum(np.sum(kernel) - np.trace(kernel) for kernel in (_cubic(x, x), _cubic(y, y)))
        return within / (size * (size - 1)) - 2 * np.mean(_cubic(x, y))

    values = [one() for _ in range(num_subsets)]
    # subsets vary by V (1/size − 1/n) around the whole sets, which vary by V/n; their mean varies by a share of the former
    of_one = np.sqrt(size / (count - size) + 1 / num_subsets) if size < count else np.nan
    error = np.std(values, ddof=1) * of_one if num_subsets > 1 else np.nan
    return KernelDistance(float(np.mean(values)), float(error))


def _cubic(x, y):
    return (x @ y.T / x.shape[1] + 1) ** 3


def checked_features(
    a: npt.ArrayLike, b: npt.ArrayLike, more_than: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Both sets as float64 `[n, d]`.

    Raises:
        ValueError: If they are no such matrices, have no more rows than `more_than`, or are not finite.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) <= more_than:
        raise ValueError(
            f"Expected features (n, d) and (m, d), n and m more than {more_than}. Received: shapes {a.shape} and {b.shape}."
        )
    for name, x in (("first", a), ("second", b)):
        if not np.isfinite(x).all():
            raise ValueError(
                f"Expected finite features. Received: NaN or infinite ones in the {name} set."
            )
    return a, b
