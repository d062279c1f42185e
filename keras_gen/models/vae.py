"""The variational autoencoder (MATH 2)."""

import keras
import tensorflow as tf

from keras_gen.distributions import StandardNormal, kl_divergence
from keras_gen.models.base import GenerativeModel
from keras_gen.models.checks import DataCheck, check_distribution, check_logits, check_network, check_prior
from keras_gen.models.kl_check import KLCheck
from keras_gen.objectives import ELBO, Objective


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
        self.family_variables = [*posterior.variables, *likelihood.variables]
        prior.connect(encoder, posterior, likelihood.support)
        check_distribution(prior)
        has_closed_form = kl_divergence(posterior(tf.zeros((1, posterior.parameter_size))), prior.distribution()).analytic
        self.kl_check = KLCheck() if has_closed_form else None
        self.kl_check_metrics = self.kl_check.metrics if has_closed_form else []  # for Keras to reset and report

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
        if getattr(objective, "doubly_reparameterized", False) and self.posterior.variables:
            raise ValueError(f"{objective} needs a posterior without weights of its own. Received: {self.posterior}.")
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
            terms = self._terms(x, target, sample_weight, training=True)
        self.minimize(tape, terms["loss"], self.trainable_variables)
        self.log(x, **terms)
        return self._without_check(self._logs(x, target, sample_weight))

    def test_step(self, data):
        """The objective and its parts on a batch, with noise that is the same in every evaluation, and the check of the KL."""
        x, target, sample_weight = self.unpack(data)
        terms = self._terms(x, target, sample_weight, training=False)
        if self.kl_check:
            prior, seed = self.prior.distribution(), self.noise_seed(training=False)
            self.kl_check.update(self.posterior, self.encoder(x, training=False), prior, seed)
        self.log(x, **terms)
        return self._logs(x, target, sample_weight)

    def _terms(self, x, target, sample_weight, training):
        """The terms of the objective, averaged, with the regularization of the networks in the loss."""
        parameters = self.encoder(x, training=training)
        per_example = self.objective(
            target,
            posterior=self.posterior(parameters),
            frozen_posterior=self.posterior(tf.stop_gradient(parameters)),
            prior=self.prior.distribution(),
            decode=lambda latents: self._likelihood(latents, target if training else None),
            seed=self.noise_seed(training),
            step=self.optimizer.iterations,
        )
        terms = {name: self.average(values, sample_weight) for name, values in per_example.items()}
        terms["regularization_loss"] = self.regularization_loss()
        terms["loss"] += terms["regularization_loss"]
        return terms

    def _likelihood(self, latents, x=None):
        """p(x | z) for latents `[samples, batch, n]`; in a training step on `x`, what the family fits to the batch is."""
        samples, batch = tf.unstack(tf.shape(latents)[:2])
        parameters = self.decoder(tf.reshape(latents, (-1, self.posterior.event_size)), training=x is not None)
        parameters = tf.reshape(parameters, (samples, batch, *self.likelihood.parameter_shape))
        return self.likelihood(parameters) if x is None else self.likelihood.fitted(parameters, x)

    def _logs(self, x, target, sample_weight):
        """The logs; the reconstruction is computed only for metrics that the user compiled."""
        wanted = any(metric.name == "compile_metrics" for metric in self.metrics)
        return self.compute_metrics(x, target, self(x, training=False) if wanted else None, sample_weight)

    def evaluate(self, *args, **kwargs):
        """Evaluate as `keras.Model.evaluate`, and warn if the closed form of the KL and its estimate disagree.

        The logs have `kl_analytic` and `kl_sampled`, both in nats, and how many standard errors lie between them and between their
        gradients, `kl_z_score` and `kl_gradient_z_score`: over 4 on at least 100 examples is a warning. A pair without a closed
        form has none of these.
        """
        logs = super().evaluate(*args, **kwargs)
        if self.kl_check:
            self.kl_check.warn(pair=f"{self.posterior} and {self.prior.name}")
        return logs

    def get_metrics_result(self):
        """The logs; without the check of the KL in training, which does not make it."""
        results = super().get_metrics_result()
        in_training = tf.executing_eagerly() and self.kl_check and not self.kl_check.examples
        return self._without_check(results) if in_training else results

    def _without_check(self, logs):
        return {name: value for name, value in logs.items() if name not in KLCheck.names}

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
