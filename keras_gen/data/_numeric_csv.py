"""Read tables of numbers from .csv files."""

from __future__ import annotations

import csv
import pathlib

import numpy as np

from keras_gen.data._pipeline import Splits
from keras_gen.data.arrays import LabeledArray, hold_out

_LABEL = "label"  # name of the column of labels


def read_csv(path: pathlib.Path, seed: int) -> Splits:
    """Read a .csv file of numbers, one example per row.

    Args:
        path: The file. A header line is optional. If the header names a column `label`, that
            column becomes the labels.
        seed: Seed of the random choice of test examples.
    """
    header = _read_header(path)
    try:
        table = np.loadtxt(
            path, delimiter=",", skiprows=0 if header is None else 1, ndmin=2, dtype=np.float32
        )
    except ValueError as error:
        raise ValueError(
            f"Expected {path} to contain only numbers, after an optional header line. Reading the "
            f"file failed: {error}."
        ) from error
    labels = None
    if header is not None and _LABEL in header:
        column = header.index(_LABEL)
        labels = table[:, column].astype(np.int64)
        table = np.delete(table, column, axis=1)
    if _are_pixels(table):
        table = table.astype(np.uint8)
    return hold_out(LabeledArray(table, labels), seed)


def _read_header(path: pathlib.Path) -> list[str] | None:
    """Return the names of the columns, or None if the first line contains only numbers."""
    with path.open(newline="") as file:
        first_line = next(csv.reader(file), None)
    if first_line is None:
        raise ValueError(
            f"Expected {path} to contain numbers, one example per row. Received: an empty file."
        )
    try:
        for field in first_line:
            float(field)
    except ValueError:
        return [field.strip() for field in first_line]
    return None


def _are_pixels(table: np.ndarray) -> bool:
    """Return whether all values are integers from 0 to 255."""
    if not table.size:
        return False
    in_range = table.min() >= 0 and table.max() <= 255
    return bool(in_range and np.all(table == np.round(table)))
