"""Checks of the networks that a user hands over, and what their layers say about them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

CONDITION = "condition"
"""Name of the input of a network that takes labels."""

UNKNOWN_NUMBER = np.iinfo(np.int32).max
"""Number of classes of a network that does not say how many labels it knows."""

_ANY_RANGE = (-math.inf, math.inf)


def condition_index(network: keras.Model) -> int | None:
    """Return which input of a network takes labels, or None if none does.

    It is the input named `condition`. Networks of version 0.1.0 have no such name: there it is the
    second of two inputs, if that has the shape `(batch,)`.
    """
    shapes = getattr(network, "input_shape", None)
    if not isinstance(shapes, list):
        return None
    names = [tensor.name for tensor in network.inputs]
    if CONDITION in names:
        return names.index(CONDITION)
    return 1 if len(shapes) == 2 and tuple(shapes[1]) == (None,) else None


def num_classes_of(network: keras.Model) -> int | None:
    """Return how many labels a network knows.

    Returns:
        The size of the network's first embedding, `UNKNOWN_NUMBER` if it has none, or None if the
        network has no input for labels.
    """
    if condition_index(network) is None:
        return None
    unwrapped = [getattr(layer, "layer", layer) for layer in network.layers]
    for layer in unwrapped:  # a wrapper is, for instance, spectral normalization
        if isinstance(layer, keras.layers.Embedding):
            return layer.input_dim
    return UNKNOWN_NUMBER


def common_num_classes(**parts: int | None) -> int | None:
    """Return the number of classes that the parts of a model share, or None if no part has labels.

    Args:
        **parts: What `num_classes_of` returned for each part, by its name in the message.

    Raises:
        ValueError: If two parts know different numbers of classes.
    """
    known = {number for number in parts.values() if number is not None}
    if len(known - {UNKNOWN_NUMBER}) > 1:
        names = [f"`{name}`" for name in parts]
        listed = ", ".join(f"{name}={number}" for name, number in parts.items())
        raise ValueError(
            f"{', '.join(names[:-1])} and {names[-1]} must have the same number of classes. "
            f"Received: {listed}."
        )
    return min(known, default=None)


def check_network(
    argument: str,
    network: keras.Model,
    input_shape: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    why: str = "",
    labels: bool = False,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Check that a network is built and has the required shapes.

    Args:
        argument: Name of the argument, for the message.
        network: What the user handed over.
        input_shape: Required shape of one input, or None for any.
        output_shape: Required shape of one output, or None for any.
        why: Where the required shape comes from, for the message.
        labels: Whether a second input for labels `[batch]` is allowed.

    Returns:
        `(input_shape, output_shape)` of one example.

    Raises:
        ValueError: If the network is not built, or has other inputs or outputs.
    """
    if not isinstance(network, keras.layers.Layer):
        raise ValueError(
            f"`{argument}` must be a built keras.Model. Received: {network!r} of type "
            f"{type(network).__name__}"
        )
    shapes = _built_input_shapes(argument, network)
    if isinstance(shapes[0], (int, type(None))):
        data_shape = shapes
        inputs: Any = keras.KerasTensor(shapes)
    else:
        index = condition_index(network)
        two_inputs = labels and len(shapes) == 2
        if index is None or not two_inputs or tuple(shapes[index]) != (None,):
            expected = "one input"
            if labels:
                expected += f", or a second one for labels of shape (batch,) named {CONDITION!r}"
            raise ValueError(
                f"`{argument}` must have {expected}. "
                f"Received: {network.name} with inputs of shape {shapes}."
            )
        inputs = network.inputs
        data_shape = shapes[1 - index]
    outputs = network.compute_output_spec(inputs)
    received = {"inputs": tuple(data_shape[1:]), "outputs": tuple(outputs.shape[1:])}
    for side, expected_shape in (("inputs", input_shape), ("outputs", output_shape)):
        if expected_shape is not None and received[side] != tuple(expected_shape):
            to_change = "input" if side == "inputs" else "last layer"
            raise ValueError(
                f"`{argument}` must have {side} of shape {tuple(expected_shape)}{why}. Received: "
                f"{network.name} with {side} of shape {received[side]}. Change its {to_change}, or "
                "what it must match."
            )
    return received["inputs"], received["outputs"]


def _built_input_shapes(argument: str, network: keras.layers.Layer) -> Any:
    """Return the shape of a network's input, or the list of several; raise if it is not built."""
    shapes = None
    if network.built:
        shapes = getattr(network, "input_shape", None)
        shapes = shapes or (network.get_build_config() or {}).get("input_shape")
    if not shapes:
        raise ValueError(
            f"`{argument}` must be built. Received: {network.name}, whose shapes are unknown. "
            f"Begin a Sequential model with keras.Input(shape), or call {network.name} on a batch "
            "of data first."
        )
    return shapes


def output_range(network: keras.Model) -> tuple[float, float]:
    """Return the smallest and largest value that a network can output.

    They follow from the activation of its last layer. They are infinite where it is not known.

    Example:
        >>> output_range(keras.Sequential(
        ...     [keras.Input((2,)), keras.layers.Dense(3, activation="sigmoid")]))
        (0.0, 1.0)
    """
    ranges = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
    shape_only = ("Reshape", "Flatten", "CenterCrop", "Cropping2D")
    sequential = isinstance(network, keras.Sequential)
    in_order = network.layers if sequential else getattr(network, "operations", [])
    for operation in reversed(in_order):
        kind = type(operation).__name__
        if isinstance(operation, keras.Model):
            return output_range(operation)
        if kind not in shape_only:
            activation = getattr(operation, "activation", None)
            return ranges.get(getattr(activation, "__name__", kind.lower()), _ANY_RANGE)
    return _ANY_RANGE


def check_logits(argument: str, network: keras.Model) -> None:
    """Check that a network whose outputs are taken as logits ends without a sigmoid or tanh.

    The loss applies the sigmoid itself. A second one would be silently wrong.

    Args:
        argument: Name of the argument, for the message.
        network: What the user handed over, built.

    Raises:
        ValueError: If the network ends in a sigmoid or tanh.
    """
    if output_range(network) != _ANY_RANGE:
        raise ValueError(
            f"`{argument}` must output logits. Received: {network.name}, which ends in a sigmoid "
            "or tanh. Remove that activation."
        )
