"""Clients of TensorFlow Serving, over REST and gRPC, that know the signatures of keras_gen's models.

The file stands alone: it may be copied to a machine that has numpy and requests, or for gRPC tensorflow-serving-api, and nothing else.
"""

from __future__ import annotations

import base64
import dataclasses
import urllib.parse
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# Canonical codes by the HTTP status that TensorFlow Serving answers with; where several share one, the commonest.
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
    "UNAVAILABLE": "Is the server running there, and has it loaded the model? status() says so.",
    "NOT_FOUND": "The server names its models in models.config, and its versions by the folders in each.",
    "DEADLINE_EXCEEDED": "Ask for fewer rows at a time, or give the client a longer timeout.",
}


class ServingError(RuntimeError):
    """The server refused, failed or was not there.

    Args:
        code: Canonical code, such as `"NOT_FOUND"`.
        message: What the server said.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message} {_ADVICE.get(code, '')}".strip())
        self.code = code


@dataclasses.dataclass(frozen=True)
class Tensor:
    """What a signature takes or gives under a name."""

    dtype: str
    """NumPy's name of it; `"object"` for bytes."""
    shape: tuple[int | None, ...]
    """None for a free dimension."""


@dataclasses.dataclass(frozen=True)
class Signature:
    """An endpoint of a model."""

    inputs: dict[str, Tensor]
    """What it takes, by name."""
    outputs: dict[str, Tensor]
    """What it gives, by name."""


@dataclasses.dataclass(frozen=True)
class Version:
    """A version that the server has or had."""

    number: int
    """Its number."""
    state: str
    """`"AVAILABLE"` once it is served; `"START"`, `"LOADING"`, `"UNLOADING"`, `"END"`."""
    error: str
    """Why it could not be loaded; empty if it could."""


class Generated(NamedTuple):
    """What `generate` answers, one row a seed."""

    outputs: np.ndarray
    """The data, `[batch, *data_shape]`."""
    latents: np.ndarray
    """The latents that they were decoded from, `[batch, n]`."""


class Scored(NamedTuple):
    """What `score` answers, one value a row."""

    score: np.ndarray
    """Higher is stranger, `[batch]`."""
    anomaly: np.ndarray | None
    """Whether it is over the threshold, bool `[batch]`; None for a model without one."""


