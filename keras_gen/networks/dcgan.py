"""Build the generator and the discriminator of DCGAN."""

from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import layers

from keras_gen._arguments import positive_int
from keras_gen.networks._common import (
    checked_filters,
    checked_image_shape,
    concatenate_labels,
    cropped,
    default_filters,
    dense_grid,
    logit_network,
    normalized_relu,
    spectral,
    unchanged,
)
from keras_gen.networks._layers import UpSampledConv2D


def dcgan_generator(
    input_size: int,
    output_shape: Sequence[int],
    filters: Sequence[int] | None = None,
    num_classes: int | None = None,
    upsampling: Literal["transposed", "nearest"] | None = None,
) -> keras.Model:
    """Build the generator of DCGAN (Radford et al. 2016, arXiv:1511.06434).

    The network consists of a dense layer and convolutions, each of which doubles the height and
    width. Batch normalization and a ReLU precede each convolution. The last activation is a
    sigmoid. Therefore the pixels of the images lie in [0, 1].

    Args:
        input_size: Number of latent dimensions.
        output_shape: Shape of one output image, `(height, width, channels)`. Any height and width
            are allowed.
        filters: Sequence with the number of input channels of each convolution. By default, the
            number of convolutions is chosen such that height × width is at most 49 before the first
            convolution. For 28×28 pixels, the height and width are doubled twice, from 7×7, and the
            default is `(64, 32)`. For 64×64 pixels, it is `(64, 32, 16, 8)`.
        num_classes: Number of classes. If given, the network has a second input named `condition`.
            This input takes integer labels from 0 to num_classes − 1, of shape `[batch]`. Default:
            no labels.
        upsampling: How a convolution doubles the height and width. If `"transposed"`, it is a
            transposed 4×4 convolution of stride 2, as in DCGAN. If `"nearest"`, nearest-neighbor
            interpolation precedes a 3×3 convolution. With transposed convolutions, images can have
            a checkerboard pattern, which interpolation avoids (Odena et al. 2016,
            doi:10.23915/distill.00003). If None, the network uses `"transposed"` for at most two
            convolutions, as in version 0.1.0, and `"nearest"` for more. Default: None.

    Raises:
        ValueError: If `input_size`, `output_shape`, `filters`, `num_classes` or `upsampling` is
            invalid.

    Example:
        >>> dcgan_generator(64, (28, 28, 1)).output_shape
        (None, 28, 28, 1)
    """
    inputs = keras.Input((positive_int(None, "input_size", input_size),))
    output_shape = checked_image_shape("output_shape", output_shape)
    filters = checked_filters(filters, default_filters(output_shape, 16, 64, min_filters=8)[::-1])
    if upsampling is None:
        upsampling = "transposed" if len(filters) <= 2 else "nearest"
    if upsampling not in ("transposed", "nearest"):
        raise ValueError(
            "`upsampling` must be 'transposed', 'nearest' or None. Received: "
            f"upsampling={upsampling!r}"
        )

    def doubling(channels: int, **arguments: Any) -> keras.layers.Layer:
        if upsampling == "nearest":
            return UpSampledConv2D(channels, **arguments)
        return layers.Conv2DTranspose(channels, 4, 2, "same", **arguments)

    inputs, x = concatenate_labels(inputs, inputs, num_classes)
    x = dense_grid(x, output_shape, filters[0], len(filters), use_bias=False)
    for after_doubling in filters[1:]:
        x = doubling(after_doubling, use_bias=False)(normalized_relu(x))
    x = doubling(output_shape[2], dtype="float32")(normalized_relu(x))
    x = layers.Activation("sigmoid", dtype="float32")(cropped(x, output_shape))
    return keras.Model(inputs, x)


def dcgan_discriminator(
    input_shape: Sequence[int],
    filters: Sequence[int] | None = None,
    num_classes: int | None = None,
    spectral_normalization: bool = False,
) -> keras.Model:
    """Build the discriminator of DCGAN (Radford et al. 2016, arXiv:1511.06434).

    The network consists of 4×4 convolutions of stride 2 with leaky ReLUs, and a dense layer that
    outputs one logit. Unlike the original DCGAN, the network has no batch normalization. Therefore
    the logit of an example does not depend on the other examples of its batch. This independence
    is necessary for gradient penalties, which use the gradient of each single logit.

    Args:
        input_shape: Shape of one input image, `(height, width, channels)`.
        filters: Sequence with the number of output channels of each convolution. Each convolution
            halves the height and width. By default, the network halves them until height × width is
            at most 49. For instance, an image of 28×28 pixels is halved twice, to 7×7, and the
            default is `(64, 128)`. For 64×64 pixels, it is `(16, 32, 64, 128)`.
        num_classes: Number of classes. If given, the network has a second input named `condition`.
            This input takes integer labels from 0 to num_classes − 1, of shape `[batch]`. The logit
            of an image x with label y is then w·φ(x) + b + v_y·φ(x). Here φ(x) is the input of the
            dense layer, and w and b are the weights of this layer. v_y is a trainable vector for
            the label y. The source is Miyato & Koyama 2018, arXiv:1802.05637, equation 4. Default:
            no labels.
        spectral_normalization: Whether to divide every kernel by its spectral norm, the largest
            singular value (Miyato et al. 2018, arXiv:1802.05957). With labels, the matrix whose
            rows are the vectors v_y is also divided by its spectral norm. Default: False.

    Raises:
        ValueError: If `input_shape`, `filters` or `num_classes` is invalid.

    Example:
        >>> dcgan_discriminator((28, 28, 1)).output_shape
        (None, 1)
    """

    wrap = spectral if spectral_normalization else unchanged
    input_shape = checked_image_shape("input_shape", input_shape)
    inputs = keras.Input(input_shape)
    x = inputs
    for channels in checked_filters(filters, default_filters(input_shape, 32, 128, min_filters=8)):
        x = layers.LeakyReLU(0.2)(wrap(layers.Conv2D(channels, 4, 2, "same"))(x))
    return logit_network(inputs, x, num_classes, wrap)
