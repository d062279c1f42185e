"""`Columns`: the density of each kind of column, in the units of the table, against scipy."""

import re

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from keras_gen._columns import Column
from keras_gen.distributions import (
    Bernoulli,
    Categorical,
    Columns,
    ContinuousBernoulli,
    DiscretizedLogisticMixture,
    Normal,
    _column_groups,
)

SIZES = ("S", "M", "L", "XL")
ISLANDS = ("Biscoe", "Dream", "Torgersen")
COLUMNS = (
    Column("island", "category", ISLANDS),
    Column("bill_mm", "real", mean=44.0, scale=5.0),
    Column("mass_g", "positive", mean=8.3, scale=0.2),
    Column("id", "identifier"),
    Column("eggs", "count", mean=2.0, scale=2.5),
    Column("sex", "binary", ("female", "male")),
    Column("size", "ordinal", SIZES),
    Column("year", "constant", (2007,)),
    Column("depth_mm", "real", mean=17.0, scale=2.0),
    Column("clutch", "category", ("a", "b", "c")),
)
ROW = np.array([2.0, 47.5, 3900.0, 3.0, 1.0, 2.0, 18.5, 0.0], np.float32)
NAN = np.float32("nan")


def test_the_order_of_the_parameters_is_by_group():
    likelihood = Columns(COLUMNS)
    assert likelihood.event_shape == (8,)
    assert likelihood.parameter_shape == (3 + 3 + 1 + 1 + 1 + 1 + 1 + 1,)
    assert [column.name for column in likelihood.modeled] == [
        "island",
        "bill_mm",
        "mass_g",
        "eggs",
        "sex",
        "size",
        "depth_mm",
        "clutch",
    ]


def only(column, scale="optimal"):
    return Columns([column], scale=scale)


@pytest.mark.parametrize("parameter", [-1.5, 0.0, 2.0])
def test_real_is_a_normal_in_the_units_of_the_table(parameter):
    likelihood = only(COLUMNS[1])
    likelihood.groups[0].variance.assign([0.25])
    x = np.float32([[30.0], [44.0], [61.5]])
    expected = scipy.stats.norm(44 + 5 * parameter, 0.5 * 5).logpdf(x[:, 0])
    distribution = likelihood(tf.fill((3, 1), parameter))
    np.testing.assert_allclose(distribution.log_prob(x), expected, rtol=1e-5)
    np.testing.assert_allclose(likelihood.point(distribution)[:, 0], 44 + 5 * parameter, rtol=1e-6)


@pytest.mark.parametrize("parameter", [-1.5, 0.0, 2.0])
def test_positive_is_a_log_normal_in_the_units_of_the_table(parameter):
    likelihood = only(COLUMNS[2], "decoded")
    x = np.float32([[2700.0], [4000.0], [6300.0]])
    raw_scale = 0.3
    sigma = 0.2 * (np.exp(-6) + (1 - np.exp(-6)) * np.log1p(np.exp(raw_scale) * (np.e - 1)))
    expected = scipy.stats.lognorm(sigma, scale=np.exp(8.3 + 0.2 * parameter))
    distribution = likelihood(tf.constant([[parameter, raw_scale]] * 3))
    np.testing.assert_allclose(distribution.log_prob(x), expected.logpdf(x[:, 0]), rtol=1e-4)
    np.testing.assert_allclose(likelihood.point(distribution)[:, 0], expected.mean(), rtol=1e-5)


def test_a_change_of_units_changes_log_p_by_the_log_of_the_factor():
    in_grams = only(Column("mass", "positive", mean=8.3, scale=0.2))
    in_kilograms = only(Column("mass", "positive", mean=8.3 - np.log(1000), scale=0.2))
    grams = in_grams(tf.zeros((1, 1))).log_prob([[4200.0]])
    kilograms = in_kilograms(tf.zeros((1, 1))).log_prob([[4.2]])
    np.testing.assert_allclose(kilograms - grams, np.log(1000), rtol=1e-5)
    in_mm = only(Column("bill", "real", mean=44.0, scale=5.0))
    in_cm = only(Column("bill", "real", mean=4.4, scale=0.5))
    difference = in_cm(tf.ones((1, 1))).log_prob([[4.0]]) - in_mm(tf.ones((1, 1))).log_prob(
        [[40.0]]
    )
    np.testing.assert_allclose(difference, np.log(10), rtol=1e-5)


