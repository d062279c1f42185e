"""Check the Keras loss of an autoencoder, and the number of values that a loss function returns."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gen._errors import mark
from keras_gen.networks._checks import (
    check_logits,
    last_activation,
    may_output_probabilities,
)

_BATCH_SIZES = (3, 5)  # two sizes, so that the batch axis cannot be confused with another axis
_WITHOUT_LOGITS = ("KLDivergence", "kl_divergence")
_ADVICE = (
    "Average over all axes except the first, for instance "
    "keras.ops.mean((y_true - y_pred) ** 2, axis=-1)."
)


def per_example_loss(loss: Any) -> Callable[[tf.Tensor, tf.Tensor], Any]:
    """Convert a Keras loss to a function `(y_true, y_pred)` that does not average over examples.

    Args:
        loss: A `keras.losses.Loss`, a loss function, or the name of a Keras loss.
    """
    found = keras.losses.get(loss)
    return found.call if isinstance(found, keras.losses.Loss) else found


def check_loss_shape(loss: Any, data_shape: Sequence[int]) -> None:
    """Check that a Keras loss returns at least one value per example, and does not mix examples.

    To check this, the function computes the loss of small batches of random numbers in [0.2, 0.8].

    Args:
        loss: A `keras.losses.Loss`, a loss function, or the name of a Keras loss.
        data_shape: Shape of one example.

    Raises:
        ValueError: If the loss cannot be computed, or if the first axis of its values is not the
            batch axis. If the loss of an example depends on other examples of the batch.
    """
    for batch_size in _BATCH_SIZES:
        values = _values_for_test(loss, data_shape, batch_size)
        if not values.shape.rank or values.shape[0] != batch_size:
            raise ValueError(
                "`loss` must return one value per example, a tensor of shape (batch,) or "
                f"(batch, ...). Received: loss={loss!r}, which returns the shape "
                f"{tuple(values.shape)} for a batch of {batch_size} examples. {_ADVICE}"
            )
    first = _values_for_test(loss, data_shape, batch_size, 1)
    if not np.allclose(values[:1], first, rtol=1e-3, atol=1e-6, equal_nan=True):
        raise ValueError(
            "`loss` must return values per example that do not depend on the other examples of the "
            f"batch. Received: loss={loss!r}, which returns other values for an example alone than "
            f"for the same example in a batch of {batch_size}. {_ADVICE}"
        )


def _values_for_test(
    loss: Any, data_shape: Sequence[int], batch_size: int, number: int | None = None
) -> tf.Tensor:
    """Compute a Keras loss for random examples, so that `check_loss_shape` can test the loss.

    Args:
        loss: A `keras.losses.Loss`, a loss function, or the name of a Keras loss.
        data_shape: Shape of one example.
        batch_size: Number of random examples.
        number: If given, the loss receives only the first `number` of these examples.

    Returns:
        The values of the loss.

    Raises:
        ValueError: If the loss cannot be computed.
    """
    shape = (batch_size, *data_shape)
    with tf.init_scope():
        target = tf.random.stateless_uniform(shape, (0, 0), 0.2, 0.8)[:number]
        output = tf.random.stateless_uniform(shape, (0, 1), 0.2, 0.8)[:number]
        try:
            return tf.convert_to_tensor(per_example_loss(loss)(target, output))
        except Exception as error:
            raise ValueError(
                "`loss` must be a function of data and their reconstructions, "
                f"loss(y_true, y_pred). Both have the shape {('batch', *data_shape)}. "
                f"Received: loss={loss!r}, which failed: {error}"
            ) from error


def check_cross_entropy(loss: Any, decoder: keras.Model) -> None:
    """Check that a decoder outputs logits or probabilities, as its cross-entropy loss expects.

    If the loss expects logits, the function warns that the model generates logits, not data.

    Args:
        loss: A `keras.losses.Loss`, a loss function, or the name of a Keras loss. If it is not a
            cross-entropy or the KL divergence of Keras, nothing is checked.
        decoder: The network whose output is the argument `y_pred` of the loss.

    Raises:
        ValueError: If `from_logits` of the loss is True, and the last activation of the decoder has
            a limited range, such as a sigmoid. If the loss expects probabilities, and the last
            activation of the decoder can return numbers outside [0, 1]. A loss expects
            probabilities if `from_logits` is False, or if the loss has no such argument.
    """
    found = keras.losses.get(loss)
    name = _name_of_cross_entropy(found)
    if name is None:
        return
    if isinstance(found, functools.partial):
        from_logits = found.keywords.get("from_logits", False)
    else:
        from_logits = getattr(found, "from_logits", False)
    if not from_logits:
        if not may_output_probabilities(decoder):
            how = "" if name in _WITHOUT_LOGITS else " with from_logits=False"
            raise ValueError(
                f"`decoder` must output probabilities, because `loss` is {name}{how}. Received: "
                f"{decoder.name}, whose last activation is {last_activation(decoder)}. Add "
                "activation='sigmoid' to its last layer."
            )
        return
    try:
        check_logits("decoder", decoder)
    except ValueError as error:
        raise ValueError(f"{error} Or use {name} with from_logits=False.") from None
    warnings.warn(
        f"`loss` is {name} with from_logits=True. Therefore the reconstructions and the generated "
        "data of this model are logits, and not data. To get data, use the likelihood as the loss: "
        "compile('adam', loss=keras_gen.distributions.Bernoulli(data_shape)).",
        stacklevel=3,
    )


def _name_of_cross_entropy(loss: Any) -> str | None:
    """Return the name of a loss if it is a cross-entropy or the KL divergence of Keras.

    For all other losses, return None, even if a user's function has the name of a Keras loss.

    Args:
        loss: A `keras.losses.Loss` or a loss function, which can be inside `functools.partial`.
    """
    function = loss.func if isinstance(loss, functools.partial) else loss
    candidates = type(loss).__mro__ if isinstance(loss, keras.losses.Loss) else [function]
    for candidate in candidates:
        name = getattr(candidate, "__name__", "")
        of_keras = getattr(candidate, "__module__", "").startswith("keras.")
        plain = name.lower().replace("_", "")
        if of_keras and plain.endswith(("crossentropy", "kldivergence")):
            return name
    return None


def per_example(what: str, values: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Check that a function of the user returned one loss value per example.

    In a TensorFlow graph, the number of values may be unknown until the graph runs. If the compiler
    XLA compiles such a graph, the check is omitted.

    Args:
        what: Name of the function that returned the values, for the error message.
        values: The values, `[batch]` or `[batch, 1]`.
        x: The batch of data. Its first axis is the batch axis.

    Returns:
        The values, `[batch]`.

    Raises:
        ValueError: If the number of values is not the number of examples in `x`. If this number is
            unknown until a TensorFlow graph runs, an assertion fails in the graph instead. The
            context manager `step_errors` converts this failure to a `ValueError`.
    """
    values = tf.convert_to_tensor(values)
    if values.shape.rank == 2 and values.shape[1] == 1:
        values = tf.reshape(values, (-1,))
    message = (
        f"{what} must return one value per example, a tensor of shape (batch,). Received: shape "
        f"{tuple(values.shape)}. Sum or average over all axes except the batch axis."
    )
    one_axis = values.shape.rank in (None, 1)
    if not one_axis or not values.shape[:1].is_compatible_with(x.shape[:1]):
        raise ValueError(message)
    same_size = tf.equal(tf.size(values), tf.shape(x)[0])
    with tf.control_dependencies([tf.debugging.Assert(same_size, [mark(message)])]):
        return tf.identity(values)
