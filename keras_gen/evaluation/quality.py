"""The quality of a model's samples: FID, KID, precision, recall, density, coverage."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._typing import Examples
from keras_gen.data import as_arrays
from keras_gen.evaluation.features import Extractor, mnist_classifier
from keras_gen.evaluation.frechet import frechet_distance, kernel_distance
from keras_gen.evaluation.manifold import density_coverage, precision_recall
from keras_gen.models import GenerativeModel

_FEWEST_IMAGES = 10
_ROUNDING = 1e-4


@dataclasses.dataclass(frozen=True)
class SampleQuality:
    """Similarity of generated images to real images. `print` shows a summary.

    Compare only numbers with the same protocol.
    """

    fid: float
    """Fréchet distance of the features, lower is better. Real images have the value `real_fid`."""
    kid: float
    """Kernel distance of the features, unbiased, lower is better. Real images have the
    expectation 0."""
    kid_error: float
    """Standard error of `kid`."""
    precision: float
    """Fraction of the generated images near a real image, higher is better."""
    recall: float
    """Fraction of the real images near a generated image, higher is better."""
    density: float
    """Mean number of real neighbourhoods that contain a generated image, divided by k. The
    expectation for real images is 1."""
    coverage: float
    """Fraction of the real neighbourhoods that contain a generated image, higher is better."""
    real_fid: float
    """Fréchet distance between the real images and `other_real`. Without `other_real`, the distance
    between two halves of the real images."""
    protocol: dict[str, str | int]
    """Name of the extractor, hash of its weights, numbers of images, data split, and the images
    that `real_fid` compares."""

    @property
    def scores(self) -> dict[str, float]:
        """All numbers by name, without the protocol."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key != "protocol"}

    def __str__(self) -> str:
        """Return two lines: the numbers and the protocol."""
        protocol = ", ".join(f"{name}: {value}" for name, value in self.protocol.items())
        return (
            f"FID {self.fid:.2f} (real images: {self.real_fid:.2f}), "
            f"KID {self.kid:.4f} ± {self.kid_error:.4f}, "
            f"precision {self.precision:.3f}, recall {self.recall:.3f}, "
            f"density {self.density:.3f}, coverage {self.coverage:.3f}\n"
            f"  {protocol}"
        )


def sample_quality(
    model: GenerativeModel,
    real: Examples,
    other_real: Examples | None = None,
    extractor: Extractor | None = None,
    split: str = "test",
    seed: int = 0,
) -> SampleQuality:
    """Compare samples of a model with real images.

    The model generates as many images as there are in `real`.

    Args:
        model: A keras_gen model that can `generate`. A conditional model generates the labels 0, 1,
            2, … in turn.
        real: Real images `[n, height, width, channels]` with values in [0, 1], at least 10, or a
            `tf.data.Dataset` of batches of such images. A model of binarized pixels generates
            probabilities, so compare its samples with the grey images.
        other_real: Other real images for `real_fid`, as many as in `real`. If None, `real_fid`
            compares two halves of `real`, which gives a larger distance.
        extractor: The extractor of the features. If None, `mnist_classifier()`.
        split: Name of the data split of `real`, for the protocol.
        seed: Seed of the samples.

    Returns:
        `SampleQuality`.

    Raises:
        ValueError: If there are fewer than 10 images, or the images are not floats in [0, 1]. If
            the shapes of the images and of the extractor differ. If the model cannot `generate`.
    """
    reference = _Reference.of(real, other_real, extractor, split)
    scores = reference.compare(model, seed)
    return SampleQuality(**scores, real_fid=reference.real_fid, protocol=reference.protocol)


@dataclasses.dataclass(frozen=True)
class _Reference:
    """Features of the real images, and the protocol of a comparison with samples."""

    features: np.ndarray
    extractor: Extractor
    real_fid: float
    protocol: dict[str, str | int]

    @classmethod
    def of(
        cls,
        real: Examples,
        other_real: Examples | None,
        extractor: Extractor | None,
        split: str,
    ) -> _Reference:
        """Compute the features of real images and `real_fid`."""
        extractor = extractor or mnist_classifier()
        images = _checked_images("real", real)
        features = extractor(images)
        if other_real is None:
            real_fid = frechet_distance(features[::2], features[1::2])
            compared = "halves of the real images"
        else:
            other_images = _checked_images("other real", other_real, images.shape[1:])
            real_fid = frechet_distance(features, extractor(other_images))
            compared = f"{len(other_images)} other real images"
        protocol: dict[str, str | int] = {
            "extractor": extractor.name,
            "weights": extractor.hash,
            "real": f"{len(images)} of {split}",
            "generated": len(images),
            "real_fid": compared,
        }
        return cls(features, extractor, real_fid, protocol)

    def compare(self, model: GenerativeModel, seed: int) -> dict[str, float]:
        """Return the numbers of `SampleQuality` that depend on the samples."""
        samples = generate_samples(model, len(self.features), seed)
        generated = self.extractor(samples)
        distance = kernel_distance(self.features, generated, seed=seed)
        return {
            "fid": frechet_distance(self.features, generated),
            "kid": distance.value,
            "kid_error": distance.standard_error,
            **precision_recall(self.features, generated)._asdict(),
            **density_coverage(self.features, generated)._asdict(),
        }


