"""Keras callbacks that leave something in the folder of a run."""

from __future__ import annotations

import csv
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._files import PathLike, atomic_write
from keras_gen._typing import Examples
from keras_gen.evaluation import latent_report
from keras_gen.evaluation.figures import are_images, grid, save_grid
from keras_gen.evaluation.quality import draw_samples
from keras_gen.fitting.multi_worker import outside
from keras_gen.models import VAE


class MetricsFile(keras.callbacks.History):
    """The history of a training, also as a CSV file with a row an epoch, the number of the epoch first.

    Unlike Keras's `CSVLogger` it has each epoch once, however often the training was stopped and resumed.

    Args:
        path: The file.
    """

    def __init__(self, path: PathLike) -> None:
        super().__init__()
        self.path = pathlib.Path(path)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the file anew, with the row of this epoch."""
        super().on_epoch_end(epoch, logs)
        names = sorted(self.history)
        with atomic_write(self.path) as unfinished, unfinished.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["epoch", *names])
            writer.writerows(zip(self.epoch, *(self.history[name] for name in names), strict=True))


class Pictures(keras.callbacks.Callback):
    """Writes samples, and reconstructions below their originals, as PNG files every few epochs and at the end of training.

    Args:
        folder: Where `samples-<epoch>.png` and `reconstructions-<epoch>.png` go.
        images: Images to reconstruct, `[n, height, width, channels]` in [0, 1]; a pair of images and labels for a conditional model,
            whose samples then show each label in turn.
        data: Data to whose codes an autoencoder's latent density is fitted before it draws samples.
        every: Epochs between two pictures.
        num_samples: How many samples to draw; with the same seed every time, so that pictures can be compared.
        seed: Seed of the samples.

    Raises:
        ValueError: If `every` or `num_samples` is no count.
    """

    def __init__(
        self,
        folder: PathLike,
        images: np.ndarray | tuple[np.ndarray, np.ndarray],
        data: Examples,
        every: int = 10,
        num_samples: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.labels: list[np.ndarray]
        self.images, *self.labels = images if isinstance(images, tuple) else (images,)
        self.data = data
        self.every = positive_int(self, "every", every)
        self.num_samples = positive_int(self, "num_samples", num_samples)
        self.seed = seed

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the pictures of epoch `epoch + 1` if it is their turn; those of the last wait for the end of training."""
        if (epoch + 1) % self.every == 0 and epoch + 1 < self.params["epochs"]:
            self._write(epoch + 1)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Write the pictures of the last epoch, of the best weights where `EarlyStopping` restores them."""
        self._write(self.model.history.epoch[-1] + 1)

    def _write(self, epoch):
        model = outside(self.model)
        if hasattr(model, "fit_latent_density"):
            model.fit_latent_density(self.data)
        save_grid(
            self.folder / f"samples-{epoch:03d}.png",
            draw_samples(model, self.num_samples, self.seed),
        )
        if hasattr(model, "reconstruct"):
            reconstructions = np.asarray(model.reconstruct(self.images, *self.labels))
            rows = [slice(start, start + 10) for start in range(0, len(self.images), 10)]
            pairs = np.concatenate(
                [side[row] for row in rows for side in (self.images, reconstructions)]
            )
            save_grid(self.folder / f"reconstructions-{epoch:03d}.png", pairs)


class Summaries(keras.callbacks.TensorBoard):
    """What Keras's TensorBoard callback writes, and pictures of samples and, for a VAE, the KL of each latent dimension in nats.

    Args:
        folder: Where TensorBoard looks: `tensorboard --logdir folder`.
        examples: Examples for the KL, at least two, or a pair of examples and labels.
        every: Epochs between two pictures.
        seed: Seed of the samples.

    Raises:
        ValueError: If `every` is no count.
    """

    def __init__(
        self,
        folder: PathLike,
        examples: np.ndarray | tuple[np.ndarray, np.ndarray],
        every: int = 10,
        seed: int = 0,
    ) -> None:
        super().__init__(str(folder), write_graph=False)
        self.folder = pathlib.Path(folder)
        self.examples = examples if isinstance(examples, tuple) else (examples,)
        self.every = positive_int(self, "every", every)
        self.seed = seed

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Open the files."""
        super().on_train_begin(logs)
        self.writer = tf.summary.create_file_writer(str(self.folder / "examples"))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the epoch."""
        super().on_epoch_end(epoch, logs)
        with self.writer.as_default(step=epoch):
            if isinstance(self.model, VAE):
                for dimension, value in enumerate(
                    latent_report(self.model, *self.examples).kl_per_dimension
                ):
                    tf.summary.scalar(f"kl_per_dimension/{dimension:03d}", value)
            if are_images(self.examples[0]) and (epoch + 1) % self.every == 0:
                tf.summary.image("samples", grid(draw_samples(self.model, 100, self.seed))[None])
        self.writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Close the files."""
        super().on_train_end(logs)
        self.writer.close()
