"""The ensemble of autoencoders: its score, its training, its files and its errors."""

import json
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import onnxruntime
import pytest
import tensorflow as tf
from sklearn.preprocessing import StandardScaler

from keras_gen import AutoencoderEnsemble, Checkpoints, serving
from keras_gen._columns import Column
from keras_gen.models.autoencoder_ensemble import _Subsets

CHECKS = pathlib.Path(__file__).parents[1] / "serving" / "cpp_checks.py"
RANDOM = np.random.default_rng(0)
X = RANDOM.normal([5.0, -300.0, 0.0, 1e4], [1.0, 20.0, 0.01, 1e3], (60, 4)).astype("float32")
X[:, 3] += 500 * (X[:, 0] - 5)
HOLES = np.where(RANDOM.random(X.shape) < 0.2, np.float32("nan"), X)
SMALL = {"num_members": 4, "subset_sizes": (8, 16, 100), "latent_sizes": (1, 8), "hidden_size": 5}
FIT = {"epochs": 2, "steps_per_epoch": 3, "batch_size": 8, "verbose": 0}
COLUMNS = (
    Column("mass", "positive", mean=8.3, scale=0.2),
    Column("eggs", "count", mean=2.0, scale=1.5),
    Column("name", "identifier"),
    Column("island", "category", ("B", "D", "T")),
)


def small(features=4, seed=3, **arguments):
    return AutoencoderEnsemble(features, **{**SMALL, **arguments}, seed=seed)


def eager(seed=3, **arguments):
    """A small ensemble that trains without a graph."""
    model = small(seed=seed)
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True, **arguments)
    return model


@pytest.fixture(scope="module")
def ensemble():
    model = eager()
    model.fit(HOLES, **FIT)
    model.calibrate(X, quantile=0.9)
    return model


@pytest.fixture(scope="module")
def of_table():
    model = small(COLUMNS)
    model.compile(keras.optimizers.Adam(1e-2), run_eagerly=True)
    model.fit(rows_of_table(), **FIT)
    model.calibrate(rows_of_table(), quantile=0.9)
    return model


def rows_of_table():
    random = np.random.default_rng(1)
    mass = np.exp(8.3 + 0.2 * random.normal(size=40))
    eggs = random.poisson(2, 40)
    islands = np.repeat([0, 2, 1], [19, 20, 1])
    rows = np.stack([mass, eggs, islands], axis=1).astype("float32")
    rows[3, 0] = np.nan
    rows[5, 2] = np.nan
    return rows


def weights(network):
    """Return `(kernel, bias)` of the two layers of a network, `[members, …]`."""
    dense = [layer for layer in network.layers if isinstance(layer, keras.layers.EinsumDense)]
    return [(layer.kernel.numpy(), layer.bias.numpy()) for layer in dense]


