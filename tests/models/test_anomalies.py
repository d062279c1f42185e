"""Scores, thresholds and scores per feature, of autoencoder and VAE, also exported."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen import VAE, RegularizedAutoencoder, distributions, networks
from keras_gen._columns import Column

NAN = np.float32("nan")
COLUMNS = (
    Column("mass", "positive", mean=8.3, scale=0.2),
    Column("eggs", "count", mean=2.0, scale=1.5),
    Column("sex", "binary", ("f", "m")),
    Column("island", "category", ("B", "D", "T")),
)
RANDOM = np.random.default_rng(0)
X = np.stack(
    [
        np.exp(8.3 + 0.2 * RANDOM.normal(size=64)),
        RANDOM.poisson(2, 64),
        RANDOM.integers(0, 2, 64),
        RANDOM.integers(0, 3, 64),
    ],
    axis=1,
).astype("float32")
X[RANDOM.random(X.shape) < 0.2] = NAN


def table_autoencoder():
    likelihood = distributions.Columns(COLUMNS)
    features = networks.ColumnFeatures(COLUMNS)
    model = RegularizedAutoencoder(
        networks.mlp((4,), (2,), hidden=(8,), features=features),
        networks.mlp((2,), likelihood.parameter_shape, hidden=(8,)),
        seed=0,
    )
    model.compile(keras.optimizers.Adam(1e-2), loss=likelihood)
    return model


def table_vae():
    likelihood = distributions.Columns(COLUMNS)
    features = networks.ColumnFeatures(COLUMNS)
    model = VAE(
        networks.mlp((4,), (4,), hidden=(8,), features=features),
        networks.mlp((2,), likelihood.parameter_shape, hidden=(8,)),
        distributions.DiagonalNormal(2),
        likelihood,
        seed=0,
    )
    model.compile(keras.optimizers.Adam(1e-2))
    return model


@pytest.fixture(scope="module", params=[table_autoencoder, table_vae])
def detector(request):
    model = request.param()
    model.fit(X, epochs=2, batch_size=16, verbose=0)
    model.calibrate(X, quantile=0.9)
    return model


def test_a_likelihood_is_the_loss_of_an_autoencoder_of_tables():
    model = table_autoencoder()
    output = model.decoder(model.encoder(X))
    expected = -model.likelihood(output).log_prob(X).numpy()
    np.testing.assert_allclose(model.score(X), expected, rtol=1e-5)
    logs = model.evaluate(X, batch_size=64, verbose=0, return_dict=True)
    np.testing.assert_allclose(logs["reconstruction_loss"], expected.mean(), rtol=1e-4)
    history = model.fit(X, epochs=3, batch_size=16, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    rows = model.reconstruct(X).numpy()
    assert np.isfinite(rows).all()
    np.testing.assert_array_equal(rows[:, 1:], np.round(rows[:, 1:]))


def test_the_parts_of_the_features_are_the_score(detector):
    parts = detector.score_per_feature(X).numpy()
    assert parts.shape == X.shape
    np.testing.assert_array_equal(parts[np.isnan(X)], 0)
    if isinstance(detector, VAE):
        _, kl = detector._score_samples(X, None, 16)
        np.testing.assert_allclose(parts.sum(axis=1) + kl, detector.score(X), rtol=1e-4)
    else:
        np.testing.assert_allclose(parts.sum(axis=1), detector.score(X), rtol=1e-5)


def test_an_unusual_entry_has_the_largest_part(detector):
    row = np.float32([[4000.0, 2.0, 1.0, 1.0]])
    unusual = row.copy()
    unusual[0, 0] = 40_000.0
    assert detector.score(unusual) > detector.score(row)
    assert np.argmax(detector.score_per_feature(unusual)[0]) == 0
    assert detector.is_anomaly(unusual)[0]


def test_a_threshold_is_a_quantile_and_is_saved(detector, tmp_path):
    scores = detector.score(X).numpy()
    np.testing.assert_allclose(detector.threshold, np.quantile(scores, 0.9), rtol=1e-5)
    np.testing.assert_array_equal(detector.is_anomaly(X), scores > detector.threshold)
    detector.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.threshold == detector.threshold
    np.testing.assert_allclose(loaded.score(X), scores, rtol=1e-6)
    without = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    np.testing.assert_allclose(without.reconstruct(X), detector.reconstruct(X), rtol=1e-6)


def test_exported_scores_are_those_of_the_model(detector, tmp_path):
    detector.export(tmp_path / "1")
    score = tf.saved_model.load(str(tmp_path / "1")).signatures["score"]
    outputs = score(inputs=tf.constant(X))
    assert set(outputs) == {"score", "anomaly", "per_feature"}
    np.testing.assert_allclose(outputs["score"], detector.score(X), rtol=1e-5)
    np.testing.assert_allclose(outputs["per_feature"], detector.score_per_feature(X), rtol=1e-4)
    np.testing.assert_array_equal(outputs["anomaly"], detector.is_anomaly(X))


def image_vae(conditional):
    number = 3 if conditional else None
    likelihood = distributions.Bernoulli((4, 4, 1))
    return VAE(
        networks.mlp((4, 4, 1), (4,), hidden=(8,), num_classes=number),
        networks.mlp((2,), (4, 4, 1), hidden=(8,), num_classes=number),
        distributions.DiagonalNormal(2),
        likelihood,
        seed=0,
    )


def test_an_exported_score_decodes_once(detector):
    decoded = []
    handle = detector.decoder.call
    detector.decoder.call = lambda *args, **kwargs: decoded.append(1) or handle(*args, **kwargs)
    try:
        detector.score_outputs(tf.constant(X))
    finally:
        del detector.decoder.call
    assert len(decoded) == 1


@pytest.mark.parametrize("name", ["score", "score_per_feature"])
def test_a_subclass_that_overrides_one_score_is_exported_with_it(name):
    class Doubled(VAE):
        pass

    setattr(Doubled, name, lambda self, x, condition=None: 2 * getattr(VAE, name)(self, x))
    model = Doubled(
        *(
            getattr(image_vae(False), part)
            for part in ("encoder", "decoder", "posterior", "likelihood")
        ),
        seed=0,
    )
    x = tf.constant(RANDOM.integers(0, 2, (5, 4, 4, 1)), tf.float32)
    outputs = model.score_outputs(x)
    factors = {"score": 1, "score_per_feature": 1, name: 2}
    score = VAE.score(model, x)
    parts = VAE.score_per_feature(model, x)
    np.testing.assert_allclose(outputs["score"], factors["score"] * score, rtol=1e-5)
    expected = factors["score_per_feature"] * parts
    np.testing.assert_allclose(outputs["per_feature"], expected, rtol=1e-5)


def test_a_conditional_vae_is_calibrated_with_labels():
    model = image_vae(conditional=True)
    x = RANDOM.integers(0, 2, (30, 4, 4, 1)).astype("float32")
    labels = RANDOM.integers(0, 3, 30)
    threshold = model.calibrate(x, 0.8, condition=labels)
    np.testing.assert_allclose(threshold, np.quantile(model.score(x, labels), 0.8), rtol=1e-5)
    pairs = tf.data.Dataset.from_tensor_slices((x, labels)).batch(7)
    np.testing.assert_allclose(model.calibrate(pairs, 0.8), threshold, rtol=1e-5)
    flags = model.is_anomaly(x, labels)
    np.testing.assert_array_equal(flags, model.score(x, labels) > model.threshold)
    with pytest.raises(ValueError, match="Expected labels as `y`"):
        model.calibrate(x)
    with pytest.raises(ValueError, match="`condition` of"):
        model.is_anomaly(x)


def test_a_score_of_nan_is_above_the_threshold():
    model = image_vae(conditional=False)
    model.threshold = 1.0
    np.testing.assert_array_equal(model.exceeds(tf.constant([0.5, 1.5, NAN])), [False, True, True])


@pytest.mark.parametrize("loss", ["mse", "mae", "binary_crossentropy", "huber"])
def test_the_parts_of_a_keras_loss_are_the_score(loss):
    model = RegularizedAutoencoder(
        networks.mlp((4, 4, 1), (2,), hidden=()),
        networks.mlp((2,), (4, 4, 1), hidden=(), output_activation="sigmoid"),
    )
    model.compile(loss=loss)
    x = RANDOM.random((5, 4, 4, 1)).astype("float32")
    parts = model.score_per_feature(x)
    assert parts.shape == x.shape
    np.testing.assert_allclose(tf.reduce_sum(parts, axis=(1, 2, 3)), model.score(x), rtol=1e-5)


def root_mean_squared_error(target, output):
    return keras.ops.sqrt(keras.ops.mean((target - output) ** 2, axis=-1))


@pytest.mark.parametrize("loss", ["cosine_similarity", root_mean_squared_error])
def test_a_loss_that_is_no_mean_over_the_elements_has_no_parts(loss):
    model = RegularizedAutoencoder(
        networks.mlp((4,), (2,), hidden=()), networks.mlp((2,), (4,), hidden=())
    )
    model.compile(loss=loss)
    x = RANDOM.random((5, 4)).astype("float32")
    with pytest.raises(ValueError, match="Expected a loss that is a mean over the elements"):
        model.score_per_feature(x)
    outputs = model.score_outputs(tf.constant(x))
    assert set(outputs) == {"score"}


def test_an_autoencoder_needs_a_loss_that_fits_its_decoder():
    likelihood = distributions.Columns(COLUMNS)
    features = networks.ColumnFeatures(COLUMNS)
    model = RegularizedAutoencoder(
        networks.mlp((4,), (2,), features=features),
        networks.mlp((2,), likelihood.parameter_shape),
    )
    with pytest.raises(ValueError, match="unless `loss` is a likelihood whose `parameter_shape`"):
        model.compile(loss="mse")
    model.compile(loss=likelihood)
    with pytest.raises(ValueError, match="must be its likelihood"):
        model.compile(loss="mse")
    words = re.escape("already has the likelihood Columns(")
    with pytest.raises(ValueError, match=words):
        model.compile(loss=distributions.Columns(COLUMNS, scale="learned"))
    for networks_of, message in (
        (((5,), (2,), likelihood.parameter_shape), "shape (4,), the `event_shape` of `Columns`"),
        (((4,), (2,), (3,)), "the `parameter_shape` of `Columns`"),
    ):
        data, latents, parameters = networks_of
        with pytest.raises(ValueError, match=re.escape(message)):
            RegularizedAutoencoder(
                networks.mlp(data, latents),
                networks.mlp(latents, parameters),
                likelihood=likelihood,
            )
    with pytest.raises(ValueError, match="`encoder` must accept NaN"):
        RegularizedAutoencoder(
            networks.mlp((4,), (2,)),
            networks.mlp((2,), likelihood.parameter_shape),
            likelihood=likelihood,
        )


def test_a_model_is_compiled_again_with_an_equal_likelihood_and_keeps_its_weights():
    first, second = (distributions.Columns(COLUMNS, scale="learned") for _ in range(2))
    features = networks.ColumnFeatures(COLUMNS)
    model = RegularizedAutoencoder(
        networks.mlp((4,), (2,), features=features),
        networks.mlp((2,), first.parameter_shape),
        likelihood=first,
    )
    assert first.trainable_weights  # before the first step
    trained = [weight + 0.5 for weight in first.get_weights()]
    first.set_weights(trained)
    model.compile(loss=second)
    assert model.likelihood is model.loss is first
    for weight, expected in zip(first.get_weights(), trained, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_dropout_changes_neither_scores_nor_generated_rows():
    likelihood = distributions.Columns(COLUMNS)
    encoder = networks.mlp((4,), (2,), features=networks.ColumnFeatures(COLUMNS))
    latents = keras.Input((2,))
    dropped = keras.layers.Dropout(0.5)(latents)
    decoder = keras.Model(latents, networks.mlp((2,), likelihood.parameter_shape)(dropped))
    model = RegularizedAutoencoder(
        encoder, decoder, prior=distributions.StandardNormal(2), likelihood=likelihood
    )
    assert not model.generates_means
    assert not np.array_equal(decoder(np.ones((9, 2)), training=True), decoder(np.ones((9, 2))))
    for call in (
        lambda: model.score(X),
        lambda: model.score_per_feature(X),
        lambda: model.reconstruct(X),
        lambda: model.generate(50, seed=0),
    ):
        np.testing.assert_array_equal(call(), call())


def test_large_numbers_of_a_table_are_not_rounded_under_mixed_precision():
    """float16 has no numbers above 65,504."""
    keras.config.set_dtype_policy("mixed_float16")
    columns = (
        Column("salary", "real", mean=1e5, scale=5e4),
        Column("sex", "binary", ("f", "m")),
    )
    likelihood = distributions.Columns(columns)
    model = RegularizedAutoencoder(
        networks.mlp((2,), (1,), features=networks.ColumnFeatures(columns)),
        networks.mlp((1,), likelihood.parameter_shape),
        likelihood=likelihood,
    )
    x = np.float32([[150_001, 1], [100_003, 0]])
    expected = model.decode(model.encode(x))
    np.testing.assert_allclose(model.reconstruct(x), expected, rtol=1e-3)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-3)


def test_a_bernoulli_likelihood_makes_an_autoencoder_of_logits():
    likelihood = distributions.Bernoulli((4, 4, 1))
    model = RegularizedAutoencoder(
        networks.mlp((4, 4, 1), (2,), hidden=()), networks.mlp((2,), (4, 4, 1), hidden=())
    )
    model.compile(loss=likelihood)
    assert model.generates_means
    x = RANDOM.random((5, 4, 4, 1)).astype("float32")
    logits = model.decoder(model.encoder(x))
    np.testing.assert_allclose(model.reconstruct(x), tf.sigmoid(logits), rtol=1e-6)
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(x, logits)
    np.testing.assert_allclose(model.score(x), tf.reduce_sum(entropy, axis=(1, 2, 3)), rtol=1e-5)
    with pytest.raises(ValueError, match="sigmoid"):
        RegularizedAutoencoder(
            networks.mlp((4, 4, 1), (2,)),
            networks.mlp((2,), (4, 4, 1), output_activation="sigmoid"),
            likelihood=likelihood,
        )


def gratings(number):
    """Return images of waves with random phases and amplitudes, in [0.1, 0.9]."""
    random = np.random.default_rng(1)
    phase = random.uniform(0, 2 * np.pi, (number, 1, 1))
    amplitude = random.uniform(0.1, 0.4, (number, 1, 1))
    rows, columns = np.mgrid[:8, :8]
    waves = amplitude * np.cos(0.9 * rows + 0.5 * columns + phase)
    return (0.5 + waves)[..., None].astype("float32")


def grating_autoencoder():
    model = RegularizedAutoencoder(
        networks.mlp((8, 8, 1), (3,), hidden=()), networks.mlp((3,), (8, 8, 1), hidden=())
    )
    model.compile(keras.optimizers.Adam(1e-2), loss="mse")
    return model


def grating_vae():
    model = VAE(
        networks.mlp((8, 8, 1), (6,), hidden=()),
        networks.mlp((3,), (8, 8, 1), hidden=()),
        distributions.DiagonalNormal(3),
        distributions.Normal((8, 8, 1), scale=0.1),
        seed=0,
    )
    model.compile(keras.optimizers.Adam(1e-2))
    return model


@pytest.mark.parametrize("make", [grating_autoencoder, grating_vae])
def test_a_planted_patch_contains_the_pixel_with_the_largest_part(make):
    keras.utils.set_random_seed(0)
    model = make()
    images = gratings(300)
    model.fit(images[:200], epochs=60, batch_size=50, verbose=0)
    changed = images[200:].copy()
    places = RANDOM.integers(0, 7, (100, 2))
    for image, (row, column) in zip(changed, places, strict=True):
        patch = image[row : row + 2, column : column + 2]
        patch[:] = np.where(patch > 0.5, patch - 0.5, patch + 0.5)
    parts = model.score_per_feature(changed).numpy().reshape(100, 64)
    found = np.stack(np.divmod(parts.argmax(axis=1), 8), axis=1)
    inside = ((found >= places) & (found < places + 2)).all(axis=1)
    assert inside.mean() >= 0.9
