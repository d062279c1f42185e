"""PNG endpoints, ONNX and LiteRT, each compared with the Keras model in its own runtime."""

import re

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from support import IMAGE, conditional_vae, tiny_autoencoder, tiny_gan, tiny_vae

import keras_gen
from keras_gen import distributions, networks
from keras_gen._export import serving_endpoints


def run_onnx(path, inputs):
    session = onnxruntime.InferenceSession(path)
    assert sorted(value.name for value in session.get_inputs()) == sorted(inputs)
    return dict(
        zip((value.name for value in session.get_outputs()), session.run(None, inputs), strict=True)
    )


def run_litert(path, inputs):
    interpreter = Interpreter(str(path))
    return interpreter.get_signature_runner(next(iter(interpreter.get_signature_list())))(**inputs)


RUNTIMES = {"onnx": (".onnx", run_onnx), "litert": (".tflite", run_litert)}


def flow_vae():
    posterior = distributions.InverseAutoregressiveNormal(3)
    likelihood = distributions.Categorical(IMAGE, 16)
    encoder = networks.mlp(IMAGE, (posterior.parameter_size,), hidden=(5,))
    decoder = networks.mlp((3,), likelihood.parameter_shape, hidden=(5,))
    return keras_gen.VAE(encoder, decoder, posterior, likelihood, seed=1), {}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("make", "signatures"),
    [
        (tiny_autoencoder, ("serving_default", "score")),
        (tiny_vae, ("serving_default", "encode")),
        (tiny_gan, ("decode", "discriminate")),
        (conditional_vae, ("decode",)),
        (flow_vae, ("encode",)),
        pytest.param(tiny_autoencoder, ("encode", "decode"), marks=pytest.mark.exhaustive),
        pytest.param(tiny_vae, ("decode",), marks=pytest.mark.exhaustive),
        pytest.param(conditional_vae, ("serving_default", "encode"), marks=pytest.mark.exhaustive),
    ],
)
def test_other_runtimes_compute_what_keras_computes(make, signatures, runtime, images, tmp_path):
    model, arguments = make()
    model.compile(**arguments)
    suffix, run = RUNTIMES[runtime]
    for signature in signatures:
        function, specs = model.signatures()[signature]
        path = tmp_path / f"{signature}{suffix}"
        model.export(path, format=runtime, signature=signature)
        for rows in (1, 5):
            given = {
                "inputs": images[:rows],
                "latents": images[:rows].reshape(rows, -1)[:, :3],
                "condition": np.arange(rows) % 4,
            }
            inputs = {spec.name: given[spec.name] for spec in specs}
            answers, expected = run(path, inputs), function(*map(tf.constant, inputs.values()))
            assert sorted(answers) == sorted(expected)
            for name, value in expected.items():
                np.testing.assert_allclose(
                    answers[name], value, atol=1e-5, err_msg=f"{signature} {name}"
                )


@pytest.mark.parametrize(
    ("make", "runtime", "signature", "said"),
    [
        (
            tiny_vae,
            "onnx",
            "generate",
            "onnx cannot run `generate` of {model}: onnx has no stateless random numbers",
        ),
        (
            tiny_vae,
            "litert",
            "generate",
            "litert cannot run `generate` of {model}: litert has no stateless random numbers",
        ),
        (
            tiny_vae,
            "onnx",
            "score",
            "onnx cannot run `score` of {model}: No Op registered for Expm1",
        ),
        (tiny_vae, "litert", "score", "litert cannot run `score` of {model}: litert has no "),
        (
            tiny_vae,
            "onnx",
            "dream",
            "`signature` must be one of serving_default, encode, decode, generate, score. "
            "Received: signature='dream'",
        ),
    ],
)
def test_a_signature_that_a_runtime_cannot_run_is_refused_and_leaves_no_file(
    make, runtime, signature, said, tmp_path
):
    model, _ = make()
    path = tmp_path / f"model{RUNTIMES[runtime][0]}"
    with pytest.raises(ValueError, match=re.escape(said.format(model=model.name))):
        model.export(path, format=runtime, signature=signature)
    assert not path.exists()
    with pytest.raises(ValueError, match=r"`filepath` must end in \..* Received: .*model\.bin"):
        model.export(tmp_path / "model.bin", format=runtime, signature="encode")


