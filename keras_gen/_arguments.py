"""Checks of arguments."""

import math
import numbers
from typing import TypeGuard


def is_real(value: object) -> TypeGuard[float]:
    """Whether a value is a real number, of Python or NumPy, and no truth value."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is an integer, of Python or NumPy, and no truth value."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def positive_float(owner: object, argument: str, value: float) -> float:
    """`value` as a float, or a `ValueError` that names the constructor argument of `owner`."""
    if not is_real(value) or not 0 < value < math.inf:
        raise ValueError(
            f"`{argument}` of {type(owner).__name__} is a positive number. Received: {argument}={value!r}"
        )
    return float(value)


def positive_int(owner: object, argument: str, count: int, at_least: int = 1) -> int:
    """`count` as an int, or a `ValueError` that names the argument, and its `owner` if that is not None."""
    if not is_integer(count) or count < at_least:
        of_owner = "" if owner is None else f" of {type(owner).__name__}"
        raise ValueError(
            f"`{argument}`{of_owner} is an int of at least {at_least}. Received: {argument}={count!r}"
        )
    return int(count)
