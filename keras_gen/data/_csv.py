"""Read delimited text files, such as .csv files, and infer their format.

`CsvFile` infers the encoding, the separator, the decimal sign and the header from the beginning of
a file. Then pyarrow or pandas parses the file. This module also makes checks that pyarrow and
pandas do not make. For instance, it checks that no row has too few fields.
"""

from __future__ import annotations

import codecs
import collections
import contextlib
import csv
import functools
import gzip
import io
import itertools
import pathlib
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, Self

import numpy as np

from keras_gen._column_values import Location, Rows, Values, check_names, coded_values, rows_of
from keras_gen._errors import warn_user

MISSING_WORDS = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"),
    *("<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),  # the last one of pandas
    *("?", "-", "--", ".", "NAN", "N.A.", "n.a.", "#DIV/0!", "#VALUE!", "#REF!", "#NUM!"),
)
"""Texts that mean "missing" in a file: the words of pandas, "?", dashes, a dot, and the errors of
spreadsheets."""

_SAMPLE = 2**16  # number of bytes from which the format of a file is inferred
_SAMPLE_LINES = 10  # smallest number of lines in the sample, unless the file has fewer
_SAMPLE_ROWS = 100
_SEPARATORS = ("\t", ";", "|", ",")
_WHITESPACE = r"\s+"
_CACHED = 2**18  # number of bytes that are compared at once
_ARROW_BLOCK = 2**30  # size in bytes of a chunk of pyarrow, so that all rows are in one chunk
_BOMS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
HEADER_REMEDY = (
    "Pass `header=True` if the line contains the names of the columns, and `header=False` if it is "
    "a row."
)
"""The remedy in errors about a first line that can be names or values."""

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?|[+-]?(inf|infinity|nan)", re.I)
_SPACES = " '\u00a0\u2009\u202f’"  # separators of thousands that are never decimal signs


