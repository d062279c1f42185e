"""The Kullback-Leibler divergence between two TFP distributions, in closed form or sampled."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._typing import Distribution, TensorLike
from keras_gen.distributions.posteriors import Posterior


class KLDivergence(NamedTuple):
    """A divergence in nats, and how it was obtained."""

    value: tf.Tensor
    """KL(a ‖ b), one value per distribution of the batch."""
    analytic: bool
    """True for the closed form, False for an estimate from samples."""


def kl_divergence(
    a: Distribution, b: Distribution, num_samples: int = 1, seed: TensorLike | None = None
) -> KLDivergence:
    """Return KL(a ‖ b) = E_a[log a − log b] in nats, in closed form or estimated from samples.

    The expectation is under the first argument (MATH 3). Every pair of Gaussians has a closed form,
    and so has every pair for which TFP registers one. For any other pair the result is the mean of
    log a(z) − log b(z) over samples z ~ a. That estimate is unbiased. Gradients flow through it if
    `a` is reparameterized.

    Args:
        a: A `tfd.Distribution`, the first argument of the divergence.
        b: A `tfd.Distribution` with the same event shape.
        num_samples: Number of samples per distribution, for a pair without a closed form.
        seed: Stateless seed of these samples, int32 `[2]`. If None, each call samples anew.

    Returns:
        `KLDivergence(value, analytic)`, where `value` has the broadcast batch shape.

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
            f"Both distributions must have the same event shape. Received: {a.event_shape} and "
            f"{b.event_shape}."
        )
    value = closed_form_kl(a, b)
    if value is not None:
        return KLDivergence(value, analytic=True)
    z = a.sample(num_samples, seed=seed)
    return KLDivergence(tf.reduce_mean(a.log_prob(z) - b.log_prob(z), axis=0), analytic=False)


def closed_form_kl(a: Distribution, b: Distribution) -> tf.Tensor | None:
    """Return KL(a ‖ b) in closed form, or None for a pair without one.

    Args:
        a: A `tfd.Distribution`, the first argument of the divergence.
        b: A `tfd.Distribution` with the same event shape.

    Returns:
        The divergence in nats, of the broadcast batch shape, or None.

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
    except NotImplementedError:  # TFP has closed forms for pairs of one class only
        first = _as_gaussian(a)
        second = _as_gaussian(b)
    if first is None or second is None:
        return None
    return _gaussian_kl(first, second)


class _Gaussian(NamedTuple):
    """N(m, SSᵀ) by its mean m, `[..., n]`, and its scale S, an operator `[..., n, n]`."""

    mean: tf.Tensor
    scale: tf.linalg.LinearOperator


def _as_gaussian(distribution: Distribution) -> _Gaussian | None:
    """Return the mean and the scale of a Gaussian over vectors, or None if it is not one."""
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
            mean = normal.loc + tf.zeros_like(normal.scale)  # so that both have one shape
            scale = normal.scale + tf.zeros_like(normal.loc)
            return _Gaussian(mean, tf.linalg.LinearOperatorDiag(scale))
    return None


def _gaussian_kl(a: _Gaussian, b: _Gaussian) -> tf.Tensor:
    """Return ½ [tr(Σ_b⁻¹Σ_a) + (m_b − m_a)ᵀΣ_b⁻¹(m_b − m_a) − n + log(det Σ_b / det Σ_a)].

    This is the formula of MATH 3, with Σ = SSᵀ. It costs O(n) if both scales are diagonal.
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
    """Return whether the type of an operator says that its matrix is diagonal."""
    diagonal = (
        tf.linalg.LinearOperatorDiag,
        tf.linalg.LinearOperatorIdentity,
        tf.linalg.LinearOperatorScaledIdentity,
    )
    return isinstance(scale, diagonal)


def _log_abs_determinant(scale: tf.linalg.LinearOperator) -> tf.Tensor:
    """Return log |det S|, without the compensated summation of TFP, which loops over elements."""
    if isinstance(scale, tf.linalg.LinearOperatorLowerTriangular) or _is_diagonal(scale):
        return tf.reduce_sum(tf.math.log(tf.abs(scale.diag_part())), axis=-1)
    return scale.log_abs_determinant()


class CrossCheck(NamedTuple):
    """The closed form of a divergence beside an estimate from samples, each `[batch]`."""

    analytic: tf.Tensor
    """KL(q ‖ p) in closed form, in nats."""
    sampled: tf.Tensor
    """The estimate of KL(q ‖ p) from samples, in nats."""
    difference: tf.Tensor
    """The estimate minus the closed form. Its expectation is 0 if both are right."""
    gradient_difference: tf.Tensor
    """The same difference of the gradients with respect to the parameters of q.

    It is the component along the gradient of the closed form.
    """


def cross_check(
    posterior: Posterior,
    parameters: TensorLike,
    prior: Distribution,
    num_samples: int = 1,
    seed: TensorLike | None = None,
) -> CrossCheck:
    """Compute KL(q ‖ p) and its gradient in closed form and from samples, for a comparison.

    Args:
        posterior: The `Posterior` that makes q from its parameters.
        parameters: Tensor `[batch, posterior.parameter_size]`.
        prior: The `tfd.Distribution` p. The pair must have a closed form.
        num_samples: Number of samples per example.
        seed: Stateless seed, int32 `[2]`. If None, each call samples anew.

    Returns:
        A `CrossCheck`, to be averaged over many examples.

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
