"""Likelihoods p(x | z), made from the tensor that a decoder outputs.

Each log-likelihood includes its normalization constant.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from keras_gen._arguments import is_integer, is_real, positive_int
from keras_gen._columns import Column
from keras_gen._serialization import SerializableLayer
from keras_gen._typing import Distribution, TensorLike
from keras_gen.distributions._bernoulli import bernoulli_log_prob
from keras_gen.distributions.posteriors import positive_scale

LARGEST_LOGIT = -math.log(2**-23)
"""Bound of the logits of `ContinuousBernoulli`, about 15.9. The sigmoid of this logit is less than
1 in float32."""

SMALLEST_NORMAL_SCALE = math.exp(-6)
"""Smallest σ of `Normal`, as in the σ-VAE (Rybkin et al. 2021, arXiv:2006.13202).

If a pixel has the same value in all examples, a model can predict this value exactly. Without the
limit, σ could then approach 0, and the likelihood of the pixel could grow without bound.
"""


class Likelihood(SerializableLayer):
    """Base class of the likelihoods p(x | z), the distributions over the data given the latents.

    A subclass implements `__call__`, which turns the tensor that a decoder outputs into a
    `tfd.Distribution`.

    A likelihood is a Keras layer, so it can have weights. Make each weight in the constructor, with
    `add_weight(..., autocast=False)`. A VAE trains and saves the weights. Do not call a likelihood
    on a symbolic `keras.Input`, because the result is a distribution and not a tensor.

    If `missing` is True, an element of the data can be NaN. Such an element is not observed, and is
    omitted from log p(x | z) (Mattei & Frellsen 2019, arXiv:1812.02633). In a subclass that accepts
    `missing`, `__call__` makes the distributions of all elements as one `tfd.Distribution`. Its
    batch shape is `[..., *event_shape]`. `__call__` then returns `self.independent(distribution)`.
    The log-probability of the result is the sum over the observed elements.

    Args:
        event_shape: Shape of one example, for instance `(28, 28, 1)`.
        missing: Whether elements of the data can be missing, that is, NaN.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.
    """

    support: tuple[Any, Any] = (-math.inf, math.inf)
    """Pair of the smallest and the largest value that data may have. Each of the two is a number,
    or an array with one number per element of an example."""
    whole: np.ndarray | None = None
    """Bool array of shape `event_shape`, which is True for each element that must be a whole
    number. None if no element must be a whole number."""
    element_names: tuple[str, ...] | None = None
    """Names of the elements for error messages, such as the columns of a table. None if the
    elements have no names."""
    columns: tuple[Column, ...] = ()
    """Columns of the table, if each example is a row of a table. Empty for all other data."""
    generates_samples = False
    """Whether the method `generate` of a model returns samples of p(x | z). If False, `generate`
    returns the result of `point`."""
    levels: int | None = None
    """Number of values that an element of the data can have, or None for continuous values.

    The values are evenly spaced, from the smallest value of `support` to the largest.
    """
    logits = False
    """Whether the decoder outputs logits. If True, the decoder must not end in a sigmoid."""

    def __init__(self, event_shape: Sequence[int], missing: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.missing = bool(missing)
        event_shape = tuple(event_shape)
        positive = [is_integer(size) and size > 0 for size in event_shape]
        if not event_shape or not all(positive):
            raise ValueError(
                f"`event_shape` of {type(self).__name__} must be the shape of one example, a tuple "
                f"of positive integers such as (28, 28, 1). Received: event_shape={event_shape!r}"
            )
        self.event_shape = tuple(int(size) for size in event_shape)
        self._sample_rows: Any = None

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of the decoder's output for one example."""
        return self.event_shape

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Make the distribution p(x | z) from the output of the decoder.

        Args:
            parameters: The decoder's output, `[..., *parameter_shape]`.

        Returns:
            A `tfd.Distribution` with the event shape `event_shape`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define `__call__`, which turns parameters into a "
            "distribution."
        )

    def fitted(self, parameters: TensorLike, x: tf.Tensor) -> Distribution:
        """Make p(x | z) in a training step, in which the data `x` are known.

        The default implementation ignores `x` and calls `__call__`. A subclass can use `x` to fit a
        value that all elements share, such as the standard deviation in `Normal`.

        Args:
            parameters: The decoder's output, `[..., *parameter_shape]`.
            x: Data of the training batch, `[batch, *event_shape]`.
        """
        return self(parameters)

    def __repr__(self) -> str:
        """Return the constructor call of the layer as text, without the argument `missing=False`.

        A resumed training compares this text with the text in the checkpoint. In version 0.1.0, the
        argument `missing` did not exist. Therefore the text in a checkpoint of version 0.1.0 does
        not contain `missing=False`.
        """
        return super().__repr__().replace(", missing=False", "")

    def independent(self, elements: Distribution) -> Distribution:
        """Combine one distribution per element into the distribution of an example.

        Given the latents, the elements are independent. If `missing` is True, `log_prob` of the
        result omits the elements that are NaN.

        Args:
            elements: The distributions of all elements, one `tfd.Distribution` with the batch shape
                `[..., *event_shape]`.
        """
        if not self.missing:
            from tensorflow_probability import distributions as tfd

            return tfd.Independent(elements, len(self.event_shape))
        low, high = self.support
        possible = low if low > -math.inf else min(high, 0.0)
        return _independent_with_missing()(elements, len(self.event_shape), possible)

    def element_log_prob(self, distribution: Distribution, x: tf.Tensor) -> tf.Tensor:
        """Return log p of each element of x, `[..., *event_shape]`.

        The sum over the elements is log p(x | z). For a missing element, log p is 0.

        Args:
            distribution: A distribution that this likelihood made. It must be a `tfd.Independent`,
                unless a subclass overrides this method.
            x: Data `[..., *event_shape]`.

        Raises:
            ValueError: If `distribution` is not a `tfd.Independent` whose elements are scalars.
        """
        if isinstance(distribution, _independent_with_missing()):
            return distribution.element_log_prob(x)
        elements = getattr(distribution, "distribution", None)
        if elements is None or tuple(elements.event_shape):
            raise ValueError(
                f"`{type(self).__name__}` must return a tfd.Independent of its elements, or define "
                f"`element_log_prob`. Received: {distribution}."
            )
        return elements.log_prob(x)

    def point(self, distribution: Distribution) -> tf.Tensor:
        """Return the mean of p(x | z), or another typical example, `[..., *event_shape]`.

        `VAE.reconstruct` and `VAE.decode` return this example. By default, it is the mean. A
        subclass can choose another example. For instance, `Columns` chooses the most probable
        category of each categorical column.
        """
        return self.estimate(self.expectation(distribution))

    def expectation(self, distribution: Distribution) -> tf.Tensor:
        """Return the expectation of f(x) under p(x | z). By default, f(x) = x.

        A subclass can choose another function f. `VAE.impute` computes a weighted average of the
        results for several latents z. Then the method `estimate` computes an example from this
        average. For instance, `Columns` returns the probability of each category of a column, and
        `estimate` chooses a category.
        """
        return distribution.mean()

    def estimate(self, expectation: tf.Tensor) -> tf.Tensor:
        """Compute examples `[..., *event_shape]` from the result of the method `expectation`."""
        return expectation

    def sample_rows(self, parameters: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Sample one example for each output of the decoder, with one seed per example.

        Each example depends only on its own seed and its own parameters, not on the rest of the
        batch.

        Args:
            parameters: The decoder's output, `[batch, *parameter_shape]`.
            seeds: Seeds, int64 `[batch]`.

        Returns:
            Examples, float32 `[batch, *event_shape]`.
        """

        if self._sample_rows is None:
            # A `tf.function` holds only a weak reference to `self`, if it is made from a method.
            self._sample_rows = tf.function(
                lambda parameters, seeds: self._sample_each_row(parameters, seeds),
                input_signature=[
                    tf.TensorSpec((None, *self.parameter_shape), tf.float32),
                    tf.TensorSpec((None,), tf.int64),
                ],
            )
        return self._sample_rows(tf.cast(parameters, tf.float32), tf.cast(seeds, tf.int64))

    def _sample_each_row(self, parameters: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        """Compute the result of `sample_rows` from checked arguments."""

        def sample_row(row: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            of_row, seed = row
            # The same seed also generates the latents, so the noise must differ from theirs.
            folded = tf.random.experimental.stateless_fold_in(tf.bitcast(seed, tf.int32), 1)
            return tf.cast(self(of_row).sample(seed=folded), tf.float32)

        spec = tf.TensorSpec(self.event_shape, tf.float32)
        return tf.map_fn(sample_row, (parameters, seeds), fn_output_signature=spec)


@functools.cache
def _independent_with_missing() -> type[Distribution]:
    """Return a subclass of `tfd.Independent` whose `log_prob` omits elements that are NaN."""
    from tensorflow_probability import distributions as tfd

    class IndependentWithMissing(tfd.Independent):
        """Distribution of independent elements, some of which can be missing.

        A missing element is NaN, and its log p is 0.

        Args:
            elements: Distribution of each element.
            event_rank: Rank of one example. The last `event_rank` batch dimensions of `elements`
                become event dimensions.
            possible: A number that replaces each NaN before log p is computed, because NaN in this
                computation would make the gradient NaN. The log p of the number must be finite for
                every element.
        """

        def __init__(self, elements: Distribution, event_rank: int, possible: float) -> None:
            super().__init__(elements, event_rank)
            self.possible = possible

        def element_log_prob(self, x: tf.Tensor) -> tf.Tensor:
            """Return log p of each element. For NaN, log p is 0."""
            missing = tf.math.is_nan(x)
            log_prob = self.distribution.log_prob(tf.where(missing, self.possible, x))
            return tf.where(missing, 0.0, log_prob)

        def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
            axes = range(-self.event_shape.rank, 0)
            return tf.reduce_sum(self.element_log_prob(x), axis=list(axes))

    return IndependentWithMissing


@keras.saving.register_keras_serializable("keras_gen")
class Bernoulli(Likelihood):
    """Likelihood of independent Bernoulli elements. The decoder outputs their logits.

    Let x̂ be the sigmoid of the logits, and let d be the index of an element. −log p(x | z) is the
    cross-entropy −Σ_d [x_d log x̂_d + (1 − x_d) log(1 − x̂_d)] in nats. The data must lie in [0, 1].

    A Bernoulli variable is 0 or 1. For grey values between 0 and 1, the cross-entropy is therefore
    a loss but not a likelihood. Before you report log-likelihoods, binarize the data: convert each
    value to 0 or 1.

    Args:
        event_shape: Shape of one example.
        missing: Whether elements of the data can be missing, that is, NaN.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Example: with logits of 0, log p(x | z) = 784 log(1/2).

    >>> likelihood = Bernoulli((28, 28, 1))
    >>> log_prob = likelihood(tf.zeros((28, 28, 1))).log_prob(tf.ones((28, 28, 1)))
    >>> round(float(log_prob), 2)
    -543.43
    """

    support = (0.0, 1.0)
    levels = 2
    logits = True

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Make p(x | z) from the logits that the decoder outputs, `[..., *event_shape]`."""
        from tensorflow_probability import distributions as tfd

        elements = tfd.Bernoulli(logits=tf.cast(parameters, tf.float32), dtype=tf.float32)
        if self.missing:
            return self.independent(elements)
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
    """Reshape values from `[..., *event_shape]` to `[..., number of elements]`."""
    leading = tf.shape(values)[: -event_shape.rank]
    return tf.reshape(values, tf.concat([leading, [event_shape.num_elements()]], axis=0))


@keras.saving.register_keras_serializable("keras_gen")
class ContinuousBernoulli(Likelihood):
    """Likelihood of independent continuous Bernoulli elements, for grey values in [0, 1].

    The decoder outputs logits. Let CE be the cross-entropy between the data and the sigmoid of the
    logits. Let C be the factor that normalizes the density. −log p(x | z) is CE − log C, in nats.
    The source is Loaiza-Ganem & Cunningham 2019, arXiv:1907.06845.

    For elements of exactly 0 or 1, training could increase the density without limit. A tanh
    therefore limits the logits to the range from −15.9 to 15.9. In this range, the float32 sigmoid
    of a logit is neither 0 nor 1. As a consequence, the mean of each element lies between 0.06 and
    0.94.

    Args:
        event_shape: Shape of one example.
        missing: Whether elements of the data can be missing, that is, NaN.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Example: with logits of 0 the distribution is uniform.

    >>> float(ContinuousBernoulli((2,))(tf.zeros((2,))).log_prob([0.3, 0.9]))
    0.0
    """

    support = (0.0, 1.0)
    logits = True

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Make p(x | z) from the logits that the decoder outputs, `[..., *event_shape]`."""
        from tensorflow_probability import distributions as tfd

        logits = LARGEST_LOGIT * tf.tanh(tf.cast(parameters, tf.float32) / LARGEST_LOGIT)
        return self.independent(tfd.ContinuousBernoulli(logits=logits))


@keras.saving.register_keras_serializable("keras_gen")
class Normal(Likelihood):
    """Likelihood of independent Gaussian elements N(x̂, σ²). The decoder outputs the means x̂.

    −log p(x | z) = ½‖x − x̂‖²/σ² + D log σ + ½ D log(2π) in nats, where D is the number of
    elements. In this formula, all elements have the same σ.

    Args:
        event_shape: Shape of one example.
        scale: σ in the units of the data, as one of the following:

            * A positive number: one fixed σ for all elements.
            * `"shared"`: one σ for all elements, a weight that is trained with the model.
            * `"optimal"`: one σ for all elements, which a formula computes (Rybkin et al. 2021,
              arXiv:2006.13202). In a training step, σ² is the mean squared error of the batch.
              Outside of training, σ² is the running mean of these values over the training steps.
              Prefer `"optimal"` to `"shared"`.
            * `"per_element"`: one σ per element, which depends on z. The last axis of the decoder's
              output contains first x̂, and then the values from which a softplus computes σ. Of the
              four choices, `"per_element"` gives the best likelihoods and the worst samples.
              Therefore the constructor gives a warning.
        missing: Whether elements of the data can be missing, that is, NaN.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Example: with x = x̂ and σ = 0.5, log p(x | z) = −2 log 0.5 − log(2π).

    >>> likelihood = Normal((2,), scale=0.5)
    >>> round(float(likelihood(tf.zeros((2,))).log_prob([0.0, 0.0])), 4)
    -0.4516
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        scale: float | Literal["shared", "optimal", "per_element"] = 1.0,
        missing: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(event_shape, missing, **kwargs)
        is_fixed = is_real(scale) and 0 < scale < math.inf
        if not is_fixed and scale not in ("shared", "optimal", "per_element"):
            raise ValueError(
                "`scale` of Normal is σ and must be a positive, finite number, or one of 'shared', "
                f"'optimal' and 'per_element'. Received: scale={scale!r}"
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
                "scale='per_element' has the best likelihoods and the worst samples. On MNIST, the "
                "bound on −log p(x) is -2895 nats with 'per_element' and -896 nats with 'optimal'. "
                "The FID is 132 with 'per_element' and 32 with 'optimal'. Lower is better for both "
                "(arXiv:2006.13202, table 3). Use scale='optimal' for good samples.",
                stacklevel=2,
            )

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of the decoder's output for one example.

        If `scale` is `"per_element"`, the last axis is twice as long as the last axis of an
        example. Otherwise, the output has the shape of an example.
        """
        if self.scale == "per_element":
            return (*self.event_shape[:-1], 2 * self.event_shape[-1])
        return self.event_shape

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Make p(x | z) from the output of the decoder, `[..., *parameter_shape]`."""
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
        """Make p(x | z) in a training step, in which the data `x` are known.

        If `scale` is `"optimal"`, the variance σ² is the mean squared error over the observed
        elements of the batch. This σ minimizes the loss, so the derivative of the loss with respect
        to σ is 0. Therefore no gradient needs to flow through σ. If no element of the batch is
        observed, σ² is the running mean from earlier batches.

        For any other `scale`, the distribution does not depend on `x`.
        """
        if self.scale != "optimal":
            return self(parameters)
        mean = tf.cast(parameters, tf.float32)
        squared_errors = (x - mean) ** 2
        if self.missing:
            observed = ~tf.math.is_nan(squared_errors)
            total = tf.reduce_sum(tf.where(observed, squared_errors, 0.0))
            number = tf.math.count_nonzero(observed, dtype=tf.float32)
            squared_error = tf.where(number > 0, total / tf.maximum(number, 1.0), self.variance)
        else:
            squared_error = tf.reduce_mean(squared_errors)
        squared_error = tf.stop_gradient(squared_error)
        variance = tf.maximum(squared_error, SMALLEST_NORMAL_SCALE**2)
        self.variance.assign(0.9 * self.variance + 0.1 * variance)
        return self._independent(mean, tf.sqrt(variance))

    def _independent(self, mean: tf.Tensor, scale: tf.Tensor | float) -> Distribution:
        """Make the Gaussian with event shape `event_shape` from means and standard deviations."""
        from tensorflow_probability import distributions as tfd

        return self.independent(tfd.Normal(mean, scale))


@keras.saving.register_keras_serializable("keras_gen")
class Categorical(Likelihood):
    """Likelihood of independent elements, each of which has `num_levels` possible values.

    Use this likelihood to measure a model of 8-bit pixels in bits per dimension. The decoder
    outputs `num_levels` logits per element. The last axis of the output contains all logits of the
    first element, then all logits of the second element, and so on.

    The possible values of an element are k / (num_levels − 1) for k = 0 … num_levels − 1. For
    example, 8-bit pixels divided by 255 are such values. All other values have probability 0.

    Args:
        event_shape: Shape of one example.
        num_levels: Number of possible values per element, 256 for 8-bit pixels.
        missing: Whether elements of the data can be missing, that is, NaN.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Example: with logits of 0, log p(x | z) = 2 log(1/256).

    >>> likelihood = Categorical((2,), num_levels=256)
    >>> likelihood.parameter_shape
    (512,)
    >>> round(float(likelihood(tf.zeros(512)).log_prob([0.0, 1.0])), 2)
    -11.09
    """

    support = (0.0, 1.0)
    logits = True

    def __init__(
        self,
        event_shape: Sequence[int],
        num_levels: int = 256,
        missing: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(event_shape, missing, **kwargs)
        self.num_levels = positive_int(self, "num_levels", num_levels, at_least=2)
        self.levels = self.num_levels

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of the decoder's output for one example.

        An element has `num_levels` possible values, and the decoder outputs one logit per possible
        value. Therefore the last axis of the output is `num_levels` times as long as the last axis
        of an example.
        """
        return (*self.event_shape[:-1], self.event_shape[-1] * self.num_levels)

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Make p(x | z) from the output of the decoder, `[..., *parameter_shape]`."""
        from tensorflow_probability import distributions as tfd

        levels = tf.linspace(0.0, 1.0, self.num_levels)
        leading = tf.shape(parameters)[: -len(self.event_shape)]
        shape = tf.concat([leading, [*self.event_shape, self.num_levels]], axis=0)
        logits = tf.reshape(tf.cast(parameters, tf.float32), shape)
        elements = tfd.FiniteDiscrete(levels, logits=logits, atol=0.1 / self.num_levels)
        return self.independent(elements)
