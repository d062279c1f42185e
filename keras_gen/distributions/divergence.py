"""Compute the Kullback-Leibler divergence between two TFP distributions."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._typing import Distribution, TensorLike
from keras_gen.distributions.posteriors import Posterior


class KLDivergence(NamedTuple):
    """A Kullback-Leibler divergence, and whether it is exact or estimated."""

    value: tf.Tensor
    """KL(a ‖ b) in nats, one value per distribution in the batch."""
    analytic: bool
    """True if `value` is a closed form, False if `value` is an estimate from samples."""


def kl_divergence(
    a: Distribution, b: Distribution, num_samples: int = 1, seed: TensorLike | None = None
) -> KLDivergence:
    """Return KL(a ‖ b) = E_a[log a − log b] in nats, in closed form or estimated from samples.

    The expectation is under `a` (lecture notes, MATH 3). The function uses a closed form for every
    pair of Gaussians, and for every pair for which TFP registers a closed form. For any other pair,
    the function returns the mean of log a(z) − log b(z) over samples z ~ a. This estimate is
    unbiased. If `a` is reparameterized, gradients flow through the estimate.

    Args:
        a: A `tfd.Distribution`, the first argument of the divergence.
        b: A `tfd.Distribution` with the same event shape.
        num_samples: Number of samples z per distribution. The function takes samples only for a
            pair without a closed form.
        seed: Stateless seed of the samples, int32 `[2]`. If None, each call takes new samples.

    Returns:
        `KLDivergence(value, analytic)`. `value` has the broadcast batch shape of `a` and `b`.

    Raises:
        ValueError: If the event shapes differ, or `num_samples` is not a positive integer.

    Example:

    >>> from tensorflow_probability import distributions as tfd
    >>> kl_divergence(tfd.Normal(1.0, 1.0), tfd.Normal(0.0, 1.0)).value.numpy()
    np.float32(0.5)
    """
    num_samples = positive_int(None, "num_samples", num_samples)
    if not a.event_shape.is_compatible_with(b.event_shape):
        raise ValueError(
            f"`a` and `b` must have the same event shape. Received: {a.event_shape} and "
            f"{b.event_shape}."
        )
    value = closed_form_kl(a, b)
    if value is not None:
        return KLDivergence(value, analytic=True)
    z = a.sample(num_samples, seed=seed)
    return KLDivergence(tf.reduce_mean(a.log_prob(z) - b.log_prob(z), axis=0), analytic=False)


def closed_form_kl(a: Distribution, b: Distribution) -> tf.Tensor | None:
    """Return KL(a ‖ b) in closed form, or None if no closed form is known.

    Args:
        a: A `tfd.Distribution`, the first argument of the divergence.
        b: A `tfd.Distribution` with the same event shape.

    Returns:
        The divergence in nats, with the broadcast batch shape of `a` and `b`, or None.

    Example:

    >>> from tensorflow_probability import distributions as tfd
    >>> diagonal = tfd.Independent(tfd.Normal([1.0, 0.0], 1.0), 1)
    >>> closed_form_kl(diagonal, tfd.MultivariateNormalDiag([0.0, 0.0])).numpy()
    np.float32(0.5)
    >>> closed_form_kl(tfd.Normal(0.0, 1.0), tfd.Laplace(0.0, 1.0)) is None
    True
    """
    try:
        return a.kl_divergence(b)
    except NotImplementedError:  # TFP has closed forms only for some pairs of classes
        first = _as_gaussian(a)
        second = _as_gaussian(b)
    if first is None or second is None:
        return None
    return _gaussian_kl(first, second)


class _Gaussian(NamedTuple):
    """The mean m `[..., n]` and the scale matrix S `[..., n, n]` of a Gaussian N(m, SSᵀ)."""

    mean: tf.Tensor
    scale: tf.linalg.LinearOperator


def _as_gaussian(distribution: Distribution) -> _Gaussian | None:
    """Return the mean and the scale of a Gaussian over vectors, or None for other distributions."""
    from tensorflow_probability import distributions as tfd

    if isinstance(distribution, tfd.MultivariateNormalLinearOperator):
        return _Gaussian(distribution.mean(), distribution.scale)
    if isinstance(distribution, tfd.MultivariateNormalDiagPlusLowRankCovariance):
        scale_tril = tf.linalg.cholesky(distribution.covariance())
        scale = tf.linalg.LinearOperatorLowerTriangular(scale_tril)
        return _Gaussian(distribution.mean(), scale)
    if isinstance(distribution, tfd.Independent) and distribution.event_shape.rank == 1:
        normal = distribution.distribution
        if isinstance(normal, tfd.Normal):
            mean = normal.loc + tf.zeros_like(normal.scale)  # the mean and the scale get one shape
            scale = normal.scale + tf.zeros_like(normal.loc)
            return _Gaussian(mean, tf.linalg.LinearOperatorDiag(scale))
    return None


def _gaussian_kl(a: _Gaussian, b: _Gaussian) -> tf.Tensor:
    """Return ½ [tr(Σ_b⁻¹Σ_a) + (m_b − m_a)ᵀΣ_b⁻¹(m_b − m_a) − n + log(det Σ_b / det Σ_a)].

    The formula is in the lecture notes (MATH 3). Σ = SSᵀ, and n is the number of dimensions. If
    both scales S are diagonal, the cost is O(n).
    """
    if _is_diagonal(a.scale) and _is_diagonal(b.scale):
        whitened = (a.scale.diag_part() / b.scale.diag_part())[..., None]
    else:
        whitened = b.scale.solve(a.scale.to_dense())
    trace = tf.reduce_sum(whitened**2, axis=[-2, -1])
    distance = tf.reduce_sum(b.scale.solvevec(b.mean - a.mean) ** 2, axis=-1)
    dimension = tf.cast(a.scale.domain_dimension_tensor(), distance.dtype)
    log_ratio = _log_abs_determinant(b.scale) - _log_abs_determinant(a.scale)
    return 0.5 * (trace + distance - dimension) + log_ratio


def _is_diagonal(scale: tf.linalg.LinearOperator) -> bool:
    """Return whether an operator is of a class that has only diagonal matrices."""
    diagonal = (
        tf.linalg.LinearOperatorDiag,
        tf.linalg.LinearOperatorIdentity,
        tf.linalg.LinearOperatorScaledIdentity,
    )
    return isinstance(scale, diagonal)


def _log_abs_determinant(scale: tf.linalg.LinearOperator) -> tf.Tensor:
    """Return log |det S|.

    The method of TFP uses a compensated summation, a slow loop over the elements.
    """
    if isinstance(scale, tf.linalg.LinearOperatorLowerTriangular) or _is_diagonal(scale):
        return tf.reduce_sum(tf.math.log(tf.abs(scale.diag_part())), axis=-1)
    return scale.log_abs_determinant()


class CrossCheck(NamedTuple):
    """KL(q ‖ p) in closed form and estimated from samples. Each field has shape `[batch]`."""

    analytic: tf.Tensor
    """KL(q ‖ p) in closed form, in nats."""
    sampled: tf.Tensor
    """The estimate of KL(q ‖ p) from samples, in nats."""
    difference: tf.Tensor
    """`sampled` − `analytic`, in nats. If both values are correct, the expectation is 0."""
    gradient_difference: tf.Tensor
    """Gradient of `sampled` minus gradient of `analytic`, with respect to the parameters of q.

    The value is the component of this difference along the gradient of `analytic`.
    """


def cross_check(
    posterior: Posterior,
    parameters: TensorLike,
    prior: Distribution,
    num_samples: int = 1,
    seed: TensorLike | None = None,
) -> CrossCheck:
    """Compare the closed form of KL(q ‖ p) and its gradient with estimates from samples.

    Args:
        posterior: The `Posterior` that makes q from its parameters.
        parameters: Tensor `[batch, posterior.parameter_size]`.
        prior: The `tfd.Distribution` p. KL(q ‖ p) must have a closed form.
        num_samples: Number of samples per example.
        seed: Stateless seed of the samples, int32 `[2]`. If None, each call takes new samples.

    Returns:
        A `CrossCheck` with one value per example. Average the values over many examples, because
        one estimate is noisy.

    Raises:
        ValueError: If the event shapes differ, or `num_samples` is not a positive integer.
    """
    parameters = tf.cast(parameters, tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(parameters)
        q = posterior(parameters)
        analytic = kl_divergence(q, prior, num_samples).value
        z = q.sample(num_samples, seed=seed)
        sampled = tf.reduce_mean(q.log_prob(z) - prior.log_prob(z), axis=0)
    expected = tape.gradient(analytic, parameters)
    estimated = tape.gradient(sampled, parameters, unconnected_gradients="zero")
    projection = tf.reduce_sum((estimated - expected) * expected, axis=-1)
    gradient_difference = tf.math.divide_no_nan(projection, tf.norm(expected, axis=-1))
    return CrossCheck(analytic, sampled, sampled - analytic, gradient_difference)
