"""Likelihoods p(x | z), made from the tensor that a decoder outputs, with all their constants."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from keras_gen._arguments import is_integer, is_real, positive_int
from keras_gen._serialization import SerializableLayer
from keras_gen._typing import Distribution, TensorLike
from keras_gen.distributions._bernoulli import bernoulli_log_prob
from keras_gen.distributions.posteriors import positive_scale

LARGEST_LOGIT = -math.log(2**-23)
"""Largest logit whose probability float32 can tell from 1."""

SMALLEST_NORMAL_SCALE = math.exp(-6)
"""Smallest σ of `Normal`, as in the σ-VAE (Rybkin et al. 2021, arXiv:2006.13202).

With a smaller one, the likelihood of constant pixels would grow without bound.
"""


class Likelihood(SerializableLayer):
    """Base of the likelihoods, the distributions over the data given the latents.

    A likelihood turns the tensor that a decoder outputs into a `tfd.Distribution`, in `__call__`.

    It is a Keras layer. So it can have weights, made with `add_weight(..., autocast=False)` in its
    constructor, and a VAE trains and saves them. Calling it returns a distribution, which is not a
    tensor: call it in a training step, not on a symbolic `keras.Input`.

    Args:
        event_shape: Shape of one example, for instance `(28, 28, 1)`.
        **kwargs: `name`, `dtype` and `trainable` of the Keras layer.
    """

    support: tuple[float, float] = (-math.inf, math.inf)
    """Smallest and largest value that data may have."""
    levels: int | None = None
    """Number of values that an element of the data can have, evenly spaced over the support.

    It is None if the values are continuous.
    """
    logits = False
    """Whether the parameters are logits. The decoder must not end in a sigmoid then."""

    def __init__(self, event_shape: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        event_shape = tuple(event_shape)
        positive = [is_integer(size) and size > 0 for size in event_shape]
        if not event_shape or not all(positive):
            raise ValueError(
                f"`event_shape` of {type(self).__name__} must be the shape of one example, in "
                f"positive integers, such as (28, 28, 1). Received: event_shape={event_shape!r}"
            )
        self.event_shape = tuple(int(size) for size in event_shape)

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of the decoder's output for one example."""
        return self.event_shape

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Make the distribution over `event_shape` from parameters `[..., *parameter_shape]`."""
        raise NotImplementedError(
            f"{type(self).__name__} must define `__call__`, which turns parameters into a "
            "distribution."
        )

    def fitted(self, parameters: TensorLike, x: tf.Tensor) -> Distribution:
        """Make the distribution in a training step on `x`.

        A likelihood can fit here what its distributions share, such as one σ, to the batch.

        Args:
            parameters: The decoder's output, `[..., *parameter_shape]`.
            x: The data of the step, `[batch, *event_shape]`.
        """
        return self(parameters)


@keras.saving.register_keras_serializable("keras_gen")
class Bernoulli(Likelihood):
    """Independent Bernoulli elements. The parameters are logits, and the data lie in [0, 1].

    −log p(x | z) is the cross-entropy −Σ_d [x_d log x̂_d + (1 − x_d) log(1 − x̂_d)] in nats (MATH 1
    and 2). For grey values between 0 and 1 it is only a loss, since a Bernoulli distribution has no
    such values. Binarize the data before you report log-likelihoods.

    Args:
        event_shape: Shape of one example.
        **kwargs: `name`, `dtype` and `trainable` of the Keras layer.

    Example: 784 log(1/2).

    >>> likelihood = Bernoulli((28, 28, 1))
    >>> log_prob = likelihood(tf.zeros((28, 28, 1))).log_prob(tf.ones((28, 28, 1)))
    >>> round(float(log_prob), 2)
    -543.43
    """

    support = (0.0, 1.0)
    levels = 2
    logits = True

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Make independent Bernoulli elements from logits `[..., *event_shape]`."""
        from tensorflow_probability import distributions as tfd

        elements = tfd.Bernoulli(logits=tf.cast(parameters, tf.float32), dtype=tf.float32)
        return _independent_bernoulli()(elements, len(self.event_shape))


