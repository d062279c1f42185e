"""Parts and whole kinds of models in a file outside the package are trained like its own."""

import hashlib
import importlib.util
import json
import pathlib
import re
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import IMAGE, LATENTS

import keras_gen
from keras_gen import GAN, VAE, cli, distributions, losses, networks
from keras_gen.runs import RECIPES, RunFolder

PACKAGE = pathlib.Path(keras_gen.__file__).parent
PAGE = pathlib.Path(__file__).parents[1] / "docs" / "extending.md"

PRIOR = """
import keras, tensorflow as tf
from tensorflow_probability import distributions as tfd
from keras_gen.distributions import Prior

@keras.saving.register_keras_serializable("outside")
class Laplace(Prior):
    def __init__(self, event_size, spread=1.0, **kwargs):
        super().__init__(event_size, **kwargs)
        self.spread = spread
        self.location = self.add_weight((event_size,), "zeros", name="location", autocast=False)

    def distribution(self, condition=None):
        return tfd.Independent(tfd.Laplace(tf.convert_to_tensor(self.location), self.spread), 1)
"""
LIKELIHOOD = """
import keras, tensorflow as tf
from tensorflow_probability import distributions as tfd
from keras_gen.distributions import Likelihood

@keras.saving.register_keras_serializable("outside")
class StudentT(Likelihood):
    def __init__(self, event_shape, df=3.0):
        super().__init__(event_shape)
        self.df = df

    def __call__(self, parameters):
        pixels = tfd.StudentT(self.df, tf.cast(parameters, tf.float32), 0.1)
        return tfd.Independent(pixels, len(self.event_shape))
"""
LOSS = """
import keras, tensorflow as tf
from keras_gen.losses import AdversarialLoss

@keras.saving.register_keras_serializable("outside")
class Logistic(AdversarialLoss):
    def __init__(self, temperature=1.0):
        self.temperature = temperature

    def generator(self, fake_logits, real_logits=None):
        return tf.squeeze(tf.math.softplus(-fake_logits / self.temperature), -1)

    def discriminator(self, real_logits, fake_logits):
        real = tf.math.softplus(-real_logits / self.temperature)
        fake = tf.math.softplus(fake_logits / self.temperature)
        return tf.squeeze(real + fake, -1)
"""
NETWORK = """
import keras

@keras.saving.register_keras_serializable("outside")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return keras.ops.concatenate([x, x], axis=-1)

def generator(latents, image):
    size = image[0] * image[1] * image[2] // 2
    return keras.Sequential([
        keras.Input((latents,)),
        keras.layers.Dense(size, activation="sigmoid", dtype="float32"),
        Doubled(dtype="float32"),
        keras.layers.Reshape(image),
    ])
"""


