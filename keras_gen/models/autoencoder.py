"""The regularized autoencoder (lecture notes, MATH 1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gen._arguments import is_real
from keras_gen._typing import Array, Endpoint, Examples, TensorLike
from keras_gen.distributions import FittedMixture, Prior
from keras_gen.distributions._checks import check_distribution, check_prior
from keras_gen.fitting.data_check import DataCheck
from keras_gen.models.base import CheckedBatch, GenerativeModel
from keras_gen.networks._checks import check_network, output_range
from keras_gen.networks._copies import float32_function
from keras_gen.regularizers import LatentRegularizer

_AVERAGED = ("sum_over_batch_size", "mean", "none", None)  # reductions that are accepted


@keras.saving.register_keras_serializable("keras_gen")
class RegularizedAutoencoder(GenerativeModel):
    """An autoencoder with regularizers of its weights and its latents.

    The encoder maps data x to latents z. The decoder maps z to a reconstruction x̂. Training
    minimizes E_x[L(x, x̂)] + λ‖W‖² (lecture notes, MATH 1). L is the Keras loss that you pass to
    `compile`. λ‖W‖² is the sum of the kernel regularizers of both networks, and is logged as
    `regularization_loss`. `compile` also accepts regularizers of the latents. Their sum is added
    to the loss, and is logged as `penalty_loss`.

    Args:
        encoder: Built Keras model that maps data to latents.
        decoder: Built Keras model that maps latents to data. If the last activation is a sigmoid,
            data must lie in [0, 1]. If the last activation is tanh, data must lie in [-1, 1].
        prior: Distribution from which `generate` samples latents. If None, call
            `fit_latent_density` before `generate`.
        threshold: An example is an anomaly if its anomaly score is above this number. If None, call
            `calibrate` to compute the threshold.
        seed: Seed of all random numbers of the model, an int in [0, 2³¹). If None, the seed is
            random.
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

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        prior: Prior | None = None,
        threshold: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        data_shape, latent_shape = check_network("encoder", encoder)
        check_network("decoder", decoder, latent_shape, data_shape, why=", to mirror `encoder`")
        super().__init__(DataCheck(data_shape, *output_range(decoder)), seed, **kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.latent_shape = latent_shape
        if threshold is not None and not is_real(threshold):
            raise ValueError(
                "`threshold` must be a number or None. Call `calibrate` to compute it. "
                f"Received: threshold={threshold!r}"
            )
        self.threshold = threshold
        if prior is not None:
            if len(latent_shape) != 1:
                raise ValueError(
                    "A `prior` needs vectors as latents. "
                    f"Received: latents of shape {latent_shape}."
                )
            check_prior(prior, latent_shape[0])
            check_distribution(prior)
            self.prior = prior

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str = "adam",
        loss: keras.losses.Loss | Callable[[tf.Tensor, tf.Tensor], tf.Tensor] | str | None = None,
        regularizers: LatentRegularizer | Sequence[LatentRegularizer] | None = (),
        **kwargs: Any,
    ) -> None:
        """Configure the model for training, like `keras.Model.compile`.

        Args:
            optimizer: Keras optimizer or its name.
            loss: Reconstruction loss L: a `keras.losses.Loss`, a loss function, or the name of a
                Keras loss. It must be averaged over the batch, as Keras losses are by default.
            regularizers: One `LatentRegularizer` or a list of them, for instance
                `[regularizers.Contractive(1e-3)]`.
            **kwargs: Other arguments of `keras.Model.compile`. `metrics` compare the data with the
                reconstruction.

        Raises:
            ValueError: If `loss` is None or is not averaged over the batch, or if `regularizers`
                contains an object that is not a `LatentRegularizer`.
        """
        if loss is None:
            raise ValueError(
                "`compile` needs a reconstruction loss, for instance "
                "compile('adam', loss='binary_crossentropy')."
            )
        function = keras.losses.get(loss)
        reduction = getattr(function, "reduction", "sum_over_batch_size")
        if reduction not in _AVERAGED:
            raise ValueError(
                "The reconstruction loss must be averaged over the batch: use Keras's default "
                f"reduction. Received: loss={loss!r} with reduction={reduction!r}"
            )
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
            self.threshold = None  # it belongs to scores of the old loss
        self.loss = loss  # not passed to Keras, which would require a target
        self.regularizers = regularizers
        with self.distribute_strategy.scope():
            self.encoder_in_float32: Any = float32_function(self.encoder) if regularizers else None

    def call(self, inputs: Array, training: bool = False) -> tf.Tensor:
        """Return the reconstruction x̂ of `inputs`."""
        return self.decoder(self.encoder(inputs, training=training), training=training)

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
        """Return a pair: the batch means of the loss and its terms by name, and x̂."""
        latents = self.encoder(batch.x, training=training)
        reconstruction = self.decoder(latents, training=training)
        error = self.reconstruction_error(batch.target, reconstruction)
        terms = {
            "reconstruction_loss": self.average(error, batch.sample_weight),
            "regularization_loss": self.regularization_loss(),
        }
        penalty = self._penalty(latents, batch.x, training)
        terms["penalty_loss"] = self.average(penalty, batch.sample_weight)
        return {"loss": tf.add_n(list(terms.values())), **terms}, reconstruction

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
            total += regularizer(flat, x, encode)
        return total

    def reconstruction_error(self, target: tf.Tensor, reconstruction: tf.Tensor) -> tf.Tensor:
        """Return the reconstruction loss of each example, `[batch]`.

        The loss that was passed to `compile` is averaged over all axes except the batch axis.
        """
        loss = keras.losses.get(self.loss)
        values = getattr(loss, "call", loss)(target, tf.cast(reconstruction, tf.float32))
        return tf.reduce_mean(tf.reshape(values, (tf.shape(target)[0], -1)), axis=1)

    def encode(self, x: Array) -> tf.Tensor:
        """Map data `[batch, *data_shape]` to latents `[batch, *latent_shape]`."""
        return self.encoder(x, training=False)

    def latents(self, x: Array, condition: TensorLike | None = None) -> tf.Tensor:
        """Return `encode(x)`, flattened to one vector per example, `[batch, n]`."""
        self._condition_arguments(condition)
        return tf.reshape(self.encode(x), (-1, math.prod(self.latent_shape)))

    def decode(self, latents: Array) -> tf.Tensor:
        """Map latents `[batch, *latent_shape]` to data `[batch, *data_shape]`."""
        return self.decoder(latents, training=False)

    def reconstruct(self, x: Array) -> tf.Tensor:
        """Return `decode(encode(x))`."""
        return self(x, training=False)

    def score(self, x: TensorLike) -> tf.Tensor:
        """Compute the anomaly score of each example, `[batch]`.

        The score of an example is its reconstruction loss, computed with the loss that was passed
        to `compile`. A higher score means a more anomalous example.

        Raises:
            ValueError: If the model is not compiled, or if `x` has the wrong shape or dtype.
        """
        if self.loss is None:
            raise ValueError(
                f"{self.name} has no loss, so it cannot compute scores. Compile the model, for "
                "instance compile(loss='mse')."
            )
        x = tf.convert_to_tensor(x)
        self.data_check.check_form("x", x)
        x = tf.cast(x, tf.float32)
        return self.reconstruction_error(x, self.reconstruct(x))

    def calibrate(self, x: Examples, quantile: float = 0.99) -> float:
        """Compute and store the threshold of `is_anomaly`, given data `x` without anomalies.

        The threshold is the `quantile` of the anomaly scores of `x`. Use data that the model was
        not trained on. Then about a fraction 1 − `quantile` of new data without anomalies will have
        a score above the threshold. The `.keras` file contains the threshold. If the model has a
        threshold, the exported function `score` also returns `anomaly`. If you later compile the
        model with another loss, the threshold is removed.

        Args:
            x: Data without anomalies: an array, or a `tf.data.Dataset` of batches. A batch can also
                be a pair (noisy data, clean data). For an accurate threshold, pass at least
                100 / (1 − `quantile`) examples. About a hundred of them then have a score above the
                threshold.
            quantile: Fraction of the examples whose score is at most the threshold. A number
                between 0 and 1.

        Returns:
            The threshold.

        Raises:
            ValueError: If `x` is empty or invalid, or if `quantile` is not between 0 and 1.
        """
        if not is_real(quantile) or not 0 < quantile < 1:
            raise ValueError(
                "`quantile` must be a number between 0 and 1, such as 0.99. "
                f"Received: quantile={quantile!r}"
            )
        if not isinstance(x, tf.data.Dataset) and not hasattr(x, "dtype"):
            raise ValueError(
                f"Expected `x` as an array or a tf.data.Dataset. Received: {type(x).__name__}."
            )
        self.data_check.before_work(x)
        scores: list[float] = []
        for data in _batches(x):
            batch = self.unpack(data)
            error = self.reconstruction_error(batch.target, self.reconstruct(batch.x))
            scores.extend(error.numpy())
        if not scores:
            raise ValueError("Expected at least one in-distribution example. Received: none.")
        self.threshold = float(np.quantile(scores, quantile))
        return self.threshold

    def is_anomaly(self, x: TensorLike) -> tf.Tensor:
        """Return whether the score of each example is above the threshold, bool `[batch]`.

        Raises:
            ValueError: If the model has no threshold yet, or if `score` raises an error.
        """
        if self.threshold is None:
            raise ValueError(
                f"{self.name} has no threshold yet. Call calibrate(x) with in-distribution data "
                "that the model was not trained on."
            )
        return self.score(x) > self.threshold

    def fit_latent_density(self, x: Examples, num_components: int = 10) -> None:
        """Fit a mixture of normal distributions to the latents of `x`.

        `generate` samples latents from this mixture (Ghosh et al. 2020, arXiv:1903.12436). Call
        this method after training. A second call replaces the first fit. The `.keras` file and the
        exported function `generate` contain the mixture.

        Args:
            x: Data, an array or a `tf.data.Dataset` of batches.
            num_components: Number of components of the mixture.

        Raises:
            ValueError: If the latents are not vectors, if the model already has a prior of another
                kind, or if it already has a mixture with another number of components.
        """
        if len(self.latent_shape) != 1:
            raise ValueError(
                "A latent density needs vectors as latents. "
                f"Received: latents of shape {self.latent_shape}."
            )
        self.data_check.before_work(x)
        inputs = (keras.utils.unpack_x_y_sample_weight(batch)[0] for batch in _batches(x))
        latents = np.concatenate([self.encode(batch) for batch in inputs])
        if self.prior is None:
            self.prior = FittedMixture(self.latent_shape[0], num_components)
        mixture = isinstance(self.prior, FittedMixture)
        if not mixture or self.prior.num_components != num_components:
            raise ValueError(
                f"{self.name} already has the prior {self.prior.name}, which is not a mixture of "
                f"{num_components} components. Make another model from the same networks: "
                "RegularizedAutoencoder(autoencoder.encoder, autoencoder.decoder)."
            )
        self.prior.fit(latents, self.seed)

    def signatures(self) -> dict[str, Endpoint]:
        """Return a dictionary of the functions that `export` writes, and their input specs.

        The keys are `serving_default`, `encode` and `decode`. If the model has a loss or a
        threshold, `score` is also a key. If the model has a prior, `generate` is also a key.
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
        if self.threshold is not None or self.loss is not None:
            endpoints["score"] = (self._score_outputs, data)
        if self.prior is not None:
            endpoints["generate"] = (self.generate_rows, [self._seed_spec()])
        return endpoints

    def _score_outputs(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """Return a dictionary with `score`. If the model has a threshold, add `anomaly`."""
        score = self.score(inputs)
        if self.threshold is None:
            return {"score": score}
        return {"score": score, "anomaly": score > self.threshold}


def _batches(x: Examples) -> tf.data.Dataset:
    """Return `x` as a data set of batches."""
    if isinstance(x, tf.data.Dataset):
        return x
    return tf.data.Dataset.from_tensor_slices(x).batch(256)
