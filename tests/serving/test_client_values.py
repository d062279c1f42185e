"""The conversions of the clients, without a server: columns, names, dtypes and error texts."""

import base64

import numpy as np
import pandas
import pytest

from keras_gen.serving import RESTClient, ServingError, client
from keras_gen.serving.client import Tensor, Version

NAN = float("nan")


class Answers(client._Client):
    """A client that answers each request with the arrays that it would send."""

    def __init__(self, **signatures):
        super().__init__("nowhere", "m")
        self.asked = 0
        self.described = {name: client.Signature(inputs, {}) for name, inputs in signatures.items()}

    def _request_signatures(self):
        self.asked += 1
        return self.described

    def _predict(self, signature, arrays, outputs):
        return {"signature": signature, **arrays}


ROWS = Tensor("float32", (None, 2))
SEED = Tensor("int64", (None,))


@pytest.mark.parametrize("signature", ["impute", "score_columns"])
def test_nan_is_allowed_if_the_model_accepts_missing_entries_but_not_in_latents(signature):
    with_missing = Answers(decode={"latents": ROWS}, encode={"inputs": ROWS}, **{signature: {}})
    without = Answers(decode={"latents": ROWS}, encode={"inputs": ROWS})
    holes = np.array([[0.5, NAN]])
    np.testing.assert_array_equal(with_missing.predict("encode", inputs=holes)["inputs"], holes)
    with pytest.raises(ValueError, match="`latents` must be finite"):
        with_missing.predict("decode", latents=holes)
    with pytest.raises(ValueError, match=r"`inputs` must be finite, or NaN\. Received: infinite"):
        with_missing.predict("encode", inputs=[[1e39, 0.0]])
    with pytest.raises(ValueError, match=r"`inputs` must be finite\. Received: NaN or infinite"):
        without.predict("encode", inputs=holes)


def test_the_signatures_are_requested_once():
    answers = Answers(encode={"inputs": ROWS})
    assert answers.signatures() is answers.signatures()
    assert answers.asked == 1


def test_one_seed_is_repeated_for_every_row():
    answers = Answers(impute={"inputs": ROWS, "seed": SEED})
    sent = []
    answers._predict = lambda signature, arrays, outputs: sent.append(arrays) or {"outputs": 0}
    for seed, expected in ((7, [7, 7, 7]), ([1, 2, 3], [1, 2, 3])):
        answers.impute(np.zeros((3, 2)), seed)
        assert sent[-1]["seed"].tolist() == expected
    assert sent[-1]["seed"].dtype == np.int64


def test_a_table_needs_a_signature_for_columns():
    answers = Answers(score={"inputs": ROWS})
    with pytest.raises(ValueError, match="'m' has no signature 'score_columns'"):
        answers.score({"a": [1.0]})
    of_table = Answers(
        score_columns={
            "a": Tensor("float32", (None,)),
            "s": Tensor("object", (None,)),
            "condition": SEED,
            "seed": SEED,
        }
    )
    assert of_table._names("score_columns", {"s": 1, "a": 2, "other": 3}) == {"a": "a", "s": "s"}


@pytest.mark.parametrize(
    ("tensors", "columns", "expected"),
    [
        (["a"], ["a", "b"], {"a": "a"}),
        (["body_mass"], ["body mass"], {"body_mass": "body mass"}),
        (["body_mass_"], ["body mass"], {"body_mass_": "body mass"}),
        (["column_x"], ["_x", "y"], {"column_x": "_x"}),
        (["a_b", "a_b_"], ["a b", "a_b"], {"a_b": "a_b", "a_b_": "a b"}),
        (["2x"], ["2x"], {"2x": "2x"}),
        (["m.2-x"], ["m.2-x"], {"m.2-x": "m.2-x"}),
        (["gr__e"], ["größe"], {"gr__e": "größe"}),
        (["gr__e"], ["grö e", "größe"], None),
        (["a", "b"], ["a"], None),
        (["a_b"], ["a b", "a.b", "a-b"], {"a_b": "a b"}),
        (["a_b"], ["a b", "a/b"], None),
        (["a_b", "a_b_"], ["a b"], None),
    ],
)
def test_each_input_gets_the_column_that_it_is_named_after(tensors, columns, expected):
    if expected is None:
        with pytest.raises(ValueError, match=r"must have the columns|One column must fit"):
            client._matched(tensors, columns)
        return
    assert client._matched(tensors, columns) == expected


