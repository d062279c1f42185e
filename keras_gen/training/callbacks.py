"""Keras callbacks that leave something in the folder of a run."""

import pathlib

import keras
import numpy as np


class Pictures(keras.callbacks.Callback):
    """Writes samples, and reconstructions below their originals, as PNG files every few epochs and after the last.

    Args:
        folder: Where `samples-<epoch>.png` and `reconstructions-<epoch>.png` go.
        images: Images to reconstruct, `[n, height, width, channels]` in [0, 1]; a pair of images and labels for a conditional model,
            whose samples then show each label in turn.
        data: Data to whose codes an autoencoder's latent density is fitted before it draws samples.
        every: Epochs between two pictures.
        num_samples: How many samples to draw; with the same seed every time, so that pictures can be compared.
        seed: Seed of the samples.
    """

    def __init__(self, folder, images, data, every=10, num_samples=100, seed=0):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.images, *self.labels = images if isinstance(images, tuple) else (images,)
        self.data = data
        self.every = every
        self.num_samples = num_samples
        self.seed = seed

    def on_epoch_end(self, epoch, logs=None):
        """Write the pictures of epoch `epoch + 1` if it is their turn."""
        if (epoch + 1) % self.every == 0 or epoch + 1 == self.params["epochs"]:
            if hasattr(self.model, "fit_latent_density"):
                self.model.fit_latent_density(self.data)
            samples = generate(self.model, self.num_samples, self.seed)
            save_grid(self.folder / f"samples-{epoch + 1:03d}.png", samples)
            if hasattr(self.model, "reconstruct"):
                reconstructions = np.asarray(self.model.reconstruct(self.images, *self.labels))
                rows = [slice(start, start + 10) for start in range(0, len(self.images), 10)]
                pairs = np.concatenate([side[row] for row in rows for side in (self.images, reconstructions)])
                save_grid(self.folder / f"reconstructions-{epoch + 1:03d}.png", pairs)


def generate(model, num_samples, seed):
    """Samples of a model, of a conditional one each label in turn."""
    labels = np.arange(num_samples) % model.num_classes if model.num_classes else None
    return model.generate(num_samples, seed=seed, condition=labels)


def save_grid(path, images, columns=10, zoom=2):
    """Write images `[n, height, width, 1 or 3]` in [0, 1] as one PNG, `columns` in a row, each pixel `zoom` wide."""
    images = np.asarray(images)
    images = np.concatenate([images, np.zeros((-len(images) % columns, *images.shape[1:]))])
    _, height, width, channels = images.shape
    grid = images.reshape(-1, columns, height, width, channels).swapaxes(1, 2).reshape(-1, columns * width, channels)
    keras.utils.save_img(path, np.clip(255 * grid.repeat(zoom, 0).repeat(zoom, 1), 0, 255), scale=False)
