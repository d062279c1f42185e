"""Build residual networks: an encoder, a decoder, a generator and a discriminator."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

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
    logit_network,
    spectral,
    unchanged,
)
from keras_gen.networks._layers import (
    AveragePooling2D,
    GroupNormalization,
    UpSampledConv2D,
    UpSampling2D,
)

_Resize = Literal["halve", "double"]


def residual_encoder(
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    filters: Sequence[int] | None = None,
    blocks: int = 1,
    activation: Activation = "relu",
    kernel_regularizer: keras.regularizers.Regularizer | None = None,
    num_classes: int | None = None,
    features: keras.layers.Layer | None = None,
) -> keras.Model:
    """Build a residual encoder: pre-activation residual blocks, then a dense layer.

    A block adds the output of two 3×3 convolutions to its input (He et al. 2016, arXiv:1603.05027).
    Group normalization (Wu & He 2018, arXiv:1803.08494) and the activation precede each
    convolution. Unlike batch normalization, group normalization treats each example separately.
    Before training, the second convolution of each block outputs 0.

    Some blocks halve the height and width. In these blocks, the first convolution has stride 2, and
    2×2 average pooling halves the input of the block before the addition.

    Args:
        input_shape: Shape of one input image, `(height, width, channels)`. Any height and width are
            allowed.
        output_shape: Output shape for one example, for instance `(posterior.parameter_size,)`.
        filters: Sequence with the number of channels after each halving of the height and width. By
            default, the network halves them until height × width is at most 49. An image of 28×28
            pixels is halved twice, to 7×7, and the default is `(32, 64)`.
        blocks: Number of residual blocks per entry of `filters`. The first of these blocks halves
            the height and width. Default: 1.
        activation: Activation of the hidden layers. Default: ReLU.
        kernel_regularizer: Keras regularizer of every kernel. Default: none.
        num_classes: Number of classes. If given, the network has a second input named `condition`.
            This input takes integer labels from 0 to num_classes − 1, of shape `[batch]`. Default:
            no labels.
        features: Keras layer that is applied to the input first, such as `MissingAsZero` for images
            with missing pixels. Default: none.

    Raises:
        ValueError: If a shape, `filters`, `blocks` or `num_classes` is invalid.

    Example:
        >>> residual_encoder((64, 64, 3), (16,)).output_shape
        (None, 16)
    """
    input_shape = checked_image_shape("input_shape", input_shape)
    output_shape = checked_shape("output_shape", output_shape)
    filters = checked_filters(filters, default_filters(input_shape, 16))
    inputs = keras.Input(input_shape)
    x = inputs if features is None else features(inputs)
    residual = _Layers(_normalized(activation), kernel_regularizer=kernel_regularizer)
    x = residual.convolution(x, filters[0], 3)
    x = residual.before(residual.blocks(x, filters, blocks, "halve"))
    return dense_network(inputs, x, output_shape, num_classes, kernel_regularizer)


def residual_decoder(
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    filters: Sequence[int] | None = None,
    blocks: int = 1,
    activation: Activation = "relu",
    kernel_regularizer: keras.regularizers.Regularizer | None = None,
    output_activation: Activation = None,
    num_classes: int | None = None,
) -> keras.Model:
    """Build a residual decoder: a dense layer, then pre-activation residual blocks.

    A block adds the output of two 3×3 convolutions to its input (He et al. 2016, arXiv:1603.05027).
    Group normalization (Wu & He 2018, arXiv:1803.08494) and the activation precede each
    convolution. Before training, the second convolution of each block outputs 0. Some blocks double
    the height and width by nearest-neighbor interpolation before the second convolution.

    After the blocks, the network crops the result to the height and width of `output_shape`.
    Finally, a 3×3 convolution computes the output.

    Args:
        input_shape: Shape of the latents of one example, for instance `(8,)`.
        output_shape: Shape of one output image, `(height, width, channels)`. Any height and width
            are allowed.
        filters: Sequence with the number of channels before each doubling of the height and width.
            By default, the number of doublings is chosen such that height × width is at most 49
            before the first doubling. For 28×28 pixels, the height and width are doubled twice,
            from 7×7, and the default is `(64, 32)`.
        blocks: Number of residual blocks per entry of `filters`. The first of these blocks doubles
            the height and width. Default: 1.
        activation: Activation of the hidden layers. Default: ReLU.
        kernel_regularizer: Keras regularizer of every kernel. Default: none.
        output_activation: Activation of the output. Default: none.
        num_classes: Number of classes. If given, the network has a second input named `condition`.
            This input takes integer labels from 0 to num_classes − 1, of shape `[batch]`. Default:
            no labels.

    Raises:
        ValueError: If a shape, `filters`, `blocks` or `num_classes` is invalid.

    Example:
        >>> residual_decoder((8,), (64, 64, 3)).output_shape
        (None, 64, 64, 3)
    """
    inputs = keras.Input(checked_shape("input_shape", input_shape))
    output_shape = checked_image_shape("output_shape", output_shape)
    filters = checked_filters(filters, default_filters(output_shape, 16)[::-1])
    inputs, x = concatenate_labels(inputs, layers.Flatten()(inputs), num_classes)
    x = dense_grid(x, output_shape, filters[0], len(filters), kernel_regularizer=kernel_regularizer)
    residual = _Layers(_normalized(activation), kernel_regularizer=kernel_regularizer)
    after_doubling = (*filters[1:], filters[-1])
    x = residual.before(residual.blocks(x, after_doubling, blocks, "double"))
    x = cropped(x, output_shape)
    x = image_convolution(x, output_shape[2], output_activation, kernel_regularizer)
    return keras.Model(inputs, x)


def residual_generator(
    input_size: int,
    output_shape: Sequence[int],
    filters: Sequence[int] | None = None,
    blocks: int = 1,
    num_classes: int | None = None,
) -> keras.Model:
    """Build a residual generator of a GAN.

    The network consists of a dense layer, residual blocks and a 3×3 convolution, as in
    `residual_decoder`. The last activation is a sigmoid. Therefore the pixels of the images lie in
    [0, 1]. The blocks are similar to the blocks in the ResNet generator of Miyato et al. (2018,
    arXiv:1802.05957). The generator of Miyato et al. uses batch normalization, but this network
    uses group normalization.

    Args:
        input_size: Number of latent dimensions.
        output_shape: Shape of one output image, `(height, width, channels)`. Any height and width
            are allowed.
        filters: Sequence with the number of channels before each doubling of the height and width.
            By default, the network starts from features whose height × width is at most 49. For
            instance, for images of 28×28 pixels, the network doubles 7×7 features twice, and the
            default is `(64, 32)`.
        blocks: Number of residual blocks per entry of `filters`. The first of these blocks doubles
            the height and width. Default: 1.
        num_classes: Number of classes. If given, the network has a second input named `condition`.
            This input takes integer labels from 0 to num_classes − 1, of shape `[batch]`. Default:
            no labels.

    Raises:
        ValueError: If `input_size`, `output_shape`, `filters`, `blocks` or `num_classes` is
            invalid.

    Example:
        >>> residual_generator(128, (64, 64, 3)).output_shape
        (None, 64, 64, 3)
    """
    return residual_decoder(
        (positive_int(None, "input_size", input_size),),
        output_shape,
        filters,
        blocks,
        output_activation="sigmoid",
        num_classes=num_classes,
    )


def residual_discriminator(
    input_shape: Sequence[int],
    filters: Sequence[int] | None = None,
    blocks: int = 1,
    num_classes: int | None = None,
    spectral_normalization: bool = False,
) -> keras.Model:
    """Build a residual discriminator of a GAN: residual blocks, then a dense layer for one logit.

    A block adds the output of two 3×3 convolutions to its input. A leaky ReLU precedes each
    convolution. The blocks contain no normalization (Huang et al. 2025, arXiv:2501.05441).
    Therefore the logit of an example does not depend on the other examples of its batch. This
    independence is necessary for gradient penalties, which use the gradient of each single logit.

    Args:
        input_shape: Shape of one input image, `(height, width, channels)`. Any height and width are
            allowed.
        filters: Number of channels after each halving of the height and width, with one entry per
            halving. By default, the height and width are halved until height × width is at most 49.
            For instance, an image of 28×28 pixels is halved twice, to 7×7, and the default is
            `(64, 128)`.
        blocks: Number of residual blocks per entry of `filters`. The first of these blocks halves
            the height and width. Default: 1.
        num_classes: Number of classes. If given, the network has a second input named `condition`.
            This input takes integer labels from 0 to num_classes − 1, of shape `[batch]`. The logit
            of an image x with label y is then w·φ(x) + b + v_y·φ(x). Here φ(x) is the input of the
            dense layer, and w and b are the weights of this layer. v_y is a trainable vector for
            the label y. The source is Miyato & Koyama 2018, arXiv:1802.05637, equation 4. Default:
            no labels.
        spectral_normalization: Whether to divide every kernel by its spectral norm, the largest
            singular value (Miyato et al. 2018, arXiv:1802.05957). With labels, the matrix whose
            rows are the vectors v_y is also divided by its spectral norm. If False, the second
            convolution of each block starts with a kernel of zeros. The spectral norm of this
            kernel is 0, and a division by 0 is impossible. Therefore, if True, the second
            convolution starts with a random kernel. Default: False.

    Raises:
        ValueError: If `input_shape`, `filters`, `blocks` or `num_classes` is invalid.

    Example:
        >>> residual_discriminator((64, 64, 3)).output_shape
        (None, 1)
    """
    wrap = spectral if spectral_normalization else unchanged
    input_shape = checked_image_shape("input_shape", input_shape)
    filters = checked_filters(filters, default_filters(input_shape, 32))
    inputs = keras.Input(input_shape)
    residual = _Layers(_leaky_relu, wrap)
    x = residual.convolution(inputs, filters[0], 3)
    x = residual.before(residual.blocks(x, filters, blocks, "halve"))
    return logit_network(inputs, x, num_classes, wrap)


@dataclasses.dataclass(frozen=True)
class _Layers:
    """Apply the convolutions and residual blocks of a network, all with the same options.

    The fields of this class are these options.
    """

    before: Callable[[keras.KerasTensor], keras.KerasTensor]
    """Function that is applied to the features before each convolution of a block."""
    wrap: Callable[[keras.layers.Layer], keras.layers.Layer] = unchanged
    """Function that receives each convolution, and returns the layer to use instead. For instance,
    `spectral` adds spectral normalization."""
    kernel_regularizer: keras.regularizers.Regularizer | None = None
    """Keras regularizer of every kernel."""

    def convolution(
        self, x: keras.KerasTensor, channels: int, kernel_size: int, **arguments: Any
    ) -> keras.KerasTensor:
        """Apply a convolution with padding, and with the given arguments of `Conv2D`."""
        layer = layers.Conv2D(
            channels,
            kernel_size,
            padding="same",
            kernel_regularizer=self.kernel_regularizer,
            **arguments,
        )
        return self.wrap(layer)(x)

    def blocks(
        self, x: keras.KerasTensor, filters: Sequence[int], blocks: int, resize: _Resize
    ) -> keras.KerasTensor:
        """Apply residual blocks.

        Args:
            x: Features `[batch, height, width, channels]`.
            filters: Numbers of channels. For each number, the height and width are halved or
                doubled once.
            blocks: Number of residual blocks per entry of `filters`. The first of these blocks
                changes the height, the width and the number of channels.
            resize: Whether to `"halve"` or to `"double"` the height and width.
        """
        blocks = positive_int(None, "blocks", blocks)
        for channels in filters:
            x = self._block(x, channels, resize)
            for _ in range(blocks - 1):
                x = self._block(x, channels)
        return x

    def _block(
        self, x: keras.KerasTensor, channels: int, resize: _Resize | None = None
    ) -> keras.KerasTensor:
        added = AveragePooling2D()(x) if resize == "halve" else x
        if x.shape[-1] != channels:
            added = self.convolution(added, channels, 1, use_bias=False)
        stride = 2 if resize == "halve" else 1
        x = self.before(self.convolution(self.before(x), channels, 3, strides=stride))
        # A kernel of zeros cannot be divided by its spectral norm.
        initializer = "zeros" if self.wrap is unchanged else "glorot_uniform"
        if resize == "double":
            # The 1×1 convolution, the normalization and the activation come before the doubling of
            # the size, because they need less time on smaller features.
            added = UpSampling2D()(added)
            convolution = UpSampledConv2D(
                channels,
                kernel_initializer=initializer,
                kernel_regularizer=self.kernel_regularizer,
            )
            x = self.wrap(convolution)(x)
        else:
            x = self.convolution(x, channels, 3, kernel_initializer=initializer)
        return layers.Add()([added, x])


def _normalized(
    activation: Activation,
) -> Callable[[keras.KerasTensor], keras.KerasTensor]:
    """Return a function that applies group normalization and an activation.

    For c ≥ 8 channels, the number of groups is the greatest common divisor of c and ⌊c / 8⌋. For
    instance, if c is a multiple of 8, each group has 8 channels. For fewer than 8 channels, there
    is one group.
    """

    def before(x: keras.KerasTensor) -> keras.KerasTensor:
        channels = x.shape[-1]
        x = GroupNormalization(math.gcd(channels, max(channels // 8, 1)))(x)
        return layers.Activation(activation)(x)

    return before


def _leaky_relu(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.LeakyReLU(0.2)(x)
