"""Default values of the arguments of all functions, and records that cannot be changed.

`interface.txt` lists the default values, so that none of them changes by accident. After an
intended change, write the file again with the command `python tests/test_interface.py`.
"""

import dataclasses
import importlib
import inspect
import pathlib

import pytest

import keras_gen

FILE = pathlib.Path(__file__).with_name("interface.txt")
SPECIAL = ("__init__", "__new__", "__call__")
MUTABLE = {"_Moments", "RowsFile"}
"""Names of the records that their own methods change."""


def modules():
    """Return all modules of the package, except the one that runs the command line."""
    names = [name for name in keras_gen._modules() if not name.endswith("__main__")]
    return [importlib.import_module(name) for name in names]


def classes(module):
    """Return the classes that a module defines, the private ones included."""
    found = [value for value in vars(module).values() if inspect.isclass(value)]
    return [cls for cls in found if cls.__module__ == module.__name__]


def functions(module):
    """Return `{name: function}` for the public functions and methods that a module defines."""
    found = {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }
    for cls in classes(module):
        for name, value in vars(cls).items():
            method = getattr(value, "__func__", value)  # the function of a class method
            if inspect.isfunction(method) and (not name.startswith("_") or name in SPECIAL):
                found[f"{cls.__qualname__}.{name}"] = method
    return found


def is_plain(value):
    """Return whether a default value is a number, a truth value, a text, or a tuple of these."""
    if isinstance(value, tuple):
        return all(map(is_plain, value))
    return isinstance(value, (bool, int, float, str))


def default_values():
    """Return one line per default value: the function, the argument and the value."""
    lines = []
    for module in modules():
        for name, function in functions(module).items():
            for parameter in inspect.signature(function).parameters.values():
                if is_plain(parameter.default):
                    call = f"{module.__name__}.{name}"
                    lines.append(f"{call} {parameter.name}={parameter.default!r}")
    return sorted(lines)


def test_default_values_do_not_change_by_accident():
    expected = set(FILE.read_text(encoding="utf-8").splitlines())
    found = set(default_values())
    message = "After an intended change, run `python tests/test_interface.py`."
    assert found == expected, message


RECORDS = [cls for module in modules() for cls in classes(module) if dataclasses.is_dataclass(cls)]


@pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: f"{cls.__module__}.{cls.__qualname__}")
def test_records_cannot_be_changed_by_accident(cls):
    record = object.__new__(cls)
    name = dataclasses.fields(cls)[0].name
    if cls.__name__ in MUTABLE:
        setattr(record, name, 0)
        return
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, name, 0)


if __name__ == "__main__":
    FILE.write_text("\n".join(default_values()) + "\n", encoding="utf-8")
