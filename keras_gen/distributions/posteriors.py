"""Posterior distributions q(z | x), made from the tensor that an encoder outputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._serialization import SerializableLayer
from keras_gen._typing import Distribution, TensorLike

SMALLEST_SCALE = 1e-4
LARGEST_ROW_NORM = 10.0
_INVERSE_SOFTPLUS_OF_ONE = math.log(math.e - 1)


def positive_scale(raw: tf.Tensor, smallest: float = SMALLEST_SCALE) -> tf.Tensor:
    """Map unbounded numbers to scales (standard deviations) with a shifted softplus.

    Args:
        raw: Unbounded numbers, such as the output of an encoder. The number 0 gives the scale 1.
        smallest: Lower bound of the scales. Default: 0.0001.
    """
    return smallest + (1 - smallest) * tf.math.softplus(raw + _INVERSE_SOFTPLUS_OF_ONE)


class Posterior(SerializableLayer):
    """Base class of the posteriors q(z | x), the distributions over the latents given the data.

    A subclass defines `parameter_size`, the size of the encoder's output. The subclass also
    implements `__call__`, which turns the encoder's output into a `tfd.Distribution`.

    A posterior is a Keras layer, so it can have weights. Make each weight in the constructor, with
    `add_weight(..., autocast=False)` or with sublayers. A VAE trains and saves the weights. Do not
    call a posterior on a symbolic `keras.Input`, because the result is a distribution and not a
    tensor.

    Args:
        event_size: Number of latent dimensions.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.
    """

    def __init__(self, event_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.event_size = positive_int(self, "event_size", event_size)

    @property
    def parameter_size(self) -> int:
        """Size of the encoder's output for one example."""
        raise NotImplementedError(
            f"{type(self).__name__} must define `parameter_size`, the size of the encoder's output."
        )

    def point(self, distribution: Distribution) -> tf.Tensor:
        """Return the latent vector that `VAE.reconstruct` decodes for each example.

        By default, the vector is the mean of the posterior of the example.

        Args:
            distribution: The posteriors of a batch of examples, from `__call__`.

        Returns:
            Latents `[batch, event_size]`.
        """
        return distribution.mean()

    def summary(self, distribution: Distribution) -> dict[str, tf.Tensor]:
        """Return the outputs of the function `encode` of an exported model, as a dictionary.

        By default, the dictionary contains the mean and the standard deviation of the posterior of
        each example. Their keys are `mean` and `scale`. Both have the shape `[batch, event_size]`.
        """
        return {"mean": distribution.mean(), "scale": distribution.stddev()}

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Make the distribution q(z | x) from the output of the encoder.

        Args:
            parameters: The encoder's output, `[..., parameter_size]`.

        Returns:
            A `tfd.Distribution` with the event shape `[event_size]`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define `__call__`, which turns parameters into a "
            "distribution."
        )


