"""Save objects by their constructor arguments, and restore them by a call of the constructor.

Every public object of the package keeps each constructor argument in an attribute of the same
name. So `get_config` can read all arguments from the attributes, and no argument is forgotten.

A subclass can have a constructor with `*args` and `**kwargs`. The signature of this constructor
does not show which arguments an object received. Therefore each object also remembers the arguments
with which it was made.

If an object cannot be restored, saving the object raises a `ValueError`. Some problems appear only
when the constructor runs again. In this case, loading the object raises the `ValueError`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Self

import keras
import numpy as np

_REMEMBERED = "_remembered"  # attribute of each object: the `_Remembered` of its constructor call
EXACT = "exact arguments"  # key of a configuration: arguments that JSON would change
OTHER = "other attributes"  # key of a configuration: attributes that are not arguments
_OF_LAYERS = ("name", "dtype", "trainable")  # arguments that each Keras layer has
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclasses.dataclass(frozen=True)
class _Remembered:
    """The arguments with which an object was constructed. The object stores them in an attribute.

    This class is a dataclass. If it were a `NamedTuple`, Keras would find the layers among the
    arguments, because Keras searches tuples for layers. Keras would then save these layers as parts
    of the attribute.
    """

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    policy: Any = None
    """The global dtype policy of Keras at the time of the call. None if it is not known."""


def remember_arguments(instance: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Store the arguments of a constructor call in the new object.

    When the object is saved, `constructor_arguments` reads the stored arguments. The classes of the
    package call this function in `__new__`, because `__new__` receives all arguments of the call.
    The `__init__` of a base class can receive other arguments, namely the arguments that a subclass
    passes to `super().__init__`.
    """
    remembered = _Remembered(args, kwargs, keras.config.dtype_policy())
    object.__setattr__(instance, _REMEMBERED, remembered)


# === The arguments of an object ===


def constructor_arguments(instance: object) -> dict[str, Any]:
    """Return a dictionary from the names of an object's constructor arguments to their values.

    The value of an argument is read from the attribute that has the same name. The dictionary also
    contains the arguments that the constructor received through `**kwargs`. If the constructor
    received arguments through `*args`, the dictionary contains a tuple of these arguments under the
    name `args`. The arguments `name`, `dtype` and `trainable` of a Keras layer are omitted.

    Raises:
        ValueError: If the constructor does not store an argument in the attribute of the same name.
    """
    cls = type(instance)
    parameters = _parameters(cls)
    passed, variable, extra = _passed(instance, parameters)
    names = {parameter.name for parameter in parameters}
    arguments: dict[str, Any] = {}
    missing = []
    for parameter in parameters:
        kept = vars(instance).get(parameter.name)
        if parameter.kind is parameter.VAR_POSITIONAL:
            if variable:
                arguments[parameter.name] = _variable_arguments(instance, kept, variable)
        elif parameter.kind is parameter.VAR_KEYWORD:
            for name, value in extra.items():
                if _is_of_layer(instance, name):
                    continue
                if name in names:
                    missing.append(name)
                elif isinstance(kept, dict) and name in kept:
                    arguments[name] = kept[name]
                elif _is_kept(instance, name, {name: value}):
                    arguments[name] = getattr(instance, name)
                else:
                    missing.append(name)
        elif _is_of_layer(instance, parameter.name):
            continue
        elif _is_kept(instance, parameter.name, passed):
            arguments[parameter.name] = getattr(instance, parameter.name)
        else:
            missing.append(parameter.name)
    if missing:
        raise ValueError(
            f"{cls.__name__} must keep each constructor argument in an attribute of the same name, "
            f"so that Keras can save it. Missing: {', '.join(missing)}."
        )
    return arguments


def constructor_call(instance: object) -> str:
    """Return Python code that makes an equal object, such as `"LatentL2(weight=0.5)"`."""
    arguments = constructor_arguments(instance)
    positional, by_name = _call(type(instance), arguments)
    listed = [repr(value) for value in positional]
    listed += [f"{name}={value!r}" for name, value in by_name.items()]
    return f"{type(instance).__name__}({', '.join(listed)})"


