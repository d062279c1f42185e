"""The variational autoencoder (MATH 2)."""

import warnings

import keras
import numpy as np
import tensorflow as tf

from keras_gen.distributions import StandardNormal, cross_check, kl_divergence
from keras_gen.models.base import GenerativeModel
from keras_gen.models.checks import DataCheck, check_distribution, check_logits, check_network, check_prior
from keras_gen.objectives import ELBO, Objective


class ZScore(keras.metrics.Metric):
    """How many standard errors the mean of all values is from 0; differences of rounding count as 0."""

    def __init__(self, name):
        super().__init__(name=name)
        self.sums = self.add_variable((3,), "zeros", name="sums")

    def update_state(self, values):
        """Take in values `[batch]`."""
        self.sums.assign_add(tf.stack([tf.cast(tf.size(values), tf.float32), tf.reduce_sum(values), tf.reduce_sum(values**2)]))

    def result(self):
        """The mean over its standard error; 0 before any value."""
        count, total, squares = tf.unstack(tf.convert_to_tensor(self.sums))
        mean, mean_square = tf.math.divide_no_nan(total, count), tf.math.divide_no_nan(squares, count)
        standard_error = tf.sqrt(tf.math.divide_no_nan(tf.maximum(mean_square - mean**2, 0.0), count))
        return tf.math.divide_no_nan(mean, standard_error + 1e-5)


