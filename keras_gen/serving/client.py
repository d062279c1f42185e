"""REST and gRPC clients for keras_gen models in TensorFlow Serving.

This file does not import keras_gen. Therefore you can copy the file to a machine without keras_gen.
`RESTClient` needs the packages numpy and requests. `GRPCClient` needs tensorflow-serving-api.
"""

from __future__ import annotations

import abc
import base64
import contextlib
import dataclasses
import json
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas

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


_NO_COLUMNS = ("seed", "condition")  # inputs of `NAME_columns` that are not columns
_SHOWN = 200  # largest number of characters of an answer that a message shows
_MARK = "\u2063\u2063"
_MARKED = re.compile(rf"{_MARK}(.*?){_MARK}(?:\] \[(-?\d+))?(?:\] \[(-?\d+))?", re.DOTALL)


class ServingError(RuntimeError):
    """The server refused a request, failed, could not be reached, or sent an unreadable answer.

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
    """Version number. It is also the name of the folder that contains the version."""
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
    """Latents from which the data were generated, `[batch, n]` for n latent dimensions. For a
    vector-quantized autoencoder, the latents are codes: int64 `[batch, ..., num_codebooks]`."""


class Scored(NamedTuple):
    """The answer of the signature `score`, one value per row."""

    score: np.ndarray
    """Anomaly score, `[batch]`. A higher score means a more anomalous row."""
    anomaly: np.ndarray | None
    """Whether each score is above the threshold, bool `[batch]`. None if the model has no
    threshold."""
    per_feature: np.ndarray | None = None
    """How much each element of the inputs adds to the score, in the shape of the inputs. For a
    table, the shape is `[batch, columns]`, and the columns have the order of the model card. None
    if the score is not a sum over elements."""


Table: TypeAlias = "pandas.DataFrame | Mapping[str, Iterable[Any]]"
"""Rows of a table: a `DataFrame`, or a dictionary from names of columns to lists of equal length.

