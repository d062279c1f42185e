"""Check the networks that a user passes to a model, and read properties from their layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

CONDITION = "condition"
"""Name of the input for labels, in a network that has such an input."""

UNKNOWN_NUMBER = np.iinfo(np.int32).max
"""Stands for the number of classes if a network takes labels but has no embedding layer."""

_ANY_RANGE = (-math.inf, math.inf)


def condition_index(network: keras.Model) -> int | None:
    """Return the index of the network's input for labels, or None if there is no such input.

    The input for labels has the name `condition`. Networks of version 0.1.0 do not use this name.
    Therefore, if a network has two inputs and neither is named `condition`, the second input counts
    as the input for labels if its shape is `(batch,)`.
    """
    shapes = getattr(network, "input_shape", None)
    if not isinstance(shapes, list):
        return None
    names = [tensor.name for tensor in network.inputs]
    if CONDITION in names:
        return names.index(CONDITION)
    return 1 if len(shapes) == 2 and tuple(shapes[1]) == (None,) else None


def num_classes_of(network: keras.Model) -> int | None:
    """Return the number of classes of the labels that a network takes.

    Returns:
        None if the network has no input for labels. Otherwise the input size of the network's first
        embedding layer, or `UNKNOWN_NUMBER` if the network has no embedding layer.
    """
    if condition_index(network) is None:
        return None
    unwrapped = [getattr(layer, "layer", layer) for layer in network.layers]
    for layer in unwrapped:  # a layer may be wrapped, as by spectral normalization
        if isinstance(layer, keras.layers.Embedding):
            return layer.input_dim
    return UNKNOWN_NUMBER


def common_num_classes(**parts: int | None) -> int | None:
    """Return the number of classes of a model's parts, or None if no part takes labels.

    Args:
        **parts: Number of classes of each part, as `num_classes_of` returns it. The error message
            contains the names of these arguments.

    Raises:
        ValueError: If two parts have different numbers of classes.
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
        argument: Name of the argument that received the network, for the error message.
        network: The object that the user passed as the network.
        input_shape: Required input shape of one example, or None for any shape.
        output_shape: Required output shape of one example, or None for any shape.
        why: Reason for the required shape. The error message contains this text after the shape.
        labels: Whether the network may have a second input for labels `[batch]`.

    Returns:
        `(input_shape, output_shape)` of the network for one example.

    Raises:
        ValueError: If the network is not built, or its inputs or outputs are not as required.
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
                expected += f", and optionally an input {CONDITION!r} for labels of shape (batch,)"
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
                f"{network.name} with {side} of shape {received[side]}. Change the {to_change} of "
                f"{network.name}, or the part of the model that requires this shape."
            )
    return received["inputs"], received["outputs"]


def _built_input_shapes(argument: str, network: keras.layers.Layer) -> Any:
    """Return the input shape of a network, or a list of shapes if the network has several inputs.

    Raises:
        ValueError: If the network is not built.
    """
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

    These two values are known if the last activation is a sigmoid or tanh. For all other networks,
    the function returns (−∞, ∞).

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
    """Check that a network that must output logits does not end in a sigmoid or tanh.

    The loss applies a sigmoid to the logits. If the network already ended in a sigmoid or
    tanh, the loss would be wrong, but no error would appear.

    Args:
        argument: Name of the argument that received the network, for the error message.
        network: The built network that the user passed.

    Raises:
        ValueError: If the network ends in a sigmoid or tanh.
    """
    if output_range(network) != _ANY_RANGE:
        raise ValueError(
            f"`{argument}` must output logits. Received: {network.name}, which ends in a sigmoid "
            "or tanh. Remove that activation."
        )
