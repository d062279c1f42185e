import functools
import re

import keras
import numpy as np
import pytest

from keras_gen import networks

IMAGES = [(28, 28, 1), (32, 48, 3), (7, 5, 1)]


@pytest.mark.parametrize("shape", IMAGES)
def test_every_builder_makes_a_built_model_of_the_shapes_asked_for(shape):
    for model, inputs, outputs in (
        (networks.mlp(shape, (4, 2), hidden=(6,)), shape, (4, 2)),
        (networks.conv_encoder(shape, (5,), filters=(2, 3)), shape, (5,)),
        (networks.conv_decoder((5,), shape, filters=(3, 2)), (5,), shape),
        (networks.dcgan_generator(5, shape, filters=(3, 2)), (5,), shape),
        (networks.dcgan_discriminator(shape, filters=(2, 3)), shape, (1,)),
    ):
        assert isinstance(model, keras.Model)
        assert model.built
        assert (model.input_shape[1:], model.output_shape[1:]) == (inputs, outputs)
        assert model(np.zeros((2, *inputs), "float32")).shape == (2, *outputs)


def test_mlp_is_the_formula():
    model = networks.mlp((3,), (2,), hidden=(4,), activation="tanh", output_activation="sigmoid")
    w1, b1, w2, b2 = model.get_weights()
    x = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    expected = 1 / (1 + np.exp(-(np.tanh(x @ w1 + b1) @ w2 + b2)))
    np.testing.assert_allclose(model(x), expected, rtol=1e-5)


def test_kernel_regularizers_reach_every_kernel_and_nothing_else():
    l2 = keras.regularizers.L2(0.5)
    for model in (
        networks.mlp((3,), (2,), hidden=(4, 4), kernel_regularizer=l2),
        networks.conv_encoder((8, 8, 1), (2,), filters=(2, 2), kernel_regularizer=l2),
        networks.conv_decoder((2,), (8, 8, 1), filters=(2, 2), kernel_regularizer=l2),
    ):
        kernels = [variable for variable in model.variables if variable.path.endswith("kernel")]
        expected = 0.5 * sum(np.square(kernel.numpy()).sum() for kernel in kernels)
        assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


def test_last_layers_stay_in_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    for model in (
        networks.mlp((3,), (2,)),
        networks.conv_encoder((8, 8, 1), (2,)),
        networks.conv_decoder((2,), (8, 8, 1)),
        networks.dcgan_generator(2, (8, 8, 1)),
        networks.dcgan_discriminator((8, 8, 1)),
    ):
        assert model.output.dtype == "float32"
        assert any(layer.compute_dtype == "float16" for layer in model.layers)


def test_a_logit_does_not_depend_on_the_batch():
    model = networks.dcgan_discriminator((8, 8, 1), filters=(2, 2))
    x = np.random.default_rng(0).random((6, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(model(x, training=True)[:2], model(x[:2], training=True), atol=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: networks.mlp(784, (2,)),
            "`input_shape` must be a tuple of positive integers, such as (28, 28, 1) or (32,). "
            "Received: input_shape=784",
        ),
        (lambda: networks.mlp((784,), (0,)), "`output_shape` must be a tuple of positive integers"),
        (
            lambda: networks.mlp((784,), (True,)),
            "`output_shape` must be a tuple of positive integers",
        ),
        (
            lambda: networks.conv_encoder((28, 28), (2,)),
            "`input_shape` must be the shape of an image, (height, width, channels).",
        ),
        (
            lambda: networks.conv_decoder((2,), (784,)),
            "`output_shape` must be the shape of an image, (height, width, channels).",
        ),
    ],
)
def test_shapes_are_checked(build, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


BUILDERS = {
    "mlp": functools.partial(networks.mlp, (8, 8, 1), (3,)),
    "conv_encoder": functools.partial(networks.conv_encoder, (8, 8, 1), (3,)),
    "conv_decoder": functools.partial(networks.conv_decoder, (3,), (8, 8, 1)),
    "dcgan_generator": functools.partial(networks.dcgan_generator, 3, (8, 8, 1)),
    "dcgan_discriminator": functools.partial(networks.dcgan_discriminator, (8, 8, 1)),
}


@pytest.mark.parametrize("filters", [(), (4, 0), (4, True), 4])
@pytest.mark.parametrize("name", list(BUILDERS)[1:])
def test_filters_are_checked(name, filters):
    expected = (
        "`filters` must be a tuple of one or more positive integers, such as (64, 32). "
        f"Received: filters={filters!r}"
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        BUILDERS[name](filters=filters)


@pytest.mark.parametrize("name", BUILDERS)
def test_the_number_of_labels_is_checked(name):
    with pytest.raises(
        ValueError,
        match=re.escape("`num_classes` must be an integer of at least 1. Received: num_classes=0"),
    ):
        BUILDERS[name](num_classes=0)
    assert len(BUILDERS[name](num_classes=np.int64(4)).inputs) == 2


def test_the_number_of_latents_is_checked():
    with pytest.raises(
        ValueError,
        match=re.escape(
            "`input_size` must be an integer of at least 1. Received: input_size=(64,)"
        ),
    ):
        networks.dcgan_generator((64,), (8, 8, 1))


def test_shapes_of_numpy_are_taken():
    shape = tuple(np.array([8, 8, 1]))
    assert (
        networks.mlp(shape, shape).output_shape
        == networks.conv_decoder((np.int64(3),), shape).output_shape
        == (None, 8, 8, 1)
    )


@pytest.mark.parametrize("build", [networks.mlp, networks.conv_encoder, networks.conv_decoder])
def test_labels_are_a_second_input_that_matters(build):
    inputs, outputs = ((3,), (8, 8, 1)) if build is networks.conv_decoder else ((8, 8, 1), (3,))
    model = build(inputs, outputs, num_classes=4)
    x = np.random.default_rng(0).random((4, *inputs)).astype("float32")
    one, other = model([x, np.array([0, 1, 2, 3])]), model([x, np.array([0, 0, 0, 0])])
    assert one.shape == (4, *outputs)
    np.testing.assert_allclose(one[0], other[0], atol=1e-6)
    assert not np.allclose(one[1], other[1])
