"""REST and gRPC clients for keras_gen models in TensorFlow Serving.

This file does not import keras_gen, so you can copy it to a machine without keras_gen. `RESTClient`
needs the packages numpy and requests. `GRPCClient` needs tensorflow-serving-api.
"""

from __future__ import annotations

import base64
import dataclasses
import urllib.parse
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

# gRPC error codes by HTTP status. If several codes share a status, the most common code is used.
_CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_ADVICE = {
    "UNAVAILABLE": "Is the server running there? Has it loaded the model? Call status().",
    "NOT_FOUND": (
        "Check the name and the version of the model. The server reads the names of models from "
        "models.config, and the versions from the folder of each model."
    ),
    "DEADLINE_EXCEEDED": "Send fewer rows per request, or create a client with a longer timeout.",
}
_NUMPY_DTYPES = {
    "DT_FLOAT": "float32",
    "DT_DOUBLE": "float64",
    "DT_BOOL": "bool",
    "DT_STRING": "object",
    "DT_INT32": "int32",
    "DT_INT64": "int64",
}


class ServingError(RuntimeError):
    """The server refused a request, failed, or could not be reached.

    Args:
        code: gRPC error code, such as `"NOT_FOUND"`.
        message: The message of the server.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message} {_ADVICE.get(code, '')}".strip())
        self.code = code


@dataclasses.dataclass(frozen=True)
class Tensor:
    """Dtype and shape of one input or one output of a function that the server offers."""

    dtype: str
    """Name of the NumPy dtype. Bytes have the dtype `"object"`."""
    shape: tuple[int | None, ...]
    """Shape. None stands for a dimension of any size."""


@dataclasses.dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a signature. A signature is a function that the server offers."""

    inputs: dict[str, Tensor]
    """Inputs by name."""
    outputs: dict[str, Tensor]
    """Outputs by name."""


@dataclasses.dataclass(frozen=True)
class Version:
    """A version of a model that the server has loaded or tried to load."""

    number: int
    """Version number, which is also the name of the version's folder."""
    state: str
    """`"AVAILABLE"` if the server answers requests for this version. Other states are `"START"`,
    `"LOADING"`, `"UNLOADING"` and `"END"`."""
    error: str
    """Error message if the server could not load this version, otherwise empty."""


class Generated(NamedTuple):
    """The answer of the signature `generate`, one row per seed."""

    outputs: np.ndarray
    """Generated data, `[batch, *data_shape]`."""
    latents: np.ndarray
    """Latents from which the data were generated, `[batch, n]` for n latent dimensions."""


class Scored(NamedTuple):
    """The answer of the signature `score`, one value per row."""

    score: np.ndarray
    """Anomaly score, `[batch]`: higher is more anomalous."""
    anomaly: np.ndarray | None
    """Whether the score is above the threshold, bool `[batch]`. None if the model has no
    threshold."""


