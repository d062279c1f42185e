"""Functions and a class that use private names of Keras and TensorFlow.

The only other module with such names is `serving/_clean_check.py`. If a version of Keras lacks a
private name, `replace_layer` raises a `ValueError`, and `adam_slots` returns None. The other
functions then work without the name, and may be slower or less exact. `tests/test_compat.py` tests
each private name. A test fails if a new version of Keras changes the meaning of the name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

try:
    from keras.src.backend.common import global_state
except ImportError:
    global_state = None


def all_layers(network: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Return a network and all layers inside it, at every depth.

    The list includes the layers of nested models, and the layers inside wrappers such as
    `keras.layers.TimeDistributed`.
    """
    if hasattr(network, "_flatten_layers"):
        return list(network._flatten_layers())
    return list(_public_layers(network))


def _public_layers(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yield a layer and, recursively, all layers in its attributes `layers` and `layer`."""
    yield layer
    for inner in [*getattr(layer, "layers", []), getattr(layer, "layer", None)]:
        if isinstance(inner, keras.layers.Layer):
            yield from _public_layers(inner)


def step_counter(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """Return the variable that counts all calls of `optimizer.apply`.

    With gradient accumulation, some calls of `apply` do not update the weights. The public
    attribute `optimizer.iterations` counts only the calls that update the weights. The returned
    variable counts all calls. If the installed version of Keras has no such variable, the function
    returns `optimizer.iterations`.
    """
    # only a `LossScaleOptimizer` has the attribute `inner_optimizer`
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return getattr(inner, "_iterations", inner.iterations)


def adam_slots(
    optimizer: keras.optimizers.Adam, variable: keras.Variable
) -> tuple[keras.Variable, keras.Variable] | None:
    """Return the two running means that Adam stores for one trainable variable.

    Returns:
        The running mean of the variable's gradient, and the running mean of the squared gradient.
        None, if the installed version of Keras does not store them in the expected private
        attributes of the optimizer.
    """
    names = ("_get_variable_index", "_momentums", "_velocities")
    if not all(hasattr(optimizer, name) for name in names):
        return None
    index = optimizer._get_variable_index(variable)
    return optimizer._momentums[index], optimizer._velocities[index]


def one_step_function(
    model: keras.Model, keras_function: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    """Return a function that runs one training step faster than the function of Keras.

    Keras wraps the data and the logged values of each step in a `tf.experimental.Optional`, and a
    `tf.function` looks for the trace of its arguments in each call. For a small network, both
    together take about a seventh of the time of a step. The returned function omits the wrapping,
    and looks for a trace only if the batches have a new shape or type.

    Args:
        model: A model that trains in a TensorFlow graph, on one device, with one step per
            execution.
        keras_function: The function that Keras compiled for a training step.

    Returns:
        The faster function. It calls `keras_function` if the data are not a `tf.data.Iterator`.
        If Keras lacks a private name that the faster function needs, the result is
        `keras_function` itself.
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
    spec: Any = None
    traced: Any = None

    def train_function(batches: Any) -> Any:
        nonlocal spec, traced
        if not isinstance(batches, tf.data.Iterator):
            return keras_function(batches)
        if tf.config.functions_run_eagerly():
            return on_iterator(batches)
        if batches.element_spec != spec:
            traced = on_iterator.get_concrete_function(batches)
            spec = batches.element_spec
        return traced(batches)

    return train_function


def replace_layer(owner: keras.layers.Layer, name: str, layer: keras.layers.Layer) -> None:
    """Set an attribute of a model or layer to a new layer, and make Keras forget the earlier layer.

    Without this function, Keras would still save the earlier layer with the model.

    Args:
        owner: The model or layer.
        name: Name of the attribute.
        layer: The new layer.

    Raises:
        ValueError: If the installed version of Keras cannot forget the earlier layer.
    """
    before = getattr(owner, name)
    if before is not None and before is not layer:
        untrack = getattr(getattr(owner, "_tracker", None), "untrack", None)
        if untrack is None:
            raise ValueError(
                f"`{name}` of {owner.name} must be set in its constructor, because this version of "
                f"Keras ({keras.__version__}) cannot replace it later. Received: {layer!r} in "
                f"place of {before!r}. Make a new model with this `{name}`."
            )
        untrack(before)
    setattr(owner, name, layer)


def saves_hdf5() -> bool:
    """Return whether Keras is currently saving a model in its old HDF5 format.

    A keras_gen model cannot be saved in this format. Therefore the model raises an error if this
    function returns True. Without the error, Keras would delete the optimizer from the arguments of
    `compile` that the model stores, and every later call of `save` would fail.
    """
    if global_state is None:
        return False
    return bool(global_state.get_global_attribute("use_legacy_config", False))


def several_workers(strategy: tf.distribute.Strategy) -> bool:
    """Return whether a `tf.distribute` strategy trains on several workers.

    The result is also True for a `MultiWorkerMirroredStrategy` whose cluster has only one worker.
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return False
    return bool(strategy.cluster_resolver.cluster_spec().jobs)


class MultiWorkerModel(keras.Model):
    """A Keras model whose `fit` and `evaluate` work under `MultiWorkerMirroredStrategy`.

    In Keras 3.15, `fit` and `evaluate` fail under this strategy because of two bugs
    (github.com/keras-team/keras/issues/20585). This class overrides two methods of `keras.Model`,
    and each of them avoids one bug. With other versions of Keras, or without several workers, each
    method only calls the method that it overrides.
    """

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> Any:
        """Build the metrics of the model from the first batch of this worker.

        Keras 3.15 instead tries to average the first batches of all workers, which fails.
        """
        if not _NEEDS_REPAIR or iterator is None or not several_workers(self.distribute_strategy):
            return super()._maybe_symbolic_build(iterator, data_batch)
        batches = next(part for _, _, part in iterator)
        local = self.distribute_strategy.experimental_local_results
        batch = tf.nest.map_structure(lambda values: local(values)[0], next(batches))
        with self.distribute_strategy.scope():
            return self._symbolic_build(data_batch=batch)

    def _make_function(self, step_function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Make the function that runs one step of `fit` or `evaluate`.

        With several workers, the step reshapes each logged value from `()` to `(1,)`. Keras needs
        this axis, because it averages the logged values of the workers along the first axis.
        """
        if not _NEEDS_REPAIR or not several_workers(self.distribute_strategy):
            return super()._make_function(step_function)

        def step(data: Any) -> dict[str, tf.Tensor]:
            return {name: tf.reshape(value, (1,)) for name, value in step_function(data).items()}

        return super()._make_function(step)


_NEEDS_REPAIR = keras.__version__.startswith("3.15.")
