"""Compute the distributions of the columns of a table, for one group of columns at a time.

A group contains the columns that have the same kind of distribution, such as the normal
distribution. One object of TensorFlow Probability (`tfd`) represents the distributions of the whole
group. Therefore a table with hundreds of columns needs only a few TensorFlow operations. The
likelihood `Columns` combines the groups into the distribution of a whole row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gen._columns import NUMBERS, Column
from keras_gen._typing import Distribution
from keras_gen.distributions.posteriors import positive_scale

SMALLEST_SCALE = math.exp(-6)
"""Lower bound of σ, the standard deviation of a column given the latents.

For a real column, the unit is the standard deviation of the column in the training rows. For a
positive column, it is the standard deviation of the logarithms.
"""
LARGEST_LOG = 60.0
"""Upper bound of the logarithm of a mean. The exponential of 60 does not overflow in float32.

For columns of counts, the upper bound is half of this number.
"""

_SMALLEST_GAP = 1e-6  # between two cutpoints, so that no category has the probability 0

AddWeight = Callable[..., keras.Variable]
"""The method `add_weight` of a Keras layer."""


class Group:
    """Base class of groups of table columns that have the same kind of distribution.

    Each subclass implements one kind, such as the normal distribution. The decoder of a VAE outputs
    the parameters of the distributions: `parameters_per_column` numbers for each column.

    Args:
        indices: Positions of the group's columns in a row of the data array.
        columns: Descriptions of these columns, in the same order.
    """

    parameters_per_column = 1
    expectations_per_column = 1
    """Number of values that `expectation` returns per column: 1, or the number of categories."""

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
        """Make the weights of this group of columns. By default, a group has no weights."""

    def distribution(self, parameters: tf.Tensor) -> Distribution:
        """Return one `tfd.Distribution` with the distributions of all columns of the group.

        The batch shape of this distribution is `[..., number of columns]`.

        Args:
            parameters: The decoder's output for this group, `[..., parameter_size]`.
        """
        raise NotImplementedError

    def log_prob(self, distribution: Distribution, x: tf.Tensor) -> tf.Tensor:
        """Return log p of each entry of `x`, in the shape of `x`.

        Args:
            distribution: The distributions of all columns, from the method `distribution`.
            x: Entries without NaN, `[..., number of columns]`.
        """
        return distribution.log_prob(x)

    def sample(self, distribution: Distribution, number: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Sample `number` values per column, float32 `[number, ..., number of columns]`."""
        return tf.cast(distribution.sample(number, seed=seed), tf.float32)

    def expectation(self, distribution: Distribution) -> tf.Tensor:
        """Return the mean of each column, `[..., expectation_size]`.

        For columns of categories, return the probability of each category instead of the mean.
        """
        return distribution.mean()

    def estimate(self, expectation: tf.Tensor) -> tf.Tensor:
        """Return the most plausible entry of each column, `[..., number of columns]`.

        By default, this entry is the mean. Subclasses for counts round the mean. Subclasses for
        categories return the index of the most probable category, or of the median category if
        the categories are ordered.

        Args:
            expectation: Means or probabilities, the result of the method `expectation`.
        """
        return expectation

    def parts(self, parameters: tf.Tensor, number: int) -> list[tf.Tensor]:
        """Split the decoder's output into one tensor per parameter of the distribution.

        Args:
            parameters: The decoder's output for this group of columns, `[..., parameter_size]`.
            number: Number of parameters per column.

        Returns:
            `number` tensors `[..., number of columns]`.
        """
        return tf.split(parameters, number, axis=-1)


