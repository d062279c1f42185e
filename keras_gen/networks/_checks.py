"""Check the networks that a user passes to a model, and find out their properties.

Such properties are the number of classes, the last activation and the range of the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

CONDITION = "condition"
"""Name of the input for labels, in a network that has such an input."""

UNKNOWN_NUMBER = np.iinfo(np.int32).max
"""Placeholder for the number of classes, if a network takes labels but has no embedding layer."""

_ANY_RANGE = (-math.inf, math.inf)


def condition_index(network: keras.Model) -> int | None:
    """Return the index of the network's input for labels, or None if there is no such input.

    The input for labels is the input with the name `condition`. Networks from version 0.1.0 of
    keras_gen do not use this name. Therefore, if no input has this name, the second of two inputs
    is the input for labels, provided that its shape is `(batch,)`.
    """
    shapes = getattr(network, "input_shape", None)
    if not isinstance(shapes, list):
        return None
    names = [tensor.name for tensor in network.inputs]
    if CONDITION in names:
        return names.index(CONDITION)
    return 1 if len(shapes) == 2 and tuple(shapes[1]) == (None,) else None


def num_classes_of(network: keras.Model) -> int | None:
    """Return the number of classes of a network that takes labels as an input.

    Returns:
        The number of vectors in the first embedding layer. If the network has an input for labels
        but no embedding layer, the result is `UNKNOWN_NUMBER`. If the network has no input for
        labels, the result is None.
    """
    if condition_index(network) is None:
        return None
    unwrapped = [getattr(layer, "layer", layer) for layer in network.layers]
    for layer in unwrapped:  # a layer may be wrapped, as by spectral normalization
        if isinstance(layer, keras.layers.Embedding):
            return layer.input_dim
    return UNKNOWN_NUMBER


def common_num_classes(**parts: int | None) -> int | None:
    """Check that the networks and the prior of a model have the same number of classes.

    Args:
        **parts: Number of classes of each network and of the prior, by name, such as
            `encoder=10, prior=None`. None if the network or the prior takes no labels.
            `UNKNOWN_NUMBER` matches every number of classes.

    Returns:
        The number of classes, or None if no network and no prior takes labels. If no number of
        classes is known, but a network takes labels, the result is `UNKNOWN_NUMBER`.

    Raises:
        ValueError: If two numbers of classes are different.
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
        input_shape: Required input shape of one example. Default: None, any shape.
        output_shape: Required output shape of one example. Default: None, any shape.
        why: Reason for the required shape. The error message contains this text after the shape.
            Default: no text.
        labels: Whether the network may have a second input for labels `[batch]`. Default: False.

    Returns:
        `(input_shape, output_shape)` of the network for one example.

    Raises:
        ValueError: If the network is not a built Keras model or layer, or if the number of inputs
            or a shape is not as required. Also if the network has several outputs, fixes the batch
            size, or does not have floats as inputs and outputs.
    """
    if not isinstance(network, keras.layers.Layer):
        raise ValueError(
            f"`{argument}` must be a built keras.Model. Received: {network!r} of type "
            f"{type(network).__name__}"
        )
    shapes = _built_input_shapes(argument, network)
    if isinstance(shapes, (tuple, list)) and isinstance(shapes[0], (int, type(None))):
        # A network that was built by a call has the batch size of that call.
        batch_size = shapes[0] if getattr(network, "inputs", None) else None
        data_shape = (batch_size, *shapes[1:])
        inputs: Any = keras.KerasTensor(data_shape)
    else:
        index = condition_index(network)
        two_inputs = labels and len(shapes) == 2
        if index is None or not two_inputs or tuple(shapes[index]) != (None,):
            expected = "one input"
            advice = "Build it with one input: keras.Model(x, outputs)."
            if labels:
                expected += f", and optionally an input {CONDITION!r} for labels of shape (batch,)"
                advice = "Give several inputs as a list: keras.Model([x, condition], outputs)."
            raise ValueError(
                f"`{argument}` must have {expected}. "
                f"Received: {network.name} with inputs of shape {shapes}. {advice}"
            )
        inputs = network.inputs
        data_shape = shapes[1 - index]
    data_shape = tuple(data_shape)
    _check_fixed(argument, network, "inputs", data_shape)
    _check_floats(argument, network)
    outputs = network.compute_output_spec(inputs)
    if not isinstance(outputs, keras.KerasTensor):
        raise ValueError(_several_outputs_message(argument, network, outputs, output_shape))
    _check_fixed(argument, network, "outputs", tuple(outputs.shape))
    if not keras.backend.is_float_dtype(outputs.dtype):
        raise ValueError(
            f"`{argument}` must output floats. Received: {network.name} with outputs of dtype "
            f"{outputs.dtype}. Remove the last layer of {network.name}, or cast its output to "
            "float32."
        )
    received = {"inputs": data_shape[1:], "outputs": tuple(outputs.shape[1:])}
    for side, expected_shape in (("inputs", input_shape), ("outputs", output_shape)):
        if expected_shape is not None and received[side] != tuple(expected_shape):
            to_change = "input" if side == "inputs" else "last layer"
            raise ValueError(
                f"`{argument}` must have {side} of shape {tuple(expected_shape)}{why}. Received: "
                f"{network.name} with {side} of shape {received[side]}. Change the {to_change} of "
                f"{network.name}, or the part of the model that requires this shape."
            )
    return received["inputs"], received["outputs"]


def _check_fixed(
    argument: str, network: keras.layers.Layer, side: str, shape: tuple[int | None, ...]
) -> None:
    """Check that a network accepts batches of any size, and that all other sizes are fixed.

    Args:
        argument: Name of the argument that received the network, for the error message.
        network: The network.
        side: `"inputs"` or `"outputs"`, for the error message.
        shape: Shape of the inputs or the outputs, with the batch axis.

    Raises:
        ValueError: If the batch size is fixed, or if any other size is None.
    """
    if None in shape[1:]:
        raise ValueError(
            f"`{argument}` must have {side} of a fixed shape. Received: {network.name} with {side} "
            f"of shape {shape[1:]}. Replace None by a number, such as keras.Input((28, 28, 1)), "
            "and build the network for this shape."
        )
    if shape[0] is not None:
        raise ValueError(
            f"`{argument}` must accept batches of any size. Received: {network.name} with {side} "
            f"of shape {shape}, where {shape[0]} is the batch size. Build the network with "
            "keras.Input(shape), without `batch_shape` or `batch_size`."
        )


def _check_floats(argument: str, network: keras.layers.Layer) -> None:
    """Raise a `ValueError` if an input of the network has an integer dtype.

    Keras casts the data to the dtype of the input. An integer dtype would round the data. The input
    for labels is not checked.
    """
    condition = condition_index(network)
    for index, tensor in enumerate(getattr(network, "inputs", None) or []):
        if index != condition and not keras.backend.is_float_dtype(tensor.dtype):
            raise ValueError(
                f"`{argument}` must have an input of floats, because Keras would round the data. "
                f"Received: {network.name} with an input of dtype {tensor.dtype}. Use "
                "keras.Input(shape) without `dtype`."
            )


def _several_outputs_message(
    argument: str, network: keras.layers.Layer, outputs: Any, output_shape: Sequence[int] | None
) -> str:
    """Return the error message about a network that outputs a list, a tuple or a dictionary.

    Args:
        argument: Name of the argument that received the network.
        network: The network.
        outputs: The symbolic outputs of the network.
        output_shape: Required output shape of one example, or None.
    """
    kind = type(outputs).__name__
    shapes = [tuple(tensor.shape[1:]) for tensor in keras.tree.flatten(outputs)]
    required = "" if output_shape is None else f" of shape {tuple(output_shape)}"
    if len(shapes) == 1:
        advice = "Give it as keras.Model(inputs, outputs), where `outputs` is one tensor."
    else:
        advice = (
            f"Concatenate the outputs into one output{required}: "
            "keras.layers.Concatenate()([z_mean, z_log_var]). Omit latents that are samples, "
            "because the model samples the latents itself."
        )
    return (
        f"`{argument}` must have one output{required}. Received: {network.name}, which returns a "
        f"{kind} of {len(shapes)} outputs of shapes {shapes}. {advice}"
    )


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


_RANGES = {
    "celu": (-1.0, math.inf),
    "elu": (-1.0, math.inf),
    "exponential": (0.0, math.inf),
    "gelu": (-0.171, math.inf),
    "hard_sigmoid": (0.0, 1.0),
    "hard_silu": (-0.375, math.inf),
    "hard_tanh": (-1.0, 1.0),
    "log_sigmoid": (-math.inf, 0.0),
    "log_softmax": (-math.inf, 0.0),
    "mish": (-0.309, math.inf),
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
    "selu": (-1.759, math.inf),
    "sigmoid": (0.0, 1.0),
    "silu": (-0.279, math.inf),
    "softmax": (0.0, 1.0),
    "softplus": (0.0, math.inf),
    "softsign": (-1.0, 1.0),
    "sparse_plus": (0.0, math.inf),
    "sparse_sigmoid": (0.0, 1.0),
    "sparsemax": (0.0, math.inf),  # Keras 3.15 returns values above 1 if all inputs are negative
    "squareplus": (0.0, math.inf),
    "tanh": (-1.0, 1.0),
}
"""Dictionary `{name: (smallest value, largest value)}` of Keras activations. The outputs of other
Keras activations can be any numbers."""

_ACTIVATIONS = {
    function.__name__.replace("_", ""): function.__name__
    for name, function in vars(keras.activations).items()
    if callable(function) and name not in ("get", "serialize", "deserialize")
}
"""Dictionary `{name without underscores: name}` of all Keras activations."""

_LINEAR = ("BatchNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization")
"""Names of Keras layers that have no activation. Their outputs can be any numbers."""

_WITHOUT_EFFECT_ON_RANGE = (
    *("Reshape", "Flatten", "Permute", "Identity", "RepeatVector"),
    *("CenterCrop", "Cropping1D", "Cropping2D", "Cropping3D"),
    *("UpSampling1D", "UpSampling2D", "UpSampling3D"),
    *("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"),
    *("MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D"),
)


def last_activation(network: keras.layers.Layer) -> str | None:
    """Return the name of the last activation of a network.

    Layers that do not change the range of the values, such as `Reshape`, are ignored. A separate
    layer with a linear activation is also ignored. Such a layer is only used to cast values to
    float32 under mixed precision.

    Returns:
        The name of the Keras activation in the last layer that is not ignored, such as `"sigmoid"`.
        If this layer is a normalization layer, or a layer such as `Dense` without an activation,
        the name is `"linear"`. In all other cases, for instance if the activation is a function of
        the user, the function returns None.

    Example:
        >>> last_activation(keras.Sequential(
        ...     [keras.Input((2,)), keras.layers.Dense(3, activation="sigmoid")]))
        'sigmoid'
    """
    network = getattr(network, "layer", network)  # of `SpectralNormalization` or `TimeDistributed`
    sequential = isinstance(network, keras.Sequential)
    if isinstance(network, keras.Model):
        in_order = network.layers if sequential else getattr(network, "operations", [])
        for operation in reversed(in_order):
            activation = last_activation(operation)
            alone = isinstance(operation, keras.layers.Activation)
            moves = type(operation).__name__ in _WITHOUT_EFFECT_ON_RANGE
            if not moves and not (alone and activation == "linear"):
                return activation
        return None
    kind = type(network).__name__
    if hasattr(network, "activation"):
        name = getattr(network.activation, "__name__", None)
        # A function of the user can have the name of a Keras activation.
        of_keras = getattr(keras.activations, name or "", network.activation)
        return name if of_keras is network.activation else None
    if not type(network).__module__.startswith("keras."):
        return None
    if kind == "ReLU":
        return "relu" if not network.negative_slope and not network.threshold else None
    if kind in _LINEAR:
        return "linear"
    return _ACTIVATIONS.get(kind.lower())  # such as the layer `Softmax`, or the operation `Sigmoid`


def may_output_probabilities(network: keras.layers.Layer) -> bool:
    """Return False if the last activation can return numbers outside [0, 1], otherwise True.

    If the last activation is not a Keras activation, its range is not known. Then the result is
    True.

    Example:
        >>> may_output_probabilities(keras.Sequential(
        ...     [keras.Input((2,)), keras.layers.Dense(3, activation="elu")]))
        False
    """
    activation = last_activation(network)
    if activation is None or activation not in _ACTIVATIONS.values():
        return True
    low, high = _RANGES.get(activation, _ANY_RANGE)
    return low >= 0 and high <= 1


def output_range(network: keras.Model) -> tuple[float, float]:
    """Return the smallest and largest value that a network can output.

    These two values are known if the outputs of the last activation are bounded on both sides, as
    for a sigmoid or tanh. For all other networks, the function returns (−∞, ∞).

    Example:
        >>> output_range(keras.Sequential(
        ...     [keras.Input((2,)), keras.layers.Dense(3, activation="sigmoid")]))
        (0.0, 1.0)
    """
    low, high = _RANGES.get(last_activation(network) or "", _ANY_RANGE)
    return (low, high) if math.isfinite(high - low) else _ANY_RANGE


def check_logits(argument: str, network: keras.Model) -> None:
    """Check that a network does not end in an activation with a limited range, such as a sigmoid.

    The network must output logits, to which a loss applies a sigmoid or a softmax. Without this
    check, the loss of a network that ends in a sigmoid would be wrong, but no error would appear.

    Args:
        argument: Name of the argument that received the network, for the error message.
        network: The built network that the user passed.

    Raises:
        ValueError: If the last activation has a limited range.
    """
    activation = last_activation(network)
    if activation in _RANGES:
        raise ValueError(
            f"`{argument}` must output logits, which can be any numbers. Received: {network.name}, "
            f"which ends in the activation {activation}. Remove that activation."
        )
