"""Read tables: numbers in any units, categories, missing values."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from keras_gen._arguments import is_real
from keras_gen._columns import (
    CODED,
    Column,
    ColumnTuple,
    Location,
    Value,
    codes_in,
    decode_array,
    encode_frame,
    series_by_name,
    unseen_in,
    values_of,
)
from keras_gen._files import PathLike
from keras_gen.data._csv import MISSING_WORDS, CsvFile
from keras_gen.data._kinds import ColumnStatistics, Kinds, check_kinds

if TYPE_CHECKING:
    import pandas
    import tensorflow as tf

PENGUINS = pathlib.Path(__file__).parent / "penguins" / "penguins.csv"
"""File of the table `"penguins"`, which the package contains."""

_MEMORY_LIMIT = 2**30  # largest size in bytes of a file that is read at once
_BLOCK_SIZE = 2**25  # size in bytes of the blocks of a larger file
_BLOCK_ROWS = 2**16  # rows per block of a large Parquet file
_MAX_CLASSES = 1000

_TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".tab", ".dat")
_EXCEL_SUFFIXES = (".xlsx", ".xlsm", ".xls", ".ods")
_PARQUET_SUFFIXES = (".parquet", ".pq")


def is_table(source: object) -> bool:
    """Return whether a source is a table by its type or its name, without reading it.

    Args:
        source: Any source of `keras_gen.data.load`.

    Returns:
        True for a `DataFrame`, for `"penguins"`, and for a path that ends in `.csv`, `.tsv`,
        `.txt`, `.parquet`, `.xlsx` or a similar suffix, in any case, also before `.gz`.

    Example:
        >>> is_table("clients.CSV"), is_table("mnist_mini")
        (True, False)
    """
    if isinstance(source, (str, os.PathLike)):
        if str(source) == "penguins":
            return True
        return _suffix(pathlib.Path(source)) in (
            *_TEXT_SUFFIXES,
            *_EXCEL_SUFFIXES,
            *_PARQUET_SUFFIXES,
        )
    return type(source).__name__ == "DataFrame"


def _suffix(path: pathlib.Path) -> str:
    """Return the suffix in lower case, without `.gz`."""
    name = path.name.lower()
    return pathlib.Path(name.removesuffix(".gz")).suffix


# === Sources ===


class _Source(Protocol):
    """Rows of a table in blocks."""

    @property
    def name(self) -> str: ...

    def frames(self, block_size: int | None = None) -> Iterator[pandas.DataFrame]: ...

    def place(self, row: int) -> str: ...


class _Frame:
    """A `DataFrame`, whose own index is ignored."""

    def __init__(self, frame: pandas.DataFrame, name: str, missing: Sequence[Value] | None) -> None:
        self.frame = frame
        self.name = name
        self.missing = missing

    def frames(self, block_size: int | None = None) -> Iterator[pandas.DataFrame]:
        yield _without_words(self.frame, self.missing)

    def place(self, row: int) -> str:
        return f"row {row} (index {self.frame.index[row]!r})"


class _Excel(_Frame):
    """The only sheet of a workbook."""

    def place(self, row: int) -> str:
        return f"row {row + 2} of the sheet"


class _Parquet:
    """A Parquet file."""

    def __init__(self, path: pathlib.Path, missing: Sequence[Value] | None) -> None:
        try:
            import pyarrow.parquet
        except ImportError as error:
            raise ValueError(
                f"Expected the package pyarrow, which reads {path}. Received: {error}. Install it: "
                "`pip install 'keras_gen[parquet]'`."
            ) from error
        self.name = str(path)
        self.missing = missing
        try:
            self.file = pyarrow.parquet.ParquetFile(path)
        except (OSError, pyarrow.ArrowInvalid) as error:
            raise ValueError(
                f"Expected {path} to be a Parquet file. Reading the file failed: {error}. Write "
                "the file again."
            ) from error

    def frames(self, block_size: int | None = None) -> Iterator[pandas.DataFrame]:
        import pandas

        first = 0
        if block_size is None:
            frame = pandas.read_parquet(self.name)
            yield _without_words(frame.reset_index(drop=True), self.missing)
            return
        for batch in self.file.iter_batches(_BLOCK_ROWS):
            frame = batch.to_pandas().reset_index(drop=True)
            frame.index = pandas.RangeIndex(first, first + len(frame))
            first += len(frame)
            yield _without_words(frame, self.missing)

    def place(self, row: int) -> str:
        return f"row {row}"


def _without_words(frame: pandas.DataFrame, missing: Sequence[Value] | None) -> pandas.DataFrame:
    """Return the rows with NaN in place of the values that mean "missing"."""
    if missing is None:
        return frame
    numbers = [float(value) for value in missing if _is_float(value)]
    return frame.mask(frame.isin([*missing, *numbers]))


def _is_float(value: Value) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _open(
    source: Any,
    missing: Sequence[Value] | None,
    names: Sequence[str] | None = None,
    **options: Any,
) -> tuple[_Source, int]:
    """Return the source, and its size in bytes."""
    import pandas

    if isinstance(source, pandas.DataFrame):
        return _Frame(source, "the DataFrame", missing), 0
    if not isinstance(source, (str, os.PathLike)):
        raise ValueError(
            "`source` must be a path of a table, 'penguins', or a pandas.DataFrame. Received: "
            f"{type(source).__name__}"
        )
    path = PENGUINS if str(source) == "penguins" else pathlib.Path(source).expanduser()
    if path.is_dir():
        raise ValueError(f"Expected `source` to be a file. Received: {path}, which is a folder.")
    if not path.is_file():
        raise ValueError(
            f"Expected `source` to be an existing file. Received: {path}, which does not exist. "
            "Check the path."
        )
    size = path.stat().st_size
    if not size:
        raise ValueError(f"Expected {path} to contain rows of a table. Received: an empty file.")
    suffix = _suffix(path)
    if suffix in _PARQUET_SUFFIXES:
        return _Parquet(path, missing), size
    if suffix in _EXCEL_SUFFIXES:
        return _Excel(_read_excel(path), str(path), missing), size
    if suffix not in _TEXT_SUFFIXES:
        raise ValueError(
            "Expected `source` to be a .csv, .tsv, .txt, .parquet or .xlsx file, or one of these "
            f"with .gz. Received: {path}. Rename the file, or pass a DataFrame."
        )
    words = MISSING_WORDS if missing is None else ("", *(str(value) for value in missing))
    return CsvFile(path, missing=words, names=names, **options), size


def _read_excel(path: pathlib.Path) -> pandas.DataFrame:
    """Read the only sheet of a workbook."""
    import pandas

    try:
        sheets = pandas.read_excel(path, sheet_name=None)
    except ImportError as error:
        raise ValueError(
            f"Expected the package that reads {path}. Received: {error}. Install it: "
            "`pip install 'keras_gen[excel]'`."
        ) from error
    except Exception as error:  # each reader of pandas has its own errors
        raise ValueError(
            f"Expected {path} to be a workbook. Reading the file failed: {error}. Save the table "
            "as CSV."
        ) from error
    filled = {name: sheet for name, sheet in sheets.items() if len(sheet.columns)}
    if len(filled) != 1:
        raise ValueError(
            f"Expected one sheet with a table in {path}. Received: {len(filled)} sheets "
            f"({', '.join(map(str, filled)) or 'all empty'}). Pass one of them: "
            "`read_table(pandas.read_excel(path, sheet_name=...))`."
        )
    return next(iter(filled.values()))


# === The table ===


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Table:
    """A table as arrays for a model, and the description of its columns.

    `read_table` makes a `Table`.

    Attributes:
        columns: The columns in the order of the source, without the labels. `print(table.columns)`
            shows their names, kinds, values and missing entries.
        train, test: Training and test rows, float32 arrays `[rows, modeled columns]` in the units
            of the table, NaN where an entry is missing. Categories are codes: the code k stands for
            `column.categories[k]`. If the source is larger than memory, both are a
            `tf.data.Dataset` of batches, or of `(batch, labels)`.
        train_labels, test_labels: Labels as int64 arrays `[rows]`. None without labels. None, too,
            if `train` and `test` are data sets, whose elements then contain the labels.
        class_names: Name of each class. The label k stands for `class_names[k]`.
        source: Name of the file or object.
    """

    columns: ColumnTuple
    train: np.ndarray | tf.data.Dataset
    test: np.ndarray | tf.data.Dataset
    train_labels: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    class_names: tuple[str, ...] | None = None
    source: str = "the DataFrame"

    @property
    def labels(self) -> np.ndarray | None:
        """Labels of the training rows, the same as `train_labels`."""
        return self.train_labels

    @property
    def modeled(self) -> tuple[Column, ...]:
        """The columns of the arrays, in order: all except constants and identifiers."""
        return tuple(column for column in self.columns if column.modeled)

    def to_frame(self, array: Any) -> pandas.DataFrame:
        """Convert rows to a `DataFrame` with the names, categories, units and dtypes of the table.

        Args:
            array: Array `[rows, modeled columns]`, such as generated rows, NaN where missing.

        Returns:
            The rows in all columns of the table except identifiers. Numbers are rounded to the
            decimal places of the table. Constant columns contain their constant.

        Raises:
            ValueError: If the array has another shape, or if an entry is invalid.

        Example:
            >>> table = read_table("penguins")
            >>> table.to_frame(table.train[:1]).T[0]["species"]
            'Gentoo'
        """
        return decode_array(self.columns, array)

    def from_frame(
        self, frame: pandas.DataFrame, unseen: Literal["error", "missing"] = "error"
    ) -> np.ndarray:
        """Convert a `DataFrame` of new rows to an array, the inverse of `to_frame`.

        Args:
            frame: New rows. The order of the columns does not matter, and other columns are
                ignored. Constants and identifiers are not needed.
            unseen: What to do with a category that no training row has. `"error"` is the default,
                because a wrongly spelled category would otherwise silently count as missing.
                `"missing"` treats the entry as missing.

        Returns:
            A float32 array `[rows, modeled columns]`, NaN where an entry is missing.

        Raises:
            ValueError: If a column is missing, or if an entry is invalid for its column.
        """
        return encode_frame(self.columns, frame, unseen)

    def read_rows(
        self, source: PathLike | pandas.DataFrame, unseen: Literal["error", "missing"] = "error"
    ) -> np.ndarray:
        """Read new rows from a file. See the function `read_rows`."""
        return read_rows(source, self.columns, unseen)

    def __repr__(self) -> str:
        """Return the source, the numbers of rows and columns, and the columns."""
        counts = "in batches"
        if isinstance(self.train, np.ndarray) and isinstance(self.test, np.ndarray):
            counts = f"{len(self.train)} training rows and {len(self.test)} test rows"
        title = f"Table of {self.source}: {counts}, {len(self.modeled)} modeled columns"
        return f"{title}\n{self.columns}"


def read_table(
    source: PathLike | pandas.DataFrame,
    kinds: Kinds | None = None,
    label: str | None = None,
    *,
    test: PathLike | pandas.DataFrame | None = None,
    test_fraction: float = 0.1,
    seed: int = 0,
    missing: Sequence[Value] | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
    in_memory: bool | None = None,
    batch_size: int = 128,
) -> Table:
    """Read a table of numbers and categories, with missing entries.

    The kind of each column is inferred from its values. `Column` lists the kinds. The rules are:

    - Text is a category. Two different values make a binary column. A column with more than 1,000
      different texts, or with a different text in most rows, is an identifier and is not modeled.
    - At most 10 different whole numbers, each five times on average, are a category, such as the
      answers of a survey. Other whole numbers of at least 0 are counts. They are positive numbers
      if all are at least 100, such as years, or if their variance is less than their mean.
    - Other numbers greater than 0 are positive, if their logarithms are about symmetric. All other
      numbers are real.
    - Numbers with leading zeros, such as zip codes, are text.
    - Row numbers, the index that pandas writes, and unique numbers in a column named `id` are
      identifiers. So are dates and times: convert them to numbers first.
    - Ordered categories of pandas are ordinal.

    Categories and statistics come from the training rows. A category that only test rows have is
    missing in `Table.test`, and a warning names it.

    Args:
        source: The table, one of the following:

            - `"penguins"`, which the package contains: 344 penguins (Gorman et al. 2014).
            - A text file, `.csv`, `.tsv` or `.txt`, also with `.gz`. Separator, decimal sign,
              encoding and header are inferred. Thousands separators are removed if they are
              unambiguous.
            - A `.parquet` file, or an `.xlsx` file with one sheet.
            - A `pandas.DataFrame`. Its index is ignored.
        kinds: Kinds of columns by name, which replace the inferred kinds, such as
            `{"visits": "count", "id": "identifier", "size": ["S", "M", "L"]}`. A list gives the
            order of an ordinal column, from the lowest to the highest.
        label: Name of the column of class labels. It is then not one of `columns`. Whole numbers
            from 0 stay as they are. Other labels are numbered in sorted order.
        test: Test rows, another file or `DataFrame` with the same columns. By default, a random
            part of the rows becomes the test rows.
        test_fraction: Fraction of the rows that become the test rows, in [0, 1). Rounded down.
        seed: Seed of the choice of test rows.
        missing: Values that mean "missing" in a file, in place of `MISSING_WORDS`, such as
            `["unknown", -999]`. An empty entry is always missing. For a `DataFrame`, only its own
            missing values and empty texts are missing by default.
        separator: Separator of the fields of a text file, such as `";"`.
        decimal: Decimal sign of a text file, `"."` or `","`.
        encoding: Encoding of a text file, such as `"cp1252"`.
        header: Whether the first line of a text file contains names.
        in_memory: Whether to read all rows at once. By default, files of up to 1 GiB are read at
            once. Larger files are read in batches, for the statistics and again in each epoch.
        batch_size: Rows per batch, if the rows are read in batches.

    Returns:
        The `Table`.

    Raises:
        ValueError: If the source or an argument is invalid. The message names the file, the line
            and the column, and says what to do.

    Example:
        >>> table = read_table("penguins", label="species")
        >>> print(table.columns)
        column             kind      values of the training rows  missing
        island             category  Biscoe, Dream, Torgersen
        bill_length_mm     positive  32.1 … 59.6                  2
        bill_depth_mm      positive  13.1 … 21.5                  2
        flipper_length_mm  positive  172 … 231                    2
        body_mass_g        positive  2700 … 6300                  2
        sex                binary    female, male                 11
        year               category  2007, 2008, 2009
        >>> table.train.shape, table.class_names
        ((310, 7), ('Adelie', 'Chinstrap', 'Gentoo'))
    """
    if not is_real(test_fraction) or not 0 <= test_fraction < 1:
        raise ValueError(
            f"`test_fraction` must be in [0, 1). Received: test_fraction={test_fraction!r}"
        )
    options = {
        "separator": separator,
        "decimal": decimal,
        "encoding": encoding,
        "header": header,
    }
    opened, size = _open(source, missing, **options)
    tested = None
    if test is not None:
        names = opened.names if isinstance(opened, CsvFile) else None
        tested, _ = _open(test, missing, names, **options)
    if in_memory is None:
        in_memory = size <= _MEMORY_LIMIT
    reader = _Reader(opened, tested, kinds, label, test_fraction, seed)
    return reader.table() if in_memory else reader.streamed_table(batch_size)


def read_rows(
    source: PathLike | pandas.DataFrame,
    columns: Sequence[Column],
    unseen: Literal["error", "missing"] = "error",
    *,
    missing: Sequence[Value] | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    encoding: str | None = None,
    header: bool | None = None,
) -> np.ndarray:
    """Read new rows of a table, for a model that was trained on the table.

    Args:
        source: The rows, a file or a `DataFrame`, as for `read_table`. The order of the columns
            does not matter, and other columns are ignored. Constants and identifiers are not
            needed. A text file without a header must have all columns, in the order of the table.
        columns: Columns of the table, such as `table.columns` or `model.likelihood.columns`.
        unseen: What to do with a category that no training row has: raise an `"error"`, or treat
            the entry as `"missing"`.
        missing, separator, decimal, encoding, header: As for `read_table`.

    Returns:
        A float32 array `[rows, modeled columns]`, NaN where an entry is missing.

    Raises:
        ValueError: If the source is invalid, if a column is missing, or if an entry is invalid for
            its column. The message names the file, the line and the column.

    Example:
        >>> table = read_table("penguins")
        >>> read_rows("penguins", table.columns).shape
        (344, 8)
    """
    opened, _ = _open(
        source,
        missing,
        [column.name for column in columns],
        separator=separator,
        decimal=decimal,
        encoding=encoding,
        header=header,
    )
    return encode_frame(columns, _whole_frame(opened), unseen, opened.name, opened.place)


def _whole_frame(source: _Source) -> pandas.DataFrame:
    """Return all rows of a source.

    Raises:
        ValueError: If there are no rows.
    """
    frame = next(source.frames(), None)
    if frame is None or not len(frame):
        raise ValueError(
            f"Expected at least one row in {source.name}. Received: no rows. Check that the file "
            "is complete."
        )
    return frame


class _Reader:
    """Reads a table: statistics of all columns first, then the arrays.

    Args:
        source: The table.
        tested: The test rows. None if they are a part of `source`.
        kinds, label, test_fraction, seed: As for `read_table`.
    """

    def __init__(
        self,
        source: _Source,
        tested: _Source | None,
        kinds: Kinds | None,
        label: str | None,
        test_fraction: float,
        seed: int,
    ) -> None:
        self.source = source
        self.tested = tested
        self.kinds = kinds
        self.label = label
        self.fraction = 0.0 if tested is not None else test_fraction
        self.seed = seed
        self.statistics: dict[str, ColumnStatistics] = {}
        self.label_statistics: ColumnStatistics | None = None

    def table(self) -> Table:
        """Read all rows at once."""
        frame = _whole_frame(self.source)
        order = np.random.default_rng(self.seed).permutation(len(frame))
        num_test = int(len(frame) * self.fraction + 1e-9)
        train_rows = order[num_test:]
        self._start(frame)
        self._add(frame, train_rows)
        columns = self._columns()
        array = self._encode(columns, frame, self.source)
        labels = self._labels(frame, self.source)
        train = array[train_rows]
        if self.tested is None:
            test = array[order[:num_test]]
            test_labels = None if labels is None else labels[order[:num_test]]
        else:
            test_frame = _whole_frame(self.tested)
            self._warn_about_unseen(columns, test_frame)
            test = self._encode(columns, test_frame, self.tested)
            test_labels = self._labels(test_frame, self.tested)
        return Table(
            columns,
            train,
            test,
            None if labels is None else labels[train_rows],
            test_labels,
            self._class_names(),
            self.source.name,
        )

    # === Statistics ===

    def _start(self, frame: pandas.DataFrame) -> None:
        """Prepare the statistics of the columns of a frame."""
        by_name = series_by_name(frame, self.source.name)
        names = list(by_name)
        if self.label is not None and self.label not in names:
            raise ValueError(
                f"Expected `label` to be one of the columns of {self.source.name}: "
                f"{', '.join(names)}. Received: label={self.label!r}"
            )
        kinds = check_kinds(self.kinds, names, self.source.name)
        if self.label in kinds:
            raise ValueError(
                f"Expected `kinds` to describe features. Received: {self.label!r}, which is the "
                "label. Remove it from `kinds`."
            )
        self.statistics = {}
        for name, series in by_name.items():
            kind = kinds.get(name)
            given = (self.kinds or {}).get(name)
            order = () if given is None or isinstance(given, str) else tuple(given)
            from_text = isinstance(self.source, CsvFile)
            dtype = _dtype_name(series, from_text)
            if name == self.label:
                self.label_statistics = ColumnStatistics(name, dtype, "category")
            else:
                self.statistics[name] = ColumnStatistics(name, dtype, kind, order, from_text)

    def _add(self, frame: pandas.DataFrame, is_training: np.ndarray) -> None:
        """Add the rows of a frame to the statistics."""
        for name, series in series_by_name(frame, self.source.name).items():
            at = Location(self.source.name, name, self._place_in(frame))
            if name == self.label:
                assert self.label_statistics is not None
                self.label_statistics.add(values_of(series, at), slice(None), at)
                continue
            statistics = self.statistics[name]
            if statistics.kind == "identifier" or series.dtype.kind in "mM" or _is_time(series):
                statistics.add_unmodeled(series, _is_time(series))
            else:
                statistics.add(values_of(series, at), is_training, at)

    def _place_in(self, frame: pandas.DataFrame) -> Callable[[int], str]:
        """Return a function that returns the place of a row of a block."""
        if isinstance(self.source, _Frame):
            return self.source.place
        first = int(frame.index[0]) if len(frame) else 0
        return lambda row: self.source.place(first + row)

    def _columns(self) -> ColumnTuple:
        """Return the columns.

        Raises:
            ValueError: If no column can be modeled.
        """
        columns = ColumnTuple(
            statistics.column(
                Location(self.source.name, name, self.source.place),
                functools.partial(self._find, name),
            )
            for name, statistics in self.statistics.items()
        )
        if not any(column.modeled for column in columns):
            notes = [f"{column.name} ({column.note})" for column in columns]
            raise ValueError(
                f"Expected a column that can be modeled in {self.source.name}. Received: "
                f"{'; '.join(notes) or 'no columns'}. Add columns or rows, or choose the kinds of "
                "columns with `kinds`."
            )
        for column in columns:
            if column.modeled and column.categories:
                unseen = self.statistics[column.name].not_in_training(column)
                _warn_about_unseen(column, unseen, self.source.name)
        return columns

    def _find(self, name: str, value: Value) -> int:
        """Return the first row with a value."""
        first = 0
        for frame in self.source.frames(_BLOCK_SIZE):
            series = series_by_name(frame, self.source.name)[name]
            values = values_of(series, Location(self.source.name, name, self.source.place))
            if value in values.distinct:
                rows = np.flatnonzero(values.codes == values.distinct.index(value))
                if rows.size:
                    return first + int(rows[0])
            first += len(frame)
        return 0

    # === Arrays ===

    def _encode(self, columns: ColumnTuple, frame: pandas.DataFrame, source: _Source) -> np.ndarray:
        place = self._place_in(frame) if source is self.source else source.place
        return encode_frame(columns, frame, "missing", source.name, place)

    def _labels(self, frame: pandas.DataFrame, source: _Source) -> np.ndarray | None:
        """Return the labels of the rows, int64."""
        if self.label is None:
            return None
        by_name = series_by_name(frame, source.name)
        if self.label not in by_name:
            raise ValueError(
                f"Expected the column {self.label!r} of the labels in {source.name}. Received the "
                f"columns: {', '.join(by_name)}."
            )
        place = self._place_in(frame) if source is self.source else source.place
        at = Location(source.name, self.label, place)
        values = values_of(by_name[self.label], at)
        codes = codes_in(self._classes(), values, at)
        if (codes < 0).any():
            raise at.error(
                "a label", "a missing entry", np.flatnonzero(codes < 0)[0],
                "Fill in the label, or remove the row.",
            )  # fmt: skip
        return codes.astype(np.int64)

    def _classes(self) -> tuple[Value, ...]:
        """Return the labels in the order of their codes."""
        assert self.label_statistics is not None
        return self.label_statistics.classes()

    def _class_names(self) -> tuple[str, ...] | None:
        if self.label is None:
            return None
        return tuple(str(value) for value in self._classes())

    def _warn_about_unseen(self, columns: ColumnTuple, frame: pandas.DataFrame) -> None:
        """Warn about categories that only the test rows have."""
        assert self.tested is not None
        by_name = series_by_name(frame, self.tested.name)
        for column in columns:
            if column.kind in CODED and column.name in by_name:
                at = Location(self.tested.name, column.name, self.tested.place)
                unseen = unseen_in(column.categories, values_of(by_name[column.name], at))
                _warn_about_unseen(column, unseen, self.tested.name)


def _warn_about_unseen(column: Column, unseen: Sequence[Value], source: str) -> None:
    if unseen:
        shown = ", ".join(repr(value) for value in unseen[:5])
        warnings.warn(
            f"The column {column.name!r} of {source} has {len(unseen)} categories that no training "
            f"row has: {shown}. They count as missing in the test rows.",
            stacklevel=5,
        )


def _is_time(series: pandas.Series) -> bool:
    import pandas

    dtype = series.dtype
    return isinstance(dtype, (pandas.DatetimeTZDtype, pandas.PeriodDtype)) or dtype.kind in "mM"


def _dtype_name(series: pandas.Series, from_text: bool) -> str:
    """Return the name of the dtype with which `to_frame` makes the column."""
    import pandas

    dtype = series.dtype
    if isinstance(dtype, pandas.CategoricalDtype):
        return "str" if from_text else "category"
    if isinstance(dtype, pandas.SparseDtype):
        dtype = dtype.subtype
    if pandas.api.types.is_object_dtype(dtype):
        kind = pandas.api.types.infer_dtype(series)
        return {"boolean": "bool", "integer": "int64", "floating": "float64"}.get(kind, "object")
    return str(dtype)
