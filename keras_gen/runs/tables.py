"""Read the table of a training run, read new rows, and write tables as files."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import pathlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from keras_gen import data
from keras_gen._column_values import numbers_in
from keras_gen._columns import (
    CODED,
    NUMBERS,
    Column,
    decode_array,
    encode_frame,
    encode_rows,
    modeled_columns,
)
from keras_gen._files import PathLike, atomic_write
from keras_gen.data._csv import CsvFile
from keras_gen.data._table_sources import PENGUINS, all_rows, has_table_name, open_table
from keras_gen.data.loading import UnbatchedExamples
from keras_gen.runs.recipes import RunConfig

if TYPE_CHECKING:
    import pandas  # at run time, functions import it, because the import takes long

_WRITTEN = (".csv", ".tsv", ".parquet", ".xlsx")


def is_table(config: RunConfig) -> bool:
    """Return whether a training run treats its data as a table.

    If the setting `kinds` or `label` is given, each table file is treated as a table. Otherwise,
    `data.is_table` decides. For instance, it returns False if the columns are pixels of images.

    Raises:
        ValueError: If `kinds` or `label` is given, but the data are not a table. If neither is
            given, and the table file does not exist or is damaged.
    """
    is_forced = bool(config.kinds or config.label)
    if is_forced and not has_table_name(config.data):
        raise ValueError(
            "`kinds` and `label` are only for tables. Received: "
            f"kinds={config.kinds}, label={config.label!r} for {config.data}, which is not a "
            "table. Omit `kinds` and `label`."
        )
    return is_forced or data.is_table(config.data)


def read_table(config: RunConfig) -> data.Table:
    """Read the table that the setting `data` of a training run names.

    If the setting `label` is given, it must be the name of a column of categories of this table.

    Raises:
        ValueError: If the table or a setting is invalid. The message names the file, the line and
            the column.
    """
    table = data.read_table(
        config.data, parse_kinds(config.kinds), seed=config.seed, batch_size=config.batch_size
    )
    if config.label is not None:
        label_column(table.columns, config.label)
    return table


def parse_kinds(kinds: Sequence[str]) -> dict[str, Any]:
    """Convert texts such as `visits=count` to the argument `kinds` of `data.read_table`.

    Args:
        kinds: Texts `NAME=KIND`. For an ordinal column, the text is `NAME=VALUE,VALUE,…` with the
            values from the lowest to the highest.

    Raises:
        ValueError: If a text has neither of these forms.

    Example:

    >>> parse_kinds(["visits=count", "size=S,M,L"])
    {'visits': 'count', 'size': ['S', 'M', 'L']}
    """
    parsed: dict[str, Any] = {}
    for text in kinds:
        name, separator, kind = text.rpartition("=")
        if not separator or not name or not kind:
            raise ValueError(
                "`kinds` must consist of texts NAME=KIND, such as visits=count. "
                f"Received: {text!r}."
            )
        parsed[name] = kind.split(",") if "," in kind else kind
    return parsed


def label_column(columns: Iterable[Column], label: str) -> tuple[int, Column]:
    """Find the column of labels in a table.

    Args:
        columns: All columns of the table.
        label: Name of the column of labels.

    Returns:
        `(position, column)`. The position is the index of the column in the array of rows, which
        has no constant columns and no identifiers.

    Raises:
        ValueError: If there is no such column, or if its values are not categories.
    """
    modeled = modeled_columns(columns)
    for index, column in enumerate(modeled):
        if column.name == label and column.kind in CODED:
            return index, column
    coded = [column.name for column in modeled if column.kind in CODED]
    raise ValueError(
        f"`label` must be a column of categories: {', '.join(coded) or 'there is none'}. "
        f"Received: label={label!r}. If the numbers of a column are classes, set its kind: "
        "`kinds={name: 'category'}`."
    )


def batches(table: data.Table, config: RunConfig) -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """Return the training rows and the test rows as data sets of batches.

    Raises:
        ValueError: If there are no test rows, because the table has fewer than 10 rows.
    """
    if isinstance(table.train, tf.data.Dataset) or isinstance(table.test, tf.data.Dataset):
        return table.train, table.test
    if not len(table.test):
        raise ValueError(
            f"Expected at least 10 rows in {table.source}, so that a tenth can be held out. "
            f"Received: {len(table.train)} rows."
        )
    train, test = map(tf.data.Dataset.from_tensor_slices, (table.train, table.test))
    examples = UnbatchedExamples(table.source, train, test, config.seed, binarize=False, flip=False)
    return examples.batches(config.batch_size)


# === Files ===


def check_output(path: PathLike) -> pathlib.Path:
    """Return `path`. Raise a `ValueError` if it lacks the suffix of a table file, such as .csv."""
    path = pathlib.Path(path)
    if path.suffix.lower() not in _WRITTEN:
        raise ValueError(
            f"`output` of a table must end in {', '.join(_WRITTEN)}. Received: {path}."
        )
    return path


def write_frame(path: PathLike, frame: pandas.DataFrame) -> None:
    """Write a `DataFrame` to a file. The suffix of the path selects CSV, TSV, Parquet or Excel."""
    path = check_output(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as unfinished:
        if path.suffix.lower() == ".parquet":
            frame.to_parquet(unfinished, index=False)
        elif path.suffix.lower() == ".xlsx":
            with unfinished.open("wb") as file:
                frame.to_excel(file, index=False, engine="openpyxl")
        else:
            separator = "\t" if path.suffix.lower() == ".tsv" else ","
            frame.to_csv(unfinished, sep=separator, index=False, encoding="utf-8")


def parse_given(columns: Sequence[Column], given: Sequence[str]) -> np.ndarray:
    """Convert texts such as `age=50` to one row of a table, `[1, modeled columns]`.

    With these texts, a user fixes entries of the rows that a model generates. Entries that are not
    given are NaN. The modeled columns are all columns except constants and identifiers.

    Args:
        columns: The columns of the table.
        given: Texts `NAME=VALUE`. A column name can contain `=`. If several names match a text, the
            longest name is used. For instance, if there are columns `a` and `a=b`, the text `a=b=3`
            sets the column `a=b` to 3.

    Raises:
        ValueError: If a text does not have the form `NAME=VALUE`, or if a name or a value is
            invalid. If a column is given more than once.
    """
    import pandas

    modeled = {column.name: column for column in modeled_columns(columns)}
    values: dict[str, Any] = dict.fromkeys(modeled)
    for text in given:
        names = [name for name in modeled if text.startswith(f"{name}=")]
        if not names:
            raise ValueError(
                "`given` must consist of texts NAME=VALUE, where NAME is one of the columns "
                f"{', '.join(modeled)}. Received: {text!r}."
            )
        name = max(names, key=len)
        value = text.removeprefix(f"{name}=")
        if values[name] is not None:
            raise ValueError(
                f"`given` must contain each column once. Received: {name!r} more than once."
            )
        values[name] = _given_value(modeled[name], value)
    return encode_frame(
        columns, pandas.DataFrame({n: [v] for n, v in values.items()}), source="given"
    )


def _given_value(column: Column, text: str) -> Any:
    """Convert the text of an entry to the number or the category that the text stands for."""
    if column.kind not in NUMBERS:
        by_text = {str(category): category for category in column.categories}
        if text not in by_text:
            shown = ", ".join([*by_text][:20])
            raise ValueError(
                f"`given` must contain a category of the column {column.name!r}: {shown}. "
                f"Received: {text!r}."
            )
        return by_text[text]
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"`given` must contain a number for the column {column.name!r}. Received: {text!r}."
        ) from None


@dataclasses.dataclass
class RowsFile:
    """A file with new rows of the table on which a model was trained.

    The method `write` makes a copy of the file in which the missing entries are filled in.

    Args:
        path: The file with the new rows.
        columns: Columns of the table on which the model was trained.

    Raises:
        ValueError: If the file is not a table. If it lacks a column that the model uses, or
            contains an invalid value. The message names the column, and the line of the invalid
            value.
    """

    path: PathLike
    columns: Sequence[Column]

    def __post_init__(self) -> None:
        """Read the rows."""
        if not has_table_name(self.path):
            raise ValueError(
                "`data` must be a table: a .csv, .tsv, .txt, .parquet or .xlsx file. "
                f"Received: {self.path}."
            )
        self.modeled = modeled_columns(self.columns)
        names = [column.name for column in self.columns]
        self._source, _ = open_table(self.path, None, names)
        rows = all_rows(self._source)
        self.names = list(rows.names)
        self.array = encode_rows(self.columns, rows)

    def write(self, path: PathLike, complete: np.ndarray) -> None:
        """Copy the file with the new rows to another file, and fill in the missing entries.

        Args:
            path: Path of the copy. If the file and its copy are text files, all fields are equal
                except the filled entries. Quotation marks, blank lines, and the number of spaces
                between two fields can differ.
            complete: The rows without missing entries, `[rows, modeled columns]`. The modeled
                columns are all columns except constants and identifiers. The attribute `array` of
                this object has the same shape, and contains NaN for each missing entry.
        """
        import pandas

        path = pathlib.Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(self._source, CsvFile) and path.suffix.lower() not in (".parquet", ".xlsx"):
            with atomic_write(path) as unfinished:
                content = self._filled_text(self._source, complete)
                is_zipped = path.suffix.lower() == ".gz"
                unfinished.write_bytes(gzip.compress(content) if is_zipped else content)
            return
        if isinstance(self._source, CsvFile):
            frame = self._frame(self._source)
        elif pathlib.Path(self.path).suffix.lower() in (".parquet", ".pq"):
            frame = pandas.read_parquet(self.path)
        else:
            frame = self._source.frame  # type: ignore[attr-defined]
        frame = frame.copy()
        decoded = decode_array(self.columns, complete)
        for index, column in enumerate(self.modeled):
            missing = np.isnan(self.array[:, index])
            if missing.any():
                if isinstance(self._source, CsvFile) and column.kind in CODED:
                    decoded[column.name] = decoded[column.name].astype(str)
                filled = decoded[column.name].where(missing, frame[column.name])
                frame[column.name] = filled.infer_objects()
        write_frame(path, frame)

    def _frame(self, file: CsvFile) -> pandas.DataFrame:
        """Return the rows of a text file as a `DataFrame`.

        If the model uses a column as numbers, the entries of this column are numbers. The entries
        of all other columns are text.
        """
        import pandas

        frame = pandas.DataFrame(self._records(file), columns=self.names)
        rows = all_rows(file)
        for column in self.modeled:
            if column.kind in NUMBERS:
                frame[column.name] = numbers_in(rows.values(column.name), rows.at(column.name))
        return frame

    def _records(self, file: CsvFile) -> list[list[str]]:
        """Return the fields of each row of a text file."""
        content = b"".join(file.contents(None)).decode()
        records = [fields for _, fields in file.records(io.StringIO(content, newline=""))]
        if len(records) != len(self.array):
            raise ValueError(
                f"Expected {self.path} to contain {len(self.array)} records, one per row of the "
                f"table that was read. Received: {len(records)} records. Remove empty lines, and "
                "lines that are not rows of the table."
            )
        return records

    def _filled_text(self, file: CsvFile, complete: np.ndarray) -> bytes:
        """Return the content of a text file with missing entries filled in."""
        records = self._records(file)
        for index, column in enumerate(self.modeled):
            position = self.names.index(column.name)
            texts = _TextOf(column, file.decimal)
            for row, value in enumerate(self.array[:, index]):
                field = records[row][position]
                if np.isnan(value):
                    records[row][position] = texts(complete[row, index])
                elif column.kind in CODED:
                    texts.known.setdefault(int(value), field)
        with file.open() as opened:
            raw = opened.read()
        text = raw.decode(file.encoding, errors="replace")
        newline = "\r\n" if "\r\n" in text else "\n"
        header = "".join(io.StringIO(text, newline="").readlines()[: file.skipped])
        separator = file.separator if len(file.separator) == 1 else " "
        output = io.StringIO(newline="")
        output.write(header)
        csv.writer(output, delimiter=separator, lineterminator=newline).writerows(records)
        return output.getvalue().encode(file.encoding)


class _TextOf:
    """Function that converts an imputed entry of a column to text for a copy of the user's file.

    The entry is a number, or the index of a category. The attribute `known` is a dictionary from
    the index of a category to the text of this category in the file, such as `{0: "female"}`.
    """

    def __init__(self, column: Column, decimal: str) -> None:
        self.column = column
        self.decimal = decimal
        self.known: dict[int, str] = {}

    def __call__(self, entry: float) -> str:
        """Return the text of an entry."""
        if self.column.kind in CODED:
            code = int(entry)
            return self.known.get(code, str(self.column.categories[code]))
        if self.column.kind == "count":
            return f"{entry:.0f}"
        decimals = self.column.decimals
        text = f"{entry:.6g}" if decimals is None else f"{float(entry):.{decimals}f}"
        return text.replace(".", self.decimal)


def source_of(path: PathLike) -> pathlib.Path:
    """Return the path of a table file. The name `"penguins"` stands for a file in this package."""
    return PENGUINS if str(path) == "penguins" else pathlib.Path(path)
