"""The clients, on real sockets, against a server that follows the rules of TensorFlow Serving."""

import http.server
import pathlib
import re
import runpy
import socket
import threading
import time

import numpy as np
import pytest
import requests
import tensorflow as tf

from keras_gen.serving import GRPCClient, RESTClient, ServingError
from keras_gen.serving.client import Tensor, Version


@pytest.fixture(params=["rest", "grpc"])
def client(request, server):
    """A function that makes a client of a model by its name, over REST and over gRPC."""

    def connect(name, **arguments):
        if request.param == "grpc":
            return GRPCClient(f"localhost:{server['grpc']}", name, **arguments)
        return RESTClient(f"http://localhost:{server['rest']}/", name, **arguments)

    return connect


def test_every_method_answers_as_the_model_does(client, models, images):
    x, seed = images[:3], [1, 2**40, 7]
    for name, model in models.items():
        ask = client(name)
        condition = np.array([0, 3, 1]) if model.num_classes else None
        given = () if condition is None else (condition,)
        generated = ask.generate(seed, condition)
        expected = model.generate_rows(tf.constant(seed, tf.int64), *given)
        np.testing.assert_allclose(generated.outputs, expected["outputs"], atol=1e-6)
        np.testing.assert_allclose(generated.latents, expected["latents"], atol=1e-6)
        z = expected["latents"].numpy()[::-1]
        np.testing.assert_allclose(ask.decode(z, condition), model.decode(z, *given), atol=1e-6)
        if name.endswith("gan"):
            np.testing.assert_allclose(
                ask.discriminate(x, condition), model.discriminate(x, *given), atol=1e-6
            )
            continue
        np.testing.assert_allclose(
            ask.reconstruct(x, condition), model.reconstruct(x, *given), atol=1e-6
        )
        np.testing.assert_allclose(ask.score(x, condition).score, model.score(x, *given), rtol=1e-5)
        encoded = ask.encode(x, condition)
        if name == "vq_vae":
            np.testing.assert_array_equal(encoded["latents"], model.encode(x))
            continue
        if name == "hierarchical_vae":
            for number, layer in enumerate(model.encode(x).layers, 1):
                np.testing.assert_allclose(encoded[f"mean_{number}"], layer.mean(), atol=1e-6)
        elif name == "autoencoder":
            np.testing.assert_allclose(encoded["latents"], model.encode(x), atol=1e-6)
            np.testing.assert_array_equal(ask.score(x).anomaly, model.is_anomaly(x))
            assert ask.score(x).anomaly.dtype == bool
        else:
            assert ask.score(x, condition).anomaly is None
            np.testing.assert_allclose(encoded["mean"], model.encode(x, *given).mean(), atol=1e-6)
            assert ("scale_tril" in encoded) == (name == "conditional_vae")
        assert encoded[next(iter(encoded))].dtype == np.float32


def test_images_are_sent_and_received_as_png(client, models, images):
    files = np.array(
        [tf.io.encode_png(np.uint8(255 * image)).numpy() for image in images[:3]], object
    )
    pixels = np.float32(np.uint8(255 * images[:3])) / 255
    vae = client("vae")
    [shown] = [
        np.array([tf.io.decode_png(file).numpy() for file in v])
        for v in vae.predict("serving_default_bytes", inputs_bytes=files).values()
    ]
    np.testing.assert_allclose(shown / 255, models["vae"].reconstruct(pixels), atol=0.51 / 255)
    np.testing.assert_allclose(
        vae.predict("encode_bytes", inputs_bytes=files)["mean"],
        models["vae"].encode(pixels).mean(),
        atol=1e-5,
    )
    made = vae.predict("generate_bytes", seed=[5, 6])["outputs_bytes"]
    shown = np.array([tf.io.decode_png(file).numpy() for file in made])
    np.testing.assert_allclose(shown / 255, models["vae"].generate(seed=[5, 6]), atol=0.51 / 255)
    for wrong, said in (
        (b"no image", "Unknown image file format|decode"),
        (tf.io.encode_png(np.zeros((5, 8, 1), "uint8")).numpy(), r"5,8,1"),
    ):
        with pytest.raises(ServingError, match=f"INVALID_ARGUMENT: .*({said})"):
            vae.predict("encode_bytes", inputs_bytes=[wrong])


