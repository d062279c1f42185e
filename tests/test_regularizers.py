"""Regularizers of the latents, against numpy and finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen import regularizers

RANDOM = np.random.default_rng(0)
WEIGHTS = [RANDOM.normal(size=shape) for shape in ((6, 5), (5,), (5, 3))]
X = RANDOM.normal(size=(4, 6))


def encode(x, w1, b1, w2):
    return np.tanh(x @ w1 + b1) @ w2


def squared_jacobian(x, *weights):
    """Return ‖∂z/∂x‖²_F, by central differences in float64."""
    total = 0.0
    for step in 1e-5 * np.eye(6):
        derivative = (encode(x + step, *weights) - encode(x - step, *weights)) / 2e-5
        total = total + np.sum(derivative**2, axis=1)
    return total


def test_norms_of_the_latents():
    z = encode(X, *WEIGHTS).astype("float32")
    np.testing.assert_allclose(
        regularizers.LatentL1(0.3)(z, None, None), 0.3 * np.linalg.norm(z, 1, axis=1), rtol=1e-6
    )
    np.testing.assert_allclose(
        regularizers.LatentL2(0.3)(z, None, None), 0.15 * np.linalg.norm(z, axis=1) ** 2, rtol=1e-6
    )


@pytest.mark.parametrize(
    "compiled", [{}, {"jit_compile": False}, {"jit_compile": True}], ids=["eager", "graph", "XLA"]
)
def test_contractive_and_its_gradient_equal_finite_differences(compiled):
    variables = [tf.Variable(weight, dtype=tf.float32) for weight in WEIGHTS]

    def value_and_gradient():
        with tf.GradientTape() as tape:
            x = tf.constant(X, tf.float32)
            values = regularizers.Contractive(0.7)(
                None, x, lambda x: tf.tanh(x @ variables[0] + variables[1]) @ variables[2]
            )
        return values, tape.gradient(values, variables[0])

    if compiled:
        value_and_gradient = tf.function(value_and_gradient, **compiled)
    values, gradient = value_and_gradient()
    np.testing.assert_allclose(values, 0.7 * squared_jacobian(X, *WEIGHTS), rtol=1e-5)
    direction = RANDOM.normal(size=(6, 5))
    up = squared_jacobian(X, WEIGHTS[0] + 1e-4 * direction, *WEIGHTS[1:]).sum()
    down = squared_jacobian(X, WEIGHTS[0] - 1e-4 * direction, *WEIGHTS[1:]).sum()
    derivative = 0.7 * (up - down) / 2e-4
    assert np.sum(np.asarray(gradient) * direction) == pytest.approx(derivative, rel=1e-4)


def test_arguments_are_checked_and_configurations_round_trip():
    for kind in (regularizers.LatentL1, regularizers.LatentL2, regularizers.Contractive):
        config = keras.saving.serialize_keras_object(kind(0.25))
        again = keras.saving.deserialize_keras_object(config)
        assert repr(again) == f"{kind.__name__}(weight=0.25)"
        with pytest.raises(
            ValueError, match=f"`weight` of {kind.__name__} must be a positive number"
        ):
            kind(0)
    with pytest.raises(NotImplementedError, match="one value per example"):
        regularizers.LatentRegularizer(1.0)(None, None, None)
