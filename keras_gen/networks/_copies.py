"""Call networks with labels, copy networks, and compute networks in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gen._compat import all_layers
from keras_gen._typing import Array, TensorLike
from keras_gen.networks._checks import condition_index


def network_inputs(network: keras.Model, x: Array, condition: TensorLike | None) -> Any:
    """Return the argument with which to call a network: `x`, or a list of `x` and the labels.

    Args:
        network: A built Keras model.
        x: Data or latents `[batch, ...]`.
        condition: Labels `[batch]`. If the network has no input for labels, `condition` is ignored.
    """
    index = condition_index(network)
    if index is None:
        return x
    inputs = [tf.convert_to_tensor(x)]
    inputs.insert(index, tf.cast(condition, network.inputs[index].dtype))
    return inputs


def call_network(
    network: keras.Model, x: Array, condition: TensorLike | None, training: bool
) -> tf.Tensor:
    """Call a network on `x`, and on the labels if the network has an input for labels.

    In eager mode and outside training, if `x` contains no examples, the function does not call the
    network, and returns an empty tensor of the right shape. A network with convolutions would
    return the wrong shape, because of the library oneDNN, which computes convolutions on CPUs.
    """
    inputs = network_inputs(network, x, condition)
    if tf.executing_eagerly() and not training and np.shape(x)[:1] == (0,):
        specs = keras.tree.map_structure(lambda each: keras.KerasTensor(np.shape(each)), inputs)
        spec = network.compute_output_spec(specs)
        return tf.zeros(spec.shape, spec.dtype)
    return network(inputs, training=training)


def check_accepts_missing(
    encoder: keras.Model, data_shape: tuple[int, ...], likelihood: str
) -> None:
    """Check that an encoder accepts missing elements, which are NaN.

    The encoder must return finite numbers for an example whose elements are all missing.

    Args:
        encoder: A built Keras model.
        data_shape: Shape of one example.
        likelihood: Name of the likelihood that accepts missing elements, for the error message.

    Raises:
        ValueError: If an output of the encoder is NaN or infinite.
    """
    missing = tf.fill((1, *data_shape), np.float32("nan"))
    output = call_network(encoder, missing, tf.zeros(1, tf.int32), training=False)
    if not tf.reduce_all(tf.math.is_finite(output)):
        raise ValueError(
            f"`encoder` must accept NaN, because `{likelihood}` has missing=True. Received: an "
            "encoder that returns NaN for an example whose elements are all NaN. Build the encoder "
            "with `features=networks.ColumnFeatures(columns)` for tables, or with "
            "`features=networks.MissingAsZero()` for images."
        )


def copy_of(network: keras.Model, policy: str | None = None) -> keras.Model:
    """Return a copy of a network. The copy has its own variables, with equal values.

    Args:
        network: A built Keras model.
        policy: Name of the dtype policy of all layers of the copy. If None, each layer of the copy
            has the dtype policy of the original layer.

    Raises:
        ValueError: If Keras cannot rebuild the network from its `get_config()`.
    """
    known = {type(layer).__name__: type(layer) for layer in all_layers(network)}
    global_policy = keras.config.dtype_policy()  # for nested models, which save no policy
    try:
        config = keras.saving.serialize_keras_object(network)
        if policy:
            keras.config.set_dtype_policy(policy)
            config = _with_policy(config, policy)
        # This runs no untrusted code, because `config` comes from a network in memory.
        copy = keras.saving.deserialize_keras_object(config, custom_objects=known, safe_mode=False)
        copy.set_weights(network.get_weights())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            "Expected a network that Keras can rebuild from its `get_config()`. Received: "
            f"{network.name}. Rebuilding it failed: {error} Give the network, and each layer of "
            "your own, a `get_config` that returns all constructor arguments."
        ) from error
    finally:
        keras.config.set_dtype_policy(global_policy)
    for layer in all_layers(copy):
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()  # `Normalization`, for instance, derives values from weights
    return copy


def float32_function(network: keras.Model) -> Callable[..., tf.Tensor]:
    """Return a function `(inputs, training)` that computes a network in float32.

    Under mixed precision, use the returned function for a loss that contains a gradient, such as a
    gradient penalty. In float16, the gradient of such a loss would overflow
    (tensorflow/tensorflow#48662).

    You can differentiate the returned function with respect to the variables of `network`. A call
    of the returned function changes no variable. However, if `network` already computes in float32,
    the call clears `network.losses`. Therefore read these losses before the call.
    """
    in_float32 = {layer.compute_dtype for layer in all_layers(network)} == {"float32"}
    copy = network if in_float32 else copy_of(network, "float32")

    def function(inputs: Any, training: bool) -> tf.Tensor:
        state = [
            (of_copy, variable.value)
            for of_copy, variable in zip(copy.variables, network.variables, strict=True)
        ]
        with keras.StatelessScope(state_mapping=state):
            return copy(inputs, training=training)

    return function


def _with_policy(config: Any, policy: str) -> Any:
    """Return a serialized network in which every layer has the dtype policy `policy`."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {**config["config"], "name": policy}}
        return {key: _with_policy(value, policy) for key, value in config.items()}
    if isinstance(config, list):
        return [_with_policy(value, policy) for value in config]
    return config