def test_status_and_signatures_are_typed(client):
    ask = client("conditional_vae")
    assert ask.status() == [Version(1, "AVAILABLE", "")]
    score = ask.signatures()["score"]
    assert score.inputs == {
        "inputs": Tensor("float32", (None, 8, 8, 1)),
        "condition": Tensor("int64", (None,)),
    }
    assert score.outputs == {
        "score": Tensor("float32", (None,)),
        "per_feature": Tensor("float32", (None, 8, 8, 1)),
    }
    assert ask.signatures()["generate_bytes"].outputs["outputs_bytes"] == Tensor("object", (None,))


def test_invalid_requests_are_refused_before_they_are_sent(client, images):
    ask = client("vae")
    for call, said in (
        (
            lambda: ask.predict("dream", seed=[1]),
            r"`signature` must be one of decode, decode_bytes, encode, .* for the model 'vae'\. "
            "Received: signature='dream'",
        ),
        (
            lambda: ask.predict("generate", inputs=[1]),
            r"The inputs of generate must be seed\. Received: inputs",
        ),
        (
            lambda: ask.encode(images[..., 0]),
            r"`inputs` must be float32 of shape \(batch, 8, 8, 1\)\. "
            r"Received: float32 of shape \(20, 8, 8\)",
        ),
        (
            lambda: ask.generate([0.5]),
            r"`seed` must be int64 of shape \(batch\)\. Received: float64 of shape \(1,\)",
        ),
        (
            lambda: ask.encode(np.zeros((1, 8, 8, 1), np.uint8)),
            r"`inputs` must be float32 .* Received: uint8",
        ),
        (lambda: ask.encode(np.full((1, 8, 8, 1), np.nan)), "`inputs` must be finite"),
        (
            lambda: ask.predict("encode_bytes", inputs_bytes=["text"]),
            "`inputs_bytes` must be bytes",
        ),
        (
            lambda: client("conditional_vae").generate([1, 2], condition=[1]),
            "All inputs must have the same batch size. Received: .*2.*1",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_only_grpc_accepts_an_empty_batch(server, images):
    empty = GRPCClient(f"localhost:{server['grpc']}", "vae").encode(images[:0])
    assert empty["mean"].shape == (0, 3)
    with pytest.raises(ValueError, match="A REST request must have at least one row"):
        RESTClient(f"http://localhost:{server['rest']}", "vae").encode(images[:0])


def test_errors_of_the_server_name_their_code_and_what_to_do(client):
    with pytest.raises(ServingError, match=r"NOT_FOUND: .*nobody.*models.config") as caught:
        client("nobody").generate([1])
    assert caught.value.code == "NOT_FOUND"
    with pytest.raises(
        ServingError, match=r"NOT_FOUND: Servable not found for request: Specific\(vae, 7\)"
    ):
        client("vae", version=7).generate([1])
    with pytest.raises(
        ServingError, match="INVALID_ARGUMENT: Unrecognized servable version label: stable"
    ):
        client("vae", label="stable").generate([1])
    with pytest.raises(ValueError, match="a version or a label, not both"):
        client("vae", version=1, label="stable")
    assert client("vae", version=1).generate([1]).outputs.shape == (1, 8, 8, 1)


@pytest.mark.parametrize("kind", ["rest", "grpc"])
def test_no_server_and_a_silent_server_give_different_errors_in_time(kind):
    with socket.socket() as silent:
        silent.bind(("localhost", 0))
        silent.listen()
        port = silent.getsockname()[1]
        make = {"rest": lambda: RESTClient(f"http://localhost:{port}", "vae", timeout=0.3)}
        make["grpc"] = lambda: GRPCClient(f"localhost:{port}", "vae", timeout=0.3)
        began = time.monotonic()
        with pytest.raises(ServingError, match="DEADLINE_EXCEEDED"):
            make[kind]().status()
    with pytest.raises(
        ServingError,
        match="UNAVAILABLE.*Is the server running there"
        if kind == "rest"
        else "UNAVAILABLE|DEADLINE_EXCEEDED",
    ):
        make[kind]().status()
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (409, "ABORTED"),
        (429, "RESOURCE_EXHAUSTED"),
        (499, "CANCELLED"),
        (500, "INTERNAL"),
        (501, "UNIMPLEMENTED"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
        (418, "INTERNAL"),
    ],
)
def test_the_code_of_an_error_is_that_of_the_http_status(status, code):
    """The pairs are those of google/rpc/code.proto."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"error": "in short"}')

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("localhost", 0), Answer) as answering:
        thread = threading.Thread(target=answering.handle_request)
        thread.start()
        with pytest.raises(ServingError, match=f"{code}: in short"):
            RESTClient(f"http://localhost:{answering.server_port}", "vae", timeout=5).status()
        thread.join()


def test_the_rest_interface_as_curl_uses_it(server):
    """The rules of the interface: omitted names of single inputs and outputs, base64, errors."""
    base = f"http://localhost:{server['rest']}/v1/models/vae"

    def post(body):
        answer = requests.post(f"{base}:predict", data=body, timeout=30)
        return answer.status_code, answer.json()

    status, rows = post('{"signature_name": "generate", "instances": [1, 2]}')
    assert status == 200
    assert [sorted(row) for row in rows["predictions"]] == [["latents", "outputs"]] * 2
    status, columns = post('{"signature_name": "generate", "inputs": [1, 2]}')
    assert columns["outputs"]["latents"] == [row["latents"] for row in rows["predictions"]]
    status, single = post('{"signature_name": "decode", "instances": [{"latents": [0, 0, 0.5]}]}')
    assert (status, np.shape(single["predictions"])) == (200, (1, 8, 8, 1))
    status, png = post('{"signature_name": "decode_bytes", "inputs": {"latents": [[0, 0, 0]]}}')
    assert (status, list(png["outputs"][0])) == (200, ["b64"])
    for body, said in (
        ("{", "JSON Parse error"),
        ("[1]", "Is not object"),
        ('{"signature_name": "generate"}', "Missing 'inputs' or 'instances' key"),
        ('{"signature_name": "generate", "inputs": [1], "instances": [1]}', "only one of"),
        ('{"signature_name": "generate", "instances": []}', "instances"),
        ('{"signature_name": "generate", "inputs": [1.5]}', "not of expected type"),
        ('{"signature_name": "generate", "inputs": [[1], [1, 2]]}', "unexpected size"),
        ('{"signature_name": "decode", "instances": [[0, 0, 0], [0, 0]]}', "Expecting shape"),
        (
            '{"signature_name": "decode", "inputs": [[0, 0]]}',
            re.escape("is not compatible with expected shape [?,3]"),
        ),
        ('{"signature_name": "dream", "inputs": [1]}', '"dream" not found in signature def'),
    ):
        status, answer = post(body)
        assert status == 400, body
        assert re.search(said, answer["error"]), (body, answer)
    assert requests.get(f"{base}/versions/9", timeout=30).status_code == 404
    assert requests.get(f"{base}:explain", timeout=30).status_code == 400


def test_the_smoke_script_finds_no_difference(server, capsys):
    main = runpy.run_path(
        str(pathlib.Path(__file__).parents[2] / "scripts" / "smoke_test_server.py")
    )["main"]
    main(f"http://localhost:{server['rest']}", "conditional_vae", f"localhost:{server['grpc']}")
    output = capsys.readouterr().out
    assert output.count("generate ") == 2
    assert "All answers agree." in output
