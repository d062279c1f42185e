"""Signatures with one named input and output per column, also in the C++ loader."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import verified_here, without_verifying

from keras_gen import VAE, RegularizedAutoencoder, distributions, networks, serving
from keras_gen._columns import Column
from keras_gen._export_columns import decode_column, encode_column, tensor_names

NAN = float("nan")
COLUMNS = (
    Column("island", "category", ("Biscoe", "Dream", "Torgersen")),
    Column("bill length (mm)", "real", mean=44.0, scale=5.0, decimals=1),
    Column("mass_g", "positive", mean=8.3, scale=0.2),
    Column("id", "identifier"),
    Column("seed", "count", mean=2.0, scale=2.0),
    Column("sex", "binary", ("female", "male")),
    Column("answer", "ordinal", (0, 1, 2)),
)
ROWS = np.array([[2, 54.25, 3900, 3, 1, 2], [NAN] * 6, [0, NAN, 4200, 2, NAN, 0]], dtype=np.float32)
NAMED = {
    "island": tf.constant(["Torgersen", "", "Biscoe"]),
    "bill_length__mm_": tf.constant([54.25, NAN, NAN]),
    "mass_g": tf.constant([3900.0, NAN, 4200.0]),
    "seed_": tf.constant([3.0, NAN, 2.0]),
    "sex": tf.constant(["male", "", ""]),
    "answer": tf.constant([2.0, NAN, 0.0]),
}


@pytest.fixture(scope="module")
def table_vae():
    likelihood = distributions.Columns(COLUMNS)
    model = VAE(
        networks.mlp((6,), (4,), hidden=(4,), features=networks.ColumnFeatures(COLUMNS)),
        networks.mlp((2,), likelihood.parameter_shape, hidden=(4,)),
        distributions.DiagonalNormal(2),
        likelihood,
        seed=0,
        name="penguins",
    )
    model.compile("adam")
    model.calibrate(ROWS, 0.5)
    return model


@pytest.fixture(scope="module")
def exported(table_vae, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "1"
    table_vae.export(folder)
    return folder


@pytest.fixture(scope="module")
def signatures(exported):
    loaded = tf.saved_model.load(str(exported))
    signatures = loaded.signatures
    yield signatures
    del loaded


def test_every_function_of_rows_has_one_of_columns(signatures):
    of_rows = {"serving_default", "encode", "score", "impute", "generate"}
    of_columns = {f"{name}_columns" for name in of_rows}
    assert set(signatures) == of_rows | of_columns | {"decode"}


def test_scores_of_named_columns_are_those_of_rows(signatures, table_vae):
    outputs = signatures["score_columns"](**NAMED)
    np.testing.assert_allclose(outputs["score"], table_vae.score(ROWS), rtol=1e-5)
    np.testing.assert_array_equal(outputs["anomaly"], table_vae.is_anomaly(ROWS))
    parts = table_vae.score_per_feature(ROWS)
    np.testing.assert_allclose(outputs["per_feature"], parts, rtol=1e-4)


def test_imputed_columns_are_those_of_keras(signatures, table_vae):
    seeds = np.array([5, 6, 7])
    expected = table_vae.impute(ROWS, seed=seeds)
    outputs = signatures["impute_columns"](**NAMED, seed=tf.constant(seeds))
    assert set(outputs) == set(NAMED)
    islands = np.array(["Biscoe", "Dream", "Torgersen"])
    np.testing.assert_array_equal(
        outputs["island"].numpy().astype(str), islands[expected[:, 0].astype(int)]
    )
    np.testing.assert_allclose(outputs["bill_length__mm_"], expected[:, 1].round(1), rtol=1e-5)
    np.testing.assert_allclose(outputs["mass_g"], expected[:, 2], rtol=1e-4)
    np.testing.assert_array_equal(outputs["seed_"], expected[:, 3])
    np.testing.assert_array_equal(outputs["answer"], expected[:, 5])


def test_generated_columns_are_those_of_keras(signatures, table_vae):
    seeds = np.arange(8)
    rows = table_vae.generate(seed=seeds).numpy()
    outputs = signatures["generate_columns"](seed=tf.constant(seeds))
    sexes = np.array(["female", "male"])
    np.testing.assert_array_equal(outputs["sex"].numpy().astype(str), sexes[rows[:, 4].astype(int)])
    np.testing.assert_array_equal(outputs["seed_"], rows[:, 3])


def test_a_category_that_the_table_does_not_have_is_an_error(signatures):
    named = {**NAMED, "island": tf.constant(["Dream", "Biscoe", "Anvers"])}
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"Dream, Torgersen in.*Anvers in row 2"
    ):
        signatures["score_columns"](**named)
    named = {**NAMED, "answer": tf.constant([0.0, 7.0, NAN])}
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"column answer\. Received: 7 in row 1"
    ):
        signatures["score_columns"](**named)


def test_an_invalid_number_is_an_anomaly_and_cannot_be_imputed(signatures):
    for name, wrong, said in (
        ("mass_g", -5.0, "numbers greater than 0 in the column mass_g. Received: -5 in row 1"),
        ("seed_", 1.5, "whole numbers of at least 0 in the column seed. Received: 1.5 in row 1"),
        ("bill_length__mm_", float("inf"), r"finite numbers in .*\(mm\). Received: inf in row 1"),
    ):
        named = {**NAMED, name: tf.constant([NAN, wrong, NAN])}
        outputs = signatures["score_columns"](**named)
        assert np.isinf(outputs["score"]).tolist() == [False, True, False]
        assert outputs["anomaly"][1]
        assert np.isinf(outputs["per_feature"]).sum() == 1
        with pytest.raises(tf.errors.InvalidArgumentError, match=said):
            signatures["impute_columns"](**named, seed=tf.constant([5, 6, 7], tf.int64))


def test_a_message_shows_20_categories_and_100_characters():
    for number in (20, 21, 25):
        names = [f"c{index}" for index in range(number)]
        column = Column("name", "category", tuple(names))
        np.testing.assert_array_equal(encode_column(column, tf.constant(["c1", ""])), [1, NAN])
        with pytest.raises(tf.errors.InvalidArgumentError) as error:
            encode_column(column, tf.constant(["c1", 60 * "ä" + 60 * "b"]))
        more = f" and {number - 20} more" if number > 20 else ""
        expected = (
            f"Expected one of the categories {', '.join(names[:20])}{more} in the column name. "
            f"Received: {60 * 'ä'}{40 * 'b'} in row 1. Send an empty string"
        )
        assert repr(expected.encode())[2:-1] in error.value.message  # TensorFlow escapes it


def test_the_smallest_valid_numbers_are_accepted():
    smallest = tf.constant([np.finfo("float32").tiny, NAN])
    positive = Column("mass", "positive", mean=0.0, scale=1.0)
    np.testing.assert_array_equal(encode_column(positive, smallest), smallest)
    count = Column("visits", "count", mean=2.0, scale=2.0)
    np.testing.assert_array_equal(encode_column(count, tf.constant([0.0, NAN])), [0.0, NAN])
    with pytest.raises(tf.errors.InvalidArgumentError, match="inf in row 0"):
        encode_column(count, tf.constant([np.inf]))


def test_numbers_are_rounded_to_the_decimals_of_the_column():
    entries = tf.constant([1.2366, -0.5, 131.0, NAN])
    for decimals, expected in ((2, [1.24, -0.5, 131.0, NAN]), (0, [1.0, -0.0, 131.0, NAN])):
        column = Column("x", "real", mean=0.0, scale=1.0, decimals=decimals)
        np.testing.assert_allclose(decode_column(column, entries), expected, rtol=1e-6)
    plain = Column("x", "real", mean=0.0, scale=1.0)
    np.testing.assert_array_equal(decode_column(plain, entries), entries)
    sex = Column("sex", "binary", ("female", "male"))
    found = decode_column(sex, tf.constant([1.0, NAN, 0.0])).numpy()
    assert found.tolist() == [b"male", b"", b"female"]


def test_names_of_tensors_are_valid_and_differ():
    names = ("größe", "Sex", "sex", "_x", "inputs", "", "a/b", "a_b")
    result = tensor_names([Column(name, "real") for name in names])
    assert result == ["gr__e", "Sex", "sex_", "column_x", "inputs_", "column", "a_b_", "a_b"]
    text = Column("size_bytes", "category", ("small", "large"))
    assert tensor_names([text, Column("size bytes", "count")]) == ["size_bytes_", "size_bytes"]


def test_empty_batches_are_accepted(signatures):
    named = {name: values[:0] for name, values in NAMED.items()}
    assert signatures["score_columns"](**named)["score"].shape == (0,)


def test_an_autoencoder_has_the_functions_of_columns_too(tmp_path):
    likelihood = distributions.Columns(COLUMNS)
    model = RegularizedAutoencoder(
        networks.mlp((6,), (2,), hidden=(4,), features=networks.ColumnFeatures(COLUMNS)),
        networks.mlp((2,), likelihood.parameter_shape, hidden=(4,)),
    )
    model.compile(keras.optimizers.Adam(), loss=likelihood)
    endpoints = model.endpoints()
    assert {"serving_default_columns", "encode_columns", "score_columns"} < set(endpoints)
    function, specs = endpoints["score_columns"]
    assert [spec.name for spec in specs] == list(NAMED)
    outputs = function(*(NAMED[spec.name] for spec in specs))
    np.testing.assert_allclose(outputs["score"], model.score(ROWS), rtol=1e-5)


def test_a_published_model_of_a_table_is_verified(table_vae, tmp_path, monkeypatch):
    without_verifying(monkeypatch, verified_here)
    version = serving.publish(table_vae, tmp_path / "models" / "penguins")
    card = (pathlib.Path(version) / "assets.extra" / "MODEL_CARD.md").read_text()
    assert "`island` string [batch]" in card
