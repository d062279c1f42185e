"""Errors come before work, consoles of any encoding work, and the printed commands work."""

import io
import json
import pathlib
import re
import shlex
import sys

import keras
import numpy as np
import pytest
from support import CLASSES, IMAGE, conditional_gan, conditional_vae

from keras_gen import cli, data, serving
from keras_gen.runs import RunFolder, report
from keras_gen.runs import train as run
from keras_gen.runs.recipes import GANConfig, VAEConfig


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save_images(path, **labels):
    random = np.random.default_rng(0)
    counts = {"x_train": 40, "x_test": 20} if "y_test" in labels else {"x": 60}
    arrays = {
        name: random.integers(0, 256, (count, *IMAGE), np.uint8) for name, count in counts.items()
    }
    np.savez(path, **arrays, **labels)


def ended(arguments, code=2):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert (stopped.value.code or 0) == code


@pytest.mark.parametrize("name", ["mein modell ü", "", "../x", "a/b", "-x", "x\n", "a" * 101, "ü"])
@pytest.mark.parametrize("dry", [False, True])
def test_a_name_that_is_no_folder_or_url_is_refused_before_work(
    name, dry, in_folder, capsys, monkeypatch
):
    monkeypatch.setattr(run, "find_examples", lambda *arguments: pytest.fail("data were read"))
    ended(["train", "vae", f"--name={name}", *(["--dry-run"] if dry else [])])
    error = capsys.readouterr().err
    assert "must consist of letters from a to z, digits, and the characters . _ -" in error
    assert not any(in_folder.iterdir())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_consoles_of_any_encoding_print_everything(encoding, in_folder, monkeypatch):
    streams = {}
    for name in ("stdout", "stderr"):
        streams[name] = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, name, streams[name])

    def describe(config, set_defaults):
        raise ValueError("σ ≤ 1 ‖ − \u2063\u2063end\u2063\u2063")

    monkeypatch.setattr(run, "describe", lambda *arguments: "± σ ‖ ━")
    cli.main(["train", "vae", "--dry-run"])
    monkeypatch.setattr(run, "describe", describe)
    ended(["train", "vae", "--dry-run"])
    ended(["train", "vae", "--help"], 0)
    ended(["train", "vae", "--epohs", "3"])
    written = {}
    for name, stream in streams.items():
        stream.flush()
        written[name] = stream.buffer.getvalue().decode(encoding)
    assert "\\u2501" in written["stdout"]
    assert "keras-gen: error: " in written["stderr"]
    assert "end" in written["stderr"]
    assert "2063" not in written["stderr"]
    assert "Traceback" not in written["stderr"]


def test_an_error_of_a_graph_is_printed_without_marks(in_folder, monkeypatch, capsys):
    def fails(config, set_defaults):
        raise RuntimeError("assertion failed: [\u2063\u2063Expected less.\u2063\u2063] [3]")

    monkeypatch.setattr(run, "train", fails)
    ended(["train", "vae"], 1)
    error = capsys.readouterr().err
    assert "Expected less.] [3]" in error
    assert "\u2063" not in error


# === Labels of .npz files ===


SMALL = {
    "data": "digits.npz",
    "epochs": 1,
    "batch_size": 20,
    "network": "mlp",
    "latent_size": 2,
    "conditional": True,
}


def test_classes_are_counted_over_both_splits_before_work(in_folder):
    save_images("digits.npz", y_train=np.arange(40) % 3, y_test=np.arange(20) % 4)
    prepared = run._prepare(VAEConfig(**SMALL), run.create_strategy("single"))
    assert prepared.model.num_classes == 4


def test_labels_as_text_become_numbers_and_their_names_are_kept(in_folder, unpublished):
    names = np.array(["zebra", "ape", "Ürsula | x"])
    save_images("digits.npz", y=names[np.arange(60) % 3])
    classes = ["ape", "zebra", "Ürsula | x"]
    assert data.class_names("digits.npz") == classes
    batches, _ = data.load("digits.npz", 10, labels=True)
    for _, labels in batches:
        assert labels.dtype == "int64"
        assert set(labels.numpy()) <= {0, 1, 2}
    folder = RunFolder(run.train(VAEConfig(**SMALL)))
    assert folder.read_classes() == classes
    assert folder.load_model().num_classes == 3