class CsvFile:
    """A delimited text file that contains a table, such as a .csv file.

    Args:
        path: Path of the file. A path that ends in `.gz` belongs to a file compressed by gzip.
        separator: Separator of the fields, such as `";"`. Default: inferred.
        decimal: Decimal sign, `"."` or `","`. Default: inferred.
        encoding: Encoding of the file, such as `"cp1252"`. Default: inferred.
        header: Whether the first line contains the names of the columns. Default: inferred.
        missing: Texts that stand for a missing value. Default: `MISSING_WORDS`.
        names: Names that the columns are expected to have. If the file has no header, its columns
            get these names. Default: the columns of a file without a header get the names
            `column_0`, `column_1` and so on.

    Raises:
        ValueError: If the file is not a text file with a table, if an argument does not match the
            file, or if it is not clear whether the file has a header.
    """

    def __init__(
        self,
        path: pathlib.Path,
        separator: str | None = None,
        decimal: str | None = None,
        encoding: str | None = None,
        header: bool | None = None,
        missing: Sequence[str] = MISSING_WORDS,
        names: Sequence[str] | None = None,
    ) -> None:
        if separator is not None and separator != _WHITESPACE and len(separator) != 1:
            raise ValueError(
                "`separator` must be one character, such as ';', or '\\s+' for whitespace. "
                f"Received: separator={separator!r}"
            )
        if decimal not in (None, ".", ","):
            raise ValueError(f"`decimal` must be '.' or ','. Received: decimal={decimal!r}")
        self.path = path
        self.missing = frozenset(missing)
        try:
            with self.open() as file:
                sample = part = file.read(_SAMPLE)
                # a header with thousands of names can be longer than one part
                while part and len(sample.splitlines()) < _SAMPLE_LINES:
                    part = file.read(_SAMPLE)
                    sample += part
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(_damaged_gzip(path, error)) from error
        complete = len(part) < _SAMPLE
        self.encoding_is_known = encoding is not None
        self.encoding = encoding or _sniff_encoding(sample)
        text = self._decode_sample(sample, complete)
        if text.lstrip().lower().startswith(("<!doctype", "<html", "<?xml")):
            raise ValueError(
                f"Expected {path} to be a text file with a table, such as a CSV file. Received: a "
                "web page or XML. Download the file itself, or export it as CSV."
            )
        self.sample_is_ascii = text.isascii()
        lines = list(io.StringIO(text, newline=""))
        if not complete and len(lines) > 1:
            lines.pop()  # it can be incomplete
        first = self._skipped_lines(lines)
        if first == len(lines):
            raise ValueError(
                f"Expected {path} to contain rows of a table. Received: an empty file, or only "
                "blank lines and comments. Check that the file is complete."
            )
        self.separator = (
            separator or self._declared_separator(lines) or _sniff_separator(lines[first:])
        )
        self.skip_space = any(f'{self.separator} "' in line for line in lines)
        rows, first_length = self._sample_rows(lines[first:])
        commented = self._commented_header(lines, first, rows)
        self.skipped = first  # number of lines before the first row
        if commented is not None and header is None:
            rows.insert(0, commented)
            header = True
        else:
            if header is None:
                header = self._sniff_header(rows, names)
            self.skipped += first_length if header else 0
        self.offset = len("".join(lines[: self.skipped]).encode())
        header_row = rows[0]
        body = rows[1:] if header else rows
        self.header = header
        self.names = self._names(header_row, body, names)
        commas, points = _count_decimal_signs(body)
        self.decimal = decimal or ("," if commas and not points else ".")
        self.decimal_is_clear = decimal is not None or points > 0 or self.decimal == ","
        self.text_columns = self._sniff_text(body)

    @property
    def name(self) -> str:
        """The path, for error messages."""
        return str(self.path)

    # === Format ===

    def open(self) -> BinaryIO:
        """Open the file for reading. If its suffix is .gz, decompress it."""
        if self.path.suffix.lower() == ".gz":
            return gzip.open(self.path, "rb")  # type: ignore[return-value]
        return self.path.open("rb")

    def _decode_sample(self, sample: bytes, complete: bool) -> str:
        decoder = codecs.getincrementaldecoder(self._codec())()
        try:
            return decoder.decode(sample, complete)
        except UnicodeDecodeError:
            return self._use_windows_encoding(sample)

    def _codec(self) -> str:
        try:
            return codecs.lookup(self.encoding).name
        except LookupError:
            raise ValueError(
                f"`encoding` must be the name of an encoding, such as 'utf-8' or 'cp1252'. "
                f"Received: encoding={self.encoding!r}"
            ) from None

    def _use_windows_encoding(self, content: bytes) -> str:
        """Decode `content` as Windows-1252, and warn that it is not valid UTF-8.

        Windows-1252 (cp1252) is the encoding of Windows in Western Europe. The method changes the
        attribute `encoding`, so that the rest of the file is also read as Windows-1252.

        Args:
            content: The beginning of the file, or a block of it. It is invalid in `encoding`.

        Raises:
            ValueError: If the user chose the encoding, if another encoding than UTF-8 was inferred,
                or if `content` is also invalid in Windows-1252.
        """
        text = None
        if self.encoding == "utf-8" and not self.encoding_is_known:
            with contextlib.suppress(UnicodeDecodeError):
                text = content.decode("cp1252")
        if text is None:
            raise ValueError(
                f"Expected {self.path} to be in the encoding {self.encoding}. Received: bytes that "
                "are invalid in this encoding. Pass another `encoding`, such as 'latin-1'."
            ) from None
        self.encoding = "cp1252"
        warn_user(
            f"{self.path} is not in the encoding UTF-8. It is read as Windows-1252 (Western "
            "European). Pass `encoding` if the file has another encoding.",
        )
        return text

    @staticmethod
    def _skipped_lines(lines: list[str]) -> int:
        """Count the lines before the table.

        They are blank lines, comments, and lines such as `sep=;`, which declare the separator. A
        comment starts with `#`. A line that starts with a text for a missing value, such as `#N/A`,
        is not a comment.
        """
        for index, line in enumerate(lines):
            text = line.strip()
            is_comment = text.startswith("#") and not any(
                text.startswith(word) for word in MISSING_WORDS if word.startswith("#")
            )
            if text and not is_comment and not re.fullmatch(r"sep=.", text, re.I):
                return index
        return len(lines)

    @staticmethod
    def _declared_separator(lines: list[str]) -> str | None:
        """Return the separator that the first line declares, or None if it declares no separator.

        Spreadsheet programs declare the separator by a line such as `sep=;`.
        """
        found = re.fullmatch(r"sep=(.)", lines[0].strip("\r\n"), re.I)
        return found[1] if found else None

    def _fields(self, lines: Iterable[str], strict: bool = False) -> Any:
        """Return an iterator over the rows in lines of text. A row is a list of its fields.

        If `strict` is True, `csv.reader` raises an error for invalid quotation marks.
        """
        if self.separator == _WHITESPACE:
            return _FieldsBetweenSpaces(lines)
        return csv.reader(
            lines, delimiter=self.separator, skipinitialspace=self.skip_space, strict=strict
        )

    def _sample_rows(self, lines: list[str]) -> tuple[list[list[str]], int]:
        """Return the fields of the first 100 rows, and the number of lines of the first row.

        A row can span several lines, if a field in quotes contains line breaks.
        """
        csv.field_size_limit(2**31 - 1)
        try:
            reader = self._fields(lines)
            rows = [next(reader)]
            first_length = reader.line_num
            rows += itertools.islice(filter(None, reader), _SAMPLE_ROWS - 1)
        except csv.Error as error:
            raise ValueError(
                f"Expected {self.path} to be a text file with a table, such as a CSV file. Reading "
                f"the file failed: {error}. Open the file in an editor, and check its content."
            ) from error
        return [[field.strip() for field in row] for row in rows], first_length

    def _commented_header(
        self, lines: list[str], first: int, rows: list[list[str]]
    ) -> list[str] | None:
        """Read the names of the columns from a comment, such as `# height weight`.

        `numpy.savetxt` writes such a comment. The comment must be the line directly above the first
        row, and must contain one name per field of this row. The first row must contain only
        numbers and missing entries.

        Args:
            lines: Lines of the file.
            first: Index of the line in which the first row starts.
            rows: Fields of the first rows.

        Returns:
            The names, or None if there is no such comment.
        """
        if not first or not lines[first - 1].lstrip().startswith("#"):
            return None
        if not all(_NUMBER.fullmatch(field) or field in self.missing for field in rows[0]):
            return None
        header: list[str] = next(iter(self._fields([lines[first - 1].lstrip()[1:].lstrip()])), [])
        header = [field.strip() for field in header]
        return header if len(header) == len(rows[0]) else None

    def _sniff_header(self, rows: list[list[str]], names: Sequence[str] | None) -> bool:
        """Infer whether the first row contains the names of the columns.

        Args:
            rows: Fields of the first rows.
            names: Expected names of the columns, or None.

        Raises:
            ValueError: If it is not clear whether the first row contains names or values.
        """
        first, rest = rows[0], rows[1:]
        if names is not None and set(first) & set(names):
            return True
        present = [field for field in first if field not in self.missing]
        numeric = [field for field in present if _NUMBER.fullmatch(field)]
        if not present:
            return True  # a header can consist of empty names only
        if len(numeric) == len(present):
            is_header = _numbers_are_names(first, rest, self.missing)
            if is_header is None:
                raise ValueError(
                    f"Expected it to be clear whether the first line of {self.path} contains names "
                    f"or values. Received: {', '.join(first[:6])}. {HEADER_REMEDY}"
                )
            return is_header
        for index, field in enumerate(first):
            if field in self.missing or _NUMBER.fullmatch(field):
                continue
            column = [row[index] for row in rest if len(row) > index]
            if field in column:
                return False  # the text occurs again below
            values = [value for value in column if value not in self.missing]
            if values and all(_NUMBER.fullmatch(value) for value in values):
                return True
        if numeric and rest:
            raise ValueError(
                f"Expected the first line of {self.path} to contain either names or values. "
                f"Received: text and numbers ({', '.join(first[:6])}). {HEADER_REMEDY}"
            )
        return True

    def _names(
        self, header_row: list[str], body: list[list[str]], names: Sequence[str] | None
    ) -> tuple[str, ...]:
        width = len(header_row)
        if not self.header:
            if names is not None:
                if len(names) != width:
                    raise ValueError(
                        f"Expected {len(names)} columns in {self.path}, because the file has no "
                        f"header, and the training table has the columns: {', '.join(names)}. "
                        f"Received: {width} columns. Add the missing columns, or add a first line "
                        "with the names of the columns."
                    )
                return tuple(names)
            return tuple(f"column_{index}" for index in range(width))
        found = [name.removeprefix("\ufeff").strip() for name in header_row]
        lengths = {len(row) for row in body}
        if lengths == {width + 1}:
            if all(not row[-1] for row in body):
                found.append("")  # each row ends with a separator
            elif width == 1 and all(_NUMBER.fullmatch(field) for row in body for field in row):
                raise ValueError(
                    f"Expected the first line of {self.path} to contain one name per column. "
                    f"Received: one name ({found[0]}), but rows with two numbers, such as "
                    f"{self.separator.join(body[0])}. If the comma is the decimal sign, pass "
                    "`separator=';'`. Otherwise add the missing name."
                )
            else:
                found.insert(0, "")  # R writes no name for the names of the rows
        filled = tuple(name or f"Unnamed: {index}" for index, name in enumerate(found))
        check_names(filled, self.name)
        return filled

    def _sniff_text(self, body: list[list[str]]) -> frozenset[str]:
        """Return the names of the columns whose first observed entry is text.

        All entries of these columns are read as text. A first entry is text if it is neither a
        number nor `true` nor `false`.

        Args:
            body: Fields of the first rows below the header.
        """
        text = set()
        for index, name in enumerate(self.names):
            values = (row[index] for row in body if len(row) > index)
            first = next((value for value in values if value not in self.missing), "0")
            is_number = _NUMBER.fullmatch(first) or _look_like_numbers([first])
            if not is_number and first.lower() not in ("true", "false"):
                text.add(name)
        return frozenset(text)

    # === Rows ===

    def blocks(self, block_size: int | None = None) -> Iterator[Rows]:
        """Parse the file, and yield its rows in blocks.

        Args:
            block_size: Size of a block in bytes. Default: all rows are in one block.
        """
        first_row = 0
        for content in self.contents(block_size):
            columns = self._parse(content, first_row)
            first = next(iter(columns.values()))
            entries = first.codes if first.numbers is None else first.numbers
            assert entries is not None
            count = len(entries)
            place = functools.partial(self._place_in_block, first_row)
            first_row += count
            yield Rows(self.name, self.names, count, _by_location(columns), place)

    def _place_in_block(self, first_row: int, row: int) -> str:
        return self.place(first_row + row)

    def contents(self, block_size: int | None) -> Iterator[bytes]:
        """Yield the content of the file in blocks, without the header, encoded as UTF-8.

        Each block contains only complete rows.

        Args:
            block_size: Number of bytes to read for each block. If None, one block contains all
                rows.
        """
        decoder = None
        if self._codec() not in ("utf-8", "ascii"):
            decoder = codecs.getincrementaldecoder(self._codec())()
        rest = b""
        header = self.offset  # number of bytes of UTF-8 that remain to be skipped
        try:
            with self.open() as file:
                if decoder is None:
                    file.seek(header)
                while True:
                    content = file.read() if block_size is None else file.read(block_size)
                    last = block_size is None or not content
                    if decoder is not None:
                        content = decoder.decode(content, last).encode()
                        length = len(content)
                        content = content[header:]
                        header = max(header - length, 0)
                    content = rest + content if rest else content
                    rest = b""
                    if not last:
                        end = _end_of_records(content)
                        rest = content[end:]
                        content = content[:end]
                    if content and not content.isspace():
                        yield content
                    if last:
                        return
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(_damaged_gzip(self.path, error)) from error
        except UnicodeDecodeError as error:
            raise ValueError(
                f"Expected {self.path} to be in the encoding {self.encoding}. Reading the file "
                f"failed: {error}. Pass another `encoding`."
            ) from error

    def _parse(self, content: bytes, first_row: int) -> dict[str, Values]:
        """Parse a block of the file, and return the values of each column by name.

        Args:
            content: The block, which contains whole records. The header is not part of it.
            first_row: Number of rows before the block.
        """
        if b"\0" in content:
            line = content[: content.index(b"\0")].count(b"\n") + 1 + self._lines_before(first_row)
            raise ValueError(
                f"Expected text in {self.path}. Received: a NUL byte in line {line}. The file is "
                "damaged, or it is not a text file. Export the table again as CSV."
            )
        texts = self.text_columns | _columns_with_leading_zeros(self, content)
        try:
            columns = self._parse_with_arrow(content, texts)
            if columns is None:
                columns = self._parse_with_pandas(content, texts, first_row)
        except UnicodeDecodeError as error:
            if first_row or not self.sample_is_ascii or self.encoding_is_known:
                raise ValueError(
                    f"Expected {self.path} to be in the encoding UTF-8. Reading the file failed: "
                    f"{error}. Pass the `encoding` of the file, such as 'cp1252'."
                ) from None
            return self._parse(self._use_windows_encoding(content).encode(), first_row)
        with_numbers = self._with_numbers(columns, first_row)
        return self._parse(content, first_row) if with_numbers is None else with_numbers

    def _parse_with_pandas(
        self, content: bytes, texts: frozenset[str], first_row: int
    ) -> dict[str, Values]:
        import pandas

        text = content.decode()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pandas.errors.ParserWarning)
                frame = pandas.read_csv(
                    io.StringIO(text, newline=""),
                    sep=self.separator,
                    header=None,
                    names=list(self.names),
                    index_col=False,
                    dtype=dict.fromkeys(texts, object),
                    keep_default_na=False,
                    na_values=list(self.missing),
                    decimal=self.decimal,
                    skipinitialspace=self.skip_space,
                    low_memory=False,
                    engine="c",
                )
        except (pandas.errors.ParserError, pandas.errors.ParserWarning, ValueError) as error:
            self._check_records(content, first_row)
            raise ValueError(
                f"Expected {self.path} to be a text file with a table, such as a CSV file. Reading "
                f"the file failed: {str(error).strip()}. Check the separators and the quotes."
            ) from error
        # pandas fills short rows with missing entries
        is_plain = b'"' not in content and self.separator != _WHITESPACE
        separators = (len(self.names) - 1) * len(frame)
        if not is_plain or content.count(self.separator.encode()) != separators:
            self._check_records(content, first_row)
        rows = rows_of(frame, self.name, functools.partial(self._place_in_block, first_row))
        columns = {name: rows.values(name) for name in self.names}
        for name, values in columns.items():
            if values.codes is not None and values.dtype in ("str", "object"):
                columns[name] = coded_values(values.codes, values.distinct, self.missing)
        return columns

    def _parse_with_arrow(self, content: bytes, texts: frozenset[str]) -> dict[str, Values] | None:
        """Parse a block of the file with pyarrow, which is faster than pandas.

        Args:
            content: The block.
            texts: Names of the columns to read as text.

        Returns:
            The values of each column by name. The result is None if pyarrow is not installed. It is
            also None if pyarrow could read the block differently than pandas, for instance because
            the block contains quotation marks.
        """
        if len(self.separator) != 1 or self.skip_space or b'"' in content:
            return None
        try:
            import pyarrow
            import pyarrow.csv
        except ImportError:
            return None
        text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
        try:
            table = pyarrow.csv.read_csv(
                pyarrow.BufferReader(content),
                pyarrow.csv.ReadOptions(column_names=list(self.names), block_size=_ARROW_BLOCK),
                pyarrow.csv.ParseOptions(delimiter=self.separator, quote_char=False),
                pyarrow.csv.ConvertOptions(
                    column_types=dict.fromkeys(texts, text),
                    null_values=list(self.missing),
                    decimal_point=self.decimal,
                    check_utf8=False,  # the distinct texts are decoded below
                ),
            )
        except pyarrow.ArrowInvalid:
            return None
        columns = {}
        for name, column in zip(table.column_names, table.columns, strict=True):
            if column.num_chunks != 1:
                return None
            chunk = column.chunk(0)
            kind = column.type
            if pyarrow.types.is_int64(kind) or pyarrow.types.is_float64(kind):
                columns[name] = Values(chunk.to_numpy(zero_copy_only=False))
            elif pyarrow.types.is_dictionary(kind):
                codes = chunk.indices.to_numpy()
                columns[name] = coded_values(codes, chunk.dictionary.to_pylist(), self.missing)
            else:
                return None
        return columns

    def records(
        self, lines: Iterable[str], before: int | None = None
    ) -> Iterator[tuple[int, list[str]]]:
        """Yield `(line, fields)` for each record. A record is one row of the table.

        `line` is the number of the line in which the record starts. The first line of the file has
        the number 1. `fields` is the list of the texts in the record.

        Args:
            lines: Consecutive lines of the file.
            before: Number of lines in the file before the first of these lines. Default: the number
                of lines before the first row of the table.

        Raises:
            ValueError: If the quotation marks of a record are invalid.
        """
        before = self.skipped if before is None else before
        reader = self._fields(lines, strict=True)
        first = before + 1
        try:
            for row in reader:
                if row:
                    yield first, row
                first = before + reader.line_num + 1
        except csv.Error as error:
            raise ValueError(
                f"Expected a closing quotation mark for each opening one in {self.path}. Received: "
                f"an invalid record that starts in line {first} ({error}). Correct the quotation "
                "marks."
            ) from None

    def _check_records(self, content: bytes, first_row: int) -> None:
        """Raise a `ValueError` if a row has the wrong number of fields or invalid quotation marks.

        Args:
            content: A block of the file, which contains only complete rows.
            first_row: Number of rows before the block, for the line number in the error message.
        """
        for number, row in self.records(_lines(content), self._lines_before(first_row)):
            if len(row) != len(self.names):
                raise ValueError(
                    f"Expected {len(self.names)} fields in each row of {self.path}. Received: "
                    f"{len(row)} fields in line {number}. Correct the line. If its text contains "
                    "separators, put the text in quotation marks."
                )

    def _lines_before(self, row: int) -> int:
        return self.line(row) - 1 if row else self.skipped

    def line(self, row: int) -> int:
        """Return the line number at which a row starts. Line numbers are counted from 1."""
        with self.open() as file:
            lines = io.TextIOWrapper(file, self.encoding, errors="replace", newline="")
            records = self.records(itertools.islice(lines, self.skipped, None))
            return next((number for number, _ in itertools.islice(records, row, None)), 1)

    def place(self, row: int) -> str:
        """Return the line of a row as text, for error messages."""
        return f"line {self.line(row)}"

    # === Text ===

    def _with_numbers(self, columns: dict[str, Values], first_row: int) -> dict[str, Values] | None:
        """Convert each column of text to numbers, if all of its texts are numbers.

        Args:
            columns: The values of each column, by name, in one block of rows of the file.
            first_row: Number of rows before the block.

        Returns:
            The values of all columns. None if a text shows that the decimal sign of the file is a
            comma. In this case, the method stores the comma in `decimal`, and the caller must parse
            the block again.

        Raises:
            ValueError: If it is not clear whether the comma in numbers such as `1,234` is the
                decimal sign or separates thousands.
        """
        texts = {
            name: [str(value) for value in values.distinct]
            for name, values in columns.items()
            if values.numbers is None
            and values.dtype == "str"
            and name not in self.text_columns
            and _look_like_numbers(values.distinct)
        }
        if not texts:
            return columns
        is_unclear = not self.decimal_is_clear and not _has_fractions(columns)
        for values in texts.values() if is_unclear else ():
            has_comma = any(re.fullmatch(_CLEAR_COMMA, value) for value in values)
            if has_comma and _all_numbers(values, ",") is not None:
                self.decimal = ","
                self.decimal_is_clear = True
                return None
        converted = dict(columns)
        for name, values in texts.items():
            numbers = _all_numbers(values, self.decimal)
            if numbers is None:
                continue
            codes = columns[name].codes
            assert codes is not None
            grouped = [index for index, value in enumerate(values) if "," in value]
            if is_unclear and grouped and all(_THOUSANDS.fullmatch(values[i]) for i in grouped):
                row = first_row + int(np.flatnonzero(codes == grouped[0])[0])
                raise self._unclear_thousands(name, values[grouped[0]], row)
            converted[name] = Values(np.append(numbers, np.nan)[codes])
        return converted

    def _unclear_thousands(self, name: str, value: str, row: int) -> ValueError:
        """Return the error for a number such as `1,234`, whose comma has two possible meanings.

        The comma can be the decimal sign, or it can separate thousands.
        """
        return ValueError(
            f"Expected numbers with a clear decimal sign in the column {name!r} of {self.path}. "
            f"Received: {value!r} in {self.place(row)}, which can be {value.replace(',', '')} or "
            f"{value.replace(',', '.')}. Pass `decimal='.'` if the comma separates thousands, and "
            "`decimal=','` if the comma is the decimal sign."
        )


