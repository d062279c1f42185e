"""Canaries: each private name of Keras that `_compat` uses still means what it did."""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import tiny

from keras_gen import _compat


def nested():
    """A model with a model in it, a wrapped layer and a layer that is not a model's own."""
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)], name="inner")
    wrapped = keras.layers.SpectralNormalization(keras.layers.Dense(4, name="wrapped"))
    return keras.Sequential([keras.Input((4,)), wrapped, inner, keras.layers.Dense(1)])


@pytest.mark.parametrize("layers_of", [_compat.all_layers, _compat._public_layers])
def test_all_layers_has_nested_and_wrapped_ones(layers_of):
    network = nested()
    layers = list(layers_of(network))
    assert layers[0] is network
    expected = {network.layers[0].layer, network.get_layer("inner").layers[0], *network.layers}
    assert expected <= set(layers)
    assert hasattr(network, "_flatten_layers")


def test_the_step_counter_counts_accumulated_gradients_too():
    variable = keras.Variable([1.0, 2.0])
    optimizer = keras.optimizers.Adam(gradient_accumulation_steps=2)
    optimizer.build([variable])
    scaled = keras.optimizers.LossScaleOptimizer(optimizer)
    for count in range(1, 5):
        optimizer.apply([tf.ones(2)], [variable])
        assert int(_compat.step_counter(optimizer).value) == count
        assert int(_compat.step_counter(scaled).value) == count
        assert int(optimizer.iterations) == count // 2


def test_the_slots_of_adam_are_its_moments():
    first, second = keras.Variable([1.0]), keras.Variable([2.0, 3.0])
    optimizer = keras.optimizers.Adam(beta_1=0.75, beta_2=0.5)
    optimizer.build([first, second])
    optimizer.apply([tf.constant([1.0]), tf.constant([2.0, 4.0])], [first, second])
    mean, square = _compat.adam_slots(optimizer, second)
    np.testing.assert_allclose(mean, [0.5, 1.0])
    np.testing.assert_allclose(square, [2.0, 8.0])
    assert _compat.adam_slots(object(), second) is None


def test_keras_still_wraps_its_data_in_optionals():
    """`one_step_function` is worth its lines as long as Keras has this; see test_conformance.py."""
    model = tiny("autoencoder")
    step = model._autoconvert_optionals(lambda data: data)
    given = (tf.constant(1.0), tf.experimental.Optional.empty(tf.TensorSpec(())))
    assert step(given) == (given[0], None)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("_maybe_symbolic_build", ["self", "iterator", "data_batch"]),
        ("_symbolic_build", ["self", "iterator", "data_batch"]),
        ("_make_function", ["self", "step_function"]),
    ],
)
def test_the_methods_that_several_workers_repair_are_there(name, parameters):
    assert list(inspect.signature(getattr(keras.Model, name)).parameters) == parameters


def test_one_process_is_not_several_workers(two_replicas):
    assert not _compat.several_workers(tf.distribute.get_strategy())
    assert not _compat.several_workers(two_replicas)


def test_the_repairs_for_several_workers_do_what_they_say(monkeypatch, images):
    """In one process: logs become vectors, and metrics are built from one worker's batch."""
    model = tiny("autoencoder")
    local = tf.data.Dataset.from_tensors(images[:8])
    expected = model.test_on_batch(images[:8], return_dict=True)
    model.reset_metrics()
    monkeypatch.setattr(_compat, "several_workers", lambda strategy: True)
    logs = model._make_function(model.test_step)(iter(local))
    assert {value.shape for value in logs.values()} == {(1,)}
    assert {name: float(value[0]) for name, value in logs.items()} == pytest.approx(expected)
    built = []
    monkeypatch.setattr(model, "_symbolic_build", lambda data_batch: built.append(data_batch))
    model._maybe_symbolic_build(iterator=iter([(0, None, iter(local))]))
    assert [batch.shape for batch in built] == [(8, 8, 8, 1)]


def test_a_layer_is_forgotten_when_another_takes_its_place():
    """`_tracker` of Keras still does this. Without it, there is an error."""
    owner = keras.Model()
    first, second = keras.layers.Dense(2, name="first"), keras.layers.Dense(2, name="second")
    owner.part = None
    for layer in (first, first, second):
        _compat.replace_layer(owner, "part", layer)
    assert owner.part is second
    assert owner.layers == [second]

    class Other:
        name = "other"
        part = first

    with pytest.raises(ValueError, match="`part` of other must be set in its constructor"):
        _compat.replace_layer(Other(), "part", second)


def test_keras_says_when_it_saves_an_hdf5_file(tmp_path, monkeypatch):
    seen = []

    class Layer(keras.layers.Layer):
        def get_config(self):
            seen.append(_compat.saves_hdf5())
            return super().get_config()

    model = keras.Sequential([keras.Input((2,)), Layer()])
    model.save(tmp_path / "model.keras")
    assert seen
    assert not any(seen)
    seen.clear()
    model.save(tmp_path / "model.h5")
    assert seen
    assert all(seen)
    assert not _compat.saves_hdf5()
    monkeypatch.setattr(_compat, "global_state", None)
    assert not _compat.saves_hdf5()


def test_batches_of_many_static_sizes_are_traced_twice(images, monkeypatch):
    """The second trace is that of all further sizes."""
    traces = []
    iterator_type = type(iter(tf.data.Dataset.range(1)))
    get_next = iterator_type.get_next

    def counted(iterator):
        if not tf.executing_eagerly():
            traces.append(iterator.element_spec)
        return get_next(iterator)

    monkeypatch.setattr(iterator_type, "get_next", counted)
    model = tiny("autoencoder")
    for size in (2, 3, 4, 5):
        model.fit(tf.data.Dataset.from_tensor_slices(images).batch(size, True).take(2), verbose=0)
    assert len(traces) == 2
