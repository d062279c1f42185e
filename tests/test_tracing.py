"""Methods of a model run in eager mode through graphs that are traced once per signature."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import IMAGE, conditional_vae, tiny, tiny_autoencoder, tiny_gan, tiny_vae

from keras_gen import VAE, distributions, networks
from keras_gen._tracing import Graphs

IMAGES = np.random.default_rng(0).random((5, *IMAGE), np.float32)
LABELS = np.array([0, 1, 2, 1, 0])


def calls(model, x, labels=None):
    """Return the results of all traced methods of `model`, by name, as arrays."""
    condition = {} if labels is None else {"condition": labels}
    number = len(x)
    results = {"generate": model.generate(number, seed=3, **condition)}
    latents = model.generate_rows(np.arange(number), **condition)["latents"]
    results["decode"] = model.decode(latents, **condition)
    if hasattr(model, "discriminate"):
        results["discriminate"] = model.discriminate(x, **condition)
        return {name: np.asarray(value) for name, value in results.items()}
    encoded = model.encode(x, **condition)
    results["encode"] = encoded.mean() if hasattr(encoded, "mean") else encoded
    results["latents"] = model.latents(x, **condition)
    results["reconstruct"] = model.reconstruct(x, **condition)
    results["score"] = model.score(x, **condition)
    results["score_per_feature"] = model.score_per_feature(x, **condition)
    if model.has_log_likelihood:
        results["log_weights"] = model.log_weights(x, num_samples=2, seed=(1, 2), **condition)
    return {name: np.asarray(value) for name, value in results.items()}


MAKERS = {
    "autoencoder": tiny_autoencoder,
    "vae": tiny_vae,
    "conditional_vae": conditional_vae,
    "gan": tiny_gan,
}


def made(kind):
    """Return a model with random weights. The autoencoder has a loss and a latent density."""
    model, arguments = MAKERS[kind]()
    if kind == "autoencoder":
        model.compile(**arguments)
        model.fit_latent_density(IMAGES.repeat(4, axis=0), 2)
    return model


@pytest.fixture
def traces(monkeypatch):
    """Count the traces: a list with the name of the method of each trace."""
    specs_of_traces = []
    get_graph = type(tf.function(lambda: 0)).get_concrete_function

    def counted(function, *specs):
        specs_of_traces.append(specs)
        return get_graph(function, *specs)

    monkeypatch.setattr(type(tf.function(lambda: 0)), "get_concrete_function", counted)
    return specs_of_traces


@pytest.mark.parametrize("kind", MAKERS)
def test_each_method_is_traced_once_for_all_batch_sizes_and_agrees_with_eager_mode(kind, traces):
    model = made(kind)
    labels = LABELS if model.num_classes else None
    graphs = calls(model, IMAGES, labels)
    traced = len(traces)
    assert traced >= 3
    for number in (1, 3):
        part = None if labels is None else labels[:number]
        for name, value in calls(model, IMAGES[:number], part).items():
            expected = graphs[name][:, :number] if name == "log_weights" else graphs[name][:number]
            if name != "log_weights":  # its samples depend on the size of the batch
                np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5, err_msg=name)
    assert len(traces) == traced
    tf.config.run_functions_eagerly(True)
    try:
        eager = calls(model, IMAGES, labels)
    finally:
        tf.config.run_functions_eagerly(False)
    assert len(traces) == traced
    for name, value in eager.items():
        np.testing.assert_allclose(value, graphs[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_loaded_model_is_traced_once(tmp_path, traces):
    made("conditional_vae").save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    for number in (5, 2, 4):
        model.reconstruct(IMAGES[:number], LABELS[:number])
    assert len(traces) == 1


@pytest.mark.parametrize(
    "kind", ["DiagonalNormal", "FullCovarianceNormal", "InverseAutoregressiveNormal"]
)
def test_a_posterior_from_a_graph_is_that_of_eager_mode(kind, traces):
    posterior = getattr(distributions, kind)(2)
    likelihood = distributions.Normal((4,))
    vae = VAE(
        networks.mlp((4,), (posterior.parameter_size,), hidden=(3,)),
        networks.mlp((2,), likelihood.parameter_shape, hidden=(3,)),
        posterior,
        likelihood,
    )
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    eager = posterior(vae.encoder(x))
    for number in (5, 3):
        encoded = vae.encode(x[:number])
        assert isinstance(encoded, type(eager))
        assert encoded.batch_shape == (number,)
    assert len(traces) == 1
    encoded = vae.encode(x)
    z = eager.sample(seed=(1, 2))
    np.testing.assert_allclose(encoded.sample(seed=(1, 2)), z, rtol=1e-5)
    np.testing.assert_allclose(encoded.log_prob(z), eager.log_prob(z), rtol=1e-4)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(vae.encode(x).log_prob(z))
    assert all(g is not None for g in tape.gradient(loss, vae.encoder.trainable_weights))


def test_changes_of_the_model_are_seen():
    vae = made("vae")
    latents = np.ones((2, vae.posterior.event_size), np.float32)
    before = np.asarray(vae.decode(latents))
    for weight in vae.decoder.weights:
        weight.assign_add(tf.ones_like(weight))
    after = np.asarray(vae.decode(latents))
    assert not np.allclose(before, after)
    vae.decoder = made("vae").decoder
    expected = keras.ops.sigmoid(vae.decoder(latents))
    np.testing.assert_allclose(vae.decode(latents), expected, rtol=1e-5)
    scores = np.asarray(vae.score(IMAGES))
    vae.seed += 1
    assert not np.allclose(scores, vae.score(IMAGES), rtol=1e-6)


def test_the_loss_of_the_last_compile_scores():
    autoencoder = made("autoencoder")
    autoencoder.compile("adam", loss="mse")
    squared = np.asarray(autoencoder.score(IMAGES))
    autoencoder.compile("adam", loss="mae")
    reconstruction = np.asarray(autoencoder.reconstruct(IMAGES))
    error = IMAGES - reconstruction
    np.testing.assert_allclose(squared, np.mean(error**2, axis=(1, 2, 3)), rtol=1e-4)
    absolute = np.mean(np.abs(error), axis=(1, 2, 3))
    np.testing.assert_allclose(autoencoder.score(IMAGES), absolute, rtol=1e-4)


def test_invalid_arguments_raise_the_error_of_eager_mode(capfd):
    vae = made("conditional_vae")
    vae.reconstruct(IMAGES, LABELS)
    with pytest.raises(ValueError, match="first in example 1 of `x`"):
        vae.reconstruct(np.stack([IMAGES[0], IMAGES[1] + np.nan]), LABELS[:2])
    with pytest.raises(ValueError, match="Received: 9 at index 1"):
        vae.reconstruct(IMAGES[:2], [0, 9])
    with pytest.raises(ValueError, match="5 labels for 2 examples"):
        vae.reconstruct(IMAGES[:2], LABELS)
    vae.score(IMAGES, LABELS, 1)
    with pytest.raises(ValueError, match="Received: num_samples=True"):
        vae.score(IMAGES, LABELS, True)
    with pytest.raises(TypeError):
        vae.decode()
    assert "INVALID_ARGUMENT" not in capfd.readouterr().err


def test_a_batch_without_examples_has_a_result_and_no_graph(traces):
    vae = made("vae")
    assert vae.reconstruct(IMAGES[:0]).shape == (0, *IMAGE)
    assert not traces


def test_replicas_of_a_strategy_have_no_graph(traces, two_replicas):
    vae = made("vae")
    latents = np.ones((1, vae.posterior.event_size), np.float32)
    two_replicas.run(vae.decode, (latents,))
    assert not traces
    with two_replicas.scope():
        vae.decode(latents)
    assert len(traces) == 1


class OnlyEager(keras.layers.Layer):
    """A layer of a user that needs the values of its inputs."""

    def compute_output_shape(self, input_shape):
        return input_shape

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs.shape)

    def call(self, inputs):
        return inputs * float(np.asarray(inputs).max() > -np.inf)  # an error in a graph


def test_a_layer_that_works_only_in_eager_mode_works():
    decoder = networks.mlp((2,), IMAGE, hidden=(4,))
    latents = keras.Input((2,))
    posterior = distributions.DiagonalNormal(2)
    vae = VAE(
        networks.mlp(IMAGE, (4,), hidden=(4,)),
        keras.Model(latents, OnlyEager()(decoder(latents))),
        posterior,
        distributions.Bernoulli(IMAGE),
        seed=0,
    )
    values = np.ones((2, 2), np.float32)
    np.testing.assert_allclose(
        vae.decode(values), keras.ops.sigmoid(decoder(values)), rtol=1e-5, atol=1e-6
    )


def test_run_eagerly_traces_nothing(traces):
    model = tiny("vae", run_eagerly=True)
    model.reconstruct(IMAGES)
    assert not traces


def test_gradients_pass_through_the_graphs():
    vae = made("vae")
    latents = tf.ones((2, vae.posterior.event_size))
    with tf.GradientTape() as tape:
        tape.watch(latents)
        total = tf.reduce_sum(vae.decode(latents))
    graph = tape.gradient(total, latents)
    with tf.GradientTape() as tape:
        tape.watch(latents)
        total = tf.reduce_sum(keras.ops.sigmoid(vae.decoder(latents)))
    np.testing.assert_allclose(graph, tape.gradient(total, latents), rtol=1e-4)


def test_a_model_with_graphs_can_be_freed():
    vae = made("vae")
    vae.reconstruct(IMAGES)
    reference = weakref.ref(vae)
    del vae
    gc.collect()
    assert reference() is None


def test_the_result_of_a_graph_is_that_of_the_method():
    """The argument `shift` is not a batch, so it keeps its shape."""
    arguments = {"x": np.ones((4, 2)), "shift": tf.constant([1.0, 2.0], tf.float64), "factor": 3}
    result = Graphs().call(lambda x, shift, factor: factor * x + shift[1], arguments, ("x",))
    np.testing.assert_array_equal(result, np.full((4, 2), 5.0))


def test_the_arguments_of_a_graph_are_tensors_numbers_or_strings():
    with pytest.raises(TypeError, match="`loss`"):
        Graphs().call(lambda loss: loss, {"loss": object()}, ())
