"""Write the configuration files of TensorFlow Serving.

The file `models.config` lists the models. The file `batching_parameters.txt` says how the server
combines several requests into one batch.
"""

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
# Largest number of rows per batch. The server combines rows of several requests in one batch.
max_batch_size { value: 128 }
# Longest time in microseconds that the first request of a batch waits for other requests.
batch_timeout_micros { value: 1000 }
# Number of batches that are computed at the same time. Set it to the number of cores.
num_batch_threads { value: 2 }
# Largest number of waiting batches. Further requests get the error UNAVAILABLE.
max_enqueued_batches { value: 1000 }
"""


def read_server_config(folder: PathLike) -> ModelServerConfig:
    """Read the list of models of TensorFlow Serving from the file `models.config` in a folder.

    If the file does not exist, the function returns an empty list of models.

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
        return text_format.Parse(path.read_text("utf-8"), config)
    except text_format.ParseError as error:
        raise ValueError(
            f"{path} must hold a valid ModelServerConfig in protobuf text format. "
            f"Received: an invalid file, {error}. Correct the file or remove the file."
        ) from error


def write_server_config(folder: PathLike) -> None:
    """Add the models of a folder to `models.config`, and write `batching_parameters.txt`.

    TensorFlow Serving reads both files, which are in `folder`. `models.config` lists the models.
    `batching_parameters.txt` says how the server combines requests into batches. Existing entries
    of `models.config` stay unchanged. An existing file `batching_parameters.txt` also stays
    unchanged.

    Args:
        folder: Folder of the models, such as `savedmodels`. In the configuration, the path of this
            folder is `/models`, as in the Docker image of the server.
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
            unfinished.write_text(text_format.MessageToString(config), encoding="utf-8")
    if not (folder / _BATCHING).exists():
        with atomic_write(folder / _BATCHING) as unfinished:
            unfinished.write_text(_BATCHING_PARAMETERS, encoding="utf-8")
