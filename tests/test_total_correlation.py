"""The objective `TotalCorrelation` and the MMD of `ELBO`, against exact values and numpy.

The data set is x ~ N(0, S), and the posterior of each x is N(x, diag s²). Then the aggregate
posterior is N(0, S + diag s²), so that all terms of the KL divergence are known in closed form.
"""

import types

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from support import IMAGE, LATENTS, tiny_vae

from keras_gen import distributions, networks, regularizers
from keras_gen.models import VAE
from keras_gen.objectives import ELBO, Batch, TotalCorrelation

tfd = tfp.distributions
PRIOR = tfd.Independent(tfd.Normal(tf.zeros(3), 1.0), 1)
SCALE = np.array([0.6, 0.5, 0.7])
SIGNAL = np.array([[0.8, 0.5, -0.2], [0.5, 0.7, 0.1], [-0.2, 0.1, 0.4]])
AGGREGATE = SIGNAL + np.diag(SCALE**2)
ROWS = 1500


def batch_of(mean, scale=SCALE, seed=(1, 2), prior=PRIOR):
    mean = tf.cast(mean, tf.float32)
    posterior = tfd.Independent(tfd.Normal(mean, tf.cast(scale, tf.float32) + 0 * mean), 1)
    return Batch(
        x=tf.zeros((len(mean), 3)),
        posterior=posterior,
        frozen_posterior=lambda: posterior,
        prior=prior,
        likelihood=lambda z: tfd.Independent(tfd.Normal(z, 1.0), 1),
        seed=tf.constant(seed),
        step=tf.constant(0),
    )


def decomposition(rows, seed, num_examples=10**9):
    """Return the batch, its samples and the three terms, in float64."""
    x = np.random.default_rng(seed).multivariate_normal(np.zeros(3), SIGNAL, rows)
    batch = batch_of(x, seed=(1, seed))
    z = batch.posterior.sample(seed=batch.seed)
    parts = TotalCorrelation(1.0, num_examples).decompose(batch, z)
    return batch, z, [np.asarray(part, np.float64) for part in parts]


def within(values, expected):
    """Whether a mean over batches is within 4 standard errors, plus the bias of a finite batch."""
    return abs(np.mean(values) - expected) < 4 * scipy.stats.sem(values) + 0.01


def test_the_terms_are_the_exact_ones_of_gaussian_latents():
    means = np.array([[part.mean() for part in decomposition(ROWS, seed)[2]] for seed in range(8)])
    _, log_determinant = np.linalg.slogdet(AGGREGATE)
    variances = np.diag(AGGREGATE)
    total_correlation = 0.5 * (np.log(variances).sum() - log_determinant)
    assert total_correlation > 0.15
    assert within(means[:, 1], total_correlation)
    assert within(means[:, 0], 0.5 * (log_determinant - np.log(SCALE**2).sum()))
    assert within(means[:, 2], 0.5 * np.sum(variances - 1 - np.log(variances)))


def test_the_terms_add_up_to_the_divergence_of_each_example():
    batch, z, parts = decomposition(40, seed=0, num_examples=60_000)
    expected = batch.posterior.log_prob(z) - batch.prior.log_prob(z)
    np.testing.assert_allclose(sum(parts), expected, atol=1e-4)


@pytest.mark.parametrize("rows", [12, 2])
def test_the_estimate_of_the_aggregate_posterior_is_that_of_numpy_and_unbiased(rows):
    """If the batch is the whole data set, q(z) is the exact mean over all examples."""
    batch, z, parts = decomposition(rows, seed=3, num_examples=rows)
    means = batch.posterior.mean().numpy()
    density = scipy.stats.norm(means, SCALE).pdf(np.asarray(z)[:, None])  # [i, j, d]
    log_joint = np.log(density.prod(axis=2).mean(axis=1))
    log_product = np.log(density.mean(axis=1)).sum(axis=1)
    np.testing.assert_allclose(parts[1], log_joint - log_product, atol=1e-4)
    _, _, of_more = decomposition(rows, seed=3, num_examples=4 * rows)
    own = np.diagonal(density.prod(axis=2))
    others = (density.prod(axis=2).sum(axis=1) - own) / (rows - 1)
    marginal_own = np.diagonal(density).T
    marginal_others = (density.sum(axis=1) - marginal_own) / (rows - 1)
    weight = 1 / (4 * rows)
    log_joint = np.log(own * weight + others * (1 - weight))
    log_product = np.log(marginal_own * weight + marginal_others * (1 - weight)).sum(axis=1)
    np.testing.assert_allclose(of_more[1], log_joint - log_product, atol=1e-4)


def test_beta_weights_the_total_correlation_alone():
    batch, _, parts = decomposition(40, seed=1, num_examples=100)
    elbo = ELBO()(batch)
    for beta in (0.0, 1.0, 6.0):
        terms = TotalCorrelation(beta, 100)(batch)
        np.testing.assert_allclose(terms.loss, elbo.loss + (beta - 1) * parts[1], atol=1e-4)
        np.testing.assert_array_equal(terms.elbo, elbo.elbo)
        np.testing.assert_array_equal(terms.kl_loss, elbo.kl_loss)


