import keras
import numpy as np
import pytest
from keras import layers

from keras_gen.networks._checks import check_network, num_classes_of, output_range
from keras_gen.networks._copies import call_network


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ([layers.Dense(2, activation="sigmoid")], (0, 1)),
        ([layers.Dense(2), layers.Activation("sigmoid"), layers.Reshape((2, 1))], (0, 1)),
        ([layers.Dense(2, activation="tanh")], (-1, 1)),
        (
            [
                layers.Dense(2),
                keras.Sequential([keras.Input((2,)), layers.Dense(2, activation="sigmoid")]),
            ],
            (0, 1),
        ),
        ([layers.Dense(2)], (float("-inf"), float("inf"))),
        (
            [layers.Dense(2, activation="sigmoid"), layers.Rescaling(255)],
            (float("-inf"), float("inf")),
        ),
    ],
)
def test_the_range_of_a_network_is_that_of_its_last_activation(last, expected):
    assert output_range(keras.Sequential([keras.Input((3,)), *last])) == expected


def test_networks_of_several_inputs_are_refused():
    inputs = [keras.Input((2,)), keras.Input((3,))]
    network = keras.Model(inputs, layers.Concatenate()(inputs))
    with pytest.raises(ValueError, match="`encoder` must have one input"):
        check_network("encoder", network)


def test_a_built_layer_is_a_network():
    layer = layers.Dense(3)
    layer.build((None, 2))
    assert check_network("encoder", layer) == ((2,), (3,))


def labelled(order, name):
    """Make a network of data [batch, 4] and labels, with its inputs in an order."""
    inputs = {"x": keras.Input((4,)), "labels": keras.Input((), dtype="int32", name=name)}
    embedded = keras.layers.Embedding(3, 4, embeddings_initializer="ones")(inputs["labels"])
    outputs = keras.layers.Dense(2, use_bias=False, kernel_initializer="ones")(
        keras.layers.Add()([inputs["x"], embedded])
    )
    return keras.Model([inputs[part] for part in order], outputs)


@pytest.mark.parametrize(
    ("order", "name"),
    [
        (("x", "labels"), "condition"),
        (("labels", "x"), "condition"),  # found by its name, wherever it is
        (("x", "labels"), "labels"),  # as in version 0.1.0: the second of two inputs
    ],
)
def test_the_input_for_labels_is_found(order, name):
    network = labelled(order, name)
    assert num_classes_of(network) == 3
    assert check_network("encoder", network, (4,), (2,), labels=True) == ((4,), (2,))
    x, labels = np.arange(8.0, dtype="float32").reshape(2, 4), np.array([0, 2])
    expected = np.repeat(x.sum(axis=1, keepdims=True) + 4, 2, axis=1)
    np.testing.assert_allclose(call_network(network, x, labels, training=False), expected)
    with pytest.raises(ValueError, match="`encoder` must have one input"):
        check_network("encoder", network)


def test_a_first_input_for_labels_without_the_name_is_refused():
    network = labelled(("labels", "x"), "labels")
    with pytest.raises(
        ValueError, match=r"optionally an input 'condition' for labels of shape \(batch,\)"
    ):
        check_network("encoder", network, (4,), (2,), labels=True)
