import keras
import numpy as np
import pytest
import tensorflow as tf
from support import IMAGE, normalized

from keras_gen import networks
from keras_gen.networks._copies import (
    call_network,
    check_accepts_missing,
    copy_of,
    float32_function,
)


def discriminator():
    """A model in a model, spectral normalization, an activity regularizer and dropout."""
    inner = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, "tanh", activity_regularizer="l2"),
            keras.layers.Dropout(0.0),
        ],
        name="inner",
    )
    normalized_dense = keras.layers.SpectralNormalization(keras.layers.Dense(6, "tanh"))
    return keras.Sequential(
        [keras.Input((4,)), normalized_dense, inner, keras.layers.Dense(1, dtype="float32")]
    )


def test_a_network_is_called_with_one_example_but_not_with_none():
    called = []

    class Counted(keras.layers.Layer):
        def call(self, x):
            called.append(x.shape)
            return 2 * x

        def compute_output_shape(self, shape):
            return shape

    network = keras.Sequential([keras.Input((2, 3)), Counted()])
    called.clear()
    empty = call_network(network, np.zeros((0, 2, 3), "float32"), None, training=False)
    assert (empty.shape, empty.dtype, called) == ((0, 2, 3), tf.float32, [])
    one = call_network(network, np.ones((1, 2, 3), "float32"), None, training=False)
    np.testing.assert_array_equal(one, np.full((1, 2, 3), 2))
    assert called == [(1, 2, 3)]


def test_an_encoder_must_accept_an_example_without_observed_elements():
    features = networks.MissingAsZero()
    check_accepts_missing(networks.mlp((4,), (2,), features=features), (4,), "Normal")
    of_labels = networks.mlp((4,), (2,), features=features, num_classes=3)
    check_accepts_missing(of_labels, (4,), "Normal")
    normalization = keras.layers.BatchNormalization()
    encoder = keras.Sequential([keras.Input((4,)), features, normalization])
    before = encoder.get_weights()
    check_accepts_missing(encoder, (4,), "Normal")
    for old, new in zip(before, encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(ValueError, match="`encoder` must accept NaN, because `Normal` has"):
        check_accepts_missing(networks.mlp((4,), (2,)), (4,), "Normal")


def test_a_copy_has_the_values_and_weights_of_its_own():
    network = normalized((3,), IMAGE, "sigmoid")
    copy, x = copy_of(network), np.ones((2, 3), "float32")
    np.testing.assert_array_equal(copy(x), network(x))
    before = copy(x).numpy()
    network.set_weights([weight + 1 for weight in network.get_weights()])
    np.testing.assert_array_equal(copy(x), before)


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_in_float32_it_is_the_network_itself_its_gradients_and_no_side_effects(policy):
    reference = discriminator()
    keras.config.set_dtype_policy(policy)
    network = discriminator()
    network.set_weights(reference.get_weights())
    x = np.random.default_rng(0).normal(size=(7, 4)).astype("float32")
    network(x, training=True)
    before = network.get_weights()
    reference.set_weights(before)
    function = float32_function(network)
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(function(x, training=True) ** 2)
    with tf.GradientTape() as reference_tape:
        expected = tf.reduce_sum(reference(x, training=True) ** 2)
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    last = tape.gradient(
        value, network.trainable_variables[-2]
    )  # those before it pass through the normalization, too
    np.testing.assert_allclose(
        last, reference_tape.gradient(expected, reference.trainable_variables[-2]), rtol=1e-4
    )
    assert keras.config.dtype_policy().name == policy


def test_labels_go_where_there_is_an_input_for_them():
    keras.config.set_dtype_policy("mixed_float16")
    network = networks.dcgan_discriminator(
        IMAGE, filters=(2, 2), num_classes=3, spectral_normalization=True
    )
    x = np.random.default_rng(0).random((3, *IMAGE)).astype("float32")
    logits = float32_function(network)([tf.constant(x), tf.constant([0, 1, 2])], training=True)
    np.testing.assert_allclose(
        logits, network([x, np.array([0, 1, 2])], training=True), rtol=0.05, atol=1e-2
    )
    assert logits.dtype == tf.float32


def test_a_network_that_cannot_be_saved_serves_as_well_if_it_computes_in_float32():
    class Custom(keras.Model):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def call(self, inputs):  # without `training`
            return self.layer(inputs)

        def get_config(self):
            raise NotImplementedError

    network, x = Custom(keras.layers.Dense(2)), tf.ones((3, 4))
    expected = network(x)
    np.testing.assert_array_equal(float32_function(network)(x, training=True), expected)
    with pytest.raises(
        ValueError, match=r"Give the network, and each layer of your own, a `get_config`"
    ):
        copy_of(network)


@pytest.mark.parametrize("policy", [None, "float32"])
def test_copies_of_layers_that_are_not_registered_and_of_adapted_ones(policy):
    class Scaled(keras.layers.Layer):
        def call(self, inputs):
            return 2 * inputs

    x = np.random.default_rng(0).normal(size=(50, 4), loc=100).astype("float32")
    normalization = keras.layers.Normalization()
    normalization.adapt(x)
    keras.config.set_dtype_policy("mixed_bfloat16" if policy else "float32")
    network = keras.Sequential(
        [
            keras.Input((4,), dtype="float32"),
            normalization,
            keras.layers.Lambda(lambda x: x + 1),
            Scaled(),
        ]
    )
    np.testing.assert_allclose(
        copy_of(network, policy)(x), 2 * ((x - x.mean(axis=0)) / x.std(axis=0) + 1), atol=1e-3
    )
