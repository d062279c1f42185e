"""Objects whose constructor arguments are their configuration.

Every public object of the package keeps each constructor argument in an attribute of the same name, so its Keras
configuration can be read off its signature instead of being written, and forgotten, by hand.
"""

import inspect
import math
import numbers
from typing import Any, Self, TypeGuard

import keras


def constructor_arguments(instance: object) -> dict[str, Any]:
    """The constructor's own arguments by name, each read from the attribute of the same name."""
    parameters = inspect.signature(type(instance).__init__).parameters.values()
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"]
    missing = [name for name in named if not hasattr(instance, name)]
    if missing:
        raise ValueError(
            f"{type(instance).__name__} cannot be saved: it must keep each constructor argument in an attribute of the same name. "
            f"Missing: {', '.join(missing)}."
        )
    return {name: getattr(instance, name) for name in named}


def serialize_arguments(instance: object) -> dict[str, Any]:
    """`constructor_arguments`, in Keras's serialized form."""
    return {name: keras.saving.serialize_keras_object(value) for name, value in constructor_arguments(instance).items()}


def deserialize_arguments(config: dict[str, Any]) -> dict[str, Any]:
    """The arguments that `serialize_arguments` wrote."""
    return {name: keras.saving.deserialize_keras_object(value) for name, value in config.items()}


class Serializable:
    """A plain object that Keras can save: families, losses and objectives derive from it.

    A subclass keeps each constructor argument in an attribute of the same name. Decorate your own with
    `keras.saving.register_keras_serializable()` so that a saved model finds it again.
    """

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, in Keras's serialized form."""
        return serialize_arguments(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The object that `get_config` describes."""
        return cls(**deserialize_arguments(config))

    def __repr__(self) -> str:
        """The call that makes an equal object."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in constructor_arguments(self).items())
        return f"{type(self).__name__}({arguments})"


def is_real(value: object) -> TypeGuard[float]:
    """Whether a value is a real number, of Python or NumPy, and no truth value."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is an integer, of Python or NumPy, and no truth value."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def positive_number(owner: object, argument: str, value: float) -> float:
    """`value` as a float, or a `ValueError` that names the constructor argument of `owner`."""
    if not is_real(value) or not 0 < value < math.inf:
        raise ValueError(f"`{argument}` of {type(owner).__name__} is a positive number. Received: {argument}={value!r}")
    return float(value)


def checked_count(owner: object, argument: str, count: int, at_least: int = 1) -> int:
    """`count` as an int, or a `ValueError` that names the argument, and its `owner` if that is not None."""
    if not is_integer(count) or count < at_least:
        of_owner = "" if owner is None else f" of {type(owner).__name__}"
        raise ValueError(f"`{argument}`{of_owner} is an int of at least {at_least}. Received: {argument}={count!r}")
    return int(count)
