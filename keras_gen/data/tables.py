"""Read tables of numbers and categories, with missing entries, as arrays for a model."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tensorflow as tf

from keras_gen._arguments import is_real
from keras_gen._column_values import Location, Rows, Value, codes_in, unseen_in
from keras_gen._columns import (
    CODED,
    Column,
    ColumnTuple,
    decode_array,
    encode_frame,
    encode_rows,
)
from keras_gen._errors import warn_user
from keras_gen._files import PathLike
from keras_gen.data._csv import CsvFile
from keras_gen.data._kinds import ColumnStatistics, Kinds, Split, check_kinds
from keras_gen.data._pipeline import Splits
from keras_gen.data._table_sources import (
    Source,
    all_rows,
    has_table_name,
    no_rows,
    open_table,
)
from keras_gen.data.arrays import LabeledArray, hold_out

if TYPE_CHECKING:
    import pandas

_LABEL = "label"  # name of a column that contains labels
_LABELS = ("label", "class", "target")
_MIN_PIXELS = 16  # a table of grey values has at least as many columns
_MAX_PASSES = 4
_MEMORY_LIMIT = 2**30  # largest size in bytes of a file that is read at once
_BLOCK_SIZE = 2**25  # size in bytes of the blocks of a larger file


def is_table(source: object) -> bool:
    """Return whether `keras_gen.data.load` treats a source as a table.

    A table is a `DataFrame`, `"penguins"`, or a file with a suffix such as `.csv`, `.tsv`, `.txt`,
    `.parquet`, `.xlsx` or `.csv.gz`. There is one exception: `load` treats columns that seem to be
    pixels as images, not as a table. Columns seem to be pixels if no entry is missing, and if one
    of two conditions holds:

    - All entries are numbers in [0, 1].
    - All entries are whole numbers from 0 to 255, and there are at least 16 columns. Of the columns
      that are not constant, at least half contain a value above 127.

    These conditions do not apply to the column of labels. `is_table` assumes that this column has
    the name `label`.

    Args:
        source: Any source of `keras_gen.data.load`. A file of a table is read, unless it needs more
            than 1 GiB of memory. Such a large file is always a table. `load` raises an error for
            it, but `read_table` can read it.

    Returns:
        True if `load` treats the source as a table. False for a table of pixels, and for all other
        sources.

    Raises:
        ValueError: If the file does not exist, or if it is damaged.

    Example:
        >>> is_table("penguins"), is_table("mnist_mini")
        (True, False)
    """
    if not has_table_name(source):
        return False
    opened, size = open_table(source, None)
    return size > _MEMORY_LIMIT or _unit_or_grey(all_rows(opened), None) is None


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Table:
    """The result of `read_table`: the rows as arrays for a model, and a description of the columns.

    Attributes:
        columns: One `Column` per column of the table, in the order of the table. The column of
            labels is omitted. `print(table.columns)` shows the name, the kind, the values and the
            number of missing entries of each column.
        train, test: Training rows and test rows, as two float32 arrays. The property `modeled`
            describes the columns of the arrays. Constant columns of the table and identifiers are
            omitted. Numbers are in the units of the table. A category is represented by a code: the
            code k means `categories[k]` of the column. NaN means that the entry is missing. If
            `read_table` does not read all rows at once, `train` and `test` are data sets of batches
            (`tf.data.Dataset`). With labels, each element is a pair `(batch, labels)`.
        train_labels, test_labels: Labels as int64 arrays, with one label per row. None if the table
            has no labels, or if `train` and `test` are data sets of batches.
        class_names: Name of each class. The label k means `class_names[k]`. None if the table has
            no labels.
        source: Name of the file or object that contains the table.
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
        """The table columns that the arrays `train` and `test` contain, in the order of the arrays.

        The arrays contain all columns except constant columns and identifiers. An identifier
        distinguishes the rows, such as a row number or a name.
        """
        return tuple(column for column in self.columns if column.modeled)

    def to_frame(self, array: Any) -> pandas.DataFrame:
        """Convert an array to a `DataFrame` with the names, categories and dtypes of the table.

        Args:
            array: Array of rows, such as generated rows, with the same columns as the attribute
                `train`, which contains the training rows. NaN means that an entry is missing.

        Returns:
            A `DataFrame` with all columns of the table except identifiers and the column of labels.
            Numbers are rounded to the decimal places of the table. A constant column contains its
            only value in each row.

        Raises:
            ValueError: If the array does not have as many columns as `train`, or if an entry is
                invalid.

        Example:
            >>> table = read_table("penguins")
            >>> frame = table.to_frame(table.train)
            >>> frame["species"].unique().tolist()
            ['Adelie', 'Chinstrap', 'Gentoo']
        """
        return decode_array(self.columns, array)

    def from_frame(
        self, frame: pandas.DataFrame, unseen: Literal["error", "missing"] = "error"
    ) -> np.ndarray:
        """Convert a `DataFrame` of new rows to an array for the model. `to_frame` does the inverse.

        Args:
            frame: New rows. The columns can have any order. Constant columns and identifiers can be
                omitted. Columns that the table does not have are ignored.
            unseen: What to do with a category that `Column.categories` does not contain. `"error"`,
                the default, raises an error, so that a wrongly spelled category is noticed. It also
                raises an error for a new value in a constant column. `"missing"` treats the entry
                as missing.

        Returns:
            A float32 array with one row per row of `frame`. The array has no constant columns and
            no identifiers. NaN means that an entry is missing.

        Raises:
            ValueError: If a column is missing, or if an entry is invalid for its column.
        """
        return encode_frame(self.columns, frame, unseen)

    def read_rows(
        self, source: PathLike | pandas.DataFrame, unseen: Literal["error", "missing"] = "error"
    ) -> np.ndarray:
        """Read new rows of the table from a file, as an array for the model.

        Args:
            source: A file or a `DataFrame`, as for the function `read_table`.
            unseen: What to do with a category that `Column.categories` does not contain. `"error"`
                raises an error. `"missing"` treats the entry as missing.

        Returns:
            A float32 array without constant columns and identifiers. NaN means that an entry is
            missing.
        """
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

    - A column with two different texts, or with two different whole numbers, is binary.
    - A column with more than two different texts is a category. However, if it has more than 1,000
      different texts, it is an identifier, which is not modeled. If it has more than 10 different
      texts, and on average fewer than two entries per text, it is also an identifier.
    - If a column has at most 10 different whole numbers, and each number occurs at least five times
      on average, the column is a category. An example is a column of answers from 1 to 5.
    - Other whole numbers that include 0, but no negative number, are counts. Whole numbers greater
      than 0 are also counts, if some are below 100, and their variance is at least their mean.
    - Other whole numbers greater than 0, such as years, have the kind `"positive"`. However, if a
      column of such numbers has at most 32 different numbers, and each number occurs at least 100
      times on average, the column is a category.
    - Other columns of numbers greater than 0 have the kind `"positive"`. However, if the logarithms
      of the numbers have a skewness above 1 or below −1, and are more skewed than the numbers, the
      column has the kind `"real"`. All other columns of numbers also have the kind `"real"`.
    - Numbers with leading zeros, such as zip codes, are text in a text file.
    - Row numbers and the index that pandas writes are identifiers. If a column has a name such as
      `id`, `user_id` or `index`, and a different whole number in each row, it is an identifier.
      Dates and times are also identifiers. To model dates and times, convert them to numbers.
    - Ordered categories of pandas are ordinal.
    - A column that has only one value in the training rows, or no entries, is constant. It is not
      modeled.

    The categories and statistics of a column are computed from the training rows. If a category
    occurs only in test rows, the entries with this category are missing in `Table.test`. A warning
    then names the category. There is one exception: if `kinds` or pandas lists the categories of an
    ordinal column in their order, the column has all listed categories.

    Args:
        source: The table, one of the following:

            - `"penguins"`, which the package contains: 344 penguins (Gorman et al. 2014).
            - A text file, `.csv`, `.tsv` or `.txt`, or a compressed text file such as `.csv.gz`.
              Separator, decimal sign, encoding and header are inferred. Thousands separators are
              removed if they are unambiguous.
            - A `.parquet` file, or an `.xlsx` file with one sheet.
            - A `pandas.DataFrame`. Its index is ignored.
        kinds: Dictionary from the name of a column to its kind, which replaces the inferred kind.
            An example is `{"visits": "count", "id": "identifier", "size": ["S", "M", "L"]}`. A list
            contains the categories of an ordinal column, from the lowest to the highest.
        label: Name of the column that contains class labels. Neither the arrays nor
            `Table.columns` contain this column. Labels that are whole numbers from 0 to 999 stay
            unchanged. Other labels are sorted, and then numbered from 0. Default: the table has no
            labels.
        test: Source of the test rows: another file or `DataFrame` with the same columns. By
            default, a random part of the rows of `source` becomes the test rows.
        test_fraction: Fraction of the rows that become test rows, in [0, 1). The number of test
            rows is rounded down. If the rows are read in batches, each row becomes a test row with
            this probability. If `test` is given, `test_fraction` is ignored.
        seed: Seed of the random choice of test rows.
        missing: Values that stand for a missing entry, such as `["unknown", -999]`. An empty entry
            is always missing. The default for text files is the list `data.MISSING_WORDS`. The
            default for `.xlsx` files is the list of `pandas.read_excel`. In a `.parquet` file or a
            `DataFrame`, only NaN, None, `pandas.NA` and empty texts are missing by default.
        separator: Separator of the fields of a text file, such as `";"`.
        decimal: Decimal sign of a text file, `"."` or `","`.
        encoding: Encoding of a text file, such as `"cp1252"`.
        header: Whether the first line of a text file contains names.
        in_memory: Whether to read all rows at once. By default, files that need at most 1 GiB of
            memory are read at once. The estimate of the memory is the size of the file. For `.gz`
            and `.parquet` files, it is five times this size. A larger file is read in batches:
            first for the statistics of the columns, and then again in each epoch.
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
    options: dict[str, Any] = {
        "separator": separator,
        "decimal": decimal,
        "encoding": encoding,
        "header": header,
    }
    opened, size = open_table(source, missing, **options)
    tested = None
    if test is not None:
        names = opened.names if isinstance(opened, CsvFile) else None
        tested, _ = open_table(test, missing, names, **options)
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
        source: A file or a `DataFrame` with the rows, as for `read_table`. The columns can have any
            order. Constant columns and identifiers can be omitted. Columns that are not in
            `columns` are ignored. However, a text file without a header must contain exactly the
            columns in `columns`, in the same order.
        columns: Columns of the table, such as `table.columns` or `model.likelihood.columns`.
        unseen: What to do with a category that `Column.categories` does not contain. `"error"`
            raises an error, also for a new value in a constant column. `"missing"` treats the entry
            as missing.
        missing: Values that stand for a missing entry, as for `read_table`.
        separator: Separator of the fields of a text file. Default: inferred.
        decimal: Decimal sign of a text file, `"."` or `","`. Default: inferred.
        encoding: Encoding of a text file. Default: inferred.
        header: Whether the first line of a text file contains names. Default: inferred.

    Returns:
        The array that the model receives: float32, one row per row of `source`. The array has no
        constant columns and no identifiers. NaN means that an entry is missing.

    Raises:
        ValueError: If the source is invalid, if a column is missing, or if an entry is invalid for
            its column, such as text in a column of numbers. The message names the file, the line
            and the column.

    Example:
        >>> table = read_table("penguins")
        >>> read_rows("penguins", table.columns).shape
        (344, 8)
    """
    opened, _ = open_table(
        source,
        missing,
        [column.name for column in columns],
        separator=separator,
        decimal=decimal,
        encoding=encoding,
        header=header,
    )
    return encode_rows(columns, all_rows(opened), unseen)


def read_splits(
    source: Any, labels: bool, label: str | None, seed: int, binarize: bool = False
) -> Splits:
    """Read a table, and split its rows into training and test examples for the function `load`.

    A random tenth of the rows become test examples.

    Args:
        source: A file or a `DataFrame`.
        labels: Whether the user asks for labels.
        label: Name of the column of labels. Default: the column `label`, if there is one.
            Otherwise, if `labels` is True and exactly one column is called `label`, `class` or
            `target` in any capitalization, this column contains the labels.
        seed: Seed of the random choice of test rows.
        binarize: Whether the caller will binarize the values. Only pixels can be binarized.

    Returns:
        The training examples and the test examples as `Splits`. If the columns are pixels, the
        examples are numbers in [0, 1] or uint8 grey values. Otherwise, each example is a row of the
        table as float32, with NaN for a missing entry.

    Raises:
        ValueError: If the table is too large for memory, or is invalid. Also if `binarize` is True
            and the columns are not pixels.
    """
    opened, size = open_table(source, None)
    if size > _MEMORY_LIMIT:
        raise ValueError(
            f"Expected {opened.name} to contain at most {_MEMORY_LIMIT} bytes. Received: about "
            f"{size} bytes. Use `keras_gen.data.read_table`, which reads large files in batches."
        )
    rows = all_rows(opened)
    if label is None:
        label = _find_label(rows.names, labels)
    reader = _Reader(opened, None, None, label, test_fraction=0.1, seed=seed)
    x = _unit_or_grey(rows, label)
    if x is not None:
        return hold_out(LabeledArray(x, reader.labels_of(rows)), seed)
    if binarize:
        raise ValueError(
            f"Expected `binarize=False` for the table {opened.name}, whose columns are not pixels. "
            "Received: binarize=True, which is only for grey values. Omit `binarize`."
        )
    table = reader.table(rows)
    train: Any = table.train
    test: Any = table.test
    if label is not None:
        train = (train, table.train_labels)
        test = (test, table.test_labels)
    from_slices = tf.data.Dataset.from_tensor_slices
    return Splits(from_slices(train), from_slices(test))


def _find_label(names: Sequence[str], labels: bool) -> str | None:
    """Return the name of the column that contains the labels, or None if no column is found.

    A column with the exact name `label` contains the labels. If no column has this name, and
    `labels` is True, the function searches for `label`, `class` and `target` in any capitalization.
    If several columns have such names, the function returns None.

    Args:
        names: Names of the columns.
        labels: Whether the user asks for labels.
    """
    if _LABEL in names:
        return _LABEL
    found = [name for name in names if name.lower() in _LABELS]
    return found[0] if labels and len(found) == 1 else None


def _unit_or_grey(rows: Rows, label: str | None) -> np.ndarray | None:
    """Return the entries of a table as an array, if the columns are the pixels of images.

    Args:
        rows: The table.
        label: Name of the column of labels, which is not part of the result. Default: `label`.

    Returns:
        A float32 array of numbers in [0, 1], or a uint8 array of grey values from 0 to 255. None if
        the columns are not pixels. The docstring of `is_table` says which columns count as pixels.
    """
    columns = []
    for name in rows.names:
        if name == (label or _LABEL):
            continue
        numbers = rows.values(name).numbers
        if numbers is None:
            return None
        columns.append(numbers)
        if not (numbers.min(initial=0) >= 0 and numbers.max(initial=0) <= 255):
            return None  # a number is out of range, or an entry is missing
    if not columns:
        return None
    x = np.stack(columns, axis=1).astype(np.float32)
    if x.max() <= 1:
        return x
    if x.shape[1] < _MIN_PIXELS or (x != np.rint(x)).any():
        return None
    high = x.max(axis=0)
    reaches = high[high > x.min(axis=0)] > 127
    return x.astype(np.uint8) if 2 * np.count_nonzero(reaches) >= len(reaches) else None


class _Reader:
    """Read a table: first the statistics of all columns, then the rows as arrays.

    Args:
        source: Object that reads the rows, such as a `CsvFile`.
        tested: Object that reads the test rows. None if the test rows are a random part of
            `source`.
        kinds: Dictionary from the name of a column to the kind that the user chose.
        label: Name of the column of labels. None if the table has no labels.
        test_fraction: Fraction of the rows of `source` that become test rows.
        seed: Seed of the random choice of test rows.
    """

    def __init__(
        self,
        source: Source,
        tested: Source | None,
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
        self.statistics: dict[str, ColumnStatistics] = {}  # of all columns and the label

    def table(self, rows: Rows | None = None) -> Table:
        """Read all rows into memory, and return them as a `Table` with training and test rows.

        Args:
            rows: All rows of the attribute `source`, if the caller has already read them. If None,
                the method reads them.
        """
        if rows is None:
            rows = all_rows(self.source)
        order = np.random.default_rng(self.seed).permutation(rows.count)
        num_test = int(rows.count * self.fraction + 1e-9)
        train_rows = order[num_test:]
        self._start(rows)
        self._add(rows, Split(train_rows, order[:num_test]))
        columns = self._columns()
        array = encode_rows(columns, rows, "missing", check=False)
        labels = self._labels(rows)
        train = array.take(train_rows, axis=0)
        if self.tested is None:
            test = array.take(order[:num_test], axis=0)
            test_labels = None if labels is None else labels[order[:num_test]]
        else:
            tested = all_rows(self.tested)
            self._warn_about_unseen(columns, tested)
            test = encode_rows(columns, tested, "missing")
            test_labels = self._labels(tested)
        return Table(
            columns,
            train,
            test,
            None if labels is None else labels[train_rows],
            test_labels,
            self._class_names(),
            self.source.name,
        )

    def streamed_table(self, batch_size: int) -> Table:
        """Return a table whose rows are read in batches, because they do not fit into memory.

        This method reads the rows once or several times, to compute statistics of the columns. In
        each epoch of a training, the rows are read again in batches of `batch_size` rows.
        """
        counts = self._read_statistics()
        columns = self._columns()
        train = self._batches(columns, self.source, True, counts[0], batch_size)
        if self.tested is None:
            test = self._batches(columns, self.source, False, counts[1], batch_size)
        else:
            num_test = 0
            for rows in self.tested.blocks(_BLOCK_SIZE):
                self._warn_about_unseen(columns, rows)
                num_test += rows.count
            test = self._batches(columns, self.tested, None, num_test, batch_size)
        return Table(columns, train, test, None, None, self._class_names(), self.source.name)

    def _read_statistics(self) -> tuple[int, int]:
        """Read all rows, and compute the statistics of each column.

        Returns:
            The number of training rows, and the number of test rows.
        """
        source = self.source
        for _ in range(_MAX_PASSES):
            decimal = source.decimal if isinstance(source, CsvFile) else None
            self.statistics = {}
            num_rows, num_train = 0, 0
            generator = np.random.default_rng(self.seed)
            for rows in source.blocks(_BLOCK_SIZE):
                if not self.statistics:
                    self._start(rows)
                is_training = generator.random(rows.count) >= self.fraction
                self._add(rows, Split(is_training, ~is_training))
                num_rows += rows.count
                num_train += int(np.count_nonzero(is_training))
            if not num_rows:
                raise no_rows(source)
            if not isinstance(source, CsvFile):
                break
            # A later block can show that a column is text, or that the decimal sign is a comma.
            mixed = {name for name, found in self.statistics.items() if found.is_mixed}
            if source.decimal == decimal and mixed <= source.text_columns:
                break
            source.text_columns |= mixed
        return num_train, num_rows - num_train

    def _batches(
        self, columns: ColumnTuple, source: Source, training: bool | None, count: int, size: int
    ) -> tf.data.Dataset:
        """Return a data set of batches, which reads the rows from `source` again in each epoch.

        Args:
            columns: Columns of the table.
            source: Object that reads the rows, such as a `CsvFile`.
            training: Which rows the data set contains. True: the training rows. False: the test
                rows. None: all rows.
            count: Number of rows in the data set.
            size: Rows per batch.
        """

        def generate() -> Iterator[Any]:
            split = np.random.default_rng(self.seed)
            order = np.random.default_rng(self.seed + 1)
            rest: list[np.ndarray] = []
            for rows in source.blocks(_BLOCK_SIZE):
                parts = [encode_rows(columns, rows, "missing")]
                labels = self._labels(rows)
                if labels is not None:
                    parts.append(labels)
                if training is not None:
                    kept = (split.random(rows.count) >= self.fraction) == training
                    parts = [part[kept] for part in parts]
                if training:
                    shuffled = order.permutation(len(parts[0]))
                    parts = [part[shuffled] for part in parts]
                if rest:
                    parts = [np.concatenate(pair) for pair in zip(rest, parts, strict=True)]
                end = len(parts[0]) // size * size
                for start in range(0, end, size):
                    batch = tuple(part[start : start + size] for part in parts)
                    yield batch if self.label is not None else batch[0]
                rest = [part[end:] for part in parts]
            if rest and len(rest[0]):
                yield tuple(rest) if self.label is not None else rest[0]

        width = sum(column.modeled for column in columns)
        spec: Any = tf.TensorSpec((None, width), tf.float32)
        if self.label is not None:
            spec = (spec, tf.TensorSpec((None,), tf.int64))
        dataset = tf.data.Dataset.from_generator(generate, output_signature=spec)
        return dataset.apply(tf.data.experimental.assert_cardinality(-(-count // size)))

    # === Statistics ===

    def _start(self, rows: Rows) -> None:
        """Make an empty `ColumnStatistics` object for each column of the table.

        The method `_add` later adds the values of the rows to these objects.

        Args:
            rows: Rows of the table, from which the method reads only the names of the columns.

        Raises:
            ValueError: If `label` is not a column, or if `kinds` is invalid.
        """
        names = rows.names
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
        from_text = isinstance(self.source, CsvFile)
        self.statistics = {}
        for name in names:
            if name == self.label:
                self.statistics[name] = ColumnStatistics(name, "category")
                continue
            given = (self.kinds or {}).get(name)
            order = () if given is None or isinstance(given, str) else tuple(given)
            self.statistics[name] = ColumnStatistics(name, kinds.get(name), order, from_text)

    def _add(self, rows: Rows, split: Split) -> None:
        """Add a block of rows to the statistics."""
        for name, statistics in self.statistics.items():
            if statistics.kind != "identifier":
                statistics.add(rows.values(name), split, rows.at(name))

    def _columns(self) -> ColumnTuple:
        """Return one `Column` per column of the table, except the column of labels.

        Raises:
            ValueError: If the table has only constant columns and identifiers, such as row numbers.
        """
        columns = ColumnTuple(
            statistics.column(
                Location(self.source.name, name, self.source.place),
                functools.partial(self._find, name),
            )
            for name, statistics in self.statistics.items()
            if name != self.label
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
        """Return the position of the first row whose entry in the column `name` is `value`.

        If no row has this entry, return 0.
        """
        first = 0
        for rows in self.source.blocks(_BLOCK_SIZE):
            values = rows.values(name)
            if value in values.distinct:
                found = np.flatnonzero(values.codes == values.distinct.index(value))
                if found.size:
                    return first + int(found[0])
            first += rows.count
        return 0

    # === Arrays ===

    def labels_of(self, rows: Rows) -> np.ndarray | None:
        """Return the class index of each row as int64, or None if the table has no labels.

        Args:
            rows: All rows of the table. The distinct labels in these rows are the classes.
        """
        if self.label is not None:
            self._start(rows)
            self.statistics = {self.label: self.statistics[self.label]}
            self._add(rows, Split(np.arange(rows.count), np.arange(0)))
        return self._labels(rows)

    def _labels(self, rows: Rows) -> np.ndarray | None:
        """Return the labels of `rows` as int64, or None if the table has no labels.

        Raises:
            ValueError: If `rows` does not contain the column of labels. If the label of a row is
                missing, or is not one of the classes.
        """
        if self.label is None:
            return None
        if self.label not in rows.names:
            raise ValueError(
                f"Expected {rows.source} to have the column {self.label!r}, which contains the "
                f"labels. Received the columns: {', '.join(rows.names)}. Add the column."
            )
        at = rows.at(self.label)
        codes = codes_in(self._classes(), rows.values(self.label), at)
        if (codes < 0).any():
            raise at.error(
                "a label", "a missing entry", np.flatnonzero(codes < 0)[0],
                "Fill in the label, or remove the row.",
            )  # fmt: skip
        return codes.astype(np.int64)

    def _classes(self) -> tuple[Value, ...]:
        """Return the classes in the column of labels. A model receives their indices as labels."""
        assert self.label is not None
        return self.statistics[self.label].classes()

    def _class_names(self) -> tuple[str, ...] | None:
        if self.label is None:
            return None
        return tuple(str(value) for value in self._classes())

    def _warn_about_unseen(self, columns: ColumnTuple, rows: Rows) -> None:
        """Warn about categories that only the test rows have."""
        for column in columns:
            if column.kind in CODED and column.name in rows.names:
                unseen = unseen_in(column.categories, rows.values(column.name))
                _warn_about_unseen(column, unseen, rows.source)


def _warn_about_unseen(column: Column, unseen: Sequence[Value], source: str) -> None:
    if unseen:
        shown = ", ".join(repr(value) for value in unseen[:5])
        warn_user(
            f"The column {column.name!r} of {source} has {len(unseen)} categories that no training "
            f"row has: {shown}. They count as missing in the test rows.",
        )
