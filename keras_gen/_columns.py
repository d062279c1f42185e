"""`Column`, the description of one column of a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self, get_args

import keras

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
                f"`categories` of the column {self.name!r} must contain the values of a {self.kind} "
                f"column. Received: {number} values."
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
