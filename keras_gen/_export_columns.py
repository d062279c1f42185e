"""Endpoints of models of tables, with one named input and one named output per column."""

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
"""Names that no column can have, because other inputs and outputs have these names."""

_SHOWN_CATEGORIES = 20  # number of categories that an error message shows
_SHOWN_CHARACTERS = 100  # number of characters of an invalid value that an error message shows


def column_endpoints(
    endpoints: Mapping[str, Endpoint], columns: Sequence[Column]
) -> dict[str, Endpoint]:
    """Return an endpoint `NAME_columns` for each endpoint NAME that takes or returns rows.

    The input `inputs` is replaced by one input per column, and an output of rows is replaced by one
    output per column. `tensor_names` returns their names. A column of numbers, or of categories
    that are numbers, is float32 `[batch]`, and NaN is a missing entry. Any other column is a string
    tensor `[batch]`, and "" is a missing entry. The output `per_feature` stays one array. Constants
    and identifiers have no inputs and no outputs.

    An unknown category is an error in all endpoints. An invalid number, such as a negative count,
    is an error in all endpoints except `score_columns`. `score_columns` returns an infinite score
    for a row with an invalid number.

    Args:
        endpoints: Endpoints of the model by name.
        columns: Columns of the table.

    Returns:
        The added endpoints by name.
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
    """Return an endpoint with one input and one output per column.

    Args:
        function: Function of the endpoint with rows.
        specs: Specs of the arguments of `function`.
        columns: Columns that are modeled.
        check: Whether invalid numbers are an error. If False, `function` handles invalid numbers.
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
    """Return the names of the inputs and outputs of columns.

    A name in a SavedModel can only contain ASCII letters, digits, and the characters `_`, `.`, `-`.
    All other characters are replaced by `_`. TensorFlow does not distinguish capital letters from
    small ones. If a name then equals an earlier name, or the name of another input such as `seed`,
    `_` is appended. Names that need no replacement are assigned first.

    TensorFlow Serving encodes text in base64 if the name of the output ends in `_bytes`. Therefore,
    if the name of a column of text ends in `_bytes`, `_` is appended to the name.

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
    """Return whether the column has strings as inputs and outputs."""
    return column.kind in CODED and not all(_is_number(value) for value in column.categories)


def encode_column(column: Column, values: tf.Tensor, check: bool = True) -> tf.Tensor:
    """Return the entries of a column in the array of the table, float32 `[batch]`.

    In a graph, an invalid value fails an assertion. The message names the column, the expected
    values, the received value, and the row.

    Args:
        column: A column that is modeled.
        values: float32 or string `[batch]`. NaN and "" are missing entries.
        check: Whether invalid numbers fail an assertion. Unknown categories always fail one.
            Default: True.
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
    """Return a description of the valid numbers, and whether each value is valid, `[batch]`."""
    finite = tf.math.is_finite(values)
    if column.kind == "positive":
        return "numbers greater than 0", finite & (values >= np.finfo(np.float32).tiny)
    if column.kind == "count":
        return "whole numbers of at least 0", finite & (values >= 0) & (values == tf.round(values))
    return "finite numbers", finite


def _checked(
    column: Column, entries: tf.Tensor, values: tf.Tensor, valid: tf.Tensor, expected: str
) -> tf.Tensor:
    """Return the entries of a column if all of its values are valid.

    If a value is invalid, an assertion fails. The graph writes the first invalid value and its row
    into the message. Therefore clients in any language can show the message as it is.
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
    """Return the values of a column from the entries of the array, `[batch]`."""
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
    """Return the categories of a column as a constant, strings or float32."""
    if is_text(column):
        return tf.constant([str(value) for value in column.categories])
    return tf.constant([float(value) for value in column.categories], tf.float32)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
