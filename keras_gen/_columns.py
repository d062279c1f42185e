"""Describe the columns of a table, and convert rows of a `DataFrame` to an array and back.

`Column` describes one column of a table. A saved model contains one `Column` per column of its
training table. Therefore a loaded model can convert new rows without the training table.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import keras
import numpy as np

from keras_gen._column_values import (
    Rows,
    Value,
    check_numbers,
    codes_in,
    is_number,
    numbers_in,
    rows_of,
)

if TYPE_CHECKING:
    import pandas  # at run time, functions import it, because the import takes long

Kind = Literal[
    "real",
    "positive",
    "count",
    "binary",
    "category",
    "ordinal",
    "constant",
    "identifier",
]
"""The kinds of columns. `Column` describes them."""

KINDS: tuple[str, ...] = get_args(Kind)
NUMBERS = ("real", "positive", "count")
"""Kinds of columns of numbers. A model receives these numbers in the units of the table."""
CODED = ("binary", "category", "ordinal")
"""Kinds of columns of categories. A model receives codes: the code k means `categories[k]`."""

_SHOWN_CATEGORIES = 5  # number of categories that `print(columns)` shows


@keras.saving.register_keras_serializable("keras_gen")
@dataclasses.dataclass(frozen=True)
class Column:
    """Describe one column of a table: its name, its kind, and statistics of the training rows.

    A model of a table receives the rows as a float32 array `[n, d]`. Here n is the number of rows,
    and d is the number of modeled columns. For each missing value, the array contains NaN. For each
    value that is not missing, the content of the array depends on the kind of the column:

    - `"real"`, `"positive"` and `"count"`: The array contains the number itself, in the units of
      the table. Positive numbers are greater than 0. Counts are whole numbers of at least 0.
    - `"binary"`, `"category"` and `"ordinal"`: The array contains the index of the value in
      `categories`. A binary column has two values. The values of an ordinal column have an order.
    - `"constant"` and `"identifier"`: These columns are not modeled, and are not in the array. A
      constant column has one value. An identifier distinguishes the rows, such as a row number or a
      name. Dates and times also have the kind `"identifier"`.

    Args:
        name: Name of the column.
        kind: Kind of the column, one of the kinds above.
        categories: The values of a binary, category or ordinal column. For an ordinal column, the
            values are sorted from the lowest to the highest. For a constant column, `categories`
            contains its one value. If all entries of the column are missing, `categories` is empty.
        mean: For a column of numbers, the mean of the numbers in the training rows, without missing
            values. For a positive column, the mean of the natural logarithms of these numbers.
        scale: For a column of numbers, the standard deviation of these numbers. For a positive
            column, the standard deviation of their natural logarithms. Must be greater than 0.
        minimum, maximum: Smallest and largest number of the column in the training rows.
        missing: Number of missing values of the column in all rows.
        decimals: Number of decimal places of the numbers in the table. Generated numbers are
            rounded to this number of decimal places. If None, they are not rounded.
        dtype: Name of the pandas dtype of the column in a `DataFrame`, such as `"float64"`,
            `"Int64"`, `"string"` or `"boolean"`.
        note: Remark for the user, such as why the column is not modeled.

    Raises:
        ValueError: If an argument is invalid.

    Example:
        >>> mass = Column("body_mass_g", "positive", mean=8.3, scale=0.2)
        >>> mass.kind
        'positive'
    """

    name: str
    kind: Kind
    categories: tuple[Value, ...] = ()
    mean: float = 0.0
    scale: float = 1.0
    minimum: float | None = None
    maximum: float | None = None
    missing: int = 0
    decimals: int | None = None
    dtype: str = "float64"
    note: str = ""

    def __post_init__(self) -> None:
        """Check the arguments."""
        object.__setattr__(self, "categories", tuple(self.categories))
        if self.kind not in KINDS:
            raise ValueError(
                f"`kind` of the column {self.name!r} must be one of {', '.join(KINDS)}. "
                f"Received: kind={self.kind!r}"
            )
        number = len(self.categories)
        right = {"binary": number == 2, "category": number >= 1, "ordinal": number >= 2}
        if not right.get(self.kind, True):
            raise ValueError(
                f"`categories` of the column {self.name!r} must contain 2 values for the kind "
                "'binary', at least 1 value for 'category', and at least 2 values for 'ordinal'. "
                f"Received: {number} values for the kind {self.kind!r}."
            )
        if not self.scale > 0:
            raise ValueError(
                f"`scale` of the column {self.name!r} must be greater than 0. "
                f"Received: scale={self.scale!r}"
            )

    @property
    def modeled(self) -> bool:
        """Whether a model of the table receives the column.

        A model does not receive constant columns and identifiers.
        """
        return self.kind in NUMBERS or self.kind in CODED

    @property
    def typical(self) -> float:
        """A typical value of the column, which replaces a missing entry where a number is needed.

        For the kind `real`, the value is the mean. For `positive`, it is the geometric mean. For
        `count`, it is the rounded mean. For a column of categories, it is 0, the code of the first
        category.
        """
        if self.kind == "positive":
            return math.exp(self.mean)
        if self.kind == "count":
            return float(round(self.mean))
        return self.mean if self.kind == "real" else 0.0

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments by name."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a column from the result of `get_config`."""
        return cls(**{**config, "categories": tuple(config.get("categories", ()))})