@pytest.mark.parametrize(("parameter", "raw"), [(-3.0, -2.0), (0.0, 0.0), (1.0, 3.0), (0.5, 200.0)])
def test_count_is_a_negative_binomial(parameter, raw):
    likelihood = only(COLUMNS[4], "decoded")
    mean, variance = 2.0, 2.5**2
    mu = np.exp(np.log(mean) + np.sqrt(np.log1p(variance / mean**2)) * parameter)
    r = mean**2 / (variance - mean) * np.exp(8 * np.tanh(raw / 8))
    x = np.arange(12, dtype=np.float32)[:, None]
    expected = scipy.stats.nbinom(r, r / (r + mu))
    distribution = likelihood(tf.constant([[parameter, raw]] * 12))
    np.testing.assert_allclose(
        distribution.log_prob(x), expected.logpmf(x[:, 0]), rtol=2e-4, atol=2e-4
    )
    np.testing.assert_allclose(likelihood.expectation(distribution)[:, 0], mu, rtol=1e-5)
    np.testing.assert_array_equal(likelihood.point(distribution)[:, 0], np.float32(np.round(mu)))


def test_binary_and_category_are_their_cross_entropies():
    logits = np.float32([[0.7, -1.0, 2.0, 0.1]])
    likelihood = Columns([COLUMNS[5], COLUMNS[0]])
    x = np.float32([[1.0, 1.0]])
    expected = np.log(scipy.special.expit(0.7)) + scipy.special.log_softmax(logits[0, 1:])[1]
    np.testing.assert_allclose(likelihood(logits).log_prob(x), [expected], rtol=1e-5)
    np.testing.assert_array_equal(likelihood.point(likelihood(logits)), [[1.0, 1.0]])


def test_ordinal_is_a_difference_of_logistic_functions():
    likelihood = only(COLUMNS[6])
    cutpoints = np.log(np.array([1 / 3, 1, 3]))  # equal probabilities at μ = 0
    for location in (-2.0, 0.0, 1.5):
        above = np.concatenate([[1.0], scipy.special.expit(location - cutpoints), [0.0]])
        distribution = likelihood(tf.fill((4, 1), location))
        x = np.arange(4, dtype=np.float32)[:, None]
        np.testing.assert_allclose(
            distribution.log_prob(x), np.log(above[:-1] - above[1:]), rtol=1e-4
        )
        probabilities = likelihood.expectation(distribution)
        np.testing.assert_allclose(probabilities[0], above[:-1] - above[1:], rtol=1e-4)
    # the median is the first k with P(x ≤ k) = sigmoid(c_k − μ) ≥ 1/2, that is, c_k ≥ μ
    medians = likelihood.point(likelihood(tf.constant([[-2.0], [-0.5], [0.8], [1.5]])))
    np.testing.assert_array_equal(medians[:, 0], [0.0, 1.0, 2.0, 3.0])


def test_a_row_is_the_sum_of_its_columns_without_the_missing_ones():
    likelihood = Columns(COLUMNS)
    parameters = np.random.default_rng(0).normal(size=(5, 12)).astype("float32")
    distribution = likelihood(parameters)
    assert tuple(distribution.batch_shape) == (5,)
    assert tuple(distribution.event_shape) == (8,)
    elements = likelihood.element_log_prob(distribution, ROW).numpy()
    assert elements.shape == (5, 8)
    np.testing.assert_allclose(distribution.log_prob(ROW), elements.sum(axis=1), rtol=1e-5)
    for column in range(8):
        row = ROW.copy()
        row[column] = NAN
        expected = elements.sum(axis=1) - elements[:, column]
        np.testing.assert_allclose(distribution.log_prob(row), expected, rtol=1e-4, atol=1e-5)
    empty = np.full(8, NAN)
    np.testing.assert_array_equal(distribution.log_prob(empty), np.zeros(5))


