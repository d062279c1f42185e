"""Generative models for Keras 3: regularized autoencoders, variational autoencoders and GANs.

`import keras_gen` alone imports neither Keras nor TensorFlow. A public name, such as `VAE`, is
imported at its first use. As soon as a program has imported both keras_gen and Keras, the classes
of keras_gen are registered with Keras. Then `keras.saving.load_model` can load models that use
these classes.
"""

import importlib
import pathlib
import sys
import types
from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:
    from keras_gen import (
        augmentations,
        data,
        distributions,
        evaluation,
        losses,
        networks,
        objectives,
        regularizers,
        runs,
        serving,
        sklearn,
    )
    from keras_gen.fitting import CheckpointError, Checkpoints, NonFiniteError, WorkerLostError
    from keras_gen.models import (
        GAN,
        VAE,
        AutoencoderEnsemble,
        GenerativeModel,
        HierarchicalVAE,
        RegularizedAutoencoder,
        VectorQuantizedAutoencoder,
    )

__version__ = "0.1.0"
__all__ = [
    "GAN",
    "VAE",
    "AutoencoderEnsemble",
    "CheckpointError",
    "Checkpoints",
    "GenerativeModel",
    "HierarchicalVAE",
    "NonFiniteError",
    "RegularizedAutoencoder",
    "VectorQuantizedAutoencoder",
    "WorkerLostError",
    "augmentations",
    "data",
    "distributions",
    "evaluation",
    "losses",
    "networks",
    "objectives",
    "regularizers",
    "runs",
    "serving",
    "sklearn",
]

_FROM_FITTING = ("CheckpointError", "Checkpoints", "NonFiniteError", "WorkerLostError")
_WITH_CLASSES = (
    "keras_gen._columns",
    "keras_gen.data",
    "keras_gen.networks",
    "keras_gen.distributions",
    "keras_gen.losses",
    "keras_gen.augmentations",
    "keras_gen.regularizers",
    "keras_gen.objectives",
    "keras_gen.models",
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'keras_gen' has no attribute {name!r}")
    if name.islower():
        return _import(f"keras_gen.{name}")
    module = "keras_gen.fitting" if name in _FROM_FITTING else "keras_gen.models"
    return getattr(_import(module), name)


def _import(module: str) -> types.ModuleType:
    """Import a module, without garbage collections if TensorFlow is not imported yet."""
    if "tensorflow" in sys.modules:
        return importlib.import_module(module)
    from keras_gen._startup import paused_garbage_collector

    with paused_garbage_collector():
        return importlib.import_module(module)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _modules() -> list[str]:
    """Return the names of all modules of this package, except for the package itself."""
    folder = pathlib.Path(__file__).parent
    files = (path.relative_to(folder).with_suffix("") for path in folder.rglob("*.py"))
    names = {".".join(("keras_gen", *file.parts)).removesuffix(".__init__") for file in files}
    return sorted(names - {"keras_gen"})


def _register_classes(module: types.ModuleType) -> None:
    """Register all classes of keras_gen with Keras, by importing the modules in `_WITH_CLASSES`.

    The library wrapt calls this function each time the import of Keras, or of a module of
    keras_gen, ends. The function does nothing before Keras is imported. It also does nothing while
    Keras or another module of keras_gen is still being imported. A module does not have all its
    names before its import ends, and the modules in `_WITH_CLASSES` could need the missing names.

    Args:
        module: The module whose import ends.
    """
    if "keras" not in sys.modules:
        return
    # Python sets `_initializing` while it imports a module.
    for name in ("keras", *_MODULES):
        other = sys.modules.get(name, module)
        if other is not module and getattr(other.__spec__, "_initializing", False):
            return
    for name in _WITH_CLASSES:
        importlib.import_module(name)


_MODULES = _modules()
for _name in ("keras", *_MODULES):
    wrapt.when_imported(_name)(_register_classes)
