"""Layers and checks that the builders of networks share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

from keras_gen._arguments import is_integer, positive_int
from keras_gen.networks._checks import CONDITION
from keras_gen.networks._layers import OneChannelConv2D

Activation = str | Callable[[keras.KerasTensor], keras.KerasTensor] | None
"""A Keras activation: a name, a function, or None for no activation."""

_LARGEST_GRID = 7 * 7  # largest number of positions after the last halving of height and width


def label_input() -> keras.KerasTensor:
    """Make a network input for integer labels `[batch]`, with the name `condition`."""
    return keras.Input((), dtype="int32", name=CONDITION)


def concatenate_labels(
    inputs: keras.KerasTensor, x: keras.KerasTensor, num_classes: int | None
) -> tuple[Any, keras.KerasTensor]:
    """Add an input for labels to a network, and concatenate embeddings of the labels to features.

    The embedding is trainable. Before training, the embedding of a label is its one-hot vector.

    Args:
        inputs: Input of the network.
        x: Features `[batch, n]`, computed from `inputs`.
        num_classes: Number of classes, or None for a network without labels.

    Returns:
        `(inputs, features)`: a list of both inputs of the network, and the concatenated features
        `[batch, n + num_classes]`. If `num_classes` is None, the function returns its arguments
        `inputs` and `x` unchanged.
    """
    if num_classes is None:
        return inputs, x
    num_classes = positive_int(None, "num_classes", num_classes)
    labels = label_input()
    identity = keras.initializers.Identity()
    embedding = layers.Embedding(num_classes, num_classes, embeddings_initializer=identity)
    return [inputs, labels], layers.Concatenate()([x, embedding(labels)])


def dense_network(
    inputs: keras.KerasTensor,
    x: keras.KerasTensor,
    output_shape: Sequence[int],
    num_classes: int | None,
    kernel_regularizer: keras.regularizers.Regularizer | None,
) -> keras.Model:
    """Add the last dense layer to the features of an encoder, and return the encoder.

    If there are labels, the dense layer also receives an embedding of the label.

    Args:
        inputs: Input of the network.
        x: Features `[batch, ...]`, which the earlier layers computed from `inputs`.
        output_shape: Output shape for one example.
        num_classes: Number of classes, or None for a network without labels.
        kernel_regularizer: Keras regularizer of the kernel. None for no regularizer.
    """
    inputs, x = concatenate_labels(inputs, layers.Flatten()(x), num_classes)
    units = math.prod(output_shape)
    x = layers.Dense(units, kernel_regularizer=kernel_regularizer, dtype="float32")(x)
    return keras.Model(inputs, layers.Reshape(output_shape, dtype="float32")(x))


def logit_network(
    inputs: keras.KerasTensor,
    x: keras.KerasTensor,
    num_classes: int | None,
    wrap: Callable[[keras.layers.Layer], keras.layers.Layer],
) -> keras.Model:
    """Add the last layers to the features of a discriminator, and return the discriminator.

    The last layers compute one logit. Let φ be the flattened features of an example. Without
    labels, the logit is w·φ + b, where w and b are the weights of a dense layer. With labels, the
    logit is w·φ + b + v_y·φ, where v_y is a trainable vector for the label y. The source is
    Miyato & Koyama 2018, arXiv:1802.05637, equation 4.

    Args:
        inputs: Input of the network.
        x: Features `[batch, ...]`, which the earlier layers computed from `inputs`.
        num_classes: Number of classes, or None for a network without labels.
        wrap: Function that receives each new layer with weights, and returns the layer to use
            instead. For instance, `spectral` adds spectral normalization.
    """
    features = layers.Flatten(dtype="float32")(x)
    logit = wrap(layers.Dense(1, dtype="float32"))(features)
    if num_classes is None:
        return keras.Model(inputs, logit)
    num_classes = positive_int(None, "num_classes", num_classes)
    labels = label_input()
    embedding = wrap(layers.Embedding(num_classes, features.shape[-1], dtype="float32"))
    # SpectralNormalization casts its output to the dtype of its input: here float32, not int.
    of_label = embedding(keras.ops.cast(labels, "float32"))
    projection = keras.ops.sum(of_label * features, axis=1, keepdims=True)
    return keras.Model([inputs, labels], layers.Add(dtype="float32")([logit, projection]))


def spectral(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Return a layer with spectral normalization: its kernel is divided by the spectral norm."""
    return layers.SpectralNormalization(layer, dtype="float32")


def unchanged(layer: keras.layers.Layer) -> keras.layers.Layer:
    """Return the layer itself."""
    return layer


