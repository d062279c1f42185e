"""Names of the types that recur in signatures."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy.typing as npt
import tensorflow as tf

__all__ = ["Data", "Distribution", "Endpoint", "TensorLike"]

if TYPE_CHECKING:
    from tensorflow_probability.python.distributions import Distribution
else:
    Distribution = Any  # a `tfd.Distribution`; TFP takes a second to import, and `import keras_gen` should not

TensorLike = tf.Tensor | npt.ArrayLike
"""A tensor, an array, or lists of numbers."""

Data = tf.data.Dataset | TensorLike | Iterable[Any]
"""What `fit` takes: an array, a `tf.data.Dataset`, or a generator of batches."""

Endpoint = tuple[Callable[..., dict[str, tf.Tensor]], list[tf.TensorSpec]]
"""An endpoint of an exported model: function of tensors to a dictionary of tensors, input specs."""
