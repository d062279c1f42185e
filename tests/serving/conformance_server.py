"""A server that answers as TensorFlow Serving does, by its C++ loader, for tests of the clients.

It serves REST and gRPC on real sockets. `python conformance_server.py FOLDER` serves the models of
FOLDER/models.config, prints its ports as JSON, and ends when its standard input ends. It follows
these rules of https://www.tensorflow.org/tfx/serving/api_rest: paths, versions and labels, status,
metadata, row and column format, base64, the omitted name of a single output, error texts and codes.
From tensorflow_serving/util/json_tensor.cc, it follows these rules for numbers: NaN, Infinity and
-Infinity are numbers in requests and answers, null is none, and an integer of 2²⁴ or more is no
float. It serves no verb but `predict`.
"""

import base64
import concurrent.futures
import http.server
import json
import math
import pathlib
import re
import sys
import threading
import traceback

import cpp_loader  # first: it keeps Python's TensorFlow out
import grpc
import numpy as np
from google.protobuf import json_format, text_format
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

PATH = re.compile(
    r"/v1/models/([^/:]+)(?:/versions/(\d+)|/labels/([^/:]+))?(?:(/metadata)|:(\w+))?"
)
HTTP = {
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
}


def refuse(code, message):
    raise cpp_loader.LoaderError(code, message)


class Models:
    """The models of models.config, loaded and warmed up."""

    def __init__(self, folder):
        config = text_format.Parse(
            (folder / "models.config").read_text(), model_server_config_pb2.ModelServerConfig()
        )
        self.versions = {}
        self.labels = {}
        for model in config.model_config_list.config:
            base = folder / pathlib.PurePosixPath(model.base_path).relative_to("/models")
            found = sorted(int(path.name) for path in base.iterdir() if path.name.isdecimal())
            policy = model.model_version_policy
            wanted = (
                found
                if policy.HasField("all")
                else [v for v in policy.specific.versions if v in found] or found[-1:]
            )
            self.versions[model.name] = {
                version: cpp_loader.SavedModel(base / str(version)) for version in wanted
            }
            self.labels[model.name] = dict(model.version_labels)
            for version, loaded in self.versions[model.name].items():
                for signature, inputs, _ in cpp_loader.warm_up_records(base / str(version)):
                    loaded.run(signature, inputs)

    def find(self, name, version=None, label=None):
        """Return (version, model), the latest version by default."""
        if name not in self.versions:
            wanted = f"Specific({name}, {version})" if version else f"Latest({name})"
            refuse("NOT_FOUND", f"Servable not found for request: {wanted}")
        if label:
            if label not in self.labels[name]:
                refuse("INVALID_ARGUMENT", f"Unrecognized servable version label: {label}")
            version = self.labels[name][label]
        version = version or max(self.versions[name])
        if version not in self.versions[name]:
            refuse("NOT_FOUND", f"Servable not found for request: Specific({name}, {version})")
        return version, self.versions[name][version]

    def status(self, name, version=None, label=None):
        if name not in self.versions:
            refuse("NOT_FOUND", f"Could not find any versions of model {name}")
        chosen = (
            [self.find(name, version, label)[0]]
            if version or label
            else sorted(self.versions[name], reverse=True)
        )
        answer = get_model_status_pb2.GetModelStatusResponse()
        for number in chosen:
            entry = answer.model_version_status.add(
                version=number, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE
            )
            entry.status.error_message = ""
        return answer

    def metadata(self, name, version=None, label=None):
        version, model = self.find(name, version, label)
        answer = get_model_metadata_pb2.GetModelMetadataResponse()
        signatures = get_model_metadata_pb2.SignatureDefMap()
        answer.model_spec.name, answer.model_spec.version.value = name, version
        for key, definition in model.definitions.items():
            signatures.signature_def[key].CopyFrom(definition)
        answer.metadata["signature_def"].Pack(signatures)
        return answer

    def predict(self, model, signature, inputs):
        definition = definition_of(model, signature)
        if set(inputs) != set(definition.inputs):
            extra = ",".join(sorted(set(inputs) - set(definition.inputs)))
            missing = ",".join(sorted(set(definition.inputs) - set(inputs)))
            refuse(
                "INVALID_ARGUMENT",
                f"input size does not match signature: {len(inputs)}!={len(definition.inputs)} "
                f"Sent extra: {{{extra}}}. Missing but required: {{{missing}}}.",
            )
        return model.run(signature, inputs)


def definition_of(model, signature):
    if signature not in model.definitions:
        refuse(
            "INVALID_ARGUMENT", f'Serving signature name: "{signature}" not found in signature def'
        )
    return model.definitions[signature]


# === REST ===