# a number with a separator of thousands, or with three decimal places
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
# a number with a decimal comma, or with several points, which then separate thousands
_CLEAR_COMMA = (
    r"[+-]?(?![1-9]\d{0,2},\d{3}$)(\d*|\d{1,3}(\.\d{3})+),\d+"
    r"|[+-]?\d{1,3}(\.\d{3}){2,}"
)


def _by_location(columns: dict[str, Values]) -> Callable[[Location], Values]:
    return lambda at: columns[at.column]


def _has_fractions(columns: dict[str, Values]) -> bool:
    """Return whether the columns prove that the file uses the point as decimal sign.

    Numbers such as 0.5 and 1.2345 prove it, because their point cannot be a separator of thousands.
    The number 1.25 does not prove it. Its text in the file can be `1.250`, which can also mean
    1250.
    """
    for values in columns.values():
        numbers = values.numbers
        if numbers is not None and numbers.dtype == np.float64:
            fractions = numbers[np.isfinite(numbers) & (numbers != np.rint(numbers))]
            thousand = fractions * 1000
            unclear = (np.abs(fractions) >= 1) & (np.abs(fractions) < 1000)
            unclear &= np.abs(thousand - np.rint(thousand)) < 1e-6
            if not unclear.all():
                return True
    return False


def _look_like_numbers(values: Sequence[object]) -> bool:
    """Return whether at least half of the first 1,000 values look like numbers.

    For instance, `1'000,5` and `-2e-3` look like numbers.
    """
    sample = [str(value) for value in values[:1000]]
    matches = [re.fullmatch(rf"[+-]?[\d.,{_SPACES}]*\d[\d.,]*([eE][+-]?\d+)?", v) for v in sample]
    return bool(sample) and 2 * sum(match is not None for match in matches) >= len(sample)


