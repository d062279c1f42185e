"""Thresholds of anomaly scores: by quantile, by the rate of false alarms, by labels."""

import fractions
import math

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from sklearn.metrics import f1_score
from support import tiny_vae

from keras_gen.fitting.data_check import DataCheck
from keras_gen.models.anomalies import AnomalyDetector


class PlainScore(AnomalyDetector):
    """A detector without networks, whose score is the only number of an example."""

    def __init__(self, threshold=None, seed=0):
        super().__init__(DataCheck((1,), missing=True), seed)
        self.threshold = self.check_threshold(threshold)

    def score(self, x, condition=None):
        return tf.convert_to_tensor(x)[:, 0]

    def score_of_batch(self, batch):
        return self.score(batch.x)


def column(scores):
    return np.asarray(scores, "float32")[:, None]


@pytest.fixture(scope="module")
def detector():
    return PlainScore()


def test_a_detector_without_one_of_the_scores_says_which_method_it_needs(detector):
    class Empty(AnomalyDetector):
        def __init__(self):
            super().__init__(DataCheck((1,)), seed=0)

    for name in ("score", "score_per_feature", "score_of_batch"):
        with pytest.raises(NotImplementedError, match=f"Empty must implement `{name}`"):
            getattr(Empty(), name)(np.zeros((3, 1), "float32"))


@pytest.mark.parametrize(("n", "rate"), [(19, 0.05), (50, 0.1), (99, 0.29), (340, 0.003)])
def test_the_threshold_of_a_rate_is_the_smallest_score_that_holds_it(detector, n, rate):
    scores = np.random.default_rng(n).normal(size=n).astype("float32")
    threshold = detector.calibrate(column(scores), false_alarm_rate=rate)
    # The rank of a new score among n + 1 exchangeable scores is uniform.
    exact = fractions.Fraction(str(rate))
    ranks = [k for k in range(1, n + 1) if fractions.Fraction(n + 1 - k, n + 1) <= exact]
    assert threshold == np.sort(scores)[min(ranks) - 1]
    assert detector.threshold == threshold


def test_a_quantile_breaks_the_rate_that_the_conformal_threshold_holds_on_200_data_sets(detector):
    random = np.random.default_rng(0)
    n, rate = 24, 0.05
    rates = {"false_alarm_rate": [], "quantile": []}
    for _ in range(200):
        scores = column(random.standard_exponential(n))
        for name, value in {"false_alarm_rate": rate, "quantile": 1 - rate}.items():
            threshold = detector.calibrate(scores, **{name: value})
            rates[name].append(scipy.stats.expon.sf(threshold))
    # One new example per data set is one trial of a binomial distribution.
    error = math.sqrt(rate * (1 - rate) / 200)
    assert np.mean(rates["false_alarm_rate"]) <= rate
    assert np.mean(rates["false_alarm_rate"]) >= rate - 1 / (n + 1) - 2 * error
    assert np.mean(rates["quantile"]) > rate + error
    alarms = random.binomial(1, rates["false_alarm_rate"])
    assert scipy.stats.binomtest(int(alarms.sum()), 200, rate, "greater").pvalue > 0.01


def test_tied_scores_give_no_more_alarms_than_the_rate(detector):
    random = np.random.default_rng(1)
    alarms = []
    for _ in range(200):
        scores = column(random.integers(0, 4, 40))
        threshold = detector.calibrate(scores, false_alarm_rate=0.3)
        alarms.append(np.mean(np.arange(4) > threshold))
    assert 0 < np.mean(alarms) <= 0.3


def test_too_few_examples_for_a_rate_are_an_error(detector):
    scores = column(np.arange(98))
    message = r"Expected at least 99 examples for false_alarm_rate=0\.01\. Received: 98\."
    with pytest.raises(ValueError, match=message):
        detector.calibrate(scores, false_alarm_rate=0.01)
    assert detector.calibrate(column(np.arange(99)), false_alarm_rate=0.01) == 98


