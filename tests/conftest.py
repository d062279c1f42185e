"""One TensorFlow with two logical devices, tiny images and one tiny model of each kind."""

import ctypes
import fcntl
import functools
import gc
import inspect
import itertools
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")  # scikit-learn: two processes share the cores
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)  # compiles sooner

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import ops

from keras_gen import serving

# the programs of processes that must not have Python's TensorFlow, which doctest would import
collect_ignore = [
    f"serving/{name}.py" for name in ("cpp_loader", "cpp_checks", "conformance_server")
]

cpu = tf.config.list_physical_devices("CPU")[0]

tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

# the tests themselves run side by side
tf.config.threading.set_intra_op_parallelism_threads(1)

from slow import COLLECTED, slow_of
from support import (
    IMAGE,
    MODELS,
    SERVED,
    serving_models,
    tiny,
    trained,
    without_verifying,
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Mark the slow tests, before `-m` selects by marks."""
    names = {item: item.nodeid.removeprefix("tests/") for item in items}
    config.stash[COLLECTED] = list(names.values())
    slow = slow_of(names.values())
    for item, name in names.items():
        if name in slow:
            item.add_marker(pytest.mark.slow)


def pytest_terminal_summary(terminalreporter):
    """Print the failures that test_faults.py injected: what happened, exit code, what was left."""
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call"
    ]
    rows = [
        value for report in reports for name, value in report.user_properties if name == "fault"
    ]
    if rows:
        terminalreporter.section(f"{len(rows)} faults")
        for what, code, words, left in sorted(rows):
            terminalreporter.line(
                f"{what:<60} {code:>4}  {left}" + (f"\n{'':<67}{words}" if words else "")
            )


COLLECTION_INTERVAL = 5
"""Seconds of tests after which the garbage collector runs."""

_last_collection = [time.monotonic()]
_collections = itertools.count(1)
_kept_gradients = set()
_libc = ctypes.CDLL(None)


@pytest.fixture(scope="session", autouse=True)
def _frozen_imports():
    """Let the garbage collector skip what the imports made, so that it is quick after each test."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _fixed_start():
    """Start every test from the same random state; free its graphs and restore float32 after it."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    _free_graphs()


def _free_graphs():
    """Let Python and the operating system take back the memory of graphs that a test traced.

    Keras's optimizers and loaded SavedModels have functions with a custom gradient. TensorFlow
    registers these gradients for the life of the process, and with them the graphs that they belong
    to. XLA frees its memory, but the C library keeps it until it is asked.
    """
    registry = ops.gradient_registry._registry
    for name, entry in list(registry.items()):
        if name.startswith("CustomGradient") and name not in _kept_gradients:
            if _belongs_to_tfp(entry["type"]):
                _kept_gradients.add(name)
            else:
                del registry[name]
    if time.monotonic() - _last_collection[0] > COLLECTION_INTERVAL:
        if next(_collections) % 10 == 0:
            gc.unfreeze()  # collect also what earlier collections kept
        gc.collect()
        gc.freeze()
        if hasattr(_libc, "malloc_trim"):
            _libc.malloc_trim(0)
        _last_collection[0] = time.monotonic()


def _belongs_to_tfp(gradient):
    """Return whether a gradient is one of the functions that TFP traces once per process."""
    inner = inspect.getclosurevars(gradient).nonlocals.get("tape_grad_fn")
    if inner is None:  # of a SavedModel
        return False
    function = inspect.getclosurevars(inner).nonlocals["grad_fn"]
    return function.__module__.startswith("tensorflow_probability")


@pytest.fixture(params=MODELS)
def kind(request):
    """Each kind of model in turn, by name."""
    return request.param


@pytest.fixture
def make_model(kind):
    """Return a function that makes the same tiny model in each call, compiled as asked."""
    return functools.partial(tiny, kind)


@pytest.fixture
def keras_own_adam(monkeypatch):
    """Turn the fused Adam off, for bit-for-bit comparisons with plain Keras models."""
    monkeypatch.setattr("keras_gen.models.base.fuse", lambda optimizer: optimizer)


@pytest.fixture(scope="session")
def images():
    """20 images of 8×8 in [0, 1]: with a batch size of 8, the last batch is a partial one."""
    return np.random.default_rng(0).random((20, *IMAGE), dtype=np.float32)


@pytest.fixture(scope="session")
def two_replicas():
    """Return a strategy of two logical CPUs.

    It is the same for the whole session: a second one would reuse the collective keys of the first.
    """
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Return a function that fills a folder once for all test processes, by name and recipe."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def made(name, make):
        folder = root / name
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (root / f"{name}.done").exists():
                folder.mkdir()
                make(folder)
                (root / f"{name}.done").touch()
        return folder

    return made


@pytest.fixture(scope="session")
def models(once, images):
    """A trained model of each kind, by name."""

    def save(folder):
        for name in SERVED:
            trained(name, images).save(folder / f"{name}.keras")

    folder = once("models", save)
    return {name: keras.saving.load_model(folder / f"{name}.keras") for name in SERVED}


@pytest.fixture
def unverified(monkeypatch):
    """A test whose published models are not verified."""
    without_verifying(monkeypatch)


@pytest.fixture
def unpublished(monkeypatch):
    """A test whose runs end without a SavedModel, which takes a second."""
    monkeypatch.setattr(serving, "publish", lambda model, base, **arguments: base)


@pytest.fixture(scope="session")
def published(once, models):
    """Return a folder with each model published as version 1; test_verify.py verifies them."""

    def publish(folder):
        with pytest.MonkeyPatch.context() as patch:
            without_verifying(patch)
            for name, model in models.items():
                serving.publish(model, folder / name, png=True)

    return once("savedmodels", publish)


@pytest.fixture(scope="session")
def server(published):
    """The ports of a server of all that is published: `{"rest": port, "grpc": port}`."""
    with serving_models(published) as ports:
        yield ports
