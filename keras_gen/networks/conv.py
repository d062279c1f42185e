"""Build convolutional encoders and decoders."""

from collections.abc import Sequence

import keras
from keras import layers

from keras_gen._arguments import positive_int
from keras_gen.networks._common import (
    Activation,
    checked_filters,
    checked_image_shape,
    checked_shape,
    concatenate_labels,
    cropped,
    default_filters,
    dense_grid,
    dense_network,
    image_convolution,
)

_MAX_FILTERS = 128  # at 64×64 pixels and in equal time, 256 filters gave worse samples


def conv_encoder(
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    filters: Sequence[int] | None = None,
    activation: Activation = "relu",
    kernel_regularizer: keras.regularizers.Regularizer | None = None,
    num_classes: int | None = None,
    features: keras.layers.Layer | None = None,
) -> keras.Model:
    """Build a convolutional encoder: 3×3 convolutions of stride 2, then a dense layer.

    Each convolution halves the height and width.

    Args:
        input_shape: Shape of one input image, `(height, width, channels)`.
        output_shape: Output shape for one example, for instance `(posterior.parameter_size,)`.
        filters: Number of output channels of each convolution. By default, the network halves the
            image until height × width is at most 49. For instance, an image of 28×28 pixels is
            halved twice, to 7×7, and the default is `(32, 64)`.
        activation: Activation of the convolutions. Default: ReLU.
        kernel_regularizer: Keras regularizer of every kernel. Default: none.
        num_classes: Number of classes. If given, the network has a second input named `condition`.
            This input takes integer labels from 0 to num_classes − 1, of shape `[batch]`. Default:
            no labels.
        features: Keras layer that is applied to the input first, such as `MissingAsZero` for images
            with missing pixels. Default: none.

    Raises:
        ValueError: If a shape, `filters` or `num_classes` is invalid.

    Example:
        >>> conv_encoder((28, 28, 1), (16,)).output_shape
        (None, 16)
    """
    input_shape = checked_image_shape("input_shape", input_shape)
    inputs = keras.Input(input_shape)
    output_shape = checked_shape("output_shape", output_shape)
    x = inputs if features is None else features(inputs)
    filters = checked_filters(filters, default_filters(input_shape, 16, _MAX_FILTERS))
    x = _halvings(x, filters, activation, kernel_regularizer)
    return dense_network(inputs, x, output_shape, num_classes, kernel_regularizer)


def conv_decoder(
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    filters: Sequence[int] | None = None,
    activation: Activation = "relu",
    kernel_regularizer: keras.regularizers.Regularizer | None = None,
    output_activation: Activation = None,
    num_classes: int | None = None,
) -> keras.Model:
    """Build a convolutional decoder: a dense layer, then 3×3 transposed convolutions of stride 2.

    Each transposed convolution doubles the height and width. Then the network crops the features to
    the height and width of `output_shape`. Finally, a 3×3 convolution of stride 1 computes the
    output.

    Args:
        input_shape: Shape of the latents of one example, for instance `(8,)`.
        output_shape: Shape of one output image, `(height, width, channels)`. Any height and width
            are allowed.
        filters: Number of input channels of each transposed convolution. By default, the dense
            layer outputs a grid whose height × width is at most 49, and `filters` has one entry per
            doubling of this grid. For an image of 28×28 pixels, a grid of 7×7 is doubled twice, and
            the default is `(64, 32)`.
        activation: Activation of the hidden layers. Default: ReLU.
        kernel_regularizer: Keras regularizer of every kernel. Default: none.
        output_activation: Activation of the output. Default: none.
        num_classes: Number of classes. If given, the network has a second input named `condition`.
            This input takes integer labels from 0 to num_classes − 1, of shape `[batch]`. Default:
            no labels.

    Raises:
        ValueError: If a shape, `filters` or `num_classes` is invalid.

    Example:
        >>> conv_decoder((8,), (28, 28, 1)).output_shape
        (None, 28, 28, 1)
    """
    inputs = keras.Input(checked_shape("input_shape", input_shape))
    output_shape = checked_image_shape("output_shape", output_shape)
    filters = checked_filters(filters, default_filters(output_shape, 16, _MAX_FILTERS)[::-1])
    inputs, x = concatenate_labels(inputs, layers.Flatten()(inputs), num_classes)
    x = dense_grid(x, output_shape, filters[0], len(filters), activation, kernel_regularizer)
    after_doubling = (*filters[1:], filters[-1])
    x = _doublings(
        x, after_doubling, output_shape, activation, output_activation, kernel_regularizer
    )
    return keras.Model(inputs, x)


