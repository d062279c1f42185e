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

from keras_gen.models import VAE
from keras_gen.serialization import checked_count
from keras_gen.typing import TensorLike

_MEMORY = 2**26  # bytes of one chunk of the decoder's outputs
_AT_ONCE = 50  # examples from one word of progress to the next
_CURVE = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)


@dataclasses.dataclass(frozen=True)
class LogLikelihood:
    """log p(x) of examples in nats, estimated. `print` shows it in words."""

    values: np.ndarray
    """log p(x) of each example, `[n]`."""
    variances: np.ndarray
    """Variance of each value over the draws, `[n]`, by the delta method: 1/ESS − 1/K."""
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
        """Of the mean, from the draws: how far it may lie from that of infinitely many draws, for these examples."""
        return math.sqrt(np.sum(self.variances)) / len(self.values)

    @property
    def standard_error_of_data(self) -> float:
        """Of the mean, from the examples: how far it may lie from that of infinitely many examples."""
        return float(np.std(self.values, ddof=1) / math.sqrt(len(self.values))) if len(self.values) > 1 else math.nan

    @property
    def bias(self) -> float:
        """How much too low the mean is expected to be, in nats: the logarithm of an average is below the average logarithm."""
        return float(np.mean(self.variances) / 2)

    @property
    def interval(self) -> tuple[float, float]:
        """`(low, high)` that holds the exact mean log p(x) of these examples in 95 of 100 cases, the bias taken into account."""
        return self.mean - 1.96 * self.standard_error, self.mean + self.bias + 1.96 * self.standard_error

    @property
    def bits_per_dimension(self) -> float | None:
        """−log₂ p(x) over the number of dimensions, for probabilities of discrete data; None for a density."""
        return -self.mean / (self.data_size * math.log(2)) if self.measure == "probability" else None

    def __str__(self) -> str:
        """All of it, in five lines of words."""
        count = max(self.curve)
        lines = [
            f"log p(x) = {self.mean:.2f} nats, the mean of {len(self.values):,} examples with {count:,} draws each",
            f"  ± {self.standard_error:.3f} from the draws (95%: {self.interval[0]:.2f} to {self.interval[1]:.2f}), "
            f"± {self.standard_error_of_data:.2f} from the examples",
            f"  effective sample size: median {np.median(self.effective_sample_sizes):.0f}, least "
            f"{np.min(self.effective_sample_sizes):.1f} of {count:,}",
            "  after fewer draws: " + ", ".join(f"{draws:,}: {value:.2f}" for draws, value in self.curve.items()),
        ]
        if self.bits_per_dimension is not None:
            lines.append(f"  {self.bits_per_dimension:.3f} bits per dimension")
        if self.measure == "none":
            lines.append("  no likelihood: a cross-entropy on grey values; binarize the data to report one")
        return "\n".join(lines)


def log_likelihood(
    vae: VAE,
    x: TensorLike,
    condition: TensorLike | None = None,
    num_samples: int = 5000,
    seed: int = 0,
    memory: int = _MEMORY,
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
        memory: Bytes that one chunk of the decoder's outputs may take; the work is cut accordingly.
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
    num_samples = checked_count(None, "num_samples", num_samples)
    x, condition = vae.data_check.examples(x, condition)
    measure = _measure(vae, x)
    draws = min(num_samples, max(1, memory // (4 * math.prod(vae.likelihood.parameter_shape))))
    counts = [count for count in _CURVE if count < num_samples] + [num_samples]
    parts, weigh = [], tf.function(functools.partial(_log_weights, vae), reduce_retracing=True)
    progress = keras.utils.Progbar(len(x), verbose=verbose, unit_name="example")
    for start in range(0, len(x), _AT_ONCE):
        some = slice(start, start + _AT_ONCE)
        labels = None if condition is None else tf.constant(condition[some])
        log_weights = [
            weigh(tf.constant(x[some]), labels, min(draws, num_samples - first), tf.constant((seed, first)), tf.constant(start))
            for first in range(0, num_samples, draws)
        ]
        parts.append(_summary(tf.concat(log_weights, axis=1), counts))
        progress.update(start + len(x[some]))
    values, elbos, effective_sample_sizes, curve = (np.concatenate(part, axis=-1) for part in zip(*parts, strict=True))
    return LogLikelihood(
        values,
        np.maximum(1 / effective_sample_sizes - 1 / num_samples, 0.0),
        elbos,
        effective_sample_sizes,
        dict(zip(counts, curve.mean(axis=1).tolist(), strict=True)),
        math.prod(x.shape[1:]),
        measure,
    )


def _log_weights(vae, x, labels, draws, seed, start):
    """`[batch, draws]`, one example after the other, each with noise of its own whatever else is in the batch."""

    def of_one(number):
        label = None if labels is None else labels[number, None]
        noise = tf.random.experimental.stateless_fold_in(seed, start + number)
        return vae.log_weights(x[number, None], label, draws, noise)[:, 0]

    return tf.map_fn(of_one, tf.range(len(x)), fn_output_signature=tf.float32)


def _summary(log_weights, counts):
    """log p(x), ELBO and ESS of each example, and log p(x) after each of `counts` draws, from log-weights `[batch, samples]`."""
    log_weights = np.asarray(log_weights, np.float64)
    largest = log_weights.max(axis=1, keepdims=True)
    weights = np.exp(log_weights - largest)
    sums = np.cumsum(weights, axis=1)
    curve = np.stack([largest[:, 0] + np.log(sums[:, count - 1] / count) for count in counts])
    return curve[-1], log_weights.mean(axis=1), sums[:, -1] ** 2 / np.sum(weights**2, axis=1), curve


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