def all_thresholds(scores):
    """Return one threshold per way to divide the scores in two, from low to high."""
    values = np.unique(scores).astype(float)
    return np.concatenate([[-1e9], values])


def labelled(seed, ties):
    random = np.random.default_rng(seed)
    anomalies = random.random(60) < 0.2
    scores = random.normal(size=60) + 1.5 * anomalies
    if ties:
        scores = np.round(scores)
    return scores.astype("float32"), anomalies


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_of_labels_has_the_largest_f1_of_all(detector, seed, ties):
    scores, anomalies = labelled(seed, ties)
    threshold = detector.calibrate(column(scores), anomalies=anomalies)
    best = max(
        f1_score(anomalies, scores > each, zero_division=0) for each in all_thresholds(scores)
    )
    found = detector.is_anomaly(column(scores)).numpy()
    assert f1_score(anomalies, found) == pytest.approx(best)
    np.testing.assert_array_equal(found, scores > threshold)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("costs", [(1, 1), (1, 20), (3.0, 0.1), (0, 1), (1, 1e6)])
def test_the_threshold_of_costs_has_the_smallest_cost_of_all(detector, costs, ties):
    scores, anomalies = labelled(7, ties)

    def cost(flags):
        return costs[0] * np.sum(flags & ~anomalies) + costs[1] * np.sum(~flags & anomalies)

    detector.calibrate(
        column(scores), anomalies=anomalies, false_alarm_cost=costs[0], miss_cost=costs[1]
    )
    best = min(cost(scores > each) for each in all_thresholds(scores))
    assert cost(detector.is_anomaly(column(scores)).numpy()) == pytest.approx(best)


def test_a_threshold_is_in_the_middle_of_the_gap_between_the_classes(detector):
    scores = column([1, 2, 3, 7, 8])
    labels = [0, 0, 0, 1, 1]
    assert detector.calibrate(scores, anomalies=labels) == 5
    assert detector.calibrate(scores, anomalies=labels, false_alarm_cost=1, miss_cost=5) == 5


def test_the_highest_of_equally_good_thresholds_is_used(detector):
    scores = column([1, 2, 4, 8])
    labels = [0, 1, 0, 1]
    # One mistake each: 1.5 gives a false alarm, 6 misses an anomaly.
    assert detector.calibrate(scores, anomalies=labels, false_alarm_cost=1, miss_cost=1) == 6
    assert detector.calibrate(scores, anomalies=labels, false_alarm_cost=1, miss_cost=2) == 1.5


def test_if_every_example_should_be_an_anomaly_the_threshold_is_just_below_the_lowest_score(
    detector,
):
    scores = column([1, 2, 3])
    threshold = detector.calibrate(scores, anomalies=[1, 0, 1], false_alarm_cost=1, miss_cost=10)
    assert threshold == np.nextafter(np.float32(1), np.float32(0))
    assert detector.is_anomaly(scores).numpy().all()


def test_neighboring_float32_scores_are_separated(detector):
    low = np.float32(1)
    high = np.nextafter(low, np.float32(2))
    higher = np.nextafter(high, np.float32(2))
    for scores in ([low, high], [high, higher]):
        detector.calibrate(column(scores), anomalies=[False, True])
        np.testing.assert_array_equal(detector.is_anomaly(column(scores)), [False, True])


def test_a_score_of_nan_counts_as_the_most_anomalous(detector):
    scores = column([*range(18), np.nan])
    assert detector.calibrate(scores, quantile=0.5) == 9
    assert detector.calibrate(scores, false_alarm_rate=0.1) == 17
    with pytest.raises(ValueError, match=r"infinite threshold.*are NaN or infinite: 1 of 19"):
        detector.calibrate(scores, false_alarm_rate=0.05)
    with pytest.raises(ValueError, match="infinite threshold"):
        detector.calibrate(scores, quantile=0.99)
    labels = np.arange(19) == 18
    assert detector.calibrate(scores, anomalies=labels) == 17
    np.testing.assert_array_equal(detector.is_anomaly(scores), labels)


