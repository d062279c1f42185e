"""Train the bundled classifier of digits, `keras_gen/evaluation/mnist_classifier.keras`.

    python tools/build_mnist_classifier.py --data-dir ~/tensorflow_datasets

`keras_gen.evaluation` compares images by the features of this classifier. It is trained on the
60,000 training images of MNIST, with small random translations and rotations. The script writes the
network, and beside it a note with its accuracy on the 10,000 test images. It takes four minutes on
two cores.
"""

import dataclasses
import pathlib

import keras
import tyro
from keras import layers

from keras_gen import data
from keras_gen.evaluation.features import CLASSIFIER

NOTE = """# mnist_classifier.keras

A convolutional classifier of the digits of MNIST with {parameters:,} parameters. Its {features}
features before the logits are used to compare images. `tools/build_mnist_classifier.py` trained
it. Its accuracy on the 10,000 test images is {accuracy:.2%}.
"""


@dataclasses.dataclass
class Settings:
    """Location of the data, length of the training, and output."""

    data_dir: str | None = None
    """Folder of all TFDS data sets, with MNIST."""
    epochs: int = 12
    """Number of epochs of the training images."""
    output: pathlib.Path = CLASSIFIER
    """File to write the network to."""


def build():
    """Return a network of three convolutions, 64 features and ten logits."""
    model = keras.Sequential([keras.Input((28, 28, 1))])
    for filters in (16, 32, 64):
        model.add(layers.Conv2D(filters, 3, padding="same", use_bias=False))
        model.add(layers.BatchNormalization())
        model.add(layers.ReLU())
        model.add(layers.MaxPooling2D(padding="same"))
    model.add(layers.Flatten())
    model.add(layers.Dense(64, activation="relu", name="features"))
    model.add(layers.Dense(10, name="logits"))
    return model


def train_classifier(model, train, test, augment, epochs, optimizer=keras.optimizers.Adam):
    """Train a classifier on augmented images, and return its accuracy on the test images.

    The learning rate falls from 0.002 to 0 with cosine decay.
    """
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, epochs * len(train))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer(schedule), loss=loss, metrics=["accuracy"])
    model.fit(
        train.map(lambda x, y: (augment(x, training=True), y)),
        validation_data=test,
        epochs=epochs,
        verbose=2,
    )
    return model.evaluate(test, verbose=0, return_dict=True)["accuracy"]


def main(settings: Settings):
    """Train and test the classifier, and write it."""
    keras.utils.set_random_seed(0)
    train, test = data.load("mnist", 128, labels=True, data_dir=settings.data_dir)
    augment = keras.Sequential(
        [layers.RandomTranslation(0.08, 0.08, fill_mode="constant"), layers.RandomRotation(0.03)]
    )
    model = build()
    accuracy = train_classifier(model, train, test, augment, settings.epochs)
    keras.Model(model.inputs[0], model.outputs[0]).save(settings.output, include_optimizer=False)
    text = NOTE.format(features=64, parameters=model.count_params(), accuracy=accuracy)
    settings.output.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
