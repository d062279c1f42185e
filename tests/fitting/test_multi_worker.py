"""What `fit` does on several workers, in one process; test_strategies.py has real workers."""

import numpy as np
import pytest
import tensorflow as tf
from support import tiny

import keras_gen
from keras_gen.fitting import checkpoints, multi_worker


class Workers:
    """A strategy of workers, of which this process is one, that answers what the others would."""

    num_replicas_in_sync = 2

    def __init__(self, *of_others):
        self.of_others = of_others

    def experimental_distribute_values_from_function(self, function):
        return function(None)

    def gather(self, values, axis):
        return tf.concat([values, *self.of_others], axis)


@pytest.mark.parametrize("error", [tf.errors.UnavailableError, tf.errors.CancelledError])
def test_the_end_of_another_worker_is_an_error_of_its_own(error, monkeypatch):
    def fail(**arguments):
        raise error(None, None, "Connection reset by peer")

    model = tiny("autoencoder")
    x = np.zeros((8, 8, 8, 1), "float32")
    monkeypatch.setattr("keras.Model.fit", lambda self, **arguments: fail())
    with pytest.raises(error):
        model.fit(x)
    monkeypatch.setattr(multi_worker, "several_workers", lambda strategy: True)
    message = r"Another worker ended, or cannot be reached: .*Connection reset by peer"
    with pytest.raises(keras_gen.WorkerLostError, match=message):
        model.fit(x)


def test_one_worker_alone_uses_a_copy_of_the_model(monkeypatch):
    model = tiny("autoencoder")
    assert multi_worker.without_strategy(model) is model
    monkeypatch.setattr(multi_worker, "several_workers", lambda strategy: True)
    alone = multi_worker.without_strategy(model)
    assert alone is not model
    for copied, weight in zip(alone.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(copied, weight)


def test_common_numbers_are_those_that_all_workers_have():
    others = tf.constant([7, 3, -1], tf.int64)
    assert multi_worker.common_numbers(Workers(others), [3, 5, 7], at_most=3) == [3, 7]
    assert multi_worker.common_numbers(Workers(others), [], at_most=3) == []


@pytest.mark.parametrize(
    ("of_other", "resumed"), [([1_000000000], "epoch-000001-step-000000000"), ([], None)]
)
def test_workers_continue_from_a_checkpoint_that_all_have(of_other, resumed, tmp_path, monkeypatch):
    """The newest checkpoint of this worker, which the other one lacks, is removed."""
    model = tiny("autoencoder", run_eagerly=True)
    x = np.random.default_rng(0).random((8, 8, 8, 1), dtype=np.float32)
    callback = keras_gen.Checkpoints(tmp_path)
    model.fit(x, epochs=2, verbose=0, callbacks=[callback])
    callback.several_workers = True
    numbers = tf.constant([*of_other, -1, -1][:2], tf.int64)
    monkeypatch.setattr(checkpoints, "common_numbers", multi_worker.common_numbers)
    if resumed is None:
        with pytest.raises(keras_gen.CheckpointError, match="a checkpoint that all workers have"):
            callback._newest(Workers(numbers))
        return
    assert callback._newest(Workers(numbers)).name == resumed
    assert [folder.name for folder in tmp_path.iterdir()] == [resumed]
