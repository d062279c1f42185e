"""Measure how often a conditional model generates the digit that was requested.

A classifier, trained on the real training images, classifies the samples.

    keras-gen train gan --conditional --penalties --epochs 30 --name conditional
    python benchmarks/conditional_gan.py runs/conditional
"""

import dataclasses
import json
import pathlib
from typing import Annotated

import keras
import numpy as np
import tyro

from keras_gen import data
from keras_gen.runs import RunFolder

ROOT = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass
class Settings:
    """Which model is measured."""

    folder: Annotated[pathlib.Path, tyro.conf.Positional]
    """Folder of the run of a conditional model."""
    samples: int = 2000
    """Number of samples in total, a multiple of 100. Each digit is requested equally often."""
    seed: int = 1
    """Seed of the samples."""
    output: pathlib.Path = ROOT / "benchmarks" / "results" / "conditional_gan.json"
    """File to write."""


def train_classifier(train):
    """Train a convolutional classifier for ten epochs."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    classifier = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.5),
            layers.Dense(10),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile("adam", loss, metrics=["accuracy"])
    classifier.fit(train, epochs=10, shuffle=False, verbose=0)
    return classifier


def main(settings: Settings):
    """Train the classifier, classify the samples, print and write the accuracies."""
    train, test = data.load("mnist_mini", labels=True)
    classifier = train_classifier(train)
    test_accuracy = classifier.evaluate(test, verbose=0, return_dict=True)["accuracy"]
    requested = np.arange(settings.samples) % 10
    model = RunFolder(settings.folder).load_model()
    batches = []
    for i, labels in enumerate(requested.reshape(-1, 100)):
        seed = settings.seed * 1000 + i
        batches.append(model.generate(100, seed=seed, condition=labels))
    samples = np.concatenate(batches)
    predicted = classifier.predict(samples, verbose=0).argmax(axis=1)
    by_digit = {}
    for digit in range(10):
        correct = np.mean(predicted[requested == digit] == digit)
        by_digit[str(digit)] = round(float(correct), 4)
    result = {
        "classifier_test_accuracy": round(test_accuracy, 4),
        "read_as_asked": float(np.mean(predicted == requested)),
        "by_digit": by_digit,
    }
    settings.output.parent.mkdir(parents=True, exist_ok=True)
    settings.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