class Normals(Group):
    """Columns of kind `real`, with the normal distribution N(m + s μ, (s σ)²).

    m and s are the mean and the standard deviation of the column in the training rows. The decoder
    outputs μ. So an output of 0 predicts the mean m, and an output of 1 predicts m + s.

    Args:
        indices: Positions of the group's columns in a row of the data array.
        columns: Descriptions of these columns, in the same order.
        scale: How σ is obtained. `"optimal"`: the method `fitted` computes σ² as the mean squared
            error of the decoder. `"learned"`: σ is computed from a trainable weight. `"decoded"`:
            the decoder outputs σ.
    """

    def __init__(self, indices: Sequence[int], columns: Sequence[Column], scale: str) -> None:
        super().__init__(indices, columns)
        self.scale = scale
        self.parameters_per_column = 2 if scale == "decoded" else 1
        self.mean = np.array([column.mean for column in columns], np.float32)
        self.unit = np.array([column.scale for column in columns], np.float32)

    def add_weights(self, add_weight: AddWeight) -> None:
        """Make one weight per column for the standard deviation σ, unless the decoder outputs σ.

        If `scale` is `"learned"`, training changes the weight. If `scale` is `"optimal"`, the
        method `fitted` computes σ² from each batch, and the weight is the running mean of σ².
        """
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
        """Return the distributions of the columns for the loss of a training step.

        If `scale` is `"optimal"`, the variance σ² of a column is computed from the batch. σ² is the
        mean of (μ − x)² over the observed entries of the column. Here x is a standardized entry,
        and μ is the decoder's output for this entry. No gradient flows through σ, because this
        value of σ already minimizes the loss (Rybkin et al. 2021, arXiv:2006.13202). If the column
        has no observed entry in the batch, σ² is the running mean from earlier batches.

        For any other `scale`, the method returns the result of the method `distribution`.

        Args:
            parameters: The decoder's output for this group, `[samples, batch, parameter_size]`.
            x: Entries of the batch, `[batch, number of columns]`. Each missing entry must have
                been replaced by a number.
            observed: Bool `[batch, number of columns]`. False for each missing entry.
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
        """Return (x − m) / s, with the mean m and the standard deviation s of each column."""
        return (x - self.mean) / self.unit

    def in_units(self, location: tf.Tensor, scale: tf.Tensor) -> Distribution:
        """Convert normal distributions of standardized entries to the units of the table.

        The standardized entry ε has the distribution N(location, scale²). The entry in the table is
        m + s ε, where m and s are the mean and the standard deviation of the column. The method
        returns the distribution of the entry in the table.
        """
        from tensorflow_probability import distributions as tfd

        return tfd.Normal(self.mean + self.unit * location, self.unit * scale)


class LogNormals(Normals):
    """Columns of kind `positive`, with log-normal distributions.

    The logarithm of an entry has the distribution N(m + s μ, (s σ)²). m and s are the mean and the
    standard deviation of the logarithms in the training rows. The decoder outputs μ. The argument
    `scale` of the base class `Normals` says how σ is obtained.
    """

    def standardized(self, x: tf.Tensor) -> tf.Tensor:
        """Return the standardized logarithms of the entries."""
        return super().standardized(tf.math.log(x))

    def in_units(self, location: tf.Tensor, scale: tf.Tensor) -> Distribution:
        """Convert normal distributions of standardized logarithms to the units of the table.

        The standardized logarithm ε of an entry has the distribution N(location, scale²). The entry
        itself is exp(m + s ε), where m and s are the mean and the standard deviation of the
        column's logarithms. The method returns the distribution of the entry.
        """
        from tensorflow_probability import distributions as tfd

        return tfd.LogNormal(self.mean + self.unit * location, self.unit * scale)

    def expectation(self, distribution: Distribution) -> tf.Tensor:
        """Return the mean of each column, but at most e⁶⁰.

        The logarithm of an entry has a normal distribution N(a, b²). Therefore the mean of the
        entry is e^(a + b²/2). The limit e⁶⁰ keeps the mean finite in float32.
        """
        log_mean = distribution.loc + distribution.scale**2 / 2
        return tf.exp(tf.minimum(log_mean, LARGEST_LOG))


class NegativeBinomials(Group):
    """Columns of kind `count`, with negative binomial distributions.

    A negative binomial distribution has the mean μ and the variance μ + μ²/r. The decoder outputs a
    number from which log μ is computed. If this number is 0, μ is the mean of the column in the
    training rows. The dispersion r comes from one trainable weight per column, or from a second
    output of the decoder.

    Args:
        indices: Positions of the group's columns in a row of the data array.
        columns: Descriptions of these columns, in the same order.
        scale: If `"decoded"`, r comes from the decoder. For any other value, r comes from a weight.
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
        """Make a trainable weight per column for the dispersion r of the negative binomial.

        If the decoder outputs r, the method makes no weights.
        """
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


