"""Networks as they are used a second time: copied, computed in float32, given labels."""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from keras_gen._typing import Array, TensorLike
from keras_gen.networks._checks import labels_of


def with_labels(
    network: keras.Model, x: Array, labels: TensorLike | None, training: bool
) -> tf.Tensor:
    """The network at `x`, and at the labels too if it has an input for them."""
    if labels_of(network):
        x = [tf.convert_to_tensor(x), tf.cast(labels, network.inputs[1].dtype)]
    return network(x, training=training)


def copy_of(network: keras.Model, policy: str | None = None) -> keras.Model:
    """A network with the same configuration and weights of its own, of the same values.

    Args:
        network: A built Keras model.
        policy: Name of the dtype policy of all its layers; each layer's own if None.

    Raises:
        ValueError: If Keras cannot make it again from its configuration.
    """
    known = {type(layer).__name__: type(layer) for layer in network._flatten_layers()}
    outside = keras.config.dtype_policy()  # of models in models, whose configuration does not say
    try:
        config = keras.saving.serialize_keras_object(network)
        if policy:
            keras.config.set_dtype_policy(policy)
            config = _with_policy(config, policy)
        copy = keras.saving.deserialize_keras_object(
            config, custom_objects=known, safe_mode=False
        )  # it is in memory already
        copy.set_weights(network.get_weights())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected a network that Keras can make again from its configuration. Received: {network.name}, which it cannot: {error} "
            "Give it, and each layer of your own, a `get_config` that names all constructor arguments."
        ) from error
    finally:
        keras.config.set_dtype_policy(outside)
    for layer in copy._flatten_layers():
        if hasattr(
            layer, "finalize_state"
        ):  # of layers such as Normalization, which compute with what follows from their weights
            layer.finalize_state()
    return copy


def float32_function(network: keras.Model) -> Callable[..., tf.Tensor]:
    """The network as a function `(inputs, training)` that computes in float32 and changes no variable.

    It adds nothing to the network's `losses`, but clears them: read them before. Gradients reach the network's own variables. Under
    mixed precision, the gradient of a gradient in float16 overflows and takes the loss scale down with it
    (tensorflow/tensorflow#48662).
    """
    in_float32 = {layer.compute_dtype for layer in network._flatten_layers()} == {"float32"}
    twin = network if in_float32 else copy_of(network, "float32")

    def function(inputs, training):
        state = [
            (mine, theirs.value)
            for mine, theirs in zip(twin.variables, network.variables, strict=True)
        ]
        with keras.StatelessScope(state_mapping=state):
            return twin(inputs, training=training)

    return function


def _with_policy(config, policy):
    """A serialized network, every layer of which has the dtype policy of that name."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {**config["config"], "name": policy}}
        return {key: _with_policy(value, policy) for key, value in config.items()}
    return [_with_policy(value, policy) for value in config] if isinstance(config, list) else config
