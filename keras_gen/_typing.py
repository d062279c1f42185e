"""Names of the types that recur in signatures."""

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
    Distribution = Any  # a `tfd.Distribution`; importing TFP takes a second, so it waits

Array = tf.Tensor | np.ndarray
"""A tensor or an array."""

TensorLike = tf.Tensor | npt.ArrayLike
"""A tensor, an array, or lists of numbers."""

Examples = tf.data.Dataset | Array
"""A `tf.data.Dataset` or an array."""

Data = Examples | keras.utils.PyDataset | Iterator[Any]
"""What `fit` takes: a `tf.data.Dataset`, an array, a `keras.utils.PyDataset`, or a generator."""

Endpoint = tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]
"""An endpoint of an exported model: a function of tensors to a dictionary of tensors, and the
specs of its inputs."""
