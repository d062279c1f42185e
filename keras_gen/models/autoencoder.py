"""The regularized autoencoder (MATH 1)."""

import keras
import tensorflow as tf

from keras_gen.models.base import GenerativeModel
from keras_gen.models.checks import DataCheck, check_network, output_range


@keras.saving.register_keras_serializable("keras_gen")
class RegularizedAutoencoder(GenerativeModel):
    """z = encoder(x), x̂ = decoder(z), trained on E_x[L(x, x̂)] + λ‖W‖² (MATH 1).

    L is any Keras loss given to `compile(loss=)`. λ‖W‖² comes from the networks' own kernel regularizers; it is counted once
    and logged as `regularization_loss`.

    Args:
        encoder: Built Keras model from data to latents.
        decoder: Built Keras model from latents to data. If it ends in a sigmoid, data outside [0, 1] are refused.
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
    ['loss', 'reconstruction_loss', 'regularization_loss']
    """

    loss_parts = ("reconstruction_loss", "regularization_loss")
    compile_arguments = ("loss",)

    def __init__(self, encoder, decoder, seed=None, **kwargs):
        data_shape, latent_shape = check_network("encoder", encoder)
        check_network("decoder", decoder, latent_shape, data_shape, why=", to mirror `encoder`")
        super().__init__(DataCheck(data_shape, *output_range(decoder)), seed, **kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.latent_shape = latent_shape

    def compile(self, optimizer="adam", loss=None, **kwargs):
        """Configure for training as `keras.Model.compile`.

        Args:
            optimizer: Keras optimizer or its name.
            loss: L, a Keras loss by name, function or object, with Keras's default reduction.
            **kwargs: Further arguments of `keras.Model.compile`; `metrics` see the data and their reconstruction.

        Raises:
            ValueError: Without a loss, or with one that is not averaged over the batch.
        """
        if loss is None:
            raise ValueError("`compile` needs a reconstruction loss, for instance compile('adam', loss='binary_crossentropy').")
        function = keras.losses.get(loss)
        reduction = getattr(function, "reduction", "sum_over_batch_size")
        if reduction not in ("sum_over_batch_size", "mean", "none", None):
            raise ValueError(
                "The reconstruction loss is averaged over the batch: give it Keras's default reduction. "
                f"Received: loss={loss!r} with reduction={reduction!r}"
            )
        if function is keras.losses.binary_crossentropy or isinstance(function, keras.losses.BinaryCrossentropy):
            self.data_check = DataCheck(self.data_shape, 0.0, 1.0)
        super().compile(optimizer, **kwargs)
        self.loss = loss  # not handed to Keras, which would ask for a target

    def call(self, inputs, training=False):
        """The reconstruction x̂ of `inputs`."""
        return self.decoder(self.encoder(inputs, training=training), training=training)

    def train_step(self, data):
        """One step on E_x[L(x, x̂)] + λ‖W‖²."""
        x, target, sample_weight = self.unpack(data)
        with tf.GradientTape() as tape:
            reconstruction = self(x, training=True)
            reconstruction_loss = self.average(self.reconstruction_error(target, reconstruction), sample_weight)
            regularization_loss = self.regularization_loss()
            loss = reconstruction_loss + regularization_loss
        self.minimize(tape, loss, self.trainable_variables)
        self.log(x, loss=loss, reconstruction_loss=reconstruction_loss, regularization_loss=regularization_loss)
        return self.compute_metrics(x, target, reconstruction, sample_weight)

    def test_step(self, data):
        """The losses of a batch, with the weights as they are."""
        x, target, sample_weight = self.unpack(data)
        reconstruction = self(x, training=False)
        reconstruction_loss = self.average(self.reconstruction_error(target, reconstruction), sample_weight)
        regularization_loss = self.regularization_loss()
        loss = reconstruction_loss + regularization_loss
        self.log(x, loss=loss, reconstruction_loss=reconstruction_loss, regularization_loss=regularization_loss)
        return self.compute_metrics(x, target, reconstruction, sample_weight)

    def reconstruction_error(self, target, reconstruction):
        """L(x, x̂) of each example, `[batch]`: the compiled loss, averaged over the axes after the batch as Keras does."""
        loss = keras.losses.get(self.loss)
        values = getattr(loss, "call", loss)(target, tf.cast(reconstruction, tf.float32))
        return tf.reduce_mean(tf.reshape(values, (tf.shape(target)[0], -1)), axis=1)

    def encode(self, x):
        """The latents of `x`, `[batch, *latent_shape]`."""
        return self.encoder(x, training=False)

    def decode(self, latents):
        """The data that `latents` stand for, `[batch, *data_shape]`."""
        return self.decoder(latents, training=False)

    def reconstruct(self, x):
        """`decode(encode(x))`."""
        return self(x, training=False)

    def signatures(self):
        """The serving contract: `serving_default`, `encode` and `decode`."""
        latents = tf.TensorSpec((None, *self.latent_shape), tf.float32, name="latents")
        return {
            "serving_default": (lambda inputs: {"reconstructions": self.reconstruct(inputs)}, [self._data_spec()]),
            "encode": (lambda inputs: {"latents": self.encode(inputs)}, [self._data_spec()]),
            "decode": (lambda latents: {"outputs": self.decode(latents)}, [latents]),
        }
