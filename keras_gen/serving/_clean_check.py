"""Run by `verify` in a process of its own that cannot import keras_gen: does a SavedModel do by itself what Keras did?

Stands alone: `python _clean_check.py FOLDER` prints what it found as JSON.
"""

import json
import math
import pathlib
import sys
import time
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import Message
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow_serving.apis import prediction_log_pb2

TOLERANCE, TOLERANCE_OF_HALVES = (
    1e-4,
    1e-2,
)  # of the difference from Keras, relative to numbers over 1
LATENCY_RUNS = 20


def check(folder: pathlib.Path) -> dict[str, Any]:
    """Call every signature with its warm-up request and look into the graph.

    Returns:
        `{"signatures": {name: {"inputs", "outputs", "difference", "milliseconds"}}, "parameters": int, "problems": [str]}`.
    """
    saved_model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    [graph] = saved_model.meta_graphs
    nodes = [
        *graph.graph_def.node,
        *(node for function in graph.graph_def.library.function for node in function.node_def),
    ]
    halves = any(
        node.attr["T"].type in (tf.half.as_datatype_enum, tf.bfloat16.as_datatype_enum)
        for node in nodes
    )
    served, stored = _parameters_served(graph), _parameters_stored(folder)
    problems = [*_foreign_to_a_server(nodes), *sorted(set(_absolute_paths(saved_model)))]
    if served != stored:
        problems.append(
            f"{stored:,} numbers are stored, {served:,} are served: each weight is to be there once, and nothing else"
        )
    rows = {}
    functions = tf.saved_model.load(str(folder)).signatures
    records = list(_records(folder))
    problems += [
        f"signature {name} has no warm-up record"
        for name in sorted(set(functions) - {name for name, _, _ in records})
    ]
    for name, inputs, expected in records:
        if name not in functions:
            problems.append(f"a warm-up record asks for signature {name}, which there is not")
            continue
        rows[name], found = _call(
            functions[name], inputs, expected, TOLERANCE_OF_HALVES if halves else TOLERANCE
        )
        problems += [f"signature {name}: {problem}" for problem in found]
    return {"signatures": rows, "parameters": stored, "problems": problems}


def _records(folder):
    for record in tf.data.TFRecordDataset(
        str(folder / "assets.extra" / "tf_serving_warmup_requests")
    ).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record).predict_log
        sides = [
            {key: tf.make_ndarray(value) for key, value in side.items()}
            for side in (log.request.inputs, log.response.outputs)
        ]
        yield log.request.model_spec.signature_name, *sides


def _call(function, inputs, expected, tolerance):
    """What a signature does with a request whole, cut into rows, doubled and empty."""

    def run(batch):
        return {
            key: _numbers(value)
            for key, value in function(**{key: tf.constant(x) for key, x in batch.items()}).items()
        }

    rows = len(next(iter(inputs.values())))
    whole, problems, difference = run(inputs), [], 0.0
    specs = function.structured_input_signature[1]
    for key, spec in specs.items():
        if spec.shape.rank < 1 or spec.shape[0] is not None:
            problems.append(f"input {key} of shape {spec.shape} has no free batch dimension")
    if sorted(whole) != sorted(expected):
        return {}, [f"it puts out {sorted(whole)}, Keras {sorted(expected)}"]
    single = [run({key: x[row : row + 1] for key, x in inputs.items()}) for row in range(rows)]
    doubled, empty = (
        run({key: np.concatenate([x, x]) for key, x in inputs.items()}),
        run({key: x[:0] for key, x in inputs.items()}),
    )
    for key, answer in expected.items():
        answer, allowed = _numbers(answer), tolerance
        if expected[key].dtype == object:
            allowed += 1 / 255  # a pixel of a PNG may be rounded either way
        scale = np.where(np.isfinite(answer), np.maximum(1, np.abs(answer)), 1)
        gap = float(np.max(_distance(whole[key], answer) / scale))
        difference = max(difference, gap)
        if not gap <= allowed:
            problems.append(f"{key} differs from that of Keras by {gap:.2g}")
        if not np.all(
            _distance(np.concatenate([row[key] for row in single]), whole[key]) <= allowed * scale
        ):
            problems.append(f"{key} of a row depends on the batch that it is in")
        if not np.all(
            _distance(doubled[key].reshape(2, *whole[key].shape), whole[key]) <= allowed * scale
        ):
            problems.append(f"{key} of two batches put together differs from theirs")
        if len(empty[key]):
            problems.append(f"{key} of an empty batch has shape {empty[key].shape}")
    tensors = {key: tf.constant(x) for key, x in inputs.items()}
    times = []
    for _ in range(LATENCY_RUNS):
        start = time.perf_counter()
        for value in function(**tensors).values():
            value.numpy()
        times.append(time.perf_counter() - start)
    row = {
        "inputs": {key: _described(spec) for key, spec in specs.items()},
        "outputs": {
            key: _described(value) for key, value in sorted(function.structured_outputs.items())
        },
        "difference": difference,
        "milliseconds": 1e3 * float(np.median(times)),
    }
    return row, problems


