"""Warm-up records: requests that TensorFlow Serving replays before it serves a version, and what Keras answered to them."""

import pathlib

import numpy as np
import tensorflow as tf

from keras_gen._export import endpoints
from keras_gen._files import PathLike
from keras_gen.models.base import GenerativeModel

Exchanges = dict[str, tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]
"""Requests and answers: signature → (inputs, outputs), each name → array."""

RECORDS = "assets.extra/tf_serving_warmup_requests"
ROWS = 3  # of a request


def write_records(model: GenerativeModel, folder: PathLike, png: bool = False) -> Exchanges:
    """Write one request for each signature of an exported model, with the answer of the model itself.

    The server replays the requests and looks at no answer; `verify` compares its answers with them.

    Args:
        model: The model that was exported.
        folder: The SavedModel.
        png: Whether it has PNG endpoints.

    Returns:
        Requests and answers: signature → (inputs, outputs), each name → array.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path = pathlib.Path(folder) / RECORDS
    path.parent.mkdir(exist_ok=True)
    exchanges = {}
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name, (function, specs) in endpoints(model, png).items():
            inputs = {spec.name: _example(model, spec) for spec in specs}
            with tf.device("CPU"):  # where `verify` runs: a GPU may round to fewer digits
                answers = function(*map(tf.constant, inputs.values()))
            outputs = {key: np.asarray(answers[key]) for key in sorted(answers)}
            exchanges[name] = inputs, outputs
            request, response = predict_pb2.PredictRequest(), predict_pb2.PredictResponse()
            request.model_spec.name, request.model_spec.signature_name = model.name, name
            for message, tensors in ((request.inputs, inputs), (response.outputs, outputs)):
                for key, value in tensors.items():
                    message[key].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(request)
            log.predict_log.response.CopyFrom(response)
            writer.write(log.SerializeToString())
    return exchanges


def _example(model, spec):
    """A batch for an input, drawn from what the model takes."""
    random = np.random.default_rng(0)
    if spec.name == "seed":
        return np.arange(ROWS, dtype=np.int64)
    if spec.name == "condition":
        return np.arange(ROWS, dtype=np.int64) % model.num_classes
    if spec.name == "latents":
        return random.standard_normal((ROWS, *spec.shape[1:]), np.float32)
    levels = random.integers(
        0, 256, (ROWS, *model.data_shape), np.uint8
    )  # which a categorical likelihood wants, too
    if spec.dtype == tf.string:
        return np.array([tf.io.encode_png(image).numpy() for image in levels], object)
    return np.float32(levels / 255).clip(model.data_check.low, model.data_check.high)
