"""Read the columns of a table as numbers, or as codes of categories.

A model of a table receives a float32 array. In this array, a code represents each category. The
code is the index of the category in the list of the column's categories. The functions of this
module read a column of a `DataFrame`, check its values, and return its numbers or codes.
"""

from __future__ import annotations

import collections
import decimal
import functools
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import pandas  # at run time, functions import it, because the import takes long

Value = str | int | float | bool
"""A value of a table."""

_SHOWN_IN_ERRORS = 10


class Location(NamedTuple):
    """The name of a table column, and the file or object that contains it, for error messages."""

    source: str
    """Name of the file or object."""
    column: str
    """Name of the column."""
    place: Callable[[int], str]
    """Function that maps the position of a row to a description, such as `"line 3"`."""

    def error(self, expected: str, received: object, row: int, remedy: str) -> ValueError:
        """Return a `ValueError` about an invalid entry of the column.

        Args:
            expected: Description of valid entries.
            received: The invalid entry, or a description of the entry.
            row: Position of the row, from 0.
            remedy: Sentence that tells the user what to do.
        """
        return ValueError(
            f"Expected {expected} in the column {self.column!r} of {self.source}. Received: "
            f"{received} in {self.place(int(row))}. {remedy}"
        )


class Values(NamedTuple):
    """The values of one column of a table.

    A column of numbers has the field `numbers`. All other columns have the field `codes`. For each
    row, `codes` contains the index of the row's value in the tuple `distinct`. Columns of dates and
    times are an exception, which the field `is_time` describes.
    """

    numbers: np.ndarray | None = None
    """The numbers, with NaN for a missing value. None if the values are not numbers."""
    codes: np.ndarray | None = None
    """For each row, the index of its value in `distinct`. −1 means that the value is missing."""
    distinct: tuple[Value, ...] = ()
    """The distinct values of the column."""
    ordered: bool = False
    """Whether the user chose the order of `distinct`, as in an ordered `pandas.Categorical`."""
    dtype: str = "float64"
    """Name of the dtype of the column."""
    is_time: bool = False
    """Whether the values are dates or times. If they are, `distinct` is empty. The code is −1 for a
    missing value, and 0 for every other value."""


class Rows:
    """A block of rows of a table, such as all rows of a `DataFrame`, or a part of a file.

    Args:
        source: Name of the file or object that contains the rows.
        names: Names of the columns.
        count: Number of rows.
        values: Function that reads one column. Its argument is a `Location`, which contains the
            name of the column. It returns the values of the column as a `Values` object.
        place: Function that takes the index of a row in the block, from 0. It returns a description
            of the row for error messages, such as `"line 3"`.
    """

    def __init__(
        self,
        source: str,
        names: Sequence[str],
        count: int,
        values: Callable[[Location], Values],
        place: Callable[[int], str],
    ) -> None:
        self.source = source
        self.names = tuple(names)
        self.count = count
        self.place = place
        self._values = values
        self._known: dict[str, Values] = {}

    def at(self, name: str) -> Location:
        """Return the `Location` of a column, for error messages about this column."""
        return Location(self.source, name, self.place)

    def values(self, name: str) -> Values:
        """Return the values of a column. The method reads each column only once, and stores it."""
        if name not in self._known:
            self._known[name] = self._values(self.at(name))
        return self._known[name]


def rows_of(
    frame: pandas.DataFrame, source: str, place: Callable[[int], str] | None = None
) -> Rows:
    """Return a `Rows` object, which reads the rows of a `DataFrame` column by column.

    Args:
        frame: The `DataFrame`.
        source: Name of the file or object that contains the rows, for error messages.
        place: Function that takes the position of a row, from 0. It returns a description of the
            row for error messages. Default: a description such as `"row 2 (index 'b')"`, with the
            position and the index label of the row.

    Raises:
        ValueError: If `frame` is not a `DataFrame`, if its column names have several levels, or if
            two columns have the same name.
    """
    by_name = series_by_name(frame, source)
    if place is None:
        place = functools.partial(_place_in_frame, frame)
    return Rows(
        source, list(by_name), len(frame), lambda at: values_of(by_name[at.column], at), place
    )