class Mixtures(Group):
    """Base class of groups of columns whose distributions are mixtures of K components.

    A group contains columns of a table that have the same kind of distribution. For each row and
    column, the decoder outputs the logits of the mixing probabilities π_1 … π_K. The locations and
    scales of the components are trainable weights that all rows share. A subclass implements
    `of_components`, which returns the distributions of the components.

    Args:
        indices: Positions of the group's columns in a row of the data array.
        columns: Descriptions of these columns, in the same order.
        num_components: K, the number of components per column.
    """

    def __init__(
        self, indices: Sequence[int], columns: Sequence[Column], num_components: int
    ) -> None:
        super().__init__(indices, columns)
        self.num_components = num_components
        self.parameters_per_column = num_components

    def add_weights(self, add_weight: AddWeight) -> None:
        """Make the locations and the scales of the components."""
        self.components = _Components(self, self.num_components, add_weight)

    def distribution(self, parameters: tf.Tensor) -> Distribution:
        """Return the mixtures."""
        from tensorflow_probability import distributions as tfd

        logits = _by_component(parameters, self.size, self.num_components)
        return tfd.MixtureSameFamily(tfd.Categorical(logits=logits), self.of_components())

    def of_components(self) -> Distribution:
        """Return the distributions of all mixture components as one `tfd.Distribution`.

        Its batch shape is `[number of columns, K]`, where K is the number of components per column.
        """
        raise NotImplementedError


class NormalMixtures(Mixtures):
    """Columns of kind `real`, with mixtures of normal distributions.

    The distribution of a column is Σ_k π_k N(m + s μ_k, (s σ_k)²). m and s are the mean and the
    standard deviation of the column in the training rows. Component k has the probability π_k, the
    location μ_k and the scale σ_k.
    """

    def __init__(
        self, indices: Sequence[int], columns: Sequence[Column], num_components: int
    ) -> None:
        super().__init__(indices, columns, num_components)
        self.mean = np.array([column.mean for column in columns], np.float32)
        self.unit = np.array([column.scale for column in columns], np.float32)

    def of_components(self) -> Distribution:
        """Return normal distributions with the batch shape `[number of columns, K]`."""
        from tensorflow_probability import distributions as tfd

        return tfd.Normal(*self.components.in_units(self.mean, self.unit))


class LogNormalMixtures(NormalMixtures):
    """Columns of kind `positive`, whose logarithms have a mixture of normal distributions."""

    def of_components(self) -> Distribution:
        """Return log-normal distributions with the batch shape `[number of columns, K]`."""
        from tensorflow_probability import distributions as tfd

        return tfd.LogNormal(*self.components.in_units(self.mean, self.unit))

    def expectation(self, distribution: Distribution) -> tf.Tensor:
        """Return the mean of each column, `[..., number of columns]`.

        The distribution of a column is a mixture. The mean of each mixture component is limited to
        e⁶⁰, so that it is finite in float32.
        """
        components = distribution.components_distribution
        log_means = tf.minimum(components.loc + components.scale**2 / 2, LARGEST_LOG)
        weights = tf.nn.softmax(distribution.mixture_distribution.logits)
        return tf.reduce_sum(weights * tf.exp(log_means), axis=-1)


