"""The verification of published models that are correct, damaged, or wrong on purpose."""

import importlib
import itertools
import pathlib
import re
import shutil
import types

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
        ("small difference", "signature serving_default: y differs from the Keras output by 0.0"),
        ("smaller difference", None),
        ("unknown", "a warm-up record asks for signature other, which does not exist"),
        ("unasked", "signature serving_default has no warm-up record"),
        ("renamed", "signature serving_default: it returns .'y'., but Keras returned .'z'."),
    ],
)
def test_each_fault_is_found(fault, said, tmp_path):
    module, x = Faulty(fault), np.float32([[1, 2], [3, 4], [5, 6]])
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.__call__})
    answer = module(x)["y"].numpy() + (0.01 if fault == "answer" else 0)
    answer *= 1 + {"small difference": 1.5e-4, "smaller difference": 7e-5}.get(fault, 0)
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
        if fault == "unknown":
            log.predict_log.request.model_spec.signature_name = "other"
            writer.write(log.SerializeToString())
    problems = clean_check.check(tmp_path)["problems"]
    if said is None:
        assert problems == []
    else:
        assert problems
        assert all(re.search(said, problem) for problem in problems), problems


class Function:
    """A signature with the input `x` and the output `y`."""

    def __init__(self, function, shape=(None, 2)):
        self.function = function
        spec = tf.TensorSpec(shape, tf.float32, name="x")
        self.structured_input_signature = ((), {"x": spec})
        self.structured_outputs = {"y": tf.TensorSpec((None, 2), tf.float32)}

    def __call__(self, x):
        return {"y": self.function(x)}


def checked(function, x, expected, tolerance=1e-4, **arguments):
    """Return the entry and the problems of a signature."""
    function = Function(function, **arguments)
    return clean_check._check_signature(function, {"x": x}, {"y": expected}, tolerance)


@pytest.mark.parametrize("size", [0.1, 100.0])
def test_differences_are_absolute_below_1_and_relative_above(size):
    x = size * np.array([[1.0, 2.0], [3.0, 4.0]])
    for tolerance in (1e-4, 0.0):
        entry, problems = checked(tf.identity, x, x, tolerance)
        assert (entry["difference"], problems) == (0.0, [])
    scale = np.maximum(x, 1)
    entry, problems = checked(tf.identity, x, x + 0.9e-4 * scale)
    assert entry["difference"] == pytest.approx(0.9e-4, rel=1e-3)
    assert problems == []
    _, problems = checked(tf.identity, x, x + 1.1e-4 * scale)
    assert problems == ["y differs from the Keras output by 0.00011"]
    infinite = np.where(x == x.max(), np.inf, x)
    assert checked(tf.identity, infinite, infinite)[1] == []
    assert checked(tf.identity, infinite, x)[1] == ["y differs from the Keras output by inf"]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (1, "y of a row depends on the other rows of its batch"),
        (4, "y of a doubled batch differs from y of the batch"),
    ],
)
def test_rows_that_depend_on_the_size_of_the_batch_are_found(rows, problem):
    x = np.full((2, 2), 100.0)
    for change, problems in ((5e-3, []), (2e-2, [problem])):

        def function(x, change=change):
            return x + (change if len(x) == rows else 0)

        assert checked(function, x, x)[1] == problems


def test_rows_for_an_empty_batch_and_a_fixed_batch_size_are_found():
    x = np.ones((2, 2))
    of_empty = checked(lambda x: x if len(x) else tf.ones((1, 2), tf.float64), x, x)
    assert of_empty[1] == ["y of an empty batch has rows: shape (1, 2)"]
    for shape in ((2, 2), ()):
        problem = f"input x has shape {shape}, but its first dimension must be None"
        assert checked(tf.identity, x, x, shape=shape)[1] == [problem]


def test_a_pixel_may_differ_by_one_of_255_levels_and_a_text_not_at_all():
    def images(level, count):
        image = tf.fill((2, 3, 1), tf.cast(level, tf.uint8))
        return np.array([tf.io.encode_png(image).numpy()] * count, object)

    x, expected = np.ones((2, 2)), images(100, 2)
    for level, problems in (
        (100, []),
        (101, []),
        (102, ["y differs from the Keras output by 0.0078"]),
    ):
        entry, found = checked(
            lambda x, level=level: tf.constant(images(level, len(x)), tf.string), x, expected, 1e-6
        )
        assert found == problems
        assert entry["difference"] == pytest.approx((level - 100) / 255, rel=1e-6)
    for text, correct in (("a", True), ("b", False)):
        texts = np.array([b"a", b"a"], object)
        _, found = checked(lambda x, text=text: tf.fill(tf.shape(x)[:1], text), x, texts)
        assert (found == []) == correct


def test_the_time_of_a_call_is_a_median_in_milliseconds(monkeypatch):
    monkeypatch.setattr(clean_check.time, "perf_counter", itertools.count(10).__next__)
    entry, _ = checked(tf.identity, np.ones((2, 2)), np.ones((2, 2)))
    assert entry["milliseconds"] == 1000.0  # one second per call


def test_operators_that_a_server_must_not_run():
    names = (
        *("Add", "StatelessRandomUniformV2", "RandomOfAnotherLibrary"),
        *("RandomStandardNormal", "Multinomial", "RngReadAndSkip", "EagerPyFunc"),
    )
    found = [*clean_check._unservable_operators([types.SimpleNamespace(op=op) for op in names])]
    assert sorted(text.split()[1] for text in found) == sorted(names[3:])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/user/table.csv", True),
        ("C:\\data", True),
        ("/device:CPU:0", False),
        ("/job:worker", False),
        ("dense/kernel", False),
        ("a:\\", True),
        ("", False),
    ],
)
def test_absolute_paths_are_found(text, expected):
    message = tf.make_tensor_proto(text.encode())
    assert bool([*clean_check._absolute_paths(message)]) == expected
    numbers = type(message)(tensor_content=text.encode())
    assert [*clean_check._absolute_paths(numbers)] == []


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
