"""Posterior families q(z | x): the encoder's output tensor ⇄ a distribution over the latents."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._serialization import Serializable
from keras_gen._typing import Distribution, TensorLike

SCALE_FLOOR = 1e-4
LONGEST_ROW = 10.0
_SOFTPLUS_OF_THIS_IS_ONE = math.log(math.e - 1)


def positive_scale(raw: tf.Tensor, floor: float = SCALE_FLOOR) -> tf.Tensor:
    """A scale from an unbounded tensor: never below `floor`, never infinite, and 1 where `raw` is 0."""
    return floor + (1 - floor) * tf.math.softplus(raw + _SOFTPLUS_OF_THIS_IS_ONE)


class Posterior(Serializable):
    """A family of distributions over the latents, indexed by the tensor that an encoder puts out.

    A subclass says how large that tensor is (`parameter_size`) and turns it into a distribution (`__call__`).

    Args:
        event_size: Number of latent dimensions, n of the notes.
    """

    variables: Sequence[keras.Variable] = ()
    """Keras variables that the family owns, which a VAE trains and saves with its own."""

    def __init__(self, event_size: int) -> None:
        self.event_size = positive_int(self, "event_size", event_size)

    @property
    def parameter_size(self) -> int:
        """Number of encoder outputs that index one distribution of the family."""
        raise NotImplementedError(
            f"{type(self).__name__} must say its `parameter_size`, the size of the encoder's output."
        )

    def point(self, distribution: Distribution) -> tf.Tensor:
        """The latents that stand for a whole posterior where one value is wanted, as in a reconstruction: its mean."""
        return distribution.mean()

    def summary(self, distribution: Distribution) -> dict[str, tf.Tensor]:
        """The tensors that describe a posterior outside Python, by name: what the `encode` signature puts out."""
        return {"mean": distribution.mean(), "scale": distribution.stddev()}

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Turn `[..., parameter_size]` into a `tfd.Distribution` with event shape `[event_size]`."""
        raise NotImplementedError(
            f"{type(self).__name__} must turn parameters into a distribution in `__call__`."
        )


