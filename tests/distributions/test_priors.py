import re

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
import tensorflow_probability as tfp

from keras_gen import networks
from keras_gen.distributions import (
    Bernoulli,
    ConditionalNormal,
    DiagonalNormal,
    FullCovarianceNormal,
    InverseAutoregressiveNormal,
    LearnedNormal,
    NormalMixture,
    Prior,
    StandardNormal,
    VampPrior,
)
from keras_gen.distributions._checks import (
    check_distribution,
    check_likelihood,
    check_posterior,
    check_prior,
)

RANDOM = np.random.default_rng(0)


def test_standard_normal_is_scipys():
    z = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    expected = scipy.stats.norm.logpdf(z).sum(axis=1)
    np.testing.assert_allclose(StandardNormal(3).distribution().log_prob(z), expected, rtol=1e-5)


def softplus_scale(raw):
    return 1e-4 + (1 - 1e-4) * np.log1p(np.exp(raw + np.log(np.e - 1)))


def test_learned_normal_is_scipys_at_its_weights():
    prior = LearnedNormal(3)
    z, mean, raw = RANDOM.normal(size=(3, 5, 3))
    np.testing.assert_allclose(
        prior.distribution().log_prob(z), StandardNormal(3).distribution().log_prob(z), rtol=1e-5
    )
    prior.set_weights([mean[0], raw[0]])
    expected = scipy.stats.norm(mean[0], softplus_scale(raw[0])).logpdf(z).sum(axis=1)
    np.testing.assert_allclose(prior.distribution().log_prob(z), expected, rtol=1e-4)


def test_normal_mixture_is_the_sum_of_its_components():
    prior = NormalMixture(2, num_components=3)
    logits = RANDOM.normal(size=3)
    mean, raw = RANDOM.normal(size=(2, 3, 2))
    prior.set_weights([logits, mean, raw])
    z = RANDOM.normal(size=(5, 1, 2))
    densities = scipy.stats.norm(mean, softplus_scale(raw)).pdf(z).prod(axis=-1)
    expected = np.log(densities @ scipy.special.softmax(logits))
    np.testing.assert_allclose(prior.distribution().log_prob(z[:, 0]), expected, rtol=1e-4)


@pytest.mark.parametrize("posterior", [DiagonalNormal(2), FullCovarianceNormal(2)])
def test_vamp_prior_is_the_mean_of_the_posteriors_of_its_pseudo_inputs(posterior):
    encoder = networks.mlp((4,), (posterior.parameter_size,), hidden=(3,))
    prior = VampPrior(2, num_components=6)
    with pytest.raises(ValueError, match="Give it to a VAE first"):
        prior.distribution()
    prior.connect(encoder, posterior, support=(0.0, 1.0))
    names = [variable.path.split("/")[-1] for variable in prior.trainable_variables]
    assert names == ["raw_inputs"]
    inputs = scipy.special.expit(prior.raw_inputs.numpy())
    z = RANDOM.normal(size=(5, 2)).astype("float32")
    densities = np.mean(
        [np.exp(posterior(encoder(inputs[k : k + 1])).log_prob(z)) for k in range(6)], axis=0
    )
    np.testing.assert_allclose(prior.distribution().log_prob(z), np.log(densities), rtol=1e-4)


def test_a_vamp_prior_belongs_to_one_vae():
    prior = VampPrior(2, num_components=6)
    encoder = networks.mlp((4,), (4,), hidden=(3,))
    prior.connect(encoder, DiagonalNormal(2), support=(0.0, 1.0))
    with pytest.raises(ValueError, match="belongs to a VAE already"):
        prior.connect(encoder, DiagonalNormal(2), support=(0.0, 1.0))


def test_conditional_normal_is_a_network_of_its_labels():
    prior = ConditionalNormal(2, num_classes=3, hidden_size=5)
    embedding, kernel, bias = (
        RANDOM.normal(size=(3, 5)),
        RANDOM.normal(size=(5, 4)),
        RANDOM.random(4),
    )
    prior.set_weights([embedding, kernel, bias])
    labels = np.array([2, 0, 1, 2])
    mean, raw = np.split(np.tanh(embedding[labels]) @ kernel + bias, 2, axis=1)
    distribution = prior.distribution(labels)
    np.testing.assert_allclose(distribution.mean(), mean, rtol=1e-4)
    np.testing.assert_allclose(distribution.stddev(), softplus_scale(raw), rtol=1e-4)
    rows = prior.sample_rows([5, 5, 6, 5], labels).numpy()
    noise = StandardNormal(2).sample_rows([5, 5, 6, 5]).numpy()
    np.testing.assert_allclose(rows, mean + softplus_scale(raw) * noise, rtol=1e-3, atol=1e-4)


