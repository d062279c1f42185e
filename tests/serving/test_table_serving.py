"""Models of tables behind the C++ loader of TensorFlow Serving, REST and gRPC."""

import json
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pandas
import pytest
import requests
from support import serving_models, without_verifying

from keras_gen import VAE, RegularizedAutoencoder, distributions, networks, serving
from keras_gen._columns import Column, decode_array, encode_frame
from keras_gen.serving import GRPCClient, RESTClient, ServingError

CHECKS = pathlib.Path(__file__).with_name("cpp_checks.py")
NAN = float("nan")
COLUMNS = (
    Column("größe (cm)", "real", mean=170.0, scale=9.0, decimals=1, minimum=150, maximum=201.5),
    Column("a b", "positive", mean=8.3, scale=0.2, missing=3, minimum=2700, maximum=6300),
    Column("Sex", "binary", ("female", "male"), dtype="object"),
    Column("sex", "category", ("Kö'ln", "b,c", 'd"e'), dtype="object"),
    Column("id", "identifier"),
    Column("visits", "count", mean=2.0, scale=2.0, minimum=0, maximum=7, dtype="int64"),
    Column("country", "constant", ("DE",), dtype="object"),
    Column("grade", "ordinal", (1, 2, 3), dtype="int64"),
    Column("smoker", "binary", (False, True), dtype="bool"),
)
NAMES = {  # name of the column → name of the tensor
    "größe (cm)": "gr__e__cm_",
    "a b": "a_b",
    "Sex": "Sex",
    "sex": "sex_",
    "visits": "visits",
    "grade": "grade",
    "smoker": "smoker",
}
FRAME = pandas.DataFrame(
    {
        "größe (cm)": [181.5, NAN, 164.2, NAN, 175.0],
        "a b": [3900.0, 4200.0, NAN, NAN, 5100.0],
        "Sex": ["male", None, "female", None, "male"],
        "sex": ["Kö'ln", 'd"e', None, None, "b,c"],
        "visits": [3, NAN, 0, NAN, 1],
        "grade": [2, 3, NAN, NAN, 1],
        "smoker": [True, None, False, None, False],
    }
)
ROWS = encode_frame(COLUMNS, FRAME)
CATEGORIES = r"""one of the categories Kö\'ln, b,c, d\"e"""  # TensorFlow escapes them in errors
SEEDS = [5, 6, 7, 8, 2**40]


def named(frame=FRAME):
    """The inputs of `*_columns` for the rows of a frame, as lists that JSON can have."""
    texts = {
        column: ["" if pandas.isna(value) else str(value) for value in frame[column]]
        for column in ("Sex", "sex", "smoker")
    }
    return {name: texts.get(column) or frame[column].tolist() for column, name in NAMES.items()}


def table_vae():
    likelihood = distributions.Columns(COLUMNS)
    model = VAE(
        networks.mlp((7,), (4,), hidden=(4,), features=networks.ColumnFeatures(COLUMNS)),
        networks.mlp((2,), likelihood.parameter_shape, hidden=(4,)),
        distributions.DiagonalNormal(2),
        likelihood,
        seed=0,
    )
    model.compile("adam")
    return model


def table_autoencoder():
    likelihood = distributions.Columns(COLUMNS)
    model = RegularizedAutoencoder(
        networks.mlp((7,), (2,), hidden=(4,), features=networks.ColumnFeatures(COLUMNS)),
        networks.mlp((2,), likelihood.parameter_shape, hidden=(4,)),
        seed=0,
    )
    model.compile("adam", loss=likelihood)
    return model


MODELS = {"clients": table_vae, "clients_autoencoder": table_autoencoder}


@pytest.fixture(scope="session")
def tables(once):
    """A folder with a trained, calibrated and published VAE and autoencoder of a table."""

    def publish(folder):
        with pytest.MonkeyPatch.context() as patch:
            without_verifying(patch)
            for name, make in MODELS.items():
                keras.utils.set_random_seed(0)
                model = make()
                model.run_eagerly = True
                model.fit(ROWS, epochs=2, verbose=0)
                model.run_eagerly = False
                model.calibrate(ROWS, 0.5)
                model.save(folder / f"{name}.keras")
                serving.publish(model, folder / name)

    return once("tables", publish)


@pytest.fixture(scope="session")
def table_models(tables):
    """The published models, by name."""
    return {name: keras.saving.load_model(tables / f"{name}.keras") for name in MODELS}


