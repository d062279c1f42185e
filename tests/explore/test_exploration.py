import re

import numpy as np
import pytest
import tensorflow as tf
from support import CLASSES, IMAGE, LATENTS, SERVED, tiny

import keras_gen
from keras_gen import distributions, networks
from keras_gen.evaluation import latents
from keras_gen.explore.exploration import Canvas, Exploration


@pytest.fixture(params=SERVED)
def explored(request, models, images):
    """Each kind of model, conditional ones too, as an `Exploration`, and labels for the test images if it takes any."""
    model = models[request.param]
    labels = np.arange(len(images)) % CLASSES if model.num_classes else None
    return Exploration(model, images, labels), labels


def test_latents_are_decoded_drawn_and_found_as_the_model_does(explored, images):
    exploration, labels = explored
    model, given = exploration.model, () if labels is None else (tf.constant(labels),)
    if model.prior.num_classes:
        moments = [model.prior.distribution(tf.constant([label])) for label in range(CLASSES)]
        mean, deviation = (
            np.concatenate(part)[labels]
            for part in zip(*((m.mean(), m.stddev()) for m in moments), strict=True)
        )
    else:
        mean, deviation = (
            model.prior.distribution().mean().numpy(),
            model.prior.distribution().stddev().numpy(),
        )
    units = np.random.default_rng(0).normal(size=(len(images), LATENTS))
    expected = model.decode(tf.constant(mean + units * deviation, tf.float32), *given)
    np.testing.assert_allclose(exploration.decode(units, labels), expected, atol=1e-5)
    drawn = exploration.decode(exploration.draw(range(len(images)), labels), labels)
    expected = model.generate(seed=np.arange(len(images)), condition=labels)
    np.testing.assert_allclose(drawn, expected, atol=1e-5)
    if isinstance(model, keras_gen.GAN):
        return
    found = exploration.encode(images, labels)
    np.testing.assert_allclose(mean + found * deviation, latents(model, images, labels), atol=1e-4)
    np.testing.assert_allclose(
        exploration.reconstruct(images, labels), model.reconstruct(images, *given), atol=1e-5
    )


def test_strangeness_is_the_score_or_the_improbability_and_is_compared_with_the_test_images(
    explored, images
):
    exploration, labels = explored
    model, given = exploration.model, () if labels is None else (tf.constant(labels),)
    gan = isinstance(model, keras_gen.GAN)
    expected = -model.discriminate(images, *given) if gan else model.score(images, *given)
    np.testing.assert_allclose(exploration.of_test, expected, rtol=1e-4)
    image = np.random.default_rng(1).random((1, *IMAGE), dtype=np.float32)
    [found] = exploration.strangeness(image, None if labels is None else labels[:1])
    name, value, unit, share = re.fullmatch(
        r"(Score|Probability to be real) (-?[\d.]+)( nats)?: stranger than (\d+) % of the test images",
        exploration.words(found),
    ).groups()
    assert (name == "Probability to be real", bool(unit)) == (gan, isinstance(model, keras_gen.VAE))
    assert float(value) == pytest.approx(-found if gan else found, rel=1e-3)
    assert int(share) == 100 - 5 * np.searchsorted(
        np.sort(-expected), -found, side="right"
    )  # of 20 images
    assert "than 0 %" in exploration.words(min(exploration.of_test))


def test_the_latents_that_change_the_image_most_come_first():
    """In a linear decoder latent i changes the image by its column, of norm 3, 0 and 1."""
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


def test_without_a_density_the_codes_of_the_test_images_are_the_measure(images):
    autoencoder = tiny("autoencoder")
    assert autoencoder.prior is None
    exploration, found = Exploration(autoencoder, images), latents(autoencoder, images)
    np.testing.assert_allclose(
        exploration.decode([[0, 1, -1]])[0],
        autoencoder.decode(found.mean(0) + [[0, 1, -1]] * found.std(0))[0],
        atol=1e-5,
    )
    assert "generate" not in exploration.signatures


def test_rows_that_are_no_images_are_refused():
    autoencoder = keras_gen.RegularizedAutoencoder(
        networks.mlp((4,), (2,)), networks.mlp((2,), (4,))
    )
    autoencoder.compile(loss="mse")
    message = "Expected a model of images, of shape (height, width, 1 or 3). Received: one of examples of shape (4,)."
    with pytest.raises(ValueError, match=re.escape(message)):
        Exploration(autoencoder, np.zeros((5, 4)))


@pytest.mark.parametrize("shape", [(28, 28, 1), (20, 30, 3)])
def test_a_line_on_the_canvas_is_white_as_wide_as_the_pen_and_where_it_was_drawn(shape):
    canvas = Canvas(shape)
    assert canvas.blank
    assert not canvas.image.any()
    canvas.line((5, 8), (20, 8))
    image, width = canvas.image, 0.09 * shape[0]
    assert (image.shape, image.dtype, image.max(), canvas.blank) == (shape, np.float32, 1.0, False)
    np.testing.assert_allclose(
        image[:, 7:18].sum(axis=0), width, atol=0.2
    )  # of grey values, across the line
    assert np.average(np.arange(shape[0]) + 0.5, weights=image[:, 12, 0]) == pytest.approx(
        8, abs=0.2
    )
    area = 15 * width + np.pi * width**2 / 4  # with round ends
    assert image.sum() / shape[2] == pytest.approx(area, rel=0.1)
    canvas.clear()
    assert canvas.blank
    assert not canvas.image.any()


def test_an_image_can_be_put_on_the_canvas_and_pixels_can_be_binary(images):
    canvas = Canvas(IMAGE)
    canvas.show(images[0])
    np.testing.assert_allclose(canvas.image, images[0], atol=1 / 255)
    binary = Canvas(IMAGE, binary=True)
    binary.line((1, 1), (6, 5))
    assert set(np.unique(binary.image)) == {0.0, 1.0}
