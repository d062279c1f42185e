"""Several devices: two logical devices in this process, and two processes on this machine."""

import dataclasses
import functools
import json
import pathlib
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
import workers
from command import KILL, AtCall, Command, Ended, Forked, Raise, WaitFor, Worker
from support import tiny

from keras_gen import Checkpoints, serving
from keras_gen.runs import strategies
from keras_gen.runs import train as run
from keras_gen.runs.recipes import AutoencoderConfig, GANConfig, VAEConfig, kind_of

CPP_CHECKS = pathlib.Path(__file__).parents[1] / "serving" / "cpp_checks.py"


def free_ports():
    """Return two free ports."""
    with socket.create_server(("", 0)) as first, socket.create_server(("", 0)) as second:
        return [first.getsockname()[1], second.getsockname()[1]]


def tf_config(ports, index, **changes):
    config = {
        "cluster": {"worker": [f"localhost:{port}" for port in ports]},
        "task": {"type": "worker", "index": index},
    }
    return json.dumps({**config, **changes})


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """The results of two workers that trained an autoencoder and a GAN together."""
    folder = tmp_path_factory.mktemp("workers")
    ports = free_ports()
    processes = []
    for index in (0, 1):
        (folder / str(index)).mkdir()
        processes.append(
            Forked(folder / str(index), workers.train, folder, Worker(tf_config(ports, index)))
        )
    for process in processes:
        ended = process.ended(200)
        assert ended.code == 0, ended.error
    return folder


def results(folder, kind, index):
    """Return the weights and the logs of a worker."""
    with np.load(folder / f"{kind}-{index}.npz") as arrays:
        return list(arrays.values()), json.loads((folder / f"{kind}-{index}.json").read_text())


def test_two_workers_end_where_one_process_with_the_doubled_batch_does(two_workers, images):
    model = tiny("autoencoder")  # it has neither noise nor batch normalization
    data = tf.data.Dataset.from_tensor_slices(images).batch(8)
    history = model.fit(data, validation_data=data, epochs=2, verbose=0).history
    for index in (0, 1):
        weights, logs = results(two_workers, "autoencoder", index)
        for mine, theirs in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_allclose(theirs, mine, atol=1e-5)
        assert logs["history"].keys() == history.keys()
        for name, values in history.items():
            np.testing.assert_allclose(logs["history"][name], values, atol=1e-5)
        assert logs["evaluate"] == pytest.approx(
            model.evaluate(data, verbose=0, return_dict=True), abs=1e-5
        )


@pytest.mark.parametrize("kind", ["autoencoder", "gan"])
def test_workers_have_the_same_weights_and_logs_and_different_noise(two_workers, kind):
    weights, logs = results(two_workers, kind, 0)
    other_weights, other_logs = results(two_workers, kind, 1)
    names = [variable.path for variable in tiny(kind).weights]
    for name, mine, theirs in zip(names, weights, other_weights, strict=True):
        if "moving_" not in name:  # Keras keeps the statistics of batch normalization per replica
            np.testing.assert_array_equal(mine, theirs)
    assert logs["history"] == other_logs["history"]
    assert logs["seed"] != other_logs["seed"]


def start(folder, ports, *arguments, injections=((), ())):
    """Start both workers of a `keras-gen` command."""
    workers = []
    for index in (1, 0):
        (folder / str(index)).mkdir(exist_ok=True)
        given = (Worker(tf_config(ports, index)), *injections[index])
        workers.append(Command(folder / str(index), arguments, *given))
    return workers[::-1]


