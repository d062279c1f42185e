"""The start: lines that TensorFlow writes to the terminal, and imports without collections."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import tensorflow as tf

from keras_gen import _startup, data
from keras_gen.runs import train
from keras_gen.runs.recipes import VAEConfig

STARTUP = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795978868.428081    3269 port.cc:153] oneDNN custom operations are on.
I0000 00:00:1795978868.431035 3269 cudart_stub.cc:31] Could not find cuda drivers on your machine.
To enable the following instructions: AVX2 AVX512F FMA, in other operations, rebuild TensorFlow.
E0000 00:00:1795978875.711824    3269 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA \
error: Failed call to cuInit: UNKNOWN ERROR (303)
E0000 00:00:1795978875.711824    3269 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA \
error: Failed call to cuInit: CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected
"""
ERRORS = """\
E0000 00:00:1795978875.711824    3269 cuda_platform.cc:52] failed call to something else.
W0000 00:00:1795978875.711824    3269 gpu_device.cc:1] Cannot dlopen some GPU libraries.
F0000 00:00:1795978875.711824    3269 cpu.cc:1] The processor has no AVX instructions.
It said: WARNING: All log messages before absl::InitializeLog() is called are lost.
not the end of a line"""
PROGRAM = """
import os
from keras_gen import _startup
_startup._has_nvidia_device = lambda: {has_gpu}
with _startup.without_startup_lines():
    os.write(2, {lines!r}.encode())
    {then}
os.write(2, b" after")
"""


@pytest.fixture
def level(monkeypatch):
    """The level that `keras-gen` sets."""
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "2")


def stderr_of(program, status=0, **arguments):
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, **arguments
    )
    assert ended.returncode == status, ended.stderr
    return ended.stderr


@pytest.mark.parametrize(
    ("then", "status", "after"),
    [
        ("pass", 0, " after"),
        ("os.kill(0, __import__('signal').SIGINT)", 1, "KeyboardInterrupt"),
        ("os._exit(9)", 9, ""),  # as if TensorFlow ended the process
    ],
)
def test_startup_lines_are_removed_and_errors_are_kept(then, status, after, level):
    lines = STARTUP + ERRORS.replace("W0000", STARTUP + "W0000")
    program = PROGRAM.format(lines=lines, then=then, has_gpu=False)
    if status == 1:
        # A process in the background of a shell ignores SIGINT, and so do its children.
        program = (
            "import os, signal; os.setpgrp()\n"
            "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            f"try:\n    exec({program!r})\n"
            "except KeyboardInterrupt:\n    os.write(2, b'KeyboardInterrupt'); os._exit(1)"
        )
    assert stderr_of(program, status) == ERRORS + after


def test_an_error_of_the_driver_is_kept_on_a_machine_with_a_gpu(level):
    program = PROGRAM.format(lines=STARTUP, then="pass", has_gpu=True)
    expected = [line for line in STARTUP.splitlines() if line.startswith("E")]
    assert stderr_of(program).splitlines() == [*expected, " after"]


def test_the_end_does_not_wait_for_a_process_that_keeps_stderr(level):
    then = "__import__('subprocess').Popen(['sleep', '5'])"
    program = PROGRAM.format(lines="", then=then, has_gpu=False)
    program += "\nos._exit(0)"
    start = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", program], check=False)
    assert ended.returncode == 0
    assert time.monotonic() - start < 4.5


@pytest.mark.parametrize(
    "before",
    [
        "import sys; sys.stderr = None",
        "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "def fork(): raise BlockingIOError\nimport os; os.fork = fork",
    ],
)
def test_an_unusual_process_imports_tensorflow_as_well(before, level):
    program = f"{before}\n" + PROGRAM.format(lines="a line\n", then="pass", has_gpu=False)
    assert stderr_of(program) == "a line\n after"


