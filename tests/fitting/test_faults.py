"""Failures of a training, injected into `keras-gen` in a process of its own.

The output of pytest has a table that says how each process ended.
"""

import io
import pathlib
import random
import re
import shutil
import signal
import time
import zipfile

import h5py
import keras
import numpy as np
import pytest
from runs.command import KILL, AtCall, AtStep, Command, FullDisk, Send, WaitFor, keras_gen

from keras_gen._files import damaged_files
from keras_gen.fitting.checkpoints import CHECKSUMS

EPOCHS = 4  # of 5 steps: 36 of 40 images in batches of 8
KINDS = {
    "autoencoder": ["--network", "mlp", "--latent-size", 3],
    "vae": ["--network", "mlp", "--latent-size", 3, "--kl-warm-up", 15],
    "gan": ["--latent-size", 3, "--ema-momentum", 0.5],
}


def train(kind="vae", *flags, x="x.npz"):
    common = [
        "--data",
        x,
        "--epochs",
        EPOCHS,
        "--batch-size",
        8,
        "--name",
        "run",
        "--deterministic",
        "--checkpoint-every",
        3,
    ]
    return ["train", kind, *common, *KINDS[kind], *flags]


RESUME = ["train", "--resume", "runs/run"]


def write_images(folder, count=40):
    np.savez(folder / "x.npz", x=np.random.default_rng(0).random((count, 8, 8)).astype(np.float32))


@pytest.fixture
def folder(tmp_path):
    write_images(tmp_path)
    return tmp_path


def results(folder):
    """Return the weights and optimizer slots of the finished run in a folder, and its metrics."""
    arrays = {}

    def collect(name, item):
        if isinstance(item, h5py.Dataset):
            arrays[name] = item[()]

    archive = zipfile.ZipFile(folder / "runs" / "run" / "model.keras")
    # in memory, because another process of the tests may read the same file
    with archive, h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file:
        file.visititems(collect)
    return arrays, (folder / "runs" / "run" / "metrics.csv").read_text()


@pytest.fixture(scope="session")
def finished(once):
    """A function from a kind of model to the folder of an uninterrupted training."""

    def finish(kind):
        def make(folder):
            write_images(folder)
            ended = keras_gen(folder, *train(kind))
            assert ended.code == 0, ended.error

        return once(f"finished-{kind}", make)

    return finish


@pytest.fixture(scope="session")
def stopped(once):
    """The folder of a VAE whose training SIGTERM stopped in step 12, with two checkpoints."""

    def make(folder):
        write_images(folder)
        ended = keras_gen(folder, *train(), injections=[AtStep(12, Send(signal.SIGTERM))])
        assert ended.code == 143, ended.error

    return once("stopped", make)


@pytest.fixture
def fault(record_property):
    """A function that records a row of the table: how the command ended, and what remains."""

    def record(what, ended, remains):
        record_property("fault", [what, ended.code, ended.error.partition("\n")[0], remains])
        assert "Traceback" not in ended.error, ended.error

    return record


def checkpoints(folder):
    return sorted((folder / "runs" / "run" / "checkpoints").iterdir())


def assert_whole(folder):
    """Check that there are checkpoints, that all are complete, and that no other file is there."""
    found = [path for path in checkpoints(folder) if not path.name.startswith("damaged-")]
    assert found
    for path in found:
        assert path.name.startswith("epoch-")
        assert damaged_files(path, CHECKSUMS) == []
    return f"{len(found)} complete checkpoints"


def assert_resumes(folder, finished):
    """Resume the training and compare its results with those of the uninterrupted one."""
    ended = keras_gen(folder, *RESUME)
    assert ended.code == 0, ended.error
    assert_identical(folder, finished)
    return "resumed: bit-for-bit identical"


def assert_identical(folder, finished):
    """Compare weights, optimizer slots and metrics bit for bit."""
    arrays, metrics = results(folder)
    expected_arrays, expected_metrics = results(finished)
    assert arrays.keys() == expected_arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, expected_arrays[name], err_msg=name)
    assert metrics == expected_metrics
    assert not list(folder.rglob("unfinished-*"))


# === Stopped ===


@pytest.mark.parametrize(
    ("kind", "what", "injection", "code"),
    [
        ("vae", "SIGTERM in a step", AtStep(7, Send(signal.SIGTERM)), 143),
        ("gan", "SIGTERM in a step", AtStep(7, Send(signal.SIGTERM)), 143),
        ("gan", "kill -9 in a step", AtStep(16, KILL), -9),
    ],
)
def test_stopped_in_a_step(folder, finished, fault, kind, what, injection, code):
    ended = keras_gen(folder, *train(kind), injections=[injection])
    assert ended.code == code, ended.error
    remains = assert_whole(folder)
    fault(f"{what}, {kind}", ended, f"{remains}; {assert_resumes(folder, finished(kind))}")