def answers_of_loader(folder, requests):
    """The answers of the C++ loader: dictionaries of arrays, or texts of errors."""
    command = [sys.executable, str(CHECKS), "answers", str(folder)]
    text = json.dumps(requests)
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return [
        answer if isinstance(answer, str) else {key: np.array(x) for key, x in answer.items()}
        for answer in json.loads(result.stdout)
    ]


def assert_rows(outputs, expected, names=NAMES):
    """Assert that named outputs are the values of an array of rows."""
    frame = decode_array(COLUMNS, expected)
    assert {*names.values()} <= set(outputs)
    for column, name in names.items():
        if outputs[name].dtype.kind in "UO":
            assert outputs[name].tolist() == frame[column].fillna("").astype(str).tolist()
        else:
            np.testing.assert_allclose(outputs[name], frame[column].astype(float), rtol=1e-4)


@pytest.fixture(scope="session")
def loader_answers(once, tables):
    """What the C++ loader answers to one request per signature of the VAE, by signature."""
    of_rows = {"inputs": ROWS.tolist()}
    requests = {
        "score": of_rows,
        "score_columns": named(),
        "encode_columns": named(),
        "serving_default_columns": named(),
        "impute": {**of_rows, "seed": SEEDS},
        "impute_columns": {**named(), "seed": SEEDS},
        "generate_columns": {"seed": SEEDS},
    }
    answers = answers_of_loader(tables / "clients" / "1", list(requests.items()))
    return dict(zip(requests, answers, strict=True))


def test_the_loader_gives_what_keras_gives(loader_answers, table_models):
    vae = table_models["clients"]
    for name in ("score", "score_columns"):
        outputs = loader_answers[name]
        np.testing.assert_allclose(outputs["score"], vae.score(ROWS), rtol=1e-4)
        np.testing.assert_array_equal(outputs["anomaly"], vae.is_anomaly(ROWS))
        assert 0 < outputs["anomaly"].sum() < len(ROWS)
        parts = vae.score_per_feature(ROWS)
        np.testing.assert_allclose(outputs["per_feature"], parts, rtol=1e-3, atol=1e-5)
    mean = loader_answers["encode_columns"]["mean"]
    np.testing.assert_allclose(mean, vae.encode(ROWS).mean(), atol=1e-5)
    assert_rows(loader_answers["serving_default_columns"], vae.reconstruct(ROWS))
    imputed = vae.impute(ROWS, seed=SEEDS)
    np.testing.assert_allclose(loader_answers["impute"]["outputs"], imputed, rtol=1e-4)
    assert_rows(loader_answers["impute_columns"], imputed)
    assert_rows(loader_answers["generate_columns"], vae.generate(seed=SEEDS).numpy())


@pytest.fixture(scope="session")
def findings(once, tables):
    """What the C++ loader makes of the warm-up records of the models, by name."""

    def check(folder):
        folders = [str(tables / name / "1") for name in MODELS]
        command = [sys.executable, str(CHECKS), "5", *folders]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        (folder / "findings.json").write_text(result.stdout)

    return json.loads((once("table_findings", check) / "findings.json").read_text())


@pytest.mark.parametrize("name", MODELS)
def test_every_signature_in_the_loader_agrees_row_by_row_and_in_threads(findings, name):
    found = findings[name]
    expected = {"serving_default", "encode", "score"}
    expected |= {"impute", "generate"} if name == "clients" else set()
    expected |= {f"{signature}_columns" for signature in expected} | {"decode"}
    assert set(found["signatures"]) - {"__saved_model_init_op"} == expected
    for kind in ("differences", "splits"):
        assert set(found[kind]) == expected
        assert max(found[kind].values()) < 1e-3, found[kind]
    assert all(found["empty"].values()), found["empty"]
    with_seeds = {"generate", "generate_columns", "impute", "impute_columns"} & expected
    assert found["threads"] == dict.fromkeys(with_seeds, 0)


def test_an_unknown_category_is_an_error_that_names_column_value_and_row(tables):
    unknown = named()
    unknown["sex_"] = ["Kö'ln", "", "Bonn\nBerlin", "", "Aachen"]
    grade = {**named(), "grade": [1, NAN, 2, 9, 3]}
    negative = {**named(), "visits": [1, NAN, 2, -1, 3], "seed": SEEDS}
    found = answers_of_loader(
        tables / "clients" / "1",
        [["score_columns", unknown], ["score_columns", grade], ["impute_columns", negative]],
    )
    for text, said in zip(
        found,
        (
            CATEGORIES + " in the column sex. Received: Bonn\\nBerlin in"
            " row 2. Send an empty string for a missing entry.",
            "one of the categories 1, 2, 3 in the column grade. Received: 9 in row 3. Send NaN for "
            "a missing entry.",
            "whole numbers of at least 0 in the column visits. Received: -1 in row 3. Send NaN for "
            "a missing entry.",
        ),
        strict=True,
    ):
        assert text.startswith("INVALID_ARGUMENT: assertion failed: ")
        assert f"Expected {said}" in text
        assert "#" not in text


