"""The check of data against NumPy: ranges, whole numbers, missing elements and labels."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from keras_gen.fitting.data_check import DataCheck

LARGEST = float(np.finfo("float32").max)
VALUES = st.sampled_from(
    [0.0, 1.0, 0.5, -1.0, 2.0, 1.00005, 1.00015, 1.001, LARGEST, -LARGEST, np.nan, np.inf, -np.inf]
)
RANGES = {
    "any": {},
    "[0, 1]": {"low": 0.0, "high": 1.0},
    "[0, 2]": {"low": 0.0, "high": 2.0},
    "at least 0": {"low": 0.0},
    "per element": {"low": np.zeros(2, "float32"), "high": np.array([1, 2], "float32")},
}


@hypothesis.settings(max_examples=80, deadline=None, derandomize=True)
@hypothesis.given(
    st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=4),
    st.sampled_from(sorted(RANGES)),
    st.booleans(),
    st.sampled_from([None, (True, False), (True, True)]),
)
@hypothesis.example([(-LARGEST, LARGEST)], "any", False, None)
def test_valid_rows_are_those_of_numpy(rows, limits, missing, whole):
    x = np.array(rows, "float32")
    whole = None if whole is None else np.array(whole)
    check = DataCheck((2,), **RANGES[limits], missing=missing, whole=whole)
    low = RANGES[limits].get("low", -np.inf)
    high = RANGES[limits].get("high", np.inf)
    tolerance = 0 if limits == "per element" else 1e-4
    with np.errstate(invalid="ignore"):
        valid = np.isfinite(x) & (x >= low - tolerance) & (x <= high + tolerance)
        if whole is not None:
            valid &= ~whole | (x == np.round(x))
    valid |= missing & np.isnan(x)
    expected = valid.all(axis=1)
    np.testing.assert_array_equal(check.valid_rows(tf.constant(x)), expected)
    np.testing.assert_array_equal(check.valid(x), valid)
    for call in (lambda: check.inputs(x), lambda: check.before_work(x)):
        if expected.all():
            call()
        else:
            with pytest.raises(ValueError, match="Expected data in"):
                call()


def pairs(labels):
    x = np.full((len(labels), 2), 0.5, "float32")
    return tf.data.Dataset.from_tensor_slices((x, np.array(labels))).batch(2)


def test_labels_of_a_data_set_are_used_unless_others_are_given():
    check = DataCheck((2,), num_classes=3)
    np.testing.assert_array_equal(check.examples(pairs([0, 1, 2]))[1], [0, 1, 2])
    np.testing.assert_array_equal(check.examples(pairs([0, 1, 2]), [2, 2, 0])[1], [2, 2, 0])


def test_labels_of_a_data_set_do_not_matter_without_classes():
    x, labels = DataCheck((2,)).examples(pairs([0, 1, 2]))
    assert (x.shape, labels) == ((3, 2), None)
    with pytest.raises(ValueError, match="Expected no `condition`"):
        DataCheck((2,)).examples(x, [0, 1, 2])


def test_too_few_examples_are_refused():
    check = DataCheck((2,))
    assert len(check.examples(np.zeros((1, 2)))[0]) == 1
    assert len(check.examples(np.zeros((2, 2)), at_least=2)[0]) == 2
    with pytest.raises(ValueError, match=r"at least 1 example\. Received: 0 examples\."):
        check.examples(np.zeros((0, 2)))
    with pytest.raises(ValueError, match=r"at least 2 examples\. Received: 1 examples\."):
        check.examples(np.zeros((1, 2)), at_least=2)


def test_a_data_set_keeps_its_form_in_the_pipeline():
    x = np.full((2, 2), 0.5, "float32")
    for num_classes, given in ((None, x), (None, (x, 2 * x)), (3, (x, np.array([0, 2])))):
        dataset = tf.data.Dataset.from_tensors(given)
        [found] = DataCheck((2,), num_classes=num_classes).in_pipeline(dataset)
        tf.nest.assert_same_structure(found, given)
        for value, expected in zip(tf.nest.flatten(found), tf.nest.flatten(given), strict=True):
            np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (None, r"Expected labels as `y`.* Received: none\. Call fit\(x, labels\)"),
        ([0, 1, 2], r"Expected labels as `y`.* Received: a list\. Convert it"),
        (np.array([0, 1, 3]), "Expected labels as `y`.* Received: 3 at index 2"),
        (tf.constant([0, 1, 3]), "Expected labels as `y`.* Received: 3 at index 2"),
    ],
)
def test_labels_are_checked_before_training(labels, said):
    x = np.full((3, 2), 0.5, "float32")
    check = DataCheck((2,), num_classes=3)
    check.before_work(x, np.array([0, 1, 2]))
    with pytest.raises(ValueError, match=said):
        check.before_work(x, labels)
    with pytest.raises(ValueError, match=said.replace("`y`", "`labels of validation_data`")):
        check.before_work(x, labels, "validation_data")


def test_the_form_of_a_data_set_is_checked_before_training():
    check = DataCheck((2,), num_classes=3)
    check.before_work(pairs([0, 1, 2]))
    with pytest.raises(ValueError, match=r"Received: shape .* of float64"):
        check.before_work(pairs([0.0, 1.0, 2.0]))
    x = np.zeros((3, 2), "float32")
    with pytest.raises(ValueError, match=r"`x` as one array\. Received: a list of length 2\."):
        DataCheck((2,)).before_work([x, x])


def test_noisy_inputs_exceed_a_bounded_range_by_its_width():
    x = np.array([[-4.0], [-3.0], [3.0], [4.0]], "float32")
    noisy = DataCheck((1,), -1.0, 1.0).for_noisy_inputs()
    assert noisy.valid(x)[:, 0].tolist() == [False, True, True, False]
    half_bounded = DataCheck((1,), low=0.0).for_noisy_inputs()
    assert half_bounded.valid(x)[:, 0].tolist() == [False, False, True, True]
    limits = {"low": np.zeros(2, "float32"), "high": np.ones(2, "float32")}
    of_elements = DataCheck((2,), **limits).for_noisy_inputs()
    assert of_elements.valid(np.array([[0.0, 1.5]])).tolist() == [[True, False]]


PIXELS = "Scale pixels of 0 to 255 to this range."
CORRECT = "Correct such values, or remove the examples that contain them."


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, f"the range of finite numbers, without NaN. Received: R. {CORRECT}"),
        (
            {"low": 0.0},
            f"[0, inf], the range of the model's output, without NaN. Received: R. {CORRECT}",
        ),
        (
            {"low": 0.0, "high": 2.0},
            f"[0, 2], the range of the model's output, without NaN. Received: R. {PIXELS}",
        ),
        (
            {"low": 0.0, "high": 1.0, "missing": True, "whole": np.array([True, False])},
            "[0, 1], the range of the model's output, or NaN for a missing element. Some elements "
            f"must be whole numbers. Received: R. {PIXELS[:-1]}: x / 255.",
        ),
        (
            {"low": np.zeros(2), "high": np.array([1.0, 3.0])},
            f"[0, 3], the range of the model's output, without NaN. Received: R. {PIXELS}",
        ),
    ],
)
def test_a_message_says_which_values_are_expected(arguments, expected):
    x = np.array([[0.0, 1.0], [0.0, -np.inf]], "float32")
    check = DataCheck((2,), **arguments)
    for call, received in (
        (check.before_work, "-inf at [1, 1] of x"),
        (check.inputs, "other values, first in example 1 of `x`"),
    ):
        with pytest.raises(ValueError, match="Expected data in") as error:
            call(x)
        assert str(error.value) == f"Expected data in {expected.replace(' R.', f' {received}.')}"


COLUMNS = ["real", "positive", "count", "category"]
ENTRIES = {
    "real": (np.inf, "finite numbers"),
    "positive": (0.0, "numbers greater than 0"),
    "count": (1.5, "whole numbers of at least 0"),
    "category": (3.0, "codes of categories, whole numbers from 0 to 2"),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_message_about_a_table_names_the_column(column):
    low = np.array([-LARGEST, np.finfo("float32").tiny, 0, 0], "float32")
    high = np.array([LARGEST, LARGEST, LARGEST, 2], "float32")
    whole = np.array([False, False, True, True])
    check = DataCheck((4,), low, high, missing=True, whole=whole, names=COLUMNS)
    x = np.array([[1.0, 1.0, 1.0, 1.0], [np.nan, 1.0, 1.0, 1.0]], "float32")
    check.before_work(x)
    value, expected = ENTRIES[column]
    index = COLUMNS.index(column)
    x[1, index] = value
    for call, received in (
        (check.before_work, f"{value:g} at [1, {index}] of x"),
        (check.inputs, "other values, first in example 1 of `x`"),
    ):
        with pytest.raises(ValueError, match="Expected") as error:
            call(x)
        assert str(error.value) == (
            f"Expected {expected}, or NaN for a missing entry, in the column {column!r}. Received: "
            f"{received}. Convert the table with `keras_gen.data.read_table`, or with "
            "`table.from_frame`."
        )
    message = (
        "Expected a table in which each entry is valid .*, element @ .the index of the column"
        rf"(.|\n)*\[1\] \[{index}\]"
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        tf.function(check.inputs)(tf.constant(x))
