"""The verification of published models that are correct, damaged, or wrong on purpose."""

import importlib
import itertools
import pathlib
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import IMAGE, SERVED, tiny_vae
from tensorflow_serving.apis import prediction_log_pb2

import keras_gen
from keras_gen import cli, distributions, networks, serving
from keras_gen._export import write_saved_model
from keras_gen._files import write_checksums
from keras_gen.serving import _clean_check as clean_check
from keras_gen.serving.verify import CHECKSUMS
from keras_gen.serving.warm_up import RECORDS, write_records


def test_the_command_prints_every_signature_and_exits_with_0(published, capsys):
    cli.main(["verify", str(published / "vae" / "1")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["signature", "inputs", "outputs", "difference", "ms"]
    table = {line.split()[0]: line for line in lines[1:-1]}
    wanted = ["serving_default", "encode", "decode", "generate", "score"]
    assert sorted(table) == sorted([*wanted, *(f"{name}_bytes" for name in wanted)])
    assert "inputs float32 [batch, 8, 8, 1]" in table["encode"]
    assert "mean float32 [batch, 3], scale float32 [batch, 3]" in table["encode"]
    for line in table.values():
        difference, milliseconds = map(float, line.split()[-2:])
        assert difference <= 1e-4
        assert 0 < milliseconds < 1000
    assert lines[-1] == "871 parameters"


@pytest.mark.parametrize("name", SERVED)
def test_every_model_has_no_problem(published, models, name):
    found = clean_check.check(published / name / "1")
    assert found["problems"] == []
    assert sorted(found["signatures"]) == sorted(
        f"{s}{suffix}" for s in models[name].signatures() for suffix in ("", "_bytes")
    )
    assert all(0 <= row["difference"] <= 1e-4 for row in found["signatures"].values())


def test_damage_to_any_file_is_named_and_exits_with_1(published, tmp_path, capsys):
    whole = published / "gan" / "1"
    files = sorted(
        path.relative_to(whole).as_posix() for path in whole.rglob("*") if path.is_file()
    )
    assert {
        "saved_model.pb",
        "variables/variables.index",
        "assets.extra/SHA256SUMS",
        RECORDS,
    } < set(files)
    random = np.random.default_rng(0)
    for file, how in itertools.product(files, ("a flipped bit", "cut off", "gone")):
        copy = tmp_path / file.replace("/", "-") / how / "1"
        shutil.copytree(whole, copy)
        content = bytearray((copy / file).read_bytes())
        if how == "a flipped bit":
            content[random.integers(len(content))] ^= 1 << int(random.integers(8))
            (copy / file).write_bytes(content)
        elif how == "cut off":
            (copy / file).write_bytes(content[: len(content) // 2])
        else:
            (copy / file).unlink()
        with pytest.raises(SystemExit) as caught:
            cli.main(["verify", str(copy)])
        assert caught.value.code == 1
        [line] = capsys.readouterr().err.splitlines()
        assert file in line, (how, line)


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_a_problem(published, tmp_path):
    folder = tmp_path / "1"
    shutil.copytree(published / "gan" / "1", folder)
    (folder / "variables" / "variables.index").write_bytes(b"nothing")
    write_checksums(folder, CHECKSUMS)  # as if it had been so from the beginning
    [problem] = serving.verify(folder).problems
    assert problem.startswith("the SavedModel cannot be run: ")


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise ValueError('no weights')", "the SavedModel cannot be run: ValueError: no weights"),
        ("import os; os._exit(3)", "the SavedModel cannot be run: exit code 3"),
        ("import time; time.sleep(60)", "the check did not end within 0.5 s"),
        ("import keras_gen", "the SavedModel cannot be run: ModuleNotFoundError: .*keras_gen"),
    ],
)
def test_a_check_that_fails_or_does_not_end_is_a_problem(
    program, said, published, tmp_path, monkeypatch
):
    """With a small program in place of the check, which loads TensorFlow."""
    check = tmp_path / "check.py"
    check.write_text(f"import sys\nsys.modules['keras_gen'] = None\n{program}\n")
    verification = importlib.import_module("keras_gen.serving.verify")
    monkeypatch.setattr(verification, "_CHECK", check)
    monkeypatch.setattr(verification, "_TIMEOUT", 0.5 if "sleep" in program else 60)
    [problem] = serving.verify(published / "gan" / "1").problems
    assert re.match(said, problem)


def test_a_missing_folder_is_an_error_and_an_empty_one_a_problem(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["verify", str(tmp_path / "nowhere")])
    assert caught.value.code == 2
    assert "`folder` must be the folder of a SavedModel" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert "SHA256SUMS is missing" in serving.verify(tmp_path / "empty").problems[0]


class Faulty(tf.Module):
    """A model with one fault, or none."""

    def __init__(self, fault):
        super().__init__()
        self.weights = tf.Variable([2.0, 3.0])
        self.again = tf.Variable([2.0, 3.0]) if fault == "twice" else None
        self.fault = fault

    @tf.function(input_signature=[tf.TensorSpec((None, 2), tf.float32, name="x")])
    def __call__(self, x):
        y = x * self.weights
        if self.fault == "noise":
            y += 1e-9 * tf.random.normal(tf.shape(x))
        elif self.fault == "python":
            y = tf.ensure_shape(tf.numpy_function(np.copy, [y], tf.float32), (None, 2))
        elif self.fault == "batch":
            y += 0.5 * tf.cast(tf.shape(x)[0] > 1, tf.float32)
        elif self.fault == "path":
            path = tf.constant(str(pathlib.Path(__file__).resolve()))
            y += 0 * tf.cast(tf.strings.length(path), tf.float32)
        return {"y": y}


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (None, None),
        ("noise", "operator RandomStandardNormal samples from a random state of the server"),
        ("python", "operator PyFunc calls Python"),
        (
            "batch",
            "signature serving_default: y of a doubled batch differs from y of the batch|"
            "y of a row depends on the other rows of its batch",
        ),
        ("path", "the graph contains .*test_verify.py, a path on the machine that wrote the graph"),
        ("twice", "the SavedModel stores 4 numbers, but its signatures use 2"),
        ("answer", "signature serving_default: y differs from the Keras output by 0.0"),
        ("unasked", "signature serving_default has no warm-up record"),
        ("renamed", "signature serving_default: it returns .'y'., but Keras returned .'z'."),
    ],
)
def test_each_fault_is_found(fault, said, tmp_path):
    module, x = Faulty(fault), np.float32([[1, 2], [3, 4], [5, 6]])
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.__call__})
    answer = module(x)["y"].numpy() + (0.01 if fault == "answer" else 0)
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = "serving_default"
    log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(x))
    log.predict_log.response.outputs["z" if fault == "renamed" else "y"].CopyFrom(
        tf.make_tensor_proto(answer)
    )
    (tmp_path / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(tmp_path / RECORDS)) as writer:
        if fault != "unasked":
            writer.write(log.SerializeToString())
    problems = clean_check.check(tmp_path)["problems"]
    if fault is None:
        assert problems == []
    else:
        assert problems
        assert all(re.search(said, problem) for problem in problems), problems


