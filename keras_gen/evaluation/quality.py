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
    """How similar generated images are to real ones. `print` shows a summary.

    Compare only numbers with the same protocol.
    """

    fid: float
    """Fréchet distance of the features, lower is better. Real images have `real_fid`."""
    kid: float
    """Kernel distance of the features, unbiased, lower is better. Real images have 0."""
    kid_error: float
    """Standard error of `kid`."""
    precision: float
    """Share of the generated images that lie among the real ones, higher is better."""
    recall: float
    """Share of the real images that lie among the generated ones, higher is better."""
    density: float
    """Real neighbourhoods that contain a generated image, divided by k. Real images have 1."""
    coverage: float
    """Share of the real images with a generated image nearby, higher is better."""
    real_fid: float
    """Fréchet distance between the real images and other real images, or between two halves of the
    real images."""
    protocol: dict[str, str | int]
    """Extractor and hash of its weights, numbers of images, split of the data, and what `real_fid`
    compares."""

    @property
    def scores(self) -> dict[str, float]:
        """The numbers by name, without the protocol."""
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

    The model generates as many images as there are real ones.

    Args:
        model: A keras_gen model that can `generate`. A conditional model generates each label in
            turn.
        real: Real images `[n, height, width, channels]` with values in [0, 1], at least 10, or a
            `tf.data.Dataset` of batches of them. For a model of binarized pixels, which generates
            their probabilities, use the grey images.
        other_real: As many other real images, for `real_fid`. If None, `real_fid` compares two
            halves of `real`, which makes it larger.
        extractor: The features; `mnist_classifier()` if None.
        split: Name of the split of `real`, for the protocol.
        seed: Seed of the samples.

    Returns:
        `SampleQuality`.

    Raises:
        ValueError: If there are fewer than 10 images, they are not floats in [0, 1], or their shape
            fits neither the extractor nor the other images.
    """
    reference = _Reference.of(real, other_real, extractor, split)
    scores = reference.compare(model, seed)
    return SampleQuality(**scores, real_fid=reference.real_fid, protocol=reference.protocol)


@dataclasses.dataclass(frozen=True)
class _Reference:
    """Features of real images, with which samples are compared, and the protocol."""

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
        """Compute the features of real images, and their Fréchet distance to other real images."""
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
        shape: Expected shape of one image; any if None.

    Raises:
        ValueError: If the images have another shape, are too few, or are not floats in [0, 1].
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
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # also for NaN
        raise ValueError(
            f"{expectation} Received: values from {low:g} to {high:g}. Rescale the images."
        )
    return images


def generate_samples(model: GenerativeModel, num_samples: int, seed: int) -> tf.Tensor:
    """Generate samples of a model; a conditional model generates each label in turn.

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
    """Add the quality of samples to the logs of `fit`, for all callbacks after this one.

    The logs get `fid`, `kid`, `precision`, `recall`, `density` and `coverage`. Epochs without a
    comparison repeat the last numbers, so that every epoch has them. The attributes `protocol` and
    `real_fid` have the same meaning as for `sample_quality`.

    Args:
        real: Real images, as for `sample_quality`. The model generates as many.
        extractor: The features; `mnist_classifier()` if None.
        every: Number of epochs from one comparison to the next. The first epoch has one.
        seed: Seed of the samples, the same for each comparison.
        split: Name of the split of `real`, for the protocol.

    Raises:
        ValueError: If `every` is not a positive integer or the images are invalid. `fit` raises it
            before it trains if the model cannot `generate`.

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
        """Generate one sample, so that a model that cannot generate raises its error now."""
        generate_samples(self.model, 1, self.seed)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare samples with the real images, if this epoch has a comparison, and log."""
        if self.last is None or epoch % self.every == 0:
            scores = self._reference.compare(self.model, self.seed)
            del scores["kid_error"]
            self.last = scores
        if logs is not None:
            logs.update(self.last)
