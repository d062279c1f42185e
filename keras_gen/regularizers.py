"""Regularizers of the latents z, which the encoder of an autoencoder outputs.

Pass regularizers to an autoencoder with `compile(regularizers=[...])`. Each regularizer adds a term
to the loss. To regularize the weights of a network instead, pass Keras regularizers to the layers
of the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_gen._arguments import positive_float
from keras_gen._serialization import Serializable


class LatentRegularizer(Serializable):
    """Base class of the regularizers. Each regularizer adds a term to the loss of an autoencoder.

    A subclass implements `__call__`, which computes the term from the latents.

    Args:
        weight: Positive number by which the term is multiplied.
    """

    def __init__(self, weight: float) -> None:
        self.weight = positive_float(self, "weight", weight)

    def __call__(
        self, latents: tf.Tensor, x: tf.Tensor, encode: Callable[[tf.Tensor], tf.Tensor]
    ) -> tf.Tensor:
        """Return the regularization term of each example, `[batch]`.

        Args:
            latents: The latents z of `x`, float32, flattened to `[batch, n]`.
            x: Input of the encoder, `[batch, ...]`.
            encode: Function that computes latents from an input of the encoder. Use this function
                if the term needs a gradient with respect to `x`. Its output is float32 and not
                flattened.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `__call__` and return one value per example."
        )


@keras.saving.register_keras_serializable("keras_gen")
class LatentL1(LatentRegularizer):
    """Add `weight` ‖z‖₁ to the loss, for a sparse autoencoder.

    The term keeps most latents of an example close to 0. The sparse autoencoder of Ng 2011
    (Stanford CS294A) uses a Kullback-Leibler divergence instead of the L1 norm ‖z‖₁.

    Args:
        weight: Positive number by which the norm is multiplied.

    Example:
        >>> LatentL1(0.5)(tf.constant([[3.0, -4.0]]), x=None, encode=None).numpy()
        array([3.5], dtype=float32)
    """

    def __call__(
        self, latents: tf.Tensor, x: tf.Tensor, encode: Callable[[tf.Tensor], tf.Tensor]
    ) -> tf.Tensor:
        """Return `weight` Σ_j |z_j| of each example, `[batch]`."""
        return self.weight * tf.reduce_sum(tf.abs(latents), axis=1)


@keras.saving.register_keras_serializable("keras_gen")
class LatentL2(LatentRegularizer):
    """Add ½ `weight` ‖z‖² to the loss, for a regularized autoencoder (RAE).

    The term keeps the latents close to 0 (Ghosh et al. 2020, arXiv:1903.12436, equation 5).
    Therefore a simple density, such as a Gaussian mixture, can be fitted to the latents after
    training.

    Args:
        weight: Positive number by which ½ ‖z‖² is multiplied.

    Example:
        >>> LatentL2(0.5)(tf.constant([[3.0, -4.0]]), x=None, encode=None).numpy()
        array([6.25], dtype=float32)
    """

    def __call__(
        self, latents: tf.Tensor, x: tf.Tensor, encode: Callable[[tf.Tensor], tf.Tensor]
    ) -> tf.Tensor:
        """Return ½ `weight` Σ_j z_j² of each example, `[batch]`."""
        return self.weight / 2 * tf.reduce_sum(latents**2, axis=1)


@keras.saving.register_keras_serializable("keras_gen")
class Contractive(LatentRegularizer):
    """Add `weight` ‖∂z/∂x‖²_F to the loss, for a contractive autoencoder.

    This term makes the latents z insensitive to small changes of the input x (Rifai et al. 2011,
    ICML, equation 2). The Jacobian ∂z/∂x is computed exactly, by one backward pass through the
    encoder per latent dimension.

    Do not use this term if the encoder contains batch normalization. With batch normalization, the
    latents of an example depend on the other examples of the batch. Then the term of an example is
    not the norm of the Jacobian of this example.

    Args:
        weight: Positive number by which the squared Frobenius norm ‖∂z/∂x‖²_F is multiplied.

    Example:
        >>> x = tf.ones((1, 2))
        >>> kernel = [[3.0, 0.0], [0.0, 4.0]]
        >>> Contractive(2.0)(x @ kernel, x=x, encode=lambda x: x @ kernel).numpy()
        array([50.], dtype=float32)
    """

    def __call__(
        self, latents: tf.Tensor, x: tf.Tensor, encode: Callable[[tf.Tensor], tf.Tensor]
    ) -> tf.Tensor:
        """Return `weight` Σ_ij (∂z_j/∂x_i)² of each example, `[batch]`."""
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            z = encode(x)
            z = tf.reshape(z, (-1, math.prod(z.shape[1:])))
            columns = tf.unstack(z, axis=1)
        squared_norms = []
        for column in columns:
            gradients = tf.reshape(tape.gradient(column, x), (tf.shape(x)[0], -1))
            squared_norms.append(tf.reduce_sum(gradients**2, axis=1))
        return self.weight * tf.add_n(squared_norms)
