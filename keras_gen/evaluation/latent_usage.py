"""Report which latents a VAE uses, and how far the distribution of latents is from the prior."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._typing import Distribution, TensorLike
from keras_gen.models import VAE

_ACTIVE_VARIANCE = 0.01  # threshold of Burda et al. 2016, arXiv:1509.00519, section 5.2
_NUM_SAMPLES = 64  # to estimate the mean and covariance of one example without a closed form
_NUM_SAMPLES_OF_PRIOR = 10_000
_LISTED = 10  # largest number of latents that the summary lists


@dataclasses.dataclass(frozen=True)
class LatentReport:
    """Statistics of the latents of a VAE, the result of `latent_report`.

    `print` shows a summary. In the shapes of the arrays, n is the number of latents of the VAE.
    """

    kl_per_dimension: np.ndarray
    """For each latent z_i, the KL divergence of the posterior q(z_i | x) from the prior p(z_i), in
    nats, averaged over the examples, `[n]`. If one of these distributions is not normal, it is
    replaced by the normal distribution with its mean and variance."""
    variance_of_means: np.ndarray
    """For each latent, the variance of its posterior mean over the examples, `[n]`."""
    aggregate_mean: np.ndarray
    """Mean of the aggregate posterior, `[n]`. The aggregate posterior is the mixture of the
    posteriors q(z | x) of all examples."""
    aggregate_covariance: np.ndarray
    """Covariance of the aggregate posterior, `[n, n]`."""
    aggregate_kl: float
    """KL divergence of the aggregate posterior from the prior, in nats. The aggregate posterior is
    the mixture of the posteriors of all examples. For this number, the aggregate posterior is
    replaced by the normal distribution with its mean and covariance. The prior is replaced in this
    way, too."""

    @property
    def active(self) -> np.ndarray:
        """Bool array `[n]`, which is True for each latent that the VAE uses.

        A latent counts as used if its posterior mean has a variance above 0.01 over the examples.
        """
        return self.variance_of_means > _ACTIVE_VARIANCE

    @property
    def collapsed(self) -> bool:
        """Whether the VAE uses no latent, that is, whether no element of `active` is True."""
        return not self.active.any()

    def __str__(self) -> str:
        """Return a summary of three lines."""
        if self.collapsed:
            usage = (
                "The posterior has collapsed: no latent varies with the data. Try a KL warm-up, "
                "free bits, a smaller decoder, or a smaller scale of the likelihood."
            )
        else:
            usage = f"{self.active.sum()} of {len(self.active)} latents are used."
        largest = np.argsort(-self.kl_per_dimension)[:_LISTED]
        listed = ", ".join(f"z{latent} {self.kl_per_dimension[latent]:.2f}" for latent in largest)
        return (
            f"{usage}\n"
            f"Largest KL in nats: {listed}. Sum over all marginals: "
            f"{self.kl_per_dimension.sum():.2f}.\n"
            f"KL from the aggregate posterior to the prior, by mean and covariance: "
            f"{self.aggregate_kl:.3f} nats."
        )


def latent_report(
    vae: VAE,
    x: TensorLike | tf.data.Dataset,
    condition: TensorLike | None = None,
    batch_size: int = 500,
) -> LatentReport:
    """Report which latents a VAE uses, and how far the aggregate posterior is from the prior.

    The aggregate posterior is the mixture of the posteriors q(z | x) of all examples. The function
    computes KL divergences between normal distributions. Each distribution that is not normal is
    replaced by the normal distribution with the same mean and covariance. If the mean of a
    distribution has no closed form, its mean and its covariance are estimated from samples.

    Args:
        vae: A `VAE`.
        x: Examples `[n, *data_shape]`, at least two, or a `tf.data.Dataset` of batches of such
            examples.
        condition: Labels `[n]` if the model is conditional, otherwise None.
        batch_size: Number of examples per forward pass. Default: 500.

    Returns:
        `LatentReport`.

    Raises:
        ValueError: If there are fewer than two examples, or if the examples have the wrong shape or
            values out of range. If a conditional model gets no labels, or if any other model gets
            labels.

    Example:

    >>> from keras_gen import VAE, distributions, networks
    >>> posterior = distributions.DiagonalNormal(2)
    >>> likelihood = distributions.Bernoulli((4,))
    >>> vae = VAE(networks.mlp((4,), (4,)), networks.mlp((2,), (4,)), posterior, likelihood)
    >>> latent_report(vae, np.eye(4)).kl_per_dimension.shape
    (2,)
    """
    batch_size = positive_int(None, "batch_size", batch_size)
    x, condition = vae.data_check.examples(x, condition, at_least=2)
    kls = []
    means = []
    prior_means = []
    # Only sums of covariances are kept, because one matrix per example would need much memory.
    sum_of_covariances = np.zeros(())
    sum_of_prior_covariances = np.zeros(())
    sum_of_errors = np.zeros(())
    for start in range(0, len(x), batch_size):
        rows = slice(start, start + batch_size)
        labels = None if condition is None else tf.constant(condition[rows])
        q = mean_and_covariance(vae.encode(x[rows], labels))
        p = mean_and_covariance(vae.prior.distribution(labels))
        kls.append(_marginal_kl(q, p))
        means.append(q.mean)
        prior_means.append(np.broadcast_to(p.mean, q.mean.shape))
        prior_covariances = np.broadcast_to(p.covariance, q.covariance.shape)
        sum_of_covariances = sum_of_covariances + q.covariance.sum(axis=0)
        sum_of_prior_covariances = sum_of_prior_covariances + prior_covariances.sum(axis=0)
        sum_of_errors = sum_of_errors + q.covariance.sum(axis=0) / q.num_samples
    mean, covariance_of_means = _mean_and_covariance_of(np.concatenate(means))
    prior_mean, covariance_of_prior_means = _mean_and_covariance_of(np.concatenate(prior_means))
    # A mean that is estimated from samples varies between examples even if the latent is not used.
    # Therefore subtract the variance that the sampling adds.
    covariance_of_means = covariance_of_means - sum_of_errors / len(x)
    covariance = covariance_of_means + sum_of_covariances / len(x)
    prior_covariance = covariance_of_prior_means + sum_of_prior_covariances / len(x)
    return LatentReport(
        kl_per_dimension=np.concatenate(kls).mean(axis=0),
        variance_of_means=np.maximum(np.diag(covariance_of_means), 0),
        aggregate_mean=mean,
        aggregate_covariance=covariance,
        aggregate_kl=_normal_kl(mean, covariance, prior_mean, prior_covariance),
    )


class Moments(NamedTuple):
    """The mean and the covariance of a distribution, float64."""

    mean: np.ndarray
    """Mean, `[..., n]`."""
    covariance: np.ndarray
    """Covariance, `[..., n, n]`."""
    num_samples: float
    """Number of samples from which the moments were estimated, or infinity for a closed form."""


def mean_and_covariance(distribution: Distribution) -> Moments:
    """Return the mean and the covariance of a distribution of vectors.

    If the mean has no closed form, the function estimates the mean and the covariance from samples.
    For a batch of distributions, it uses 64 samples per distribution. For a single distribution,
    such as a prior without labels, it uses 10,000 samples. If the mean has a closed form but the
    covariance has none, the function returns a diagonal covariance that contains the variances.

    Args:
        distribution: A `tfd.Distribution` with the event shape `[n]`.
    """
    try:
        mean = np.asarray(distribution.mean(), np.float64)
    except NotImplementedError:
        number = _NUM_SAMPLES if distribution.batch_shape.rank else _NUM_SAMPLES_OF_PRIOR
        z = np.asarray(distribution.sample(number, seed=(0, 0)), np.float64)
        mean = z.mean(axis=0)
        products = np.einsum("s...i,s...j->...ij", z - mean, z - mean)
        return Moments(mean, products / (number - 1), number)
    try:
        covariance = distribution.covariance()
    except NotImplementedError:
        covariance = tf.linalg.diag(distribution.variance())
    return Moments(mean, np.asarray(covariance, np.float64), math.inf)


def _marginal_kl(q: Moments, p: Moments) -> np.ndarray:
    """Return the KL divergence KL(q(z_i) ‖ p(z_i)) of each latent z_i, in nats, `[batch, n]`.

    The function treats q(z_i) and p(z_i) as normal distributions. Their means and variances are
    taken from the arguments `q` and `p`.
    """
    variance = np.diagonal(q.covariance, axis1=-2, axis2=-1)
    prior_variance = np.diagonal(p.covariance, axis1=-2, axis2=-1)
    ratio = variance / prior_variance
    return 0.5 * (ratio + (q.mean - p.mean) ** 2 / prior_variance - 1 - np.log(ratio))


def _mean_and_covariance_of(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean `[n]` and the covariance `[n, n]` of rows `[examples, n]`."""
    mean = rows.mean(axis=0)
    return mean, (rows - mean).T @ (rows - mean) / len(rows)


def _normal_kl(
    mean: np.ndarray, covariance: np.ndarray, prior_mean: np.ndarray, prior_covariance: np.ndarray
) -> float:
    """Return KL(N(mean, covariance) ‖ N(prior_mean, prior_covariance)) in nats.

    N is the normal distribution.
    """
    difference = prior_mean - mean
    quadratic = difference @ np.linalg.solve(prior_covariance, difference)
    trace = np.trace(np.linalg.solve(prior_covariance, covariance))
    _, log_determinant = np.linalg.slogdet(covariance)
    _, prior_log_determinant = np.linalg.slogdet(prior_covariance)
    return float(0.5 * (trace + quadratic - len(mean) + prior_log_determinant - log_determinant))
