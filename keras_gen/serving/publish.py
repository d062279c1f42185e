"""Publish a model: write and verify its next version, which TensorFlow Serving then loads."""

import json
import os
import pathlib
from collections.abc import Sequence

import tensorflow as tf

from keras_gen._export import write_saved_model
from keras_gen._files import (
    UNFINISHED,
    PathLike,
    atomic_write,
    folder_lock,
    remove,
    write_checksums,
)
from keras_gen.models.base import GenerativeModel
from keras_gen.networks._checks import UNKNOWN_NUMBER
from keras_gen.serving.model_card import write_card
from keras_gen.serving.server_config import read_server_config, write_server_config
from keras_gen.serving.verify import CHECKSUMS, verify
from keras_gen.serving.warm_up import write_records

CLASSES = "assets.extra/classes.json"
"""Path of the class names inside the folder of a SavedModel, a JSON list."""


class PublishError(RuntimeError):
    """A model could not be published. Earlier versions of the model are unchanged."""


def publish(
    model: GenerativeModel,
    base: PathLike,
    png: bool = False,
    card: str = "",
    class_names: Sequence[str] | None = None,
) -> pathlib.Path:
    """Export a model as the next version in `base`, the folder that TensorFlow Serving watches.

    The server loads every folder in `base` whose name is an integer. Therefore this function first
    writes to a folder whose name is not an integer. It writes the SavedModel, a model card,
    checksums, and warm-up requests. A warm-up request is an example request that the server runs
    when it loads the model. Then the function verifies that the SavedModel gives the same answers
    as the Keras model. Finally, it renames the folder to the version number. Earlier versions stay
    unchanged.

    The function also updates two configuration files of the server in the parent folder of `base`:
    `models.config` and `batching_parameters.txt`.

    If the process is killed, a folder `base/unfinished-…` may remain. The server ignores this
    folder, and the next call of `publish` removes the folder.

    Args:
        model: A keras_gen model.
        base: Folder of the model's versions, such as `savedmodels/vae`.
        png: Whether to add a signature `NAME_bytes` for each signature `NAME` of the SavedModel. A
            signature is a function that the server offers. The signature `NAME_bytes` receives and
            returns images as PNG files. Default: False.
        card: Markdown text for the section "Training" of the model card, for instance the settings
            and the final metrics. Default: no text, and no such section.
        class_names: Name of each class of a conditional model. The label k stands for
            `class_names[k]`. The names are written into the model card, and into the file
            `assets.extra/classes.json`. A model that is not conditional ignores the names. Default:
            None, no names.

    Returns:
        Path of the new version, `base/<next integer>`.

    Raises:
        ValueError: If `model` is not a keras_gen model, or if `base` is a file. If `png` is True
            and the data are not images with values in [0, 1]. If the file `models.config` in the
            parent folder of `base` is invalid. If the number of `class_names` is not the number of
            classes.
        PublishError: If the version cannot be written, or if its verification fails.
    """
    _check_model(model)
    names = _checked_class_names(model, class_names)
    base = pathlib.Path(base)
    if base.exists() and not base.is_dir():
        raise ValueError(
            f"`base` must be the folder of a model's versions. Received: {base}, which is a file. "
            "Choose another folder."
        )
    endpoints = model.endpoints(png)
    models = base.resolve().parent
    read_server_config(models)  # an invalid file raises an error before any work
    base.mkdir(parents=True, exist_ok=True)
    with folder_lock(base):
        for left_over in base.glob(f"{UNFINISHED}*"):
            remove(left_over)
        version = base / str(_newest_version(base) + 1)
        with atomic_write(version) as unfinished:
            name = base.resolve().name
            try:
                write_saved_model(endpoints, unfinished)
                exchanges = write_records(endpoints, model, unfinished)
                write_card(model, unfinished, name, version.name, exchanges, card, names)
                if names:
                    path = unfinished / CLASSES
                    path.write_text(json.dumps(names, ensure_ascii=False), encoding="utf-8")
                write_checksums(unfinished, CHECKSUMS)
            except (OSError, tf.errors.OpError) as error:
                raise PublishError(
                    f"Writing version {version.name} of {name} failed: {error}. No version was "
                    "published. Is the disk full?"
                ) from error
            problems = verify(unfinished).problems
            if problems:
                raise PublishError(
                    f"Verifying version {version.name} of {name} failed: {'; '.join(problems)}. "
                    "No version was published."
                )
        with folder_lock(models):
            write_server_config(models)
    return version


def _check_model(model: object) -> None:
    """Raise a `ValueError` if `model` is not a keras_gen model."""
    if isinstance(model, GenerativeModel):
        return
    advice = ""
    if isinstance(model, (str, os.PathLike)):
        call = f"keras_gen.runs.RunFolder({os.fspath(model)!r}).load_model()"
        advice = f" Load the model first: `{call}`."
    raise ValueError(f"`model` must be a keras_gen model. Received: {model!r}.{advice}")


def _checked_class_names(
    model: GenerativeModel, class_names: Sequence[str] | None
) -> list[str] | None:
    """Return the class names as a list, or None if no names are given.

    If the model is not conditional, the names are ignored, and the result is None. If the number of
    classes of a conditional model is not known, any number of names is accepted.

    Raises:
        ValueError: If the number of names is not the number of classes.
    """
    if class_names is None or not model.num_classes:
        return None
    names = [*map(str, class_names)]
    if model.num_classes not in (len(names), UNKNOWN_NUMBER):
        raise ValueError(
            f"`class_names` must contain {model.num_classes} names, one per class of the model. "
            f"Received: {len(names)} names, {names}."
        )
    return names


def _newest_version(base: pathlib.Path) -> int:
    """Return the largest version number in `base`, or 0 if `base` contains no version."""
    versions = [int(folder.name) for folder in base.iterdir() if folder.name.isdecimal()]
    return max(versions, default=0)
