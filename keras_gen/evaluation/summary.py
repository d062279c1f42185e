"""A table with all scores of a trained model, and figures of its latent space."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import TypeGuard

import numpy as np
import tensorflow as tf

from keras_gen._files import PathLike, atomic_write
from keras_gen._typing import TensorLike
from keras_gen.evaluation.features import Extractor, mnist_classifier
from keras_gen.evaluation.figures import are_images, save_grid, save_scatter
from keras_gen.evaluation.kl_check import FEWEST_EXAMPLES, KLCheck, check_kl, has_closed_form_kl
from keras_gen.evaluation.latent_space import interpolate, latents, traverse, tsne
from keras_gen.evaluation.latent_usage import latent_report
from keras_gen.evaluation.likelihood import log_likelihood
from keras_gen.evaluation.quality import SampleQuality, sample_quality
from keras_gen.models import VAE, GenerativeModel

_PLOTTED = 2000  # largest number of examples that `save_latent_figures` uses
_INTERPOLATIONS = 5
_QUALITY_NAMES = {
    "fid": "FID",
    "real_fid": "FID of real images",
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
}


@dataclasses.dataclass(frozen=True)
class Score:
    """A number that measures a model, with its unit, its standard error and a description."""

    name: str
    """Name of the score."""
    value: float
    """The number."""
    unit: str = ""
    """Unit of the number, such as `"nats"`."""
    error: float | None = None
    """Standard error of the number, or None if it is unknown."""
    protocol: str = ""
    """Description of how the number was computed, such as the data and the number of samples."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The scores of a model, and sentences that comment on the model and its scores.

    `print` shows a table of the scores, followed by the comments.
    """

    scores: list[Score]
    """The scores."""
    comments: list[str]
    """Sentences about the model and its scores."""

    def __str__(self) -> str:
        """Return a table of the scores, followed by the comments."""
        rows = [
            (
                score.name,
                format_number(score.value),
                "" if score.error is None else f"± {format_number(score.error)}",
                score.unit,
                score.protocol,
            )
            for score in self.scores
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            f"{name:<{widths[0]}}  {value:>{widths[1]}} {error:<{widths[2]}} {unit:<{widths[3]}}  "
            f"{protocol}"
            for name, value, error, unit, protocol in rows
        ]
        return "\n".join([*(line.rstrip() for line in lines), "", *self.comments])

    def save(self, path: PathLike) -> None:
        """Write the scores and the comments of the evaluation to a JSON file.

        The file has two keys: `scores` contains the scores, and `words` contains the comments.

        Args:
            path: Path of the file. If writing fails, an existing file stays unchanged.
        """
        # The key is not `comments`, because version 0.1.0 of keras_gen reads `words`.
        scores = [dataclasses.asdict(score) for score in self.scores]
        content = {"scores": scores, "words": self.comments}
        with atomic_write(path) as unfinished:
            unfinished.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def format_number(value: float) -> str:
    """Return a number as text.

    If the absolute value is below 1,000, the text has at most four significant digits. Otherwise
    the number is rounded to an integer, and commas separate the thousands.

    Example:

    >>> format_number(3.14159), format_number(1234567)
    ('3.142', '1,234,567')
    """
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def summarize(
    model: GenerativeModel,
    test: TensorLike | tf.data.Dataset,
    labels: TensorLike | None = None,
    train: np.ndarray | None = None,
    num_samples: int = 250,
    extractor: Extractor | None = None,
    seed: int = 0,
    real: np.ndarray | None = None,
    split: str = "test",
) -> Evaluation:
    """Compute all scores that apply to a trained model, on test data.

    For every model, the scores include the losses whose names are in the attribute
    `evaluated_losses` of the model, and the values whose names are in `evaluated_metrics`, such as
    the `perplexity` of a VQ-VAE. Losses that are 0 are omitted. For a VAE, the function adds the
    scores of `log_likelihood`, and the text of `latent_report` as a comment. It also adds the
    scores of `check_kl` if there are at least 100 test examples, and if the KL divergence has a
    closed form. With an extractor of image features, the function adds the scores of
    `sample_quality`, which compare samples with real images. These scores are omitted if the model
    has no prior and no density fitted to its latents. They are also omitted for a model of a table.

    Args:
        model: A compiled and trained keras_gen model.
        test: Test examples `[n, *data_shape]`, at least ten, or a `tf.data.Dataset` of batches of
            such examples.
        labels: Labels `[n]` if the model is conditional, otherwise None.
        train: Other real images, for instance training images. Pass as many images as `real`
            contains. The score "FID of real images" is the Fréchet distance between `train` and
            `real`. If `train` is None, this score is the distance between two halves of `real`.
        num_samples: Number of latent samples per example for the estimate of log p(x). Default:
            250.
        extractor: The network that computes features for `sample_quality`. For grey images of 28×28
            pixels, the default is `mnist_classifier()`. For other data, there is no default.
            Without an extractor, the scores of `sample_quality` are omitted.
        seed: Seed of all samples. Default: 0.
        real: Real images that are compared with samples. Default: `test`. If the model was trained
            on binarized images, its samples are probabilities from 0 to 1. In this case, pass the
            grey images from which the binarized images were made.
        split: Name of the data split that contains `real`. The attribute `protocol` of the scores
            contains this name. Default: `"test"`.

    Returns:
        An `Evaluation` with the scores and the comments.

    Raises:
        ValueError: If there are fewer than ten examples, or if the examples have the wrong shape or
            values out of range.

    Example:

    >>> from keras_gen import RegularizedAutoencoder, networks
    >>> autoencoder = RegularizedAutoencoder(networks.mlp((4,), (2,)), networks.mlp((2,), (4,)))
    >>> autoencoder.compile("adam", loss="mse")
    >>> [score.name for score in summarize(autoencoder, np.eye(10, 4)).scores]
    ['loss', 'reconstruction_loss']
    """
    test, labels = model.data_check.examples(test, labels, at_least=10)
    scores = _loss_scores(model, test, labels)
    comments = []
    if _is_vae(model):
        scores += _likelihood_scores(model, test, labels, num_samples, seed)
        comments.append(str(latent_report(model, test, labels)))
        if len(test) >= FEWEST_EXAMPLES and has_closed_form_kl(model, test, labels):
            check = check_kl(model, test, labels, seed=seed)
            scores += _kl_scores(check)
            comments.append(str(check))
    if extractor is None and model.data_shape == (28, 28, 1):
        extractor = mnist_classifier()
    if model.columns:
        pass  # `evaluation.tables` compares generated rows with real rows
    elif extractor is None:
        comments.append(
            "The samples were not compared with real examples. Only grey images of 28×28 pixels "
            "have a default extractor of features. Pass a network for these images as `extractor`, "
            "or `--extractor` on the command line. scripts/train_extractor.py trains one."
        )
    elif model.latent_distribution is None:
        comments.append(
            "There are no samples to evaluate: the model has no density of its latents. "
            f"Call {model.fits_prior_with} to fit a density."
        )
    else:
        images = test if real is None else real
        quality = sample_quality(model, images, train, extractor, split, seed)
        scores += _quality_scores(quality)
    return Evaluation(scores, comments)


def _is_vae(model: GenerativeModel) -> TypeGuard[VAE]:
    """Return whether a model is a VAE, the only kind of model with a posterior and log p(x)."""
    return model.has_log_likelihood


def _loss_scores(model: GenerativeModel, x: np.ndarray, labels: np.ndarray | None) -> list[Score]:
    """Return one score per name in `evaluated_losses` and `evaluated_metrics` of the model.

    Losses that are 0 are omitted.
    """
    if not (model.evaluated_losses or model.evaluated_metrics):
        return []
    logs = model.evaluate(x, labels, verbose=0, return_dict=True)
    protocol = f"{len(x):,} test examples"
    scores = [
        Score(name, logs[name], model.loss_unit, protocol=protocol)
        for name in model.evaluated_losses
        if logs[name]
    ]
    scores += [Score(name, logs[name], protocol=protocol) for name in model.evaluated_metrics]
    return scores


def _likelihood_scores(
    vae: VAE,
    x: np.ndarray,
    labels: np.ndarray | None,
    num_samples: int,
    seed: int,
) -> list[Score]:
    """Return a score for log p(x) and, for discrete data, a score for the bits per dimension."""
    found = log_likelihood(
        vae, x, labels, num_samples, seed=seed, verbose=1 if sys.stdout.isatty() else 0
    )
    if found.measure == "none":
        name = "bound (grey values: no likelihood)"
    elif vae.num_classes:
        name = "log p(x | y)"
    else:
        name = "log p(x)"
    protocol = (
        f"{len(x):,} test examples, {num_samples:,} samples each "
        f"(± {found.standard_error:.2g} from the samples)"
    )
    scores = [Score(name, found.mean, "nats", found.standard_error_of_data, protocol)]
    if found.bits_per_dimension is not None:
        bits = Score("bits per dimension", found.bits_per_dimension, "bits", protocol=protocol)
        scores.append(bits)
    return scores


def _kl_scores(check: KLCheck) -> list[Score]:
    """Return the numbers of a `KLCheck` as scores."""
    examples = f"{check.num_examples:,} test examples"
    samples = f"{examples}, {check.num_samples} samples each"
    difference = f"{samples}, difference from the closed form in standard errors"
    return [
        Score("KL, closed form", check.analytic, "nats", protocol=examples),
        Score("KL, sampled", check.sampled, "nats", protocol=samples),
        Score("KL, z-score", check.z_score, protocol=difference),
        Score("KL, z-score of gradients", check.gradient_z_score, protocol=difference),
    ]


def _quality_scores(quality: SampleQuality) -> list[Score]:
    """Return the numbers of a `SampleQuality` as scores."""
    protocol = ", ".join(
        f"{name} {value}" for name, value in quality.protocol.items() if name != "real_fid"
    )
    protocols = {"real_fid": str(quality.protocol["real_fid"])}
    errors = {"kid": quality.kid_error}
    return [
        Score(
            name,
            quality.scores[field],
            error=errors.get(field),
            protocol=protocols.get(field, protocol),
        )
        for field, name in _QUALITY_NAMES.items()
    ]


def save_latent_figures(
    model: GenerativeModel,
    folder: PathLike,
    x: np.ndarray,
    labels: np.ndarray | None = None,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> None:
    """Write figures of the latent space as PNG files.

    For a model with an encoder, the figures use the latents of the examples. `codes.png` is a t-SNE
    plot of these latents. For a model without an encoder, the figures use samples of the prior, and
    `codes.png` is not written. `traversals.png` and `interpolations.png` show images that are
    decoded from latents. These two files are written only if the data are images, and if the
    latents are real numbers.

    Args:
        model: A trained keras_gen model.
        folder: Folder of the files.
        x: Examples `[n, *data_shape]`, at least ten. Only the first 2,000 are used.
        labels: Labels `[n]`. A conditional model needs labels. For other models, labels only give
            the points of the t-SNE plot their colors.
        seed: Seed of t-SNE or, for a model without an encoder, of the samples of the prior.
            Default: 0.
        names: Name of each class for the legend of the t-SNE plot, by label. Default: the labels.

    Raises:
        ValueError: If the model has no encoder, and neither a prior nor a density fitted to its
            latents. If the examples or the labels are invalid.
    """
    folder = pathlib.Path(folder)
    x = np.asarray(x[:_PLOTTED], np.float32)
    labels = None if labels is None else np.asarray(labels[:_PLOTTED])
    condition = labels if model.num_classes else None
    if model.has_encoder:
        found = latents(model, x, condition)
        save_scatter(folder / "codes.png", tsne(found, seed), labels, names)
    else:
        found = _prior_samples(model, len(x), seed, condition)
    if not are_images(x) or not model.has_continuous_latents:
        return
    traversed = found if condition is None else found[condition == condition[0]]
    label = None if condition is None else condition[0]
    _save_rows(folder / "traversals.png", traverse(model, traversed, condition=label))
    interpolations = interpolate(
        model,
        start=found[:_INTERPOLATIONS],
        end=found[_INTERPOLATIONS : 2 * _INTERPOLATIONS],
        condition=None if condition is None else condition[:_INTERPOLATIONS],
        spherical=not model.has_encoder,
    )
    _save_rows(folder / "interpolations.png", interpolations)


def _prior_samples(
    model: GenerativeModel, num_samples: int, seed: int, condition: np.ndarray | None
) -> np.ndarray:
    """Sample latents `[num_samples, n]` from the prior of a model.

    If a density was fitted to the latents after training, the function samples from this density
    instead. If there is neither a density nor a prior, it raises a `ValueError`. Each sample has
    its own seed.
    """
    prior = model.latent_distribution
    if prior is None:
        raise ValueError(
            f"The model must have a prior. Received: {model.name}, without prior. Call "
            f"{model.fits_prior_with} after the training."
        )
    seeds = np.arange(seed, seed + num_samples)
    given = () if condition is None else (condition,)
    return np.asarray(prior.sample_rows(seeds, *given))


def _save_rows(path: pathlib.Path, images: np.ndarray) -> None:
    """Write images `[rows, columns, height, width, channels]` as a grid in a PNG file."""
    save_grid(path, images.reshape(-1, *images.shape[2:]), columns=images.shape[1])
