"""Train a regularized autoencoder on images of digits, and generate images with it.

    python scripts/train_autoencoder.py
    python scripts/train_autoencoder.py --data fashion_mnist --data-dir ~/tensorflow_datasets

The script is an example to copy from. It takes about a minute on two cores with the digits that
keras_gen contains. `keras-gen train autoencoder` trains a similar model with more options.
"""

import argparse
import pathlib

import keras

from keras_gen import RegularizedAutoencoder, data, networks, regularizers
from keras_gen.evaluation.figures import save_grid

IMAGE = (28, 28, 1)


def main():
    """Train an autoencoder, fit a density to its latents, generate, save and export."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist_mini", help="grey images of 28×28 pixels")
    parser.add_argument("--data-dir", help="folder of all TFDS data sets")
    parser.add_argument("--epochs", type=int, default=40, help="passes over the training images")
    parser.add_argument("--latents", type=int, default=16, help="number of latent dimensions")
    parser.add_argument(
        "--output", type=pathlib.Path, default="autoencoder", help="folder of the results"
    )
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)

    # 1. Data. `load` returns batches of images with values in [0, 1].
    train, test = data.load(arguments.data, batch_size=128, data_dir=arguments.data_dir)

    # 2. Networks. The encoder maps an image to latents, and the decoder maps latents to an image.
    # The regularizer of the kernels adds λ‖W‖² to the loss.
    l2 = keras.regularizers.L2(1e-6)
    autoencoder = RegularizedAutoencoder(
        encoder=networks.conv_encoder(IMAGE, (arguments.latents,), kernel_regularizer=l2),
        decoder=networks.conv_decoder(
            (arguments.latents,), IMAGE, kernel_regularizer=l2, output_activation="sigmoid"
        ),
        seed=0,
    )

    # 3. Training. `LatentL2` keeps the latents near zero, so that a density of the latents is
    # easier to fit (Ghosh et al. 2020, arXiv:1903.12436).
    steps = arguments.epochs * len(train)
    autoencoder.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(2e-3, steps)),
        loss="binary_crossentropy",
        regularizers=[regularizers.LatentL2(1e-4)],
    )
    autoencoder.fit(train, validation_data=test, epochs=arguments.epochs, verbose=2)

    # 4. Generation. An autoencoder has no distribution of its latents. A mixture of normal
    # distributions is fitted to the latents of the training images, and `generate` decodes samples
    # of this mixture.
    autoencoder.fit_latent_density(train)

    # 5. Figures: generated images, and test images above their reconstructions.
    arguments.output.mkdir(parents=True, exist_ok=True)
    save_grid(arguments.output / "samples.png", autoencoder.generate(64, seed=0), columns=8)
    images, _ = data.as_arrays(test, 8)
    both = keras.ops.concatenate([images, autoencoder.reconstruct(images)])
    save_grid(arguments.output / "reconstructions.png", both, columns=8)

    # 6. Deployment. The .keras file and the SavedModel contain the density, too.
    autoencoder.save(arguments.output / "autoencoder.keras")
    autoencoder.export(arguments.output / "1")
    print(f"The figures and the model are in {arguments.output}.")


if __name__ == "__main__":
    main()
