"""Names for the types in annotations."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

__all__ = ["Array", "Data", "Distribution", "Endpoint", "Examples", "TensorLike"]

if TYPE_CHECKING:
    from tensorflow_probability.distributions import Distribution
else:
    Distribution = Any  # a distribution of TensorFlow Probability, which takes a second to import

Array = tf.Tensor | np.ndarray
"""A tensor or an array."""

TensorLike = tf.Tensor | npt.ArrayLike
"""A tensor, an array, or lists of numbers."""

Examples = tf.data.Dataset | Array
"""A `tf.data.Dataset` or an array."""

Data = Examples | keras.utils.PyDataset | Iterator[Any]
"""Data for `fit`: a `tf.data.Dataset`, an array, a `keras.utils.PyDataset`, or a generator."""

Endpoint = tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]
"""A pair `(function, specs)` that describes one function of an exported model. The function takes
tensors and returns a dictionary of tensors. `specs` is a list with the `tf.TensorSpec` of each
argument of the function."""
