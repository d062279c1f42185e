"""The regularized autoencoder (MATH 1)."""

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
from keras_gen.models.base import GenerativeModel
from keras_gen.networks._checks import check_network, output_range
from keras_gen.networks._copies import float32_function
from keras_gen.regularizers import LatentRegularizer


@keras.saving.register_keras_serializable("keras_gen")
class RegularizedAutoencoder(GenerativeModel):
    """z = encoder(x), x̂ = decoder(z), trained on E_x[L(x, x̂)] + λ‖W‖² (MATH 1).

    L is any Keras loss given to `compile(loss=)`. λ‖W‖² comes from the networks' own kernel regularizers; it is counted once
    and logged as `regularization_loss`. Regularizers of the latents are given to `compile(regularizers=)` and logged as
    `penalty_loss`.

    Args:
        encoder: Built Keras model from data to latents.
        decoder: Built Keras model from latents to data. If it ends in a sigmoid, data outside [0, 1] are refused.
        prior: What latents are drawn from to `generate`; None until `fit_latent_density` makes one.
        threshold: The score over which data are strange; None until `calibrate` finds one.
        seed: Seed of the model's noise.
        **kwargs: `name`, `dtype` and `trainable` of the Keras model.

    Example:

    >>> from keras_gen import networks
    >>> l2 = keras.regularizers.L2(1e-4)
    >>> autoencoder = RegularizedAutoencoder(
    ...     encoder=networks.mlp((28, 28, 1), (8,), hidden=(32,), kernel_regularizer=l2),
    ...     decoder=networks.mlp((8,), (28, 28, 1), hidden=(32,), kernel_regularizer=l2, output_activation="sigmoid"))
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
                f"`threshold` is a number or None; `calibrate` finds one. Received: threshold={threshold!r}"
            )
        self.threshold = threshold
        if prior is not None:
            if len(latent_shape) != 1:
                raise ValueError(
                    f"A `prior` needs vectors as latents. Received: latents of shape {latent_shape}."
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
        """Configure for training as `keras.Model.compile`.

        Args:
            optimizer: Keras optimizer or its name.
            loss: L, a Keras loss by name, function or object, with Keras's default reduction.
            regularizers: Regularizers of the latents, for instance `[regularizers.Contractive(1e-3)]`.
            **kwargs: Further arguments of `keras.Model.compile`; `metrics` see the data and their reconstruction.

        Raises:
            ValueError: Without a loss, or with one that is not averaged over the batch.
        """
        if loss is None:
            raise ValueError(
                "`compile` needs a reconstruction loss, for instance compile('adam', loss='binary_crossentropy')."
            )
        function = keras.losses.get(loss)
        reduction = getattr(function, "reduction", "sum_over_batch_size")
        if reduction not in ("sum_over_batch_size", "mean", "none", None):
            raise ValueError(
                "The reconstruction loss is averaged over the batch: give it Keras's default reduction. "
                f"Received: loss={loss!r} with reduction={reduction!r}"
            )
        regularizers = (
            (regularizers,)
            if isinstance(regularizers, LatentRegularizer)
            else tuple(regularizers or ())
        )
        if not all(isinstance(regularizer, LatentRegularizer) for regularizer in regularizers):
            raise ValueError(
                "`regularizers` are of the latents, such as [keras_gen.regularizers.Contractive(1e-3)]; those of weights go into the "
                f"layers of the networks. Received: {regularizers!r}"
            )
        if function is keras.losses.binary_crossentropy or isinstance(
            function, keras.losses.BinaryCrossentropy
        ):
            self.data_check = DataCheck(self.data_shape, 0.0, 1.0)
        super().compile(optimizer, **kwargs)
        if self.loss is not None and loss != self.loss:
            self.threshold = None  # of other scores
        self.loss = loss  # not handed to Keras, which would ask for a target
        self.regularizers = regularizers
        with self.distribute_strategy.scope():
            self.encoder_in_float32: Any = float32_function(self.encoder) if regularizers else None

    def call(self, inputs: Array, training: bool = False) -> tf.Tensor:
        """The reconstruction x̂ of `inputs`."""
        return self.decoder(self.encoder(inputs, training=training), training=training)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """One step on E_x[L(x, x̂)] + λ‖W‖², and what the regularizers of the latents add."""
        x, target, sample_weight = self.unpack(data)
        with tf.GradientTape() as tape:
            terms, reconstruction = self._terms(x, target, sample_weight, training=True)
        terms["loss"] += self.minimize(tape, x, terms["loss"], self.trainable_variables, terms)
        self.log(x, **terms)
        return self.compute_metrics(x, target, reconstruction, sample_weight)

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """The losses of a batch, with the weights as they are."""
        x, target, sample_weight = self.unpack(data)
        terms, reconstruction = self._terms(x, target, sample_weight, training=False)
        self.log(x, **terms)
        return self.compute_metrics(x, target, reconstruction, sample_weight)

    def _terms(self, x, target, sample_weight, training):
        """The terms of the loss, averaged, and the reconstruction."""
        latents = self.encoder(x, training=training)
        reconstruction = self.decoder(latents, training=training)
        terms = {
            "reconstruction_loss": self.average(
                self.reconstruction_error(target, reconstruction), sample_weight
            ),
            "regularization_loss": self.regularization_loss(),
            "penalty_loss": self.average(self._penalty(latents, x, training), sample_weight),
        }
        return {"loss": tf.add_n(list(terms.values())), **terms}, reconstruction

    def _penalty(self, latents, x, training):
        """The sum of the regularizers of the latents, `[batch]`."""

        def encode(inputs):
            return self.encoder_in_float32(inputs, training=training)

        latents = tf.reshape(tf.cast(latents, tf.float32), (-1, math.prod(self.latent_shape)))
        values = [regularizer(latents, x, encode) for regularizer in self.regularizers]
        return tf.add_n([tf.zeros(tf.shape(x)[0]), *values])

    def reconstruction_error(self, target: tf.Tensor, reconstruction: tf.Tensor) -> tf.Tensor:
        """L(x, x̂) of each example, `[batch]`: the compiled loss, averaged over the axes after the batch as Keras does."""
        loss = keras.losses.get(self.loss)
        values = getattr(loss, "call", loss)(target, tf.cast(reconstruction, tf.float32))
        return tf.reduce_mean(tf.reshape(values, (tf.shape(target)[0], -1)), axis=1)

    def encode(self, x: Array) -> tf.Tensor:
        """The latents of `x`, `[batch, *latent_shape]`."""
        return self.encoder(x, training=False)

    def latents(self, x: Array, condition: TensorLike | None = None) -> tf.Tensor:
        """Return `encode(x)`, flattened to `[batch, n]`."""
        self._given(condition)
        return tf.reshape(self.encode(x), (-1, math.prod(self.latent_shape)))

    def decode(self, latents: Array) -> tf.Tensor:
        """The data that `latents` stand for, `[batch, *data_shape]`."""
        return self.decoder(latents, training=False)

    def reconstruct(self, x: Array) -> tf.Tensor:
        """`decode(encode(x))`."""
        return self(x, training=False)

    def score(self, x: TensorLike) -> tf.Tensor:
        """How strange each example is, `[batch]`: its reconstruction error, the compiled loss.

        Raises:
            ValueError: If the model is not compiled.
        """
        if self.loss is None:
            raise ValueError(
                f"{self.name} has no loss to score with: compile it, for instance compile(loss='mse')."
            )
        x = tf.convert_to_tensor(x)
        self.data_check.check_form("x", x)
        x = tf.cast(x, tf.float32)
        return self.reconstruction_error(x, self.reconstruct(x))

    def calibrate(self, x: Examples, quantile: float = 0.99) -> float:
        """Find the score over which data are strange: the quantile of the scores of normal data that the model was not trained on.

        The threshold is part of the model, of its `.keras` file and of its exported `score` signature, which then says `anomaly`,
        too. Of normal data, a share of about 1 − `quantile` will be taken for strange. Compiling with another loss drops it.

        Args:
            x: Normal data, an array or a `tf.data.Dataset`, also of pairs (noisy, clean); a hundred over the threshold or more say well
                where it is.
            quantile: Share of normal data that are to be taken for normal, in (0, 1).

        Returns:
            The threshold.

        Raises:
            ValueError: If there are no data, or of another form, or `quantile` is no share.
        """
        if not is_real(quantile) or not 0 < quantile < 1:
            raise ValueError(
                f"`quantile` is a number between 0 and 1, such as 0.99. Received: quantile={quantile!r}"
            )
        if not isinstance(x, tf.data.Dataset) and not hasattr(x, "dtype"):
            raise ValueError(
                f"Expected `x` as an array or a tf.data.Dataset. Received: {type(x).__name__}."
            )
        self.data_check.before_work(x)
        scores = []
        for batch in _batches(x):
            inputs, target, _ = self.unpack(batch)
            scores.extend(self.reconstruction_error(target, self.reconstruct(inputs)).numpy())
        if not scores:
            raise ValueError("Expected normal data to calibrate on. Received none.")
        self.threshold = float(np.quantile(scores, quantile))
        return self.threshold

    def is_anomaly(self, x: TensorLike) -> tf.Tensor:
        """Whether the score of each example is over the threshold, bool `[batch]`.

        Raises:
            ValueError: If there is no threshold yet.
        """
        if self.threshold is None:
            raise ValueError(
                f"{self.name} has no threshold yet: calibrate(x) on normal data that it was not trained on."
            )
        return self.score(x) > self.threshold

    def fit_latent_density(self, x: Examples, num_components: int = 10) -> None:
        """Fit a mixture of normals to the codes of `x`, so that the autoencoder can `generate` (Ghosh et al. 2020, arXiv:1903.12436).

        The density is part of the model, of its `.keras` file and of its exported `generate` signature. Call it after training; a
        second call fits it anew.

        Args:
            x: Data, an array or a `tf.data.Dataset`.
            num_components: Number of normals.

        Raises:
            ValueError: If the latents are no vectors, or the density has another number of components already.
        """
        if len(self.latent_shape) != 1:
            raise ValueError(
                f"A latent density needs vectors as latents. Received: latents of shape {self.latent_shape}."
            )
        self.data_check.before_work(x)
        codes = np.concatenate(
            [self.encode(keras.utils.unpack_x_y_sample_weight(batch)[0]) for batch in _batches(x)]
        )
        if self.prior is None:
            self.prior = FittedMixture(self.latent_shape[0], num_components)
        if not isinstance(self.prior, FittedMixture) or self.prior.num_components != num_components:
            raise ValueError(
                f"{self.name} has a prior already, {self.prior.name}, that is not a mixture of {num_components} components. "
                "Make another model of the same networks: RegularizedAutoencoder(autoencoder.encoder, autoencoder.decoder)."
            )
        self.prior.fit(codes, self.seed)

    def signatures(self) -> dict[str, Endpoint]:
        """The serving contract: `serving_default`, `encode`, `decode`, `score`, and `generate` once there is a latent density."""
        latents = tf.TensorSpec((None, *self.latent_shape), tf.float32, name="latents")
        endpoints = {
            "serving_default": (
                lambda inputs: {"reconstructions": self.reconstruct(inputs)},
                [self._data_spec()],
            ),
            "encode": (lambda inputs: {"latents": self.encode(inputs)}, [self._data_spec()]),
            "decode": (lambda latents: {"outputs": self.decode(latents)}, [latents]),
        }
        if self.threshold is not None or self.loss is not None:
            endpoints["score"] = (self._scored, [self._data_spec()])
        if self.prior is not None:
            endpoints["generate"] = (self.generate_rows, [self._seed_spec()])
        return endpoints

    def _scored(self, inputs):
        score = self.score(inputs)
        return (
            {"score": score}
            if self.threshold is None
            else {"score": score, "anomaly": score > self.threshold}
        )


def _batches(x):
    """The batches of a data set, or of an array."""
    return x if isinstance(x, tf.data.Dataset) else tf.data.Dataset.from_tensor_slices(x).batch(256)
