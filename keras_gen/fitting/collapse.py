"""Warn if the training of a GAN has failed.

There are two signs of failure. Either most generated examples have a near-duplicate in their batch,
or the discriminator classifies at least 99.9% of the examples correctly.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

_FEWEST_EXAMPLES = 1000  # an epoch with fewer examples is too short to judge
_NEVER = 2**62  # a step that no training reaches
_NEAR = 0.1  # near-duplicates are closer than this fraction of d, see `near_duplicates`


def near_duplicates(generated: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """Mark the generated examples that have a near-duplicate in their batch.

    Two generated examples are near-duplicates if their distance is below a tenth of d. Here d is
    the median distance between a real example and its nearest neighbour in the batch of real
    examples. If the real data form narrow clusters, d is small. Therefore two generated examples
    are not near-duplicates merely because they are in the same cluster.

    Args:
        generated: Generated examples, `[batch, ...]`.
        real: Real examples of the same shape.

    Returns:
        A float32 tensor `[batch]`, which is 1 for an example that has a near-duplicate, and 0 for
        any other example.

    Example:
        >>> generated = tf.constant([[0.0], [0.01], [5.0]])
        >>> near_duplicates(generated, tf.constant([[1.0], [2.0], [3.0]])).numpy()
        array([1., 1., 0.], dtype=float32)
    """
    nearest = tf.sort(_squared_distance_to_nearest(real))
    with_infinity = tf.concat([nearest, [np.inf]], 0)  # the batch of a replica may be empty
    median = with_infinity[tf.shape(nearest)[0] // 2]
    near = _squared_distance_to_nearest(generated) < _NEAR**2 * median
    return tf.cast(near, tf.float32)


def _squared_distance_to_nearest(x: tf.Tensor) -> tf.Tensor:
    """Return the squared distance of each example to its nearest neighbour, `[batch]`."""
    # float64: in float32, the difference of large squares would lose small distances
    x = tf.reshape(tf.cast(x, tf.float64), (tf.shape(x)[0], -1))
    squares = tf.reduce_sum(x**2, axis=1)
    products = tf.matmul(x, x, transpose_b=True)
    distances = tf.maximum(squares[:, None] + squares[None, :] - 2 * products, 0)
    infinities = tf.fill(tf.shape(squares), tf.constant(np.inf, x.dtype))
    return tf.reduce_min(tf.linalg.set_diag(distances, infinities), axis=1)


class CollapseWarning(keras.callbacks.Callback):
    """A Keras callback that warns if the logs of an epoch show that the training of a GAN failed.

    The first warning says that most generated examples have a near-duplicate, an almost equal
    generated example in the same batch. The exact definition is in the function `near_duplicates`.
    The second warning says that the discriminator classified at least 99.9% of the real and of the
    generated examples correctly. With a relativistic loss, this warning is omitted. `fit` gives
    each warning at most once, and only for an epoch with at least 1,000 examples.

    The cost of counting near-duplicates grows with the square of the batch size. Therefore the GAN
    counts near-duplicates in only one step per epoch, the second to last step. The last step is not
    used, because its batch may be smaller. If the number of steps per epoch is unknown, the GAN
    counts near-duplicates in every step.
    """

    @contextlib.contextmanager
    def around(self, model: keras.Model, arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """After `fit`, reset `near_duplicate_step` of the model, also if `fit` raises an error.

        Near-duplicates are generated examples of a batch that are almost equal. To save time, the
        model usually counts them in only one step per epoch of `fit`, the step
        `near_duplicate_step`. After the reset, each call of `train_on_batch` counts them again.

        Args:
            model: The GAN.
            arguments: The arguments of `fit` by name.

        Yields:
            The unchanged arguments.
        """
        try:
            yield arguments
        finally:
            model.near_duplicate_step = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Reset the attributes of this callback, which an earlier `fit` may have changed."""
        self.warned: set[str] = set()
        self.examples: int | None = None
        steps = (self.params or {}).get("steps")
        self.chosen_step = None if steps is None else max(steps - 2, 0)
        self.step = None if steps is None else _NEVER
        self.model.near_duplicate_step = self.step

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Forget the number of training examples of the previous epoch."""
        self.examples = None

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Make the GAN count near-duplicates in the second to last step of the epoch.

        Near-duplicates are generated examples that are almost equal. Keras calls this method before
        each step, or before each group of `steps_per_execution` steps. If the second to last step
        is about to run, the method stores the number of this step in `near_duplicate_step` of the
        GAN. Before all other steps, it stores a number that no step reaches. If the number of steps
        per epoch is unknown, the method does nothing, and the GAN counts near-duplicates in every
        step.
        """
        if self.chosen_step is None:
            return
        step = _NEVER
        ahead = self.chosen_step - batch
        if 0 <= ahead < self.model.steps_per_execution:
            step = int(tf.convert_to_tensor(self.model.optimizer.iterations)) + ahead
        if step != self.step:
            self.step = self.model.near_duplicate_step = step

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Store the number of training examples, because validation resets this counter."""
        if self.examples is None:
            self.examples = self._examples_so_far()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Warn if the logs of the epoch show that the training has failed."""
        examples = self._examples_so_far() if self.examples is None else self.examples
        if examples < _FEWEST_EXAMPLES:
            return
        logs = logs or {}  # a subclass with its own step may log other values
        duplicates = logs.get("duplicates", 0.0)
        if duplicates > 0.5:
            self._warn(
                "collapse",
                f"The generator has collapsed: in epoch {epoch + 1}, {duplicates:.0%} of its "
                "samples had a near-duplicate in the batch. Try a penalty such as losses.R1, "
                "ema_momentum=0.999, or a lower learning rate of the generator.",
            )
        accuracy = min(logs.get("real_accuracy", 0.0), logs.get("fake_accuracy", 0.0))
        if accuracy >= 0.999 and not self.model.loss.relative:
            self._warn(
                "discriminator",
                f"The discriminator was right about at least 99.9% of the examples in epoch "
                f"{epoch + 1}, so the generator learns little. Try a penalty such as losses.R1, "
                "label smoothing, or a lower learning rate of the discriminator.",
            )

    def _examples_so_far(self) -> int:
        return int(tf.convert_to_tensor(self.model.part_trackers[0].count.value))

    def _warn(self, sign: str, message: str) -> None:
        if sign not in self.warned:
            self.warned.add(sign)
            warnings.warn(message, stacklevel=2)
