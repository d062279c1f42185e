"""Reader of tables of numbers."""

import csv

import numpy as np


def csv_arrays(path):
    """`(x, labels or None, None, None)` of a table of numbers, with or without a header."""
    with path.open(newline="") as file:
        first = next(csv.reader(file), None)
    if first is None:
        raise ValueError(
            f"Expected {path} to hold numbers, one example a row. Received: an empty file."
        )
    header = None
    try:
        [float(field) for field in first]
    except ValueError:
        header = [field.strip() for field in first]
    try:
        table = np.loadtxt(
            path, delimiter=",", skiprows=int(header is not None), ndmin=2, dtype=np.float32
        )
    except ValueError as error:
        raise ValueError(
            f"Expected {path} to hold numbers alone, below a header at most. Received: {error}."
        ) from error
    y = None
    if header and "label" in header:
        column = header.index("label")
        y, table = table[:, column].astype(np.int64), np.delete(table, column, axis=1)
    whole = (
        table.size and table.min() >= 0 and table.max() <= 255 and np.all(table == np.round(table))
    )
    return table.astype(np.uint8) if whole else table, y, None, None
