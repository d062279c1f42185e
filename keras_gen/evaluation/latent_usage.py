"""What a VAE does with its latents: which it uses, how much they say, how far all codes together are from the prior."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_gen._typing import Distribution, TensorLike
from keras_gen.models import VAE

_ACTIVE = 0.01  # (Burda et al. 2016, arXiv:1509.00519, section 5.2)
_DRAWS = 64  # for moments that have no closed form


@dataclasses.dataclass(frozen=True)
class LatentReport:
    """How the latents are used. `print` shows it in words."""

    kl_per_dimension: np.ndarray
    """KL(q(z_i | x) ‖ p(z_i)) of the marginals, in the mean over the examples, in nats, `[n]`."""
    variance_of_means: np.ndarray
    """Variance over the examples of the posterior mean, `[n]`."""
    aggregate_mean: np.ndarray
    """Mean of the aggregate posterior, the mixture of all q(z | x), `[n]`."""
    aggregate_covariance: np.ndarray
    """Its covariance, `[n, n]`."""
    aggregate_kl: float
    """KL of the normal with these moments to the normal with the prior's, in nats: 0 if they agree."""

    @property
    def active(self) -> np.ndarray:
        """Which dimensions are used, `[n]` of bool: those whose posterior mean has a variance over 0.01."""
        return self.variance_of_means > _ACTIVE

    @property
    def collapsed(self) -> bool:
        """Whether none is used: the decoder does without the latents."""
        return not self.active.any()

    def __str__(self) -> str:
        """Three lines of words."""
        if self.collapsed:
            used = (
                "The posterior has collapsed: no latent varies with the data. Try a KL warm-up, free bits, a smaller decoder, or a "
                "smaller scale of the likelihood."
            )
        else:
            used = f"{self.active.sum()} of {len(self.active)} latents are used."
        order = np.argsort(-self.kl_per_dimension)[:10]
        largest = ", ".join(
            f"z{dimension} {self.kl_per_dimension[dimension]:.2f}" for dimension in order
        )
        return (
            f"{used}\nKL in nats, the largest: {largest}; {self.kl_per_dimension.sum():.2f} over all marginals.\n"
            f"All codes together lie {self.aggregate_kl:.3f} nats from the prior, by mean and covariance."
        )


def latent_report(
    vae: VAE,
    x: TensorLike | tf.data.Dataset,
    condition: TensorLike | None = None,
    batch_size: int = 500,
) -> LatentReport:
    """Which latents a VAE uses for some data, and how far the aggregate posterior is from the prior.

    Exact for normal posteriors and priors; others are taken as normals of the same moments, from draws where there is no closed form.

    Args:
        vae: A `VAE`.
        x: Examples `[n, *data_shape]`, at least two.
        condition: Labels `[n]` for a conditional model.
        batch_size: Examples at a time.

    Returns:
        `LatentReport`.

    Raises:
        ValueError: If the examples are of another shape or out of range, or fewer than two.

    Example:

    >>> from keras_gen import VAE, distributions, networks
    >>> posterior, likelihood = distributions.DiagonalNormal(2), distributions.Bernoulli((4,))
    >>> vae = VAE(networks.mlp((4,), (4,)), networks.mlp((2,), (4,)), posterior, likelihood)
    >>> latent_report(vae, np.eye(4)).kl_per_dimension.shape
    (2,)
    """
    x, condition = vae.data_check.examples(x, condition, at_least=2)
    means, prior_means, kls = [], [], []
    covariance, prior_covariance, error = (
        0.0,
        0.0,
        0.0,
    )  # sums, since there is a matrix for each example
    for start in range(0, len(x), batch_size):
        labels = None if condition is None else tf.constant(condition[start : start + batch_size])
        q = mean_and_covariance(vae.encode(x[start : start + batch_size], labels))
        p = mean_and_covariance(vae.prior.distribution(labels))
        variances, prior_variances = (
            np.diagonal(each.covariance, axis1=-2, axis2=-1) for each in (q, p)
        )
        ratios = variances / prior_variances
        kls.append(0.5 * (ratios + (q.mean - p.mean) ** 2 / prior_variances - 1 - np.log(ratios)))
        means.append(q.mean)
        prior_means.append(np.broadcast_to(p.mean, q.mean.shape))
        covariance += q.covariance.sum(axis=0)
        prior_covariance += np.broadcast_to(p.covariance, q.covariance.shape).sum(axis=0)
        error += q.covariance.sum(axis=0) / q.draws
    mean, of_means = _moments(np.concatenate(means))
    prior_mean, of_prior_means = _moments(np.concatenate(prior_means))
    of_means = of_means - error / len(x)
    covariance, prior_covariance = (
        of_means + covariance / len(x),
        of_prior_means + prior_covariance / len(x),
    )
    aggregate_kl = _normal_kl(mean, covariance, prior_mean, prior_covariance)
    return LatentReport(
        np.concatenate(kls).mean(axis=0),
        np.maximum(np.diag(of_means), 0),
        mean,
        covariance,
        aggregate_kl,
    )


class Moments(NamedTuple):
    """The first two moments of a distribution, float64."""

    mean: np.ndarray
    """Mean, `[..., n]`."""
    covariance: np.ndarray
    """Covariance, `[..., n, n]`."""
    draws: float
    """How many draws they are from; infinitely many if they have a closed form."""


def mean_and_covariance(distribution: Distribution) -> Moments:
    """The moments in closed form, or from draws where there is none."""
    try:
        mean = np.asarray(distribution.mean(), np.float64)
    except NotImplementedError:
        z = np.asarray(distribution.sample(_DRAWS, seed=(0, 0)), np.float64)
        mean = z.mean(axis=0)
        return Moments(
            mean, np.einsum("s...i,s...j->...ij", z - mean, z - mean) / (_DRAWS - 1), _DRAWS
        )
    try:
        covariance = distribution.covariance()
    except NotImplementedError:
        covariance = tf.linalg.diag(distribution.variance())
    return Moments(mean, np.asarray(covariance, np.float64), math.inf)


def _moments(rows):
    """Mean and covariance of rows."""
    mean = rows.mean(axis=0)
    return mean, (rows - mean).T @ (rows - mean) / len(rows)


def _normal_kl(mean, covariance, prior_mean, prior_covariance):
    """KL(N(mean, covariance) ‖ N(prior)), in nats."""
    difference, size = prior_mean - mean, len(mean)
    quadratic = difference @ np.linalg.solve(prior_covariance, difference)
    trace = np.trace(np.linalg.solve(prior_covariance, covariance))
    return float(
        0.5
        * (
            trace
            + quadratic
            - size
            + np.linalg.slogdet(prior_covariance)[1]
            - np.linalg.slogdet(covariance)[1]
        )
    )
