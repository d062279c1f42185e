"""Signs that the game of a GAN is over: samples that are duplicates, a discriminator that is never wrong."""

import warnings
from typing import Any

import keras
import numpy as np
import tensorflow as tf

FEWEST_EXAMPLES = 1000  # an epoch of fewer says little
DUPLICATE = 0.1  # of the usual distance from a real example to its nearest neighbour


def duplicates(generated: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """Which generated examples have a twin in their batch, `[batch]` of 0 and 1.

    A twin is nearer than a tenth of what, at the median, lies between a real example and its nearest neighbour in a batch of that
    size, so that data which come in clusters are no duplicates of themselves.

    Args:
        generated, real: Batches of the same shape, `[batch, ...]`.

    Example:

    >>> duplicates(tf.constant([[0.0], [0.01], [5.0]]), tf.constant([[1.0], [2.0], [3.0]])).numpy()
    array([1., 1., 0.], dtype=float32)
    """
    nearest = tf.sort(_squared_distance_to_nearest(real))
    median = tf.concat([nearest, [np.inf]], 0)[
        tf.shape(nearest)[0] // 2
    ]  # a replica may have no example at all
    return tf.cast(_squared_distance_to_nearest(generated) < DUPLICATE**2 * median, tf.float32)


def _squared_distance_to_nearest(x):
    x = tf.reshape(
        tf.cast(x, tf.float64), (tf.shape(x)[0], -1)
    )  # or small distances would be lost in the large squares
    squares = tf.reduce_sum(x**2, axis=1)
    distances = squares[:, None] + squares[None, :] - 2 * tf.matmul(x, x, transpose_b=True)
    return tf.reduce_min(
        tf.linalg.set_diag(
            tf.maximum(distances, 0), tf.fill(tf.shape(squares), tf.constant(np.inf, x.dtype))
        ),
        axis=1,
    )


class CollapseWarning(keras.callbacks.Callback):
    """Says in words, once a `fit`, what the logs of an epoch show of a game that is over."""

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Begin anew."""
        self.said: set[str] = set()
        self.examples: int | None = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Forget the epoch before."""
        self.examples = None

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Note how many examples the epoch had before validation counts its own."""
        if self.examples is None:
            self.examples = self._count()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the logs of an epoch."""
        logs = {
            "duplicates": 0.0,
            "real_accuracy": 0.0,
            "fake_accuracy": 0.0,
            **(logs or {}),
        }  # of a step of one's own, perhaps
        if (self._count() if self.examples is None else self.examples) < FEWEST_EXAMPLES:
            return
        if logs["duplicates"] > 0.5:
            self._say(
                "collapse",
                f"The generator has collapsed: in epoch {epoch + 1}, {logs['duplicates']:.0%} of its samples had a twin in the batch. "
                "Try a penalty such as losses.R1, ema_momentum=0.999, or a lower learning rate of the generator.",
            )
        if (
            min(logs["real_accuracy"], logs["fake_accuracy"]) >= 0.999
            and not self.model.loss.relative
        ):
            self._say(
                "discriminator",
                f"The discriminator was never wrong in epoch {epoch + 1}: the generator learns little from it. Try a penalty such as "
                "losses.R1, label smoothing, or a lower learning rate of the discriminator.",
            )

    def _count(self):
        return int(tf.convert_to_tensor(self.model.part_trackers[0].count.value))

    def _say(self, what, words):
        if what not in self.said:
            self.said.add(what)
            warnings.warn(words, stacklevel=2)