@functools.cache
def _independent_bernoulli() -> type[Distribution]:
    """Return a subclass of `tfd.Independent` that computes log p(x) with `bernoulli_log_prob`."""
    from tensorflow_probability import distributions as tfd

    class IndependentBernoulli(tfd.Independent):
        def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
            flat_x = _flatten_event(tf.cast(x, tf.float32), self.event_shape)
            flat_logits = _flatten_event(self.distribution.logits, self.event_shape)
            return bernoulli_log_prob(flat_x, flat_logits)

    return IndependentBernoulli


def _flatten_event(values: tf.Tensor, event_shape: tf.TensorShape) -> tf.Tensor:
    """Return values `[..., *event_shape]` as `[..., number of elements]`."""
    leading = tf.shape(values)[: -event_shape.rank]
    return tf.reshape(values, tf.concat([leading, [event_shape.num_elements()]], axis=0))


@keras.saving.register_keras_serializable("keras_gen")
class ContinuousBernoulli(Likelihood):
    """Independent continuous Bernoulli elements in [0, 1], a density for grey values.

    It is the cross-entropy with the constant that makes it a density (Loaiza-Ganem & Cunningham
    2019, arXiv:1907.06845). The parameters are logits. log p(x | z) is in nats.

    Elements of exactly 0 or 1 would drive the density to infinity. So the logits are squashed to
    ±15.9, where float32 can still tell the probabilities of a Bernoulli distribution from 0 and 1.
    The means then lie between 0.06 and 0.94.

    Args:
        event_shape: Shape of one example.
        **kwargs: `name`, `dtype` and `trainable` of the Keras layer.

    Example: with logits of 0 the distribution is uniform.

    >>> float(ContinuousBernoulli((2,))(tf.zeros((2,))).log_prob([0.3, 0.9]))
    0.0
    """

    support = (0.0, 1.0)
    logits = True

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Make independent continuous Bernoulli elements from logits `[..., *event_shape]`."""
        from tensorflow_probability import distributions as tfd

        logits = LARGEST_LOGIT * tf.tanh(tf.cast(parameters, tf.float32) / LARGEST_LOGIT)
        return tfd.Independent(tfd.ContinuousBernoulli(logits=logits), len(self.event_shape))


@keras.saving.register_keras_serializable("keras_gen")
class Normal(Likelihood):
    """Independent Gaussian elements N(x̂, σ²). The parameters are x̂, and the raw σ if per element.

    −log p(x | z) = ½‖x − x̂‖²/σ² + D log σ + ½ D log 2π in nats, with the constants that a
    likelihood must keep (MATH 2).

    Args:
        event_shape: Shape of one example.
        scale: σ in the units of the data, as one of:

            * a positive number.
            * `"shared"`: one σ for all elements, learned with the model.
            * `"optimal"`: one σ for all elements in closed form (Rybkin et al. 2021,
              arXiv:2006.13202). In training, σ² is the mean squared error of the batch. Otherwise
              it is the running mean of these. Prefer it to `"shared"`.
            * `"per_element"`: one σ per element, σ(z) in the notes, which the decoder outputs. The
              last axis of its output is then twice as long. It has the best likelihoods and the
              worst samples, so it warns.
        **kwargs: `name`, `dtype` and `trainable` of the Keras layer.

    Example: −2 log 0.5 − log 2π.

    >>> likelihood = Normal((2,), scale=0.5)
    >>> round(float(likelihood(tf.zeros((2,))).log_prob([0.0, 0.0])), 4)
    -0.4516
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        scale: float | Literal["shared", "optimal", "per_element"] = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(event_shape, **kwargs)
        is_fixed = is_real(scale) and 0 < scale < math.inf
        if not is_fixed and scale not in ("shared", "optimal", "per_element"):
            raise ValueError(
                "`scale` of Normal is σ and must be a positive, finite number, or 'shared', "
                f"'optimal' or 'per_element'. Received: scale={scale!r}"
            )
        self.scale = float(scale) if is_real(scale) else scale
        if scale == "shared":
            self.raw_scale = self.add_weight(
                (), "zeros", name="raw_scale", dtype="float32", autocast=False
            )
        if scale == "optimal":
            self.variance = self.add_weight(
                (),
                "ones",
                name="variance",
                dtype="float32",
                autocast=False,
                trainable=False,
                aggregation="mean",
            )
        if scale == "per_element":
            warnings.warn(
                "scale='per_element' has the best likelihoods and the worst samples. On MNIST the "
                "bound on −log p(x) was -2895 nats against -896 for 'optimal', but the FID 132 "
                "against 32 (arXiv:2006.13202, table 3). Use scale='optimal' for good samples.",
                stacklevel=2,
            )

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of an example, with the last axis twice as long if σ is per element."""
        if self.scale == "per_element":
            return (*self.event_shape[:-1], 2 * self.event_shape[-1])
        return self.event_shape

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Make independent Gaussian elements from parameters `[..., *parameter_shape]`."""
        parameters = tf.cast(parameters, tf.float32)
        if self.scale == "per_element":
            mean, raw_scale = tf.split(parameters, 2, axis=-1)
            return self._independent(mean, positive_scale(raw_scale, SMALLEST_NORMAL_SCALE))
        if self.scale == "shared":
            raw_scale = tf.convert_to_tensor(self.raw_scale)
            return self._independent(parameters, positive_scale(raw_scale, SMALLEST_NORMAL_SCALE))
        if self.scale == "optimal":
            return self._independent(parameters, tf.sqrt(tf.convert_to_tensor(self.variance)))
        return self._independent(parameters, self.scale)

    def fitted(self, parameters: TensorLike, x: tf.Tensor) -> Distribution:
        """Make the distribution in a training step, with σ² = MSE of the batch if it is optimal.

        No gradient needs to flow through σ, since it is at its optimum.
        """
        if self.scale != "optimal":
            return self(parameters)
        mean = tf.cast(parameters, tf.float32)
        squared_error = tf.stop_gradient(tf.reduce_mean((x - mean) ** 2))
        variance = tf.maximum(squared_error, SMALLEST_NORMAL_SCALE**2)
        self.variance.assign(0.9 * self.variance + 0.1 * variance)
        return self._independent(mean, tf.sqrt(variance))

    def _independent(self, mean: tf.Tensor, scale: tf.Tensor | float) -> Distribution:
        """Return independent Gaussian elements over `event_shape`."""
        from tensorflow_probability import distributions as tfd

        return tfd.Independent(tfd.Normal(mean, scale), len(self.event_shape))


