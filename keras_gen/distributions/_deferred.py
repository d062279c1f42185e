"""A normal distribution of TensorFlow Probability (TFP) that is made only when it is needed."""

from __future__ import annotations

import functools
import threading
from typing import Any

import tensorflow as tf

from keras_gen._typing import Distribution


def deferred_normal(mean: tf.Tensor, scale: tf.Tensor) -> Distribution:
    """Return N(μ, diag σ²) over the last axis. Its mean takes no time in eager mode.

    Making a distribution of TFP takes several times as long as a small encoder. Therefore, in eager
    mode, the distribution first stores only `mean` and `scale`. It becomes a complete
    `tfd.Independent` when more of it is used than `mean()` and `stddev()`.

    Args:
        mean: Mean μ of each element, `[..., n]`.
        scale: Standard deviation σ of each element, of the same shape.
    """
    from tensorflow_probability import distributions as tfd

    if not tf.executing_eagerly():
        return tfd.Independent(tfd.Normal(mean, scale), 1)
    deferred = object.__new__(_deferred_class())
    deferred.__dict__["_mean_and_scale"] = (mean, scale)
    return deferred


@functools.cache
def _deferred_class() -> type[Distribution]:
    """Return the class of the distributions that the function `deferred_normal` makes."""
    from tensorflow_probability import distributions as tfd

    lock = threading.RLock()  # one thread completes a distribution, and others wait

    class DeferredIndependent(tfd.Independent):
        """Distribution of independent elements, which can be made later.

        Before that, the attribute `_mean_and_scale` is its only attribute. Afterwards, all
        attributes exist except this one.
        """

        def mean(self, name: str = "mean", **kwargs: Any) -> tf.Tensor:
            """Return the mean of each element."""
            stored = self.__dict__.get("_mean_and_scale")
            return super().mean(name, **kwargs) if stored is None else stored[0]

        def stddev(self, name: str = "stddev", **kwargs: Any) -> tf.Tensor:
            """Return the standard deviation of each element."""
            stored = self.__dict__.get("_mean_and_scale")
            return super().stddev(name, **kwargs) if stored is None else stored[1]

        def __getattr__(self, name: str) -> Any:
            # Python calls this method only for attributes that do not exist.
            with lock:
                stored = self.__dict__.get("_mean_and_scale")
                if stored is not None:
                    # Another thread must not use an object that lacks attributes. Therefore the
                    # attributes of a second object are copied, all at once. `self` was made in
                    # eager mode, so the attributes must not be tensors of a graph.
                    complete = object.__new__(type(self))
                    with tf.init_scope():
                        super(DeferredIndependent, complete).__init__(tfd.Normal(*stored), 1)
                    self.__dict__.update(complete.__dict__)
                    del self.__dict__["_mean_and_scale"]
            return object.__getattribute__(self, name)

    return DeferredIndependent