@pytest.mark.parametrize(
    ("array", "dtype", "expected"),
    [
        (np.zeros(2, np.float64), "float32", True),
        (np.zeros(2, np.int64), "float32", True),
        (np.zeros(2, np.uint8), "float32", False),
        (np.zeros(2, np.uint8), "int64", True),
        (np.zeros(2, np.float32), "int64", False),
        (np.zeros(0, np.float32), "int64", True),
        (np.zeros(2, bool), "float32", True),
        (np.array([b"x", b"y"], object), "object", True),
        (np.array([b"x", "y"], object), "object", False),
        (np.array(["x"]), "float32", False),
    ],
)
def test_values_keep_their_meaning(array, dtype, expected):
    assert client._has_kind(array, dtype) == expected


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((3, 2), True), ((3, 4), True), ((3,), False), ((2, 2), False), ((3, 2, 1), False)],
)
def test_none_stands_for_any_size(shape, expected):
    assert client._has_shape(np.zeros(shape), (3, None)) == expected


def test_numbers_are_the_shortest_that_round_to_the_float32():
    values = np.float32([0.1, 16777216, 1e-7, -2.5])
    assert client._plain_values(values) == [0.1, 16777216.0, 1e-7, -2.5]
    assert client._plain_values(np.array(["ä".encode(), b""], object)) == ["ä", ""]
    assert client._plain_values(np.array([1, 2])) == [1, 2]


def test_missing_entries_are_none_nan_na_and_empty_texts():
    frame = pandas.DataFrame(
        {"a": [1.5, NAN], "n": pandas.array([3, None], "Int64"), "s": ["", "x"], "o": [None, 0]}
    )
    assert client._lists(frame) == {
        "a": [1.5, None],
        "n": [3, None],
        "s": [None, "x"],
        "o": [None, 0.0],
    }
    assert client._lists({"a": (NAN, 0, "", "0", None, False)}) == {
        "a": [None, 0, None, "0", None, False]
    }
    with pytest.raises(ValueError, match=r"same length\. Received: \{'a': 1, 'b': 2\}"):
        client._lists({"a": [1], "b": [1, 2]})
    with pytest.raises(ValueError, match="Received more than once: 1"):
        client._lists({1: [1], "1": [2], "b": [3]})


def test_columns_are_sent_as_numbers_or_as_bytes():
    numbers = client._column_as_array("a", ["1.5", 2, None, True], "float32")
    assert numbers.dtype == np.float32
    np.testing.assert_array_equal(numbers, np.float32([1.5, 2, NAN, 1]))
    texts = client._column_as_array("s", ["ä", 2.0, 2.5, None, 7], "object")
    assert texts.tolist() == ["ä".encode(), b"2", b"2.5", b"", b"7"]
    for wrong in ("many", [1]):
        with pytest.raises(ValueError, match=r"column 'a' must contain numbers.*in row 1\."):
            client._column_as_array("a", [1.0, wrong], "float32")


def test_imputed_values_replace_missing_entries_only():
    assert client._filled([1, None, 3], [7, 8, 9]) == [1, 8, 3]
    assert client._filled([True, None, None], ["True", "False", "True"]) == [True, False, True]
    assert client._filled([np.False_, None], ["x", "y"]) == [np.False_, "y"]
    assert client._filled([None, None], ["True", "x"]) == ["True", "x"]
    assert client._filled(["yes", None], ["x", "True"]) == ["yes", "True"]


