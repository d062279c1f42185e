import re

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from keras_gen.distributions import (
    DiagonalNormal,
    FullCovarianceNormal,
    StandardNormal,
    cross_check,
    kl_divergence,
)

tfd = tfp.distributions
RANDOM = np.random.default_rng(0)


def numerical_kl(a, b):
    """KL(a ‖ b) of two scipy distributions on the line, by quadrature."""
    low, high = a.mean() - 12 * a.std(), a.mean() + 12 * a.std()
    return scipy.integrate.quad(
        lambda z: a.pdf(z) * (a.logpdf(z) - b.logpdf(z)), low, high, limit=200
    )[0]


def diagonal(mean, scale):
    return tfd.Independent(
        tfd.Normal(tf.constant(mean, tf.float32), tf.constant(scale, tf.float32)), 1
    )


def test_to_the_standard_normal_it_is_the_formula_of_the_notes():
    mean, scale = RANDOM.normal(size=(100, 4)), RANDOM.uniform(0.1, 3, size=(100, 4))
    expected = -0.5 * np.sum(np.log(scale**2) - mean**2 - scale**2 + 1, axis=1)
    value, analytic = kl_divergence(diagonal(mean, scale), StandardNormal(4).distribution())
    assert analytic
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_between_two_diagonal_normals_it_is_the_formula_of_the_notes_and_the_integral():
    mu, beta = RANDOM.normal(size=(2, 20, 3))
    sigma, eta = RANDOM.uniform(0.2, 2, size=(2, 20, 3))
    formula = 0.5 * np.sum(
        np.log(eta**2 / sigma**2) + sigma**2 / eta**2 + (mu - beta) ** 2 / eta**2 - 1, axis=1
    )
    value, analytic = kl_divergence(diagonal(mu, sigma), diagonal(beta, eta))
    assert analytic
    np.testing.assert_allclose(value, formula, rtol=1e-5)
    norm = scipy.stats.norm
    integral = sum(
        numerical_kl(norm(mu[0, i], sigma[0, i]), norm(beta[0, i], eta[0, i])) for i in range(3)
    )
    assert float(value[0]) == pytest.approx(integral, rel=1e-5)


def full_kl(mean_a, covariance_a, mean_b, covariance_b):
    """The formula of the notes for two full Gaussians, in float64."""
    inverse, step = np.linalg.inv(covariance_b), mean_b - mean_a
    log_ratio = np.linalg.slogdet(covariance_b)[1] - np.linalg.slogdet(covariance_a)[1]
    return 0.5 * (np.trace(inverse @ covariance_a) + step @ inverse @ step - len(step) + log_ratio)


def test_1000_random_pairs_full_and_diagonal_in_every_order():
    n, pairs = 5, 1000
    means = RANDOM.normal(size=(2, pairs, n)).astype("float32")
    scales = RANDOM.uniform(0.3, 2, size=(2, pairs, n)).astype("float32")
    below = np.tril(RANDOM.normal(size=(2, pairs, n, n), scale=0.5), -1).astype("float32")
    trils = below + np.eye(n, dtype="float32") * scales[..., None]
    full = [tfd.MultivariateNormalTriL(m, tril) for m, tril in zip(means, trils, strict=True)]
    independent = [diagonal(m, s) for m, s in zip(means, scales, strict=True)]
    covariances = trils.astype("float64") @ np.swapaxes(trils, -1, -2).astype("float64")
    diagonals = np.eye(n) * scales[..., None].astype("float64") ** 2
    for a, covariance_a in ((full[0], covariances[0]), (independent[0], diagonals[0])):
        for b, covariance_b in ((full[1], covariances[1]), (independent[1], diagonals[1])):
            value, analytic = kl_divergence(a, b)
            assert analytic
            arguments = zip(
                means[0].astype("float64"),
                covariance_a,
                means[1].astype("float64"),
                covariance_b,
                strict=True,
            )
            np.testing.assert_allclose(value, [full_kl(*pair) for pair in arguments], rtol=1e-5)