def predict_json(models, model, body):
    """Return the answer to `POST …:predict`."""
    try:
        request = json.loads(body)
    except ValueError as error:
        refuse("INVALID_ARGUMENT", f"JSON Parse error: {error}")
    if not isinstance(request, dict):
        refuse("INVALID_ARGUMENT", f"JSON Value: {body.decode()} Is not object")
    signature = request.get("signature_name", "serving_default")
    infos = definition_of(model, signature).inputs
    dtypes = {name: cpp_loader.DTYPES[info.dtype] for name, info in infos.items()}
    if "instances" in request and "inputs" in request:
        refuse(
            "INVALID_ARGUMENT",
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist",
        )
    if "instances" in request:
        outputs = models.predict(model, signature, row_inputs(request["instances"], dtypes))
        batches = {len(value) for value in outputs.values()}
        if len(batches) > 1 or 0 in batches:
            refuse(
                "INVALID_ARGUMENT", f"Tensors have inconsistent or invalid batch sizes: {batches}"
            )
        rows = [
            {name: plain(name, value[i]) for name, value in outputs.items()}
            for i in range(batches.pop())
        ]
        return {
            "predictions": rows if len(outputs) > 1 else [next(iter(row.values())) for row in rows]
        }
    if "inputs" in request:
        outputs = models.predict(model, signature, column_inputs(request["inputs"], dtypes))
        answer = {name: plain(name, value) for name, value in outputs.items()}
        return {"outputs": answer if len(answer) > 1 else next(iter(answer.values()))}
    return refuse("INVALID_ARGUMENT", "Missing 'inputs' or 'instances' key")


def is_base64(value):
    return isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str)


def row_inputs(instances, dtypes):
    if not isinstance(instances, list) or not instances:
        refuse("INVALID_ARGUMENT", "Expecting 'instances' to be a list/array with values")
    named = isinstance(instances[0], dict) and not is_base64(instances[0])
    if not named and len(dtypes) > 1:
        refuse(
            "INVALID_ARGUMENT",
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required",
        )
    rows = instances if named else [{next(iter(dtypes)): instance} for instance in instances]
    for number, row in enumerate(rows):
        if set(row) != set(dtypes):
            refuse(
                "INVALID_ARGUMENT",
                f"Failed to process element: {number} of 'instances' list. JSON object: "
                f"{json.dumps(row)} keys must be equal to: {','.join(sorted(dtypes))}",
            )
    columns = {name: [tensor(row[name], dtype) for row in rows] for name, dtype in dtypes.items()}
    for column in columns.values():
        if len({value.shape for value in column}) > 1:
            refuse("INVALID_ARGUMENT", f"Expecting shape {column[0].shape} but got another")
    return {name: np.stack(column) for name, column in columns.items()}


def column_inputs(inputs, dtypes):
    if not isinstance(inputs, dict) or is_base64(inputs):
        if len(dtypes) > 1:
            refuse(
                "INVALID_ARGUMENT",
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required",
            )
        inputs = {next(iter(dtypes)): inputs}
    for name in dtypes:
        if name not in inputs:
            refuse("INVALID_ARGUMENT", f"Missing named input: {name} in 'inputs' object.")
    return {name: tensor(inputs[name], dtype) for name, dtype in dtypes.items()}  # ignores others


def tensor(value, dtype):
    """Return a JSON value as a tensor.

    Numbers keep their type: a float is no integer. Bytes come from base64. All lists of a level
    must have the same length.
    """
    shape = []
    level = value
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
    leaves = []

    def walk(part, depth):
        if isinstance(part, list):
            if depth == len(shape) or len(part) != shape[depth]:
                refuse(
                    "INVALID_ARGUMENT",
                    f"Encountered list at unexpected size: {len(part)} at level: {depth}",
                )
            for inner in part:
                walk(inner, depth + 1)
            return
        if depth != len(shape):
            refuse(
                "INVALID_ARGUMENT",
                f"JSON Value: {part} found at incorrect level: {depth + 1} in the JSON DOM.",
            )
        leaves.append(leaf(part, dtype))

    walk(value, 0)
    array = np.empty(len(leaves), dtype)
    array[:] = leaves
    return array.reshape(shape)


def leaf(value, dtype):
    if dtype.kind == "O":
        if is_base64(value):
            return base64.b64decode(value["b64"])
        return value.encode() if isinstance(value, str) else wrong(value, dtype)
    kinds = {"f": (int, float), "i": (int,), "b": (bool,)}[dtype.kind]
    if isinstance(value, bool) != (dtype.kind == "b") or not isinstance(value, kinds):
        wrong(value, dtype)
    if dtype == np.float32 and not lossless(value):
        refuse(
            "INVALID_ARGUMENT",
            f"Cannot convert JSON value: {json.dumps(value)} to float without loss of precision.",
        )
    return value


