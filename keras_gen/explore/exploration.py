"""The computations of `keras-gen explore`: images of latents, anomaly scores, a canvas."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image, ImageDraw

from keras_gen import evaluation
from keras_gen.evaluation.figures import are_images, grid
from keras_gen.evaluation.latent_usage import mean_and_covariance
from keras_gen.models import GenerativeModel

_BATCH_SIZE = 250
_POINTS_PER_PIXEL = 8  # resolution of the pen, on each axis
_PEN_WIDTH = 0.09  # in heights of the image, about the width of the strokes in MNIST


class Exploration:
    """A trained model of images, with latents in units of their standard deviations.

    The value 0 of a latent is its mean, the value 1 is one standard deviation above. Means and
    standard deviations are those of the prior, per label if the prior depends on labels. For an
    autoencoder without a latent density they are those of the latents of the test images.
    All answers come from the `signatures()` of the model, as from a server. All methods take a
    batch, and labels `[batch]` if the model is conditional.

    Args:
        model: A compiled and trained keras_gen model of images.
        x: Test images `[n, height, width, 1 or 3]` in [0, 1].
        labels: Their labels `[n]`, for a conditional model.

    Raises:
        ValueError: If the examples are not images.
    """

    def __init__(
        self, model: GenerativeModel, x: np.ndarray, labels: np.ndarray | None = None
    ) -> None:
        if not are_images(x):
            raise ValueError(
                "The model must be one of images of shape (height, width, 1 or 3). "
                f"Received: a model of examples of shape {x.shape[1:]}. "
                "`keras_gen.runs.evaluate` works with all models."
            )
        self.model = model
        self.x = np.asarray(x, np.float32)
        self.labels = labels
        self.signatures = {
            name: tf.function(function, input_signature=specs)
            for name, (function, specs) in model.signatures().items()
        }
        self.means, self.deviations = self._moments()
        self.size = self.means.shape[-1]
        self.order = np.argsort(-self._effects(), kind="stable")
        """Indices of the latents; the latent that changes the image most comes first."""
        self.test_scores = self.anomaly_score(self.x, labels)

    def decode(self, units: npt.ArrayLike, labels: np.ndarray | None = None) -> np.ndarray:
        """Return the images `[batch, height, width, channels]` of latents `[batch, size]`."""
        rows = _rows(labels)
        latents = np.asarray(units) * self.deviations[rows] + self.means[rows]
        return self._call("decode", "outputs", latents.astype(np.float32), labels)

    def sample_latents(self, seeds: npt.ArrayLike, labels: np.ndarray | None = None) -> np.ndarray:
        """Sample latents from the prior, `[batch, size]`, one vector per seed `[batch]`."""
        latents = self._call("generate", "latents", np.asarray(seeds, np.int64), labels)
        return self._to_units(latents, labels)

    def encode(self, x: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """Return the latents of images, `[batch, size]`."""
        return self._to_units(evaluation.latents(self.model, x, labels), labels)

    def reconstruct(self, x: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """Return the reconstructions of images."""
        return self._call("serving_default", "reconstructions", x, labels)

    def anomaly_score(self, x: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """Return the anomaly score of each image, `[batch]`; higher is more anomalous.

        It is the `score` of the model. For a model without one, a GAN, it is the negative
        probability of being real that the discriminator assigns.
        """
        if "score" in self.signatures:
            return self._call("score", "score", x, labels)
        return -self._call("discriminate", "probability", x, labels)

    def describe_score(self, score: float) -> str:
        """Return a sentence that compares an anomaly score with those of the test images."""
        share = 100 * np.mean(self.test_scores < score)
        comparison = f"more anomalous than {share:.0f} % of the test images"
        if "score" not in self.signatures:
            return f"Probability of being real {evaluation.format_number(-score)}: {comparison}"
        unit = f" {self.model.loss_unit}" if self.model.loss_unit else ""
        return f"Score {evaluation.format_number(score)}{unit}: {comparison}"

    def _call(
        self, signature: str, output: str, inputs: np.ndarray, labels: np.ndarray | None
    ) -> np.ndarray:
        """Return one output of a signature, computed batch by batch."""
        parts = []
        for start in range(0, len(inputs), _BATCH_SIZE):
            rows = slice(start, start + _BATCH_SIZE)
            arguments = [inputs[rows]] if labels is None else [inputs[rows], labels[rows]]
            parts.append(self.signatures[signature](*arguments)[output].numpy())
        return np.concatenate(parts)

    def _to_units(self, latents: np.ndarray, labels: np.ndarray | None) -> np.ndarray:
        rows = _rows(labels)
        return (latents - self.means[rows]) / self.deviations[rows]

    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the means and the standard deviations of the latents, `[num_classes or 1, n]`."""
        num_classes = self.model.num_classes
        if self.model.prior is None:
            latents = evaluation.latents(self.model, self.x)
            mean = latents.mean(axis=0)
            deviation = latents.std(axis=0)
        else:
            labels = tf.range(num_classes) if num_classes else None
            moments = mean_and_covariance(self.model.prior.distribution(labels))
            mean = moments.mean
            deviation = np.sqrt(np.diagonal(moments.covariance, axis1=-2, axis2=-1))
        shape = (num_classes or 1, mean.shape[-1])
        return np.broadcast_to(mean, shape), np.broadcast_to(deviation, shape)

    def _effects(self, num_samples: int = 4) -> np.ndarray:
        """Return by how much the image changes as each latent goes from −1 to 1, `[size]`.

        It is the mean squared difference, averaged over pixels and over samples of the other
        latents.
        """
        others = np.random.default_rng(0).normal(size=(num_samples, self.size))
        units = np.tile(others, (self.size, 2, 1, 1))
        for latent in range(self.size):
            units[latent, 0, :, latent] = -1
            units[latent, 1, :, latent] = 1
        units = units.reshape(-1, self.size)
        labels = None
        if self.model.num_classes:
            labels = np.arange(len(units)) % num_samples % self.model.num_classes
        images = self.decode(units, labels).reshape(self.size, 2, -1)
        return np.square(images[:, 1] - images[:, 0]).mean(axis=1)


