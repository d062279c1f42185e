"""Create the `tf.distribute.Strategy` of a run: one device, all local GPUs, or several workers."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from typing import Literal

import tensorflow as tf

from keras_gen._compat import several_workers
from keras_gen.fitting.multi_worker import worker_index

CONNECT_TIMEOUT = 300
"""Seconds that a worker waits for the other workers to start."""
_EXAMPLE = (
    """'{"cluster": {"worker": ["host-0:12345", "host-1:12345"]}, """
    """"task": {"type": "worker", "index": 0}}'"""
)
_EXPECTED = (
    f"The environment variable TF_CONFIG of each worker must be set as in {_EXAMPLE}. Each worker "
    "must have its own index."
)


def create_strategy(name: Literal["single", "mirrored", "multiworker"]) -> tf.distribute.Strategy:
    """Create the `tf.distribute.Strategy` of a run.

    With `"multiworker"`, the process exits with status 1 if all workers have started, but
    TensorFlow does not connect them within 300 seconds.

    Args:
        name: `"single"` for one device, `"mirrored"` for all local GPUs, `"multiworker"` for all
            workers that the environment variable `TF_CONFIG` lists.

    Raises:
        ValueError: Only for `"multiworker"`: if `TF_CONFIG` is missing or invalid, if the port of
            this worker is in use, or if another worker does not start within 300 seconds.
    """
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name != "multiworker":
        return tf.distribute.get_strategy()
    addresses, index = read_tf_config()
    _wait_for_workers(addresses, index)
    connected = threading.Event()
    threading.Thread(target=_exit_unless, args=(connected,), daemon=True).start()
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    connected.set()
    return strategy


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Return whether this process is the chief: worker 0, or the only process of the run."""
    return not several_workers(strategy) or worker_index(strategy) == 0


def broadcast_from_chief(strategy: tf.distribute.Strategy, number: int) -> int:
    """Send `number` from the chief (worker 0) to all workers, and return it on each worker.

    All workers must call this function.
    """
    if not several_workers(strategy):
        return number
    mine = float(number) if is_chief(strategy) else 0.0

    def value(context: tf.distribute.experimental.ValueContext) -> tf.Tensor:
        return tf.constant(mine if context.replica_id_in_sync_group in (None, 0) else 0.0)

    values = strategy.experimental_distribute_values_from_function(value)
    return int(strategy.reduce("SUM", values, axis=None))


def wait_for_chief(strategy: tf.distribute.Strategy) -> None:
    """Wait until all workers have called this function.

    At the end of a run, the chief saves the model, and the other workers wait. If another worker
    ended in the meantime, TensorFlow would print on the terminal of the chief that a task has
    crashed.
    """
    broadcast_from_chief(strategy, 0)


def read_tf_config() -> tuple[list[str], int]:
    """Read the addresses of all workers from the environment variable `TF_CONFIG`.

    Returns:
        `(addresses of all workers, index of this worker)`.

    Raises:
        ValueError: If `TF_CONFIG` is missing or invalid.
    """
    text = os.environ.get("TF_CONFIG")
    if not text:
        raise ValueError(f"{_EXPECTED} Received: none.")
    try:
        config = json.loads(text)
        addresses = config["cluster"]["worker"]
        task = config["task"]
        index = int(task["index"])
        ports = [int(address.rpartition(":")[2]) for address in addresses]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{_EXPECTED} Received: {text} ({type(error).__name__}: {error})."
        ) from error
    if task.get("type") != "worker" or set(config["cluster"]) != {"worker"}:
        raise ValueError(
            f"{_EXPECTED} Received: {text}. Only tasks of type worker are supported. Worker 0 is "
            "the chief."
        )
    if not 0 <= index < len(addresses) or not all(0 < port < 2**16 for port in ports):
        raise ValueError(
            f"{_EXPECTED} Received: {text}, with {len(addresses)} workers and index {index}. The "
            "first index is 0, and ports are between 1 and 65535."
        )
    return addresses, index


def _wait_for_workers(addresses: list[str], index: int) -> None:
    """Wait until all workers answer. Raise a `ValueError` after `CONNECT_TIMEOUT` seconds.

    If the port of this worker is in use, the function raises a `ValueError` at once. Without this
    function, TensorFlow would wait for a missing worker forever.
    """
    end = time.monotonic() + CONNECT_TIMEOUT
    own_port = int(addresses[index].rpartition(":")[2])
    try:
        listener = socket.create_server(("", own_port), reuse_port=True)
    except OSError as error:
        raise ValueError(
            f"Port {own_port} of worker {index} in TF_CONFIG must be free. Received: {error}. "
            "Choose another port."
        ) from error
    with listener:
        for number, address in enumerate(addresses):
            host, _, port = address.rpartition(":")
            while not _is_reachable(host, int(port)):
                if time.monotonic() > end:
                    raise ValueError(
                        f"Worker {number} of TF_CONFIG must answer at {address} within "
                        f"{CONNECT_TIMEOUT} seconds. Received: no answer. Start the same command "
                        f"on that worker, with index {number} in its TF_CONFIG."
                    )
                time.sleep(0.2)


def _is_reachable(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=5):
            return True
    except OSError:
        return False


def _exit_unless(connected: threading.Event) -> None:
    """Exit the process if `connected` is not set within `CONNECT_TIMEOUT` seconds.

    If another worker stops before TensorFlow has connected to it, TensorFlow waits forever. No
    signal and no exception can interrupt this wait. Therefore this function runs in its own thread
    and exits the whole process.

    Args:
        connected: Event that is set when TensorFlow has connected to all workers.
    """
    if not connected.wait(CONNECT_TIMEOUT):
        message = (
            f"The workers of TF_CONFIG did not connect within {CONNECT_TIMEOUT} seconds. Start the "
            "command again on all workers.\n"
        )
        os.write(2, message.encode())
        os._exit(1)
