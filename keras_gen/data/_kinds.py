"""Infer the kind of each column of a table, and compute the statistics of the training rows."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_gen._column_values import (
    NUMBER_REMEDY,
    Location,
    Value,
    Values,
    as_float,
    check_numbers,
    numbers_in,
)
from keras_gen._columns import KINDS, NUMBERS, Column, Kind

FindRow = Callable[[Value], int]
"""Function that returns the first row of a column with a given value, for error messages."""
Kinds = Mapping[str, str | Sequence[Value]]
"""Dictionary from the name of a column to the kind that the user chose. For an ordinal column, the
dictionary can contain the list of categories instead, from the lowest to the highest. An example is
`{"visits": "count", "size": ["S", "M", "L"]}`."""

_PROBE = 4000  # number of rows that usually show whether a column has too many distinct numbers
_MAX_CATEGORIES = 1000  # a column of text with more distinct values is an identifier
# A column of at most _FEW distinct whole numbers is a category, if each of them occurs at least
# _PER_CATEGORY times on average.
_FEW = 10
_PER_CATEGORY = 5
# If a negative binomial distribution does not fit whole numbers, these larger limits apply.
_FEW_FOR_MANY_ROWS = 32
_MANY_PER_CATEGORY = 100
_SMALLEST_MEASUREMENT = 100  # whole numbers of at least this size are measurements, not counts
_MAX_CLASSES = 1000  # if a label is a whole number of at least this size, labels are renumbered
_MAX_DECIMALS = 6
_MAX_CODES = 2**24  # up to here, float32 represents all whole numbers
_LARGEST = float(np.finfo(np.float32).max)
_SMALLEST = float(np.finfo(np.float32).tiny)
_NAMES_OF_IDENTIFIERS = re.compile(
    r"(?i:(.*[\s_.-])?(id|uuid|guid|index|rowid|rownames?|row[\s_.-]?(number|id|names?)))"
    r"|.*[a-z]I[dD]|Unnamed: 0.*",
)
_DATE = re.compile(
    r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([ T].*)?"
    r"|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4}( .*)?"
    r"|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?( ?[AaPp][Mm])?"
    r"|\d{1,2}[ -][A-Za-z]{3,9}[ -]\d{2,4}"
)
_DATE_REMEDY = (
    "dates and times are not modeled; convert them to numbers, such as days since the first date"
)


def check_kinds(kinds: Kinds | None, names: Iterable[str], source: str) -> dict[str, Kind]:
    """Check the argument `kinds` of `read_table`, which sets the kinds of some columns.

    Args:
        kinds: Dictionary from the name of a column to its kind. For an ordinal column, the
            dictionary can contain the list of categories instead, from the lowest to the highest.
        names: Names of the columns of the table.
        source: Name of the table, for error messages.

    Returns:
        Dictionary from the name of each column in `kinds` to its kind. A list of categories is
        replaced by `"ordinal"`.

    Raises:
        ValueError: If `kinds` contains an unknown column or an unknown kind. If a list has fewer
            than two categories, or contains a category twice.
    """
    names = list(names)
    checked: dict[str, Kind] = {}
    for name, kind in (kinds or {}).items():
        if name not in names:
            close = difflib.get_close_matches(str(name), names, 1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(
                f"Expected `kinds` to name columns of {source}: {', '.join(names)}. "
                f"Received: {name!r}.{hint}"
            )
        if isinstance(kind, str):
            if kind not in KINDS:
                raise ValueError(
                    f"`kinds[{name!r}]` must be one of {', '.join(KINDS)}, or a list of categories "
                    f"from the lowest to the highest. Received: {kind!r}"
                )
            checked[name] = kind  # type: ignore[assignment]
        else:
            order = list(kind)
            if len(order) < 2 or len(set(order)) < len(order):
                raise ValueError(
                    f"`kinds[{name!r}]` must contain at least two different categories, from the "
                    f"lowest to the highest. Received: {order}"
                )
            checked[name] = "ordinal"
    return checked


class Split(NamedTuple):
    """Says which rows of a block are training rows, and which rows are test rows.

    A large table is read in several blocks of rows. Each field is an array of row indices, or a
    boolean mask with one element per row of the block.
    """

    train: np.ndarray
    test: np.ndarray


@dataclasses.dataclass
class _Moments:
    """Mean, standard deviation and skewness of all numbers that the method `add` has received.

    The field `second` is the sum of the squared deviations from the mean. The field `third` is the
    sum of the cubed deviations.
    """

    count: int = 0
    mean: float = 0.0
    second: float = 0.0
    third: float = 0.0

    def add(self, x: np.ndarray) -> None:
        """Add numbers (Chan et al. 1983, Pébay 2008)."""
        if not x.size:
            return
        count = x.size
        mean = float(x.mean())
        deviations = x - mean
        squares = deviations * deviations
        second = float(squares.sum())
        squares *= deviations
        third = float(squares.sum())
        total = self.count + count
        delta = mean - self.mean
        a, b = self.count / total, count / total
        self.third += third + delta**3 * self.count * b * (a - b)
        self.third += 3 * delta * (a * second - b * self.second)
        self.second += second + delta**2 * self.count * b
        self.mean += delta * b
        self.count = total

    @property
    def scale(self) -> float:
        return math.sqrt(self.second / self.count) if self.count else 0.0

    @property
    def skewness(self) -> float:
        return self.third / self.count / self.scale**3 if self.scale > 0 else 0.0


class ColumnStatistics:
    """Compute statistics of one table column, and infer the kind of the column from them.

    Call `add` once per block of rows. Then call `column`, which returns the kind and the statistics
    of the column as a `Column`.

    Args:
        name: Name of the column.
        kind: The kind that the user chose. None if the kind is inferred.
        order: The categories of an ordinal column, from the lowest to the highest, if the user
            chose their order. Otherwise empty.
        from_text: Whether the column comes from a text file. A text file contains no dtypes. So if
            the column contains numbers, its dtype is inferred from the numbers.
    """

    def __init__(
        self,
        name: str,
        kind: Kind | None = None,
        order: Sequence[Value] = (),
        from_text: bool = False,
    ) -> None:
        self.name = name
        self.dtype = "float64"
        self.from_text = from_text
        self.kind = kind
        self.order = tuple(order)
        self.rows = 0
        self.missing = 0
        self.is_numeric = True
        self.has_numbers = False
        self.is_time = False
        self.declared_order: tuple[Value, ...] | None = None
        self.distinct: dict[Value, None] = {}  # of all rows
        self.in_training: dict[Value, None] = {}
        self.num_texts = 0  # number of distinct texts, if they are too many to be collected
        self.too_many = False  # whether the distinct numbers are too many to be collected
        # whether the numbers can be an identifier: all of them differ, as far as it is known
        self.unique = _NAMES_OF_IDENTIFIERS.fullmatch(name) is not None
        self.counting = True  # whether each number is its predecessor plus 1
        self.first: float | None = None
        self.last: float | None = None
        self.whole = True
        self.low = math.inf
        self.high = -math.inf
        self.train_low = math.inf
        self.train_high = -math.inf
        self.decimals: int | None = 0
        self.moments = _Moments()
        self.log_moments = _Moments()
        self.pending: np.ndarray | None = None  # training numbers that `log_moments` lacks

    def add(self, values: Values, split: Split, at: Location) -> None:
        """Update the statistics with the values of a block of rows.

        Args:
            values: The values of the column in these rows.
            split: Says which rows of the block are training rows, and which are test rows.
            at: Location of the column, for error messages.
        """
        self.dtype = values.dtype
        if values.numbers is None and self.kind in NUMBERS:
            values = Values(numbers=numbers_in(values, at))
        if values.numbers is not None:
            self._add_numbers(values.numbers.astype(np.float64, copy=False), split, at)
        elif values.is_time and values.codes is not None:
            self.is_time = True
            self.rows += len(values.codes)
            self.missing += int(np.count_nonzero(values.codes))
        else:
            self._add_codes(values, split)

    def _add_codes(self, values: Values, split: Split) -> None:
        codes, distinct = values.codes, values.distinct
        assert codes is not None
        self.is_numeric = False
        self.rows += len(codes)
        if values.ordered:
            self.declared_order = distinct
        # position 0 counts the missing entries
        counts = np.bincount(codes + 1, minlength=len(distinct) + 1)
        in_test = np.bincount(codes[split.test] + 1, minlength=len(distinct) + 1)
        self.missing += int(counts[0])
        found = np.flatnonzero(counts[1:])
        if len(distinct) > _MAX_CATEGORIES and self.kind is None:
            self.num_texts = max(self.num_texts, len(found))
            self.distinct.update(dict.fromkeys(distinct[:_MAX_CATEGORIES]))
            text = next((value for value in distinct if as_float(value) is None), None)
            if text is not None:  # after many numbers, it can be a wrong entry
                self.distinct[text] = None
            return
        self.distinct.update((distinct[code], None) for code in found)
        in_training = np.flatnonzero((counts - in_test)[1:])
        self.in_training.update((distinct[code], None) for code in in_training)

    def _add_numbers(self, numbers: np.ndarray, split: Split, at: Location) -> None:
        import pandas

        self.has_numbers = True
        self.rows += len(numbers)
        training = numbers[split.train]
        is_missing = np.isnan(numbers)
        num_missing = int(np.count_nonzero(is_missing))
        if num_missing:
            self.missing += num_missing
            observed = numbers[~is_missing]
            training = training[~np.isnan(training)]
            self.counting = False
        else:
            observed = numbers
        if not observed.size:
            return
        whole = bool((observed == np.rint(observed)).all())
        self.whole &= whole
        low, high = float(observed.min()), float(observed.max())
        is_valid = low >= -_LARGEST and high <= _LARGEST
        if self.kind in ("count", "positive"):
            is_valid &= whole if self.kind == "count" else low >= _SMALLEST
            is_valid &= low >= 0
        if not is_valid and self.kind != "constant":
            check_numbers(self.kind or "real", numbers, at)
        self._add_distinct(observed)
        if self.counting:
            follows = self.last is None or observed[0] == self.last + 1
            spans = observed[-1] - observed[0] == len(observed) - 1
            self.counting = bool(follows and spans and whole and (np.diff(observed) == 1).all())
        if self.first is None:
            self.first = float(observed[0])
        self.last = float(observed[-1])
        self.low = min(self.low, low)
        self.high = max(self.high, high)
        if self.decimals is not None:
            places = 0 if whole else _decimal_places(observed, self.dtype)
            self.decimals = None if places is None else max(places, self.decimals)
        if not training.size:
            return
        self.train_low = min(self.train_low, float(training.min()))
        self.train_high = max(self.train_high, float(training.max()))
        self.moments.add(training)
        self._add_logarithms()
        self.pending = training
        is_few = not self.too_many and len(self.distinct) <= _FEW_FOR_MANY_ROWS
        if is_few or self.kind not in (None, *NUMBERS):  # the column can become a category
            self.in_training.update(dict.fromkeys(pandas.unique(training).tolist()))

    def _add_distinct(self, observed: np.ndarray) -> None:
        """Add the distinct numbers of a block of rows to the distinct numbers of the column.

        If the column has more than 1,000 distinct numbers, they are no longer stored. If the user
        chose a kind other than `"real"`, `"positive"` and `"count"`, all distinct numbers are
        stored.

        Args:
            observed: The numbers of the block, without missing values.
        """
        import pandas

        if self.unique:
            self.unique = len(pandas.unique(observed)) == len(observed)
        if self.too_many:
            return
        is_coded = self.kind not in (None, *NUMBERS)
        if is_coded or len(pandas.unique(observed[:_PROBE])) <= _MAX_CATEGORIES:
            self.distinct.update(dict.fromkeys(pandas.unique(observed).tolist()))
            self.too_many = not is_coded and len(self.distinct) > _MAX_CATEGORIES
        else:
            self.too_many = True
        if self.too_many:
            self.distinct.clear()
            self.in_training.clear()

    def _add_logarithms(self) -> None:
        """Update `log_moments` with the logarithms of the numbers in `pending`.

        `log_moments` contains the mean, the standard deviation and the skewness of the logarithms.
        `pending` contains numbers from training rows that `log_moments` does not yet include.
        `log_moments` stays unchanged if the column contains a number that is not positive, or if
        the user chose another kind than `"positive"`.
        """
        if self.pending is not None and self.low > 0 and self.kind in (None, "positive"):
            self.log_moments.add(np.log(self.pending))
        self.pending = None

    @property
    def is_mixed(self) -> bool:
        """Whether the blocks of rows contain values of different types: numbers, text, booleans."""
        if self.has_numbers and not self.is_numeric:
            return True
        return len({isinstance(value, str) for value in self.distinct}) > 1

    # === The column ===

    def column(self, at: Location, find: FindRow) -> Column:
        """Return a `Column` with the kind of the column and the statistics of the training rows.

        Args:
            at: Location of the column, for error messages.
            find: Function that returns the first row with a given value, for error messages.

        Raises:
            ValueError: If the values of the column do not allow the kind that the user chose, or if
                the kind cannot be inferred from the values.
        """
        kind, note = (self.kind, "") if self.kind is not None else self._inferred(at, find)
        if kind == "identifier":
            return self._column("identifier", note=note or "excluded, as `kinds` says")
        observed = self.rows - self.missing
        if not observed:
            return self._column("constant", note="excluded: all entries are missing")
        categories = self._categories(kind, at)
        if kind == "constant" or (self.kind is None and self._training_is_constant()):
            return self._constant(at)
        if kind in NUMBERS:
            return self._number(kind, note, at)
        number = len(categories)
        smallest = 1 if kind == "category" else 2
        if number < smallest or (kind == "binary" and number > 2):
            shown = ", ".join(repr(value) for value in categories[:10])
            shown = f" ({shown})" if shown else ""
            needed = {"binary": "2 different values", "category": "at least 1 value"}.get(
                kind, "at least 2 different values"
            )
            raise ValueError(
                f"Expected {needed} in the training rows of the column {self.name!r} of "
                f"{at.source}, whose kind is {kind!r}. Received: {number} "
                f"values{shown}. Choose another kind in `kinds`."
            )
        if number > _MAX_CODES:
            raise ValueError(
                f"Expected at most {_MAX_CODES} categories in the column {self.name!r} of "
                f"{at.source}. Received: {number}. Exclude the column: "
                f"`kinds={{{self.name!r}: 'identifier'}}`."
            )
        return self._column(kind, categories=categories, note=note or self._note(categories))

    def _column(
        self, kind: Kind, categories: tuple[Value, ...] = (), note: str = "", **statistics: Any
    ) -> Column:
        dtype = self.dtype
        if self.from_text and self.is_numeric:
            whole = "Int64" if self.missing else "int64"
            dtype = whole if self.whole and self.rows > self.missing else "float64"
        return Column(
            self.name, kind, categories, missing=self.missing, dtype=dtype, note=note, **statistics
        )

    def _training_is_constant(self) -> bool:
        if self.declared_order is not None:
            return False
        if self.is_numeric:
            return self.train_low == self.train_high
        return len(self.in_training) == 1

    def _constant(self, at: Location) -> Column:
        values = list(self.in_training or self.distinct)
        if self.too_many or len(values) > 1:
            raise ValueError(
                f"Expected one value in the column {self.name!r} of {at.source}, whose kind is "
                f"'constant'. Received: several values. Choose another kind in `kinds`."
            )
        value = self._natural(values[0])
        note = "excluded: one value in all training rows"
        return self._column("constant", (value,), note, decimals=self.decimals)

    def _number(self, kind: Kind, note: str, at: Location) -> Column:
        if kind == "positive":
            self._add_logarithms()
        moments = self.log_moments if kind == "positive" else self.moments
        if not moments.count:
            raise ValueError(
                f"Expected numbers in the training rows of the column {self.name!r} of {at.source}."
                " Received: only missing entries. Exclude the column: "
                f"`kinds={{{self.name!r}: 'identifier'}}`."
            )
        if not moments.scale > 0:
            raise ValueError(
                f"Expected different numbers in the training rows of the column {self.name!r} of "
                f"{at.source}, whose kind is {kind!r}. Received: only {self.train_low:.10g}. "
                "Remove the column from `kinds`. The model then ignores it as a constant."
            )
        largest = max(abs(self.low), abs(self.high))
        if float(np.spacing(np.float32(largest))) > 1e-3 * self.moments.scale:
            raise ValueError(
                f"Expected numbers in the column {self.name!r} of {at.source} whose differences "
                f"are large enough for float32. Received: numbers up to {largest:.10g} with a "
                f"standard deviation of {self.moments.scale:.3g}; float32 rounds them to multiples "
                f"of {float(np.spacing(np.float32(largest))):.3g}. Subtract the smallest number "
                f"from the column, or exclude it: `kinds={{{self.name!r}: 'identifier'}}`."
            )
        return self._column(
            kind,
            note=note or self._sentinel_note(),
            mean=moments.mean,
            scale=moments.scale,
            minimum=self.train_low,
            maximum=self.train_high,
            decimals=self.decimals,
        )

    def _categories(self, kind: Kind, at: Location) -> tuple[Value, ...]:
        """Return the categories of the column. The code of a category is its index in the result.

        If the user chose an order, the result contains all categories in this order. Otherwise it
        contains the sorted categories of the training rows. For a column of numbers or of kind
        `"constant"`, the result is empty.

        Raises:
            ValueError: If the order that the user chose lacks a value of the column, or if the user
                chose no order for an ordinal column of texts.
        """
        if kind in (*NUMBERS, "constant"):
            return ()
        if self.order:
            shown = {str(value) for value in self.order} | set(self.order)
            extra = [value for value in self.distinct if not {value, str(value)} & shown]
            extra = [value for value in extra if str(self._natural(value)) not in shown]
            if extra:
                raise ValueError(
                    f"Expected `kinds[{self.name!r}]` to contain all values of the column in "
                    f"{at.source}. Received: {list(self.order)}. Missing: {extra[:10]}. Add the "
                    "missing values, or correct them in the table."
                )
            return self.order
        if self.declared_order is not None and kind == "ordinal":
            return self.declared_order
        values = [self._natural(value) for value in self.in_training]
        texts = sum(isinstance(value, str) for value in values)
        if kind == "ordinal" and texts:
            example = sorted(map(str, values))[:_FEW]
            raise ValueError(
                f"Expected an order of the categories of the column {self.name!r} of {at.source}."
                f" Received: kinds={{{self.name!r}: 'ordinal'}}. Pass a list of all categories "
                f"from the lowest to the highest, such as `kinds={{{self.name!r}: {example}}}` if "
                "this is their order."
            )
        return tuple(sorted(values, key=str if 0 < texts < len(values) else None))

    def _natural(self, value: Value) -> Value:
        """Convert a float such as 3.0 to an int, if all numbers of the column are whole numbers.

        Return any other value unchanged.
        """
        if isinstance(value, float) and self.whole and value.is_integer():
            return int(value)
        return value

    def _note(self, categories: tuple[Value, ...]) -> str:
        folded: dict[str, Value] = {}
        for value in categories:
            other = folded.setdefault(str(value).casefold(), value)
            if other != value:
                return f"{other!r} and {value!r} differ only in case"
        if "?" in categories:
            return "'?' is a category; if it stands for a missing value, pass missing=['?']"
        return ""

    def _sentinel_note(self) -> str:
        if self.low in (-9, -99, -999, -9999) and self.low < -abs(self.moments.mean):
            value = f"{self.low:g}"
            remedy = f"if it stands for a missing value, pass missing=['{value}']"
            return f"{value} is a number; {remedy}"
        return ""

    def classes(self) -> tuple[Value, ...]:
        """Return the classes of a column of labels, such as `("cat", "dog")`.

        The label that a model receives is the index of a class in the returned tuple. If all labels
        of the column are whole numbers from 0 to 999, the classes are all whole numbers from 0 to
        the largest label. A model then receives these labels unchanged. Otherwise, the classes are
        the sorted distinct labels.
        """
        if self.is_numeric and self.whole and self.low >= 0 and self.high < _MAX_CLASSES:
            return tuple(range(int(self.high) + 1))
        values = [self._natural(value) for value in self.distinct]
        mixed = len({isinstance(value, str) for value in values}) > 1
        return tuple(sorted(values, key=str if mixed else None))

    def not_in_training(self, column: Column) -> list[Value]:
        """Return the categories that occur in test rows of the column, but in no training row.

        If the user chose an order of the categories, the list is empty. In this case, the model
        knows all categories from the order.

        Args:
            column: The result of the method `column`.
        """
        if self.order or (self.declared_order is not None and column.kind == "ordinal"):
            return []
        return [self._natural(value) for value in self.distinct if value not in self.in_training]

    # === Inference ===

    def _inferred(self, at: Location, find: FindRow) -> tuple[Kind, str]:
        """Infer the kind of the column from its values.

        Args:
            at: Location of the column, for error messages.
            find: Function that returns the first row with a given value, for error messages.

        Returns:
            `(kind, note)`. The note is a remark for the user, such as why the column is excluded.
        """
        observed = self.rows - self.missing
        if self.is_time:
            return "identifier", f"excluded: {_DATE_REMEDY}"
        if not observed:
            return "constant", ""
        if self.declared_order is not None:
            return ("ordinal", "") if len(self.declared_order) > 1 else ("constant", "")
        if self.is_numeric:
            return self._inferred_for_numbers(observed)
        return self._inferred_for_text(observed, at, find)

    def _inferred_for_numbers(self, observed: int) -> tuple[Kind, str]:
        number = len(self.distinct)
        if not self.too_many and number == 1:
            return "constant", ""
        if self.whole:
            if self.unique and not self.missing and observed > 1:
                return "identifier", "excluded: it has a different whole number in each row"
            if self.counting and self.first in (0, 1) and observed >= _FEW:
                return "identifier", "excluded: it contains the row numbers"
            if not self.too_many and number == 2:
                return "binary", ""
            if not self.too_many and number <= _FEW and observed >= _PER_CATEGORY * number:
                return "category", ""
            if self.low < 0:
                return "real", ""
            # A negative binomial distribution has a variance of at least its mean.
            spread = self.moments.scale**2 >= self.moments.mean
            if self.low == 0 or (self.low < _SMALLEST_MEASUREMENT and spread):
                return "count", ""
            is_often = observed >= _MANY_PER_CATEGORY * number
            if not self.too_many and number <= _FEW_FOR_MANY_ROWS and is_often:
                return "category", ""
            return "positive", ""
        self._add_logarithms()
        is_skewed = abs(self.log_moments.skewness) > max(abs(self.moments.skewness), 1.0)
        if self.low < _SMALLEST or is_skewed:
            return "real", ""
        return "positive", ""

    def _inferred_for_text(self, observed: int, at: Location, find: FindRow) -> tuple[Kind, str]:
        values = list(self.distinct)
        number = max(len(values), self.num_texts)
        if number == 1:
            return "constant", ""
        if self.name == "Unnamed: 0" and number == self.rows:
            return "identifier", "excluded: it contains the row names"
        if all(isinstance(value, str) for value in values):
            texts = [str(value) for value in values]
            dates = sum(_DATE.fullmatch(text) is not None for text in texts)
            if 2 * dates > len(texts):
                return "identifier", f"excluded: {_DATE_REMEDY}"
            self._check_is_text(texts, at, find)
        if number > _MAX_CATEGORIES or (number > _FEW and 2 * number > observed):
            return "identifier", (
                f"excluded: {number} different values in {observed} rows; to model them, pass "
                f"kinds={{{self.name!r}: 'category'}}"
            )
        if number == 2:
            return "binary", ""
        return "category", ""

    def _check_is_text(self, texts: Sequence[str], at: Location, find: FindRow) -> None:
        """Raise a `ValueError` if a column of texts probably should be a column of numbers.

        This is the case if one of these conditions holds:

        * At least half of the texts are numbers, but not all of them.
        * More than half of the texts are numbers with a decimal comma.
        * More than half of the texts, and at least three texts, are numbers with a unit, and these
          numbers have at most three different units.

        Args:
            texts: The distinct texts of the column.
            at: Location of the column, for error messages.
            find: Function that returns the first row with a given value, for error messages.
        """
        others = [text for text in texts if as_float(text) is None]
        if others and 2 * len(others) <= len(texts):
            raise at.error("numbers", repr(others[0]), find(others[0]), NUMBER_REMEDY)
        commas = [text for text in others if re.fullmatch(r"[+-]?[\d.]*,\d+", text)]
        if 2 * len(commas) > len(texts):
            raise at.error(
                "numbers with the same decimal sign", repr(commas[0]), find(commas[0]),
                "Pass `decimal=','` if the comma is the decimal sign, and write all numbers of "
                "the file with the same sign.",
            )  # fmt: skip
        units = [text for text in texts if _WITH_UNIT.fullmatch(text)]
        affixes = {re.sub(r"[\d.,\s+-]+", "", text) for text in units}
        if len(units) >= 3 and 2 * len(units) > len(texts) and len(affixes) <= 3:
            raise at.error(
                "numbers without a unit", repr(units[0]), find(units[0]),
                "Remove the unit from the numbers, or, if the values are categories, pass "
                f"`kinds={{{self.name!r}: 'category'}}`.",
            )  # fmt: skip


_WITH_UNIT = re.compile(
    r"\s*[$€£¥]?\s*[+-]?\d[\d.,]*\s*[^\d\s.,;:/_-]{1,5}\s*|\s*[$€£¥]\s*[+-]?\d[\d.,]*\s*"
)


def _decimal_places(numbers: np.ndarray, dtype: str) -> int | None:
    """Return the largest number of decimal places in `numbers`, or None in one of two cases.

    The function returns None if a number has more than 6 decimal places. It also returns None if a
    number is so large that rounding errors of the dtype hide its decimal places.
    """
    precision = 1.2e-7 if dtype.lower() == "float32" else 2.3e-16
    for part in (numbers[:1000], numbers):  # most columns are decided by the first thousand
        places = _places_of(part, precision)
        if places is None or len(part) == len(numbers):
            return places
    return None


def _places_of(numbers: np.ndarray, precision: float) -> int | None:
    for places in range(_MAX_DECIMALS + 1):
        scaled = numbers * 10.0**places
        tolerance = 4 * precision * np.abs(scaled)
        if tolerance.max() > 0.05:
            return None
        if (np.abs(scaled - np.rint(scaled)) <= tolerance).all():
            return places
    return None
