"""The configuration files of TensorFlow Serving: which models it serves, and how it batches."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING

from keras_gen._files import PathLike, atomic_write

if TYPE_CHECKING:
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

_MODELS = "models.config"
_BATCHING = "batching_parameters.txt"
_MOUNTED_AT = "/models"  # where the server's Docker image expects the models

_BATCHING_PARAMETERS = """\
# tensorflow_model_server --enable_batching \
--batching_parameters_file=/models/batching_parameters.txt
# The server computes the rows of several requests together, at most this number of rows.
max_batch_size { value: 128 }
# The first request waits at most this long for others.
batch_timeout_micros { value: 1000 }
# Number of batches that are computed at the same time: the number of cores.
num_batch_threads { value: 2 }
# Number of batches that may wait. The server refuses further requests as UNAVAILABLE.
max_enqueued_batches { value: 1000 }
"""


def read_server_config(folder: PathLike) -> ModelServerConfig:
    """Return the `ModelServerConfig` of a folder of models, empty if there is no `models.config`.

    Args:
        folder: Folder of the models, such as `savedmodels`.

    Raises:
        ValueError: If `models.config` is invalid.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    path = pathlib.Path(folder) / _MODELS
    config = model_server_config_pb2.ModelServerConfig()
    if not path.is_file():
        return config
    try:
        return text_format.Parse(path.read_text(), config)
    except text_format.ParseError as error:
        raise ValueError(
            f"{path} must hold a valid ModelServerConfig in protobuf text format. "
            f"Received an invalid one: {error}. Correct the file or remove it."
        ) from error


def write_server_config(folder: PathLike) -> None:
    """Add the models of a folder to `models.config`, and write `batching_parameters.txt` once.

    Entries that `models.config` already has keep their versions, labels and paths. An existing
    `batching_parameters.txt` is not changed.

    Args:
        folder: Folder of the models, such as `savedmodels`, which the server sees as `/models`.
    """
    from google.protobuf import text_format

    folder = pathlib.Path(folder)
    config = read_server_config(folder)
    configured = {model.name for model in config.model_config_list.config}
    published = {
        path.parent.name for path in folder.glob("*/*") if path.name.isdecimal() and path.is_dir()
    }
    for name in sorted(published - configured):
        config.model_config_list.config.add(
            name=name, base_path=f"{_MOUNTED_AT}/{name}", model_platform="tensorflow"
        )
    if published - configured:
        with atomic_write(folder / _MODELS) as unfinished:
            unfinished.write_text(text_format.MessageToString(config))
    if not (folder / _BATCHING).exists():
        with atomic_write(folder / _BATCHING) as unfinished:
            unfinished.write_text(_BATCHING_PARAMETERS)
