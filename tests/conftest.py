"""One TensorFlow with two logical devices, tiny images and one tiny model of each kind."""

import contextlib
import fcntl
import functools
import gc
import importlib
import itertools
import json
import math
import os
import pathlib
import subprocess
import sys

os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true")  # compiles sooner

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gen
from keras_gen import distributions, losses, networks, serving
from keras_gen.serving import clean_check

IMAGE = (8, 8, 1)
LATENTS = 3
# the programs of processes that must not have Python's TensorFlow, which doctest would import
collect_ignore = [f"serving/{name}.py" for name in ("cpp_loader", "cpp_checks", "conformance_server")]
CLASSES = 4

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.config.threading.set_intra_op_parallelism_threads(1)  # the tests themselves are what runs side by side


def normalized(input_shape, output_shape, output_activation=None):
    """A network with batch normalization and L2, which show whether training mode and regularization are what they should be."""
    l2 = keras.regularizers.L2(1e-2)
    return keras.Sequential(
        [
            keras.Input(input_shape),
            keras.layers.Flatten(),
            keras.layers.Dense(5, use_bias=False, kernel_regularizer=l2),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.ReLU(),
            keras.layers.Dense(math.prod(output_shape), kernel_regularizer=l2),
            keras.layers.Reshape(output_shape),
            keras.layers.Activation(output_activation),
        ]
    )


def tiny_autoencoder(l2=1e-3):
    l2 = keras.regularizers.L2(l2)
    model = keras_gen.RegularizedAutoencoder(
        networks.mlp(IMAGE, (LATENTS,), hidden=(6,), kernel_regularizer=l2),
        networks.mlp((LATENTS,), IMAGE, hidden=(6,), kernel_regularizer=l2, output_activation="sigmoid"),
        seed=1,
    )
    return model, {"optimizer": "adam", "loss": "binary_crossentropy"}


def tiny_vae():
    posterior, likelihood = distributions.DiagonalNormal(LATENTS), distributions.Bernoulli(IMAGE)
    model = keras_gen.VAE(
        networks.conv_encoder(IMAGE, (posterior.parameter_size,), filters=(4,)),
        networks.conv_decoder((LATENTS,), likelihood.parameter_shape, filters=(4,)),
        posterior,
        likelihood,
        seed=1,
    )
    return model, {"optimizer": "adam"}


def tiny_gan():
    model = keras_gen.GAN(
        networks.dcgan_generator(LATENTS, IMAGE, filters=(4,)),
        networks.dcgan_discriminator(IMAGE, filters=(4,)),
        seed=1,
    )
    generator_optimizer = keras.optimizers.Adam(1e-3, name="adam")  # or Keras would number the names, and those of learning rates
    discriminator_optimizer = keras.optimizers.SGD(1e-2, name="sgd")
    optimizers = {"generator_optimizer": generator_optimizer, "discriminator_optimizer": discriminator_optimizer}
    return model, {**optimizers, "penalties": [losses.R1(0.1, every=2)], "ema_momentum": 0.5}


MODELS = {"autoencoder": tiny_autoencoder, "vae": tiny_vae, "gan": tiny_gan}


def pytest_terminal_summary(terminalreporter):
    """Print the table of the faults that test_faults.py injected: what was done, how it ended, what was left."""
    reports = [
        report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome) if report.when == "call"
    ]
    rows = [value for report in reports for name, value in report.user_properties if name == "fault"]
    if rows:
        terminalreporter.section(f"{len(rows)} faults")
        for what, code, words, left in sorted(rows):
            terminalreporter.line(f"{what:<60} {code:>4}  {left}" + (f"\n{'':<67}{words}" if words else ""))


_tests = itertools.count()


