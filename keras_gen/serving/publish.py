"""Publishing: the next version of a model, complete before it is visible."""

import pathlib
import shutil


def publish(model, base):
    """Export `model` as the next version below `base`, the folder that TensorFlow Serving watches.

    The SavedModel is written beside and renamed once it is whole, since the server loads whatever it sees under an integer name.
    Earlier versions stay as they are.

    Args:
        model: A keras_gen model.
        base: Folder of the model's versions, such as `savedmodels/vae`.

    Returns:
        Path of the new version, `base/<next integer>`.
    """
    base = pathlib.Path(base)
    base.mkdir(parents=True, exist_ok=True)
    version = base / str(max((int(folder.name) for folder in base.iterdir() if folder.name.isdecimal()), default=0) + 1)
    unfinished = base / f"unfinished-{version.name}"
    try:
        model.export(unfinished)
        unfinished.rename(version)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return version