def expected_parts(model, x, reference, clip=0.05):
    """Compute the score per feature with NumPy, member by member, one row after the other."""
    scaler = StandardScaler().fit(reference)
    total = np.zeros(x.shape)
    for member in range(model.num_members):

        def network(values, pairs, member=member):
            (first, first_bias), (second, second_bias) = pairs
            hidden = np.tanh(values @ first[member] + first_bias[member])
            return hidden @ second[member] + second_bias[member]

        used = (1, 3)[member // 3 % 2]  # 8 latents would be more than the features

        def encoded(values, used=used, network=network):
            z = network(values, weights(model.encoder))
            return np.where(np.arange(3) < used, z, 0)

        def squares(values, low, high, encoded=encoded, network=network):
            z = np.clip(encoded(np.nan_to_num(values)), low, high)
            return (values - network(z, weights(model.decoder))) ** 2

        train = scaler.transform(reference)
        low, high = np.quantile(encoded(np.nan_to_num(train)), [clip, 1 - clip], axis=0)
        variance = np.nanmean(squares(train, low, high), axis=0) + 0.01

        def parts(values, low=low, high=high, variance=variance, squares=squares):
            logs = np.log1p(squares(values, low, high) / variance)
            observed = np.mean(~np.isnan(values), axis=1, keepdims=True)
            return np.nan_to_num(logs) / observed

        median = np.median(parts(train).sum(axis=1))
        total += parts(scaler.transform(x)) / median / model.num_members
    return total


def test_the_score_is_that_of_numpy_member_by_member(ensemble):
    assert [tuple(layer.shape[1:]) for layer in ensemble.encoder.outputs] == [(4, 3)]
    for x in (X, HOLES[:10]):
        parts = expected_parts(ensemble, x, HOLES)
        np.testing.assert_allclose(ensemble.score_per_feature(x), parts, rtol=2e-3, atol=2e-4)
        np.testing.assert_allclose(ensemble.score(x), parts.sum(axis=1), rtol=2e-3)
    np.testing.assert_allclose(ensemble.predict(X, verbose=0), ensemble.score(X), rtol=1e-5)


def test_a_column_with_one_observed_entry_is_scored_and_no_latent_of_training_is_clipped():
    rows = X[:6].copy()
    rows[1:, 2] = np.nan
    model = small(clip=0)
    model.set_scales(model.standardize(rows))
    parts = expected_parts(model, X[:20], rows, clip=0)
    np.testing.assert_allclose(model.score_per_feature(X[:20]), parts, rtol=2e-3, atol=2e-4)


def test_a_missing_entry_adds_nothing_and_a_row_without_entries_is_an_anomaly(ensemble):
    parts = ensemble.score_per_feature(HOLES).numpy()
    np.testing.assert_array_equal(parts[np.isnan(HOLES)], 0)
    nothing = np.full((1, 4), np.nan, "float32")
    model = small()
    features = model.standardize(np.concatenate([X, nothing]))
    model.set_scales(features)
    without = small()
    without.standardize(X)
    without.set_scales(features[:-1])
    np.testing.assert_allclose(model.score(X), without.score(X), rtol=1e-2)
    assert ensemble.score(nothing)[0] == np.inf
    assert ensemble.is_anomaly(nothing)[0]


def test_scores_of_many_rows_are_computed_in_parts(ensemble, monkeypatch):
    whole = ensemble.score(X)
    monkeypatch.setattr("keras_gen.models.autoencoder_ensemble._PART", 7)
    np.testing.assert_allclose(ensemble.score(X), whole, rtol=1e-5)


def test_huge_numbers_have_finite_scores(ensemble):
    row = np.copy(X[:1])
    row[0, 2] = 3e38
    assert np.isfinite(ensemble.score(row)[0])
    assert ensemble.is_anomaly(row)[0]
    assert np.argmax(ensemble.score_per_feature(row)[0]) == 2
    # The standardized number is at most 1e9.
    limit = ensemble.feature_mean[2] + [5e8, 1e9] * ensemble.feature_scale[2]
    rows = np.repeat(row, 2, axis=0)
    rows[:, 2] = limit
    below, at_limit = ensemble.score(rows).numpy()
    assert below < at_limit
    np.testing.assert_allclose(ensemble.score(row)[0], at_limit, rtol=1e-5)


def test_each_member_samples_all_rows_of_its_own_subset_only():
    model = small()
    subsets = _Subsets(steps=40, batch_size=10)
    rows = np.arange(240, dtype="float32").reshape(60, 4)
    with subsets.around(model, {"x": rows, "epochs": 2}) as arguments:
        batches = list(arguments["x"].as_numpy_iterator())
    assert arguments["steps_per_epoch"] == 40
    assert len(batches) == 80
    assert batches[0].shape == (10, 4, 4)
    assert not np.array_equal(batches[0], batches[40])
    features = StandardScaler().fit_transform(rows)
    sampled = np.concatenate(batches)
    found = []
    for member in range(4):
        distances = np.abs(sampled[:, member, None] - features[None]).max(axis=2)
        assert distances.min(axis=1).max() < 1e-5
        found.append(set(distances.argmin(axis=1)))
    assert [len(each) for each in found] == [8, 16, 48, 8]  # at most 80 % of the rows
    assert found[0] != found[3]
    first = sampled[:, 0, 0]
    _, counts = np.unique(first, return_counts=True)
    assert counts.min() > 60  # of 100 on average


def test_the_scales_of_the_score_follow_from_at_most_1000_rows():
    subsets = _Subsets(steps=1, batch_size=1)
    with subsets.around(small(), {"x": np.repeat(X, 20, axis=0), "epochs": 1}):
        assert subsets.reference.shape == (1000, 4)


def test_each_layer_starts_from_other_weights_with_another_seed():
    first, second = (weights(model.encoder) for model in (small(seed=18), small(seed=20)))
    for (kernel, _), (other, _) in zip(first, second, strict=True):
        assert not np.allclose(kernel, other)


def test_a_member_of_two_columns_has_one_latent():
    for columns in (1, 2):
        assert small(columns).encoder.output_shape == (None, 4, 1)


def test_the_scales_are_no_trainable_weights():
    model = small()
    assert len(model.trainable_weights) == 8  # a kernel and a bias in each of four layers
    np.testing.assert_array_equal(model.non_trainable_weights[1], np.ones(4))


def test_training_lowers_the_loss_of_every_member():
    model = small()
    history = model.fit(X, epochs=3, steps_per_epoch=40, verbose=0).history["loss"]
    assert history[-1] < 0.8 * history[0]
    fresh = small()
    features = tf.constant(fresh.standardize(X))
    fresh.set_scales(features.numpy())
    model.set_scales(features.numpy())
    before = fresh.residual_variance.numpy().mean(axis=1)
    assert (model.residual_variance.numpy().mean(axis=1) < before).all()


@pytest.mark.parametrize(
    "mode", [{"jit_compile": False}, {"jit_compile": True}], ids=["graph", "XLA"]
)
def test_every_mode_is_the_same_training(ensemble, mode):
    model = small()
    model.compile(keras.optimizers.Adam(1e-2), **mode)
    model.fit(HOLES, **FIT)
    np.testing.assert_allclose(model.score(X), ensemble.score(X), rtol=1e-3)


def test_the_seed_decides_everything():
    scores = []
    for seed in (3, 3, 4):
        keras.utils.set_random_seed(len(scores))
        model = eager(seed)
        model.fit(X, **FIT)
        scores.append(model.score(X).numpy())
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.allclose(scores[0], scores[2], rtol=1e-2)


def test_the_keras_file_contains_everything(ensemble, tmp_path):
    ensemble.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded.score(X), ensemble.score(X))
    assert loaded.threshold == ensemble.threshold
    assert loaded.subset_sizes == (8, 16, 100)
    again = keras.saving.load_model(tmp_path / "m.keras")
    loaded.fit(X, **FIT)
    again.fit(X, **FIT)
    np.testing.assert_array_equal(loaded.score(X), again.score(X))
    assert int(loaded.optimizer.iterations) == 12