def test_columns_alone_agree_with_columns_together():
    together = Columns(COLUMNS)
    parameters = np.random.default_rng(1).normal(size=(1, 12)).astype("float32")
    elements = together.element_log_prob(together(parameters), ROW[None]).numpy()[0]
    start = 0
    for group in together.groups:
        for position, index in enumerate(group.indices):
            single = Columns([together.modeled[index]])
            of_group = parameters[:, start : start + group.parameter_size]
            width = group.parameter_size // group.size
            of_one = of_group[:, position * width : (position + 1) * width]
            log_prob = single(of_one).log_prob(ROW[None, index : index + 1])
            np.testing.assert_allclose(log_prob, elements[index : index + 1], rtol=1e-5)
        start += group.parameter_size


@pytest.mark.parametrize("scale", ["optimal", "decoded", "mixture"])
def test_several_samples_of_the_parameters_have_one_log_p_each(scale):
    """As of several samples of the latents: `[samples, batch]` for parameters and rows."""
    likelihood = Columns(COLUMNS, scale, num_components=3)
    shape = (2, 3, *likelihood.parameter_shape)
    parameters = np.random.default_rng(1).normal(size=shape).astype("float32")
    x = np.stack([ROW] * 3)
    distribution = likelihood(parameters)
    assert tuple(distribution.batch_shape) == (2, 3)
    log_prob = distribution.log_prob(x)
    expectation = likelihood.expectation(distribution)
    estimate = likelihood.estimate(expectation)
    assert log_prob.shape == (2, 3)
    for sample in range(2):
        alone = likelihood(parameters[sample])
        np.testing.assert_allclose(log_prob[sample], alone.log_prob(x), rtol=1e-5)
        np.testing.assert_allclose(expectation[sample], likelihood.expectation(alone), rtol=1e-5)
        np.testing.assert_allclose(estimate[sample], likelihood.point(alone), rtol=1e-5)


def test_gradients_are_finite_where_entries_are_missing():
    likelihood = Columns(COLUMNS, scale="learned")
    parameters = tf.Variable(tf.random.stateless_normal((2, 12), seed=(0, 1)))
    x = np.stack([np.full(8, NAN), ROW])
    with tf.GradientTape() as tape:
        loss = -tf.reduce_sum(likelihood.fitted(parameters, x).log_prob(x))
    gradients = tape.gradient(loss, [parameters, *likelihood.trainable_variables])
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    np.testing.assert_array_equal(gradients[0][0], np.zeros(12))
    assert np.abs(gradients[0][1]).min() > 0


def test_each_row_of_a_batch_is_sampled_from_its_own_distribution():
    likelihood = Columns(COLUMNS)
    parameters = 0.5 * np.random.default_rng(2).normal(size=(3, 12)).astype("float32")
    samples = likelihood(parameters).sample(2_000, seed=3).numpy()
    assert samples.shape == (2_000, 3, 8)
    for row in range(3):
        expected = likelihood(parameters[row]).sample(2_000, seed=4).numpy()
        error = (samples[:, row].std(axis=0) + expected.std(axis=0)) / np.sqrt(2_000)
        assert np.all(abs(samples[:, row].mean(axis=0) - expected.mean(axis=0)) < 5 * error)


def test_samples_have_the_moments_of_the_distribution():
    likelihood = Columns(COLUMNS)
    parameters = 0.5 * np.random.default_rng(2).normal(size=(12,)).astype("float32")
    distribution = likelihood(parameters)
    samples = distribution.sample(20_000, seed=3).numpy()
    assert samples.shape == (20_000, 8)
    numbers = [1, 2, 3, 6]
    expected = likelihood.expectation(distribution).numpy()
    means = {"bill_mm": samples[:, 1], "depth_mm": samples[:, 6]}
    assert np.isfinite(samples).all()
    widths = [group.expectation_size for group in likelihood.groups]
    by_group = np.split(expected, np.cumsum(widths)[:-1])
    for group, values in zip(likelihood.groups, by_group, strict=True):
        for position, index in enumerate(group.indices):
            drawn = samples[:, index]
            if index in numbers or likelihood.modeled[index].kind == "binary":
                error = drawn.std() / np.sqrt(len(drawn))
                assert abs(drawn.mean() - values[position]) < 5 * error
            else:
                number = len(values) // group.size
                probabilities = values[position * number : (position + 1) * number]
                frequencies = np.bincount(drawn.astype(int), minlength=number) / len(drawn)
                np.testing.assert_allclose(frequencies, probabilities, atol=0.02)
    assert means.keys() == {"bill_mm", "depth_mm"}


