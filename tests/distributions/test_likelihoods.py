import re

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf

from keras_gen.distributions import Bernoulli, Likelihood, Normal

SHAPE = (4, 5, 1)
RANDOM = np.random.default_rng(0)
PARAMETERS = RANDOM.normal(size=(3, *SHAPE)).astype("float32")
X = RANDOM.random((3, *SHAPE)).astype("float32")


def test_bernoulli_is_the_cross_entropy_in_nats():
    p = scipy.special.expit(PARAMETERS.astype("float64"))
    expected = (X * np.log(p) + (1 - X) * np.log(1 - p)).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(Bernoulli(SHAPE)(PARAMETERS).log_prob(X), expected, rtol=1e-5)
    np.testing.assert_allclose(Bernoulli(SHAPE)(PARAMETERS).mean(), p, rtol=1e-5)


def test_bernoulli_stays_finite_where_a_probability_would_round_to_one():
    log_prob = Bernoulli((1,))(tf.constant([[200.0], [-200.0]])).log_prob(tf.constant([[0.0], [1.0]]))
    np.testing.assert_allclose(log_prob, [-200, -200])


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_normal_keeps_all_its_constants(scale):
    expected = scipy.stats.norm(PARAMETERS, scale).logpdf(X).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(Normal(SHAPE, scale)(PARAMETERS).log_prob(X), expected, rtol=1e-4)
    np.testing.assert_array_equal(Normal(SHAPE, scale)(PARAMETERS).mean(), PARAMETERS)


def test_support_and_parameter_shape():
    assert Bernoulli(SHAPE).support == (0, 1)
    assert Normal(SHAPE).support == (-np.inf, np.inf)
    assert Bernoulli(list(SHAPE)).parameter_shape == Normal(SHAPE).parameter_shape == SHAPE


@pytest.mark.parametrize("shape", [(), (28, 0), (28.0,), (None, 28)])
def test_event_shape_is_checked(shape):
    with pytest.raises(ValueError, match="`event_shape` of Bernoulli is the shape of one example"):
        Bernoulli(shape)


@pytest.mark.parametrize("scale", [0, -1.0, float("inf"), float("nan"), "1", True])
def test_scale_is_checked(scale):
    with pytest.raises(ValueError, match=re.escape(f"`scale` of Normal is σ, a positive finite number. Received: scale={scale!r}")):
        Normal(SHAPE, scale)


def test_a_family_of_ones_own_says_what_it_lacks():
    with pytest.raises(NotImplementedError, match="__call__"):
        Likelihood(SHAPE)(PARAMETERS)
