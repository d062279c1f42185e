"""What tests share: tiny models of each kind, and functions that train, publish and serve them."""

import contextlib
import importlib
import json
import math
import pathlib
import subprocess
import sys

import keras
import numpy as np

import keras_gen
from keras_gen import distributions, losses, networks, serving
from keras_gen.serving import _clean_check as clean_check

IMAGE = (8, 8, 1)

LATENTS = 3

CLASSES = 4


def normalized(input_shape, output_shape, output_activation=None):
    """Make a network with batch normalization and L2, to test training mode and regularization."""
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
        networks.mlp(
            (LATENTS,), IMAGE, hidden=(6,), kernel_regularizer=l2, output_activation="sigmoid"
        ),
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
    generator_optimizer = keras.optimizers.Adam(
        1e-3, name="adam"
    )  # or Keras would number the names, and those of learning rates
    discriminator_optimizer = keras.optimizers.SGD(1e-2, name="sgd")
    optimizers = {
        "generator_optimizer": generator_optimizer,
        "discriminator_optimizer": discriminator_optimizer,
    }
    return model, {**optimizers, "penalties": [losses.R1(0.1, every=2)], "ema_momentum": 0.5}


def tiny_vq_vae(codebook="moving_average", restart_below=0.2, seed=1):
    """Make a model with 2×2 latent vectors, each of which has a code in two codebooks."""
    model = keras_gen.VectorQuantizedAutoencoder(
        networks.conv_grid_encoder(IMAGE, 4, filters=(4, 4)),
        networks.conv_grid_decoder((2, 2, 4), IMAGE, filters=(4, 4)),
        networks.VectorQuantizer(6, 2, codebook, decay=0.9, restart_below=restart_below),
        distributions.Bernoulli(IMAGE),
        distributions.TransformerPrior((2, 2, 2), 6, width=4, depth=1, num_heads=2),
        seed=seed,
    )
    return model, {"optimizer": "adam"}


def tiny_hierarchical_vae(inference="top_down", **arguments):
    """Make a model with two layers of latents."""
    posteriors = [distributions.DiagonalNormal(LATENTS), distributions.DiagonalNormal(2)]
    of_first = 7 if inference == "top_down" else 2 * LATENTS
    into_second = 7 if inference == "top_down" else LATENTS
    defaults = {
        "encoders": [
            networks.conv_encoder(IMAGE, (of_first,), filters=(4,)),
            networks.mlp((into_second,), (4,), hidden=(5,)),
        ],
        "decoders": [
            networks.conv_decoder((LATENTS,), IMAGE, filters=(4,)),
            networks.mlp((2,), (2 * LATENTS,), hidden=(5,)),
        ],
        "posteriors": posteriors,
        "likelihood": distributions.Bernoulli(IMAGE),
    }
    model = keras_gen.HierarchicalVAE(**{**defaults, **arguments}, inference=inference, seed=1)
    return model, {"optimizer": "adam"}


MODELS = {
    "autoencoder": tiny_autoencoder,
    "vae": tiny_vae,
    "hierarchical_vae": tiny_hierarchical_vae,
    "gan": tiny_gan,
    "vq_vae": tiny_vq_vae,
}


def tiny(kind, **compile_arguments):
    """The tiny model of a kind, compiled, the same each time."""
    keras.utils.set_random_seed(0)
    model, arguments = MODELS[kind]()
    model.compile(**arguments, **compile_arguments)
    return model


def conditional_vae():
    posterior, likelihood = (
        distributions.FullCovarianceNormal(3),
        distributions.Normal(IMAGE, scale=0.5),
    )
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
        networks.dcgan_discriminator(
            IMAGE, filters=(4,), num_classes=CLASSES, spectral_normalization=True
        ),
        seed=1,
    )
    return model, {"ema_momentum": 0.5}


SERVED = {
    "autoencoder": tiny_autoencoder,
    "vae": tiny_vae,
    "hierarchical_vae": tiny_hierarchical_vae,
    "gan": tiny_gan,
    "vq_vae": tiny_vq_vae,
    "conditional_vae": conditional_vae,
    "conditional_gan": conditional_gan,
}


def trained(name, images):
    """Return the trained model of a name; the autoencoder has a latent density and a threshold."""
    keras.utils.set_random_seed(0)
    model, arguments = SERVED[name]()
    model.compile(**arguments)
    model.run_eagerly = True  # two steps are not worth a graph; the file does not say so
    model.fit(
        images, np.arange(len(images)) % CLASSES if model.num_classes else None, epochs=2, verbose=0
    )
    if name == "autoencoder":
        model.fit_latent_density(images, 2)
        model.calibrate(images, 0.5)
    if name == "vq_vae":
        model.fit_prior(images, epochs=1, verbose=0)
        model.calibrate(images, 0.5)
    return model


def verified_here(folder):
    """Return what `serving.verify` finds, computed in this process, which saves five seconds."""
    return serving.Verification(pathlib.Path(folder), **clean_check.check(pathlib.Path(folder)))


def without_verifying(patch, verify=lambda folder: serving.Verification(folder, {}, 0, [])):
    """Let `publish` leave out the process of its own in which it verifies."""
    patch.setattr(importlib.import_module("keras_gen.serving.publish"), "verify", verify)


def compiled_for_publishing(make=tiny_autoencoder):
    """A model that can be published."""
    model, arguments = make()
    model.compile(**arguments)
    return model


@contextlib.contextmanager
def serving_models(folder):
    """Serve all models in `folder`; yield the ports, `{"rest": port, "grpc": port}`."""
    command = [
        sys.executable,
        str(pathlib.Path(__file__).parent / "serving" / "conformance_server.py"),
        str(folder),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        yield json.loads(process.stdout.readline())
        process.stdin.close()
