import re

import keras
import numpy as np
import pytest
import scipy.integrate
import scipy.optimize
import scipy.special
import scipy.stats
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from keras_gen.distributions import (
    Bernoulli,
    Categorical,
    ContinuousBernoulli,
    DiscretizedLogisticMixture,
    Likelihood,
    Normal,
)

SHAPE = (4, 5, 1)
RANDOM = np.random.default_rng(0)
PARAMETERS = RANDOM.normal(size=(3, *SHAPE)).astype("float32")
X = RANDOM.random((3, *SHAPE)).astype("float32")


def test_bernoulli_is_the_cross_entropy_in_nats():
    p = scipy.special.expit(PARAMETERS.astype("float64"))
    expected = (X * np.log(p) + (1 - X) * np.log(1 - p)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(Bernoulli(SHAPE)(PARAMETERS).log_prob(X), expected, rtol=1e-5)
    np.testing.assert_allclose(Bernoulli(SHAPE)(PARAMETERS).mean(), p, rtol=1e-5)


@pytest.mark.parametrize("size", [784, 101, 1])  # many groups of factors, none, one
def test_bernoulli_is_tfps_with_both_gradients_and_curvature(size):
    logits = tf.constant(10 * RANDOM.normal(size=(3, 2, size)), tf.float32)
    x = tf.constant(RANDOM.random((2, size)), tf.float32)

    def derivatives(distribution):
        with tf.GradientTape() as outer:
            outer.watch(logits)
            with tf.GradientTape() as tape:
                tape.watch([logits, x])
                value = distribution(logits).log_prob(x)
            gradients = tape.gradient(value, [logits, x])
        return [value, *gradients, outer.gradient(gradients[0], logits)]

    of_tfp = derivatives(
        lambda logits: tfd.Independent(tfd.Bernoulli(logits=logits, dtype=tf.float32), 1)
    )
    for mine, expected in zip(derivatives(Bernoulli((size,))), of_tfp, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        Bernoulli((size,))(logits[0, 0]).log_prob(x[0]), of_tfp[0][0, 0], rtol=1e-5, atol=1e-5
    )
    alone = Bernoulli((size,))(logits).log_prob(x[:1])  # one example for all samples
    np.testing.assert_allclose(
        alone,
        Bernoulli((size,))(logits).log_prob(tf.repeat(x[:1], 2, axis=0)),
        rtol=1e-5,
        atol=1e-5,
    )


def test_bernoulli_stays_finite_where_a_probability_would_round_to_one():
    log_prob = Bernoulli((1,))(tf.constant([[200.0], [-200.0]])).log_prob(
        tf.constant([[0.0], [1.0]])
    )
    np.testing.assert_allclose(log_prob, [-200, -200])


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_normal_keeps_all_its_constants(scale):
    expected = scipy.stats.norm(PARAMETERS, scale).logpdf(X).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(Normal(SHAPE, scale)(PARAMETERS).log_prob(X), expected, rtol=1e-4)
    np.testing.assert_array_equal(Normal(SHAPE, scale)(PARAMETERS).mean(), PARAMETERS)


def test_continuous_bernoulli_is_a_density_proportional_to_the_cross_entropy():
    likelihood = ContinuousBernoulli((1,))
    largest = -np.log(np.finfo(np.float32).eps)
    for parameter in np.array([-30.0, -2.0, -1e-3, 0.0, 0.5, 30.0], np.float32):
        logit = largest * np.tanh(parameter / largest)
        density = scipy.integrate.quad(lambda x, logit=logit: np.exp(x * np.float64(logit)), 0, 1)[
            0
        ]
        expected = 0.3 * np.float64(logit) - np.log(density)
        assert float(likelihood([[parameter]]).log_prob([[0.3]])[0]) == pytest.approx(
            expected, rel=1e-4, abs=1e-5
        )
        mean = (
            scipy.integrate.quad(lambda x, logit=logit: x * np.exp(x * np.float64(logit)), 0, 1)[0]
            / density
        )
        assert float(likelihood([[parameter]]).mean()[0, 0]) == pytest.approx(mean, rel=1e-3)


def test_normal_with_a_learned_shared_scale():
    likelihood = Normal(SHAPE, "shared")
    np.testing.assert_allclose(
        likelihood(PARAMETERS).log_prob(X), Normal(SHAPE, 1.0)(PARAMETERS).log_prob(X), rtol=1e-5
    )
    with tf.GradientTape() as tape:
        loss = -tf.reduce_sum(likelihood(PARAMETERS).log_prob(X))
    (gradient,) = tape.gradient(loss, [variable.value for variable in likelihood.variables])
    scaled = [scipy.stats.norm(PARAMETERS, scale).logpdf(X).sum() for scale in (1 - 1e-4, 1 + 1e-4)]
    derivative = (1 - np.exp(-6)) * (1 - np.exp(-1))  # of the scale in its raw value, at 0
    assert float(gradient) == pytest.approx(-(scaled[1] - scaled[0]) / 2e-4 * derivative, rel=1e-3)


@pytest.mark.parametrize(("scale", "trainable"), [("shared", True), ("optimal", False)])
def test_normal_owns_the_weight_of_its_scale(scale, trainable):
    likelihood = Normal(SHAPE, scale)
    assert isinstance(likelihood, keras.layers.Layer)
    assert likelihood.built
    (weight,) = likelihood.weights
    assert (weight.shape, weight.dtype, weight.trainable) == ((), "float32", trainable)
    assert weight.aggregation == ("none" if trainable else "mean")  # over replicas
    assert Normal(SHAPE, 1.0).weights == []


class Caller(keras.layers.Layer):
    """A layer that reads the likelihood's weight inside of its call, as a VAE does."""

    def __init__(self, likelihood):
        super().__init__()
        self.likelihood = likelihood

    def call(self, parameters):
        return self.likelihood(parameters).stddev()


@pytest.mark.parametrize("scale", ["shared", "optimal"])
def test_the_scale_of_normal_is_float32_under_mixed_precision(scale):
    keras.config.set_dtype_policy("mixed_float16")
    likelihood = Normal(SHAPE, scale)
    likelihood.weights[0].assign(0.3)
    expected = likelihood(PARAMETERS).stddev()
    np.testing.assert_array_equal(Caller(likelihood)(PARAMETERS), expected)


def test_normal_with_the_optimal_scale_is_at_the_maximum_of_the_likelihood():
    likelihood = Normal(SHAPE, "optimal")
    fitted = likelihood.fitted(PARAMETERS, X).log_prob(X).numpy().sum()
    best = scipy.optimize.minimize_scalar(
        lambda s: -scipy.stats.norm(PARAMETERS, s).logpdf(X).sum(),
        bounds=(0.1, 5),
        method="bounded",
    )
    assert fitted == pytest.approx(-best.fun, rel=1e-5)
    for _ in range(100):
        likelihood.fitted(PARAMETERS, X)
    np.testing.assert_allclose(likelihood(PARAMETERS).stddev(), best.x, rtol=1e-3)


def test_normal_with_a_scale_for_each_element_warns_and_is_scipys():
    with pytest.warns(
        UserWarning, match=r"best likelihoods and the worst samples\. .* scale='optimal'"
    ) as warned:
        likelihood = Normal(SHAPE, "per_element")
    assert [warning.filename for warning in warned] == [__file__]
    assert likelihood.parameter_shape == (4, 5, 2)
    raw = RANDOM.normal(size=(3, *SHAPE))
    scale = np.exp(-6) + (1 - np.exp(-6)) * np.log1p(np.exp(raw + np.log(np.e - 1)))
    expected = scipy.stats.norm(PARAMETERS, scale).logpdf(X).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(
        likelihood(np.concatenate([PARAMETERS, raw], axis=-1)).log_prob(X), expected, rtol=1e-4
    )


@pytest.mark.filterwarnings("ignore:scale='per_element'")
@pytest.mark.parametrize("scale", ["shared", "optimal", "per_element"])
def test_a_scale_is_at_least_exp_of_minus_six(scale):
    likelihood = Normal((2, 3), scale)
    if scale == "shared":
        likelihood.raw_scale.assign(-50.0)
    assert likelihood.parameter_shape == ((2, 6) if scale == "per_element" else (2, 3))
    parameters = np.concatenate([np.zeros((1, 2, 3)), np.full((1, 2, 3), -50)], axis=-1)
    parameters = parameters[..., : likelihood.parameter_shape[-1]]
    scales = likelihood.fitted(parameters, tf.zeros((1, 2, 3))).stddev()
    np.testing.assert_allclose(scales, np.full((1, 2, 3), np.exp(-6)), rtol=1e-4)


def test_an_optimal_scale_without_observed_elements_is_that_of_earlier_batches():
    likelihood = Normal((2,), "optimal", missing=True)
    distribution = likelihood.fitted(tf.zeros((1, 2)), np.float32([[3.0, np.nan]]))
    np.testing.assert_allclose(distribution.stddev(), [[3.0, 3.0]], rtol=1e-6)
    running = 0.9 + 0.1 * 3.0**2
    np.testing.assert_allclose(likelihood.variance, running, rtol=1e-6)
    distribution = likelihood.fitted(tf.zeros((1, 2)), np.float32([[np.nan, np.nan]]))
    np.testing.assert_allclose(distribution.stddev(), np.full((1, 2), running**0.5), rtol=1e-6)
    np.testing.assert_allclose(likelihood.variance, running, rtol=1e-6)


def test_categorical_is_the_log_softmax_of_the_level():
    likelihood = Categorical((3,), num_levels=256)
    logits = RANDOM.normal(size=(5, 3, 256)).astype("float32")
    levels = RANDOM.integers(0, 256, size=(5, 3))
    expected = np.take_along_axis(
        scipy.special.log_softmax(logits, axis=-1), levels[..., None], axis=-1
    ).sum(axis=(1, 2))
    np.testing.assert_allclose(
        likelihood(logits.reshape(5, 768)).log_prob((levels / 255).astype("float32")),
        expected,
        rtol=1e-4,
    )
    mean = scipy.special.softmax(logits, axis=-1) @ np.arange(256) / 255
    np.testing.assert_allclose(likelihood(logits.reshape(5, 768)).mean(), mean, rtol=1e-4)
    between_levels = likelihood(logits[0].reshape(768)).log_prob([0.5, 0.5, 0.5])  # 127.5 of 255
    assert float(between_levels) == -np.inf
    near_0 = likelihood(logits[0].reshape(768)).log_prob([0.15 / 255, 0.15 / 255, 0.15 / 255])
    assert float(near_0) == -np.inf
    with pytest.raises(
        ValueError, match="`num_levels` of Categorical must be an integer of at least 2"
    ):
        Categorical((3,), num_levels=1)


@pytest.mark.parametrize(
    ("likelihood", "support", "logits", "levels"),
    [
        (Bernoulli(SHAPE), (0, 1), True, 2),
        (ContinuousBernoulli(SHAPE), (0, 1), True, None),
        (Normal(SHAPE), (-np.inf, np.inf), False, None),
        (Categorical(SHAPE, 16), (0, 1), True, 16),
        (DiscretizedLogisticMixture(SHAPE, 5, 16), (0, 1), True, 16),
    ],
    ids=lambda likelihood: getattr(likelihood, "name", None),
)
def test_data_and_outputs_of_each_likelihood(likelihood, support, logits, levels):
    assert likelihood.support == support
    assert (likelihood.logits, likelihood.levels) == (logits, levels)
    assert not likelihood.generates_samples
    assert likelihood.whole is None


def test_parameter_shape():
    assert Categorical(SHAPE, 16).parameter_shape == (4, 5, 16)
    assert Categorical((2, 3), 16).parameter_shape == (2, 48)
    assert Categorical((3,), 16).parameter_shape == (48,)
    assert DiscretizedLogisticMixture(SHAPE, 5).parameter_shape == (4, 5, 15)
    assert Bernoulli(list(SHAPE)).parameter_shape == Normal(SHAPE).parameter_shape == SHAPE


@pytest.mark.parametrize("shape", [(), (28, 0), (28.0,), (None, 28), (True, 28)])
def test_event_shape_is_checked(shape):
    message = "`event_shape` of Bernoulli must be the shape of one example"
    with pytest.raises(ValueError, match=message):
        Bernoulli(shape)


@pytest.mark.parametrize("scale", [0, -1.0, float("inf"), float("nan"), "1", True, None])
def test_scale_is_checked(scale):
    message = re.escape("`scale` of Normal is σ and must be a positive, finite number, or")
    with pytest.raises(ValueError, match=message):
        Normal(SHAPE, scale)


def test_a_likelihood_of_ones_own_says_what_it_lacks():
    with pytest.raises(NotImplementedError, match="must define `__call__`"):
        Likelihood(SHAPE)(PARAMETERS)


class Joint(Likelihood):
    """Two dependent elements."""

    def __call__(self, parameters):
        scale_tril = tf.constant([[1.0, 0.0], [0.5, 1.0]])
        return tfd.MultivariateNormalTriL(tf.cast(parameters, tf.float32), scale_tril)


class Softened(Likelihood):
    """A distribution without elements."""

    def __call__(self, parameters):
        return tfd.Normal(tf.cast(parameters, tf.float32), 1.0)


@pytest.mark.parametrize("likelihood", [Joint((2,)), Softened((2,))], ids=["joint", "no elements"])
def test_elements_of_a_distribution_that_has_none_are_refused(likelihood):
    message = "must return a tfd.Independent of its elements, or define `element_log_prob`"
    with pytest.raises(ValueError, match=message):
        likelihood.element_log_prob(likelihood([[0.0, 0.0]]), tf.zeros((1, 2)))


def test_a_seed_gives_the_same_example_in_every_version():
    likelihood = Normal((3,))
    rows = likelihood.sample_rows(tf.zeros((2, 3)), tf.constant([7, 8], tf.int64))
    expected = [[1.43304, -0.59949, 1.00809], [2.23914, -1.06524, 0.17650]]
    np.testing.assert_allclose(rows, expected, atol=1e-4)


def test_log_p_is_the_sum_over_the_observed_elements():
    random = np.random.default_rng(0)
    mean, x = random.normal(size=(2, 4, 2, 3)).astype("float32")
    x[1, 0, 2] = x[3] = np.nan
    distribution = Normal((2, 3), scale=0.5, missing=True)(mean)
    assert distribution.possible == 0  # in place of a missing element
    elements = np.nan_to_num(scipy.stats.norm.logpdf(x, mean, 0.5))
    np.testing.assert_allclose(distribution.log_prob(x), elements.sum(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_allclose(distribution.element_log_prob(x), elements, rtol=1e-4, atol=1e-6)


class Pareto(Likelihood):
    """Elements of at least 1."""

    @property
    def support(self):
        return 1.0, np.inf

    def __call__(self, parameters):
        return self.independent(tfd.Pareto(tf.exp(parameters), 1.0))


def test_a_missing_element_has_no_gradient_also_if_0_is_impossible():
    parameters = tf.constant([[0.1, 0.2]])
    x = tf.constant([[2.0, np.nan]])
    with tf.GradientTape() as tape:
        tape.watch(parameters)
        distribution = Pareto((2,), missing=True)(parameters)
        log_prob = distribution.log_prob(x)
    assert distribution.possible == 1  # in place of a missing element
    expected = scipy.stats.pareto.logpdf(2.0, np.exp(0.1))
    np.testing.assert_allclose(log_prob, [expected], rtol=1e-5)
    gradient = tape.gradient(log_prob, parameters).numpy()
    np.testing.assert_allclose(gradient, [[1 - np.exp(0.1) * np.log(2), 0]], rtol=1e-5)