def test_rows_are_sampled_by_their_own_seed():
    likelihood = Columns(COLUMNS)
    parameters = tf.constant(np.random.default_rng(0).normal(size=(3, 12)), tf.float32)
    seeds = tf.constant([5, 6, 7], tf.int64)
    rows = likelihood.sample_rows(parameters, seeds)
    np.testing.assert_array_equal(likelihood.sample_rows(parameters[1:2], seeds[1:2])[0], rows[1])
    assert np.abs(rows[0] - likelihood.sample_rows(parameters[:1], seeds[1:2])[0]).max() > 0


def test_an_optimal_scale_is_fitted_to_the_observed_entries():
    likelihood = Columns([COLUMNS[1], COLUMNS[2]])
    x = np.float32([[49.0, np.exp(8.5)], [NAN, np.exp(8.1)], [39.0, NAN]])
    parameters = tf.zeros((1, 3, 2))
    distribution = likelihood.fitted(parameters, x)
    np.testing.assert_allclose(distribution.of_groups[0].scale, [5.0], rtol=1e-5)
    np.testing.assert_allclose(distribution.of_groups[1].scale, [0.2], rtol=1e-4)
    above = likelihood.fitted(parameters + 1, x)  # errors of 0 and 2, and of 0 and 2
    np.testing.assert_allclose(above.of_groups[0].scale, [5 * np.sqrt(2)], rtol=1e-5)
    for group in likelihood.groups:
        group.variance.assign([1.0])
    half = np.float32([[44 + 2.5, np.exp(8.4)]])
    likelihood.fitted(tf.zeros((1, 1, 2)), half)
    np.testing.assert_allclose(likelihood.groups[0].variance, [0.9 + 0.1 * 0.25], rtol=1e-4)
    before = likelihood.groups[1].variance.numpy()
    likelihood.fitted(tf.zeros((1, 1, 2)), np.float32([[44, NAN]]))
    np.testing.assert_array_equal(likelihood.groups[1].variance, before)


def test_an_optimal_scale_is_no_weight_of_the_training():
    likelihood = Columns(COLUMNS[:3])
    assert likelihood.trainable_variables == []
    assert len(likelihood.weights) == 2


class Caller(keras.layers.Layer):
    """A layer that reads the likelihood's weights inside of its call, as a VAE does."""

    def __init__(self, likelihood):
        super().__init__()
        self.likelihood = likelihood

    def call(self, parameters):
        return self.likelihood(parameters).of_groups[0].scale


@pytest.mark.parametrize("scale", ["optimal", "learned"])
def test_a_scale_is_float32_under_mixed_precision(scale):
    keras.config.set_dtype_policy("mixed_float16")
    likelihood = only(COLUMNS[1], scale)
    likelihood.weights[0].assign([0.3])
    expected = likelihood(tf.zeros((1, 1))).of_groups[0].scale
    np.testing.assert_array_equal(Caller(likelihood)(tf.zeros((1, 1))), expected)


@pytest.mark.parametrize("scale", ["optimal", "learned", "decoded"])
@pytest.mark.parametrize("column", COLUMNS[1:3], ids=lambda column: column.kind)
def test_a_scale_is_at_least_exp_of_minus_six_standard_deviations(column, scale):
    likelihood = only(column, scale)
    x = np.float32([[44.0 if column.kind == "real" else np.exp(8.3)]])
    parameters = tf.constant([[[0.0, -50.0]]])[..., : likelihood.parameter_shape[0]]
    if scale == "learned":
        likelihood.groups[0].raw_scale.assign([-50.0])
    scales = likelihood.fitted(parameters, x).of_groups[0].scale
    np.testing.assert_allclose(np.ravel(scales), column.scale * np.exp(-6), rtol=1e-4)