NaN, None and an empty text are missing entries. Columns that the model does not use are ignored."""


class _Client(abc.ABC):
    """Base class of the clients of a TensorFlow Serving server.

    The method `predict` calls any function that the server offers. Some functions, such as
    `encode`, also have a method of their own. A method sends a request to the server, and returns
    the answer. A subclass implements one protocol, REST or gRPC.

    Args:
        address: Address of the server.
        model: Name of the model in the server.
        version: Version number of the model. If `version` and `label` are None, the server uses the
            latest version.
        label: Label that the server's configuration gives to a version, such as `"stable"`. Do not
            give both `version` and `label`.
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
        """Return a dictionary of the signatures of the model.

        A signature is a function that the server offers. Only the first call sends a request to the
        server. Later calls return the stored result.
        """
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
                the batch. A PNG file or a text is a `bytes` object.

        Returns:
            Dictionary from the name of each output to its array.

        Raises:
            ValueError: If the model has no such signature. If a name, dtype or shape of the inputs
                does not match the signature. If the inputs have different batch sizes, or contain
                infinite values. If the inputs contain NaN, but the model does not accept missing
                entries.
            ServingError: If the server refuses the request, fails, cannot be reached, or sends an
                unreadable answer.
        """
        return self._checked(signature, inputs)

    def _checked(
        self, signature: str, inputs: Mapping[str, npt.ArrayLike]
    ) -> dict[str, np.ndarray]:
        """Check the inputs of a signature, send the request, and return the outputs by name.

        Args:
            signature: Name of the signature.
            inputs: One array per input of the signature, by name.
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
        missing = "impute" in signatures or "score_columns" in signatures
        arrays = {
            name: _as_array(name, values, specs.inputs[name], missing and name != "latents")
            for name, values in inputs.items()
        }
        sizes = {name: len(array) for name, array in arrays.items()}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"All inputs must have the same batch size. Received: {sizes}")
        return self._predict(signature, arrays, specs.outputs)

    def reconstruct(
        self, inputs: npt.ArrayLike | Table, condition: npt.ArrayLike | None = None
    ) -> Any:
        """Reconstruct data: encode the data, and decode the latents.

        Args:
            inputs: Data `[batch, *data_shape]`, or the rows of a table.
            condition: Labels `[batch]` if the model is conditional, otherwise None.

        Returns:
            The reconstructions. If `inputs` is an array, the result is an array of the same shape.
            If `inputs` is a dictionary or a `DataFrame` with the rows of a table, the result has
            the same type. The result then contains only the columns that the model uses.
        """
        if not _is_table(inputs):
            return self._rows("serving_default", inputs, condition)["reconstructions"]
        outputs = self._rows("serving_default", inputs, condition)
        names = self._names("serving_default_columns", inputs)
        columns = {names[tensor]: _plain_values(outputs[tensor]) for tensor in names}
        return _table_like(inputs, columns)

    def encode(
        self, inputs: npt.ArrayLike | Table, condition: npt.ArrayLike | None = None
    ) -> dict[str, np.ndarray]:
        """Encode data, and return the outputs of the encoder by name.

        The outputs of a VAE describe the posterior. For a diagonal posterior, they are `mean` and
        `scale`, the standard deviation. For a full-covariance posterior, they are `mean` and
        `scale_tril`, the Cholesky factor of the covariance. For a flow posterior, and for an
        autoencoder, the only output is `latents`. A hierarchical VAE has these outputs for each
        layer of latents, and appends the number of the layer to their names, such as `mean_1`.

        Args:
            inputs: Data `[batch, *data_shape]`, or the rows of a table.
            condition: Labels `[batch]` if the model is conditional, otherwise None.
        """
        return self._rows("encode", inputs, condition)

    def decode(self, latents: npt.ArrayLike, condition: npt.ArrayLike | None = None) -> np.ndarray:
        """Decode latents `[batch, n]` to data `[batch, *data_shape]`.

        Args:
            latents: Latents `[batch, n]` for n latent dimensions. For a vector-quantized
                autoencoder, codes `[batch, ..., num_codebooks]`, as `encode` returns them.
            condition: Labels `[batch]` if the model is conditional, otherwise None.
        """
        return self.predict("decode", latents=latents, **_optional(condition))["outputs"]

    def generate(self, seed: npt.ArrayLike, condition: npt.ArrayLike | None = None) -> Generated:
        """Generate one example per seed.

        The same seed gives the same example in every call. For a conditional model, the same seed
        and the same label give the same example.

        Args:
            seed: Integers `[batch]`.
            condition: Labels `[batch]` if the model is conditional, otherwise None.

        Returns:
            A `Generated` with the examples `outputs` and their `latents`.
        """
        return Generated(**self.predict("generate", seed=seed, **_optional(condition)))

    def generate_columns(
        self, seed: npt.ArrayLike, condition: npt.ArrayLike | None = None
    ) -> dict[str, np.ndarray]:
        """Generate one row of a table per seed.

        Args:
            seed: Integers `[batch]`. The same integer gives the same row in every call.
            condition: Labels `[batch]` if the model is conditional, otherwise None.

        Returns:
            Dictionary with the values `[batch]` of each column. Its keys are the names of outputs
            of the server, such as `body_mass` for the column `body mass`. The model card lists both
            names. To get a `DataFrame`, pass the dictionary to `pandas.DataFrame`.
        """
        outputs = self.predict("generate_columns", seed=seed, **_optional(condition))
        return {
            name: np.array(_plain_values(values), object if values.dtype == object else None)
            for name, values in outputs.items()
            if name != "latents"
        }

    def impute(
        self,
        inputs: npt.ArrayLike | Table,
        seed: npt.ArrayLike,
        condition: npt.ArrayLike | None = None,
    ) -> Any:
        """Replace the missing entries of data by estimates from the observed entries.

        A missing number is replaced by its mean given the observed entries. The mean of a count is
        rounded. A missing category is replaced by the most probable category, or in an ordinal
        column by the median category.

        Args:
            inputs: Data `[batch, *data_shape]` with NaN for each missing element, or the rows of a
                table.
            seed: Seed of the random samples from which the server estimates the missing entries:
                one integer per row, or one integer for all rows. The same seed gives the same
                result.
            condition: Labels `[batch]` if the model is conditional, otherwise None.

        Returns:
            A copy of the inputs in which all missing entries are replaced. For a table, the result
            has the same type as the inputs: a dictionary or a `DataFrame`. The observed entries of
            a table do not change. Columns that the model does not use do not change either.
        """
        is_table = _is_table(inputs)
        columns = _lists(inputs) if is_table else {}
        rows = len(next(iter(columns.values()), ())) if is_table else len(np.asarray(inputs))
        seeds = np.broadcast_to(np.asarray(seed), (rows,)) if np.ndim(seed) == 0 else seed
        outputs = self._rows("impute", inputs, condition, seed=seeds)
        if not is_table:
            return outputs["outputs"]
        names = self._names("impute_columns", inputs)
        filled = {
            name: _filled(columns[name], _plain_values(outputs[tensor]))
            for tensor, name in names.items()
        }
        return _table_like(inputs, filled, keep_others=True)

    def score(
        self, inputs: npt.ArrayLike | Table, condition: npt.ArrayLike | None = None
    ) -> Scored:
        """Return the anomaly score of each example, and whether the score exceeds the threshold.

        Args:
            inputs: Data `[batch, *data_shape]`, or the rows of a table.
            condition: Labels `[batch]` if the model is conditional, otherwise None.

        Returns:
            A `Scored`. It also contains how much each element of an example adds to the score.
        """
        outputs = self._rows("score", inputs, condition)
        return Scored(outputs["score"], outputs.get("anomaly"), outputs.get("per_feature"))

    def _rows(
        self,
        signature: str,
        inputs: npt.ArrayLike | Table,
        condition: npt.ArrayLike | None,
        **others: npt.ArrayLike,
    ) -> dict[str, np.ndarray]:
        """Send an array or a table to a signature of the model, and return the outputs by name.

        A signature is a function that the server offers. An array is sent to the signature itself.
        A table is sent to the signature of the same name with the suffix `_columns`, which has one
        input per column.

        Args:
            signature: Name of the signature, such as `"encode"`.
            inputs: Data `[batch, *data_shape]`, or the rows of a table.
            condition: Labels `[batch]` if the model is conditional, otherwise None.
            **others: Further inputs of the signature by name, such as `seed`.
        """
        others |= _optional(condition)
        if not _is_table(inputs):
            return self._checked(signature, {"inputs": inputs, **others})  # type: ignore[dict-item]
        signature = f"{signature}_columns"
        columns = _lists(inputs)
        arrays = dict(others)
        for tensor, name in self._names(signature, inputs).items():
            dtype = self.signatures()[signature].inputs[tensor].dtype
            arrays[tensor] = _column_as_array(name, columns[name], dtype)
        return self._checked(signature, arrays)

    def _names(self, signature: str, table: Any) -> dict[str, str]:
        """Find the column of a table that belongs to each input of a signature.

        Args:
            signature: Name of the signature, a function that the server offers. It has one input
                per column that the model uses.
            table: The rows that the user sends, as a dictionary or a `DataFrame`.

        Returns:
            Dictionary from the name of each input to the name of its column.

        Raises:
            ValueError: If the server does not have the signature, or if an input has no column.
                If the names do not tell which column belongs to an input, for instance because
                several columns fit the input.
        """
        signatures = self.signatures()
        if signature not in signatures:
            raise ValueError(
                f"The model {self.model!r} has no signature {signature!r}, which is needed for the "
                "rows of a table. Send an array, or export a model that was trained on a table."
            )
        tensors = [name for name in signatures[signature].inputs if name not in _NO_COLUMNS]
        return _matched(tensors, [*map(str, table)])

    def discriminate(
        self, inputs: npt.ArrayLike, condition: npt.ArrayLike | None = None
    ) -> np.ndarray:
        """Return the probability that each example is real, `[batch]`.

        The discriminator of a GAN computes this probability.
        """
        return self.predict("discriminate", inputs=inputs, **_optional(condition))["probability"]

    @abc.abstractmethod
    def _request_signatures(self) -> dict[str, Signature]:
        """Ask the server for the signatures of the model."""

    @abc.abstractmethod
    def _predict(
        self, signature: str, arrays: dict[str, np.ndarray], outputs: dict[str, Tensor]
    ) -> dict[str, np.ndarray]:
        """Send a checked request, and return the outputs by name."""


