"""`Column` describes one column of a table. Functions convert a `DataFrame` to an array and back.

A saved model contains its columns. So it can use these functions without the table.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import decimal
import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, get_args

import keras
import numpy as np

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
"""Kinds whose entries in an array are the numbers of the table, in the units of the table."""
CODED = ("binary", "category", "ordinal")
"""Kinds whose entries in an array are codes: the code k stands for `categories[k]`."""

Value = str | int | float | bool
"""A value of a table."""

_SHOWN_CATEGORIES = 5  # number of categories that `print(columns)` shows
_SHOWN_IN_ERRORS = 10


@keras.saving.register_keras_serializable("keras_gen")
@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table: its name, its kind, and statistics of the training rows.

    A table of n rows becomes a float32 array `[n, d]`, where d is the number of modeled columns. An
    entry that is missing in the table is NaN in the array. All other entries depend on the kind:

    | kind | values in the table | entry in the array |
    |---|---|---|
    | `"real"` | any numbers | the number |
    | `"positive"` | numbers greater than 0 | the number |
    | `"count"` | whole numbers of at least 0 | the number |
    | `"binary"` | two values | 0 or 1, the index of the value in `categories` |
    | `"category"` | values without an order | the index of the value in `categories` |
    | `"ordinal"` | values with an order | the index of the value in `categories` |
    | `"constant"` | one value | not in the array |
    | `"identifier"` | a different value in each row | not in the array |

    Args:
        name: Name of the column.
        kind: Kind of the column, see the table above.
        categories: The values of a binary column, a category or an ordinal column. For ordinal
            columns, from the lowest to the highest value. For a constant column, its one value.
        mean: Mean of the observed entries of the training rows. For positive columns, the mean of
            their natural logarithms.
        scale: Standard deviation of the same numbers as `mean`, greater than 0.
        minimum, maximum: Smallest and largest observed entry of the training rows.
        missing: Number of missing entries in all rows.
        decimals: Number of decimal places of the values in the table. None if the number is not
            known. Generated numbers are rounded to this number of decimal places.
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
                f"`categories` of the column {self.name!r} must contain the values of a "
                f"{self.kind} column. Received: {number} values."
            )
        if not self.scale > 0:
            raise ValueError(
                f"`scale` of the column {self.name!r} must be greater than 0. "
                f"Received: scale={self.scale!r}"
            )

    @property
    def modeled(self) -> bool:
        """Whether the column is part of the array. Constants and identifiers are not."""
        return self.kind in NUMBERS or self.kind in CODED

    @property
    def typical(self) -> float:
        """An entry that rows can have: the mean of numbers, and the first code of categories.

        For positive columns, it is the geometric mean. For counts, the mean is rounded.
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
    """Return the columns that are part of the array, in order.

    Raises:
        ValueError: If an element is not a `Column`, if two columns have the same name, or if no
            column is part of the array.
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
    """The columns of a table. `print` shows them as a table of text."""

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
    """Return the texts that describe a column in `ColumnTuple`."""
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
    """Convert the rows of a `DataFrame` to the array that a model of the table takes.

    The columns of `frame` can have any order. Columns that are not in `columns` are ignored.
    Identifiers and constants are not needed. An entry is missing if it is NaN, None, `pandas.NA` or
    an empty text.

    Args:
        columns: Columns of the table, such as `table.columns` or `model.likelihood.columns`.
        frame: The rows, in the units of the table.
        unseen: What to do with a category that is not in `Column.categories`. `"error"` raises an
            error, so that a wrongly spelled category is noticed. `"missing"` treats the entry as
            missing.
        source: Name of the file or object that contains the rows, for error messages.
        place: Function that returns the place of a row for error messages, such as `"line 3"`. The
            argument is the position of the row in `frame`, from 0.

    Returns:
        A float32 array `[rows, modeled columns]`, NaN where an entry is missing.

    Raises:
        ValueError: If a modeled column is missing, or if an entry is invalid for the kind of its
            column. The message names the source, the row and the column.

    Example:
        >>> import pandas
        >>> columns = [Column("mass", "real"), Column("sex", "binary", ("female", "male"))]
        >>> encode_frame(columns, pandas.DataFrame({"sex": ["male", None], "mass": [3.5, 4]}))
        array([[3.5, 1. ],
               [4. , nan]], dtype=float32)
    """
    if unseen not in ("error", "missing"):
        raise ValueError(f"`unseen` must be 'error' or 'missing'. Received: unseen={unseen!r}")
    columns = tuple(columns)
    modeled = modeled_columns(columns)
    by_name = series_by_name(frame, source)
    absent = [column.name for column in modeled if column.name not in by_name]
    if absent:
        raise ValueError(
            f"Expected the columns {', '.join(column.name for column in modeled)} in {source}. "
            f"Missing: {', '.join(absent)}. Received the columns: {', '.join(by_name)}. Add the "
            "missing columns. If their values are not known, add them with empty entries."
        )
    if place is None:
        place = functools.partial(_place_in_frame, frame)
    array = np.empty((len(frame), len(modeled)), np.float32)
    for index, column in enumerate(modeled):
        at = Location(source, column.name, place)
        array[:, index] = encode_values(column, values_of(by_name[column.name], at), at, unseen)
    if unseen == "error":
        for column in columns:
            if column.kind == "constant" and column.categories and column.name in by_name:
                at = Location(source, column.name, place)
                codes_in(column.categories, values_of(by_name[column.name], at), at, unseen)
    return array


def decode_array(columns: Iterable[Column], array: Any) -> pandas.DataFrame:
    """Convert an array of rows to a `DataFrame` with the names, categories and dtypes of the table.

    The `DataFrame` has all columns except the identifiers, in the order of the table. Numbers are
    rounded to the decimal places of the table. Constant columns contain their constant. If an
    integer column has missing entries, its dtype is `"Int64"`, because `"int64"` has no missing
    value. Booleans with missing entries have the dtype `"boolean"`.

    Args:
        columns: Columns of the table, such as `table.columns` or `model.likelihood.columns`.
        array: Array `[rows, modeled columns]`, NaN where an entry is missing.

    Returns:
        The rows as a `DataFrame`.

    Raises:
        ValueError: If the array has another shape, if an entry is infinite, or if an entry is not a
            code of its column.

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
    """Return the values of the table for the entries of one column, NaN where missing."""
    import pandas

    missing = np.isnan(entries)
    if np.isinf(entries).any():
        raise ValueError(
            f"Expected finite entries in the column {column.name!r}. Received: "
            f"{entries[np.isinf(entries)][0]} in row {np.flatnonzero(np.isinf(entries))[0]}."
        )
    if column.kind in NUMBERS:
        if column.decimals is not None:
            entries = np.round(entries, column.decimals) + 0.0  # no negative zero
        return pandas.Series(entries).astype(_dtype_for(column.dtype, entries))
    number = len(column.categories)
    codes = np.where(missing, -1, entries)
    wrong = (codes != np.round(codes)) | (codes < -1) | (codes >= max(number, 1))
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
    if column.categories and all(_is_number(value) for value in column.categories):
        values = np.array([*column.categories, np.nan], np.float64)[codes]
        return pandas.Series(values).astype(_dtype_for(column.dtype, values))
    lookup = np.empty(number + 1, object)
    lookup[:number] = column.categories
    lookup[number] = None
    dtype = column.dtype
    if dtype == "bool" and missing.any():
        dtype = "boolean"
    return pandas.Series(lookup[codes], dtype=object).astype(dtype)


