"""Distributions of the columns of a table, in groups of columns with the same distribution.

One distribution of TensorFlow Probability (`tfd`) describes all columns of a group. So a table with
hundreds of columns needs only a few TensorFlow operations. The likelihood `Columns` combines the
groups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gen._columns import Column
from keras_gen._typing import Distribution
from keras_gen.distributions.posteriors import positive_scale

SMALLEST_SCALE = math.exp(-6)
"""Smallest σ of a number, in units of the standard deviation of its column."""
LARGEST_LOG = 60.0
"""Largest logarithm of a mean. Its exponential does not overflow in float32."""

_SMALLEST_GAP = 1e-6  # between two cutpoints, so that no category has the probability 0

AddWeight = Callable[..., keras.Variable]
"""The method `add_weight` of a Keras layer."""


class Group:
    """Columns of one table that have the same kind of distribution.

    The decoder outputs `parameters_per_column` numbers for each column of the group.

    Args:
        indices: Positions of the columns in the array of the table.
        columns: The columns.
    """

    parameters_per_column = 1
    expectations_per_column = 1
    """Length of `expectation` per column: 1, or the number of categories."""

    def __init__(self, indices: Sequence[int], columns: Sequence[Column]) -> None:
        self.indices = list(indices)
        self.columns = list(columns)
        self.size = len(self.columns)

    @property
    def parameter_size(self) -> int:
        """Number of values that the decoder outputs for this group."""
        return self.size * self.parameters_per_column

    @property
    def expectation_size(self) -> int:
        """Number of values that `expectation` returns for this group."""
        return self.size * self.expectations_per_column

    def add_weights(self, add_weight: AddWeight) -> None:
        """Make the trainable weights of the group. By default, a group has none."""

    def distribution(self, parameters: tf.Tensor) -> Distribution:
        """Return a `tfd` distribution of batch shape `[..., size]` from the decoder's output.

        Args:
            parameters: Part of the decoder's output, `[..., parameter_size]`.
        """
        raise NotImplementedError

    def log_prob(self, distribution: Distribution, x: tf.Tensor) -> tf.Tensor:
        """Return log p(x) of each column, `[..., size]`, from entries without NaN."""
        return distribution.log_prob(x)

    def sample(self, distribution: Distribution, seed: tf.Tensor) -> tf.Tensor:
        """Sample one value per column, float32 `[..., size]`."""
        return tf.cast(distribution.sample(seed=seed), tf.float32)

    def expectation(self, distribution: Distribution) -> tf.Tensor:
        """Return the means of numbers, or the probabilities of categories.

        The shape is `[..., expectation_size]`.
        """
        return distribution.mean()

    def estimate(self, expectation: tf.Tensor) -> tf.Tensor:
        """Return one entry per column, `[..., size]`: the mean, or the most probable category."""
        return expectation

    def parts(self, parameters: tf.Tensor, number: int) -> list[tf.Tensor]:
        """Split `[..., number * size]` into `number` tensors `[..., size]`."""
        return tf.split(parameters, number, axis=-1)


class Normals(Group):
    """Columns of kind `real`, with the normal distribution N(m + s μ, (s σ)²).

    m is the mean of the column and s its standard deviation. The decoder outputs μ. So a decoder
    output of 0 predicts the mean of the column, and 1 predicts one standard deviation more.

    Args:
        indices: Positions of the columns in the array of the table.
        columns: The columns.
        scale: Where σ comes from: `"optimal"`, `"learned"` or `"decoded"`.
    """

    def __init__(self, indices: Sequence[int], columns: Sequence[Column], scale: str) -> None:
        super().__init__(indices, columns)
        self.scale = scale
        self.parameters_per_column = 2 if scale == "decoded" else 1
        self.mean = np.array([column.mean for column in columns], np.float32)
        self.unit = np.array([column.scale for column in columns], np.float32)

    def add_weights(self, add_weight: AddWeight) -> None:
        """Make one σ per column, if σ is learned or optimal."""
        if self.scale == "learned":
            self.raw_scale = add_weight((self.size,), "zeros", name="raw_scale")
        if self.scale == "optimal":
            self.variance = add_weight(
                (self.size,), "ones", name="variance", trainable=False, aggregation="mean"
            )

    def distribution(self, parameters: tf.Tensor) -> Distribution:
        """Return the distribution of the columns, in the units of the table."""
        if self.scale == "decoded":
            location, raw_scale = self.parts(parameters, 2)
            return self.in_units(location, positive_scale(raw_scale, SMALLEST_SCALE))
        if self.scale == "learned":
            raw_scale = tf.convert_to_tensor(self.raw_scale)
            return self.in_units(parameters, positive_scale(raw_scale, SMALLEST_SCALE))
        return self.in_units(parameters, tf.sqrt(tf.convert_to_tensor(self.variance)))

    def fitted(self, parameters: tf.Tensor, x: tf.Tensor, observed: tf.Tensor) -> Distribution:
        """Return the distribution in a training step. An optimal σ is fitted to the batch.

        The optimal σ² of a column is the mean squared error of its observed entries. This σ
        minimizes the loss. Therefore no gradient needs to flow through σ (Rybkin et al. 2021,
        arXiv:2006.13202).

        Args:
            parameters: Part of the decoder's output, `[samples, batch, parameter_size]`.
            x: Entries `[batch, size]` without NaN.
            observed: Which entries are observed, bool `[batch, size]`.
        """
        if self.scale != "optimal":
            return self.distribution(parameters)
        errors = (self.standardized(x) - parameters) ** 2
        weights = tf.broadcast_to(tf.cast(observed, tf.float32), tf.shape(errors))
        axes = tf.range(tf.rank(errors) - 1)
        number = tf.reduce_sum(weights, axes)
        fitted = tf.math.divide_no_nan(tf.reduce_sum(errors * weights, axes), number)
        running = tf.convert_to_tensor(self.variance)
        variance = tf.where(number > 0, tf.maximum(fitted, SMALLEST_SCALE**2), running)
        variance = tf.stop_gradient(variance)
        self.variance.assign(0.9 * running + 0.1 * variance)
        return self.in_units(parameters, tf.sqrt(variance))

    def standardized(self, x: tf.Tensor) -> tf.Tensor:
        """Return entries minus the mean, divided by the standard deviation of their column."""
        return (x - self.mean) / self.unit

    def in_units(self, location: tf.Tensor, scale: tf.Tensor) -> Distribution:
        """Return the distribution of m + s N(location, scale²)."""
        from tensorflow_probability import distributions as tfd

        return tfd.Normal(self.mean + self.unit * location, self.unit * scale)


class LogNormals(Normals):
    """Columns of kind `positive`. The logarithm of an entry has the distribution of `Normals`."""

    def standardized(self, x: tf.Tensor) -> tf.Tensor:
        """Return the standardized logarithms of the entries."""
        return super().standardized(tf.math.log(x))

    def in_units(self, location: tf.Tensor, scale: tf.Tensor) -> Distribution:
        """Return the distribution of exp(m + s N(location, scale²))."""
        from tensorflow_probability import distributions as tfd

        return tfd.LogNormal(self.mean + self.unit * location, self.unit * scale)

    def expectation(self, distribution: Distribution) -> tf.Tensor:
        """Return the means. The logarithm of a mean is at most `LARGEST_LOG`."""
        log_mean = distribution.loc + distribution.scale**2 / 2
        return tf.exp(tf.minimum(log_mean, LARGEST_LOG))


class NegativeBinomials(Group):
    """Columns of kind `count`, with a negative binomial of mean μ and variance μ + μ²/r.

    The decoder outputs a standardized log μ. An output of 0 predicts the mean of the column. The
    dispersion r is one weight per column, or a second output of the decoder.

    Args:
        indices: Positions of the columns in the array of the table.
        columns: The columns.
        scale: If `"decoded"`, the decoder outputs r. For any other value, r is a weight.
    """

    LARGEST_RAW = 8.0

    def __init__(self, indices: Sequence[int], columns: Sequence[Column], scale: str) -> None:
        super().__init__(indices, columns)
        self.decoded = scale == "decoded"
        self.parameters_per_column = 2 if self.decoded else 1
        mean = np.array([max(column.mean, 1e-3) for column in columns])
        variance = np.array([column.scale**2 for column in columns])
        excess = np.maximum(variance - mean, 1e-3 * mean)
        self.log_mean = np.float32(np.log(mean))
        self.log_unit = np.float32(np.sqrt(np.log1p(variance / mean**2)))
        # r of a negative binomial with the mean and the variance of the column
        self.log_dispersion = np.float32(np.log(np.clip(mean**2 / excess, 1e-3, 1e4)))

    def add_weights(self, add_weight: AddWeight) -> None:
        """Make one dispersion per column, if the decoder does not output it."""
        if not self.decoded:
            self.raw_dispersion = add_weight((self.size,), "zeros", name="raw_dispersion")

    def distribution(self, parameters: tf.Tensor) -> Distribution:
        """Return the distribution of the counts."""
        from tensorflow_probability import distributions as tfd

        if self.decoded:
            location, raw = self.parts(parameters, 2)
        else:
            location, raw = parameters, tf.convert_to_tensor(self.raw_dispersion)
        log_mean = tf.minimum(self.log_mean + self.log_unit * location, LARGEST_LOG / 2)
        # a smooth limit, so that r stays a positive float32
        limited = self.LARGEST_RAW * tf.tanh(raw / self.LARGEST_RAW)
        log_dispersion = self.log_dispersion + limited
        dispersion = tf.broadcast_to(tf.exp(log_dispersion), tf.shape(log_mean))
        return tfd.NegativeBinomial(dispersion, logits=log_mean - log_dispersion)

    def estimate(self, expectation: tf.Tensor) -> tf.Tensor:
        """Return the means, rounded to whole numbers."""
        return tf.round(expectation)


class Bernoullis(Group):
    """Columns of kind `binary`, with entries 0 and 1. The decoder outputs the logit of 1."""

    def distribution(self, parameters: tf.Tensor) -> Distribution:
        """Return the distribution of the entries 0 and 1."""
        from tensorflow_probability import distributions as tfd

        return tfd.Bernoulli(logits=parameters, dtype=tf.float32)

    def estimate(self, expectation: tf.Tensor) -> tf.Tensor:
        """Return the more probable entry, 0 or 1."""
        return tf.cast(expectation > 0.5, tf.float32)


class Categoricals(Group):
    """Columns of kind `category` with the same number of categories.

    An entry is the index of a category. The decoder outputs one logit per category.

    Args:
        indices: Positions of the columns in the array of the table.
        columns: The columns.
        categories: Number of categories of each column.
    """

    def __init__(self, indices: Sequence[int], columns: Sequence[Column], categories: int) -> None:
        super().__init__(indices, columns)
        self.categories = categories
        self.parameters_per_column = categories
        self.expectations_per_column = categories

    def distribution(self, parameters: tf.Tensor) -> Distribution:
        """Return the distribution of the codes."""
        from tensorflow_probability import distributions as tfd

        return tfd.Categorical(logits=self.by_column(parameters))

    def log_prob(self, distribution: Distribution, x: tf.Tensor) -> tf.Tensor:
        """Return log p(x) of each column, `[..., size]`, for indices of categories `x`."""
        return distribution.log_prob(tf.cast(x, tf.int32))

    def expectation(self, distribution: Distribution) -> tf.Tensor:
        """Return the probabilities of the categories, `[..., size * categories]`."""
        probabilities = distribution.probs_parameter()
        leading = tf.shape(probabilities)[:-2]
        flat = tf.concat([leading, [self.expectation_size]], axis=0)
        return tf.reshape(probabilities, flat)

    def estimate(self, expectation: tf.Tensor) -> tf.Tensor:
        """Return the index of the most probable category of each column, `[..., size]`."""
        return tf.cast(tf.argmax(self.by_column(expectation), axis=-1), tf.float32)

    def by_column(self, values: tf.Tensor) -> tf.Tensor:
        """Reshape `[..., size * categories]` to `[..., size, categories]`."""
        leading = tf.shape(values)[:-1]
        return tf.reshape(values, tf.concat([leading, [self.size, self.categories]], axis=0))


class OrderedLogistics(Categoricals):
    """Columns of kind `ordinal` with the same number of categories (McCullagh 1980).

    An entry x is the index of a category. P(x > k) = sigmoid(μ − c_k). The decoder outputs μ. The
    cutpoints c_0 < c_1 < … are weights.
    """

    def __init__(self, indices: Sequence[int], columns: Sequence[Column], categories: int) -> None:
        super().__init__(indices, columns, categories)
        self.parameters_per_column = 1

    def add_weights(self, add_weight: AddWeight) -> None:
        """Make the cutpoints. At first, all categories have the same probability for μ = 0."""
        shares = np.arange(1, self.categories) / self.categories
        cutpoints = np.log(shares / (1 - shares))
        gaps = np.log(np.expm1(np.diff(cutpoints)))  # the inverse of softplus
        raw = np.concatenate([cutpoints[:1], gaps]).astype("float32")
        self.raw_cutpoints = add_weight(
            (self.size, self.categories - 1),
            initializer=lambda shape, dtype: tf.broadcast_to(tf.constant(raw, dtype), shape),
            name=f"raw_cutpoints_{self.categories}",
        )

    def distribution(self, parameters: tf.Tensor) -> Distribution:
        """Return the distribution of the codes.

        Let a = μ − c_(k−1) and b = μ − c_k. Then P(x = k) = sigmoid(a) − sigmoid(b). The method
        computes this difference as sigmoid(a) sigmoid(−b) (1 − e^(b − a)), because the logarithm of
        this product is finite for all μ.
        """
        from tensorflow_probability import distributions as tfd

        raw = tf.convert_to_tensor(self.raw_cutpoints)
        gaps = tf.math.softplus(raw[:, 1:]) + _SMALLEST_GAP
        cutpoints = tf.cumsum(tf.concat([raw[:, :1], gaps], axis=-1), axis=-1)
        distances = parameters[..., None] - cutpoints
        none = tf.zeros_like(distances[..., :1])
        reaches = tf.concat([none, tf.math.log_sigmoid(distances)], axis=-1)
        stays_below = tf.concat([tf.math.log_sigmoid(-distances), none], axis=-1)
        between = tf.pad(tf.math.log(-tf.math.expm1(-gaps)), [[0, 0], [1, 1]])
        return tfd.Categorical(logits=reaches + stays_below + between)


def groups_of(columns: Sequence[Column], scale: str) -> list[Group]:
    """Return the groups of the modeled columns of a table.

    The columns of a group have the same kind and, if they are categories, the same number of
    categories.
    """
    members: dict[tuple[str, int], list[int]] = {}
    for index, column in enumerate(columns):
        is_coded = column.kind in ("category", "ordinal")
        members.setdefault((column.kind, len(column.categories) if is_coded else 0), []).append(
            index
        )
    makers: dict[str, Callable[..., Group]] = {
        "real": Normals,
        "positive": LogNormals,
        "count": NegativeBinomials,
        "binary": Bernoullis,
        "category": Categoricals,
        "ordinal": OrderedLogistics,
    }
    groups = []
    for (kind, categories), indices in members.items():
        arguments: list[Any] = [indices, [columns[index] for index in indices]]
        if kind in ("real", "positive", "count"):
            arguments.append(scale)
        if kind in ("category", "ordinal"):
            arguments.append(categories)
        groups.append(makers[kind](*arguments))
    return groups
