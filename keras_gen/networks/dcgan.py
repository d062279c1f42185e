"""The generator and discriminator of DCGAN."""

from collections.abc import Sequence

import keras
from keras import layers

from keras_gen._arguments import positive_int
from keras_gen.networks._common import (
    checked_filters,
    checked_image_shape,
    concatenate_labels,
    dense_grid,
    normalized_relu,
)


def dcgan_generator(
    input_size: int,
    output_shape: Sequence[int],
    filters: Sequence[int] = (64, 32),
    num_classes: int | None = None,
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
    inputs = keras.Input((positive_int(None, "input_size", input_size),))
    height, width, channels = output_shape = checked_image_shape("output_shape", output_shape)
    filters = checked_filters(filters)
    inputs, x = concatenate_labels(inputs, inputs, num_classes)
    x = dense_grid(x, output_shape, filters[0], len(filters), use_bias=False)
    for after in filters[1:]:
        x = layers.Conv2DTranspose(after, 4, 2, "same", use_bias=False)(normalized_relu(x))
    x = layers.Conv2DTranspose(channels, 4, 2, "same", dtype="float32")(normalized_relu(x))
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
        return (
            layers.SpectralNormalization(layer, dtype="float32")
            if spectral_normalization
            else layer
        )

    inputs = keras.Input(checked_image_shape("input_shape", input_shape))
    x = inputs
    for channels in checked_filters(filters):
        x = layers.LeakyReLU(0.2)(normalized(layers.Conv2D(channels, 4, 2, "same"))(x))
    features = layers.Flatten(dtype="float32")(x)
    logit = normalized(layers.Dense(1, dtype="float32"))(features)
    if num_classes is None:
        return keras.Model(inputs, logit)
    num_classes, labels = (
        positive_int(None, "num_classes", num_classes),
        keras.Input((), dtype="int32"),
    )
    embedding = normalized(layers.Embedding(num_classes, features.shape[-1], dtype="float32"))
    of_label = embedding(
        keras.ops.cast(labels, "float32")
    )  # SpectralNormalization gives back the dtype that it was given
    projection = keras.ops.sum(of_label * features, axis=1, keepdims=True)
    return keras.Model([inputs, labels], layers.Add(dtype="float32")([logit, projection]))