def from_file(folder, name, text):
    """Return the module of a file with this text."""
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(f"outside_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def trained_saved_and_exported(model, images, folder):
    """Train a model, and return the loaded one; loaded and exported, it generates the same."""
    before = [np.array(variable) for variable in model.trainable_variables]
    history = model.fit(images, epochs=2, batch_size=16, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert all(
        (old != variable.numpy()).any()
        for old, variable in zip(before, model.trainable_variables, strict=True)
    )
    expected = model.generate(3, seed=5).numpy()
    model.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras")
    np.testing.assert_array_equal(loaded.generate(3, seed=5), expected)
    model.export(folder / "1", verbose=False)
    served = tf.saved_model.load(folder / "1").signatures["generate"](
        seed=tf.range(2, dtype=tf.int64)
    )["outputs"]
    assert served.shape == (2, *IMAGE)
    assert np.isfinite(served).all()
    return loaded


def test_a_prior_and_a_likelihood(images, tmp_path):
    prior = from_file(tmp_path, "prior", PRIOR).Laplace(LATENTS, spread=0.5)
    likelihood = from_file(tmp_path, "likelihood", LIKELIHOOD).StudentT(IMAGE, df=5.0)
    posterior = distributions.DiagonalNormal(LATENTS)
    encoder = networks.mlp(IMAGE, (posterior.parameter_size,), hidden=(6,))
    vae = VAE(
        encoder,
        networks.mlp((LATENTS,), likelihood.parameter_shape, hidden=(6,)),
        posterior,
        likelihood,
        prior,
        seed=1,
    )
    vae.compile("adam")
    loaded = trained_saved_and_exported(vae, images, tmp_path)
    assert (loaded.prior.spread, loaded.likelihood.df) == (0.5, 5.0)


def test_an_adversarial_loss_and_a_network(images, tmp_path):
    generator = from_file(tmp_path, "network", NETWORK).generator(LATENTS, IMAGE)
    gan = GAN(generator, networks.mlp(IMAGE, (1,), hidden=(6,)), seed=1)
    loss = from_file(tmp_path, "loss", LOSS).Logistic(temperature=1.0)
    gan.compile("adam", "adam", loss=loss)
    loaded = trained_saved_and_exported(gan, images, tmp_path)
    assert loaded.loss.temperature == 1.0
    reference = losses.NonSaturating()  # the same at a temperature of 1
    logits = tf.constant([[-1.0], [2.0]])
    np.testing.assert_allclose(loss.generator(logits), reference.generator(logits), rtol=1e-6)
    np.testing.assert_allclose(
        loss.discriminator(logits, -logits), reference.discriminator(logits, -logits), rtol=1e-6
    )


def test_an_argument_without_an_attribute_is_an_error_when_the_model_is_saved(tmp_path):
    forgetful = LIKELIHOOD.replace("self.df", "self.degrees").replace(
        "StudentT(Lik", "Forgetful(Lik"
    )
    likelihood = from_file(tmp_path, "forgetful", forgetful).Forgetful(IMAGE)
    posterior = distributions.DiagonalNormal(LATENTS)
    encoder = networks.mlp(IMAGE, (posterior.parameter_size,), hidden=(6,))
    vae = VAE(encoder, networks.mlp((LATENTS,), IMAGE, hidden=(6,)), posterior, likelihood, seed=1)
    with pytest.raises(ValueError, match="df"):
        vae.save(tmp_path / "model.keras")


def checksums(folder):
    """Return the checksum of each source file below a folder."""
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*.py")}


@pytest.fixture
def file_of_the_page(tmp_path, monkeypatch):
    """The file of docs/extending.md that registers a kind of model; afterwards it is forgotten."""
    monkeypatch.chdir(tmp_path)
    (name,) = re.findall(r":caption: (\w+\.py)", PAGE.read_text())
    (text,) = re.findall(rf":caption: {name}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    pathlib.Path(name).write_text(text)
    kinds = set(RECIPES)
    yield name
    for kind in set(RECIPES) - kinds:
        del RECIPES[kind]


@pytest.mark.usefixtures("unverified")
def test_a_kind_of_model_trains_from_the_command_line_after_one_registration(
    file_of_the_page, capsys
):
    before = checksums(PACKAGE)
    np.savez("x.npz", x=np.random.default_rng(0).random((120, *IMAGE), dtype=np.float32))
    flags = ["--import", file_of_the_page]
    settings = ["--latent-size", "2", "--scale", "0.5", "--data", "x.npz", "--epochs", "2"]
    cli.main([*flags, "train", "cv_vae", *settings])
    folder = RunFolder("runs/cv_vae")
    assert "A VAE with constant posterior variance" in folder.report_file.read_text()
    assert folder.figures().keys() == {"samples", "reconstructions"}
    last = folder.read_metrics()[-1]
    parts = [float(last[name]) for name in ("val_reconstruction_loss", "val_latent_loss")]
    assert float(last["val_loss"]) == pytest.approx(sum(parts), rel=1e-5)
    model = folder.load_model()
    assert (type(model).__name__, model.scale) == ("ConstantVarianceVAE", 0.5)
    cli.main([*flags, "sample", "runs/cv_vae", "--output", "samples.npy", "--seed", "3"])
    np.testing.assert_array_equal(np.load("samples.npy"), model.generate(100, seed=3))
    test = np.load("samples.npy")[:10]
    cli.main([*flags, "evaluate", "runs/cv_vae"])
    scores = json.loads(folder.evaluation_file.read_text())["scores"]
    assert [score["name"] for score in scores] == ["loss", "reconstruction_loss", "latent_loss"]
    served = tf.saved_model.load("savedmodels/cv_vae/1").signatures["encode"](tf.constant(test))
    np.testing.assert_allclose(served["latents"], model.latents(test), atol=1e-5)
    assert sum(before[path] != checksum for path, checksum in checksums(PACKAGE).items()) == 0

    del RECIPES["cv_vae"]
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main(["sample", "runs/cv_vae"])
    assert stopped.value.code == 2
    assert "`keras-gen --import FILE …`" in capsys.readouterr().err
