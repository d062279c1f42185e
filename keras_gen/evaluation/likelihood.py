"""Estimate log p(x) of a VAE by importance sampling, and the errors of these estimates."""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from collections.abc import Sequence
from typing import Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._typing import TensorLike
from keras_gen.models import VAE

MEMORY = 2**26
"""Default limit, in bytes, on the output of the decoder's widest layer. Samples are decoded in
chunks, so that this output does not exceed the limit."""

_EXAMPLES_PER_UPDATE = 50  # number of examples between two updates of the progress bar
_SMALLEST_RATIO = 1.1  # lower limit on first gain / second gain when the samples are doubled twice
_SAMPLE_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)


@dataclasses.dataclass(frozen=True)
class LogLikelihood:
    """Estimates of log p(x) in nats. Higher values are better. `print` shows a summary.

    K is the number of samples of q(z | x) per example. The effective sample size (ESS) of an
    example is the number of samples of p(z | x) that would give the same accuracy as the K samples.
    """

    values: np.ndarray
    """Estimate of log p(x) per example, `[n]`."""
    variances: np.ndarray
    """Variance of each entry of `values` due to the random samples, `[n]`. By the delta method, the
    variance is 1/ESS − 1/K, where ESS is the effective sample size and K is the number of samples.
    The variance is NaN if K is 1."""
    halved: np.ndarray
    """Estimates of log p(x) from fewer samples, `[n, 2]`. Column 0 is the mean of two estimates,
    one from each half of the samples. Column 1 is the mean of four estimates, one from each
    quarter. A column is NaN if there are too few samples."""
    elbos: np.ndarray
    """Evidence lower bound (ELBO) per example, `[n]`. It is estimated by the mean of
    log(p(x | z) p(z) / q(z | x)) over the samples z."""
    effective_sample_sizes: np.ndarray
    """Effective sample size per example, `[n]`, between 1 and the number of samples."""
    curve: dict[int, float]
    """Dictionary from numbers of samples to estimates in nats. An estimate is the mean, over the
    examples, of the estimated log p(x)."""
    data_size: int
    """Number of data values in one example, such as the number of pixels of an image."""
    measure: Literal["probability", "density", "none"]
    """Type of p(x): `"probability"` for a discrete likelihood, `"density"` for a continuous
    likelihood. A discrete likelihood has a list of possible values. If data lie between these
    values, p(x) is not a likelihood. The type is then `"none"`."""

    @property
    def mean(self) -> float:
        """Mean estimate of log p(x) over the examples, in nats."""
        return float(np.mean(self.values))

    @property
    def standard_error(self) -> float:
        """Standard error of `mean` in nats, due to the random samples from the posterior."""
        return math.sqrt(np.sum(self.variances)) / len(self.values)

    @property
    def standard_error_of_data(self) -> float:
        """Standard error of `mean` in nats, due to the random choice of the examples.

        The value is NaN if there is only one example.
        """
        if len(self.values) == 1:
            return math.nan
        return float(np.std(self.values, ddof=1) / math.sqrt(len(self.values)))

    @property
    def bias(self) -> float:
        """Amount in nats by which `mean` is expected to be below the exact mean log p(x).

        The estimate is the logarithm of a mean over samples. By Jensen's inequality, it is too low
        on average. The bias is computed by Richardson extrapolation from three estimates of log
        p(x): with a quarter, with half, and with all of the samples. The extrapolation assumes that
        the bias is proportional to K^−r, where K is the number of samples. The exponent r is
        computed from the same three estimates, and is limited to the range from log₂ 1.1 to 1. If
        there are fewer than four samples, the bias is NaN.
        """
        return self._bias_and_error[0]

    @property
    def interval(self) -> tuple[float, float]:
        """95 % confidence interval `(low, high)` for the exact mean of log p(x), in nats.

        The exact mean is the mean of the true values of log p(x) over the evaluated examples. The
        property `mean` is an estimate that is expected to be lower than the exact mean, by about
        `bias` nats. Therefore `bias` is added to the upper end of the interval. The upper end is
        NaN if `bias` is NaN.
        """
        bias, error = self._bias_and_error
        low = self.mean - 1.96 * self.standard_error
        high = self.mean + bias + 1.96 * math.hypot(self.standard_error, error)
        return low, high

    @property
    def _bias_and_error(self) -> tuple[float, float]:
        """The bias of `mean` and the standard error of this bias, in nats.

        The property `bias` explains the bias. The standard error is computed from the variation
        between the examples.
        """
        last_gains = self.values - self.halved[:, 0]
        first_gains = self.halved[:, 0] - self.halved[:, 1]
        last_gain = np.mean(last_gains)
        ratio = np.mean(first_gains) / max(last_gain, 1e-12)
        divisor = np.clip(ratio, _SMALLEST_RATIO, 2) - 1
        influences = last_gains / divisor
        if divisor == ratio - 1:
            influences = influences + (ratio * last_gains - first_gains) / divisor**2
        if len(influences) > 1:
            error = np.std(influences, ddof=1) / math.sqrt(len(influences))
        else:
            error = last_gain / divisor
        return float(last_gain / divisor), float(error)

    @property
    def bits_per_dimension(self) -> float | None:
        """Bits per data value: mean of −log₂ p(x) over the examples, divided by `data_size`.

        `data_size` is the number of data values in one example. Lower is better. The value is None
        if p(x) is not a probability, as for a continuous likelihood.
        """
        if self.measure != "probability":
            return None
        return -self.mean / (self.data_size * math.log(2))

    def __str__(self) -> str:
        """Return a summary of several lines."""
        count = max(self.curve)
        low, high = self.interval
        sizes = self.effective_sample_sizes
        fewer = ", ".join(f"{number:,}: {value:.2f}" for number, value in self.curve.items())
        lines = [
            f"log p(x) = {self.mean:.2f} nats, the mean of {len(self.values):,} examples with "
            f"{count:,} samples each",
            f"  ± {self.standard_error:.3f} from the samples (95 %: {low:.2f} to {high:.2f}), "
            f"± {self.standard_error_of_data:.2f} from the examples",
            f"  effective sample size: median {np.median(sizes):.0f}, smallest "
            f"{np.min(sizes):.1f} of {count:,}",
            f"  with fewer samples: {fewer}",
        ]
        if self.bits_per_dimension is not None:
            lines.append(f"  {self.bits_per_dimension:.3f} bits per dimension")
        if self.measure == "none":
            lines.append(
                "  not a likelihood: a cross-entropy on grey values. Binarize the data to report a "
                "likelihood."
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
    """Estimate log p(x) per example by importance sampling.

    The estimate is log((1/K) Σ_k p(x | z_k) p(z_k) / q(z_k | x)) with K samples z_k ~ q(z | x)
    (Burda et al. 2016, arXiv:1509.00519, section 5). On average, the estimate is a lower bound on
    log p(x). The estimate converges to log p(x) as K grows.

    Args:
        vae: A trained `VAE`.
        x: Examples `[n, *data_shape]`, or a `tf.data.Dataset` of batches of such examples.
        condition: Labels y `[n]` if the model is conditional, otherwise None. For a conditional
            model, the function estimates log p(x | y).
        num_samples: K, the number of samples of z per example. Default: 5000.
        seed: Seed of the samples. Default: 0.
        memory: Limit, in bytes, on the output of the decoder's widest layer. The samples are
            decoded in chunks, so that the output for one chunk does not exceed the limit. In total,
            the function needs several times this memory, because it computes a few chunks at the
            same time. Default: 64 MiB.
        verbose: 1 shows a progress bar, 0 shows nothing. Default: 1.

    Returns:
        `LogLikelihood`.

    Raises:
        ValueError: If there are no examples. If the examples have the wrong shape, contain NaN, or
            have values outside the likelihood's support. If `num_samples` is not a positive
            integer.

    Example: `curve` contains the mean estimate for increasing numbers of samples.

    >>> from keras_gen import VAE, distributions, networks
    >>> posterior = distributions.DiagonalNormal(2)
    >>> likelihood = distributions.Bernoulli((4,))
    >>> vae = VAE(networks.mlp((4,), (4,)), networks.mlp((2,), (4,)), posterior, likelihood)
    >>> x = np.eye(4, dtype="float32")
    >>> estimate = log_likelihood(vae, x, num_samples=100, verbose=0)
    >>> estimate.values.shape
    (4,)
    >>> list(estimate.curve)
    [1, 2, 5, 10, 20, 50, 100]
    """
    num_samples = positive_int(None, "num_samples", num_samples)
    x, condition = vae.data_check.examples(x, condition)
    measure = _measure(vae, x)
    chunk = min(num_samples, samples_per_chunk(vae.decoder, memory))
    counts = [count for count in _SAMPLE_COUNTS if count < num_samples]
    counts.append(num_samples)
    chunk_of_log_weights = tf.function(functools.partial(_log_weights, vae), reduce_retracing=True)
    parts = []
    progress = keras.utils.Progbar(len(x), verbose=verbose, unit_name="example")
    for start in range(0, len(x), _EXAMPLES_PER_UPDATE):
        rows = slice(start, start + _EXAMPLES_PER_UPDATE)
        labels = None if condition is None else tf.constant(condition[rows])
        log_weights = [
            chunk_of_log_weights(
                tf.constant(x[rows]),
                labels,
                min(chunk, num_samples - first),
                tf.constant((seed, first)),
                tf.constant(start),
            )
            for first in range(0, num_samples, chunk)
        ]
        parts.append(_estimates(tf.concat(log_weights, axis=1), counts))
        progress.update(start + len(x[rows]))
    estimates = _Estimates(*(np.concatenate(part, axis=-1) for part in zip(*parts, strict=True)))
    smallest_variance = 0.0 if num_samples > 1 else np.nan
    return LogLikelihood(
        values=estimates.by_count[-1],
        variances=np.maximum(1 / estimates.sizes - 1 / num_samples, smallest_variance),
        halved=estimates.halved.T,
        elbos=estimates.elbos,
        effective_sample_sizes=estimates.sizes,
        curve=dict(zip(counts, estimates.by_count.mean(axis=1).tolist(), strict=True)),
        data_size=math.prod(x.shape[1:]),
        measure=measure,
    )


def samples_per_chunk(decoder: keras.Model, memory: int = MEMORY, rows: int = 1) -> int:
    """Return how many samples per example a decoder can decode at once within a memory limit.

    Args:
        decoder: Built Keras model.
        memory: Bytes that the widest layer may output. Default: 64 MiB.
        rows: Number of examples per forward pass. Default: 1.

    Returns:
        The number of samples, at least 1.
    """
    shapes = [layer.output.shape for layer in decoder.layers if hasattr(layer, "output")]
    shapes.append(decoder.output_shape)
    widest = max(math.prod(shape[1:]) for shape in shapes)
    return max(1, memory // (4 * widest * rows))


def _log_weights(
    vae: VAE,
    x: tf.Tensor,
    labels: tf.Tensor | None,
    num_samples: int,
    seed: tf.Tensor,
    start: tf.Tensor,
) -> tf.Tensor:
    """Compute the log-weights of importance sampling, `[batch, num_samples]`.

    The log-weight of a sample z is log(p(x | z) p(z) / q(z | x)). The examples are processed one at
    a time. The example with index i in the batch has the position `start + i` in the data. The
    random samples of this example depend only on the seed and on this position.
    """

    def of_one(index: tf.Tensor) -> tf.Tensor:
        label = None if labels is None else labels[index, None]
        noise = tf.random.experimental.stateless_fold_in(seed, start + index)
        return vae.log_weights(x[index, None], label, num_samples, noise)[:, 0]

    return tf.map_fn(of_one, tf.range(len(x)), fn_output_signature=tf.float32)


class _Estimates(NamedTuple):
    """Estimates of log p(x) and of related quantities, for the examples x of a batch.

    They are computed from the log-weights log(p(x | z) p(z) / q(z | x)) of samples z. The last axis
    of each array is the batch.
    """

    by_count: np.ndarray
    """Estimates of log p(x), `[number of counts, batch]`. Row i uses the first `counts[i]` samples
    of each example, where `counts` is the argument of `_estimates`."""
    halved: np.ndarray
    """Estimates of log p(x), `[2, batch]`. Row 0 is the mean of two estimates, one from each half
    of the samples. Row 1 is the mean of four estimates, one from each quarter."""
    elbos: np.ndarray
    """Means of the log-weights, `[batch]`."""
    sizes: np.ndarray
    """Effective sample sizes, `[batch]`."""


def _estimates(log_weights: tf.Tensor, counts: Sequence[int]) -> _Estimates:
    """Estimate log p(x), the ELBO and the effective sample size for each example of a batch.

    Args:
        log_weights: log(p(x | z) p(z) / q(z | x)) for each sample z, `[batch, samples]`.
        counts: Numbers of samples, such as `(1, 10, 100)`. For each number K, log p(x) is estimated
            from the first K samples.
    """
    log_weights = np.asarray(log_weights, np.float64)
    # Sums of weights would underflow: the weights of the first samples can be 0 in float64.
    log_sums = np.logaddexp.accumulate(log_weights, axis=1)
    weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    return _Estimates(
        by_count=np.stack([log_sums[:, count - 1] - np.log(count) for count in counts]),
        halved=np.stack([_mean_log_of_parts(log_weights, parts) for parts in (2, 4)]),
        elbos=log_weights.mean(axis=1),
        sizes=weights.sum(axis=1) ** 2 / np.sum(weights**2, axis=1),
    )


def _mean_log_of_parts(log_weights: np.ndarray, parts: int) -> np.ndarray:
    """Estimate log p(x) from each of several parts of the samples, and average the estimates.

    The estimate from a part is the logarithm of the mean weight of the samples in the part.
    `LogLikelihood.bias` compares the result with the estimate from all samples.

    Args:
        log_weights: Logarithms of the importance weights of the samples, `[batch, samples]`.
        parts: Number of parts. All parts have the same number of samples. Remaining samples are
            ignored.

    Returns:
        One value per example, `[batch]`. The values are NaN if there are fewer samples than parts.
    """
    size = log_weights.shape[1] // parts
    if not size:
        return np.full(len(log_weights), np.nan)
    of_parts = log_weights[:, : parts * size].reshape(len(log_weights), parts, size)
    return (np.logaddexp.reduce(of_parts, axis=2) - np.log(size)).mean(axis=1)


def _measure(vae: VAE, x: np.ndarray) -> Literal["probability", "density", "none"]:
    """Return the type of p(x): `"probability"`, `"density"` or `"none"`.

    A discrete likelihood gives probabilities, and a continuous likelihood gives densities. If the
    likelihood is discrete, but a value of x is impossible, such as 0.5 for `Bernoulli`, the
    function warns and returns `"none"`.
    """
    levels = vae.likelihood.levels
    if levels is None:
        return "density"
    if np.allclose(x * (levels - 1), np.round(x * (levels - 1)), atol=1e-3):
        return "probability"
    warnings.warn(
        f"The data contain numbers between the {levels} values that {vae.likelihood} allows. The "
        "result for such data is a cross-entropy, and a cross-entropy on grey values is not a "
        "likelihood. Binarize the data (data.load(..., binarize=True)), or report the result as a "
        "loss.",
        stacklevel=3,
    )
    return "none"