def test_the_answer_has_the_type_the_index_and_the_dtypes_of_the_table():
    frame = pandas.DataFrame({"a": [1, 2], 3: ["x", "y"], "more": [5, 6]}, index=["r", "s"])
    filled = client._table_like(frame, {"a": [1.0, 4.0], "3": ["x", "z"]}, keep_others=True)
    expected = pandas.DataFrame({"a": [1, 4], 3: ["x", "z"], "more": [5, 6]}, index=["r", "s"])
    pandas.testing.assert_frame_equal(filled, expected)
    only = client._table_like(frame, {"a": [1.0, 4.0], "3": ["x", "z"]})
    pandas.testing.assert_frame_equal(only, expected[["a", 3]])
    text = client._table_like(frame, {"a": ["many", "few"]})
    assert text["a"].tolist() == ["many", "few"]  # the dtype of the table does not fit
    table = {"a": [1, None], "more": [5, 6]}
    assert client._table_like(table, {"a": [1, 4]}, keep_others=True) == {**table, "a": [1, 4]}
    assert client._table_like(table, {"a": [1, 4]}) == {"a": [1, 4]}


def test_the_conversion_to_json_and_back():
    assert client._to_json(np.float32([[0.5, 1]])) == [[0.5, 1.0]]
    data = [{"b64": base64.b64encode(b"\xff").decode()}, "ä"]
    assert client._to_json(np.array([b"\xff"], object)) == data[:1]
    found = client._from_json(data, Tensor("object", (None,)))
    assert found.tolist() == [b"\xff", "ä".encode()]
    numbers = client._from_json([1, 2], Tensor("int32", (None,)))
    assert (numbers.dtype, numbers.tolist()) == (np.int32, [1, 2])
    assert client._to_json(np.array([b"x"], object)) == [{"b64": "eA=="}]


MARK = "\u2063\u2063"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("plain # text", "plain # text"),
        (f"Assert: [{MARK}bad\nvalue{MARK}]", "bad\nvalue"),
        (f"[{MARK}row #{MARK}] [12]", "row 12"),
        (f"[{MARK}row # element @{MARK}] [12] [-1] [3]", "row 12 element -1"),
        (f"{MARK}no end", f"{MARK}no end"),
    ],
)
def test_marked_messages_are_shown_with_their_numbers(message, shown):
    assert client._readable(message) == shown


def test_an_error_has_its_code_and_advice():
    error = ServingError("UNAVAILABLE", "cannot reach it.")
    assert error.code == "UNAVAILABLE"
    assert str(error).startswith("UNAVAILABLE: cannot reach it. Is the server running there?")
    assert str(ServingError("INTERNAL", "broken")) == "INTERNAL: broken"


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({}, ""),
        ({"version": 3}, "/versions/3"),
        ({"version": 0}, "/versions/0"),
        ({"label": "a/b c"}, "/labels/a%2Fb%20c"),
    ],
)
def test_the_url_names_the_version_or_the_label(arguments, path):
    rest = RESTClient("http://host:1//", "my/model", **arguments)
    assert rest.url == f"http://host:1/v1/models/my%2Fmodel{path}"
    assert rest.timeout == 60


def test_versions_and_tensors_of_json():
    entry = {"version": "12", "state": "END", "status": {"error_message": "no disk"}}
    assert client._version_of(entry) == Version(12, "END", "no disk")
    assert client._version_of({**entry, "status": {}}).error == ""
    shape = {"dim": [{"size": "-1"}, {"size": "8"}, {"size": "1"}]}
    infos = {
        "x": {"dtype": "DT_DOUBLE", "tensor_shape": shape},
        "y": {"dtype": "DT_BOOL", "tensor_shape": {}},
    }
    assert client._tensors_of(infos) == {
        "x": Tensor("float64", (None, 8, 1)),
        "y": Tensor("bool", ()),
    }


def test_outputs_of_another_dtype_or_number_of_rows_are_refused():
    outputs = {"y": Tensor("float32", (None, 2))}
    values = {"y": np.zeros((3, 2), np.float32)}
    assert client._checked_outputs(values, outputs, 3) is values
    for wrong, rows in ((np.zeros((3, 2)), 3), (values["y"], 4), (values["y"][:, :1], 3)):
        with pytest.raises(ValueError, match="y must be float32 of shape"):
            client._checked_outputs({"y": wrong}, outputs, rows)
