"""Adam by TensorFlow's fused operation, against Keras's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import tiny

from keras_gen.fitting.fused_adam import compute_in_float32, fuse


@pytest.mark.parametrize(
    ("kind", "jit_compile"), [("autoencoder", False), ("autoencoder", True), ("gan", False)]
)
def test_training_ends_with_the_weights_of_keras_own(make_model, jit_compile, images, request):
    weights = []
    for plain in (False, True):
        if plain:
            request.getfixturevalue("keras_own_adam")
        model = make_model(jit_compile=jit_compile)
        model.fit(images[:16], batch_size=8, epochs=5, verbose=0)
        weights.append(
            [*model.get_weights(), *(value.numpy() for value in model.optimizer.variables)]
        )
    for mine, theirs in zip(*weights, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def steps(optimizer, gradients):
    variable = keras.Variable(np.linspace(-1, 1, 6, dtype="float32").reshape(3, 2))
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply([gradient], [variable])
    return variable.numpy()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"clipnorm": 0.1},
        {"weight_decay": 0.1},
        {"beta_1": 0.0, "epsilon": 1e-2},
        {"amsgrad": True},
    ],
)
def test_whatever_the_settings(arguments):
    gradients = np.random.default_rng(0).normal(size=(4, 3, 2)).astype("float32")
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    mine, keras_own = (keras.optimizers.Adam(schedule, name="adam", **arguments) for _ in range(2))
    np.testing.assert_allclose(steps(fuse(mine), gradients), steps(keras_own, gradients), rtol=1e-5)
    assert mine.get_config() == keras_own.get_config()
    slices = [tf.IndexedSlices(gradients[0, :1], [2], (3, 2))] * 3
    mine, keras_own = (keras.optimizers.Adam(0.1) for _ in range(2))
    np.testing.assert_allclose(steps(fuse(mine), slices), steps(keras_own, slices), rtol=1e-5)


def test_other_optimizers_and_several_devices_keep_their_own(two_replicas):
    assert "update_step" not in vars(fuse(keras.optimizers.SGD()))
    assert "update_step" not in vars(fuse(keras.optimizers.Adam(amsgrad=True)))
    assert "update_step" not in vars(fuse(keras.optimizers.AdamW()))
    with two_replicas.scope():
        assert "update_step" not in vars(tiny("autoencoder").optimizer)
    assert "update_step" in vars(tiny("autoencoder").optimizer)


# === Weights in bfloat16 ===


def adam_in_float32(cls, gradients, rate=0.01):
    """Return the weight 1 after steps with the gradients, in float32."""
    variable = keras.Variable([1.0], dtype="float32")
    optimizer = cls(rate)
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply([tf.constant([gradient])], [variable])
    return float(variable.numpy()[0])


@pytest.mark.parametrize("cls", [keras.optimizers.Adam, keras.optimizers.AdamW])
def test_adam_works_in_bfloat16_where_that_of_keras_does_nothing(cls):
    gradients = [0.5, 0.25, -0.125, 1.0]
    found = {}
    for ours in (False, True):
        variable = keras.Variable([1.0], dtype="bfloat16")
        optimizer = cls(0.01)
        optimizer.build([variable])
        if ours:
            compute_in_float32(optimizer, optimizer.variables)
        for gradient in gradients:
            optimizer.apply([tf.constant([gradient], tf.bfloat16)], [variable])
        found[ours] = float(np.asarray(variable, "float32")[0])
    expected = adam_in_float32(cls, gradients)
    assert found[True] == pytest.approx(expected, abs=4 * 2**-8)
    assert abs(found[True] - 1) > 0.5 * abs(expected - 1)
    assert found[False] == pytest.approx(1, abs=1e-3)  # the fault of Keras


def test_adam_updates_variables_of_32_bits_as_before():
    variables = [keras.Variable([1.0], dtype=dtype) for dtype in ("float32", "bfloat16")]
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(variables)
    compute_in_float32(optimizer, optimizer.variables)
    optimizer.apply([tf.constant([0.5]), tf.constant([0.5], tf.bfloat16)], variables)
    expected = adam_in_float32(keras.optimizers.Adam, [0.5])
    assert float(variables[0].numpy()[0]) == expected


@pytest.mark.parametrize("gradients", [[0.5, 0.25, -0.125, 1.0], [1e-6, -2e-6, 3e-6, 1e-6]])
@pytest.mark.parametrize("cls", [keras.optimizers.Adam, keras.optimizers.AdamW])
def test_each_step_in_bfloat16_is_that_of_float32_up_to_rounding(cls, gradients):
    optimizers = [cls(0.01) for _ in range(2)]
    variables = [keras.Variable([0.0], dtype=dtype) for dtype in ("float32", "bfloat16")]
    for optimizer, variable in zip(optimizers, variables, strict=True):
        optimizer.build([variable])
    compute_in_float32(optimizers[1], variables)
    for gradient in gradients:
        for optimizer, variable in zip(optimizers, variables, strict=True):
            optimizer.apply([tf.constant([gradient], variable.dtype)], [variable])
        expected, found = (float(np.asarray(variable, "float32")[0]) for variable in variables)
        assert found == pytest.approx(expected, rel=0.03)


def test_optimizers_that_work_in_bfloat16_do_not_change_and_others_are_refused():
    variable = keras.Variable([1.0], dtype="bfloat16")
    for optimizer in (
        keras.optimizers.SGD(),
        keras.optimizers.RMSprop(),
        keras.optimizers.Adamax(),
        keras.optimizers.Lion(),
        keras.optimizers.Nadam(beta_2=0.9),
    ):
        compute_in_float32(optimizer, [variable])
        assert "update_step" not in vars(optimizer)
    refused = (keras.optimizers.Nadam(name="mine"), keras.optimizers.Adam(amsgrad=True))
    for optimizer in refused:
        compute_in_float32(optimizer, [keras.Variable([1.0], dtype="float32")])
        assert "update_step" not in vars(optimizer)
        message = f"works in bfloat16\\. Received: {optimizer.name} with beta_2=0\\.999"
        with pytest.raises(ValueError, match=message):
            compute_in_float32(optimizer, [variable])