def test_an_onnx_file_with_an_input_of_its_own_is_refused_and_removed(tmp_path, monkeypatch):
    """tf2onnx writes a constant that it cannot convert as a further input."""
    types = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 3])
        for name in ("latents", "a_constant", "outputs")
    ]
    node = onnx.helper.make_node("Add", ["latents", "a_constant"], ["outputs"])
    graph = onnx.helper.make_graph([node], "decode", types[:2], types[2:])

    def export(self, filepath, **_):
        onnx.save(onnx.helper.make_model(graph), filepath)

    monkeypatch.setattr("keras_gen._export._SignatureModel.export", export)
    path = tmp_path / "model.onnx"
    with pytest.raises(
        ValueError, match=r"onnx cannot run `decode` of .*: tf2onnx could not convert a constant"
    ):
        tiny_vae()[0].export(path, format="onnx", signature="decode")
    assert not path.exists()


def test_litert_refuses_other_types_than_float32(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    with pytest.raises(
        ValueError, match=r"litert cannot run `encode` of .*: litert computes only in float32"
    ):
        tiny_vae()[0].export(tmp_path / "model.tflite", format="litert", signature="encode")


@pytest.mark.parametrize("shape", [(8, 8, 2), (64,), (8, 8, 1)])
def test_png_is_for_images_in_0_to_1(shape, tmp_path):
    activation = "tanh" if shape == IMAGE else "sigmoid"
    model = keras_gen.RegularizedAutoencoder(
        networks.mlp(shape, (3,)), networks.mlp((3,), shape, output_activation=activation)
    )
    with pytest.raises(
        ValueError, match=r"PNG endpoints need images of .*in \[0, 1\]\. Received: data of shape"
    ):
        model.export(tmp_path / "model", png=True)
    assert not (tmp_path / "model").exists()


def pixels_of(z):
    return {"outputs": tf.reshape(z, (-1, 1, 3, 1)), "rows": tf.fill(tf.shape(z)[:1], len(z))}


def test_an_empty_batch_has_one_row_more_and_others_none():
    specs = [tf.TensorSpec((None, 3), tf.float32, name="latents")]
    function, _ = serving_endpoints({"decode": (pixels_of, specs)}, (1, 3, 1), (0, 1))["decode"]
    for rows in (0, 1, 2):
        found = function(tf.ones((rows, 3)))
        assert found["outputs"].shape == (rows, 1, 3, 1)
        assert found["rows"].numpy().tolist() == [rows] * rows
    two = [*specs, tf.TensorSpec((None,), tf.int64, name="condition")]
    function, _ = serving_endpoints({"decode": (pixels_of, two)}, (1, 3, 1), (0, 1))["decode"]
    with pytest.raises(ValueError, match="zip"):
        function(tf.ones((1, 3)))


def test_values_outside_the_range_become_the_nearest_level_of_a_png():
    specs = [tf.TensorSpec((None, 3), tf.float32, name="latents")]
    signatures = {"decode": (pixels_of, specs)}
    endpoints = serving_endpoints(signatures, (1, 3, 1), (0, 1), png=True)
    function, specs = endpoints["decode_bytes"]
    answer = function(tf.constant([[-0.5, 0.25, 1.5]]))
    assert set(answer) == {"outputs_bytes", "rows"}
    image = tf.io.decode_png(answer["outputs_bytes"][0]).numpy()
    assert image[0, :, 0].tolist() == [0, 64, 255]


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-np.inf, np.inf), (0.0, np.inf)])
def test_png_is_for_images_with_1_3_or_4_channels(channels, value_range):
    shape = (5, 7, channels)
    specs = [tf.TensorSpec((None, *shape), tf.float32, name="inputs")]
    signatures = {"f": (lambda x: {"reconstructions": x}, specs)}
    function, [spec] = serving_endpoints(signatures, shape, value_range, png=True)["f_bytes"]
    assert (spec.name, spec.dtype) == ("inputs_bytes", tf.string)
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    answer = function(tf.constant([tf.io.encode_png(image).numpy()]))
    again = tf.io.decode_png(answer["reconstructions_bytes"][0])
    np.testing.assert_array_equal(again, image)


def test_the_file_of_a_vae_is_four_bytes_a_parameter_and_the_graph(tmp_path):
    """A model of the size that the training script makes, to within 5 %."""
    image = (28, 28, 1)
    posterior, likelihood = distributions.DiagonalNormal(10), distributions.Bernoulli(image)
    encoder = networks.conv_encoder(image, (posterior.parameter_size,))
    model = keras_gen.VAE(
        encoder, networks.conv_decoder((10,), image), posterior, likelihood, seed=0
    )
    model.compile("adam")
    model.export(tmp_path / "vae")
    size = sum(path.stat().st_size for path in (tmp_path / "vae").rglob("*") if path.is_file())
    expected = (
        4 * (model.encoder.count_params() + model.decoder.count_params())
        + (tmp_path / "vae" / "saved_model.pb").stat().st_size
    )
    assert expected <= size <= 1.05 * expected
