"""The computations of `keras-gen explore`: latents, anomaly scores and the canvas."""

import re

import numpy as np
import pytest
import tensorflow as tf
from support import CLASSES, IMAGE, SERVED, tiny

import keras_gen
from keras_gen import distributions, evaluation, networks
from keras_gen.evaluation.anomalies import heat_maps
from keras_gen.explore.exploration import Canvas, Exploration


@pytest.fixture(params=[name for name in SERVED if name != "vq_vae"])  # whose latents are codes
def explored(request, models, images):
    """The `Exploration` of each kind of model, and the labels of the test images if any."""
    model = models[request.param]
    labels = np.arange(len(images)) % CLASSES if model.num_classes else None
    return Exploration(model, images, labels), labels


def test_latents_are_decoded_sampled_and_encoded_as_the_model_does(explored, images):
    exploration, labels = explored
    model = exploration.model
    given = () if labels is None else (tf.constant(labels),)
    if model.prior.num_classes:
        priors = [model.prior.distribution(tf.constant([label])) for label in range(CLASSES)]
        mean = np.concatenate([prior.mean() for prior in priors])[labels]
        deviation = np.concatenate([prior.stddev() for prior in priors])[labels]
    elif isinstance(model, keras_gen.HierarchicalVAE):  # the moments are estimated from samples
        samples = model.prior.distribution().sample(50_000, seed=(1, 2)).numpy()
        mean, deviation = exploration.means[0], exploration.deviations[0]
        np.testing.assert_allclose(mean, samples.mean(axis=0), atol=0.05)
        np.testing.assert_allclose(deviation, samples.std(axis=0), rtol=0.05)
    else:
        mean = model.prior.distribution().mean().numpy()
        deviation = model.prior.distribution().stddev().numpy()
    units = np.random.default_rng(0).normal(size=(len(images), mean.shape[-1]))
    expected = model.decode(tf.constant(mean + units * deviation, tf.float32), *given)
    np.testing.assert_allclose(exploration.decode(units, labels), expected, atol=1e-5)
    samples = exploration.decode(exploration.sample_latents(range(len(images)), labels), labels)
    expected = model.generate(seed=np.arange(len(images)), condition=labels)
    np.testing.assert_allclose(samples, expected, atol=1e-5)
    if isinstance(model, keras_gen.GAN):
        return
    encoded = exploration.encode(images, labels)
    latents = evaluation.latents(model, images, labels)
    np.testing.assert_allclose(mean + encoded * deviation, latents, atol=1e-4)
    np.testing.assert_allclose(
        exploration.reconstruct(images, labels), model.reconstruct(images, *given), atol=1e-5
    )


@pytest.mark.parametrize("scales", [(1.0, 5.0, 3.0), (1.1, 1.05, 1.0), (1.05, 1.0, 1.1)])
def test_the_latents_are_in_the_order_of_their_effect_on_the_image(scales, images):
    posterior, likelihood = distributions.DiagonalNormal(3), distributions.Normal(IMAGE)
    encoder = networks.mlp(IMAGE, (posterior.parameter_size,), hidden=())
    decoder = networks.mlp((3,), IMAGE, hidden=())
    weights = np.random.default_rng(0).normal(size=(3, 64))
    weights *= np.array(scales)[:, None] / np.sqrt(np.square(weights).mean(axis=1, keepdims=True))
    decoder.set_weights([weights, np.zeros(64)])
    model = keras_gen.VAE(encoder, decoder, posterior, likelihood)
    model.compile("adam")
    found = Exploration(model, images).order
    np.testing.assert_array_equal(found, np.argsort(scales)[::-1])


def test_the_anomaly_score_is_that_of_the_model_and_is_compared_with_the_test_images(
    explored, images
):
    exploration, labels = explored
    model = exploration.model
    given = () if labels is None else (tf.constant(labels),)
    gan = isinstance(model, keras_gen.GAN)
    expected = -model.discriminate(images, *given) if gan else model.score(images, *given)
    np.testing.assert_allclose(exploration.test_scores, expected, rtol=1e-4)
    image = np.random.default_rng(1).random((1, *IMAGE), dtype=np.float32)
    [score] = exploration.anomaly_score(image, None if labels is None else labels[:1])
    name, value, unit, share = re.fullmatch(
        r"(Score|Probability of being real) (-?[\d.]+)( nats)?: "
        r"more anomalous than (\d+) % of the test images",
        exploration.describe_score(score),
    ).groups()
    assert (name == "Probability of being real") == gan
    assert bool(unit) == isinstance(model, keras_gen.VAE)
    assert float(value) == pytest.approx(-score if gan else score, rel=1e-3)
    higher = np.searchsorted(np.sort(-expected), -score, side="right")
    assert int(share) == 100 - 5 * higher  # there are 20 images
    assert "than 0 %" in exploration.describe_score(min(exploration.test_scores))
    assert "than 100 %" in exploration.describe_score(max(exploration.test_scores) + 1)


