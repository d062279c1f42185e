"""Measure the quality of a model's samples, by comparison with real images."""

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
    """Scores that compare generated images with real images. `print` shows a summary.

    The attribute `protocol` describes how the scores were computed, for instance from how many
    images. The scores of two models are comparable only if they have the same `protocol`.
    """

    fid: float
    """Fréchet distance between the features of real and generated images, lower is better. Compare
    it with the attribute `real_fid`, which is a distance between real images."""
    kid: float
    """Unbiased estimate of the squared maximum mean discrepancy between the features of real and
    generated images, lower is better. If real and generated images have the same distribution, the
    estimate is 0 on average."""
    kid_error: float
    """Standard error of `kid`."""
    precision: float
    """Fraction of the generated images that lie in the neighbourhood of a real image, higher is
    better. `precision_recall` defines the neighbourhoods."""
    recall: float
    """Fraction of the real images that lie in the neighbourhood of a generated image, higher is
    better. `precision_recall` defines the neighbourhoods."""
    density: float
    """Density, as defined in `density_coverage`, higher is better. If real and generated images
    have the same distribution, the density is 1 on average."""
    coverage: float
    """Fraction of the real images whose neighbourhood contains a generated image, higher is better.
    `density_coverage` defines the neighbourhoods."""
    real_fid: float
    """Fréchet distance between the real images and other real images. If no other real images were
    given, this is the distance between two halves of the real images."""
    protocol: dict[str, str | int]
    """Dictionary that describes how the numbers were computed. `extractor` is the name of the
    network that computes features of images, and `weights` is a hash of its weights. `real`
    contains the number and the data split of the real images. `generated` is the number of
    generated images. `real_fid` describes the images that the attribute `real_fid` compares."""

    @property
    def scores(self) -> dict[str, float]:
        """Dictionary of all attributes except `protocol`."""
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
        model: A keras_gen model that can `generate`. A conditional model generates images with the
            labels 0, 1, 2, … in turn.
        real: At least 10 real images with values in [0, 1], as an array
            `[n, height, width, channels]` or a `tf.data.Dataset` of batches. If the model was
            trained on randomly binarized images, it generates probabilities from 0 to 1. Therefore
            pass the grey images before binarization.
        other_real: Other real images, as many as in `real`. The attribute `real_fid` of the result
            is the Fréchet distance between these images and `real`. If None, `real_fid` is the
            distance between two halves of `real`. This distance is larger, because each half has
            fewer images.
        extractor: The network that computes the features. Default: `mnist_classifier()`.
        split: Name of the data split that contains `real`. The attribute `protocol` of the result
            contains this name. Default: `"test"`.
        seed: Seed of the samples. Default: 0.

    Returns:
        `SampleQuality`.

    Raises:
        ValueError: If there are fewer than 10 images. If the images are not floats in [0, 1], or do
            not have the shape that the extractor expects. If the model cannot `generate`.
    """
    reference = _Reference.of(real, other_real, extractor, split)
    scores = reference.compare(model, seed)
    return SampleQuality(**scores, real_fid=reference.real_fid, protocol=reference.protocol)


@dataclasses.dataclass(frozen=True)
class _Reference:
    """Features of the real images, with which the samples of models are compared."""

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
        """Compute the features of the real images, and the Fréchet distance `real_fid`."""
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
        """Generate samples with a model, and return their scores by name."""
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
    """Check images, and return them as an array.

    Args:
        name: Name of the images in error messages.
        images: An array, or a `tf.data.Dataset` of batches.
        shape: Expected shape of one image. If None, any shape is accepted.

    Raises:
        ValueError: If the images have another shape, are not floats in [0, 1], or are fewer than
            10.
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
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # if a value is NaN, this is also true
        raise ValueError(
            f"{expectation} Received: values from {low:g} to {high:g}. Rescale the images."
        )
    return images


def generate_samples(model: GenerativeModel, num_samples: int, seed: int) -> tf.Tensor:
    """Generate samples of a model.

    If the model is conditional, the samples have the labels 0, 1, 2, … in turn.

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

    The logs get `fid`, `kid`, `precision`, `recall`, `density` and `coverage`, which
    `SampleQuality` defines. Callbacks that come later in the list of callbacks can use these
    numbers. In an epoch without a comparison of samples with real images, the logs get the numbers
    of the last comparison. The attribute `protocol` describes how the numbers are computed. The
    attribute `real_fid` is the Fréchet distance between two halves of the real images.

    Args:
        real: At least 10 real images with values in [0, 1], as an array
            `[n, height, width, channels]` or a `tf.data.Dataset` of batches. Each comparison
            generates as many samples as there are real images.
        extractor: The network that computes the features. Default: `mnist_classifier()`.
        every: Number of epochs from one comparison to the next. The first comparison is in the
            first epoch. Default: 1.
        seed: Seed of the samples, the same for each comparison. Default: 0.
        split: Name of the data split that contains `real`, for the attribute `protocol`. Default:
            `"test"`.

    Raises:
        ValueError: If `every` is not a positive integer, or if the images are invalid. If the model
            cannot `generate`, `fit` raises this error before training.

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
        """Raise an error before training if the model cannot generate samples."""
        generate_samples(self.model, 1, self.seed)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Add the scores of the samples to the logs of the epoch.

        The callback computes new scores only once in `every` epochs, where `every` is an argument
        of its constructor. In all other epochs, it adds the last scores again.
        """
        if self.last is None or epoch % self.every == 0:
            scores = self._reference.compare(self.model, self.seed)
            del scores["kid_error"]
            self.last = scores
        if logs is not None:
            logs.update(self.last)
