"""Checks of labels, the integers that a conditional model or a conditional prior receives."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from keras_gen._errors import mark
from keras_gen._tracing import assertion

_ADVICE = (
    "Number the classes from 0. If the data have more classes, build and train the model with all "
    "of them."
)


def checked_labels(
    labels: Any,
    num_classes: int,
    name: str = "condition",
    len_of: Any = None,
    owner: str = "this conditional model",
) -> tf.Tensor:
    """Check labels, and return them as a tensor.

    Args:
        labels: Labels `[batch]`, integers from 0 to `num_classes` − 1.
        num_classes: Number of classes.
        name: Name of the argument that contains the labels, for error messages.
        len_of: The examples to which the labels belong. The function checks that there is one label
            per example. If None, the number of labels is not checked.
        owner: Name of the model or prior that needs the labels, for error messages.

    Returns:
        The labels as a tensor `[batch]`. In a graph, an assertion checks the labels before any
        operation uses this tensor. In a graph that the decorator `traced` makes, the tensor
        contains 0 in place of each invalid label. `traced` then runs the method again without a
        graph, which raises the error.

    Raises:
        ValueError: If the labels have the wrong shape or dtype. In eager mode, also if a label is
            not one of the classes. In a graph, such a label raises an error of TensorFlow when the
            graph runs.
    """
    tensor = as_tensor(name, labels)
    check_form_of_labels(tensor, num_classes, name, len_of, owner)
    tensor = tf.ensure_shape(tensor, (None,))
    numbers = tf.cast(tensor, tf.int64)
    valid = (numbers >= 0) & (numbers < num_classes)
    expected = expected_labels(name, num_classes, owner)
    if tf.executing_eagerly():
        if not tf.reduce_all(valid):
            index = int(tf.argmin(tf.cast(valid, tf.int32)))
            received = f"{int(numbers[index])} at index {index}"
            raise ValueError(f"{expected} Received: {received}. {_ADVICE}")
        return tensor
    # The added True lets an empty batch of a replica have a first label.
    first = tf.argmin(tf.cast(tf.concat([valid, [True]], axis=0), tf.int32))
    received = tf.concat([numbers, [0]], axis=0)[first]
    message = mark(f"{expected} Received: @ at index #. {_ADVICE}")
    checks = assertion(tf.reduce_all(valid), [message, first, received])
    if not checks:  # a lookup of an invalid label would fail before the condition is read
        return tf.where(valid, tensor, tf.zeros_like(tensor))
    with tf.control_dependencies(checks):
        return tf.identity(tensor)


def check_form_of_labels(
    labels: Any,
    num_classes: int,
    name: str,
    len_of: Any = None,
    owner: str = "this conditional model",
) -> None:
    """Check the shape and the dtype of labels. The values of the labels are not checked.

    Args:
        labels: A tensor, an array or a `tf.TensorSpec`.
        num_classes: Number of classes, for the error message.
        name: Name of the argument that contains the labels, for error messages.
        len_of: The examples to which the labels belong. The function checks that there is one label
            per example. If None, the number of labels is not checked.
        owner: Name of the model or the prior that needs the labels, for error messages.

    Raises:
        ValueError: If the labels have the wrong shape or dtype.
    """
    expected = expected_labels(name, num_classes, owner)
    shape = tf.TensorShape(labels.shape)
    dtype = tf.as_dtype(labels.dtype)
    if not shape.is_compatible_with((None,)) or not dtype.is_integer:
        advice = ""
        if dtype == tf.string:
            advice = " Number the classes: np.unique(labels, return_inverse=True)[1]."
        elif dtype.is_floating:
            advice = " Convert the labels: labels.astype(int)."
        raise ValueError(f"{expected} Received: shape {shape} of {dtype.name}.{advice}")
    number = tf.TensorShape(getattr(len_of, "shape", (None,)))[:1]
    if not shape.is_compatible_with(number):
        raise ValueError(f"{expected} Received: {shape[0]} labels for {number[0]} examples.")


def expected_labels(name: str, num_classes: int, owner: str = "this conditional model") -> str:
    """Return a sentence for error messages, which says which labels are expected."""
    return (
        f"Expected labels as `{name}`, integers of shape (batch,) from 0 to {num_classes - 1}, "
        f"for {owner}."
    )


def as_tensor(name: str, values: Any) -> tf.Tensor:
    """Return `values` as one tensor.

    Args:
        name: Name of `values` in error messages.
        values: A tensor, an array, or anything else that TensorFlow converts to a tensor.

    Raises:
        ValueError: If `values` cannot be converted.
    """
    try:
        tensor = tf.convert_to_tensor(values)
    except (TypeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(
            f"Expected `{name}` as one array of numbers. Received: a {type(values).__name__} that "
            f"TensorFlow cannot convert ({reason})."
        ) from None
    return tensor