def test_initial_weights_are_spread():
    mixture = NormalMixture(4, num_components=1000)
    assert scipy.stats.kstest(np.ravel(mixture.mean), "norm").pvalue > 1e-3
    vamp = VampPrior(2, num_components=1000)
    vamp.connect(networks.mlp((4,), (4,)), DiagonalNormal(2), support=(0.0, 1.0))
    assert scipy.stats.kstest(2 * np.ravel(vamp.raw_inputs), "norm").pvalue > 1e-3


def test_a_vamp_prior_does_not_depend_on_dropout():
    layers = [keras.Input((4,)), keras.layers.Dropout(0.5), keras.layers.Dense(4)]
    encoder = keras.Sequential(layers)
    prior = VampPrior(2, num_components=6)
    prior.connect(encoder, DiagonalNormal(2), support=(-np.inf, np.inf))
    expected = np.split(prior.raw_inputs @ layers[-1].kernel + layers[-1].bias, 2, axis=1)[0]
    found = prior.distribution().components_distribution.mean()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_vamp_prior_refuses_posteriors_with_weights_and_encoders_of_labels():
    prior = VampPrior(2)
    flow = InverseAutoregressiveNormal(2, context_size=2)
    with pytest.raises(ValueError, match=r"needs a posterior without weights. Received: .*Inverse"):
        prior.connect(networks.mlp((4,), (flow.parameter_size,)), flow, support=(0.0, 1.0))
    inputs = [keras.Input((4,)), keras.Input((3,))]
    encoder = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Concatenate()(inputs)))
    with pytest.raises(ValueError, match=r"has no labels .* Give labels to the decoder only"):
        prior.connect(encoder, DiagonalNormal(2), support=(0.0, 1.0))


class Caller(keras.layers.Layer):
    """A layer that reads the prior's weights inside of its call, as a VAE does."""

    def __init__(self, prior):
        super().__init__()
        self.prior = prior

    def call(self, z):
        return self.prior.distribution().log_prob(tf.cast(z, tf.float32))


@pytest.mark.parametrize("make", [LearnedNormal, NormalMixture, VampPrior])
def test_weights_are_float32_under_mixed_precision(make):
    encoder = networks.mlp((4,), (4,), hidden=(3,))
    keras.config.set_dtype_policy("mixed_float16")
    prior = make(2)
    prior.connect(encoder, DiagonalNormal(2), support=(0.0, 1.0))
    for weight in prior.weights:
        weight.assign(RANDOM.normal(size=weight.shape))
    z = np.float32([[0.5, -0.25], [1.0, 2.0]])
    np.testing.assert_array_equal(Caller(prior)(z), prior.distribution().log_prob(z))


@pytest.mark.parametrize("make", [LearnedNormal, NormalMixture, VampPrior])
def test_gradients_reach_every_weight(make):
    prior = make(2)
    encoder = networks.mlp((4,), (4,), hidden=(3,))
    prior.connect(encoder, DiagonalNormal(2), support=(0.0, 1.0))
    with tf.GradientTape() as tape:
        loss = prior.distribution().log_prob(tf.fill((3, 2), 2.0))
    gradients = tape.gradient(loss, prior.trainable_variables)
    assert len(gradients) >= 1
    assert all(np.any(np.abs(gradient) > 0) for gradient in gradients)


@pytest.mark.parametrize("make", [NormalMixture, VampPrior])
def test_num_components_is_checked(make):
    with pytest.raises(
        ValueError, match=f"`num_components` of {make.__name__} must be an integer of at least 1"
    ):
        make(2, num_components=0)


def test_a_row_depends_on_its_seed_alone():
    prior = StandardNormal(4)
    seeds = np.array([3, 2**40 + 3, -1, 3, 2**63 - 1])
    rows = prior.sample_rows(seeds).numpy()
    np.testing.assert_array_equal(rows[0], rows[3])
    assert len({tuple(row) for row in rows}) == 4
    for seed, row in zip(seeds, rows, strict=True):
        np.testing.assert_array_equal(prior.sample_rows([seed])[0], row)
    assert prior.sample_rows(np.zeros(0, np.int64)).shape == (0, 4)


def test_rows_of_consecutive_seeds_are_samples_of_the_prior():
    rows = StandardNormal(2).sample_rows(np.arange(5000)).numpy()
    assert scipy.stats.kstest(rows.ravel(), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(rows.T)[0, 1]) < 4 / np.sqrt(len(rows))
    assert abs(np.corrcoef(rows[:-1, 0], rows[1:, 0])[0, 1]) < 4 / np.sqrt(len(rows))


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([0, 4], "Received: 4 at index 1"),
        ([-1, 0], "Received: -1 at index 0"),
        ([0.0, 1.0], r"of float32. Convert the labels: labels.astype\(int\)"),
        (["a", "b"], "np.unique"),
        ([True, False], "of bool"),
        ([[0], [1]], r"shape \(2, 1\)"),
        (3, r"shape \(\) of int32"),
        (None, "depends on labels. Pass them"),
    ],
)
def test_a_prior_refuses_invalid_labels(labels, said):
    prior = ConditionalNormal(2, num_classes=4, hidden_size=3, name="prior")
    for call in (prior.distribution, lambda labels: prior.sample_rows(np.arange(2), labels)):
        with pytest.raises(ValueError, match=said) as raised:
            call(labels)
        if labels is not None:
            assert "integers of shape (batch,) from 0 to 3, for prior" in str(raised.value)


