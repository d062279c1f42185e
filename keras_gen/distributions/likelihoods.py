"""Likelihoods p(x | z): the decoder's output tensor ⇄ a distribution over the data, with all its constants."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from typing import Literal

import keras
import tensorflow as tf

from keras_gen._arguments import is_integer, is_real, positive_int
from keras_gen._serialization import Serializable
from keras_gen._typing import Distribution, TensorLike
from keras_gen.distributions.posteriors import positive_scale

LARGEST_LOGIT = -math.log(2**-23)  # a larger one is a probability that float32 takes for 1
NORMAL_SCALE_FLOOR = math.exp(
    -6
)  # as in the σ-VAE (arXiv:2006.13202): below it, constant pixels would take any likelihood


class Likelihood(Serializable):
    """A family of distributions over the data, indexed by the tensor that a decoder puts out.

    Args:
        event_shape: Shape of one example, for instance `(28, 28, 1)`.
    """

    support: tuple[float, float] = (-math.inf, math.inf)
    """Smallest and largest value that data may take."""
    levels: int | None = None
    """How many values, evenly over the support, an element of the data can have; None for a continuum."""
    logits = False
    """Whether the parameters are logits, so that a decoder that ends in a sigmoid is a mistake."""
    variables: Sequence[keras.Variable] = ()
    """Keras variables that the family owns, which a VAE trains and saves with its own."""

    def __init__(self, event_shape: Sequence[int]) -> None:
        event_shape = tuple(event_shape)
        if not event_shape or not all(is_integer(size) and size > 0 for size in event_shape):
            raise ValueError(
                f"`event_shape` of {type(self).__name__} is the shape of one example in positive ints, such as (28, 28, 1). "
                f"Received: event_shape={event_shape!r}"
            )
        self.event_shape = tuple(map(int, event_shape))

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of the decoder's output for one example."""
        return self.event_shape

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Turn `[..., *parameter_shape]` into a `tfd.Distribution` with event shape `event_shape`."""
        raise NotImplementedError(
            f"{type(self).__name__} must turn parameters into a distribution in `__call__`."
        )

    def fitted(self, parameters: TensorLike, x: tf.Tensor) -> Distribution:
        """The same distribution in a training step on `x`, where a family may fit what all its members share to the batch."""
        return self(parameters)


@keras.saving.register_keras_serializable("keras_gen")
class Bernoulli(Likelihood):
    """Independent Bernoulli pixels; the parameters are logits, the data lie in [0, 1].

    −log p(x | z) is the cross-entropy −Σ_d [x_d log x̂_d + (1 − x_d) log(1 − x̂_d)] in nats (MATH 1 and 2). On grey values it
    is a loss, not a likelihood of anything: binarize the data to report log-likelihoods.

    Args:
        event_shape: Shape of one example.

    Example:

    >>> likelihood = Bernoulli((28, 28, 1))
    >>> round(float(likelihood(tf.zeros((28, 28, 1))).log_prob(tf.ones((28, 28, 1)))), 2)   # 784 log(1/2)
    -543.43
    """

    support = (0.0, 1.0)
    levels = 2
    logits = True

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Turn logits `[..., *event_shape]` into independent Bernoulli pixels."""
        from tensorflow_probability import distributions as tfd

        pixels = tfd.Bernoulli(logits=tf.cast(parameters, tf.float32), dtype=tf.float32)
        return _bernoulli_pixels()(pixels, len(self.event_shape))


@functools.cache
def _bernoulli_pixels():
    """Independent Bernoulli pixels whose log p(x) takes a fifth of the time of TFP's: Σ_d [(x_d − ½) l_d − log 2 cosh(l_d / 2)]."""
    from tensorflow_probability import distributions as tfd

    class BernoulliPixels(tfd.Independent):
        def _log_prob(self, x):
            return _pixels_log_prob(
                *(
                    _flat(each, self.event_shape)
                    for each in (tf.cast(x, tf.float32), self.distribution.logits)
                )
            )

    return BernoulliPixels


def _flat(values, event_shape):
    """`[..., *event_shape]` as `[..., number of elements]`."""
    leading = tf.shape(values)[: -event_shape.rank]
    return tf.reshape(values, tf.concat([leading, [event_shape.num_elements()]], axis=0))


