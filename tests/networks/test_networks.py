import functools
import re

import keras
import numpy as np
import pytest
from keras import layers

from keras_gen import networks
from keras_gen.networks._layers import UpSampledConv2D

IMAGES = [(28, 28, 1), (32, 48, 3), (7, 5, 1)]


@pytest.mark.parametrize("shape", IMAGES)
def test_every_builder_makes_a_built_model_of_the_shapes_asked_for(shape):
    for model, inputs, outputs in (
        (networks.mlp(shape, (4, 2), hidden=(6,)), shape, (4, 2)),
        (networks.conv_encoder(shape, (5,), filters=(2, 3)), shape, (5,)),
        (networks.conv_decoder((5,), shape, filters=(3, 2)), (5,), shape),
        (networks.dcgan_generator(5, shape, filters=(3, 2)), (5,), shape),
        (networks.dcgan_discriminator(shape, filters=(2, 3)), shape, (1,)),
        (networks.residual_encoder(shape, (5,), filters=(2, 3)), shape, (5,)),
        (networks.residual_decoder((5,), shape, filters=(3, 2)), (5,), shape),
        (networks.residual_generator(5, shape, filters=(3, 2)), (5,), shape),
        (networks.residual_discriminator(shape, filters=(2, 3)), shape, (1,)),
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
        networks.residual_encoder((8, 8, 1), (2,), filters=(2, 3), kernel_regularizer=l2),
        networks.residual_decoder((2,), (8, 8, 1), filters=(3, 2), kernel_regularizer=l2),
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
        networks.residual_encoder((8, 8, 1), (2,)),
        networks.residual_decoder((2,), (8, 8, 1)),
        networks.residual_generator(2, (8, 8, 1)),
        networks.residual_discriminator((8, 8, 1)),
    ):
        assert model.output.dtype == "float32"
        assert any(layer.compute_dtype == "float16" for layer in model.layers)


@pytest.mark.parametrize("build", [networks.dcgan_discriminator, networks.residual_discriminator])
def test_a_logit_does_not_depend_on_the_batch(build):
    model = build((8, 8, 1), filters=(2, 2))
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
    "residual_encoder": functools.partial(networks.residual_encoder, (8, 8, 1), (3,)),
    "residual_decoder": functools.partial(networks.residual_decoder, (3,), (8, 8, 1)),
    "residual_generator": functools.partial(networks.residual_generator, 3, (8, 8, 1)),
    "residual_discriminator": functools.partial(networks.residual_discriminator, (8, 8, 1)),
}
RESIDUAL = [name for name in BUILDERS if name.startswith("residual")]


