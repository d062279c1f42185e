"""Make exported functions that have one input and one output per column of a table.

The methods of a model of a table take and return rows as one array `[batch, columns]`. To call the
exported functions, a client does not need to know the order of the columns in such an array.

In this module, an endpoint is a pair `(function, specs)`. The function takes tensors and returns a
dictionary of tensors. `specs` is a list with the `tf.TensorSpec` of each argument of the function.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from keras_gen._columns import CODED, Column, modeled_columns
from keras_gen._errors import mark
from keras_gen._typing import Endpoint

ROWS = ("inputs", "reconstructions", "outputs")
"""Names of the inputs and outputs that contain rows of a table, `[batch, columns]`."""
_OTHER_NAMES = ("inputs", "seed", "condition", "latents")
"""Names that no tensor of a column can have, because other inputs and outputs have these names."""

_SHOWN_CATEGORIES = 20  # number of categories that an error message shows
_SHOWN_CHARACTERS = 100  # number of characters of an invalid value that an error message shows


def column_endpoints(
    endpoints: Mapping[str, Endpoint], columns: Sequence[Column]
) -> dict[str, Endpoint]:
    """Make functions that take and return each column of a table as a separate tensor.

    The functions in `endpoints` take and return rows of the table as one array `[batch, columns]`.
    For `generate`, and for each function that has an input `inputs`, a new function is made. The
    new function takes and returns one tensor per table column instead of the array. For example,
    `score_columns` takes one tensor per column, and returns the scores that `score` returns.
    The function `tensor_names` chooses the names of the tensors.

    The tensor of a column has the shape `[batch]`. For a column of numbers, or of categories that
    are numbers, the tensor is float32, and NaN means "missing". For any other column, the tensor
    contains strings, and "" means "missing". Constant columns and identifiers have no tensors. The
    output `per_feature` contains the anomaly score of each column. This output stays one array.

    An unknown category is an error in all new functions. An invalid number, such as a negative
    count, is an error in all new functions except `score_columns`. `score_columns` returns an
    infinite score for a row with an invalid number.

    Args:
        endpoints: Dictionary from names of functions to endpoints. An endpoint is a pair
            `(function, specs)`. `specs` is a list with the `tf.TensorSpec` of each argument.
        columns: Columns of the table.

    Returns:
        Dictionary from names of new functions, such as `score_columns`, to their endpoints.
    """
    modeled = modeled_columns(columns)
    return {
        f"{name}_columns": _with_columns(function, specs, modeled, check=name != "score")
        for name, (function, specs) in endpoints.items()
        if name == "generate" or any(spec.name == "inputs" for spec in specs)
    }


def _with_columns(
    function: Callable[..., dict[str, tf.Tensor]],
    specs: Sequence[tf.TensorSpec],
    columns: Sequence[Column],
    check: bool,
) -> Endpoint:
    """Return a function that takes and returns each column of a table as a separate tensor.

    Args:
        function: Function that takes and returns all columns in one array `[batch, columns]`. The
            returned function calls `function`.
        specs: The `tf.TensorSpec` of each argument of `function`.
        columns: The columns in the array.
        check: Whether invalid numbers, such as negative counts, raise an error. If False,
            `function` receives the invalid numbers.

    Returns:
        A pair: the new function, and the `tf.TensorSpec` of each of its arguments.
    """
    names = tensor_names(columns)
    has_rows = [spec.name == "inputs" for spec in specs]
    new_specs: list[tf.TensorSpec] = []
    for spec, is_rows in zip(specs, has_rows, strict=True):
        if is_rows:
            for column, name in zip(columns, names, strict=True):
                dtype = tf.string if is_text(column) else tf.float32
                new_specs.append(tf.TensorSpec((None,), dtype, name=name))
        else:
            new_specs.append(spec)

    def endpoint(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        remaining = list(inputs)
        arguments = []
        for is_rows in has_rows:
            if is_rows:
                entries = [encode_column(column, remaining.pop(0), check) for column in columns]
                arguments.append(tf.stack(entries, axis=1))
            else:
                arguments.append(remaining.pop(0))
        outputs = {}
        for key, values in function(*arguments).items():
            if key not in ROWS:
                outputs[key] = values
                continue
            by_column = zip(names, columns, tf.unstack(values, axis=1), strict=True)
            outputs |= {name: decode_column(column, entries) for name, column, entries in by_column}
        return outputs

    return endpoint, new_specs


def tensor_names(columns: Sequence[Column]) -> list[str]:
    """Choose one tensor name per table column, for the inputs and outputs of a SavedModel.

    A tensor name can only contain ASCII letters, digits, and the characters `_`, `.`, `-`. Each
    other character of a column name is replaced by `_`. If the result does not begin with a letter
    or a digit, `column` is put before it.

    If another column, or another input such as `seed`, already has the name, `_` is appended to the
    name. Names that differ only in upper and lower case count as equal. Columns with valid names
    are named first, so that no other column can get their names.

    TensorFlow Serving encodes an output of text in base64 if the name of the output ends in
    `_bytes`. Therefore, if a column of text has such a name, `_` is appended to the name.

    Example:
        >>> tensor_names([Column("bill length (mm)", "real"), Column("Seed", "count")])
        ['bill_length__mm_', 'Seed_']
    """
    valid = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
    names: dict[str, str] = {}
    taken = set(_OTHER_NAMES)
    # Names that are valid come first, so that another name cannot take them.
    for column in sorted(columns, key=lambda column: not valid.fullmatch(column.name)):
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", column.name)
        name = name if valid.match(name) else f"column{name}"
        if is_text(column) and name.endswith("_bytes"):
            name += "_"
        while name.lower() in taken:
            name += "_"
        taken.add(name.lower())
        names[column.name] = name
    return [names[column.name] for column in columns]


def is_text(column: Column) -> bool:
    """Return whether the tensor of a column contains strings instead of numbers."""
    return column.kind in CODED and not all(_is_number(value) for value in column.categories)


def encode_column(column: Column, values: tf.Tensor, check: bool = True) -> tf.Tensor:
    """Convert the values of one table column to the numbers that a model of the table receives.

    A category is converted to its code, which is the index of the category in `column.categories`.
    If a value is invalid, an assertion of TensorFlow fails. The message of the assertion names the
    column, the expected values, the received value, and the row.

    Args:
        column: The column, neither a constant nor an identifier.
        values: float32 or string `[batch]`. NaN and "" mean "missing".
        check: Whether the assertion also fails for an invalid number, such as a negative count. For
            an unknown category, the assertion always fails. Default: True.

    Returns:
        A float32 tensor `[batch]`. A missing value is NaN.
    """
    missing = values == "" if is_text(column) else values != values
    if column.kind not in CODED:
        expected, valid = _valid_numbers(column, values)
        return _checked(column, values, values, valid | missing, expected) if check else values
    equal = values[:, None] == _known_values(column)
    listed = ", ".join(str(value) for value in column.categories[:_SHOWN_CATEGORIES])
    more = len(column.categories) - _SHOWN_CATEGORIES
    expected = f"one of the categories {listed}{f' and {more} more' if more > 0 else ''}"
    codes = tf.where(missing, np.float32("nan"), tf.cast(tf.argmax(equal, axis=1), tf.float32))
    return _checked(column, codes, values, tf.reduce_any(equal, axis=1) | missing, expected)


def _valid_numbers(column: Column, values: tf.Tensor) -> tuple[str, tf.Tensor]:
    """Check which values of a column of numbers are valid. For instance, a count is at least 0.

    Returns:
        `(expected, valid)`. `expected` is a description of valid numbers, for an error message.
        `valid` is a bool tensor `[batch]`, True for each valid number in `values`. For a missing
        value, which is NaN, the element of `valid` is False.
    """
    finite = tf.math.is_finite(values)
    if column.kind == "positive":
        return "numbers greater than 0", finite & (values >= np.finfo(np.float32).tiny)
    if column.kind == "count":
        return "whole numbers of at least 0", finite & (values >= 0) & (values == tf.round(values))
    return "finite numbers", finite


def _checked(
    column: Column, entries: tf.Tensor, values: tf.Tensor, valid: tf.Tensor, expected: str
) -> tf.Tensor:
    """Return `entries`, but make the TensorFlow graph raise an error if a value is invalid.

    The error message names the column, the first invalid value and its row. Operations of the graph
    make the message. Therefore clients in all languages receive this message.

    Args:
        column: The column.
        entries: The numbers that the model receives, `[batch]`, for instance codes of categories.
        values: The values that the client sent, `[batch]`. `entries` were computed from them.
        valid: Whether each value is valid, a bool tensor `[batch]`.
        expected: Description of the valid values, for the message.
    """
    texts = values if is_text(column) else tf.strings.as_string(values, shortest=True)
    # The added row lets an empty batch have a first value.
    row = tf.argmin(tf.cast(tf.concat([valid, [False]], axis=0), tf.int32))
    text = tf.concat([texts, [""]], axis=0)[row]
    text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8")  # replaces invalid bytes
    text = tf.strings.substr(text, 0, _SHOWN_CHARACTERS, unit="UTF8_CHAR")
    missing = "an empty string" if is_text(column) else "NaN"
    message = [
        f"Expected {expected} in the column {column.name}. Received: ",
        text,
        " in row ",
        tf.strings.as_string(row),
        f". Send {missing} for a missing entry.",
    ]
    start, end = mark("\n").split("\n")
    message = tf.strings.join([start, *message, end])
    check = tf.debugging.Assert(tf.reduce_all(valid), [message])
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(entries)


def decode_column(column: Column, entries: tf.Tensor) -> tf.Tensor:
    """Convert the model's output for one table column to values as they appear in the table.

    For a column of categories, the model outputs the index of a category. The index is replaced by
    the category. For a column of numbers, each number is rounded to as many decimal places as the
    column has in the table. NaN means "missing". For categories that are text, NaN becomes "".

    Args:
        column: The column.
        entries: The model's output for the column, float32 `[batch]`.
    """
    if column.kind in CODED:
        codes = tf.cast(tf.where(tf.math.is_nan(entries), 0.0, entries), tf.int32)
        values = tf.gather(_known_values(column), codes)
        missing = tf.constant("" if is_text(column) else np.float32("nan"))
        return tf.where(tf.math.is_nan(entries), missing, values)
    if column.decimals is None:
        return entries
    factor = 10.0**column.decimals
    return tf.round(entries * factor) / factor


def _known_values(column: Column) -> tf.Tensor:
    """Return the categories of a column as a constant tensor of strings or float32 numbers."""
    if is_text(column):
        return tf.constant([str(value) for value in column.categories])
    return tf.constant([float(value) for value in column.categories], tf.float32)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