class _Client:
    """Base class of the clients, with one method for each signature of a keras_gen model.

    Args:
        address: Address of the server.
        model: Name of the model in the server.
        version: Version number of the model. If `version` and `label` are None, the server uses the
            latest version.
        label: Label of a version in the server, such as `"stable"`. Do not give both
            `version` and `label`.
        timeout: Largest number of seconds to wait for an answer. Default: 60.

    Raises:
        ValueError: If both a version and a label are given.
    """

    def __init__(
        self,
        address: str,
        model: str,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 60.0,
    ) -> None:
        if version is not None and label is not None:
            raise ValueError(
                "Give a version or a label, not both. "
                f"Received: version={version!r}, label={label!r}"
            )
        self.address = address
        self.model = model
        self.version = version
        self.label = label
        self.timeout = timeout
        self._signatures: dict[str, Signature] | None = None

    def signatures(self) -> dict[str, Signature]:
        """Return the signatures of the model by name. Only the first call sends a request."""
        if self._signatures is None:
            self._signatures = self._request_signatures()
        return self._signatures

    def predict(
        self, signature: str = "serving_default", **inputs: npt.ArrayLike
    ) -> dict[str, np.ndarray]:
        """Call a signature of the model. A signature is a function that the server offers.

        Args:
            signature: Name of the signature. Default: `"serving_default"`.
            **inputs: One array per input of the signature. The first dimension of each array is
                the batch. A PNG file is a `bytes` object.

        Returns:
            Dictionary from the name of each output to its array.

        Raises:
            ValueError: If the model has no such signature. If the names, dtypes or shapes of the
                inputs are not those of the signature. If the inputs have different batch sizes, or
                contain NaN or infinite values.
            ServingError: If the server refuses the request, fails, or cannot be reached.
        """
        signatures = self.signatures()
        if signature not in signatures:
            raise ValueError(
                f"`signature` must be one of {', '.join(sorted(signatures))} for the model "
                f"{self.model!r}. Received: signature={signature!r}"
            )
        specs = signatures[signature]
        if set(inputs) != set(specs.inputs):
            raise ValueError(
                f"The inputs of {signature} must be {', '.join(specs.inputs)}. "
                f"Received: {', '.join(inputs) or 'none'}"
            )
        arrays = {
            name: _as_array(name, values, specs.inputs[name]) for name, values in inputs.items()
        }
        sizes = {name: len(array) for name, array in arrays.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"All inputs must have the same batch size. Received: {sizes}")
        return self._predict(signature, arrays, specs.outputs)

    def reconstruct(
        self, inputs: npt.ArrayLike, condition: npt.ArrayLike | None = None
    ) -> np.ndarray:
        """Reconstruct data. The inputs and the result have shape `[batch, *data_shape]`."""
        outputs = self.predict("serving_default", inputs=inputs, **_optional(condition))
        return outputs["reconstructions"]

    def encode(
        self, inputs: npt.ArrayLike, condition: npt.ArrayLike | None = None
    ) -> dict[str, np.ndarray]:
        """Encode data `[batch, *data_shape]`, and return the outputs by name.

        If the model is a VAE with a diagonal posterior, the outputs are `mean` and `scale`. If the
        posterior of the VAE has a full covariance, the outputs are `mean` and `scale_tril`. For any
        other model, the only output is `latents`.
        """
        return self.predict("encode", inputs=inputs, **_optional(condition))

    def decode(self, latents: npt.ArrayLike, condition: npt.ArrayLike | None = None) -> np.ndarray:
        """Decode latents `[batch, n]` to data `[batch, *data_shape]`."""
        return self.predict("decode", latents=latents, **_optional(condition))["outputs"]

    def generate(self, seed: npt.ArrayLike, condition: npt.ArrayLike | None = None) -> Generated:
        """Generate one row per integer of `seed`. The same seed gives the same row."""
        return Generated(**self.predict("generate", seed=seed, **_optional(condition)))

    def score(self, inputs: npt.ArrayLike, condition: npt.ArrayLike | None = None) -> Scored:
        """Return the anomaly score of each example, and whether the score exceeds the threshold."""
        outputs = self.predict("score", inputs=inputs, **_optional(condition))
        return Scored(outputs["score"], outputs.get("anomaly"))

    def discriminate(
        self, inputs: npt.ArrayLike, condition: npt.ArrayLike | None = None
    ) -> np.ndarray:
        """Return a GAN discriminator's probability that each example is real, `[batch]`."""
        return self.predict("discriminate", inputs=inputs, **_optional(condition))["probability"]

    def _request_signatures(self) -> dict[str, Signature]:
        """Ask the server for the signatures of the model."""
        raise NotImplementedError

    def _predict(
        self, signature: str, arrays: dict[str, np.ndarray], outputs: dict[str, Tensor]
    ) -> dict[str, np.ndarray]:
        """Send a checked request, and return the outputs by name."""
        raise NotImplementedError


