"""Functions for training in several processes, the workers."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

from keras_gen._compat import several_workers

_FROM_OTHER_WORKERS = (  # errors that TensorFlow raises if another worker ends
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


class WorkerLostError(ConnectionError):
    """Another worker process ended, or cannot be reached.

    The methods `fit`, `evaluate` and `predict` of a model raise this error.
    """


def worker_index(strategy: tf.distribute.Strategy) -> int:
    """Return the index of this worker. The chief worker has index 0."""
    return strategy.cluster_resolver.task_id


def common_numbers(
    strategy: tf.distribute.Strategy, numbers: Iterable[int], at_most: int
) -> list[int]:
    """Return the numbers that are in the list of every worker.

    For example, each worker has a list of the numbers of its undamaged checkpoints. The workers
    exchange their lists. Therefore every worker must call this function at the same point of the
    program.

    Args:
        strategy: The `tf.distribute` strategy of the workers.
        numbers: The list of this worker, without negative numbers and repetitions.
        at_most: Largest possible length of a worker's list. All workers must pass the same number.
    """
    padded = tf.constant([*numbers, *[-1] * at_most][:at_most], tf.int64)
    local = strategy.experimental_distribute_values_from_function(lambda context: padded)
    gathered = strategy.gather(local, axis=0)
    found, counts = np.unique(gathered.numpy(), return_counts=True)
    of_all = found[counts == strategy.num_replicas_in_sync]
    return [int(number) for number in of_all if number >= 0]


def without_strategy(model: keras.Model) -> keras.Model:
    """Return a copy of the model that one worker can use without the other workers.

    One worker alone cannot use the original model, because a variable of this model changes only if
    all workers take part. If there is only one worker, the function returns the original model.
    """
    if not several_workers(model.distribute_strategy):
        return model
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        return keras.saving.load_model(f"{folder}/model.keras")


@contextlib.contextmanager
def worker_errors(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Raise a `WorkerLostError` instead of TensorFlow's error if another worker ended.

    The same happens if another worker cannot be reached. With only one worker, TensorFlow's error
    is raised unchanged.
    """
    try:
        yield
    except _FROM_OTHER_WORKERS as error:
        if not several_workers(strategy):
            raise
        raise WorkerLostError(
            "Another worker ended, or cannot be reached: "
            f"{str(error).strip().splitlines()[-1]} Start all workers again. With Checkpoints, "
            "training continues from the newest checkpoint that all workers have."
        ) from None
