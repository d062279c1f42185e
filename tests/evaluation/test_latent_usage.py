"""The report on the latents, against closed forms and TFP's divergences."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from test_likelihood import LATENTS, linear_gaussian

import keras_gen
from keras_gen import distributions, evaluation, networks
from keras_gen.distributions import kl_divergence
from keras_gen.evaluation import latent_usage

IMAGES = np.random.default_rng(0).random((40, 4, 4, 1)).astype("float32")


def vae_of(posterior, prior=None, **arguments):
    posterior, likelihood = posterior(3), distributions.Bernoulli((4, 4, 1))
    encoder = networks.mlp((4, 4, 1), (posterior.parameter_size,), **arguments)
    return keras_gen.VAE(
        encoder, networks.mlp((3,), (4, 4, 1)), posterior, likelihood, prior, seed=0
    )


@pytest.mark.parametrize("prior", [None, distributions.LearnedNormal, "conditional"])
def test_the_dimensions_add_up_to_the_kl_of_independent_normals(prior):
    labels = np.arange(40) % 4
    if prior == "conditional":
        prior = distributions.ConditionalNormal(3, num_classes=4)
    elif prior:
        prior = prior(3)
        prior.mean.assign([0.5, -0.5, 1.0])
        prior.raw_scale.assign([0.5, -0.5, 1.0])
    vae = vae_of(distributions.DiagonalNormal, prior)
    condition = labels if vae.num_classes else None
    report = evaluation.latent_report(vae, IMAGES, condition, batch_size=16)
    expected = kl_divergence(vae.encode(IMAGES, condition), vae.prior.distribution(condition)).value
    assert report.kl_per_dimension.sum() == pytest.approx(float(np.mean(expected)), rel=1e-4)
    np.testing.assert_allclose(
        report.variance_of_means, np.var(vae.encode(IMAGES, condition).mean(), axis=0), rtol=1e-4
    )


def test_with_the_exact_posterior_the_aggregate_posterior_is_the_prior():
    """∫ p(z | x) p(x) dx = p(z), with the exact posterior of a linear-Gaussian model."""
    vae, density = linear_gaussian(full=True)
    x = density.rvs(20_000, random_state=0).astype("float32")
    report = evaluation.latent_report(vae, x)
    np.testing.assert_allclose(report.aggregate_mean, np.zeros(LATENTS), atol=0.03)
    np.testing.assert_allclose(report.aggregate_covariance, np.eye(LATENTS), atol=0.03)
    assert report.aggregate_kl < 1e-3
    assert not report.collapsed
    wrong = evaluation.latent_report(linear_gaussian(full=True, wrong=0.5)[0], x)
    assert wrong.aggregate_kl == pytest.approx(LATENTS * 0.5**2 / 2, rel=0.1)


def test_a_collapsed_posterior_is_reported():
    vae = vae_of(distributions.DiagonalNormal)
    assert "of 3 latents are used" in str(evaluation.latent_report(vae, IMAGES))
    last = [layer for layer in vae.encoder.layers if isinstance(layer, keras.layers.Dense)][-1]
    kernel = 10 * last.kernel.numpy()
    kernel[:, :2] = 0  # the means of the first two
    last.kernel.assign(kernel)
    report = evaluation.latent_report(vae, IMAGES)
    assert report.active.tolist() == [False, False, True]
    last.kernel.assign(0 * kernel)
    report = evaluation.latent_report(vae, IMAGES)
    assert report.collapsed
    assert "The posterior has collapsed" in str(report)
    assert report.aggregate_kl == pytest.approx(0, abs=1e-4)
    np.testing.assert_allclose(report.kl_per_dimension, 0, atol=1e-4)


@pytest.mark.parametrize(
    ("posterior", "prior"),
    [
        (
            distributions.FullCovarianceNormal,
            lambda size: distributions.NormalMixture(size, num_components=2),
        ),
        (distributions.InverseAutoregressiveNormal, distributions.StandardNormal),
        (
            distributions.DiagonalNormal,
            lambda size: distributions.VampPrior(size, num_components=2),
        ),
    ],
)
def test_other_distributions_are_replaced_by_normals_with_their_moments(posterior, prior):
    report = evaluation.latent_report(vae_of(posterior, prior(3)), IMAGES)
    assert np.all(report.kl_per_dimension >= 0)
    assert np.isfinite(report.aggregate_kl)


def test_a_flow_can_collapse():
    """Its means come from samples, whose own variance is no use of a latent."""
    vae = vae_of(distributions.InverseAutoregressiveNormal)
    vae.encoder.set_weights([np.zeros_like(weight) for weight in vae.encoder.get_weights()])
    assert evaluation.latent_report(vae, IMAGES).collapsed
    exact, sampled = (vae_of(distributions.DiagonalNormal) for _ in range(2))
    last = [layer for layer in exact.encoder.layers if isinstance(layer, keras.layers.Dense)][-1]
    last.kernel.assign(10 * last.kernel.numpy())
    sampled.encoder.set_weights(exact.encoder.get_weights())
    sampled.posterior = WithoutMoments(3)
    exact, sampled = (evaluation.latent_report(vae, IMAGES) for vae in (exact, sampled))
    np.testing.assert_allclose(
        sampled.variance_of_means, exact.variance_of_means, rtol=0.3, atol=0.02
    )
    np.testing.assert_allclose(
        sampled.aggregate_covariance, exact.aggregate_covariance, rtol=0.3, atol=0.2
    )


class WithoutMoments(distributions.DiagonalNormal):
    """A normal posterior whose moments have no closed form."""

    def __call__(self, parameters):
        known = super().__call__(parameters)

        class Sampled:
            batch_shape = known.batch_shape

            def sample(self, *args, **kwargs):
                return known.sample(*args, **kwargs)

            def mean(self):
                raise NotImplementedError

        return Sampled()


def test_one_example_is_refused():
    with pytest.raises(ValueError, match="at least 2 examples"):
        evaluation.latent_report(vae_of(distributions.DiagonalNormal), IMAGES[:1])


def report(kl, variances):
    size = len(kl)
    return evaluation.LatentReport(
        np.array(kl), np.array(variances), np.zeros(size), np.eye(size), 0.25
    )


def test_a_latent_is_used_if_its_mean_has_a_variance_above_a_hundredth():
    found = report([1.0] * 3, [0.005, 0.01, 0.015])
    assert found.active.tolist() == [False, False, True]
    assert "1 of 3 latents are used" in str(found)


def test_the_summary_lists_the_ten_latents_with_the_largest_kl():
    kl = np.random.default_rng(0).permutation(12) / 4
    listed = re.findall(r"z(\d+) (\d\.\d\d)", str(report(kl, [1.0] * 12)))
    assert [float(value) for _, value in listed] == sorted(kl, reverse=True)[:10]
    assert [kl[int(latent)] for latent, _ in listed] == [float(value) for _, value in listed]


@pytest.mark.parametrize(("batch_shape", "number"), [((2,), 64), ((), 10_000)])
def test_moments_without_a_closed_form_are_those_of_samples(batch_shape, number):
    class Sampled:
        def __init__(self):
            self.batch_shape = tf.TensorShape(batch_shape)

        def mean(self):
            raise NotImplementedError

        def sample(self, count, seed):
            self.z = np.random.default_rng(0).normal(1, 2, (count, *batch_shape, 3))
            return self.z

    distribution = Sampled()
    found = latent_usage.mean_and_covariance(distribution)
    z = distribution.z
    assert (len(z), found.num_samples) == (number, number)
    np.testing.assert_allclose(found.mean, z.mean(axis=0))
    for index in np.ndindex(batch_shape):
        expected = np.cov(z[(slice(None), *index)], rowvar=False)
        np.testing.assert_allclose(found.covariance[index], expected)


def test_the_kl_of_normals_is_that_of_tfp():
    random = np.random.default_rng(0)
    moments = []
    for _ in range(2):
        scale_tril = np.tril(random.normal(size=(3, 3))) + 2 * np.eye(3)
        moments += [random.normal(size=3), scale_tril @ scale_tril.T]
    tfd = tfp.distributions
    q, p = (
        tfd.MultivariateNormalTriL(mean, np.linalg.cholesky(covariance))
        for mean, covariance in (moments[:2], moments[2:])
    )
    assert latent_usage._normal_kl(*moments) == pytest.approx(float(tfd.kl_divergence(q, p)))