def lossless(value):
    """Return whether the server takes a number as float32: NaN, infinity, no large integer."""
    if isinstance(value, int):
        return abs(value) < 2**24
    return not math.isfinite(value) or abs(value) <= np.finfo(np.float32).max


def wrong(value, dtype):
    expected = {"O": "string", "f": "float", "b": "bool"}.get(dtype.kind, dtype.name)
    kinds = {type(None): "Null", bool: str(value), str: "String", dict: "Object"}
    refuse(
        "INVALID_ARGUMENT",
        f"JSON Value: {json.dumps(value)} Type: {kinds.get(type(value), 'Number')} is not of "
        f"expected type: {expected}",
    )


def plain(name, value):
    """Return an array as JSON; bytes whose name ends in _bytes as base64."""
    if isinstance(value, bytes):
        return (
            {"b64": base64.b64encode(value).decode()} if name.endswith("_bytes") else value.decode()
        )
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        return [plain(name, part) for part in value]
    return shortest(value.tolist()) if value.dtype == np.float32 else value.tolist()


def shortest(value):
    """Return floats with the digits that float32 needs and no more."""
    if isinstance(value, list):
        return [shortest(part) for part in value]
    return float(str(np.float32(value))) if math.isfinite(value) else value


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(b"")

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def answer(self, body):
        try:
            status, content = 200, self.respond(body)
        except cpp_loader.LoaderError as error:
            status, content = HTTP.get(error.code, 500), {"error": error.message}
        except Exception:  # a mistake of this server
            status, content = 500, {"error": traceback.format_exc()}
        content = json.dumps(content, indent=1, ensure_ascii=False).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def respond(self, body):
        match = PATH.fullmatch(self.path)
        models = self.server.models
        if not match:
            refuse("INVALID_ARGUMENT", f"Malformed request: {self.command} {self.path}")
        name, version, label, metadata, verb = match.groups()
        at = (name, int(version) if version else None, label)
        if self.command == "POST" and verb == "predict":
            return predict_json(models, models.find(*at)[1], body)
        if self.command == "GET" and metadata:
            answer = models.metadata(*at)
            content = json_format.MessageToDict(
                answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
            signatures = get_model_metadata_pb2.SignatureDefMap()
            answer.metadata["signature_def"].Unpack(signatures)
            content["metadata"] = {
                "signature_def": json_format.MessageToDict(
                    signatures,
                    preserving_proto_field_name=True,
                    always_print_fields_with_no_presence=True,
                )
            }
            return content
        if self.command == "GET" and not verb:
            return json_format.MessageToDict(
                models.status(*at),
                preserving_proto_field_name=True,
                always_print_fields_with_no_presence=True,
            )
        return refuse("INVALID_ARGUMENT", f"Malformed request: {self.command} {self.path}")

    def log_message(self, *arguments):
        pass


# === gRPC ===


def guarded(method):
    def call(self, request, context):
        try:
            return method(self, request)
        except cpp_loader.LoaderError as error:
            return context.abort(grpc.StatusCode[error.code], error.message)

    return call


def addressed(request):
    spec = request.model_spec
    return (
        spec.name,
        spec.version.value if spec.HasField("version") else None,
        spec.version_label or None,
    )


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, models):
        self.models = models

    @guarded
    def Predict(self, request):  # noqa: N802
        version, model = self.models.find(*addressed(request))
        signature = request.model_spec.signature_name or "serving_default"
        outputs = self.models.predict(
            model,
            signature,
            {name: cpp_loader.to_array(value) for name, value in request.inputs.items()},
        )
        answer = predict_pb2.PredictResponse()
        answer.model_spec.name, answer.model_spec.version.value = request.model_spec.name, version
        for name, value in outputs.items():
            answer.outputs[name].CopyFrom(cpp_loader.to_proto(value))
        return answer

    @guarded
    def GetModelMetadata(self, request):  # noqa: N802
        if list(request.metadata_field) != ["signature_def"]:
            refuse("INVALID_ARGUMENT", f"Metadata field {request.metadata_field} is not supported")
        return self.models.metadata(*addressed(request))


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, models):
        self.models = models

    @guarded
    def GetModelStatus(self, request):  # noqa: N802
        return self.models.status(*addressed(request))


def main(folder):
    assert types_pb2.DT_FLOAT in cpp_loader.DTYPES
    models = Models(pathlib.Path(folder))
    rest = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    rest.models, rest.daemon_threads = models, True
    threading.Thread(target=rest.serve_forever, daemon=True).start()
    binary = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(models), binary
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(models), binary)
    port = binary.add_insecure_port("127.0.0.1:0")
    binary.start()
    print(json.dumps({"rest": rest.server_address[1], "grpc": port}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
