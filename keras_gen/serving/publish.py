"""Publishing: the next version of a model, whole and verified before it is visible."""

import os
import pathlib

from keras_gen._files import (
    UNFINISHED,
    PathLike,
    atomic_write,
    folder_lock,
    remove,
    write_checksums,
)
from keras_gen.models.base import GenerativeModel
from keras_gen.runs.folder import load_run
from keras_gen.serving.model_card import write_card
from keras_gen.serving.server_config import read_server_config, write_server_config
from keras_gen.serving.verify import SUMS, verify
from keras_gen.serving.warm_up import write_records


class PublishError(RuntimeError):
    """A model could not be published; what was there before is as it was."""


def publish(
    model_or_run: GenerativeModel | PathLike, base: PathLike, png: bool = False
) -> pathlib.Path:
    """Export a model as the next version below `base`, the folder that TensorFlow Serving watches.

    The server loads whatever it sees under an integer name. So the SavedModel, its warm-up requests, model card and checksums are
    written beside, verified, and renamed once they are whole. Earlier versions stay as they are, whatever happens. What a killed
    process left, `base/unfinished-…`, no server looks at and the next call removes. Beside `base`, `models.config` and
    `batching_parameters.txt` are written for the server.

    Args:
        model_or_run: A keras_gen model, or the folder of a training run.
        base: Folder of the model's versions, such as `savedmodels/vae`.
        png: Offer each signature also as `NAME_bytes`, with images as PNG.

    Returns:
        Path of the new version, `base/<next integer>`.

    Raises:
        ValueError: If there is no model or finished run, `base` is a file, PNG is wanted for data that are no images, or the
            `models.config` beside `base` has a mistake.
        PublishError: If writing or verifying fails.
    """
    if not isinstance(model_or_run, (GenerativeModel, str, os.PathLike)):
        raise ValueError(
            f"Expected a keras_gen model or the folder of a run. Received: {model_or_run!r}"
        )
    base = pathlib.Path(base)
    if base.exists() and not base.is_dir():
        raise ValueError(
            f"Expected `base` as the folder of a model's versions. Received: {base}, which is a file."
        )
    run = None if isinstance(model_or_run, GenerativeModel) else pathlib.Path(model_or_run)
    model = load_run(run) if run else model_or_run
    models = base.resolve().parent
    read_server_config(models)  # before the work: one with a mistake is an error
    base.mkdir(parents=True, exist_ok=True)
    with folder_lock(base):
        for left_over in base.glob(f"{UNFINISHED}*"):
            remove(left_over)
        version = base / str(
            max(
                (int(folder.name) for folder in base.iterdir() if folder.name.isdecimal()),
                default=0,
            )
            + 1
        )
        with atomic_write(version) as unfinished:
            _write(model, unfinished, base.resolve().name, version.name, png, run)
        with folder_lock(models):
            write_server_config(models)
    return version


def _write(model, folder, name, version, png, run):
    import tensorflow as tf

    try:
        model.export(folder, png=png)
        exchanges = write_records(model, folder, png)
        write_card(model, folder, name, version, exchanges, run)
        write_checksums(folder, SUMS)
    except (OSError, tf.errors.OpError) as error:
        raise PublishError(
            f"{folder.parent} has no new version, since writing it failed: {error}. Is the disk full?"
        ) from error
    found = verify(folder)
    if found.problems:
        raise PublishError(
            f"{folder.parent} has no new version, since verifying it failed: {'; '.join(found.problems)}"
        )