@pytest.fixture(scope="session")
def table_server(tables):
    """The ports of a server of the models: `{"rest": port, "grpc": port}`."""
    with serving_models(tables) as ports:
        yield ports


def post(ports, body):
    url = f"http://localhost:{ports['rest']}/v1/models/clients:predict"
    answer = requests.post(url, data=body.encode(), timeout=60)
    return answer.status_code, json.loads(answer.content)


def test_json_with_named_columns_works_by_row_and_by_column(table_server, table_models):
    columns = named()
    rows = [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]
    expected = table_models["clients"].score(ROWS)
    for form, key in (({"instances": rows}, "predictions"), ({"inputs": columns}, "outputs")):
        body = json.dumps({"signature_name": "score_columns", **form})
        assert "NaN" in body
        status, answer = post(table_server, body)
        assert status == 200, answer
        answer = answer[key]
        scores = answer["score"] if key == "outputs" else [row["score"] for row in answer]
        np.testing.assert_allclose(scores, expected, rtol=1e-4)
    body = {"signature_name": "impute_columns", "instances": [{**rows[1], "seed": 6}]}
    status, answer = post(table_server, json.dumps(body))
    imputed = table_models["clients"].impute(ROWS[1:2], seed=[6])
    answer = {name: np.array([value]) for name, value in answer["predictions"][0].items()}
    assert_rows(answer, imputed)


def test_json_has_no_null_and_no_large_integer_for_a_float(table_server):
    columns = named(FRAME[:1])
    for wrong, said in (
        ({"a_b": [None]}, "JSON Value: null Type: Null is not of expected type: float"),
        ({"a_b": ["NaN"]}, "Type: String is not of expected type: float"),
        ({"a_b": [16777216]}, "Cannot convert JSON value: 16777216 to float without loss"),
        ({"Sex": [None]}, "is not of expected type: string"),
        ({"smoker": [True]}, "JSON Value: true Type: True is not of expected type: string"),
    ):
        body = json.dumps({"signature_name": "score_columns", "inputs": {**columns, **wrong}})
        status, answer = post(table_server, body)
        assert status == 400
        assert said in answer["error"]
    body = {"signature_name": "score_columns", "inputs": {**columns, "a_b": [16777216.0]}}
    assert post(table_server, json.dumps(body))[0] == 200


@pytest.fixture(params=["rest", "grpc"])
def client(request, table_server):
    """A function that makes a client of a model by its name, over REST and over gRPC."""

    def connect(name):
        if request.param == "grpc":
            return GRPCClient(f"localhost:{table_server['grpc']}", name)
        return RESTClient(f"http://localhost:{table_server['rest']}", name)

    return connect


FRAME_OF_USER = FRAME.assign(id=["", None, "c", "d", "e"], country="DE")[
    ["id", "smoker", "sex", "Sex", "a b", "country", "grade", "visits", "größe (cm)"]
].set_index(pandas.Index([10, 20, 30, 40, 50]))


def test_the_clients_score_tables(client, table_models):
    for name, model in table_models.items():
        ask = client(name)
        for table in (FRAME_OF_USER, FRAME_OF_USER.to_dict("list"), ROWS):
            scored = ask.score(table)
            np.testing.assert_allclose(scored.score, model.score(ROWS), rtol=1e-4)
            np.testing.assert_array_equal(scored.anomaly, model.is_anomaly(ROWS))
            parts = model.score_per_feature(ROWS)
            np.testing.assert_allclose(scored.per_feature, parts, rtol=1e-3, atol=1e-5)


def test_the_clients_impute_tables(client, table_models):
    ask = client("clients")
    expected = table_models["clients"].impute(ROWS, seed=SEEDS)
    np.testing.assert_allclose(ask.impute(ROWS, SEEDS), expected, rtol=1e-4)
    imputed = ask.impute(FRAME_OF_USER, SEEDS)
    assert imputed.index.equals(FRAME_OF_USER.index)
    assert [*imputed] == [*FRAME_OF_USER]
    assert not imputed[[*NAMES]].isna().any(axis=None)
    assert imputed["id"].equals(FRAME_OF_USER["id"])
    observed = FRAME_OF_USER.notna()
    assert imputed.where(observed).equals(FRAME_OF_USER.where(observed))
    by_name = decode_array(COLUMNS, expected)
    for name in NAMES:
        if imputed[name].dtype.kind == "f":
            np.testing.assert_allclose(imputed[name], by_name[name], rtol=1e-4)
        else:
            assert imputed[name].tolist() == by_name[name].tolist()
    assert ask.impute(FRAME_OF_USER.to_dict("list"), SEEDS) == imputed.to_dict("list")
    one_seed = ask.impute(FRAME_OF_USER, 5)
    assert one_seed[:1].equals(imputed[:1])


