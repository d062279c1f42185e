"""Precision, recall, density and coverage, against their definitions in plain loops."""

import numpy as np
import pytest

from keras_gen.evaluation import density_coverage, precision_recall

RANDOM = np.random.default_rng(0)
REAL = RANDOM.normal(size=(60, 3))
GENERATED = RANDOM.normal(size=(50, 3)) + np.array([1.0, 0, 0])


def radius(points, i, k):
    distances = [np.linalg.norm(points[i] - other) for other in points]
    return np.sort(distances)[k]  # the nearest is the point itself


def test_each_is_its_definition():
    k = 3
    balls = [(point, radius(REAL, i, k)) for i, point in enumerate(REAL)]
    among_real = [
        [np.linalg.norm(point - center) <= r for center, r in balls] for point in GENERATED
    ]
    balls = [(point, radius(GENERATED, i, k)) for i, point in enumerate(GENERATED)]
    among_generated = [
        [np.linalg.norm(point - center) <= r for center, r in balls] for point in REAL
    ]
    precision, recall = precision_recall(REAL, GENERATED, k=k)
    assert precision == pytest.approx(np.mean(np.any(among_real, axis=1)))
    assert recall == pytest.approx(np.mean(np.any(among_generated, axis=1)))
    density, coverage = density_coverage(REAL, GENERATED, k=k)
    assert density == pytest.approx(np.sum(among_real) / (k * len(GENERATED)))
    assert coverage == pytest.approx(np.mean(np.any(among_real, axis=0)))


def test_they_distinguish_low_quality_from_missing_modes():
    """Real data are two clusters. One generator makes one of them; another adds outliers."""
    modes = np.concatenate([RANDOM.normal(size=(500, 2)), RANDOM.normal(size=(500, 2)) + 20])
    one = RANDOM.normal(size=(1000, 2))
    with_outliers = np.concatenate(
        [
            RANDOM.normal(size=(400, 2)),
            RANDOM.normal(size=(400, 2)) + 20,
            RANDOM.normal(size=(200, 2)) + 10,
        ]
    )
    equal = np.concatenate([RANDOM.normal(size=(500, 2)), RANDOM.normal(size=(500, 2)) + 20])
    assert precision_recall(modes, one).precision > 0.9
    assert precision_recall(modes, one).recall < 0.6
    assert density_coverage(modes, one).coverage < 0.55
    assert precision_recall(modes, with_outliers).precision == pytest.approx(0.8, abs=0.06)
    assert precision_recall(modes, with_outliers).recall > 0.9
    assert density_coverage(modes, equal).density == pytest.approx(1, abs=0.1)
    assert density_coverage(modes, equal).coverage > 0.9


def test_too_few_are_refused():
    with pytest.raises(ValueError, match="with n and m larger than 3"):
        precision_recall(REAL[:3], GENERATED)


@pytest.mark.parametrize("numbers", [precision_recall, density_coverage])
def test_which_neighbour_is_checked(numbers):
    with pytest.raises(ValueError, match=r"`k` must be an integer of at least 1\. Received: k=0"):
        numbers(REAL, GENERATED, k=0)


def test_an_example_at_the_radius_is_inside():
    """Equation 1 of Kynkäänniemi et al. has ≤, as copies of one image need: their radius is 0."""
    real = np.array([[0.0, 0], [1, 0], [2, 0], [3, 0]])
    generated = np.array([[4.0, 0], [6, 0], [8, 0]])  # 1, 3 and 5 from the nearest real example
    assert precision_recall(real, generated, k=1) == (1 / 3, 2 / 4)
    copies = np.tile([[5.0, 1.0]], (6, 1))
    assert precision_recall(copies, copies, k=3) == (1.0, 1.0)
    assert density_coverage(copies, copies, k=3).coverage == 1.0
