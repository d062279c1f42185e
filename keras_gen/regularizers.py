"""Regularizers of an autoencoder's latents: what `compile(regularizers=...)` takes, one value per example.

Regularizers of weights are Keras's own, in the layers of the networks.
"""

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_gen._arguments import positive_float
from keras_gen._serialization import Serializable


class LatentRegularizer(Serializable):
    """What an autoencoder's loss adds for its latents.

    Args:
        weight: Its factor.
    """

    def __init__(self, weight: float) -> None:
        self.weight = positive_float(self, "weight", weight)

    def __call__(
        self, latents: tf.Tensor, x: tf.Tensor, encode: Callable[[tf.Tensor], tf.Tensor]
    ) -> tf.Tensor:
        """The value, `[batch]`.

        Args:
            latents: z = encode(x), flattened to `[batch, n]`, in float32.
            x: What the encoder saw, `[batch, ...]`.
            encode: The encoder as a function of x, in float32.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must return one value per example in `__call__`."
        )


@keras.saving.register_keras_serializable("keras_gen")
class LatentL1(LatentRegularizer):
    """weight ‖z‖₁: few active latents, the sparse autoencoder (Ng 2011, CS294A lecture notes, with the L1 norm as the sparsity).

    Example:

    >>> LatentL1(0.5)(tf.constant([[3.0, -4.0]]), x=None, encode=None).numpy()
    array([3.5], dtype=float32)
    """

    def __call__(
        self, latents: tf.Tensor, x: tf.Tensor, encode: Callable[[tf.Tensor], tf.Tensor]
    ) -> tf.Tensor:
        """Weight Σ_j |z_j|."""
        return self.weight * tf.reduce_sum(tf.abs(latents), axis=1)


@keras.saving.register_keras_serializable("keras_gen")
class LatentL2(LatentRegularizer):
    """½ weight ‖z‖²: latents near 0, the RAE (Ghosh et al. 2020, arXiv:1903.12436, equation 5).

    Example:

    >>> LatentL2(0.5)(tf.constant([[3.0, -4.0]]), x=None, encode=None).numpy()
    array([6.25], dtype=float32)
    """

    def __call__(
        self, latents: tf.Tensor, x: tf.Tensor, encode: Callable[[tf.Tensor], tf.Tensor]
    ) -> tf.Tensor:
        """½ weight Σ_j z_j²."""
        return self.weight / 2 * tf.reduce_sum(latents**2, axis=1)


@keras.saving.register_keras_serializable("keras_gen")
class Contractive(LatentRegularizer):
    """weight ‖∂z/∂x‖²_F: latents that feel little of small changes of x (Rifai et al. 2011, ICML, equation 2).

    The Jacobian is exact, one backward pass through the encoder for each latent. Examples must not mix in the encoder: with batch
    normalization it is not what it says.

    Example:

    >>> Contractive(2.0)(tf.zeros((1, 2)), x=tf.ones((1, 2)), encode=lambda x: x @ [[3.0, 0.0], [0.0, 4.0]]).numpy()
    array([50.], dtype=float32)
    """

    def __call__(
        self, latents: tf.Tensor, x: tf.Tensor, encode: Callable[[tf.Tensor], tf.Tensor]
    ) -> tf.Tensor:
        """Weight Σ_ij (∂z_j/∂x_i)²."""
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            latents = encode(x)
            latents = tf.unstack(tf.reshape(latents, (-1, math.prod(latents.shape[1:]))), axis=1)
        rows = [tf.reshape(tape.gradient(latent, x), (tf.shape(x)[0], -1)) for latent in latents]
        return self.weight * tf.add_n([tf.reduce_sum(row**2, axis=1) for row in rows])
