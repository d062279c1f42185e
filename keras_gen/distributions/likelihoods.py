"""Likelihoods p(x | z): the decoder's output tensor ⇄ a distribution over the data, with all its constants."""

import math

import keras
import tensorflow as tf

from keras_gen.serialization import Serializable


class Likelihood(Serializable):
    """A family of distributions over the data, indexed by the tensor that a decoder puts out.

    Args:
        event_shape: Shape of one example, for instance `(28, 28, 1)`.
    """

    support = (-math.inf, math.inf)
    """Smallest and largest value that data may take."""

    def __init__(self, event_shape):
        event_shape = tuple(event_shape)
        if not event_shape or not all(isinstance(size, int) and size > 0 for size in event_shape):
            raise ValueError(
                f"`event_shape` of {type(self).__name__} is the shape of one example in positive ints, such as (28, 28, 1). "
                f"Received: event_shape={event_shape!r}"
            )
        self.event_shape = event_shape

    @property
    def parameter_shape(self):
        """Shape of the decoder's output for one example."""
        return self.event_shape

    def __call__(self, parameters):
        """Turn `[..., *parameter_shape]` into a `tfd.Distribution` with event shape `event_shape`."""
        raise NotImplementedError(f"{type(self).__name__} must turn parameters into a distribution in `__call__`.")


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

    def __call__(self, parameters):
        """Turn logits `[..., *event_shape]` into independent Bernoulli pixels."""
        from tensorflow_probability import distributions as tfd

        pixels = tfd.Bernoulli(logits=tf.cast(parameters, tf.float32), dtype=tf.float32)
        return tfd.Independent(pixels, len(self.event_shape))


@keras.saving.register_keras_serializable("keras_gen")
class Normal(Likelihood):
    """Independent normal pixels N(x̂, σ²) with a fixed σ; the parameters are x̂.

    −log p(x | z) = ½‖x − x̂‖²/σ² + D log σ + ½ D log 2π in nats, with the constants that a likelihood must keep (MATH 2).

    Args:
        event_shape: Shape of one example.
        scale: σ, a positive float in the units of the data.

    Example:

    >>> likelihood = Normal((2,), scale=0.5)
    >>> round(float(likelihood(tf.zeros((2,))).log_prob([0.0, 0.0])), 4)    # -2 log 0.5 - log 2π
    -0.4516
    """

    def __init__(self, event_shape, scale=1.0):
        super().__init__(event_shape)
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < math.inf:
            raise ValueError(f"`scale` of Normal is σ, a positive finite number. Received: scale={scale!r}")
        self.scale = float(scale)

    def __call__(self, parameters):
        """Turn means `[..., *event_shape]` into independent normal pixels."""
        from tensorflow_probability import distributions as tfd

        return tfd.Independent(tfd.Normal(tf.cast(parameters, tf.float32), self.scale), len(self.event_shape))
