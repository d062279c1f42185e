"""Training with keras_gen and `fit`, as a user would write it."""

import math

import keras

from keras_gen import (
    GAN,
    VAE,
    HierarchicalVAE,
    VectorQuantizedAutoencoder,
    data,
    distributions,
    networks,
)

IMAGE = (28, 28, 1)
TABLE_NUMBERS = 8  # columns of numbers of the table, with mean 0 and standard deviation 1
TABLE_CATEGORIES = (8,) * 6  # number of categories of each further column


def mlp_vae(latents=50, posterior="DiagonalNormal", **compile_arguments):
    """Return a VAE of 784-200-200-50 and 50-200-200-784 tanh units, with a Bernoulli likelihood."""
    posterior = getattr(distributions, posterior)(latents)
    likelihood = distributions.Bernoulli(IMAGE)
    wide = {"hidden": (200, 200), "activation": "tanh"}
    encoder = networks.mlp(IMAGE, (posterior.parameter_size,), **wide)
    decoder = networks.mlp((latents,), likelihood.parameter_shape, **wide)
    vae = VAE(encoder, decoder, posterior, likelihood)
    vae.compile("adam", **compile_arguments)
    return vae


def conv_vae(**compile_arguments):
    """Return a VAE of convolutional networks with 10 latents and a Bernoulli likelihood."""
    return _image_vae(networks.conv_encoder, networks.conv_decoder, **compile_arguments)


def dcgan(**compile_arguments):
    """Return a GAN of DCGAN networks with 64 latents and the non-saturating loss."""
    gan = GAN(networks.dcgan_generator(64, IMAGE), networks.dcgan_discriminator(IMAGE))
    gan.compile(
        keras.optimizers.Adam(1e-3, 0.5), keras.optimizers.Adam(4e-4, 0.5), **compile_arguments
    )
    return gan


def residual_vae(**compile_arguments):
    """Return a VAE of residual networks with 10 latents and a Bernoulli likelihood."""
    return _image_vae(networks.residual_encoder, networks.residual_decoder, **compile_arguments)


def _image_vae(make_encoder, make_decoder, **compile_arguments):
    """Return a VAE with 10 latents and a Bernoulli likelihood, of networks for images."""
    posterior = distributions.DiagonalNormal(10)
    likelihood = distributions.Bernoulli(IMAGE)
    encoder = make_encoder(IMAGE, (posterior.parameter_size,))
    decoder = make_decoder((10,), likelihood.parameter_shape)
    vae = VAE(encoder, decoder, posterior, likelihood)
    vae.compile("adam", **compile_arguments)
    return vae


def hierarchical_vae(**compile_arguments):
    """Return the VAE of the IWAE paper with two layers of latents, 100 and 50."""
    posteriors = [distributions.DiagonalNormal(100), distributions.DiagonalNormal(50)]
    wide = {"hidden": (200, 200), "activation": "tanh"}
    narrow = {"hidden": (100, 100), "activation": "tanh"}
    vae = HierarchicalVAE(
        encoders=[networks.mlp(IMAGE, (200,), **wide), networks.mlp((100,), (100,), **narrow)],
        decoders=[networks.mlp((100,), IMAGE, **wide), networks.mlp((50,), (200,), **narrow)],
        posteriors=posteriors,
        likelihood=distributions.Bernoulli(IMAGE),
    )
    vae.compile("adam", **compile_arguments)
    return vae


def vq_vae(**compile_arguments):
    """Return a VQ-VAE whose codebook of 128 vectors is trained by the optimizer."""
    model = VectorQuantizedAutoencoder(
        networks.conv_grid_encoder(IMAGE, 16, filters=(32, 64)),
        networks.conv_grid_decoder((7, 7, 16), IMAGE, filters=(64, 32)),
        networks.VectorQuantizer(128, codebook="gradient", restart_below=0.0),
        distributions.Bernoulli(IMAGE),
    )
    model.compile("adam", **compile_arguments)
    return model


def table_vae(**compile_arguments):
    """Return a VAE of rows of a table, with 10 latents and networks of 128-128 ReLU units."""
    columns = [data.Column(f"number_{index}", "real") for index in range(TABLE_NUMBERS)]
    columns += [
        data.Column(f"category_{index}", "category", tuple(range(number)))
        for index, number in enumerate(TABLE_CATEGORIES)
    ]
    posterior = distributions.DiagonalNormal(10)
    likelihood = distributions.Columns(columns)
    encoder = networks.mlp(
        (len(columns),),
        (posterior.parameter_size,),
        (128, 128),
        features=networks.ColumnFeatures(columns),
    )
    decoder = networks.mlp((10,), likelihood.parameter_shape, (128, 128))
    vae = VAE(encoder, decoder, posterior, likelihood)
    vae.compile("adam", **compile_arguments)
    return vae


MODELS = {
    "mlp_vae": mlp_vae,
    "conv_vae": conv_vae,
    "dcgan": dcgan,
    "residual_vae": residual_vae,
    "hierarchical_vae": hierarchical_vae,
    "vq_vae": vq_vae,
    "table_vae": table_vae,
}


def batches(batch_size, source="mnist_mini", images=10_000):
    """Return a function from a number of steps to as many batches, reshuffled every epoch."""
    train, _ = data.load(source, batch_size=batch_size)
    return train.take(images // batch_size).repeat().take


def size(variables):
    """Return the number of parameters in variables."""
    return sum(math.prod(variable.shape) for variable in variables)


def fit(model, batch_size, source="mnist_mini", images=10_000, policy="float32", **arguments):
    """Return a function that trains for a number of steps with `fit`.

    Args:
        model: Name of the model in `MODELS`.
        batch_size: Examples per step.
        source: The data set.
        images: Number of examples of the data set to use.
        policy: Keras's policy of dtypes, such as `"mixed_bfloat16"`.
        **arguments: Arguments of `compile`.
    """
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy(policy)
    model = MODELS[model](**arguments)
    first_batches = batches(batch_size, source, images)

    def train(steps):
        history = model.fit(first_batches(steps), verbose=0).history
        return {"loss": history["loss"][0], "parameters": size(model.trainable_variables)}

    return train
