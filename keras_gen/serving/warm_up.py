"""Warm-up records: requests that TensorFlow Serving replays before it serves a version.

Each record also contains the answer of the Keras model to the request. The function `verify`
compares this answer with the answer of the SavedModel.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from keras_gen._columns import modeled_columns
from keras_gen._export_columns import decode_column, tensor_names
from keras_gen._files import PathLike
from keras_gen._typing import Endpoint
from keras_gen.models.base import GenerativeModel

Exchanges = dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]
"""Dictionary from the name of a signature to `(request, answer)`. A request is a dictionary from
the names of inputs to arrays. An answer is a dictionary from the names of outputs to arrays."""

RECORDS = "assets.extra/tf_serving_warmup_requests"
"""Path of the records inside the folder of a SavedModel. TensorFlow Serving requires this path."""

_ROWS = 3  # number of rows per request


def write_records(
    endpoints: Mapping[str, Endpoint], model: GenerativeModel, folder: PathLike
) -> Exchanges:
    """Write one request per signature, and the answer of the Keras model, into a SavedModel.

    A signature is a function that the server offers. When the server loads the model, it runs the
    requests and ignores the stored answers. The function `verify` compares the stored answers with
    the answers of the SavedModel.

    Args:
        endpoints: Dictionary from the name of each signature to `(function, specs)`. `specs` is a
            list with the `tf.TensorSpec` of each argument of the function.
        model: The model that was exported.
        folder: Folder of the SavedModel.

    Returns:
        Dictionary from the name of each signature to `(request, answer)`. The request maps the
        names of inputs to arrays. The answer maps the names of outputs to arrays.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    path = pathlib.Path(folder) / RECORDS
    path.parent.mkdir(exist_ok=True)
    exchanges = {}
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, (function, specs) in endpoints.items():
            inputs = {spec.name: _example(model, spec) for spec in specs}
            with tf.device("CPU"):  # like `verify`; a GPU may be less precise
                answers = function(*map(tf.constant, inputs.values()))
            outputs = {key: np.asarray(answers[key]) for key in sorted(answers)}
            exchanges[name] = inputs, outputs
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.name = model.name
            request.model_spec.signature_name = name
            _add_tensors(request.inputs, inputs)
            _add_tensors(log.predict_log.response.outputs, outputs)
            writer.write(log.SerializeToString())
    return exchanges


def _add_tensors(message: Any, tensors: dict[str, np.ndarray]) -> None:
    """Copy arrays into a protocol message that maps names to tensors."""
    for key, value in tensors.items():
        message[key].CopyFrom(tf.make_tensor_proto(value))


def _example(model: GenerativeModel, spec: tf.TensorSpec) -> np.ndarray:
    """Return an example batch for one input of a signature. `spec` describes this input."""
    random = np.random.default_rng(0)
    if spec.name == "seed":
        return np.arange(_ROWS, dtype=np.int64)
    if spec.name == "condition" and model.num_classes:
        return np.arange(_ROWS, dtype=np.int64) % model.num_classes
    if spec.dtype.is_integer:  # codes: each codebook has at least two vectors
        return random.integers(0, 2, (_ROWS, *spec.shape[1:]), spec.dtype.as_numpy_dtype)
    if spec.name == "latents":
        return random.standard_normal((_ROWS, *spec.shape[1:]), np.float32)
    if model.columns:
        return _example_of_table(model, spec)
    # Use integer grey levels, because a categorical likelihood accepts no other values.
    levels = random.integers(0, 256, (_ROWS, *model.data_shape), np.uint8)
    if spec.dtype == tf.string:
        return np.array([tf.io.encode_png(image).numpy() for image in levels], object)
    return np.float32(levels / 255).clip(model.data_check.low, model.data_check.high)


def _example_of_table(model: GenerativeModel, spec: tf.TensorSpec) -> np.ndarray:
    """Return an example batch for an input of an exported model of a table.

    The input takes either whole rows, or the entries of one column. The first row of the batch
    contains typical entries. In the other rows, all entries are missing.
    """
    modeled = modeled_columns(model.columns)
    rows = np.full((_ROWS, len(modeled)), np.nan, np.float32)
    rows[0] = [column.typical for column in modeled]
    if spec.name == "inputs":
        return rows
    index = tensor_names(modeled).index(spec.name)
    return np.asarray(decode_column(modeled[index], tf.constant(rows[:, index])))
