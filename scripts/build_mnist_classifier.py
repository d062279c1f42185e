"""Train the classifier of digits whose features samples are compared by, `keras_gen/evaluation/mnist_classifier.keras`.

    python scripts/build_mnist_classifier.py --data-dir ~/tensorflow_datasets

Takes the 60,000 training images of MNIST, moved and turned a little; writes the network and, beside it, its accuracy on the 10,000
test images. Takes four minutes on two cores.
"""

import dataclasses
import pathlib

import keras
import tyro
from keras import layers

from keras_gen import data
from keras_gen.evaluation.features import CLASSIFIER

NOTE = """# mnist_classifier.keras

A convolutional classifier of MNIST's digits, whose {features} features before the logits samples are compared by. Made by
`scripts/build_mnist_classifier.py`; {parameters:,} parameters; accuracy on the 10,000 test images: {accuracy:.2%}.
"""


@dataclasses.dataclass
class Settings:
    """Where the data lie, and how long to train."""

    data_dir: str | None = None
    """Where TFDS keeps MNIST."""
    epochs: int = 12
    """Passes over the training images."""
    output: pathlib.Path = CLASSIFIER
    """Where the network goes."""


def build():
    """Three convolutions, 64 features, ten logits."""
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


def main(settings: Settings):
    """Train, test and write."""
    keras.utils.set_random_seed(0)
    train, test = data.load("mnist", 128, labels=True, data_dir=settings.data_dir)
    moved = keras.Sequential(
        [layers.RandomTranslation(0.08, 0.08, fill_mode="constant"), layers.RandomRotation(0.03)]
    )
    model = build()
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, settings.epochs * len(train))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule), loss=loss, metrics=["accuracy"])
    model.fit(
        train.map(lambda x, y: (moved(x, training=True), y)),
        validation_data=test,
        epochs=settings.epochs,
        verbose=2,
    )
    accuracy = model.evaluate(test, verbose=0, return_dict=True)["accuracy"]
    keras.Model(model.inputs[0], model.outputs[0]).save(settings.output, include_optimizer=False)
    text = NOTE.format(features=64, parameters=model.count_params(), accuracy=accuracy)
    settings.output.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