def normalized_relu(x: keras.KerasTensor) -> keras.KerasTensor:
    """Apply batch normalization and a ReLU."""
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def dense_grid(
    x: keras.KerasTensor,
    image_shape: Sequence[int],
    channels: int,
    doublings: int,
    activation: Activation = None,
    kernel_regularizer: keras.regularizers.Regularizer | None = None,
    use_bias: bool = True,
) -> keras.KerasTensor:
    """Apply a dense layer to features, and reshape the output to a small grid of pixels.

    These two layers are the first layers of an image decoder. The later layers of the decoder
    double the height and width of the grid `doublings` times. After that, the grid must be at least
    as high and as wide as the image. The function makes the smallest such grid. For instance, an
    image of 28×28 pixels and 2 doublings need a grid of 7×7.

    Args:
        x: Features `[batch, n]`.
        image_shape: Shape of the image, `(height, width, channels)`.
        channels: Number of channels of the grid.
        doublings: Number of times that later layers double the height and width.
        activation: Activation of the dense layer. Default: none.
        kernel_regularizer: Keras regularizer of the kernel of the dense layer. Default: none.
        use_bias: Whether the dense layer has a bias. Default: True.

    Returns:
        Grid `[batch, grid_height, grid_width, channels]`.
    """
    height = math.ceil(image_shape[0] / 2**doublings)
    width = math.ceil(image_shape[1] / 2**doublings)
    units = height * width * channels
    dense = layers.Dense(units, activation, use_bias, kernel_regularizer=kernel_regularizer)
    return layers.Reshape((height, width, channels))(dense(x))


def cropped(x: keras.KerasTensor, image_shape: Sequence[int]) -> keras.KerasTensor:
    """Crop features `[batch, height, width, channels]` to the height and width of an image.

    If they already have this height and width, return `x`. A crop that removes nothing would copy
    all features. In the convolutional VAE, its gradient took a tenth of a training step.
    """
    height, width = image_shape[:2]
    if tuple(x.shape[1:3]) == (height, width):
        return x
    return layers.CenterCrop(height, width, dtype=x.dtype)(x)


def image_convolution(
    x: keras.KerasTensor,
    channels: int,
    activation: Activation,
    kernel_regularizer: keras.regularizers.Regularizer | None,
) -> keras.KerasTensor:
    """Compute the pixels of an image from features, with a 3×3 convolution in float32."""
    arguments = {
        "activation": activation,
        "kernel_regularizer": kernel_regularizer,
        "dtype": "float32",
    }
    if channels == 1:
        return OneChannelConv2D(3, **arguments)(x)
    return layers.Conv2D(channels, 3, padding="same", **arguments)(x)


def default_filters(
    image_shape: Sequence[int],
    unit: int,
    max_filters: int | None = None,
    min_filters: int = 16,
) -> tuple[int, ...]:
    """Choose the number of channels of each convolution from the size of an image.

    Each convolution halves the height and width. The number n of convolutions is the smallest
    n ≥ 1 after which height × width is at most 49, such as 7×7. The last convolution has
    `unit` · 2ⁿ channels, but at most `max_filters`. Each earlier convolution has half as many
    channels as the next one, but at least `min_filters`. For instance, the result for 28×28 pixels
    and `unit=16` is `(32, 64)`.

    Args:
        image_shape: Shape of the image, `(height, width, channels)`.
        unit: Factor in the number of channels of the last convolution, `unit` · 2ⁿ.
        max_filters: Largest number of channels. Default: 256 for n ≤ 4, such as for images of 64×64
            pixels, otherwise 128.
        min_filters: Smallest number of channels. Default: 16.
    """
    halvings = 1
    while math.prod(math.ceil(side / 2**halvings) for side in image_shape[:2]) > _LARGEST_GRID:
        halvings += 1
    if max_filters is None:
        max_filters = 256 if halvings <= 4 else 128
    last = min(unit * 2**halvings, max_filters)
    return tuple(max(last // 2**level, min_filters) for level in reversed(range(halvings)))


def checked_filters(filters: Sequence[int] | None, default: tuple[int, ...]) -> tuple[int, ...]:
    """Check the argument `filters` of a builder, and return it as a tuple of ints.

    If `filters` is None, return `default`.

    Raises:
        ValueError: If `filters` is not a sequence of one or more positive integers.
    """
    if filters is None:
        return default
    if not _are_sizes(filters) or not filters:
        raise ValueError(
            "`filters` must be a tuple of one or more positive integers, such as (64, 32). "
            f"Received: filters={filters!r}"
        )
    return tuple(map(int, filters))


def checked_shape(argument: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Return a shape as a tuple of ints, or raise a `ValueError` if the shape is invalid."""
    if not _are_sizes(shape):
        raise ValueError(
            f"`{argument}` must be a tuple of positive integers, such as (28, 28, 1) or (32,). "
            f"Received: {argument}={shape!r}"
        )
    return tuple(map(int, shape))


def checked_image_shape(argument: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Return an image shape as a tuple of ints, or raise a `ValueError` if the shape is invalid."""
    shape = checked_shape(argument, shape)
    if len(shape) != 3:
        raise ValueError(
            f"`{argument}` must be the shape of an image, (height, width, channels). "
            f"Received: {argument}={shape!r}"
        )
    return shape


def _are_sizes(sizes: object) -> bool:
    if not isinstance(sizes, (tuple, list)):
        return False
    return all(is_integer(size) and size > 0 for size in sizes)