class RESTClient(_Client):
    """A client of the REST interface of TensorFlow Serving. The default port of REST is 8501.

    A request must have at least one row.

    Args:
        address: Address of the server, such as `"http://localhost:8501"`.
        model: Name of the model in the server.
        version: Version number of the model. If `version` and `label` are None, the server uses the
            latest version.
        label: Label that the server's configuration gives to a version, such as `"stable"`. Do not
            give both `version` and `label`.
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
        """Return the versions of the model that the server has loaded or tried to load."""
        answer = self._request("get", "")
        with _understood(self.url):
            return [_version_of(entry) for entry in answer["model_version_status"]]

    def _request_signatures(self) -> dict[str, Signature]:
        answer = self._request("get", "/metadata")
        with _understood(self.url):
            return {
                name: Signature(_tensors_of(entry["inputs"]), _tensors_of(entry["outputs"]))
                for name, entry in answer["metadata"]["signature_def"]["signature_def"].items()
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
        answer = self._request("post", ":predict", body)
        with _understood(self.url):
            values = answer["outputs"]
            if len(outputs) == 1:  # the server omits the name of a single output
                values = dict.fromkeys(outputs, values)
            return _checked_outputs(
                {name: _from_json(values[name], tensor) for name, tensor in outputs.items()},
                outputs,
                len(next(iter(arrays.values()))),
            )

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Send a request and return its JSON answer.

        Raises:
            ServingError: If the server refuses the request, fails, cannot be reached, or does not
                answer in JSON.
        """
        import requests

        try:
            response = requests.request(
                method,
                self.url + path,
                # `json=body` would refuse NaN, which the server accepts
                data=None if body is None else json.dumps(body),
                headers={"Content-Type": "application/json"},
                timeout=self.timeout,
            )
        except requests.Timeout as error:
            raise ServingError(
                "DEADLINE_EXCEEDED", f"{self.url} did not answer within {self.timeout:g} s."
            ) from error
        except requests.RequestException as error:
            raise ServingError("UNAVAILABLE", f"cannot reach {self.address}: {error}.") from error
        try:
            answer = json.loads(response.content)
        except ValueError as error:
            raise ServingError(
                "UNKNOWN",
                f"{self.url} must answer in JSON. Received: {response.text[:_SHOWN]!r}. Check the "
                "address.",
            ) from error
        if response.status_code != 200:
            code = _CODES.get(response.status_code, "INTERNAL")
            message = answer.get("error") if isinstance(answer, dict) else None
            raise ServingError(code, _readable(str(message or response.text[:_SHOWN])))
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
        label: Label that the server's configuration gives to a version, such as `"stable"`. Do not
            give both `version` and `label`.
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
        unlimited = [("grpc.max_receive_message_length", -1)]  # gRPC's default is 4 MB
        self._channel = grpc.insecure_channel(address, unlimited)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def status(self) -> list[Version]:
        """Return the versions of the model that the server has loaded or tried to load."""
        from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

        service = model_service_pb2_grpc.ModelServiceStub(self._channel)
        request = self._address(get_model_status_pb2.GetModelStatusRequest())
        states = get_model_status_pb2.ModelVersionStatus.State
        answer = self._call(service.GetModelStatus, request)
        with _understood(self.address):
            return [
                Version(entry.version, states.Name(entry.state), entry.status.error_message)
                for entry in answer.model_version_status
            ]

    def _request_signatures(self) -> dict[str, Signature]:
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = self._address(
            get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        )
        answer = self._call(self._prediction_service().GetModelMetadata, request)
        definitions = get_model_metadata_pb2.SignatureDefMap()
        with _understood(self.address):
            if not answer.metadata["signature_def"].Unpack(definitions):
                raise ValueError("no signature_def")
            return {
                name: Signature(
                    _tensors_of_message(entry.inputs), _tensors_of_message(entry.outputs)
                )
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
        with _understood(self.address):
            return _checked_outputs(
                {name: tf.make_ndarray(answer.outputs[name]) for name in outputs},
                outputs,
                len(next(iter(arrays.values()))),
            )

    def _prediction_service(self) -> Any:
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        return prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def _address(self, request: Any) -> Any:
        """Write the name of the model into a request, and return the request.

        If the client has a version or a version label of the model, the method writes it, too.
        """
        request.model_spec.name = self.model
        if self.version is not None:
            request.model_spec.version.value = self.version
        if self.label is not None:
            request.model_spec.version_label = self.label
        return request

    def _call(self, method: Any, request: Any) -> Any:
        """Call a gRPC method, and return the server's response.

        Raises:
            ServingError: If the server refuses the request, fails, or cannot be reached.
        """
        import grpc

        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            code = getattr(error.code(), "name", "UNKNOWN")
            raise ServingError(code, _readable(error.details() or "no details")) from error


@contextlib.contextmanager
def _understood(address: str) -> Iterator[None]:
    """Raise a `ServingError` if the code in a `with` block cannot read the answer of a server.

    Args:
        address: Address of the server, for the error message.
    """
    try:
        yield
    except Exception as error:  # an answer can be wrong in many ways
        reason = f"{type(error).__name__}: {error}"[:_SHOWN]
        raise ServingError(
            "UNKNOWN",
            f"{address} must answer as TensorFlow Serving does. Received: an answer of another "
            f"form ({reason}). Check the address.",
        ) from error


def _readable(message: str) -> str:
    """Return the part of a server's error text that a user can understand.

    The text can contain a message of keras_gen between invisible characters, the marks of
    `keras_gen._errors.mark`. In this case, the function returns only this message. Up to two
    numbers can follow the message in the text. The first number replaces each `#` in the message,
    and the second number replaces each `@`. If the text contains no marks, the function returns the
    whole text.
    """
    found = _MARKED.search(message)
    if found is None:
        return message
    text, first, second = found.groups()
    text = text if first is None else text.replace("#", first)
    return text if second is None else text.replace("@", second)


def _checked_outputs(
    values: dict[str, np.ndarray], outputs: dict[str, Tensor], rows: int
) -> dict[str, np.ndarray]:
    """Check the dtypes and shapes of the arrays in a server's answer, and return the arrays.

    Args:
        values: The arrays by name.
        outputs: Expected dtype and shape of each array by name.
        rows: Expected number of rows of each array.

    Raises:
        ValueError: If a dtype or a shape is wrong.
    """
    for name, tensor in outputs.items():
        expected = (rows, *tensor.shape[1:])
        value = values[name]
        if not _has_shape(value, expected) or value.dtype != np.dtype(tensor.dtype):
            raise ValueError(
                f"{name} must be {tensor.dtype} of shape {expected}. Received: {value.dtype} of "
                f"shape {value.shape}"
            )
    return values


def _version_of(entry: dict[str, Any]) -> Version:
    """Convert an entry of the server's list of versions, in JSON, to a `Version`."""
    error = entry["status"].get("error_message", "")
    return Version(int(entry["version"]), str(entry["state"]), str(error))


def _tensors_of(infos: dict[str, Any]) -> dict[str, Tensor]:
    """Convert the server's JSON description of inputs or outputs to a dictionary of `Tensor`s."""
    tensors = {}
    for name, info in infos.items():
        sizes = [int(dimension["size"]) for dimension in info["tensor_shape"].get("dim", [])]
        shape = tuple(None if size == -1 else size for size in sizes)
        tensors[name] = Tensor(_NUMPY_DTYPES[info["dtype"]], shape)
    return tensors


def _tensors_of_message(infos: Any) -> dict[str, Tensor]:
    """Convert the server's protobuf description of inputs or outputs to a dictionary.

    A key is the name of an input or output. The value is a `Tensor` with its dtype and shape.
    """
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


def _is_table(inputs: Any) -> bool:
    """Return whether inputs are a dictionary or a `DataFrame`."""
    return isinstance(inputs, Mapping) or hasattr(inputs, "columns")


def _lists(table: Any) -> dict[str, list[Any]]:
    """Return the columns of a table as lists, with None in place of each missing entry.

    Raises:
        ValueError: If two columns have the same name, or different lengths.
    """
    names = [*map(str, table)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(
            f"The names of columns must differ. Received more than once: {', '.join(repeated)}"
        )
    columns = {}
    for name in table:
        values = table[name]
        if hasattr(values, "notna"):  # a column of a DataFrame, which may contain pandas.NA
            values = values.astype(object).where(values.notna(), None)
        columns[str(name)] = [None if _is_missing(value) else value for value in values]
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"All columns must have the same length. Received: {lengths}")
    return columns


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value) or bool(value != value)


