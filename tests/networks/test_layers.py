"""The faster layers of networks of images: they compute the same as layers of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen import networks
from keras_gen.networks._layers import (
    AveragePooling2D,
    GroupNormalization,
    OneChannelConv2D,
    UpSampledConv2D,
    UpSampling2D,
)

L2 = keras.regularizers.L2(0.1)


@pytest.mark.parametrize("policy", ["float32", "float64", "mixed_float16", "mixed_bfloat16"])
def test_group_normalization_is_that_of_keras(policy):
    """A large mean must not make the variance inexact, and 300² must not overflow float16."""
    x = tf.cast(tf.random.stateless_normal((4, 6, 5, 12), (0, 0)), "float64")
    x = x * tf.range(1.0, 13.0, dtype="float64") + 300.0
    outputs, gradients = [], []
    for layer in (
        GroupNormalization(3, dtype=policy),
        keras.layers.GroupNormalization(3, dtype=policy),
    ):
        layer.build(x.shape)
        layer.set_weights([np.linspace(-1, 2, 12), np.linspace(0, 1, 12)])
        inputs = tf.cast(x, layer.compute_dtype)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs.append(layer(inputs))
            loss = tf.reduce_sum(tf.sin(tf.cast(outputs[-1], "float64")))
        gradients.append(tape.gradient(loss, [inputs, *layer.trainable_weights]))
    assert outputs[0].dtype == outputs[1].dtype
    tolerance = {"float32": 2e-4, "float64": 1e-9}.get(policy, 0.02)
    np.testing.assert_allclose(*outputs, rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(*gradients, strict=True):
        scale = float(np.max(np.abs(theirs)))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=3 * tolerance * scale)


@pytest.mark.parametrize("shape", [(1, 1, 2), (2, 2, 2), (7, 5, 4)])
@pytest.mark.parametrize(
    ("layer", "same"),
    [
        (GroupNormalization(2), [keras.layers.GroupNormalization(2)]),
        (UpSampling2D(), [keras.layers.UpSampling2D(2)]),
        (AveragePooling2D(), [keras.layers.AveragePooling2D(2, padding="same")]),
        (
            OneChannelConv2D(3, activation="tanh", kernel_regularizer=L2),
            [keras.layers.Conv2D(1, 3, padding="same", activation="tanh", kernel_regularizer=L2)],
        ),
        (
            UpSampledConv2D(4, activation="tanh", kernel_regularizer=L2),
            [
                keras.layers.UpSampling2D(2),
                keras.layers.Conv2D(4, 3, padding="same", activation="tanh", kernel_regularizer=L2),
            ],
        ),
    ],
)
def test_faster_layers_compute_the_same_as_layers_of_keras(layer, same, shape):
    """Compare outputs, regularization, gradients, and gradients of functions of the gradients."""
    x = tf.random.stateless_normal((3, *shape), (0, 0))
    ours, theirs = (
        keras.Sequential([keras.Input(shape), *map(cloned, each)]) for each in ([layer], same)
    )
    generator = np.random.default_rng(0)
    weights = [generator.normal(size=each.shape) for each in ours.weights]
    results = []
    for network in (ours, theirs):
        network.set_weights(weights)
        variables = [x, *network.trainable_weights]
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = network(x)
                loss = tf.reduce_sum(tf.sin(3 * y)) + sum(network.losses)
            gradients = inner.gradient(loss, variables)
            squares = tf.add_n([tf.reduce_sum(each**2) for each in gradients])
        results.append([y, loss, *gradients, *outer.gradient(squares, variables)])
    assert ours.output_shape == theirs.output_shape
    for first, second in zip(*results, strict=True):
        scale = max(1.0, np.max(np.abs(second)))
        np.testing.assert_allclose(first, second, rtol=0, atol=2e-5 * scale)


def cloned(layer):
    """Return a layer with the same configuration."""
    return type(layer).from_config(layer.get_config())


def test_exported_layers_have_gradients(tmp_path, caplog):
    """TensorFlow only warns if it did not save a gradient, and fails when the gradient is used."""
    network = keras.Sequential(
        [keras.Input((2, 2, 4)), AveragePooling2D(), UpSampling2D(), GroupNormalization(2)]
    )
    network.export(tmp_path / "model", verbose=False)
    x = tf.random.stateless_normal((3, 2, 2, 4), (0, 0))
    gradients = []
    exported = tf.saved_model.load(tmp_path / "model")
    for function in (network, exported.serve):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.sin(function(x))
        gradients.append(tape.gradient(y, x))
    np.testing.assert_allclose(*gradients, atol=1e-6)
    assert "custom gradients" not in caplog.text


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("network", ["conv_decoder", "residual_decoder"])
def test_the_last_convolution_is_the_faster_one_for_grey_images(network, channels):
    decoder = getattr(networks, network)((2,), (8, 8, channels), (4,), output_activation="sigmoid")
    assert isinstance(decoder.layers[-1], OneChannelConv2D) == (channels == 1)
    assert decoder.layers[-1].get_weights()[0].shape == (3, 3, 4, channels)
