"""Several devices: two logical devices in this process, and two processes on this machine."""

import dataclasses
import json
import re
import signal
import socket
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
import workers
from command import KILL, AtCall, Command, Forked, Worker
from support import tiny

from keras_gen.runs import strategies
from keras_gen.runs import train as run
from keras_gen.runs.recipes import AutoencoderConfig


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


@pytest.mark.parametrize(
    ("config", "received"),
    [
        (None, "Received: none"),
        ("{", "JSONDecodeError"),
        ("{}", "KeyError: 'cluster'"),
        ("[]", "TypeError"),
        (tf_config([1, 2], 5), "with 2 workers and index 5"),
        (tf_config([1, "x"], 0), "ValueError"),
        (
            tf_config([1, 2], 0, task={"type": "chief", "index": 0}),
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
