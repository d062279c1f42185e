"""Networks as they are used a second time: copied, computed in float32, given labels."""

import keras
import tensorflow as tf

from keras_gen.models.checks import labels_of


def with_labels(network, x, labels, training):
    """The network at `x`, and at the labels too if it has an input for them."""
    if labels_of(network):
        x = [tf.convert_to_tensor(x), tf.cast(labels, network.inputs[1].dtype)]
    return network(x, training=training)


def copy_of(network):
    """A network with the same configuration and weights of its own, of the same values."""
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(network))
    copy.set_weights(network.get_weights())
    return copy


def float32_function(network):
    """The network, in training mode, as a function that computes in float32 and changes no variable.

    It adds nothing to the network's `losses`, but clears them: read them before. Gradients reach the network's own variables. Under
    mixed precision, the gradient of a gradient in float16 overflows and takes the loss scale down with it
    (tensorflow/tensorflow#48662).
    """
    twin = network
    if {layer.compute_dtype for layer in network._flatten_layers()} != {"float32"}:
        config = _with_policy(keras.saving.serialize_keras_object(network), "float32")
        policy = keras.config.dtype_policy()  # of models of models, whose configuration does not say
        keras.config.set_dtype_policy("float32")
        try:
            twin = keras.saving.deserialize_keras_object(config)
        finally:
            keras.config.set_dtype_policy(policy)

    def function(inputs):
        state = [(mine, theirs.value) for mine, theirs in zip(twin.variables, network.variables, strict=True)]
        with keras.StatelessScope(state_mapping=state):
            return twin.call(inputs, training=True)

    return function


def _with_policy(config, policy):
    """A serialized network, every layer of which has the dtype policy of that name."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return {**config, "config": {**config["config"], "name": policy}}
        return {key: _with_policy(value, policy) for key, value in config.items()}
    return [_with_policy(value, policy) for value in config] if isinstance(config, list) else config
