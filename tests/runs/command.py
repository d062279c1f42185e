"""`keras-gen` in processes of their own, and the failures that tests inject into them.

The processes are forked from one that has imported everything, so that they start at once.
"""

import dataclasses
import importlib
import multiprocessing
import os
import pathlib
import resource
import signal
import time

# as `keras-gen` sets it, for the process that imports TensorFlow before
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "keras_gen.runs.train",  # first, because TFP must be imported after TensorFlow
        "tensorflow_probability",
        "tensorboard.summary",
        "sklearn.mixture",
        "keras_gen.cli",
    ]
)


@dataclasses.dataclass
class Ended:
    """How a process ended."""

    code: int
    """Exit code; −9 if the process was killed."""
    output: str
    """What it wrote to stdout."""
    error: str
    """What it wrote to stderr, without the lines of TensorFlow."""


class Forked:
    """A process that calls a function in a folder."""

    def __init__(self, folder, function, *arguments):
        self.folder = pathlib.Path(folder)
        self.process = PROCESSES.Process(target=_call, args=(str(folder), function, arguments))
        self.process.start()

    def ended(self, seconds=100):
        """Wait for the end of the process; every test requires that it ends."""
        self.process.join(seconds)
        hung = self.process.exitcode is None
        self.process.kill()
        assert not hung, f"still running after {seconds} seconds: {self._read('error')}"
        return Ended(self.process.exitcode, self._read("output"), self._read("error"))

    def _read(self, what):
        lines = (self.folder / f"{what}.txt").read_text().splitlines()
        of_tensorflow = ("I0000", "W0000", "E0000", "WARNING: All log")
        return "\n".join(line for line in lines if not line.startswith(of_tensorflow))


class Command(Forked):
    """`keras-gen` with arguments, in a folder, with failures injected into its process."""

    def __init__(self, folder, arguments, *injections):
        super().__init__(folder, _main, list(map(str, arguments)), injections)


def keras_gen(folder, *arguments, injections=()):
    """Run `keras-gen` with arguments to its end."""
    return Command(folder, arguments, *injections).ended()


def _call(folder, function, arguments):
    os.chdir(folder)
    for descriptor, name in ((1, "output.txt"), (2, "error.txt")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    function(*arguments)


def _main(arguments, injections):
    from keras_gen import cli
    from keras_gen.runs import train as run

    # both have tests of their own
    run._publish = lambda config, folder: None
    run.write_report = lambda folder: None
    for inject in injections:
        inject()
    cli.main(arguments)


# === Injections ===


@dataclasses.dataclass
class Worker:
    """Makes a process one of several workers."""

    config: str

    def __call__(self):
        import tensorflow as tf

        os.environ["TF_CONFIG"] = self.config
        tf.config.threading.set_intra_op_parallelism_threads(1)


@dataclasses.dataclass
class AtStep:
    """Does something at the start of a training step, or of the first validation step."""

    step: int | None
    """Number of the training step, counted from 0 over all epochs; None for the validation."""
    action: object

    def __call__(self):
        from keras_gen.runs.callbacks import MetricsFile

        steps = iter(range(10**6))

        def on_batch_begin(callback, batch, logs=None):
            if self.step is None or next(steps) == self.step:
                self.action()

        method = "on_test_batch_begin" if self.step is None else "on_train_batch_begin"
        setattr(MetricsFile, method, on_batch_begin)


@dataclasses.dataclass
class AtCall:
    """Does something before a call of a function of a module."""

    module: str
    function: str
    action: object
    call: int = 0
    """Number of the call, from 0."""

    def __call__(self):
        module = importlib.import_module(self.module)
        function = getattr(module, self.function)
        calls = iter(range(10**6))

        def patched(*args, **kwargs):
            if next(calls) == self.call:
                self.action()
            return function(*args, **kwargs)

        setattr(module, self.function, patched)


@dataclasses.dataclass
class Send:
    """Sends signals to its own process."""

    number: int
    times: int = 1

    def __call__(self):
        for _ in range(self.times):
            signal.raise_signal(self.number)
            time.sleep(0.01)


@dataclasses.dataclass
class FullDisk:
    """Makes every write beyond a file size fail, as on a full disk, or kill the process."""

    size: int = 100_000
    """Largest size of a file in bytes."""
    kill: bool = False

    def __call__(self):
        if self.kill:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.size))


@dataclasses.dataclass
class WaitFor:
    """Waits for a file."""

    path: pathlib.Path

    def __call__(self):
        self.path.with_suffix(".waiting").touch()
        while not self.path.exists():
            time.sleep(0.01)


@dataclasses.dataclass
class Raise:
    """Raises an error."""

    error: Exception

    def __call__(self):
        raise self.error


KILL = Send(signal.SIGKILL)