@pytest.mark.parametrize(
    ("what", "injection", "code"),
    [
        ("SIGTERM in validation", AtStep(None, Send(signal.SIGTERM)), 143),
        ("Ctrl-C in a step", AtStep(9, Send(signal.SIGINT)), 130),
        ("Ctrl-C twice", AtStep(7, Send(signal.SIGINT, times=2)), 130),
        (
            "killed while a checkpoint's numbers are written",
            AtStep(7, FullDisk(kill=True)),
            -signal.SIGXFSZ,
        ),
        (
            "kill -9 before a checkpoint's checksums",
            AtCall("keras_gen.fitting.checkpoints", "write_checksums", KILL, 3),
            -9,
        ),
        (
            "kill -9 before a checkpoint gets its name",
            AtCall("keras_gen._files", "_sync", KILL, 30),
            -9,
        ),
        (
            "kill -9 while an old checkpoint is removed",
            AtCall("keras_gen.fitting.checkpoints", "remove", KILL, 1),
            -9,
        ),
        ("full disk at a checkpoint", AtStep(7, FullDisk()), 1),
        (
            "full disk at model.keras",
            AtCall("keras_gen.runs.folder", "atomic_write", FullDisk(), 1),
            1,
        ),
    ],
)
def test_stopped_elsewhere(folder, finished, fault, what, injection, code):
    ended = keras_gen(folder, *train("autoencoder"), injections=[injection])
    assert ended.code == code, ended.error
    if code >= 0:
        assert "`keras-gen train --resume runs/run` continues the training." in ended.error
        remains = assert_whole(folder)
        assert not list(folder.rglob("unfinished-*"))
    else:
        remains = "the checkpoints before"
    fault(what, ended, f"{remains}; {assert_resumes(folder, finished('autoencoder'))}")


def test_killed_at_random_moments(folder, finished, fault):
    moments = random.Random(0)
    kills = 0
    run = folder / "runs" / "run"
    while not (run / "model.keras").exists():
        started = (run / "config.yaml").exists()
        command = Command(folder, RESUME if started else train("autoencoder"))
        # each time longer, or the training might never end
        time.sleep(moments.uniform(0.1, 0.4 * 1.3**kills))
        command.process.kill()
        ended = command.ended()
        kills += ended.code == -9
        if not (run / "config.yaml").exists():
            shutil.rmtree(folder / "runs", ignore_errors=True)
    assert kills >= 3
    assert_identical(folder, finished("autoencoder"))
    fault(
        f"kill -9 at {kills} random moments of one training",
        ended,
        "resumed each time: bit-for-bit identical",
    )


# === Damaged checkpoints and configurations ===


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


DATA = "state.data-00000-of-00001"


@pytest.mark.parametrize(
    ("what", "spoil", "file"),
    [
        ("a bit of the weights flipped", flip, DATA),
        ("the weights cut off", cut, DATA),
        ("the index missing", pathlib.Path.unlink, "state.index"),
        ("a bit of the counters flipped", flip, "state.json"),
        ("the checksums missing", pathlib.Path.unlink, CHECKSUMS),
        ("the checksums empty", lambda path: path.write_text(""), CHECKSUMS),
    ],
)
def test_a_damaged_checkpoint_is_renamed(folder, stopped, finished, fault, what, spoil, file):
    """The training continues from the older checkpoint: in one case to the end, else one step."""
    shutil.copytree(stopped, folder, dirs_exist_ok=True)
    older, newest = checkpoints(folder)
    spoil(newest / file)
    to_the_end = (spoil, file) == (flip, DATA)
    ended = keras_gen(folder, *RESUME, injections=[] if to_the_end else [AtStep(0, KILL)])
    assert ended.code == (0 if to_the_end else -9), ended.error
    warning = (
        f"keras-gen: warning: The checkpoint runs/run/checkpoints/{newest.name} is damaged and was "
        f"renamed to damaged-{newest.name}, because {file}"
    )
    assert warning in ended.error
    assert (newest.parent / f"damaged-{newest.name}").is_dir()
    if to_the_end:
        assert_identical(folder, finished("vae"))
    else:
        assert "Epoch 3/4" in ended.output
        assert "Epoch 1/4" not in ended.output
        assert damaged_files(older, CHECKSUMS) == []
    fault(
        f"{what} in the newest checkpoint",
        ended,
        f"from the one before{': bit-for-bit identical' if to_the_end else ''}",
    )


