"""Train a VAE on your own folder of images.

    python scripts/own_images.py photos --image-size 64 --epochs 100

The folder can contain JPEG, PNG, WebP and other files of any size. They are scaled and cropped. If
the folder has one subfolder per class, the classes are ignored here. On two cores, a training step
of 64 images with 64×64 pixels takes about 80 milliseconds.
"""

import argparse
import pathlib

import keras
import numpy as np

from keras_gen import VAE, Checkpoints, data, distributions, evaluation, networks
from keras_gen.evaluation.figures import save_grid


def main():
    """Train a VAE, write figures and anomaly scores, and save the model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=pathlib.Path, help="folder of images")
    parser.add_argument("--image-size", type=int, default=64, help="height and width in pixels")
    parser.add_argument("--epochs", type=int, default=50, help="passes over the training images")
    parser.add_argument("--latents", type=int, default=64, help="number of latent dimensions")
    parser.add_argument("--batch-size", type=int, default=64, help="images per training step")
    parser.add_argument("--flip", action="store_true", help="also train on mirrored images")
    parser.add_argument(
        "--output", type=pathlib.Path, default="own_images", help="folder of the results"
    )
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)

    # 1. Data. Without folders `train` and `test`, a tenth of the images becomes the test data.
    # Images that do not fit into memory are read from the files in each epoch.
    size = (arguments.image_size, arguments.image_size)
    train, test = data.load(
        arguments.folder, arguments.batch_size, image_size=size, flip=arguments.flip
    )
    image = train.element_spec.shape[1:].as_list()
    print(f"Images of {image[0]}×{image[1]} pixels with {image[2]} channels.")

    # 2. Model. The depth and the width of the networks follow from the size of the images. Colours
    # are not 0 or 1, therefore the likelihood is a normal distribution. Its standard deviation is
    # computed in each step so that the likelihood is as high as possible (arXiv:2006.13202).
    posterior = distributions.DiagonalNormal(arguments.latents)
    likelihood = distributions.Normal(image, scale="optimal")
    vae = VAE(
        encoder=networks.conv_encoder(image, (posterior.parameter_size,)),
        decoder=networks.conv_decoder(
            (arguments.latents,), likelihood.parameter_shape, output_activation="sigmoid"
        ),
        posterior=posterior,
        likelihood=likelihood,
        seed=0,
    )

    # 3. Training. After each epoch, the newest state is written into the folder `checkpoints`. If
    # you start the script again, the training continues from there.
    arguments.output.mkdir(parents=True, exist_ok=True)
    steps = arguments.epochs * len(train)
    vae.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, steps)))
    vae.fit(
        train,
        validation_data=test,
        epochs=arguments.epochs,
        callbacks=[Checkpoints(arguments.output / "checkpoints")],
        verbose=2,
    )

    # 4. Figures: generated images, and test images above their reconstructions.
    save_grid(arguments.output / "samples.png", np.clip(vae.generate(32, seed=0), 0, 1), columns=8)
    images, _ = data.as_arrays(test, 8)
    both = np.concatenate([images, np.clip(vae.reconstruct(images), 0, 1)])
    save_grid(arguments.output / "reconstructions.png", both, columns=8)

    # 5. Anomalies: the test images that are least similar to the training images.
    evaluation.save_anomalies(vae, arguments.output / "anomalies.png", data.as_arrays(test, 500)[0])

    vae.save(arguments.output / "vae.keras")
    print(f"The figures and the model are in {arguments.output}.")


if __name__ == "__main__":
    main()
