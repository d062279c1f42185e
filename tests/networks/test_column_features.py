"""`ColumnFeatures` and `MissingAsZero`: features of data with missing entries."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen import networks
from keras_gen._columns import Column

COLUMNS = (
    Column("island", "category", ("Biscoe", "Dream", "Torgersen")),
    Column("bill_mm", "real", mean=44.0, scale=5.0),
    Column("mass_g", "positive", mean=8.3, scale=0.2),
    Column("id", "identifier"),
    Column("eggs", "count", mean=2.0, scale=2.0),
    Column("sex", "binary", ("female", "male")),
    Column("size", "ordinal", ("S", "L")),
)
NAN = np.float32("nan")
ROWS = np.float32([[2, 54, np.exp(8.1), 6, 1, 0], [NAN] * 6, [0, NAN, np.exp(8.3), 2, 0, 1]])


def test_features_are_standardized_entries_then_codes_then_the_mask():
    features = networks.ColumnFeatures(COLUMNS)
    count = (np.log1p(6) - np.log1p(2)) / (np.log1p(4) - np.log1p(2))
    expected = [
        [2, -1, count, 1, 0, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1],
        [0] * 15,
        [0, 0, 0, -1, 1, 0, 0, 0, 1, 1, 0, 1, 1, 1, 1],
    ]
    np.testing.assert_allclose(features(ROWS), expected, atol=2e-5)
    assert features.compute_output_shape((None, 6)) == (None, 15)
    assert features.column_of_feature == (1, 2, 3, 4, 0, 0, 0, 5, 5)


def test_embeddings_replace_one_hot_vectors():
    features = networks.ColumnFeatures(COLUMNS, embedding_size=2)
    table = features.embeddings["0"].numpy()
    output = features(ROWS).numpy()
    assert output.shape == (3, 4 + 2 + 2 + 6)
    assert features.compute_output_shape((None, 6)) == (None, 14)
    assert features.column_of_feature == (1, 2, 3, 4, 0, 0, 5, 5)
    np.testing.assert_allclose(output[0, 4:6], table[2])
    np.testing.assert_array_equal(output[1], np.zeros(14))
    assert len(features.trainable_variables) == 2


def test_entries_are_hidden_in_training_only():
    features = networks.ColumnFeatures(COLUMNS[1:3], hide=0.25)
    rows = np.tile(np.float32([[49.0, np.exp(8.5)]]), (4000, 1))
    np.testing.assert_array_equal(features(rows), features(rows, training=False))
    assert np.all(features(rows, training=False)[:, 2:] == 1)
    output = features(rows, training=True).numpy()
    mask = output[:, 2:]
    assert abs(mask.mean() - 0.75) < 0.03
    np.testing.assert_array_equal(output[:, :2] != 0, mask == 1)


def test_gradients_with_respect_to_the_rows_are_finite():
    x = tf.constant(ROWS)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(networks.ColumnFeatures(COLUMNS)(x) ** 2)
    assert np.isfinite(tape.gradient(total, x)).all()


def test_a_network_with_features_keeps_them_when_it_is_saved(tmp_path):
    network = networks.mlp((6,), (3,), hidden=(4,), features=networks.ColumnFeatures(COLUMNS))
    network.save(tmp_path / "n.keras")
    loaded = keras.saving.load_model(tmp_path / "n.keras")
    np.testing.assert_array_equal(loaded(ROWS), network(ROWS))
    assert np.isfinite(network(ROWS)).all()


def test_large_numbers_do_not_overflow_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        salary = Column("salary", "real", mean=100_000.0, scale=50_000.0)
        network = networks.mlp((1,), (1,), hidden=(2,), features=networks.ColumnFeatures([salary]))
        assert np.isfinite(network(np.float32([[150_000.0]]))).all()
        layer = networks.ColumnFeatures([salary], dtype="mixed_float16")
        np.testing.assert_array_equal(layer(np.float32([[150_000.0]])), [[1.0, 1.0]])
    finally:
        keras.config.set_dtype_policy("float32")


def test_missing_pixels_become_zeros_with_a_mask():
    x = np.float32([[[[0.5], [NAN]]]])
    np.testing.assert_array_equal(networks.MissingAsZero()(x), [[[[0.5, 1.0], [0.0, 0.0]]]])
    layer = networks.MissingAsZero()
    assert layer.compute_output_shape((None, 4, 5, 3)) == (None, 4, 5, 6)
    assert repr(layer.compute_output_shape((None, 2, 1))) == "(None, 2, 2)"
    encoder = networks.conv_encoder((8, 8, 1), (2,), filters=(2,), features=layer)
    assert np.isfinite(encoder(np.full((1, 8, 8, 1), NAN))).all()


@pytest.mark.parametrize("hide", [-0.1, 1.0, "x", True])
def test_a_probability_outside_its_range_is_refused(hide):
    with pytest.raises(ValueError, match=r"must be a probability in \[0, 1\)"):
        networks.MissingAsZero(hide=hide)