def modeled_columns(columns: Iterable[Column]) -> tuple[Column, ...]:
    """Return the columns that a model of the table receives, in the order of `columns`.

    A model receives neither constant columns nor identifiers.

    Raises:
        ValueError: If `columns` contains an object that is not a `Column`, if two columns have the
            same name, or if all columns are constants or identifiers.
    """
    columns = tuple(columns)
    for column in columns:
        if not isinstance(column, Column):
            raise ValueError(
                "`columns` must be the columns of a table, such as `table.columns`. "
                f"Received: {column!r}"
            )
    names = [column.name for column in columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(
            f"The names of `columns` must differ. Received more than once: {', '.join(repeated)}."
        )
    modeled = tuple(column for column in columns if column.modeled)
    if not modeled:
        raise ValueError(
            "`columns` must have at least one column that is neither a constant nor an identifier. "
            f"Received: {describe(columns) or 'no columns'}."
        )
    return modeled


def describe(columns: Sequence[Column]) -> str:
    """Return the names and kinds of columns for an error message."""
    return ", ".join(f"{column.name} ({column.kind})" for column in columns)


class ColumnTuple(tuple[Column, ...]):
    """A tuple of the `Column` objects of a table. `print` shows one line of text per column."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Return one line of text per column, under a line of titles."""
        titles = ("column", "kind", "values of the training rows", "missing", "note")
        rows = [titles, *(_row_of_text(column) for column in self)]
        if not any(column.note for column in self):
            rows = [row[:-1] for row in rows]
        widths = [max(map(len, texts)) for texts in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            padded = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
            lines.append("  ".join(padded).rstrip())
        return "\n".join(lines)

    __str__ = __repr__


def _row_of_text(column: Column) -> tuple[str, ...]:
    """Return five texts that describe a column.

    The texts are the name, the kind, the values, the number of missing entries and the note of the
    column. If the user prints the columns of a table, the texts of each column form one line.
    """
    if column.kind == "identifier":
        values = "not modeled"
    elif column.kind in NUMBERS:
        values = f"{_short(column.minimum)} … {_short(column.maximum)}"
    else:
        shown = [str(value) for value in column.categories[:_SHOWN_CATEGORIES]]
        rest = len(column.categories) - len(shown)
        values = ", ".join(shown) + (f", … ({rest} more)" if rest else "")
    return column.name, column.kind, values, str(column.missing or ""), column.note


def _short(number: float | None) -> str:
    return "?" if number is None else f"{number:.10g}"


def encode_frame(
    columns: Iterable[Column],
    frame: pandas.DataFrame,
    unseen: Literal["error", "missing"] = "error",
    source: str = "the DataFrame",
    place: Callable[[int], str] | None = None,
) -> np.ndarray:
    """Convert the rows of a `DataFrame` to the array that a model of the table receives.

    The columns of `frame` can have any order. Constant columns and identifiers can be omitted.
    Columns that are not in `columns` are ignored. An entry is missing if it is NaN, None,
    `pandas.NA`, or a text that is empty or contains only spaces.

    Args:
        columns: Columns of the table, such as `table.columns` or `model.likelihood.columns`.
        frame: The rows, in the units of the table.
        unseen: What to do with a category that is not in `Column.categories`. `"error"` raises an
            error, so that a wrongly spelled category is noticed. `"missing"` treats the entry as
            missing.
        source: Name of the file or object that contains the rows, for error messages.
        place: Function that takes the position of a row in `frame`, from 0. The function returns a
            description of the row for error messages, such as `"line 3"`. Default: the description
            contains the position and the index label of the row.

    Returns:
        A float32 array with one row per row of `frame`. The array has the columns of the table in
        the order of `columns`, without identifiers and constant columns. A missing entry is NaN.

    Raises:
        ValueError: If a modeled column is not in `frame`, or if an entry is invalid for its column.
            If `unseen` is `"error"`, also if a constant column has another value than its one
            value. The message names the source, the row and the column.

    Example:
        >>> import pandas
        >>> columns = [Column("mass", "real"), Column("sex", "binary", ("female", "male"))]
        >>> encode_frame(columns, pandas.DataFrame({"sex": ["male", None], "mass": [3.5, 4]}))
        array([[3.5, 1. ],
               [4. , nan]], dtype=float32)
    """
    if unseen not in ("error", "missing"):
        raise ValueError(f"`unseen` must be 'error' or 'missing'. Received: unseen={unseen!r}")
    return encode_rows(columns, rows_of(frame, source, place), unseen)


def encode_rows(
    columns: Iterable[Column], rows: Rows, unseen: str = "error", check: bool = True
) -> np.ndarray:
    """Convert a block of rows of a table to the float32 array that a model of the table receives.

    Args:
        columns: Columns of the table.
        rows: The block of rows.
        unseen: What to do with a category that is not in `Column.categories`. `"error"` raises an
            error. `"missing"` treats the value as missing.
        check: Whether to raise an error for a number that is invalid for the kind of its column,
            such as a negative count.

    Returns:
        Array `[rows, columns]`, without constant columns and identifiers. NaN means "missing".

    Raises:
        ValueError: If a column of this array is not in `rows`, or if a value is invalid. If
            `unseen` is `"error"`, also if a constant column has another value than its one value.
    """
    columns = tuple(columns)
    modeled = modeled_columns(columns)
    absent = [column.name for column in modeled if column.name not in rows.names]
    if absent:
        raise ValueError(
            f"Expected the columns {', '.join(column.name for column in modeled)} in "
            f"{rows.source}. Missing: {', '.join(absent)}. Received the columns: "
            f"{', '.join(rows.names)}. Add the missing columns. If their values are not known, add "
            "them with empty entries."
        )
    array = np.empty((rows.count, len(modeled)), np.float32)
    for index, column in enumerate(modeled):
        values = rows.values(column.name)
        at = rows.at(column.name)
        if column.kind in CODED:
            codes = codes_in(column.categories, values, at, unseen)
            entries = np.arange(len(column.categories) + 1, dtype=np.float32)
            entries[-1] = np.nan  # the code −1 means "missing"
            array[:, index] = entries[codes]
            continue
        numbers = numbers_in(values, at)
        if check:
            check_numbers(column.kind, numbers, at)
        array[:, index] = numbers
    if unseen == "error":
        for column in columns:
            if column.kind == "constant" and column.categories and column.name in rows.names:
                values = rows.values(column.name)
                codes_in(column.categories, values, rows.at(column.name), unseen)
    return array


def decode_array(columns: Iterable[Column], array: Any) -> pandas.DataFrame:
    """Convert an array of rows to a `DataFrame` with the names, categories and dtypes of the table.

    The `DataFrame` has all columns except the identifiers, in the order of `columns`. Each number
    is rounded to `Column.decimals` decimal places. If `Column.decimals` is None, the number is not
    rounded. A constant column contains its one value in each row. If the `categories` of a constant
    column are empty, all its entries are missing. If an integer column has missing entries, its
    dtype is `"Int64"`, because `"int64"` cannot represent them. Booleans with missing entries have
    the dtype `"boolean"`.

    Args:
        columns: Columns of the table, such as `table.columns` or `model.likelihood.columns`.
        array: Rows `[n, modeled columns]`, as a model receives or generates them. The modeled
            columns are `columns` without identifiers and constant columns. NaN means that an entry
            is missing.

    Returns:
        The rows as a `DataFrame`.

    Raises:
        ValueError: If the array has the wrong number of columns, or if an entry is infinite. Also
            if an entry of a column of categories is not the index of a category.

    Example:
        >>> columns = [Column("mass", "real", decimals=1), Column("sex", "binary", ("f", "m"))]
        >>> decode_array(columns, [[3.51, 1.0], [4.0, float("nan")]])
           mass  sex
        0   3.5    m
        1   4.0  NaN
    """
    import pandas

    columns = tuple(columns)
    modeled = modeled_columns(columns)
    rows = np.asarray(array)
    if rows.ndim != 2 or rows.shape[1] != len(modeled):
        raise ValueError(
            f"Expected an array of shape (rows, {len(modeled)}), with one column for each of "
            f"{describe(modeled)}. Received: shape {rows.shape}."
        )
    by_name: dict[str, pandas.Series] = {}
    position = 0
    for column in columns:
        if column.modeled:
            entries = rows[:, position].astype(np.float64)
            position += 1
            by_name[column.name] = _decoded(column, entries)
        elif column.kind == "constant":
            known = np.zeros(len(rows)) if column.categories else np.full(len(rows), np.nan)
            by_name[column.name] = _decoded(column, known)
    return pandas.DataFrame(by_name, index=pandas.RangeIndex(len(rows)))


def _decoded(column: Column, entries: np.ndarray) -> pandas.Series:
    """Convert one column of an array to the values of the table.

    Args:
        column: The column of the table.
        entries: The column of the array. NaN means that an entry is missing.
    """
    import pandas

    missing = np.isnan(entries)
    if np.isinf(entries).any():
        raise ValueError(
            f"Expected finite entries in the column {column.name!r}. Received: "
            f"{entries[np.isinf(entries)][0]} in row {np.flatnonzero(np.isinf(entries))[0]}."
        )
    if column.kind in NUMBERS:
        if column.decimals is not None:
            entries = np.round(entries, column.decimals) + 0.0  # turns −0.0 into 0.0
        return pandas.Series(entries).astype(_dtype_for(column.dtype, entries))
    number = len(column.categories)
    codes = np.where(missing, -1, entries)
    wrong = (codes != np.round(codes)) | (codes >= max(number, 1))
    wrong |= ~missing & (codes < 0)
    if wrong.any():
        row = np.flatnonzero(wrong)[0]
        raise ValueError(
            f"Expected codes from 0 to {number - 1} in the column {column.name!r}, one for each of "
            f"its categories. Received: {entries[row]:g} in row {row}. Generate rows with the "
            "likelihood `Columns`, or round the codes."
        )
    codes = codes.astype(np.int64)
    if column.dtype == "category":
        return pandas.Series(
            pandas.Categorical.from_codes(
                codes, list(column.categories), ordered=column.kind == "ordinal"
            )
        )
    if column.categories and all(is_number(value) for value in column.categories):
        values = np.array([*column.categories, np.nan], np.float64)[codes]
        return pandas.Series(values).astype(_dtype_for(column.dtype, values))
    lookup = np.empty(number + 1, object)
    lookup[:number] = column.categories
    lookup[number] = None
    dtype = column.dtype
    if pandas.api.types.is_numeric_dtype(dtype) and dtype not in ("bool", "boolean"):
        # A dtype of numbers is the default of `Column`. Text and booleans need another dtype.
        dtype = "bool" if all(isinstance(v, bool) for v in column.categories) else "str"
    if dtype == "bool" and missing.any():
        dtype = "boolean"
    return pandas.Series(lookup[codes], dtype=object).astype(dtype)


def _dtype_for(dtype: str, values: np.ndarray) -> str:
    """Return `dtype`, or another dtype if `dtype` cannot represent all of `values`.

    For instance, integers with missing values need the dtype `"Int64"` instead of `"int64"`.

    Args:
        dtype: Name of the dtype of a table column.
        values: The numbers that the column will contain. NaN means "missing".
    """
    import pandas

    kind = pandas.api.types.pandas_dtype(dtype)
    missing = np.isnan(values)
    if not pandas.api.types.is_integer_dtype(kind):
        return dtype if pandas.api.types.is_numeric_dtype(kind) else "float64"
    observed = values[~missing]
    if (observed != np.round(observed)).any():
        return "Float64" if missing.any() else "float64"
    if isinstance(kind, np.dtype):
        limits = np.iinfo(kind)
    else:
        limits = np.iinfo(getattr(kind, "numpy_dtype", np.dtype("int64")))
    # float64 rounds the largest int64 up, so the comparison is with the number above it
    end = float(limits.max) + 1
    if observed.size and not limits.min <= observed.min() <= observed.max() < end:
        limits = np.iinfo("int64")
        dtype = "int64"
        if np.abs(observed).max() >= 2.0**63:
            return "float64"
    if missing.any() and isinstance(pandas.api.types.pandas_dtype(dtype), np.dtype):
        return {"uint64": "UInt64"}.get(dtype, "Int64")
    return dtype
