"""A likelihood of 8-bit pixels: mixtures of discretized logistic distributions."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._typing import Distribution, TensorLike
from keras_gen.distributions.likelihoods import Likelihood
from keras_gen.distributions.posteriors import positive_scale

_INITIAL_SCALE = 0.1
_SMALLEST_SCALE = math.exp(-7) / 2
"""Smallest scale of a component, for data in [0, 1].

The code of Salimans et al. (2017) has the smallest scale exp(−7), for data in [−1, 1]."""


@keras.saving.register_keras_serializable("keras_gen")
class DiscretizedLogisticMixture(Likelihood):
    """Likelihood of independent elements, with mixtures of discretized logistic distributions.

    An element is one number of an example, such as one channel of a pixel. Each element has its own
    mixture. Use this likelihood for 8-bit pixels in [0, 1], to measure a model in bits per
    dimension. With this likelihood, the decoder needs far fewer outputs than with `Categorical`,
    and neighboring values have similar probabilities. The source is Salimans et al. 2017,
    arXiv:1701.05517, section 2.1. In contrast to section 2.2 of this paper, the channels of a pixel
    are independent, given z.

    The possible values of an element are k / (num_levels − 1) for k = 0 … num_levels − 1. The
    probability of a value x is Σ_i π_i [σ((x + h − μ_i)/s_i) − σ((x − h − μ_i)/s_i)]. Here π_i, μ_i
    and s_i are the weight, the location and the scale of component i. σ is the sigmoid, and h is
    half the distance between neighboring values. For the smallest value, x − h is replaced by −∞.
    For the largest value, x + h is replaced by ∞.

    For each element, the decoder outputs `3 · num_components` numbers along the last axis. First
    come the logits of the weights π_i, then the locations μ_i − ½. From the last third, a shifted
    and scaled softplus computes the scales s_i.

    Args:
        event_shape: Shape of one example.
        num_components: Number of logistic distributions per element. Default: 5.
        num_levels: Number of possible values per element, 256 for 8-bit pixels.
        missing: Whether elements of the data can be missing, that is, NaN.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Example: if the decoder outputs 0, all components are equal, with location ½ and scale 0.1.

    >>> likelihood = DiscretizedLogisticMixture((2,), num_components=5)
    >>> likelihood.parameter_shape
    (30,)
    >>> round(float(likelihood(tf.zeros(30)).log_prob([0.0, 1.0])), 2)
    -9.97
    """

    support = (0.0, 1.0)
    logits = True

    def __init__(
        self,
        event_shape: Sequence[int],
        num_components: int = 5,
        num_levels: int = 256,
        missing: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(event_shape, missing, **kwargs)
        self.num_components = positive_int(self, "num_components", num_components)
        self.num_levels = positive_int(self, "num_levels", num_levels, at_least=2)
        self.levels = self.num_levels

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of the decoder's output for one example.

        The last axis is `3 · num_components` times as long as the last axis of an example.
        """
        return (*self.event_shape[:-1], self.event_shape[-1] * 3 * self.num_components)

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Make p(x | z) from the output of the decoder, `[..., *parameter_shape]`."""
        from tensorflow_probability import distributions as tfd

        leading = tf.shape(parameters)[: -len(self.event_shape)]
        shape = tf.concat([leading, [*self.event_shape, 3 * self.num_components]], axis=0)
        of_elements = tf.reshape(tf.cast(parameters, tf.float32), shape)
        logits, raw_location, raw_scale = tf.split(of_elements, 3, axis=-1)
        scale = _INITIAL_SCALE * positive_scale(raw_scale, _SMALLEST_SCALE / _INITIAL_SCALE)
        components = _discretized_logistic()(raw_location + 0.5, scale, self.num_levels)
        mixture = tfd.MixtureSameFamily(tfd.Categorical(logits=logits), components)
        return self.independent(mixture)


@functools.cache
def _discretized_logistic() -> type[Distribution]:
    """Return the class of the mixture components.

    A component is a logistic distribution whose samples are rounded to equally spaced values from 0
    to 1.

    The class is defined in a function, because its base class is in TensorFlow Probability, whose
    import takes about a second.
    """
    from tensorflow_probability import distributions as tfd

    class DiscretizedLogistic(tfd.Distribution):
        """Discretized logistic distribution on `num_levels` equally spaced values from 0 to 1.

        A sample is a sample of a logistic distribution, rounded to the nearest of these values.

        Args:
            loc: Location μ, `[...]`.
            scale: Scale s, `[...]`.
            num_levels: Number of possible values.
        """

        def __init__(self, loc: tf.Tensor, scale: tf.Tensor, num_levels: int) -> None:
            parameters = {"loc": loc, "scale": scale, "num_levels": num_levels}
            super().__init__(
                dtype=tf.float32,
                reparameterization_type=tfd.NOT_REPARAMETERIZED,
                validate_args=False,
                allow_nan_stats=True,
                parameters=parameters,
            )
            self.loc = loc
            self.scale = scale
            self.half = 0.5 / (num_levels - 1)

        def _batch_shape(self) -> tf.TensorShape:
            return self.loc.shape

        def _batch_shape_tensor(self) -> tf.Tensor:
            return tf.shape(self.loc)

        def _event_shape(self) -> tf.TensorShape:
            return tf.TensorShape([])

        def _event_shape_tensor(self) -> tf.Tensor:
            return tf.constant([], tf.int32)

        def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
            # σ(b) − σ(a) = σ(b) σ(−a) (1 − exp(a − b)), where no digits cancel
            above = (x + self.half - self.loc) / self.scale
            below = (x - self.half - self.loc) / self.scale
            log_cdf_above = tf.math.log_sigmoid(above)
            log_survival_below = tf.math.log_sigmoid(-below)
            width = 2 * self.half / self.scale
            inside = log_cdf_above + log_survival_below + tf.math.log(-tf.math.expm1(-width))
            is_smallest = x < self.half
            is_largest = x > 1 - self.half
            at_an_edge = tf.where(is_smallest, log_cdf_above, log_survival_below)
            return tf.where(is_smallest | is_largest, at_an_edge, inside)

        def _mean(self) -> tf.Tensor:
            # The mean of the variable that is clipped to [0, 1], but not rounded.
            upper = tf.math.softplus(self.loc / self.scale)
            lower = tf.math.softplus((self.loc - 1) / self.scale)
            return tf.clip_by_value(self.scale * (upper - lower), 0, 1)

        def _sample_n(self, n: int, seed: Any = None) -> tf.Tensor:
            x = tfd.Logistic(self.loc, self.scale).sample(n, seed=seed)
            return tf.round(tf.clip_by_value(x, 0, 1) / (2 * self.half)) * (2 * self.half)

    return DiscretizedLogistic
