"""Saving of objects by their constructor arguments.

Every public object of the package keeps each constructor argument in an attribute of the same
name. So `get_config` can read all arguments from the attributes, and no argument is forgotten.
"""

import inspect
from typing import Any, Self

import keras


def constructor_arguments(instance: object) -> dict[str, Any]:
    """Return a dictionary of the constructor arguments of an object, without `**kwargs`.

    The value of an argument is read from the attribute that has the same name.

    Raises:
        ValueError: If an argument has no attribute of the same name.
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
            f"{type(instance).__name__} must keep each constructor argument in an attribute of the "
            f"same name, so that Keras can save it. Missing: {', '.join(missing)}."
        )
    return {name: getattr(instance, name) for name in names}


def serialize_arguments(instance: object) -> dict[str, Any]:
    """Return the constructor arguments by name, in Keras's serialized form."""
    arguments = constructor_arguments(instance)
    return {name: keras.saving.serialize_keras_object(value) for name, value in arguments.items()}


def deserialize_arguments(config: dict[str, Any]) -> dict[str, Any]:
    """Restore the arguments from the result of `serialize_arguments`."""
    return {name: keras.saving.deserialize_keras_object(value) for name, value in config.items()}


def constructor_call(instance: object) -> str:
    """Return the constructor call that makes an equal object, as text for `__repr__`."""
    arguments = constructor_arguments(instance).items()
    listed = ", ".join(f"{name}={value!r}" for name, value in arguments)
    return f"{type(instance).__name__}({listed})"


class Serializable:
    """The base class of losses, objectives and other objects that Keras can save.

    A subclass must keep each constructor argument in an attribute of the same name. Decorate your
    own subclass with `keras.saving.register_keras_serializable()`, so that Keras can load it.
    """

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments by name, in Keras's serialized form."""
        return serialize_arguments(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make an object from the result of `get_config`."""
        return cls(**deserialize_arguments(config))

    def __repr__(self) -> str:
        """Return the constructor call that makes an equal object."""
        return constructor_call(self)


class SerializableLayer(keras.layers.Layer):
    """The base class of Keras layers that are saved by their constructor arguments.

    A subclass must keep each constructor argument in an attribute of the same name. A subclass must
    make its weights in the constructor or in its own `build`.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype` and `trainable`. The
            constructor of a subclass does not need to accept them.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.built = type(self).build is keras.layers.Layer.build

    def get_build_config(self) -> None:
        """Return None, so that Keras does not build the layer when it loads the layer."""

    def get_config(self) -> dict[str, Any]:
        """Return all arguments that the constructor accepts, including those of the Keras layer."""
        parameters = inspect.signature(type(self).__init__).parameters
        any_name = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
        of_layer = super().get_config().items()
        accepted = {name: value for name, value in of_layer if any_name or name in parameters}
        return {**serialize_arguments(self), **accepted}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a layer from the result of `get_config`."""
        return cls(**deserialize_arguments(config))

    def __repr__(self) -> str:
        """Return the constructor call that makes an equal layer."""
        return constructor_call(self)