@pytest.mark.parametrize("filters", [(), (4, 0), (4, True), 4])
@pytest.mark.parametrize("name", list(BUILDERS)[1:])
def test_filters_are_checked(name, filters):
    expected = (
        "`filters` must be a tuple of one or more positive integers, such as (64, 32). "
        f"Received: filters={filters!r}"
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        BUILDERS[name](filters=filters)


@pytest.mark.parametrize("blocks", [0, True, 1.5, (1, 2)])
@pytest.mark.parametrize("name", RESIDUAL)
def test_the_number_of_blocks_is_checked(name, blocks):
    with pytest.raises(
        ValueError,
        match=re.escape(f"`blocks` must be an integer of at least 1. Received: blocks={blocks!r}"),
    ):
        BUILDERS[name](blocks=blocks)


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


@pytest.mark.parametrize(
    "build",
    [
        networks.mlp,
        networks.conv_encoder,
        networks.conv_decoder,
        networks.residual_encoder,
        networks.residual_decoder,
    ],
)
def test_labels_are_a_second_input_that_matters(build):
    inputs, outputs = ((8, 8, 1), (3,))
    if build in (networks.conv_decoder, networks.residual_decoder):
        inputs, outputs = outputs, inputs
    model = build(inputs, outputs, num_classes=4)
    x = np.random.default_rng(0).random((4, *inputs)).astype("float32")
    one, other = model([x, np.array([0, 1, 2, 3])]), model([x, np.array([0, 0, 0, 0])])
    assert one.shape == (4, *outputs)
    np.testing.assert_allclose(one[0], other[0], atol=1e-6)
    assert not np.allclose(one[1], other[1])


SHAPES_OF_0_1_0 = {
    "conv_encoder": [(3, 3, 1, 32), (32,), (3, 3, 32, 64), (64,), (3136, 16), (16,)],
    "conv_decoder": [
        *((8, 3136), (3136,), (3, 3, 32, 64), (32,), (3, 3, 32, 32), (32,)),
        *((3, 3, 32, 1), (1,)),
    ],
    "dcgan_generator": [
        *((64, 3136), *[(64,)] * 4, (4, 4, 32, 64), *[(32,)] * 4),
        *((4, 4, 1, 32), (1,)),
    ],
    "dcgan_discriminator": [(4, 4, 1, 64), (64,), (4, 4, 64, 128), (128,), (6272, 1), (1,)],
}
"""Shapes of the weights in version 0.1.0, for images of 28×28 pixels."""


@pytest.mark.parametrize("name", SHAPES_OF_0_1_0)
def test_networks_of_28x28_pixels_are_those_of_version_0_1_0(name):
    image = (28, 28, 1)
    arguments = {
        "conv_encoder": (image, (16,)),
        "conv_decoder": ((8,), image),
        "dcgan_generator": (64, image),
        "dcgan_discriminator": (image,),
    }[name]
    model = getattr(networks, name)(*arguments)
    assert [weight.shape for layer in model.layers for weight in layer.weights] == (
        SHAPES_OF_0_1_0[name]
    )


@pytest.mark.parametrize("name", ["conv", "grid", "dcgan", "residual"])
@pytest.mark.parametrize(("size", "crops"), [((8, 8), 0), ((7, 8), 1), ((8, 7), 1)])
def test_networks_crop_only_if_the_features_are_larger_than_the_image(name, size, crops):
    """A crop that removes nothing would copy all features."""
    image = (*size, 2)
    make_network = {
        "conv": lambda: networks.conv_decoder((3,), image, (4, 2)),
        "grid": lambda: networks.conv_grid_decoder((2, 2, 3), image, (4, 2)),
        "dcgan": lambda: networks.dcgan_generator(3, image, (4, 2)),
        "residual": lambda: networks.residual_decoder((3,), image, (4, 2)),
    }
    network = make_network[name]()
    found = [layer for layer in network.layers if isinstance(layer, layers.CenterCrop)]
    assert len(found) == crops
    assert network.output_shape == (None, *image)


def grid_of(model):
    """Return the height and width of the smallest grid of features in a network."""
    shapes = [layer.output.shape[1:3] for layer in model.layers if len(layer.output.shape) == 4]
    return min(shapes, key=np.prod)


@pytest.mark.parametrize(
    ("size", "grid"),
    [
        *(((28, 28), (7, 7)), ((32, 32), (4, 4)), ((64, 64), (4, 4)), ((57, 57), (4, 4))),
        *(((56, 56), (7, 7)), ((128, 128), (4, 4)), ((256, 256), (4, 4)), ((32, 48), (4, 6))),
        *(((20, 200), (2, 13)), ((7, 5), (4, 3)), ((14, 16), (4, 4))),
    ],
)
def test_the_depth_follows_the_size_of_the_image(size, grid):
    """The smallest grid has at most 49 cells. With one halving less, it would have more."""
    image = (*size, 3)
    for network in (
        networks.conv_encoder(image, (2,)),
        networks.conv_decoder((2,), image),
        networks.dcgan_generator(2, image),
        networks.dcgan_discriminator(image),
        networks.residual_encoder(image, (2,)),
        networks.residual_decoder((2,), image),
        networks.residual_discriminator(image),
    ):
        assert grid_of(network) == grid


def test_the_depth_does_not_follow_the_number_of_channels():
    assert grid_of(networks.conv_encoder((14, 14, 60), (2,))) == (7, 7)


@pytest.mark.parametrize(
    ("size", "filters"),
    [
        (28, (64, 128)),
        (32, (32, 64, 128)),
        (64, (16, 32, 64, 128)),
        (128, (8, 16, 32, 64, 128)),
        (256, (8, 8, 16, 32, 64, 128)),
    ],
)
def test_the_number_of_channels_follows_the_size_of_the_image(size, filters):
    discriminator = networks.dcgan_discriminator((size, size, 3))
    kernels = [weight.shape for weight in discriminator.weights if len(weight.shape) == 4]
    assert tuple(shape[-1] for shape in kernels) == filters
    generator = networks.dcgan_generator(2, (size, size, 3), upsampling="nearest")
    kernels = [weight.shape for weight in generator.weights if len(weight.shape) == 4]
    half = tuple(max(channels // 2, 8) for channels in filters[::-1])
    assert tuple(shape[-2] for shape in kernels) == half


@pytest.mark.parametrize(
    ("network", "channels"),
    [
        (networks.residual_encoder((28, 28, 1), (2,)), [1, 32, 64]),
        (networks.residual_decoder((2,), (28, 28, 1)), [64, 32, 1]),
        (networks.residual_generator(2, (28, 28, 1)), [64, 32, 1]),
        (networks.residual_discriminator((28, 28, 1)), [1, 64, 128]),
        (networks.residual_decoder((2,), (16, 16, 1), (8, 6, 4)), [8, 6, 4, 1]),
        (networks.conv_decoder((2,), (16, 16, 1), (8, 6, 4)), [8, 6, 4, 1]),
    ],
)
def test_the_channels_of_a_network_of_images_are_its_filters_in_order(network, channels):
    shapes = [layer.output.shape for layer in network.layers]
    found = [shape[-1] for shape in shapes if len(shape) == 4]
    assert list(dict.fromkeys(found)) == channels


@pytest.mark.parametrize(("channels", "groups"), [(4, 1), (12, 1), (16, 2), (20, 2), (24, 3)])
def test_groups_of_a_residual_network_have_about_8_channels(channels, groups):
    network = networks.residual_encoder((4, 4, 1), (2,), (channels,))
    found = [layer for layer in network.layers if isinstance(layer, layers.GroupNormalization)]
    assert {layer.groups for layer in found} == {groups}


def test_activations_and_normalizations_of_a_dcgan():
    discriminator = networks.dcgan_discriminator((8, 8, 1), filters=(2, 2))
    slopes = [
        layer.negative_slope for layer in discriminator.layers if hasattr(layer, "negative_slope")
    ]
    assert slopes == [pytest.approx(0.2)] * 2
    generator = networks.dcgan_generator(3, (8, 8, 1), filters=(2, 2))
    z = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    normalization = next(
        layer for layer in generator.layers if isinstance(layer, layers.BatchNormalization)
    )
    features = keras.Model(generator.input, normalization.input)(z).numpy()
    generator(z, training=True)
    expected = 0.1 * features.mean((0, 1, 2))  # one tenth of the mean of the first batch
    np.testing.assert_allclose(normalization.moving_mean, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("size", [(29, 28), (28, 29)])
def test_a_grid_that_is_too_small_for_the_output_is_refused(size):
    message = (
        "`filters` must have enough entries for the output, because each entry doubles the height "
        f"and width of the grid. Received: filters=(2, 2), a grid of shape (7, 7), and an output "
        f"of shape {size}."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        networks.conv_grid_decoder((7, 7, 4), (*size, 1), filters=(2, 2))


@pytest.mark.parametrize(("grid", "size"), [((7, 8), (28, 32)), ((8, 7), (32, 28))])
def test_a_grid_of_a_wide_or_high_image_is_doubled(grid, size):
    decoder = networks.conv_grid_decoder((*grid, 4), (*size, 1), filters=(2, 2))
    assert decoder.output_shape == (None, *size, 1)


@pytest.mark.parametrize("kernel", [layers.Conv2DTranspose, layers.Conv2D])
def test_convolutions_of_a_dcgan_have_4x4_kernels_and_stride_2(kernel):
    """With a kernel whose size is no multiple of the stride, images would show a grid."""
    networks_of_kind = {
        layers.Conv2DTranspose: networks.dcgan_generator(3, (16, 16, 1), filters=(4, 2)),
        layers.Conv2D: networks.dcgan_discriminator((16, 16, 1), filters=(2, 4)),
    }
    found = [layer for layer in networks_of_kind[kernel].layers if type(layer) is kernel]
    assert [(layer.kernel_size, layer.strides) for layer in found] == [((4, 4), (2, 2))] * 2


@pytest.mark.parametrize(
    ("filters", "upsampling", "kind"),
    [
        ((4, 2), None, layers.Conv2DTranspose),  # as in version 0.1.0
        ((4, 3, 2), None, UpSampledConv2D),
        ((4, 2), "nearest", UpSampledConv2D),
        ((4, 3, 2), "transposed", layers.Conv2DTranspose),
    ],
)
def test_a_dcgan_generator_doubles_its_features_in_two_ways(filters, upsampling, kind):
    generator = networks.dcgan_generator(3, (30, 20, 1), filters, upsampling=upsampling)
    found = [layer for layer in generator.layers if isinstance(layer, layers.Conv2D | kind)]
    assert [type(layer) for layer in found] == [kind] * len(filters)
    assert [layer.filters for layer in found] == [*filters[1:], 1]
    assert [layer.use_bias for layer in found] == [False] * (len(filters) - 1) + [True]


def test_a_dcgan_generator_with_nearest_neighbors_equals_the_formula():
    generator = networks.dcgan_generator(3, (15, 16, 2), (5, 4, 3))
    rng = np.random.default_rng(0)
    for weight in generator.weights:
        weight.assign(rng.uniform(0.1, 0.9, weight.shape) - (len(weight.shape) > 1) / 2)
    latents = rng.normal(size=(6, 3))
    dense, *rest = (layer.get_weights() for layer in generator.layers if layer.weights)
    x = (latents @ dense[0]).reshape(6, 2, 2, 5)
    for gamma, beta, mean, variance, kernel, *bias in normalization_and_convolution(rest):
        x = np.maximum((x - mean) / np.sqrt(variance + 1e-3) * gamma + beta, 0)
        x = x.repeat(2, axis=1).repeat(2, axis=2)
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
        x = np.einsum("bhwcij,ijcd->bhwd", windows, kernel) + sum(bias)
    expected = 1 / (1 + np.exp(-x[:, :15]))
    np.testing.assert_allclose(generator(latents), expected, rtol=1e-4)


def normalization_and_convolution(weights):
    """Return the weights of each normalization together with those of the next convolution."""
    return [(*weights[i], *weights[i + 1]) for i in range(0, len(weights), 2)]


def test_the_upsampling_of_a_dcgan_generator_is_checked():
    with pytest.raises(ValueError, match="`upsampling` must be 'transposed', 'nearest' or None"):
        networks.dcgan_generator(3, (8, 8, 1), upsampling="bilinear")


@pytest.mark.parametrize(
    ("size", "filters"), [(28, (32, 64)), (64, (16, 32, 64, 128)), (128, (16, 16, 32, 64, 128))]
)
def test_the_networks_of_a_grid_halve_and_double_with_the_same_numbers_of_channels(size, filters):
    image = (size, size, 3)
    encoder = networks.conv_grid_encoder(image, 5)
    grid = encoder.output_shape[1:]
    assert grid == (*grid_of(networks.conv_encoder(image, (2,))), 5)
    decoder = networks.conv_grid_decoder(grid, image)
    kinds = (encoder, layers.Conv2D, filters), (decoder, layers.Conv2DTranspose, filters[::-1])
    for network, kind, expected in kinds:
        found = [layer for layer in network.layers if isinstance(layer, kind)]
        assert tuple(layer.filters for layer in found if layer.strides == (2, 2)) == expected
