"""The cross-check of the KL, on sound posteriors and on posteriors that are wrong on purpose."""

import re

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp
from support import IMAGE, tiny

import keras_gen
from keras_gen import distributions, evaluation, networks
from keras_gen.evaluation.kl_check import z_score

tfd = tfp.distributions

IMAGES = np.random.default_rng(0).random((300, *IMAGE), dtype=np.float32)


def vae_of(posterior=None, prior=None, num_classes=None):
    posterior = distributions.DiagonalNormal(3) if posterior is None else posterior
    encoder = networks.mlp(IMAGE, (posterior.parameter_size,), hidden=(5,), num_classes=num_classes)
    # A wider posterior, so that the KL is not small.
    encoder.set_weights([2 * weights for weights in encoder.get_weights()])
    decoder = networks.mlp((3,), IMAGE, hidden=(5,))
    likelihood = distributions.Bernoulli(IMAGE)
    return keras_gen.VAE(encoder, decoder, posterior, likelihood, prior, seed=0)


class Stopped(tfd.Normal):
    """Samples through which no gradient flows."""

    def _sample_n(self, n, seed=None):
        return tf.stop_gradient(super()._sample_n(n, seed))


class VarianceForScale(tfd.Normal):
    """Samples as if its scale were a variance."""

    def _sample_n(self, n, seed=None):
        return self.loc + tf.sqrt(self.scale) * (super()._sample_n(n, seed) - self.loc) / self.scale


class Halved(tfd.Normal):
    """A divergence with a factor of ½ too many."""


@tfd.RegisterKL(Halved, tfd.Normal)
def _halved(a, b, name=None):
    return 0.5 * tfd.Normal(a.loc, a.scale).kl_divergence(b)


def with_normal(normal):
    class Broken(distributions.DiagonalNormal):
        def __call__(self, parameters):
            sound = super().__call__(parameters).distribution
            return tfd.Independent(normal(sound.loc, sound.scale), 1)

    return Broken(3)


@pytest.mark.parametrize("normal", [Stopped, VarianceForScale, Halved, tfd.Normal])
def test_the_cross_check_of_the_kl_catches_a_posterior_broken_on_purpose(normal):
    vae = vae_of(with_normal(normal))
    check = evaluation.check_kl(vae, IMAGES, batch_size=50)
    if normal is tfd.Normal:
        vae.compile("adam")
        logs = vae.evaluate(IMAGES, batch_size=50, verbose=0, return_dict=True)
        assert check.agrees
        assert abs(check.analytic - check.sampled) < 0.05 * check.analytic
        assert check.analytic == pytest.approx(logs["kl_loss"], rel=1e-5)
        assert re.match(
            r"The closed form of the KL between Broken\(event_size=3\) and .* agree: ", str(check)
        )
        return
    assert not check.agrees
    assert re.match(
        r"Warning: the closed form of the KL between Broken\(event_size=3\) and .*"
        r"StandardNormal.* disagree: ",
        str(check),
    )
    caught_by = check.gradient_z_score if normal is Stopped else check.z_score
    assert abs(caught_by) > 4


def test_the_z_score_is_the_mean_over_its_standard_error():
    values = np.random.default_rng(0).normal(0.1, 2.0, size=200)
    expected = scipy.stats.ttest_1samp(values, 0).statistic
    assert z_score(values) == pytest.approx(expected, rel=1e-3)
    assert abs(z_score(np.full(200, 1e-7))) < 0.1  # rounding alone
    assert z_score(np.full(200, 1e-3)) == pytest.approx(100)  # in units of 1e-5 nats


def test_the_closed_form_and_the_samples_are_those_of_the_definition():
    vae = vae_of()
    check = evaluation.check_kl(vae, IMAGES, num_samples=4)
    mean, raw = np.split(np.asarray(vae.encoder(IMAGES), np.float64), 2, axis=1)
    scale = 1e-4 + (1 - 1e-4) * np.log1p(np.exp(raw + np.log(np.e - 1)))
    kl = -0.5 * np.sum(np.log(scale**2) - mean**2 - scale**2 + 1, axis=1)
    assert check.analytic == pytest.approx(kl.mean(), rel=1e-5)
    z = mean + scale * np.random.default_rng(1).normal(size=(2000, *mean.shape))
    log_ratios = scipy.stats.norm.logpdf(z, mean, scale) - scipy.stats.norm.logpdf(z)
    log_ratios = log_ratios.sum(axis=-1)  # [samples, examples]
    assert check.sampled == pytest.approx(log_ratios.mean(), rel=0.05)
    # The z-score measures the difference in standard errors over the examples.
    standard_error = np.sqrt(np.mean(log_ratios.var(axis=0)) / 4 / len(IMAGES))
    expected = (check.sampled - check.analytic) / standard_error
    assert check.z_score == pytest.approx(expected, rel=0.2)
    assert (check.num_examples, check.num_samples) == (300, 4)


