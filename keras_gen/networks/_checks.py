"""Checks of the networks that a user hands over."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras
import numpy as np

ANY_NUMBER = np.iinfo(np.int32).max


def labels_of(network: keras.Model) -> int | None:
    """How many labels the second input of a network takes, `ANY_NUMBER` if it does not say, None if it has no such input.

    Args:
        network: A built Keras model; the first of its embeddings says how many.
    """
    if not isinstance(getattr(network, "input_shape", None), list):
        return None
    unwrapped = [
        getattr(layer, "layer", layer) for layer in network.layers
    ]  # of spectral normalization
    embeddings = [layer for layer in unwrapped if isinstance(layer, keras.layers.Embedding)]
    return embeddings[0].input_dim if embeddings else ANY_NUMBER


def number_of_labels(**parts: int | None) -> int | None:
    """The one number of labels that the parts of a model take; None if none sees any.

    Args:
        **parts: What `labels_of` says of each part, by its name in the message.

    Raises:
        ValueError: If two parts take different numbers.
    """
    taken = {number for number in parts.values() if number is not None}
    if len(taken - {ANY_NUMBER}) > 1:
        raise ValueError(f"Expected parts of one number of labels. Received: {parts}.")
    return min(taken, default=None)


def check_network(
    argument: str,
    network: keras.Model,
    input_shape: Sequence[int] | None = None,
    output_shape: Sequence[int] | None = None,
    why: str = "",
    labels: bool = False,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Check that a network is built and has the shapes that are asked of it.

    Args:
        argument: Name of the argument, for the message.
        network: What the user handed over.
        input_shape: Expected shape of one input, or None for any.
        output_shape: Expected shape of one output, or None for any.
        why: Where the expected shape comes from, for the message.
        labels: Whether a second input, for labels `[batch]`, is allowed.

    Returns:
        `(input_shape, output_shape)` of one example.

    Raises:
        ValueError: With what was expected, what was received and what to do.
    """
    if not isinstance(network, keras.layers.Layer):
        raise ValueError(
            f"`{argument}` is a built keras.Model. Received: {network!r} of type {type(network).__name__}"
        )
    shape = None
    if network.built:
        shape = getattr(network, "input_shape", None) or (network.get_build_config() or {}).get(
            "input_shape"
        )
    if not shape:
        raise ValueError(
            f"Expected `{argument}` to be built. Received: {network.name}, whose shapes are not known yet. Begin a Sequential with "
            f"keras.Input(shape), or call {network.name} on a batch of data first."
        )
    inputs = keras.KerasTensor(shape) if isinstance(shape[0], (int, type(None))) else network.inputs
    if isinstance(inputs, list) and not (
        labels and len(inputs) == 2 and tuple(inputs[1].shape) == (None,)
    ):
        allowed = (
            "one input, or a second one for labels of shape (batch,)" if labels else "one input"
        )
        raise ValueError(
            f"Expected `{argument}` with {allowed}. Received: {network.name} with inputs of shape {shape}."
        )
    outputs = network.compute_output_spec(inputs)
    shape = shape[0] if isinstance(inputs, list) else shape
    received = {"inputs": tuple(shape[1:]), "outputs": tuple(outputs.shape[1:])}
    for side, expected in (("inputs", input_shape), ("outputs", output_shape)):
        if expected is not None and received[side] != tuple(expected):
            raise ValueError(
                f"Expected `{argument}` with {side} of shape {tuple(expected)}{why}. Received: {network.name} with {side} of shape "
                f"{received[side]}. Change its {'input' if side == 'inputs' else 'last layer'}, or what it is to fit."
            )
    return received["inputs"], received["outputs"]


def output_range(network: keras.Model) -> tuple[float, float]:
    """Smallest and largest value that a network can put out, read off its last activation; any value where it is not known.

    >>> output_range(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation="sigmoid")]))
    (0.0, 1.0)
    """
    ranges = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}
    shape_only = ("Reshape", "Flatten", "CenterCrop", "Cropping2D")
    in_order = (
        network.layers
        if isinstance(network, keras.Sequential)
        else getattr(network, "operations", [])
    )
    for operation in reversed(in_order):
        kind = type(operation).__name__
        if isinstance(operation, keras.Model):
            return output_range(operation)
        if kind not in shape_only:
            activation = getattr(operation, "activation", None)
            return ranges.get(getattr(activation, "__name__", kind.lower()), (-math.inf, math.inf))
    return -math.inf, math.inf


def check_logits(argument: str, network: keras.Model) -> None:
    """Check that a network whose outputs are taken as logits does not end in a sigmoid, which would count twice.

    Args:
        argument: Name of the argument, for the message.
        network: What the user handed over, built.

    Raises:
        ValueError: If it ends in a sigmoid or tanh.
    """
    if output_range(network) != (-math.inf, math.inf):
        raise ValueError(
            f"Expected `{argument}` to end in logits. Received: {network.name}, which ends in a sigmoid or tanh: leave it out."
        )
