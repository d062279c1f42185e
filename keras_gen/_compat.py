"""The only module that uses private names of Keras and TensorFlow.

Each use is guarded: where the private name is missing, the function takes a slower public way or
raises an error that names the supported versions. `tests/test_compat.py` has one canary test per
name, which fails when a new version of Keras changes its meaning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf


def all_layers(network: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Return a network and all layers inside it, nested and wrapped ones included."""
    if hasattr(network, "_flatten_layers"):
        return list(network._flatten_layers())
    return list(_public_layers(network))


def _public_layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yield a layer and its sublayers, as far as public attributes show them."""
    yield layer
    for inner in [*getattr(layer, "layers", []), getattr(layer, "layer", None)]:
        if isinstance(inner, keras.layers.Layer):
            yield from _public_layers(inner)


def step_counter(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """Return the variable that counts every call of `apply`, also while gradients accumulate.

    The public `iterations` counts updates of the weights. It stands still while gradients
    accumulate.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    return getattr(inner, "_iterations", inner.iterations)


def adam_slots(
    optimizer: keras.optimizers.Adam, variable: keras.Variable
) -> tuple[keras.Variable, keras.Variable] | None:
    """Return the first and second moment that Adam keeps for a variable, or None if unknown."""
    names = ("_get_variable_index", "_momentums", "_velocities")
    if not all(hasattr(optimizer, name) for name in names):
        return None
    index = optimizer._get_variable_index(variable)
    return optimizer._momentums[index], optimizer._velocities[index]


def one_step_function(
    model: keras.Model, keras_function: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    """Return a training function that passes logs directly, for one device and one step.

    Keras wraps the data and the logs of each step in a `tf.experimental.Optional`. For a small
    network that takes about a tenth of the step.

    Args:
        model: A model that trains in a graph, on one device, one step per execution.
        keras_function: The training function that Keras made. It is used for data that are not a
            `tf.data.Iterator`, and where Keras has changed.
    """
    if not hasattr(model, "_autoconvert_optionals"):
        return keras_function
    step = tf.function(
        model.train_step, reduce_retracing=True, jit_compile=model.jit_compile, autograph=False
    )
    step = model._autoconvert_optionals(step)
    on_iterator = tf.function(
        lambda iterator: step(iterator.get_next()), reduce_retracing=True, autograph=False
    )

    def train_function(batches: Any) -> Any:
        if isinstance(batches, tf.data.Iterator):
            return on_iterator(batches)
        return keras_function(batches)

    return train_function


def several_workers(strategy: tf.distribute.Strategy) -> bool:
    """Return whether a strategy trains in several processes."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return False
    return bool(strategy.cluster_resolver.cluster_spec().jobs)


class MultiWorkerModel(keras.Model):
    """A Keras model whose `fit` and `evaluate` work under `MultiWorkerMirroredStrategy`.

    Keras 3.15 fails there for two reasons (github.com/keras-team/keras/issues/20585). Each method
    below repairs one of them, and leaves every other version of Keras alone.
    """

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> Any:
        """Build metrics from this worker's part of a batch.

        Keras would average batches over the workers, which fails.
        """
        if not _NEEDS_REPAIR or iterator is None or not several_workers(self.distribute_strategy):
            return super()._maybe_symbolic_build(iterator, data_batch)
        batches = next(part for _, _, part in iterator)
        local = self.distribute_strategy.experimental_local_results
        batch = tf.nest.map_structure(lambda values: local(values)[0], next(batches))
        with self.distribute_strategy.scope():
            return self._symbolic_build(data_batch=batch)

    def _make_function(self, step_function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Make a step whose logs are vectors of one number.

        Keras averages logs over the workers along an axis, which scalars do not have.
        """
        if not _NEEDS_REPAIR or not several_workers(self.distribute_strategy):
            return super()._make_function(step_function)

        def step(data: Any) -> dict[str, tf.Tensor]:
            return {name: tf.reshape(value, (1,)) for name, value in step_function(data).items()}

        return super()._make_function(step)


_NEEDS_REPAIR = keras.__version__.startswith("3.15.")