def test_a_killed_worker_ends_the_other_and_both_resume(tmp_path, images):
    np.savez(tmp_path / "x.npz", x=images)
    train = [
        "train",
        "autoencoder",
        "--data",
        tmp_path / "x.npz",
        "--strategy",
        "multiworker",
        "--batch-size",
        8,
        "--epochs",
        4,
    ]
    train += ["--network", "mlp", "--latent-size", 3]
    runs = tmp_path / "killed"
    killed = AtCall(
        "keras_gen.fitting.checkpoints", "write_checksums", KILL, call=1
    )  # at this time the chief has two checkpoints, this worker one
    chief, other = start(tmp_path, free_ports(), *train, "--runs", runs, injections=((), (killed,)))
    assert other.ended().code == -signal.SIGKILL
    (tmp_path / "unbroken").mkdir()
    unbroken = start(
        tmp_path / "unbroken", free_ports(), *train, "--runs", tmp_path / "whole"
    )  # while the chief waits
    unbroken = [worker.ended() for worker in unbroken]
    assert [worker.code for worker in unbroken] == [0, 0], unbroken
    ended = chief.ended(seconds=30)
    assert ended.code == 1
    assert "keras-gen: error: Another worker ended, or cannot be reached" in ended.error
    hint = f"`keras-gen train --resume {runs / 'autoencoder'}` continues the training."
    assert hint in ended.error
    assert "Traceback" not in ended.error
    resumed = [
        worker.ended()
        for worker in start(tmp_path, free_ports(), "train", "--resume", runs / "autoencoder")
    ]
    assert [worker.code for worker in resumed] == [0, 0], resumed
    assert "Epoch 4/4" in resumed[0].output
    assert resumed[1].output == ""
    folders = [tmp_path / name / "autoencoder" for name in ("whole", "killed")]
    models = [keras.saving.load_model(folder / "model.keras") for folder in folders]
    for mine, theirs in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)
    for folder in folders:
        assert [row[0] for row in (folder / "metrics.csv").read_text().splitlines()] == [
            "e",
            "0",
            "1",
            "2",
            "3",
        ]
        assert {path.name for path in (folder / "checkpoints").iterdir()} == {
            "worker-0",
            "worker-1",
        }


def test_the_other_worker_ends_after_the_chief_has_saved_the_model(tmp_path, images):
    np.savez(tmp_path / "x.npz", x=images)
    train = ["train", "autoencoder", "--data", tmp_path / "x.npz", "--strategy", "multiworker"]
    train += ["--epochs", 1, "--latent-size", 3, "--runs", tmp_path / "runs"]
    saved = WaitFor(tmp_path / "saved")
    publishes = AtCall("keras_gen.runs.train", "_publish", saved)
    chief, other = start(tmp_path, free_ports(), *train, injections=((publishes,), ()))
    end = time.monotonic() + 100
    while not saved.path.with_suffix(".waiting").exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    other.process.join(3)
    waits = other.process.is_alive()
    saved.path.touch()
    assert waits
    for worker in (chief, other):
        ended = worker.ended()
        assert (ended.code, ended.error) == (0, "")
        assert "crashed" not in (worker.folder / "error.txt").read_text()


def test_the_other_worker_ends_without_an_error_if_the_chief_cannot_save(tmp_path, images):
    np.savez(tmp_path / "x.npz", x=images)
    train = ["train", "autoencoder", "--data", tmp_path / "x.npz", "--strategy", "multiworker"]
    train += ["--epochs", 1, "--latent-size", 3, "--runs", tmp_path / "runs"]
    full = AtCall("keras_gen.runs.train", "without_strategy", Raise(OSError("the disk is full")))
    chief, other = start(tmp_path, free_ports(), *train, injections=((full,), ()))
    ended = chief.ended()
    assert ended.code == 1
    assert "the disk is full" in ended.error
    assert "--resume" in ended.error
    assert other.ended() == Ended(0, "", "")