def conv_grid_encoder(
    input_shape: Sequence[int],
    vector_size: int,
    filters: Sequence[int] | None = None,
    activation: Activation = "relu",
    kernel_regularizer: keras.regularizers.Regularizer | None = None,
    features: keras.layers.Layer | None = None,
) -> keras.Model:
    """Build a convolutional encoder whose output is a grid of vectors.

    The network has 3×3 convolutions of stride 2, each of which halves the height and width. Then a
    1×1 convolution computes the vectors. A `VectorQuantizedAutoencoder` needs such an encoder.

    Args:
        input_shape: Shape of one input image, `(height, width, channels)`.
        vector_size: Number of elements of each vector.
        filters: Number of output channels of each convolution of stride 2. By default, the network
            halves the image until height × width is at most 49. For instance, an image of 28×28
            pixels is halved twice, to 7×7, and the default is `(32, 64)`.
        activation: Activation of the convolutions of stride 2. Default: ReLU. The 1×1 convolution
            has no activation.
        kernel_regularizer: Keras regularizer of every kernel. Default: none.
        features: Keras layer that is applied to the input first, such as `MissingAsZero` for images
            with missing pixels. Default: none.

    Raises:
        ValueError: If `input_shape`, `vector_size` or `filters` is invalid.

    Example:
        >>> conv_grid_encoder((28, 28, 1), 16).output_shape
        (None, 7, 7, 16)
    """
    input_shape = checked_image_shape("input_shape", input_shape)
    inputs = keras.Input(input_shape)
    x = inputs if features is None else features(inputs)
    filters = checked_filters(filters, default_filters(input_shape, 16, _MAX_FILTERS))
    x = _halvings(x, filters, activation, kernel_regularizer)
    last = layers.Conv2D(
        positive_int(None, "vector_size", vector_size),
        1,
        kernel_regularizer=kernel_regularizer,
        dtype="float32",
    )
    return keras.Model(inputs, last(x))


def conv_grid_decoder(
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    filters: Sequence[int] | None = None,
    activation: Activation = "relu",
    kernel_regularizer: keras.regularizers.Regularizer | None = None,
    output_activation: Activation = None,
) -> keras.Model:
    """Build a convolutional decoder whose input is a grid of vectors.

    The network has 3×3 transposed convolutions of stride 2, each of which doubles the height and
    width. Then the network crops the result to the height and width of `output_shape`. Finally, a
    3×3 convolution of stride 1 computes the output.

    Args:
        input_shape: Shape of the grid, `(grid height, grid width, vector size)`, such as
            `encoder.output_shape[1:]`.
        output_shape: Shape of one output image, `(height, width, channels)`.
        filters: Number of output channels of each transposed convolution. The default matches the
            default of `conv_grid_encoder` for images of the same size. For instance, for 28×28
            pixels, the encoder outputs a grid of 7×7 vectors, and the default of the decoder is
            `(64, 32)`, which doubles the grid twice. For a smaller grid, pass more filters.
        activation: Activation of the transposed convolutions. Default: ReLU.
        kernel_regularizer: Keras regularizer of every kernel. Default: none.
        output_activation: Activation of the output. Default: none.

    Raises:
        ValueError: If a shape or `filters` is invalid, or if the grid is too small for the output.

    Example:
        >>> conv_grid_decoder((7, 7, 16), (28, 28, 1)).output_shape
        (None, 28, 28, 1)
    """
    input_shape = checked_image_shape("input_shape", input_shape)
    output_shape = checked_image_shape("output_shape", output_shape)
    filters = checked_filters(filters, default_filters(output_shape, 16, _MAX_FILTERS)[::-1])
    largest = [side * 2 ** len(filters) for side in input_shape[:2]]
    if largest[0] < output_shape[0] or largest[1] < output_shape[1]:
        raise ValueError(
            "`filters` must have enough entries for the output, because each entry doubles the "
            f"height and width of the grid. Received: filters={filters}, a grid of shape "
            f"{input_shape[:2]}, and an output of shape {output_shape[:2]}."
        )
    inputs = keras.Input(input_shape)
    x = _doublings(inputs, filters, output_shape, activation, output_activation, kernel_regularizer)
    return keras.Model(inputs, x)


def _halvings(
    x: keras.KerasTensor,
    filters: Sequence[int],
    activation: Activation,
    kernel_regularizer: keras.regularizers.Regularizer | None,
) -> keras.KerasTensor:
    """Apply one 3×3 convolution of stride 2 per entry of `filters`."""
    for channels in filters:
        convolution = layers.Conv2D(
            channels, 3, 2, "same", activation=activation, kernel_regularizer=kernel_regularizer
        )
        x = convolution(x)
    return x


def _doublings(
    x: keras.KerasTensor,
    filters: Sequence[int],
    output_shape: Sequence[int],
    activation: Activation,
    output_activation: Activation,
    kernel_regularizer: keras.regularizers.Regularizer | None,
) -> keras.KerasTensor:
    """Add the last layers of a convolutional decoder to the tensor `x`.

    The first of these layers are transposed convolutions, one per entry of `filters`. Each of them
    doubles the height and width. If the result is larger than `output_shape`, a layer crops it. A
    convolution computes the output.
    """
    for after_doubling in filters:
        convolution = layers.Conv2DTranspose(
            after_doubling,
            3,
            2,
            "same",
            activation=activation,
            kernel_regularizer=kernel_regularizer,
        )
        x = convolution(x)
    x = cropped(x, output_shape)
    return image_convolution(x, output_shape[2], output_activation, kernel_regularizer)
