"""`DiscretizedLogisticMixture` against scipy, in double precision."""

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from keras_gen.distributions import DiscretizedLogisticMixture

RANDOM = np.random.default_rng(0)


def reference(parameters, num_components, num_levels):
    """Return the probability of each level of each element, `[..., elements, levels]`."""
    shape = (*parameters.shape[:-1], -1, 3, num_components)
    parameters = parameters.astype("float64").reshape(shape)
    weights = scipy.special.softmax(parameters[..., 0, :], axis=-1)
    location = parameters[..., 1, :] + 0.5
    smallest = np.exp(-7) / 2 / 0.1
    scale = 0.1 * (
        smallest + (1 - smallest) * np.logaddexp(0, parameters[..., 2, :] + np.log(np.e - 1))
    )
    levels = np.arange(num_levels) / (num_levels - 1)
    edges = np.concatenate([[-np.inf], (levels[1:] + levels[:-1]) / 2, [np.inf]])
    components = scipy.stats.logistic(location[..., None], scale[..., None])
    # of the two tails, the smaller one has all its digits
    cdf, survival = components.cdf(edges), components.sf(edges)
    of_components = np.where(cdf[..., 1:] < 0.5, np.diff(cdf, axis=-1), -np.diff(survival, axis=-1))
    return np.sum(weights[..., None] * of_components, axis=-2)


@pytest.mark.parametrize(("num_components", "num_levels"), [(1, 2), (3, 16), (5, 256)])
def test_probabilities_are_those_of_scipy_and_sum_to_one(num_components, num_levels):
    likelihood = DiscretizedLogisticMixture((2,), num_components, num_levels)
    parameters = RANDOM.normal(size=(7, *likelihood.parameter_shape)).astype("float32")
    expected = reference(parameters, num_components, num_levels)
    distribution = likelihood(parameters)
    levels = (np.arange(num_levels) / (num_levels - 1)).astype("float32")
    x = np.broadcast_to(levels[:, None, None], (num_levels, 7, 2))
    log_probs = likelihood.element_log_prob(distribution, x).numpy()
    np.testing.assert_allclose(np.moveaxis(log_probs, 0, -1), np.log(expected), rtol=2e-4)
    np.testing.assert_allclose(np.exp(log_probs.astype("float64")).sum(0), 1, rtol=1e-5)
    np.testing.assert_allclose(distribution.log_prob(x), log_probs.sum(-1), rtol=1e-5)
    # the mean is that of the variable before it is rounded
    mean = np.sum(expected * levels, axis=-1)
    np.testing.assert_allclose(distribution.mean(), mean, atol=0.5 / (num_levels - 1))
    if num_levels == 256:
        np.testing.assert_allclose(distribution.mean(), mean, atol=1e-3)


@pytest.mark.parametrize("location", [-50.0, -0.5, 0.1, 0.5, 50.0])
@pytest.mark.parametrize("raw_scale", [-50.0, 0.0, 300.0])
def test_log_probabilities_and_gradients_are_finite_for_extreme_parameters(location, raw_scale):
    likelihood = DiscretizedLogisticMixture((1,), 1)
    parameters = tf.constant([[0.0, location, raw_scale]])
    for x in (0.0, 0.5, 1.0):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            log_prob = likelihood(parameters).log_prob([[x]])
        assert np.isfinite(log_prob).all()
        assert np.isfinite(tape.gradient(log_prob, parameters)).all()
    assert 0 <= float(likelihood(parameters).mean()[0, 0]) <= 1


def test_log_probabilities_and_gradients_under_xla():
    likelihood = DiscretizedLogisticMixture((2,), 3)
    parameters = tf.constant(RANDOM.normal(size=(7, 18)), tf.float32)
    x = tf.constant(RANDOM.integers(0, 256, size=(7, 2)) / 255, tf.float32)

    def derivatives(parameters, x):
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            log_prob = likelihood(parameters).log_prob(x)
        return log_prob, tape.gradient(log_prob, parameters)

    compiled = tf.function(derivatives, jit_compile=True)(parameters, x)
    for mine, expected in zip(compiled, derivatives(parameters, x), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5)


def test_samples_have_the_frequencies_of_the_probabilities():
    likelihood = DiscretizedLogisticMixture((2,), 3, 8)
    parameters = RANDOM.normal(size=likelihood.parameter_shape).astype("float32")
    samples = likelihood(parameters).sample(5000, seed=1).numpy()
    numbers = np.round(7 * samples).astype(int)
    np.testing.assert_allclose(samples, numbers / 7, atol=1e-6)
    expected = reference(parameters, 3, 8)
    for element in range(2):
        counts = np.bincount(numbers[:, element], minlength=8)
        assert scipy.stats.chisquare(counts, 5000 * expected[element]).pvalue > 1e-3
    rows = likelihood.sample_rows(tf.stack([parameters, parameters]), tf.constant([3, 4], tf.int64))
    alone = likelihood.sample_rows(parameters[None], tf.constant([4], tf.int64))
    np.testing.assert_array_equal(rows[1], alone[0])


def test_a_wrong_number_of_components_is_refused():
    with pytest.raises(ValueError, match="`num_components` of DiscretizedLogisticMixture must be"):
        DiscretizedLogisticMixture((2,), 0)
    config = keras.saving.serialize_keras_object(DiscretizedLogisticMixture((2,), 3, 8))
    assert keras.saving.deserialize_keras_object(config).parameter_shape == (18,)


def test_the_mean_is_a_possible_value_of_a_pixel():
    likelihood = DiscretizedLogisticMixture((1,), 1)
    locations = np.linspace(-60, 60, 2001)
    parameters = np.stack([0 * locations, locations, 0.3 * locations], axis=1).astype("float32")
    means = likelihood(parameters).mean().numpy()
    assert 0 <= means.min() < 1e-6
    assert 1 - 1e-6 < means.max() <= 1