@keras.saving.register_keras_serializable("keras_gen")
class Categorical(Likelihood):
    """Independent elements on `num_levels` values, each with a probability of its own.

    It is a likelihood of raw pixels, for bits per dimension. The parameters are logits,
    `num_levels` per element, next to one another on the last axis. Data are levels divided by
    `num_levels − 1`, so 8-bit pixels divided by 255 fit. A value between two levels has the
    probability 0.

    Args:
        event_shape: Shape of one example.
        num_levels: Number of levels, 256 for 8-bit pixels.
        **kwargs: `name`, `dtype` and `trainable` of the Keras layer.

    Example: 2 log(1/256).

    >>> likelihood = Categorical((2,), num_levels=256)
    >>> likelihood.parameter_shape
    (512,)
    >>> round(float(likelihood(tf.zeros(512)).log_prob([0.0, 1.0])), 2)
    -11.09
    """

    support = (0.0, 1.0)
    logits = True

    def __init__(self, event_shape: Sequence[int], num_levels: int = 256, **kwargs: Any) -> None:
        super().__init__(event_shape, **kwargs)
        self.num_levels = positive_int(self, "num_levels", num_levels, at_least=2)
        self.levels = self.num_levels

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of an example, with the last axis `num_levels` times as long."""
        return (*self.event_shape[:-1], self.event_shape[-1] * self.num_levels)

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Make independent elements on the levels from logits `[..., *parameter_shape]`."""
        from tensorflow_probability import distributions as tfd

        levels = tf.linspace(0.0, 1.0, self.num_levels)
        leading = tf.shape(parameters)[: -len(self.event_shape)]
        shape = tf.concat([leading, [*self.event_shape, self.num_levels]], axis=0)
        logits = tf.reshape(tf.cast(parameters, tf.float32), shape)
        elements = tfd.FiniteDiscrete(levels, logits=logits, atol=0.1 / self.num_levels)
        return tfd.Independent(elements, len(self.event_shape))