def values_of(series: pandas.Series, at: Location) -> Values:
    """Return the values of a column of a `DataFrame`.

    For a column of numbers, the result contains the numbers. For other columns, the result contains
    the distinct values, and one code per row. A code is the index of the row's value among the
    distinct values. For dates and times, the result says only which entries are missing.

    Args:
        series: The column.
        at: Location of the column, for error messages.

    Raises:
        ValueError: If the column contains lists, complex numbers, or other values that a table
            cannot have. Also if its values have several types.
    """
    import pandas

    dtype = series.dtype
    if isinstance(dtype, pandas.SparseDtype):
        series = series.sparse.to_dense()
        dtype = series.dtype
    name = str(dtype)
    types = pandas.api.types
    if isinstance(dtype, pandas.CategoricalDtype):
        return _values_of_categories(series)
    if types.is_bool_dtype(dtype):
        missing = series.isna().to_numpy()
        codes = np.where(missing, -1, series.fillna(False).to_numpy(bool))
        return Values(codes=codes.astype(np.int64), distinct=(False, True), dtype=name)
    if isinstance(dtype, (pandas.DatetimeTZDtype, pandas.PeriodDtype)) or dtype.kind in "mM":
        return Values(codes=np.where(series.isna(), -1, 0), dtype=name, is_time=True)
    if types.is_complex_dtype(dtype):
        raise at.error(
            "real numbers", series.iloc[0] if len(series) else "complex numbers", 0,
            "Replace the column by its real part and its imaginary part, or remove it.",
        )  # fmt: skip
    if types.is_numeric_dtype(dtype):
        if isinstance(dtype, np.dtype):
            return Values(numbers=series.to_numpy(), dtype=name)
        return Values(numbers=series.to_numpy(np.float64, na_value=np.nan), dtype=name)
    if types.is_object_dtype(dtype):
        return _values_of_objects(series, at)
    if types.is_string_dtype(dtype):
        codes, distinct = pandas.factorize(series)
        return coded_values(codes, [str(value) for value in distinct], dtype=name)
    raise at.error(
        "numbers, text, booleans or categories", f"the dtype {dtype}", 0,
        "Convert the column to numbers or text, or remove it.",
    )  # fmt: skip


def _values_of_categories(series: pandas.Series) -> Values:
    """Return the values of a column with the pandas dtype `category`."""
    categories = series.cat.categories
    distinct = [_plain(value) for value in categories.tolist()]
    ordered = bool(series.cat.ordered)
    return coded_values(series.cat.codes.to_numpy(), distinct, ordered=ordered, dtype="category")


