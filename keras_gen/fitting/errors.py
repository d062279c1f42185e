"""Raise errors with readable messages if a training step fails, for instance with a NaN loss."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from typing import Self

import tensorflow as tf

from keras_gen._errors import marked_message

_NAMES = "<keras_gen names>"  # marks start and end of the names in the text of an error


class NonFiniteError(ArithmeticError):
    """A loss or a gradient is NaN or infinite.

    The optimizer did not use this loss or gradient. Therefore the training step did not change the
    trainable weights, except in two cases:

    * A training step of a GAN updates the discriminator before the generator. If only the loss or
      the gradient of the generator is not finite, the discriminator is already updated.
    * If the compiler XLA compiles the training step, the optimizer receives zeros in place of the
      gradient. An optimizer with momentum, such as Adam, then still changes the weights.
    """

    @classmethod
    def of(cls, step: int, values: dict[str, float]) -> Self:
        """Make the error about a training step in which a loss or a gradient is not finite.

        Args:
            step: Number of the step. The first step is 1.
            values: The logged losses of the step by name. If all losses are finite, the message
                says that the gradient of the first loss is not finite.
        """
        flawed = {name: value for name, value in values.items() if not math.isfinite(value)}
        if len(flawed) > 1:
            flawed.pop("loss", None)  # it is only the sum of the other losses
        received = " and ".join(f"{name} = {value}" for name, value in flawed.items())
        return cls(
            f"Expected finite losses and gradients. Received: in step {step}, "
            f"{received or f'a non-finite gradient of {next(iter(values))}'}. The optimizer did "
            "not use these values. Lower the learning rate, or clip the gradients: "
            "keras.optimizers.Adam(global_clipnorm=1.0)."
        )


def assert_finite(
    finite: tf.Tensor, step: tf.Tensor, values: dict[str, tf.Tensor]
) -> tf.Operation | None:
    """Make a training step fail if a loss or a gradient is not finite.

    In a TensorFlow graph, this function makes an operation that fails if `finite` is false. The
    context manager `step_errors` converts this failure to a `NonFiniteError`.

    Args:
        finite: Scalar bool, whether the losses and gradients are finite.
        step: Number of the training step. The first step is 1.
        values: The logged losses of the step by name, for the error message.

    Raises:
        NonFiniteError: In eager execution, if `finite` is false.
    """
    if tf.executing_eagerly() and not finite:
        raise NonFiniteError.of(int(step), {name: float(value) for name, value in values.items()})
    names = _NAMES + ",".join(values) + _NAMES
    return tf.raw_ops.Assert(condition=finite, data=[names, step, *values.values()])


@contextlib.contextmanager
def step_errors() -> Iterator[None]:
    """Convert TensorFlow errors in a `with` block to errors with readable messages.

    Raises:
        NonFiniteError: If a TensorFlow graph computed a loss or a gradient that is not finite.
        ValueError: If a check inside a TensorFlow graph found invalid data.
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
    """Make a `NonFiniteError` from the error that TensorFlow raises when `assert_finite` fails.

    `text` is the text of the TensorFlow error, which contains the step and the losses.
    """
    _, listed, rest = text.split(_NAMES)[:3]
    names = listed.split(",")
    step, *values = re.findall(r"\[([^\[\]]*)\]", rest)[: 1 + len(names)]
    return NonFiniteError.of(int(step), dict(zip(names, map(float, values), strict=True)))
