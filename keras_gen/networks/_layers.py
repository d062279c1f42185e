"""Faster versions of layers of Keras, for networks of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_gen")
class GroupNormalization(keras.layers.GroupNormalization):
    """Normalize groups of channels of images (Wu & He 2018, arXiv:1803.08494).

    The layer computes the same as Keras's layer with its default arguments, and is faster on CPUs.
    It first computes the mean of each channel, and from these the mean of each group. Keras's layer
    computes the mean of each group from all pixels. The input must have the shape
    `[batch, height, width, channels]`.
    """

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Normalize `inputs`. The computation has at least float32 precision."""
        dtype = tf.float64 if inputs.dtype == tf.float64 else tf.float32
        arguments = (tf.cast(each, dtype) for each in (inputs, self.gamma, self.beta))
        return tf.cast(self._normalize(*arguments), self.compute_dtype)

    def _normalize(self, x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tf.Tensor:
        """Return γ (x − μ) / σ + β, with the mean μ and the standard deviation σ of each group.

        σ² is the variance plus `self.epsilon`. The gradient is written out, because it needs fewer
        operations on all pixels than the gradient that TensorFlow derives. Let g be the gradient
        with respect to the output, x̂ = (x − μ) / σ, and E the mean over a group. The gradient with
        respect to x is (γ g − E[γ g] − x̂ E[γ g x̂]) / σ (Ioffe & Szegedy 2015, arXiv:1502.03167,
        section 3, with groups in place of batches). The gradients with respect to γ and β are the
        sums of g x̂ and g over the examples and pixels.
        """
        height, width = x.shape[1:3]

        @tf.custom_gradient
        def normalize(
            x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor
        ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, ...]]]:
            mean = self._group_means(_pixel_means(x))
            squares = tf.math.squared_difference(x, mean)
            variance = self._group_means(_pixel_means(squares))
            reciprocal = tf.math.rsqrt(variance + self.epsilon)  # 1 / σ
            scale = gamma * reciprocal

            def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
                g = _pixel_means(upstream)
                gx = reciprocal * (_pixel_means(upstream * x) - mean * g)  # means of g x̂
                slope = reciprocal**2 * self._group_means(gamma * gx)
                shift = reciprocal * self._group_means(gamma * g) - slope * mean
                pixels = tf.cast(height * width, x.dtype)
                return (
                    scale * upstream - (slope * x + shift),
                    pixels * tf.reduce_sum(gx, (0, 1, 2)),
                    pixels * tf.reduce_sum(g, (0, 1, 2)),
                )

            return scale * x + (beta - scale * mean), gradient

        return normalize(x, gamma, beta)

    def _group_means(self, means: tf.Tensor) -> tf.Tensor:
        """Replace the mean of each channel, `[batch, 1, 1, channels]`, by the mean of its group."""
        channels = means.shape[-1]
        size = channels // self.groups
        groups = tf.reduce_mean(tf.reshape(means, (-1, self.groups, size)), -1)
        return tf.reshape(tf.repeat(groups, size, axis=-1), (-1, 1, 1, channels))


def _pixel_means(x: tf.Tensor) -> tf.Tensor:
    """Return the mean of each channel over the pixels, `[batch, 1, 1, channels]`."""
    return tf.reduce_mean(x, (1, 2), keepdims=True)