def _parameters(cls: type) -> list[inspect.Parameter]:
    """Return the parameters of the constructor of a class, without `self`."""
    if cls.__init__ is object.__init__:  # type: ignore[misc]
        return []
    return list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]


def _passed(
    instance: object, parameters: Sequence[inspect.Parameter]
) -> tuple[dict[str, Any], tuple[Any, ...], dict[str, Any]]:
    """Return the arguments with which an object was made.

    Args:
        instance: The object.
        parameters: Parameters of the constructor.

    Returns:
        Three groups of arguments, `(named, variable, extra)`. `named` is a dictionary from the
        names of parameters to their arguments. `variable` is the tuple of arguments that the
        constructor received through `*args`. `extra` is the dictionary of arguments that the
        constructor received through `**kwargs`. If the arguments are not known, all three groups
        are empty.
    """
    remembered = vars(instance).get(_REMEMBERED, _Remembered())
    try:
        bound = inspect.Signature(parameters).bind(*remembered.args, **remembered.kwargs)
    except TypeError:  # `__new__` was called without the arguments of `__init__`
        return {}, (), {}
    named = dict(bound.arguments)
    variable: tuple[Any, ...] = ()
    extra: dict[str, Any] = {}
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            variable = named.pop(parameter.name, ())
        if parameter.kind is parameter.VAR_KEYWORD:
            extra = named.pop(parameter.name, {})
    return named, variable, extra


def _is_kept(instance: object, name: str, passed: dict[str, Any]) -> bool:
    """Return whether an object stores a constructor argument in the attribute of the same name.

    Args:
        instance: The object.
        name: Name of the argument and of the attribute.
        passed: The arguments with which the object was made, by name.
    """
    if name in vars(instance):
        return True
    owner = next((base for base in type(instance).__mro__ if name in vars(base)), None)
    if owner is None or _is_foreign(owner) or inspect.isroutine(vars(owner)[name]):
        return False
    # A property or an attribute of the class can be another value than the argument.
    return name not in passed or _same(getattr(instance, name, None), passed[name])


