"""Find the installed versions of packages, for run folders, model cards and the command line."""

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
    """Return the versions of keras_gen and its main dependencies, as `{package: version}`.

    The function does not import the packages.
    """
    return {name: importlib.metadata.version(name) for name in _PACKAGES}
