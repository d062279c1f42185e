"""Several devices: two logical ones in this process, and two real processes on this machine."""

import dataclasses
import json
import re
import signal
import socket

import keras
import numpy as np
import pytest
import tensorflow as tf
import workers
from command import KILL, AtCall, Command, Forked, Worker
from support import tiny

from keras_gen.runs import strategies
from keras_gen.runs import train as run
from keras_gen.runs.config import AutoencoderConfig


def free_ports():
    with socket.create_server(("", 0)) as first, socket.create_server(("", 0)) as second:
        return [each.getsockname()[1] for each in (first, second)]


def tf_config(ports, index, **changes):
    config = {
        "cluster": {"worker": [f"localhost:{port}" for port in ports]},
        "task": {"type": "worker", "index": index},
    }
    return json.dumps({**config, **changes})


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    """The folder that two workers left, which trained an autoencoder and a GAN together."""
    folder, ports = tmp_path_factory.mktemp("workers"), free_ports()
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


def left(folder, kind, index):
    with np.load(folder / f"{kind}-{index}.npz") as arrays:
        return list(arrays.values()), json.loads((folder / f"{kind}-{index}.json").read_text())


def test_two_workers_end_where_one_process_with_the_doubled_batch_does(two_workers, images):
    model = tiny("autoencoder")  # the one without noise and without batch normalization
    data = tf.data.Dataset.from_tensor_slices(images).batch(8)
    history = model.fit(data, validation_data=data, epochs=2, verbose=0).history
    for index in (0, 1):
        weights, logs = left(two_workers, "autoencoder", index)
        for mine, theirs in zip(model.get_weights(), weights, strict=True):
            np.testing.assert_allclose(theirs, mine, atol=1e-5)
        assert logs["history"].keys() == history.keys()
        for name, values in history.items():
            np.testing.assert_allclose(logs["history"][name], values, atol=1e-5)
        assert logs["evaluate"] == pytest.approx(
            model.evaluate(data, verbose=0, return_dict=True), abs=1e-5
        )


@pytest.mark.parametrize("kind", ["autoencoder", "gan"])
def test_workers_have_the_same_weights_and_logs_and_noise_of_their_own(two_workers, kind):
    (weights, logs), (others, logs_of_other) = (left(two_workers, kind, index) for index in (0, 1))
    names = [variable.path for variable in tiny(kind).weights]
    for name, mine, theirs in zip(names, weights, others, strict=True):
        if (
            "moving_" not in name
        ):  # statistics of batch normalization, of which Keras keeps each replica's own
            np.testing.assert_array_equal(mine, theirs)
    assert logs["history"] == logs_of_other["history"]
    assert logs["seed"] != logs_of_other["seed"]


def start(folder, ports, *arguments, injections=((), ())):
    """Both workers of a `keras-gen` command."""
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
    )  # the chief has two checkpoints then, this one one
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
    assert f"`keras-gen train --resume {runs / 'autoencoder'}` goes on." in ended.error
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


def test_a_mirrored_run_ends_where_a_single_one_does(
    tmp_path, images, two_replicas, unpublished, monkeypatch
):
    monkeypatch.setattr(tf.distribute, "MirroredStrategy", lambda: two_replicas)
    np.savez(tmp_path / "x.npz", x=images)
    # one batch an epoch: of two replicas Keras reads a batch to build the metrics, and the order of the others is another
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
        (tf_config([1, 2], 5), "of 2 workers, index 5"),
        (tf_config([1, "x"], 0), "ValueError"),
        (
            tf_config([1, 2], 0, task={"type": "chief", "index": 0}),
            "There are workers alone; worker 0 is the chief",
        ),
    ],
)
def test_a_wrong_tf_config_is_explained(config, received, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(
        ValueError,
        match=rf"Expected TF_CONFIG in the environment of each worker.*{re.escape(received)}",
    ):
        strategies.strategy_of("multiworker")


def test_a_worker_that_does_not_come_is_named(monkeypatch):
    monkeypatch.setattr(strategies, "SECONDS_TO_MEET", 0.5)
    ports = free_ports()
    monkeypatch.setenv("TF_CONFIG", tf_config(ports, 0))
    with pytest.raises(
        ValueError,
        match=rf"Expected worker 1 of TF_CONFIG to answer at localhost:{ports[1]} within 0.5 seconds",
    ):
        strategies.strategy_of("multiworker")
    with (
        socket.create_server(("", ports[0])),
        pytest.raises(ValueError, match=rf"Expected port {ports[0]} .* to be free"),
    ):
        strategies.strategy_of("multiworker")


def test_several_steps_an_execution_are_refused_on_several_replicas(images, two_replicas):
    with two_replicas.scope():
        model = tiny("autoencoder", steps_per_execution=2)
    with pytest.raises(
        ValueError,
        match=r"Expected steps_per_execution=1 on several .* Received: .*=2\. Compile without it",
    ):
        model.fit(images)
