"""Importing the package: names come at their first use, classes are registered with Keras."""

import importlib
import pkgutil
import subprocess
import sys
import types

import keras
import pytest

import keras_gen

REGISTERED = """
import keras
names = ("VAE", "GAN", "RegularizedAutoencoder", "R1", "ELBO", "Contractive", "VampPrior")
print([name for name in names if keras.saving.get_registered_object(f"keras_gen>{name}") is None])
"""


@pytest.mark.parametrize(
    "program",
    [
        "import keras_gen, sys\nassert not {'keras', 'tensorflow'} & set(sys.modules)",
        "import keras, keras_gen",
        "import keras_gen.objectives",
        "import keras_gen.distributions.posteriors",
        "from keras_gen import VAE",
    ],
)
def test_any_import_registers_all_classes(program):
    command = [sys.executable, "-c", program + REGISTERED]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout == "[]\n", ended.stderr


def test_libraries_that_are_slow_to_import_are_imported_when_they_are_used():
    program = """
import sys, tensorflow, keras
before = {name.split(".")[0] for name in sys.modules}
import keras_gen
slow = {"matplotlib", "pandas", "sklearn", "tensorflow_datasets", "tensorflow_probability"}
print(sorted({name.split(".")[0] for name in sys.modules} & slow - before))
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stdout == "[]\n", ended.stderr


def half_imported(name, initializing):
    module = types.ModuleType(name)
    module.__spec__ = types.SimpleNamespace(_initializing=initializing)
    return module


@pytest.mark.parametrize(
    ("unfinished", "finished", "imports"),
    [
        ([], "keras", True),  # Keras itself was imported
        (["keras_gen.objectives"], "keras", False),  # by a module that is half imported
        (["keras_gen._compat"], "keras", False),  # by one without classes
        (["keras_gen.objectives"], "keras_gen.distributions", False),
        ([], "keras_gen.objectives", True),
        (["keras"], "keras_gen.objectives", False),
    ],
)
def test_classes_are_registered_after_the_outermost_import(
    unfinished, finished, imports, monkeypatch
):
    imported = []
    names = ["keras", "keras_gen.distributions", *unfinished]
    modules = {name: half_imported(name, name in unfinished) for name in names}
    last = modules.setdefault(finished, half_imported(finished, True))
    last.__spec__._initializing = True  # the import system calls while it ends
    monkeypatch.setattr(keras_gen, "sys", types.SimpleNamespace(modules=modules))
    spy = types.SimpleNamespace(import_module=imported.append)
    monkeypatch.setattr(keras_gen, "importlib", spy)
    keras_gen._register_classes(last)
    assert imported == (list(keras_gen._WITH_CLASSES) if imports else [])


def test_nothing_is_imported_before_keras(monkeypatch):
    modules = {"keras_gen.cli": half_imported("keras_gen.cli", True)}
    monkeypatch.setattr(keras_gen, "sys", types.SimpleNamespace(modules=modules))
    monkeypatch.setattr(keras_gen, "importlib", None)
    keras_gen._register_classes(modules["keras_gen.cli"])


@pytest.fixture
def not_imported():
    """Let neither Keras nor keras_gen be imported, and bring both back after the test."""
    names = [name for name in sys.modules if name == "keras" or name.split(".")[0] == "keras_gen"]
    modules = {name: sys.modules.pop(name) for name in names}
    classes = dict(keras.saving.get_custom_objects())
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "keras_gen"]:
        del sys.modules[name]
    sys.modules.update(modules)
    keras.saving.get_custom_objects().update(classes)


def check_first_import(name):
    """Import a module, and check that the classes of this import are registered with Keras."""
    importlib.import_module(name)
    for path in ("keras_gen.models.VAE", "keras_gen.losses.R1", "keras_gen.objectives.ELBO"):
        module, _, cls = path.rpartition(".")
        registered = importlib.import_module("keras").saving.get_registered_object
        assert registered(f"keras_gen>{cls}") is getattr(sys.modules[module], cls)


@pytest.mark.usefixtures("not_imported")
@pytest.mark.parametrize("name", ["keras_gen._compat", "keras_gen.serving"])
def test_a_module_without_classes_can_be_imported_first(name):
    check_first_import(name)


MODULES = [name for name in keras_gen._modules() if not name.endswith("__main__")]


@pytest.mark.usefixtures("not_imported")
@pytest.mark.parametrize("name", MODULES)
def test_every_module_can_be_imported_first(name):
    check_first_import(name)


def test_all_modules_are_known():
    """A module that is not known could be imported first, and then fail."""
    found = pkgutil.walk_packages(keras_gen.__path__, "keras_gen.")
    assert keras_gen._modules() == sorted(module.name for module in found)


def test_public_names_are_there_and_others_are_not():
    for name in keras_gen.__all__:
        assert getattr(keras_gen, name) is not None
        assert name in dir(keras_gen)
    with pytest.raises(AttributeError, match="module 'keras_gen' has no attribute 'VQVAE'"):
        _ = keras_gen.VQVAE
