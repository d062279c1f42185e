"""All that can be said of a trained model in numbers, in one table, and its latents in pictures."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys

import numpy as np
import tensorflow as tf

from keras_gen._files import PathLike, atomic_write
from keras_gen._typing import TensorLike
from keras_gen.evaluation.features import Extractor, mnist_classifier
from keras_gen.evaluation.figures import are_images, save_grid, save_map
from keras_gen.evaluation.latent_space import codes, interpolate, map_codes, traverse
from keras_gen.evaluation.latent_usage import latent_report
from keras_gen.evaluation.likelihood import log_likelihood
from keras_gen.evaluation.quality import sample_quality
from keras_gen.models import GAN, VAE, GenerativeModel

_MAPPED = 2000  # codes on the map at most
_ROWS = 5  # interpolations


@dataclasses.dataclass(frozen=True)
class Score:
    """A number, and what it was made from."""

    name: str
    """What it is."""
    value: float
    """The number."""
    unit: str = ""
    """Its unit."""
    error: float | None = None
    """Its standard error, if known."""
    protocol: str = ""
    """From what and how."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The scores of a model and what they mean. `print` shows a table."""

    scores: list[Score]
    """The numbers."""
    words: list[str]
    """Sentences about them."""

    def __str__(self) -> str:
        """A table, and the sentences below it."""
        rows = [
            (
                score.name,
                shown(score.value),
                "± " + shown(score.error) if score.error is not None else "",
                score.unit,
                score.protocol,
            )
            for score in self.scores
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            f"{name:<{widths[0]}}  {value:>{widths[1]}} {error:<{widths[2]}} {unit:<{widths[3]}}  {protocol}"
            for name, value, error, unit, protocol in rows
        ]
        return "\n".join([*(line.rstrip() for line in lines), "", *self.words])

    def save(self, path: PathLike) -> None:
        """Write it as JSON."""
        with atomic_write(path) as unfinished:
            unfinished.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")


def shown(value: float) -> str:
    """A number with four digits."""
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def summarize(
    model: GenerativeModel,
    test: TensorLike | tf.data.Dataset,
    labels: TensorLike | None = None,
    train: np.ndarray | None = None,
    num_samples: int = 500,
    extractor: Extractor | None = None,
    seed: int = 0,
    real: np.ndarray | None = None,
    split: str = "test",
) -> Evaluation:
    """Evaluate a trained model on test data: losses, log p(x) and latents of a VAE, and samples where there is an extractor for them.

    Args:
        model: A compiled and trained keras_gen model.
        test: Test examples `[n, *data_shape]`, at least ten.
        labels: Their labels `[n]` for a conditional model.
        train: As many other real examples, for the floor of the FID; the halves of the real ones are compared if None.
        num_samples: Draws an example for log p(x).
        extractor: `Extractor` for the quality of samples; for images of 28×28 grey pixels the bundled classifier of digits if None.
        seed: Seed of samples and draws.
        real: Images that samples are compared with, where they are not `test`: the grey ones of binarized pixels, whose probabilities
            a model generates.
        split: What these are, for the protocol.

    Returns:
        `Evaluation`.

    Raises:
        ValueError: If there are fewer than ten examples, or they do not fit the model.

    Example:

    >>> from keras_gen import RegularizedAutoencoder, networks
    >>> autoencoder = RegularizedAutoencoder(networks.mlp((4,), (2,)), networks.mlp((2,), (4,)))
    >>> autoencoder.compile("adam", loss="mse")
    >>> [score.name for score in summarize(autoencoder, np.eye(10, 4)).scores]
    ['loss', 'reconstruction_loss']
    """
    test, labels = model.data_check.examples(test, labels, at_least=10)
    of_test = f"{len(test):,} test examples"
    scores, words = [], []
    if not isinstance(model, GAN):  # whose losses say nothing by themselves
        losses = model.evaluate(test, labels, verbose=0, return_dict=True)
        names, unit = (
            (model.loss_parts, "nats")
            if isinstance(model, VAE)
            else (("loss", *model.loss_parts), "")
        )
        scores += [
            Score(name, losses[name], unit, protocol=of_test) for name in names if losses[name]
        ]
    if isinstance(model, VAE):
        scores, words = (
            scores + _of_likelihood(model, test, labels, num_samples, seed),
            [str(latent_report(model, test, labels))],
        )
    if extractor is None and model.data_shape == (28, 28, 1):
        extractor = mnist_classifier()
    if extractor and model.prior:
        scores += _of_samples(
            sample_quality(model, test if real is None else real, train, extractor, split, seed)
        )
    elif extractor:
        words.append(
            "There are no samples: the autoencoder has no density of its codes. fit_latent_density makes one."
        )
    else:
        words.append(
            "The samples were not compared with real ones: there is an extractor of features for images of 28×28 grey pixels alone. "
            "evaluation.sample_quality takes one of your own."
        )
    return Evaluation(scores, words)


