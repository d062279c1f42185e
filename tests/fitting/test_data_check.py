"""The check of data against NumPy: ranges, whole numbers, missing elements and labels."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from keras_gen.fitting.data_check import DataCheck

LARGEST = float(np.finfo("float32").max)
VALUES = st.sampled_from(
    [0.0, 1.0, 0.5, -1.0, 2.0, 1.00005, 1.001, LARGEST, -LARGEST, np.nan, np.inf, -np.inf]
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
