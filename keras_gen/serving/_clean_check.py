"""Check a published SavedModel in a process that can import neither Keras nor keras_gen.

The check calls each function of the SavedModel with a stored request, and compares the answer with
a stored answer of the Keras model. Both were stored when the SavedModel was published. The function
`verify` runs the command `python _clean_check.py FOLDER`, which prints the result as JSON.
"""

from __future__ import annotations

import json
import math
import pathlib
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import Message
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry
from tensorflow_serving.apis import prediction_log_pb2

TOLERANCE = 1e-4
"""Largest allowed difference from an answer of the Keras model. For numbers above 1, the difference
is relative."""
TOLERANCE_16_BITS = 1e-2
"""Largest allowed difference from an answer of the Keras model, if any layer computes in 16
bits."""
PNG_SIGNATURE = b"\x89PNG"
LATENCY_RUNS = 20

Tensors = dict[str, np.ndarray]


def check(folder: pathlib.Path) -> dict[str, Any]:
    """Check that a server can run a SavedModel, and that the answers of its signatures are correct.

    A signature is a function that the server offers. For each signature, the SavedModel contains
    one request and the answer of the Keras model. The function also checks the graph: no operator
    may call Python or sample from a random state, and no absolute file path may occur. Each weight
    must be stored exactly once.

    Args:
        folder: Folder of the SavedModel.

    Returns:
        A dictionary with three keys. `signatures` is a dictionary from the name of each signature
        to the results of its check. `parameters` is the number of stored parameters. `problems` is
        a list with one sentence per problem.
    """
    saved_model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    [graph] = saved_model.meta_graphs
    functions = graph.graph_def.library.function
    nodes = [*graph.graph_def.node, *(node for part in functions for node in part.node_def)]
    tolerance = TOLERANCE_16_BITS if _computes_in_16_bits(nodes) else TOLERANCE
    problems = [*_unservable_operators(nodes), *sorted(set(_absolute_paths(saved_model)))]
    served = _count_served_values(graph)
    stored = _count_stored_values(folder)
    if served != stored:
        problems.append(
            f"the SavedModel stores {stored:,} numbers, but its signatures use {served:,}: it must "
            "store each weight exactly once, and no other numbers"
        )
    rows = {}
    signatures = tf.saved_model.load(str(folder)).signatures
    records = list(_read_records(folder))
    for name in sorted(set(signatures) - {name for name, _, _ in records}):
        problems.append(
            f"signature {name} has no warm-up record, that is, no stored request and answer with "
            "which it can be checked"
        )
    for name, inputs, expected in records:
        if name not in signatures:
            problems.append(f"a warm-up record asks for signature {name}, which does not exist")
            continue
        rows[name], found = _check_signature(signatures[name], inputs, expected, tolerance)
        problems += [f"signature {name}: {problem}" for problem in found]
    return {"signatures": rows, "parameters": stored, "problems": problems}


def _computes_in_16_bits(nodes: list[Any]) -> bool:
    """Return whether any operator of a graph computes in float16 or bfloat16."""
    types = (tf.half.as_datatype_enum, tf.bfloat16.as_datatype_enum)
    return any(node.attr["T"].type in types for node in nodes)


def _read_records(folder: pathlib.Path) -> Iterator[tuple[str, Tensors, Tensors]]:
    """Read the requests and answers that are stored in the folder of a SavedModel.

    Yields:
        `(signature, inputs, outputs)` for each request: the name of the signature, the arrays of
        the request by name, and the arrays of the Keras model's answer by name.
    """
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record).predict_log
        inputs = {key: tf.make_ndarray(value) for key, value in log.request.inputs.items()}
        outputs = {key: tf.make_ndarray(value) for key, value in log.response.outputs.items()}
        yield log.request.model_spec.signature_name, inputs, outputs


