"""Generative models for Keras 3: regularized autoencoders, variational autoencoders and GANs.

The package registers its classes with Keras, so that `keras.saving.load_model` finds them.
`import keras_gen` alone imports neither Keras nor TensorFlow. A public name is imported at its
first use. The classes are registered as soon as the program has imported Keras, too.
"""

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:
    from keras_gen import (
        data,
        distributions,
        evaluation,
        losses,
        networks,
        objectives,
        regularizers,
        runs,
        serving,
    )
    from keras_gen.fitting import CheckpointError, Checkpoints, NonFiniteError, WorkerLostError
    from keras_gen.models import GAN, VAE, GenerativeModel, RegularizedAutoencoder

__version__ = "0.1.0"
__all__ = [
    "GAN",
    "VAE",
    "CheckpointError",
    "Checkpoints",
    "GenerativeModel",
    "NonFiniteError",
    "RegularizedAutoencoder",
    "WorkerLostError",
    "data",
    "distributions",
    "evaluation",
    "losses",
    "networks",
    "objectives",
    "regularizers",
    "runs",
    "serving",
]

_FROM_FITTING = ("CheckpointError", "Checkpoints", "NonFiniteError", "WorkerLostError")
_WITH_CLASSES = (
    "keras_gen.networks",
    "keras_gen.distributions",
    "keras_gen.losses",
    "keras_gen.regularizers",
    "keras_gen.objectives",
    "keras_gen.models",
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'keras_gen' has no attribute {name!r}")
    if name.islower():
        return importlib.import_module(f"keras_gen.{name}")
    module = "keras_gen.fitting" if name in _FROM_FITTING else "keras_gen.models"
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _register_classes(module: types.ModuleType) -> None:
    """Import all modules in `_WITH_CLASSES` as soon as the outermost import has ended.

    `wrapt` calls this function after the import of Keras, and after the import of each module in
    `_WITH_CLASSES`. These imports can be nested, because a module imports other modules. The
    outermost import began first. So its module is the first module of `_WITH_CLASSES` in
    `sys.modules`. If `sys.modules` has no module of `_WITH_CLASSES`, it is the import of Keras.
    """
    outermost = next((name for name in sys.modules if name in _WITH_CLASSES), "keras")
    if module.__name__ == outermost:
        for name in _WITH_CLASSES:
            importlib.import_module(name)


for _name in ("keras", *_WITH_CLASSES):
    wrapt.when_imported(_name)(_register_classes)