def test_the_clients_generate_encode_and_reconstruct_tables(client, table_models):
    vae = table_models["clients"]
    ask = client("clients")
    generated = ask.generate_columns(SEEDS)
    assert set(generated) == {*NAMES.values()}
    assert_rows(generated, vae.generate(seed=SEEDS).numpy())
    np.testing.assert_allclose(ask.encode(FRAME)["mean"], vae.encode(ROWS).mean(), atol=1e-5)
    reconstructed = ask.reconstruct(FRAME_OF_USER)
    assert "id" not in reconstructed
    renamed = {NAMES[name]: reconstructed[name].to_numpy() for name in NAMES}
    assert_rows(renamed, vae.reconstruct(ROWS))


def test_the_clients_name_the_column_of_an_error(client):
    ask = client("clients")
    with pytest.raises(ServingError) as caught:
        ask.score(FRAME.assign(sex=["Kö'ln", "Bonn", None, None, None]))
    assert str(caught.value) == (
        f"INVALID_ARGUMENT: Expected {CATEGORIES} in the column sex. "
        "Received: Bonn in row 1. Send an empty string for a missing entry."
    )
    for table, said in (
        (FRAME.drop(columns="visits"), r"Missing: visits\. Received: größe"),
        (FRAME.assign(visits="many"), r"column 'visits' must contain numbers.*'many' in row 0"),
        (FRAME.assign(visits=np.inf), r"`visits` must be finite, or NaN"),
        ({**FRAME.to_dict("list"), "visits": [1]}, "same length"),
        (FRAME.assign(a_b=1.0), r"fit the input a_b, .* Received: a_b, a b\. Rename"),
    ):
        with pytest.raises(ValueError, match=said):
            ask.score(table)
    with pytest.raises(ValueError, match=r"no signature 'impute_columns'"):
        client("clients_autoencoder").impute(FRAME, SEEDS)


def test_only_grpc_accepts_an_empty_table(client):
    ask = client("clients")
    if isinstance(ask, RESTClient):
        with pytest.raises(ValueError, match="at least one row"):
            ask.score(FRAME[:0])
        return
    assert ask.score(FRAME[:0]).per_feature.shape == (0, 7)
    assert ask.impute(FRAME[:0], 1).empty


def test_the_example_of_the_model_card_works_when_pasted(tables, table_server, table_models):
    card = (tables / "clients" / "1" / "assets.extra" / "MODEL_CARD.md").read_text("utf-8")
    for line in (
        "| größe (cm) | `gr__e__cm_` | real | 150 … 201.5 | 0 |",
        "| a b | `a_b` | positive | 2700 … 6300 | 3 |",
        "| sex | `sex_` | category | Kö'ln, b,c, d\"e | 0 |",
        "These columns are not part of the model: id (identifier), country (constant DE).",
        "likelihood: Columns, 7 columns",
    ):
        assert line in card
    [command] = re.findall(r"^    (curl .*score_columns.*)$", card, re.MULTILINE)
    command = command.replace("8501", str(table_server["rest"]))
    result = subprocess.run(command, shell=True, capture_output=True, check=True)
    answer = json.loads(result.stdout)["predictions"]
    typical = [column.typical for column in COLUMNS if column.modeled]
    rows = np.array([typical, [NAN, *typical[1:]]], np.float32)
    expected = table_models["clients"].score(rows)
    np.testing.assert_allclose([row["score"] for row in answer], expected, rtol=1e-4)


def test_a_row_of_nan_is_an_anomaly_without_missing_entries(server, images):
    rows = images[:3].copy()
    rows[1] = NAN
    body = json.dumps({"signature_name": "score", "inputs": rows.tolist()})
    url = f"http://localhost:{server['rest']}/v1/models/autoencoder:predict"
    answer = json.loads(requests.post(url, data=body, timeout=60).content)["outputs"]
    assert np.isfinite(answer["score"]).tolist() == [True, False, True]
    assert answer["anomaly"][1] is True
