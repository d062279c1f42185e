"""Compute the images and the anomaly scores that the page of `keras-gen explore` shows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image, ImageDraw

from keras_gen import evaluation
from keras_gen.evaluation.anomalies import heat_maps
from keras_gen.evaluation.figures import are_images, grid
from keras_gen.evaluation.latent_usage import mean_and_covariance
from keras_gen.models import GenerativeModel

_BATCH_SIZE = 250
_POINTS_PER_PIXEL = 8  # resolution of the pen, in width and in height
_PEN_WIDTH = 0.09  # fraction of the image height, similar to the strokes in MNIST


class Exploration:
    """The computations of `keras-gen explore` with a trained model of images.

    Latents are given in standardized units. The number 0 stands for the mean of a latent, and the
    number 1 for one standard deviation above the mean. Means and standard deviations are computed
    from the prior. If the prior depends on labels, each label has its own means and standard
    deviations. For an autoencoder without a prior, means and standard deviations are computed from
    the latents of the test images.

    `decode`, `sample_latents`, `reconstruct`, `anomaly_score` and `heat_map` call the functions
    that the model exports in a SavedModel. The inputs of these methods and of `encode` are batches.
    If the model depends on labels, these six methods also need the labels `[batch]`.

    Args:
        model: A compiled and trained keras_gen model of images.
        x: Test images `[n, height, width, 1 or 3]` in [0, 1].
        labels: Labels `[n]` of the test images if the model depends on labels. Default: None.

    Raises:
        ValueError: If `x` does not contain images, or if the latents are not real numbers.
    """

    def __init__(
        self, model: GenerativeModel, x: np.ndarray, labels: np.ndarray | None = None
    ) -> None:
        if not are_images(x):
            raise ValueError(
                "The model must be trained on images of shape (height, width, 1 or 3). "
                f"Received: a model trained on examples of shape {x.shape[1:]}. "
                "`keras_gen.runs.evaluate` works with all models."
            )
        if not model.has_continuous_latents:
            raise ValueError(
                "The latents of the model must be real numbers, which sliders can vary. Received: "
                f"a {type(model).__name__}, whose latents are integers. `keras-gen evaluate` and "
                "`keras-gen sample` work with all models."
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
        """Indices of all latents. First comes the latent that changes the decoded image most."""
        self.test_scores = self.anomaly_score(self.x, labels)
        self.has_heat_maps = "score" in self.signatures and (
            "per_feature" in self.signatures["score"].get_concrete_function().structured_outputs
        )
        """Whether the anomaly score is a sum over the pixels, so that there are heat maps."""

    def decode(self, units: npt.ArrayLike, labels: np.ndarray | None = None) -> np.ndarray:
        """Decode latents to images `[batch, height, width, channels]`.

        Args:
            units: Latents `[batch, size]` in standardized units. The value 1 means that the latent
                is one standard deviation above its mean.
            labels: Labels `[batch]` if the model depends on labels. Default: None.
        """
        rows = _rows(labels)
        latents = np.asarray(units) * self.deviations[rows] + self.means[rows]
        return self._call("decode", "outputs", latents.astype(np.float32), labels)

    def sample_latents(self, seeds: npt.ArrayLike, labels: np.ndarray | None = None) -> np.ndarray:
        """Sample one latent vector per seed from the prior.

        The latents `[batch, size]` are in standardized units. The value 1 means that the latent
        is one standard deviation above its mean.
        """
        latents = self._call("generate", "latents", np.asarray(seeds, np.int64), labels)
        return self._to_units(latents, labels)

    def encode(self, x: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """Encode images to latents `[batch, size]` in standardized units.

        The value 1 means that the latent is one standard deviation above its mean.
        """
        return self._to_units(evaluation.latents(self.model, x, labels), labels)

    def reconstruct(self, x: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """Return the reconstructions of images."""
        return self._call("serving_default", "reconstructions", x, labels)

    def anomaly_score(self, x: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """Return one anomaly score per image, `[batch]`. Higher is more anomalous.

        The score is the output of the exported function `score` of the model. A GAN has no such
        function. For a GAN, the score is −p, where p is the discriminator's probability that the
        image is real.
        """
        if "score" in self.signatures:
            return self._call("score", "score", x, labels)
        return -self._call("discriminate", "probability", x, labels)

    def heat_map(self, x: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray | None:
        """Return one RGB heat map per image, `[batch, height, width, 3]`.

        The brighter a pixel of the heat map is, the more this pixel of the image adds to the
        anomaly score. The result is None if the score of the model is not a sum over the pixels.
        For instance, the score of a GAN is not such a sum.
        """
        if not self.has_heat_maps:
            return None
        return heat_maps(self._call("score", "per_feature", x, labels))

    def describe_score(self, score: float) -> str:
        """Return a sentence that compares an anomaly score with the scores of the test images."""
        share = 100 * np.mean(self.test_scores < score)
        comparison = f"more anomalous than {share:.0f} % of the test images"
        if "score" not in self.signatures:
            return f"Probability of being real {evaluation.format_number(-score)}: {comparison}"
        unit = f" {self.model.loss_unit}" if self.model.loss_unit else ""
        return f"Score {evaluation.format_number(score)}{unit}: {comparison}"

    def _call(
        self, signature: str, output: str, inputs: np.ndarray, labels: np.ndarray | None
    ) -> np.ndarray:
        """Call an exported function of the model batch by batch, and return one of its outputs."""
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
        """Return `(means, standard deviations)` of the latents, each `[num_classes or 1, size]`."""
        num_classes = self.model.num_classes
        prior = self.model.latent_distribution
        if prior is None:
            latents = evaluation.latents(self.model, self.x)
            mean = latents.mean(axis=0)
            deviation = latents.std(axis=0)
        else:
            labels = tf.range(num_classes) if num_classes else None
            moments = mean_and_covariance(prior.distribution(labels))
            mean = moments.mean
            deviation = np.sqrt(np.diagonal(moments.covariance, axis1=-2, axis2=-1))
        shape = (num_classes or 1, mean.shape[-1])
        return np.broadcast_to(mean, shape), np.broadcast_to(deviation, shape)

    def _effects(self, num_samples: int = 4) -> np.ndarray:
        """Return the effect of each latent on the image, `[number of latents]`.

        The effect of a latent is the mean squared difference between two decoded images. In
        standardized units, the latent is −1 for the first image and 1 for the second image. The
        mean is taken over all pixels, and over several random values of the other latents.
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
    """Return the row index of each label in `Exploration.means` and `Exploration.deviations`.

    The two arrays contain the means and the standard deviations of the latents. If the model
    depends on labels, row k of the arrays belongs to label k. Therefore the function returns the
    labels themselves. Without labels, each array has a single row, and the result is `[0]`.
    """
    return np.array([0]) if labels is None else labels


class Canvas:
    """A black image on which the user draws with a soft white pen.

    Args:
        shape: Shape of the image, `(height, width, 1 or 3)`.
        binary: Whether to round each pixel to 0 or 1, for a model of binary images. Default: False.
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
        """Draw a line between two points `(x, y)`, in pixels."""
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
