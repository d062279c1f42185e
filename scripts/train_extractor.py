"""Train a classifier of your images, whose features `keras-gen evaluate` uses to compare images.

    python scripts/train_extractor.py photos extractor.keras --image-size 64 --flip
    keras-gen evaluate runs/vae --extractor extractor.keras

The folder has one subfolder per class. The images are scaled and cropped. Use the image size and
the seed of the run that you evaluate, so that the same images are held out. The script prints the
accuracy of the classifier on the test images. If the accuracy is low, the features say little about
the images: train for more epochs.

The written network maps an image to its features, the inputs of the layer of the logits. Scores
from these features are comparable only with scores from the same file.
"""

import argparse
import pathlib

import keras
from keras import layers

from keras_gen import data


def build(image, classes, features, filters=(32, 64, 128, 256, 256)):
    """Return a residual classifier for images of the shape `image`.

    It halves the image until its height is at most 4, but at most once per number of filters.
    """
    inputs = keras.Input(image)
    x = layers.Conv2D(filters[0], 3, padding="same")(inputs)
    for channels in filters:
        if x.shape[1] <= 4:
            break
        x = layers.Conv2D(channels, 3, 2, "same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
        residual = layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(x + layers.BatchNormalization()(residual))
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(features, activation="relu", name="features")(layers.Dropout(0.2)(x))
    return keras.Model(inputs, layers.Dense(classes, name="logits")(x))


def main():
    """Train and test the classifier, and write the network that computes its features."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=pathlib.Path, help="folder with one subfolder per class")
    parser.add_argument("output", type=pathlib.Path, help="file to write the network to, *.keras")
    parser.add_argument("--image-size", type=int, default=64, help="height and width in pixels")
    parser.add_argument("--epochs", type=int, default=20, help="passes over the training images")
    parser.add_argument("--features", type=int, default=128, help="number of features")
    parser.add_argument("--flip", action="store_true", help="also train on mirrored images")
    parser.add_argument("--seed", type=int, default=0, help="seed of the split and the training")
    arguments = parser.parse_args()
    if arguments.output.suffix != ".keras" or not arguments.output.parent.is_dir():
        parser.error(f"the output must be a file *.keras in a folder, not {arguments.output}")
    keras.utils.set_random_seed(arguments.seed)

    size = (arguments.image_size, arguments.image_size)
    train, test = data.load(
        arguments.folder,
        128,
        labels=True,
        image_size=size,
        flip=arguments.flip,
        seed=arguments.seed,
    )
    classes = data.number_of_classes(arguments.folder)
    if not classes or classes < 2:
        parser.error(f"{arguments.folder} must have at least two subfolders, one per class")
    model = build(train.element_spec[0].shape[1:], classes, arguments.features)
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, arguments.epochs * len(train))
    model.compile(
        keras.optimizers.AdamW(schedule),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    translate = layers.RandomTranslation(0.1, 0.1, fill_mode="reflect")
    model.fit(
        train.map(lambda x, y: (translate(x, training=True), y)),
        validation_data=test,
        epochs=arguments.epochs,
        shuffle=False,  # `train` is shuffled already
        verbose=2,
    )
    accuracy = model.evaluate(test, verbose=0, return_dict=True)["accuracy"]
    features = keras.Model(model.inputs[0], model.get_layer("features").output)
    features.save(arguments.output)
    print(f"\nThe test accuracy is {accuracy:.1%}. The network is {arguments.output}.")


if __name__ == "__main__":
    main()
