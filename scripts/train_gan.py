"""Train a generative adversarial network (GAN) on images of digits.

    python scripts/train_gan.py
    python scripts/train_gan.py --data mnist --data-dir ~/tensorflow_datasets --epochs 20

The script is an example to copy from. It takes about three minutes on two cores with the digits
that keras_gen contains. `keras-gen train gan` trains a similar model with more options.
"""

import argparse
import pathlib

import keras

from keras_gen import GAN, data, evaluation, losses, networks
from keras_gen.evaluation.figures import save_grid

IMAGE = (28, 28, 1)


def main():
    """Train, evaluate, save and export a GAN."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="mnist_mini", help="grey images of 28×28 pixels")
    parser.add_argument("--data-dir", help="folder of all TFDS data sets")
    parser.add_argument("--epochs", type=int, default=60, help="passes over the training images")
    parser.add_argument("--latents", type=int, default=64, help="number of latent dimensions")
    parser.add_argument("--output", type=pathlib.Path, default="gan", help="folder of the results")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)

    # 1. Data. `load` returns batches of images with values in [0, 1].
    train, test = data.load(arguments.data, batch_size=64, data_dir=arguments.data_dir)

    # 2. Networks. The generator maps latents to an image. The discriminator outputs the logit of
    # the probability that an image is real. It has no batch normalization, because the penalties
    # need an output that depends on one image only.
    gan = GAN(
        generator=networks.dcgan_generator(arguments.latents, IMAGE),
        discriminator=networks.dcgan_discriminator(IMAGE),
        seed=0,
    )

    # 3. Training. The relativistic loss compares real with generated images in pairs. The penalties
    # R1 and R2 limit the gradient norm of the discriminator (Huang et al. 2025, arXiv:2501.05441).
    # They are computed in every fourth step, to save time. `ema_momentum` averages the weights of
    # the generator over the training steps, for generation.
    gan.compile(
        generator_optimizer=keras.optimizers.Adam(1e-3, beta_1=0.5),
        discriminator_optimizer=keras.optimizers.Adam(4e-4, beta_1=0.5),
        loss=losses.RelativisticPairing(),
        penalties=[losses.R1(0.1, every=4), losses.R2(0.1, every=4)],
        ema_momentum=0.99,
    )
    gan.fit(train, epochs=arguments.epochs, verbose=2)

    # 4. Evaluation. The Fréchet distance (FID) compares generated with real test images, lower is
    # better. Its features are those of a classifier of digits, which keras_gen contains.
    real, _ = data.as_arrays(test)
    print(evaluation.sample_quality(gan, real))

    # 5. Figure: 64 generated images.
    arguments.output.mkdir(parents=True, exist_ok=True)
    save_grid(arguments.output / "samples.png", gan.generate(64, seed=0), columns=8)

    # 6. Deployment. The .keras file is for Python, the SavedModel for TensorFlow Serving.
    gan.save(arguments.output / "gan.keras")
    gan.export(arguments.output / "1")
    print(f"The figure and the model are in {arguments.output}.")


if __name__ == "__main__":
    main()