def _distance(a, b):
    """|a − b|, and 0 between equal infinities, such as the score of what cannot be."""
    a, b = np.broadcast_arrays(a, b)
    return np.abs(np.subtract(a, b, out=np.zeros(a.shape), where=a != b))


def _numbers(value):
    """A tensor as float64; PNG files as what they show, in [0, 1]."""
    value = np.asarray(value)
    if value.dtype != object:
        return value.astype(np.float64)
    return np.array([tf.io.decode_png(file).numpy() for file in value.ravel()], np.float64) / 255


def _described(spec):
    return f"{spec.dtype.name} [{', '.join('batch' if size is None else str(size) for size in spec.shape)}]"


def _parameters_served(graph):
    """How many numbers the variables hold that the signatures' outputs depend on."""
    nodes = {node.name: node for node in graph.graph_def.node}
    waiting = [
        output.name
        for signature in graph.signature_def.values()
        for output in signature.outputs.values()
    ]
    seen = set()
    while waiting:
        name = waiting.pop().lstrip("^").split(":")[0]
        if name in nodes and name not in seen:  # the signature of initialization has no node
            seen.add(name)
            waiting += nodes[name].input
    variables = [nodes[name] for name in seen if nodes[name].op == "VarHandleOp"]
    return sum(math.prod(size.size for size in node.attr["shape"].shape.dim) for node in variables)


def _parameters_stored(folder):
    stored = tf.train.list_variables(str(folder / "variables" / "variables"))
    return sum(math.prod(shape) for name, shape in stored if name != "_CHECKPOINTABLE_OBJECT_GRAPH")


def _foreign_to_a_server(nodes):
    """Nodes that cannot or must not run in a server: Python functions, and random numbers with a state."""
    for op in sorted({node.op for node in nodes}):
        definition = op_def_registry.get(op)
        if "PyFunc" in op:
            yield f"operator {op} calls Python, which a server does not have"
        elif (
            definition
            and definition.is_stateful
            and ("Random" in op or "Rng" in op or op == "Multinomial")
        ):
            yield f"operator {op} draws from a state of the server: the same request would not have the same answer"


def _absolute_paths(message):
    """Texts anywhere in a message that are paths of the machine it was written on."""
    for field, value in message.ListFields():
        if isinstance(value, (Message, str, bytes, int, float)):
            value = [value]
        for part in value.values() if hasattr(value, "values") else value:
            if isinstance(part, Message):
                yield from _absolute_paths(part)
            elif isinstance(part, (str, bytes)) and field.name != "tensor_content":
                text = part.decode(errors="replace") if isinstance(part, bytes) else part
                if (text[:1] == "/" or text[1:3] == ":\\") and not text.startswith(
                    ("/device:", "/job:")
                ):
                    yield f"the path {text} of the machine that wrote it is in it"


if __name__ == "__main__":
    sys.modules["keras_gen"] = sys.modules["keras"] = None  # type: ignore[assignment]  # any import of them fails
    print(json.dumps(check(pathlib.Path(sys.argv[1]))))