def test_a_heat_map_is_that_of_the_scores_per_pixel(explored, images):
    exploration, labels = explored
    model = exploration.model
    found = exploration.heat_map(images, labels)
    if isinstance(model, keras_gen.GAN):
        assert found is None
        return
    given = () if labels is None else (tf.constant(labels),)
    expected = heat_maps(model.score_per_feature(images, *given).numpy())
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_the_latents_that_change_the_image_most_come_first():
    """In a linear decoder, a latent changes the image by its column. Their norms are 3, 0 and 1."""
    decoder = networks.mlp((3,), (2, 2, 1), hidden=())
    decoder.layers[-2].set_weights([np.diag([3.0, 0.0, 1.0, 1.0])[:3], np.zeros(4)])
    posterior = distributions.DiagonalNormal(3)
    vae = keras_gen.VAE(
        networks.mlp((2, 2, 1), (6,)),
        decoder,
        posterior,
        distributions.Normal((2, 2, 1), scale=1.0),
    )
    vae.compile()
    assert Exploration(vae, np.zeros((1, 2, 2, 1))).order.tolist() == [0, 2, 1]


def test_the_effect_of_a_latent_is_that_of_a_change_from_minus_1_to_1():
    """The first latent changes the image only outside of [−1, 1], and there more than the other."""
    decoder = networks.mlp((2,), (2, 2, 1), hidden=(3,), activation="relu")
    hidden, output = [layer for layer in decoder.layers if layer.weights]
    hidden.set_weights([np.array([[1, -1, 0], [0, 0, 0.1]]), np.array([-1, -1, 1])])
    output.set_weights([np.array([[9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 1, 0]]), np.zeros(4)])
    posterior = distributions.DiagonalNormal(2)
    likelihood = distributions.Normal((2, 2, 1), scale=1.0)
    vae = keras_gen.VAE(networks.mlp((2, 2, 1), (4,)), decoder, posterior, likelihood)
    vae.compile()
    assert Exploration(vae, np.zeros((1, 2, 2, 1))).order.tolist() == [1, 0]


def test_the_effects_of_the_latents_are_measured_with_all_labels(models, images, monkeypatch):
    labels = []
    decode = Exploration.decode

    def record(self, units, given):
        labels.append(given)
        return decode(self, units, given)

    monkeypatch.setattr(Exploration, "decode", record)
    model = models["conditional_vae"]
    size = Exploration(model, images, np.arange(len(images)) % CLASSES).size
    first, second = labels[0].reshape(size, 2, -1).transpose(1, 0, 2)
    np.testing.assert_array_equal(first, second)  # two images differ in one latent only
    assert all(set(row) == set(range(CLASSES)) for row in first)


def test_latents_that_are_integers_are_refused(models, images):
    message = r"must be real numbers.* a VectorQuantizedAutoencoder, whose latents are integers"
    with pytest.raises(ValueError, match=message):
        Exploration(models["vq_vae"], images)


def test_without_a_density_the_units_are_those_of_the_latents_of_the_test_images(images):
    autoencoder = tiny("autoencoder")
    assert autoencoder.prior is None
    exploration = Exploration(autoencoder, images)
    latents = evaluation.latents(autoencoder, images)
    expected = autoencoder.decode(latents.mean(0) + [[0, 1, -1]] * latents.std(0))
    np.testing.assert_allclose(exploration.decode([[0, 1, -1]])[0], expected[0], atol=1e-5)
    assert "generate" not in exploration.signatures


def test_data_other_than_images_are_refused():
    autoencoder = keras_gen.RegularizedAutoencoder(
        networks.mlp((4,), (2,)), networks.mlp((2,), (4,))
    )
    autoencoder.compile(loss="mse")
    message = (
        "The model must be trained on images of shape (height, width, 1 or 3). "
        "Received: a model trained on examples of shape (4,)."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        Exploration(autoencoder, np.zeros((5, 4)))


@pytest.mark.parametrize("shape", [(28, 28, 1), (20, 30, 3)])
def test_a_line_on_the_canvas_is_white_and_has_the_width_of_the_pen(shape):
    canvas = Canvas(shape)
    assert canvas.blank
    assert not canvas.image.any()
    canvas.line((5, 8), (20, 8))
    image = canvas.image
    width = 0.09 * shape[0]
    assert (image.shape, image.dtype, image.max(), canvas.blank) == (shape, np.float32, 1.0, False)
    across = image[:, 7:18].sum(axis=0)
    np.testing.assert_allclose(across, width, atol=0.2)
    place = np.average(np.arange(shape[0]) + 0.5, weights=image[:, 12, 0])
    assert place == pytest.approx(8, abs=0.2)
    area = 15 * width + np.pi * width**2 / 4  # with round ends
    assert image.sum() / shape[2] == pytest.approx(area, rel=0.1)
    canvas.clear()
    assert canvas.blank
    assert not canvas.image.any()


def test_the_canvas_can_show_an_image_and_have_binary_pixels(images):
    canvas = Canvas(IMAGE)
    canvas.show(images[0])
    np.testing.assert_allclose(canvas.image, images[0], atol=1 / 255)
    binary = Canvas(IMAGE, binary=True)
    binary.line((1, 1), (6, 5))
    assert set(np.unique(binary.image)) == {0.0, 1.0}