def set_in_config(name, value):
    def spoil(run):
        text, count = re.subn(
            rf"^{name}: .*$",
            f"{name}: {value}",
            (run / "config.yaml").read_text(),
            flags=re.MULTILINE,
        )
        assert count == 1
        (run / "config.yaml").write_text(text)

    return spoil


def fewer_examples(run):
    write_images(run.parents[1], count=30)


def damage_all(run):
    for checkpoint in (run / "checkpoints").iterdir():
        flip(checkpoint / DATA)


@pytest.mark.parametrize(
    ("what", "spoil", "arguments", "code", "message"),
    [
        (
            "each checkpoint damaged",
            damage_all,
            RESUME,
            1,
            "are damaged. They were renamed, and their new names start with 'damaged-'",
        ),
        (
            "another learning rate",
            set_in_config("learning_rate", 0.5),
            RESUME,
            2,
            "Expected optimizer.config.learning_rate",
        ),
        ("another network", set_in_config("latent_size", 4), RESUME, 2, "Expected posterior: "),
        (
            "another objective",
            set_in_config("free_bits", 0.25),
            RESUME,
            2,
            "Expected objective.config.free_bits: 0. Received: 0.25",
        ),
        (
            "another clipping",
            set_in_config("clip_norm", 1.0),
            RESUME,
            2,
            "Expected optimizer.config.global_clipnorm: ",
        ),
        (
            "other data",
            fewer_examples,
            RESUME,
            2,
            "Expected optimizer.config.learning_rate.config.decay_steps: 20. Received: 16",
        ),
        (
            "another model",
            None,
            ["train", "gan", *RESUME[1:]],
            2,
            "`model` must be 'vae', as in the configuration of runs/run. Received: 'gan'",
        ),
        (
            "another setting",
            None,
            [*RESUME, "vae", "--epochs", 9],
            2,
            "`epochs` must be 4, as in the configuration of runs/run. Received: 9",
        ),
        (
            "an unknown value in config.yaml",
            set_in_config("prior", "flat"),
            RESUME,
            2,
            "Received: prior: 'flat'",
        ),
        (
            "a misspelt field",
            set_in_config("epochs", "4\nepoch: 3"),
            RESUME,
            2,
            "Received: epoch: 3",
        ),
        (
            "no YAML in config.yaml",
            lambda run: (run / "config.yaml").write_text("{"),
            RESUME,
            2,
            "config.yaml must be a YAML file",
        ),
        (
            "no config.yaml",
            lambda run: (run / "config.yaml").unlink(),
            RESUME,
            2,
            "The folder of a run must contain config.yaml",
        ),
        ("a file in the place of the checkpoints", None, RESUME, 2, "which is a file"),
        (
            "a finished run",
            lambda run: (run / "model.keras").touch(),
            RESUME,
            2,
            "which is finished",
        ),
    ],
)
def test_a_run_that_cannot_be_resumed_says_why(
    folder, stopped, fault, what, spoil, arguments, code, message
):
    shutil.copytree(stopped, folder, dirs_exist_ok=True)
    run = folder / "runs" / "run"
    if spoil:
        spoil(run)
    before = sorted(path.name for path in checkpoints(folder))
    if "a file" in what:
        shutil.rmtree(run / "checkpoints")
        (run / "checkpoints").touch()
    ended = keras_gen(folder, *arguments)
    assert ended.code == code, ended.error
    assert message in ended.error
    assert len(ended.error.strip().splitlines()) == (1 if code == 2 else 4)
    if "a file" not in what:
        assert sorted(path.name.removeprefix("damaged-") for path in checkpoints(folder)) == before
    fault(f"{what}, resumed", ended, "unchanged")


def test_two_processes_in_one_run(folder, finished, fault):
    first = Command(folder, train("autoencoder"), AtStep(7, WaitFor(folder / "go.on")))
    while not (folder / "go.waiting").exists():
        time.sleep(0.01)
    (folder / "second").mkdir()
    (folder / "second" / "runs").symlink_to(folder / "runs")
    second = keras_gen(folder / "second", *RESUME)
    assert second.code == 2
    assert "which another process is training" in second.error
    (folder / "go.on").touch()
    assert first.ended().code == 0
    assert_identical(folder, finished("autoencoder"))
    fault("a second process in the same run", second, "the first run: bit-for-bit identical")


# === Numbers and data ===


