"""The vector-quantized autoencoder, VQ-VAE (van den Oord et al. 2017, arXiv:1711.00937)."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_gen._errors import mark
from keras_gen._labels import as_tensor
from keras_gen._tracing import traced
from keras_gen._typing import Array, Distribution, Endpoint, Examples, TensorLike
from keras_gen.distributions import Likelihood, TransformerPrior
from keras_gen.fitting.data_check import DataCheck
from keras_gen.models.anomalies import AnomalyDetector, ScoreFunctions
from keras_gen.models.base import CheckedBatch
from keras_gen.networks import VectorQuantizer
from keras_gen.networks._checks import check_logits, check_network
from keras_gen.networks._copies import call_network, check_accepts_missing
from keras_gen.networks.quantizer import Quantized

_TOGETHER = 500  # number of examples that are encoded or generated at the same time


class _Step(NamedTuple):
    """The results of one training or evaluation step."""

    terms: dict[str, tf.Tensor]
    """The mean loss of the batch, and the mean of each term of the loss, by name."""
    latents: tf.Tensor
    """Output of the encoder, `[batch, *latent_shape]`."""
    quantized: Quantized
    log_likelihood: tf.Tensor
    """log p(x | e) of each example, `[batch]`."""


@keras.saving.register_keras_serializable("keras_gen")
class VectorQuantizedAutoencoder(AnomalyDetector):
    """An autoencoder whose latents are codes: integers, each the index of a vector in a codebook.

    The encoder maps data x to a grid of latent vectors z. The quantizer replaces each z by the
    nearest vector e of its codebook, and the index of e is the code c. The decoder maps the grid of
    vectors e to a likelihood p(x | e). The source is van den Oord et al. 2017, arXiv:1711.00937.
    Training minimizes

    −log p(x | e) + Σ (‖sg(z) − e‖² + β‖z − sg(e)‖²) + λ‖W‖²,

    where the sum is over the latent vectors of the example, and sg stops the gradient. β is the
    argument `commitment` of the quantizer. The kernel regularizers of the layers compute λ‖W‖²,
    where W are the kernels. If moving averages update the codebook, the first squared norm is
    omitted.

    After training, `fit_prior` fits a prior p(c) to the codes of the training data. `generate`
    samples codes from this prior and decodes them. For every x, log p(x | e) + log p(c) is a lower
    bound of log p(x) in nats. The bound is logged as `bound`. Without a prior, the bound assumes a
    uniform distribution of the codes.

    Args:
        encoder: Built Keras model that maps data to a grid of latent vectors, `[batch, ..., d]`,
            for instance `networks.conv_grid_encoder`.
        decoder: Built Keras model that maps a grid of vectors `[batch, ..., d]` to the parameters
            of the likelihood, `[batch, *likelihood.parameter_shape]`.
        quantizer: The codebook, a `networks.VectorQuantizer`.
        likelihood: p(x | e), for instance `distributions.Bernoulli((28, 28, 1))`.
        prior: p(c), a `distributions.TransformerPrior`. If None, call `fit_prior` before
            `generate`.
        seed: Seed of all random numbers of the model, an int in [0, 2³¹). If None, the seed is
            random.
        threshold: An example is an anomaly if its anomaly score is above this number. If None, call
            `calibrate` to compute the threshold.
        **kwargs: Arguments of `keras.Model`: `name`, `dtype` and `trainable`.

    Raises:
        ValueError: If an argument has the wrong type or value, or if the shapes of two arguments do
            not match. If the likelihood needs logits, but the decoder ends in an activation such as
            a sigmoid. If the likelihood accepts missing elements, but the encoder returns NaN for
            them.

    Example:

    >>> from keras_gen import distributions, networks
    >>> likelihood = distributions.Bernoulli((8, 8, 1))
    >>> model = VectorQuantizedAutoencoder(
    ...     encoder=networks.conv_grid_encoder((8, 8, 1), 4, filters=(8, 8)),
    ...     decoder=networks.conv_grid_decoder((2, 2, 4), (8, 8, 1), filters=(8, 8)),
    ...     quantizer=networks.VectorQuantizer(num_codes=16), likelihood=likelihood, seed=0)
    >>> model.compile("adam")
    >>> x = tf.random.uniform((64, 8, 8, 1))
    >>> history = model.fit(x, epochs=1, verbose=0)
    >>> model.encode(x).shape.as_list()
    [64, 2, 2, 1]
    >>> history = model.fit_prior(x, epochs=1, verbose=0)
    >>> model.generate(3, seed=7).shape.as_list()
    [3, 8, 8, 1]
    """

    loss_parts = (
        "reconstruction_loss",
        "codebook_loss",
        "commitment_loss",
        "regularization_loss",
        "bound",
    )
    monitor = ("val_reconstruction_loss", "min")
    evaluated_losses = loss_parts
    loss_unit = "nats"
    evaluated_metrics = ("perplexity", "usage")
    has_continuous_latents = False
    fits_prior_with = "fit_prior(x)"

    prior: TransformerPrior | None

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        quantizer: VectorQuantizer,
        likelihood: Likelihood,
        prior: TransformerPrior | None = None,
        seed: int | None = None,
        threshold: float | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(quantizer, VectorQuantizer):
            raise ValueError(
                "`quantizer` must be a keras_gen.networks.VectorQuantizer, such as "
                f"VectorQuantizer(num_codes=128). Received: {quantizer!r}"
            )
        if not isinstance(likelihood, Likelihood):
            raise ValueError(
                "`likelihood` must be a keras_gen.distributions.Likelihood, such as "
                f"Bernoulli((28, 28, 1)). Received: {likelihood!r}"
            )
        latent_shape = _check_networks(encoder, decoder, likelihood)
        super().__init__(DataCheck.of_likelihood(likelihood), seed, **kwargs)
        self.threshold = self.check_threshold(threshold)
        self.columns = likelihood.columns
        self.generates_means = not likelihood.generates_samples
        self.encoder = encoder
        self.decoder = decoder
        self.quantizer = quantizer
        self.likelihood = likelihood
        if not quantizer.built:
            quantizer.build((None, *latent_shape))
        if not likelihood.built:
            likelihood.build(None)
        if likelihood.missing:
            check_accepts_missing(encoder, likelihood.event_shape, type(likelihood).__name__)
        self.latent_shape = latent_shape
        self.code_shape = (*latent_shape[:-1], quantizer.num_codebooks)
        """Shape of the codes of one example."""
        self.prior = None if prior is None else self._checked_prior(prior)
        self.code_usage = _CodeUsage(quantizer.num_codebooks, quantizer.num_codes)

    def _checked_prior(self, prior: TransformerPrior) -> TransformerPrior:
        """Return the prior if it matches the codes of the model, otherwise raise a `ValueError`."""
        if not isinstance(prior, TransformerPrior):
            raise ValueError(
                "`prior` must be a keras_gen.distributions.TransformerPrior or None. "
                f"Received: {prior!r}"
            )
        number = self.quantizer.num_codes
        if prior.code_shape != self.code_shape or prior.num_codes != number:
            raise ValueError(
                f"`prior` must be a TransformerPrior({self.code_shape}, num_codes={number}), to "
                f"match `encoder` and `quantizer`. Received: {prior!r}"
            )
        return prior

    def compile(self, optimizer: keras.optimizers.Optimizer | str = "adam", **kwargs: Any) -> None:
        """Configure the model for training, like `keras.Model.compile`.

        Args:
            optimizer: Keras optimizer or its name.
            **kwargs: Other arguments of `keras.Model.compile`. `metrics` compare the data with the
                reconstruction.

        Raises:
            ValueError: If a Keras `loss` is given.
        """
        if kwargs.get("loss") is not None:
            raise ValueError(
                "A VectorQuantizedAutoencoder needs no `loss`, because its reconstruction loss is "
                "the negative log-likelihood of its likelihood. "
                f"Received: loss={kwargs['loss']!r}. Choose another `likelihood` instead, such as "
                "Normal for the squared error."
            )
        super().compile(optimizer, **kwargs)
        self.has_metrics = bool(kwargs.get("metrics") or kwargs.get("weighted_metrics"))

    def call(self, inputs: Array, training: bool = False) -> tf.Tensor:
        """Return the reconstruction of `inputs`, which is `decode(encode(inputs))`."""
        x = self.check_inputs(inputs)
        latents = self.quantizer(call_network(self.encoder, x, None, training))
        return self._point(call_network(self.decoder, latents, None, training))

    def check_inputs(self, inputs: Any) -> Any:
        """Check the inputs of `call`, and return them as float32."""
        return self.data_check.inputs(inputs)

    def _point(self, parameters: tf.Tensor) -> tf.Tensor:
        """Compute a typical example x from the output of the decoder.

        p(x | e) is the likelihood of the data x, given the codebook vectors e. The typical example
        is the mean of p(x | e), unless the method `point` of the likelihood returns another one.
        """
        return self.likelihood.point(self.likelihood(parameters))

    # === Training and evaluation ===

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Take one optimizer step on one batch, update the codebook, and return the logs."""
        batch = self.unpack(data)
        seed = self.noise_seed(training=True)
        with tf.GradientTape() as tape:
            step = self._step(batch, training=True)
        step.terms["loss"] += self.minimize(
            tape, batch.x, step.terms["loss"], self.trainable_variables, step.terms
        )
        # In a graph, the counter changes only after the loss and the gradient were found finite.
        with tf.control_dependencies([tf.convert_to_tensor(self.optimizer.iterations)]):
            self.quantizer.update(
                step.latents,
                step.quantized.codes,
                batch.sample_weight,
                seed,
                allowed=tf.math.is_finite(step.terms["loss"]),
            )
        return self._logs(batch, step)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Compute the loss and its terms for one batch, and return all logged values by name."""
        batch = self.unpack(data)
        return self._logs(batch, self._step(batch, training=False))

    def _step(self, batch: CheckedBatch, training: bool) -> _Step:
        """Compute the loss of a batch. The result also contains the latents of the examples."""
        latents = tf.cast(call_network(self.encoder, batch.x, None, training), tf.float32)
        quantized = self.quantizer.nearest(latents)
        parameters = call_network(self.decoder, quantized.vectors, None, training)
        if training:
            likelihood = self.likelihood.fitted(parameters, batch.target)
        else:
            likelihood = self.likelihood(parameters)
        log_likelihood = likelihood.log_prob(batch.target)
        of_examples = {
            "reconstruction_loss": -log_likelihood,
            "codebook_loss": _sum_of_example(quantized.codebook_loss),
            "commitment_loss": _sum_of_example(quantized.commitment_loss),
        }
        terms = {
            name: self.average(values, batch.sample_weight) for name, values in of_examples.items()
        }
        terms["regularization_loss"] = self.regularization_loss()
        terms = {"loss": tf.add_n(list(terms.values())), **terms}
        return _Step(terms, latents, quantized, log_likelihood)

    def _logs(self, batch: CheckedBatch, step: _Step) -> dict[str, tf.Tensor]:
        """Update all metrics with a batch, and return their current values by name.

        The metrics include the loss, the terms of the loss, and the usage of the codes.
        """
        codes = step.quantized.codes
        bound = step.log_likelihood + self._log_prior(codes)
        self.log(batch.x, **step.terms, bound=self.average(bound, batch.sample_weight))
        self.code_usage.update_state(self.quantizer.code_counts(codes, batch.sample_weight))
        reconstruction = self(batch.x, training=False) if self.has_metrics else None
        return self.compute_metrics(batch.x, batch.target, reconstruction, batch.sample_weight)

    def _log_prior(self, codes: tf.Tensor) -> tf.Tensor:
        """Return log p(c) of the codes c of each example, `[batch]`."""
        if self.prior is None:
            uniform = -math.prod(self.code_shape) * math.log(self.quantizer.num_codes)
            return tf.fill(tf.shape(codes)[:1], uniform)
        return self.prior.log_prob(codes)

    # === Codes ===

    @traced("x")
    def encode(self, x: Array) -> tf.Tensor:
        """Map data `[batch, *data_shape]` to codes, int64 `[batch, ..., num_codebooks]`.

        For images, the result is `[batch, grid height, grid width, num_codebooks]`. A code is the
        index of a vector in a codebook, an integer from 0 to `quantizer.num_codes` − 1.
        """
        x = self.check_inputs(x)
        return self.quantizer.encode(call_network(self.encoder, x, None, training=False))

    @traced("latents")
    def decode(self, latents: Array) -> tf.Tensor:
        """Map codes to data `[batch, *data_shape]`. A code is the index of a vector in a codebook.

        The result is the mean of p(x | e), where e are the codebook vectors of the codes. For rows
        of a table, the result contains the mean of each column of numbers, rounded for counts. For
        each column of categories, the result contains the most probable category, or the median
        category if the column is ordinal.

        Args:
            latents: Codes `[batch, ..., num_codebooks]`, as `encode` returns them.

        Raises:
            ValueError: If the codes have the wrong shape or dtype, or if a code is not an index of
                the codebook. In a TensorFlow graph, an assertion fails instead if a code is not an
                index of the codebook.
        """
        return self._point(self._decoded(self._checked_codes(latents)))

    def _decoded(self, codes: tf.Tensor) -> tf.Tensor:
        """Return the output of the decoder for codes."""
        return call_network(self.decoder, self.quantizer.decode(codes), None, training=False)

    def _checked_codes(self, codes: Any) -> tf.Tensor:
        """Check codes that `decode` receives, and return them as int64."""
        tensor = as_tensor("latents", codes)
        number = self.quantizer.num_codes
        expected = (
            f"Expected codes as `latents`, integers of shape (batch, {str(self.code_shape)[1:-1]}) "
            f"from 0 to {number - 1}, for {self.name}."
        )
        fits = tensor.shape.is_compatible_with((None, *self.code_shape))
        if not fits or not tensor.dtype.is_integer:
            raise ValueError(
                f"{expected} Received: shape {tensor.shape} of {tensor.dtype.name}. "
                "`encode` returns the codes of data."
            )
        tensor = tf.ensure_shape(tf.cast(tensor, tf.int64), (None, *self.code_shape))
        valid = tf.reduce_all((tensor >= 0) & (tensor < number))
        if tf.executing_eagerly():
            if not valid:
                received = f"values from {int(tf.reduce_min(tensor))} to {tf.reduce_max(tensor)}"
                raise ValueError(f"{expected} Received: {received}.")
            return tensor
        message = mark(f"{expected} Received: values from # to @.")
        values = [tf.reduce_min(tensor), tf.reduce_max(tensor)]
        check = tf.debugging.Assert(valid, [message, *values])
        with tf.control_dependencies([check]):
            return tf.identity(tensor)

    def latents(self, x: Array, condition: TensorLike | None = None) -> tf.Tensor:
        """Encode `x` to codes, and return the codebook vectors of the codes as `[batch, n]`.

        A code is the index of a vector in a codebook. All vectors of an example are concatenated.
        """
        self._condition_arguments(condition)
        vectors = self.quantizer.decode(self.encode(x))
        return tf.reshape(vectors, (-1, math.prod(self.latent_shape)))

    @traced("x")
    def reconstruct(self, x: Array) -> tf.Tensor:
        """Return `decode(encode(x))`."""
        return self(x, training=False)

    # === Anomaly scores ===

    @traced("x")
    def score(self, x: TensorLike, condition: TensorLike | None = None) -> tf.Tensor:
        """Compute the anomaly score of each example, `[batch]`.

        Let c be the codes of an example x, and let e be the codebook vectors of these codes. The
        score is −log p(x | e) − log p(c) in nats, an upper bound of −log p(x). A higher score means
        a more anomalous example. If the model has no prior yet, p(c) is uniform. Then the second
        term is the same for all examples. The method `fit_prior` fits a prior.

        Args:
            x: Data `[batch, *data_shape]`.
            condition: Must be None, because the model is not conditional.

        Raises:
            ValueError: If `x` has the wrong shape, dtype or values, or if `condition` is not None.
        """
        score, _ = self.score_functions(x, condition)
        return score()

    @traced("x")
    def score_per_feature(self, x: TensorLike, condition: TensorLike | None = None) -> tf.Tensor:
        """Compute how much each element of each example adds to the anomaly score.

        The value of an element x_d is −log p(x_d | e) in nats. Here e are the codebook vectors that
        the decoder receives, and c are their indices. The anomaly score of an example is the sum of
        these values over its elements, plus −log p(c). The value of a missing element is 0.

        Args:
            x: Data `[batch, *data_shape]`.
            condition: Must be None, because the model is not conditional.

        Returns:
            Tensor `[batch, *data_shape]`.

        Raises:
            ValueError: If an argument is invalid, as in `score`, or if the likelihood does not
                compute log p(x | e) as a sum over the elements.
        """
        _, per_feature = self.score_functions(x, condition)
        return per_feature()

    def score_functions(self, x: TensorLike, condition: TensorLike | None = None) -> ScoreFunctions:
        """Return a function that computes `score(x)`, and one for `score_per_feature(x)`.

        The codes of `x` are the indices of the codebook vectors that represent `x`. The method
        computes and decodes the codes only once, and both functions use the result.

        Returns:
            Two functions without arguments. The first function returns the result of `score(x)`.
            The second function returns the result of `score_per_feature(x)`.
        """
        x, _ = self.checked_arguments(x, condition)
        codes, likelihood = self._coded(x)

        def score() -> tf.Tensor:
            return -likelihood.log_prob(x) - self._log_prior(codes)

        def per_feature() -> tf.Tensor:
            return -self.likelihood.element_log_prob(likelihood, x)

        return score, per_feature

    def _coded(self, x: tf.Tensor) -> tuple[tf.Tensor, Distribution]:
        """Return the codes of data x, and the likelihood p(x | e) of the data.

        e are the codebook vectors that belong to the codes. The data must be checked already.
        """
        codes = self.quantizer.encode(call_network(self.encoder, x, None, training=False))
        return codes, self.likelihood(self._decoded(codes))

    def score_of_batch(self, batch: CheckedBatch) -> tf.Tensor:
        """Return the anomaly score of each example of a batch, `[batch]`."""
        codes, likelihood = self._coded(batch.x)
        return -likelihood.log_prob(batch.target) - self._log_prior(codes)

    # === Generation ===

    def fit_prior(
        self,
        x: Examples,
        epochs: int | None = None,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        validation_data: Examples | None = None,
        verbose: Literal["auto", 0, 1, 2] = "auto",
    ) -> keras.callbacks.History:
        """Fit the prior p(c) to the codes c of the data `x`, so that the model can generate data.

        Call `fit_prior` after training. If the model has no prior, the method makes a
        `TransformerPrior` with default settings. A second call continues from the current weights
        of the prior. The method sets `threshold` to None, because the anomaly scores change. Call
        `calibrate` again to compute the threshold. The `.keras` file of the model and the exported
        function `generate` contain the prior.

        Args:
            x: Data, an array or a `tf.data.Dataset` of batches.
            epochs: Number of passes over the codes. Default: `prior.epochs`.
            batch_size: Number of examples per step. Default: 128.
            learning_rate: Learning rate of the first step. The learning rate then falls to 0 by
                cosine decay. Default: 0.002.
            validation_data: Data for which `val_loss` is computed after each epoch. Default: none.
            verbose: As in `keras.Model.fit`.

        Returns:
            The `History` of Keras. `loss` is the mean of −log p(c), in nats per example.

        Raises:
            ValueError: If the data or an argument are invalid.
        """
        codes = self._codes_of(x, "x")
        validation_codes = None
        if validation_data is not None:
            validation_codes = self._codes_of(validation_data, "validation_data")
        self.threshold = None
        with self.distribute_strategy.scope():
            if self.prior is None:
                self.prior = TransformerPrior(self.code_shape, self.quantizer.num_codes)
            return self.prior.fit(
                codes, epochs, batch_size, learning_rate, self.seed, validation_codes, verbose
            )

    def _codes_of(self, x: Examples, name: str) -> np.ndarray:
        """Return the codes of data, int64 `[n, *code_shape]`."""
        self.data_check.before_work(x, name=name)
        batches = x
        if not isinstance(x, tf.data.Dataset):
            batches = tf.data.Dataset.from_tensor_slices(x).batch(_TOGETHER)
        inputs = (keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in batches)
        parts = [np.asarray(self.encode(batch)) for batch in inputs]
        if not parts:
            raise ValueError(f"Expected at least one example in `{name}`. Received: none.")
        return np.concatenate(parts)

    def generate(
        self,
        num_samples: int | None = None,
        seed: int | TensorLike | None = None,
        condition: TensorLike | None = None,
        temperature: float = 1.0,
    ) -> tf.Tensor:
        """Generate data from codes that are sampled from the prior.

        The decoder maps the codebook vectors e of the codes to a distribution p(x | e). For a
        table, the method samples each row from p(x | e). For other data, such as images, the method
        returns the mean of p(x | e).

        Args:
            num_samples: Number of samples. Can be None if `seed` is a vector.
            seed: Seed of the samples, as in `GenerativeModel.generate`.
            condition: Must be None, because the model is not conditional.
            temperature: The logits of the prior are divided by this number. A number below 1 makes
                probable codes more probable, so that samples are more typical and less diverse.

        Returns:
            Tensor `[num_samples, *data_shape]`.

        Raises:
            ValueError: If the model has no prior, or if an argument is invalid.
        """
        seeds = self.seeds(num_samples, seed)
        parts = [
            self.generate_rows(seeds[start : start + _TOGETHER], condition, temperature)["outputs"]
            for start in range(0, max(len(seeds), 1), _TOGETHER)
        ]
        return tf.concat(parts, axis=0)

    @traced("seed", "condition")
    def generate_rows(
        self, seed: TensorLike, condition: TensorLike | None = None, temperature: float = 1.0
    ) -> dict[str, tf.Tensor]:
        """Generate one sample per seed. `export` writes this method as the function `generate`.

        A sample depends on its own seed, but not on the other seeds in the batch.

        Args:
            seed: One seed per sample, int64 `[batch]`.
            condition: Must be None, because the model is not conditional.
            temperature: The logits of the prior are divided by this number. Default: 1.

        Returns:
            A dictionary. `outputs` are the generated data, `[batch, *data_shape]`. `latents` are
            the codes that were decoded, int64 `[batch, ..., num_codebooks]`.

        Raises:
            ValueError: If the model has no prior, or if an argument is invalid.
        """
        prior, _ = self.checked_row_arguments(seed, condition)
        codes = prior.sample_rows(seed, temperature=temperature)
        return {"outputs": self.outputs_for(codes, seed), "latents": codes}

    def outputs_for(
        self, latents: tf.Tensor, seed: TensorLike, condition: TensorLike | None = None
    ) -> tf.Tensor:
        """Convert each grid of codes to one generated example, `[batch, *data_shape]`.

        The decoder maps the codebook vectors e of the codes to the likelihood p(x | e). A row of a
        table is sampled from p(x | e), because the mean of two categories is not a category. For
        other data, such as images, the generated example is the mean of p(x | e).
        """
        parameters = self._decoded(latents)
        if self.likelihood.generates_samples:
            return self.likelihood.sample_rows(parameters, seed)
        return self._point(parameters)

    # === Export ===

    def signatures(self) -> dict[str, Endpoint]:
        """Return the functions that `export` writes, as a dictionary from names to pairs.

        A pair consists of a function and a list with the `tf.TensorSpec` of each of its arguments.
        The names are `serving_default`, `encode`, `decode` and `score`. If the model has a prior,
        there is also `generate`. The latents that `encode` and `generate` return, and that `decode`
        receives, are codes: int64 indices of codebook vectors.
        """
        data = [self._data_spec()]
        latents = [tf.TensorSpec((None, *self.code_shape), tf.int64, name="latents")]
        endpoints: dict[str, Endpoint] = {
            "serving_default": (
                lambda inputs: {"reconstructions": self.reconstruct(inputs)},
                data,
            ),
            "encode": (lambda inputs: {"latents": self.encode(inputs)}, data),
            "decode": (lambda latents: {"outputs": self.decode(latents)}, latents),
            "score": (self.score_outputs, data),
        }
        if self.prior is not None:
            endpoints["generate"] = (lambda seed: self.generate_rows(seed), [self._seed_spec()])
        return endpoints


def _check_networks(
    encoder: keras.Model, decoder: keras.Model, likelihood: Likelihood
) -> tuple[int, ...]:
    """Check the networks of the model, and return the shape of the latents.

    Raises:
        ValueError: If the shapes of the encoder, the decoder and the likelihood do not match. Also
            if the likelihood needs logits, and the decoder outputs something else.
    """
    name = type(likelihood).__name__
    _, latent_shape = check_network(
        "encoder", encoder, likelihood.event_shape, why=f", the `event_shape` of `{name}`"
    )
    why = ", because it maps the outputs of `encoder` back to data"
    check_network("decoder", decoder, latent_shape, why=why)
    shape = f", the `parameter_shape` of `{name}`"
    check_network("decoder", decoder, None, likelihood.parameter_shape, why=shape)
    if likelihood.logits:
        check_logits("decoder", decoder)
    return latent_shape


def _sum_of_example(values: tf.Tensor) -> tf.Tensor:
    """Sum values `[batch, ...]` over all axes except the first."""
    return tf.reduce_sum(values, axis=range(1, values.shape.rank))


class _CodeUsage(keras.metrics.Metric):
    """A Keras metric with the perplexity of the codes, and the fraction of codes that are used.

    The perplexity is exp(−Σ_k p_k log p_k), where p_k is the fraction of latent vectors with the
    code k. It is `num_codes` if all codes are equally frequent, and 1 if only one code is used.
    With several codebooks, both results are means over the codebooks.

    Args:
        num_codebooks: Number of codebooks.
        num_codes: Number of codes per codebook.
    """

    def __init__(self, num_codebooks: int, num_codes: int) -> None:
        super().__init__(name="code_usage", dtype="float32")
        self.counts = self.add_variable((num_codebooks, num_codes), "zeros", name="counts")

    def update_state(self, counts: tf.Tensor) -> None:
        """Add the counts of the codes of a batch, `[num_codebooks, num_codes]`."""
        self.counts.assign_add(counts)

    def result(self) -> dict[str, tf.Tensor]:
        """Return `perplexity` and `usage`."""
        counts = tf.convert_to_tensor(self.counts)
        share = tf.math.divide_no_nan(counts, tf.reduce_sum(counts, axis=1, keepdims=True))
        entropy = -tf.reduce_sum(tf.math.xlogy(share, share), axis=1)
        return {
            "perplexity": tf.reduce_mean(tf.exp(entropy)),
            "usage": tf.reduce_mean(tf.cast(counts > 0, tf.float32)),
        }
