"""Change images at random before the discriminator of a GAN receives them.

With few training images, a GAN trains better with such random changes, called augmentation.
Pass an augmentation to a GAN with `compile(augment=DiffAugment())`.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from keras_gen._arguments import is_real
from keras_gen._serialization import Serializable
from keras_gen._typing import TensorLike

COLOR = "color"
TRANSLATION = "translation"
CUTOUT = "cutout"


@keras.saving.register_keras_serializable("keras_gen")
class DiffAugment(Serializable):
    """Change images at random before the discriminator of a GAN receives them.

    If there are few training images, the discriminator can memorize them. Random changes prevent
    this (Zhao et al. 2020, arXiv:2006.10738). The GAN applies the same kinds of changes to real and
    to generated images, with different random numbers. It does so when it trains the discriminator
    and when it trains the generator. Therefore the generator still learns to generate images
    without these changes. Penalties such as `losses.R1` also use the changed images. The changes
    are differentiable with respect to the pixels.

    The changes are applied in the order of the following list. The result can contain values
    outside `data_range`. They are not clipped, because clipped values would have no gradient.

    - `"color"`: A random number is added to all pixels of an image. The absolute value of this
      number is at most a quarter of the width of `data_range`. Then the saturation is multiplied by
      a factor in [0, 2), and the contrast by a factor in [0.5, 1.5).
    - `"translation"`: The image is moved. Pixels that become empty get the middle value of
      `data_range`.
    - `"cutout"`: The pixels of a rectangle at a random place get the middle value of `data_range`.
      The rectangle can extend beyond the edges of the image.

    Args:
        changes: The changes to apply, one or more of `"color"`, `"translation"` and `"cutout"`.
            Default: all three.
        translation: Largest distance by which the image is moved in each direction, as a fraction
            of the image's height or width. Default: 1/8.
        cutout: Height and width of the rectangle, as a fraction of the image's height and width.
            Default: 1/2.
        data_range: Smallest and largest value of a pixel. Default: `(0.0, 1.0)`.

    Raises:
        ValueError: If an argument is invalid.

    Example:
        >>> images = tf.random.stateless_uniform((2, 8, 8, 3), seed=(0, 0))
        >>> DiffAugment()(images, seed=(1, 2)).shape.as_list()
        [2, 8, 8, 3]
    """

    def __init__(
        self,
        changes: Sequence[str] = (COLOR, TRANSLATION, CUTOUT),
        translation: float = 0.125,
        cutout: float = 0.5,
        data_range: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        known = (COLOR, TRANSLATION, CUTOUT)
        is_list = isinstance(changes, (tuple, list))
        if not is_list or not changes or not all(change in known for change in changes):
            raise ValueError(
                "`changes` must contain one or more of 'color', 'translation' and 'cutout'. "
                f"Received: changes={changes!r}."
            )
        for name, value in (("translation", translation), ("cutout", cutout)):
            if not is_real(value) or not 0 < value <= 1:
                raise ValueError(
                    f"`{name}` must be a number above 0, and at most 1. Received: {name}={value!r}."
                )
        if len(data_range) != 2 or not data_range[0] < data_range[1]:
            raise ValueError(
                "`data_range` must be the smallest and the largest value of a pixel, such as "
                f"(0.0, 1.0). Received: data_range={data_range!r}."
            )
        self.changes = tuple(changes)
        self.translation = float(translation)
        self.cutout = float(cutout)
        self.data_range = (float(data_range[0]), float(data_range[1]))

    def __call__(self, x: tf.Tensor, seed: TensorLike) -> tf.Tensor:
        """Return randomly changed images, with the shape and the dtype of `x`.

        Args:
            x: Images `[batch, height, width, channels]`.
            seed: Stateless seed, int32 `[2]`. The random numbers differ between the images of the
                batch.
        """
        low, high = self.data_range
        middle = tf.cast((low + high) / 2, x.dtype)
        seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 3))
        x = x - middle
        if COLOR in self.changes:
            x = _with_random_color(x, (high - low) / 4, seeds[0])
        if TRANSLATION in self.changes:
            x = _moved(x, self.translation, seeds[1])
        if CUTOUT in self.changes:
            x = _with_cutout(x, self.cutout, seeds[2])
        return x + middle


def _with_random_color(x: tf.Tensor, brightness: float, seed: tf.Tensor) -> tf.Tensor:
    """Change the brightness, the saturation and the contrast of each image at random.

    The brightness changes first: one random number is added to all values of an image. Then the
    saturation changes: the difference between each value and the mean of the pixel's channels is
    multiplied by a factor in [0, 2). Finally, the contrast changes: the difference between each
    value and the mean of the image is multiplied by a factor in [0.5, 1.5).

    Args:
        x: Images `[batch, height, width, channels]`. The middle of their range of values is 0.
        brightness: Largest absolute value of the number that is added.
        seed: Stateless seed.
    """
    uniform = tf.random.stateless_uniform((3, tf.shape(x)[0], 1, 1, 1), seed)
    added, saturation, contrast = tf.unstack(tf.cast(uniform, x.dtype))
    x = x + brightness * (2 * added - 1)
    grey = tf.reduce_mean(x, axis=3, keepdims=True)
    x = grey + 2 * saturation * (x - grey)
    mean = tf.reduce_mean(x, axis=(1, 2, 3), keepdims=True)
    return mean + (contrast + 0.5) * (x - mean)


def _moved(x: tf.Tensor, fraction: float, seed: tf.Tensor) -> tf.Tensor:
    """Move each image up or down, and left or right, by random distances.

    The empty area that the move leaves at the edges is filled with 0.

    Args:
        x: Images `[batch, height, width, channels]`.
        fraction: Largest distance, as a fraction of the height or the width.
        seed: Stateless seed.
    """
    row_seed, column_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    for axis, axis_seed in ((1, row_seed), (2, column_seed)):
        size = x.shape[axis]
        largest = round(fraction * size)
        shifts = tf.random.stateless_uniform(
            tf.shape(x)[:1], axis_seed, -largest, largest + 1, tf.int32
        )
        padding = [[0, 0]] * 4
        padding[axis] = [largest, largest]
        # Pixel i of the result is pixel i + shift of the image.
        indices = largest + shifts[:, None] + tf.range(size)
        x = tf.gather(tf.pad(x, padding), indices, axis=axis, batch_dims=1)
    return x


def _with_cutout(x: tf.Tensor, fraction: float, seed: tf.Tensor) -> tf.Tensor:
    """Set the pixels of a rectangle in each image to 0. The rectangle is at a random place.

    Args:
        x: Images `[batch, height, width, channels]`.
        fraction: Height and width of the rectangle, as a fraction of the image's height and width.
        seed: Stateless seed.
    """
    row_seed, column_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    inside = []
    for axis, axis_seed in ((1, row_seed), (2, column_seed)):
        size = x.shape[axis]
        length = max(round(fraction * size), 1)
        # An even length has its center between two pixels, so that there is one more place.
        places = size + 1 - length % 2
        center = tf.random.stateless_uniform(tf.shape(x)[:1], axis_seed, 0, places, tf.int32)
        start = center[:, None] - length // 2
        inside.append((tf.range(size) >= start) & (tf.range(size) < start + length))
    rows, columns = inside
    rectangle = rows[:, :, None, None] & columns[:, None, :, None]
    return tf.where(rectangle, tf.zeros((), x.dtype), x)