def _table_like(table: Any, columns: Mapping[str, list[Any]], keep_others: bool = False) -> Any:
    """Convert new columns to the type of the table that the user sent.

    The type is a dictionary or a `DataFrame`. A `DataFrame` gets the index of the user's table, and
    also its dtypes, if the new values can be converted to them.

    Args:
        table: The rows that the user sent, as a dictionary or a `DataFrame`.
        columns: Dictionary from the names of columns to their new values.
        keep_others: Whether the result also has those columns of `table` that are not in `columns`.
            Default: False.
    """
    if isinstance(table, Mapping):
        return {**table, **columns} if keep_others else columns
    import pandas

    made = {}
    for name in table:
        if str(name) not in columns:
            if keep_others:
                made[name] = table[name]
            continue
        made[name] = pandas.Series(columns[str(name)], index=table.index)
        with contextlib.suppress(ValueError, TypeError):
            made[name] = made[name].astype(table[name].dtype)
    return pandas.DataFrame(made, index=table.index)


def _filled(values: list[Any], imputed: list[Any]) -> list[Any]:
    """Return the entries of a column, with an imputed value in place of each None.

    If all observed entries are bools, the imputed texts "True" and "False" become bools.
    """
    observed = [value for value in values if value is not None]
    if observed and all(isinstance(value, (bool, np.bool_)) for value in observed):
        imputed = [{"True": True, "False": False}.get(value, value) for value in imputed]
    pairs = zip(values, imputed, strict=True)
    return [new if value is None else value for value, new in pairs]


