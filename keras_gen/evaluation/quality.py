"""The quality of a model's samples in six numbers and their protocol, once or every few epochs."""

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

_AT_LEAST = 10  # images
_ROUNDING = 1e-4


@dataclasses.dataclass(frozen=True)
class SampleQuality:
    """How near generated examples are to real ones. Compare numbers of one protocol only; `print` shows it."""

    fid: float
    """Fréchet distance of the features; 0 is best, `floor` is as good as real."""
    kid: float
    """Kernel distance of the features, unbiased; as good as real is 0."""
    kid_error: float
    """Its standard error."""
    precision: float
    """Share of generated examples among the real ones."""
    recall: float
    """Share of real examples among the generated ones."""
    density: float
    """Real neighbourhoods a generated example is in, over k; 1 is as good as real."""
    coverage: float
    """Share of real examples with a generated one nearby."""
    floor: float
    """The Fréchet distance of real from other real examples."""
    protocol: dict[str, str | int]
    """Extractor and hash, numbers of examples, the split they are of, and what the floor was made from."""

    @property
    def scores(self) -> dict[str, float]:
        """The numbers by name, without the protocol."""
        return {key: value for key, value in dataclasses.asdict(self).items() if key != "protocol"}

    def __str__(self) -> str:
        """Two lines: numbers, protocol."""
        return (
            f"FID {self.fid:.2f} (real against real: {self.floor:.2f}), KID {self.kid:.4f} ± {self.kid_error:.4f}, precision "
            f"{self.precision:.3f}, recall {self.recall:.3f}, density {self.density:.3f}, coverage {self.coverage:.3f}\n"
            f"  {', '.join(f'{name}: {value}' for name, value in self.protocol.items())}"
        )


def sample_quality(
    model: GenerativeModel,
    real: Examples,
    other_real: Examples | None = None,
    extractor: Extractor | None = None,
    split: str = "test",
    seed: int = 0,
) -> SampleQuality:
    """Compare as many samples of a model as there are real images with these.

    Args:
        model: A keras_gen model that can `generate`; a conditional one is asked for each label in turn.
        real: Real images `[n, height, width, channels]` in [0, 1], n at least 10, or a `tf.data.Dataset` of batches of them. Of a model
            of binarized pixels, whose samples are their probabilities, the grey ones.
        other_real: As many others, for the floor; the halves of `real` are compared if None, which makes the floor higher.
        extractor: `Extractor`; `mnist_classifier()` if None.
        split: What the real images are, for the protocol.
        seed: Seed of the samples.

    Returns:
        `SampleQuality`.

    Raises:
        ValueError: If there are too few images, or they are no floats in [0, 1], or fit neither the extractor nor each other.
    """
    reference = _Reference.of(real, other_real, extractor, split)
    return SampleQuality(
        **reference.scores(model, seed), floor=reference.floor, protocol=reference.protocol
    )


@dataclasses.dataclass(frozen=True)
class _Reference:
    """What samples are compared with, and the protocol of it."""

    features: np.ndarray
    extractor: Extractor
    floor: float
    protocol: dict[str, str | int]

    @classmethod
    def of(cls, real, other_real, extractor, split):
        """The reference of real images, and others for the floor if there are any."""
        extractor = extractor or mnist_classifier()
        real = _checked_images("real", real)
        features = extractor(real)
        if other_real is None:
            floor, made_from = (
                frechet_distance(features[::2], features[1::2]),
                "halves of the real images",
            )
        else:
            other_real = _checked_images("other real", other_real, real.shape[1:])
            floor, made_from = (
                frechet_distance(features, extractor(other_real)),
                f"{len(other_real)} other real images",
            )
        protocol = {
            "extractor": extractor.name,
            "weights": extractor.hash,
            "real": f"{len(real)} of {split}",
            "generated": len(real),
            "floor": made_from,
        }
        return cls(features, extractor, floor, protocol)

    def scores(self, model, seed):
        """The numbers of `SampleQuality` that compare as many samples with the features of real images."""
        generated = self.extractor(draw_samples(model, len(self.features), seed))
        distance = kernel_distance(self.features, generated, seed=seed)
        return {
            "fid": frechet_distance(self.features, generated),
            "kid": distance.value,
            "kid_error": distance.standard_error,
            **precision_recall(self.features, generated)._asdict(),
            **density_coverage(self.features, generated)._asdict(),
        }


def _checked_images(name, images, shape=None):
    """Images as an array that has been looked at."""
    if isinstance(images, tf.data.Dataset):
        images, _ = as_arrays(images)
    images = np.asarray(images)
    expected = "n, height, width, channels" if shape is None else f"n, {str(shape)[1:-1]}"
    if images.ndim != 4 or images.shape[1:] != (shape or images.shape[1:]):
        raise ValueError(
            f"Expected {name} images of shape ({expected}). Received: shape {images.shape}."
        )
    if len(images) < _AT_LEAST:
        raise ValueError(f"Expected at least {_AT_LEAST} {name} images. Received: {len(images)}.")
    what = f"Expected {name} images as floats in [0, 1]."
    if images.dtype.kind != "f":
        raise ValueError(
            f"{what} Received: dtype {images.dtype}. Divide pixels of 0 to 255: images.astype('float32') / 255."
        )
    if not (images.min() >= -_ROUNDING and images.max() <= 1 + _ROUNDING):
        raise ValueError(
            f"{what} Received: values from {images.min():g} to {images.max():g}. Scale them."
        )
    return images


def draw_samples(model: GenerativeModel, num_samples: int, seed: int) -> tf.Tensor:
    """Samples of a model, of a conditional one each label in turn."""
    labels = np.arange(num_samples) % model.num_classes if model.num_classes else None
    return model.generate(num_samples, seed=seed, condition=labels)


class QualityLogs(keras.callbacks.Callback):
    """Puts `fid`, `kid`, `precision`, `recall`, `density` and `coverage` into the logs of `fit`, for all callbacks after it.

    An epoch whose turn it is not repeats the numbers before, so that every epoch has them. `protocol` and `floor` are what they are
    for `sample_quality`.

    Args:
        real: Real images, as for `sample_quality`; as many are generated.
        extractor: `Extractor`; `mnist_classifier()` if None.
        every: Epochs from one comparison to the next; the first epoch has one.
        seed: Seed of the samples, the same each time.
        split: What the real images are, for the protocol.

    Raises:
        ValueError: If `every` is no count or the images cannot be compared; by `fit`, before it trains, if the model cannot `generate`.

    Example:

    >>> import keras_gen
    >>> from keras_gen import evaluation, networks
    >>> pixels = evaluation.Extractor(keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()]), "pixels")
    >>> gan = keras_gen.GAN(networks.dcgan_generator(2, (8, 8, 1)), networks.dcgan_discriminator((8, 8, 1)))
    >>> gan.compile()
    >>> images = np.random.default_rng(0).random((20, 8, 8, 1))
    >>> "fid" in gan.fit(images, verbose=0, callbacks=[QualityLogs(images, pixels)]).history
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
        self.protocol, self.floor = self._reference.protocol, self._reference.floor
        self.seed = seed
        self.last: dict[str, float] | None = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Let a model that cannot generate say so."""
        draw_samples(self.model, 1, self.seed)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare, if it is the epoch's turn, and log."""
        if self.last is None or epoch % self.every == 0:
            scores = self._reference.scores(self.model, self.seed)
            del scores["kid_error"]
            self.last = scores
        if logs is not None:
            logs.update(self.last)