@tf.custom_gradient
def _pixels_log_prob(x, logits):
    """Σ_d [(x_d − ½) l_d − log 2 cosh(l_d / 2)] over the last axis, and its gradients l and x − σ(l).

    log 2 cosh(l / 2) = ½ |l| − log σ(|l|), and σ(|l|) ≥ ½, so that products of 100 are in range and need one logarithm.
    """
    if (
        logits.shape.rank > 1 and x.shape.num_elements() == x.shape[-1]
    ):  # one example, many draws: a matrix product
        linear = tf.linalg.matvec(logits, tf.reshape(x, [-1]) - 0.5)
    else:
        linear = tf.reduce_sum((x - 0.5) * logits, axis=-1)
    absolute, size = tf.abs(logits), logits.shape[-1]
    factors = max(divisor for divisor in range(1, 101) if size % divisor == 0)
    factored = tf.reshape(
        tf.sigmoid(absolute), tf.concat([tf.shape(logits)[:-1], [size // factors, factors]], 0)
    )
    logarithms = tf.math.log(tf.reduce_prod(factored, axis=-1))
    value = linear - 0.5 * tf.reduce_sum(absolute, axis=-1) + tf.reduce_sum(logarithms, axis=-1)

    def gradients(gradient):
        of_each = gradient[..., None]
        return _summed_to(x, of_each * logits), _summed_to(
            logits, of_each * (x - tf.sigmoid(logits))
        )

    return value, gradients


def _summed_to(values, gradient):
    """The gradient summed over the axes along which `values` were repeated."""
    if values.shape.is_fully_defined() and values.shape == gradient.shape:
        return gradient
    axes, _ = tf.raw_ops.BroadcastGradientArgs(s0=tf.shape(values), s1=tf.shape(gradient))
    return tf.reshape(tf.reduce_sum(gradient, axes), tf.shape(values))


@keras.saving.register_keras_serializable("keras_gen")
class ContinuousBernoulli(Likelihood):
    """Independent continuous Bernoulli pixels in [0, 1]: the cross-entropy with the constant that makes it a density.

    (Loaiza-Ganem & Cunningham 2019, arXiv:1907.06845.) The parameters are logits; log p(x | z) is in nats. Pixels of exactly 0
    or 1 would drive the density to infinity, so the logits are bent to stay within ±15.9, probabilities of a Bernoulli that
    float32 tells from 0 and 1, and means between 0.06 and 0.94.

    Args:
        event_shape: Shape of one example.

    Example: with logits of 0 it is uniform.

    >>> float(ContinuousBernoulli((2,))(tf.zeros((2,))).log_prob([0.3, 0.9]))
    0.0
    """

    support = (0.0, 1.0)
    logits = True

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Turn logits `[..., *event_shape]` into independent continuous Bernoulli pixels."""
        from tensorflow_probability import distributions as tfd

        logits = LARGEST_LOGIT * tf.tanh(tf.cast(parameters, tf.float32) / LARGEST_LOGIT)
        return tfd.Independent(tfd.ContinuousBernoulli(logits=logits), len(self.event_shape))


@keras.saving.register_keras_serializable("keras_gen")
class Normal(Likelihood):
    """Independent normal pixels N(x̂, σ²); the parameters are x̂, and the raw σ if each pixel has its own.

    −log p(x | z) = ½‖x − x̂‖²/σ² + D log σ + ½ D log 2π in nats, with the constants that a likelihood must keep (MATH 2).

    Args:
        event_shape: Shape of one example.
        scale: σ in the units of the data: a positive number; `"shared"`, one for all pixels, learned with the model; `"optimal"`,
            the same in closed form, σ² = MSE of the batch in training and its running mean otherwise (Rybkin et al. 2021,
            arXiv:2006.13202), to be preferred; or `"per_element"`, the notes' σ²(z), from the decoder, whose last axis is then
            twice as long. The last has the best likelihoods and the worst samples, and warns of it.

    Example:

    >>> likelihood = Normal((2,), scale=0.5)
    >>> round(float(likelihood(tf.zeros((2,))).log_prob([0.0, 0.0])), 4)    # -2 log 0.5 - log 2π
    -0.4516
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        scale: float | Literal["shared", "optimal", "per_element"] = 1.0,
    ) -> None:
        super().__init__(event_shape)
        if not (is_real(scale) and 0 < scale < math.inf) and scale not in (
            "shared",
            "optimal",
            "per_element",
        ):
            raise ValueError(
                "`scale` of Normal is σ, a positive finite number, or 'shared', 'optimal' or 'per_element'. "
                f"Received: scale={scale!r}"
            )
        self.scale = float(scale) if is_real(scale) else scale
        if scale == "shared":
            self.raw_scale = keras.Variable(0.0, name="raw_scale", autocast=False)
            self.variables = (self.raw_scale,)
        if scale == "optimal":
            self.variance = keras.Variable(
                1.0, trainable=False, name="variance", autocast=False, aggregation="mean"
            )
            self.variables = (self.variance,)
        if scale == "per_element":
            warnings.warn(
                "A scale for each element has the best likelihoods and the worst samples (on MNIST a bound of -2895 against -896 "
                "nats but an FID of 132 against 32, arXiv:2006.13202, table 3). For samples take scale='optimal'.",
                stacklevel=2,
            )

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """The shape of an example; its last axis twice as long with a scale for each element."""
        if self.scale == "per_element":
            return (*self.event_shape[:-1], 2 * self.event_shape[-1])
        return self.event_shape

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Turn `[..., *parameter_shape]` into independent normal pixels."""
        parameters = tf.cast(parameters, tf.float32)
        if self.scale == "per_element":
            mean, raw_scale = tf.split(parameters, 2, axis=-1)
            return self._pixels(mean, positive_scale(raw_scale, NORMAL_SCALE_FLOOR))
        if self.scale == "shared":
            return self._pixels(
                parameters, positive_scale(tf.convert_to_tensor(self.raw_scale), NORMAL_SCALE_FLOOR)
            )
        if self.scale == "optimal":
            return self._pixels(parameters, tf.sqrt(tf.convert_to_tensor(self.variance)))
        return self._pixels(parameters, self.scale)

    def fitted(self, parameters: TensorLike, x: tf.Tensor) -> Distribution:
        """With the optimal scale, σ² = MSE of this batch, through which no gradient need flow since σ is at its optimum."""
        if self.scale != "optimal":
            return self(parameters)
        mean = tf.cast(parameters, tf.float32)
        variance = tf.maximum(
            tf.stop_gradient(tf.reduce_mean((x - mean) ** 2)), NORMAL_SCALE_FLOOR**2
        )
        self.variance.assign(0.9 * self.variance + 0.1 * variance)
        return self._pixels(mean, tf.sqrt(variance))

    def _pixels(self, mean, scale):
        from tensorflow_probability import distributions as tfd

        return tfd.Independent(tfd.Normal(mean, scale), len(self.event_shape))


@keras.saving.register_keras_serializable("keras_gen")
class Categorical(Likelihood):
    """Each pixel one of `num_levels` grey values, with a probability for each: a likelihood of raw pixels, for bits per dimension.

    The parameters are logits, `num_levels` for each element, side by side on the last axis. Data are levels divided by
    `num_levels − 1`, so that 8-bit pixels divided by 255 are right as they are; anything between two levels has probability 0.

    Args:
        event_shape: Shape of one example.
        num_levels: Number of grey values, 256 for 8-bit pixels.

    Example:

    >>> likelihood = Categorical((2,), num_levels=256)
    >>> likelihood.parameter_shape, round(float(likelihood(tf.zeros(512)).log_prob([0.0, 1.0])), 2)   # 2 log 1/256
    ((512,), -11.09)
    """

    support = (0.0, 1.0)
    logits = True

    def __init__(self, event_shape: Sequence[int], num_levels: int = 256) -> None:
        super().__init__(event_shape)
        self.num_levels = self.levels = positive_int(self, "num_levels", num_levels, at_least=2)

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """The shape of an example, its last axis `num_levels` times as long."""
        return (*self.event_shape[:-1], self.event_shape[-1] * self.num_levels)

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Turn logits `[..., *parameter_shape]` into independent pixels on the levels."""
        from tensorflow_probability import distributions as tfd

        levels = tf.linspace(0.0, 1.0, self.num_levels)
        leading = tf.shape(parameters)[: -len(self.event_shape)]
        logits = tf.reshape(
            tf.cast(parameters, tf.float32),
            tf.concat([leading, [*self.event_shape, self.num_levels]], 0),
        )
        pixels = tfd.FiniteDiscrete(levels, logits=logits, atol=0.1 / self.num_levels)
        return tfd.Independent(pixels, len(self.event_shape))