@pytest.mark.parametrize(
    ("mean", "scale", "expected_mean", "expected_dispersion"),
    [
        (2.0, 2.5, 2.0, 4 / 4.25),
        (0.0, 1.0, 1e-3, 1e-3),  # a mean of 0 has no logarithm
        (4.0, 1.0, 4.0, 4000.0),  # a variance below the mean is no negative binomial
        (40.0, 1.0, 40.0, 1e4),
        (1e-2, 1.0, 1e-2, 1e-3),
    ],
)
def test_a_count_starts_from_its_mean_and_a_finite_dispersion(
    mean, scale, expected_mean, expected_dispersion
):
    likelihood = only(Column("n", "count", mean=mean, scale=scale))
    distribution = likelihood(tf.zeros((1, 1)))
    np.testing.assert_allclose(likelihood.expectation(distribution), [[expected_mean]], rtol=1e-4)
    found = distribution.of_groups[0].total_count
    np.testing.assert_allclose(found, [[expected_dispersion]], rtol=1e-4)


def test_the_means_of_numbers_do_not_overflow():
    likelihood = Columns([COLUMNS[2], COLUMNS[4]])
    means = likelihood.expectation(likelihood(tf.fill((1, 2), 1e4)))
    np.testing.assert_allclose(means, [[np.exp(60), np.exp(30)]], rtol=1e-4)
    huge = Column("n", "count", mean=1e30, scale=1e30, minimum=1e30, maximum=1e31)
    mixture = Columns([huge], scale="mixture", num_components=2)
    samples = mixture(tf.zeros((1, 2))).sample(10, seed=0)
    np.testing.assert_allclose(samples, np.full((10, 1, 1), np.expm1(30)), rtol=1e-4)


def test_ties_are_estimated_as_the_first_category():
    likelihood = Columns([COLUMNS[5], COLUMNS[0], COLUMNS[6]])
    expectation = tf.constant([[0.5, 0.2, 0.4, 0.4, 0.25, 0.25, 0.25, 0.25]])
    np.testing.assert_array_equal(likelihood.estimate(expectation), [[0.0, 1.0, 1.0]])


def test_no_category_of_an_order_is_impossible():
    likelihood = only(COLUMNS[6])
    likelihood.groups[0].raw_cutpoints.assign([[0.0, -50.0, -50.0]])
    probabilities = likelihood.expectation(likelihood(tf.zeros((1, 1))))
    # the cutpoints are 0, 1e-6 and 2e-6, and the derivative of the sigmoid at 0 is 1/4
    np.testing.assert_allclose(probabilities, [[0.5, 2.5e-7, 2.5e-7, 0.5]], rtol=1e-3)


def test_possible_entries_are_those_of_the_kind_of_each_column():
    likelihood = Columns(COLUMNS)
    smallest, largest = likelihood.support
    most, tiny = np.finfo(np.float32).max, np.finfo(np.float32).tiny
    np.testing.assert_array_equal(smallest, np.float32([0, -most, tiny, 0, 0, 0, -most, 0]))
    np.testing.assert_array_equal(largest, np.float32([2, most, most, most, 1, 3, most, 2]))
    np.testing.assert_array_equal(likelihood.whole, [1, 0, 0, 1, 1, 1, 0, 1])
    assert likelihood.missing
    assert likelihood.generates_samples


def test_all_categories_missing_or_extreme_logits_stay_finite():
    likelihood = Columns(COLUMNS, scale="decoded")
    size = likelihood.parameter_shape[0]
    for value in (-200.0, 200.0):
        log_prob = likelihood(tf.fill((1, size), value)).log_prob(ROW[None])
        assert np.isfinite(log_prob).all()


