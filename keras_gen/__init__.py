"""Generative models for Keras 3: regularized autoencoders, variational autoencoders and GANs.

Importing the package registers its classes with Keras, so that `keras.saving.load_model` finds
them. Neither Keras nor TensorFlow is imported before it is needed: public names are imported at
their first use, and the classes are registered as soon as Keras is imported.
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
    """Import all modules with classes that Keras saves, once none of them is half-imported.

    `wrapt` calls this after the import of Keras and of each of these modules. The outermost import
    is that of the first of them in `sys.modules`, or that of Keras if there is none.
    """
    outermost = next((name for name in sys.modules if name in _WITH_CLASSES), "keras")
    if module.__name__ == outermost:
        for name in _WITH_CLASSES:
            importlib.import_module(name)


for _name in ("keras", *_WITH_CLASSES):
    wrapt.when_imported(_name)(_register_classes)
