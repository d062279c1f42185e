"""Compute features of images with a network, for scores such as the Fréchet distance."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_gen._files import PathLike
from keras_gen._typing import TensorLike

CLASSIFIER = pathlib.Path(__file__).parent / "mnist_classifier.keras"
"""Path of the digit classifier that is part of keras_gen."""


class Extractor:
    """A network that computes features of images.

    The attribute `hash` identifies the weights of the network. Scores that are computed from
    features are comparable only if the name and the hash of the extractor are the same. Therefore
    the attribute `protocol` of `SampleQuality` contains both.

    Args:
        network: Built Keras model that maps images to features `[batch, d]`.
        name: Name of the extractor in results.
        prepare: Function that converts images with values in [0, 1] to inputs of the network.
            Default: the network receives the images unchanged.

    Raises:
        ValueError: If the network's output is not one vector per image.

    Example:

    >>> flatten = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten()])
    >>> pixels = Extractor(flatten, "pixels")
    >>> pixels(np.zeros((3, 2, 2, 1))).shape
    (3, 4)
    """

    def __init__(
        self,
        network: keras.Model,
        name: str,
        prepare: Callable[[np.ndarray], TensorLike] | None = None,
    ) -> None:
        if len(network.output_shape) != 2:
            raise ValueError(
                "`network` must output features of shape (batch, d). "
                f"Received: output shape {network.output_shape}. Add a pooling or flatten layer."
            )
        self.network = network
        self.name = name
        self.prepare = prepare
        digest = hashlib.sha256()
        for weight in network.get_weights():
            digest.update(np.ascontiguousarray(weight).tobytes())
        self.hash = digest.hexdigest()[:12]

    def __call__(self, images: npt.ArrayLike, batch_size: int = 256) -> np.ndarray:
        """Return the features of images.

        Args:
            images: Images `[n, height, width, channels]` with values in [0, 1].
            batch_size: Number of images per forward pass. Default: 256.

        Returns:
            Features, one row per image, float64 `[n, number of features]`.

        Raises:
            ValueError: If the images do not have the shape of the network's inputs.
        """
        images = np.asarray(images, np.float32)
        self.check_shape(images.shape[1:])
        parts = []
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size]
            inputs = self.prepare(batch) if self.prepare else batch
            parts.append(np.asarray(self.network(inputs, training=False), np.float64))
        return np.concatenate(parts)

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raise a `ValueError` if the network cannot have images of this shape as inputs.

        If `prepare` was given, images of any shape are accepted.

        Args:
            shape: Shape of one image, `(height, width, channels)`.
        """
        if self.prepare is not None:
            return
        expected = self.network.input_shape[1:]
        matches = len(shape) == len(expected) and all(
            size in (None, received) for size, received in zip(expected, shape, strict=True)
        )
        if not matches:
            raise ValueError(
                f"The images must have the shape {expected} of the inputs of the extractor "
                f"{self.name}. Received: images of shape {tuple(shape)}. Use an extractor for "
                "images of this shape."
            )

    def __repr__(self) -> str:
        """Return the extractor's name and the hash of its weights."""
        return f"{self.name} ({self.hash})"


def mnist_classifier() -> Extractor:
    """Return an extractor that computes 64 features of grey images with 28×28 pixels.

    The extractor uses a classifier of handwritten digits, which is part of keras_gen. The features
    are the inputs of the classifier's last layer. The classifier is a small convolutional network,
    which the script `tools/build_mnist_classifier.py` trained. The file `mnist_classifier.md`
    beside this module states the test accuracy of the classifier.
    """
    classifier = keras.saving.load_model(CLASSIFIER, compile=False)
    features = keras.Model(classifier.inputs[0], classifier.layers[-2].output)
    return Extractor(features, "mnist_classifier")


def load_extractor(path: PathLike) -> Extractor:
    """Load an extractor from a file of a Keras model.

    For instance, `scripts/train_extractor.py` trains a classifier of your images, and writes such
    a file. The name of the extractor is the name of the file without `.keras`.

    Args:
        path: File `*.keras` of a model that maps images with values in [0, 1] to features
            `[batch, d]`.

    Raises:
        ValueError: If the file does not exist or contains no such model.
    """
    path = pathlib.Path(path)
    expected = "Expected a file *.keras of a model that computes features of images. Received:"
    try:
        network = keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises errors of many types for invalid files
        raise ValueError(f"{expected} {path}. Loading the file failed: {error}") from error
    inputs, outputs = (getattr(network, name, None) or [] for name in ("inputs", "outputs"))
    if len(inputs) != 1 or len(outputs) != 1 or len(outputs[0].shape) != 2:
        raise ValueError(
            f"{expected} {path}, which contains a {type(network).__name__} without one input and "
            "one output of shape (batch, d)."
        )
    return Extractor(network, path.stem)


def inception() -> Extractor:
    """Return an extractor that computes 2,048 features of images with Inception v3.

    The weights of Inception v3 are Keras's ImageNet weights. The images can be grey or colour, and
    of any size. The extractor resizes the images to 299×299 pixels. The features are the outputs of
    the network's last pooling layer. Published values of the Fréchet Inception distance use other
    weights and another resizing method. Therefore do not compare published values with values from
    this extractor.

    Raises:
        ValueError: If the weights are not in Keras's cache and cannot be downloaded.
    """
    try:
        network = keras.applications.InceptionV3(
            include_top=False, pooling="avg", weights="imagenet"
        )
    except Exception as error:  # a failed download can raise errors of many types
        raise ValueError(
            "The Inception weights are not in Keras's cache and cannot be downloaded: "
            f"{error}. Use evaluation.mnist_classifier(), or an Extractor with your own network."
        ) from error

    def prepare(images: np.ndarray) -> tf.Tensor:
        coloured = tf.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
        return 2 * tf.image.resize(coloured, (299, 299)) - 1

    return Extractor(network, "inception_v3", prepare)