def _of_likelihood(vae, x, labels, num_samples, seed):
    """The scores of `log_likelihood`."""
    found = log_likelihood(
        vae, x, labels, num_samples, seed=seed, verbose=1 if sys.stdout.isatty() else 0
    )
    name = (
        "bound (grey values: no likelihood)"
        if found.measure == "none"
        else "log p(x | y)"
        if vae.num_classes
        else "log p(x)"
    )
    of_draws = f"{len(x):,} test examples, {num_samples:,} draws each (± {found.standard_error:.2g} from the draws)"
    scores = [Score(name, found.mean, "nats", found.standard_error_of_data, of_draws)]
    if found.bits_per_dimension is not None:
        scores.append(
            Score("bits per dimension", found.bits_per_dimension, "bits", protocol=of_draws)
        )
    return scores


def _of_samples(quality):
    """The scores of `sample_quality`, under the names of its fields."""
    protocol = ", ".join(
        f"{name} {value}" for name, value in quality.protocol.items() if name != "floor"
    )
    names = {
        "fid": "FID",
        "floor": "FID of real images",
        "kid": "KID",
        "precision": "precision",
        "recall": "recall",
    }
    names |= {"density": "density", "coverage": "coverage"}
    errors = {"kid": quality.kid_error}
    protocols = {"floor": quality.protocol["floor"]}
    return [
        Score(
            name,
            quality.scores[field],
            error=errors.get(field),
            protocol=protocols.get(field, protocol),
        )
        for field, name in names.items()
    ]


def draw_latents(
    model: GenerativeModel,
    folder: PathLike,
    x: np.ndarray,
    labels: np.ndarray | None = None,
    seed: int = 0,
) -> None:
    """Write what the latents of a model do as PNGs: `traversals`, `interpolations` and, if it encodes, `codes`, a map of them.

    Args:
        model: A trained keras_gen model of images, or of rows, of which there is the map alone.
        folder: Where the pictures go.
        x: Examples `[n, *data_shape]`, at least ten.
        labels: Their labels `[n]`: for a conditional model, and to colour the map.
        seed: Seed of a GAN's draws.
    """
    folder, x = pathlib.Path(folder), np.asarray(x[:_MAPPED], np.float32)
    labels = None if labels is None else np.asarray(labels[:_MAPPED])
    given = labels if model.num_classes else None
    if isinstance(model, GAN):
        found = np.asarray(
            model.prior.sample_rows(
                np.arange(seed, seed + len(x)), *([] if given is None else [given])
            )
        )
    else:
        found = codes(model, x, given)
        save_map(folder / "codes.png", map_codes(found, seed), labels)
    if not are_images(x):
        return
    label = None if given is None else given[0]
    rows = {
        "traversals": traverse(
            model, found if given is None else found[given == label], condition=label
        ),
        "interpolations": interpolate(
            model,
            found[:_ROWS],
            found[_ROWS : 2 * _ROWS],
            condition=None if given is None else given[:_ROWS],
            spherical=isinstance(model, GAN),
        ),
    }
    for name, images in rows.items():
        save_grid(
            folder / f"{name}.png", images.reshape(-1, *images.shape[2:]), columns=images.shape[1]
        )
