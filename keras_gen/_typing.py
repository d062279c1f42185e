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
    Distribution = Any  # a `tfd.Distribution`. The import of TFP takes a second.

Array = tf.Tensor | np.ndarray
"""A tensor or an array."""

TensorLike = tf.Tensor | npt.ArrayLike
"""A tensor, an array, or lists of numbers."""

Examples = tf.data.Dataset | Array
"""A `tf.data.Dataset` or an array."""

Data = Examples | keras.utils.PyDataset | Iterator[Any]
"""Data for `fit`: a `tf.data.Dataset`, an array, a `keras.utils.PyDataset`, or a generator."""

Endpoint = tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]
"""A function of an exported model, and the specs of its inputs. The function takes tensors and
returns a dictionary of tensors."""
