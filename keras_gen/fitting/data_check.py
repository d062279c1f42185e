"""Checks of the data that a model receives."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from keras_gen._errors import mark
from keras_gen._labels import as_tensor, check_form_of_labels, checked_labels, expected_labels
from keras_gen._tracing import assertion
from keras_gen._typing import Array, Data, TensorLike
from keras_gen.data import as_arrays

if TYPE_CHECKING:
    from keras_gen.distributions import Likelihood

_TOLERANCE = 1e-4  # values may exceed the range by this much, because of rounding errors
_LARGEST = np.finfo(np.float32).max


class DataCheck:
    """Check that data are floats of the right shape, and have values that the model can output.

    Args:
        shape: Shape of one example.
        low, high: Smallest and largest value that the model can output. Each is a number, or an
            array of shape `shape` with one number per element. For a table, an element is a column.
        num_classes: Number of classes of a conditional model, a model that receives labels as `y`.
            None for a model without labels.
        missing: Whether elements can be missing, that is, NaN.
        whole: Bool array of shape `shape`, which is True for each element that must be a whole
            number. None if no element must be a whole number.
        names: Names of the elements for error messages, such as the columns of a table.
    """

    def __init__(
        self,
        shape: Sequence[int],
        low: Any = -math.inf,
        high: Any = math.inf,
        num_classes: int | None = None,
        missing: bool = False,
        whole: np.ndarray | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.shape = tuple(shape)
        self.low = low
        self.high = high
        self.num_classes = num_classes
        self.missing = missing
        self.whole = whole
        self.names = names
        self.tolerance = _TOLERANCE

    @classmethod
    def of_likelihood(cls, likelihood: Likelihood, num_classes: int | None = None) -> DataCheck:
        """Make a `DataCheck` that accepts all data for which a likelihood can compute log p.

        Args:
            likelihood: The likelihood p(x | z) of the model.
            num_classes: Number of classes of a conditional model, otherwise None.
        """
        low, high = likelihood.support
        return cls(
            likelihood.event_shape,
            low,
            high,
            num_classes,
            likelihood.missing,
            likelihood.whole,
            likelihood.element_names,
        )

    def before_work(self, x: Data | None, y: Array | None = None, name: str = "x") -> None:
        """Check the data of `fit` before training starts.

        If the data are arrays, the method checks their shapes and dtypes. It also checks the values
        of the target and of the labels. The target is `x` if `y` is None or contains labels. If the
        data are a `tf.data.Dataset`, only the shapes and dtypes are checked. Data of other types,
        such as generators, are not checked here. During training, the method `in_step` checks every
        batch.

        Args:
            x: The data, of any type that `fit` accepts.
            y: The target, or the labels of a conditional model.
            name: Name of `x` in error messages.

        Raises:
            ValueError: If there is no example. If `x` or the target has the wrong shape or dtype.
                If a value of the target is invalid, as defined by the method `valid`. If the labels
                of a conditional model are missing, are not integers, or lie outside
                0 … num_classes − 1.
        """
        check_not_empty(x, name)
        if isinstance(x, tf.data.Dataset):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(x.element_spec)
        if x is None or not (isinstance(x, (dict, list, tuple)) or hasattr(x, "dtype")):
            return
        target = self._target(x, y, name)
        if isinstance(target, tf.TypeSpec):
            return
        target = np.asarray(target)
        if self._same_for_all_elements:
            low, high = self._limits
            if target.min() >= low and target.max() <= high:  # false if any value is NaN
                return
        valid = self.valid(target)
        if not valid.all():
            first = np.argwhere(~valid)[0]
            received = f"{target[tuple(first)]:g} at {first.tolist()} of {name}"
            raise ValueError(self._range_message(received, tuple(first[1:])))

    def examples(
        self,
        x: TensorLike | tf.data.Dataset,
        labels: TensorLike | None = None,
        at_least: int = 1,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return examples and their labels as checked arrays.

        Args:
            x: Examples `[n, *shape]`, or a `tf.data.Dataset` of batches, with or without labels.
            labels: Labels `[n]` for a conditional model. If None, the labels of the data set are
                used.
            at_least: Smallest allowed number of examples.

        Returns:
            `(examples, labels)`. The examples are float32 `[n, *shape]`. The labels are `[n]`, or
            None if the model is not conditional.

        Raises:
            ValueError: If the examples or labels have the wrong shape, dtype or values. If there
                are fewer than `at_least` examples. If `labels` are given, but the model is not
                conditional.
        """
        if isinstance(x, tf.data.Dataset):
            x, y = as_arrays(x)
            labels = y if labels is None and self.num_classes else labels
        x = np.asarray(x)
        self.check_form("x", x)
        x = x.astype(np.float32)
        labels = None if labels is None else np.asarray(labels)
        if len(x) < at_least:
            plural = "s" if at_least > 1 else ""
            raise ValueError(
                f"Expected at least {at_least} example{plural}. Received: {len(x)} examples."
            )
        if labels is not None and not self.num_classes:
            raise ValueError(
                "Expected no `condition`, since the model is not conditional. Received: labels."
            )
        self.before_work(x, labels if self.num_classes else None)
        return x, labels

    def in_pipeline(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """Return a data set that checks the shape, dtype and values of each batch of `dataset`.

        Use this method if XLA compiles the training step, because such a step cannot check values.

        Args:
            dataset: Batches `x`, `(x, y)` or `(x, y, sample_weight)`.

        Raises:
            ValueError: If the data have the wrong shape or dtype. Invalid values raise an error
                only when the data set is read.
        """

        def checked(*batch: Any) -> Any:
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
            x, target, labels = self.in_step(x, y)
            if self.num_classes:
                return keras.utils.pack_x_y_sample_weight(target, labels, sample_weight)
            if y is None:
                return target
            return keras.utils.pack_x_y_sample_weight(x, target, sample_weight)

        return dataset.map(checked)

    def in_step(
        self, x: tf.Tensor, y: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor | None]:
        """Check the shapes, dtypes and values of a batch inside a training or evaluation step.

        The method checks the values of the target and of the labels. If `x` is not the target, only
        the shape and the dtype of `x` are checked. If the compiler XLA compiles the step, the check
        of the values is omitted.

        Args:
            x: A batch `[batch, *shape]`.
            y: The target, of the same shape, or the labels `[batch]` of a conditional model.

        Returns:
            `(x, target, labels)`. `x` and the target are float32. If `y` is None or contains
            labels, the target is `x`. The labels are None if the model is not conditional. In a
            graph, an operation that uses the target or the labels runs only after the values are
            checked.

        Raises:
            ValueError: If the batch or the labels have the wrong shape, dtype or values. In a
                graph, an invalid value fails an assertion. The context manager `step_errors` turns
                this failure into the `ValueError`.
        """
        given = self._target(x, y)
        labels = self.labels(y, "y", len_of=x) if self.num_classes else None
        x = tf.ensure_shape(tf.cast(x, tf.float32), (None, *self.shape))
        target = tf.ensure_shape(tf.cast(given, tf.float32), (None, *self.shape))
        with tf.control_dependencies([] if labels is None else [labels]):
            return x, self._checked_values(target, "the batch"), labels

    # === Arguments of other methods than `fit` ===

    def inputs(self, x: Any, name: str = "x") -> tf.Tensor:
        """Check the data that a method of the model, such as `score`, receives.

        Args:
            x: Data `[batch, *shape]`, a tensor or anything that TensorFlow converts to a tensor.
            name: Name of `x` in error messages.

        Returns:
            `x` as float32. In a graph, an operation that uses the result runs only after the values
            are checked.

        Raises:
            ValueError: If `x` has the wrong shape or dtype, or a value that is NaN or out of range.
                In a graph, an assertion with the same message fails if a value is invalid.
        """
        x = as_tensor(name, x)
        self.check_form(name, x)
        x = tf.ensure_shape(tf.cast(x, tf.float32), (None, *self.shape))
        return self._checked_values(x, f"`{name}`")

    def labels(self, condition: Any, name: str = "condition", len_of: Any = None) -> tf.Tensor:
        """Check the labels that a method of a conditional model receives.

        Args:
            condition: Labels `[batch]`, integers from 0 to `num_classes` − 1.
            name: Name of the labels in error messages.
            len_of: The examples to which the labels belong. There must be one label per example. If
                None, the number of labels is not checked.

        Returns:
            The labels. In a graph, an operation that uses the result runs only after the labels are
            checked.

        Raises:
            ValueError: If the labels have the wrong shape or dtype, or if a label is outside the
                range. In a graph, a label outside the range fails an assertion with the same
                message.
        """
        assert self.num_classes is not None  # otherwise the model has no labels
        return checked_labels(condition, self.num_classes, name, len_of)

    def valid_rows(self, x: tf.Tensor) -> tf.Tensor:
        """Return whether each example of `x` contains only valid values, bool `[batch]`.

        The method `valid` describes which values are valid.

        Args:
            x: Data `[batch, *shape]`, float32.
        """
        size = math.prod(self.shape)
        if not self._same_for_all_elements:
            return tf.reduce_all(tf.reshape(self.valid(x), (tf.shape(x)[0], size)), axis=1)
        rows = tf.reshape(x, (tf.shape(x)[0], size))
        low, high = self._limits
        # a comparison with NaN is false
        return (tf.reduce_min(rows, axis=1) >= low) & (tf.reduce_max(rows, axis=1) <= high)

    @property
    def example(self) -> np.ndarray:
        """A valid example, each element of which is 0 or the valid number nearest to 0.

        If the limits `low` and `high` of the valid numbers are arrays, the result is an array of
        the shape of an example. If they are numbers, the result is a single number, which is valid
        for all elements.
        """
        low, high = np.asarray(self.low, np.float32), np.asarray(self.high, np.float32)
        return np.clip(np.zeros(low.shape, np.float32), low, high)

    def _checked_values(self, values: tf.Tensor, where: str) -> tf.Tensor:
        """Return `values` if they are valid, otherwise raise a `ValueError`.

        In a graph, an assertion fails instead of the `ValueError`. An operation that uses the
        result runs only after the values are checked.

        Args:
            values: Data `[batch, *shape]`, float32.
            where: Name of the data in error messages.
        """
        size = math.prod(self.shape)
        if self._same_for_all_elements:
            valid = self.valid_rows(values)
            place = f"example # of {where}"
        else:
            valid = tf.reshape(self.valid(values), (-1,))
            place = f"example # of {where}, element @"
        # the added True is for an empty batch of a replica
        valid = tf.concat([valid, [True]], axis=0)
        first = tf.argmin(tf.cast(valid, tf.int32))
        numbers = [first] if self._same_for_all_elements else [first // size, first % size]
        if tf.executing_eagerly():
            if not tf.reduce_all(valid):
                example, *element = (int(number) for number in numbers)
                received = f"other values, first in example {example} of {where}"
                index = np.unravel_index(element[0], self.shape) if element else ()
                raise ValueError(self._range_message(received, tuple(map(int, index))))
            return values
        message = mark(self._range_message(f"other values, first in {place}"))
        with tf.control_dependencies(assertion(tf.reduce_all(valid), [message, *numbers])):
            return tf.identity(values)

    def check_form(self, name: str, values: Any) -> None:
        """Check that `values` is one array of floats of shape `[batch, *shape]`.

        The attribute `shape` is the shape of one example.

        Args:
            name: Name of the argument for error messages, such as `x` or `y`.
            values: An array, a tensor or a `tf.TensorSpec`.

        Raises:
            ValueError: If `values` is a list, a tuple or a dictionary, or has the wrong shape or
                dtype.
        """
        if isinstance(values, (dict, list, tuple)):
            raise ValueError(
                f"Expected `{name}` as one array. "
                f"Received: a {type(values).__name__} of length {len(values)}."
            )
        shape = tf.TensorShape(values.shape)
        if not shape.is_compatible_with((None, *self.shape)):
            expected = ", ".join(["batch", *map(str, self.shape)])
            raise ValueError(
                f"Expected `{name}` of shape ({expected}). Received: shape {shape}. "
                f"{self._shape_advice(name, shape)}"
            )
        dtype = tf.as_dtype(values.dtype)
        if not dtype.is_floating:
            raise ValueError(
                f"Expected `{name}` as floats, such as pixels in [0, 1]. "
                f"Received: dtype {dtype.name}. "
                "Divide pixels of 0 to 255 by 255: x.astype('float32') / 255."
            )

    def _target(self, x: Any, y: Any, name: str = "x") -> Any:
        """Check `x` and `y`, and return the data that the model learns to reconstruct.

        For a conditional model, `y` contains the labels, and the model reconstructs `x`. Any other
        model reconstructs `y`, or `x` if `y` is None.
        """
        if self.num_classes:
            self._check_labels(y, self.num_classes, "y" if name == "x" else f"labels of {name}")
        target = x if y is None or self.num_classes else y
        self.check_form(name, x)
        self.check_form("y", target)
        return target

    def _check_labels(self, y: Any, num_classes: int, name: str) -> None:
        """Raise a `ValueError` if `y` does not contain integer labels from 0 to num_classes − 1.

        If `y` is a `tf.TensorSpec` or a symbolic tensor, only its shape and dtype are checked.
        """
        if y is None:
            raise ValueError(
                f"{expected_labels(name, num_classes)} Received: none. Call fit(x, labels), "
                "or use a data set of pairs."
            )
        if not hasattr(y, "dtype"):
            raise ValueError(
                f"{expected_labels(name, num_classes)} Received: a {type(y).__name__}. "
                "Convert it: np.asarray(labels)."
            )
        if isinstance(y, tf.TypeSpec) or (tf.is_tensor(y) and not hasattr(y, "numpy")):
            check_form_of_labels(y, num_classes, name)  # `in_step` checks the values
        else:
            self.labels(y, name)

    def _shape_advice(self, name: str, shape: tf.TensorShape) -> str:
        """Return advice for the error message about a wrong shape of the array `name`."""
        if name == "y":
            return (
                "If `y` contains labels, omit them, because this model is not conditional: "
                "fit(x), or fit(dataset.map(lambda x, y: x))."
            )
        if (*shape[1:], 1) == self.shape:
            return "Add a channel axis: x[..., None]."
        return "Reshape the data, or build the networks for the shape of the data."

    @property
    def _same_for_all_elements(self) -> bool:
        """Whether one range describes the valid values of all elements of an example.

        For instance, an element is a pixel or a column. The result is False if elements can be
        missing, if some must be whole numbers, or if each element has its own range.
        """
        return not self.missing and self.whole is None and np.ndim(self.low) == 0

    def for_noisy_inputs(self) -> DataCheck:
        """Return a `DataCheck` for the inputs of an autoencoder, which can contain added noise.

        If all elements have the same bounded range, the inputs can lie outside this range by at
        most the width of the range. For instance, [0, 1] becomes [−1, 2]. This range accepts noisy
        images, and refuses pixels from 0 to 255. For data with an unbounded range, or with one
        range per element, the valid values do not change.
        """
        check = copy.copy(self)
        if np.ndim(self.low) == 0 and math.isfinite(self.high - self.low):
            check.tolerance = self.high - self.low
        return check

    @property
    def _limits(self) -> tuple[Any, Any]:
        """Smallest and largest valid value of the data, as finite float32 numbers.

        If all elements have the same range, a tolerance for rounding errors widens this range.
        """
        # ranges per element are exact, such as greater than 0
        tolerance = 0.0 if np.ndim(self.low) else self.tolerance
        low = np.maximum(np.subtract(self.low, tolerance), -_LARGEST).astype(np.float32)
        high = np.minimum(np.add(self.high, tolerance), _LARGEST).astype(np.float32)
        return low, high

    def valid(self, values: Any) -> Any:
        """Check each element of an array or a tensor `[batch, *shape]`.

        A valid element lies in the allowed range, and is an integer where only integers are
        allowed. NaN is valid if the model allows missing entries.

        Returns:
            A bool array or tensor of the same shape, which is True for each valid element.
        """
        low, high = self._limits
        valid = (values >= low) & (values <= high)
        if self.whole is not None:
            rounded = tf.round(values) if tf.is_tensor(values) else np.round(values)
            valid &= (values == rounded) | ~self.whole
        if self.missing:
            valid |= values != values  # only NaN differs from itself
        return valid

    def _range_message(self, received: str, element: tuple[int, ...] = ()) -> str:
        """Return the error message about an invalid value in the data, such as one out of range.

        Args:
            received: Text that says which value was invalid, and in which example.
            element: Index of the invalid element in its example. Empty if the index is not known.
        """
        if self.names is not None:
            return self._column_message(received, element)
        low, high = self.low, self.high
        if np.ndim(low) and element:
            low, high = low[element], high[element]
        if np.ndim(low):
            expected = "Expected data in the range that the model can output for each element"
        elif math.isinf(low) and math.isinf(high):
            expected = "Expected data in the range of finite numbers"
        else:
            expected = f"Expected data in [{low:g}, {high:g}], the range of the model's output"
        scaled = ": x / 255" if np.ndim(low) == 0 and (low, high) == (0, 1) else ""
        without = "or NaN for a missing element" if self.missing else "without NaN"
        whole = "" if self.whole is None else " Some elements must be whole numbers."
        advice = f"Scale pixels of 0 to 255 to this range{scaled}."
        if np.ndim(low) == 0 and (math.isinf(low) or math.isinf(high)):
            advice = "Correct such values, or remove the examples that contain them."
        return f"{expected}, {without}.{whole} Received: {received}. {advice}"

    def _column_message(self, received: str, element: tuple[int, ...]) -> str:
        """Return the message about an invalid entry of a table."""
        advice = "Convert the table with `keras_gen.data.read_table`, or with `table.from_frame`."
        if not element or self.names is None:
            return (
                "Expected a table in which each entry is valid for the kind of its column, or is "
                f"NaN if it is missing. Received: {received} (the index of the column, counted "
                f"from 0). {advice}"
            )
        low, high = float(self.low[element]), float(self.high[element])
        whole = self.whole is not None and self.whole[element]
        largest = float(np.finfo(np.float32).max)
        if low <= -largest:
            expected = "finite numbers"
        elif whole and high >= largest:
            expected = "whole numbers of at least 0"
        elif whole:
            expected = f"codes of categories, whole numbers from 0 to {high:g}"
        else:
            expected = "numbers greater than 0"
        return (
            f"Expected {expected}, or NaN for a missing entry, in the column "
            f"{self.names[element[0]]!r}. Received: {received}. {advice}"
        )


def check_not_empty(x: Any, name: str = "x") -> None:
    """Raise a `ValueError` if `x` contains no examples.

    Args:
        x: An array, a tuple of arrays, or a `tf.data.Dataset`. Data of other types are not checked.
        name: Name of `x` in error messages.
    """
    if isinstance(x, tf.data.Dataset):
        empty = x.cardinality() == 0
    else:
        shapes = [tuple(part.shape) for part in keras.tree.flatten(x) if hasattr(part, "shape")]
        empty = any(shape[:1] == (0,) for shape in shapes)
    if empty:
        raise ValueError(f"Expected at least one example in `{name}`. Received: none.")
