"""Builders of ordinary, built `keras.Model` objects: multilayer perceptrons, a convolutional pair and the DCGAN pair.

Nothing else in the package asks for these: any built Keras model whose shapes fit serves as well. Last layers compute in
float32, so that losses stay exact under mixed precision.
"""

import math
from collections.abc import Callable, Sequence

import keras
from keras import layers

from keras_gen.serialization import checked_count, is_integer

Activation = str | Callable[[keras.KerasTensor], keras.KerasTensor] | None
"""A Keras activation by name or as a function."""


def mlp(
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    hidden: Sequence[int] = (256,),
    activation: Activation = "relu",
    kernel_regularizer: keras.regularizers.Regularizer | None = None,
    output_activation: Activation = None,
    num_classes: int | None = None,
) -> keras.Model:
    """A multilayer perceptron from tensors of one shape to tensors of another.

    Args:
        input_shape: Shape of one input, for instance `(28, 28, 1)`; it is flattened.
        output_shape: Shape of one output, for instance `(32,)`.
        hidden: Units of the hidden layers, in order.
        activation: Activation of the hidden layers.
        kernel_regularizer: Keras regularizer of every kernel, for instance `keras.regularizers.L2(1e-4)`.
        output_activation: Activation of the output, for instance `"sigmoid"`; none by default.
        num_classes: Add a second input for labels 0 … num_classes − 1, `[batch]`, if not None.

    Returns:
        A built `keras.Model`.

    Raises:
        ValueError: If a shape or `num_classes` is not what it should be.

    Example:

    >>> mlp((28, 28, 1), (32,), hidden=(256,)).output_shape
    (None, 32)
    """
    inputs, output_shape = keras.Input(_shape("input_shape", input_shape)), _shape("output_shape", output_shape)
    inputs, x = _beside_labels(inputs, layers.Flatten()(inputs), num_classes)
    for units in hidden:
        x = layers.Dense(units, activation=activation, kernel_regularizer=kernel_regularizer)(x)
    x = layers.Dense(math.prod(output_shape), activation=output_activation, kernel_regularizer=kernel_regularizer, dtype="float32")(
        x
    )
    return keras.Model(inputs, layers.Reshape(output_shape, dtype="float32")(x))


def conv_encoder(
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    filters: Sequence[int] = (32, 64),
    activation: Activation = "relu",
    kernel_regularizer: keras.regularizers.Regularizer | None = None,
    num_classes: int | None = None,
) -> keras.Model:
    """A convolutional encoder: one 3×3 convolution of stride 2 for each entry of `filters`, then a dense layer.

    Args:
        input_shape: Shape of an image, `(height, width, channels)`.
        output_shape: Shape of the output, for instance `(posterior.parameter_size,)`.
        filters: Channels after each halving.
        activation: Activation of the convolutions.
        kernel_regularizer: Keras regularizer of every kernel.
        num_classes: Add a second input for labels 0 … num_classes − 1, `[batch]`, if not None.

    Raises:
        ValueError: If a shape, `filters` or `num_classes` is not what it should be.

    Example:

    >>> conv_encoder((28, 28, 1), (16,)).output_shape
    (None, 16)
    """
    inputs, output_shape = keras.Input(_image_shape("input_shape", input_shape)), _shape("output_shape", output_shape)
    x = inputs
    for channels in _filters(filters):
        x = layers.Conv2D(channels, 3, 2, "same", activation=activation, kernel_regularizer=kernel_regularizer)(x)
    inputs, x = _beside_labels(inputs, layers.Flatten()(x), num_classes)
    x = layers.Dense(math.prod(output_shape), kernel_regularizer=kernel_regularizer, dtype="float32")(x)
    return keras.Model(inputs, layers.Reshape(output_shape, dtype="float32")(x))


def conv_decoder(
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    filters: Sequence[int] = (64, 32),
    activation: Activation = "relu",
    kernel_regularizer: keras.regularizers.Regularizer | None = None,
    output_activation: Activation = None,
    num_classes: int | None = None,
) -> keras.Model:
    """A convolutional decoder: a dense layer, then one 3×3 transposed convolution of stride 2 for each entry of `filters`.

    Args:
        input_shape: Shape of the latents, for instance `(8,)`.
        output_shape: Shape of an image, `(height, width, channels)`; any height and width.
        filters: Channels before each doubling.
        activation: Activation of the hidden layers.
        kernel_regularizer: Keras regularizer of every kernel.
        output_activation: Activation of the output; none by default.
        num_classes: Add a second input for labels 0 … num_classes − 1, `[batch]`, if not None.

    Raises:
        ValueError: If a shape, `filters` or `num_classes` is not what it should be.

    Example:

    >>> conv_decoder((8,), (28, 28, 1)).output_shape
    (None, 28, 28, 1)
    """
    inputs = keras.Input(_shape("input_shape", input_shape))
    height, width, channels = output_shape = _image_shape("output_shape", output_shape)
    filters = _filters(filters)
    inputs, x = _beside_labels(inputs, layers.Flatten()(inputs), num_classes)
    x = _grid(x, output_shape, filters[0], len(filters), activation, kernel_regularizer)
    for after in (*filters[1:], filters[-1]):
        x = layers.Conv2DTranspose(after, 3, 2, "same", activation=activation, kernel_regularizer=kernel_regularizer)(x)
    x = layers.CenterCrop(height, width)(x)
    x = layers.Conv2D(
        channels, 3, padding="same", activation=output_activation, kernel_regularizer=kernel_regularizer, dtype="float32"
    )(x)
    return keras.Model(inputs, x)