@keras.saving.register_keras_serializable("tests")
class Mine(AutoencoderEnsemble):
    def __init__(self, features, offset=1.0, **kwargs):
        super().__init__(features, **kwargs)
        self.offset = offset

    def score_functions(self, x, condition=None):
        score, parts = super().score_functions(x, condition)
        return lambda: score() + self.offset, parts


@pytest.mark.parametrize("features", [4, COLUMNS], ids=["numbers", "table"])
def test_a_subclass_is_saved_with_its_arguments(features, tmp_path):
    model = Mine(features, offset=2.0, **SMALL, seed=5)
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert (loaded.offset, loaded.features, loaded.seed) == (2.0, features, 5)
    assert (loaded.subset_sizes, loaded.hidden_size) == ((8, 16, 100), 5)
    assert loaded.columns == (features if features is COLUMNS else ())
    for mine, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_the_exported_functions_are_the_scores(ensemble, tmp_path):
    ensemble.export(tmp_path / "1")
    signatures = tf.saved_model.load(str(tmp_path / "1")).signatures
    assert set(signatures) == {"serving_default", "score"}
    for rows in (0, 1, 60):
        outputs = signatures["score"](inputs=tf.constant(HOLES[:rows]))
        assert set(outputs) == {"score", "anomaly", "per_feature"}
        np.testing.assert_allclose(outputs["score"], ensemble.score(HOLES)[:rows], rtol=1e-4)
        np.testing.assert_array_equal(outputs["anomaly"], ensemble.is_anomaly(HOLES)[:rows])
    parts = ensemble.score_per_feature(HOLES)
    np.testing.assert_allclose(outputs["per_feature"], parts, rtol=1e-3, atol=1e-4)
    invalid = np.float32([[5.0, np.inf, 0.0, 1e4], [np.nan] * 4])
    outputs = signatures["serving_default"](inputs=tf.constant(invalid))
    np.testing.assert_array_equal(outputs["score"], [np.inf, np.inf])
    np.testing.assert_array_equal(outputs["anomaly"], [True, True])
    np.testing.assert_array_equal(outputs["per_feature"][0], [0, np.inf, 0, 0])


