"""Layers that prepare data with missing entries for a network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gen._arguments import is_real, positive_int
from keras_gen._columns import Column, modeled_columns
from keras_gen._serialization import SerializableLayer


class _HidesEntries(SerializableLayer):
    """Base class of layers that receive data in which NaN means that the entry is missing.

    In a training step, the layer can also hide observed entries at random. The layer treats a
    hidden entry like a missing entry.

    Args:
        hide: Probability with which the layer hides an observed entry in a training step. Default:
            0.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.
    """

    def __init__(self, hide: float = 0.0, **kwargs: Any) -> None:
        # Under mixed precision, a column of large numbers would overflow in float16.
        super().__init__(autocast=False, **{"dtype": "float32", **kwargs})
        if not is_real(hide) or not 0 <= hide < 1:
            raise ValueError(
                f"`hide` of {type(self).__name__} must be a probability in [0, 1). "
                f"Received: hide={hide!r}"
            )
        self.hide = float(hide)
        self.seed_generator = keras.random.SeedGenerator() if hide else None

    def observed(self, x: tf.Tensor, training: bool) -> tf.Tensor:
        """Choose the entries of `x` that the network receives.

        The network does not receive missing entries, which are NaN. In a training step, the method
        also hides every observed entry with probability `hide`.

        Returns:
            A bool tensor, True for each entry that is neither missing nor hidden.
        """
        observed = ~tf.math.is_nan(x)
        if not training or self.seed_generator is None:
            return observed
        uniform = keras.random.uniform(tf.shape(x), dtype="float32", seed=self.seed_generator)
        return observed & (uniform >= self.hide)


@keras.saving.register_keras_serializable("keras_gen")
class ColumnFeatures(_HidesEntries):
    """Turn rows of a table into features for a network.

    The layer computes the following features and concatenates them:

    - An entry of a column of kind `real` is standardized with the mean and the standard deviation
      of the column. For the kind `positive`, the logarithm of the entry is standardized.
    - For an entry x of a column of kind `count`, log(1 + x) is scaled linearly. If x is the mean of
      the column, the feature is 0. If x is the mean plus the standard deviation, the feature is 1.
    - A binary entry becomes −1 or 1.
    - An entry of a column of kind `category` or `ordinal` becomes a one-hot vector. If
      `embedding_size` is given, the entry becomes a trained embedding instead.
    - The last features are a mask with one element per column. An element is 1 if the entry is
      observed, and 0 if the entry is missing.

    All features of a missing entry are 0. The layer is a part of the network. Therefore the
    `.keras` file and the SavedModel contain the layer, and a saved model receives rows in the units
    of the table.

    Args:
        columns: Columns of the table, such as `table.columns`. Constant columns and identifiers,
            such as row numbers, are ignored.
        embedding_size: Length of the trained vector for each category. Default: None, one-hot
            vectors. Use an embedding for columns with hundreds of categories.
        hide: Probability with which the layer hides an observed entry in a training step. Default:
            0, no entry is hidden. Training also maximizes the likelihood of the hidden entries. So
            the model learns to predict hidden entries from the other entries.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Raises:
        ValueError: If all `columns` are constants or identifiers, if two columns have the same
            name, if `embedding_size` is not a positive integer, or if `hide` is not in [0, 1).

    Example:

    >>> from keras_gen.data import Column
    >>> features = ColumnFeatures([
    ...     Column("mass", "real", mean=4200.0, scale=800.0),
    ...     Column("species", "category", ("Adelie", "Chinstrap", "Gentoo"))])
    >>> features(tf.constant([[5000.0, 2.0], [float("nan"), 0.0]])).numpy()
    array([[1., 0., 0., 1., 1., 1.],
           [0., 1., 0., 0., 0., 1.]], dtype=float32)
    """

    def __init__(
        self,
        columns: Iterable[Column],
        embedding_size: int | None = None,
        hide: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(hide, **kwargs)
        self.columns = tuple(columns)
        if embedding_size is not None:
            embedding_size = positive_int(self, "embedding_size", embedding_size)
        self.embedding_size = embedding_size
        modeled = modeled_columns(self.columns)
        self.num_columns = len(modeled)
        self._of_kind = {
            kind: [index for index, column in enumerate(modeled) if column.kind == kind]
            for kind in ("real", "positive", "count", "binary")
        }
        self._mean = np.array([column.mean for column in modeled], np.float32)
        self._scale = np.array([column.scale for column in modeled], np.float32)
        self._neutral = np.array([column.typical for column in modeled], np.float32)
        self._categories = {
            index: len(column.categories)
            for index, column in enumerate(modeled)
            if column.kind in ("category", "ordinal")
        }
        self.embeddings = {}
        for index, number in self._categories.items():
            if embedding_size is not None:
                self.embeddings[str(index)] = self.add_weight(
                    (number, embedding_size), "uniform", name=f"embedding_{index}"
                )

    @property
    def column_of_feature(self) -> tuple[int, ...]:
        """For each feature, the index of the table column from which the feature is computed.

        Constant columns and identifiers are not counted. The last features, which are the mask of
        the observed entries, are not included.
        """
        numbers = [index for indices in self._of_kind.values() for index in indices]
        for index, number in self._categories.items():
            numbers += [index] * (self.embedding_size or number)
        return tuple(numbers)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Return the shape `(batch, number of features)`."""
        numbers = sum(map(len, self._of_kind.values()))
        categories = self._categories.values()
        width = sum(self.embedding_size or number for number in categories)
        return (*input_shape[:-1], numbers + width + self.num_columns)

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the features `[batch, number of features]` of rows `[batch, columns]`."""
        observed = self.observed(x, training)
        mask = tf.cast(observed, tf.float32)
        x = tf.where(observed, x, self._neutral)  # so that no gradient is NaN
        features = []
        for kind, indices in self._of_kind.items():
            if indices:
                entries = tf.gather(x, indices, axis=-1)
                used = tf.gather(observed, indices, axis=-1)
                features.append(tf.where(used, self._feature(kind, entries, indices), 0.0))
        for index, number in self._categories.items():
            # `tf.one_hot` gives zeros for the code −1, which stands for a missing entry
            code = tf.where(observed[..., index], x[..., index], -1.0)
            one_hot = tf.one_hot(tf.cast(code, tf.int32), number)
            if self.embedding_size is None:
                features.append(one_hot)
            else:
                embedding = tf.convert_to_tensor(self.embeddings[str(index)])
                features.append(tf.tensordot(one_hot, embedding, 1))
        return tf.concat([*features, mask], axis=-1)

    def _feature(self, kind: str, entries: tf.Tensor, indices: list[int]) -> tf.Tensor:
        """Compute one feature per entry, for columns of one kind.

        Args:
            kind: Kind of the columns: `"real"`, `"positive"`, `"count"` or `"binary"`.
            entries: Entries of these columns, `[batch, number of columns]`.
            indices: Positions of these columns among all columns of the model.
        """
        mean = self._mean[indices]
        scale = self._scale[indices]
        if kind == "binary":
            return 2 * entries - 1
        if kind == "count":
            unit = np.log1p(mean + scale) - np.log1p(mean)
            return (tf.math.log1p(entries) - np.log1p(mean)) / unit
        scaled = tf.math.log(entries) if kind == "positive" else entries
        return (scaled - mean) / scale


@keras.saving.register_keras_serializable("keras_gen")
class MissingAsZero(_HidesEntries):
    """Replace missing elements (NaN) by 0, and append a mask of the observed elements.

    For images with missing pixels, pass this layer as the argument `features` of `networks.mlp` or
    `networks.conv_encoder`, and make the likelihood with `missing=True`. The last axis of the
    output contains first the elements, and then the mask. Therefore the last axis of the output is
    twice as long as the last axis of the input. The mask is 1 for an observed element and 0 for a
    missing element.

    Args:
        hide: Probability with which the layer treats an observed element as missing in a training
            step. Default: 0.
        **kwargs: Arguments `name`, `dtype` and `trainable` of `keras.layers.Layer`.

    Raises:
        ValueError: If `hide` is not in [0, 1).

    Example:

    >>> MissingAsZero()(tf.constant([[0.5, float("nan")]])).numpy()
    array([[0.5, 0. , 1. , 0. ]], dtype=float32)
    """

    def compute_output_shape(self, input_shape: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the shape of the input, but with twice the length of the last axis."""
        return (*input_shape[:-1], 2 * input_shape[-1])

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Replace missing elements by 0, and append the mask of the observed elements.

        In a training step, the layer treats some observed elements, chosen at random, as missing.
        The mask is 1 for an observed element, and 0 for a missing element. For an input `[..., n]`,
        the output has the shape `[..., 2n]`.
        """
        observed = self.observed(x, training)
        return tf.concat([tf.where(observed, x, 0.0), tf.cast(observed, tf.float32)], axis=-1)