@keras.saving.register_keras_serializable("keras_gen")
class DiagonalNormal(Posterior):
    """Posterior q(z | x) = N(μ(x), diag σ²(x)) with independent latents.

    The source is Kingma & Welling 2014, arXiv:1312.6114. The first half of the encoder's output is
    the mean μ. The second half consists of unbounded numbers. A softplus converts them to standard
    deviations σ ≥ 0.0001. If the encoder's output is 0, the posterior is N(0, I).

    Args:
        event_size: Number of latent dimensions.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Example:

    >>> posterior = DiagonalNormal(event_size=2)
    >>> posterior.parameter_size
    4
    >>> posterior(tf.zeros((1, 4))).stddev().numpy().tolist()
    [[1.0, 1.0]]
    """

    @property
    def parameter_size(self) -> int:
        """Size of the encoder's output for one example, 2n for n latents: n means and n scales."""
        return 2 * self.event_size

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Make N(μ, diag σ²) from the output of the encoder, `[..., parameter_size]`."""
        from tensorflow_probability import distributions as tfd

        mean, raw_scale = tf.split(tf.cast(parameters, tf.float32), 2, axis=-1)
        return tfd.Independent(tfd.Normal(mean, positive_scale(raw_scale)), 1)


@keras.saving.register_keras_serializable("keras_gen")
class FullCovarianceNormal(Posterior):
    """Posterior q(z | x) = N(μ(x), L(x)L(x)ᵀ) with latents that may be correlated.

    Compare this posterior with `DiagonalNormal` to find out whether independent latents are an
    adequate assumption. The function `evaluation.audit_independence` makes this comparison.

    L = diag(σ)(I + V), where V is strictly lower triangular. The encoder outputs three parts:

    - n numbers, the mean μ,
    - n numbers, which a shifted softplus converts to σ (0 becomes 1),
    - n(n − 1)/2 numbers, the raw entries of V.

    A row r of raw entries is scaled to the row 10 r / √(100 + ‖r‖²) of V. The norm of this row is
    less than 10. This limit keeps log-probabilities finite. It also limits correlations: the
    correlation of a latent with its best linear prediction from the earlier latents is below 0.996.
    If all raw entries are 0, the posterior is N(μ, diag σ²), as for `DiagonalNormal`.

    Args:
        event_size: Number of latent dimensions, n.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Example: σ is (1, 1), and the raw entry is 1. The latents then have the covariance 10 / √101.

    >>> posterior = FullCovarianceNormal(event_size=2)
    >>> posterior.parameter_size
    5
    >>> posterior(tf.constant([[0.0, 0.0, 0.0, 0.0, 1.0]])).covariance()[0, 0].numpy().round(3)
    array([1.   , 0.995], dtype=float32)
    """

    @property
    def parameter_size(self) -> int:
        """Size of the encoder's output for one example, 2n + n(n − 1)/2 for n latents.

        n numbers are for the means, n for the scales and n(n − 1)/2 for the covariances.
        """
        return 2 * self.event_size + self.event_size * (self.event_size - 1) // 2

    def point(self, distribution: Distribution) -> tf.Tensor:
        """Return the mean μ, `[batch, event_size]`."""
        # TFP's `mean()` broadcasts μ, and that operation cannot be exported to the ONNX format.
        return distribution.loc

    def summary(self, distribution: Distribution) -> dict[str, tf.Tensor]:
        """Return the mean μ as `mean` and the matrix L as `scale_tril`."""
        return {"mean": distribution.loc, "scale_tril": distribution.scale.to_dense()}

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Make N(μ, LLᵀ) from the output of the encoder, `[..., parameter_size]`."""
        import tensorflow_probability as tfp

        n = self.event_size
        mean, raw_scale, raw_below = tf.split(tf.cast(parameters, tf.float32), [n, n, -1], axis=-1)
        scale_tril = tf.eye(n)
        if n > 1:
            below = tfp.math.fill_triangular(raw_below)  # rows 2 to n of V, without column n
            squared_norm = tf.reduce_sum(below**2, axis=-1, keepdims=True)
            below *= LARGEST_ROW_NORM * tf.math.rsqrt(LARGEST_ROW_NORM**2 + squared_norm)
            scale_tril += tf.pad(below, [[0, 0]] * (below.shape.rank - 2) + [[1, 0], [0, 1]])
        scale_tril *= positive_scale(raw_scale)[..., None]
        return tfp.distributions.MultivariateNormalTriL(mean, scale_tril)


