"""On which devices a run trains: one, all local GPUs, or all workers of `TF_CONFIG`."""

import json
import os
import socket
import threading
import time
from typing import Literal

import tensorflow as tf

from keras_gen.fitting.multi_worker import several_workers, worker_index

SECONDS_TO_MEET = 300  # seconds until all workers must be there
_EXAMPLE = """'{"cluster": {"worker": ["host-0:12345", "host-1:12345"]}, "task": {"type": "worker", "index": 0}}'"""


def strategy_of(name: Literal["single", "mirrored", "multiworker"]) -> tf.distribute.Strategy:
    """The strategy of a configuration: `single`, `mirrored` or `multiworker`.

    Raises:
        ValueError: If `TF_CONFIG` is missing or wrong, or not all workers are there after `SECONDS_TO_MEET` seconds.
    """
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name != "multiworker":
        return tf.distribute.get_strategy()
    addresses, index = cluster()
    _await(addresses, index)
    done = threading.Event()
    threading.Thread(target=_end_unless, args=(done,), daemon=True).start()
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    done.set()
    return strategy


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes what a run leaves."""
    return not several_workers(strategy) or worker_index(strategy) == 0


def from_chief(strategy: tf.distribute.Strategy, number: int) -> int:
    """The chief's number, on each worker."""
    if not several_workers(strategy):
        return number
    mine = float(number) if is_chief(strategy) else 0.0
    of_all = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(mine if context.replica_id_in_sync_group in (None, 0) else 0.0)
    )
    return int(strategy.reduce("SUM", of_all, axis=None))


def cluster() -> tuple[list[str], int]:
    """`(addresses of the workers, index of this one)`, from `TF_CONFIG`."""
    text = os.environ.get("TF_CONFIG")
    expected = f"Expected TF_CONFIG in the environment of each worker, such as {_EXAMPLE}, each with its own index."
    if not text:
        raise ValueError(f"{expected} Received: none.")
    try:
        config = json.loads(text)
        addresses, task = config["cluster"]["worker"], config["task"]
        index = int(task["index"])
        ports = [int(address.rpartition(":")[2]) for address in addresses]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{expected} Received: {text} ({type(error).__name__}: {error})."
        ) from error
    if task.get("type") != "worker" or set(config["cluster"]) != {"worker"}:
        raise ValueError(
            f"{expected} Received: {text}. There are workers alone; worker 0 is the chief."
        )
    if not 0 <= index < len(addresses) or not all(0 < port < 2**16 for port in ports):
        raise ValueError(
            f"{expected} Received: {text}, of {len(addresses)} workers, index {index}."
        )
    return addresses, index


def _await(addresses, index):
    """Wait until all workers answer; TensorFlow itself would wait for ever."""
    ends = time.monotonic() + SECONDS_TO_MEET
    port = int(addresses[index].rpartition(":")[2])
    try:
        listener = socket.create_server(("", port), reuse_port=True)
    except OSError as error:
        raise ValueError(
            f"Expected port {port} of worker {index} in TF_CONFIG to be free. Received: {error}."
        ) from error
    with listener:
        for number, address in enumerate(addresses):
            host, _, port = address.rpartition(":")
            while not _answers(host, int(port)):
                if time.monotonic() > ends:
                    raise ValueError(
                        f"Expected worker {number} of TF_CONFIG to answer at {address} within {SECONDS_TO_MEET} seconds. "
                        "Received: no answer. Start the same command there, with its own index in TF_CONFIG."
                    )
                time.sleep(0.2)


def _answers(host, port):
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False


def _end_unless(done):
    """End the process if a worker was there and is gone before TensorFlow has met it: it waits where no signal reaches."""
    if not done.wait(SECONDS_TO_MEET):
        os.write(
            2,
            f"keras-gen: error: the workers of TF_CONFIG did not meet within {SECONDS_TO_MEET} seconds.\n".encode(),
        )
        os._exit(1)
