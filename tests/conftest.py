"""One TensorFlow with two logical devices, tiny images and one tiny model of each kind."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_gen
from keras_gen import distributions, losses, networks

IMAGE = (8, 8, 1)
LATENTS = 3

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


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
        networks.dcgan_generator(LATENTS, IMAGE, filters=(4, 4)),
        networks.dcgan_discriminator(IMAGE, filters=(4, 4)),
        seed=1,
    )
    optimizers = {"generator_optimizer": keras.optimizers.Adam(1e-3), "discriminator_optimizer": keras.optimizers.SGD(1e-2)}
    return model, {**optimizers, "penalties": [losses.R1(0.1, every=2)], "ema_momentum": 0.5}


MODELS = {"autoencoder": tiny_autoencoder, "vae": tiny_vae, "gan": tiny_gan}


@pytest.fixture(autouse=True)
def _fixed_start():
    """Every test starts from the same random state and leaves float32 behind."""
    keras.utils.set_random_seed(0)
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(params=MODELS)
def kind(request):
    """Each kind of model in turn, by name."""
    return request.param


@pytest.fixture
def make_model(kind):
    """A function that makes the same tiny model each time it is called, compiled with what it is given."""

    def make(**compile_arguments):
        keras.utils.set_random_seed(0)
        model, arguments = MODELS[kind]()
        model.compile(**arguments, **compile_arguments)
        return model

    return make


@pytest.fixture(scope="session")
def images():
    """20 images of 8×8 in [0, 1]: with a batch size of 8, the last batch is a partial one."""
    return np.random.default_rng(0).random((20, *IMAGE), dtype=np.float32)


@pytest.fixture(scope="session")
def two_replicas():
    """Two logical CPUs. One strategy for the whole session: a second one would use the collective keys of the first again."""
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