def test_nothing_is_removed_if_the_user_asks_for_the_lines(monkeypatch):
    program = """
import os, sys, types
from keras_gen import _startup
def listed(): os.write(2, b"I0000 00:00:17.4    3269 port.cc:153] on\\n")
config = types.SimpleNamespace(list_physical_devices=listed)
sys.modules["keras"] = types.ModuleType("keras")
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "tensorflow":
            from importlib.machinery import ModuleSpec
            return ModuleSpec(name, Finder)
    @staticmethod
    def create_module(spec): return types.SimpleNamespace(config=config)
    @staticmethod
    def exec_module(module): listed()
sys.meta_path.insert(0, Finder)
_startup.import_tensorflow()
"""
    line = "I0000 00:00:17.4    3269 port.cc:153] on\n"
    for level, expected in {"0": line, "1": line, "2": "", "3": ""}.items():
        monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", level)
        assert stderr_of(program) == expected
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    assert stderr_of(program) == line


@pytest.mark.parametrize("enabled", [True, False])
def test_the_garbage_collector_ignores_the_objects_of_tensorflow(enabled, monkeypatch):
    """It would visit them again and again, which takes about 0.2 s each time."""
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    program = f"""
import gc, sys, types
from keras_gen import _startup
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in ("keras", "tensorflow"):
            from importlib.machinery import ModuleSpec
            return ModuleSpec(name, Finder)
    @staticmethod
    def create_module(spec): return types.SimpleNamespace()
    @staticmethod
    def exec_module(module):
        assert not gc.isenabled()
        if module.__name__ == "tensorflow" and "broken" in globals(): raise ImportError("broken")
sys.meta_path.insert(0, Finder)
{"" if enabled else "gc.disable()"}
broken = True
try:
    _startup.import_tensorflow()
except ImportError:
    assert gc.isenabled() == {enabled}
    assert gc.get_freeze_count() == 0
del broken
sys.modules.pop("keras", None)
_startup.import_tensorflow()
assert gc.isenabled() == {enabled}
assert gc.get_freeze_count() > 1000
gc.unfreeze()
_startup.import_tensorflow()
assert gc.get_freeze_count() == 0
"""
    assert stderr_of(program) == ""


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
def test_after_a_pause_the_garbage_collector_is_as_before(enabled, frozen):
    """Only the generation of the objects changes: the collector visits the oldest one rarely."""
    program = f"""
import gc
from keras_gen import _startup
{"gc.freeze()" if frozen else ""}
count = gc.get_freeze_count()
{"" if enabled else "gc.disable()"}
class Cycle: pass
old = Cycle()
old.itself = old
try:
    with _startup.paused_garbage_collector():
        assert not gc.isenabled()
        raise ImportError
except ImportError:
    pass
assert gc.isenabled() == {enabled}
assert gc.get_freeze_count() == count
assert any(other is old for other in gc.get_objects(generation={0 if frozen else 2}))
del old
assert any(isinstance(other, Cycle) for other in gc.get_objects())
gc.collect()
assert not any(isinstance(other, Cycle) for other in gc.get_objects())
"""
    assert stderr_of(program) == ""


@pytest.mark.parametrize("name", ["VAE", "data"])
def test_no_garbage_is_collected_while_a_name_imports_tensorflow(name):
    program = f"""
import gc, sys
import keras_gen
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in ("keras", "tensorflow", "tensorflow_probability"):
            raise ImportError(f"collections: {{gc.isenabled()}}")
sys.meta_path.insert(0, Finder)
try:
    keras_gen.{name}
except ImportError as error:
    assert str(error) == "collections: False"
else:
    raise AssertionError("TensorFlow is not imported")
assert gc.isenabled()
"""
    assert stderr_of(program) == ""