def test_onnx_runtime_computes_the_scores(ensemble, tmp_path):
    ensemble.export(tmp_path / "m.onnx", format="onnx", signature="score")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, {"inputs": HOLES}), strict=True))
    np.testing.assert_allclose(outputs["score"], ensemble.score(HOLES), rtol=1e-4)
    np.testing.assert_array_equal(outputs["anomaly"], ensemble.is_anomaly(HOLES))


def answer_of_loader(folder, signature, inputs):
    """Return what the C++ loader of TensorFlow Serving answers, in a process of its own."""
    command = [sys.executable, str(CHECKS), "answers", str(folder)]
    request = json.dumps([[signature, inputs]])
    result = subprocess.run(command, input=request, capture_output=True, text=True, check=True)
    return json.loads(result.stdout)[0]


@pytest.mark.usefixtures("unverified")
def test_a_table_is_scored_by_column_and_published(of_table, tmp_path):
    rows = rows_of_table()
    parts = of_table.score_per_feature(rows).numpy()
    assert parts.shape == (40, 3)
    np.testing.assert_allclose(parts.sum(axis=1), of_table.score(rows), rtol=1e-5)
    np.testing.assert_array_equal(parts[np.isnan(rows)], 0)
    assert np.argmax(parts[:, 2]) == 39  # the only row with this category
    folder = serving.publish(of_table, tmp_path / "model")
    signatures = tf.saved_model.load(str(folder)).signatures
    outputs = signatures["score_columns"](
        mass=tf.constant(rows[:5, 0]),
        eggs=tf.constant(rows[:5, 1]),
        island=tf.constant(["B", "B", "B", "B", "B"]),
    )
    np.testing.assert_allclose(outputs["score"], of_table.score(rows[:5]), rtol=1e-4)
    answer = answer_of_loader(folder, "score", {"inputs": rows.tolist()})
    np.testing.assert_allclose(answer["score"], of_table.score(rows), rtol=1e-4)
    np.testing.assert_array_equal(answer["anomaly"], of_table.is_anomaly(rows))
    np.testing.assert_allclose(answer["per_feature"], parts, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match=re.escape("in the column 'island'")):
        of_table.score(np.float32([[4000, 2, 7]]))


def test_checkpoints_resume_the_same_training(tmp_path):
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    whole = eager()
    whole.fit(X, **FIT)
    with pytest.raises(KeyboardInterrupt):
        eager().fit(X, **FIT, callbacks=[Checkpoints(tmp_path, every=2), Stop()])
    resumed = eager()
    history = resumed.fit(X, **FIT, callbacks=[Checkpoints(tmp_path, every=2)])
    assert len(history.epoch) <= 2
    np.testing.assert_array_equal(resumed.score(X), whole.score(X))


def test_weights_that_a_callback_saves_have_the_scales_of_their_epoch(tmp_path):
    path = tmp_path / "{epoch}.keras"
    best = keras.callbacks.EarlyStopping(
        "val_loss", patience=1, min_delta=1e9, restore_best_weights=True
    )
    model = eager()
    saved = keras.callbacks.ModelCheckpoint(path)
    model.fit(X, **FIT, validation_split=0.2, callbacks=[saved, best])
    first = keras.saving.load_model(tmp_path / "1.keras")
    np.testing.assert_array_equal(model.score(X), first.score(X))
    one = eager()
    one.fit(X[:48], **{**FIT, "epochs": 1})
    np.testing.assert_allclose(one.score(X), first.score(X), rtol=1e-5)


def test_the_validation_loss_is_that_of_numpy(ensemble):
    model = eager()
    history = model.fit(HOLES, **FIT, validation_data=X[:7]).history
    z = (X[:7] - model.feature_mean.numpy()) / model.feature_scale.numpy()
    members = np.repeat(z[:, None], 4, axis=1)
    error = np.mean((members - model.decoder(model.encoder(members))) ** 2)
    assert history["val_loss"][-1] == pytest.approx(error, rel=1e-4)
    assert model.evaluate(X[:7], verbose=0) == pytest.approx(error, rel=1e-4)
    z = np.nan_to_num((HOLES[:7] - model.feature_mean.numpy()) / model.feature_scale.numpy())
    members = np.repeat(z[:, None], 4, axis=1)
    squares = (members - model.decoder(model.encoder(members))) ** 2
    error = np.mean(np.where(np.isnan(HOLES[:7, None]), 0, squares))  # 0 for a missing entry
    assert model.evaluate(HOLES[:7], verbose=0) == pytest.approx(error, rel=1e-4)


