"""The likelihood of the rows of a table."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._columns import Column, modeled_columns
from keras_gen._typing import Distribution, TensorLike
from keras_gen.distributions._column_groups import Group, Normals, groups_of
from keras_gen.distributions.likelihoods import Likelihood

_LARGEST = float(np.finfo(np.float32).max)
_SMALLEST_POSITIVE = float(np.finfo(np.float32).tiny)


@keras.saving.register_keras_serializable("keras_gen")
class Columns(Likelihood):
    """Likelihood of one row of a table: a product of one distribution per column.

    ==============  =================================  =========================
    kind of column  distribution                       the decoder outputs
    ==============  =================================  =========================
    `"real"`        normal                             the mean
    `"positive"`    log-normal                         the mean of the logarithm
    `"count"`       negative binomial                  the logarithm of the mean
    `"binary"`      Bernoulli                          one logit
    `"category"`    categorical                        one logit per category
    `"ordinal"`     ordered logistic (McCullagh 1980)  the location
    ==============  =================================  =========================

    log p(x | z) is the log-likelihood of a row x given the latents z, in nats per row. The
    distributions describe the entries in the units of the table. For real and positive columns,
    log p is a log-density, which depends on the unit. For instance, log p changes if grams are
    converted to kilograms. For all other columns, log p is a log-probability.

    The means in the table above are standardized: an output of 0 predicts the mean of the column in
    the training rows. For a positive column, an output of 0 predicts the mean of the logarithms.

    A missing entry is NaN. log p(x | z) omits missing entries (Mattei & Frellsen 2019,
    arXiv:1812.02633).

    Args:
        columns: Columns of the table, such as `table.columns`. Constants and identifiers are
            ignored.
        scale: How to obtain σ. For a real column, σ is the standard deviation of the numbers, given
            z. For a positive column, σ is the standard deviation of their logarithms, given z. One
            of the following:

            * `"optimal"`, the default: one σ per column, which a formula computes (Rybkin et al.
              2021, arXiv:2006.13202). In a training step, σ² is the mean squared error of the
              decoder on the batch. Outside of training, σ² is the running mean of these mean
              squared errors.
            * `"learned"`: one σ per column, a weight that is trained with the model.
            * `"decoded"`: one σ per row and column, which the decoder outputs. The decoder then
              also outputs the dispersion r of each count. A count with the mean μ has the variance
              μ + μ²/r.
            * `"mixture"`: the distribution of each number is a mixture of `num_components`
              components. The components are normal distributions for real columns, log-normal
              distributions for positive columns, and discretized logistic distributions for counts
              (Salimans et al. 2017, arXiv:1701.05517). The decoder outputs the logits of the mixing
              probabilities. All rows share the locations and scales of the components, which are
              weights of this layer. Use mixtures if a column has several peaks, or if many rows
              have the same number, such as 0.

            With `"optimal"` and `"learned"`, the dispersion of a count is a weight that is trained.
        num_components: Number of components of each mixture. Only for `scale="mixture"`.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Raises:
        ValueError: If all `columns` are constants or identifiers, if two of them have the same
            name, or if `scale` or `num_components` is invalid.

    Example:

    >>> from keras_gen.data import Column
    >>> likelihood = Columns([
    ...     Column("mass", "real", mean=4200.0, scale=800.0),
    ...     Column("species", "category", ("Adelie", "Chinstrap", "Gentoo"))])
    >>> likelihood.parameter_shape
    (4,)
    >>> row = [[4200.0, float("nan")]]  # the species is not observed
    >>> round(float(likelihood(tf.zeros((1, 4))).log_prob(row)[0]), 3)
    -7.604
    """

    generates_samples = True

    def __init__(
        self,
        columns: Iterable[Column],
        scale: Literal["optimal", "learned", "decoded", "mixture"] = "optimal",
        num_components: int = 20,
        **kwargs: Any,
    ) -> None:
        columns = tuple(columns)
        modeled = modeled_columns(columns)
        if scale not in ("optimal", "learned", "decoded", "mixture"):
            raise ValueError(
                "`scale` of Columns must be 'optimal', 'learned', 'decoded' or 'mixture'. "
                f"Received: scale={scale!r}"
            )
        super().__init__((len(modeled),), missing=True, **kwargs)
        self.columns = columns
        self.scale = scale
        self.modeled = modeled
        self.num_components = positive_int(self, "num_components", num_components)
        self.groups = tuple(groups_of(modeled, scale, self.num_components))
        add_weight = functools.partial(self.add_weight, dtype="float32", autocast=False)
        for group in self.groups:
            group.add_weights(add_weight)
        self.support = _support(modeled)
        self.whole = np.array([column.kind != "real" for column in modeled])
        self.whole &= np.array([column.kind != "positive" for column in modeled])
        self.element_names = tuple(column.name for column in modeled)
        # position of each column in the concatenated groups
        self._order = np.argsort(np.concatenate([group.indices for group in self.groups]))

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """Shape of the decoder's output for one row."""
        return (sum(group.parameter_size for group in self.groups),)

    def __call__(self, parameters: TensorLike) -> Distribution:
        """Make the distribution p(x | z) of rows x from the output of the decoder.

        Args:
            parameters: The decoder's output, `[..., *parameter_shape]`.
        """
        parts = self._parts(parameters)
        distributions = [
            group.distribution(part) for group, part in zip(self.groups, parts, strict=True)
        ]
        return self._product(distributions, parts[0])

    def fitted(self, parameters: TensorLike, x: tf.Tensor) -> Distribution:
        """Make the distribution p(x | z) for the loss of a training step.

        If `scale` is `"optimal"`, the σ of each real or positive column is computed from the errors
        of the decoder on the rows `x`. For all other values of `scale`, and for all other columns,
        the distribution does not depend on `x`.

        Args:
            parameters: The decoder's output, `[..., *parameter_shape]`.
            x: Rows of the training batch, `[batch, columns]`. A missing entry is NaN.
        """
        parts = self._parts(parameters)
        observed = ~tf.math.is_nan(x)
        x = self.filled(x)
        distributions = []
        for group, part in zip(self.groups, parts, strict=True):
            if isinstance(group, Normals):
                of_group = [tf.gather(values, group.indices, axis=-1) for values in (x, observed)]
                distributions.append(group.fitted(part, *of_group))
            else:
                distributions.append(group.distribution(part))
        return self._product(distributions, parts[0])

    def element_log_prob(self, distribution: Distribution, x: tf.Tensor) -> tf.Tensor:
        """Return log p of each entry, `[..., columns]`. For an entry that is NaN, log p is 0."""
        return distribution.element_log_prob(x)

    def expectation(self, distribution: Distribution) -> tf.Tensor:
        """Return the mean of each column of numbers, and the probability of each category.

        The last axis of the result contains all means and probabilities. For instance, it has 5
        values for two columns of numbers and one column with three categories. A binary column has
        only one value, the probability of its second category. The values of columns of the same
        kind are next to each other. The method `estimate` converts all values to rows.
        """
        values = [
            group.expectation(of_group)
            for group, of_group in zip(self.groups, distribution.of_groups, strict=True)
        ]
        return tf.concat(values, axis=-1)

    def estimate(self, expectation: tf.Tensor) -> tf.Tensor:
        """Return rows with the most plausible entry of each column.

        For a column of numbers, this entry is the mean, which is rounded for counts. For a column
        of kind `binary` or `category`, it is the most probable category. For a column of kind
        `ordinal`, it is the median category.

        Args:
            expectation: Means and probabilities, the result of the method `expectation`.
        """
        sizes = [group.expectation_size for group in self.groups]
        parts = tf.split(expectation, sizes, axis=-1)
        values = [group.estimate(part) for group, part in zip(self.groups, parts, strict=True)]
        return tf.gather(tf.concat(values, axis=-1), self._order, axis=-1)

    def filled(self, x: tf.Tensor) -> tf.Tensor:
        """Replace each missing entry (NaN) by a typical entry of its column.

        Computations such as log-probabilities then have finite results for all entries. The caller
        ignores the results for the missing entries.
        """
        fill = np.array([column.typical for column in self.modeled], np.float32)
        return tf.where(tf.math.is_nan(x), fill, x)

    def _parts(self, parameters: TensorLike) -> list[tf.Tensor]:
        """Split the decoder's output into one tensor per group."""
        sizes = [group.parameter_size for group in self.groups]
        return tf.split(tf.cast(parameters, tf.float32), sizes, axis=-1)

    def _product(self, of_groups: list[Distribution], part: tf.Tensor) -> Distribution:
        """Combine the distributions of the groups of columns into a distribution of whole rows.

        Args:
            of_groups: One distribution per group of columns.
            part: Part of the decoder's output for one of the groups, `[..., size]`. The method uses
                only the shape of `part`, and the result gets the batch shape `[...]`. Therefore it
                does not matter which group is chosen.
        """
        product = _product_of_columns()
        return product(self.groups, of_groups, self._order, self.filled, tf.shape(part)[:-1])


