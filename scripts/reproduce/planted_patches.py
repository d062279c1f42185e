"""Find the place of an anomaly: plant a patch in test images of MNIST, and look for its pixel.

    python scripts/reproduce/planted_patches.py --data-dir ~/tensorflow_datasets

A patch of 4×4 pixels is changed at a random place of each test image. The scores per pixel find it
if the pixel with the largest score is in the patch. The target is at least 90 % of the images.
"""

import dataclasses

import keras
import numpy as np
import results
import tensorflow as tf
import tyro

from keras_gen import data
from keras_gen.data import as_arrays
from keras_gen.runs.recipes import AutoencoderConfig, VAEConfig, build

IMAGE = (28, 28, 1)
SIZE = 4  # height and width of the patch
TABLE = "planted_patches"
CONFIGS = {
    "VAE": VAEConfig(network="conv"),
    "autoencoder": AutoencoderConfig(network="conv"),
    "denoising autoencoder": AutoencoderConfig(network="conv"),
}
PATCHES = {
    "inverted": lambda patch, random: 1 - patch,
    "noise": lambda patch, random: random.random(patch.shape),
    "white": lambda patch, random: np.ones_like(patch),
}
TARGET = 0.9


@dataclasses.dataclass
class Settings:
    """Which trainings are evaluated."""

    data_dir: str | None = None
    """Folder of all TFDS data sets, with MNIST."""
    seeds: int = 3
    """Number of trainings per model."""
    epochs: int = 10
    """Number of epochs."""


def planted(images, change, seed):
    """Change a patch of each image.

    Returns:
        The changed images, and the first row and column of each patch, of shape (images, 2).
    """
    random = np.random.default_rng(seed)
    images = images.copy()
    places = random.integers(0, np.subtract(IMAGE[:2], SIZE - 1), (len(images), 2))
    for image, (row, column) in zip(images, places, strict=True):
        patch = image[row : row + SIZE, column : column + SIZE]
        patch[:] = change(patch, random)
    return images, places


def with_blocks(images):
    """Replace blocks of 4×4 pixels, at random places, by blocks of one random grey value each.

    Each block of a grid is replaced with probability 0.1. The grid has another offset per batch.
    """
    shape = (tf.shape(images)[0], IMAGE[0] // 4 + 1, IMAGE[1] // 4 + 1, 1)
    chosen = tf.random.uniform(shape) < 0.1
    blocks = tf.where(chosen, tf.random.uniform(shape), np.nan)
    blocks = tf.repeat(tf.repeat(blocks, 4, axis=1), 4, axis=2)
    row, column = tf.unstack(tf.random.uniform((2,), 0, 4, tf.int32))
    blocks = blocks[:, row : row + IMAGE[0], column : column + IMAGE[1]]
    return tf.where(tf.math.is_nan(blocks), images, blocks)


def share_found(model, images, places):
    """Return the share of images whose pixel with the largest score is in the patch."""
    batches = np.array_split(images, len(images) // 500)
    parts = np.concatenate([model.score_per_feature(x).numpy() for x in batches])
    found = parts.reshape(len(images), -1).argmax(axis=1)
    found = np.stack(np.divmod(found, IMAGE[1]), axis=1)
    return float(((found >= places) & (found < places + SIZE)).all(axis=1).mean())


def train(settings, name, seed):
    """Train a model, and return the share of patches that are found, by kind of patch."""
    keras.utils.set_random_seed(seed)
    config = dataclasses.replace(CONFIGS[name], seed=seed, epochs=settings.epochs)
    training, test = data.load("mnist", config.batch_size, data_dir=settings.data_dir, seed=seed)
    model = build(config, IMAGE, settings.epochs * len(training))
    if name == "denoising autoencoder":
        training = training.map(lambda x: (with_blocks(x), x))
    model.fit(training, epochs=settings.epochs, verbose=0)
    images = as_arrays(test)[0]
    shares = {
        kind: share_found(model, *planted(images, change, seed)) for kind, change in PATCHES.items()
    }
    return {"name": name, "seed": seed, **shares}


def table():
    """Return the section of `docs/results.md`."""
    found = list(results.load(TABLE).values())
    lines = []
    reached = []
    for name in CONFIGS:
        rows = [row for row in found if row["name"] == name]
        lines.append([name, *(results.spread(results.column(rows, kind), 3) for kind in PATCHES)])
        reached += [
            f"{name}, {kind}" for kind in PATCHES if np.mean(results.column(rows, kind)) >= TARGET
        ]
    seeds = {row["seed"] for row in found}
    return f"""`python scripts/reproduce/planted_patches.py` plants an anomaly in each of the 10,000
test images of MNIST: a patch of {SIZE}×{SIZE} pixels at a random place. `score_per_feature` finds
the patch if the pixel with the largest score is in it. The pixels of the patch are inverted,
replaced by uniform noise, or white. A white patch on a white stroke changes nothing, so it cannot
be found.

Each number is the share of images whose patch is found. ± is the standard deviation over
{len(seeds)} seeds. The models have convolutional networks and the default settings of
`keras-gen train` otherwise. There are {found[0]["epochs"]} epochs per training. The denoising
autoencoder (Vincent et al. 2008) learns to reconstruct the original image from an image in which
blocks of 4×4 pixels are replaced by random grey values.

The target is {TARGET:g}. It is reached for: {"; ".join(reached)}.

{results.markdown(["model", *PATCHES], lines)}
"""


def main(settings: Settings):
    """Train the missing cases, and write the table."""
    cases = {
        f"{number}-{seed}": (settings, name, seed)
        for seed in range(settings.seeds)
        for number, name in enumerate(CONFIGS)
    }
    results.complete(TABLE, cases, train, epochs=settings.epochs)
    results.write_section("Where is the anomaly? Patches planted in images", table())


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