def test_what_calibrate_is_given_is_checked(detector):
    scores, anomalies = labelled(0, ties=False)
    x = column(scores)
    data = tf.data.Dataset.from_tensor_slices(x).batch(8)
    for arguments, message in (
        (
            {"false_alarm_rate": 0},
            r"`false_alarm_rate` must be a number between 0 and 1, such as 0\.01\. Received",
        ),
        ({"false_alarm_rate": 1}, "`false_alarm_rate` must be a number between 0 and 1"),
        ({"quantile": 1}, r"`quantile` must be a number between 0 and 1, such as 0\.99\. Received"),
        ({"false_alarm_rate": "1%"}, "`false_alarm_rate` must be a number between 0 and 1"),
        ({"false_alarm_rate": 0.1, "quantile": 0.9}, "one of `quantile`, `false_alarm_rate`"),
        ({"anomalies": anomalies, "quantile": 0.9}, "one of `quantile`, `false_alarm_rate`"),
        ({"anomalies": anomalies[:5]}, r"one value per example.*shape \(60,\).*shape \(5,\)"),
        ({"anomalies": scores}, "True or 1 for an anomaly"),
        ({"anomalies": anomalies.astype(int) * 2 - 1}, r"True or 1 for an anomaly.*-1\)?\.$"),
        (
            {"anomalies": np.r_[0, 1, 0, 5, 7, np.ones(55, int)]},
            r"True or 1 for an anomaly.*False or 0 for each other.*5\)?\.$",
        ),
        ({"anomalies": np.zeros(60)}, "at least one anomaly and one other example"),
        ({"anomalies": np.ones(60)}, "at least one anomaly and one other example"),
        ({"anomalies": anomalies, "miss_cost": 1}, "both `false_alarm_cost` and `miss_cost`"),
        ({"false_alarm_cost": 1, "miss_cost": 1}, "need `anomalies`"),
        (
            {"anomalies": anomalies, "false_alarm_cost": -1, "miss_cost": 1},
            "`false_alarm_cost` must be a number of at least 0",
        ),
        (
            {"anomalies": anomalies, "false_alarm_cost": 1, "miss_cost": math.inf},
            "`miss_cost` must be a number of at least 0",
        ),
        (
            {"anomalies": anomalies, "false_alarm_cost": 0, "miss_cost": 0},
            "at least one cost above 0",
        ),
    ):
        before = detector.threshold
        with pytest.raises(ValueError, match=message):
            detector.calibrate(x, **arguments)
        assert detector.threshold == before
    with pytest.raises(ValueError, match="`x` as an array if `anomalies` are given"):
        detector.calibrate(data, anomalies=anomalies)
    with pytest.raises(ValueError, match="Dataset contains its labels itself"):
        detector.calibrate(data, condition=np.zeros(60, int))
    with pytest.raises(ValueError, match="at least one in-distribution example"):
        detector.calibrate(data.filter(lambda batch: False))
    assert detector.calibrate(data) == pytest.approx(np.quantile(scores, 0.99))


def test_a_threshold_of_a_rate_is_saved_and_served(images, tmp_path):
    model, arguments = tiny_vae()
    model.compile(**arguments)
    model.calibrate(images, false_alarm_rate=0.2)
    scores = model.score(images).numpy()
    assert np.float32(model.threshold) == np.sort(scores)[16]  # the 17th of 20: ⌈21 · 0.8⌉ = 17
    model.save(tmp_path / "m.keras")
    assert keras.saving.load_model(tmp_path / "m.keras").threshold == model.threshold
    outputs = model.score_outputs(tf.constant(images))
    np.testing.assert_array_equal(outputs["anomaly"], model.is_anomaly(images))
