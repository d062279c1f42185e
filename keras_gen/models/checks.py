"""Checks of what a user hands over, networks and data; what fails is a `ValueError` that says what to do."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from keras_gen.data.sources import MARK, as_arrays
from keras_gen.distributions import Prior
from keras_gen.typing import Array, Data, TensorLike

_NUMBERS = "<keras_gen numbers>"  # and the names of the numbers that follow it
ANY_NUMBER = np.iinfo(np.int32).max  # of labels, where a network does not say how many
_TOLERANCE = 1e-4  # of rounding, for data at the ends of their range


class DataCheck:
    """Whether data are what a model was built for: floats of one shape, within what the model can put out.

    Args:
        shape: Shape of one example.
        low, high: Smallest and largest value that the model can put out.
        num_classes: Number of labels that a conditional model is given as `y`; None for a model without a condition.
    """

    def __init__(
        self, shape: Sequence[int], low: float = -math.inf, high: float = math.inf, num_classes: int | None = None
    ) -> None:
        self.shape = tuple(shape)
        self.low, self.high = low, high
        self.num_classes = num_classes

    def before_work(self, x: Data | None, y: Array | None = None, name: str = "x") -> None:
        """Look at what `fit` was given before it begins: arrays as a whole, data sets by what they say of themselves.

        Args:
            x: An array, a `tf.data.Dataset`, or anything else that `fit` takes, which is left to `in_step`.
            y: The target, if any.
            name: What the data are called in messages.

        Raises:
            ValueError: For a wrong shape or dtype, a value out of range or NaN, labels in the place of the target, and labels that are
                missing, no such integers or, in an array, none of the model's.
        """
        if isinstance(x, tf.data.Dataset):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(x.element_spec)
        if x is None or not (isinstance(x, (dict, list, tuple)) or hasattr(x, "dtype")):
            return
        target = self._target(x, y)
        if not isinstance(target, tf.TypeSpec) and len(target):
            target = np.asarray(target)
            if not (target.min() >= self.low - _TOLERANCE and target.max() <= self.high + _TOLERANCE):
                first = np.argwhere(~((target >= self.low - _TOLERANCE) & (target <= self.high + _TOLERANCE)))[0]
                raise ValueError(self._range_message(f"{target[tuple(first)]:g} at {first.tolist()} of {name}"))

    def examples(
        self, x: TensorLike | tf.data.Dataset, labels: TensorLike | None = None, at_least: int = 1
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Examples `[n, *shape]` and their labels `[n]`, if any, as arrays that have been looked at.

        Args:
            x: Examples `[n, *shape]`, or a data set of batches of them, which may have the labels, too.
            labels: Their labels `[n]` for a conditional model, None for another.
            at_least: How many examples there must be.

        Raises:
            ValueError: As `before_work`, and if there are fewer examples, or labels that the model does not know.
        """
        if isinstance(x, tf.data.Dataset):
            x, y = as_arrays(x)
            labels = y if labels is None and self.num_classes else labels
        x, labels = np.asarray(x, np.float32), None if labels is None else np.asarray(labels)
        if len(x) < at_least:
            raise ValueError(f"Expected at least {at_least} example{'s' if at_least > 1 else ''}. Received: {len(x)} examples.")
        if labels is not None and not self.num_classes:
            raise ValueError("Expected no `condition`: the model is of examples without labels. Received: labels.")
        self.check_form("x", x)
        self.before_work(x, labels if self.num_classes else None)
        return x, labels

    def in_pipeline(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        """The same data set, whose values are checked on their way: what XLA compiles cannot do it inside the step.

        Args:
            dataset: Batches in one of the forms that `fit` takes.

        Raises:
            ValueError: For a wrong shape or dtype; for a value, by what reads the data set inside of `step_errors`.
        """

        def checked(*batch):
            x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
            x, target = self.in_step(x, y)
            if self.num_classes:
                return keras.utils.pack_x_y_sample_weight(target, y, sample_weight)
            return target if y is None else keras.utils.pack_x_y_sample_weight(x, target, sample_weight)

        return dataset.map(checked)

    def in_step(self, x: tf.Tensor, y: tf.Tensor | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Check a batch inside the step, its values too; XLA leaves the values out.

        Args:
            x: A batch `[batch, *shape]`.
            y: The target, of the same shape, or the labels `[batch]` of a conditional model.

        Returns:
            `(x, target)` as float32, the target being `x` where there is none, or labels in its place. What depends on the
            target does not run before its values are checked.

        Raises:
            ValueError: As `before_work`; for a value, in a graph, by `step_errors`.
        """
        target = self._target(x, y)
        x, target = (tf.ensure_shape(tf.cast(values, tf.float32), (None, *self.shape)) for values in (x, target))
        of_example = tf.reshape(target, (tf.shape(target)[0], math.prod(self.shape)))
        low, high = tf.reduce_min(of_example, axis=1), tf.reduce_max(of_example, axis=1)
        within = (low >= self.low - _TOLERANCE) & (high <= self.high + _TOLERANCE)
        within = tf.concat([within, [True]], axis=0)  # a replica may have no example at all
        first, message = tf.argmin(tf.cast(within, tf.int32)), self._range_message("others, first in example # of its batch")
        if tf.executing_eagerly() and not tf.reduce_all(within):
            raise ValueError(message.replace("#", str(int(first))))
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(within), [MARK + message + MARK, first])]):
            return x, tf.identity(target)

    def _target(self, x, y):
        """What the model is to put out for `x`: `y`, or `x` itself where there is none or labels stand there; all forms checked."""
        if self.num_classes:
            self._check_labels(y, self.num_classes)
        target = x if y is None or self.num_classes else y
        self.check_form("x", x)
        self.check_form("y", target)
        return target

    def _check_labels(self, y, num_classes):
        """Check that `y`, an array, a tensor or a spec, are labels; the values of an array, too."""
        what = f"Expected labels as `y`, integers of shape (batch,) from 0 to {num_classes - 1}, for this conditional model."
        if y is None:
            raise ValueError(f"{what} Received: none. Give them: fit(x, labels), or a data set of pairs.")
        if not hasattr(y, "dtype"):
            raise ValueError(f"{what} Received: a {type(y).__name__}. Make an array of it: np.asarray(labels).")
        shape, dtype = tf.TensorShape(y.shape), tf.as_dtype(y.dtype)
        if not shape.is_compatible_with((None,)) or not dtype.is_integer:
            raise ValueError(f"{what} Received: shape {shape} of {dtype.name}.")
        if isinstance(y, np.ndarray) and y.size and not (y.min() >= 0 and y.max() < num_classes):
            raise ValueError(f"{what} Received: values from {y.min()} to {y.max()}.")

    def check_form(self, name: str, values: Any) -> None:
        """Check that `values` are floats of the shape of the data.

        Args:
            name: What they are called in messages: `y` for a target, which may be meant as labels.
            values: An array, a tensor or a spec.

        Raises:
            ValueError: If they are several arrays, or of another shape or dtype.
        """
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

    def _range_message(self, received):
        return (
            f"Expected data in [{self.low:g}, {self.high:g}], the range of the model's output, and no NaN. Received: {received}. "
            f"Scale pixels of 0 to 255 into it{': x / 255' if (self.low, self.high) == (0, 1) else ''}."
        )


class NonFiniteError(ArithmeticError):
    """A loss or a gradient became infinite or NaN; it did not reach the weights."""

    @classmethod
    def of(cls, step: int, values: dict[str, float]) -> Self:
        """The error that says which numbers, by name, of which step (from 1) are not finite: their gradient, if all of them are."""
        flawed = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
        flawed = [words for words in flawed if not words.startswith("loss =")] or flawed  # rather the term than the sum
        return cls(
            f"Expected finite numbers. Received: in step {step}, {' and '.join(flawed) or f'the gradient of {next(iter(values))}'}. "
            "It did not reach the weights. Lower the learning rate, or clip the gradients: --clip-norm 1, "
            "keras.optimizers.Adam(global_clipnorm=1.0)."
        )


def assert_finite(finite: tf.Tensor, step: tf.Tensor, values: dict[str, tf.Tensor]) -> tf.Operation | None:
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
            raise NonFiniteError.of(int(step), dict(zip(names.split(","), map(float, values), strict=True))) from None
        found = re.search(rf"{MARK}(.*){MARK}(?:\] \[(\d+))?", str(error))
        if not found:
            raise
        raise ValueError(found[1].replace("#", found[2] or "")) from None


def labels_of(network: keras.Model) -> int | None:
    """How many labels the second input of a network takes, `ANY_NUMBER` if it does not say, None if it has no such input.

    Args:
        network: A built Keras model; the first of its embeddings says how many.
    """
    if not isinstance(getattr(network, "input_shape", None), list):
        return None
    unwrapped = [getattr(layer, "layer", layer) for layer in network.layers]  # of spectral normalization
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
        raise ValueError(f"`{argument}` is a built keras.Model. Received: {network!r} of type {type(network).__name__}")
    shape = None
    if network.built:
        shape = getattr(network, "input_shape", None) or (network.get_build_config() or {}).get("input_shape")
    if not shape:
        raise ValueError(
            f"Expected `{argument}` to be built. Received: {network.name}, whose shapes are not known yet. Begin a Sequential with "
            f"keras.Input(shape), or call {network.name} on a batch of data first."
        )
    inputs = keras.KerasTensor(shape) if isinstance(shape[0], (int, type(None))) else network.inputs
    if isinstance(inputs, list) and not (labels and len(inputs) == 2 and tuple(inputs[1].shape) == (None,)):
        allowed = "one input, or a second one for labels of shape (batch,)" if labels else "one input"
        raise ValueError(f"Expected `{argument}` with {allowed}. Received: {network.name} with inputs of shape {shape}.")
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
    in_order = network.layers if isinstance(network, keras.Sequential) else getattr(network, "operations", [])
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


def check_prior(prior: Prior, event_size: int, labels: bool = False) -> None:
    """Check that a prior is one, is over the latents there are and, unless `labels` are allowed, depends on none.

    Args:
        prior: What the user handed over.
        event_size: Number of latents.
        labels: Whether it may depend on labels.

    Raises:
        ValueError: With what was expected, what was received and what to do.
    """
    if not isinstance(prior, Prior):
        raise ValueError(
            f"`prior` is a keras_gen.distributions.Prior. Received: {prior!r}. Put a tfd distribution into one, so that it is saved "
            "with the model:\n@keras.saving.register_keras_serializable()\nclass MyPrior(keras_gen.distributions.Prior):\n"
            "    def distribution(self, condition=None):\n"
            "        return tfd.Independent(tfd.Laplace(tf.zeros(self.event_size), 1.0), 1)"
        )
    if prior.event_size != event_size:
        raise ValueError(
            f"Expected `prior` over {event_size} latents. Received: {prior.name} with event_size={prior.event_size}. Give the prior "
            "and the networks the same size."
        )
    if prior.num_classes and not labels:
        raise ValueError(
            f"Expected `prior` without a condition, since this model has no labels. Received: {prior.name}. Use a VAE for it."
        )


def check_distribution(prior: Prior) -> None:
    """Build a prior and check that its distribution is one over vectors: `[event_size]` the event, no batch, float32.

    Args:
        prior: One that `check_prior` let pass.

    Raises:
        ValueError: If its distribution is another.
    """
    if not prior.built:
        prior.build(None)
    distribution = prior.distribution(tf.zeros(1, tf.int32))[0] if prior.num_classes else prior.distribution()
    if distribution.event_shape != (prior.event_size,) or distribution.batch_shape != () or distribution.dtype != tf.float32:
        raise ValueError(
            f"Expected {prior.name}.distribution() of event shape ({prior.event_size},), without a batch, in float32. Received: event "
            f"shape {tuple(distribution.event_shape)}, batch shape {tuple(distribution.batch_shape)}, {distribution.dtype.name}. "
            "tfd.Independent(distribution, 1) makes one distribution of a batch."
        )
