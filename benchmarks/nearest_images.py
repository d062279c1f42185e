"""Compare the samples of a model of images with the training images that are most similar to them.

    python benchmarks/nearest_images.py runs/gan

The page docs/own-images.md shows the command that trained the GAN of the committed results.

The distance of two images is the Euclidean distance after both are scaled to 16×16 pixels. The
mirror image of a training image counts as a training image, because `--flip` trains on it. If the
model memorizes, its samples are nearer to the training images than held-out images are.

The script writes a figure of samples, a figure of samples above their nearest training images, and
the mean and the smallest distance.
"""

import dataclasses
import json
import pathlib
from typing import Annotated

import keras
import numpy as np
import tyro
from scipy.spatial.distance import cdist

from keras_gen.data import as_arrays
from keras_gen.evaluation.figures import grid
from keras_gen.runs import RunFolder
from keras_gen.runs.train import load_data

ROOT = pathlib.Path(__file__).parents[1]
COLUMNS = 10  # samples per row of the figures
ROWS = 5  # rows of the figure of samples
NEIGHBOURS = 3  # training images below each sample


@dataclasses.dataclass
class Settings:
    """Which model is measured."""

    folder: Annotated[pathlib.Path, tyro.conf.Positional]
    """Folder of the run of a model of images."""
    seed: int = 0
    """Seed of the samples."""
    figures: pathlib.Path = ROOT / "docs" / "images"
    """Folder of the figures flowers-gan.jpg and flowers-neighbours.jpg."""
    output: pathlib.Path = ROOT / "benchmarks" / "results" / "nearest_images.json"
    """File of the distances to write."""


def small(images):
    """Return images as vectors of 16×16 pixels."""
    resized = keras.ops.image.resize(images, (16, 16), antialias=True)
    return np.asarray(resized).reshape(len(images), -1)


def main(settings: Settings):
    """Generate as many samples as there are held-out images, and write figures and distances."""
    folder = RunFolder(settings.folder)
    training, held_out = (as_arrays(part)[0] for part in load_data(folder.read_config()))
    training = np.concatenate([training, training[:, :, ::-1]])
    samples = np.asarray(folder.load_model().generate(len(held_out), seed=settings.seed))
    small_training = small(training)
    distances = cdist(small(samples), small_training)
    of_samples = distances.min(axis=1)
    of_held_out = cdist(small(held_out), small_training).min(axis=1)
    result = {
        "images": len(held_out),
        "samples": {"mean": round(of_samples.mean(), 3), "smallest": round(of_samples.min(), 3)},
        "held_out": {"mean": round(of_held_out.mean(), 3), "smallest": round(of_held_out.min(), 3)},
    }
    nearest = np.argsort(distances[:COLUMNS], axis=1)[:, :NEIGHBOURS]
    rows = [samples[:COLUMNS], *(training[column] for column in nearest.T)]
    for name, images in (
        ("flowers-gan", samples[: ROWS * COLUMNS]),
        ("flowers-neighbours", np.concatenate(rows)),
    ):
        path = settings.figures / f"{name}.jpg"
        keras.utils.save_img(path, grid(images, COLUMNS, zoom=1), scale=False, quality=92)
    settings.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
