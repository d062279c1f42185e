"""Trained models as they lie on disk."""

import pathlib

import keras

from keras_gen._files import PathLike
from keras_gen.models.base import GenerativeModel


def load_run(run: PathLike) -> GenerativeModel:
    """The trained model of a run.

    Args:
        run: Folder of the run, such as `runs/vae`.

    Raises:
        ValueError: If the folder holds no finished run.
    """
    path = pathlib.Path(run) / "model.keras"
    if not path.is_file():
        raise ValueError(
            f"Expected the folder of a finished run, with model.keras in it. Received: {run}"
        )
    return keras.saving.load_model(path)