def _plain_values(values: np.ndarray) -> list[Any]:
    """Convert an output array of the server to a list of Python strings or numbers.

    float32 numbers are rounded to their shortest decimal form, such as 0.1, not 0.10000000149.
    """
    if values.dtype == object:
        return [value.decode() for value in values]
    if values.dtype == np.float32:
        return [float(str(value)) for value in values]
    plain: list[Any] = values.tolist()
    return plain


def _column_as_array(name: str, values: list[Any], dtype: str) -> np.ndarray:
    """Convert a column of a table to an array of float32 or of bytes.

    A missing entry becomes NaN in an array of float32, and b"" in an array of bytes. In an array of
    bytes, a float without a fractional part becomes the text of an integer, such as b"3" for 3.0.

    Args:
        name: Name of the column, for error messages.
        values: Entries of the column. None is a missing entry.
        dtype: `"float32"`, or `"object"` for bytes.

    Raises:
        ValueError: If an entry of a column of numbers is not a number.
    """
    array = np.empty(len(values), dtype)
    for row, value in enumerate(values):
        if dtype == "object":
            if isinstance(value, float) and value.is_integer():
                value = int(value)  # pandas turns integers with missing entries into floats
            array[row] = b"" if value is None else str(value).encode()
            continue
        try:
            array[row] = np.nan if value is None else float(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"The column {name!r} must contain numbers. Received: {value!r} in row {row}. "
                "Correct the entry, or leave it empty if it is not known."
            ) from None
    return array


