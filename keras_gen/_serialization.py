"""Objects whose constructor arguments are their configuration.

Every public object of the package keeps each constructor argument in an attribute of the same
name. So its Keras configuration can be read from its signature, and no argument is forgotten.
"""

import inspect
from typing import Any, Self

import keras


def constructor_arguments(instance: object) -> dict[str, Any]:
    """Return the constructor's own arguments by name, read from the attributes of the same name.

    Raises:
        ValueError: If the instance lacks the attribute of an argument.
    """
    parameters = inspect.signature(type(instance).__init__).parameters.values()
    names = [
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        and parameter.name != "self"
    ]
    missing = [name for name in names if not hasattr(instance, name)]
    if missing:
        raise ValueError(
            f"{type(instance).__name__} cannot be saved: it must keep each constructor argument in "
            f"an attribute of the same name. Missing: {', '.join(missing)}."
        )
    return {name: getattr(instance, name) for name in names}


def serialize_arguments(instance: object) -> dict[str, Any]:
    """Return `constructor_arguments` in Keras's serialized form."""
    arguments = constructor_arguments(instance)
    return {name: keras.saving.serialize_keras_object(value) for name, value in arguments.items()}


def deserialize_arguments(config: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments that `serialize_arguments` serialized."""
    return {name: keras.saving.deserialize_keras_object(value) for name, value in config.items()}


def constructor_call(instance: object) -> str:
    """Return the Python expression that makes an equal object, for `__repr__`."""
    arguments = constructor_arguments(instance).items()
    listed = ", ".join(f"{name}={value!r}" for name, value in arguments)
    return f"{type(instance).__name__}({listed})"


class Serializable:
    """Base of the plain objects that Keras can save, such as losses and objectives.

    A subclass keeps each constructor argument in an attribute of the same name. Decorate your own
    with `keras.saving.register_keras_serializable()`, so that Keras finds it when it loads a model.
    """

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments in Keras's serialized form."""
        return serialize_arguments(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make the object that `get_config` describes."""
        return cls(**deserialize_arguments(config))

    def __repr__(self) -> str:
        """Return the constructor call that makes an equal object."""
        return constructor_call(self)


class SerializableLayer(keras.layers.Layer):
    """Base of the Keras layers whose configuration is their constructor's arguments.

    A subclass keeps each constructor argument in an attribute of the same name, and makes its
    weights in its constructor. It counts as built from then on, unless it overrides `build`.

    Args:
        **kwargs: `name`, `dtype` and `trainable` of the Keras layer. A subclass may leave them out
            of its constructor.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.built = type(self).build is keras.layers.Layer.build

    def get_build_config(self) -> None:
        """Return nothing to build from, since the constructor makes all weights."""

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, and those of the Keras layer that it accepts."""
        parameters = inspect.signature(type(self).__init__).parameters
        any_name = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        of_layer = super().get_config().items()
        accepted = {name: value for name, value in of_layer if any_name or name in parameters}
        return {**serialize_arguments(self), **accepted}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make the layer that `get_config` describes."""
        return cls(**deserialize_arguments(config))

    def __repr__(self) -> str:
        """Return the constructor call that makes an equal layer."""
        return constructor_call(self)
