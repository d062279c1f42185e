"""log p(x) of a VAE by importance sampling, with its error."""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._typing import TensorLike
from keras_gen.models import VAE

MEMORY = 2**26  # bytes of one chunk of what the decoder's widest layer puts out
_AT_ONCE = 50  # examples from one word of progress to the next
_SLOWEST = 1.1  # how much less a doubling of the draws brings than the one before, at least
_CURVE = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)


@dataclasses.dataclass(frozen=True)
class LogLikelihood:
    """log p(x) of examples in nats, estimated. `print` shows it in words."""

    values: np.ndarray
    """log p(x) of each example, `[n]`."""
    variances: np.ndarray
    """Variance of each value over the draws, `[n]`, by the delta method: 1/ESS − 1/K; NaN of one draw."""
    halved: np.ndarray
    """log p(x) from half of the draws and from a quarter of them, `[n, 2]`, each the mean over such parts; NaN if they are too few."""
    elbos: np.ndarray
    """ELBO of each example, the mean of the log-weights, `[n]`."""
    effective_sample_sizes: np.ndarray
    """ESS of each example, `[n]`, between 1 and K: how many draws from p(z | x) would do as well."""
    curve: dict[int, float]
    """The mean over the examples after fewer draws, by their number."""
    data_size: int
    """Numbers an example."""
    measure: Literal["probability", "density", "none"]
    """What p(x) is: `probability` of discrete data or `density`; `none` if the loss is no likelihood of these data."""

    @property
    def mean(self) -> float:
        """Mean log p(x) over the examples, in nats."""
        return float(np.mean(self.values))

    @property
    def standard_error(self) -> float:
        """Of the mean, from the draws: how far it may lie from its expectation, a bound, for these examples."""
        return math.sqrt(np.sum(self.variances)) / len(self.values)

    @property
    def standard_error_of_data(self) -> float:
        """Of the mean, from the examples: how far it may lie from that of infinitely many examples."""
        return (
            float(np.std(self.values, ddof=1) / math.sqrt(len(self.values)))
            if len(self.values) > 1
            else math.nan
        )

    @property
    def bias(self) -> float:
        """How much too low the mean is expected to be, in nats: the logarithm of an average is below the average logarithm.

        By how it rose from a quarter of the draws to half of them and to all, as if it went on like that (Richardson's extrapolation
        with the order of convergence from the same three numbers, 1/K at best). The delta method, half the variance, would say too
        little where few draws have most of the weight.
        """
        return self._bias_and_error[0]

    @property
    def interval(self) -> tuple[float, float]:
        """`(low, high)` that holds the exact mean log p(x) of these examples in 95 of 100 cases, the bias taken into account."""
        bias, error = self._bias_and_error
        return self.mean - 1.96 * self.standard_error, self.mean + bias + 1.96 * math.hypot(
            self.standard_error, error
        )

    @property
    def _bias_and_error(self):
        """The bias and its standard error, by the influence of each example."""
        rises, before = self.values - self.halved[:, 0], self.halved[:, 0] - self.halved[:, 1]
        rise = np.mean(rises)
        ratio = np.mean(before) / max(rise, 1e-12)
        slowed = np.clip(ratio, _SLOWEST, 2) - 1
        influences = rises / slowed
        if slowed == ratio - 1:
            influences = influences + (ratio * rises - before) / slowed**2
        error = (
            np.std(influences, ddof=1) / math.sqrt(len(rises)) if len(rises) > 1 else rise / slowed
        )
        return float(rise / slowed), float(error)

    @property
    def bits_per_dimension(self) -> float | None:
        """−log₂ p(x) over the number of dimensions, for probabilities of discrete data; None for a density."""
        return (
            -self.mean / (self.data_size * math.log(2)) if self.measure == "probability" else None
        )

    def __str__(self) -> str:
        """All of it, in five lines of words."""
        count = max(self.curve)
        lines = [
            f"log p(x) = {self.mean:.2f} nats, the mean of {len(self.values):,} examples with {count:,} draws each",
            f"  ± {self.standard_error:.3f} from the draws (95%: {self.interval[0]:.2f} to {self.interval[1]:.2f}), "
            f"± {self.standard_error_of_data:.2f} from the examples",
            f"  effective sample size: median {np.median(self.effective_sample_sizes):.0f}, least "
            f"{np.min(self.effective_sample_sizes):.1f} of {count:,}",
            "  after fewer draws: "
            + ", ".join(f"{draws:,}: {value:.2f}" for draws, value in self.curve.items()),
        ]
        if self.bits_per_dimension is not None:
            lines.append(f"  {self.bits_per_dimension:.3f} bits per dimension")
        if self.measure == "none":
            lines.append(
                "  no likelihood: a cross-entropy on grey values; binarize the data to report one"
            )
        return "\n".join(lines)


