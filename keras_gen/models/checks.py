"""Checks of what a user hands over, networks and data; what fails is a `ValueError` that says what to do."""

import contextlib
import math

import keras
import numpy as np
import tensorflow as tf

_MARK = "\u2063"  # an invisible separator that finds our message again inside a TensorFlow error
_TOLERANCE = 1e-4  # of rounding, for data at the ends of their range


class DataCheck:
    """Whether data are what a model was built for: floats of one shape, within what the model can put out.

    Args:
        shape: Shape of one example.
        low, high: Smallest and largest value that the model can put out.
    """

    def __init__(self, shape, low=-math.inf, high=math.inf):
        self.shape = tuple(shape)
        self.low, self.high = low, high

    def before_work(self, x, y=None):
        """Look at what `fit` was given before it begins: arrays as a whole, data sets by what they say of themselves.

        Args:
            x: An array, a `tf.data.Dataset`, or anything else that `fit` takes, which is left to `in_step`.
            y: The target, if any.
        """
        if isinstance(x, tf.data.Dataset):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(x.element_spec)
        if x is None or not (isinstance(x, (dict, list, tuple)) or hasattr(x, "dtype")):
            return
        target = x if y is None else y
        self._check_form("x", x)
        self._check_form("y", target)
        values_known = not isinstance(target, tf.TypeSpec) and len(target)
        if values_known and (np.min(target) < self.low - _TOLERANCE or np.max(target) > self.high + _TOLERANCE):
            raise ValueError(self._range_message())

    def in_step(self, x, y=None):
        """Check a batch inside the step, its values too; XLA leaves the values out.

        Returns:
            `(x, target)` as float32, the target being `x` where there is none. What depends on the target does not run before
            its values are checked.
        """
        target = x if y is None else y
        self._check_form("x", x)
        self._check_form("y", target)
        x, target = tf.cast(x, tf.float32), tf.cast(target, tf.float32)
        if self.low > -math.inf or self.high < math.inf:
            within = (tf.reduce_min(target) >= self.low - _TOLERANCE) & (tf.reduce_max(target) <= self.high + _TOLERANCE)
            with tf.control_dependencies([tf.debugging.Assert(within, [_MARK + self._range_message() + _MARK])]):
                target = tf.identity(target)
        return x, target

    def _check_form(self, name, values):
        """Check that `values`, an array, a tensor or a spec, are floats of the shape of the data."""
        if isinstance(values, (dict, list, tuple)):
            raise ValueError(f"Expected `{name}` as one array. Received: a {type(values).__name__} of {len(values)}.")
        shape = tf.TensorShape(values.shape)
        if not shape.is_compatible_with((None, *self.shape)):
            what_to_do = "Reshape the data, or build the networks for their shape."
            if name == "y":
                what_to_do = (
                    "If these are labels: a model without a condition learns from x alone, so leave them out: "
                    "fit(x), or fit(dataset.map(lambda x, y: x))."
                )
            elif (*shape[1:], 1) == self.shape:
                what_to_do = "Add the axis of the channel: x[..., None]."
            expected = ", ".join(["batch", *map(str, self.shape)])
            raise ValueError(f"Expected `{name}` of shape ({expected}). Received: shape {shape}. {what_to_do}")
        if not tf.as_dtype(values.dtype).is_floating:
            raise ValueError(
                f"Expected `{name}` as floats, pixels in [0, 1]. Received: dtype {tf.as_dtype(values.dtype).name}. "
                "Divide pixels of 0 to 255 by 255: x.astype('float32') / 255."
            )

    def _range_message(self):
        return (
            f"Expected data in [{self.low:g}, {self.high:g}], which is all that the output of the model can reach. "
            "Received values outside. Divide pixels of 0 to 255 by 255."
        )


@contextlib.contextmanager
def data_errors():
    """Turn a check that failed inside the graph into the `ValueError` that it stands for."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        parts = str(error).split(_MARK)
        if len(parts) < 3:
            raise
        raise ValueError(parts[1]) from None


def check_network(argument, network, input_shape=None, output_shape=None, why=""):
    """Check that a network is built and has the shapes that are asked of it.

    Args:
        argument: Name of the argument, for the message.
        network: What the user handed over.
        input_shape: Expected shape of one input, or None for any.
        output_shape: Expected shape of one output, or None for any.
        why: Where the expected shape comes from, for the message.

    Returns:
        `(input_shape, output_shape)` of one example.

    Raises:
        ValueError: With what was expected, what was received and what to do.
    """
    if not isinstance(network, keras.layers.Layer):
        raise ValueError(f"`{argument}` is a built keras.Model. Received: {network!r} of type {type(network).__name__}")
    shape = None
    if network.built:
        shape = getattr(network, "input_shape", None) or (network.get_build_config() or {}).get("input_shape")
    if not shape:
        raise ValueError(
            f"Expected `{argument}` to be built. Received: {network.name}, whose shapes are not known yet. Begin a Sequential with "
            f"keras.Input(shape), or call {network.name} on a batch of data first."
        )
    if not isinstance(shape[0], (int, type(None))):
        raise ValueError(f"Expected `{argument}` with one input. Received: {network.name} with inputs of shape {shape}.")
    outputs = network.compute_output_spec(keras.KerasTensor(shape))
    received = {"inputs": tuple(shape[1:]), "outputs": tuple(outputs.shape[1:])}
    for side, expected in (("inputs", input_shape), ("outputs", output_shape)):
        if expected is not None and received[side] != tuple(expected):
            raise ValueError(
                f"Expected `{argument}` with {side} of shape {tuple(expected)}{why}. Received: {network.name} with {side} of shape "
                f"{received[side]}. Change its {'input' if side == 'inputs' else 'last layer'}, or what it is to fit."
            )
    return received["inputs"], received["outputs"]


def output_range(network):
    """Smallest and largest value that a network can put out, read off its last layers' activation.

    >>> output_range(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation="sigmoid")]))
    (0.0, 1.0)
    """
    shape_only = (keras.layers.Reshape, keras.layers.Flatten, keras.layers.CenterCrop, keras.layers.Cropping2D)
    layers = [layer for layer in getattr(network, "layers", []) if not isinstance(layer, shape_only)]
    activation = getattr(layers[-1], "activation", None) if layers else None
    ranges = {keras.activations.sigmoid: (0.0, 1.0), keras.activations.tanh: (-1.0, 1.0)}
    return ranges.get(activation, (-math.inf, math.inf))
