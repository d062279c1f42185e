"""Residual networks: the formula of their blocks, and what every network of a model must do."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import IMAGE, LATENTS

import keras_gen
from keras_gen import distributions, losses, networks

FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}


# === A reference in NumPy ===


def convolve(x, kernel, bias=0.0, stride=1):
    """Return the "same" convolution of images `[n, height, width, channels]`."""
    size = len(kernel)
    padding = [(0, 0)]
    for length in x.shape[1:3]:
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        padding.append((total // 2, total - total // 2))
    padded = np.pad(x, [*padding, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    return np.einsum("nhwcij,ijco->nhwo", windows[:, ::stride, ::stride], kernel) + bias


def normalize(x, gamma, beta, groups):
    """Return group normalization of images."""
    parts = np.split(x, groups, axis=-1)
    axes = (1, 2, 3)
    standard = [
        (part - part.mean(axes, keepdims=True)) / np.sqrt(part.var(axes, keepdims=True) + 1e-3)
        for part in parts
    ]
    return np.concatenate(standard, axis=-1) * gamma + beta


def average(x):
    """Return the mean of each 2×2 window. Windows at the edges can be smaller."""
    rows = [x[:, i : i + 2].mean(1, keepdims=True) for i in range(0, x.shape[1], 2)]
    x = np.concatenate(rows, 1)
    columns = [x[:, :, i : i + 2].mean(2, keepdims=True) for i in range(0, x.shape[2], 2)]
    return np.concatenate(columns, 2)


def repeat(x):
    return x.repeat(2, axis=1).repeat(2, axis=2)


def relu(x):
    return np.maximum(x, 0)


def randomized(network):
    """Return the network with random weights, because some of its weights are 0 at first."""
    random = np.random.default_rng(0)
    network.set_weights([random.normal(size=weight.shape) / 2 for weight in network.get_weights()])
    return network


def test_the_encoder_is_the_formula():
    network = randomized(networks.residual_encoder((7, 5, 2), (3,), filters=(16, 24), blocks=1))
    x = np.random.default_rng(1).normal(size=(4, 7, 5, 2))
    w = iter(weight.astype("float64") for weight in network.get_weights())
    h = convolve(x, next(w), next(w))
    branch = relu(normalize(h, next(w), next(w), groups=2))
    branch = convolve(branch, next(w), next(w), stride=2)
    branch = relu(normalize(branch, next(w), next(w), groups=2))
    h = average(h) + convolve(branch, next(w), next(w))
    # `get_weights` has the order of the layers: those of the branch first
    gamma, beta, kernel, bias, gamma_2, beta_2, shortcut, kernel_2, bias_2, *last = w
    branch = convolve(relu(normalize(h, gamma, beta, 2)), kernel, bias, stride=2)
    branch = convolve(relu(normalize(branch, gamma_2, beta_2, 3)), kernel_2, bias_2)
    h = convolve(average(h), shortcut) + branch
    gamma, beta, kernel, bias = last
    expected = relu(normalize(h, gamma, beta, 3)).reshape(4, -1) @ kernel + bias
    np.testing.assert_allclose(network(x), expected, rtol=1e-3, atol=1e-3)


def test_the_decoder_is_the_formula():
    network = randomized(
        networks.residual_decoder((3,), (7, 6, 2), filters=(16,), output_activation="tanh")
    )
    z = np.random.default_rng(1).normal(size=(4, 3))
    w = [weight.astype("float64") for weight in network.get_weights()]
    h = (z @ w[0] + w[1]).reshape(4, 4, 3, 16)
    branch = convolve(relu(normalize(h, w[2], w[3], 2)), w[4], w[5])
    branch = convolve(repeat(relu(normalize(branch, w[6], w[7], 2))), w[8], w[9])
    h = relu(normalize(repeat(h) + branch, w[10], w[11], 2))[:, :7]
    np.testing.assert_allclose(network(z), np.tanh(convolve(h, w[12], w[13])), rtol=1e-3, atol=1e-3)
    decoder = randomized(networks.residual_decoder((3,), (7, 6, 2), filters=(16,)))
    generator = randomized(networks.residual_generator(3, (7, 6, 2), filters=(16,)))
    np.testing.assert_allclose(
        generator(z), 1 / (1 + np.exp(-decoder(z).numpy())), rtol=1e-4, atol=1e-6
    )


def test_the_discriminator_is_the_formula_and_has_a_gradient_of_the_label():
    network = randomized(networks.residual_discriminator((5, 6, 1), (3,), 2, num_classes=2))
    x = np.random.default_rng(1).normal(size=(4, 5, 6, 1))
    labels = np.array([0, 1, 1, 0])
    w = [weight.astype("float64") for weight in network.get_weights()]

    def leaky(x):
        return np.where(x > 0, x, 0.2 * x)

    h = convolve(x, w[0], w[1])
    h = average(h) + convolve(leaky(convolve(leaky(h), w[2], w[3], stride=2)), w[4], w[5])
    h = h + convolve(leaky(convolve(leaky(h), w[6], w[7])), w[8], w[9])
    features = leaky(h).reshape(4, -1)
    vectors, kernel, bias = sorted(w[10:], key=lambda weight: -weight.size)
    if vectors.shape[0] != 2:
        vectors, kernel = kernel, vectors
    expected = features @ kernel + bias + np.sum(features * vectors[labels], 1, keepdims=True)
    np.testing.assert_allclose(network([x, labels]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spectral_normalization", [False, True])
def test_a_block_is_its_shortcut_before_training_except_with_spectral_norms(
    spectral_normalization,
):
    network = networks.residual_discriminator(
        IMAGE, (4,), blocks=2, spectral_normalization=spectral_normalization
    )
    x = tf.random.stateless_uniform((4, *IMAGE), (0, 0))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(network(x, training=True) ** 2)
    assert all(np.isfinite(each).all() for each in tape.gradient(loss, network.trainable_weights))
    zeros = [w for w in network.weights if len(w.shape) == 4 and not np.any(w.numpy())]
    assert len(zeros) == (0 if spectral_normalization else 2)


# === What the conformance suite checks for each kind of model, for these networks ===


def residual_vae():
    posterior, likelihood = distributions.DiagonalNormal(LATENTS), distributions.Bernoulli(IMAGE)
    model = keras_gen.VAE(
        networks.residual_encoder(IMAGE, (posterior.parameter_size,), (4,)),
        networks.residual_decoder((LATENTS,), likelihood.parameter_shape, (4,)),
        posterior,
        likelihood,
        seed=1,
    )
    return model, {"optimizer": "adam"}


def residual_gan():
    model = keras_gen.GAN(
        networks.residual_generator(LATENTS, IMAGE, (4,)),
        networks.residual_discriminator(IMAGE, (4,)),
        seed=1,
    )
    return model, {"penalties": [losses.R1(0.1)], "ema_momentum": 0.5}


KINDS = {"vae": residual_vae, "gan": residual_gan}


def tiny(kind, **compile_arguments):
    """The tiny residual model of a kind, compiled, the same each time."""
    keras.utils.set_random_seed(0)
    model, arguments = KINDS[kind]()
    model.compile(**arguments, **compile_arguments)
    return model


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def weights_after(model, images, **arguments):
    model.fit(images, **FIT, **arguments)
    return model.get_weights()


@functools.cache
def trained_eagerly(kind):
    """Return a model trained eagerly, and its losses, to compare the other modes with."""
    images = np.random.default_rng(0).random((16, *IMAGE), dtype=np.float32)
    model = tiny(kind, run_eagerly=True)
    return model, model.fit(images, epochs=2, **FIT).history["loss"]


@pytest.mark.parametrize("mode", ["two steps per execution", "mixed_float16", "XLA"])
def test_every_mode_is_the_same_training(kind, images, mode):
    """Random numbers under XLA differ, so that only the losses are compared there."""
    expected, expected_losses = trained_eagerly(kind)
    if mode == "mixed_float16":
        keras.config.set_dtype_policy(mode)
        model = tiny(kind, run_eagerly=True)
        model.optimizer.dynamic_scale.assign(256)  # with a larger one, the first steps overflow
    elif mode == "XLA":
        model = tiny(kind, jit_compile=True)
    else:
        model = tiny(kind, jit_compile=False, steps_per_execution=2)
    history = model.fit(images[:16], epochs=2, **FIT).history["loss"]
    exact = mode.startswith("two")
    np.testing.assert_allclose(history, expected_losses, rtol=1e-4 if exact else 0.05)
    if exact:
        for mine, theirs in zip(model.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_allclose(mine, theirs, atol=1e-4)


def test_a_saved_model_continues_bit_for_bit_and_its_export_gives_the_same_images(
    kind, images, tmp_path
):
    model = tiny(kind, run_eagerly=True)
    weights_after(model, images[:8])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    loaded.run_eagerly = True
    for mine, theirs in zip(
        weights_after(model, images[:8]), weights_after(loaded, images[:8]), strict=True
    ):
        np.testing.assert_array_equal(mine, theirs)
    model.export(tmp_path / "exported")
    generate = tf.saved_model.load(str(tmp_path / "exported")).signatures["generate"]
    seeds = tf.range(3, dtype=tf.int64)
    np.testing.assert_allclose(
        generate(seed=seeds)["outputs"], model.generate(seed=seeds), atol=1e-5
    )


def test_a_stopped_training_resumes_bit_for_bit(kind, images, tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise KeyboardInterrupt

    def train(folder, *callbacks):
        model = tiny(kind, run_eagerly=True)
        callbacks = [keras_gen.Checkpoints(tmp_path / folder, every=1), *callbacks]
        model.fit(images[:16], callbacks=callbacks, **FIT)
        return model.get_weights()

    expected = train("whole")
    with pytest.raises(KeyboardInterrupt):
        train("stopped", Stop())
    for mine, theirs in zip(train("stopped"), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_two_replicas_train_like_one(kind, images, two_replicas):
    expected = tiny(kind, run_eagerly=True).fit(images[:16], **FIT).history["loss"]
    with two_replicas.scope():
        model = tiny(kind, jit_compile=False)
    dataset = tf.data.Dataset.from_tensor_slices(images[:16]).batch(8)
    np.testing.assert_allclose(model.fit(dataset, verbose=0).history["loss"], expected, rtol=0.05)