def test_a_large_validation_split_leaves_one_row_for_the_training():
    model = eager()
    history = model.fit(X[:2], **{**FIT, "epochs": 1}, validation_split=0.9).history
    assert np.isfinite(history["val_loss"]).all()
    np.testing.assert_allclose(model.feature_mean, X[0])


def test_two_replicas_train_like_one(ensemble, two_replicas):
    with two_replicas.scope():
        model = small()
        model.compile(keras.optimizers.Adam(1e-2))
    model.fit(HOLES, **FIT)
    np.testing.assert_allclose(model.score(X), ensemble.score(X), rtol=1e-3)
    with two_replicas.scope():
        model._compile_for(epochs=1, steps_per_epoch=100)
    assert model.steps_per_execution == 1  # Keras takes wrong steps otherwise


def test_mixed_precision_is_float32(ensemble):
    keras.config.set_dtype_policy("mixed_float16")
    model = eager()
    np.testing.assert_array_equal(model.encoder.get_weights()[0].dtype, "float32")
    model.fit(HOLES, **FIT)
    # The loss is scaled, which changes the last digits of the gradients.
    np.testing.assert_allclose(model.score(X), ensemble.score(X), rtol=1e-3)
    np.testing.assert_allclose(model.predict(X, verbose=0), model.score(X), rtol=1e-5)


def test_a_second_fit_starts_with_a_new_learning_rate():
    rates = []

    class Rates(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate))

    model = small()
    model.fit(X, **FIT, callbacks=[Rates()])
    cosine = 0.01 * (1 + np.cos(np.pi * np.arange(6) / 6)) / 2
    np.testing.assert_allclose(rates, cosine, rtol=1e-5)
    before = model.decoder.get_weights()
    model.fit(X, **FIT)
    assert int(model.optimizer.iterations) == 6
    change = [np.abs(a - b).max() for a, b in zip(before, model.decoder.get_weights(), strict=True)]
    assert min(change) > 1e-3


def test_constant_columns_and_few_rows_are_accepted():
    one = np.float64([[1.0, 0.1]])
    model = small(2)
    model.fit(one, **FIT)
    assert np.isfinite(model.score(one)).all()
    x = np.zeros((5, 4), "float32")
    x[:, 0] = [0, 1, 2, 3, 4]
    x[:, 1] = 0.1
    x[:, 2] = 1000
    x[2, 2] = np.nextafter(np.float32(1000), np.float32(2000))  # differs by a rounding error
    x[:, 3] = 1
    x[2, 3] += 4 * np.finfo("float32").eps  # differs by more
    model = small(4)
    features = model.standardize(x)
    scales = np.std(x.astype("float64"), axis=0)
    np.testing.assert_allclose(model.feature_scale, [scales[0], 1, 1, scales[3]], rtol=1e-6)
    np.testing.assert_allclose(features[:, 1:3], 0, atol=1e-4)
    x[:, 1] = 0
    np.testing.assert_array_equal(model.standardize(x)[:, 1], 0)
    x[:, 1] = 1e-9 * np.arange(5)
    np.testing.assert_allclose(np.std(model.standardize(x)[:, 1]), 1, rtol=1e-4)


def test_rows_without_any_residual_have_finite_scores():
    model = small(1)
    model.set_scales(np.zeros((5, 1), "float32"))  # the output is 0, because all biases are 0
    scores = model.score(np.float32([[0.0], [0.1]]))
    # σ² is 0.01, and the median of the sums is replaced by 1e-6.
    np.testing.assert_allclose(scores, [0, np.log(2) / 1e-6], rtol=1e-5)


@pytest.mark.parametrize(
    ("numbers", "fits"),
    [
        (2.0**24 + np.arange(97), True),
        (2.0**24 + np.arange(49), False),
        (2.0**24 + np.array([1, 41]), True),  # exactly 5 %
        (1 + 1e-9 * np.arange(5), False),
    ],
)
def test_differences_of_large_numbers_must_be_larger_than_their_rounding(numbers, fits):
    """float32 rounds odd numbers above 2²⁴ by 1: 4 % or 7 % of the standard deviation."""
    x = np.repeat(numbers[:, None], 4, axis=1)
    if fits:
        assert small()._training_rows(x).dtype == np.float32
        return
    with pytest.raises(ValueError, match=r"float32 can represent.*the column '0'"):
        small()._training_rows(x)


