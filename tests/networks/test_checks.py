import re

import hypothesis
import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from keras import layers

import keras_gen
from keras_gen import distributions
from keras_gen.networks import _checks
from keras_gen.networks._checks import (
    check_logits,
    check_network,
    common_num_classes,
    last_activation,
    num_classes_of,
    output_range,
)
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
    assert num_classes_of(network) is None


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (None, "`encoder` must be a built keras.Model. Received: None"),
        (keras.Sequential([layers.Dense(3)]), "`encoder` must be built. Received: sequential"),
        (
            keras.Sequential([keras.Input((5,)), layers.Dense(3)], name="mine"),
            "have inputs of shape (4,). Received: mine with inputs of shape (5,). Change the input "
            "of mine, or the part",
        ),
        (
            keras.Sequential([keras.Input((4,)), layers.Dense(2)], name="mine"),
            "have outputs of shape (3,). Received: mine with outputs of shape (2,). Change the "
            "last layer of mine, or the part",
        ),
    ],
)
def test_networks_without_shapes_or_with_other_shapes_are_refused(network, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_network("encoder", network, (4,), (3,))


def test_all_parts_of_a_model_have_the_same_number_of_classes():
    unknown = _checks.UNKNOWN_NUMBER
    assert common_num_classes(encoder=3, decoder=unknown, prior=None) == 3
    assert common_num_classes(encoder=unknown, decoder=None) == unknown
    assert common_num_classes(encoder=None, decoder=None) is None
    message = (
        "`encoder`, `decoder` and `prior` must have the same number of classes. "
        "Received: encoder=3, decoder=4, prior=None."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        common_num_classes(encoder=3, decoder=4, prior=None)


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


# === Networks as people have them ===

X = keras.Input((4,))
FEATURES = layers.Dense(3)(X)


class Pair(keras.Model):
    """A network that returns a tuple."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, x):
        z = self.dense(x)
        return z, z


def built_pair():
    network = Pair()
    network(np.zeros((2, 4)))
    return network


def with_inputs_as_dictionary():
    inputs = {name: keras.Input((4,), name=name) for name in ("a", "b")}
    return keras.Model(inputs, layers.Add()(list(inputs.values())))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: keras.Model(X, [FEATURES, FEATURES]),
            r"returns a list of 2 outputs of shapes [(3,), (3,)]. Concatenate the outputs into one "
            "output of shape (6,): keras.layers.Concatenate()([z_mean, z_log_var]).",
        ),
        (lambda: keras.Model(X, {"mean": FEATURES, "raw": FEATURES}), "returns a dict of 2"),
        (built_pair, "returns a tuple of 2 outputs of shapes [(3,), (3,)]. Concatenate"),
        (lambda: keras.Model(X, [FEATURES]), "Give it as keras.Model(inputs, outputs), where"),
        (
            lambda: keras.Sequential([keras.Input((None, 3)), layers.Dense(6)]),
            "must have inputs of a fixed shape. Received: ",
        ),
        (
            lambda: keras.Sequential([keras.Input((4,)), layers.Reshape((-1, 2)), Unknown()]),
            "must have outputs of a fixed shape. Received: ",
        ),
        (
            lambda: keras.Sequential([keras.Input(batch_shape=(32, 4)), layers.Dense(6)]),
            "must accept batches of any size. Received: ",
        ),
        (
            lambda: keras.Sequential([keras.Input((4,), dtype="uint8"), layers.Rescaling(1 / 255)]),
            "must have an input of floats, because Keras would round the data.",
        ),
        (
            lambda: keras.Model(X, keras.ops.argmax(FEATURES, axis=-1, keepdims=True)),
            "must output floats. Received: ",
        ),
        (
            with_inputs_as_dictionary,
            "must have one input. Received: ",
        ),
    ],
)
def test_networks_of_another_form_are_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_network("encoder", make(), None, (6,))


class Unknown(layers.Layer):
    """A layer whose output has an unknown size."""

    def compute_output_spec(self, x):
        return keras.KerasTensor((None, None))


@pytest.mark.parametrize("kind", ["list", "dict"])
@pytest.mark.parametrize("model", ["vae", "autoencoder", "gan"])
def test_each_model_refuses_several_outputs(model, kind):
    x = keras.Input((4,))
    mean, scale = layers.Dense(2)(x), layers.Dense(2)(x)
    outputs = [mean, scale] if kind == "list" else {"mean": mean, "scale": scale}
    network, decoder = (
        keras.Model(x, outputs),
        keras.Sequential([keras.Input((2,)), layers.Dense(4)]),
    )
    posterior, likelihood = distributions.DiagonalNormal(2), distributions.Normal((4,))
    make = {
        "vae": lambda: keras_gen.VAE(network, decoder, posterior, likelihood),
        "autoencoder": lambda: keras_gen.RegularizedAutoencoder(network, decoder),
        "gan": lambda: keras_gen.GAN(network, decoder),
    }[model]
    with pytest.raises(ValueError, match=f"returns a {kind} of 2 outputs of shapes"):
        make()


def tanh(x):
    """An activation of a user, with the name of another one."""
    return keras.ops.sigmoid(x)


def ending(*last, **dense):
    return keras.Sequential([keras.Input((3,)), layers.Dense(2, **dense), *last])


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (ending(activation="relu"), "relu"),
        (ending(layers.ReLU()), "relu"),
        (ending(layers.ReLU(negative_slope=0.1)), None),
        (ending(layers.ReLU(threshold=1.0)), None),
        (ending(layers.LeakyReLU()), "leaky_relu"),
        (ending(layers.PReLU()), None),
        (ending(layers.BatchNormalization()), "linear"),
        (ending(layers.Reshape((2, 1)), layers.UpSampling1D(), activation="sigmoid"), "sigmoid"),
        (ending(Unknown()), None),
        (ending(activation=tanh), None),
        (ending(layers.Softmax()), "softmax"),
        (ending(layers.Activation("linear"), activation="sigmoid"), "sigmoid"),
        (ending(layers.Permute((1,)), layers.Identity(), activation="tanh"), "tanh"),
        (ending(activation=lambda x: x), "<lambda>"),
        (ending(), "linear"),
        (keras.Model(X, keras.ops.sigmoid(FEATURES)), "sigmoid"),
        (ending(layers.SpectralNormalization(layers.Dense(2, activation="tanh"))), "tanh"),
        (layers.Dense(2, activation="sigmoid"), "sigmoid"),
        (built_pair(), None),
    ],
)
def test_the_last_activation(network, expected):
    assert last_activation(network) == expected


@pytest.mark.parametrize("name", sorted(_checks._RANGES))
def test_the_range_of_an_activation_is_that_of_its_values(name):
    low, high = _checks._RANGES[name]
    x = np.stack([np.linspace(-50, 50, 10001), np.full(10001, -50)], axis=-1).astype("float32")
    values = np.asarray(keras.activations.get(name)(x))
    assert values.min() >= low
    assert values.max() <= high
    assert values.min() == pytest.approx(low, abs=0.05) or values.min() < -20
    assert values.max() == pytest.approx(high, abs=0.05) or values.max() > 20


@pytest.mark.parametrize("name", sorted(_checks._RANGES))
def test_logits_do_not_end_in_an_activation_with_a_range(name):
    with pytest.raises(ValueError, match=f"which ends in the activation {name}. Remove that"):
        check_logits("decoder", ending(activation=name))


@pytest.mark.parametrize("name", ["linear", "leaky_relu", "tanh_shrink"])
def test_logits_end_in_an_activation_without_a_range(name):
    check_logits("decoder", ending(activation=name))
    assert output_range(ending(activation=name)) == (float("-inf"), float("inf"))


def test_the_averaged_generator_is_another_network():
    """It is frozen. So a generator that is also its own average would not be trained."""
    generator = keras.Sequential([keras.Input((2,)), layers.Dense(4)])
    discriminator = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    with pytest.raises(ValueError, match="`averaged_generator` must be another network than"):
        keras_gen.GAN(generator, discriminator, averaged_generator=generator)
    assert generator.trainable


# === Random networks ===

FLAWS = ("integers in", "integers out", "size", "batch size", "labels", "outputs")
NETWORKS = st.fixed_dictionaries(
    {
        "shape": st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=3),
        "dtype": st.sampled_from(["float32", "float16"]),
        "activation": st.sampled_from([None, "relu", "tanh"]),
        "reshape": st.sampled_from([None, (6,), (2, 3), (3, 2, 1), (-1, 2)]),
        "name": st.sampled_from(["condition", "labels"]),
        "outputs": st.sampled_from(["list", "tuple", "dictionary", "list of one"]),
        "flaws": st.just(set()) | st.sets(st.sampled_from(FLAWS), max_size=2),
    }
)
"""Networks as people build them: sound, or with one or two flaws."""


def network_of(how):
    """Build the network that a draw from `NETWORKS` describes."""
    flaws = how["flaws"]
    batch_size = 4 if "batch size" in flaws else None
    shape = [None, *how["shape"][1:]] if "size" in flaws else how["shape"]
    dtype = "int32" if "integers in" in flaws else how["dtype"]
    inputs = [keras.Input(shape, batch_size, dtype, name="x")]
    x = layers.Rescaling(0.5)(inputs[0])
    if "size" not in flaws:
        x = layers.Dense(6, how["activation"])(layers.Flatten()(x))
        x = x if how["reshape"] is None else layers.Reshape(how["reshape"])(x)
    if "labels" in flaws:
        inputs.append(keras.Input((), batch_size, "int32", name=how["name"]))
        embedded = layers.Embedding(3, 1)(inputs[1])
        x = layers.Add()([x, layers.Reshape([1] * (len(x.shape) - 1))(embedded)])
    if "integers out" in flaws:
        x = keras.ops.argmax(x, axis=-1, keepdims=True)
    if "outputs" in flaws:
        x = {
            "list": [x, x],
            "tuple": (x, layers.Identity()(x)),
            "dictionary": {"mean": x, "raw": x},
            "list of one": [x],
        }[how["outputs"]]
    return keras.Model(inputs if "labels" in flaws else inputs[0], x)


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(NETWORKS, st.booleans())
def test_random_networks_have_the_shapes_of_a_call_or_are_refused(how, labels):
    network = network_of(how)
    if how["flaws"] - ({"labels"} if labels else set()):
        with pytest.raises(ValueError, match=r"`encoder` must (have|accept|output)") as raised:
            check_network("encoder", network, labels=labels)
        assert network.name in str(raised.value)
        return
    x = np.zeros((3, *how["shape"]), "float32")
    output = network([x, np.zeros(3, "int32")] if how["flaws"] else x)
    found = check_network("encoder", network, labels=labels)
    assert found == (x.shape[1:], tuple(output.shape[1:]))


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(NETWORKS, NETWORKS, st.booleans())
def test_random_pairs_reconstruct_as_their_networks_do_or_are_refused(first, second, matching):
    encoder = network_of(first)
    if matching and not first["flaws"]:
        second = {**second, "shape": encoder.output_shape[1:]}
    decoder = network_of(second)
    data = encoder.input_shape
    fits = (
        not first["flaws"] and not second["flaws"] and encoder.output_shape == decoder.input_shape
    )
    # the decoder of rows of a table may output the parameters of a likelihood
    if not fits or (len(data) > 2 and decoder.output_shape != data):
        with pytest.raises(ValueError, match=r"`(encoder|decoder)` must (have|accept|output)"):
            keras_gen.RegularizedAutoencoder(encoder, decoder)
        return
    model = keras_gen.RegularizedAutoencoder(encoder, decoder)
    x = np.full((3, *first["shape"]), 0.5, "float32")
    np.testing.assert_allclose(model(x), decoder(encoder(x)), rtol=1e-5)


def test_a_network_of_one_number_per_example_has_the_shape_of_a_scalar():
    """Its input shape has the batch axis only."""
    inputs = keras.Input(())
    network = keras.Model(inputs, layers.Dense(2)(layers.Reshape((1,))(inputs)))
    assert check_network("encoder", network) == ((), (2,))


@pytest.mark.parametrize(
    ("activation", "possible"),
    [
        ("sigmoid", True),
        ("hard_sigmoid", True),
        ("softmax", True),
        ("tanh", False),
        ("relu6", False),
        ("relu", False),
        ("linear", False),
        ("elu", False),
        (tanh, True),  # a function of a user can return anything
        (lambda x: x, True),
    ],
)
def test_probabilities_are_numbers_from_0_to_1(activation, possible):
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, activation=activation)])
    assert _checks.may_output_probabilities(network) == possible
