"""What is timed beside training: batches alone, fresh processes, and answers from Keras, Python's SavedModel and the C++ loader."""

import importlib.util
import pathlib
import subprocess
import sys

import numpy as np

FOLDER = pathlib.Path(__file__).parent
CPP_LOADER = FOLDER.parent / "tests" / "serving" / "cpp_loader.py"


def prepared(folder):
    """Write what others read: `digits.npy`, an untrained MLP VAE as `vae.keras`, and its SavedModel in `vae/1`."""
    from steps_keras_gen import batches, mlp_vae

    np.save(folder / "digits.npy", np.concatenate(list(batches(100)(100).as_numpy_iterator())))
    vae = mlp_vae()
    vae.save(folder / "vae.keras")
    vae.export(folder / "vae" / "1")


# === Batches ===


def pipeline(batch_size):
    """The batches of `data.load`."""
    from steps_keras_gen import batches

    first_batches = batches(batch_size)
    return lambda number: _drain(first_batches(number))


def plain_pipeline(batch_size, digits):
    """The batches of `tf.data` from the array in memory."""
    import tensorflow as tf

    x = np.load(digits)
    examples = (
        tf.data.Dataset.from_tensor_slices(x)
        .shuffle(len(x))
        .batch(batch_size, drop_remainder=True)
        .prefetch(2)
    )
    return lambda number: _drain(examples.repeat().take(number))


def _drain(batches):
    for _ in batches:
        pass


# === Fresh processes ===


def python(code, needs="keras_gen", prints_seconds=False):
    """Python code in a fresh process that sees this folder; where it prints seconds, these count."""
    command = [sys.executable, "-c", code]
    if not importlib.util.find_spec(needs):
        raise ImportError(f"No module named {needs!r}")

    def run(times):
        printed = [
            subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=FOLDER).stdout
            for _ in range(times)
        ]
        return {"seconds": sum(map(float, printed))} if prints_seconds else {}

    return run


# === Answers: `images` at a call ===


def keras_model(folder, signature, images):
    """The answers of the model that Keras loads."""
    import keras

    import keras_gen  # noqa: F401  registers its classes

    vae, seeds, x = (
        keras.saving.load_model(folder / "vae.keras"),
        np.arange(images),
        _inputs(images)["encode"]["inputs"],
    )
    calls = {"generate": lambda: vae.generate(seed=seeds), "encode": lambda: vae.encode(x).mean()}
    return _calls(lambda: calls[signature]().numpy())


def saved_model(folder, signature, images):
    """The answers of the SavedModel in Python."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder / "vae" / "1"))
    function = loaded.signatures[signature]
    inputs = _inputs(images)[signature]

    def call():
        answer = function(**{name: tf.constant(values) for name, values in inputs.items()})
        return {
            name: values.numpy() for name, values in answer.items()
        }, loaded  # which must outlive its signatures

    return _calls(call)


def cpp_loader(folder, signature, images):
    """The answers of the SavedModel in the C++ loader that TensorFlow Serving uses."""
    inputs = _inputs(images)[
        signature
    ]  # before the loader, whose libraries numpy.random must not meet half loaded
    specification = importlib.util.spec_from_file_location("cpp_loader", CPP_LOADER)
    loader = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loader)
    loaded = loader.SavedModel(folder / "vae" / "1")
    return _calls(lambda: loaded.run(signature, inputs))


def _inputs(images):
    x = np.random.default_rng(0).random((images, 28, 28, 1), np.float32)
    return {"generate": {"seed": np.arange(images, dtype=np.int64)}, "encode": {"inputs": x}}


def _calls(call):
    def run(times):
        for _ in range(times):
            call()

    return run