@pytest.fixture(autouse=True)
def _fixed_start():
    """Every test starts from the same random state and leaves float32 behind."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")
    if next(_tests) % 20 == 0:  # TensorFlow keeps each graph for good; the collector need not look through them ever again
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


def tiny(kind, **compile_arguments):
    """The tiny model of a kind, compiled, the same each time."""
    keras.utils.set_random_seed(0)
    model, arguments = MODELS[kind]()
    model.compile(**arguments, **compile_arguments)
    return model


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


# === What is served ===


def conditional_vae():
    posterior, likelihood = distributions.FullCovarianceNormal(3), distributions.Normal(IMAGE, scale=0.5)
    model = keras_gen.VAE(
        networks.mlp(IMAGE, (posterior.parameter_size,), hidden=(5,), num_classes=CLASSES),
        networks.mlp((3,), IMAGE, hidden=(5,), num_classes=CLASSES),
        posterior,
        likelihood,
        distributions.ConditionalNormal(3, num_classes=CLASSES, hidden_size=5),
        seed=1,
    )
    return model, {"optimizer": "adam"}


def conditional_gan():
    model = keras_gen.GAN(
        networks.dcgan_generator(3, IMAGE, filters=(4,), num_classes=CLASSES),
        networks.dcgan_discriminator(IMAGE, filters=(4,), num_classes=CLASSES, spectral_normalization=True),
        seed=1,
    )
    return model, {"ema_momentum": 0.5}


SERVED = {
    "autoencoder": tiny_autoencoder,
    "vae": tiny_vae,
    "gan": tiny_gan,
    "conditional_vae": conditional_vae,
    "conditional_gan": conditional_gan,
}


def trained(name, images):
    """The model of that name after a pass over some images, the autoencoder with a density and a threshold."""
    keras.utils.set_random_seed(0)
    model, arguments = SERVED[name]()
    model.compile(**arguments)
    model.run_eagerly = True  # two steps are not worth a graph; the file does not say so
    model.fit(images, np.arange(len(images)) % CLASSES if model.num_classes else None, epochs=2, verbose=0)
    if name == "autoencoder":
        model.fit_latent_density(images, 2)
        model.calibrate(images, 0.5)
    return model


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


def verified_here(folder):
    """What `serving.verify` finds in a whole SavedModel, without a process of its own, which takes five seconds."""
    return serving.Verification(pathlib.Path(folder), **clean_check.check(pathlib.Path(folder)))


def without_verifying(patch, verify=lambda folder: serving.Verification(folder, {}, 0, [])):
    """Let `publish` leave out the process of its own in which it verifies."""
    patch.setattr(importlib.import_module("keras_gen.serving.publish"), "verify", verify)


def compiled_for_publishing(make=tiny_autoencoder):
    """A model that can be published."""
    model, arguments = make()
    model.compile(**arguments)
    return model


@pytest.fixture
def unverified(monkeypatch):
    """A test whose published models are not verified."""
    without_verifying(monkeypatch)


@pytest.fixture
def unpublished(monkeypatch):
    """A test whose runs end without a SavedModel, which takes a second."""
    monkeypatch.setattr(serving, "publish", lambda run, base: base)


@pytest.fixture(scope="session")
def published(once, models):
    """The folder `savedmodels` of all, each as version 1 with PNG endpoints; test_verify.py verifies them."""

    def publish(folder):
        with pytest.MonkeyPatch.context() as patch:
            without_verifying(patch)
            for name, model in models.items():
                serving.publish(model, folder / name, png=True)

    return once("savedmodels", publish)


@contextlib.contextmanager
def serving_models(folder):
    """A server of all that is published in `folder`; gives its ports, `{"rest": port, "grpc": port}`."""
    command = [sys.executable, str(pathlib.Path(__file__).parent / "serving" / "conformance_server.py"), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        yield json.loads(process.stdout.readline())
        process.stdin.close()


@pytest.fixture(scope="session")
def server(published):
    """The ports of a server of all that is published: `{"rest": port, "grpc": port}`."""
    with serving_models(published) as ports:
        yield ports
