"""`fit` on several workers: two repairs of Keras 3.15 (github.com/keras-team/keras/issues/20585), and what workers need to know."""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator

import keras
import numpy as np
import tensorflow as tf

BROKEN = keras.__version__.startswith("3.15.")
"""Whether this Keras needs the repairs."""
_OF_OTHERS = (  # what TensorFlow raises here when another worker ends
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
)


class WorkerLostError(ConnectionError):
    """Another worker ended, or cannot be reached."""


class MultiWorkerModel(keras.Model):
    """A Keras model whose `fit` and `evaluate` work under `tf.distribute.MultiWorkerMirroredStrategy`."""

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Build metrics from this worker's part of a batch, where Keras would average batches over the workers, which it cannot."""
        if not BROKEN or iterator is None or not several_workers(self.distribute_strategy):
            return super()._maybe_symbolic_build(iterator, data_batch)
        batches = next(part for _, _, part in iterator)
        local = self.distribute_strategy.experimental_local_results
        batch = tf.nest.map_structure(lambda values: local(values)[0], next(batches))
        with self.distribute_strategy.scope():
            return self._symbolic_build(data_batch=batch)

    def _make_function(self, step_function):
        """A step whose logs are vectors of one number, since Keras averages them over the workers along an axis."""
        if not BROKEN or not several_workers(self.distribute_strategy):
            return super()._make_function(step_function)

        def step(data):
            return {name: tf.reshape(value, (1,)) for name, value in step_function(data).items()}

        return super()._make_function(step)


def several_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether a strategy is one of several processes."""
    return (
        isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)
        and strategy.extended._in_multi_worker_mode()
    )


def worker_index(strategy: tf.distribute.Strategy) -> int:
    """The number of this worker; 0 is the chief."""
    return strategy.cluster_resolver.task_id


def in_common(strategy: tf.distribute.Strategy, numbers: Iterable[int], most: int) -> list[int]:
    """The numbers, none negative, that all workers have; each asks at the same time, with `most` numbers or fewer."""
    padded = tf.constant([*numbers, *[-1] * most][:most], tf.int64)
    of_all = strategy.gather(
        strategy.experimental_distribute_values_from_function(lambda _: padded), axis=0
    )
    found, counts = np.unique(of_all.numpy(), return_counts=True)
    return [int(number) for number in found[counts == strategy.num_replicas_in_sync] if number >= 0]


def outside(model: keras.Model) -> keras.Model:
    """The same model outside its strategy, for what one worker does alone; others would have to join in each change of a variable."""
    if not several_workers(model.distribute_strategy):
        return model
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        return keras.saving.load_model(f"{folder}/model.keras")


@contextlib.contextmanager
def heeding_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Turn what TensorFlow raises when another worker ends into a `WorkerLostError`."""
    try:
        yield
    except _OF_OTHERS as error:
        if not several_workers(strategy):
            raise
        raise WorkerLostError(
            f"Another worker ended, or cannot be reached: {str(error).strip().splitlines()[-1]} Start all workers again; with "
            "Checkpoints they go on from the newest checkpoint that all of them have."
        ) from None
