"""Every name without a leading underscore says what it takes and gives; whether that is true, mypy says in .ci/run."""

import importlib
import inspect
import pathlib
import pkgutil

import pytest

import keras_gen

HERE = str(pathlib.Path(keras_gen.__file__).parent)
MODULES = [name for _, name, _ in pkgutil.walk_packages(keras_gen.__path__, "keras_gen.")]


def public_functions(module):
    """The public functions of a module, and the public and special methods of its public classes and of their bases, as written."""
    found = {}
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        found[name] = value
        for kind in value.__mro__ if inspect.isclass(value) else ():
            for method, member in vars(kind).items():
                if not method.startswith("_") or method.endswith("__"):
                    member = (
                        member.fget
                        if isinstance(member, property)
                        else getattr(member, "__func__", member)
                    )
                    found[f"{kind.__name__}.{method}"] = member
    functions = {name: inspect.unwrap(value) for name, value in found.items() if callable(value)}
    return {
        name: each
        for name, each in functions.items()
        if inspect.isfunction(each) and each.__code__.co_filename.startswith(HERE)
    }


def unannotated(function):
    """The parameters of a function that have no annotation, and `return` if its result has none."""
    signature = inspect.signature(function)
    types = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if name not in ("self", "cls")
    }
    return [
        name
        for name, annotation in {**types, "return": signature.return_annotation}.items()
        if annotation is signature.empty
    ]


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_are_annotated(name):
    functions = public_functions(importlib.import_module(name))
    assert {
        path: unannotated(function) for path, function in functions.items() if unannotated(function)
    } == {}


def test_the_walk_finds_what_is_plain_decorated_or_inherited():
    found = {path for name in MODULES for path in public_functions(importlib.import_module(name))}
    assert found >= {
        "load",
        "atomic_write",
        "build",
        "VAE.encode",
        "DiagonalNormal.parameter_size",
        "Interval.of",
        "_Client.score",
    }
    assert unannotated(lambda x: x) == ["x", "return"]