class DiscretizedLogisticMixtures(Mixtures):
    """Columns of kind `count`, with discretized mixtures of logistic distributions.

    Let y be a continuous variable whose distribution is a mixture of K logistic distributions. The
    probability of the count x is the probability that y lies between log(x + 1/2) and log(x + 3/2).
    For x = 0, this interval begins at −∞. The formula is equation 2 of Salimans et al. 2017
    (arXiv:1701.05517), applied to log(1 + x). The method `distribution` returns the distribution of
    y.
    """

    def of_components(self) -> Distribution:
        """Return logistic distributions with the batch shape `[number of columns, K]`."""
        from tensorflow_probability import distributions as tfd

        return tfd.Logistic(*self.components.in_units(np.zeros(1), np.ones(1)))

    def log_prob(self, distribution: Distribution, x: tf.Tensor) -> tf.Tensor:
        """Return log P(x) of each count in `x`, in the shape of `x`.

        P(x) is the weighted sum of the probabilities of x under all mixture components. For a
        component with location l and scale s, let a = (log(x + 1/2) − l) / s and
        b = (log(x + 3/2) − l) / s. The probability of a count x > 0 is sigmoid(b) − sigmoid(a). In
        float32, this difference could be rounded to 0. Therefore the method computes the product
        sigmoid(b) sigmoid(−a) (1 − e^(a − b)), which equals the difference. The probability of
        x = 0 is sigmoid(b).
        """
        components = distribution.components_distribution
        x = x[..., None]
        upper = (tf.math.log(x + 1.5) - components.loc) / components.scale
        lower = (tf.math.log(x + 0.5) - components.loc) / components.scale
        width = tf.math.log1p(1 / (x + 0.5)) / components.scale
        inside = tf.math.log_sigmoid(-lower) + tf.math.log(-tf.math.expm1(-width))
        of_component = tf.math.log_sigmoid(upper) + tf.where(x > 0, inside, 0.0)
        log_weights = tf.math.log_softmax(distribution.mixture_distribution.logits)
        return tf.reduce_logsumexp(log_weights + of_component, axis=-1)

    def sample(self, distribution: Distribution, number: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Sample whole numbers, float32 `[number, ..., number of columns]`."""
        y = tf.minimum(distribution.sample(number, seed=seed), LARGEST_LOG / 2)
        return tf.maximum(tf.round(tf.math.expm1(y)), 0.0)

    def expectation(self, distribution: Distribution) -> tf.Tensor:
        """Return an approximate mean of each column of counts: Σ_k π_k max(e^(l_k) − 1, 0).

        π_k is the probability of component k, and l_k is the location of this component. Components
        describe log(1 + count), so the location l_k corresponds to the count e^(l_k) − 1.
        """
        centers = tf.maximum(tf.math.expm1(distribution.components_distribution.loc), 0.0)
        weights = tf.nn.softmax(distribution.mixture_distribution.logits)
        return tf.reduce_sum(weights * centers, axis=-1)

    def estimate(self, expectation: tf.Tensor) -> tf.Tensor:
        """Return the means, rounded to whole numbers."""
        return tf.round(expectation)


class _Components:
    """Trainable locations and scales of the mixture components of each column.

    For real columns, locations and scales describe standardized entries. For positive columns, they
    describe standardized logarithms of the entries. For counts, they describe log(1 + count), which
    is not standardized. On this scale, the initial locations of a column are evenly spaced, from
    the smallest to the largest entry of the training rows.

    Args:
        group: The group of columns.
        number: K, the number of components per column.
        add_weight: The method `add_weight` of the Keras layer that will contain the weights.
    """

    def __init__(self, group: Group, number: int, add_weight: AddWeight) -> None:
        ends = np.array([_ends(column) for column in group.columns], np.float32)
        locations = np.linspace(ends[:, 0], ends[:, 1], number, axis=1)
        gaps = (ends[:, 1:] - ends[:, :1]) / max(number - 1, 1)
        rounding = np.array([_rounding(column) for column in group.columns], np.float32)
        self.smallest = np.maximum(rounding, SMALLEST_SCALE * (ends[:, 1] - ends[:, 0]) / 6)
        scales = np.log(np.expm1(np.maximum(gaps / gaps.mean(), 1e-3)))
        self.unit = np.float32(gaps.mean())
        kind = group.columns[0].kind

        def constant(values: np.ndarray) -> Callable[..., tf.Tensor]:
            return lambda shape, dtype: tf.broadcast_to(tf.constant(values, dtype), shape)

        shape = (group.size, number)
        self.locations = add_weight(
            shape, constant(locations.astype("float32")), name=f"locations_{kind}"
        )
        self.raw_scales = add_weight(
            shape, constant(scales.astype("float32")), name=f"raw_scales_{kind}"
        )

    def in_units(self, mean: np.ndarray, unit: np.ndarray) -> tuple[tf.Tensor, tf.Tensor]:
        """Undo the standardization of the locations and scales of the mixture components.

        A location l becomes mean + unit · l. A scale s becomes unit · s.

        Args:
            mean: Mean of each column, or one number for all columns.
            unit: Standard deviation of each column, or one number for all columns.

        Returns:
            The locations and the scales, two tensors `[number of columns, K]`. K is the number of
            components per column.
        """
        mean, unit = np.reshape(mean, (-1, 1)), np.reshape(unit, (-1, 1))
        raw_scales = tf.convert_to_tensor(self.raw_scales)
        scales = self.smallest[:, None] + self.unit * tf.math.softplus(raw_scales)
        return mean + unit * tf.convert_to_tensor(self.locations), unit * scales


def _ends(column: Column) -> tuple[float, float]:
    """Return the locations of the first and the last mixture component of a column before training.

    The two locations are computed from the smallest and the largest entry x of the training rows.
    In a column of counts, the location is log(1 + x). In a column of real numbers, the location is
    the standardized x. In a column of positive numbers, the location is the standardized logarithm
    of x. The second location is always greater than the first.

    The smallest or the largest entry can be unknown. In a column of counts, the mean minus or plus
    three standard deviations, but at least 0, then replaces this entry. In any other column, the
    two locations are then −3 and 3.
    """
    low, high = column.minimum, column.maximum
    if column.kind == "count":
        low = max(column.mean - 3 * column.scale, 0.0) if low is None else low
        high = column.mean + 3 * column.scale if high is None else high
        return math.log1p(low), max(math.log1p(high), math.log1p(low) + 1e-3)
    if low is None or high is None:
        return -3.0, 3.0
    if column.kind == "positive":
        low, high = math.log(low), math.log(high)
    low, high = (low - column.mean) / column.scale, (high - column.mean) / column.scale
    return low, max(high, low + 1e-3)


def _rounding(column: Column) -> float:
    """Return the standard deviation of the rounding errors of a column, divided by `column.scale`.

    `column.scale` is the standard deviation of the column. The distribution of the column is a
    mixture. The standard deviation of each mixture component, also divided by `column.scale`, must
    be at least the result of this function. Suppose that many rows contain the same number. Without
    the lower bound, the standard deviation of a component whose mean is this number could shrink to
    0 during training. The density at this number would then grow without limit. If the number of
    decimal places is not known, or if the kind of the column is not `real`, the function returns 0.
    """
    if column.decimals is None or column.kind != "real":
        return 0.0
    return 10.0**-column.decimals / math.sqrt(12) / column.scale


def _by_component(parameters: tf.Tensor, size: int, number: int) -> tf.Tensor:
    """Reshape `[..., size * number]` to `[..., size, number]`."""
    leading = tf.shape(parameters)[:-1]
    return tf.reshape(parameters, tf.concat([leading, [size, number]], axis=0))


class Bernoullis(Group):
    """A group of columns of kind `binary`, whose entries 0 and 1 have Bernoulli distributions.

    For each column, the decoder outputs one logit. The sigmoid of the logit is the probability of
    the entry 1.
    """

    def distribution(self, parameters: tf.Tensor) -> Distribution:
        """Return the distribution of the entries 0 and 1."""
        from tensorflow_probability import distributions as tfd

        return tfd.Bernoulli(logits=parameters, dtype=tf.float32)

    def estimate(self, expectation: tf.Tensor) -> tf.Tensor:
        """Return the more probable entry, 0 or 1."""
        return tf.cast(expectation > 0.5, tf.float32)


class Categoricals(Group):
    """A group of columns of kind `category`, which all have the same number of categories.

    An entry of a column is the index of a category. For each column, the decoder outputs one logit
    per category.

    Args:
        indices: Positions of the group's columns in a row of the data array.
        columns: Descriptions of these columns, in the same order.
        categories: Number of categories of each column.
    """

    def __init__(self, indices: Sequence[int], columns: Sequence[Column], categories: int) -> None:
        super().__init__(indices, columns)
        self.categories = categories
        self.parameters_per_column = categories
        self.expectations_per_column = categories

    def distribution(self, parameters: tf.Tensor) -> Distribution:
        """Return the distribution of the indices of the categories."""
        from tensorflow_probability import distributions as tfd

        return tfd.Categorical(logits=self.by_column(parameters))

    def log_prob(self, distribution: Distribution, x: tf.Tensor) -> tf.Tensor:
        """Return log p of each entry of `x`. An entry is the index of a category, as a float."""
        return distribution.log_prob(tf.cast(x, tf.int32))

    def expectation(self, distribution: Distribution) -> tf.Tensor:
        """Return the probabilities of the categories, `[..., number of columns * categories]`."""
        probabilities = distribution.probs_parameter()
        leading = tf.shape(probabilities)[:-2]
        flat = tf.concat([leading, [self.expectation_size]], axis=0)
        return tf.reshape(probabilities, flat)

    def estimate(self, expectation: tf.Tensor) -> tf.Tensor:
        """Return the index of the most probable category of each column."""
        return tf.cast(tf.argmax(self.by_column(expectation), axis=-1), tf.float32)

    def by_column(self, values: tf.Tensor) -> tf.Tensor:
        """Reshape `[..., size * categories]` to `[..., size, categories]` for `size` columns."""
        return _by_component(values, self.size, self.categories)


class OrderedLogistics(Categoricals):
    """Columns of kind `ordinal`, which all have the same number K of categories.

    The distribution is the ordered logistic distribution (McCullagh 1980). An entry x is the index
    of a category, from 0 to K − 1. The probability that x is greater than k is sigmoid(μ − c_k).
    The decoder outputs one μ per column. The cutpoints c_0 < c_1 < … < c_(K−2) of each column are
    trainable weights.
    """

    def __init__(self, indices: Sequence[int], columns: Sequence[Column], categories: int) -> None:
        super().__init__(indices, columns, categories)
        self.parameters_per_column = 1

    def add_weights(self, add_weight: AddWeight) -> None:
        """Make the weights from which the cutpoints c_0 < c_1 < … of each column are computed.

        A cutpoint is the boundary between two neighboring categories. With the initial weights, all
        categories have the same probability if the decoder outputs 0.
        """
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
        """Return the distribution of each column. An entry is the index of a category.

        For one column, μ is the decoder's output, K is the number of categories, and
        c_0 < … < c_(K−2) are the cutpoints, the boundaries between neighboring categories. Let
        a = μ − c_(k−1) and b = μ − c_k. The probability of category k is sigmoid(a) − sigmoid(b).
        For k = 0, the first term is 1. For k = K − 1, the second term is 0. In float32, the
        difference could be rounded to 0. Therefore the method computes the product
        sigmoid(a) sigmoid(−b) (1 − e^(b − a)), which equals the difference.
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

    def estimate(self, expectation: tf.Tensor) -> tf.Tensor:
        """Return the index of the median category of each column, `[..., number of columns]`.

        The median is the first category whose cumulative probability is at least 1/2.

        Args:
            expectation: Probabilities of the categories, the result of the method `expectation`.
        """
        cumulative = tf.cumsum(self.by_column(expectation), axis=-1)[..., :-1]
        return tf.reduce_sum(tf.cast(cumulative < 0.5, tf.float32), axis=-1)


def groups_of(columns: Sequence[Column], scale: str, num_components: int) -> list[Group]:
    """Divide the columns of a table into groups with the same kind of distribution.

    Two columns are in the same group if they have the same kind and the same number of categories.

    Args:
        columns: Columns of the table, without constants and identifiers.
        scale: How the scales of the distributions are obtained: `"optimal"`, `"learned"`,
            `"decoded"` or `"mixture"`. The docstring of `Columns` describes these choices.
        num_components: Number of components per column, if `scale` is `"mixture"`.
    """
    members: dict[tuple[str, int], list[int]] = {}
    for index, column in enumerate(columns):
        is_coded = column.kind in ("category", "ordinal")
        number = len(column.categories) if is_coded else 0
        members.setdefault((column.kind, number), []).append(index)
    mixture = scale == "mixture"
    of_numbers: Any = num_components if mixture else scale
    makers: dict[str, Callable[..., Group]] = {
        "real": NormalMixtures if mixture else Normals,
        "positive": LogNormalMixtures if mixture else LogNormals,
        "count": DiscretizedLogisticMixtures if mixture else NegativeBinomials,
        "binary": Bernoullis,
        "category": Categoricals,
        "ordinal": OrderedLogistics,
    }
    groups = []
    for (kind, categories), indices in members.items():
        arguments: list[Any] = [indices, [columns[index] for index in indices]]
        if kind in NUMBERS:
            arguments.append(of_numbers)
        if kind in ("category", "ordinal"):
            arguments.append(categories)
        groups.append(makers[kind](*arguments))
    return groups
