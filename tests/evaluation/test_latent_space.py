"""The latent space of models with a linear decoder, for which each decoded image is known."""

import re
import types

import keras
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

import keras_gen
from keras_gen import distributions, evaluation, networks

RANDOM = np.random.default_rng(0)
WEIGHTS = RANDOM.normal(size=(3, 4)).astype("float32")
BIAS = RANDOM.normal(size=4).astype("float32")
LATENTS = (RANDOM.normal(size=(300, 3)) * [1, 5, 2] + [0, 1, 2]).astype("float32")


@pytest.fixture(scope="module")
def autoencoder():
    encoder, decoder = (
        keras.Sequential([keras.Input((a,)), keras.layers.Dense(b)]) for a, b in ((4, 3), (3, 4))
    )
    decoder.set_weights([WEIGHTS, BIAS])
    return keras_gen.RegularizedAutoencoder(encoder, decoder)


def test_a_traversal_moves_one_latent_through_its_values(autoencoder):
    images = evaluation.traverse(autoencoder, LATENTS, num_steps=5)
    assert images.shape == (3, 5, 4)
    for row, dimension in enumerate([1, 2, 0]):  # the largest variance first
        ends = np.quantile(LATENTS[:, dimension], [0.01, 0.99])
        latents = np.tile(LATENTS.mean(axis=0), (5, 1))
        latents[:, dimension] = np.linspace(*ends, 5)
        np.testing.assert_allclose(images[row], latents @ WEIGHTS + BIAS, atol=1e-4)
    assert evaluation.traverse(autoencoder, LATENTS, dimensions=[2]).shape == (1, 11, 4)


def test_an_interpolation_is_straight_or_along_the_great_circle(autoencoder):
    start, end = LATENTS[:2], LATENTS[2:4]
    straight = evaluation.interpolate(autoencoder, start, end, num_steps=3)
    np.testing.assert_allclose(straight[:, 1], (start + end) / 2 @ WEIGHTS + BIAS, atol=1e-4)
    right_angle = evaluation.interpolate(
        autoencoder, [[2.0, 0, 0]], [[0, 2.0, 0]], num_steps=3, spherical=True
    )
    np.testing.assert_allclose(
        right_angle[0, 1], 2**0.5 * np.array([1, 1, 0]) @ WEIGHTS + BIAS, atol=1e-4
    )
    for images in (
        straight,
        evaluation.interpolate(autoencoder, start, end, num_steps=3, spherical=True),
    ):
        np.testing.assert_allclose(
            images[:, [0, 2]], np.stack([start, end], axis=1) @ WEIGHTS + BIAS, atol=1e-4
        )
    for same in (start, np.zeros_like(start)):  # no angle between them
        images = evaluation.interpolate(autoencoder, same, same, num_steps=3, spherical=True)
        np.testing.assert_allclose(
            images, np.repeat((same @ WEIGHTS + BIAS)[:, None], 3, axis=1), atol=1e-4
        )
    for sides in ((start, end[:1]), (start, end[:, :2]), (start[0], end[0])):
        with pytest.raises(ValueError, match="`start` and `end` must be arrays") as caught:
            evaluation.interpolate(autoencoder, *sides)
        assert str(caught.value).endswith(
            "Received: shapes {} and {}.".format(*(side.shape for side in sides))
        )


def test_the_ten_latents_with_the_largest_variance_are_traversed():
    model = keras_gen.RegularizedAutoencoder(
        networks.mlp((4,), (12,), hidden=()), networks.mlp((12,), (4,), hidden=())
    )
    latents = RANDOM.normal(size=(50, 12)) * RANDOM.permutation(12)
    images = evaluation.traverse(model, latents, num_steps=2)
    largest = np.argsort(latents.var(axis=0))[::-1][:10]
    expected = evaluation.traverse(model, latents, dimensions=largest, num_steps=2)
    np.testing.assert_array_equal(images, expected)


def points_on_arcs(start, end, num_steps):
    """Return the points of spherical paths, decoded by an identity."""
    size = np.shape(start)[1]
    model = types.SimpleNamespace(decode=lambda latents: latents)
    found = evaluation.interpolate(model, start, end, num_steps, spherical=True)
    assert found.shape == (len(start), num_steps, size)
    return found


def test_a_point_on_a_great_circle_has_its_share_of_the_angle():
    start, end = (2 * RANDOM.normal(size=(4, 5)) for _ in range(2))
    end *= np.linalg.norm(start, axis=1, keepdims=True) / np.linalg.norm(end, axis=1, keepdims=True)
    points = points_on_arcs(start, end, 5)

    def angles(x, y):
        lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
        return np.arccos(np.sum(x * y, axis=1) / lengths)

    for step in range(1, 5):
        np.testing.assert_allclose(
            angles(start, points[:, step]), step / 4 * angles(start, end), rtol=1e-4
        )
        lengths = np.linalg.norm(points[:, step], axis=1)
        np.testing.assert_allclose(lengths, np.linalg.norm(start, axis=1), rtol=1e-5)
    # If one of the vectors is twice as long, so is its part of each point.
    longer = points_on_arcs(start, 2 * end, 3)
    middle = (start + 2 * end) / np.linalg.norm(start + end, axis=1, keepdims=True)
    expected = middle * np.linalg.norm(start, axis=1, keepdims=True)
    np.testing.assert_allclose(longer[:, 1], expected, rtol=1e-4)


