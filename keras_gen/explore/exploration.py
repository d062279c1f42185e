"""What there is to explore in a trained model of images: what its latents do, and how strange it finds what somebody draws."""

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from PIL import Image, ImageDraw

from keras_gen.evaluation.figures import are_images, grid
from keras_gen.evaluation.latent_space import codes
from keras_gen.evaluation.latent_usage import mean_and_covariance
from keras_gen.evaluation.summary import shown
from keras_gen.models import GenerativeModel

_BATCH = 250  # images at a time
_FINE = 8  # points of the pen in a pixel, on each axis
_PEN = 0.09  # its width in heights of the image, about that of the digits of MNIST


class Exploration:
    """A trained model under sliders. Its latents are counted in units of standard deviations from their means: 0 is the middle.

    Means and deviations are those of the prior, under each label if it depends on them; of an autoencoder without a density, those of
    the codes of the test images. All else is asked of the model's `signatures()`, as of a server. Everything takes a batch, and
    labels `[batch]` if the model is conditional.

    Args:
        model: A compiled and trained keras_gen model of images.
        x: Test images `[n, height, width, 1 or 3]` in [0, 1].
        labels: Their labels `[n]`, for a conditional model.

    Raises:
        ValueError: If the examples are no images.
    """

    def __init__(
        self, model: GenerativeModel, x: np.ndarray, labels: np.ndarray | None = None
    ) -> None:
        if not are_images(x):
            raise ValueError(
                f"Expected a model of images, of shape (height, width, 1 or 3). Received: one of examples of shape {x.shape[1:]}. "
                "`keras-gen evaluate` and `keras-gen sample` take all models."
            )
        self.model, self.x, self.labels = model, np.asarray(x, np.float32), labels
        self.signatures = {
            name: tf.function(function, input_signature=specs)
            for name, (function, specs) in model.signatures().items()
        }
        self.means, self.deviations = self._moments()  # each [num_classes or 1, size]
        self.size = self.means.shape[-1]
        self.order = np.argsort(
            -self._effects(), kind="stable"
        )  # of the latents, first the one that changes the image most
        self.of_test = self.strangeness(self.x, labels)

    def decode(self, units: npt.ArrayLike, labels: np.ndarray | None = None) -> np.ndarray:
        """The images `[batch, height, width, channels]` of latents `[batch, size]` in units."""
        latents = np.asarray(units) * self.deviations[_rows(labels)] + self.means[_rows(labels)]
        return self._ask("decode", "outputs", latents.astype(np.float32), labels)

    def draw(self, seeds: npt.ArrayLike, labels: np.ndarray | None = None) -> np.ndarray:
        """Latents from the prior, `[batch, size]` in units, one a seed."""
        return self._units(
            self._ask("generate", "latents", np.asarray(seeds, np.int64), labels), labels
        )

    def encode(self, x: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """The codes of images, `[batch, size]` in units."""
        return self._units(codes(self.model, x, labels), labels)

    def reconstruct(self, x: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """The reconstructions of images."""
        return self._ask("serving_default", "reconstructions", x, labels)

    def strangeness(self, x: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
        """How strange images are, `[batch]`: the score; of a GAN −probability, which its discriminator gives them to be real."""
        if "score" in self.signatures:
            return self._ask("score", "score", x, labels)
        return -self._ask("discriminate", "probability", x, labels)

    def words(self, strangeness: float) -> str:
        """What a strangeness means, in a sentence that compares it with those of the test images."""
        value = (
            f"Score {shown(strangeness)}"
            if "score" in self.signatures
            else f"Probability to be real {shown(-strangeness)}"
        )
        unit = " nats" if hasattr(self.model, "likelihood") else ""
        return f"{value}{unit}: stranger than {100 * np.mean(self.of_test < strangeness):.0f} % of the test images"

    def _ask(self, signature, output, inputs, labels):
        """One output of a signature, batch by batch."""
        parts = []
        for start in range(0, len(inputs), _BATCH):
            given = [
                values[start : start + _BATCH] for values in (inputs, labels) if values is not None
            ]
            parts.append(self.signatures[signature](*given)[output].numpy())
        return np.concatenate(parts)

    def _units(self, latents, labels):
        return (latents - self.means[_rows(labels)]) / self.deviations[_rows(labels)]

    def _moments(self):
        num_classes = self.model.num_classes
        if self.model.prior is None:
            found = codes(self.model, self.x)
            mean, deviation = found.mean(axis=0), found.std(axis=0)
        else:
            mean, covariance, _ = mean_and_covariance(
                self.model.prior.distribution(tf.range(num_classes) if num_classes else None)
            )
            deviation = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
        return [
            np.broadcast_to(moment, (num_classes or 1, mean.shape[-1]))
            for moment in (mean, deviation)
        ]

    def _effects(self, draws=4):
        """By how much the image changes as a latent goes from −1 to 1, in the mean over draws of the others, `[size]`."""
        units = np.tile(
            np.random.default_rng(0).normal(size=(draws, self.size)), (self.size, 2, 1, 1)
        )
        for latent in range(self.size):
            units[latent, :, :, latent] = [[-1], [1]]
        units = units.reshape(-1, self.size)
        labels = (
            np.arange(len(units)) % draws % self.model.num_classes
            if self.model.num_classes
            else None
        )
        low, high = self.decode(units, labels).reshape(self.size, 2, -1).swapaxes(0, 1)
        return np.square(high - low).mean(axis=1)


def _rows(labels):
    return [0] if labels is None else labels


class Canvas:
    """An image that is drawn on with a pen of soft edges, white on black.

    Args:
        shape: Its shape, `(height, width, 1 or 3)`.
        binary: Whether pixels are 0 or 1 alone, as those of the data, or have greys between.
    """

    def __init__(self, shape: tuple[int, int, int], binary: bool = False) -> None:
        self.shape, self.binary = shape, binary
        self.clear()

    def clear(self) -> None:
        """Make it black."""
        self.show(np.zeros(self.shape))
        self.blank = True

    def show(self, image: np.ndarray) -> None:
        """Put an image there, to be drawn on."""
        self._fine, self.blank = Image.fromarray(grid(image[None], 1, _FINE).squeeze()), False

    def line(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Draw from one point to another, each `(x, y)` in pixels."""
        ends, radius = _FINE * np.array([start, end]), _FINE * _PEN * self.shape[0] / 2
        pen, white, self.blank = ImageDraw.Draw(self._fine), (255,) * self.shape[-1], False
        pen.line(ends.ravel().tolist(), white, round(2 * radius))
        for point in ends:
            pen.ellipse((*(point - radius), *(point + radius)), white)

    @property
    def image(self) -> np.ndarray:
        """What is there, float32 in [0, 1]."""
        image = np.asarray(self._fine.reduce(_FINE), np.float32).reshape(self.shape) / 255
        return np.round(image) if self.binary else image
