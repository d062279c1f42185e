"""Generative models for Keras 3: regularized autoencoders, variational autoencoders and GANs.

`import keras_gen` alone imports neither Keras nor TensorFlow. A public name, such as `VAE`, is
imported at its first use. As soon as a program has imported both keras_gen and Keras, the classes
of keras_gen are registered with Keras. Then `keras.saving.load_model` can load models that use
these classes.
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
    "keras_gen._columns",
    "keras_gen.data",
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
    """Register all classes of keras_gen with Keras, by importing the modules in `_WITH_CLASSES`.

    The library wrapt calls this function after the import of Keras, and after the import of each
    module in `_WITH_CLASSES`. These modules import each other. Therefore a call can happen while
    another of these imports is still running. The function ignores such calls. It acts only for the
    module in `_WITH_CLASSES` whose import started first. `sys.modules` lists modules in the order
    in which their imports started. If no module in `_WITH_CLASSES` was imported yet, the function
    acts for Keras.

    Args:
        module: The module that was imported.
    """
    outermost = next((name for name in sys.modules if name in _WITH_CLASSES), "keras")
    if module.__name__ == outermost:
        for name in _WITH_CLASSES:
            importlib.import_module(name)


for _name in ("keras", *_WITH_CLASSES):
    wrapt.when_imported(_name)(_register_classes)