def test_what_the_ensemble_is_given_is_checked(ensemble):
    holes = X.copy()
    holes[:, 2] = np.nan
    infinite = X.copy()
    infinite[3, 1] = np.inf
    large = np.arange(20.0).reshape(5, 4) + np.array([0, 1e9, 0, 1e9])
    labels = np.zeros(60)
    batches = tf.data.Dataset.from_tensor_slices((X, labels)).batch(8)
    fresh = eager()
    for arguments, message in (
        ({"x": None}, "Expected `x` as an array or a tf.data.Dataset"),
        ({"x": iter([X])}, "Expected `x`"),
        ({"x": (row for row in [X])}, "Expected `x` as an array.*Received: generator"),
        ({"x": batches}, "data set of batches without labels"),
        ({"x": X, "y": labels}, r"trained without `y`.*Omit it: fit\(x\)"),
        ({"x": X, "sample_weight": labels}, "trained without `sample_weight`"),
        ({"x": X, "class_weight": {0: 1.0}}, "does not accept `class_weight`"),
        ({"x": X[:, :3]}, r"Expected `x` of shape \(batch, 4\)"),
        ({"x": X[:0]}, "Expected at least"),
        ({"x": X, "batch_size": 0}, "`batch_size` must be an integer of at least 1"),
        ({"x": X, "steps_per_epoch": 0}, "`steps_per_epoch` must be an integer of at least 1"),
        ({"x": X, "epochs": 0}, "`epochs` must be an integer of at least 1"),
        ({"x": X, "validation_split": 1}, r"`validation_split` must be a number in \[0, 1\)"),
        ({"x": holes}, "at least one observed entry per column.*column '2'"),
        ({"x": infinite}, "Expected data in"),
        ({"x": large}, "float32 can represent.*the column '1'"),
    ):
        with pytest.raises(ValueError, match=message):
            fresh.fit(**arguments)
    fresh.compile(steps_per_execution=2)
    with pytest.raises(ValueError, match="must be a multiple of `steps_per_execution`"):
        fresh.fit(X, steps_per_epoch=3)
    untrained = small()
    for method in (untrained.score, untrained.score_per_feature, untrained.calibrate):
        with pytest.raises(ValueError, match=r"is not trained.*Call fit\(x\)"):
            method(X)
    with pytest.raises(ValueError, match=r"cannot be trained on one batch.*Use fit\(x\)"):
        ensemble.train_on_batch(X)
    with pytest.raises(ValueError, match="only detects anomalies"):
        ensemble.generate(3)
    with pytest.raises(ValueError, match="Expected a model with an encoder"):
        ensemble.latents(X)
    for name in ("loss", "metrics"):
        with pytest.raises(ValueError, match=f"has no `{name}`"):
            small().compile(**{name: "mse"})
    for arguments, message in (
        ({"features": 0}, "`features` of AutoencoderEnsemble must be an integer of at least 1"),
        ({"features": ("a",)}, "must be the columns of a table"),
        ({"num_members": 0}, "`num_members`"),
        ({"subset_sizes": ()}, "`subset_sizes` must be a tuple of positive integers"),
        ({"latent_sizes": (1, 0)}, "`latent_sizes`"),
        ({"hidden_size": 1.5}, "`hidden_size`"),
        ({"clip": 0.5}, r"`clip` must be a number in \[0, 0.5\)"),
        ({"threshold": "high"}, "`threshold` must be a number or None"),
    ):
        with pytest.raises(ValueError, match=message):
            small(**{"features": 4, **arguments})


def test_an_anomaly_planted_in_one_column_is_found_there():
    random = np.random.default_rng(2)
    z = random.normal(size=(400, 2))
    x = z @ random.normal(size=(2, 6)) + 0.1 * random.normal(size=(400, 6))
    shapes = []

    class Recorded(AutoencoderEnsemble):
        def train_step(self, data):
            shapes.append(tuple(data.shape))
            return super().train_step(data)

    model = Recorded(6, num_members=12, seed=0)
    model.fit(x[:300], epochs=2, verbose=0)
    assert set(shapes) == {(32, 12, 6)}
    assert int(model.optimizer.iterations) == 2 * 100
    assert model.steps_per_execution == 50
    planted = x[300:].copy()
    columns = np.arange(100) % 6
    planted[np.arange(100), columns] += 3 * x.std(axis=0)[columns] * random.choice([-1, 1], 100)
    found = model.score_per_feature(planted).numpy().argmax(axis=1)
    assert np.mean(found == columns) >= 0.9