def _all_numbers(values: Sequence[str], decimal: str) -> np.ndarray | None:
    """Convert texts to numbers, or return None if any text is not a number.

    A text with leading zeros, such as `007`, is not accepted as a number.

    Args:
        values: The texts.
        decimal: The decimal sign, `"."` or `","`.
    """
    numbers = np.empty(len(values))
    group = "," if decimal == "." else "."
    pattern = re.compile(
        rf"[+-]?(\d{{1,3}}(([{re.escape(group)}]\d{{3}})+|([{_SPACES}]\d{{3}})+)|\d*)"
        rf"({re.escape(decimal)}\d*)?([eE][+-]?\d+)?|[+-]?(inf|infinity)",
        re.I,
    )
    removed = str.maketrans("", "", group + _SPACES)
    for index, value in enumerate(values):
        if not pattern.fullmatch(value) or re.fullmatch(r"0\d+", value):
            return None
        try:
            numbers[index] = float(value.translate(removed).replace(decimal, "."))
        except ValueError:
            return None
    return numbers


class _FieldsBetweenSpaces:
    """Iterator that splits each line at whitespace, and yields the list of its fields.

    The class replaces `csv.reader` for files whose separator is whitespace.
    """

    def __init__(self, lines: Iterable[str]) -> None:
        self.line_num = 0
        self._lines = iter(lines)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[str]:
        line = next(self._lines)
        self.line_num += 1
        return line.split()


