"""On a linear-Gaussian model, where the posterior and log p(x) are known: z ~ N(0, I), x | z ~ N(Wz, σ²I)."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from keras_gen.objectives import ELBO, Objective

tfd = tfp.distributions
SCALE = 0.5
W = np.array([[1.0, 0.0], [0.0, -2.0], [0.0, 0.5]])  # orthogonal columns: the exact posterior is diagonal
X = np.array([0.7, -1.0, 0.3])
DRAWS = 20_000


def exact_posterior():
    covariance = np.linalg.inv(np.eye(2) + W.T @ W / SCALE**2)
    return covariance @ W.T @ X / SCALE**2, np.sqrt(np.diag(covariance))


def terms(mean, scale, objective=None):
    posterior = tfd.Independent(tfd.Normal(tf.fill((DRAWS, 2), 0.0) + mean.astype("float32"), scale.astype("float32")), 1)
    prior = tfd.Independent(tfd.Normal(tf.zeros(2), 1.0), 1)

    def decode(z):
        return tfd.Independent(tfd.Normal(z @ W.T.astype("float32"), SCALE), 1)

    values = (objective or ELBO())(tf.constant(X, tf.float32), posterior, prior, decode, seed=tf.constant([1, 2]))
    return {name: np.asarray(value, np.float64) for name, value in values.items()}


def mean_within(values, expected):
    return abs(values.mean() - expected) < 4 * values.std() / np.sqrt(len(values)) + 1e-6


def evidence():
    return scipy.stats.multivariate_normal(np.zeros(3), W @ W.T + SCALE**2 * np.eye(3)).logpdf(X)


def test_at_the_exact_posterior_the_elbo_is_the_evidence():
    assert mean_within(terms(*exact_posterior())["elbo"], evidence())


def test_elsewhere_the_gap_is_the_divergence_to_the_exact_posterior():
    """log p(x) − ELBO = KL(q ‖ p(z | x)), the identity of MATH 2."""
    mean, scale = exact_posterior()
    q_mean, q_scale = mean + np.array([0.3, -0.2]), scale * [2.0, 0.5]
    gap = 0.5 * np.sum(np.log(scale**2 / q_scale**2) + q_scale**2 / scale**2 + (q_mean - mean) ** 2 / scale**2 - 1)
    assert mean_within(terms(q_mean, q_scale)["elbo"], evidence() - gap)


def test_the_loss_is_the_sum_with_the_kl_weighed():
    values = terms(*exact_posterior(), objective=ELBO(kl_weight=4.0))
    np.testing.assert_allclose(values["loss"], values["reconstruction_loss"] + 4 * values["kl_loss"], rtol=1e-6)
    np.testing.assert_allclose(values["elbo"], -values["reconstruction_loss"] - values["kl_loss"], rtol=1e-6)
    assert all(value.shape == (DRAWS,) for value in values.values())


@pytest.mark.parametrize("kl_weight", [-1, "1", None, True])
def test_kl_weight_is_checked(kl_weight):
    with pytest.raises(ValueError, match=r"`kl_weight` of ELBO is a number of at least 0\. Received: kl_weight="):
        ELBO(kl_weight)


def test_an_objective_of_ones_own_says_what_it_lacks():
    with pytest.raises(NotImplementedError, match="__call__"):
        Objective()(None, None, None, None, None)
