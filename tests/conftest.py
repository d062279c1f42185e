"""One TensorFlow with two logical devices, tiny images and one tiny model of each kind."""

import fcntl
import functools
import gc
import itertools
import os

os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)  # compiles sooner

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_gen import serving

# the programs of processes that must not have Python's TensorFlow, which doctest would import
collect_ignore = [
    f"serving/{name}.py" for name in ("cpp_loader", "cpp_checks", "conformance_server")
]

cpu = tf.config.list_physical_devices("CPU")[0]

tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

# the tests themselves run side by side
tf.config.threading.set_intra_op_parallelism_threads(1)

from support import IMAGE, MODELS, SERVED, serving_models, tiny, trained, without_verifying  # noqa: E402


def pytest_terminal_summary(terminalreporter):
    """Print the table of the faults that test_faults.py injected: what was done, how it ended, what was left."""
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


_tests = itertools.count()


@pytest.fixture(autouse=True)
def _fixed_start():
    """Every test starts from the same random state and leaves float32 behind."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    if (
        next(_tests) % 20 == 0
    ):  # TensorFlow keeps each graph for good; the collector need not look through them ever again
        gc.collect()
        gc.freeze()


@pytest.fixture(params=MODELS)
def kind(request):
    """Each kind of model in turn, by name."""
    return request.param


@pytest.fixture
def make_model(kind):
    """A function that makes the same tiny model each time it is called, compiled with what it is given."""
    return functools.partial(tiny, kind)


@pytest.fixture
def keras_own_adam(monkeypatch):
    """Models whose Adam is not fused, so that they can be compared with plain Keras models to the last bit."""
    monkeypatch.setattr("keras_gen.models.base.fuse", lambda optimizer: optimizer)


@pytest.fixture(scope="session")
def images():
    """20 images of 8×8 in [0, 1]: with a batch size of 8, the last batch is a partial one."""
    return np.random.default_rng(0).random((20, *IMAGE), dtype=np.float32)


@pytest.fixture(scope="session")
def two_replicas():
    """Two logical CPUs. One strategy for the whole session: a second one would use the collective keys of the first again."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """A function from a name, and a function that fills a folder, to that folder, filled once for all processes of the tests."""
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
    monkeypatch.setattr(serving, "publish", lambda model, base, card: base)


@pytest.fixture(scope="session")
def published(once, models):
    """The folder `savedmodels` of all, each as version 1 with PNG endpoints; test_verify.py verifies them."""

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
