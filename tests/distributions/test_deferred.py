"""A normal distribution that is made only when it is needed."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from keras_gen import VAE, distributions, networks
from keras_gen.distributions._deferred import deferred_normal

MEAN = tf.constant([[0.0, 1.0, -2.0], [3.0, 0.5, 0.1]])
SCALE = tf.constant([[1.0, 2.0, 0.5], [0.1, 1.5, 1.0]])


def complete():
    return tfd.Independent(tfd.Normal(MEAN, SCALE), 1)


USES = {
    "mean": lambda q: q.mean(),
    "stddev": lambda q: q.stddev(),
    "variance": lambda q: q.variance(),
    "mode": lambda q: q.mode(),
    "entropy": lambda q: q.entropy(),
    "sample": lambda q: q.sample(4, seed=(1, 2)),
    "log_prob": lambda q: q.log_prob(MEAN + 1),
    "slice": lambda q: q[1].mean(),
    "copy": lambda q: q.copy().log_prob(MEAN),
    "attribute": lambda q: q.distribution.scale,
    "KL divergence of TFP": lambda q: q.kl_divergence(tfd.Independent(tfd.Normal(MEAN, 2.0), 1)),
    "KL divergence to it": lambda q: tfd.Independent(tfd.Normal(MEAN, 2.0), 1).kl_divergence(q),
    "KL divergence": lambda q: distributions.kl_divergence(q, complete()).value,
    "argument of a graph": lambda q: tf.function(lambda q: q.log_prob(MEAN))(q),
    # A graph must not leave its tensors in the distribution.
    "result of a graph": lambda q: tf.function(lambda: q)().log_prob(MEAN),
    "tensors": lambda q: tf.stack(tf.nest.flatten(q, expand_composites=True)),
    "component": lambda q: tfd.MixtureSameFamily(tfd.Categorical(tf.zeros(2)), q).log_prob(MEAN[0]),
}


@pytest.mark.parametrize("name", USES)
def test_it_is_used_like_the_complete_distribution(name):
    use = USES[name]
    deferred = deferred_normal(MEAN, SCALE)
    np.testing.assert_array_equal(use(deferred), use(complete()))
    np.testing.assert_array_equal(use(deferred), use(complete()))
    np.testing.assert_array_equal(deferred.mean(), MEAN)
    np.testing.assert_array_equal(deferred.stddev(), SCALE)


def test_its_mean_and_standard_deviation_do_not_complete_it():
    deferred = deferred_normal(MEAN, SCALE)
    assert deferred.mean() is MEAN
    assert deferred.stddev("name") is SCALE
    assert list(vars(deferred)) == ["_mean_and_scale"]
    assert deferred.event_shape == (3,)
    assert "_mean_and_scale" not in vars(deferred)
    assert "_distribution" in vars(deferred)


@pytest.mark.parametrize("name", ["log_prob", "mean", "attribute"])
def test_a_second_thread_waits_until_the_first_has_completed_it(monkeypatch, name):
    normal = tfd.Normal
    started, second_calls = threading.Event(), threading.Event()

    def slow_normal(*arguments):
        started.set()
        second_calls.wait(10)
        time.sleep(0.2)  # the second thread is now inside its call
        return normal(*arguments)

    deferred = deferred_normal(MEAN, SCALE)
    with monkeypatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(tfd, "Normal", slow_normal)
        first = pool.submit(lambda: deferred.log_prob(MEAN))
        assert started.wait(10)
        second_calls.set()
        np.testing.assert_array_equal(USES[name](deferred), USES[name](complete()))
        np.testing.assert_array_equal(first.result(), complete().log_prob(MEAN))


def test_an_attribute_that_does_not_exist_is_an_error():
    deferred = deferred_normal(MEAN, SCALE)
    for _ in range(2):
        with pytest.raises(AttributeError, match=r"DeferredIndependent.*no_such_attribute"):
            deferred.no_such_attribute  # noqa: B018


def test_it_is_an_independent_distribution_with_the_same_attributes():
    deferred = deferred_normal(MEAN, SCALE)
    assert isinstance(deferred, tfd.Independent)
    assert not hasattr(deferred, "unknown")
    assert str(deferred) == str(complete()).replace("Independent(", "DeferredIndependent(", 1)
    assert deferred.parameters.keys() == complete().parameters.keys()


def test_gradients_flow_through_its_mean():
    weight = tf.Variable(2.0)
    with tf.GradientTape() as tape:
        result = tf.reduce_sum(deferred_normal(weight * MEAN, SCALE).mean())
    assert float(tape.gradient(result, weight)) == pytest.approx(float(tf.reduce_sum(MEAN)))


def test_in_a_graph_the_distribution_is_complete_at_once():
    """Otherwise its operations could be made in another graph."""
    kinds = []

    @tf.function
    def function():
        kinds.append(type(deferred_normal(MEAN, SCALE)))
        return 0

    function()
    assert kinds == [tfd.Independent]


def test_the_distribution_of_a_posterior_of_the_user_is_not_replaced():
    """Its scale can have another shape than its mean."""

    class UnitNormal(distributions.DiagonalNormal):
        def __call__(self, parameters):
            mean = parameters[..., : self.event_size]
            return tfd.Independent(tfd.Normal(mean, 1.0), 1)

    posterior = UnitNormal(3)
    encoder = networks.mlp((4,), (posterior.parameter_size,))
    vae = VAE(encoder, networks.mlp((3,), (4,)), posterior, distributions.Bernoulli((4,)))
    found = vae.encode(np.zeros((5, 4), np.float32))
    assert type(found) is tfd.Independent
    assert found.stddev().shape == (5, 3)


@pytest.mark.parametrize("eager", [False, True])
def test_encode_defers_the_posterior(eager):
    posterior = distributions.DiagonalNormal(3)
    encoder = networks.mlp((4,), (posterior.parameter_size,))
    vae = VAE(encoder, networks.mlp((3,), (4,)), posterior, distributions.Bernoulli((4,)))
    vae.compile("adam", run_eagerly=eager)
    x = np.random.default_rng(0).random((5, 4), "float32")
    found = vae.encode(x)
    assert "_mean_and_scale" in vars(found)
    expected = posterior(encoder(x))
    np.testing.assert_allclose(found.mean(), expected.mean(), rtol=1e-6)
    np.testing.assert_allclose(found.stddev(), expected.stddev(), rtol=1e-6)
    np.testing.assert_allclose(
        found.log_prob(expected.mean()), expected.log_prob(expected.mean()), rtol=1e-5
    )