@keras.saving.register_keras_serializable("keras_gen")
class UpSampledConv2D(keras.layers.Conv2D):
    """Double the height and width of images, and apply a 3×3 convolution.

    The layer computes the same as `UpSampling2D(2)`, followed by `Conv2D(filters, 3,
    padding="same")`, and has the same weights. It uses one transposed convolution with a 4×4
    kernel, whose numbers are sums of up to four numbers of the 3×3 kernel. This is possible because
    the doubled image contains each pixel four times. It needs four ninths of the multiplications.

    Args:
        filters: Number of output channels.
        **arguments: Other arguments of `Conv2D`, except for the kernel size, the padding, the
            strides, the dilation and the groups.
    """

    def __init__(self, filters: int, **arguments: Any) -> None:
        arguments = {**arguments, "kernel_size": 3, "padding": "same"}
        super().__init__(filters, **arguments)

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Return the convolution of the doubled `inputs` with the 3×3 `kernel`."""
        padded = tf.pad(kernel[::-1, ::-1], ((1, 1), (1, 1), (0, 0), (0, 0)))
        rows = padded[1:] + padded[:-1]
        summed = rows[:, 1:] + rows[:, :-1]
        shape = self.compute_output_shape(inputs.shape)
        return tf.nn.conv2d_transpose(
            inputs,
            tf.transpose(summed, (0, 1, 3, 2)),
            (tf.shape(inputs)[0], *shape[1:]),
            strides=2,
            padding="SAME",
        )

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        """Return `(batch, 2 · height, 2 · width, filters)`."""
        batch, height, width, _ = input_shape
        return batch, 2 * height, 2 * width, self.filters


@keras.saving.register_keras_serializable("keras_gen")
class OneChannelConv2D(keras.layers.Conv2D):
    """Apply a convolution with one output channel.

    The layer computes the same as `Conv2D(1, kernel_size, padding="same")`, has the same weights,
    and is faster on CPUs. First, a 1×1 convolution multiplies each pixel by each of the
    kernel_size² vectors of the kernel. Then a convolution whose kernel consists of zeros and ones
    moves the products to their places and adds them.

    Args:
        kernel_size: Height and width of the kernel.
        **arguments: Other arguments of `Conv2D`, except for the number of filters, the padding, the
            strides, the dilation and the groups.
    """

    def __init__(self, kernel_size: int, **arguments: Any) -> None:
        arguments = {**arguments, "filters": 1, "kernel_size": kernel_size, "padding": "same"}
        super().__init__(**arguments)

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Return the convolution of `inputs` with `kernel`."""
        height, width, channels, _ = kernel.shape
        positions = height * width
        vectors = tf.reshape(tf.transpose(kernel, (3, 2, 0, 1)), (1, 1, channels, positions))
        moves = tf.reshape(tf.eye(positions, dtype=kernel.dtype), (height, width, positions, 1))
        return tf.nn.conv2d(tf.nn.conv2d(inputs, vectors, 1, "SAME"), moves, 1, "SAME")


@keras.saving.register_keras_serializable("keras_gen")
class UpSampling2D(keras.layers.UpSampling2D):
    """Double the height and width of images. Each pixel becomes four equal pixels.

    The layer computes the same as `keras.layers.UpSampling2D(2)`, and is faster on CPUs.

    Args:
        **arguments: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**{**arguments, "size": 2})

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Double the height and width of `inputs`, `[batch, height, width, channels]`."""
        return _doubled(inputs)


@keras.saving.register_keras_serializable("keras_gen")
class AveragePooling2D(keras.layers.AveragePooling2D):
    """Halve the height and width of images. Four pixels become their mean.

    The layer computes the same as `keras.layers.AveragePooling2D(2, padding="same")`, and its
    gradient is faster on CPUs.

    Args:
        **arguments: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**{**arguments, "pool_size": 2, "strides": 2, "padding": "same"})

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Halve the height and width of `inputs`, `[batch, height, width, channels]`."""
        height, width = inputs.shape[1:3]
        return super().call(inputs) if height % 2 or width % 2 else _halved(inputs)


@tf.custom_gradient
def _doubled(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Return images of twice the height and width, in which each pixel occurs four times.

    The gradient is four times the result of `_halved`. TensorFlow would instead compute sums over
    two axes of length 2, which are slow on CPUs.
    """
    return _copies(x), lambda upstream: 4 * _means(upstream)


@tf.custom_gradient
def _halved(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Return images of half the height and width, in which each pixel is the mean of four.

    The gradient is a quarter of the result of `_doubled`. TensorFlow's gradient of the pooling is
    slower on CPUs.
    """
    return _means(x), lambda upstream: _copies(upstream) / 4


def _copies(x: tf.Tensor) -> tf.Tensor:
    """Return the result of `_doubled`."""
    _, height, width, channels = x.shape
    copies = tf.broadcast_to(
        x[:, :, None, :, None], (tf.shape(x)[0], height, 2, width, 2, channels)
    )
    return tf.reshape(copies, (-1, 2 * height, 2 * width, channels))


def _means(x: tf.Tensor) -> tf.Tensor:
    """Return the result of `_halved`."""
    return tf.nn.avg_pool2d(x, 2, 2, "VALID")