@pytest.mark.parametrize(
    ("model", "flags"),
    [
        ("autoencoder", ["--loss", "mse", "--learning-rate", 1e30]),
        (
            "vae",
            [
                "--likelihood",
                "normal",
                "--scale",
                1,
                "--learning-rate",
                1e15,
                "--schedule",
                "constant",
            ],
        ),
        ("gan", ["--loss", "wasserstein", "--discriminator-learning-rate", 1e30, "--warm-up", 3]),
    ],
)
def test_a_training_that_diverges_stops(folder, fault, model, flags):
    ended = keras_gen(folder, *train(model, *flags, "--checkpoint-every", 1))
    assert ended.code == 1, ended.error
    assert re.search(
        r"^keras-gen: error: Expected finite losses and gradients\. Received: in step 2, .*loss = ",
        ended.error,
    )
    assert "The last checkpoint is runs/run/checkpoints/epoch-0000" in ended.error
    assert "clip the gradients: --clip-norm 1." in ended.error
    fault(f"learning rate much too high, {model}", ended, assert_whole(folder))


IMAGES = np.random.default_rng(0).random((1000, 8, 8)).astype(np.float32)


def with_one(value):
    images = IMAGES.copy()
    images[777, 3, 4] = value
    return {"x": images}


@pytest.mark.parametrize(
    ("what", "arrays", "flags", "message"),
    [
        (
            "NaN in image 777",
            with_one(np.nan),
            [],
            "nan at index [777, 3, 4] of x. NaN or infinity occurs in 1 of 1000 examples",
        ),
        ("an infinite pixel", with_one(np.inf), [], "inf at index [777, 3, 4] of x"),
        ("floats from 0 to 255", {"x": IMAGES * 255}, [], "Received: float32 values from 0"),
        ("no examples", {"x": IMAGES[:0]}, [], "no examples in the train split"),
        ("numbers in the place of images", {"x": IMAGES[:, 0, 0]}, [], "Received: shape (1000,)"),
        (
            "another shape in the test set",
            {"x_train": IMAGES, "x_test": IMAGES[:, :4]},
            [],
            "of the same shape. Received: x_train of shape (1000, 8, 8) and x_test of shape "
            "(1000, 4, 8).",
        ),
        (
            "colour in the test set alone",
            {"x_train": IMAGES, "x_test": IMAGES[:60].reshape(-1, 8, 8, 3)},
            [],
            "(20, 8, 8, 3)",
        ),
        (
            "labels alone",
            {"y": np.arange(1000)},
            [],
            "to contain x_train and x_test, or x. Received: ['y']",
        ),
        (
            "no labels for a conditional model",
            {"x": IMAGES},
            ["--conditional"],
            "Expected labels in x.npz",
        ),
        (
            "fewer labels than images",
            {"x": IMAGES, "y": np.arange(999)},
            ["--conditional"],
            "Expected one label for each",
        ),
    ],
)
def test_invalid_data_are_refused_before_the_training(folder, fault, what, arrays, flags, message):
    np.savez(folder / "x.npz", **arrays)
    ended = keras_gen(folder, *train("vae", *flags))
    assert ended.code == 2, ended.error
    assert message in ended.error
    assert len(ended.error.splitlines()) == 1
    assert not (folder / "runs").exists()
    fault(what, ended, "nothing was written")


def test_a_damaged_archive(folder, fault):
    flip(folder / "x.npz")
    ended = keras_gen(folder, *train())
    assert ended.code == 2
    assert "Bad CRC-32" in ended.error
    fault("a bit of the data flipped", ended, "nothing was written")


def test_a_corrupt_image(folder, fault):
    for i, image in enumerate(IMAGES[:40]):
        keras.utils.save_img(folder / f"{i:02d}.png", image[..., None])
    cut(folder / "13.png")
    ended = keras_gen(folder, *train(x="."))
    assert ended.code == 2
    assert re.search(
        r"Received: .*13\.png, which is damaged or not an image\. Remove the file", ended.error
    )
    assert "`--skip-corrupt`" in ended.error
    assert "skip_corrupt" not in ended.error
    fault("a corrupt image", ended, "nothing was written")
    ended = keras_gen(folder, *train(x="."), "--skip-corrupt")
    assert ended.code == 0
    assert "Skipped 1 of 40 files. The skipped files are damaged or not images, for " in ended.error
    fault("a corrupt image, --skip-corrupt", ended, "trained on 39")


def test_stopped_before_training(folder, fault):
    ended = keras_gen(
        folder,
        *train(),
        injections=[AtCall("keras_gen.runs.train", "find_examples", Send(signal.SIGTERM))],
    )
    assert ended.code == 143
    assert not (folder / "runs").exists()
    fault("SIGTERM while data are read", ended, "nothing was written")