def test_the_labels_of_a_prior_are_checked_in_a_graph():
    prior = ConditionalNormal(2, num_classes=4, hidden_size=3)
    mean = tf.function(lambda labels: prior.distribution(labels).mean())
    labels = np.array([3, 0, 1])
    np.testing.assert_allclose(mean(labels), prior.distribution(labels).mean(), rtol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="from 0 to 3"):
        mean(np.array([0, 1, 4]))


def test_a_prior_needs_one_label_per_seed():
    prior = ConditionalNormal(2, num_classes=4, hidden_size=3)
    with pytest.raises(ValueError, match="Received: 3 labels for 2 examples"):
        prior.sample_rows(np.arange(2), [0, 1, 2])


@keras.saving.register_keras_serializable("tests")
class Laplace(Prior):
    def __init__(self, event_size, width=1.0, **kwargs):
        super().__init__(event_size, **kwargs)
        self.width = width

    def distribution(self, condition=None):
        return tfp.distributions.Independent(
            tfp.distributions.Laplace(tf.zeros(self.event_size), self.width), 1
        )


def test_a_prior_of_ones_own_round_trips_and_samples():
    prior = keras.saving.deserialize_keras_object(
        keras.saving.serialize_keras_object(Laplace(2, width=0.5, name="mine"))
    )
    assert (prior.event_size, prior.width, prior.name) == (2, 0.5, "mine")
    rows = prior.sample_rows(np.arange(4000)).numpy()
    assert scipy.stats.kstest(rows.ravel(), scipy.stats.laplace(scale=0.5).cdf).pvalue > 1e-3


def test_a_prior_that_makes_its_weights_in_build_is_built_by_the_check():
    class Built(Prior):
        def build(self, input_shape):
            self.mean = self.add_weight((self.event_size,), "zeros", name="mean", autocast=False)

        def distribution(self, condition=None):
            normal = tfp.distributions.Normal(tf.convert_to_tensor(self.mean), 1.0)
            return tfp.distributions.Independent(normal, 1)

    assert StandardNormal(2).built
    prior = Built(2)
    assert not prior.built
    check_distribution(prior)
    assert prior.built
    assert prior.count_params() == 2


@pytest.mark.parametrize(
    ("distribution", "received"),
    [
        (tfp.distributions.Normal(tf.zeros(2), 1.0), "event shape (), batch shape (2,)"),
        (tfp.distributions.MultivariateNormalDiag(tf.zeros(3)), "event shape (3,), batch shape ()"),
        (
            tfp.distributions.MultivariateNormalDiag(tf.zeros((4, 2))),
            "event shape (2,), batch shape (4,)",
        ),
        (
            tfp.distributions.MultivariateNormalDiag(tf.zeros(2, tf.float64)),
            "event shape (2,), batch shape (), dtype float64",
        ),
    ],
)
def test_a_distribution_of_another_shape_or_dtype_is_refused(distribution, received):
    class Mine(Prior):
        def distribution(self, condition=None):
            return distribution

    with pytest.raises(ValueError, match=re.escape(f"Received: {received}")):
        check_distribution(Mine(2))
    check_distribution(ConditionalNormal(2, num_classes=3))


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="`event_size` of StandardNormal"):
        StandardNormal(0)
    with pytest.raises(
        NotImplementedError, match=r"must return a `tfd\.Distribution` from `distribution\(\)`"
    ):
        Prior(2).distribution()


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: check_posterior(StandardNormal(2)), "`posterior` must be a .*Posterior, such as"),
        (lambda: check_posterior(None, "q"), "`q` must be a .*Received: None"),
        (lambda: check_likelihood(StandardNormal(2)), "`likelihood` must be a .*Likelihood"),
        (lambda: check_prior(DiagonalNormal(2), 2), "`prior` must be a .*distributions.Prior"),
        (lambda: check_prior(StandardNormal(2), 3), "over 3 latents.*event_size=2.*event_size=3"),
        (lambda: check_prior(ConditionalNormal(2, 3), 2), "must not depend on labels"),
    ],
)
def test_other_objects_than_distributions_are_refused(check, message):
    with pytest.raises(ValueError, match=message):
        check()
    check_posterior(DiagonalNormal(2))
    check_likelihood(Bernoulli((2,)))
    check_prior(ConditionalNormal(2, 3), 2, labels=True)
