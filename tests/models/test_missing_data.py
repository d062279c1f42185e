"""Training with missing entries, and `VAE.impute`, against the exact conditional normal."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen import VAE, distributions, evaluation, networks, objectives
from keras_gen._columns import Column

NAN = np.float32("nan")
MEANS = np.array([44.0, 17.0, 200.0, 4200.0])
SCALES = np.array([5.0, 2.0, 14.0, 800.0])
LOADINGS = np.array([[0.8, 0.1], [-0.5, 0.6], [0.7, 0.4], [0.2, -0.9]])  # of standardized entries
OFFSETS = np.array([0.1, -0.2, 0.0, 0.3])
NOISE = np.array([0.5, 0.4, 0.6, 0.3])
MEAN = MEANS + SCALES * OFFSETS
COVARIANCE = (LOADINGS @ LOADINGS.T + np.diag(NOISE**2)) * np.outer(SCALES, SCALES)


def linear_gaussian():
    """A VAE whose p(x) is the normal of MEAN and COVARIANCE. Its q(z | x) is the prior."""
    columns = [
        Column(f"c{index}", "real", mean=mean, scale=scale)
        for index, (mean, scale) in enumerate(zip(MEANS, SCALES, strict=True))
    ]
    likelihood = distributions.Columns(columns)
    likelihood.groups[0].variance.assign(NOISE**2)
    features = networks.ColumnFeatures(columns)
    encoder = networks.mlp((4,), (4,), hidden=(), features=features)
    decoder = networks.mlp((2,), likelihood.parameter_shape, hidden=())
    encoder.set_weights([np.zeros_like(weight) for weight in encoder.get_weights()])
    decoder.set_weights([LOADINGS.T.astype("float32"), OFFSETS.astype("float32")])
    posterior = distributions.DiagonalNormal(2)
    model = VAE(encoder, decoder, posterior, likelihood, seed=0)
    model.compile("adam")
    return model


def rows_with_holes(number=6):
    random = np.random.default_rng(3)
    x = random.multivariate_normal(MEAN, COVARIANCE, number)
    holes = random.random(x.shape) < 0.5
    holes[0] = [True, True, True, True]
    holes[1] = [False] * 4
    return np.where(holes, np.nan, x).astype("float32")


def exact(row):
    """Mean and covariance of the missing entries, and log p of the observed ones."""
    missing = np.isnan(row)
    observed = ~missing
    of_observed = COVARIANCE[np.ix_(observed, observed)]
    gain = COVARIANCE[np.ix_(missing, observed)] @ np.linalg.inv(of_observed)
    difference = row[observed] - MEAN[observed]
    mean = MEAN[missing] + gain @ difference
    covariance = COVARIANCE[np.ix_(missing, missing)] - gain @ COVARIANCE[np.ix_(observed, missing)]
    log_p = -0.5 * (
        difference @ np.linalg.solve(of_observed, difference)
        + np.linalg.slogdet(2 * np.pi * of_observed)[1]
    )
    return mean, covariance, log_p


@pytest.fixture(scope="module")
def linear_model():
    return linear_gaussian()


def test_imputed_means_are_those_of_the_conditional_normal(linear_model):
    x = rows_with_holes()
    number = 40_000
    imputed = linear_model.impute(x, num_samples=number, seed=1)
    np.testing.assert_array_equal(imputed[~np.isnan(x)], x[~np.isnan(x)])
    assert np.isfinite(imputed).all()
    for row, result in zip(x, imputed, strict=True):
        mean, covariance, _ = exact(row)
        # importance sampling from the prior has a few hundred effective samples or more
        error = np.sqrt(np.diag(covariance) / 400)
        assert np.all(np.abs(result[np.isnan(row)] - mean) < 4 * error)


def test_imputations_have_the_covariance_of_the_conditional_normal(linear_model):
    row = np.float32([[NAN, 18.0, NAN, 3900.0]])
    imputations = linear_model.impute(row, num_samples=20_000, num_imputations=8_000, seed=2)
    assert imputations.shape == (8_000, 1, 4)
    missing = imputations[:, 0, [0, 2]].astype("float64")
    mean, covariance, _ = exact(row[0])
    error = np.sqrt(np.diag(covariance) / 1000)
    assert np.all(np.abs(missing.mean(axis=0) - mean) < 4 * error)
    np.testing.assert_allclose(np.cov(missing.T), covariance, rtol=0.15)


def test_log_likelihood_of_rows_with_holes_is_exact(linear_model):
    x = rows_with_holes()
    result = evaluation.log_likelihood(linear_model, x, num_samples=20_000, seed=0)
    expected = [exact(row)[2] for row in x]
    np.testing.assert_allclose(result.values, expected, atol=0.1)


def test_an_imputed_row_depends_on_its_own_seed_only(linear_model, monkeypatch):
    x = rows_with_holes()
    seeds = np.arange(10, 10 + len(x))
    together = linear_model.impute(x, num_samples=50, seed=seeds)
    alone = linear_model.impute(x[3:4], num_samples=50, seed=seeds[3:4])
    np.testing.assert_allclose(alone[0], together[3], rtol=1e-5)
    several = linear_model.impute(x, num_samples=50, num_imputations=3, seed=seeds)
    one = linear_model.impute(x[3:4], num_samples=50, num_imputations=3, seed=seeds[3:4])
    np.testing.assert_allclose(one[:, 0], several[:, 3], rtol=1e-5)
    assert np.all(np.std(several[:, 0], axis=0) > 0)
    monkeypatch.setattr("keras_gen.models.vae._DECODED_TOGETHER", 100)
    in_pairs = linear_model.impute(x, num_samples=50, num_imputations=3, seed=seeds)
    np.testing.assert_allclose(in_pairs, several, rtol=1e-5)
    endpoint, _ = linear_model.signatures()["impute"]
    served = endpoint(tf.constant(x), tf.constant(seeds))["outputs"]
    expected = linear_model.impute(x, num_samples=1000, seed=seeds)
    np.testing.assert_allclose(served, expected, rtol=1e-5)
    with pytest.raises(ValueError, match="num_imputations"):
        linear_model.impute(x, num_imputations=0)


@pytest.mark.parametrize("objective", [objectives.ELBO(), objectives.IWAE(num_samples=3)])
def test_a_mixed_table_with_holes_trains_and_gives_rows_of_the_table(objective, tmp_path):
    columns = (
        Column("mass", "positive", mean=8.3, scale=0.2),
        Column("eggs", "count", mean=2.0, scale=1.5),
        Column("sex", "binary", ("f", "m")),
        Column("island", "category", ("B", "D", "T")),
    )
    random = np.random.default_rng(0)
    x = np.stack(
        [
            np.exp(8.3 + 0.2 * random.normal(size=64)),
            random.poisson(2, 64),
            random.integers(0, 2, 64),
            random.integers(0, 3, 64),
        ],
        axis=1,
    ).astype("float32")
    x[random.random(x.shape) < 0.3] = NAN
    likelihood = distributions.Columns(columns)
    features = networks.ColumnFeatures(columns, hide=0.2)
    posterior = distributions.DiagonalNormal(2)
    model = VAE(
        networks.mlp((4,), (4,), hidden=(8,), features=features),
        networks.mlp((2,), likelihood.parameter_shape, hidden=(8,)),
        posterior,
        likelihood,
        seed=0,
    )
    model.compile(keras.optimizers.Adam(1e-2), objective=objective)
    history = model.fit(x, epochs=3, batch_size=16, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    generated = model.generate(20, seed=0).numpy()
    assert np.all(generated[:, 0] > 0)
    np.testing.assert_array_equal(generated[:, 1:], np.round(generated[:, 1:]))
    assert generated[:, 1:].min() >= 0
    assert generated[:, 3].max() <= 2
    complete = model.impute(x, num_samples=10, seed=0)
    assert np.isfinite(complete).all()
    np.testing.assert_array_equal(complete[:, 1:], np.round(complete[:, 1:]))
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded.impute(x, num_samples=10, seed=0), complete)
    np.testing.assert_array_equal(loaded.generate(20, seed=0), generated)
    np.testing.assert_allclose(loaded.score(x), model.score(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("column", "entry", "words"),
    [
        ("mass", 0.0, "Expected numbers greater than 0.* in the column 'mass'"),
        ("mass", np.inf, "column 'mass'"),
        ("eggs", 1.5, "whole numbers of at least 0.* in the column 'eggs'"),
        ("eggs", -1.0, "column 'eggs'"),
        ("sex", 2.0, "codes of categories, whole numbers from 0 to 1.* in the column 'sex'"),
        ("bill", -np.inf, "finite numbers.* in the column 'bill'"),
    ],
)
def test_an_entry_that_its_column_cannot_have_is_refused(column, entry, words):
    columns = (
        Column("mass", "positive", mean=8.3, scale=0.2),
        Column("eggs", "count", mean=2.0, scale=1.5),
        Column("sex", "binary", ("f", "m")),
        Column("bill", "real", mean=44.0, scale=5.0),
    )
    likelihood = distributions.Columns(columns)
    posterior = distributions.DiagonalNormal(1)
    model = VAE(
        networks.mlp((4,), (2,), hidden=(), features=networks.ColumnFeatures(columns)),
        networks.mlp((1,), likelihood.parameter_shape, hidden=()),
        posterior,
        likelihood,
        seed=0,
    )
    model.compile("adam")
    x = np.tile(np.float32([[4000.0, 2.0, 1.0, 40.0]]), (4, 1))
    x[2, 3] = NAN
    model.fit(x, epochs=1, verbose=0)
    x[1, [c.name for c in columns].index(column)] = entry
    with pytest.raises(ValueError, match=rf"{words}.*at \[1, \d\] of x"):
        model.fit(x, epochs=1, verbose=0)
    batches = tf.data.Dataset.from_tensor_slices(x).batch(2)
    with pytest.raises(ValueError, match="first in example 1 of the batch, element"):
        model.fit(batches, epochs=1, verbose=0)


def images_model(missing, features):
    posterior = distributions.DiagonalNormal(2)
    likelihood = distributions.Bernoulli((4, 4, 1), missing=missing)
    return VAE(
        networks.mlp((4, 4, 1), (4,), hidden=(8,), features=features),
        networks.mlp((2,), (4, 4, 1), hidden=(8,)),
        posterior,
        likelihood,
        seed=0,
    )


def test_missing_pixels_are_filled_in():
    model = images_model(True, networks.MissingAsZero())
    model.compile(keras.optimizers.Adam(0.02), objective=objectives.ELBO(free_bits=1.0))
    x = np.tile(np.float32([[0, 1], [1, 0]] * 2).repeat(2, axis=1)[None, ..., None], (32, 1, 1, 1))
    x[::2] = 1 - x[::2]
    holes = x.copy()
    holes[np.random.default_rng(0).random(x.shape) < 0.4] = NAN
    model.fit(holes, epochs=40, batch_size=16, verbose=0)
    imputed = model.impute(holes, num_samples=50, seed=0)
    assert np.mean(np.round(imputed) == x) > 0.95


def test_missing_pixels_are_refused_where_the_likelihood_does_not_allow_them():
    x = np.full((4, 4, 4, 1), NAN)
    model = images_model(False, None)
    model.compile("adam")
    with pytest.raises(ValueError, match="without NaN"):
        model.fit(x, verbose=0)
    with pytest.raises(ValueError, match="must accept missing elements"):
        model.impute(x)
    with pytest.raises(ValueError, match="`encoder` must accept NaN"):
        images_model(True, None)