def dcgan_generator(
    input_size: int, output_shape: Sequence[int], filters: Sequence[int] = (64, 32), num_classes: int | None = None
) -> keras.Model:
    """The generator of DCGAN (Radford et al. 2016, arXiv:1511.06434), ending in a sigmoid: images in [0, 1].

    A dense layer, then 4×4 transposed convolutions of stride 2, with batch normalization and ReLU between them.

    Args:
        input_size: Number of latent dimensions.
        output_shape: Shape of an image, `(height, width, channels)`; any height and width.
        filters: Channels before each doubling.
        num_classes: Add a second input for labels 0 … num_classes − 1, `[batch]`, if not None.

    Raises:
        ValueError: If `input_size`, `output_shape`, `filters` or `num_classes` is not what it should be.

    Example:

    >>> dcgan_generator(64, (28, 28, 1)).output_shape
    (None, 28, 28, 1)
    """
    inputs = keras.Input((checked_count(None, "input_size", input_size),))
    height, width, channels = output_shape = _image_shape("output_shape", output_shape)
    filters = _filters(filters)
    inputs, x = _beside_labels(inputs, inputs, num_classes)
    x = _grid(x, output_shape, filters[0], len(filters), use_bias=False)
    for after in filters[1:]:
        x = layers.Conv2DTranspose(after, 4, 2, "same", use_bias=False)(_normalized_relu(x))
    x = layers.Conv2DTranspose(channels, 4, 2, "same", dtype="float32")(_normalized_relu(x))
    x = layers.CenterCrop(height, width, dtype="float32")(x)
    return keras.Model(inputs, layers.Activation("sigmoid", dtype="float32")(x))


def dcgan_discriminator(
    input_shape: Sequence[int],
    filters: Sequence[int] = (64, 128),
    num_classes: int | None = None,
    spectral_normalization: bool = False,
) -> keras.Model:
    """The discriminator of DCGAN (arXiv:1511.06434): 4×4 convolutions of stride 2 with leaky ReLU, then one logit.

    It has no batch normalization, so that an example's logit does not depend on its batch and gradient penalties mean what
    they say.

    Args:
        input_shape: Shape of an image, `(height, width, channels)`.
        filters: Channels after each halving.
        num_classes: Add a second input for labels 0 … num_classes − 1, `[batch]`, if not None. The logit is then w·φ(x) + v_y·φ(x)
            with a vector v for each label (projection; Miyato & Koyama 2018, arXiv:1802.05637, equation 4).
        spectral_normalization: Keep the spectral norm of every kernel at 1 (Miyato et al. 2018, arXiv:1802.05957).

    Raises:
        ValueError: If `input_shape`, `filters` or `num_classes` is not what it should be.

    Example:

    >>> dcgan_discriminator((28, 28, 1)).output_shape
    (None, 1)
    """

    def normalized(layer):
        return layers.SpectralNormalization(layer, dtype="float32") if spectral_normalization else layer

    inputs = keras.Input(_image_shape("input_shape", input_shape))
    x = inputs
    for channels in _filters(filters):
        x = layers.LeakyReLU(0.2)(normalized(layers.Conv2D(channels, 4, 2, "same"))(x))
    features = layers.Flatten(dtype="float32")(x)
    logit = normalized(layers.Dense(1, dtype="float32"))(features)
    if num_classes is None:
        return keras.Model(inputs, logit)
    num_classes, labels = checked_count(None, "num_classes", num_classes), keras.Input((), dtype="int32")
    embedding = normalized(layers.Embedding(num_classes, features.shape[-1], dtype="float32"))
    of_label = embedding(keras.ops.cast(labels, "float32"))  # SpectralNormalization gives back the dtype that it was given
    projection = keras.ops.sum(of_label * features, axis=1, keepdims=True)
    return keras.Model([inputs, labels], layers.Add(dtype="float32")([logit, projection]))


def _beside_labels(inputs, x, num_classes):
    """The inputs of a network and its features `x`; with `num_classes` an input for labels more, whose embedding is beside `x`."""
    if num_classes is None:
        return inputs, x
    num_classes, labels = checked_count(None, "num_classes", num_classes), keras.Input((), dtype="int32")
    embedding = layers.Embedding(num_classes, num_classes, embeddings_initializer=keras.initializers.Identity())(labels)
    return [inputs, labels], layers.Concatenate()([x, embedding])


def _normalized_relu(x):
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def _grid(x, image_shape, channels, doublings, activation=None, kernel_regularizer=None, use_bias=True):
    """A dense layer to the smallest grid that `doublings` make at least as large as the image."""
    height, width, _ = (math.ceil(size / 2**doublings) for size in image_shape)
    x = layers.Dense(height * width * channels, activation, use_bias, kernel_regularizer=kernel_regularizer)(x)
    return layers.Reshape((height, width, channels))(x)


def _filters(filters):
    if not _are_sizes(filters) or not filters:
        raise ValueError(f"`filters` is a tuple of one or more positive ints, such as (64, 32). Received: filters={filters!r}")
    return tuple(map(int, filters))


def _shape(argument, shape):
    if not _are_sizes(shape):
        raise ValueError(f"`{argument}` is a tuple of positive ints, such as (28, 28, 1) or (32,). Received: {argument}={shape!r}")
    return tuple(map(int, shape))


def _are_sizes(sizes):
    return isinstance(sizes, (tuple, list)) and all(is_integer(size) and size > 0 for size in sizes)


def _image_shape(argument, shape):
    shape = _shape(argument, shape)
    if len(shape) != 3:
        raise ValueError(f"`{argument}` is the shape of an image, (height, width, channels). Received: {argument}={shape!r}")
    return shape
