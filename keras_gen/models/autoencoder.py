"""The regularized autoencoder (MATH 1)."""

import keras
import tensorflow as tf

from keras_gen.distributions import FittedMixture
from keras_gen.models.base import GenerativeModel
from keras_gen.models.checks import DataCheck, check_distribution, check_network, check_prior, output_range


@keras.saving.register_keras_serializable("keras_gen")
class RegularizedAutoencoder(GenerativeModel):
    """z = encoder(x), x̂ = decoder(z), trained on E_x[L(x, x̂)] + λ‖W‖² (MATH 1).

    L is any Keras loss given to `compile(loss=)`. λ‖W‖² comes from the networks' own kernel regularizers; it is counted once
    and logged as `regularization_loss`.

    Args:
        encoder: Built Keras model from data to latents.
        decoder: Built Keras model from latents to data. If it ends in a sigmoid, data outside [0, 1] are refused.
        prior: What latents are drawn from to `generate`; None until `fit_latent_density` makes one.
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

    def __init__(self, encoder, decoder, prior=None, seed=None, **kwargs):
        data_shape, latent_shape = check_network("encoder", encoder)
        check_network("decoder", decoder, latent_shape, data_shape, why=", to mirror `encoder`")
        super().__init__(DataCheck(data_shape, *output_range(decoder)), seed, **kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.latent_shape = latent_shape
        if prior is not None:
            check_prior(prior, *latent_shape)
            check_distribution(prior)
            self.prior = prior

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

    def fit_latent_density(self, x, num_components=10):
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
            raise ValueError(f"A latent density needs vectors as latents. Received: latents of shape {self.latent_shape}.")
        self.data_check.before_work(x)
        codes = self.encoder.predict(x, verbose=0)
        if self.prior is None:
            self.prior = FittedMixture(*self.latent_shape, num_components)
        if not isinstance(self.prior, FittedMixture) or self.prior.num_components != num_components:
            raise ValueError(
                f"{self.name} has a prior already, {self.prior.name}, that is not a mixture of {num_components} components. "
                "Make another model of the same networks: RegularizedAutoencoder(autoencoder.encoder, autoencoder.decoder)."
            )
        self.prior.fit(codes, self.seed)

    def signatures(self):
        """The serving contract: `serving_default`, `encode`, `decode`, and `generate` once there is a latent density."""
        latents = tf.TensorSpec((None, *self.latent_shape), tf.float32, name="latents")
        endpoints = {
            "serving_default": (lambda inputs: {"reconstructions": self.reconstruct(inputs)}, [self._data_spec()]),
            "encode": (lambda inputs: {"latents": self.encode(inputs)}, [self._data_spec()]),
            "decode": (lambda latents: {"outputs": self.decode(latents)}, [latents]),
        }
        if self.prior is not None:
            endpoints["generate"] = (self.generate_rows, [self._seed_spec()])
        return endpoints
