"""What `fit` needs on several workers."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from keras_gen._compat import several_workers

_FROM_OTHER_WORKERS = (  # what TensorFlow raises here when another worker ends
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


class WorkerLostError(ConnectionError):
    """Another worker ended, or cannot be reached."""


def worker_index(strategy: tf.distribute.Strategy) -> int:
    """Return the index of this worker; the chief has index 0."""
    return strategy.cluster_resolver.task_id


def common_numbers(
    strategy: tf.distribute.Strategy, numbers: Iterable[int], at_most: int
) -> list[int]:
    """Return the numbers that all workers have. Every worker must call this at the same time.

    Args:
        strategy: The strategy of all workers.
        numbers: The numbers of this worker, none of them negative.
        at_most: Largest number of numbers that a worker may have.
    """
    padded = tf.constant([*numbers, *[-1] * at_most][:at_most], tf.int64)
    local = strategy.experimental_distribute_values_from_function(lambda context: padded)
    gathered = strategy.gather(local, axis=0)
    found, counts = np.unique(gathered.numpy(), return_counts=True)
    of_all = found[counts == strategy.num_replicas_in_sync]
    return [int(number) for number in of_all if number >= 0]


def without_strategy(model: keras.Model) -> keras.Model:
    """Return a copy of the model outside the strategy of several workers.

    One worker can use the copy alone. With the model itself, the others would have to take part in
    every change of a variable. On one worker, this is the model itself.
    """
    if not several_workers(model.distribute_strategy):
        return model
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        return keras.saving.load_model(f"{folder}/model.keras")


@contextlib.contextmanager
def worker_errors(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turn what TensorFlow raises when another worker ends into a `WorkerLostError`."""
    try:
        yield
    except _FROM_OTHER_WORKERS as error:
        if not several_workers(strategy):
            raise
        raise WorkerLostError(
            "Another worker ended, or cannot be reached: "
            f"{str(error).strip().splitlines()[-1]} Start all workers again. With Checkpoints they "
            "continue from the newest checkpoint that all of them have."
        ) from None
