"""The quality of samples, the bundled classifier, and the logs of `fit`."""

import csv
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import IMAGE, tiny

from keras_gen import data, evaluation


def digits(split, count):
    return np.concatenate(list(data.load("mnist_mini", 500)[split].as_numpy_iterator()))[:count]


class Copies:
    """A generator that shows given images."""

    num_classes = None

    def __init__(self, images):
        self.images = images

    def generate(self, count, seed, condition):
        return self.images[:count]


@pytest.fixture(scope="module")
def classifier():
    return evaluation.mnist_classifier()


@pytest.fixture
def pixels():
    return evaluation.Extractor(
        keras.Sequential([keras.Input(IMAGE), keras.layers.Flatten()]), "pixels"
    )


def test_the_bundled_classifier_knows_digits(classifier):
    labelled = list(data.load("mnist_mini", 500, labels=True)[1].as_numpy_iterator())
    x, y = (np.concatenate(part) for part in zip(*labelled, strict=True))
    whole = keras.saving.load_model(evaluation.features.CLASSIFIER, compile=False)
    logits = np.concatenate([whole(part, training=False) for part in np.split(x, 20)])
    accuracy = np.mean(np.argmax(logits, axis=1) == y)
    assert accuracy >= 0.985  # of 2,000 images; mnist_classifier.md says 0.99 of all 10,000
    assert evaluation.features.CLASSIFIER.stat().st_size <= 2**20
    assert classifier(x[:7]).shape == (7, 64)
    features = np.float32(classifier(x[:7]))
    np.testing.assert_allclose(whole.layers[-1](features), logits[:7], rtol=1e-4, atol=1e-4)
    assert repr(classifier) == f"mnist_classifier ({classifier.hash})"


def test_real_images_score_as_real_and_worse_ones_score_worse(classifier):
    count = 400
    real = digits(1, 2 * count)[::2]
    others = digits(0, 2 * count)
    others, more = others[:count], others[count:]
    noise = np.random.default_rng(0).normal(scale=0.3, size=others.shape)
    noisy = np.clip(others + noise, 0, 1)
    repeated = others[np.arange(count) % 10]
    good = evaluation.sample_quality(Copies(others), real, more, classifier)
    blurred = evaluation.sample_quality(Copies(noisy), real, None, classifier)
    few = evaluation.sample_quality(Copies(repeated), real, None, classifier)
    assert good.fid < 4 * good.real_fid
    assert abs(good.kid) < 4 * good.kid_error
    assert blurred.kid > 10 * blurred.kid_error
    assert min(good.precision, good.recall, good.density, good.coverage) > 0.8
    assert blurred.fid > 5 * good.fid
    assert few.recall < 0.1 < few.precision
    assert good.protocol == {
        "extractor": "mnist_classifier",
        "weights": classifier.hash,
        "real": "400 of test",
        "generated": 400,
        "real_fid": "400 other real images",
    }
    assert f"weights: {classifier.hash}" in str(good)


def test_the_logs_of_fit_have_it_for_the_callbacks_after(kind, images, pixels, tmp_path):
    model = tiny(kind)
    if kind == "autoencoder":
        model.fit_latent_density(images, 2)
    callbacks = [
        evaluation.QualityLogs(images, pixels, every=2),
        keras.callbacks.CSVLogger(tmp_path / "metrics.csv"),
    ]
    history = model.fit(images, epochs=3, verbose=0, callbacks=callbacks).history
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    for name in ("fid", "kid", "precision", "recall", "density", "coverage"):
        assert [float(row[name]) for row in rows] == history[name]
        assert history[name][0] == history[name][1]
    assert history["fid"][1] != history["fid"][2]
    assert history["fid"][2] == evaluation.sample_quality(model, images, None, pixels).fid


