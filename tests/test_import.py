"""Importing the package: names come at their first use, classes are registered with Keras."""

import subprocess
import sys
import types

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


@pytest.mark.parametrize(
    ("started", "finished", "imports"),
    [
        ([], "keras", True),  # Keras itself was imported
        (["keras_gen.objectives"], "keras", False),  # by a module that is half imported
        (["keras_gen.objectives", "keras_gen.distributions"], "keras_gen.distributions", False),
        (["keras_gen.objectives", "keras_gen.distributions"], "keras_gen.objectives", True),
    ],
)
def test_classes_are_registered_after_the_outermost_import(started, finished, imports, monkeypatch):
    imported = []
    monkeypatch.setattr(keras_gen, "sys", types.SimpleNamespace(modules=dict.fromkeys(started)))
    spy = types.SimpleNamespace(import_module=imported.append)
    monkeypatch.setattr(keras_gen, "importlib", spy)
    keras_gen._register_classes(types.ModuleType(finished))
    assert imported == (list(keras_gen._WITH_CLASSES) if imports else [])


def test_public_names_are_there_and_others_are_not():
    for name in keras_gen.__all__:
        assert getattr(keras_gen, name) is not None
        assert name in dir(keras_gen)
    with pytest.raises(AttributeError, match="module 'keras_gen' has no attribute 'VQVAE'"):
        _ = keras_gen.VQVAE