def _damaged_gzip(path: pathlib.Path, error: Exception) -> str:
    return (
        f"Expected {path} to be an undamaged gzip file. Reading the file failed: {error}. Copy the "
        "file again, or remove the suffix .gz if the file is not compressed."
    )


def _lines(content: bytes) -> io.StringIO:
    return io.StringIO(content.decode("utf-8", "replace"), newline="")


def _end_of_records(content: bytes) -> int:
    """Return the position after the last complete row of `content`, or 0 if no row is complete.

    A line break inside quotation marks belongs to an entry, and does not end a row.
    """
    end = len(content)
    while True:
        end = content.rfind(b"\n", 0, end)
        if end < 0:
            return 0
        if content.count(b'"', 0, end) % 2 == 0:
            return end + 1


def _sniff_encoding(sample: bytes) -> str:
    for bom, encoding in _BOMS.items():
        if sample.startswith(bom):
            return encoding
    for encoding, zeros in (("utf-16-le", sample[1::2]), ("utf-16-be", sample[::2])):
        if len(zeros) > 1 and zeros.count(0) > 0.7 * len(zeros):
            return encoding
    return "utf-8"


def _sniff_separator(lines: list[str]) -> str:
    """Return the separator that splits most lines into the same number of fields.

    The candidates are the tab, the semicolon, the vertical bar and the comma. If none of them
    splits the lines into several fields, the function tries whitespace. If whitespace splits all
    lines into the same number of fields, and all fields below the first line are numbers, the
    result is `_WHITESPACE`. Otherwise, the result is a comma.
    """
    sample = [line for line in lines[:_SAMPLE_ROWS] if line.strip()]
    best = ","
    best_share = 0.0
    for separator in _SEPARATORS:
        try:
            rows = [row for row in csv.reader(sample, delimiter=separator) if row]
        except csv.Error:
            continue
        counts = collections.Counter(len(row) for row in rows)
        width, number = counts.most_common(1)[0]
        share = number / len(rows)
        # the header can have one field less, as R writes it
        if width > 1 and abs(len(rows[0]) - width) <= 1 and len(rows[0]) > 1 and share > best_share:
            best, best_share = separator, share
    if best_share:
        return best
    rows = [line.split() for line in sample]
    numbers = rows[1:] or rows
    if all(len(row) == len(rows[0]) > 1 for row in rows) and all(
        _NUMBER.fullmatch(field) for row in numbers for field in row
    ):
        return _WHITESPACE
    return ","