@pytest.mark.parametrize(
    ("posterior", "prior"),
    [
        (distributions.DiagonalNormal, distributions.LearnedNormal),
        (distributions.FullCovarianceNormal, distributions.StandardNormal),
    ],
)
def test_the_z_scores_of_sound_pairs_are_standard_normal_over_the_seeds(posterior, prior):
    vae = vae_of(posterior(3), prior(3))
    checks = [
        evaluation.check_kl(vae, IMAGES[:100], num_samples=2, seed=seed) for seed in range(40)
    ]
    for name in ("z_score", "gradient_z_score"):
        scores = [getattr(check, name) for check in checks]
        assert scipy.stats.kstest(scores, "norm").pvalue > 0.01
        assert len(set(scores)) == len(scores)
    again = evaluation.check_kl(vae, IMAGES[:100], num_samples=2, seed=3)
    assert again == checks[3]


def test_a_conditional_model_is_checked_with_its_labels():
    labels = np.arange(300) % 4
    vae = vae_of(prior=distributions.ConditionalNormal(3, num_classes=4), num_classes=4)
    check = evaluation.check_kl(vae, IMAGES, labels, batch_size=130)
    assert check.agrees
    expected = tfd.kl_divergence(vae.encode(IMAGES, labels), vae.prior.distribution(labels))
    assert check.analytic == pytest.approx(float(np.mean(expected)), rel=1e-5)
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, labels)).batch(64)
    assert evaluation.check_kl(vae, dataset, batch_size=130) == check


@pytest.mark.parametrize(
    ("score", "agrees"), [(np.nan, False), (4.0, True), (-4.0, True), (4.1, False), (-4.1, False)]
)
def test_both_scores_must_be_between_minus_4_and_4(score, agrees):
    for scores in ((0.5, score), (score, 0.5)):
        check = evaluation.KLCheck("q and p", 1.0, 1.0, *scores, num_examples=100, num_samples=8)
        assert check.agrees == agrees


def test_the_encoder_is_checked_without_dropout():
    vae = vae_of()
    layers = [keras.layers.Flatten(), keras.layers.Dropout(0.5), keras.layers.Dense(6)]
    encoder = keras.Sequential([keras.Input(IMAGE), *layers])
    vae = keras_gen.VAE(encoder, vae.decoder, vae.posterior, vae.likelihood, seed=0)
    expected = tfd.kl_divergence(vae.encode(IMAGES), vae.prior.distribution())
    found = evaluation.check_kl(vae, IMAGES).analytic
    assert found == pytest.approx(float(np.mean(expected)), rel=1e-5)


def test_the_check_is_in_a_summary_alone_and_not_without_a_closed_form():
    model = vae_of()
    model.compile("adam")
    logs = model.fit(IMAGES, validation_data=IMAGES, verbose=0).history
    assert {name for name in logs if "kl_" in name} == {"kl_loss", "val_kl_loss"}
    names = {"KL, closed form", "KL, sampled", "KL, z-score", "KL, z-score of gradients"}
    binary = np.round(IMAGES)[:100]
    found = evaluation.summarize(model, binary, num_samples=2)
    check = evaluation.check_kl(model, binary)
    values = {score.name: score.value for score in found.scores}
    assert values["KL, closed form"] == check.analytic
    assert values["KL, sampled"] == check.sampled
    assert values["KL, z-score"] == check.z_score
    assert values["KL, z-score of gradients"] == check.gradient_z_score
    assert str(check) in found.comments
    sampled = vae_of(prior=distributions.NormalMixture(3))
    sampled.compile("adam")
    for without in (
        evaluation.summarize(sampled, binary, num_samples=2),
        evaluation.summarize(model, binary[:99], num_samples=2),
    ):
        assert not names & {score.name for score in without.scores}


def test_a_summary_warns_of_a_broken_posterior():
    model = vae_of(with_normal(Halved))
    model.compile("adam")
    comments = evaluation.summarize(model, np.round(IMAGES), num_samples=2).comments
    assert any(comment.startswith("Warning: the closed form") for comment in comments)


@pytest.mark.parametrize(
    ("make", "x", "arguments", "message"),
    [
        (lambda: tiny("autoencoder"), IMAGES, {}, "`vae` must be a model with a posterior"),
        (lambda: tiny("gan"), IMAGES, {}, "`vae` must be a model with a posterior"),
        (
            lambda: vae_of(prior=distributions.NormalMixture(3)),
            IMAGES,
            {},
            r"DiagonalNormal\(event_size=3\) and .* must have a KL divergence in closed form",
        ),
        (vae_of, IMAGES[:99], {}, "Expected at least 100 examples. Received: 99 examples"),
        (vae_of, IMAGES[..., 0], {}, "shape"),
        (vae_of, IMAGES, {"num_samples": 0}, "num_samples=0"),
        (vae_of, IMAGES, {"batch_size": 0}, "batch_size=0"),
    ],
)
def test_invalid_arguments_are_refused(make, x, arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluation.check_kl(make(), x, **arguments)