class _Client:
    """What both clients share: the signatures of keras_gen, and checks of a request before it is sent.

    Args:
        address: Where the server listens.
        model: Name of the model.
        version: Its version; the latest if None.
        label: Label of the version, such as `"stable"`, instead.
        timeout: Seconds to wait for an answer.
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
                f"Give a version or a label, not both. Received: version={version!r}, label={label!r}"
            )
        self.address, self.model, self.version, self.label, self.timeout = (
            address,
            model,
            version,
            label,
            timeout,
        )
        self._signatures: dict[str, Signature] | None = None

    def signatures(self) -> dict[str, Signature]:
        """The endpoints of the model, name → `Signature`, asked for once."""
        if self._signatures is None:
            self._signatures = self._ask_signatures()
        return self._signatures

    def predict(
        self, signature: str = "serving_default", **inputs: npt.ArrayLike
    ) -> dict[str, np.ndarray]:
        """Call any signature.

        Args:
            signature: Its name.
            **inputs: What it takes, by name, each an array whose first dimension is the batch; bytes for PNG.

        Returns:
            What it gives, name → array of the signature's dtype.

        Raises:
            ValueError: If the model has no such signature, or it takes something else.
            ServingError: If the server refuses, fails or is not there.
        """
        offered = self.signatures()
        if signature not in offered:
            raise ValueError(
                f"Expected a signature of {self.model}: {', '.join(sorted(offered))}. Received: {signature!r}"
            )
        signature_of = offered[signature]
        if set(inputs) != set(signature_of.inputs):
            raise ValueError(
                f"Expected for {signature}: {', '.join(signature_of.inputs)}. Received: {', '.join(inputs) or 'nothing'}"
            )
        arrays = {
            name: _as_array(name, values, signature_of.inputs[name])
            for name, values in inputs.items()
        }
        if len({len(array) for array in arrays.values()}) > 1:
            raise ValueError(
                f"Expected one batch size. Received: { {name: len(array) for name, array in arrays.items()} }"
            )
        return self._predict(signature, arrays, signature_of.outputs)

    def reconstruct(
        self, inputs: npt.ArrayLike, condition: npt.ArrayLike | None = None
    ) -> np.ndarray:
        """The reconstructions `[batch, *data_shape]` of data."""
        return self.predict("serving_default", inputs=inputs, **_given(condition))[
            "reconstructions"
        ]

    def encode(
        self, inputs: npt.ArrayLike, condition: npt.ArrayLike | None = None
    ) -> dict[str, np.ndarray]:
        """What describes the latents of data, by name: `latents`, or `mean` and `scale` or `scale_tril`."""
        return self.predict("encode", inputs=inputs, **_given(condition))

    def decode(self, latents: npt.ArrayLike, condition: npt.ArrayLike | None = None) -> np.ndarray:
        """The data `[batch, *data_shape]` that latents `[batch, n]` stand for."""
        return self.predict("decode", latents=latents, **_given(condition))["outputs"]

    def generate(self, seed: npt.ArrayLike, condition: npt.ArrayLike | None = None) -> Generated:
        """New data, one row for each of the ints `seed`: the same row for the same seed."""
        return Generated(**self.predict("generate", seed=seed, **_given(condition)))

    def score(self, inputs: npt.ArrayLike, condition: npt.ArrayLike | None = None) -> Scored:
        """How strange data are."""
        answer = self.predict("score", inputs=inputs, **_given(condition))
        return Scored(answer["score"], answer.get("anomaly"))

    def discriminate(
        self, inputs: npt.ArrayLike, condition: npt.ArrayLike | None = None
    ) -> np.ndarray:
        """The probability `[batch]` that data are real, as the discriminator of a GAN sees it."""
        return self.predict("discriminate", inputs=inputs, **_given(condition))["probability"]

    def _ask_signatures(self) -> dict[str, Signature]:
        raise NotImplementedError

    def _predict(self, signature, arrays, outputs):
        raise NotImplementedError


class RESTClient(_Client):
    """Talks to port 8501 of TensorFlow Serving. An empty batch cannot be sent as JSON.

    Args:
        address: Such as `"http://localhost:8501"`.
        model: Name of the model.
        version: Its version; the latest if None.
        label: Label of the version, such as `"stable"`, instead.
        timeout: Seconds to wait for an answer.
        rows: Send a list of rows (`instances`) in the place of one array for each input (`inputs`). The answers are the same.

    Example:

    >>> client = RESTClient("http://localhost:8501", "vae", label="stable")
    >>> client.url
    'http://localhost:8501/v1/models/vae/labels/stable'
    """

    def __init__(
        self,
        address: str,
        model: str,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 60.0,
        rows: bool = False,
    ) -> None:
        super().__init__(address, model, version, label, timeout)
        self.rows = rows

    @property
    def url(self) -> str:
        """Address of the model and version."""
        of_version = "" if self.version is None else f"/versions/{self.version}"
        if self.label is not None:
            of_version = f"/labels/{urllib.parse.quote(self.label, safe='')}"
        return f"{self.address.rstrip('/')}/v1/models/{urllib.parse.quote(self.model, safe='')}{of_version}"

    def status(self) -> list[Version]:
        """The versions that the server knows of the model, as `Version`."""
        return [
            Version(int(entry["version"]), entry["state"], entry["status"].get("error_message", ""))
            for entry in self._request("get", "")["model_version_status"]
        ]

    def _ask_signatures(self) -> dict[str, Signature]:
        def tensors(infos):
            return {
                name: Tensor(
                    _NAMES[info["dtype"]],
                    tuple(
                        None if size["size"] == "-1" else int(size["size"])
                        for size in info["tensor_shape"].get("dim", [])
                    ),
                )
                for name, info in infos.items()
            }

        found = self._request("get", "/metadata")["metadata"]["signature_def"]["signature_def"]
        return {
            name: Signature(tensors(signature["inputs"]), tensors(signature["outputs"]))
            for name, signature in found.items()
            if signature.get("inputs")
        }

    def _predict(self, signature, arrays, outputs):
        plain = {name: _as_json(array) for name, array in arrays.items()}
        batch = len(next(iter(plain.values())))
        if not batch:
            raise ValueError(
                "REST cannot carry an empty batch. Received: no rows. Leave the call out, or use GRPCClient."
            )
        request = {"signature_name": signature}
        if self.rows:
            request["instances"] = [
                {name: values[row] for name, values in plain.items()} for row in range(batch)
            ]
        else:
            request["inputs"] = plain
        answer = self._request("post", ":predict", request)[
            "predictions" if self.rows else "outputs"
        ]
        if len(outputs) == 1:  # the server leaves its name out
            answer = dict.fromkeys(outputs, answer)
        elif self.rows:
            answer = {name: [row[name] for row in answer] for name in outputs}
        return {name: _from_json(answer[name], tensor) for name, tensor in outputs.items()}

    def _request(self, method, path, body=None):
        import requests

        try:
            response = requests.request(method, self.url + path, json=body, timeout=self.timeout)
        except requests.Timeout as error:
            raise ServingError(
                "DEADLINE_EXCEEDED", f"no answer of {self.url} in {self.timeout:g} s."
            ) from error
        except requests.RequestException as error:
            raise ServingError("UNAVAILABLE", f"no server at {self.address}: {error}.") from error
        try:
            answer = response.json()
        except ValueError as error:
            raise ServingError(
                "UNKNOWN", f"{self.url} did not answer in JSON, but: {response.text[:200]!r}."
            ) from error
        if response.status_code != 200:
            raise ServingError(
                _CODES.get(response.status_code, "INTERNAL"), answer.get("error", response.text)
            )
        return answer


class GRPCClient(_Client):
    """Talks to port 8500 of TensorFlow Serving: binary, for large batches. Needs tensorflow-serving-api.

    Args:
        address: Such as `"localhost:8500"`.
        model: Name of the model.
        version: Its version; the latest if None.
        label: Label of the version, such as `"stable"`, instead.
        timeout: Seconds to wait for an answer.
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
        unlimited = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
        self._channel = grpc.insecure_channel(address, unlimited)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def status(self) -> list[Version]:
        """The versions that the server knows of the model, as `Version`."""
        from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

        request = self._addressed(get_model_status_pb2.GetModelStatusRequest())
        answer = self._call(
            model_service_pb2_grpc.ModelServiceStub(self._channel).GetModelStatus, request
        )
        states = get_model_status_pb2.ModelVersionStatus.State
        return [
            Version(entry.version, states.Name(entry.state), entry.status.error_message)
            for entry in answer.model_version_status
        ]

    def _ask_signatures(self) -> dict[str, Signature]:
        import tensorflow as tf
        from tensorflow_serving.apis import get_model_metadata_pb2

        def tensors(infos):
            return {
                name: Tensor(
                    np.dtype(tf.as_dtype(info.dtype).as_numpy_dtype).name,
                    tuple(None if size.size == -1 else size.size for size in info.tensor_shape.dim),
                )
                for name, info in infos.items()
            }

        request = self._addressed(
            get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        )
        answer = self._call(self._prediction_service().GetModelMetadata, request)
        found = get_model_metadata_pb2.SignatureDefMap()
        answer.metadata["signature_def"].Unpack(found)
        return {
            name: Signature(tensors(signature.inputs), tensors(signature.outputs))
            for name, signature in found.signature_def.items()
            if signature.inputs
        }

    def _predict(self, signature, arrays, outputs):
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = self._addressed(predict_pb2.PredictRequest())
        request.model_spec.signature_name = signature
        for name, array in arrays.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        answer = self._call(self._prediction_service().Predict, request)
        return {name: tf.make_ndarray(answer.outputs[name]) for name in outputs}

    def _prediction_service(self):
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        return prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def _addressed(self, request):
        request.model_spec.name = self.model
        if self.version is not None:
            request.model_spec.version.value = self.version
        if self.label is not None:
            request.model_spec.version_label = self.label
        return request

    def _call(self, method, request):
        import grpc

        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            raise ServingError(error.code().name, error.details()) from error


