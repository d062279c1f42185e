"""Import TensorFlow quickly, and without the lines that it writes to stderr while it starts."""

from __future__ import annotations

import contextlib
import gc
import os
import pathlib
import re
import signal
import sys
import time
from collections.abc import Iterator

_STARTUP_LINE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|I\d{4} [\d:.]+ +\d+ "  # a message of level INFO
    rb"|To enable the following instructions: "
)
"""Pattern of the beginning of lines that TensorFlow writes while it is imported.

TensorFlow writes them in spite of the environment variable `TF_CPP_MIN_LOG_LEVEL`."""
_NO_GPU = re.compile(rb"E\d{4} .* failed call to cuInit: ")
"""Pattern of an error that is harmless on a machine without a GPU of NVIDIA."""
_NVIDIA = "0x10de"  # number of the vendor in the list of PCI devices
_LONGEST_WAIT = 2  # seconds
_imported_tensorflow = False  # whether `import_tensorflow` imported TensorFlow


def import_tensorflow() -> None:
    """Import Keras and TensorFlow, without TensorFlow's start-up lines on stderr.

    If Keras and TensorFlow are imported already, the function does nothing. Otherwise, it saves
    time in two ways:

    * It imports TensorFlow Probability before TensorFlow. Then TensorFlow Probability imports its
      parts only when they are used.
    * It turns off Python's garbage collector during the import (see `paused_garbage_collector`).
      After the import, the collector ignores the objects of TensorFlow.
    """
    global _imported_tensorflow
    if {"keras", "tensorflow"} <= sys.modules.keys():
        return
    _imported_tensorflow = "tensorflow" not in sys.modules
    with paused_garbage_collector():
        import tensorflow_probability  # noqa: F401

        with without_startup_lines():
            import keras  # noqa: F401
            import tensorflow  # noqa: F401
    gc.freeze()


def import_tensorflow_probability() -> None:
    """Import TensorFlow Probability without garbage collections, if it is not imported yet."""
    if "tensorflow_probability" not in sys.modules:
        with paused_garbage_collector():
            import tensorflow_probability  # noqa: F401


@contextlib.contextmanager
def paused_garbage_collector() -> Iterator[None]:
    """Turn off Python's garbage collector during the `with` block, to make imports faster.

    The import of TensorFlow makes about 700,000 objects that are never freed. The collector would
    visit them again and again, which takes up to a quarter of the time. After the block, all
    objects of the program belong to the oldest generation, which the collector visits rarely. If
    the program has called `gc.freeze`, no object changes its generation.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
            gc.unfreeze()  # moves the objects to the oldest generation
        if was_enabled:
            gc.enable()


def use_one_thread_per_operation() -> None:
    """Let TensorFlow compute each operation in one thread. Operations still run at the same time.

    Small operations need less time than their division among threads. The setting applies to the
    whole process. Therefore the function only changes it if `import_tensorflow` imported
    TensorFlow, as in the command `keras-gen`, and not in a program of the user. It also changes
    nothing if the environment variable `TF_NUM_INTRAOP_THREADS` is set, or if TensorFlow has
    already started its threads.
    """
    if not _imported_tensorflow or os.environ.get("TF_NUM_INTRAOP_THREADS"):
        return
    import tensorflow as tf

    with contextlib.suppress(RuntimeError):  # TensorFlow has started its threads
        tf.config.threading.set_intra_op_parallelism_threads(1)


@contextlib.contextmanager
def without_startup_lines() -> Iterator[None]:
    """Remove TensorFlow's start-up lines from stderr, if the `with` block imports TensorFlow.

    Other lines are not removed. If the environment variable `TF_CPP_MIN_LOG_LEVEL` is missing or
    below 2, or if TensorFlow is imported already, nothing is removed.

    TensorFlow writes to the file descriptor 2, not to `sys.stderr`. During the block, this
    descriptor is a pipe to a second process, which writes all other lines to stderr. If TensorFlow
    ends this process, the second process still writes the reason.
    """
    wanted = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") in ("0", "1")
    process = None
    if not wanted and "tensorflow" not in sys.modules and sys.stderr is not None:
        sys.stderr.flush()
        stderr = os.dup(2)
        process = _start_filter(stderr)
    if process is None:
        yield
        return
    try:
        yield
        if "tensorflow" in sys.modules:
            import tensorflow as tf

            tf.config.list_physical_devices()  # writes the last of the lines
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)
        _wait_for(process)


def _start_filter(stderr: int) -> int | None:
    """Connect the file descriptor 2 with a second process that removes start-up lines.

    Args:
        stderr: File descriptor to which the second process writes the other lines.

    Returns:
        The number of the second process. None if it cannot be started. Then nothing has changed.
    """
    has_gpu = _has_nvidia_device()
    reader, writer = os.pipe()
    # The second process keeps the signals blocked, because Ctrl-C reaches both processes.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        process = os.fork()
    except OSError:  # there are too many processes
        process = -1
    if process == 0:
        os.close(writer)
        _filter(reader, stderr, has_gpu)
    signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    os.close(reader)
    if process < 0:
        os.close(writer)
        os.close(stderr)
        return None
    os.dup2(writer, 2)
    os.close(writer)
    return process


def _filter(reader: int, stderr: int, has_gpu: bool) -> None:
    """Copy all lines except start-up lines from one file descriptor to another, and exit."""
    with contextlib.suppress(OSError), open(reader, "rb", closefd=False) as lines:
        for line in lines:
            if not (_STARTUP_LINE.match(line) or (_NO_GPU.match(line) and not has_gpu)):
                os.write(stderr, line)
    os._exit(0)


def _wait_for(process: int) -> None:
    """Wait until a child process has ended, but at most two seconds.

    The second process does not end while another process still has its pipe as stderr.
    """
    end = time.monotonic() + _LONGEST_WAIT
    with contextlib.suppress(ChildProcessError):  # if SIGCHLD is ignored, the system waits itself
        while os.waitpid(process, os.WNOHANG) == (0, 0) and time.monotonic() < end:
            time.sleep(0.001)


def _has_nvidia_device() -> bool:
    """Return whether the machine has a device of NVIDIA, even if its driver is not installed."""
    try:
        vendors = [*pathlib.Path("/sys/bus/pci/devices").glob("*/vendor")]
        return any(vendor.read_text().strip() == _NVIDIA for vendor in vendors)
    except OSError:
        return False
