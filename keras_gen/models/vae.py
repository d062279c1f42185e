"""The variational autoencoder (MATH 2)."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._typing import Array, Distribution, Endpoint, TensorLike
from keras_gen.distributions import Likelihood, Posterior, Prior, StandardNormal, closed_form_kl
from keras_gen.distributions._checks import check_distribution, check_prior
from keras_gen.fitting.data_check import DataCheck
from keras_gen.models.base import GenerativeModel
from keras_gen.networks._checks import check_logits, check_network, labels_of, number_of_labels
from keras_gen.networks._copies import with_labels
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

    If the encoder or the decoder has a second input for labels, or the prior depends on them, the model is conditional:
    `fit(x, labels)`, `generate(n, condition=labels)`, `encode(x, labels)`; called as a function it takes `(x, labels)`.

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
    monitor = ("val_elbo", "max")
    evaluated_losses = loss_parts
    loss_unit = "nats"
    has_log_likelihood = True

    prior: Prior

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        posterior: Posterior,
        likelihood: Likelihood,
        prior: Prior | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        for argument, family, kind in (
            ("posterior", posterior, Posterior),
            ("likelihood", likelihood, Likelihood),
        ):
            if not isinstance(family, kind):
                raise ValueError(
                    f"`{argument}` is a keras_gen.distributions.{kind.__name__}, such as DiagonalNormal(event_size=8) or "
                    f"Bernoulli((28, 28, 1)). Received: {family!r}"
                )
        prior = StandardNormal(posterior.event_size) if prior is None else prior
        check_prior(prior, posterior.event_size, labels=True)
        check_network(
            "encoder",
            encoder,
            likelihood.event_shape,
            why=", the `event_shape` of `likelihood`",
            labels=True,
        )
        check_network(
            "encoder",
            encoder,
            None,
            (posterior.parameter_size,),
            why=", the `parameter_size` of `posterior`",
            labels=True,
        )
        check_network(
            "decoder",
            decoder,
            (posterior.event_size,),
            why=", the `event_size` of `posterior`",
            labels=True,
        )
        check_network(
            "decoder",
            decoder,
            None,
            likelihood.parameter_shape,
            why=", the `parameter_shape` of `likelihood`",
            labels=True,
        )
        if likelihood.logits:
            check_logits("decoder", decoder)
        num_classes = number_of_labels(
            encoder=labels_of(encoder), decoder=labels_of(decoder), prior=prior.num_classes
        )
        super().__init__(
            DataCheck(likelihood.event_shape, *likelihood.support, num_classes), seed, **kwargs
        )
        self.encoder = encoder
        self.decoder = decoder
        self.posterior = posterior
        self.likelihood = likelihood
        self.prior = prior
        self.family_variables = [*posterior.variables, *likelihood.variables]
        prior.connect(encoder, posterior, likelihood.support)
        check_distribution(prior)

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str = "adam",
        objective: Objective | None = None,
        **kwargs: Any,
    ) -> None:
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
            raise ValueError(
                f"{objective} needs a posterior without weights of its own. Received: {self.posterior}."
            )
        super().compile(optimizer, **kwargs)
        self.objective = objective

    def call(self, inputs: Any, training: bool = False) -> tf.Tensor:
        """The reconstruction of `inputs` without noise: the mean of p(x | z) at the mean of q(z | x)."""
        x, labels = inputs if self.num_classes else (inputs, None)
        latents = self.posterior.point(
            self.posterior(with_labels(self.encoder, x, labels, training))
        )
        return self.likelihood(with_labels(self.decoder, latents, labels, training)).mean()

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One step on the objective, −E_q[log p(x | z)] + KL(q(z | x) ‖ p(z)) for the ELBO."""
        x, target, labels, sample_weight = self._unpack_labelled(data)
        with tf.GradientTape() as tape:
            terms = self._terms(x, target, labels, sample_weight, training=True)
        terms["loss"] += self.minimize(tape, x, terms["loss"], self.trainable_variables, terms)
        self.log(x, **terms)
        return self._logs(x, target, labels, sample_weight)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """The objective and its parts on a batch, with noise that is the same in every evaluation, and the check of the KL."""
        x, target, labels, sample_weight = self._unpack_labelled(data)
        terms = self._terms(x, target, labels, sample_weight, training=False)
        self.log(x, **terms)
        return self._logs(x, target, labels, sample_weight)

    def _terms(self, x, target, labels, sample_weight, training):
        """The terms of the objective, averaged, with the regularization of the networks in the loss."""
        parameters = with_labels(self.encoder, x, labels, training)
        per_example = self.objective(
            target,
            posterior=self.posterior(parameters),
            frozen_posterior=self.posterior(tf.stop_gradient(parameters)),
            prior=self.prior.distribution(labels),
            decode=lambda latents: self._likelihood(latents, labels, target if training else None),
            seed=self.noise_seed(training),
            step=self.optimizer.iterations,
        )
        terms = {name: self.average(values, sample_weight) for name, values in per_example.items()}
        terms["regularization_loss"] = self.regularization_loss()
        terms["loss"] += terms["regularization_loss"]
        return terms

    def _likelihood(self, latents, labels, x=None):
        """p(x | z) for latents `[samples, batch, n]`; in a training step on `x`, what the family fits to the batch is."""
        samples, batch = tf.unstack(tf.shape(latents)[:2])
        labels = None if labels is None else tf.tile(labels, [samples])
        parameters = with_labels(
            self.decoder,
            tf.reshape(latents, (-1, self.posterior.event_size)),
            labels,
            training=x is not None,
        )
        parameters = tf.reshape(parameters, (samples, batch, *self.likelihood.parameter_shape))
        return self.likelihood(parameters) if x is None else self.likelihood.fitted(parameters, x)

    def _logs(self, x, target, labels, sample_weight):
        """The logs; the reconstruction is computed only for metrics that the user compiled."""
        wanted = any(metric.name == "compile_metrics" for metric in self.metrics)
        reconstruction = self.reconstruct(x, labels) if wanted else None
        return self.compute_metrics(x, target, reconstruction, sample_weight)

    def encode(self, x: Array, condition: TensorLike | None = None) -> Distribution:
        """The posterior q(z | x), a `tfd.Distribution`: `.mean()`, `.stddev()`, `.sample()`, `.log_prob(z)`."""
        self._given(condition)
        return self.posterior(with_labels(self.encoder, x, condition, training=False))

    def latents(self, x: Array, condition: TensorLike | None = None) -> tf.Tensor:
        """Return the point of q(z | x) that a reconstruction uses, its mean, `[batch, n]`."""
        return self.posterior.point(self.encode(x, condition))

    def decode(self, latents: Array, condition: TensorLike | None = None) -> tf.Tensor:
        """The mean of p(x | z) for `latents` `[batch, n]`."""
        self._given(condition)
        return self.likelihood(with_labels(self.decoder, latents, condition, training=False)).mean()

    def reconstruct(self, x: Array, condition: TensorLike | None = None) -> tf.Tensor:
        """The mean of p(x | z) at the mean of q(z | x), without noise."""
        return self((x, *self._given(condition)) if self.num_classes else x, training=False)

    def score(
        self, x: TensorLike, condition: TensorLike | None = None, num_samples: int = 16
    ) -> tf.Tensor:
        """How strange each example is, `[batch]`: −ELBO in nats, a bound on −log p(x), so higher is stranger.

        The expectation is over draws from the same noise for each example, whatever else is in the batch, and in every call: two
        scores differ by their examples alone.

        Args:
            x: Data `[batch, *data_shape]`.
            condition: Labels `[batch]` for a conditional model.
            num_samples: K, draws of z an example.

        Raises:
            ValueError: If the data have another shape or are no floats, or `num_samples` is no count.
        """
        num_samples = positive_int(self, "num_samples", num_samples)
        x = tf.convert_to_tensor(x)
        self.data_check.check_form("x", x)
        self._given(condition)
        x = tf.cast(x, tf.float32)
        parameters = with_labels(self.encoder, x, condition, training=False)

        def draws(parameters_of_one):
            posterior = self.posterior(parameters_of_one[None])
            z = posterior.sample(num_samples, seed=(self.seed, 0))
            return z[:, 0], posterior.log_prob(z)[:, 0]

        z, log_posterior = tf.vectorized_map(draws, parameters)
        z, log_posterior = (
            tf.transpose(z, (1, 0, 2)),
            tf.transpose(log_posterior),
        )  # [samples, batch, ...]
        prior = self.prior.distribution(condition)
        posterior = self.posterior(parameters)
        kl = closed_form_kl(posterior, prior)
        if kl is None:
            kl = tf.reduce_mean(log_posterior - prior.log_prob(z), axis=0)
        return kl - tf.reduce_mean(self._likelihood(z, condition).log_prob(x), axis=0)

    def log_weights(
        self,
        x: Array,
        condition: TensorLike | None = None,
        num_samples: int = 1,
        seed: TensorLike | None = None,
        posterior: Distribution | None = None,
    ) -> tf.Tensor:
        """log w_k = log p(x | z_k) + log p(z_k) − log q(z_k | x) with z_k ~ q(z | x), `[samples, batch]` in nats.

        The mean of w is an unbiased estimate of p(x) (Burda et al. 2016, arXiv:1509.00519); `evaluation.log_likelihood` takes it.

        Args:
            x: Data `[batch, *data_shape]`.
            condition: Labels `[batch]` for a conditional model.
            num_samples: K, draws of z an example.
            seed: Stateless seed, int32 `[2]`; without it they are drawn anew each time.
            posterior: Another q(z | x) than the encoder's, a `tfd.Distribution` with batch shape `[batch]`.

        Raises:
            ValueError: If `num_samples` is no count, or labels are missing or too many.
        """
        num_samples = positive_int(self, "num_samples", num_samples)
        posterior = self.encode(x, condition) if posterior is None else posterior
        z = posterior.sample(num_samples, seed=seed)
        log_ratio = posterior.log_prob(z) - self.prior.distribution(condition).log_prob(z)
        return self._likelihood(z, condition).log_prob(x) - log_ratio

    def signatures(self) -> dict[str, Endpoint]:
        """The serving contract: `serving_default`, `encode`, `decode`, `generate` and `score`, each with a `condition` if any."""
        latents, condition = (
            tf.TensorSpec((None, self.posterior.event_size), tf.float32, name="latents"),
            self._condition_specs(),
        )
        return {
            "serving_default": (
                lambda *inputs: {"reconstructions": self.reconstruct(*inputs)},
                [self._data_spec(), *condition],
            ),
            "encode": (
                lambda *inputs: self.posterior.summary(self.encode(*inputs)),
                [self._data_spec(), *condition],
            ),
            "decode": (lambda *latents: {"outputs": self.decode(*latents)}, [latents, *condition]),
            "generate": (self.generate_rows, [self._seed_spec(), *condition]),
            "score": (
                lambda *inputs: {"score": self.score(*inputs)},
                [self._data_spec(), *condition],
            ),
        }
