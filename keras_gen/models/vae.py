"""The variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114)."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._compat import all_layers, replace_layer
from keras_gen._tracing import traced
from keras_gen._typing import Array, Distribution, Endpoint, Examples, TensorLike
from keras_gen.distributions import (
    DiagonalNormal,
    FittedDensity,
    Likelihood,
    Posterior,
    Prior,
    StandardNormal,
    closed_form_kl,
)
from keras_gen.distributions._checks import (
    check_distribution,
    check_likelihood,
    check_posterior,
    check_prior,
)
from keras_gen.distributions._deferred import deferred_normal
from keras_gen.distributions.densities import check_density, density_to_fit
from keras_gen.fitting.data_check import DataCheck
from keras_gen.fitting.loss_check import per_example
from keras_gen.models.anomalies import AnomalyDetector, ScoreFunctions
from keras_gen.models.base import CheckedBatch, batches_of
from keras_gen.networks._checks import (
    check_logits,
    check_network,
    common_num_classes,
    num_classes_of,
)
from keras_gen.networks._copies import call_network, check_accepts_missing
from keras_gen.objectives import ELBO, Batch, Objective, Terms

_DECODED_TOGETHER = 2**16  # number of latent vectors that `impute` decodes together
_SERVED_SAMPLES = 1000  # samples of z per example in the exported function `impute`


@keras.saving.register_keras_serializable("keras_gen")
class VAE(AnomalyDetector):
    """A variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114).

    The encoder maps data x to a posterior q(z | x) of the latents z. The decoder maps z to a
    likelihood p(x | z). The prior is p(z). By default, training maximizes the evidence lower bound
    (ELBO) of log p(x). The ELBO is E_q[log p(x | z)] − KL(q(z | x) ‖ p(z)), where E_q is the mean
    over samples z of q(z | x).

    The model is conditional if the encoder or the decoder has an input named `condition`, or if the
    prior depends on labels. Pass the labels as in `fit(x, labels)`, `encode(x, labels)`,
    `generate(n, condition=labels)` and `vae((x, labels))`.

    Args:
        encoder: Built Keras model that maps data to the parameters of the posterior,
            `[batch, posterior.parameter_size]`.
        decoder: Built Keras model that maps latents `[batch, posterior.event_size]` to the
            parameters of the likelihood, `[batch, *likelihood.parameter_shape]`.
        posterior: q(z | x), for instance `distributions.DiagonalNormal(event_size=8)`.
        likelihood: p(x | z), for instance `distributions.Bernoulli((28, 28, 1))`.
        prior: p(z), a `distributions.Prior`. If None, a `distributions.StandardNormal`.
        seed: Seed of all random numbers of the model, an int in [0, 2³¹). If None, the seed is
            random.
        threshold: An example is an anomaly if its anomaly score is above this number. If None, call
            `calibrate` to compute the threshold.
        density: A `distributions.FittedDensity` from which `generate` samples latents in place of
            the prior. `fit_latent_density` fits it. If None, `generate` uses the prior.
        **kwargs: Arguments of `keras.Model`: `name`, `dtype` and `trainable`.

    Raises:
        ValueError: If an argument has the wrong type or value, or if the shapes or the numbers of
            classes of two arguments do not match. If the likelihood needs logits, but the decoder
            ends in an activation such as a sigmoid. If the likelihood accepts missing elements, but
            the encoder returns NaN for them. If a conditional model gets a `density`.

    Example:

    >>> from keras_gen import distributions, networks
    >>> posterior = distributions.DiagonalNormal(event_size=2)
    >>> likelihood = distributions.Bernoulli((28, 28, 1))
    >>> vae = VAE(
    ...     encoder=networks.mlp((28, 28, 1), (posterior.parameter_size,), hidden=(32,)),
    ...     decoder=networks.mlp((2,), likelihood.parameter_shape, hidden=(32,)),
    ...     posterior=posterior, likelihood=likelihood, seed=0)
    >>> vae.compile("adam")
    >>> history = vae.fit(tf.random.uniform((64, 28, 28, 1)), epochs=1, verbose=0)
    >>> vae.generate(3, seed=7).shape.as_list()
    [3, 28, 28, 1]
    """

    loss_parts: tuple[str, ...] = ("reconstruction_loss", "kl_loss", "regularization_loss", "elbo")
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
        threshold: float | None = None,
        density: FittedDensity | None = None,
        **kwargs: Any,
    ) -> None:
        check_posterior(posterior)
        check_likelihood(likelihood)
        prior = StandardNormal(posterior.event_size) if prior is None else prior
        check_prior(prior, posterior.event_size, labels=True)
        _check_networks(encoder, decoder, posterior, likelihood)
        num_classes = common_num_classes(
            encoder=num_classes_of(encoder),
            decoder=num_classes_of(decoder),
            prior=prior.num_classes,
        )
        data_check = DataCheck.of_likelihood(likelihood, num_classes)
        super().__init__(data_check, seed, **kwargs)
        self.threshold = self.check_threshold(threshold)
        self.columns = likelihood.columns
        self.generates_means = not likelihood.generates_samples
        # Do not reorder: files of version 0.1.0 contain the variables in the order of these lines.
        self.posterior = posterior
        self.likelihood = likelihood
        self.encoder = encoder
        self.decoder = decoder
        self.prior = prior
        for part in (posterior, likelihood):
            if not part.built:
                part.build(None)
        prior.connect(encoder, posterior, likelihood.support)
        check_distribution(prior)
        if density is not None:
            self._check_unconditional()
            check_distribution(check_density(density, posterior.event_size))
            self.density = density
        if likelihood.missing:
            check_accepts_missing(encoder, likelihood.event_shape, type(likelihood).__name__)

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str = "adam",
        objective: Objective | None = None,
        **kwargs: Any,
    ) -> None:
        """Configure the model for training, like `keras.Model.compile`.

        Args:
            optimizer: Keras optimizer or its name.
            objective: The `objectives.Objective` that training minimizes. If None,
                `objectives.ELBO()`.
            **kwargs: Other arguments of `keras.Model.compile`. `metrics` compare the data with the
                reconstruction.

        Raises:
            ValueError: If a Keras `loss` is given, if `objective` is not an `Objective`, or if the
                objective cannot be used with the posterior.
        """
        objective = ELBO() if objective is None else objective
        if kwargs.get("loss") is not None or not isinstance(objective, Objective):
            raise ValueError(
                "A VAE minimizes an objective, not a Keras loss: "
                "compile('adam', objective=objectives.ELBO()). "
                f"Received: loss={kwargs.get('loss')!r}, objective={objective!r}"
            )
        if getattr(objective, "doubly_reparameterized", False):
            self._check_doubly_reparameterized(objective)
        super().compile(optimizer, **kwargs)
        self.objective = objective
        self.has_metrics = bool(kwargs.get("metrics") or kwargs.get("weighted_metrics"))

    def _named_posteriors(self) -> dict[str, Posterior]:
        """Return the posterior of each layer of latents, by the name of the argument."""
        return {"posterior": self.posterior}

    def _check_doubly_reparameterized(self, objective: Objective) -> None:
        """Raise a `ValueError` if the objective's doubly reparameterized gradient would be wrong.

        This is the case if a posterior has weights, because the frozen posterior would have a
        gradient with respect to them.
        """
        for name, posterior in self._named_posteriors().items():
            if posterior.variables:
                raise ValueError(
                    f"`{name}` must be a layer without weights for {objective}. "
                    f"Received: {posterior}. Use DiagonalNormal or FullCovarianceNormal."
                )

    def call(self, inputs: Any, training: bool = False) -> tf.Tensor:
        """Return the reconstruction of the data x.

        If the model is conditional, `inputs` is a pair (data, labels). The docstring of the method
        `reconstruct` describes the reconstruction.
        """
        inputs = self.check_inputs(inputs)
        x, labels = inputs if self.num_classes else (inputs, None)
        posterior = self.posterior(call_network(self.encoder, x, labels, training))
        latents = self.posterior.point(posterior)
        parameters = call_network(self.decoder, latents, labels, training)
        return self.likelihood.point(self.likelihood(parameters))

    def check_inputs(self, inputs: Any) -> Any:
        """Check the inputs of `call`: data, or a pair (data, labels) for a conditional model."""
        x, *labels = self.split_inputs(inputs)
        checked = self.checked_arguments(x, *(labels or [None]))
        return checked if labels else checked[0]

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Take one optimizer step on one batch, and return the losses and metrics by name.

        The step minimizes the objective that the user passed to `compile`, plus the regularization
        losses of the layers. By default, the objective is −E_q[log p(x | z)] + KL(q(z | x) ‖ p(z)),
        where q is the posterior q(z | x).
        """
        batch = self.unpack(data)
        with tf.GradientTape() as tape:
            terms = self._terms(batch, training=True)
        terms["loss"] += self.minimize(
            tape, batch.x, terms["loss"], self.trainable_variables, terms
        )
        return self._logs(batch, terms)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Compute the objective and its terms on one batch, and return the logs.

        If the same data are evaluated again, the latents are sampled with the same noise.
        """
        batch = self.unpack(data)
        return self._logs(batch, self._terms(batch, training=False))

    def _terms(self, batch: CheckedBatch, training: bool) -> dict[str, tf.Tensor]:
        """Return the mean loss of a batch, and the mean of each term of the loss, by name."""
        terms_of_examples = self.objective(self._objective_batch(batch, training))
        if not isinstance(terms_of_examples, Terms):
            raise ValueError(
                "`objective` must return keras_gen.objectives.Terms. "
                f"Received: a {type(terms_of_examples).__name__} from {self.objective!r}."
            )
        terms = {}
        for name, of_examples in terms_of_examples.by_name().items():
            what = f"`{name}` of {type(self.objective).__name__}"
            values = per_example(what, of_examples, batch.x)
            terms[name] = self.average(values, batch.sample_weight)
        terms["regularization_loss"] = self.regularization_loss()
        terms["loss"] += terms["regularization_loss"]
        return terms

    def _objective_batch(self, batch: CheckedBatch, training: bool) -> Batch:
        """Make the `Batch` from which the objective computes the loss of a batch of data.

        A `Batch` contains the data and the distributions, such as the posterior q(z | x).
        """
        parameters = call_network(self.encoder, batch.x, batch.labels, training)

        def frozen_posterior() -> Distribution:
            return self.posterior(tf.stop_gradient(parameters))

        def likelihood(latents: tf.Tensor) -> Distribution:
            return self._likelihood(latents, batch.labels, batch.target if training else None)

        return Batch(
            x=batch.target,
            posterior=self.posterior(parameters),
            frozen_posterior=frozen_posterior,
            prior=self.prior.distribution(batch.labels),
            likelihood=likelihood,
            seed=self.noise_seed(training),
            step=self.optimizer.iterations,
        )

    def _likelihood(
        self, latents: tf.Tensor, labels: TensorLike | None, x: tf.Tensor | None = None
    ) -> Distribution:
        """Return the distribution p(x | z) of the data x, given latents `[samples, batch, n]`.

        In a training step, the caller also passes the data `x`. Some likelihoods then compute the
        standard deviation σ from `x`, for instance `Normal` with `scale="optimal"`.
        """
        samples, batch = tf.unstack(tf.shape(latents)[:2])
        if labels is not None:
            labels = tf.tile(labels, [samples])
        flat_latents = tf.reshape(latents, (-1, self.posterior.event_size))
        parameters = call_network(self.decoder, flat_latents, labels, training=x is not None)
        parameters = tf.reshape(parameters, (samples, batch, *self.likelihood.parameter_shape))
        return self.likelihood(parameters) if x is None else self.likelihood.fitted(parameters, x)

    def _logs(self, batch: CheckedBatch, terms: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Update the running means of the loss and its terms, and return all logged values by name.

        If the user passed metrics to `compile`, the method also updates these metrics. They compare
        the data with the reconstruction.
        """
        self.log(batch.x, **terms)
        reconstruction = self.reconstruct(batch.x, batch.labels) if self.has_metrics else None
        return self.compute_metrics(batch.x, batch.target, reconstruction, batch.sample_weight)

    def encode(self, x: Array, condition: TensorLike | None = None) -> Distribution:
        """Return the posterior q(z | x).

        Args:
            x: Data `[batch, *data_shape]`.
            condition: Labels `[batch]` if the model is conditional, otherwise None.

        Returns:
            A distribution of TensorFlow Probability, with `sample()` and `log_prob(z)`. If the
            posterior is a normal distribution, there are also `mean()` and `stddev()`. For a
            normalizing flow, the mean and the standard deviation have no closed form.
        """
        encoded = self._posterior_or_parameters(x, condition)
        if isinstance(encoded, tuple):
            return deferred_normal(*encoded)
        return self.posterior(encoded) if tf.is_tensor(encoded) else encoded

    @traced("x", "condition")
    def _posterior_or_parameters(
        self, x: Array, condition: TensorLike | None
    ) -> Distribution | tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        """Return q(z | x), its parameters, or its mean and standard deviation.

        A TensorFlow graph can return only tensors and distributions that are made of tensors. It
        cannot return a normalizing flow, which contains functions. In this case, this method
        returns the parameters. For a `DiagonalNormal`, this method returns the mean and the
        standard deviation, because TensorFlow needs much time to return a distribution.
        """
        x, labels = self.checked_arguments(x, condition)
        parameters = call_network(self.encoder, x, labels, training=False)
        distribution = self.posterior(parameters)
        # A class of the user that inherits from `DiagonalNormal` can make any distribution.
        if type(self.posterior) is DiagonalNormal:
            return distribution.distribution.loc, distribution.distribution.scale
        from tensorflow_probability import experimental

        made_of_tensors = isinstance(distribution, experimental.AutoCompositeTensor)
        return distribution if made_of_tensors else parameters

    @traced("x", "condition")
    def latents(self, x: Array, condition: TensorLike | None = None) -> tf.Tensor:
        """Return one latent vector per example, `[batch, n]`.

        If the posterior q(z | x) is a normal distribution, the latent vector is its mean. A
        normalizing flow transforms the samples of a normal distribution, and the mean of the
        transformed samples has no closed form. If the posterior is such a flow, the latent vector
        is the flow's output for the mean of the normal distribution.
        """
        return self.posterior.point(self.encode(x, condition))

    @traced("latents", "condition")
    def decode(self, latents: Array, condition: TensorLike | None = None) -> tf.Tensor:
        """Return the mean of p(x | z) for latents `[batch, n]`.

        For rows of a table, the result contains the mean of each column of numbers, rounded for
        counts. For each column of categories, the result contains the most probable category, or
        the median category if the column is ordinal.
        """
        latents = self.checked_latents(latents, (self.posterior.event_size,))
        [labels] = self._condition_arguments(condition, latents) or [None]
        parameters = call_network(self.decoder, latents, labels, training=False)
        return self.likelihood.point(self.likelihood(parameters))

    def outputs_for(
        self, latents: tf.Tensor, seed: TensorLike, condition: TensorLike | None = None
    ) -> tf.Tensor:
        """Return one output of `generate` per latent vector, `[batch, *data_shape]`.

        A row of a table is sampled from p(x | z), because the mean of two categories is not a
        category. For other data, such as images, the output is the mean of p(x | z).
        """
        if not self.likelihood.generates_samples:
            return super().outputs_for(latents, seed, condition)
        parameters = call_network(self.decoder, latents, condition, training=False)
        return self.likelihood.sample_rows(parameters, seed)

    @traced("x", "condition")
    def reconstruct(self, x: Array, condition: TensorLike | None = None) -> tf.Tensor:
        """Return the reconstruction of the data x, which is the mean of p(x | z).

        For each example, z is the latent vector that the method `latents` returns. If the posterior
        q(z | x) is a normal distribution, z is the mean of q(z | x).

        For rows of a table, the result contains the mean of each column of numbers, rounded for
        counts. For each column of categories, the result contains the most probable category, or
        the median category if the column is ordinal.
        """
        x, labels = self.checked_arguments(x, condition)
        return self(x if labels is None else (x, labels), training=False)

    @traced("x", "condition")
    def score(
        self, x: TensorLike, condition: TensorLike | None = None, num_samples: int = 16
    ) -> tf.Tensor:
        """Compute the anomaly score of each example, `[batch]`.

        The score is an estimate of −ELBO in nats, where ELBO is the evidence lower bound. −ELBO is
        an upper bound of −log p(x). A higher score means a more anomalous example. The estimate is
        an average over `num_samples` samples of the latents z. All examples and all calls use the
        same noise to make these samples. Therefore an example gets the same score in every call.

        Args:
            x: Data `[batch, *data_shape]`.
            condition: Labels `[batch]` if the model is conditional, otherwise None.
            num_samples: Number of samples of z per example.

        Raises:
            ValueError: If `x` has the wrong shape, dtype or values, or if `num_samples` is not a
                positive integer. Also if a conditional model gets no labels or invalid labels, or
                if a model that is not conditional gets labels.
        """
        score, _ = self.score_functions(x, condition, num_samples)
        return score()

    @traced("x", "condition")
    def score_per_feature(
        self, x: TensorLike, condition: TensorLike | None = None, num_samples: int = 16
    ) -> tf.Tensor:
        """Compute how much each element of each example adds to the anomaly score.

        The value of an element d is −E_q[log p(x_d | z)] in nats. The anomaly score of an example
        is the sum of these values over its elements, plus the KL divergence of q(z | x) from p(z).
        The value of a missing element is 0.

        Args:
            x: Data `[batch, *data_shape]`.
            condition: Labels `[batch]` if the model is conditional, otherwise None.
            num_samples: Number of samples of z per example. The method uses the same samples as
                `score`.

        Returns:
            Tensor `[batch, *data_shape]`.

        Raises:
            ValueError: If an argument is invalid, as in `score`, or if the likelihood does not
                compute log p(x | z) as a sum over the elements.
        """
        _, per_feature = self.score_functions(x, condition, num_samples)
        return per_feature()

    def score_functions(
        self, x: TensorLike, condition: TensorLike | None = None, num_samples: int = 16
    ) -> ScoreFunctions:
        """Return a function that computes `score(x)`, and one for `score_per_feature(x)`.

        Both functions use the same samples of z. Therefore the samples are decoded only once.

        Returns:
            Two functions without arguments. The first function returns the result of `score(x)`.
            The second function returns the result of `score_per_feature(x)`.
        """
        x, condition = self.checked_arguments(x, condition)
        z, kl = self._score_samples(x, condition, num_samples)
        likelihood = self._likelihood(z, condition)

        def score() -> tf.Tensor:
            return kl - tf.reduce_mean(likelihood.log_prob(x), axis=0)

        def per_feature() -> tf.Tensor:
            log_prob = self.likelihood.element_log_prob(likelihood, x)
            return -tf.reduce_mean(log_prob, axis=0)

        return score, per_feature

    def score_of_batch(self, batch: CheckedBatch) -> tf.Tensor:
        """Return the anomaly score of each example of a batch, `[batch]`."""
        return self.score(batch.x, batch.labels)

    def _score_samples(
        self, x: TensorLike, condition: TensorLike | None, num_samples: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the samples of the latents and the KL divergence that the anomaly score needs.

        All examples and all calls use the same noise. Therefore the score of an example does not
        depend on the other examples of the batch.

        Returns:
            `(z, kl)`. The samples `z` have the shape `[num_samples, batch, number of latents]`.
            `kl` is the KL divergence of q(z | x) from the prior, `[batch]`. If the divergence has
            no closed form, it is estimated from `z`.
        """
        num_samples = positive_int(self, "num_samples", num_samples)
        parameters = call_network(self.encoder, x, condition, training=False)

        def sample_one(parameters_of_one: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            posterior_of_one = self.posterior(parameters_of_one[None])
            z = posterior_of_one.sample(num_samples, seed=(self.seed, 0))
            return z[:, 0], posterior_of_one.log_prob(z)[:, 0]

        z, log_posterior = tf.vectorized_map(sample_one, parameters)
        z = tf.transpose(z, (1, 0, 2))  # [samples, batch, n]
        prior = self.prior.distribution(condition)
        kl = closed_form_kl(self.posterior(parameters), prior)
        if kl is None:
            kl = tf.reduce_mean(tf.transpose(log_posterior) - prior.log_prob(z), axis=0)
        return z, kl

    def log_weights(
        self,
        x: Array,
        condition: TensorLike | None = None,
        num_samples: int = 1,
        seed: TensorLike | None = None,
        posterior: Distribution | None = None,
    ) -> tf.Tensor:
        """Compute log w_k, where w_k is the importance weight of a sample z_k from q(z | x).

        log w_k = log p(x | z_k) + log p(z_k) − log q(z_k | x). The mean of w_k over k is an
        unbiased estimate of p(x) (Burda et al. 2016, arXiv:1509.00519).
        `evaluation.log_likelihood` uses this mean.

        Args:
            x: Data `[batch, *data_shape]`.
            condition: Labels `[batch]` if the model is conditional, otherwise None.
            num_samples: Number of samples of z per example.
            seed: Seed for the stateless random functions of TensorFlow, int32 `[2]`. If None, each
                call uses new samples.
            posterior: q(z | x), a distribution of TensorFlow Probability with batch shape
                `[batch]`. If None, `encode(x, condition)`.

        Returns:
            The log weights, `[num_samples, batch]`, in nats.

        Raises:
            ValueError: If `x` has the wrong shape, dtype or values, or if `num_samples` is not a
                positive integer. Also if a conditional model gets no labels or invalid labels, or
                if a model that is not conditional gets labels.
        """
        num_samples = positive_int(self, "num_samples", num_samples)
        import tensorflow_probability as tfp

        seed = tfp.random.sanitize_seed(seed)
        if posterior is None:
            return self._log_weights(x, condition, num_samples, seed)
        x, condition = self.checked_arguments(x, condition)
        return self._log_weights_of(posterior, x, condition, num_samples, seed)

    @traced("x", "condition")
    def _log_weights(
        self, x: Array, condition: TensorLike | None, num_samples: int, seed: tf.Tensor
    ) -> tf.Tensor:
        """Compute the result of `log_weights` if the user passes no `posterior`."""
        x, condition = self.checked_arguments(x, condition)
        posterior = self.posterior(call_network(self.encoder, x, condition, training=False))
        return self._log_weights_of(posterior, x, condition, num_samples, seed)

    def _log_weights_of(
        self,
        posterior: Distribution,
        x: tf.Tensor,
        condition: tf.Tensor | None,
        num_samples: int,
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Return the log weights of samples from a given distribution of z."""
        z = posterior.sample(num_samples, seed=seed)
        log_ratio = posterior.log_prob(z) - self.prior.distribution(condition).log_prob(z)
        return self._likelihood(z, condition).log_prob(x) - log_ratio

    def impute(
        self,
        x: TensorLike,
        condition: TensorLike | None = None,
        num_samples: int = 1000,
        num_imputations: int | None = None,
        seed: int | TensorLike | None = None,
    ) -> np.ndarray:
        """Replace the missing elements of each example, which are NaN in `x`.

        By default, a missing number is replaced by its mean given the observed elements. The mean
        of a count is rounded. A missing category is replaced by the most probable category. In an
        ordinal column, a missing category is replaced by the median category.

        The method estimates these means and probabilities from samples z_1 … z_K of q(z | x). In
        the formulas, x stands for the observed elements only. Each sample z_k gives means and
        probabilities of the missing elements under p(x | z_k). The estimate is the weighted average
        of these values over k. The weight of z_k is proportional to p(x | z_k) p(z_k) / q(z_k | x),
        and the weights sum to 1 (Mattei & Frellsen 2019, arXiv:1812.02633, equation 12). If the
        likelihood is `Columns` with `scale="mixture"`, the exact mean of a count can be infinite.
        Therefore the mean of a count is approximated from the medians of the mixture components.

        With `num_imputations`, each imputation is a random sample of the missing elements, given
        the observed elements. Use several imputations to see how uncertain the missing elements
        are. To generate rows of a table with given values in some columns, set all other columns to
        NaN.

        Args:
            x: Data `[batch, *data_shape]`, NaN where an element is missing.
            condition: Labels `[batch]` if the model is conditional, otherwise None.
            num_samples: K, the number of samples of z per example. The error of the estimates
                decreases like 1/√K.
            num_imputations: Number of imputations per example. If None, the method returns one
                result per example, with the means and categories described above.
            seed: An int in [0, 2³¹) makes the result reproducible. None gives new samples in every
                call. An int64 vector `[batch]` contains one seed per example. The result for an
                example depends on the seed of this example, but not on the other examples.

        Returns:
            Data without NaN, float32 `[batch, *data_shape]`. With `num_imputations`, the shape is
            `[num_imputations, batch, *data_shape]`.

        Raises:
            ValueError: If the likelihood has `missing=False`, or if an argument is invalid.
        """
        if not self.likelihood.missing:
            raise ValueError(
                f"`likelihood` of {self.name} must accept missing elements. Received: "
                f"{self.likelihood}. Use distributions.Columns for tables, or missing=True, as in "
                "Bernoulli((28, 28, 1), missing=True)."
            )
        num_samples = positive_int(self, "num_samples", num_samples)
        if num_imputations is not None:
            num_imputations = positive_int(self, "num_imputations", num_imputations)
        x = np.asarray(x, np.float32)
        labels = None if condition is None else np.asarray(condition)
        x, labels = self.data_check.examples(x, labels)
        seeds = self.seeds(len(x), seed)
        rows = max(1, _DECODED_TOGETHER // max(num_samples, num_imputations or 0))
        imputed = []
        for start in range(0, len(x), rows):
            part = slice(start, start + rows)
            labels_of_part = None if labels is None else labels[part]
            imputed.append(
                self._impute_part(
                    x[part], labels_of_part, seeds[part], num_samples, num_imputations
                )
            )
        return np.concatenate(imputed, axis=0 if num_imputations is None else 1)

    @traced("x", "labels", "seeds")
    def _impute_part(
        self,
        x: tf.Tensor,
        labels: tf.Tensor | None,
        seeds: tf.Tensor,
        num_samples: int,
        num_imputations: int | None = None,
    ) -> tf.Tensor:
        """Replace the missing elements of a group of examples, as `impute` does.

        `impute` makes each group so small that the samples of its latents fit into memory.
        """
        z, log_posterior = self._sample_each_row(x, labels, seeds, num_samples)
        likelihood = self._likelihood(z, labels)
        log_prior = self.prior.distribution(labels).log_prob(z)
        log_weights = likelihood.log_prob(x) + log_prior - log_posterior  # [samples, batch]
        if num_imputations is None:
            weights = tf.nn.softmax(log_weights, axis=0)
            expectation = self.likelihood.expectation(likelihood)
            mean = tf.einsum("kb,kb...->b...", weights, expectation)
            return tf.where(tf.math.is_nan(x), self.likelihood.estimate(mean), x)

        number = num_imputations

        def choose(row: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            """Resample latents of one example, and make one seed per imputation."""
            weights, seed = row
            seed = tf.random.experimental.stateless_fold_in(tf.bitcast(seed, tf.int32), 2)
            chosen = tf.random.stateless_categorical(weights[None], number, seed, tf.int32)[0]
            seeds = tf.random.stateless_uniform((number,), seed, None, None, tf.int64)
            return chosen, seeds

        specs = (tf.TensorSpec((number,), tf.int32), tf.TensorSpec((number,), tf.int64))
        rows = (tf.transpose(log_weights), seeds)
        chosen, seeds = tf.map_fn(choose, rows, fn_output_signature=specs)
        resampled = tf.gather(tf.transpose(z, (1, 0, 2)), chosen, batch_dims=1)  # [batch, m, n]
        flat = tf.reshape(resampled, (-1, self.posterior.event_size))
        labels = None if labels is None else tf.repeat(labels, number)
        parameters = call_network(self.decoder, flat, labels, training=False)
        samples = self.likelihood.sample_rows(parameters, tf.reshape(seeds, (-1,)))
        samples = tf.reshape(samples, (-1, number, *self.data_shape))
        imputed = tf.where(tf.math.is_nan(x)[:, None], samples, x[:, None])
        return tf.einsum("bm...->mb...", imputed)

    def _sample_each_row(
        self, x: tf.Tensor, labels: tf.Tensor | None, seeds: tf.Tensor, num_samples: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Sample latents of each example of `x` from q(z | x), with one seed per example.

        Therefore the samples for an example do not depend on the other examples.

        Returns:
            `(z, log_posterior)`. The latents `z` have the shape `[num_samples, batch, n]`.
            `log_posterior` is log q(z | x) of these latents, `[num_samples, batch]`.
        """
        parameters = call_network(self.encoder, x, labels, training=False)

        def sample_row(row: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
            parameters_of_row, seed = row
            posterior = self.posterior(parameters_of_row[None])
            z = posterior.sample(num_samples, seed=tf.bitcast(seed, tf.int32))
            return z[:, 0], posterior.log_prob(z)[:, 0]

        specs = (
            tf.TensorSpec((num_samples, self.posterior.event_size), tf.float32),
            tf.TensorSpec((num_samples,), tf.float32),
        )
        z, log_posterior = tf.map_fn(sample_row, (parameters, seeds), fn_output_signature=specs)
        return tf.transpose(z, (1, 0, 2)), tf.transpose(log_posterior)

    def fit_latent_density(
        self,
        x: Examples,
        density: FittedDensity | int | None = None,
        num_components: int | None = None,
    ) -> None:
        """Fit a density to latents of `x`, and store it in the attribute `density`.

        The method `generate` then samples latents from this density, and not from the prior (Ghosh
        et al. 2020, arXiv:1903.12436). All other methods still use the prior, for instance
        `evaluate`, `score` and `log_weights`. The `.keras` file and the exported function
        `generate` contain the density. Call `fit_latent_density` after training. A second call
        replaces the density.

        The density is fitted to one sample of q(z | x) per example, and not to the mean of
        q(z | x). The decoder was trained on such samples. The distribution of the samples of all
        examples is called the aggregate posterior.

        Args:
            x: Data, an array or a `tf.data.Dataset` of batches.
            density: The density to fit, such as `distributions.FittedMixture(8)` or
                `distributions.FittedFlow(8)` for 8 latents. If `density` and `num_components` are
                both None, the density that the model already has is fitted again. If the model has
                no density, a `FittedMixture` with 10 components is fitted. An integer means the
                same as `num_components`.
            num_components: If given, the density is a `FittedMixture` with this number of
                components. You cannot pass both `density` and `num_components`.

        Raises:
            ValueError: If the model is conditional, or if an argument is invalid.
        """
        self._check_unconditional()
        self.data_check.before_work(x)
        size = self.posterior.event_size
        density = density_to_fit(density, num_components, size, self.density)
        latents = []
        for index, batch in enumerate(batches_of(x)):
            seed = tf.random.experimental.stateless_fold_in((self.seed, 2), index)
            latents.append(self.encode(batch).sample(seed=seed))
        density.fit(np.concatenate(latents), self.seed)
        replace_layer(self, "density", density)

    def _check_unconditional(self) -> None:
        """Raise a `ValueError` if the model is conditional.

        A conditional model cannot use a density fitted to the latents, because such a density does
        not depend on labels.
        """
        if self.num_classes:
            raise ValueError(
                f"A latent density needs a model without labels. Received: {self.name}, which is "
                "conditional. Use a prior that depends on labels: "
                f"ConditionalNormal({self.posterior.event_size}, num_classes={self.num_classes})."
            )

    def signatures(self) -> dict[str, Endpoint]:
        """Return the functions that `export` writes, as a dictionary from names to pairs.

        A pair consists of a function and a list with the `tf.TensorSpec` of each of its arguments.
        The names are `serving_default`, `encode`, `decode`, `generate` and `score`. If the
        likelihood accepts missing elements, there is also `impute`. If the model is conditional,
        each function has an additional argument `condition`.
        """
        condition = self._condition_specs()
        data = [self._data_spec(), *condition]
        latents = tf.TensorSpec((None, self.posterior.event_size), tf.float32, name="latents")
        endpoints: dict[str, Endpoint] = {
            "serving_default": (
                lambda *inputs: {"reconstructions": self.reconstruct(*inputs)},
                data,
            ),
            "encode": (lambda *inputs: self.posterior.summary(self.encode(*inputs)), data),
            "decode": (lambda *inputs: {"outputs": self.decode(*inputs)}, [latents, *condition]),
            "generate": (self.generate_rows, [self._seed_spec(), *condition]),
            "score": (self.score_outputs, data),
        }
        if self.likelihood.missing:
            inputs, seed = self._data_spec(), self._seed_spec()
            endpoints["impute"] = (self._impute_endpoint, [inputs, seed, *condition])
        return endpoints

    def _impute_endpoint(
        self, inputs: tf.Tensor, seed: tf.Tensor, condition: tf.Tensor | None = None
    ) -> dict[str, tf.Tensor]:
        """Return a dictionary with `outputs`: the examples with their missing elements replaced."""
        return {"outputs": self._impute_part(inputs, condition, seed, _SERVED_SAMPLES)}

    def load_own_variables(self, store: Any) -> None:
        """Load the variables that belong to the model itself and not to one of its layers.

        In version 0.1.0, posteriors and likelihoods were not layers. Therefore a file of version
        0.1.0 stores their variables among those of the model. From such a file, the method also
        loads the variables of the posterior and the likelihood.

        Args:
            store: The stored values. A key is the index of a variable as a string, such as `"0"`.
        """
        moved = [*self.posterior.weights, *self.likelihood.weights]
        of_layers = {id(weight) for layer in self.layers for weight in layer.weights}
        own = [weight for weight in self.weights if id(weight) not in of_layers]
        if not moved or len(store.keys()) != len(moved) + len(own):
            super().load_own_variables(store)
            return
        trainable_first = sorted([*moved, *own], key=lambda weight: not weight.trainable)
        for index, weight in enumerate(trainable_first):
            weight.assign(store[str(index)])
        for part in (self.posterior, self.likelihood):
            for layer in all_layers(part):
                _keep_at_next_load(layer)


def _check_networks(
    encoder: keras.Model, decoder: keras.Model, posterior: Posterior, likelihood: Likelihood
) -> None:
    """Raise a `ValueError` if a network does not fit the posterior or the likelihood."""
    data = f", the `event_shape` of `{type(likelihood).__name__}`"
    check_network("encoder", encoder, likelihood.event_shape, why=data, labels=True)
    size = f", the `parameter_size` of `{type(posterior).__name__}`"
    check_network("encoder", encoder, None, (posterior.parameter_size,), why=size, labels=True)
    latents = f", the `event_size` of `{type(posterior).__name__}`"
    check_network("decoder", decoder, (posterior.event_size,), why=latents, labels=True)
    shape = f", the `parameter_shape` of `{type(likelihood).__name__}`"
    check_network("decoder", decoder, None, likelihood.parameter_shape, why=shape, labels=True)
    if likelihood.logits:
        check_logits("decoder", decoder)


def _keep_at_next_load(layer: keras.layers.Layer) -> None:
    """Make the next load skip the layer if the file has no entry for the layer.

    A file of version 0.1.0 has no entry for the layer. It stores the values of the layer in the
    entry of the model, and `VAE.load_own_variables` has already loaded these values.
    """

    def load_own_variables(store: Any) -> None:
        del layer.load_own_variables  # restores the method of the class
        if store.keys():
            layer.load_own_variables(store)

    layer.load_own_variables = load_own_variables
