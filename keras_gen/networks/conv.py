"""A convolutional encoder and decoder."""

import math
from collections.abc import Sequence

import keras
from keras import layers

from keras_gen.networks._common import (
    Activation,
    checked_filters,
    checked_image_shape,
    checked_shape,
    concatenate_labels,
    dense_grid,
)


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
    inputs, output_shape = (
        keras.Input(checked_image_shape("input_shape", input_shape)),
        checked_shape("output_shape", output_shape),
    )
    x = inputs
    for channels in checked_filters(filters):
        x = layers.Conv2D(
            channels, 3, 2, "same", activation=activation, kernel_regularizer=kernel_regularizer
        )(x)
    inputs, x = concatenate_labels(inputs, layers.Flatten()(x), num_classes)
    x = layers.Dense(
        math.prod(output_shape), kernel_regularizer=kernel_regularizer, dtype="float32"
    )(x)
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
    inputs = keras.Input(checked_shape("input_shape", input_shape))
    height, width, channels = output_shape = checked_image_shape("output_shape", output_shape)
    filters = checked_filters(filters)
    inputs, x = concatenate_labels(inputs, layers.Flatten()(inputs), num_classes)
    x = dense_grid(x, output_shape, filters[0], len(filters), activation, kernel_regularizer)
    for after in (*filters[1:], filters[-1]):
        x = layers.Conv2DTranspose(
            after, 3, 2, "same", activation=activation, kernel_regularizer=kernel_regularizer
        )(x)
    x = layers.CenterCrop(height, width)(x)
    x = layers.Conv2D(
        channels,
        3,
        padding="same",
        activation=output_activation,
        kernel_regularizer=kernel_regularizer,
        dtype="float32",
    )(x)
    return keras.Model(inputs, x)
