"""Keras callbacks that write files into the folder of a training run."""

from __future__ import annotations

import csv
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._files import PathLike, atomic_write
from keras_gen.evaluation import generate_samples, latent_report
from keras_gen.evaluation.figures import are_images, grid, save_grid
from keras_gen.fitting.multi_worker import without_strategy
from keras_gen.runs.folder import RunFolder


class MetricsFile(keras.callbacks.History):
    """Write the logs of `fit` to a CSV file, with one row per epoch.

    The first column is `epoch`. If a resumed training repeats an epoch, the new row replaces the
    old row. The callback `CSVLogger` of Keras would write a second row for this epoch instead.

    Args:
        path: Path of the file.
    """

    def __init__(self, path: PathLike) -> None:
        super().__init__()
        self.path = pathlib.Path(path)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the whole file again, with the row of this epoch."""
        super().on_epoch_end(epoch, logs)
        names = sorted(self.history)
        columns = [self.history[name] for name in names]
        with (
            atomic_write(self.path) as unfinished,
            unfinished.open("w", encoding="utf-8", newline="") as file,
        ):
            writer = csv.writer(file)
            writer.writerow(["epoch", *names])
            writer.writerows(zip(self.epoch, *columns, strict=True))


class ImageSamples(keras.callbacks.Callback):
    """Write samples and reconstructions as PNG files during training and after the last epoch.

    In a file of reconstructions, the rows 1, 3, 5, … show ten original images each. The rows 2, 4,
    6, … show the reconstructions of the row above. For a model without the method `reconstruct`,
    only samples are written. For a model that depends on labels, sample i has the label
    `i % num_classes`.

    Args:
        folder: Folder of the training run. The files are written into this folder.
        images: Images to reconstruct, `[n, height, width, channels]` in [0, 1]. For a model that
            depends on labels, pass a pair `(images, labels)`.
        before_sampling: Function that receives the model and prepares the model for sampling. For
            instance, the function fits a density to the latents of an autoencoder. Default: no
            preparation.
        every: Interval in epochs between files. Default: 10, which writes images after the epochs
            10, 20, …
        num_samples: Number of samples per file. Default: 100.
        seed: Seed of the samples. All epochs use this seed, so that you can compare the samples of
            different epochs. Default: 0.

    Raises:
        ValueError: If `every` or `num_samples` is not a positive integer.
    """

    def __init__(
        self,
        folder: RunFolder,
        images: np.ndarray | tuple[np.ndarray, np.ndarray],
        before_sampling: Callable[[Any], None] | None = None,
        every: int = 10,
        num_samples: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.folder = folder
        self.inputs = images if isinstance(images, tuple) else (images,)
        self.before_sampling = before_sampling
        self.every = positive_int(self, "every", every)
        self.num_samples = positive_int(self, "num_samples", num_samples)
        self.seed = seed

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the images if the number of finished epochs is a multiple of `every`.

        After the last epoch, this method writes nothing, because `on_train_end` writes the images.
        """
        if (epoch + 1) % self.every == 0 and epoch + 1 < self.params["epochs"]:
            self._write(epoch + 1)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Write images that the model computes with its final weights.

        The final weights are not always the weights after the last epoch, because `EarlyStopping`
        can restore the weights of an earlier epoch.
        """
        self._write(self.model.history.epoch[-1] + 1)

    def _write(self, epoch: int) -> None:
        model: Any = without_strategy(self.model)
        if self.before_sampling is not None:
            self.before_sampling(model)
        samples = generate_samples(model, self.num_samples, self.seed)
        save_grid(self.folder.samples_file(epoch), samples)
        if hasattr(model, "reconstruct"):
            reconstructions = np.asarray(model.reconstruct(*self.inputs))
            pairs = _in_alternating_rows(self.inputs[0], reconstructions)
            save_grid(self.folder.reconstructions_file(epoch), pairs)


def _in_alternating_rows(
    images: np.ndarray, reconstructions: np.ndarray, columns: int = 10
) -> np.ndarray:
    """Order images for a grid in which a row of reconstructions follows each row of images.

    Args:
        images: Images `[n, height, width, channels]`.
        reconstructions: The reconstructions of these images, in the same order.
        columns: Number of images per row of the grid. Default: 10.
    """
    rows = []
    for start in range(0, len(images), columns):
        rows.append(images[start : start + columns])
        rows.append(reconstructions[start : start + columns])
    return np.concatenate(rows)


class Summaries(keras.callbacks.TensorBoard):
    """Write logs, samples and the KL of each latent dimension for TensorBoard.

    The KL is the Kullback-Leibler divergence of the posterior from the prior, in nats. The callback
    writes the KL only for models that can estimate log p(x), such as a VAE. The callback writes
    samples only if the data are images.

    Args:
        folder: Folder that TensorBoard reads: `tensorboard --logdir folder`.
        examples: Two or more examples, from which the KL is computed. For a model that depends on
            labels, pass a pair `(examples, labels)`.
        every: Interval in epochs between the samples. Default: 10, which writes samples after the
            epochs 10, 20, …
        seed: Seed of the samples. Default: 0.

    Raises:
        ValueError: If `every` is not a positive integer.
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
        """Write the summaries of the epoch."""
        super().on_epoch_end(epoch, logs)
        with self.writer.as_default(step=epoch):
            if self.model.has_log_likelihood:
                divergences = latent_report(self.model, *self.examples).kl_per_dimension
                for dimension, value in enumerate(divergences):
                    tf.summary.scalar(f"kl_per_dimension/{dimension:03d}", value)
            if are_images(self.examples[0]) and (epoch + 1) % self.every == 0:
                samples = generate_samples(self.model, 100, self.seed)
                tf.summary.image("samples", grid(samples)[None])

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Close the files."""
        super().on_train_end(logs)
        self.writer.close()