_FINITE = re.compile(r"[+-]?\d+(\.\d*)?")
_MANY_NAMES = 8
"""So many numbers in a row are hardly 0, 1, 2, … by chance."""


def _numbers_are_names(
    first: list[str], rows: list[list[str]], missing: frozenset[str]
) -> bool | None:
    """Return whether the numbers of the first line are the names of the columns.

    `DataFrame.to_csv` writes the names 0, 1, 2, … if the columns have no names. It writes no name
    above the labels of the rows. Tables of spectra have a wavelength above each column. Such names
    are equally spaced, and the numbers below them are not.

    Args:
        first: Fields of the first line. They are numbers or missing entries.
        rows: Fields of the next lines.
        missing: Fields that stand for missing entries.

    Returns:
        True if the numbers are names, False if they are values, None if they can be either.
    """
    start = 1 if first[0] == "" else 0
    names = first[start:]
    rows = [row[start : len(first)] for row in rows if len(row) >= len(first)]
    columns = [set(column) - missing for column in zip(*rows, strict=True)]
    if not columns or missing & set(names):
        return False
    repeated = sum(name in column for name, column in zip(names, columns, strict=True))
    above_text = any(column and not any(map(_NUMBER.fullmatch, column)) for column in columns)
    counted = names in (list(map(str, range(low, low + len(names)))) for low in (0, 1))
    spacing = _spacing(names)
    if spacing is None or spacing in map(_spacing, rows):
        return None if above_text and not repeated else False
    if counted and 2 * repeated < len(names):
        is_whole = all(field.isdecimal() for column in columns for field in column)
        return None if is_whole and len(names) < _MANY_NAMES else True
    return False if repeated or (len(names) < 4 and not counted) else None


