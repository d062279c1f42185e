"""Functions that `speed.py` times: reading batches, starting processes, and inference.

Inference is timed with Keras, with the SavedModel in Python, and with the SavedModel in the C++
loader of TensorFlow Serving. Each function runs in a process of its own. The functions for training
are in the files `steps_*.py`.
"""

import importlib.util
import os
import pathlib
import pty
import subprocess
import sys

import numpy as np

FOLDER = pathlib.Path(__file__).parent
KERAS_GEN = [sys.executable, "-c", "from keras_gen.cli import main; main()"]
CPP_LOADER = FOLDER.parent / "tests" / "serving" / "cpp_loader.py"


def prepared(folder):
    """Write the files that the other functions read.

    These are the training images as `digits.npy`, a table as `table.csv` and `table.npy`, an
    untrained MLP VAE as `vae.keras`, and its SavedModel in `vae/1`.
    """
    from steps_keras_gen import batches, mlp_vae

    np.save(folder / "digits.npy", np.concatenate(list(batches(100)(100).as_numpy_iterator())))
    _write_table(folder)
    vae = mlp_vae()
    vae.save(folder / "vae.keras")
    vae.export(folder / "vae" / "1")


def _write_table(folder, rows=10_000):
    """Write a table of columns that depend on five factors; a twentieth of its entries is missing.

    Categories are letters in `table.csv`, and their indices in `table.npy`.
    """
    import pandas as pd
    from steps_keras_gen import TABLE_CATEGORIES, TABLE_NUMBERS

    random = np.random.default_rng(0)
    factors = random.normal(size=(rows, 5))
    numbers = factors @ random.normal(size=(5, TABLE_NUMBERS)) + random.normal(
        size=(rows, TABLE_NUMBERS)
    )
    numbers = (numbers - numbers.mean(axis=0)) / numbers.std(axis=0)
    codes = [
        (factors @ random.normal(size=(5, number)) + random.gumbel(size=(rows, number))).argmax(1)
        for number in TABLE_CATEGORIES
    ]
    values = np.column_stack([numbers, *codes]).astype(np.float32)
    values[random.random(values.shape) < 0.05] = np.nan
    np.save(folder / "table.npy", values)
    table = pd.DataFrame(values)
    for column in range(TABLE_NUMBERS, values.shape[1]):
        table[column] = table[column].map(dict(enumerate("abcdefgh")))
    table.to_csv(folder / "table.csv", index=False)


# === Batches ===


def pipeline(batch_size):
    """Return a function that reads a number of batches of `data.load`."""
    from steps_keras_gen import batches

    first_batches = batches(batch_size)
    return lambda number: _read_all(first_batches(number))


def plain_pipeline(batch_size, digits):
    """Return a function that reads a number of batches with `tf.data` from an array in memory."""
    import tensorflow as tf

    x = np.load(digits)
    examples = tf.data.Dataset.from_tensor_slices(x).shuffle(len(x))
    batches = examples.batch(batch_size, drop_remainder=True).prefetch(2)
    return lambda number: _read_all(batches.repeat().take(number))


def _read_all(batches):
    for _ in batches:
        pass


# === New processes ===


def python(code, prints_seconds=False):
    """Return a function that runs Python code in new processes.

    Args:
        code: The code.
        prints_seconds: Whether the code prints its own time in seconds, which replaces the time of
            the whole process.
    """
    command = [sys.executable, "-c", code]

    def run(times):
        outputs = []
        for _ in range(times):
            process = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=FOLDER)
            outputs.append(process.stdout)
        return {"seconds": sum(map(float, outputs))} if prints_seconds else {}

    return run


def printed(text, command=None, code=None, folder=FOLDER, needs="keras_gen"):
    """Return a function that starts a process in a terminal, and stops it after a text.

    Args:
        text: The process ends when the terminal shows this text.
        command: Arguments of `keras-gen`. If None, the process runs `code`.
        code: Python code that prints the text. It can import the modules of this folder.
        folder: Current folder of the process. Default: the folder of this file.
        needs: A package without which the process cannot run.
    """
    if not importlib.util.find_spec(needs):
        raise ImportError(f"No module named {needs!r}")
    arguments = [sys.executable, "-c", code] if code else [*KERAS_GEN, *command.split()]

    def run(times):
        for _ in range(times):
            terminal, of_process = pty.openpty()
            with subprocess.Popen(
                arguments,
                stdin=of_process,
                stdout=of_process,
                stderr=of_process,
                cwd=folder,
            ) as process:
                os.close(of_process)
                shown = b""
                try:
                    while text.encode() not in shown:
                        shown += os.read(terminal, 4096)
                except OSError as error:  # the process has ended
                    raise RuntimeError(
                        f"Expected {arguments} to print {text!r}. "
                        f"Received: {shown.decode(errors='replace')}"
                    ) from error
                process.kill()
            os.close(terminal)

    return run


def command(name, folder):
    """Return a function that runs the training or the evaluation with the default settings.

    Args:
        name: Arguments of `keras-gen`, without the run. An evaluation is of the oldest run.
        folder: Current folder of the process.
    """
    arguments = [*KERAS_GEN, *name.split()]

    def run(times):
        runs = sorted((folder / "default" / "runs").glob("vae*"), key=os.path.getmtime)
        of_run = [str(runs[0])] if name == "evaluate" else []
        (folder / "default").mkdir(exist_ok=True)
        for _ in range(times):
            subprocess.run(
                [*arguments, *of_run], stdout=subprocess.PIPE, check=True, cwd=folder / "default"
            )

    return run


# === Inference: `images` per call ===


def keras_model(folder, method, images):
    """Return a function that calls a method of the model in Keras a number of times."""
    import keras

    import keras_gen  # noqa: F401  registers its classes

    vae = keras.saving.load_model(folder / "vae.keras")
    inputs = _inputs(images)
    x = inputs["encode"]["inputs"]
    calls = {
        "generate": lambda: vae.generate(seed=inputs["generate"]["seed"]),
        "encode": lambda: vae.encode(x).mean(),
        "latents": lambda: vae.latents(x),
        "decode": lambda: vae.decode(inputs["decode"]["latents"]),
        "reconstruct": lambda: vae.reconstruct(x),
        "score": lambda: vae.score(x),
    }
    return _repeated(lambda: calls[method]().numpy())


def saved_model(folder, signature, images):
    """Return a function that calls the SavedModel in Python a number of times."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder / "vae" / "1"))
    function = loaded.signatures[signature]
    inputs = _inputs(images)[signature]

    def call():
        outputs = function(**{name: tf.constant(values) for name, values in inputs.items()})
        arrays = {name: values.numpy() for name, values in outputs.items()}
        return arrays, loaded  # `loaded` must live as long as its signatures

    return _repeated(call)


def cpp_loader(folder, signature, images):
    """Return a function that calls the SavedModel in the C++ loader a number of times."""
    # numpy.random must be imported before the libraries of the loader.
    inputs = _inputs(images)[signature]
    specification = importlib.util.spec_from_file_location("cpp_loader", CPP_LOADER)
    loader = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(loader)
    loaded = loader.SavedModel(folder / "vae" / "1")
    return _repeated(lambda: loaded.run(signature, inputs))


def _inputs(images):
    random = np.random.default_rng(0)
    x = {"inputs": random.random((images, 28, 28, 1), np.float32)}
    return {
        "generate": {"seed": np.arange(images, dtype=np.int64)},
        "encode": x,
        "serving_default": x,
        "score": x,
        "decode": {"latents": random.random((images, 50), np.float32)},
    }


def _repeated(call):
    def run(times):
        for _ in range(times):
            call()

    return run
