"""Regularizers of the latents z, which the encoder of an autoencoder outputs.

Pass regularizers to an autoencoder with `compile(regularizers=[...])`. Each regularizer adds a term
to the loss. To regularize the weights of a network instead, pass Keras regularizers to the layers
of the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

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

    uses_seed = False
    """Whether `__call__` has an additional argument `seed`, int32 `[2]`. It is a seed for the
    stateless random functions of TensorFlow, and differs between steps and between replicas."""

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
        The Jacobian is the diagonal matrix `kernel`, and the term is 2 · (3² + 4²) = 50.

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


_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # as in the code of the authors of the WAE


@keras.saving.register_keras_serializable("keras_gen")
class LatentMMD(LatentRegularizer):
    """Add `weight` MMD²(q(z), p(z)) to the loss, for a Wasserstein autoencoder (WAE-MMD).

    The term compares the distribution q(z) of the latents of all data with a prior p(z). MMD is the
    maximum mean discrepancy. MMD² is 0 if both distributions are equal, and positive otherwise
    (Tolstikhin et al. 2018, arXiv:1711.01558, algorithm 2). For the latents z_1 … z_m of a batch
    and samples z̃_1 … z̃_m of the prior, the unbiased estimate is

    1/(m(m − 1)) Σ_{i≠j} [k(z_i, z_j) + k(z̃_i, z̃_j)] − 2/m² Σ_ij k(z_i, z̃_j).

    An estimate can be negative. The kernel k(a, b) is a sum over the scales s = 0.1, 0.2, 0.5, 1,
    2, 5 and 10. Let r = ‖a − b‖² / (2n), where n is the size of a latent vector. The terms of the
    sum are s / (s + r) for the inverse multiquadric kernel (`"imq"`), and exp(−r / s) for the
    Gaussian kernel (`"rbf"`).

    For an autoencoder, pass the regularizer to `compile(regularizers=...)`. The regularizer then
    compares the latents with samples of p(z) = N(0, I). Therefore also pass
    `prior=distributions.StandardNormal(n)` to the constructor of the autoencoder.

    For a VAE, pass the regularizer to `objectives.ELBO(mmd=...)`. The objective compares samples of
    q(z | x) with samples of the VAE's prior. This is an InfoVAE (Zhao et al. 2019,
    arXiv:1706.02262).

    The estimate needs batches of at least 2 examples, and has less noise for larger batches. For a
    batch of one example, the term is 0. With several replicas, each replica computes the estimate
    from its part of the batch.

    Args:
        weight: Positive number by which MMD² is multiplied.
        kernel: `"imq"` or `"rbf"`. Default: `"imq"`.

    Example:
        The latents and the prior have different means. Therefore the value is clearly positive.

        >>> z = tf.random.stateless_normal((100, 2), seed=(1, 2))
        >>> prior_samples = tf.random.stateless_normal((100, 2), seed=(3, 4))
        >>> shifted = z + 1.0
        >>> mmd = LatentMMD(1.0)
        >>> bool(tf.reduce_mean(mmd.between(shifted, prior_samples)) > 0.5)
        True
    """

    uses_seed = True

    def __init__(self, weight: float, kernel: Literal["imq", "rbf"] = "imq") -> None:
        super().__init__(weight)
        if kernel not in ("imq", "rbf"):
            raise ValueError(
                f"`kernel` of LatentMMD must be 'imq' or 'rbf'. Received: kernel={kernel!r}"
            )
        self.kernel = kernel

    def __call__(  # type: ignore[override]  # `uses_seed` announces the argument
        self,
        latents: tf.Tensor,
        x: tf.Tensor,
        encode: Callable[[tf.Tensor], tf.Tensor],
        seed: tf.Tensor,
    ) -> tf.Tensor:
        """Estimate MMD² between the latents and samples of N(0, I), multiplied by `weight`.

        The method returns one value per example, `[batch]`. The mean of these values is the
        estimate.
        """
        return self.between(latents, tf.random.stateless_normal(tf.shape(latents), seed))

    def between(self, latents: tf.Tensor, prior_samples: tf.Tensor) -> tf.Tensor:
        """Return one value per example, `[batch]`. The mean over the batch estimates weight · MMD².

        MMD is the maximum mean discrepancy between the latents and the samples of the prior.

        Args:
            latents: Latents of the batch, `[batch, n]`.
            prior_samples: Samples of the prior, one per example of the batch, `[batch, n]`.
        """
        number = tf.cast(tf.shape(latents)[0], tf.float32)

        def to_others(z: tf.Tensor) -> tf.Tensor:
            of_other = 1.0 - tf.eye(tf.shape(z)[0])
            total = tf.reduce_sum(self._kernel(z, z) * of_other, axis=1)
            return tf.math.divide_no_nan(total, number - 1)

        across = tf.reduce_mean(self._kernel(latents, prior_samples), axis=1)
        values = to_others(latents) + to_others(prior_samples) - 2 * across
        return self.weight * tf.where(number > 1, values, 0.0)

    def _kernel(self, a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """Return k(a_i, b_j) for all pairs of rows, `[batch, batch]`."""
        squares = tf.reduce_sum(a**2, axis=1)[:, None] + tf.reduce_sum(b**2, axis=1)
        distance = tf.maximum(squares - 2 * tf.matmul(a, b, transpose_b=True), 0.0)
        ratio = distance / (2 * a.shape[1])
        if self.kernel == "imq":
            return tf.add_n([scale / (scale + ratio) for scale in _SCALES])
        return tf.add_n([tf.exp(-ratio / scale) for scale in _SCALES])
