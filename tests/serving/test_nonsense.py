"""The clients on servers that answer something else than TensorFlow Serving would."""

import concurrent.futures
import http.server
import json
import threading

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

from keras_gen.serving import GRPCClient, RESTClient, ServingError
from keras_gen.serving.client import Signature, Tensor

SPEC = {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "2"}]}}
METADATA = {
    "metadata": {
        "signature_def": {
            "signature_def": {
                "decode": {"inputs": {"latents": SPEC}, "outputs": {"outputs": SPEC}},
                "score": {"inputs": {"inputs": SPEC}, "outputs": {"score": SPEC, "more": SPEC}},
            }
        }
    }
}


class Server(http.server.ThreadingHTTPServer):
    """Answers GET and POST with the attributes `get` and `post`, `(status, text)`."""

    get = post = (200, "{}")


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # the name that http.server calls
        self._answer(*self.server.get)

    def do_POST(self):
        self._answer(*self.server.post)

    def _answer(self, status, text):
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def rest():
    server = Server(("localhost", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def client_of(server):
    return RESTClient(f"http://localhost:{server.server_port}", "vae", timeout=10)


NONSENSE = ["<html>", "", "[]", "3", "null", '"text"', "{}", '{"error": 3}', '{"outputs": null}']


@pytest.mark.parametrize("status", [200, 404, 500, 302, 204, 299])
@pytest.mark.parametrize("text", NONSENSE)
def test_rest_answers_of_another_form_are_serving_errors(rest, status, text):
    rest.get = rest.post = (status, text)
    client = client_of(rest)
    for call in (client.status, client.signatures, lambda: client.decode([[0.0, 1.0]])):
        with pytest.raises(ServingError):
            call()


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "DT_MADE_UP"},
        {"tensor_shape": {"dim": [{"size": "many"}]}},
        {"tensor_shape": None},
        {"dtype": None},
    ],
)
def test_rest_metadata_of_another_form_are_serving_errors(rest, change):
    text = json.dumps(METADATA).replace(json.dumps(SPEC), json.dumps({**SPEC, **change}))
    rest.get = (200, text)
    with pytest.raises(ServingError, match="must answer as TensorFlow Serving does"):
        client_of(rest).signatures()


@pytest.mark.parametrize(
    "outputs",
    [
        "[[1, 2], [3]]",
        '[["a", "b"]]',
        "[[1, 2], [3, 4]]",
        "[[1]]",
        "[]",
        "null",
        "{}",
        "[[[1, 2]]]",
    ],
)
def test_rest_outputs_of_another_shape_are_serving_errors(rest, outputs):
    rest.get = (200, json.dumps(METADATA))
    rest.post = (200, f'{{"outputs": {outputs}}}')
    with pytest.raises(ServingError, match="must answer as TensorFlow Serving does"):
        client_of(rest).decode([[0.0, 1.0]])
    rest.post = (200, '{"outputs": {"score": [[1, 2]]}}')  # one of two outputs
    with pytest.raises(ServingError, match="must answer as TensorFlow Serving does"):
        client_of(rest).score([[0.0, 1.0]])
    rest.post = (200, '{"outputs": [[1, 2]]}')
    np.testing.assert_array_equal(client_of(rest).decode([[0.0, 1.0]]), [[1, 2]])


def test_the_message_of_a_check_in_the_graph_is_shown_without_marks(rest):
    rest.get = (200, json.dumps(METADATA))
    mark = "\u2063\u2063"
    text = f"node Assert: assertion failed: [{mark}Received: @ at index #.{mark}] [3] [-1]"
    rest.post = (400, json.dumps({"error": text}))
    with pytest.raises(ServingError) as error:
        client_of(rest).decode([[0.0, 1.0]])
    assert str(error.value) == "INVALID_ARGUMENT: Received: -1 at index 3."


@pytest.mark.parametrize("address", ["", "nonsense", "http://", "ftp://localhost", "http://[::1"])
def test_addresses_that_are_none_are_serving_errors(address):
    with pytest.raises(ServingError, match="UNAVAILABLE"):
        RESTClient(address, "vae", timeout=2).status()


@pytest.mark.parametrize(("status", "quote"), [(200, ""), (500, '"')])
def test_a_message_shows_only_the_start_of_a_long_answer(rest, status, quote):
    text = quote + 5000 * "Z" + quote
    rest.get = (status, text)
    with pytest.raises(ServingError) as error:
        client_of(rest).status()
    assert text[:200] in str(error.value)
    assert text[:201] not in str(error.value)


class Nonsense(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers without metadata and without outputs."""

    metadata = get_model_metadata_pb2.GetModelMetadataResponse()

    def GetModelMetadata(self, request, context):  # noqa: N802
        return self.metadata

    def Predict(self, request, context):  # noqa: N802
        return predict_pb2.PredictResponse()


def test_grpc_answers_of_another_form_are_serving_errors(rest):
    service = Nonsense()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(service, server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    client = GRPCClient(f"localhost:{port}", "vae", timeout=10)
    with pytest.raises(ServingError, match="must answer as TensorFlow Serving does"):
        client.signatures()
    with pytest.raises(ServingError, match="UNIMPLEMENTED"):
        client.status()
    definitions = get_model_metadata_pb2.SignatureDefMap()
    for kind in ("inputs", "outputs"):
        info = getattr(definitions.signature_def["decode"], kind)[
            "latents" if kind == "inputs" else "outputs"
        ]
        info.dtype = 1
        info.tensor_shape.dim.add().size = -1
        info.tensor_shape.dim.add().size = 2
    service.metadata.metadata["signature_def"].Pack(definitions)
    with pytest.raises(ServingError, match="must answer as TensorFlow Serving does"):
        client.decode([[0.0, 1.0]])
    client.close()
    with pytest.raises(ValueError, match="closed"):
        client.status()
    server.stop(None)
    rest_client = GRPCClient(f"localhost:{rest.server_port}", "vae", timeout=5)
    with pytest.raises(ServingError):  # a server of another protocol
        rest_client.signatures()
    rest_client.close()


class Echo(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Answers a request with its own inputs."""

    def Predict(self, request, context):  # noqa: N802
        return predict_pb2.PredictResponse(outputs=request.inputs)


def test_grpc_sends_and_receives_more_than_the_4_mb_that_grpc_allows_by_default():
    unlimited = [("grpc.max_receive_message_length", -1)]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1), options=unlimited)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Echo(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    client = GRPCClient(f"localhost:{port}", "vae", timeout=60)
    tensor = Tensor("float32", (None, 1000))
    client._signatures = {"echo": Signature({"x": tensor}, {"x": tensor})}
    large = np.random.default_rng(0).random((1100, 1000), dtype=np.float32)
    np.testing.assert_array_equal(client.predict("echo", x=large)["x"], large)
    client.close()
    server.stop(None)