_NAMES = {
    "DT_FLOAT": "float32",
    "DT_DOUBLE": "float64",
    "DT_BOOL": "bool",
    "DT_STRING": "object",
    "DT_INT32": "int32",
    "DT_INT64": "int64",
}


def _given(condition):
    return {} if condition is None else {"condition": condition}


def _as_array(name, values, tensor):
    """The values as an array of the signature's dtype; a `ValueError` if they are of another kind or shape."""
    array = np.asarray(values, object if tensor.dtype == "object" else None)
    fits = len(array.shape) == len(tensor.shape) and all(
        want in (None, got) for want, got in zip(tensor.shape, array.shape, strict=True)
    )
    if tensor.dtype == "object":
        fits = fits and all(isinstance(value, bytes) for value in array.ravel())
    elif (not np.can_cast(array.dtype, tensor.dtype, "same_kind") and array.size) or (
        array.dtype == np.uint8 and tensor.dtype == "float32"
    ):
        fits = False
    if not fits:
        shape = ", ".join("batch" if size is None else str(size) for size in tensor.shape)
        kind = "bytes" if tensor.dtype == "object" else tensor.dtype
        raise ValueError(
            f"Expected `{name}` as {kind} of shape ({shape}). Received: {array.dtype} of shape {array.shape}"
        )
    if tensor.dtype == "float32" and not np.isfinite(array.astype(tensor.dtype)).all():
        raise ValueError(f"Expected `{name}` as finite numbers. Received: some that are not.")
    return array.astype(tensor.dtype)


def _as_json(array):
    if array.dtype == object:
        return [{"b64": base64.b64encode(value).decode()} for value in array]
    return array.tolist()


def _from_json(values, tensor):
    if tensor.dtype == "object":
        return np.array([base64.b64decode(value["b64"]) for value in values], object)
    return np.asarray(values, tensor.dtype)
