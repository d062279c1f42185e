"""Train a classifier of colour images, whose features are used to compare images.

    python tools/build_colour_classifier.py CIFAR10/train classifier.keras
    python tools/build_colour_classifier.py FLOWERS classifier.keras --image-size 64 --epochs 60

The folder contains one folder of images per class. The features of an image are the outputs of the
layer before the logits. `scripts/reproduce/colour_images.py` computes the Fréchet distance of
images from these features. The classifier is not part of keras_gen, because it takes 30 minutes to
train on two cores, and because it fits one data set.

The script writes the network, and beside it a file `*.md` with its accuracy on the test images.
"""

import dataclasses
import pathlib

import keras
import tyro
from build_mnist_classifier import train_classifier
from keras import layers

from keras_gen import data

NOTE = """# {name}

A convolutional classifier of the {classes} classes of {folder} with {parameters:,} parameters, for
images of {size}×{size} pixels. It has {features} features before the logits. Its accuracy is
{accuracy:.2%} on {images:,} test images. `tools/build_colour_classifier.py` trained it for
{epochs} epochs.
"""


@dataclasses.dataclass
class Settings:
    """Location of the data, size of the images, length of the training, and output."""

    folder: tyro.conf.Positional[pathlib.Path]
    """Folder with one folder of images per class."""
    output: tyro.conf.Positional[pathlib.Path]
    """File to write the network to, `*.keras`."""
    image_size: int = 32
    """Height and width of the images in pixels."""
    epochs: int = 20
    """Number of epochs of the training images."""
    features: int = 128
    """Number of features, the units of the layer before the logits."""


def build(size, classes, features, filters=(32, 64, 128, 256, 256)):
    """Return a residual network with one halving of the image per number of filters.

    The last halving gives at most 4×4 positions.
    """
    inputs = keras.Input((size, size, 3))
    x = layers.Conv2D(filters[0], 3, padding="same")(inputs)
    for channels in filters:
        if x.shape[1] <= 4:
            break
        x = layers.Conv2D(channels, 3, 2, "same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        residual = layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
        residual = layers.BatchNormalization()(residual)
        x = layers.ReLU()(x + residual)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(features, activation="relu", name="features")(layers.Dropout(0.2)(x))
    return keras.Model(inputs, layers.Dense(classes, name="logits")(x))


def main(settings: Settings):
    """Train and test the classifier, and write it."""
    keras.utils.set_random_seed(0)
    size = settings.image_size
    train, test = data.load(settings.folder, 128, labels=True, image_size=(size, size))
    classes = 1 + max(int(labels.numpy().max()) for _, labels in train)
    augment = keras.Sequential(
        [
            layers.RandomFlip("horizontal"),
            layers.RandomTranslation(0.1, 0.1, fill_mode="reflect"),
        ]
    )
    model = build(size, classes, settings.features)
    accuracy = train_classifier(
        model, train, test, augment, settings.epochs, keras.optimizers.AdamW
    )
    model.save(settings.output, include_optimizer=False)
    text = NOTE.format(
        name=settings.output.name,
        folder=settings.folder.name,
        classes=classes,
        parameters=model.count_params(),
        size=size,
        features=settings.features,
        accuracy=accuracy,
        images=sum(len(labels) for _, labels in test),
        epochs=settings.epochs,
    )
    settings.output.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
