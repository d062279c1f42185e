import keras
import pytest
from keras import layers

from keras_gen.networks._checks import check_network, output_range


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