def test_no_garbage_is_collected_while_a_model_imports_tensorflow_probability(monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    program = """
import gc, sys
import keras, keras_gen
from keras_gen import distributions, networks
encoder, decoder = networks.mlp((4,), (4,)), networks.mlp((2,), (4,))
posterior, likelihood = distributions.DiagonalNormal(2), distributions.Bernoulli((4,))
prior = distributions.StandardNormal(2)
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "tensorflow_probability":
            raise ImportError(f"collections: {gc.isenabled()}")
sys.meta_path.insert(0, Finder)
for make in (
    lambda: keras_gen.VAE(encoder, decoder, posterior, likelihood),
    lambda: keras_gen.GAN(decoder, networks.mlp((4,), (1,))),
    lambda: keras_gen.RegularizedAutoencoder(networks.mlp((4,), (2,)), decoder, prior=prior),
):
    try:
        make()
    except ImportError as error:
        assert str(error) == "collections: False", error
    else:
        raise AssertionError("TensorFlow Probability is not imported")
"""
    stderr_of(program)


@pytest.mark.parametrize(
    ("change", "categories", "expected"),
    [
        ({}, 2, 1),
        ({"hidden": (400,), "batch_size": 256}, 2, 0),  # 41 million multiplications
        ({"hidden": (100,), "batch_size": 100}, 3_990, 1),
        ({"hidden": (100,), "batch_size": 100}, 4_010, 0),  # 40.1 million multiplications
        ({"data": "mnist_mini", "network": "mlp"}, 2, 0),
    ],
)
def test_networks_of_tables_have_one_thread_per_operation(
    change, categories, expected, monkeypatch
):
    def stop(*arguments, **others):
        raise InterruptedError

    table = SimpleNamespace(
        columns=[
            data.Column("weight", "real"),
            data.Column("place", "category", tuple(range(categories))),
        ]
    )
    calls = []
    monkeypatch.setattr(train, "use_one_thread_per_operation", lambda: calls.append(1))
    monkeypatch.setattr(train.tables, "read_table", lambda config: table)
    monkeypatch.setattr(train.tables, "batches", stop)
    monkeypatch.setattr(train, "find_examples", stop)
    with pytest.raises(InterruptedError):
        train.describe(VAEConfig(**{"data": "penguins", **change}))
    assert len(calls) == expected


@pytest.mark.parametrize(
    ("imported", "variable", "is_running", "expected"),
    [
        (True, "", False, [1]),
        (True, "2", False, []),
        (False, "", False, []),
        (True, "", True, []),
    ],
)
def test_threads_are_only_set_in_the_command(imported, variable, is_running, expected, monkeypatch):
    calls = []

    def set_threads(number):
        if is_running:
            raise RuntimeError("cannot be modified after initialization")
        calls.append(number)

    monkeypatch.setattr(_startup, "_imported_tensorflow", imported)
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", variable)
    monkeypatch.setattr(tf.config.threading, "set_intra_op_parallelism_threads", set_threads)
    _startup.use_one_thread_per_operation()
    assert calls == expected


@pytest.mark.slow
@pytest.mark.parametrize(("first", "expected"), [("", "1"), ("import keras", "0")])
def test_a_training_of_a_table_has_one_thread_per_operation(first, expected, monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    program = f"""
{first}
from keras_gen.cli import main
main("train vae --data penguins --dry-run".split())
import tensorflow as tf
print(tf.config.threading.get_intra_op_parallelism_threads())
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout.splitlines()[-1] == expected


@pytest.mark.slow
@pytest.mark.parametrize("imports", [[], ["--import", "mine.py"]])
def test_a_command_that_uses_tensorflow_writes_no_startup_lines(imports, tmp_path, monkeypatch):
    """A file that `--import` names can import TensorFlow before the command does."""
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    (tmp_path / "mine.py").write_text("import tensorflow, keras")
    arguments = [*imports, "train", "vae", "--dry-run", "--data", "no.csv"]
    call = f"from keras_gen.cli import main; main({arguments})"
    [line] = stderr_of(call, 2, cwd=tmp_path).splitlines()
    assert line.startswith("keras-gen: error: ")