def test_extreme_pairs_stay_finite():
    n, raws = 4, [-1e4, -20.0, 0.0, 20.0, 1e4]
    full = [FullCovarianceNormal(n)(tf.fill((1, 14), raw)) for raw in raws]
    independent = [DiagonalNormal(n)(tf.fill((1, 8), raw)) for raw in raws]
    for a in full + independent:
        for b in [full[2], *independent]:  # a prior is not driven to a singular covariance
            value, analytic = kl_divergence(a, b)
            assert analytic
            assert np.isfinite(value)
            assert float(value[0]) >= -1e-3 * max(1, abs(float(value[0])))


def test_a_full_posterior_against_a_prior_without_a_closed_form_is_sampled():
    a = FullCovarianceNormal(2)(tf.constant([0.3, -0.5, 0.0, 0.0, 1.0]))
    b = tfd.Independent(tfd.Laplace(tf.zeros(2), 1.0), 1)
    assert not kl_divergence(a, b).analytic


def test_the_expectation_is_under_the_first_argument():
    a, b = tfd.Normal(0.0, 1.0), tfd.Normal(0.0, 3.0)
    assert float(kl_divergence(a, b).value) == pytest.approx(
        numerical_kl(scipy.stats.norm(0, 1), scipy.stats.norm(0, 3)), rel=1e-5
    )
    assert float(kl_divergence(b, a).value) == pytest.approx(
        numerical_kl(scipy.stats.norm(0, 3), scipy.stats.norm(0, 1)), rel=1e-5
    )


def test_without_a_closed_form_it_is_sampled_without_bias():
    a, b = diagonal([0.3, -0.5], [0.5, 1.5]), tfd.Independent(tfd.Laplace(tf.zeros(2), 1.0), 1)
    value, analytic = kl_divergence(a, b, num_samples=100_000, seed=(1, 2))
    assert not analytic
    norm, laplace = scipy.stats.norm, scipy.stats.laplace()
    expected = numerical_kl(norm(0.3, 0.5), laplace) + numerical_kl(norm(-0.5, 1.5), laplace)
    z = a.sample(1000, seed=(3, 4))
    standard_error = np.std(a.log_prob(z) - b.log_prob(z)) / np.sqrt(100_000)
    assert abs(float(value) - expected) < 4 * standard_error
    np.testing.assert_array_equal(
        value, kl_divergence(a, b, num_samples=100_000, seed=(1, 2)).value
    )


def test_gradients_flow_through_the_samples():
    parameters = tf.Variable([[0.5, 0.5, 0.0, 0.0]])
    laplace = tfd.Independent(tfd.Laplace(tf.zeros(2), 1.0), 1)
    with tf.GradientTape() as tape:
        loss = kl_divergence(
            DiagonalNormal(2)(parameters), laplace, num_samples=20_000, seed=(1, 2)
        ).value
    step = np.float64(tape.gradient(loss, parameters)[0, 0])
    norm, difference = scipy.stats.norm, 1e-4
    shifted = [
        numerical_kl(norm(0.5 + shift, 1), scipy.stats.laplace())
        for shift in (-difference, difference)
    ]
    assert step == pytest.approx((shifted[1] - shifted[0]) / (2 * difference), abs=0.03)


@pytest.mark.parametrize("count", [0, 2.5])
def test_num_samples_is_checked(count):
    message = re.escape(f"`num_samples` must be an integer of at least 1. Received: num_samples={count}")
    with pytest.raises(ValueError, match=message):
        kl_divergence(tfd.Normal(0.0, 1.0), tfd.Normal(0.0, 1.0), num_samples=count)
    with pytest.raises(ValueError, match=message):
        cross_check(
            DiagonalNormal(1), [[0.0, 1.0]], tfd.MultivariateNormalDiag([0.0]), num_samples=count
        )