def _check_signature(
    function: Any, inputs: Tensors, expected: Tensors, tolerance: float
) -> tuple[dict[str, Any], list[str]]:
    """Check the outputs of one signature of a SavedModel.

    A stored request contains a batch of rows. The function calls the signature with this batch,
    with each row alone, with two copies of the batch, and with no rows. The outputs for the batch
    must equal the stored outputs of the Keras model. The outputs for a row must not depend on the
    other rows of its batch. The outputs for no rows must be empty.

    Args:
        function: The signature, a function that the server offers.
        inputs: The stored request.
        expected: The stored outputs of the Keras model.
        tolerance: Largest allowed difference from `expected`. For numbers above 1, the difference
            is relative.

    Returns:
        `(entry, problems)`. The dictionary `entry` contains the inputs and outputs of the
        signature, the largest difference from `expected`, and the median time of a call. If the
        outputs do not have the expected names, `entry` is empty. The list `problems` contains one
        sentence per problem.
    """
    specs = function.structured_input_signature[1]
    problems = [
        f"input {key} has shape {spec.shape}, but its first dimension must be None"
        for key, spec in specs.items()
        if spec.shape.rank < 1 or spec.shape[0] is not None
    ]
    whole = _run(function, inputs)
    if sorted(whole) != sorted(expected):
        return {}, [f"it returns {sorted(whole)}, but Keras returned {sorted(expected)}"]
    number_of_rows = len(next(iter(inputs.values())))
    single_rows = [
        _run(function, {key: x[row : row + 1] for key, x in inputs.items()})
        for row in range(number_of_rows)
    ]
    doubled = _run(function, {key: np.concatenate([x, x]) for key, x in inputs.items()})
    empty = _run(function, {key: x[:0] for key, x in inputs.items()})
    largest_difference = 0.0
    for key, answer in expected.items():
        allowed = tolerance
        if answer.dtype == object:
            allowed += 1 / 255  # rounding may change a pixel of a PNG by 1/255
        numbers = _as_numbers(answer)
        scale = np.where(np.isfinite(numbers), np.maximum(1, np.abs(numbers)), 1)
        difference = float(np.max(_distance(whole[key], numbers) / scale))
        largest_difference = max(largest_difference, difference)
        if not difference <= allowed:
            problems.append(f"{key} differs from the Keras output by {difference:.2g}")
        of_rows = np.concatenate([row[key] for row in single_rows])
        if not np.all(_distance(of_rows, whole[key]) <= allowed * scale):
            problems.append(f"{key} of a row depends on the other rows of its batch")
        of_halves = doubled[key].reshape(2, *whole[key].shape)
        if not np.all(_distance(of_halves, whole[key]) <= allowed * scale):
            problems.append(f"{key} of a doubled batch differs from {key} of the batch")
        if len(empty[key]):
            problems.append(f"{key} of an empty batch has rows: shape {empty[key].shape}")
    outputs = sorted(function.structured_outputs.items())
    row_of_table = {
        "inputs": {key: _described(spec) for key, spec in specs.items()},
        "outputs": {key: _described(value) for key, value in outputs},
        "difference": largest_difference,
        "milliseconds": _median_milliseconds(function, inputs),
    }
    return row_of_table, problems


def _run(function: Callable[..., Any], batch: Tensors) -> Tensors:
    """Call a signature with a batch, and return its outputs by name as float64 arrays."""
    outputs = function(**{key: tf.constant(x) for key, x in batch.items()})
    return {key: _as_numbers(value) for key, value in outputs.items()}