def _spacing(fields: list[str]) -> float | None:
    """Return the distance between numbers that increase equally, or None if they do not."""
    if len(fields) < 3 or not all(map(_FINITE.fullmatch, fields)):
        return None
    distances = np.diff([float(field) for field in fields])
    is_equal = distances[0] > 0 and np.allclose(distances, distances[0], rtol=1e-4)
    return float(distances[0]) if is_equal else None


def _count_decimal_signs(body: list[list[str]]) -> tuple[int, int]:
    """Return how many fields have a decimal comma, and how many have a decimal point.

    Fields such as `1,234` and `1.234` are not counted, because their comma or point can be a
    separator of thousands.
    """
    counts = []
    fields = [field for row in body for field in row if "," in field or "." in field]
    for sign, group in ((",", r"\."), (r"\.", ",")):
        number = re.compile(rf"[+-]?(\d*|\d{{1,3}}([{group}{_SPACES}]\d{{3}})+){sign}\d+")
        unclear = re.compile(rf"[+-]?[1-9]\d{{0,2}}{sign}\d{{3}}")
        clear = [f for f in fields if number.fullmatch(f) and not unclear.fullmatch(f)]
        counts.append(len(clear))
    return counts[0], counts[1]


def _can_start_with_zero(content: bytes, separator: int) -> bool:
    """Return whether a text file may have a field that starts with `0x` or with 0 and a digit.

    A field such as `007` must be read as text, not as a number. This check is quick, but not exact.
    If the result is False, the file has no such field. If the result is True, the file may have
    one.

    Args:
        content: Content of the file as bytes.
        separator: Last byte of the text that separates the fields.
    """
    if re.match(rb"0[\dxX]", content):
        return True
    last_sign = ord(",")  # line ends, quotes and spaces have smaller codes, digits larger codes
    values = np.frombuffer(content, np.uint8)
    for start in range(0, len(values), _CACHED):
        part = values[start : start + _CACHED + 2]
        starts = part[:-2] <= last_sign
        if separator > last_sign:
            starts |= part[:-2] == separator
        starts &= part[1:-1] == ord("0")
        follows = part[2:] - np.uint8(ord("0")) < 10  # a digit, because smaller codes wrap around
        follows |= (part[2:] | 0x20) == ord("x")  # the bit 0x20 turns X into x
        follows &= starts
        if follows.any():
            return True
    return False


def _columns_with_leading_zeros(file: CsvFile, content: bytes) -> frozenset[str]:
    """Return the names of the columns that must be read as text and not as numbers.

    Such a column contains an entry with a leading zero, such as the zip code `01234`, or an entry
    that looks like a hexadecimal number, such as `0x10`. If such an entry were read as a
    number, its text would be lost. For instance, `01234` would become 1234. The result is empty if
    whitespace separates the fields of the file, or if the quotation marks of a record are invalid.
    """
    if file.separator == _WHITESPACE or not _can_start_with_zero(
        content, file.separator.encode()[-1]
    ):
        return frozenset()
    found: set[str] = set()
    remaining = {i for i, name in enumerate(file.names) if name not in file.text_columns}
    try:
        for _, row in file.records(_lines(content)):
            for index in list(remaining):
                if index < len(row) and re.fullmatch(r"\s*0[\dxX][\da-fA-F]*\s*", row[index]):
                    found.add(file.names[index])
                    remaining.discard(index)
            if not remaining:
                break
    except ValueError:  # `_check_records` raises it, with the place
        return frozenset()
    return frozenset(found)
