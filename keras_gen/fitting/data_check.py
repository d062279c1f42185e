"""The check of the data that `fit` and the other methods are given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gen._errors import mark
from keras_gen._typing import Array, Data, TensorLike
from keras_gen.data import as_arrays

_TOLERANCE = 1e-4


class DataCheck:
    """Whether data are what a model was built for: floats of one shape, within what the model can put out.

    Args:
        shape: Shape of one example.
        low, high: Smallest and largest value that the model can put out.
        num_classes: Number of labels that a conditional model is given as `y`; None for a model without a condition.
    """

    def __init__(
        self,
        shape: Sequence[int],
        low: float = -math.inf,
        high: float = math.inf,
        num_classes: int | None = None,
    ) -> None:
        self.shape = tuple(shape)
        self.low, self.high = low, high
        self.num_classes = num_classes

    def before_work(self, x: Data | None, y: Array | None = None, name: str = "x") -> None:
        """Look at what `fit` was given before it begins: arrays as a whole, data sets by what they say of themselves.

        Args:
            x: An array, a `tf.data.Dataset`, or anything else that `fit` takes, which is left to `in_step`.
            y: The target, if any.
            name: What the data are called in messages.

        Raises:
            ValueError: For a wrong shape or dtype, a value out of range or NaN, labels in the place of the target, and labels that are
                missing, no such integers or, in an array, none of the model's.
        """
        if isinstance(x, tf.data.Dataset):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(x.element_spec)
        if x is None or not (isinstance(x, (dict, list, tuple)) or hasattr(x, "dtype")):
            return
        target = self._target(x, y)
        if not isinstance(target, tf.TypeSpec) and len(target):
            target = np.asarray(target)
            if not (
                target.min() >= self.low - _TOLERANCE and target.max() <= self.high + _TOLERANCE
            ):
                first = np.argwhere(
                    ~((target >= self.low - _TOLERANCE) & (target <= self.high + _TOLERANCE))
                )[0]
                raise ValueError(
                    self._range_message(f"{target[tuple(first)]:g} at {first.tolist()} of {name}")
                )

    def examples(
        self, x: TensorLike | tf.data.Dataset, labels: TensorLike | None = None, at_least: int = 1
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Examples `[n, *shape]` and their labels `[n]`, if any, as arrays that have been looked at.

        Args:
            x: Examples `[n, *shape]`, or a data set of batches of them, which may have the labels, too.
            labels: Their labels `[n]` for a conditional model, None for another.
            at_least: How many examples there must be.

        Raises:
            ValueError: As `before_work`, and if there are fewer examples, or labels that the model does not know.
        """
        if isinstance(x, tf.data.Dataset):
            x, y = as_arrays(x)
            labels = y if labels is None and self.num_classes else labels
        x, labels = np.asarray(x, np.float32), None if labels is None else np.asarray(labels)
        if len(x) < at_least:
            raise ValueError(
                f"Expected at least {at_least} example{'s' if at_least > 1 else ''}. Received: {len(x)} examples."
            )
        if labels is not None and not self.num_classes:
            raise ValueError(
                "Expected no `condition`: the model is of examples without labels. Received: labels."
            )
        self.check_form("x", x)
        self.before_work(x, labels if self.num_classes else None)
        return x, labels

    def in_pipeline(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The same data set, whose values are checked on their way: what XLA compiles cannot do it inside the step.

        Args:
            dataset: Batches in one of the forms that `fit` takes.

        Raises:
            ValueError: For a wrong shape or dtype; for a value, by what reads the data set inside of `step_errors`.
        """

        def checked(*batch):
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
            x, target = self.in_step(x, y)
            if self.num_classes:
                return keras.utils.pack_x_y_sample_weight(target, y, sample_weight)
            return (
                target
                if y is None
                else keras.utils.pack_x_y_sample_weight(x, target, sample_weight)
            )

        return dataset.map(checked)

    def in_step(self, x: tf.Tensor, y: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Check a batch inside the step, its values too; XLA leaves the values out.

        Args:
            x: A batch `[batch, *shape]`.
            y: The target, of the same shape, or the labels `[batch]` of a conditional model.

        Returns:
            `(x, target)` as float32, the target being `x` where there is none, or labels in its place. What depends on the
            target does not run before its values are checked.

        Raises:
            ValueError: As `before_work`; for a value, in a graph, by `step_errors`.
        """
        target = self._target(x, y)
        x, target = (
            tf.ensure_shape(tf.cast(values, tf.float32), (None, *self.shape))
            for values in (x, target)
        )
        of_example = tf.reshape(target, (tf.shape(target)[0], math.prod(self.shape)))
        low, high = tf.reduce_min(of_example, axis=1), tf.reduce_max(of_example, axis=1)
        within = (low >= self.low - _TOLERANCE) & (high <= self.high + _TOLERANCE)
        within = tf.concat([within, [True]], axis=0)  # a replica may have no example at all
        first, message = (
            tf.argmin(tf.cast(within, tf.int32)),
            self._range_message("others, first in example # of its batch"),
        )
        if tf.executing_eagerly() and not tf.reduce_all(within):
            raise ValueError(message.replace("#", str(int(first))))
        with tf.control_dependencies(
            [tf.debugging.Assert(tf.reduce_all(within), [mark(message), first])]
        ):
            return x, tf.identity(target)

    def _target(self, x, y):
        """What the model is to put out for `x`: `y`, or `x` itself where there is none or labels stand there; all forms checked."""
        if self.num_classes:
            self._check_labels(y, self.num_classes)
        target = x if y is None or self.num_classes else y
        self.check_form("x", x)
        self.check_form("y", target)
        return target

    def _check_labels(self, y, num_classes):
        """Check that `y`, an array, a tensor or a spec, are labels; the values of an array, too."""
        what = f"Expected labels as `y`, integers of shape (batch,) from 0 to {num_classes - 1}, for this conditional model."
        if y is None:
            raise ValueError(
                f"{what} Received: none. Give them: fit(x, labels), or a data set of pairs."
            )
        if not hasattr(y, "dtype"):
            raise ValueError(
                f"{what} Received: a {type(y).__name__}. Make an array of it: np.asarray(labels)."
            )
        shape, dtype = tf.TensorShape(y.shape), tf.as_dtype(y.dtype)
        if not shape.is_compatible_with((None,)) or not dtype.is_integer:
            raise ValueError(f"{what} Received: shape {shape} of {dtype.name}.")
        if isinstance(y, np.ndarray) and y.size and not (y.min() >= 0 and y.max() < num_classes):
            raise ValueError(f"{what} Received: values from {y.min()} to {y.max()}.")

    def check_form(self, name: str, values: Any) -> None:
        """Check that `values` are floats of the shape of the data.

        Args:
            name: What they are called in messages: `y` for a target, which may be meant as labels.
            values: An array, a tensor or a spec.

        Raises:
            ValueError: If they are several arrays, or of another shape or dtype.
        """
        if isinstance(values, (dict, list, tuple)):
            raise ValueError(
                f"Expected `{name}` as one array. Received: a {type(values).__name__} of {len(values)}."
            )
        shape = tf.TensorShape(values.shape)
        if not shape.is_compatible_with((None, *self.shape)):
            what_to_do = "Reshape the data, or build the networks for their shape."
            if name == "y":
                what_to_do = (
                    "If these are labels: a model without a condition learns from x alone, so leave them out: "
                    "fit(x), or fit(dataset.map(lambda x, y: x))."
                )
            elif (*shape[1:], 1) == self.shape:
                what_to_do = "Add the axis of the channel: x[..., None]."
            expected = ", ".join(["batch", *map(str, self.shape)])
            raise ValueError(
                f"Expected `{name}` of shape ({expected}). Received: shape {shape}. {what_to_do}"
            )
        if not tf.as_dtype(values.dtype).is_floating:
            raise ValueError(
                f"Expected `{name}` as floats, pixels in [0, 1]. Received: dtype {tf.as_dtype(values.dtype).name}. "
                "Divide pixels of 0 to 255 by 255: x.astype('float32') / 255."
            )

    def _range_message(self, received):
        return (
            f"Expected data in [{self.low:g}, {self.high:g}], the range of the model's output, and no NaN. Received: {received}. "
            f"Scale pixels of 0 to 255 into it{': x / 255' if (self.low, self.high) == (0, 1) else ''}."
        )