def _dtype_for(dtype: str, values: np.ndarray) -> str:
    """Return the dtype of a column of numbers, or a wider one that can hold the values."""
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
    if observed.size and not limits.min <= observed.min() <= observed.max() <= limits.max:
        limits = np.iinfo("int64")
        dtype = "int64"
        if np.abs(observed).max() >= 2.0**63:
            return "float64"
    if missing.any() and isinstance(pandas.api.types.pandas_dtype(dtype), np.dtype):
        return {"uint64": "UInt64"}.get(dtype, "Int64")
    return dtype


# === Values of one column of a DataFrame ===


class Location(NamedTuple):
    """A column of a source of rows, for error messages."""

    source: str
    """Name of the file or object."""
    column: str
    place: Callable[[int], str]
    """Returns the place of a row, such as `"line 3"`."""

    def error(self, expected: str, received: object, row: int, remedy: str) -> ValueError:
        """Return an error about the entry of one row."""
        return ValueError(
            f"Expected {expected} in the column {self.column!r} of {self.source}. Received: "
            f"{received} in {self.place(int(row))}. {remedy}"
        )


class Values(NamedTuple):
    """The values of one column: either numbers, or codes of distinct values."""

    numbers: np.ndarray | None = None
    """float64, NaN where missing. None if the values are not numbers."""
    codes: np.ndarray | None = None
    """For each row, the index of its value in `distinct`, and −1 where missing."""
    distinct: tuple[Value, ...] = ()
    ordered: bool = False
    """Whether `distinct` has an order that the user chose."""


