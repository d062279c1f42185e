"""The files that TensorFlow Serving itself is configured with: which models, and how requests are put together in batches."""

import pathlib
from typing import TYPE_CHECKING

from keras_gen._files import PathLike, atomic_write

if TYPE_CHECKING:
    from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

MODELS = "models.config"
BATCHING = "batching_parameters.txt"
MOUNTED_AT = "/models"  # where the server's image expects models


def read_server_config(folder: PathLike) -> "ModelServerConfig":
    """The `ModelServerConfig` of a folder of models, empty if there is none yet.

    Raises:
        ValueError: If its `models.config` cannot be read.
    """
    from google.protobuf import text_format
    from tensorflow_serving.config import model_server_config_pb2

    path, config = pathlib.Path(folder) / MODELS, model_server_config_pb2.ModelServerConfig()
    try:
        return text_format.Parse(path.read_text(), config) if path.is_file() else config
    except text_format.ParseError as error:
        raise ValueError(
            f"Expected {path} as a ModelServerConfig. Received one with a mistake: {error}. Mend or remove it."
        ) from error


def write_server_config(folder: PathLike) -> None:
    """Write `models.config` for all models below a folder and, where there is none, `batching_parameters.txt`.

    Models that the file names already keep what it says of them: versions, labels, paths.

    Args:
        folder: Folder of the models, such as `savedmodels`, that the server sees as `/models`.
    """
    from google.protobuf import text_format

    folder, config = pathlib.Path(folder), read_server_config(folder)
    known = {model.name for model in config.model_config_list.config}
    versioned = {
        path.parent.name for path in folder.glob("*/*") if path.name.isdecimal() and path.is_dir()
    }
    for name in sorted(versioned - known):
        config.model_config_list.config.add(
            name=name, base_path=f"{MOUNTED_AT}/{name}", model_platform="tensorflow"
        )
    if versioned - known:
        with atomic_write(folder / MODELS) as unfinished:
            unfinished.write_text(text_format.MessageToString(config))
    if not (folder / BATCHING).exists():
        with atomic_write(folder / BATCHING) as unfinished:
            unfinished.write_text(_BATCHING)


_BATCHING = """# tensorflow_model_server --enable_batching --batching_parameters_file=/models/batching_parameters.txt
# Rows of several requests are computed together: up to this many,
max_batch_size { value: 128 }
# waiting for others no longer than this.
batch_timeout_micros { value: 1000 }
# Batches computed at the same time: the number of cores.
num_batch_threads { value: 2 }
# Batches that may wait before requests are refused as UNAVAILABLE.
max_enqueued_batches { value: 1000 }
"""