def log_likelihood(
    vae: VAE,
    x: TensorLike | tf.data.Dataset,
    condition: TensorLike | None = None,
    num_samples: int = 5000,
    seed: int = 0,
    memory: int = MEMORY,
    verbose: Literal[0, 1] = 1,
) -> LogLikelihood:
    """log p(x) ≈ log 1/K Σ_k p(x | z_k) p(z_k) / q(z_k | x) with z_k ~ q(z | x) (Burda et al. 2016, arXiv:1509.00519, section 5).

    In expectation it is below log p(x), and the nearer the larger K is.

    Args:
        vae: A `VAE`.
        x: Examples `[n, *data_shape]`.
        condition: Labels `[n]` for a conditional model: log p(x | y).
        num_samples: K, draws of z an example.
        seed: Seed of the draws.
        memory: Bytes that the widest layer of the decoder may put out for a chunk of the draws; a few chunks are at work at once.
        verbose: 1 for a progress bar, 0 for silence.

    Returns:
        `LogLikelihood`.

    Raises:
        ValueError: If the examples are of another shape, out of range, not finite or none, or `num_samples` is no count.

    Example:

    >>> from keras_gen import VAE, distributions, networks
    >>> posterior, likelihood = distributions.DiagonalNormal(2), distributions.Bernoulli((4,))
    >>> vae = VAE(networks.mlp((4,), (4,)), networks.mlp((2,), (4,)), posterior, likelihood)
    >>> estimate = log_likelihood(vae, np.eye(4, dtype="float32"), num_samples=100, verbose=0)
    >>> estimate.values.shape, list(estimate.curve)
    ((4,), [1, 2, 5, 10, 20, 50, 100])
    """
    num_samples = positive_int(None, "num_samples", num_samples)
    x, condition = vae.data_check.examples(x, condition)
    measure = _measure(vae, x)
    draws = min(num_samples, draws_at_once(vae.decoder, memory))
    counts = [count for count in _CURVE if count < num_samples] + [num_samples]
    parts, weigh = [], tf.function(functools.partial(_log_weights, vae), reduce_retracing=True)
    progress = keras.utils.Progbar(len(x), verbose=verbose, unit_name="example")
    for start in range(0, len(x), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        labels = None if condition is None else tf.constant(condition[some])
        log_weights = [
            weigh(
                tf.constant(x[some]),
                labels,
                min(draws, num_samples - first),
                tf.constant((seed, first)),
                tf.constant(start),
            )
            for first in range(0, num_samples, draws)
        ]
        parts.append(_summary(tf.concat(log_weights, axis=1), counts))
        progress.update(start + len(x[some]))
    values, halved, elbos, effective_sample_sizes, curve = (
        np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)
    )
    return LogLikelihood(
        values,
        np.maximum(
            1 / effective_sample_sizes - 1 / num_samples, 0.0 if num_samples > 1 else np.nan
        ),
        halved.T,
        elbos,
        effective_sample_sizes,
        dict(zip(counts, curve.mean(axis=1).tolist(), strict=True)),
        math.prod(x.shape[1:]),
        measure,
    )


def draws_at_once(decoder: keras.Model, memory: int = MEMORY, rows: int = 1) -> int:
    """How many draws the widest layer of a decoder can take for each of so many rows within so many bytes; 1 at least."""
    shapes = [layer.output.shape for layer in decoder.layers if hasattr(layer, "output")] + [
        decoder.output_shape
    ]
    widest = max(math.prod(shape[1:]) for shape in shapes)
    return max(1, memory // (4 * widest * rows))


def _log_weights(vae, x, labels, draws, seed, start):
    """`[batch, draws]`, one example after the other, each with noise of its own whatever else is in the batch."""

    def of_one(number):
        label = None if labels is None else labels[number, None]
        noise = tf.random.experimental.stateless_fold_in(seed, start + number)
        return vae.log_weights(x[number, None], label, draws, noise)[:, 0]

    return tf.map_fn(of_one, tf.range(len(x)), fn_output_signature=tf.float32)


def _summary(log_weights, counts):
    """What a `LogLikelihood` has of each example, and log p(x) after each of `counts` draws, of log-weights `[batch, samples]`."""
    log_weights = np.asarray(log_weights, np.float64)
    largest = log_weights.max(axis=1, keepdims=True)
    weights = np.exp(log_weights - largest)
    sums = np.cumsum(weights, axis=1)
    curve = np.stack([largest[:, 0] + np.log(sums[:, count - 1] / count) for count in counts])
    halved = []
    for parts in (2, 4):
        size = weights.shape[1] // parts
        means = (
            weights[:, : parts * size].reshape(len(weights), parts, -1).mean(axis=2)
            if size
            else np.full((len(weights), 1), np.nan)
        )
        halved.append(
            largest[:, 0] + np.log(np.maximum(means, np.finfo(np.float64).tiny)).mean(axis=1)
        )
    return (
        curve[-1],
        np.stack(halved),
        log_weights.mean(axis=1),
        sums[:, -1] ** 2 / np.sum(weights**2, axis=1),
        curve,
    )


def _measure(vae, x):
    """What p(x) is of these data."""
    levels = vae.likelihood.levels
    if levels is None:
        return "density"
    if np.allclose(x * (levels - 1), np.round(x * (levels - 1)), atol=1e-3):
        return "probability"
    warnings.warn(
        f"{vae.likelihood} of data between its {levels} levels: a cross-entropy on grey values is not a likelihood. Binarize the data "
        "(data.load(..., binarize=True)), or take the number as a loss.",
        stacklevel=3,
    )
    return "none"