def test_images_that_do_not_fit_are_refused(pixels, images):
    with pytest.raises(ValueError, match="at least 10 real images"):
        evaluation.sample_quality(Copies(images), images[:5], None, pixels)
    with pytest.raises(
        ValueError,
        match=re.escape("Expected other real images of shape (n, 8, 8, 1). Received: shape (20,)."),
    ):
        evaluation.sample_quality(
            Copies(images), images[:20], np.zeros(20), pixels
        )  # labels, for instance
    with pytest.raises(ValueError, match="`network` must output features of shape"):
        evaluation.Extractor(keras.Sequential([keras.Input(IMAGE), keras.layers.ReLU()]), "images")


@pytest.mark.parametrize(
    ("real", "received"),
    [
        (np.full((20, *IMAGE), 128, np.uint8), "dtype uint8"),
        (np.full((20, *IMAGE), 1.5), "values from 1.5 to 1.5"),
        (np.full((20, *IMAGE), 1.00015), "values from 1.00015 to 1.00015"),
        (np.full((20, *IMAGE), np.nan), "values from nan to nan"),
        (np.zeros((20, 8, 8)), "shape (20, 8, 8)"),
        (np.zeros((0, *IMAGE)), "0"),
        (np.zeros((9, *IMAGE)), "9"),
    ],
)
def test_invalid_real_images_are_refused_before_the_training(pixels, images, real, received):
    for compare in (
        evaluation.QualityLogs,
        lambda real, pixels: evaluation.sample_quality(Copies(images), real, None, pixels),
    ):
        with pytest.raises(
            ValueError, match=rf"Expected .*real images.*Received: {re.escape(received)}"
        ):
            compare(real, pixels)


def test_a_model_that_cannot_generate_is_refused_before_the_training(pixels, images):
    model = tiny("autoencoder")
    before = model.get_weights()
    with pytest.raises(ValueError, match="fit_latent_density"):
        model.fit(images, verbose=0, callbacks=[evaluation.QualityLogs(images, pixels)])
    assert all(map(np.array_equal, before, model.get_weights()))


def test_real_images_may_be_a_dataset(pixels, images):
    dataset = tf.data.Dataset.from_tensor_slices((images, np.arange(20))).batch(8)
    expected = evaluation.sample_quality(Copies(images), images, images, pixels)
    assert evaluation.sample_quality(Copies(images), dataset, dataset, pixels) == expected


def test_the_logs_have_a_protocol_and_the_fid_of_real_images(pixels, images):
    logs = evaluation.QualityLogs(images, pixels, split="validation")
    expected = evaluation.sample_quality(Copies(images), images, None, pixels, split="validation")
    assert (logs.protocol, logs.real_fid) == (expected.protocol, expected.real_fid)


def test_how_often_it_is_compared_is_checked_before_the_training(pixels, images):
    with pytest.raises(
        ValueError,
        match=r"`every` of QualityLogs must be an integer of at least 1\. Received: every=0",
    ):
        evaluation.QualityLogs(images, pixels, every=0)


def test_inception_without_its_weights_says_what_to_do(monkeypatch):
    def offline(**kwargs):
        raise OSError("no network")

    monkeypatch.setattr(keras.applications, "InceptionV3", offline)
    with pytest.raises(ValueError, match="are not in Keras's cache and cannot be downloaded"):
        evaluation.inception()


@pytest.mark.parametrize("channels", [1, 3])
def test_inception_receives_299_pixels_from_minus_1_to_1(monkeypatch, channels):
    def network(include_top, pooling, weights):
        assert (include_top, pooling, weights) == (False, "avg", "imagenet")
        layers = keras.layers
        return keras.Sequential([keras.Input((299, 299, 3)), layers.GlobalAveragePooling2D()])

    monkeypatch.setattr(keras.applications, "InceptionV3", network)
    means = np.array([0.0, 0.25, 1.0])[:channels]
    images = np.broadcast_to(means, (2, 4, 6, channels))
    found = evaluation.inception()(images)
    np.testing.assert_allclose(found, np.broadcast_to(2 * means - 1, (2, 3)), atol=1e-5)


