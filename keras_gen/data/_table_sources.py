"""Open tables: text files, Parquet files, Excel workbooks and `DataFrame`s.

Each kind of source has a class. The method `blocks` of this class yields the rows of the table in
blocks.
"""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from keras_gen._column_values import Rows, Value, as_float, rows_of
from keras_gen.data._csv import MISSING_WORDS, CsvFile

if TYPE_CHECKING:
    import pandas

PENGUINS = pathlib.Path(__file__).parent / "penguins" / "penguins.csv"
"""File of the table `"penguins"`, which the package contains."""

_COMPRESSION = 5  # how much larger a compressed file is in memory
_BLOCK_ROWS = 2**16  # rows per block of a large Parquet file
_TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".tab", ".dat")
_EXCEL_SUFFIXES = (".xlsx", ".xlsm", ".xls", ".ods")
_PARQUET_SUFFIXES = (".parquet", ".pq")


def has_table_name(source: object) -> bool:
    """Return whether a source is a `DataFrame`, `"penguins"`, or the path of a table file.

    The function recognizes a table file by its suffix, such as `.csv`, `.parquet` or `.xlsx`. It
    reads no file.
    """
    if isinstance(source, (str, os.PathLike)):
        if str(source) == "penguins":
            return True
        suffixes = (*_TEXT_SUFFIXES, *_EXCEL_SUFFIXES, *_PARQUET_SUFFIXES)
        return _suffix(pathlib.Path(source)) in suffixes
    return type(source).__name__ == "DataFrame"


def _suffix(path: pathlib.Path) -> str:
    """Return the suffix of a path in lower case. A `.gz` at the end is ignored."""
    name = path.name.lower()
    return pathlib.Path(name.removesuffix(".gz")).suffix


class Source(Protocol):
    """Protocol of the classes that read a table in blocks of rows."""

    @property
    def name(self) -> str: ...

    def blocks(self, block_size: int | None = None) -> Iterator[Rows]: ...

    def place(self, row: int) -> str: ...


class FrameSource:
    """Reads all rows of a `DataFrame` as one block.

    The index of the `DataFrame` is used only in error messages, to name the row with the error.
    """

    def __init__(self, frame: pandas.DataFrame, name: str, missing: Sequence[Value] | None) -> None:
        self.frame = frame
        self.name = name
        self.missing = missing

    def blocks(self, block_size: int | None = None) -> Iterator[Rows]:
        yield rows_of(_without_words(self.frame, self.missing), self.name, self.place)

    def place(self, row: int) -> str:
        return f"row {row} (index {self.frame.index[row]!r})"


class ExcelSource(FrameSource):
    """Reads all rows of an Excel workbook as one block. Exactly one sheet must contain a table."""

    def place(self, row: int) -> str:
        return f"row {row + 2} of the sheet"


class ParquetSource:
    """Reads a Parquet file in blocks of rows."""

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

    def blocks(self, block_size: int | None = None) -> Iterator[Rows]:
        import pandas

        if block_size is None:
            frames = iter([pandas.read_parquet(self.name)])
        else:
            frames = (batch.to_pandas() for batch in self.file.iter_batches(_BLOCK_ROWS))
        first = 0
        for frame in frames:
            place = functools.partial(self._place_in_block, first)
            first += len(frame)
            yield rows_of(_without_words(frame, self.missing), self.name, place)

    def _place_in_block(self, first_row: int, row: int) -> str:
        return self.place(first_row + row)

    def place(self, row: int) -> str:
        return f"row {row}"


def _without_words(frame: pandas.DataFrame, missing: Sequence[Value] | None) -> pandas.DataFrame:
    """Replace each entry that is equal to a value in `missing` by NaN.

    If a text in `missing` is a number, such as `"-9"`, entries equal to this number are also
    replaced. If `missing` is None, the `DataFrame` is returned unchanged.
    """
    if missing is None:
        return frame
    numbers = [as_float(value) for value in missing if as_float(value) is not None]
    return frame.mask(frame.isin([*missing, *numbers]))


def open_table(
    source: Any,
    missing: Sequence[Value] | None,
    names: Sequence[str] | None = None,
    **options: Any,
) -> tuple[Source, int]:
    """Open a table, and estimate its size in memory.

    Args:
        source: Path of a file, `"penguins"` for the table in this package, or a `DataFrame`.
        missing: Values that stand for a missing value. If None, these are `MISSING_WORDS` for a
            text file, and only the missing values of pandas for other sources.
        names: Names for the columns of a text file without a header.
        **options: Other arguments of `CsvFile`, which reads text files.

    Returns:
        `(table, size)`. `table` is an object that reads the rows. `size` is an estimate of the
        number of bytes that all rows need in memory. For a `DataFrame`, it is 0, because the rows
        are already in memory.

    Raises:
        ValueError: If the source does not exist, is empty, or is not a table.
    """
    import pandas

    if isinstance(source, pandas.DataFrame):
        return FrameSource(source, "the DataFrame", missing), 0
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
    if path.suffix.lower() == ".gz" or _suffix(path) in _PARQUET_SUFFIXES:
        size *= _COMPRESSION
    if not size:
        raise ValueError(f"Expected {path} to contain rows of a table. Received: an empty file.")
    suffix = _suffix(path)
    if suffix in _PARQUET_SUFFIXES:
        return ParquetSource(path, missing), size
    if suffix in _EXCEL_SUFFIXES:
        return ExcelSource(_read_excel(path), str(path), missing), size
    if suffix not in _TEXT_SUFFIXES:
        raise ValueError(
            "Expected `source` to be a .csv, .tsv, .txt, .parquet or .xlsx file, or a compressed "
            f"text file such as .csv.gz. Received: {path}. Rename the file, or pass a DataFrame."
        )
    words = MISSING_WORDS if missing is None else ("", *(str(value) for value in missing))
    return CsvFile(path, missing=words, names=names, **options), size


def _read_excel(path: pathlib.Path) -> pandas.DataFrame:
    """Read the only sheet of a workbook that contains a table. Empty sheets are ignored."""
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


def all_rows(source: Source) -> Rows:
    """Return all rows of a table in one block.

    Raises:
        ValueError: If the table has no rows.
    """
    rows = next(source.blocks(), None)
    if rows is None or not rows.count:
        raise no_rows(source)
    return rows


def no_rows(source: Source) -> ValueError:
    """Return a `ValueError` which says that a table has no rows."""
    return ValueError(
        f"Expected at least one row in {source.name}. Received: no rows. Check that the file is "
        "complete."
    )
