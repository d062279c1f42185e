"""Objects whose constructor arguments are their configuration.

Every public object of the package keeps each constructor argument in an attribute of the same name, so its Keras
configuration can be read off its signature instead of being written, and forgotten, by hand.
"""

import inspect
from typing import Any, Self

import keras


def constructor_arguments(instance: object) -> dict[str, Any]:
    """The constructor's own arguments by name, each read from the attribute of the same name."""
    parameters = inspect.signature(type(instance).__init__).parameters.values()
    named = [
        p.name
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name != "self"
    ]
    missing = [name for name in named if not hasattr(instance, name)]
    if missing:
        raise ValueError(
            f"{type(instance).__name__} cannot be saved: it must keep each constructor argument in an attribute of the same name. "
            f"Missing: {', '.join(missing)}."
        )
    return {name: getattr(instance, name) for name in named}


def serialize_arguments(instance: object) -> dict[str, Any]:
    """`constructor_arguments`, in Keras's serialized form."""
    return {
        name: keras.saving.serialize_keras_object(value)
        for name, value in constructor_arguments(instance).items()
    }


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
        arguments = ", ".join(
            f"{name}={value!r}" for name, value in constructor_arguments(self).items()
        )
        return f"{type(self).__name__}({arguments})"
