"""What the builders share."""

import math
from collections.abc import Callable

import keras
from keras import layers

from keras_gen._arguments import is_integer, positive_int

Activation = str | Callable[[keras.KerasTensor], keras.KerasTensor] | None
"""A Keras activation by name or as a function."""


def concatenate_labels(inputs, x, num_classes):
    """The inputs of a network and its features `x`; with `num_classes` an input for labels more, whose embedding is beside `x`."""
    if num_classes is None:
        return inputs, x
    num_classes, labels = (
        positive_int(None, "num_classes", num_classes),
        keras.Input((), dtype="int32"),
    )
    embedding = layers.Embedding(
        num_classes, num_classes, embeddings_initializer=keras.initializers.Identity()
    )(labels)
    return [inputs, labels], layers.Concatenate()([x, embedding])


def normalized_relu(x):
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def dense_grid(
    x, image_shape, channels, doublings, activation=None, kernel_regularizer=None, use_bias=True
):
    """A dense layer to the smallest grid that `doublings` make at least as large as the image."""
    height, width, _ = (math.ceil(size / 2**doublings) for size in image_shape)
    x = layers.Dense(
        height * width * channels, activation, use_bias, kernel_regularizer=kernel_regularizer
    )(x)
    return layers.Reshape((height, width, channels))(x)


def checked_filters(filters):
    if not _are_sizes(filters) or not filters:
        raise ValueError(
            f"`filters` is a tuple of one or more positive ints, such as (64, 32). Received: filters={filters!r}"
        )
    return tuple(map(int, filters))


def checked_shape(argument, shape):
    if not _are_sizes(shape):
        raise ValueError(
            f"`{argument}` is a tuple of positive ints, such as (28, 28, 1) or (32,). Received: {argument}={shape!r}"
        )
    return tuple(map(int, shape))


def _are_sizes(sizes):
    return isinstance(sizes, (tuple, list)) and all(is_integer(size) and size > 0 for size in sizes)


def checked_image_shape(argument, shape):
    shape = checked_shape(argument, shape)
    if len(shape) != 3:
        raise ValueError(
            f"`{argument}` is the shape of an image, (height, width, channels). Received: {argument}={shape!r}"
        )
    return shape