def test_class_names_are_published_with_the_model(tmp_path, unverified, monkeypatch):
    publishing = sys.modules["keras_gen.serving.publish"]
    monkeypatch.setattr(publishing, "write_saved_model", lambda endpoints, path: path.mkdir())
    monkeypatch.setattr(publishing, "write_records", lambda *arguments: {})
    model, arguments = conditional_vae()
    model.compile(**arguments)
    classes = ["ape", "zebra", "Ürsula | x", "yak"]
    version = serving.publish(model, tmp_path / "vae", class_names=classes)
    assert json.loads((version / "assets.extra" / "classes.json").read_text("utf-8")) == classes
    card = (version / "assets.extra" / "MODEL_CARD.md").read_text("utf-8")
    assert "| 0 | ape |\n| 1 | zebra |\n| 2 | Ürsula \\| x |" in card


def test_the_numbers_of_text_labels_are_the_same_in_both_splits(in_folder):
    save_images("digits.npz", y_train=np.array(["b"] * 40), y_test=np.array(["a"] * 20))
    train_data, test_data = data.load("digits.npz", 100, labels=True)
    assert set(next(iter(train_data))[1].numpy()) == {1}
    assert set(next(iter(test_data))[1].numpy()) == {0}
    assert data.number_of_classes("digits.npz") == 2


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.where(np.arange(60) == 7, np.nan, 1.0), r"Received: nan at index \[7\] of y"),
        (np.full(60, 0.5), r"Received: 0\.5 at index \[0\] of y"),
        (np.full(60, -1), r"Received: -1 at index \[0\] of y"),
        (np.full(60, b"cat"), r"Received: an array of dtype \|S3"),
        (np.full(60, 1j), "dtype complex128"),
    ],
)
def test_invalid_labels_are_refused_by_the_name_of_their_array(labels, said, in_folder):
    save_images("digits.npz", y=labels)
    with pytest.raises(
        ValueError, match=rf"Expected y as labels: integers from 0, or text.*{said}"
    ):
        data.load("digits.npz", labels=True)
    data.load("digits.npz")  # without labels, they do not matter


@pytest.mark.parametrize("dtype", ["float32", "uint8", "bool", "int16"])
def test_whole_numbers_are_labels_whatever_their_type(dtype, in_folder):
    save_images("digits.npz", y=(np.arange(60) % 2).astype(dtype))
    batches, _ = data.load("digits.npz", labels=True)
    assert batches.element_spec[1].dtype == "int64"


def test_class_names_of_another_number_are_refused_before_work(tmp_path):
    model, arguments = conditional_vae()
    model.compile(**arguments)
    with pytest.raises(ValueError, match="must contain 4 names, one per class"):
        serving.publish(model, tmp_path / "vae", class_names=["a", "b"])
    assert not any(tmp_path.iterdir())


# === Commands that are printed ===


@pytest.mark.parametrize("kind", [VAEConfig, GANConfig])
@pytest.mark.parametrize("savedmodels", ["savedmodels", "/srv/my models"])
def test_the_commands_of_a_report_work_for_conditional_models(kind, savedmodels, tmp_path):
    """The request has a label that every conditional model has, and paths are quoted."""
    config = kind(conditional=True, name="digits", savedmodels=pathlib.Path(savedmodels))
    folder = RunFolder(tmp_path / "my runs" / "digits")
    export, docker, curl = report._serving_commands(folder, config).splitlines()
    words = shlex.split(export)
    assert words == ["keras-gen", "export", str(folder.path)]
    cli._parse(words[1:])
    volume = shlex.split(docker)[5]
    start = "" if savedmodels.startswith("/") else "$PWD/"
    assert volume == f"{start}{savedmodels}/digits:/models/digits"
    words = shlex.split(curl)
    assert words[3] == "http://localhost:8501/v1/models/digits:predict"
    request = json.loads(words[2])
    model, arguments = conditional_vae() if kind is VAEConfig else conditional_gan()
    model.compile(**arguments)
    assert request["inputs"]["seed"] == [0, 1, 2]
    function, specs = model.endpoints()[request["signature_name"]]
    assert {spec.name for spec in specs} == request["inputs"].keys()
    inputs = [np.asarray(request["inputs"][spec.name], spec.dtype.as_numpy_dtype) for spec in specs]
    outputs = function(*map(keras.ops.convert_to_tensor, inputs))
    assert outputs["outputs"].shape == (3, *IMAGE)
    assert max(request["inputs"]["condition"]) < CLASSES


def test_every_command_of_a_message_can_be_typed():
    """Python calls in messages become commands with these names and flags."""
    for message in (
        "`keras_gen.runs.train.resume('runs/my run')` continues the training.",
        "`keras_gen.runs.evaluate.export('runs/vae')` publishes the model.",
        f"`keras_gen.runs.evaluate.export({str(pathlib.Path('it') / chr(39))!r})` publishes.",
    ):
        command = re.search("`(.*)`", cli._translate(message))[1]
        assert command.startswith("keras-gen ")
        cli._parse(shlex.split(command)[1:])
