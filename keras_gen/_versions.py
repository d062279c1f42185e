"""The versions that a run, a model card and the command line tell."""

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
    """The versions of keras_gen and of what it stands on, by package; nothing is imported for it."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}
