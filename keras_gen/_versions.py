"""The package versions that runs, model cards and the command line report."""

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
    """Return the versions of keras_gen and its main dependencies, without importing any of them."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}