def _median_milliseconds(function: Callable[..., Any], inputs: Tensors) -> float:
    """Return the median time of `LATENCY_RUNS` calls of a signature, in milliseconds."""
    tensors = {key: tf.constant(x) for key, x in inputs.items()}
    times = []
    for _ in range(LATENCY_RUNS):
        start = time.perf_counter()
        for value in function(**tensors).values():
            value.numpy()  # waits for the result
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return |a − b| for each element. The distance between two equal infinite numbers is 0."""
    a, b = np.broadcast_arrays(a, b)
    return np.abs(np.subtract(a, b, out=np.zeros(a.shape), where=a != b))


def _as_numbers(value: Any) -> np.ndarray:
    """Convert an output of a signature to float64 numbers, so that two outputs can be compared.

    A PNG file becomes its pixels in [0, 1]. A text becomes its CRC-32 checksum.
    """
    value = np.asarray(value)
    if value.dtype != object:
        return value.astype(np.float64)
    if not all(text.startswith(PNG_SIGNATURE) for text in value.ravel()):
        return np.array([zlib.crc32(text) for text in value.ravel()], np.float64)
    return np.array([tf.io.decode_png(file).numpy() for file in value.ravel()], np.float64) / 255


def _described(spec: Any) -> str:
    """Return the dtype and shape of a tensor or a `TensorSpec` as text: `float32 [batch, 8]`."""
    sizes = ("batch" if size is None else str(size) for size in spec.shape)
    return f"{spec.dtype.name} [{', '.join(sizes)}]"


def _count_served_values(graph: Any) -> int:
    """Count the elements of all variables, such as weights, that the signatures of a graph use."""
    nodes = {node.name: node for node in graph.graph_def.node}
    waiting = [
        output.name
        for signature in graph.signature_def.values()
        for output in signature.outputs.values()
    ]
    seen = set()
    while waiting:
        name = waiting.pop().lstrip("^").split(":")[0]
        if name in nodes and name not in seen:  # the initialization has no node
            seen.add(name)
            waiting += nodes[name].input
    variables = [nodes[name] for name in seen if nodes[name].op == "VarHandleOp"]
    return sum(math.prod(size.size for size in node.attr["shape"].shape.dim) for node in variables)


def _count_stored_values(folder: pathlib.Path) -> int:
    """Count the numbers in all variables that the SavedModel stores."""
    stored = tf.train.list_variables(str(folder / "variables" / "variables"))
    return sum(math.prod(shape) for name, shape in stored if name != "_CHECKPOINTABLE_OBJECT_GRAPH")


def _unservable_operators(nodes: list[Any]) -> Iterator[str]:
    """Yield one sentence per operator that a server must not run.

    There are two kinds of such operators. A server cannot run operators that call Python. With
    random operators that have a state, a server would give different answers to equal requests.
    """
    for op in sorted({node.op for node in nodes}):
        if "PyFunc" in op:
            yield f"operator {op} calls Python, which a server does not have"
            continue
        definition = op_def_registry.get(op)
        random = "Random" in op or "Rng" in op or op == "Multinomial"
        if random and definition and definition.is_stateful:
            yield (
                f"operator {op} samples from a random state of the server, so the same request "
                "would get different answers"
            )


def _absolute_paths(message: Message) -> Iterator[str]:
    """Yield an error text for each absolute file path in a protocol buffer message.

    A published graph must not contain such a path, because the server may not have this file.
    """
    for field, value in message.ListFields():
        if isinstance(value, (Message, str, bytes, int, float)):
            value = [value]
        for part in value.values() if hasattr(value, "values") else value:
            if isinstance(part, Message):
                yield from _absolute_paths(part)
            elif isinstance(part, (str, bytes)) and field.name != "tensor_content":
                text = part.decode(errors="replace") if isinstance(part, bytes) else part
                if _is_absolute_path(text):
                    yield f"the graph contains {text}, a path on the machine that wrote the graph"


def _is_absolute_path(text: str) -> bool:
    """Return whether a text is an absolute file path.

    Such a path starts with `/`, or with the letter of a Windows drive. Names of TensorFlow devices,
    which start with `/device:` or `/job:`, are not paths.
    """
    is_path = text[:1] == "/" or text[1:3] == ":\\"
    return is_path and not text.startswith(("/device:", "/job:"))


if __name__ == "__main__":
    # From here on, any import of these packages fails.
    sys.modules["keras_gen"] = None  # type: ignore[assignment]
    sys.modules["keras"] = None  # type: ignore[assignment]
    print(json.dumps(check(pathlib.Path(sys.argv[1]))))
