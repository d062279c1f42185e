"""What the generative models share: components, checks of what is handed over, noise, one optimizer step, export."""

import contextlib
import math
import random

import keras
import numpy as np
import tensorflow as tf

from keras_gen.serialization import deserialize_arguments, serialize_arguments


class GenerativeModel(keras.Model):
    """Base of all models. A subclass names the parts of its loss, checks its networks and writes its steps.

    Args:
        data_shape: Shape of one example.
        data_range: Smallest and largest value that the model can put out, against which data are checked.
        seed: Seed of all noise of the model, an int in [0, 2³¹); drawn with Python's `random` if None, which
            `keras.utils.set_random_seed` governs.
        **kwargs: `name`, `dtype` and `trainable` of the Keras model.
    """

    loss_parts = ()
    """Names under which the parts of the loss stand in the logs, beside `loss` itself."""
    compile_arguments = ()
    """Arguments of `compile` beyond those of Keras, each kept in the attribute of the same name and saved with the model."""
    prior = None
    """What latents are drawn from to generate, a `distributions.Prior`."""

    def __init__(self, data_shape, data_range, seed=None, **kwargs):
        super().__init__(**kwargs)
        if seed is None:
            seed = random.getrandbits(31)
        if not isinstance(seed, int) or not 0 <= seed < 2**31:
            raise ValueError(f"`seed` is an int in [0, 2**31) or None. Received: seed={seed!r}")
        self.seed = seed
        self.data_shape = tuple(data_shape)
        self.data_range = data_range
        self.part_trackers = [keras.metrics.Mean(name=part) for part in self.loss_parts]
        self.built = True

    # === Configuration ===

    def get_config(self):
        """The constructor's arguments and those of the Keras model."""
        return {**super().get_config(), **serialize_arguments(self)}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The model that `get_config` describes, untrained."""
        with keras.saving.custom_object_scope(custom_objects or {}):
            return cls(**deserialize_arguments(config))

    def get_compile_config(self):
        """What `compile` was given; None before."""
        config = super().get_compile_config()
        own = {name: getattr(self, name, None) for name in self.compile_arguments}
        return config and {**config, **{name: keras.saving.serialize_keras_object(value) for name, value in own.items()}}

    def compile_from_config(self, config):
        """Compile as the saved model was, with every slot of the optimizer made, so that its saved value finds its place."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    # === What the user hands over ===

    def fit(self, x=None, y=None, *args, sample_weight=None, validation_data=None, **kwargs):
        """Train as `keras.Model.fit`; `sample_weight` counts without `y`, too, and bad data are a `ValueError`."""
        y = _target(x, y, sample_weight)
        if isinstance(validation_data, tuple) and len(validation_data) == 3:
            validation_data = (validation_data[0], _target(*validation_data), validation_data[2])
        self._check_data(x, y)
        self._check_data(*keras.utils.unpack_x_y_sample_weight(validation_data)[:2])
        with _data_errors():
            return super().fit(x, y, *args, sample_weight=sample_weight, validation_data=validation_data, **kwargs)

    def evaluate(self, x=None, y=None, *args, sample_weight=None, **kwargs):
        """Evaluate as `keras.Model.evaluate`; `sample_weight` counts without `y`, too, and bad data are a `ValueError`."""
        y = _target(x, y, sample_weight)
        self._check_data(x, y)
        with _data_errors():
            return super().evaluate(x, y, *args, sample_weight=sample_weight, **kwargs)

    def unpack(self, data):
        """Check a batch of `fit` and split it.

        Args:
            data: `x`, `(x, target)` or `(x, target, sample_weight)`, where the target has the shape of the data.

        Returns:
            `(x, target, sample_weight)`; the target is `x` where none was given, the weight None or `[batch]`. What depends on the
            target does not run before its values are checked.

        Raises:
            ValueError: For labels in the place of the target, a wrong shape, integer pixels or weights not one an example.
        """
        x, target, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        target = x if target is None else target
        self._check("x", x)
        self._check("y", target)
        x, target = tf.cast(x, tf.float32), tf.cast(target, tf.float32)
        low, high = self.data_range
        if low > -math.inf or high < math.inf:  # XLA leaves this out; arrays were looked at beforehand
            within = (tf.reduce_min(target) >= low - _TOLERANCE) & (tf.reduce_max(target) <= high + _TOLERANCE)
            with tf.control_dependencies([tf.debugging.Assert(within, [_MARK + self._range_message() + _MARK])]):
                target = tf.identity(target)
        if sample_weight is not None:
            if sample_weight.shape.rank not in (None, 1):
                raise ValueError(
                    f"`sample_weight` has one weight for each example, shape (batch,). Received: {sample_weight.shape}"
                )
            sample_weight = tf.cast(sample_weight, tf.float32)
        return x, target, sample_weight

    def _check_data(self, x, y):
        """Look at what `fit` was given before any work starts: arrays as a whole, data sets by what they say of themselves."""
        if isinstance(x, tf.data.Dataset):
            x, y, _ = keras.utils.unpack_x_y_sample_weight(x.element_spec)
        if x is None or not (isinstance(x, (dict, list, tuple)) or hasattr(x, "dtype")):
            return  # a generator or a PyDataset: `unpack` looks at every batch
        self._check("x", x)
        target = x if y is None else y
        self._check("y", target)
        if not isinstance(target, tf.TypeSpec) and len(target):
            low, high = self.data_range
            if np.min(target) < low - _TOLERANCE or np.max(target) > high + _TOLERANCE:
                raise ValueError(self._range_message())

    def _check(self, name, values):
        """Check that `values`, an array, a tensor or a spec, have the shape of the data and are floats."""
        if isinstance(values, (dict, list, tuple)):
            raise ValueError(f"Expected `{name}` as one array. Received: a {type(values).__name__} of {len(values)}.")
        shape = tf.TensorShape(values.shape)
        if not shape.is_compatible_with((None, *self.data_shape)):
            what_to_do = "Reshape the data, or build the networks for their shape."
            if name == "y":
                what_to_do = (
                    f"If these are labels: a {type(self).__name__} without a condition learns from x alone, so leave them out: "
                    "fit(x), or fit(dataset.map(lambda x, y: x))."
                )
            elif (*shape[1:], 1) == self.data_shape:
                what_to_do = "Add the axis of the channel: x[..., None]."
            expected = ", ".join(["batch", *map(str, self.data_shape)])
            raise ValueError(f"Expected `{name}` of shape ({expected}). Received: shape {shape}. {what_to_do}")
        if not tf.as_dtype(values.dtype).is_floating:
            raise ValueError(
                f"Expected `{name}` as floats, pixels in [0, 1]. Received: dtype {tf.as_dtype(values.dtype).name}. "
                "Divide pixels of 0 to 255 by 255: x.astype('float32') / 255."
            )

    def _range_message(self):
        low, high = self.data_range
        return (
            f"Expected data in [{low:g}, {high:g}], which is all that the output of {self.name} can reach. "
            f"Received values outside. Divide pixels of 0 to 255 by 255."
        )

    # === The step ===

    def noise_seed(self, training):
        """A stateless seed, int32 `[2]`, of its own for each step, replica and purpose.

        Training folds in the optimizer's iteration, so that a resumed run goes on with the noise it would have had. Evaluation
        folds in the number of examples seen, so that batches differ and two evaluations agree.
        """
        step = self.optimizer.iterations if training else self.part_trackers[0].count
        seed = tf.constant([self.seed, int(training)], tf.int32)
        seed = tf.random.experimental.stateless_fold_in(seed, tf.cast(step, tf.int32))
        return tf.random.experimental.stateless_fold_in(seed, tf.distribute.get_replica_context().replica_id_in_sync_group)

    def average(self, values, sample_weight=None):
        """The mean of one value per example, weighted, over the examples of all replicas: the only reduction there is."""
        if sample_weight is not None:
            values = values * sample_weight
        examples = tf.cast(tf.shape(values)[0] * self._replicas, tf.float32)
        return tf.math.divide_no_nan(tf.reduce_sum(values), examples)

    def regularization_loss(self, network=None):
        """The sum of the losses that the layers add of themselves, kernel regularizers above all, once over all replicas."""
        losses = (self if network is None else network).losses
        return tf.add_n([tf.cast(loss, tf.float32) for loss in losses]) / self._replicas if losses else tf.zeros(())

    def minimize(self, tape, loss, variables):
        """One optimizer step on `variables`; the loss scale of mixed precision enters as the seed of the backward pass."""
        gradients = tape.gradient(loss, variables, output_gradients=self.optimizer.scale_loss(tf.ones_like(loss)))
        self.optimizer.apply(gradients, variables)

    def log(self, x, **values):
        """Put the loss and its parts, as `average` made them, into the running means of the epoch."""
        examples = tf.shape(x)[0]
        for metric in self.metrics:
            if metric.name in values:
                metric.update_state(values[metric.name] * self._replicas, examples)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        """Update the metrics given to `compile` and return all; data without a target are their own."""
        return super().compute_metrics(x, x if y is None else y, y_pred, sample_weight)

    @property
    def _replicas(self):
        return tf.distribute.get_strategy().num_replicas_in_sync

    # === Generation ===

    def decode(self, latents):
        """The data that `latents` `[batch, n]` stand for, `[batch, *data_shape]`."""
        raise NotImplementedError(f"{type(self).__name__} must turn latents into data in `decode`.")

    def generate(self, num_samples=None, seed=None):
        """New data: latents drawn from the prior, and decoded without further noise.

        Args:
            num_samples: How many.
            seed: An int in [0, 2³¹) for samples that can be had again; drawn anew if None. Or int64 `[num_samples]`, one a sample,
                as in the `generate` signature of the exported model, where sample i of `seed` is `seed * 2**32 + i`.

        Returns:
            Tensor `[num_samples, *data_shape]`.

        Raises:
            ValueError: If the model has no prior to draw from, or it is not clear how many samples are wanted.
        """
        if self.prior is None:
            raise ValueError(f"{self.name} cannot generate: a {type(self).__name__} has no distribution over its latents.")
        seed = random.getrandbits(31) if seed is None else seed
        if isinstance(seed, int) and isinstance(num_samples, int) and 0 <= seed < 2**31 and num_samples > 0:
            seed = (seed << 32) + tf.range(num_samples, dtype=tf.int64)
        elif isinstance(seed, int) or num_samples not in (None, len(seed)):
            raise ValueError(
                "`generate` takes a number of samples and an int seed in [0, 2**31), or a vector with one seed a sample. "
                f"Received: num_samples={num_samples!r}, seed={seed!r}"
            )
        return self.generate_rows(tf.cast(seed, tf.int64))["outputs"]

    def generate_rows(self, seed):
        """One sample a seed, the same whatever else is in the batch: the `generate` signature.

        Args:
            seed: int64 `[batch]`.

        Returns:
            `{"outputs": [batch, *data_shape], "latents": [batch, n]}`.
        """
        latents = self.prior.sample_rows(seed)
        return {"outputs": self.decode(latents), "latents": latents}

    # === Export ===

    def signatures(self):
        """The endpoints of an exported model: name → (function of tensors to a dictionary of tensors, input specs)."""
        raise NotImplementedError(f"{type(self).__name__} must name its endpoints in `signatures()`.")

    def export(self, filepath, format="tf_saved_model", verbose=False, **kwargs):
        """Write a SavedModel with the model's signatures, each weight once, for TensorFlow Serving.

        Args:
            filepath: Folder to write, for TensorFlow Serving `BASE/<integer>`.
            format: `"tf_saved_model"`; other formats export `call` alone, as Keras does.
            verbose: Print the endpoints.
            **kwargs: Further arguments of `keras.Model.export` for other formats.
        """
        if format != "tf_saved_model":
            super().export(filepath, format=format, verbose=verbose, **kwargs)
            return
        archive = keras.export.ExportArchive()
        for name, (function, inputs) in self.signatures().items():
            archive.add_endpoint(name, _for_empty_batches(function), inputs)
        archive.write_out(str(filepath), verbose=verbose)

    def _data_spec(self):
        return tf.TensorSpec((None, *self.data_shape), tf.float32, name="inputs")

    def _seed_spec(self):
        return tf.TensorSpec((None,), tf.int64, name="seed")


_MARK = "\u2063"  # an invisible separator that finds our message again inside a TensorFlow error
_TOLERANCE = 1e-4  # of rounding, for data at the ends of their range


@contextlib.contextmanager
def _data_errors():
    """Turn a data check that failed inside the graph into the `ValueError` that it stands for."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        parts = str(error).split(_MARK)
        if len(parts) < 3:
            raise
        raise ValueError(parts[1]) from None


def _for_empty_batches(function):
    """`function`, which never sees an empty batch: oneDNN's convolution gives one the shape of its input (TensorFlow 2.21)."""

    def padded(*inputs):
        batch = tf.shape(inputs[0])[0]
        rows = [[0, tf.maximum(1 - batch, 0)]]
        inputs = [tf.ensure_shape(tf.pad(x, rows + [[0, 0]] * (x.shape.rank - 1)), x.shape) for x in inputs]
        return {name: output[:batch] for name, output in function(*inputs).items()}

    return padded


def _target(x, y, sample_weight):
    """`x` as its own target where there are weights but no target: Keras would drop the weights."""
    return x if y is None and sample_weight is not None and hasattr(x, "shape") else y


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