def _matched(tensors: list[str], columns: list[str]) -> dict[str, str]:
    """Find the column of a table that belongs to each input of a signature.

    A signature is a function that the server offers. The name of an input can differ from the name
    of its column, because TensorFlow does not allow all characters. For instance, the column
    `body mass` belongs to the input `body_mass`. `_may_be_named` says whether the name of a column
    fits an input. A column with exactly the name of an input belongs to this input. If a second
    column fits this input, the second column must also fit an input that has no column of exactly
    its name. Otherwise, the function raises an error.

    Args:
        tensors: Names of the inputs.
        columns: Names of the columns of the table.

    Returns:
        Dictionary from the name of each input to the name of its column.

    Raises:
        ValueError: If an input has no column. If the names do not tell which column belongs to an
            input, for instance because several columns fit the input.
    """
    others = [column for column in columns if column not in tensors]
    matches = {
        tensor: [column for column in others if _may_be_named(column, tensor)] for tensor in tensors
    }
    exact = [tensor for tensor in tensors if tensor in columns]
    inexact = {column for tensor in tensors if tensor not in exact for column in matches[tensor]}
    for tensor in exact:
        rivals = [column for column in matches[tensor] if column not in inexact]
        matches[tensor] = [tensor, *rivals]
    missing = [tensor for tensor, found in matches.items() if not found]
    if missing:
        raise ValueError(
            f"The table must have the columns {', '.join(tensors)}. Missing: {', '.join(missing)}. "
            f"Received: {', '.join(columns) or 'none'}. Add the missing columns. If their values "
            "are not known, add them with empty entries."
        )
    chosen = [column for found in matches.values() for column in found]
    for tensor, found in matches.items():
        if len(found) > 1 or chosen.count(found[0]) > 1:
            raise ValueError(
                f"One column must fit the input {tensor}, and no other input. Received: "
                f"{', '.join(found)}. Rename the columns to the names of the inputs: "
                f"{', '.join(tensors)}. The model card describes the inputs."
            )
    return {tensor: column for tensor, [column] in matches.items()}


