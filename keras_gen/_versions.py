"""The package versions that are reported in runs, in model cards and on the command line."""

import importlib.metadata

_PACKAGES = (
    "keras_gen",
    "tensorflow",
    "keras",
    "tensorflow-probability",
    "tensorflow-datasets",
    "numpy",
)


def versions() -> dict[str, str]:
    """Return the versions of keras_gen and of its main dependencies, without importing them."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}