def test_between_parallel_vectors_the_path_is_straight():
    start = RANDOM.normal(size=(200, 5))
    for factor in (0.3, -0.3, -1.0, 1.0):
        points = points_on_arcs(start, factor * start, 3)
        np.testing.assert_allclose(points[:, 1], (1 + factor) / 2 * start, atol=1e-4)


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 3, 4)])
def test_latents_of_another_shape_are_not_traversed(shape, autoencoder):
    with pytest.raises(
        ValueError,
        match=re.escape(
            "`latents` must be an array (n, latents) of at least one example. "
            f"Received: shape {shape}."
        ),
    ):
        evaluation.traverse(autoencoder, np.zeros(shape))


def test_examples_are_checked_before_they_are_encoded(autoencoder, models):
    with pytest.raises(
        ValueError, match=re.escape("Expected `x` of shape (batch, 4). Received: shape (2, 5).")
    ):
        evaluation.latents(autoencoder, np.zeros((2, 5)))
    with pytest.raises(
        ValueError, match=re.escape("Expected at least 1 example. Received: 0 examples.")
    ):
        evaluation.latents(autoencoder, np.zeros((0, 4)))
    with pytest.raises(ValueError, match="Expected labels as `y`"):
        evaluation.latents(models["conditional_vae"], np.zeros((2, 8, 8, 1)))


def test_each_row_has_its_label():
    prior = distributions.ConditionalNormal(2, num_classes=3)
    posterior, likelihood = distributions.DiagonalNormal(2), distributions.Normal((4,))
    decoder = networks.mlp((2,), (4,), num_classes=3)
    vae = keras_gen.VAE(networks.mlp((4,), (4,)), decoder, posterior, likelihood, prior)
    images = evaluation.interpolate(
        vae, np.zeros((3, 2)), np.ones((3, 2)), num_steps=2, condition=[0, 1, 2]
    )
    np.testing.assert_allclose(images[:, 0], decoder([np.zeros((3, 2)), np.arange(3)]), atol=1e-6)
    walk = evaluation.traverse(vae, np.zeros((5, 2)), num_steps=2, condition=1)
    np.testing.assert_allclose(walk[0, 0], images[1, 0], atol=1e-6)
    x = RANDOM.normal(size=(7, 4)).astype("float32")
    np.testing.assert_allclose(
        evaluation.latents(vae, x, np.arange(7) % 3, batch_size=2), vae.encoder(x)[:, :2], atol=1e-6
    )


@pytest.mark.parametrize(("examples", "expected"), [(41, 10), (121, 30), (200, 30)])
def test_the_perplexity_of_tsne_is_a_quarter_of_the_other_examples(examples, expected, monkeypatch):
    perplexities = []

    class Embedding:
        def __init__(self, perplexity, **_):
            perplexities.append(perplexity)

        def fit_transform(self, latents):
            return latents[:, :2]

    monkeypatch.setattr("sklearn.manifold.TSNE", Embedding)
    evaluation.tsne(RANDOM.normal(size=(examples, 3)))
    assert perplexities == [expected]


def test_tsne_keeps_groups_together():
    centres = 8 * RANDOM.normal(size=(4, 6))
    labels = np.arange(120) % 4
    points = evaluation.tsne(centres[labels] + RANDOM.normal(size=(120, 6)))
    assert points.shape == (120, 2)
    assert (
        KNeighborsClassifier(5).fit(points[:60], labels[:60]).score(points[60:], labels[60:]) == 1
    )
    np.testing.assert_array_equal(evaluation.tsne(LATENTS[:, :2]), LATENTS[:, :2])
    np.testing.assert_array_equal(
        evaluation.tsne(LATENTS[:, :1]), np.hstack([LATENTS[:, :1], np.zeros((300, 1))])
    )
    np.testing.assert_array_equal(
        evaluation.tsne(np.full((20, 3), 0.3, np.float32)), np.zeros((20, 2))
    )  # a collapsed posterior
    nearly = np.full((20, 3), 1e-30) * np.arange(20)[:, None]
    points = evaluation.tsne(nearly)
    assert np.isfinite(points).all()
    assert np.ptp(points) > 0
    np.testing.assert_array_equal(evaluation.tsne(LATENTS[:5, :2]), LATENTS[:5, :2])
    with pytest.raises(ValueError, match="`latents` must be finite"):
        evaluation.tsne(np.full((20, 3), np.nan))
    with pytest.raises(ValueError, match="of at least 5 examples"):
        evaluation.tsne(LATENTS[:4, :2])
