"""What a fitted latent density is worth: one L2 autoencoder, sampled from N(0, I) and from the mixture fitted to its codes.

Writes `docs/images/latent-density.png`: ten columns of either, N(0, I) on the left. A minute on two cores.
"""

import pathlib

import keras
import numpy as np

from keras_gen import RegularizedAutoencoder, data, distributions, networks, regularizers
from keras_gen.evaluation.figures import save_grid

PICTURE = pathlib.Path(__file__).parents[1] / "docs" / "images" / "latent-density.png"


def main():
    """Train, sample both, draw."""
    keras.utils.set_random_seed(0)
    train, test = data.load("mnist_mini", batch_size=128)
    image, latents, l2 = (28, 28, 1), (16,), keras.regularizers.L2(1e-6)
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
    rows = [np.reshape(images, (10, 10, 28, 28, 1)) for images in (standard, fitted)]
    save_grid(
        PICTURE, np.concatenate([rows[0], gap, rows[1]], axis=1).reshape(-1, 28, 28, 1), columns=21
    )


if __name__ == "__main__":
    main()
