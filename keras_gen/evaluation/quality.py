"""The quality of a model's samples in six numbers and their protocol, once or every few epochs."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_gen.evaluation.features import Extractor, mnist_classifier
from keras_gen.evaluation.frechet import frechet_distance, kernel_distance
from keras_gen.evaluation.manifold import density_coverage, precision_recall
from keras_gen.models import GenerativeModel
from keras_gen.serialization import checked_count


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
    real: npt.ArrayLike,
    other_real: np.ndarray | None = None,
    extractor: Extractor | None = None,
    split: str = "test",
    seed: int = 0,
) -> SampleQuality:
    """Compare as many samples of a model as there are real images with these.

    Args:
        model: A keras_gen model that can `generate`; a conditional one is asked for each label in turn.
        real: Real images `[n, height, width, channels]` in [0, 1], n at least 10.
        other_real: As many others, for the floor; the halves of `real` are compared if None, which makes the floor higher.
        extractor: `Extractor`; `mnist_classifier()` if None.
        split: What the real images are, for the protocol.
        seed: Seed of the samples.

    Returns:
        `SampleQuality`.

    Raises:
        ValueError: If there are too few images, or they fit neither the extractor nor each other.
    """
    extractor = extractor or mnist_classifier()
    real = np.asarray(real, np.float32)
    if len(real) < 10:
        raise ValueError(f"Expected at least 10 real images. Received: {len(real)}.")
    if other_real is not None and np.shape(other_real)[1:] != real.shape[1:]:
        raise ValueError(f"Expected other real images of shape (n, {str(real.shape[1:])[1:]}. Received: {np.shape(other_real)}.")
    features = extractor(real)
    if other_real is None:
        floor, made_from = frechet_distance(features[::2], features[1::2]), "halves of the real images"
    else:
        floor, made_from = frechet_distance(features, extractor(other_real)), f"{len(other_real)} other real images"
    protocol: dict[str, str | int] = {
        "extractor": extractor.name,
        "weights": extractor.hash,
        "real": f"{len(real)} of {split}",
        "generated": len(real),
        "floor": made_from,
    }
    return SampleQuality(**_scores(model, features, extractor, seed), floor=floor, protocol=protocol)


def _scores(model, real, extractor, seed):
    """The numbers of `SampleQuality` that compare as many samples with the features of real images."""
    generated = extractor(draw_samples(model, len(real), seed))
    distance = kernel_distance(real, generated, seed=seed)
    return {
        "fid": frechet_distance(real, generated),
        "kid": distance.value,
        "kid_error": distance.standard_error,
        **precision_recall(real, generated)._asdict(),
        **density_coverage(real, generated)._asdict(),
    }


def draw_samples(model: GenerativeModel, num_samples: int, seed: int) -> tf.Tensor:
    """Samples of a model, of a conditional one each label in turn."""
    labels = np.arange(num_samples) % model.num_classes if model.num_classes else None
    return model.generate(num_samples, seed=seed, condition=labels)


class QualityLogs(keras.callbacks.Callback):
    """Puts `fid`, `kid`, `precision`, `recall`, `density` and `coverage` into the logs of `fit`, for all callbacks after it.

    An epoch whose turn it is not repeats the numbers before, so that every epoch has them.

    Args:
        real: Real images `[n, height, width, channels]` in [0, 1]; as many are generated.
        extractor: `Extractor`; `mnist_classifier()` if None.
        every: Epochs from one comparison to the next; the first epoch has one.
        seed: Seed of the samples, the same each time.

    Raises:
        ValueError: If `every` is no count.

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

    def __init__(self, real: npt.ArrayLike, extractor: Extractor | None = None, every: int = 1, seed: int = 0) -> None:
        super().__init__()
        self.every = checked_count(self, "every", every)
        self.extractor = extractor or mnist_classifier()
        self.real = self.extractor(real)
        self.seed = seed
        self.last: dict[str, float] | None = None

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare, if it is the epoch's turn, and log."""
        if self.last is None or epoch % self.every == 0:
            scores = _scores(self.model, self.real, self.extractor, self.seed)
            del scores["kid_error"]
            self.last = scores
        if logs is not None:
            logs.update(self.last)