def _values_of_objects(series: pandas.Series, at: Location) -> Values:
    """Return the values of a column that has the pandas dtype `object`.

    For a column of numbers, the result contains the numbers. For strings and booleans, the result
    contains the distinct values, and one code per row. A code is the index of the row's value among
    the distinct values. A string that is empty or contains only spaces counts as a missing value.

    Raises:
        ValueError: If the objects that are not missing are not all numbers, all strings, or all
            booleans.
    """
    import pandas

    try:
        codes, objects = pandas.factorize(series)
    except TypeError:  # pandas cannot count the distinct values of lists and dictionaries
        objects = None
    if objects is None:
        is_scalar = [pandas.api.types.is_scalar(value) for value in series]
        row = is_scalar.index(False) if False in is_scalar else 0
        raise at.error(
            "numbers or text", repr(series.iloc[row]), row,
            "Make one column for each number in the lists, or remove the column.",
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
        whole = all(isinstance(v, (int, np.integer)) for v in objects if not isinstance(v, str))
        return Values(numbers=numbers[codes], dtype="int64" if whole else "float64")
    if len(kinds) > 1:
        # `objects` can lack a type, because True == 1. So the types are read from the rows.
        types = {type(value) for value in series.dropna()}
        shown = ", ".join(sorted(kind.__name__ for kind in types))
        raise at.error(
            "values of one type", f"values of the types {shown}", 0,
            f"Convert all of them to one type, such as text: `frame[{at.column!r}].astype(str)`.",
        )  # fmt: skip
    dtype = "bool" if kinds == {"booleans"} else "object"
    return coded_values(codes, [_plain(value) for value in objects], dtype=dtype)


def _plain(value: Any) -> Value:
    """Convert a category to a Python string, boolean or number."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, (str, bool, int, float)) else str(value)


def coded_values(
    codes: np.ndarray,
    distinct: Sequence[Value],
    missing: Collection[str] = ("",),
    ordered: bool = False,
    dtype: str = "str",
) -> Values:
    """Clean the texts of a column, and return its codes and distinct values as a `Values` object.

    Spaces at the start and the end of each text are removed. Texts that are equal afterwards get
    the same code. Texts in `missing` get the code −1, which means a missing value.

    Args:
        codes: Code of the value in each row. The code is the index of the value in `distinct`, or
            −1 if the value is missing.
        distinct: The distinct values of the column.
        missing: Texts that stand for a missing value.
        ordered: Whether the user chose the order of `distinct`.
        dtype: Name of the dtype that the column has in pandas.
    """
    position: dict[Value, int] = {}
    lookup = np.full(len(distinct) + 1, -1)
    for code, value in enumerate(distinct):
        stripped = value.strip() if isinstance(value, str) else value
        if stripped not in missing:
            lookup[code] = position.setdefault(stripped, len(position))
    if len(position) < len(distinct):
        codes = lookup[codes]
    return Values(None, codes, tuple(position), ordered, dtype)


def series_by_name(frame: pandas.DataFrame, source: str) -> dict[str, pandas.Series]:
    """Return a dictionary that maps the name of each column of a `DataFrame` to the column.

    A name that is not a string is converted to a string.

    Raises:
        ValueError: If `frame` is not a `DataFrame`, if its column names have several levels, or if
            two columns have the same name.
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
    """Raise a `ValueError` if two columns have the same name."""
    repeated = [name for name, count in collections.Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(
            f"Expected different names of the columns of {source}. Received more than once: "
            f"{', '.join(repeated)}. Rename or remove these columns."
        )


def _place_in_frame(frame: pandas.DataFrame, row: int) -> str:
    return f"row {row} (index {frame.index[row]!r})" if len(frame) else "its dtype"


# === Numbers and codes ===


def numbers_in(values: Values, at: Location) -> np.ndarray:
    """Return the values of a column as an array of numbers, with NaN for a missing value.

    Text such as "3.5" is converted to a number.

    Raises:
        ValueError: If a value is not a number.
    """
    if values.numbers is not None:
        return values.numbers
    if values.is_time:
        raise at.error(
            "numbers", "dates or times", 0,
            "Convert them to numbers, such as days since the first date.",
        )  # fmt: skip
    assert values.codes is not None
    lookup = np.full(len(values.distinct) + 1, np.nan)
    for code, value in enumerate(values.distinct):
        number = as_float(value)
        if number is not None:
            lookup[code] = number
            continue
        rows = np.flatnonzero(values.codes == code)
        if rows.size:
            raise at.error("numbers", repr(value), rows[0], NUMBER_REMEDY)
    return lookup[values.codes]


NUMBER_REMEDY = (
    "Correct the entry. If it stands for a missing value, leave it empty, or read the table with "
    "`missing=[...]`. If the column has categories, set its kind: `kinds={name: 'category'}`."
)


def check_numbers(kind: str, numbers: np.ndarray, at: Location) -> None:
    """Raise a `ValueError` if a number is invalid for the kind of its column.

    NaN means a missing value, and is valid for every kind. Numbers that are infinite in float32 are
    invalid for every kind. In a column of the kind `"positive"`, numbers must be at least 1.2e-38,
    the smallest normal number of float32. In a column of the kind `"count"`, numbers must be whole
    numbers of at least 0.
    """
    with np.errstate(over="ignore"):
        infinite = np.isinf(numbers.astype(np.float32))
    if infinite.any():
        row = np.flatnonzero(infinite)[0]
        remedy = "Correct the entry, or leave it empty if the number is not known."
        if np.isfinite(numbers[row]):
            remedy = "Use another unit, in which the numbers are smaller."
        raise at.error("numbers that are finite in float32", numbers[row], row, remedy)
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
    """Return the code of each value of a column: the index of the value in `categories`.

    Args:
        categories: The known categories of the column.
        values: The values of the column.
        at: Location of the column, for error messages.
        unseen: What to do with a value that is not in `categories`. `"error"` raises an error.
            `"missing"` treats the value as missing.

    Returns:
        An integer array with one code per row. For a missing value, the code is −1.

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
    wrong = new == -2
    if unseen == "error" and wrong.any() and wrong[codes].any():
        row = np.flatnonzero(wrong[codes])[0]
        shown = ", ".join(repr(value) for value in categories[:_SHOWN_IN_ERRORS])
        more = len(categories) - _SHOWN_IN_ERRORS
        raise at.error(
            f"one of the categories {shown}{f' and {more} more' if more > 0 else ''}",
            repr(distinct[codes[row]]), row,
            "Correct the entry, leave it empty if it is not known, or pass `unseen='missing'` to "
            "treat unseen categories as missing.",
        )  # fmt: skip
    return np.maximum(new, -1)[codes]


def unseen_in(categories: Sequence[Value], values: Values) -> list[Value]:
    """Return the distinct values of a column that are not in `categories`."""
    known = set(_keys(categories, categories))
    codes, distinct = values.codes, values.distinct
    if values.numbers is not None:
        distinct = tuple(np.unique(values.numbers[~np.isnan(values.numbers)]).tolist())
    elif codes is not None:
        distinct = tuple(distinct[code] for code in np.unique(codes) if code >= 0)
    keys = _keys(distinct, categories)
    return [value for value, key in zip(distinct, keys, strict=True) if key not in known]


def is_number(value: Value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def _keys(values: Sequence[Value], categories: Sequence[Value]) -> list[Value | None]:
    """Convert values to the type of `categories`, so that they can be compared with `categories`.

    The type is bool, float or str. A value that cannot be converted becomes None.
    """
    if all(isinstance(category, bool) for category in categories):
        return [_TRUTH.get(str(value).strip().lower()) for value in values]
    if all(is_number(category) for category in categories):
        return [as_float(value) for value in values]
    return [_as_text(value) for value in values]


def as_float(value: Value) -> float | None:
    """Convert a value to a float. If the value is not a number, return None."""
    if isinstance(value, str) and "_" in value:  # Python allows `1_000`
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _as_text(value: Value) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()
