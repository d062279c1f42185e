import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_gen.distributions import DiagonalNormal, Posterior


def test_diagonal_normal_is_scipys_multivariate_normal():
    parameters = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    posterior = DiagonalNormal(3)(parameters)
    mean, raw = parameters[:, :3], parameters[:, 3:]
    scale = 1e-4 + (1 - 1e-4) * np.log1p(np.exp(raw + np.log(np.e - 1)))
    np.testing.assert_allclose(posterior.mean(), mean, rtol=1e-6)
    np.testing.assert_allclose(posterior.stddev(), scale, rtol=1e-5)
    z = np.random.default_rng(1).normal(size=(5, 3))
    expected = [scipy.stats.multivariate_normal(m, np.diag(s**2)).logpdf(at) for m, s, at in zip(mean, scale, z, strict=True)]
    np.testing.assert_allclose(posterior.log_prob(z.astype("float32")), expected, rtol=1e-4)


def test_diagonal_normal_samples_have_its_moments():
    posterior = DiagonalNormal(2)(tf.constant([1.0, -2.0, 0.5, -1.0]))
    z = posterior.sample(100_000, seed=(1, 2)).numpy()
    standard_error = posterior.stddev().numpy() / np.sqrt(len(z))
    assert np.all(np.abs(z.mean(axis=0) - [1, -2]) < 4 * standard_error)
    np.testing.assert_allclose(z.std(axis=0), posterior.stddev(), rtol=0.02)
    assert abs(np.corrcoef(z.T)[0, 1]) < 4 / np.sqrt(len(z))


@pytest.mark.parametrize("raw", [-1e4, -50.0, 0.0, 50.0, 1e4])
def test_diagonal_normal_stays_finite(raw):
    parameters = tf.Variable(tf.fill((1, 4), raw))
    standard = DiagonalNormal(2)(tf.zeros((1, 4)))
    with tf.GradientTape() as tape:
        posterior = DiagonalNormal(2)(parameters)
        z = posterior.sample(seed=(0, 0))
        values = [z, posterior.log_prob(z), posterior.kl_divergence(standard)]
        total = sum(tf.reduce_sum(value) for value in values)
    for value in [*values, tape.gradient(total, parameters)]:
        assert np.all(np.isfinite(value))


def test_float16_parameters_make_a_float32_distribution():
    assert DiagonalNormal(2)(tf.zeros((1, 4), tf.float16)).dtype == tf.float32


@pytest.mark.parametrize("event_size", [0, -1, 2.0, "2", None])
def test_event_size_is_checked(event_size):
    with pytest.raises(ValueError, match="`event_size` of DiagonalNormal is the number of latent dimensions"):
        DiagonalNormal(event_size)


def test_a_family_of_ones_own_says_what_it_lacks():
    with pytest.raises(NotImplementedError, match="parameter_size"):
        Posterior(2).parameter_size  # noqa: B018
    with pytest.raises(NotImplementedError, match="__call__"):
        Posterior(2)(tf.zeros((1, 2)))
