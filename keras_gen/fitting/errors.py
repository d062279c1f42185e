"""Errors of a training step, also out of the graph."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from typing import Self

import tensorflow as tf

from keras_gen._errors import marked_message

_NUMBERS = "<keras_gen numbers>"


class NonFiniteError(ArithmeticError):
    """A loss or a gradient became infinite or NaN; it did not reach the weights."""

    @classmethod
    def of(cls, step: int, values: dict[str, float]) -> Self:
        """The error that says which numbers, by name, of which step (from 1) are not finite: their gradient, if all of them are."""
        flawed = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
        flawed = [
            words for words in flawed if not words.startswith("loss =")
        ] or flawed  # rather the term than the sum
        return cls(
            f"Expected finite numbers. Received: in step {step}, {' and '.join(flawed) or f'the gradient of {next(iter(values))}'}. "
            "It did not reach the weights. Lower the learning rate, or clip the gradients: --clip-norm 1, "
            "keras.optimizers.Adam(global_clipnorm=1.0)."
        )


def assert_finite(
    finite: tf.Tensor, step: tf.Tensor, values: dict[str, tf.Tensor]
) -> tf.Operation | None:
    """An operation that fails unless `finite`; `step_errors` turns that into a `NonFiniteError`."""
    if tf.executing_eagerly() and not finite:
        raise NonFiniteError.of(int(step), {name: float(value) for name, value in values.items()})
    names = _NUMBERS + ",".join(values) + _NUMBERS
    return tf.debugging.Assert(finite, [names, step, *values.values()])


@contextlib.contextmanager
def step_errors() -> Iterator[None]:
    """Turn a check that failed inside the graph into the `ValueError` or `NonFiniteError` that it stands for."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        if str(error).count(_NUMBERS) > 1:
            _, names, rest = str(error).split(_NUMBERS)[:3]
            step, *values = re.findall(r"\[([^\[\]]*)\]", rest)[: 2 + names.count(",")]
            raise NonFiniteError.of(
                int(step), dict(zip(names.split(","), map(float, values), strict=True))
            ) from None
        message = marked_message(error)
        if message is None:
            raise
        raise ValueError(message) from None