@functools.cache
def _product_of_columns() -> type[Distribution]:
    """Return the class of the distribution p(x | z) of the likelihood `Columns`.

    The class is defined in a function, because its base class is in TensorFlow Probability, whose
    import takes about a second.
    """
    import tensorflow_probability as tfp
    from tensorflow_probability import distributions as tfd

    class ProductOfColumns(tfd.Distribution):
        """The distribution p(x | z) of a row x, a product of one distribution per column.

        `log_prob` is the sum over the entries of the row. A missing entry (NaN) adds 0 to this sum.
        """

        def __init__(
            self,
            groups: tuple[Group, ...],
            of_groups: list[Distribution],
            order: np.ndarray,
            filled: Callable[[tf.Tensor], tf.Tensor],
            batch_shape: tf.Tensor,
            name: str = "Columns",
        ) -> None:
            parameters = dict(locals())
            del parameters["self"], parameters["__class__"]
            super().__init__(
                dtype=tf.float32,
                reparameterization_type=tfd.NOT_REPARAMETERIZED,
                validate_args=False,
                allow_nan_stats=True,
                parameters=parameters,
                name=name,
            )
            self.groups = groups
            self.of_groups = of_groups
            self.order = order
            self.filled = filled
            self.shape_of_batch = batch_shape

        def _batch_shape(self) -> tf.TensorShape:
            return tf.TensorShape(tf.get_static_value(self.shape_of_batch))

        def _batch_shape_tensor(self) -> tf.Tensor:
            return self.shape_of_batch

        def _event_shape(self) -> tf.TensorShape:
            return tf.TensorShape([len(self.order)])

        def _event_shape_tensor(self) -> tf.Tensor:
            return tf.constant([len(self.order)])

        def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
            return tf.reduce_sum(self._log_prob_by_group(x), axis=-1)

        def element_log_prob(self, x: TensorLike) -> tf.Tensor:
            """Return log p of each entry of `x`, in the shape of `x`. For NaN, log p is 0."""
            by_group = self._log_prob_by_group(tf.convert_to_tensor(x, tf.float32))
            return tf.gather(by_group, self.order, axis=-1)

        def _log_prob_by_group(self, x: tf.Tensor) -> tf.Tensor:
            """Return log p of each entry, with the columns of each group next to each other.

            Training only needs their sum, so that no log-probability is gathered: the gradient of
            `tf.gather` is slow.
            """
            possible = self.filled(x)
            values = []
            for group, of_group in zip(self.groups, self.of_groups, strict=True):
                entries = tf.gather(possible, group.indices, axis=-1)
                values.append(group.log_prob(of_group, entries))
            missing = tf.gather(tf.math.is_nan(x), np.argsort(self.order), axis=-1)
            return tf.where(missing, 0.0, tf.concat(values, axis=-1))

        def _sample_n(self, n: tf.Tensor, seed: Any = None) -> tf.Tensor:
            seeds = tf.unstack(tfp.random.split_seed(seed, n=len(self.groups)))
            values = [
                group.sample(of_group, n, of_one)
                for group, of_group, of_one in zip(self.groups, self.of_groups, seeds, strict=True)
            ]
            return tf.gather(tf.concat(values, axis=-1), self.order, axis=-1)

    return ProductOfColumns


def _support(columns: tuple[Column, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest and the largest possible entry of each column."""
    low = {"real": -_LARGEST, "positive": _SMALLEST_POSITIVE}
    smallest = [low.get(column.kind, 0.0) for column in columns]
    largest = [len(column.categories) - 1 if column.categories else _LARGEST for column in columns]
    return np.array(smallest, np.float32), np.array(largest, np.float32)