def _checked_images(
    name: str, images: Examples, shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """Return images as an array.

    Args:
        name: Name of the images in error messages.
        images: An array, or a `tf.data.Dataset` of batches.
        shape: Expected shape of one image. If None, any shape is accepted.

    Raises:
        ValueError: If the images have another shape or are not floats in [0, 1], or if there are
            too few.
    """
    if isinstance(images, tf.data.Dataset):
        images, _ = as_arrays(images)
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1:] != (shape or images.shape[1:]):
        expected = "height, width, channels" if shape is None else str(shape)[1:-1]
        raise ValueError(
            f"Expected {name} images of shape (n, {expected}). Received: shape {images.shape}."
        )
    if len(images) < _FEWEST_IMAGES:
        raise ValueError(
            f"Expected at least {_FEWEST_IMAGES} {name} images. Received: {len(images)}."
        )
    expectation = f"Expected {name} images as floats in [0, 1]."
    if images.dtype.kind != "f":
        raise ValueError(
            f"{expectation} Received: dtype {images.dtype}. Divide pixels from 0 to 255 by 255: "
            "images.astype('float32') / 255."
        )
    low = images.min()
    high = images.max()
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # also true for NaN
        raise ValueError(
            f"{expectation} Received: values from {low:g} to {high:g}. Rescale the images."
        )
    return images


def generate_samples(model: GenerativeModel, num_samples: int, seed: int) -> tf.Tensor:
    """Generate samples of a model.

    Of a conditional model, the samples have the labels 0, 1, 2, … in turn.

    Args:
        model: A keras_gen model that can `generate`.
        num_samples: Number of samples.
        seed: Seed of the samples.

    Returns:
        Samples `[num_samples, *data_shape]`.
    """
    labels = np.arange(num_samples) % model.num_classes if model.num_classes else None
    return model.generate(num_samples, seed=seed, condition=labels)


class QualityLogs(keras.callbacks.Callback):
    """A Keras callback that adds the quality of samples to the logs of `fit`.

    The logs get `fid`, `kid`, `precision`, `recall`, `density` and `coverage`. Later callbacks in
    the list can use these numbers. Epochs without a comparison repeat the last numbers, so every
    epoch has numbers. The attributes `protocol` and `real_fid` are those of `SampleQuality`.

    Args:
        real: Real images, as for `sample_quality`. The model generates as many images.
        extractor: The extractor of the features. If None, `mnist_classifier()`.
        every: Number of epochs between two comparisons. The first comparison is in the first epoch.
        seed: Seed of the samples, the same for each comparison.
        split: Name of the data split of `real`, for the protocol.

    Raises:
        ValueError: If `every` is not a positive integer, or the images are invalid. If the model
            cannot `generate`, `fit` raises the error before training.

    Example:

    >>> import keras_gen
    >>> from keras_gen import networks
    >>> flatten = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    >>> gan = keras_gen.GAN(
    ...     networks.dcgan_generator(2, (8, 8, 1)), networks.dcgan_discriminator((8, 8, 1))
    ... )
    >>> gan.compile()
    >>> images = np.random.default_rng(0).random((20, 8, 8, 1))
    >>> logs = QualityLogs(images, Extractor(flatten, "pixels"))
    >>> "fid" in gan.fit(images, verbose=0, callbacks=[logs]).history
    True
    """

    def __init__(
        self,
        real: Examples,
        extractor: Extractor | None = None,
        every: int = 1,
        seed: int = 0,
        split: str = "test",
    ) -> None:
        super().__init__()
        self.every = positive_int(self, "every", every)
        self._reference = _Reference.of(real, None, extractor, split)
        self.protocol = self._reference.protocol
        self.real_fid = self._reference.real_fid
        self.seed = seed
        self.last: dict[str, float] | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Generate one sample. A model that cannot generate raises its error before training."""
        generate_samples(self.model, 1, self.seed)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Log the last numbers. If this epoch has a comparison, compute new numbers first."""
        if self.last is None or epoch % self.every == 0:
            scores = self._reference.compare(self.model, self.seed)
            del scores["kid_error"]
            self.last = scores
        if logs is not None:
            logs.update(self.last)