def _variable_arguments(
    instance: object, kept: object, variable: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Find the current values of the arguments that a constructor received through `*args`.

    These values are saved with the object. If the attribute `args` of the object is a list or a
    tuple, it contains the values. Otherwise, the function assumes that the constructor passed
    `*args` to the constructor of its base class. Then the values are in other attributes, which
    have the names of the base class's arguments.

    Args:
        instance: The object.
        kept: Value of the attribute `args`, or None if the object has no attribute `args`. If the
            constructor has `*values` instead of `*args`, the attribute is `values`.
        variable: The arguments that the constructor received through `*args`.

    Raises:
        ValueError: If the function does not find the values in these attributes.
    """
    if isinstance(kept, (tuple, list)):
        return tuple(kept)
    names = _names_in_bases(type(instance))[: len(variable)]
    values = tuple(getattr(instance, name, None) for name in names)
    kept_by_bases = [
        name in vars(instance) and (argument is None or _same(argument, value))
        for name, argument, value in zip(names, variable, values, strict=False)
    ]
    if len(names) < len(variable) or not all(kept_by_bases):
        raise ValueError(
            f"{type(instance).__name__} cannot be saved, because its constructor received "
            f"arguments through `*args`: {variable!r}. Pass each of these arguments by name, or "
            "keep them in an attribute with the name of `args`."
        )
    return values


def _names_in_bases(cls: type) -> list[str]:
    """Return the names of the base-class parameters to which a constructor can pass its `*args`.

    For instance, if the base class has the constructor `__init__(self, units, rate)`, the names are
    `units` and `rate`. If the constructor of the base class also has a parameter `*args`, the
    function adds the names of the parameters of the next base class.
    """
    with_constructor = [base for base in cls.__mro__ if "__init__" in vars(base)]
    names: list[str] = []
    for base in with_constructor[1:]:
        if _is_foreign(base):
            break
        parameters = _parameters(base)
        names += [parameter.name for parameter in parameters if parameter.kind in _POSITIONAL]
        if all(parameter.kind is not parameter.VAR_POSITIONAL for parameter in parameters):
            break
    return names


def _is_foreign(cls: type) -> bool:
    """Return whether a class belongs to Python, Keras or TensorFlow."""
    return cls.__module__.split(".")[0] in ("abc", "builtins", "keras", "tensorflow", "typing")


def _is_of_layer(instance: object, name: str) -> bool:
    return name in _OF_LAYERS and isinstance(instance, keras.layers.Layer)


def _has_extra(cls: type) -> bool:
    """Return whether the constructor of a class accepts `**kwargs`."""
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in _parameters(cls))


def _is_of_this_package(cls: type) -> bool:
    """Return whether the constructor of a class is defined in keras_gen or in `object`."""
    owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
    return owner is object or owner.__module__.startswith("keras_gen.")


# === Configurations ===


def get_config(instance: object) -> dict[str, Any]:
    """Return the constructor arguments of an object by name, in Keras's serialized form.

    The function `from_config` makes an equal object from the result. Besides the names of the
    arguments, the result can contain two more keys. The value of the key `OTHER` is a dictionary of
    attributes that are not constructor arguments, but must also be saved. The value of the key
    `EXACT` is a dictionary of the arguments that JSON would change, such as tuples. The key `EXACT`
    is used only for classes outside this package.

    Raises:
        ValueError: If `from_config` could not make an equal object.
    """
    cls = type(instance)
    arguments = constructor_arguments(instance)
    _check_constructor(instance, arguments)
    config = {name: _serialized(instance, name, value) for name, value in arguments.items()}
    other = _other_attributes(instance, arguments)
    if isinstance(instance, keras.layers.Layer):
        of_layer = keras.layers.Layer.get_config(instance)
        accepted = {parameter.name for parameter in _parameters(cls)}
        accepted.update(_passed(instance, _parameters(cls))[2])
        if _is_of_this_package(cls) and _has_extra(cls):
            accepted.update(of_layer)
        config.update({name: of_layer[name] for name in of_layer if name in accepted})
        other.update({name: of_layer[name] for name in of_layer if name not in accepted})
        other.pop("dtype", None)
        if not _is_of_this_package(cls):
            policy = vars(instance).get(_REMEMBERED, _Remembered()).policy
            other["global dtype policy"] = keras.saving.serialize_keras_object(policy)
    if _is_of_this_package(cls):
        return {**config, OTHER: other} if other else config
    if _has_own_from_config(cls):
        return config
    exact = {name: _exact(value) for name, value in arguments.items() if _is_changed_by_json(value)}
    config = {name: value for name, value in config.items() if name not in exact}
    if exact:
        config[EXACT] = exact
    if other:
        config[OTHER] = other
    return config


def from_config(
    cls: type, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
) -> Any:
    """Make an object of a class from the result of `get_config`.

    Args:
        cls: The class.
        config: The result of `get_config`.
        custom_objects: Dictionary from names to the classes and functions that are not registered
            with Keras.

    Raises:
        ValueError: If the constructor does not store an argument unchanged in the attribute of the
            same name.
    """
    config = dict(config)
    exact = config.pop(EXACT, {})
    other = config.pop(OTHER, {})
    other = {name: _from_exact(value, custom_objects) for name, value in other.items()}
    arguments = {name: _deserialized(value, custom_objects) for name, value in config.items()}
    arguments.update({name: _from_exact(value, custom_objects) for name, value in exact.items()})
    with _global_dtype_policy(other.pop("global dtype policy", None)):
        instance = _construct(cls, arguments)
    for name, value in other.items():
        if not _same(getattr(instance, name, None), value):
            setattr(instance, name, value)
    _check_restored(instance, arguments)
    return instance


def _construct(cls: type, arguments: dict[str, Any]) -> Any:
    """Call the constructor of a class with the result of `constructor_arguments`."""
    positional, by_name = _call(cls, arguments)
    return cls(*positional, **by_name)


def _call(cls: type, arguments: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Divide constructor arguments into positional arguments and keyword arguments.

    Args:
        cls: The class of the constructor.
        arguments: The constructor arguments by name, from `constructor_arguments`.

    Returns:
        `(positional, by_name)`, so that `cls(*positional, **by_name)` passes all
        `arguments` to the constructor.
    """
    by_name = dict(arguments)
    parameters = _parameters(cls)
    kinds = {each.kind: each.name for each in parameters}
    has_variable = kinds.get(inspect.Parameter.VAR_POSITIONAL) in arguments
    positional: list[Any] = []
    for parameter in parameters:
        by_position = parameter.kind is parameter.POSITIONAL_ONLY
        by_position |= has_variable and parameter.kind in _POSITIONAL
        if by_position and (parameter.name in by_name or has_variable):
            positional.append(by_name.pop(parameter.name, parameter.default))
        if parameter.kind is parameter.VAR_POSITIONAL:
            positional.extend(by_name.pop(parameter.name, ()))
    return positional, by_name


def _check_constructor(instance: object, arguments: dict[str, Any]) -> None:
    """Check that a constructor stores each argument unchanged in the attribute of the same name.

    If an attribute differs from the argument that was passed, there are two possible reasons.
    Either the constructor changed the argument, or the user changed the attribute later. To find
    the reason, the function passes the attributes to the constructor again. If an attribute differs
    again, the constructor is the reason.

    A `keras.Model` is not checked, because making another model takes long. If the constructor of a
    model changes an argument, loading the model raises the error.

    Raises:
        ValueError: If the constructor changes an argument, or does not accept an attribute.
    """
    if isinstance(instance, keras.Model):
        return  # making another model takes long; `_check_restored` finds the error later
    named, _, extra = _passed(instance, _parameters(type(instance)))
    changed = [
        name
        for name, value in {**named, **extra}.items()
        if name in arguments and _is_plain(value) and not _same(value, arguments[name])
    ]
    if changed:
        try:
            second = _construct(type(instance), arguments)
        except Exception as error:
            raise ValueError(
                f"{type(instance).__name__} cannot be saved, because its constructor does not "
                f"accept the attribute {changed[0]}={arguments[changed[0]]!r} ({error}). Keep the "
                f"argument itself in the attribute `{changed[0]}`, and computed values in other "
                "attributes."
            ) from error
        _check_restored(second, arguments)


def _check_restored(instance: object, arguments: dict[str, Any]) -> None:
    """Check that the constructor of a new object stored each argument unchanged.

    Only arguments that consist of numbers, strings, None and arrays are compared.

    Raises:
        ValueError: If an attribute differs from the argument of the same name.
    """
    try:
        kept = constructor_arguments(instance)
    except ValueError:  # the class has a `get_config` of its own
        return
    for name, value in arguments.items():
        if name in kept and _is_plain(value) and not _same(kept[name], value):
            raise ValueError(
                f"{type(instance).__name__} cannot be restored, because its constructor does not "
                f"keep `{name}` unchanged. The constructor received {name}={value!r}, and the "
                f"attribute is {kept[name]!r}. Keep the argument itself in the attribute "
                f"`{name}`, and computed values in other attributes."
            )


def _other_attributes(instance: object, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return attributes that must be saved besides the constructor arguments, in serialized form.

    For instance, the base class of a model can have a constructor argument `seed` that the class of
    the model does not have. The object stores the seed in an attribute, and this attribute is
    returned. If the class defines a public attribute, and the object has its own value of this
    attribute, this value is also returned. Attributes that cannot be serialized are omitted. The
    attributes in `computed_attributes` of the class are also omitted, because the constructor
    computes them from its arguments. The attributes in `compile_arguments` are also omitted,
    because Keras saves the arguments of `compile` separately.

    Args:
        instance: The object.
        arguments: The constructor arguments of the object by name. They are not returned.
    """
    names: dict[str, None] = {}
    for base in type(instance).__mro__:
        if _is_foreign(base):
            continue
        if "__init__" in vars(base):
            parameters = _parameters(base)
            named = [each for each in parameters if each.kind is not each.VAR_KEYWORD]
            names.update(dict.fromkeys(each.name for each in named))
        data = [name for name, value in vars(base).items() if _is_data(name, value)]
        names.update(dict.fromkeys(data))
    of_compile = getattr(instance, "compile_arguments", ())
    computed = getattr(instance, "computed_attributes", ())
    attributes = {
        name: vars(instance)[name]
        for name in names
        if name in vars(instance) and name not in (*arguments, *_OF_LAYERS, *of_compile, *computed)
    }
    return {
        name: _exact(value)
        for name, value in attributes.items()
        if _is_plain(value) or isinstance(value, (Serializable, SerializableLayer))
    }


def _is_data(name: str, value: object) -> bool:
    """Return whether an attribute of a class is public, and neither a method nor a property.

    If such an attribute is set on an object, it is saved with the object.
    """
    return not name.startswith("_") and not hasattr(value, "__get__")


def _has_own_from_config(cls: type) -> bool:
    """Return whether the method `from_config` of a class was defined outside keras_gen."""
    owner = next(base for base in cls.__mro__ if "from_config" in vars(base))
    return not owner.__module__.startswith("keras_gen.")


@contextlib.contextmanager
def _global_dtype_policy(policy: Any) -> Iterator[None]:
    """Set the global dtype policy of Keras during a `with` block.

    Args:
        policy: The dtype policy. If None, the global dtype policy does not change.
    """
    present = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy(policy or present)
        yield
    finally:
        keras.config.set_dtype_policy(present)


# === Values ===
# Keras writes a configuration as JSON. JSON has no tuples, and only strings as keys.


def _serialized(instance: object, name: str, value: Any) -> Any:
    """Return the argument `name` of an object in Keras's serialized form."""
    try:
        if inspect.isroutine(value) and not inspect.isfunction(value):
            raise TypeError("a method or a built-in function has no serialized form")
        return keras.saving.serialize_keras_object(value)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"`{name}` of {type(instance).__name__} cannot be saved. Expected a number, a string, "
            "None, a list, a tuple, a dictionary, an array, or an object with a method "
            f"`get_config`. Received: {name}={value!r}. {error}"
        ) from error


def _deserialized(value: Any, custom_objects: dict[str, Any] | None) -> Any:
    """Restore a value from the result of `_serialized`."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    return keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)


def _exact(value: Any) -> Any:
    """Serialize a value in a form from which `_from_exact` can restore the value exactly.

    In contrast to Keras's serialized form, this form distinguishes tuples from lists, and it allows
    dictionary keys that are not strings.
    """
    if isinstance(value, tuple):
        return {"class_name": "__tuple__", "config": [_exact(item) for item in value]}
    if isinstance(value, list):
        return [_exact(item) for item in value]
    if isinstance(value, dict):
        items = [[_exact(key), _exact(item)] for key, item in value.items()]
        return {"class_name": "__items__", "config": items}
    return keras.saving.serialize_keras_object(value)


def _from_exact(value: Any, custom_objects: dict[str, Any] | None) -> Any:
    """Restore a value from the result of `_exact`."""
    if isinstance(value, list):
        return [_from_exact(item, custom_objects) for item in value]
    if isinstance(value, dict) and value.get("class_name") == "__tuple__":
        return tuple(_from_exact(item, custom_objects) for item in value["config"])
    if isinstance(value, dict) and value.get("class_name") == "__items__":
        return dict(_from_exact(value["config"], custom_objects))
    return _deserialized(value, custom_objects)


def _is_changed_by_json(value: Any) -> bool:
    """Return whether a value changes when Keras writes the value as JSON and reads it again.

    Three kinds of values change: tuples, dictionaries with a key that is not a string, and
    dictionaries with the key `class_name`. A list or dictionary that contains such a value also
    changes.
    """
    if isinstance(value, dict):
        keys_are_strings = all(isinstance(key, str) for key in value)
        like_an_object = "class_name" in value
        return (
            not keys_are_strings or like_an_object or any(map(_is_changed_by_json, value.values()))
        )
    if isinstance(value, list):
        return any(map(_is_changed_by_json, value))
    return isinstance(value, tuple)


def _is_plain(value: Any) -> bool:
    """Return whether a value is a number, a string, None, an array, or a collection of these."""
    if isinstance(value, dict):
        return all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, bytes, int, float, np.generic, np.ndarray))


def _same(a: Any, b: Any) -> bool:
    """Return whether two values are equal. A list and a tuple with equal items count as equal.

    NaN counts as equal to NaN. Two objects of the classes `Serializable` and `SerializableLayer`
    count as equal if they have the same class and the same `repr`. Other objects, such as functions
    and Keras models, count as equal only if they are the same object.
    """
    if a is b:
        return True
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, (Serializable, SerializableLayer)):
        return type(a) is type(b) and repr(a) == repr(b)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return _is_plain(a) and _is_plain(b) and (a == b or (a != a and b != b))


# === Base classes ===


class Serializable:
    """The base class of losses, objectives and other objects that Keras can save.

    The constructor of a subclass must store each argument in the attribute of the same name. Keras
    can load objects of your own subclass if you decorate the subclass with
    `keras.saving.register_keras_serializable()`.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make an object that remembers the arguments of its constructor."""
        instance = super().__new__(cls)
        remember_arguments(instance, args, kwargs)
        return instance

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments by name, in Keras's serialized form.

        Raises:
            ValueError: If the object cannot be restored from its arguments and attributes.
        """
        return get_config(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make an object from the result of `get_config`."""
        return from_config(cls, config)

    def __repr__(self) -> str:
        """Return the constructor call that makes an equal object."""
        return constructor_call(self)


class SerializableLayer(keras.layers.Layer):
    """The base class of layers that Keras saves by their constructor arguments.

    A subclass must store each constructor argument unchanged in an attribute of the same name. It
    must make its weights in the constructor, or in a method `build`.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`: `name`, `dtype` and `trainable`. The
            constructor of a subclass does not need to accept them.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make a layer that remembers the arguments of its constructor."""
        instance = super().__new__(cls, *args, **kwargs)
        remember_arguments(instance, args, kwargs)
        return instance

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.built = type(self).build is keras.layers.Layer.build

    def add_weight(self, *args: Any, dtype: Any = None, **kwargs: Any) -> keras.Variable:
        """Add a weight to the layer, like `keras.layers.Layer.add_weight`.

        The default dtype of a weight is float32, because distributions are computed in float32. The
        dtype policy of Keras, such as mixed precision, has no influence on this default.
        """
        return super().add_weight(*args, dtype=dtype or "float32", **kwargs)

    def get_build_config(self) -> None:
        """Return None, so that Keras does not call `build` when it loads the layer."""

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments by name, in Keras's serialized form.

        The result also contains arguments of `keras.layers.Layer`, such as `name`.

        Raises:
            ValueError: If the layer cannot be restored from the result. A possible reason is that
                the constructor does not store an argument in the attribute of the same name.
        """
        return get_config(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Make a layer from the result of `get_config`."""
        return from_config(cls, config)

    def __repr__(self) -> str:
        """Return the constructor call that makes an equal layer."""
        return constructor_call(self)
