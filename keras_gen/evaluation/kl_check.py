"""Check the KL divergence of a VAE: compare its closed form with an estimate from samples."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._typing import TensorLike
from keras_gen.distributions import closed_form_kl, cross_check
from keras_gen.models import VAE, GenerativeModel
from keras_gen.networks._copies import call_network

LARGEST_Z_SCORE = 4.0
FEWEST_EXAMPLES = 100  # with fewer examples, the standard error is too uncertain
_ROUNDING = 1e-5  # difference in nats that rounding alone can cause


@dataclasses.dataclass(frozen=True)
class KLCheck:
    """The result of `check_kl`. `print` shows a summary."""

    pair: str
    """Names of the posterior and the prior."""
    analytic: float
    """Closed form of the KL divergence, averaged over the examples, in nats."""
    sampled: float
    """Estimate of the KL divergence from samples, averaged over the examples, in nats."""
    z_score: float
    """For each example, the check subtracts the closed form from the estimate. The z-score is the
    mean of these differences, divided by the standard error of the mean."""
    gradient_z_score: float
    """A z-score like `z_score`, but for the gradients of the estimate and of the closed form. The
    gradients are with respect to the encoder's output."""
    num_examples: int
    """Number of examples."""
    num_samples: int
    """Number of posterior samples per example."""

    @property
    def agrees(self) -> bool:
        """Whether `z_score` and `gradient_z_score` are each between −4 and 4."""
        scores = (self.z_score, self.gradient_z_score)
        return all(abs(score) <= LARGEST_Z_SCORE for score in scores)

    def __str__(self) -> str:
        """Return the verdict and the numbers as text.

        If the closed form and the estimate disagree, a second sentence states possible causes.
        """
        numbers = (
            f"{self.analytic:.4g} and {self.sampled:.4g} nats, which differ by "
            f"{abs(self.z_score):.1f} standard errors (gradients by "
            f"{abs(self.gradient_z_score):.1f}), from {self.num_examples:,} examples with "
            f"{self.num_samples} samples each"
        )
        subject = f"closed form of the KL between {self.pair} and its estimate from samples"
        if self.agrees:
            return f"The {subject} agree: {numbers}."
        return (
            f"Warning: the {subject} disagree: {numbers}. One of the two distributions has a wrong "
            "density, divergence or sampler."
        )


def check_kl(
    vae: VAE,
    x: TensorLike | tf.data.Dataset,
    condition: TensorLike | None = None,
    num_samples: int = 8,
    batch_size: int = 500,
    seed: int = 0,
) -> KLCheck:
    """Compare the closed form of KL(q(z | x) ‖ p(z)) with an estimate from samples.

    KL is the Kullback-Leibler divergence of the posterior q from the prior p. The closed form and
    the estimate disagree if the closed form, a density or a sampler has a bug. For each example,
    the check computes the estimate minus the closed form. The z-score is the mean of these
    differences, divided by the standard error of the mean. If there is no bug, the z-score is
    approximately standard normal.

    A second z-score compares the gradient of the estimate with the gradient of the closed form.
    Both are gradients with respect to the encoder's output. For each example, the check computes
    the difference of the two gradients, and projects it onto the gradient of the closed form. The
    second z-score is computed from these projections.

    Args:
        vae: A `VAE`. The KL between its posterior and its prior must have a closed form.
        x: Examples `[n, *data_shape]`, at least 100, or a `tf.data.Dataset` of batches of such
            examples.
        condition: Labels `[n]` if the model is conditional, otherwise None.
        num_samples: Number of posterior samples per example. Default: 8.
        batch_size: Number of examples per forward pass. Default: 500.
        seed: Seed of the samples, an integer. Default: 0.

    Returns:
        A `KLCheck`. Its property `agrees` is True if the closed form and the estimate agree.

    Raises:
        ValueError: If the model has no posterior or no prior, or if the KL has no closed form. If
            there are fewer than 100 examples, or if their shape or values are invalid for the
            model.

    Example:

    >>> from keras_gen import VAE, distributions, networks
    >>> posterior = distributions.DiagonalNormal(2)
    >>> likelihood = distributions.Bernoulli((4,))
    >>> vae = VAE(networks.mlp((4,), (4,)), networks.mlp((2,), (4,)), posterior, likelihood, seed=0)
    >>> check_kl(vae, np.random.default_rng(0).random((200, 4))).agrees
    True
    """
    _check_posterior(vae)
    num_samples = positive_int(None, "num_samples", num_samples)
    batch_size = positive_int(None, "batch_size", batch_size)
    x, condition = vae.data_check.examples(x, condition, at_least=FEWEST_EXAMPLES)
    if not has_closed_form_kl(vae, x, condition):
        raise ValueError(
            f"The pair of {vae.posterior} and {vae.prior} must have a KL divergence in closed "
            "form. Received: a pair without a closed form. Training already estimates the KL of "
            "this pair from samples, so there is nothing to compare."
        )
    parts = []
    for start in range(0, len(x), batch_size):
        rows = slice(start, start + batch_size)
        labels = None if condition is None else tf.constant(condition[rows])
        parameters = call_network(vae.encoder, tf.constant(x[rows]), labels, training=False)
        noise = tf.random.experimental.stateless_fold_in((seed, 0), start)
        prior = vae.prior.distribution(labels)
        parts.append(cross_check(vae.posterior, parameters, prior, num_samples, noise))
    analytic, sampled, difference, gradient_difference = (
        np.concatenate(part).astype(np.float64) for part in zip(*parts, strict=True)
    )
    return KLCheck(
        pair=f"{vae.posterior} and {vae.prior}",
        analytic=float(analytic.mean()),
        sampled=float(sampled.mean()),
        z_score=z_score(difference),
        gradient_z_score=z_score(gradient_difference),
        num_examples=len(x),
        num_samples=num_samples,
    )


def has_closed_form_kl(vae: VAE, x: np.ndarray, condition: np.ndarray | None = None) -> bool:
    """Return whether the KL divergence of a VAE's posterior from its prior has a closed form.

    Args:
        vae: A `VAE`.
        x: Examples `[n, *data_shape]`, at least one. Only the first example is used.
        condition: Labels `[n]` if the model is conditional, otherwise None.
    """
    labels = None if condition is None else tf.constant(condition[:1])
    posterior = vae.encode(tf.constant(x[:1]), labels)
    return closed_form_kl(posterior, vae.prior.distribution(labels)) is not None


def z_score(differences: np.ndarray) -> float:
    """Divide the mean of `differences` by the standard error of this mean.

    Before the division, the function adds 1e-5 nats to the standard error. Otherwise the z-score of
    almost equal differences could be large because of rounding errors alone.

    Args:
        differences: Differences `[n]` in nats, at least two.

    Example:

    >>> round(z_score(np.array([1.0, 2.0, 3.0])), 3)
    3.464
    """
    standard_error = np.std(differences, ddof=1) / math.sqrt(len(differences))
    return float(np.mean(differences) / (standard_error + _ROUNDING))


def _check_posterior(model: GenerativeModel) -> None:
    """Raise a `ValueError` if a model lacks a posterior distribution or a prior."""
    if getattr(model, "posterior", None) is None or model.prior is None:
        raise ValueError(
            "`vae` must be a model with a posterior distribution q(z | x) and a prior p(z), such "
            f"as a `VAE`. Received: {type(model).__name__}."
        )