class RESTClient(_Client):
    """A client of the REST interface of TensorFlow Serving. The default port of REST is 8501.

    A request must have at least one row.

    Args:
        address: Address of the server, such as `"http://localhost:8501"`.
        model: Name of the model in the server.
        version: Version number of the model. If `version` and `label` are None, the server uses the
            latest version.
        label: Label of a version in the server, such as `"stable"`. Do not give both
            `version` and `label`.
        timeout: Largest number of seconds to wait for an answer. Default: 60.

    Raises:
        ValueError: If both a version and a label are given.

    Example:

    >>> client = RESTClient("http://localhost:8501", "vae", label="stable")
    >>> client.url
    'http://localhost:8501/v1/models/vae/labels/stable'
    """

    @property
    def url(self) -> str:
        """URL of the model, or of one version of the model if `version` or `label` is given."""
        url = f"{self.address.rstrip('/')}/v1/models/{urllib.parse.quote(self.model, safe='')}"
        if self.version is not None:
            return f"{url}/versions/{self.version}"
        if self.label is not None:
            return f"{url}/labels/{urllib.parse.quote(self.label, safe='')}"
        return url

    def status(self) -> list[Version]:
        """Return all versions of the model that the server knows."""
        entries = self._request("get", "")["model_version_status"]
        return [
            Version(int(entry["version"]), entry["state"], entry["status"].get("error_message", ""))
            for entry in entries
        ]

    def _request_signatures(self) -> dict[str, Signature]:
        metadata = self._request("get", "/metadata")["metadata"]
        return {
            name: Signature(_tensors_of(entry["inputs"]), _tensors_of(entry["outputs"]))
            for name, entry in metadata["signature_def"]["signature_def"].items()
            if entry.get("inputs")
        }

    def _predict(
        self, signature: str, arrays: dict[str, np.ndarray], outputs: dict[str, Tensor]
    ) -> dict[str, np.ndarray]:
        if not len(next(iter(arrays.values()))):
            raise ValueError(
                "A REST request must have at least one row. Received: an empty batch. Skip the "
                "request, or use GRPCClient."
            )
        inputs = {name: _to_json(array) for name, array in arrays.items()}
        body = {"signature_name": signature, "inputs": inputs}
        answer = self._request("post", ":predict", body)["outputs"]
        if len(outputs) == 1:  # the server omits the name of a single output
            answer = dict.fromkeys(outputs, answer)
        return {name: _from_json(answer[name], tensor) for name, tensor in outputs.items()}

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a request and return its JSON answer.

        Raises:
            ServingError: If the server refuses the request, fails, or cannot be reached.
        """
        import requests

        try:
            response = requests.request(method, self.url + path, json=body, timeout=self.timeout)
        except requests.Timeout as error:
            raise ServingError(
                "DEADLINE_EXCEEDED", f"{self.url} did not answer within {self.timeout:g} s."
            ) from error
        except requests.RequestException as error:
            raise ServingError("UNAVAILABLE", f"cannot reach {self.address}: {error}.") from error
        try:
            answer = response.json()
        except ValueError as error:
            raise ServingError(
                "UNKNOWN", f"{self.url} must answer in JSON. Received: {response.text[:200]!r}."
            ) from error
        if response.status_code != 200:
            code = _CODES.get(response.status_code, "INTERNAL")
            raise ServingError(code, answer.get("error", response.text))
        return answer


class GRPCClient(_Client):
    """A client of the gRPC interface of TensorFlow Serving. The default port of gRPC is 8500.

    gRPC sends arrays in a binary format, so prefer this client for large batches. This client needs
    the package tensorflow-serving-api.

    Args:
        address: Address of the server, such as `"localhost:8500"`.
        model: Name of the model in the server.
        version: Version number of the model. If `version` and `label` are None, the server uses the
            latest version.
        label: Label of a version in the server, such as `"stable"`. Do not give both
            `version` and `label`.
        timeout: Largest number of seconds to wait for an answer. Default: 60.

    Raises:
        ValueError: If both a version and a label are given.
    """

    def __init__(
        self,
        address: str,
        model: str,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 60.0,
    ) -> None:
        import grpc

        super().__init__(address, model, version, label, timeout)
        unlimited = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
        ]
        self._channel = grpc.insecure_channel(address, unlimited)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def status(self) -> list[Version]:
        """Return all versions of the model that the server knows."""
        from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

        service = model_service_pb2_grpc.ModelServiceStub(self._channel)
        request = self._address(get_model_status_pb2.GetModelStatusRequest())
        states = get_model_status_pb2.ModelVersionStatus.State
        return [
            Version(entry.version, states.Name(entry.state), entry.status.error_message)
            for entry in self._call(service.GetModelStatus, request).model_version_status
        ]

    def _request_signatures(self) -> dict[str, Signature]:
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = self._address(
            get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        )
        answer = self._call(self._prediction_service().GetModelMetadata, request)
        definitions = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(definitions)
        return {
            name: Signature(_tensors_of_message(entry.inputs), _tensors_of_message(entry.outputs))
            for name, entry in definitions.signature_def.items()
            if entry.inputs
        }

    def _predict(
        self, signature: str, arrays: dict[str, np.ndarray], outputs: dict[str, Tensor]
    ) -> dict[str, np.ndarray]:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = self._address(predict_pb2.PredictRequest())
        request.model_spec.signature_name = signature
        for name, array in arrays.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        answer = self._call(self._prediction_service().Predict, request)
        return {name: tf.make_ndarray(answer.outputs[name]) for name in outputs}

    def _prediction_service(self) -> Any:
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        return prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def _address(self, request: Any) -> Any:
        """Write the name and the version or label of the model into `request`, and return it."""
        request.model_spec.name = self.model
        if self.version is not None:
            request.model_spec.version.value = self.version
        if self.label is not None:
            request.model_spec.version_label = self.label
        return request

    def _call(self, method: Any, request: Any) -> Any:
        """Call a method of the server.

        Raises:
            ServingError: If the server refuses the request, fails, or cannot be reached.
        """
        import grpc

        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise ServingError(error.code().name, error.details()) from error


def _tensors_of(infos: dict[str, Any]) -> dict[str, Tensor]:
    """Return `{name: Tensor}` for the inputs or outputs in the JSON metadata of a signature."""
    tensors = {}
    for name, info in infos.items():
        sizes = [int(dimension["size"]) for dimension in info["tensor_shape"].get("dim", [])]
        shape = tuple(None if size == -1 else size for size in sizes)
        tensors[name] = Tensor(_NUMPY_DTYPES[info["dtype"]], shape)
    return tensors


def _tensors_of_message(infos: Any) -> dict[str, Tensor]:
    """Return `{name: Tensor}` for the inputs or outputs in the protobuf metadata of a signature."""
    import tensorflow as tf

    tensors = {}
    for name, info in infos.items():
        sizes = [dimension.size for dimension in info.tensor_shape.dim]
        shape = tuple(None if size == -1 else size for size in sizes)
        tensors[name] = Tensor(np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype).name, shape)
    return tensors


def _optional(condition: npt.ArrayLike | None) -> dict[str, npt.ArrayLike]:
    """Return `{"condition": condition}`, or an empty dictionary if `condition` is None."""
    return {} if condition is None else {"condition": condition}


def _as_array(name: str, values: npt.ArrayLike, tensor: Tensor) -> np.ndarray:
    """Return values as an array of the dtype that a signature's input needs.

    Raises:
        ValueError: If the values have the wrong kind of dtype or the wrong shape, or are not
            finite.
    """
    is_bytes = tensor.dtype == "object"
    array = np.asarray(values, object if is_bytes else None)
    if not (_has_shape(array, tensor.shape) and _has_kind(array, tensor.dtype)):
        shape = ", ".join("batch" if size is None else str(size) for size in tensor.shape)
        kind = "bytes" if is_bytes else tensor.dtype
        raise ValueError(
            f"`{name}` must be {kind} of shape ({shape}). "
            f"Received: {array.dtype} of shape {array.shape}"
        )
    if tensor.dtype == "float32" and not np.isfinite(array.astype(tensor.dtype)).all():
        raise ValueError(f"`{name}` must be finite. Received: NaN or infinite values.")
    return array.astype(tensor.dtype)


def _has_shape(array: np.ndarray, shape: tuple[int | None, ...]) -> bool:
    """Return whether an array has the given shape. None in `shape` stands for any size."""
    if len(array.shape) != len(shape):
        return False
    sizes = zip(shape, array.shape, strict=True)
    return all(expected in (None, actual) for expected, actual in sizes)


def _has_kind(array: np.ndarray, dtype: str) -> bool:
    """Return whether an array keeps its meaning when it is cast to a dtype.

    For instance, 8-bit integers are pixels from 0 to 255, but float32 pixels must be in [0, 1].
    Therefore 8-bit integers do not keep their meaning as float32.
    """
    if dtype == "object":
        return all(isinstance(value, bytes) for value in array.ravel())
    if array.dtype == np.uint8 and dtype == "float32":
        return False
    return bool(np.can_cast(array.dtype, dtype, "same_kind")) or not array.size


def _to_json(array: np.ndarray) -> list[Any]:
    """Return an array as nested lists. Bytes are encoded in base64."""
    if array.dtype == object:
        return [{"b64": base64.b64encode(value).decode()} for value in array]
    values: list[Any] = array.tolist()
    return values


def _from_json(values: Any, tensor: Tensor) -> np.ndarray:
    """Return nested lists as an array with the dtype of `tensor`. Text in base64 becomes bytes."""
    if tensor.dtype == "object":
        return np.array([base64.b64decode(value["b64"]) for value in values], object)
    return np.asarray(values, tensor.dtype)