@keras.saving.register_keras_serializable("keras_gen")
class InverseAutoregressiveNormal(Posterior):
    """Posterior q(z | x), a Gaussian that is transformed by inverse autoregressive flows.

    The source is Kingma et al. 2016, arXiv:1606.04934. To sample z, the posterior samples a vector
    from N(μ(x), diag σ²(x)), and applies `num_flows` flows to the vector. Each flow replaces each
    element z_i by (z_i − m_i) exp(−s_i), and then reverses the order of the elements. A masked
    network with one hidden layer computes the shift m_i and the log-scale s_i. They depend on z_1 …
    z_{i−1}, and on a context vector h(x). Before training, m_i and s_i are 0.

    The encoder outputs three parts: the mean μ, numbers that a softplus converts to σ, and h(x).

    The KL divergence of this posterior from a prior has no closed form. It is estimated from
    samples. Sampling is quick, because it computes all latents in parallel. `log_prob` is quick for
    samples that the same distribution object has returned, because the object has cached the
    inverse of the flows for these samples. For any other z, `log_prob` takes `event_size`
    sequential steps per flow.

    Args:
        event_size: Number of latent dimensions.
        num_flows: Number of flows. Default: 2.
        hidden_size: Number of units in the hidden layer of each flow. Default: 64.
        context_size: Number of encoder outputs for the context h(x). Default: 16.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Example:

    >>> posterior = InverseAutoregressiveNormal(event_size=3, context_size=4)
    >>> posterior.parameter_size
    10
    >>> posterior(tf.zeros((5, 10))).sample(seed=(1, 2)).shape.as_list()
    [5, 3]
    """

    def __init__(
        self,
        event_size: int,
        num_flows: int = 2,
        hidden_size: int = 64,
        context_size: int = 16,
        **kwargs: Any,
    ) -> None:
        super().__init__(event_size, **kwargs)
        self.num_flows = positive_int(self, "num_flows", num_flows)
        self.hidden_size = positive_int(self, "hidden_size", hidden_size)
        self.context_size = positive_int(self, "context_size", context_size)
        self.networks = [
            AutoregressiveNetwork(event_size, hidden_size, context_size, dtype="float32")
            for _ in range(num_flows)
        ]

    @property
    def parameter_size(self) -> int:
        """Size of the encoder's output for one example: 2 `event_size` + `context_size`."""
        return 2 * self.event_size + self.context_size

    def point(self, distribution: Distribution) -> tf.Tensor:
        """Return the latent vector that `VAE.reconstruct` decodes for each example.

        This posterior transforms samples of a normal distribution by flows, which are invertible
        functions. The method transforms the mean of the normal distribution by the same flows.

        Args:
            distribution: A distribution that this posterior made.

        Returns:
            Latents, `[batch, event_size]`.
        """
        return distribution.bijector.forward(distribution.distribution.mean())

    def summary(self, distribution: Distribution) -> dict[str, tf.Tensor]:
        """Return a dictionary whose only entry is `latents`, the latents that `point` returns.

        The dictionary does not contain the mean and the standard deviation of this posterior,
        because they have no closed form.
        """
        return {"latents": self.point(distribution)}

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Make q(z | x) from the output of the encoder, `[..., parameter_size]`."""
        from tensorflow_probability import bijectors as tfb
        from tensorflow_probability import distributions as tfd

        n = self.event_size
        mean, raw_scale, context = tf.split(
            tf.cast(parameters, tf.float32), [n, n, self.context_size], axis=-1
        )
        steps = []
        for network in self.networks:
            flow = tfb.MaskedAutoregressiveFlow(network.conditioned_on(context))
            steps.append(tfb.Invert(flow))
            steps.append(tfb.Permute(list(range(n))[::-1]))
        base = tfd.Independent(tfd.Normal(mean, positive_scale(raw_scale)), 1)
        in_order_of_composition = steps[::-1]  # a chain applies its last bijector first
        return tfd.TransformedDistribution(base, tfb.Chain(in_order_of_composition))


class AutoregressiveNetwork(keras.layers.Layer):
    """Layer of a normalizing flow. It computes a shift m_i and a log-scale s_i of each latent z_i.

    m_i and s_i depend only on the latents z_1 … z_{i−1} and on a context vector, which is a part of
    the encoder's output. Masks remove the connections from all other latents (Germain et al. 2015,
    arXiv:1502.03509).
    """

    def __init__(self, event_size: int, hidden_size: int, context_size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        hidden_mask, output_mask = autoregressive_masks(event_size, hidden_size)
        self.hidden_layer = MaskedDense(hidden_mask, dtype="float32")
        self.context_layer = keras.layers.Dense(
            hidden_size,
            bias_initializer=keras.initializers.RandomUniform(-1.0, 1.0),
            dtype="float32",
        )
        self.output_layer = MaskedDense(output_mask, kernel_initializer="zeros", dtype="float32")
        self.hidden_layer.build((None, event_size))
        self.context_layer.build((None, context_size))
        self.output_layer.build((None, hidden_size))
        self.built = True

    def conditioned_on(
        self, context: tf.Tensor
    ) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
        """Return a function that computes the shift m_i and the log-scale s_i of each latent z_i.

        The flow replaces z_i by (z_i − m_i) exp(−s_i). The function always uses the same context
        vectors. The computations that use only these vectors are done once, not in each call of the
        function.

        Args:
            context: Context vectors, `[batch, context_size]`. They are a part of the encoder's
                output.

        Returns:
            A function that maps latents `[..., event_size]` to two tensors of the same shape. The
            first tensor contains the shifts, and the second tensor contains the log-scales.
        """
        from_context = self.context_layer(context)

        def shift_and_log_scale(z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return self(z, from_context)

        return shift_and_log_scale

    def call(self, z: tf.Tensor, from_context: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the shift and the log-scale with which the flow transforms each latent.

        Args:
            z: Latents, `[..., event_size]`.
            from_context: The output of the dense layer `context_layer` for the context vectors. The
                context vectors are a part of the encoder's output.

        Returns:
            The shifts and the log-scales, two tensors `[..., event_size]`.
        """
        hidden = tf.tanh(self.hidden_layer(z) + from_context)
        shift, log_scale = tf.split(self.output_layer(hidden), 2, axis=-1)
        return shift, 3 * tf.tanh(log_scale / 3)  # s is bounded, exp(−s) stays finite


def autoregressive_masks(event_size: int, hidden_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the masks that make a network with one hidden layer autoregressive.

    The network outputs two numbers per latent z_i. If the kernels of its layers are multiplied by
    the masks, the two numbers depend only on z_1 … z_{i−1} (Germain et al. 2015, arXiv:1502.03509).

    Args:
        event_size: Number of latents, n.
        hidden_size: Number of units of the hidden layer.

    Returns:
        The mask of the hidden layer, `[n, hidden_size]`, and the mask of the output layer,
        `[hidden_size, 2n]`. Outputs i and n + i of the network are the two numbers of z_i.
    """
    degrees = np.arange(1, event_size + 1)
    hidden_degrees = np.arange(hidden_size) % max(event_size - 1, 1) + min(1, event_size - 1)
    return degrees[:, None] <= hidden_degrees, hidden_degrees[:, None] < np.tile(degrees, 2)


class MaskedDense(keras.layers.Dense):
    """Dense layer without bias, whose kernel is multiplied by a fixed mask `[inputs, units]`."""

    def __init__(self, mask: np.ndarray, **kwargs: Any) -> None:
        super().__init__(mask.shape[1], use_bias=False, **kwargs)
        self.kernel_mask = mask.astype("float32")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Return the product of the inputs and the masked kernel."""
        return inputs @ (self.kernel * self.kernel_mask)