def values_of(series: pandas.Series, at: Location) -> Values:
    """Return the values of a column of a `DataFrame`.

    Raises:
        ValueError: If the dtype of the column is neither a number, nor a boolean, nor text, nor a
            category, or if an object is none of these.
    """
    import pandas

    dtype = series.dtype
    if isinstance(dtype, pandas.SparseDtype):
        series = series.sparse.to_dense()
        dtype = series.dtype
    types = pandas.api.types
    if isinstance(dtype, pandas.CategoricalDtype):
        return _values_of_categories(series)
    if types.is_bool_dtype(dtype):
        missing = series.isna().to_numpy()
        codes = np.where(missing, -1, series.fillna(False).to_numpy(bool))
        return Values(codes=codes.astype(np.int64), distinct=(False, True))
    if types.is_complex_dtype(dtype):
        raise at.error(
            "real numbers", series.iloc[0] if len(series) else "complex numbers", 0,
            "Replace the column by its real part and its imaginary part, or remove it.",
        )  # fmt: skip
    if types.is_numeric_dtype(dtype):
        if isinstance(dtype, np.dtype):
            return Values(numbers=series.to_numpy(np.float64))
        return Values(numbers=series.to_numpy(np.float64, na_value=np.nan))
    if types.is_object_dtype(dtype):
        return _values_of_objects(series, at)
    if types.is_string_dtype(dtype):
        codes, distinct = pandas.factorize(series)
        return _without_blank(codes, tuple(str(value) for value in distinct), ordered=False)
    raise at.error(
        "numbers, text, booleans or categories", f"the dtype {dtype}", 0,
        _remedy_for_dtype(dtype),
    )  # fmt: skip


def _remedy_for_dtype(dtype: object) -> str:
    return (
        "Convert the column to numbers, such as days since the first date: "
        "`(frame[name] - frame[name].min()).dt.days`. Or remove it."
    )


def _values_of_categories(series: pandas.Series) -> Values:
    """Return the values of a column of categories."""
    categories = series.cat.categories
    distinct = tuple(_plain(value) for value in categories.tolist())
    return _without_blank(
        series.cat.codes.to_numpy(np.int64), distinct, ordered=bool(series.cat.ordered)
    )


def _values_of_objects(series: pandas.Series, at: Location) -> Values:
    """Return the values of a column of Python objects."""
    import pandas

    try:
        codes, objects = pandas.factorize(series)
    except TypeError:  # lists and dictionaries cannot be counted
        objects = None
    if objects is None:
        is_scalar = [pandas.api.types.is_scalar(value) for value in series]
        row = is_scalar.index(False) if False in is_scalar else 0
        raise at.error(
            "numbers or text", repr(series.iloc[row]), row,
            "Make one column of each number, or remove the column.",
        )  # fmt: skip
    kinds = set()
    for code, value in enumerate(objects):
        if isinstance(value, (bool, np.bool_)):
            kinds.add("booleans")
        elif isinstance(value, (int, float, np.number, decimal.Decimal)):
            kinds.add("numbers")
        elif isinstance(value, str):
            if value.strip():
                kinds.add("text")
        else:
            row = int(np.flatnonzero(codes == code)[0])
            raise at.error(
                "numbers or text", f"{value!r} of type {type(value).__name__}", row,
                "Convert the column to numbers or text. Convert dates to numbers, such as days "
                "since the first date. Or remove the column.",
            )  # fmt: skip
    if kinds == {"numbers"}:
        numbers = np.array([np.nan if isinstance(v, str) else float(v) for v in objects] + [np.nan])
        return Values(numbers=numbers[codes])
    if len(kinds) > 1:
        # True == 1, so the first row of each type is found in the rows themselves
        types = {type(value) for value in series.dropna()}
        shown = ", ".join(sorted(kind.__name__ for kind in types))
        raise at.error(
            "values of one type", f"values of the types {shown}", 0,
            f"Convert all of them to one type, such as text: `frame[{at.column!r}].astype(str)`.",
        )  # fmt: skip
    return _without_blank(codes, tuple(_plain(value) for value in objects), ordered=False)


