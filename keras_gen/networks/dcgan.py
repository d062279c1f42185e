"""Build the generator and the discriminator of DCGAN."""

from collections.abc import Sequence

import keras
from keras import layers

from keras_gen._arguments import positive_int
from keras_gen.networks._common import (
    checked_filters,
    checked_image_shape,
    concatenate_labels,
    dense_grid,
    label_input,
    normalized_relu,
)


def dcgan_generator(
    input_size: int,
    output_shape: Sequence[int],
    filters: Sequence[int] = (64, 32),
    num_classes: int | None = None,
) -> keras.Model:
    """Build the generator of DCGAN (Radford et al. 2016, arXiv:1511.06434).

    The network consists of a dense layer and 4×4 transposed convolutions of stride 2. Batch
    normalization and a ReLU precede each transposed convolution. The last activation is a sigmoid,
    so the pixels of the images lie in [0, 1].

    Args:
        input_size: Number of latent dimensions.
        output_shape: Shape of one output image, `(height, width, channels)`. Any height and width
            are allowed.
        filters: Number of input channels of each transposed convolution. Each transposed
            convolution doubles the height and width. Default: `(64, 32)`.
        num_classes: Number of classes. If given, the network has a second input named `condition`.
            This input takes integer labels from 0 to num_classes − 1, of shape `[batch]`. Default:
            no labels.

    Raises:
        ValueError: If `input_size`, `output_shape`, `filters` or `num_classes` is invalid.

    Example:
        >>> dcgan_generator(64, (28, 28, 1)).output_shape
        (None, 28, 28, 1)
    """
    inputs = keras.Input((positive_int(None, "input_size", input_size),))
    output_shape = checked_image_shape("output_shape", output_shape)
    height, width, channels = output_shape
    filters = checked_filters(filters)
    inputs, x = concatenate_labels(inputs, inputs, num_classes)
    x = dense_grid(x, output_shape, filters[0], len(filters), use_bias=False)
    for after_doubling in filters[1:]:
        convolution = layers.Conv2DTranspose(after_doubling, 4, 2, "same", use_bias=False)
        x = convolution(normalized_relu(x))
    last = layers.Conv2DTranspose(channels, 4, 2, "same", dtype="float32")
    x = last(normalized_relu(x))
    x = layers.CenterCrop(height, width, dtype="float32")(x)
    return keras.Model(inputs, layers.Activation("sigmoid", dtype="float32")(x))


def dcgan_discriminator(
    input_shape: Sequence[int],
    filters: Sequence[int] = (64, 128),
    num_classes: int | None = None,
    spectral_normalization: bool = False,
) -> keras.Model:
    """Build the discriminator of DCGAN (Radford et al. 2016, arXiv:1511.06434).

    The network consists of 4×4 convolutions of stride 2 with leaky ReLUs, and a dense layer that
    outputs one logit. Unlike the original DCGAN, the network has no batch normalization. Therefore
    the logit of an example does not depend on the other examples of its batch. Gradient penalties
    need this, because they use the gradient of the logit of each single example.

    Args:
        input_shape: Shape of one input image, `(height, width, channels)`.
        filters: Number of output channels of each convolution. Each convolution halves the height
            and width. Default: `(64, 128)`.
        num_classes: Number of classes. If given, the network has a second input named `condition`.
            This input takes integer labels from 0 to num_classes − 1, of shape `[batch]`. The logit
            of an image x with label y is then w·φ(x) + b + v_y·φ(x). Here φ(x) is the input of the
            dense layer, w and b are the weights of this layer, and v_y is a trainable vector for
            the label y (Miyato & Koyama 2018, arXiv:1802.05637, equation 4). Default: no labels.
        spectral_normalization: Whether to divide every kernel by its spectral norm, the largest
            singular value (Miyato et al. 2018, arXiv:1802.05957). With labels, this also applies to
            the matrix whose rows are the vectors v_y. Default: False.

    Raises:
        ValueError: If `input_shape`, `filters` or `num_classes` is invalid.

    Example:
        >>> dcgan_discriminator((28, 28, 1)).output_shape
        (None, 1)
    """

    def normalized(layer: keras.layers.Layer) -> keras.layers.Layer:
        if not spectral_normalization:
            return layer
        return layers.SpectralNormalization(layer, dtype="float32")

    inputs = keras.Input(checked_image_shape("input_shape", input_shape))
    x = inputs
    for channels in checked_filters(filters):
        x = layers.LeakyReLU(0.2)(normalized(layers.Conv2D(channels, 4, 2, "same"))(x))
    features = layers.Flatten(dtype="float32")(x)
    logit = normalized(layers.Dense(1, dtype="float32"))(features)
    if num_classes is None:
        return keras.Model(inputs, logit)
    num_classes = positive_int(None, "num_classes", num_classes)
    labels = label_input()
    embedding = normalized(layers.Embedding(num_classes, features.shape[-1], dtype="float32"))
    # SpectralNormalization casts its output to the dtype of its input: here float32, not int.
    of_label = embedding(keras.ops.cast(labels, "float32"))
    projection = keras.ops.sum(of_label * features, axis=1, keepdims=True)
    return keras.Model([inputs, labels], layers.Add(dtype="float32")([logit, projection]))