def _may_be_named(column: str, tensor: str) -> bool:
    """Return whether an input may belong to a column, by comparing their names.

    When a model of a table is exported, the name of each input is made from the name of its column.
    All characters except ASCII letters, digits, `_`, `.` and `-` are replaced by `_`. If the result
    starts with neither a letter nor a digit, the word "column" is put before it. If another input
    has the same name already, one or more `_` are appended.

    Args:
        column: Name of a column, such as `"body mass"`.
        tensor: Name of an input, such as `"body_mass"`.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", column)
    name = name if re.match(r"[A-Za-z0-9]", name) else f"column{name}"
    return tensor.startswith(name) and not tensor[len(name) :].strip("_")


def _as_array(name: str, values: npt.ArrayLike, tensor: Tensor, missing: bool) -> np.ndarray:
    """Check the values for one input of the server, and convert them to the dtype of this input.

    Args:
        name: Name of the input, for error messages.
        values: The values.
        tensor: Dtype and shape of the input.
        missing: Whether NaN is allowed, as a missing entry.

    Raises:
        ValueError: If the shape or the dtype is wrong, such as text instead of numbers. If a value
            is infinite. If a value is NaN, but `missing` is False.
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
    if tensor.dtype == "float32":
        with np.errstate(over="ignore"):
            numbers = array.astype(tensor.dtype)
        if missing and np.isinf(numbers).any():
            raise ValueError(f"`{name}` must be finite, or NaN. Received: infinite values.")
        if not missing and not np.isfinite(numbers).all():
            raise ValueError(f"`{name}` must be finite. Received: NaN or infinite values.")
    return array.astype(tensor.dtype)


def _has_shape(array: np.ndarray, shape: tuple[int | None, ...]) -> bool:
    """Return whether an array has the given shape. None in `shape` stands for any size."""
    if len(array.shape) != len(shape):
        return False
    sizes = zip(shape, array.shape, strict=True)
    return all(expected in (None, actual) for expected, actual in sizes)


def _has_kind(array: np.ndarray, dtype: str) -> bool:
    """Return whether an array can be cast to a dtype without changing what its values mean.

    For instance, uint8 pixels have values from 0 to 255, but float32 pixels have values in [0, 1].
    Therefore the result is False for a uint8 array and the dtype float32.
    """
    if dtype == "object":
        return all(isinstance(value, bytes) for value in array.ravel())
    if array.dtype == np.uint8 and dtype == "float32":
        return False
    return bool(np.can_cast(array.dtype, dtype, "same_kind")) or not array.size


def _to_json(array: np.ndarray) -> list[Any]:
    """Convert an array to nested lists for a JSON request. Bytes are encoded in base64."""
    if array.dtype == object:
        return [{"b64": base64.b64encode(value).decode()} for value in array]
    values: list[Any] = array.tolist()
    return values


def _from_json(values: Any, tensor: Tensor) -> np.ndarray:
    """Convert one output in the JSON answer of a server to an array.

    Text becomes `bytes`. If the name of the output ends in `_bytes`, the server has encoded the
    text in base64, and the function decodes it.

    Args:
        values: The output as nested lists.
        tensor: Dtype and shape of the output.
    """
    if tensor.dtype == "object":
        return np.array(
            [x.encode() if isinstance(x, str) else base64.b64decode(x["b64"]) for x in values],
            object,
        )
    return np.asarray(values, tensor.dtype)