def _plain(value: Any) -> Value:
    """Return a category as a text, a boolean or a number of Python."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, (str, bool, int, float)) else str(value)


def _without_blank(codes: np.ndarray, distinct: tuple[Value, ...], ordered: bool) -> Values:
    """Make `Values` in which text has no space around it, and empty text is missing."""
    stripped = [value.strip() if isinstance(value, str) else value for value in distinct]
    kept = {value: None for value in stripped if value != ""}
    if len(kept) < len(distinct) or any(map(operator.ne, stripped, distinct)):
        position = {value: index for index, value in enumerate(kept)}
        new = np.array([*(position.get(value, -1) for value in stripped), -1], np.int64)
        return Values(codes=new[codes], distinct=tuple(kept), ordered=ordered)
    return Values(codes=codes, distinct=distinct, ordered=ordered)


def series_by_name(frame: pandas.DataFrame, source: str) -> dict[str, pandas.Series]:
    """Return the columns of a `DataFrame` by name. A name that is not text becomes text.

    Raises:
        ValueError: If `frame` is not a `DataFrame`, if it has several levels of names, or if two
            names are equal.
    """
    import pandas

    if not isinstance(frame, pandas.DataFrame):
        raise ValueError(
            f"Expected {source} to be a pandas.DataFrame. Received: {type(frame).__name__}."
        )
    if frame.columns.nlevels > 1:
        raise ValueError(
            f"Expected one name per column in {source}. Received: {frame.columns.nlevels} levels "
            "of names. Join them: `frame.columns = ['_'.join(map(str, c)) for c in frame.columns]`."
        )
    names = [str(name) for name in frame.columns]
    check_names(names, source)
    return {name: frame.iloc[:, index] for index, name in enumerate(names)}


def check_names(names: Sequence[str], source: str) -> None:
    """Raise an error if two columns have the same name."""
    repeated = [name for name, count in collections.Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(
            f"Expected different names of the columns of {source}. Received more than once: "
            f"{', '.join(repeated)}. Rename or remove these columns."
        )


def _place_in_frame(frame: pandas.DataFrame, row: int) -> str:
    return f"row {row} (index {frame.index[row]!r})" if len(frame) else "its dtype"


# === From values to entries ===


def encode_values(
    column: Column, values: Values, at: Location, unseen: str = "error"
) -> np.ndarray:
    """Return the entries of one modeled column in the array, NaN where missing.

    Raises:
        ValueError: If a value is invalid for the kind of the column.
    """
    if column.kind in CODED:
        codes = codes_in(column.categories, values, at, unseen)
        return np.where(codes < 0, np.nan, codes).astype(np.float32)
    numbers = numbers_in(values, at)
    check_numbers(column.kind, numbers, at)
    return numbers.astype(np.float32)


def numbers_in(values: Values, at: Location) -> np.ndarray:
    """Return values as numbers, float64 with NaN where missing.

    Raises:
        ValueError: If a value is not a number.
    """
    if values.numbers is not None:
        return values.numbers
    assert values.codes is not None
    lookup = np.full(len(values.distinct) + 1, np.nan)
    for code, value in enumerate(values.distinct):
        try:
            lookup[code] = float(value)
        except ValueError:
            rows = np.flatnonzero(values.codes == code)
            if rows.size:
                raise at.error("numbers", repr(value), rows[0], NUMBER_REMEDY) from None
    return lookup[values.codes]


NUMBER_REMEDY = (
    "Correct the entry. If it stands for a missing value, leave it empty, or read the table with "
    "`missing=[...]`. If the column has categories, set its kind: `kinds={name: 'category'}`."
)


def check_numbers(kind: str, numbers: np.ndarray, at: Location) -> None:
    """Raise an error if a number is invalid for the kind of its column."""
    with np.errstate(over="ignore"):
        infinite = np.isinf(numbers.astype(np.float32))
    if infinite.any():
        row = np.flatnonzero(infinite)[0]
        remedy = "Correct the entry, or leave it empty if the number is not known."
        if np.isfinite(numbers[row]):
            remedy = "Use another unit, in which the numbers are smaller."
        raise at.error("finite numbers of float32", numbers[row], row, remedy)
    if kind == "positive":
        expected = "numbers greater than 0 (kind 'positive')"
        wrong = numbers < np.finfo(np.float32).tiny
    elif kind == "count":
        expected = "whole numbers of at least 0 (kind 'count')"
        wrong = (numbers < 0) | (numbers != np.round(numbers)) & ~np.isnan(numbers)
    else:
        return
    if wrong.any():
        row = np.flatnonzero(wrong)[0]
        raise at.error(
            expected, f"{numbers[row]:.10g}", row,
            "Correct the entry, or leave it empty if it is not known. If such numbers are valid, "
            f"read the table with `kinds={{{at.column!r}: 'real'}}`.",
        )  # fmt: skip


def codes_in(
    categories: Sequence[Value], values: Values, at: Location, unseen: str = "error"
) -> np.ndarray:
    """Return the index of each value in `categories`, −1 where missing.

    Raises:
        ValueError: If `unseen` is `"error"` and a value is not in `categories`.
    """
    codes, distinct = values.codes, values.distinct
    if values.numbers is not None:
        import pandas

        codes, found = pandas.factorize(values.numbers)
        distinct = tuple(found.tolist())
    assert codes is not None
    if distinct == tuple(categories):
        return codes
    keys = {key: index for index, key in enumerate(_keys(categories, categories))}
    new = np.array([*(keys.get(key, -2) for key in _keys(distinct, categories)), -1])
    found_codes = new[codes]
    if unseen == "error" and (found_codes == -2).any():
        row = np.flatnonzero(found_codes == -2)[0]
        shown = ", ".join(repr(value) for value in categories[:_SHOWN_IN_ERRORS])
        more = len(categories) - _SHOWN_IN_ERRORS
        raise at.error(
            f"one of the categories {shown}{f' and {more} more' if more > 0 else ''}",
            repr(distinct[codes[row]]), row,
            "Correct the entry, leave it empty if it is not known, or pass `unseen='missing'` to "
            "treat unseen categories as missing.",
        )  # fmt: skip
    return np.maximum(found_codes, -1)


def unseen_in(categories: Sequence[Value], values: Values) -> list[Value]:
    """Return the values that are not in `categories`."""
    known = set(_keys(categories, categories))
    codes, distinct = values.codes, values.distinct
    if values.numbers is not None:
        distinct = tuple(np.unique(values.numbers[~np.isnan(values.numbers)]).tolist())
    elif codes is not None:
        distinct = tuple(distinct[code] for code in np.unique(codes) if code >= 0)
    keys = _keys(distinct, categories)
    return [value for value, key in zip(distinct, keys, strict=True) if key not in known]


def _is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def _keys(values: Sequence[Value], categories: Sequence[Value]) -> list[Value | None]:
    """Return values in the type of the categories. None for a value that has another type."""
    if all(isinstance(category, bool) for category in categories):
        return [_TRUTH.get(str(value).strip().lower()) for value in values]
    if all(_is_number(category) for category in categories):
        return [_as_float(value) for value in values]
    return [_as_text(value) for value in values]


def _as_float(value: Value) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _as_text(value: Value) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()
