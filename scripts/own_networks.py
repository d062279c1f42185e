"""Train a VAE with networks of your own.

    python scripts/own_networks.py

A network can be any built Keras model whose input and output have the right shapes. This script
writes an encoder and a decoder with the functional API of Keras. Both networks contain a layer that
this script defines, and both receive the label of the image.
"""

import argparse
import pathlib

import keras
from keras import layers

from keras_gen import VAE, data, distributions
from keras_gen.evaluation.figures import save_grid

IMAGE = (28, 28, 1)
CLASSES = 10
LATENTS = 8


@keras.saving.register_keras_serializable("own_networks")
class ScaleAndShift(layers.Layer):
    """Multiply each channel by a number, and add a number, which both depend on the label.

    The decorator lets Keras find the class when a saved model is loaded. A layer whose constructor
    has arguments also needs the method `get_config`, which returns them.
    """

    def build(self, shapes):
        """Create the weights: two numbers per label and channel."""
        image_shape, label_shape = shapes
        self.numbers = layers.Embedding(CLASSES, 2 * image_shape[-1], "zeros")
        self.numbers.build(label_shape)

    def call(self, inputs):
        """Return the changed images, `[batch, height, width, channels]`."""
        x, label = inputs
        scale, shift = keras.ops.split(self.numbers(label)[:, None, None], 2, axis=-1)
        return x * (1 + scale) + shift


def make_encoder(parameter_size):
    """Return a network from images and labels to the parameters of the posterior."""
    image = keras.Input(IMAGE)
    # An input with the name `condition` receives the labels.
    label = keras.Input((), dtype="int32", name="condition")
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="silu")(image)
    x = ScaleAndShift()([x, label])
    x = layers.Conv2D(64, 3, strides=2, padding="same", activation="silu")(x)
    return keras.Model([image, label], layers.Dense(parameter_size)(layers.Flatten()(x)))


def make_decoder(parameter_shape):
    """Return a network from latents and labels to the parameters of the likelihood."""
    latents = keras.Input((LATENTS,))
    label = keras.Input((), dtype="int32", name="condition")
    x = layers.Dense(7 * 7 * 64, activation="silu")(latents)
    x = ScaleAndShift()([layers.Reshape((7, 7, 64))(x), label])
    x = layers.Conv2DTranspose(32, 3, strides=2, padding="same", activation="silu")(x)
    x = layers.Conv2DTranspose(16, 3, strides=2, padding="same", activation="silu")(x)
    # The last layer has no activation, because a Bernoulli distribution takes logits.
    x = layers.Conv2D(parameter_shape[-1], 3, padding="same")(x)
    return keras.Model([latents, label], x)


def main():
    """Train a VAE, and write one row of generated images per digit."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=30, help="passes over the training images")
    parser.add_argument("--output", type=pathlib.Path, default="own_networks")
    arguments = parser.parse_args()
    keras.utils.set_random_seed(0)
    train, test = data.load("mnist_mini", batch_size=128, labels=True, binarize=True)
    posterior = distributions.DiagonalNormal(LATENTS)
    likelihood = distributions.Bernoulli(IMAGE)
    encoder = make_encoder(posterior.parameter_size)
    decoder = make_decoder(likelihood.parameter_shape)
    vae = VAE(encoder, decoder, posterior, likelihood, seed=0)
    vae.compile("adam")
    vae.fit(train, validation_data=test, epochs=arguments.epochs, verbose=2)
    arguments.output.mkdir(parents=True, exist_ok=True)
    digits = [digit for digit in range(CLASSES) for _ in range(8)]
    images = vae.generate(len(digits), seed=0, condition=digits)
    save_grid(arguments.output / "samples.png", images, columns=8)
    vae.save(arguments.output / "vae.keras")
    print(f"The figure and the model are in {arguments.output}.")


if __name__ == "__main__":
    main()