def _rows(labels: np.ndarray | None) -> np.ndarray:
    """Return the row of the moments for each example."""
    return np.array([0]) if labels is None else labels


class Canvas:
    """An image on which a soft pen draws, white on black.

    Args:
        shape: Shape of the image, `(height, width, 1 or 3)`.
        binary: Whether pixels are only 0 or 1, for a model of binary images.
    """

    def __init__(self, shape: tuple[int, int, int], binary: bool = False) -> None:
        self.shape = shape
        self.binary = binary
        self.clear()

    def clear(self) -> None:
        """Make all pixels black."""
        self.show(np.zeros(self.shape))
        self.blank = True

    def show(self, image: np.ndarray) -> None:
        """Put an image `[height, width, channels]` on the canvas."""
        self._fine = Image.fromarray(grid(image[None], 1, _POINTS_PER_PIXEL).squeeze())
        self.blank = False

    def line(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Draw a line from one point `(x, y)` to another, in pixels."""
        ends = _POINTS_PER_PIXEL * np.array([start, end])
        radius = _POINTS_PER_PIXEL * _PEN_WIDTH * self.shape[0] / 2
        white = (255,) * self.shape[-1]
        pen = ImageDraw.Draw(self._fine)
        pen.line(ends.ravel().tolist(), white, round(2 * radius))
        for point in ends:
            pen.ellipse((*(point - radius), *(point + radius)), white)
        self.blank = False

    @property
    def image(self) -> np.ndarray:
        """The image `[height, width, channels]`, float32 in [0, 1]."""
        reduced = self._fine.reduce(_POINTS_PER_PIXEL)
        image = np.asarray(reduced, np.float32).reshape(self.shape) / 255
        return np.round(image) if self.binary else image
