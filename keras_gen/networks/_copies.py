"""Networks that are called with labels, copied, or computed in float32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_gen._compat import all_layers
from keras_gen._typing import Array, TensorLike
from keras_gen.networks._checks import condition_index


def network_inputs(network: keras.Model, x: Array, condition: TensorLike | None) -> Any:
    """Return the inputs of a network: `x`, with the labels if the network has an input for them.

    Args:
        network: A built Keras model.
        x: Data or latents `[batch, ...]`.
        condition: Labels `[batch]`, which a network without such an input ignores.
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
    """Call a network on `x`, and on the labels if it has an input for them."""
    return network(network_inputs(network, x, condition), training=training)


def copy_of(network: keras.Model, policy: str | None = None) -> keras.Model:
    """Copy a network: same configuration, own weights of the same values.

    Args:
        network: A built Keras model.
        policy: Name of the dtype policy of all layers of the copy. If None, each layer keeps its
            own.

    Raises:
        ValueError: If Keras cannot make the network again from its configuration.
    """
    known = {type(layer).__name__: type(layer) for layer in all_layers(network)}
    global_policy = keras.config.dtype_policy()  # of nested models, whose configuration has none
    try:
        config = keras.saving.serialize_keras_object(network)
        if policy:
            keras.config.set_dtype_policy(policy)
            config = _with_policy(config, policy)
        # the objects are in memory already, so deserializing them runs no foreign code
        copy = keras.saving.deserialize_keras_object(config, custom_objects=known, safe_mode=False)
        copy.set_weights(network.get_weights())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            "Expected a network that Keras can make again from its configuration. Received: "
            f"{network.name}, which it cannot: {error} Give the network, and each layer of your "
            "own, a `get_config` that names all constructor arguments."
        ) from error
    finally:
        keras.config.set_dtype_policy(global_policy)
    for layer in all_layers(copy):
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()  # Normalization, for instance, computes with derived values
    return copy


def float32_function(network: keras.Model) -> Callable[..., tf.Tensor]:
    """Make a function `(inputs, training)` that computes a network in float32.

    Gradients reach the network's own variables. No variable is changed. The call adds nothing to
    the network's `losses`, but clears them: read them before. Under mixed precision, the gradient
    of a float16 gradient overflows and lowers the loss scale (tensorflow/tensorflow#48662).
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
    """Replace the dtype policy of every layer in a serialized network."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {**config["config"], "name": policy}}
        return {key: _with_policy(value, policy) for key, value in config.items()}
    if isinstance(config, list):
        return [_with_policy(value, policy) for value in config]
    return config