def test_features_are_computed_in_batches_of_prepared_images():
    sizes = []

    def prepare(images):
        sizes.append(len(images))
        return 2 * images

    network = keras.Sequential([keras.Input(IMAGE), keras.layers.Flatten()])
    extractor = evaluation.Extractor(network, "twice", prepare)
    images = np.random.default_rng(0).random((300, *IMAGE))
    np.testing.assert_allclose(extractor(images), 2 * images.reshape(300, 64), rtol=1e-6)
    extractor(images[:5], batch_size=2)
    assert sizes == [256, 44, 2, 2, 1]


def test_an_extractor_refuses_images_of_another_shape():
    inputs = keras.Input((None, 8, 3))
    network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(inputs))
    extractor = evaluation.Extractor(network, "means")
    assert extractor(np.zeros((2, 5, 8, 3))).shape == (2, 3)
    for shape in ((5, 9, 3), (5, 8, 1), (8, 3), (1, 5, 8, 3)):
        expected = re.escape(
            f"the shape (None, 8, 3) of the inputs of the extractor means. Received: images of "
            f"shape {shape}"
        )
        with pytest.raises(ValueError, match=expected):
            extractor(np.zeros((2, *shape)))
        evaluation.Extractor(network, "means", lambda images: images).check_shape(shape)


def test_an_extractor_is_loaded_from_a_file(tmp_path):
    network = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten()])
    network.add(keras.layers.Dense(3))
    network.save(tmp_path / "mine.keras")
    loaded = evaluation.load_extractor(tmp_path / "mine.keras")
    expected = evaluation.Extractor(network, "mine")
    assert (loaded.name, loaded.hash) == ("mine", expected.hash)
    images = np.random.default_rng(0).random((4, 2, 2, 1))
    np.testing.assert_allclose(loaded(images), expected(images), rtol=1e-6)
    (tmp_path / "text.keras").write_text("text")
    for name in ("text.keras", "no.keras"):
        with pytest.raises(ValueError, match=rf"a file \*\.keras of a model.*{name}.* failed: "):
            evaluation.load_extractor(tmp_path / name)
    inputs = keras.Input((2, 2, 1))
    keras.Model(inputs, [network(inputs)] * 2).save(tmp_path / "two.keras")
    keras.Model(inputs, inputs).save(tmp_path / "images.keras")
    tiny("autoencoder").save(tmp_path / "model.keras")
    for name in ("two", "images", "model"):
        with pytest.raises(ValueError, match=rf"{name}\.keras, which contains a .* without one"):
            evaluation.load_extractor(tmp_path / f"{name}.keras")


def test_the_protocol_of_a_score_names_the_weights_of_the_extractor(pixels):
    """Scores of extractors with the same name and other weights are not comparable."""

    def extractor(value):
        network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        network.set_weights([np.full((4, 3), value, "float32"), np.zeros(3, "float32")])
        return evaluation.Extractor(network, "dense")

    assert extractor(1.0).hash == extractor(1.0).hash
    assert len({extractor(value).hash for value in (1.0, 2.0, 1.0 + 1e-6)}) == 3


def test_the_fid_of_real_images_compares_two_halves(pixels, images):
    """Ten images are enough, and their values may exceed 1 by a rounding error."""
    real = images[:10].copy()
    real[3, 2, 1] = 1.00005
    found = evaluation.sample_quality(Copies(images), real, None, pixels)
    flat = real.reshape(10, 64)
    assert found.real_fid == pytest.approx(evaluation.frechet_distance(flat[::2], flat[1::2]))


def test_features_are_computed_without_dropout(images):
    network = keras.Sequential(
        [keras.Input(IMAGE), keras.layers.Dropout(0.5), keras.layers.Flatten()]
    )
    features = evaluation.Extractor(network, "pixels")(images)
    np.testing.assert_array_equal(features, images.reshape(20, 64))
