"""The regularized autoencoder, which minimizes a reconstruction loss plus regularizers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gen._compat import replace_layer
from keras_gen._tracing import traced
from keras_gen._typing import Array, Endpoint, Examples, TensorLike
from keras_gen.distributions import FittedDensity, Likelihood, Prior
from keras_gen.distributions._checks import check_distribution, check_prior
from keras_gen.distributions.densities import density_to_fit
from keras_gen.fitting.data_check import DataCheck
from keras_gen.fitting.loss_check import (
    check_cross_entropy,
    check_loss_shape,
    per_example,
    per_example_loss,
)
from keras_gen.models.anomalies import AnomalyDetector, ScoreFunctions
from keras_gen.models.base import CheckedBatch, batches_of
from keras_gen.networks._checks import check_logits, check_network, output_range
from keras_gen.networks._copies import call_network, check_accepts_missing, float32_function
from keras_gen.regularizers import LatentRegularizer

_AVERAGED = ("sum_over_batch_size", "mean", "none", None)  # reductions that are accepted


@keras.saving.register_keras_serializable("keras_gen")
class RegularizedAutoencoder(AnomalyDetector):
    """An autoencoder with regularizers of its weights and its latents.

    The encoder maps data x to latents z. The decoder maps z to a reconstruction x̂. Training
    minimizes E_x[L(x, x̂)] + λ‖W‖², where W are the kernels of both networks. L is the Keras loss
    that you pass to `compile`. λ‖W‖² is computed by the kernel regularizers of the layers, and is
    logged as `regularization_loss`. `compile` also accepts regularizers of the latents. Their sum
    is added to the loss, and is logged as `penalty_loss`.

    The loss L can also be a likelihood: a distribution p(x | x̂) of the data, such as
    `distributions.Columns` for tables. In this case, the decoder outputs the parameters x̂ of the
    likelihood, and L(x, x̂) = −log p(x | x̂).

    Args:
        encoder: Built Keras model that maps data to latents.
        decoder: Built Keras model that maps latents to reconstructions of the data, or to the
            parameters of the likelihood. If the model has no likelihood and the last activation is
            a sigmoid, data must lie in [0, 1]. For tanh, data must lie in [-1, 1].
        prior: Distribution from which `generate` samples latents. If None, call
            `fit_latent_density` before `generate`.
        threshold: An example is an anomaly if its anomaly score is above this number. If None, call
            `calibrate` to compute the threshold.
        seed: Seed of all random numbers of the model, an int in [0, 2³¹). If None, the seed is
            random.
        likelihood: Distribution p(x | x̂) whose parameters x̂ the decoder outputs. If you pass it
            here, `compile` accepts only this likelihood as `loss`. If None, you can still pass a
            likelihood to `compile`. A model without a likelihood needs a decoder that outputs
            reconstructions.
        **kwargs: Arguments of `keras.Model`: `name`, `dtype` and `trainable`.

    Example:
        >>> from keras_gen import networks
        >>> l2 = keras.regularizers.L2(1e-4)
        >>> encoder = networks.mlp((28, 28, 1), (8,), hidden=(32,), kernel_regularizer=l2)
        >>> decoder = networks.mlp(
        ...     (8,), (28, 28, 1), hidden=(32,), kernel_regularizer=l2, output_activation="sigmoid")
        >>> autoencoder = RegularizedAutoencoder(encoder, decoder)
        >>> autoencoder.compile("adam", loss="binary_crossentropy")
        >>> history = autoencoder.fit(tf.random.uniform((64, 28, 28, 1)), epochs=1, verbose=0)
        >>> sorted(history.history)
        ['loss', 'penalty_loss', 'reconstruction_loss', 'regularization_loss']
    """

    loss_parts = ("reconstruction_loss", "penalty_loss", "regularization_loss")
    compile_arguments = ("loss", "regularizers")
    evaluated_losses = ("loss", *loss_parts)
    loss: Any = None
    likelihood: Likelihood | None = None

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        prior: Prior | None = None,
        threshold: float | None = None,
        seed: int | None = None,
        likelihood: Likelihood | None = None,
        **kwargs: Any,
    ) -> None:
        data_shape, latent_shape = check_network("encoder", encoder)
        # The decoder of rows of a table can output parameters of the likelihood that `compile`
        # receives later.
        mirrors = likelihood is None and len(data_shape) > 1
        output_shape = data_shape if mirrors else None
        why = ", because it maps the outputs of `encoder` back to data"
        check_network("decoder", decoder, latent_shape, output_shape, why=why)
        super().__init__(DataCheck(data_shape, *output_range(decoder)), seed, **kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.latent_shape = latent_shape
        self.threshold = self.check_threshold(threshold)
        if likelihood is not None:
            self._set_likelihood(likelihood)
        if prior is not None:
            if len(latent_shape) != 1:
                raise ValueError(
                    "A `prior` needs vectors as latents. "
                    f"Received: latents of shape {latent_shape}. Omit `prior`, or end `encoder` "
                    "with keras.layers.Flatten() and begin `decoder` with "
                    f"keras.layers.Reshape({latent_shape})."
                )
            check_prior(prior, latent_shape[0])
            check_distribution(prior)
            self.prior = prior

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str = "adam",
        loss: keras.losses.Loss
        | Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
        | Likelihood
        | str
        | None = None,
        regularizers: LatentRegularizer | Sequence[LatentRegularizer] | None = (),
        **kwargs: Any,
    ) -> None:
        """Configure the model for training, like `keras.Model.compile`.

        If the model was compiled before with another loss, its anomaly scores change. The method
        then sets `threshold` to None.

        Args:
            optimizer: Keras optimizer or its name.
            loss: Reconstruction loss: a `keras.losses.Loss`, a loss function, or the name of a
                Keras loss. The `reduction` of a `keras.losses.Loss` must be `"sum_over_batch_size"`
                (Keras's default), `"mean"`, `"none"` or None. The model averages over the batch in
                all four cases. The loss can also be a `distributions.Likelihood` p(x | x̂). In this
                case, the decoder outputs the parameters x̂, and the reconstruction loss is
                −log p(x | x̂), in nats per example.
            regularizers: One `LatentRegularizer` or a list of them, for instance
                `[regularizers.Contractive(1e-3)]`.
            **kwargs: Other arguments of `keras.Model.compile`. The functions in `metrics` receive
                the data and the reconstructions.

        Raises:
            ValueError: If `loss` is None, has another reduction, or does not match the output of
                the decoder. If the model has a likelihood, and `loss` is not this likelihood or one
                with the same arguments. Also if `regularizers` contains an object that is not a
                `LatentRegularizer`.
        """
        if loss is None:
            raise ValueError(
                "`compile` needs a reconstruction loss, for instance "
                "compile('adam', loss='binary_crossentropy')."
            )
        if isinstance(loss, Likelihood):
            self._set_likelihood(loss)
            loss = self.likelihood
        else:
            self._check_loss_without_likelihood(loss)
        function = loss if isinstance(loss, Likelihood) else keras.losses.get(loss)
        reduction = getattr(function, "reduction", "sum_over_batch_size")
        if reduction not in _AVERAGED:
            raise ValueError(
                "The reconstruction loss must be averaged over the batch: use Keras's default "
                f"reduction. Received: loss={loss!r} with reduction={reduction!r}"
            )
        if not isinstance(loss, Likelihood):
            check_loss_shape(loss, self.data_shape)
            check_cross_entropy(loss, self.decoder)
        if isinstance(regularizers, LatentRegularizer):
            regularizers = (regularizers,)
        regularizers = tuple(regularizers or ())
        if not all(isinstance(regularizer, LatentRegularizer) for regularizer in regularizers):
            raise ValueError(
                "`regularizers` must be regularizers of latents, such as "
                "[keras_gen.regularizers.Contractive(1e-3)]. Pass regularizers of weights to the "
                f"layers of the networks. Received: {regularizers!r}"
            )
        cross_entropy = function is keras.losses.binary_crossentropy
        if cross_entropy or isinstance(function, keras.losses.BinaryCrossentropy):
            self.data_check = DataCheck(self.data_shape, 0.0, 1.0)
        super().compile(optimizer, **kwargs)
        if self.loss is not None and loss != self.loss:
            self.threshold = None  # the threshold belongs to scores of the old loss
        self.loss = loss  # not passed to Keras, which would require a target
        self.regularizers = regularizers
        with self.distribute_strategy.scope():
            self.encoder_in_float32: Any = float32_function(self.encoder) if regularizers else None

    def _set_likelihood(self, likelihood: Likelihood) -> None:
        """Check a likelihood, and store it in the attribute `likelihood` of the model.

        If the model already has an equal likelihood, the method changes nothing. The model keeps
        its likelihood, whose weights may be trained already.

        Raises:
            ValueError: If a network does not match the likelihood, for instance because of its
                shape. Also if the model already has another likelihood.
        """
        name = type(likelihood).__name__
        if self.likelihood is not None:
            same = type(self.likelihood) is type(likelihood)
            if not same or _settings(self.likelihood) != _settings(likelihood):
                raise ValueError(
                    f"{self.name} already has the likelihood {self.likelihood}, which cannot be "
                    f"changed. Received: loss={likelihood}. To use this loss, make another model "
                    "from the same networks: "
                    "RegularizedAutoencoder(autoencoder.encoder, autoencoder.decoder)."
                )
            return
        data = f", the `event_shape` of `{name}`"
        check_network("encoder", self.encoder, likelihood.event_shape, why=data)
        shape = f", the `parameter_shape` of `{name}`"
        check_network("decoder", self.decoder, None, likelihood.parameter_shape, why=shape)
        if likelihood.logits:
            check_logits("decoder", self.decoder)
        if likelihood.missing:
            check_accepts_missing(self.encoder, likelihood.event_shape, name)
        if not likelihood.built:
            likelihood.build(None)
        self.likelihood = likelihood
        self.data_check = DataCheck.of_likelihood(likelihood)
        self.columns = likelihood.columns
        self.generates_means = not likelihood.generates_samples

    def _check_loss_without_likelihood(self, loss: object) -> None:
        """Raise a `ValueError` if a Keras loss does not fit the model.

        A model with a likelihood must use this likelihood as its loss. In all other models, the
        output of the decoder must have the shape of the data.
        """
        if self.likelihood is not None:
            raise ValueError(
                f"`loss` of {self.name} must be its likelihood, {self.likelihood}, because the "
                f"decoder outputs the parameters of this likelihood. Received: loss={loss!r}. Make "
                "another model from the same networks: "
                "RegularizedAutoencoder(autoencoder.encoder, autoencoder.decoder)."
            )
        why = (
            ", the shape of the data, unless `loss` is a likelihood whose `parameter_shape` "
            "matches `decoder`"
        )
        check_network("decoder", self.decoder, self.latent_shape, self.data_shape, why=why)

    def call(self, inputs: Array, training: bool = False) -> tf.Tensor:
        """Return the reconstruction of `inputs`.

        For a model with a likelihood, the reconstruction is the mean of p(x | x̂), where x̂ is the
        output of the decoder. If the data are rows of a table, the mean of a column of counts is
        rounded. For a column of categories, the method returns the most probable category. If the
        categories are ordered, the method returns the median category.
        """
        return self._point(self._decoded(self.check_inputs(inputs), training))

    def check_inputs(self, inputs: Any) -> Any:
        """Check the inputs of the model, and return them as float32.

        The inputs of a denoising autoencoder are data with added noise. Therefore the inputs may
        lie outside the range of the decoder's outputs.
        """
        return self.data_check.for_noisy_inputs().inputs(inputs)

    def _decoded(self, x: Array, training: bool = False) -> tf.Tensor:
        """Return the decoder's output for the latents of `x`."""
        latents = call_network(self.encoder, x, None, training)
        return call_network(self.decoder, latents, None, training)

    def _point(self, output: tf.Tensor) -> tf.Tensor:
        """Compute reconstructions from the output of the decoder.

        If the loss is a likelihood p(x | x̂), where x̂ is the output of the decoder, the
        reconstruction is the mean of this distribution. For a column of categories in a table, the
        reconstruction is a category instead. Without a likelihood, the reconstruction is x̂.
        """
        if self.likelihood is None:
            return output
        return self.likelihood.point(self.likelihood(output))

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Take one optimizer step on one batch, and return the logs."""
        batch = self.unpack(data)
        with tf.GradientTape() as tape:
            terms, reconstruction = self._terms(batch, training=True)
        terms["loss"] += self.minimize(
            tape, batch.x, terms["loss"], self.trainable_variables, terms
        )
        return self._logs(batch, terms, reconstruction)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Compute the losses of one batch, and return the logs."""
        batch = self.unpack(data)
        terms, reconstruction = self._terms(batch, training=False)
        return self._logs(batch, terms, reconstruction)

    def _terms(self, batch: CheckedBatch, training: bool) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Compute the loss of a batch, and return `(terms, reconstruction)`.

        `terms` contains the mean loss of the batch, and the mean of each term of the loss, by name.
        """
        latents = self.encoder(batch.x, training=training)
        output = self.decoder(latents, training=training)
        error = self.reconstruction_error(batch.target, output, training)
        terms = {
            "reconstruction_loss": self.average(error, batch.sample_weight),
            "regularization_loss": self.regularization_loss(),
        }
        penalty = self._penalty(latents, batch.x, training)
        terms["penalty_loss"] = self.average(penalty, batch.sample_weight)
        return {"loss": tf.add_n(list(terms.values())), **terms}, self._point(output)

    def _logs(
        self, batch: CheckedBatch, terms: dict[str, tf.Tensor], reconstruction: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        self.log(batch.x, **terms)
        return self.compute_metrics(batch.x, batch.target, reconstruction, batch.sample_weight)

    def _penalty(self, latents: tf.Tensor, x: tf.Tensor, training: bool) -> tf.Tensor:
        """Return one value per example, `[batch]`: the sum of all latent regularizers."""

        def encode(inputs: tf.Tensor) -> tf.Tensor:
            return self.encoder_in_float32(inputs, training=training)

        flat = tf.reshape(tf.cast(latents, tf.float32), (-1, math.prod(self.latent_shape)))
        total = tf.zeros(tf.shape(x)[0])
        for regularizer in self.regularizers:
            name = type(regularizer).__name__
            seed = {"seed": self.noise_seed(training)} if regularizer.uses_seed else {}
            total += per_example(name, regularizer(flat, x, encode, **seed), x)
        return total

    def reconstruction_error(
        self, target: tf.Tensor, output: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Return the reconstruction loss of each example, `[batch]`.

        A Keras loss is averaged over the elements of an example. If the model has a likelihood
        instead, the result is −log p(x | x̂) of the whole example, in nats. Here x is the target,
        and x̂ is the decoder's output.

        Args:
            target: The data that the decoder should output, `[batch, *data_shape]`.
            output: The decoder's output.
            training: Whether the method is called in a training step. In training, a likelihood can
                fit a parameter, such as the standard deviation σ, to `target`.
        """
        if self.likelihood is not None:
            distribution = (
                self.likelihood.fitted(output, target) if training else self.likelihood(output)
            )
            return -distribution.log_prob(target)
        values = per_example_loss(self.loss)(target, tf.cast(output, tf.float32))
        values = tf.reshape(tf.cast(values, tf.float32), (tf.shape(target)[0], -1))
        return tf.reduce_mean(values, axis=1)

    @traced("x")
    def encode(self, x: Array) -> tf.Tensor:
        """Map data `[batch, *data_shape]` to latents `[batch, *latent_shape]`."""
        return call_network(self.encoder, self.check_inputs(x), None, training=False)

    def latents(self, x: Array, condition: TensorLike | None = None) -> tf.Tensor:
        """Return `encode(x)`, flattened to one vector per example, `[batch, n]`."""
        self._condition_arguments(condition)
        return tf.reshape(self.encode(x), (-1, math.prod(self.latent_shape)))

    @traced("latents")
    def decode(self, latents: Array) -> tf.Tensor:
        """Map latents `[batch, *latent_shape]` to data `[batch, *data_shape]`."""
        latents = self.checked_latents(latents, self.latent_shape)
        return self._point(call_network(self.decoder, latents, None, training=False))

    def outputs_for(
        self, latents: tf.Tensor, seed: TensorLike, condition: TensorLike | None = None
    ) -> tf.Tensor:
        """Return one output of `generate` per latent vector, `[batch, *data_shape]`.

        The rows of a table are sampled from p(x | x̂), where x̂ is the output of the decoder. The
        mean of p(x | x̂) is not used, because a category has no mean. For other data, such as
        images, the method returns `decode(latents)`.
        """
        if self.likelihood is None or not self.likelihood.generates_samples:
            return super().outputs_for(latents, seed, condition)
        return self.likelihood.sample_rows(self.decoder(latents, training=False), seed)

    @traced("x")
    def reconstruct(self, x: Array) -> tf.Tensor:
        """Return `decode(encode(x))`."""
        return self(x, training=False)

    @traced("x")
    def score(self, x: TensorLike, condition: TensorLike | None = None) -> tf.Tensor:
        """Compute the anomaly score of each example, `[batch]`.

        The score of an example is its reconstruction loss. For a model with a likelihood, the score
        is −log p(x | x̂) in nats, where x̂ is the output of the decoder. For all other models, the
        score is computed with the loss that was passed to `compile`. A higher score means a more
        anomalous example.

        Args:
            x: Data `[batch, *data_shape]`.
            condition: Must be None, because the model is not conditional.

        Raises:
            ValueError: If the model has no likelihood and is not compiled. If `x` has the wrong
                shape or dtype, or invalid values. If `condition` is given.
        """
        score, _ = self.score_functions(x, condition)
        return score()

    @traced("x")
    def score_per_feature(self, x: TensorLike, condition: TensorLike | None = None) -> tf.Tensor:
        """Compute how much each element of each example adds to the anomaly score.

        The anomaly score of an example is the sum of these values over its elements. The value of a
        missing element is 0.

        Args:
            x: Data `[batch, *data_shape]`.
            condition: Must be None, because the model is not conditional.

        Returns:
            Tensor `[batch, *data_shape]`.

        Raises:
            ValueError: If `score` raises a `ValueError` for the same arguments. If a Keras loss is
                not a mean over the elements of an example. If the likelihood does not compute
                log p(x | x̂) as a sum over the elements.
        """
        _, per_feature = self.score_functions(x, condition)
        return per_feature()

    def score_functions(self, x: TensorLike, condition: TensorLike | None = None) -> ScoreFunctions:
        """Return a function that computes `score(x)`, and one for `score_per_feature(x)`.

        Both functions use the same reconstruction of `x`, which is computed only once.

        Returns:
            Two functions without arguments. The first function returns the result of `score(x)`.
            The second function returns the result of `score_per_feature(x)`.
        """
        x = self._scored(x, condition)
        output = self._decoded(x)

        def score() -> tf.Tensor:
            return self.reconstruction_error(x, output)

        def per_feature() -> tf.Tensor:
            if self.likelihood is not None:
                return -self.likelihood.element_log_prob(self.likelihood(output), x)
            self._check_elementwise_loss()
            return self._error_per_element(x, output)

        return score, per_feature

    def _error_per_element(self, target: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        """Return how much each element adds to the loss of its example, `[batch, *data_shape]`."""
        loss = keras.losses.get(self.loss)
        # With an axis of size 1 at the end, a loss that is averaged over the last axis gives one
        # value per element.
        elements = tf.cast(output, tf.float32)[..., None]
        values = getattr(loss, "call", loss)(target[..., None], elements)
        return values / math.prod(self.data_shape)

    def _check_elementwise_loss(self) -> None:
        """Raise a `ValueError` if the loss is not a mean over the elements of an example."""
        with tf.init_scope():
            shape = (2, *self.data_shape)
            target = tf.random.stateless_uniform(shape, (0, 0), 0.2, 0.8)
            output = tf.random.stateless_uniform(shape, (0, 1), 0.2, 0.8)
            values = self._error_per_element(target, output)
            if values.shape == target.shape:
                total = tf.reduce_sum(tf.reshape(values, (2, -1)), axis=1)
                if np.allclose(total, self.reconstruction_error(target, output), rtol=1e-3):
                    return
        raise ValueError(
            "Expected a loss that is a mean over the elements of an example, such as 'mse'. "
            f"Received: loss={self.loss!r}."
        )

    def score_of_batch(self, batch: CheckedBatch) -> tf.Tensor:
        """Return the anomaly score of each example of a batch, `[batch]`.

        If the data set contains pairs (noisy data, clean data), the score compares the
        reconstruction with the clean data.
        """
        return self.reconstruction_error(batch.target, self._decoded(batch.x))

    def _scored(self, x: TensorLike, condition: TensorLike | None) -> tf.Tensor:
        """Check the data that `score` receives, and return them as float32."""
        if self.loss is None and self.likelihood is None:
            raise ValueError(
                f"{self.name} has no loss, so it cannot compute scores. Compile the model, for "
                "instance compile(loss='mse')."
            )
        return self.checked_arguments(x, condition)[0]

    def fit_latent_density(
        self,
        x: Examples,
        density: FittedDensity | int | None = None,
        num_components: int | None = None,
    ) -> None:
        """Fit a density to the latents of `x`, and store it in the attribute `prior`.

        The method `generate` then samples latents from this density (Ghosh et al. 2020,
        arXiv:1903.12436). Call `fit_latent_density` after training. A second call replaces the
        density. The `.keras` file and the exported function `generate` contain the density.

        Args:
            x: Data, an array or a `tf.data.Dataset` of batches.
            density: The density to fit, such as `distributions.FittedMixture(8)` or
                `distributions.FittedFlow(8)` for 8 latents. If None, the density that the model
                already has is fitted again. If it has none, the density is a `FittedMixture` with
                10 components. An integer means the same as `num_components`.
            num_components: Number of components of the density, which is then a `FittedMixture`.
                You cannot pass both `density` and `num_components`.

        Raises:
            ValueError: If the latents are not vectors, or if an argument is invalid. If the model
                already has a prior that is not a `FittedDensity`.
        """
        if len(self.latent_shape) != 1:
            raise ValueError(
                "A latent density needs vectors as latents. "
                f"Received: latents of shape {self.latent_shape}. End `encoder` with "
                "keras.layers.Flatten(), and begin `decoder` with "
                f"keras.layers.Reshape({self.latent_shape})."
            )
        self.data_check.before_work(x)
        density = density_to_fit(density, num_components, self.latent_shape[0], self.prior)
        latents = np.concatenate([self.encode(batch) for batch in batches_of(x)])
        density.fit(latents, self.seed)
        replace_layer(self, "prior", density)

    def signatures(self) -> dict[str, Endpoint]:
        """Return the functions that `export` writes, as a dictionary from names to pairs.

        A pair consists of a function and a list with the `tf.TensorSpec` of each of its arguments.
        The names are `serving_default`, `encode` and `decode`. If the model has a loss or a
        likelihood, there is also `score`. If the model has a prior, there is also `generate`.
        """
        data = [self._data_spec()]
        latents = [tf.TensorSpec((None, *self.latent_shape), tf.float32, name="latents")]
        endpoints = {
            "serving_default": (
                lambda inputs: {"reconstructions": self.reconstruct(inputs)},
                data,
            ),
            "encode": (lambda inputs: {"latents": self.encode(inputs)}, data),
            "decode": (lambda latents: {"outputs": self.decode(latents)}, latents),
        }
        if self.loss is not None or self.likelihood is not None:
            endpoints["score"] = (self.score_outputs, data)
        if self.prior is not None:
            endpoints["generate"] = (self.generate_rows, [self._seed_spec()])
        return endpoints


def _settings(likelihood: Likelihood) -> dict[str, Any]:
    """Return the configuration of a likelihood without its name, which Keras makes unique."""
    return {name: value for name, value in likelihood.get_config().items() if name != "name"}