def test_a_batch_of_one_example_has_no_total_correlation():
    batch = batch_of(np.ones((1, 3)))
    np.testing.assert_allclose(
        TotalCorrelation(6.0, 100)(batch).loss, ELBO()(batch).loss, atol=1e-5
    )


@pytest.mark.parametrize("compiled", [{"jit_compile": False}, {"jit_compile": True}])
def test_a_vae_trains_with_it_in_a_graph(compiled, tmp_path):
    model, _ = tiny_vae()
    model.compile("adam", objective=TotalCorrelation(4.0, 20), **compiled)
    images = np.random.default_rng(0).random((20, *IMAGE), dtype=np.float32)
    sizes = 10 if compiled["jit_compile"] else 19  # otherwise, the last batch has one example
    logs = model.fit(images, batch_size=sizes, epochs=2, verbose=0).history
    assert np.all(np.isfinite(logs["loss"]))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert repr(loaded.objective) == "TotalCorrelation(beta=4.0, num_examples=20)"


def test_the_posterior_must_have_independent_latents():
    posterior = distributions.FullCovarianceNormal(LATENTS)
    model = VAE(
        networks.mlp(IMAGE, (posterior.parameter_size,), hidden=(4,)),
        networks.mlp((LATENTS,), IMAGE, hidden=(4,)),
        posterior,
        distributions.Bernoulli(IMAGE),
    )
    model.compile("adam", objective=TotalCorrelation(4.0, 20), run_eagerly=True)
    with pytest.raises(ValueError, match="needs a posterior with independent latents, such as Dia"):
        model.fit(np.zeros((4, *IMAGE), "float32"), verbose=0)


def test_a_posterior_of_vectors_has_no_independent_latents():
    normal = tfp.distributions.MultivariateNormalDiag(tf.zeros((4, 3, 2)))
    batch = types.SimpleNamespace(posterior=tfp.distributions.Independent(normal, 1))
    with pytest.raises(ValueError, match="needs a posterior with independent latents"):
        TotalCorrelation(4.0, 20).decompose(batch, tf.zeros((4, 3, 2)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1.0, 10), "`beta` of TotalCorrelation must be a number of at least 0"),
        ((True, 10), "`beta` of TotalCorrelation must be a number of at least 0"),
        ((1.0, 1), "`num_examples` of TotalCorrelation must be an integer of at least 2"),
        ((1.0, 2.5), "`num_examples` of TotalCorrelation must be an integer of at least 2"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        TotalCorrelation(*arguments)


# === The MMD of `ELBO` ===


def test_the_elbo_with_mmd_compares_the_sample_with_the_prior_of_the_vae():
    """The added term is close to 0 if the prior is the aggregate posterior, and only then."""
    x = np.random.default_rng(0).multivariate_normal(np.zeros(3), SIGNAL, 600)
    aggregate = tfd.MultivariateNormalTriL(
        tf.zeros(3), tf.constant(np.linalg.cholesky(AGGREGATE), tf.float32)
    )
    far = tfd.Independent(tfd.Normal(2 * tf.ones(3), 1.0), 1)
    added = {}
    for name, prior in {"same": aggregate, "far": far}.items():
        batch = batch_of(x, prior=prior)
        plain = ELBO(kl_weight=0.0)(batch)
        terms = ELBO(kl_weight=0.0, mmd=regularizers.LatentMMD(3.0))(batch)
        added[name] = np.mean(terms.loss - plain.loss)
        for field in ("reconstruction_loss", "kl_loss", "elbo"):
            np.testing.assert_array_equal(getattr(terms, field), getattr(plain, field))
    assert abs(added["same"]) < 0.1
    assert added["far"] > 2


def test_the_mmd_uses_other_noise_for_the_prior_than_for_the_posterior():
    """With the same noise, the samples of equal distributions would be equal."""
    batch = batch_of(np.zeros((5, 3)), scale=np.ones(3))
    z = batch.posterior.sample(1, seed=batch.seed)[0]
    terms = ELBO(kl_weight=0.0, mmd=regularizers.LatentMMD(1.0))(batch)
    value = np.mean(terms.loss - ELBO(kl_weight=0.0)(batch).loss)
    same_noise = np.mean(regularizers.LatentMMD(1.0).between(z, z))
    assert value != pytest.approx(same_noise, abs=1e-3)


def test_the_prior_of_a_conditional_vae_is_sampled_once_per_label():
    means = np.tile([[-5.0] * 3, [5.0] * 3], (100, 1))
    prior = tfd.Independent(tfd.Normal(tf.constant(means, tf.float32), 1.0), 1)
    batch = batch_of(means, scale=np.ones(3), prior=prior)
    terms = ELBO(kl_weight=0.0, mmd=regularizers.LatentMMD(1.0))(batch)
    assert abs(np.mean(terms.loss - ELBO(kl_weight=0.0)(batch).loss)) < 0.1


def test_the_mmd_is_checked_and_saved():
    objective = ELBO(kl_weight=0.0, mmd=regularizers.LatentMMD(3.0, "rbf"))
    config = keras.saving.serialize_keras_object(objective)
    assert repr(keras.saving.deserialize_keras_object(config)) == repr(objective)
    with pytest.raises(ValueError, match=r"`mmd` of ELBO must be a keras_gen\.regularizers\."):
        ELBO(mmd=10.0)
