"""What images are compared by: the features of a network, under a name and a hash that go with every number made from them."""

from __future__ import annotations

import hashlib
import pathlib
from collections.abc import Callable

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_gen._typing import TensorLike

CLASSIFIER = pathlib.Path(__file__).parent / "mnist_classifier.keras"


class Extractor:
    """Features of images.

    Args:
        network: Built Keras model from images to features `[batch, d]`.
        name: What it is called in results.
        prepare: Function from images in [0, 1] to what the network wants; the identity if None.

    Example:

    >>> pixels = Extractor(keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten()]), "pixels")
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
                f"Expected a network to features (batch, d). Received: output shape {network.output_shape}."
            )
        self.network = network
        self.name = name
        self.prepare = prepare
        digest = hashlib.sha256()
        for weight in network.get_weights():
            digest.update(np.ascontiguousarray(weight).tobytes())
        self.hash = digest.hexdigest()[:12]

    def __call__(self, images: npt.ArrayLike, batch_size: int = 256) -> np.ndarray:
        """Features `[n, d]`, float64, of images `[n, height, width, channels]` in [0, 1]."""
        images = np.asarray(images, np.float32)
        parts = []
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            parts.append(
                np.asarray(
                    self.network(self.prepare(part) if self.prepare else part, training=False),
                    np.float64,
                )
            )
        return np.concatenate(parts)

    def __repr__(self) -> str:
        """Name and hash."""
        return f"{self.name} ({self.hash})"


def mnist_classifier() -> Extractor:
    """The 64 features before the logits of the bundled classifier of digits, for images of 28×28 grey pixels.

    A small convolutional network that `scripts/build_mnist_classifier.py` made; `mnist_classifier.md` beside it has its test accuracy.
    """
    classifier = keras.saving.load_model(CLASSIFIER, compile=False)
    return Extractor(
        keras.Model(classifier.inputs[0], classifier.layers[-2].output), "mnist_classifier"
    )


def inception() -> Extractor:
    """The 2,048 features of Inception's last pooling, with Keras's ImageNet weights; images of any size, grey or coloured.

    The FID of papers uses another port of these weights and another resizing: compare such numbers with those made here alone.

    Raises:
        ValueError: If the weights are not in Keras's cache and cannot be downloaded.
    """
    try:
        network = keras.applications.InceptionV3(
            include_top=False, pooling="avg", weights="imagenet"
        )
    except Exception as error:  # whatever the download raises
        raise ValueError(
            "The Inception weights are not in Keras's cache and cannot be downloaded from here. Use evaluation.mnist_classifier(), or "
            "an Extractor of a network of your own."
        ) from error

    def prepare(images):
        coloured = tf.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
        return 2 * tf.image.resize(coloured, (299, 299)) - 1

    return Extractor(network, "inception_v3", prepare)
