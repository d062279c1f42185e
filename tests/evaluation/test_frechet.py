"""FID and KID of features, against scipy's matrix square root and plain loops."""

import re

import numpy as np
import pytest
import scipy.linalg

from keras_gen.evaluation import frechet, frechet_distance, kernel_distance


def features(count, size, seed, shift=0.0):
    random = np.random.default_rng(seed)
    return (
        random.normal(size=(count, size)) @ np.random.default_rng(99).normal(size=(size, size))
        + shift
    )


@pytest.mark.parametrize(
    ("count", "size"), [(500, 3), (2000, 64), (50, 64)]
)  # the last has covariances without full rank
def test_the_frechet_distance_is_that_of_scipys_square_root(count, size):
    a, b = features(count, size, 0), features(count, size, 1, shift=0.3)
    covariance_a = np.cov(a, rowvar=False)
    covariance_b = np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(covariance_a @ covariance_b).real
    distance = np.sum((a.mean(axis=0) - b.mean(axis=0)) ** 2)
    expected = distance + np.trace(covariance_a + covariance_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-3)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b), rel=1e-6)


def test_the_frechet_distance_of_known_normals():
    a = features(200_000, 2, 0)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, a + np.array([3, 4])) == pytest.approx(25, rel=1e-6)
    assert frechet_distance(a[:, :1], 3 * a[:, :1]) == pytest.approx(
        4 * (np.var(a[:, 0]) + a[:, 0].mean() ** 2), rel=1e-3
    )


def test_the_kernel_distance_is_that_of_plain_loops():
    a, b = features(40, 8, 0), features(40, 8, 1, shift=0.5)

    def kernel(x, y):
        return (np.dot(x, y) / 8 + 1) ** 3

    n = len(a)
    within = sum(
        kernel(s[i], s[j]) for s in (a, b) for i in range(n) for j in range(n) if i != j
    ) / (n * (n - 1))
    between = sum(kernel(x, y) for x in a for y in b) / n**2
    found = kernel_distance(a, b, num_subsets=3, subset_size=n)
    assert found.value == pytest.approx(within - 2 * between, rel=1e-3)
    assert np.isnan(found.standard_error)  # each subset is the whole


@pytest.mark.parametrize(
    ("shift", "num_subsets", "subset_size"), [(0.0, 20, 100), (1.0, 20, 100), (1.0, 3, 20)]
)
def test_the_error_of_the_kernel_distance_is_its_spread(shift, num_subsets, subset_size):
    """The spread is over pairs of sets. For equal distributions the error is rather too large."""
    pairs = [(features(200, 4, 2 * i), features(200, 4, 2 * i + 1, shift)) for i in range(40)]
    values, errors = zip(
        *(kernel_distance(*pair, num_subsets, subset_size) for pair in pairs), strict=True
    )
    ratio = np.sqrt(np.mean(np.square(errors))) / np.std(values)
    assert (0.75 < ratio < 1.35) if shift else (1 < ratio < 2.5)
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(40) or shift


@pytest.mark.parametrize("number", [1, 2, 10])
def test_the_standard_error_adds_the_variances_of_the_rows_and_of_the_subsets(number):
    """Estimates from n rows have the variance V / n, and k subsets share the same 100 rows."""
    values = np.random.default_rng(0).normal(size=number)
    found = frechet._standard_error_of_mean(values, size=20, count=100)
    if number == 1:
        assert np.isnan(found)
    else:
        of_subsets = np.var(values, ddof=1)  # V (1/20 − 1/100)
        of_rows = of_subsets / (1 / 20 - 1 / 100) / 100
        assert found == pytest.approx(np.sqrt(of_rows + of_subsets / number))
    assert np.isnan(frechet._standard_error_of_mean(values, size=100, count=100))


@pytest.mark.parametrize(("count", "size"), [(3, 2), (5, 2), (21, 10), (2003, 1000)])
def test_a_subset_has_half_of_the_rows_but_at_least_2_and_at_most_1000(count, size):
    a, b = features(count + 7, 2, 0), features(count, 2, 1)
    found = kernel_distance(a, b, num_subsets=2)
    assert found == kernel_distance(a, b, num_subsets=2, subset_size=size)


def test_real_against_real_is_small():
    same, wide = (
        frechet_distance(features(20_000, 8, 0), scale * features(20_000, 8, 1)) for scale in (1, 2)
    )
    assert same < 0.01 * wide


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
@pytest.mark.parametrize(
    "b", [np.zeros((5, 4)), np.zeros((1, 3)), np.zeros(3), np.full((5, 3), np.nan)]
)
def test_what_are_no_features_is_refused(distance, b):
    with pytest.raises(ValueError, match=r"Features must (have shapes|be finite)"):
        distance(np.zeros((5, 3)), b)


@pytest.mark.parametrize(
    ("argument", "value", "least"),
    [("num_subsets", 0, 1), ("subset_size", 1, 2), ("subset_size", 2.5, 2)],
)
def test_what_are_no_subsets_is_refused(argument, value, least):
    expected = f"`{argument}` must be an integer of at least {least}. Received: {argument}={value}"
    with pytest.raises(ValueError, match=re.escape(expected)):
        kernel_distance(np.zeros((5, 3)), np.zeros((5, 3)), **{argument: value})
