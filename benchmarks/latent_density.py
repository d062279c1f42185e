"""Compare samples of an autoencoder with and without a density fitted to its latents.

One L2-regularized autoencoder decodes samples from N(0, I), and from the mixture that is fitted to
its latents. The benchmark writes `docs/images/latent-density.png`, with ten columns of each: N(0,
I) on the left, the mixture on the right. It takes one minute on two cores.
"""

import pathlib

import keras
import numpy as np
import tyro

from keras_gen import RegularizedAutoencoder, data, distributions, networks, regularizers
from keras_gen.evaluation.figures import save_grid

FIGURE = pathlib.Path(__file__).parents[1] / "docs" / "images" / "latent-density.png"


def main():
    """Train, sample from both densities, and write the figure."""
    keras.utils.set_random_seed(0)
    train, test = data.load("mnist_mini", batch_size=128)
    image = (28, 28, 1)
    latents = (16,)
    l2 = keras.regularizers.L2(1e-6)
    autoencoder = RegularizedAutoencoder(
        networks.conv_encoder(image, latents, kernel_regularizer=l2),
        networks.conv_decoder(latents, image, kernel_regularizer=l2, output_activation="sigmoid"),
        seed=0,
    )
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, 30 * len(train))
    autoencoder.compile(
        keras.optimizers.Adam(schedule), "binary_crossentropy", regularizers.LatentL2(1e-4)
    )
    autoencoder.fit(train, validation_data=test, epochs=30, verbose=2)
    standard = RegularizedAutoencoder(
        autoencoder.encoder, autoencoder.decoder, distributions.StandardNormal(16)
    ).generate(100, 0)
    autoencoder.fit_latent_density(train, num_components=10)
    fitted = autoencoder.generate(100, seed=0)
    gap = np.full((10, 1, 28, 28, 1), 0.5)
    left = np.reshape(standard, (10, 10, 28, 28, 1))
    right = np.reshape(fitted, (10, 10, 28, 28, 1))
    images = np.concatenate([left, gap, right], axis=1).reshape(-1, 28, 28, 1)
    save_grid(FIGURE, images, columns=21)


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