def test_mixed_precision_has_a_larger_tolerance(tmp_path, images):
    keras.config.set_dtype_policy("mixed_float16")
    model, arguments = tiny_vae()
    model.compile(**arguments)
    endpoints = model.endpoints()
    write_saved_model(endpoints, tmp_path)
    write_records(endpoints, model, tmp_path)
    assert clean_check.check(tmp_path)["problems"] == []
    model.set_weights([1.1 * weights for weights in model.get_weights()])
    write_records(endpoints, model, tmp_path)
    assert any(
        "differs from the Keras output" in problem
        for problem in clean_check.check(tmp_path)["problems"]
    )


def test_a_categorical_likelihood_whose_scores_may_be_infinite_is_verified(tmp_path):
    for levels in (256, 16):  # the warm-up images have 256 levels, most of which 16 do not include
        posterior = distributions.DiagonalNormal(2)
        likelihood = distributions.Categorical(IMAGE, levels)
        encoder = networks.mlp(IMAGE, (posterior.parameter_size,), hidden=(4,))
        model = keras_gen.VAE(
            encoder,
            networks.mlp((2,), likelihood.parameter_shape, hidden=(4,)),
            posterior,
            likelihood,
            seed=0,
        )
        endpoints = model.endpoints()
        write_saved_model(endpoints, tmp_path / str(levels))
        exchanges = write_records(endpoints, model, tmp_path / str(levels))
        assert np.isfinite(exchanges["score"][1]["score"]).all() == (levels == 256)
        assert clean_check.check(tmp_path / str(levels))["problems"] == []
