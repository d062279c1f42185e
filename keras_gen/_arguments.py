"""Functions that check the arguments of constructors and functions.

The message of each error names the argument.
"""

import math
import numbers
from typing import TypeGuard


def is_real(value: object) -> TypeGuard[float]:
    """Return whether a value is a real number of Python or NumPy. For a bool, return False."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_integer(value: object) -> TypeGuard[int]:
    """Return whether a value is an integer of Python or NumPy. For a bool, return False."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def positive_float(owner: object, argument: str, value: float) -> float:
    """Check that `value` is positive and finite, and return `value` as a float.

    Args:
        owner: The object whose constructor received the argument. The error message names the class
            of this object.
        argument: Name of the argument, for the error message.
        value: The value that the user passed.

    Raises:
        ValueError: If `value` is not a positive, finite number.
    """
    if not is_real(value) or not 0 < value < math.inf:
        raise ValueError(
            f"`{argument}` of {type(owner).__name__} must be a positive number. "
            f"Received: {argument}={value!r}"
        )
    return float(value)


def positive_int(owner: object, argument: str, value: int, at_least: int = 1) -> int:
    """Check that `value` is an integer of at least `at_least`, and return `value` as an int.

    Args:
        owner: The object whose constructor or method received the argument. The error message names
            the class of this object. Pass None if a function received the argument.
        argument: Name of the argument, for the error message.
        value: The value that the user passed.
        at_least: Smallest allowed value. Default: 1.

    Raises:
        ValueError: If `value` is not an integer, or is smaller than `at_least`.
    """
    if not is_integer(value) or value < at_least:
        of_owner = "" if owner is None else f" of {type(owner).__name__}"
        raise ValueError(
            f"`{argument}`{of_owner} must be an integer of at least {at_least}. "
            f"Received: {argument}={value!r}"
        )
    return int(value)
