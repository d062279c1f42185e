"""The training steps that are timed, with the models of keras_gen and `fit`, as a user would write them."""

import math

import keras

from keras_gen import GAN, VAE, data, distributions, networks

IMAGE = (28, 28, 1)


def mlp_vae(latents=50, family="DiagonalNormal", **compile_arguments):
    """784-200-200-50 and back, tanh, Bernoulli."""
    posterior, likelihood = getattr(distributions, family)(latents), distributions.Bernoulli(IMAGE)
    wide = {"hidden": (200, 200), "activation": "tanh"}
    encoder = networks.mlp(IMAGE, (posterior.parameter_size,), **wide)
    vae = VAE(
        encoder, networks.mlp((latents,), likelihood.parameter_shape, **wide), posterior, likelihood
    )
    vae.compile("adam", **compile_arguments)
    return vae


def conv_vae(**compile_arguments):
    """The convolutional pair with its defaults and 10 latents, Bernoulli."""
    posterior, likelihood = distributions.DiagonalNormal(10), distributions.Bernoulli(IMAGE)
    encoder = networks.conv_encoder(IMAGE, (posterior.parameter_size,))
    vae = VAE(
        encoder, networks.conv_decoder((10,), likelihood.parameter_shape), posterior, likelihood
    )
    vae.compile("adam", **compile_arguments)
    return vae


def dcgan(**compile_arguments):
    """The DCGAN pair with its defaults and 64 latents, non-saturating loss."""
    gan = GAN(networks.dcgan_generator(64, IMAGE), networks.dcgan_discriminator(IMAGE))
    gan.compile(
        keras.optimizers.Adam(1e-3, 0.5), keras.optimizers.Adam(4e-4, 0.5), **compile_arguments
    )
    return gan


MODELS = {"mlp_vae": mlp_vae, "conv_vae": conv_vae, "dcgan": dcgan}


def batches(batch_size, source="mnist_mini", images=10_000):
    """Function from a number of steps to so many whole batches, shuffled anew in each epoch."""
    train, _ = data.load(source, batch_size=batch_size)
    return train.take(images // batch_size).repeat().take


def size(variables):
    """How many numbers there are in variables."""
    return sum(math.prod(variable.shape) for variable in variables)


def fit(model, batch_size, source="mnist_mini", images=10_000, **arguments):
    """The training by `fit`."""
    keras.utils.set_random_seed(0)
    model = MODELS[model](**arguments)
    first_batches = batches(batch_size, source, images)

    def train(steps):
        history = model.fit(first_batches(steps), verbose=0).history
        return {"loss": history["loss"][0], "parameters": size(model.trainable_variables)}

    return train
