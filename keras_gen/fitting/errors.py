"""Errors of a training step: values that are not finite, and errors raised inside the graph."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from typing import Self

import tensorflow as tf

from keras_gen._errors import marked_message

_NAMES = "<keras_gen names>"  # encloses the names of the numbers that follow in an assertion


class NonFiniteError(ArithmeticError):
    """A loss or a gradient became NaN or infinite. It did not change the weights."""

    @classmethod
    def of(cls, step: int, values: dict[str, float]) -> Self:
        """Make the error of a step that was not taken.

        Args:
            step: Number of the step, from 1.
            values: The logged losses of the step by name. If all are finite, the gradient of the
                first one is not.
        """
        flawed = {name: value for name, value in values.items() if not math.isfinite(value)}
        if len(flawed) > 1:
            flawed.pop("loss", None)  # the sum says less than the term
        received = " and ".join(f"{name} = {value}" for name, value in flawed.items())
        return cls(
            f"Expected finite numbers. Received: in step {step}, "
            f"{received or f'the gradient of {next(iter(values))}'}. This step did not change the "
            "weights. Lower the learning rate, or clip the gradients: "
            "keras.optimizers.Adam(global_clipnorm=1.0)."
        )


def assert_finite(
    finite: tf.Tensor, step: tf.Tensor, values: dict[str, tf.Tensor]
) -> tf.Operation | None:
    """Make an operation that fails unless `finite`; `step_errors` turns it into an error.

    Args:
        finite: Scalar bool.
        step: Number of the training step, from 1.
        values: The logged losses of the step by name.

    Raises:
        NonFiniteError: In eager execution, if not `finite`.
    """
    if tf.executing_eagerly() and not finite:
        raise NonFiniteError.of(int(step), {name: float(value) for name, value in values.items()})
    names = _NAMES + ",".join(values) + _NAMES
    return tf.debugging.Assert(finite, [names, step, *values.values()])


@contextlib.contextmanager
def step_errors() -> Iterator[None]:
    """Turn the failure of a check inside the graph into the error that it stands for.

    Raises:
        NonFiniteError: If `assert_finite` failed.
        ValueError: If a check of data failed.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if str(error).count(_NAMES) > 1:
            raise _non_finite_error(str(error)) from None
        message = marked_message(error)
        if message is None:
            raise
        raise ValueError(message) from None


def _non_finite_error(text: str) -> NonFiniteError:
    """Read the names and values that `assert_finite` put into the text of a TensorFlow error."""
    _, listed, rest = text.split(_NAMES)[:3]
    names = listed.split(",")
    step, *values = re.findall(r"\[([^\[\]]*)\]", rest)[: 1 + len(names)]
    return NonFiniteError.of(int(step), dict(zip(names, map(float, values), strict=True)))