@pytest.mark.parametrize("scale", ["optimal", "learned", "decoded", "mixture"])
def test_columns_come_back_from_their_config(scale):
    likelihood = Columns(COLUMNS, scale=scale)
    config = keras.saving.serialize_keras_object(likelihood)
    copy = keras.saving.deserialize_keras_object(config)
    assert copy.columns == likelihood.columns
    assert copy.scale == scale
    shapes = [weight.shape for weight in likelihood.weights]
    assert [weight.shape for weight in copy.weights] == shapes


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ([], "at least one column"),
        ([Column("id", "identifier")], "Received: id (identifier)"),
        (["mass"], "must be the columns of a table"),
        ([Column("a", "real"), Column("a", "count")], "more than once: a"),
    ],
)
def test_columns_that_cannot_be_modeled_are_refused(columns, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        Columns(columns)


def test_an_unknown_scale_is_refused():
    with pytest.raises(ValueError, match="'optimal', 'learned', 'decoded' or 'mixture'"):
        Columns(COLUMNS, scale="shared")


@pytest.mark.parametrize(
    "make",
    [
        lambda missing: Bernoulli((2, 3), missing=missing),
        lambda missing: ContinuousBernoulli((2, 3), missing=missing),
        lambda missing: Normal((2, 3), 0.5, missing=missing),
        lambda missing: Normal((2, 3), "optimal", missing=missing),
        lambda missing: Categorical((2, 3), 2, missing=missing),
        lambda missing: DiscretizedLogisticMixture((2, 3), 2, missing=missing),
    ],
)
def test_missing_pixels_are_omitted(make):
    likelihood, complete = make(missing=True), make(missing=False)
    parameters = tf.random.stateless_normal((4, *likelihood.parameter_shape), seed=(0, 2))
    x = np.random.default_rng(0).integers(0, 2, (4, 2, 3)).astype("float32")
    holes = np.random.default_rng(1).random((4, 2, 3)) < 0.4
    expected = complete.element_log_prob(complete(parameters), x).numpy()
    np.testing.assert_allclose(
        complete(parameters).log_prob(x), expected.sum(axis=(1, 2)), rtol=1e-5
    )
    with_holes = np.where(holes, NAN, x)
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        log_prob = likelihood(parameters).log_prob(with_holes)
    np.testing.assert_allclose(log_prob, np.where(holes, 0, expected).sum(axis=(1, 2)), rtol=1e-5)
    assert np.isfinite(tape.gradient(log_prob, parameters)).all()
    config = keras.saving.serialize_keras_object(likelihood)
    assert keras.saving.deserialize_keras_object(config).missing


def test_an_optimal_scale_ignores_missing_pixels():
    likelihood = Normal((2,), "optimal", missing=True)
    x = np.float32([[1.0, NAN], [3.0, NAN]])
    distribution = likelihood.fitted(tf.zeros((1, 2, 2)), x)
    np.testing.assert_allclose(distribution.distribution.scale, np.sqrt(5.0), rtol=1e-6)


def test_a_mixture_of_real_and_positive_columns_is_that_of_scipy():
    real = Column("bill", "real", mean=44.0, scale=5.0, minimum=34.0, maximum=59.0)
    likelihood = Columns([real, COLUMNS[2]], scale="mixture", num_components=3)
    assert likelihood.parameter_shape == (6,)
    logits = np.array([[0.3, -1.0, 0.5, 1.0, 0.0, -0.5]], np.float32)
    first, second = likelihood.groups
    first.components.raw_scales.assign([[-1.0, 0.5, 1.0]])
    locations, scales = (
        np.asarray(v)[0] for v in first.components.in_units(first.mean, first.unit)
    )
    np.testing.assert_allclose(locations, [34.0, 46.5, 59.0], rtol=1e-5)
    x = np.float32([[47.0, 3900.0]])
    weights = scipy.special.softmax(logits[0, :3])
    bill = np.log(np.sum(weights * scipy.stats.norm(locations, scales).pdf(47.0)))
    logs, widths = (np.asarray(v)[0] for v in second.components.in_units(second.mean, second.unit))
    mass = scipy.stats.lognorm(widths, scale=np.exp(logs)).pdf(3900.0)
    mass = np.log(np.sum(scipy.special.softmax(logits[0, 3:]) * mass))
    distribution = likelihood(logits)
    np.testing.assert_allclose(
        likelihood.element_log_prob(distribution, x)[0], [bill, mass], rtol=1e-4
    )
    point = likelihood.point(distribution)[0]
    np.testing.assert_allclose(point[0], np.sum(weights * locations), rtol=1e-5)
    means = scipy.stats.lognorm(widths, scale=np.exp(logs)).mean()
    np.testing.assert_allclose(
        point[1], np.sum(scipy.special.softmax(logits[0, 3:]) * means), rtol=1e-4
    )
    second.components.raw_scales.assign(np.full((1, 3), 1e3))  # exp(σ²/2) exceeds float32
    assert np.isfinite(likelihood.point(likelihood(logits))).all()


@pytest.mark.parametrize(
    ("column", "ends"),
    [
        (Column("x", "count", mean=20.0, scale=5.0), np.log1p([5.0, 35.0])),
        (Column("x", "count", mean=2.0, scale=5.0), np.log1p([0.0, 17.0])),
        (Column("x", "real", mean=20.0, scale=5.0), [-3.0, 3.0]),
        (Column("x", "positive", mean=1.0, scale=0.5), [-3.0, 3.0]),
    ],
)
def test_components_of_an_unknown_range_cover_three_standard_deviations(column, ends):
    components = Columns([column], scale="mixture", num_components=5).groups[0].components
    np.testing.assert_allclose(components.locations[0], np.linspace(*ends, 5), rtol=1e-5)


def test_a_mixture_of_counts_is_a_discretized_logistic_mixture():
    eggs = Column("eggs", "count", mean=2.0, scale=2.5, minimum=0.0, maximum=20.0)
    likelihood = Columns([eggs], scale="mixture", num_components=4)
    logits = np.array([[0.3, -1.0, 0.5, 1.0]], np.float32)
    group = likelihood.groups[0]
    locations, scales = (np.asarray(v)[0] for v in group.components.in_units(0.0, 1.0))
    np.testing.assert_allclose(locations, np.linspace(0, np.log(21), 4), rtol=1e-5)
    weights = scipy.special.softmax(logits[0].astype("float64"))
    x = np.arange(30.0)
    upper = scipy.stats.logistic(locations, scales).cdf(np.log(x + 1.5)[:, None])
    lower = scipy.stats.logistic(locations, scales).cdf(np.log(x + 0.5)[:, None])
    lower[0] = 0
    expected = np.log((upper - lower) @ weights)
    distribution = likelihood(np.tile(logits, (30, 1)))
    np.testing.assert_allclose(
        distribution.log_prob(x[:, None].astype("float32")), expected, rtol=1e-4
    )
    many = likelihood(logits[0]).sample(20_000, seed=0).numpy()[:, 0]
    frequencies = np.bincount(many.astype(int), minlength=30)[:30] / len(many)
    np.testing.assert_allclose(frequencies, np.exp(expected), atol=0.012)
    narrow = likelihood(tf.constant([[0.0, 0.0, 0.0, 0.0]]))
    group.components.raw_scales.assign(np.full((1, 4), -50.0))
    assert np.isfinite(narrow.log_prob([[15_024.0]])).all()


def test_a_mixture_has_finite_gradients_and_ignores_missing_entries():
    likelihood = Columns(COLUMNS, scale="mixture", num_components=3)
    size = likelihood.parameter_shape[0]
    parameters = tf.Variable(tf.random.stateless_normal((2, size), seed=(0, 1)))
    x = np.stack([np.full(8, NAN), ROW])
    with tf.GradientTape() as tape:
        log_prob = likelihood.fitted(parameters, x).log_prob(x)
    gradients = tape.gradient(log_prob, [parameters, *likelihood.trainable_variables])
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    np.testing.assert_array_equal(log_prob[0], 0.0)
    np.testing.assert_array_equal(gradients[0][0], np.zeros(size))


@pytest.mark.parametrize(
    ("column", "ends"),
    [
        (Column("n", "count", minimum=3, maximum=8), (np.log(4), np.log(9))),
        (Column("n", "count", minimum=3, maximum=3), (np.log(4), np.log(4) + 1e-3)),
        (Column("n", "count", mean=2.0, scale=5.0), (0.0, np.log(18))),
        (Column("n", "count", mean=20.0, scale=5.0), (np.log(6), np.log(36))),
        (Column("x", "real", mean=2.0, scale=5.0), (-3, 3)),
        (Column("x", "real", mean=2.0, scale=5.0, minimum=-3), (-3, 3)),
        (Column("x", "real", mean=2.0, scale=5.0, minimum=-3, maximum=4), (-1, 0.4)),
        (Column("x", "real", mean=2.0, scale=5.0, minimum=7, maximum=7), (1, 1 + 1e-3)),
        (Column("x", "positive", mean=1.0, scale=0.5, minimum=1, maximum=np.e**2), (-2, 2)),
    ],
)
def test_locations_of_a_mixture_start_at_the_smallest_and_the_largest_number(column, ends):
    assert _column_groups._ends(column) == pytest.approx(ends)


@pytest.mark.parametrize(
    ("kind", "decimals", "expected"),
    [
        ("real", 0, 1 / np.sqrt(12) / 2.5),
        ("real", 2, 0.01 / np.sqrt(12) / 2.5),
        ("real", None, 0),
        ("positive", 2, 0),
        ("count", 0, 0),
    ],
)
def test_a_component_is_not_narrower_than_the_rounding_of_its_column(kind, decimals, expected):
    column = Column("x", kind, mean=1.0, scale=2.5, decimals=decimals)
    assert _column_groups._rounding(column) == pytest.approx(expected)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_component_starts_as_wide_as_the_distance_to_its_neighbor(number):
    columns = [
        Column("a", "real", mean=44.0, scale=5.0, minimum=34.0, maximum=64.0),
        Column("b", "real", mean=0.0, scale=2.0, minimum=2.0, maximum=8.0, decimals=0),
        Column("c", "real", mean=1.0, scale=1.0, minimum=1.0, maximum=1.0),
    ]
    likelihood = Columns(columns, scale="mixture", num_components=number)
    group = likelihood.groups[0]

    def scales():
        return likelihood(tf.zeros((1, 3 * number))).of_groups[0].components_distribution.scale

    widths = np.array([30.0, 6.0, 1e-3])
    rounding = np.array([0.0, 1 / np.sqrt(12), 0.0])  # of whole numbers
    smallest = np.maximum(np.exp(-6) * widths / 6, rounding)
    gaps = widths / max(number - 1, 1)
    gaps[2] = 1e-3 * np.mean(gaps / [5, 2, 1])  # not much narrower than the other columns
    expected = np.repeat(smallest + gaps, number).reshape(3, number)
    np.testing.assert_allclose(scales(), expected, rtol=1e-4)
    group.components.raw_scales.assign(np.full((3, number), -50.0))
    expected = np.repeat(smallest, number).reshape(3, number)
    np.testing.assert_allclose(scales(), expected, rtol=1e-4)


def test_the_mean_of_a_mixture_of_counts_is_that_of_its_locations():
    eggs = Column("eggs", "count", mean=2.0, scale=2.5, minimum=0.0, maximum=20.0)
    likelihood = Columns([eggs], scale="mixture", num_components=3)
    logits = np.float32([[0.3, -1.0, 0.5], [9.0, 0.0, 0.0]])
    counts = np.expm1(np.linspace(0, np.log(21), 3))
    expected = scipy.special.softmax(logits, axis=1) @ counts
    found = likelihood.expectation(likelihood(logits))
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4)
    np.testing.assert_array_equal(likelihood.estimate(found)[:, 0], np.round(expected))


def test_a_group_of_another_kind_says_what_it_lacks():
    with pytest.raises(NotImplementedError):
        _column_groups.Group([0], COLUMNS[1:2]).distribution(tf.zeros((1, 1)))
    with pytest.raises(NotImplementedError):
        _column_groups.Mixtures([0], COLUMNS[1:2], 3).of_components()
