"""A new prior, likelihood, adversarial loss or network is one file outside the package: it trains, is saved, loaded and exported."""

import importlib.util
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import IMAGE, LATENTS

from keras_gen import GAN, VAE, distributions, losses, networks

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
        return tfd.Independent(tfd.StudentT(self.df, tf.cast(parameters, tf.float32), 0.1), len(self.event_shape))
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
        logits = tf.math.softplus(-real_logits / self.temperature) + tf.math.softplus(fake_logits / self.temperature)
        return tf.squeeze(logits, -1)
"""
NETWORK = """
import keras

@keras.saving.register_keras_serializable("outside")
class Doubled(keras.layers.Layer):
    def call(self, x):
        return keras.ops.concatenate([x, x], axis=-1)

def generator(latents, image):
    size = image[0] * image[1] * image[2] // 2
    layers = keras.layers.Dense(size, activation="sigmoid", dtype="float32"), Doubled(dtype="float32"), keras.layers.Reshape(image)
    return keras.Sequential([keras.Input((latents,)), *layers])
"""


def from_file(folder, name, text):
    """The module of a file that has `text`, and nothing else."""
    path = folder / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(f"outside_{name}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def lives(model, images, folder):
    """It trains; saved and loaded, and exported, it generates the same."""
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
    likelihood, posterior = (
        from_file(tmp_path, "likelihood", LIKELIHOOD).StudentT(IMAGE, df=5.0),
        distributions.DiagonalNormal(LATENTS),
    )
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
    loaded = lives(vae, images, tmp_path)
    assert (loaded.prior.spread, loaded.likelihood.df) == (0.5, 5.0)


def test_an_adversarial_loss_and_a_network(images, tmp_path):
    generator = from_file(tmp_path, "network", NETWORK).generator(LATENTS, IMAGE)
    gan = GAN(generator, networks.mlp(IMAGE, (1,), hidden=(6,)), seed=1)
    loss = from_file(tmp_path, "loss", LOSS).Logistic(temperature=1.0)
    gan.compile("adam", "adam", loss=loss)
    assert lives(gan, images, tmp_path).loss.temperature == 1.0
    reference, logits = (
        losses.NonSaturating(),
        tf.constant([[-1.0], [2.0]]),
    )  # at a temperature of 1 it is the notes' loss
    np.testing.assert_allclose(loss.generator(logits), reference.generator(logits), rtol=1e-6)
    np.testing.assert_allclose(
        loss.discriminator(logits, -logits), reference.discriminator(logits, -logits), rtol=1e-6
    )


def test_an_argument_that_is_not_kept_is_an_error_before_it_is_lost(tmp_path):
    forgetful = (
        LIKELIHOOD.replace("self.df = df", "self.degrees = df")
        .replace("self.df,", "self.degrees,")
        .replace("StudentT(Lik", "Forgetful(Lik")
    )
    likelihood = from_file(tmp_path, "forgetful", forgetful).Forgetful(IMAGE)
    posterior = distributions.DiagonalNormal(LATENTS)
    encoder = networks.mlp(IMAGE, (posterior.parameter_size,), hidden=(6,))
    vae = VAE(encoder, networks.mlp((LATENTS,), IMAGE, hidden=(6,)), posterior, likelihood, seed=1)
    with pytest.raises(ValueError, match="df"):
        vae.save(tmp_path / "model.keras")
