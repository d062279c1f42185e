"""Regularizers of the latents, against numpy and finite differences."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import IMAGE, tiny_autoencoder

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


def test_only_the_mmd_needs_a_seed():
    kinds = (regularizers.LatentL1, regularizers.Contractive, regularizers.LatentMMD)
    assert [kind.uses_seed for kind in kinds] == [False, False, True]


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


def test_contractive_of_latents_with_several_axes_is_that_of_the_flat_latents():
    kernel = tf.constant(RANDOM.normal(size=(6, 4)), tf.float32)
    x = tf.constant(X, tf.float32)
    values = regularizers.Contractive(0.7)(
        None, x, lambda x: tf.reshape(tf.tanh(x @ kernel), (-1, 2, 2))
    )
    flat = regularizers.Contractive(0.7)(None, x, lambda x: tf.tanh(x @ kernel))
    np.testing.assert_allclose(values, flat, rtol=1e-6)


def double_loop_mmd(z, prior_samples, kernel):
    """Return the unbiased estimate of MMD² by its definition, with one pair at a time."""

    def k(a, b):
        squared = sum((a_i - b_i) ** 2 for a_i, b_i in zip(a, b, strict=True))
        total = 0.0
        for scale in (0.1, 0.2, 0.5, 1, 2, 5, 10):
            constant = scale * 2 * len(a)  # C = 2n, times the scale
            total += (
                constant / (constant + squared) if kernel == "imq" else np.exp(-squared / constant)
            )
        return total

    m = len(z)
    within, across = 0.0, 0.0
    for i in range(m):
        for j in range(m):
            if i != j:
                within += k(z[i], z[j]) + k(prior_samples[i], prior_samples[j])
            across += k(z[i], prior_samples[j])
    return within / (m * (m - 1)) - 2 * across / m**2


@pytest.mark.parametrize("rows", [9, 2])
@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_the_mmd_is_that_of_a_double_loop(kernel, rows):
    z = 0.5 + 1.3 * RANDOM.normal(size=(rows, 3))
    prior_samples = RANDOM.normal(size=(rows, 3))
    values = regularizers.LatentMMD(0.3, kernel).between(
        tf.constant(z, tf.float32), tf.constant(prior_samples, tf.float32)
    )
    assert values.shape == (rows,)
    expected = 0.3 * double_loop_mmd(z, prior_samples, kernel)
    assert float(tf.reduce_mean(values)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kernel", ["imq", "rbf"])
def test_the_mmd_is_unbiased_and_compares_with_the_standard_normal_distribution(kernel):
    """Latents of N(0, I) give 0 in the mean, and others a positive number."""
    mmd = regularizers.LatentMMD(1.0, kernel)
    means = {}
    for scale in (1.0, 2.0):
        batches = [
            tf.reduce_mean(
                mmd(
                    scale * tf.random.stateless_normal((8, 2), (1, batch)),
                    None,
                    None,
                    seed=tf.constant([2, batch]),
                )
            )
            for batch in range(400)
        ]
        means[scale] = (np.mean(batches), np.std(batches) / np.sqrt(len(batches)))
    mean, error = means[1.0]
    assert abs(mean) < 4 * error
    mean, error = means[2.0]
    assert mean > 10 * error


def test_the_mmd_of_a_batch_of_one_is_zero_and_its_gradient_is_finite():
    mmd = regularizers.LatentMMD(1.0)
    one = tf.ones((1, 2))
    np.testing.assert_array_equal(mmd.between(one, one), [0.0])
    z = tf.Variable(tf.zeros((4, 2)))  # all distances are 0
    with tf.GradientTape() as tape:
        value = tf.reduce_mean(mmd.between(z, tf.ones((4, 2))))
    gradient = tape.gradient(value, z).numpy()
    assert np.all(np.isfinite(gradient))
    assert np.all(gradient < 0)  # the latents move to the samples of the prior


@pytest.mark.parametrize("compiled", [{"run_eagerly": True}, {"jit_compile": True}])
def test_an_autoencoder_with_mmd_gets_new_prior_samples_in_each_step(compiled):
    model, arguments = tiny_autoencoder(l2=0.0)
    arguments["optimizer"] = keras.optimizers.SGD(0.0)
    model.compile(**arguments, regularizers=regularizers.LatentMMD(2.0), **compiled)
    images = np.random.default_rng(0).random((8, *IMAGE), dtype=np.float32)
    losses = [
        model.fit(images, batch_size=8, verbose=0).history["penalty_loss"][0] for _ in range(3)
    ]
    assert len(set(losses)) == 3  # the weights stay the same
    first = model.evaluate(images, batch_size=8, verbose=0, return_dict=True)
    second = model.evaluate(images, batch_size=8, verbose=0, return_dict=True)
    assert first == second
    total = first["reconstruction_loss"] + first["penalty_loss"] + first["regularization_loss"]
    assert first["loss"] == pytest.approx(total, rel=1e-5)


def test_the_kernel_is_checked_and_saved():
    mmd = regularizers.LatentMMD(0.25, kernel="rbf")
    config = keras.saving.serialize_keras_object(mmd)
    again = keras.saving.deserialize_keras_object(config)
    assert repr(again) == "LatentMMD(weight=0.25, kernel='rbf')"
    with pytest.raises(ValueError, match="`kernel` of LatentMMD must be 'imq' or 'rbf'"):
        regularizers.LatentMMD(1.0, kernel="linear")
    with pytest.raises(ValueError, match="`weight` of LatentMMD must be a positive number"):
        regularizers.LatentMMD(-1.0)


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