@keras.saving.register_keras_serializable("keras_gen")
class DiagonalNormal(Posterior):
    """q(z | x) = N(μ(x), diag σ²(x)), independent latents (MATH 2; Kingma & Welling 2014, arXiv:1312.6114).

    The first half of the parameters is μ; the second, through a softplus with a floor, is σ. Parameters of 0 give N(0, I).

    Args:
        event_size: Number of latent dimensions.

    Example:

    >>> posterior = DiagonalNormal(event_size=2)
    >>> posterior.parameter_size
    4
    >>> posterior(tf.zeros((1, 4))).stddev().numpy().tolist()
    [[1.0, 1.0]]
    """

    @property
    def parameter_size(self) -> int:
        """Twice the number of latents: μ, then the raw σ."""
        return 2 * self.event_size

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Turn `[..., 2 * event_size]` into N(μ, diag σ²) over `[event_size]`."""
        from tensorflow_probability import distributions as tfd

        mean, raw_scale = tf.split(tf.cast(parameters, tf.float32), 2, axis=-1)
        return tfd.Independent(tfd.Normal(mean, positive_scale(raw_scale)), 1)


@keras.saving.register_keras_serializable("keras_gen")
class FullCovarianceNormal(Posterior):
    """q(z | x) = N(μ(x), L(x)L(x)ᵀ), latents that may depend on one another (MATH 3, the notes' open question).

    L = diag(σ)(I + V), V strictly lower triangular. The parameters are μ and the raw σ, as for `DiagonalNormal`, then the raw V:
    a diagonal encoder with n(n − 1)/2 outputs of 0 more is the same posterior. Each row of V is kept shorter than 10, so that
    no latent is determined by those before it (multiple correlation below 0.995) and log-probabilities stay finite.

    Args:
        event_size: Number of latent dimensions, n.

    Example:

    >>> posterior = FullCovarianceNormal(event_size=2)
    >>> posterior.parameter_size
    5
    >>> posterior(tf.constant([[0.0, 0.0, 0.0, 0.0, 1.0]])).covariance()[0, 0].numpy().round(3)
    array([1.   , 0.995], dtype=float32)
    """

    @property
    def parameter_size(self) -> int:
        """μ, the raw σ, and the n(n − 1)/2 entries below the diagonal."""
        return 2 * self.event_size + self.event_size * (self.event_size - 1) // 2

    def point(self, distribution: Distribution) -> tf.Tensor:
        """The mean, as it came from the encoder: `mean()` would broadcast it, for which ONNX has no operator."""
        return distribution.loc

    def summary(self, distribution: Distribution) -> dict[str, tf.Tensor]:
        """The mean and L."""
        return {"mean": distribution.loc, "scale_tril": distribution.scale.to_dense()}

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Turn `[..., parameter_size]` into N(μ, LLᵀ) over `[event_size]`."""
        import tensorflow_probability as tfp

        n = self.event_size
        mean, raw_scale, raw_below = tf.split(tf.cast(parameters, tf.float32), [n, n, -1], axis=-1)
        scale_tril = tf.eye(n)
        if n > 1:
            below = tfp.math.fill_triangular(raw_below)
            below *= LONGEST_ROW * tf.math.rsqrt(
                LONGEST_ROW**2 + tf.reduce_sum(below**2, axis=-1, keepdims=True)
            )
            scale_tril += tf.pad(below, [[0, 0]] * (below.shape.rank - 2) + [[1, 0], [0, 1]])
        return tfp.distributions.MultivariateNormalTriL(
            mean, positive_scale(raw_scale)[..., None] * scale_tril
        )


@keras.saving.register_keras_serializable("keras_gen")
class InverseAutoregressiveNormal(Posterior):
    """A normal sent through inverse autoregressive flows (Kingma et al. 2016, arXiv:1606.04934); its KL can only be sampled.

    ε ~ N(μ(x), diag σ²(x)), then `num_flows` times z_i ← (z_i − m_i) exp(−s_i), where m_i and s_i come from z_1 … z_{i−1}
    and the context h(x) through a masked network of one hidden layer, and the order of the latents is turned round. The
    outputs of these networks begin at 0, the flows as the identity. The parameters are μ, the raw σ and h. Sampling is
    parallel; the density of a z that was not drawn from the very object takes `event_size` steps.

    Args:
        event_size: Number of latent dimensions.
        num_flows: Number of flows.
        hidden_size: Units of the hidden layer of each flow.
        context_size: Size of h(x), further outputs of the encoder.

    Example:

    >>> posterior = InverseAutoregressiveNormal(event_size=3, context_size=4)
    >>> posterior.parameter_size
    10
    >>> posterior(tf.zeros((5, 10))).sample(seed=(1, 2)).shape.as_list()
    [5, 3]
    """

    def __init__(
        self, event_size: int, num_flows: int = 2, hidden_size: int = 64, context_size: int = 16
    ) -> None:
        super().__init__(event_size)
        self.num_flows = positive_int(self, "num_flows", num_flows)
        self.hidden_size = positive_int(self, "hidden_size", hidden_size)
        self.context_size = positive_int(self, "context_size", context_size)
        n, glorot = event_size, keras.initializers.GlorotUniform()

        def weights_of_a_flow():
            return {
                "inputs": keras.Variable(glorot((n, hidden_size)), name="inputs"),
                "context": keras.Variable(glorot((context_size, hidden_size)), name="context"),
                "bias": keras.Variable(
                    keras.random.uniform((hidden_size,), -1.0, 1.0), name="bias"
                ),
                "outputs": keras.Variable(tf.zeros((hidden_size, 2 * n)), name="outputs"),
            }

        self._flows = [weights_of_a_flow() for _ in range(num_flows)]
        self.variables = [variable for flow in self._flows for variable in flow.values()]
        degrees = tf.range(1, n + 1)
        hidden_degrees = tf.range(hidden_size) % max(n - 1, 1) + min(1, n - 1)
        self._input_mask = tf.cast(degrees[:, None] <= hidden_degrees, tf.float32)
        self._output_mask = tf.cast(hidden_degrees[:, None] < tf.tile(degrees, [2]), tf.float32)

    @property
    def parameter_size(self) -> int:
        """μ, the raw σ and the context h."""
        return 2 * self.event_size + self.context_size

    def point(self, distribution: Distribution) -> tf.Tensor:
        """Where the flows send μ."""
        return distribution.bijector.forward(distribution.distribution.mean())

    def summary(self, distribution: Distribution) -> dict[str, tf.Tensor]:
        """Where the flows send μ; a flow's own mean and scale have no closed form."""
        return {"latents": self.point(distribution)}

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Turn `[..., parameter_size]` into a distribution over `[event_size]`."""
        from tensorflow_probability import bijectors as tfb
        from tensorflow_probability import distributions as tfd

        n = self.event_size
        mean, raw_scale, context = tf.split(
            tf.cast(parameters, tf.float32), [n, n, self.context_size], axis=-1
        )

        def flow(weights):
            from_context = context @ tf.convert_to_tensor(weights["context"]) + weights["bias"]

            def shift_and_log_scale(z):
                hidden = tf.tanh(z @ (weights["inputs"] * self._input_mask) + from_context)
                shift, log_scale = tf.split(
                    hidden @ (weights["outputs"] * self._output_mask), 2, axis=-1
                )
                return shift, 3 * tf.tanh(log_scale / 3)

            return tfb.Invert(tfb.MaskedAutoregressiveFlow(shift_and_log_scale))

        turn_round = tfb.Permute(list(range(n))[::-1])
        steps = [step for weights in self._flows for step in (flow(weights), turn_round)]
        return tfd.TransformedDistribution(
            tfd.Independent(tfd.Normal(mean, positive_scale(raw_scale)), 1), tfb.Chain(steps[::-1])
        )