def test_a_mirrored_run_has_the_weights_of_a_run_on_one_device(
    tmp_path, images, two_replicas, unpublished, monkeypatch
):
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: two_replicas)
    np.savez(tmp_path / "x.npz", x=images)
    # One batch per epoch: on two replicas Keras reads one batch to build the metrics, which
    # changes the order of the others.
    config = AutoencoderConfig(
        data=str(tmp_path / "x.npz"),
        batch_size=18,
        epochs=3,
        latent_size=3,
        savedmodels=tmp_path / "s",
    )
    weights = []
    for strategy in ("single", "mirrored"):
        folder = run.train(dataclasses.replace(config, strategy=strategy, runs=tmp_path / strategy))
        weights.append(keras.saving.load_model(folder / "model.keras").encoder.get_weights())
    for mine, theirs in zip(*weights, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [VAEConfig(network="residual", likelihood="normal"), GANConfig(network="residual")],
    ids=kind_of,
)
def test_a_residual_model_of_64_pixels_trains_on_two_devices_resumes_and_is_served(
    config, tmp_path, two_replicas, monkeypatch
):
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: two_replicas)
    x = np.random.default_rng(0).random((20, 64, 64, 3), dtype=np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    config = dataclasses.replace(
        config,
        data=str(tmp_path / "x.npz"),
        filters=(8, 8, 8, 8),
        batch_size=8,
        epochs=2,
        strategy="mirrored",
        savedmodels=tmp_path / "s",
    )
    whole = run.train(dataclasses.replace(config, runs=tmp_path / "whole"))
    expected = keras.saving.load_model(whole / "model.keras")
    assert {conv.strides[0] for conv in find_layers(expected, keras.layers.Conv2D)} == {1, 2}

    stopped = dataclasses.replace(config, runs=tmp_path / "stopped", savedmodels=tmp_path / "s2")
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "on_epoch_end", stop_after(Checkpoints.on_epoch_end))
        with pytest.raises(KeyboardInterrupt):
            run.train(stopped)
    resumed = keras.saving.load_model(
        run.resume(tmp_path / "stopped" / config.name) / "model.keras"
    )
    assert int(resumed.optimizer.iterations) == int(expected.optimizer.iterations) > 2
    for mine, theirs in zip(resumed.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)

    folder = tmp_path / "s2" / config.name / "1"
    assert serving.verify(folder).problems == []
    command = [sys.executable, str(CPP_CHECKS), "2", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    [found] = json.loads(result.stdout).values()
    assert {"generate", "decode"} <= set(found["differences"])
    assert all(
        gap <= (0.1 if "score" in signature else 1e-4)  # a score is a sum over 12,288 elements
        for signature, gap in found["differences"].items()
    ), found


def stop_after(method):
    """Return a method of a callback that calls `method`, and then raises KeyboardInterrupt."""

    def stop(self, *args, **kwargs):
        method(self, *args, **kwargs)
        raise KeyboardInterrupt

    return stop


def find_layers(model, kind):
    """Return all layers of a class in the networks of a model."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, kind)]


@pytest.mark.parametrize(
    ("config", "received"),
    [
        (None, "Received: none"),
        ("{", "JSONDecodeError"),
        ("{}", "KeyError: 'cluster'"),
        ("[]", "TypeError"),
        (tf_config([1, 2], 2), "with 2 workers and index 2"),
        (tf_config([1, 2], -1), "with 2 workers and index -1"),
        (tf_config([1, 2**16], 0), "with 2 workers and index 0"),
        (tf_config([0, 2], 0), "with 2 workers and index 0"),
        (tf_config([1, "x"], 0), "ValueError"),
        (
            tf_config([1, 2], 0, task={"type": "chief", "index": 0}),
            "Only tasks of type worker are supported. Worker 0 is the chief",
        ),
        (
            tf_config([1, 2], 0, cluster={"worker": ["a:1"], "ps": ["b:2"]}),
            "Only tasks of type worker are supported. Worker 0 is the chief",
        ),
    ],
)
def test_a_wrong_tf_config_is_explained(config, received, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(
        ValueError,
        match=rf"variable TF_CONFIG of each worker must be set.*{re.escape(received)}",
    ):
        strategies.create_strategy("multiworker")


def test_every_port_is_valid_in_tf_config(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", tf_config([1, 2**16 - 1], 1))
    assert strategies.read_tf_config() == (["localhost:1", "localhost:65535"], 1)


def test_each_name_has_its_strategy(monkeypatch):
    """With several workers, a thread ends the process if TensorFlow does not connect them."""
    waits = []
    connections = []

    def exit_unless(connected):
        connections.append((connected, connected.wait(20), threading.current_thread().daemon))

    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: "mirrored")
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", lambda: "several workers")
    monkeypatch.setattr(strategies, "_wait_for_workers", lambda *args: waits.append(args))
    monkeypatch.setattr(strategies, "_exit_unless", exit_unless)
    monkeypatch.setenv("TF_CONFIG", tf_config([1, 2], 1))
    assert strategies.create_strategy("single") is tf.distribute.get_strategy()
    assert strategies.create_strategy("mirrored") == "mirrored"
    assert not waits
    assert strategies.create_strategy("multiworker") == "several workers"
    assert waits == [(["localhost:1", "localhost:2"], 1)]
    for _ in range(200):
        if connections:
            break
        time.sleep(0.05)
    [(connected, was_set, is_daemon)] = connections
    assert (connected.is_set(), was_set, is_daemon) == (True, True, True)


@pytest.mark.parametrize("connects", [False, True])
def test_a_process_ends_if_the_workers_do_not_connect(connects, monkeypatch):
    assert strategies.CONNECT_TIMEOUT == 300
    monkeypatch.setattr(strategies, "CONNECT_TIMEOUT", 0.01)
    calls = []
    monkeypatch.setattr(strategies.os, "write", lambda *args: calls.append(args))
    monkeypatch.setattr(strategies.os, "_exit", calls.append)
    connected = threading.Event()
    if connects:
        connected.set()
    strategies._exit_unless(connected)
    message = (
        b"The workers of TF_CONFIG did not connect within 0.01 seconds. Start the command again "
        b"on all workers.\n"
    )
    assert calls == ([] if connects else [(2, message), 1])


@pytest.mark.parametrize("index", [0, 1])
def test_the_chief_is_the_first_of_several_workers(index, monkeypatch):
    """The number of the chief counts once, although each worker can have several devices."""
    assert strategies.is_chief(tf.distribute.get_strategy())
    assert strategies.broadcast_from_chief(tf.distribute.get_strategy(), 7) == 7
    monkeypatch.setattr(strategies, "several_workers", lambda strategy: True)
    monkeypatch.setattr(strategies, "worker_index", lambda strategy: index)
    assert strategies.is_chief(None) == (index == 0)
    for replicas in ([0, 1], [None, 1]) if index == 0 else ([2, 3], [0, 1]):
        contexts = [SimpleNamespace(replica_id_in_sync_group=each) for each in replicas]
        strategy = SimpleNamespace(
            experimental_distribute_values_from_function=functools.partial(
                lambda contexts, value: [*map(value, contexts)], contexts
            ),
            reduce=lambda operation, values, axis: sum(values),
        )
        expected = 7 if index == 0 else 0  # the sum over this worker
        assert strategies.broadcast_from_chief(strategy, 7) == expected


def test_a_missing_worker_is_named(monkeypatch):
    monkeypatch.setattr(strategies, "CONNECT_TIMEOUT", 0.5)
    ports = free_ports()
    monkeypatch.setenv("TF_CONFIG", tf_config(ports, 0))
    with pytest.raises(
        ValueError,
        match=rf"Worker 1 of TF_CONFIG must answer at localhost:{ports[1]} within 0\.5 seconds",
    ):
        strategies.create_strategy("multiworker")
    with (
        socket.create_server(("", ports[0])),
        pytest.raises(ValueError, match=rf"Port {ports[0]} .* must be free"),
    ):
        strategies.create_strategy("multiworker")


def test_a_worker_that_starts_later_is_waited_for(monkeypatch):
    monkeypatch.setattr(strategies, "CONNECT_TIMEOUT", 20.0)
    ports = free_ports()
    own = threading.Thread(
        target=strategies._wait_for_workers, args=([f"localhost:{port}" for port in ports], 0)
    )
    failures = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    own.start()
    own.join(0.5)
    assert own.is_alive()
    with socket.create_server(("", ports[1])):
        own.join(20)
    assert not own.is_alive()
    assert not failures


def test_several_steps_per_execution_are_refused_on_several_replicas(images, two_replicas):
    with two_replicas.scope():
        model = tiny("autoencoder", steps_per_execution=2)
    with pytest.raises(
        ValueError,
        match=r"Expected steps_per_execution=1 on several .* Received: .*=2\. Compile without it",
    ):
        model.fit(images)