@keras.saving.register_keras_serializable("keras_gen")
class VAE(GenerativeModel):
    """q(z | x) from an encoder, p(x | z) from a decoder, a prior p(z), trained on a bound of log p(x) (MATH 2; arXiv:1312.6114).

    Args:
        encoder: Built Keras model from data to the posterior's parameters, `[batch, posterior.parameter_size]`.
        decoder: Built Keras model from latents `[batch, posterior.event_size]` to the likelihood's parameters,
            `[batch, *likelihood.parameter_shape]`.
        posterior: Family of q, for instance `distributions.DiagonalNormal(event_size=8)`.
        likelihood: Family of p(x | z), for instance `distributions.Bernoulli((28, 28, 1))`.
        prior: p(z), a `distributions.Prior`; `StandardNormal` if None.
        seed: Seed of the model's noise.
        **kwargs: `name`, `dtype` and `trainable` of the Keras model.

    Example:

    >>> from keras_gen import distributions, networks
    >>> posterior, likelihood = distributions.DiagonalNormal(event_size=2), distributions.Bernoulli((28, 28, 1))
    >>> vae = VAE(encoder=networks.mlp((28, 28, 1), (posterior.parameter_size,), hidden=(32,)),
    ...           decoder=networks.mlp((2,), likelihood.parameter_shape, hidden=(32,)),
    ...           posterior=posterior, likelihood=likelihood, seed=0)
    >>> vae.compile("adam")
    >>> history = vae.fit(tf.random.uniform((64, 28, 28, 1)), epochs=1, verbose=0)
    >>> vae.generate(3, seed=7).shape.as_list()
    [3, 28, 28, 1]
    """

    loss_parts = ("reconstruction_loss", "kl_loss", "regularization_loss", "elbo")
    compile_arguments = ("objective",)

    def __init__(self, encoder, decoder, posterior, likelihood, prior=None, seed=None, **kwargs):
        prior = StandardNormal(posterior.event_size) if prior is None else prior
        check_prior(prior, posterior.event_size)
        check_network("encoder", encoder, likelihood.event_shape, why=", the `event_shape` of `likelihood`")
        check_network("encoder", encoder, None, (posterior.parameter_size,), why=", the `parameter_size` of `posterior`")
        check_network("decoder", decoder, (posterior.event_size,), why=", the `event_size` of `posterior`")
        check_network("decoder", decoder, None, likelihood.parameter_shape, why=", the `parameter_shape` of `likelihood`")
        if likelihood.logits:
            check_logits("decoder", decoder)
        super().__init__(DataCheck(likelihood.event_shape, *likelihood.support), seed, **kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.posterior = posterior
        self.likelihood = likelihood
        self.prior = prior
        self.family_variables = list(likelihood.variables)
        prior.connect(encoder, posterior, likelihood.support)
        check_distribution(prior)
        self.kl_check = []
        if kl_divergence(posterior(tf.zeros((1, posterior.parameter_size))), prior.distribution()).analytic:
            means = [keras.metrics.Mean(name=name) for name in ("kl_analytic", "kl_sampled")]
            self.kl_check = [*means, ZScore("kl_z_score"), ZScore("kl_gradient_z_score")]

    def compile(self, optimizer="adam", objective=None, **kwargs):
        """Configure for training as `keras.Model.compile`, with an `objective` in the place of `loss`.

        Args:
            optimizer: Keras optimizer or its name.
            objective: What is minimized, `objectives.ELBO()` if None.
            **kwargs: Further arguments of `keras.Model.compile`; `metrics` see the data and their reconstruction.
        """
        objective = ELBO() if objective is None else objective
        if kwargs.get("loss") is not None or not isinstance(objective, Objective):
            raise ValueError(
                "A VAE minimizes an objective, not a Keras loss: compile('adam', objective=objectives.ELBO()). "
                f"Received: loss={kwargs.get('loss')!r}, objective={objective!r}"
            )
        super().compile(optimizer, **kwargs)
        self.objective = objective

    def call(self, inputs, training=False):
        """The reconstruction of `inputs` without noise: the mean of p(x | z) at the mean of q(z | x)."""
        latents = self.posterior.point(self.posterior(self.encoder(inputs, training=training)))
        return self.likelihood(self.decoder(latents, training=training)).mean()

    def train_step(self, data):
        """One step on the objective, −E_q[log p(x | z)] + KL(q(z | x) ‖ p(z)) for the ELBO."""
        x, target, sample_weight = self.unpack(data)
        with tf.GradientTape() as tape:
            terms = self._objective_terms(x, target, training=True)
            terms = {name: self.average(values, sample_weight) for name, values in terms.items()}
            terms["regularization_loss"] = self.regularization_loss()
            terms["loss"] += terms["regularization_loss"]
        self.minimize(tape, terms["loss"], self.trainable_variables)
        self.log(x, **terms)
        return _without_check(self._metrics_results(x, target, sample_weight))

    def test_step(self, data):
        """The objective and its parts on a batch, with noise that is the same in every evaluation."""
        x, target, sample_weight = self.unpack(data)
        terms = self._objective_terms(x, target, training=False)
        terms = {name: self.average(values, sample_weight) for name, values in terms.items()}
        terms["regularization_loss"] = self.regularization_loss()
        terms["loss"] += terms["regularization_loss"]
        self._check_kl(x)
        self.log(x, **terms)
        return self._metrics_results(x, target, sample_weight)

    def _check_kl(self, x):
        """Put the closed form of the KL and an estimate beside each other."""
        if self.kl_check:
            seed = tf.random.experimental.stateless_fold_in(self.noise_seed(training=False), 1)
            values = cross_check(self.posterior, self.encoder(x, training=False), self.prior.distribution(), 8, seed)
            for metric, value in zip(self.kl_check, values, strict=True):
                metric.update_state(value)

    def evaluate(self, *args, **kwargs):
        """Evaluate as `keras.Model.evaluate`, and warn if the closed form of the KL and its estimate disagree.

        The logs have `kl_analytic` and `kl_sampled`, both in nats, and how many standard errors lie between them and between their
        gradients, `kl_z_score` and `kl_gradient_z_score`; over 4 is a warning, if there are 100 examples, without which the
        standard errors themselves are not known. A pair without a closed form
        has none of these.
        """
        logs = super().evaluate(*args, **kwargs)
        scores = {metric.name: float(metric.result()) for metric in self.kl_check[2:]}
        if self._kl_checked() >= 100 and any(np.abs(score) > 4 for score in scores.values()):
            warnings.warn(
                f"The closed form of the KL between {self.posterior} and {self.prior.name} and its estimate from samples disagree: "
                f"{scores}, in standard errors. One of the two distributions has a wrong density, divergence or sampler.",
                stacklevel=2,
            )
        return logs

    def get_metrics_result(self):
        """The logs; without the check of the KL in training, which does not make it."""
        results = super().get_metrics_result()
        return _without_check(results) if tf.executing_eagerly() and not self._kl_checked() else results

    def _kl_checked(self):
        """On how many examples the KL has been checked since the metrics were last reset."""
        return float(tf.convert_to_tensor(self.kl_check[0].count.value)) if self.kl_check else 0

    def _objective_terms(self, x, target, training):
        """The terms of the objective, one value per example."""
        parameters = self.encoder(x, training=training)
        return self.objective(
            target,
            posterior=self.posterior(parameters),
            frozen_posterior=self.posterior(tf.stop_gradient(parameters)),
            prior=self.prior.distribution(),
            decode=lambda latents: self._likelihood(latents, target if training else None),
            seed=self.noise_seed(training),
            step=self.optimizer.iterations,
        )

    def _likelihood(self, latents, x=None):
        """p(x | z) for latents `[samples, batch, n]`; in a training step on `x`, what the family fits to the batch is."""
        samples, batch = tf.unstack(tf.shape(latents)[:2])
        parameters = self.decoder(tf.reshape(latents, (-1, self.posterior.event_size)), training=x is not None)
        parameters = tf.reshape(parameters, (samples, batch, *self.likelihood.parameter_shape))
        return self.likelihood(parameters) if x is None else self.likelihood.fitted(parameters, x)

    def _metrics_results(self, x, target, sample_weight):
        """The logs; the reconstruction is computed only for metrics that the user compiled."""
        wanted = any(metric.name == "compile_metrics" for metric in self.metrics)
        return self.compute_metrics(x, target, self(x, training=False) if wanted else None, sample_weight)

    def encode(self, x):
        """The posterior q(z | x), a `tfd.Distribution`: `.mean()`, `.stddev()`, `.sample()`, `.log_prob(z)`."""
        return self.posterior(self.encoder(x, training=False))

    def decode(self, latents):
        """The mean of p(x | z) for `latents` `[batch, n]`."""
        return self.likelihood(self.decoder(latents, training=False)).mean()

    def reconstruct(self, x):
        """The mean of p(x | z) at the mean of q(z | x), without noise."""
        return self(x, training=False)

    def signatures(self):
        """The serving contract: `serving_default`, `encode`, `decode` and `generate`."""
        latents = tf.TensorSpec((None, self.posterior.event_size), tf.float32, name="latents")

        return {
            "serving_default": (lambda inputs: {"reconstructions": self.reconstruct(inputs)}, [self._data_spec()]),
            "encode": (lambda inputs: self.posterior.summary(self.encode(inputs)), [self._data_spec()]),
            "decode": (lambda latents: {"outputs": self.decode(latents)}, [latents]),
            "generate": (self.generate_rows, [self._seed_spec()]),
        }


def _without_check(logs):
    check = ("kl_analytic", "kl_sampled", "kl_z_score", "kl_gradient_z_score")
    return {name: value for name, value in logs.items() if name not in check}
