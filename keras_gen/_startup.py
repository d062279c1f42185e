"""Import TensorFlow without the lines that it writes to stderr while it starts."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator

_STARTUP_LINE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|I\d{4} [\d:.]+ +\d+ "  # a message of level INFO
    rb"|To enable the following instructions: "
    rb"|E\d{4} .* failed call to cuInit: .*(UNKNOWN ERROR \(303\)|CUDA_ERROR_NO_DEVICE)"
)
"""Pattern of the beginning of lines that say which parts of TensorFlow this machine can use.

TensorFlow writes these lines in spite of the environment variable `TF_CPP_MIN_LOG_LEVEL`. The last
one is an error: the CUDA driver is not installed (303), or finds no GPU. Other errors of the driver
are not in the pattern."""


def import_tensorflow() -> None:
    """Import TensorFlow and Keras, and remove TensorFlow's start-up lines from stderr.

    Other lines on stderr are not removed. If TensorFlow is imported already, or if the environment
    variable `TF_CPP_MIN_LOG_LEVEL` is below 2, the function removes nothing.
    """
    if "tensorflow" in sys.modules:
        return
    wanted = os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") in ("0", "1")
    with contextlib.nullcontext() if wanted else _without_startup_lines():
        import keras  # noqa: F401
        import tensorflow as tf

        tf.config.list_physical_devices()  # looks for GPUs, and writes the last of the lines


@contextlib.contextmanager
def _without_startup_lines() -> Iterator[None]:
    """Remove TensorFlow's start-up lines from stderr in the `with` block.

    TensorFlow writes to the file descriptor 2, not to `sys.stderr`. During the block, this
    descriptor is a pipe to a second process, which writes all other lines to stderr. If TensorFlow
    ends this process, the second process still writes the reason.
    """
    try:
        stderr = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    reader, writer = os.pipe()
    # The second process keeps the signals blocked, because Ctrl-C reaches both processes.
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    process = os.fork()
    if process == 0:
        os.close(writer)
        _filter(reader, stderr)
    signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    os.close(reader)
    os.dup2(writer, 2)
    os.close(writer)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)
        os.waitpid(process, 0)


def _filter(reader: int, stderr: int) -> None:
    """Copy all lines except start-up lines from one file descriptor to another, and exit."""
    with contextlib.suppress(OSError), open(reader, "rb", closefd=False) as lines:
        for line in lines:
            if not _STARTUP_LINE.match(line):
                os.write(stderr, line)
    os._exit(0)
