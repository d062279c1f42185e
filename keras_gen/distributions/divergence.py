"""Compute the Kullback-Leibler (KL) divergence between two `tfd.Distribution` objects."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._typing import Distribution, TensorLike
from keras_gen.distributions.posteriors import Posterior


class KLDivergence(NamedTuple):
    """The value of a Kullback-Leibler divergence, and whether the value is exact or estimated."""

    value: tf.Tensor
    """KL(a ‖ b) in nats, with one value for each pair of distributions in the batch."""
    analytic: bool
    """True if `value` comes from an exact formula, False if it is an estimate from samples."""


def kl_divergence(
    a: Distribution, b: Distribution, num_samples: int = 1, seed: TensorLike | None = None
) -> KLDivergence:
    """Return the Kullback-Leibler divergence KL(a ‖ b) = E_a[log a(z) − log b(z)] in nats.

    E_a is the mean over samples z of `a`. The function uses an exact formula (a closed form) if `a`
    and `b` are Gaussians over vectors, or if TensorFlow Probability (TFP) has a formula for them.
    For all other pairs, the function returns the mean of log a(z) − log b(z) over `num_samples`
    samples z of `a`. This estimate is unbiased. If TFP can differentiate the samples of `a`
    (reparameterization), gradients flow through the estimate.

    Args:
        a: A `tfd.Distribution`, the first argument of the divergence.
        b: A `tfd.Distribution` with the same event shape as `a`, the second argument.
        num_samples: Number of samples z for each distribution in the batch. Default: 1. If there is
            a closed form, no samples are taken.
        seed: Seed of the samples, int32 `[2]`. If None, each call takes new samples.

    Returns:
        `KLDivergence(value, analytic)`. `value` has the shape to which the batch shapes of `a` and
        `b` broadcast. `analytic` is True if a closed form was used.

    Raises:
        ValueError: If the event shapes differ, or if `num_samples` is not a positive integer.

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
    """Return KL(a ‖ b) from an exact formula (a closed form), or None if no formula is known.

    Args:
        a: A `tfd.Distribution`, the first argument of the divergence.
        b: A `tfd.Distribution` with the same event shape as `a`.

    Returns:
        The divergence in nats, or None. The divergence has the shape to which the batch shapes of
        `a` and `b` broadcast.

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
    """Return the mean and the scale matrix of a Gaussian over vectors.

    For any other distribution, such as a Gaussian over matrices, the function returns None. The
    scale matrix S is a matrix with SSᵀ = Σ, where Σ is the covariance matrix of the Gaussian.
    """
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
            mean = normal.loc + tf.zeros_like(normal.scale)  # broadcast to one shape
            scale = normal.scale + tf.zeros_like(normal.loc)
            return _Gaussian(mean, tf.linalg.LinearOperatorDiag(scale))
    return None


def _gaussian_kl(a: _Gaussian, b: _Gaussian) -> tf.Tensor:
    """Return KL(a ‖ b) of two Gaussians over vectors, in nats.

    For a = N(m_a, Σ_a) and b = N(m_b, Σ_b) with n dimensions, the divergence is

    ½ [tr(Σ_b⁻¹Σ_a) + (m_b − m_a)ᵀΣ_b⁻¹(m_b − m_a) − n + log(det Σ_b / det Σ_a)].

    A covariance matrix Σ is SSᵀ, where S is the scale matrix. If both scale matrices are diagonal,
    the computation takes O(n) operations.
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
    """Return whether the class of an operator represents only diagonal matrices."""
    diagonal = (
        tf.linalg.LinearOperatorDiag,
        tf.linalg.LinearOperatorIdentity,
        tf.linalg.LinearOperatorScaledIdentity,
    )
    return isinstance(scale, diagonal)


def _log_abs_determinant(scale: tf.linalg.LinearOperator) -> tf.Tensor:
    """Return log |det S| of a scale matrix S.

    If S is triangular or diagonal, the function adds the logarithms of the diagonal elements. It
    does not call the method `log_abs_determinant` of S, which can be slow: the operators of TFP
    with compensated summation add the logarithms in a loop.
    """
    if isinstance(scale, tf.linalg.LinearOperatorLowerTriangular) or _is_diagonal(scale):
        return tf.reduce_sum(tf.math.log(tf.abs(scale.diag_part())), axis=-1)
    return scale.log_abs_determinant()


class CrossCheck(NamedTuple):
    """The divergence KL(q ‖ p) of a posterior q from a prior p, computed in two ways.

    The function `cross_check` returns this tuple. Each field has the shape `[batch]`.
    """

    analytic: tf.Tensor
    """KL(q ‖ p) from its closed form, in nats."""
    sampled: tf.Tensor
    """The estimate of KL(q ‖ p) from samples, in nats."""
    difference: tf.Tensor
    """`sampled` − `analytic`, in nats. If `sampled` and `analytic` are correct, the mean is 0."""
    gradient_difference: tf.Tensor
    """Difference between the gradients of `sampled` and `analytic`, as one number per example.

    Both gradients are with respect to the parameters of q. The number is the component of their
    difference (sampled minus analytic) in the direction of the analytic gradient.
    """


def cross_check(
    posterior: Posterior,
    parameters: TensorLike,
    prior: Distribution,
    num_samples: int = 1,
    seed: TensorLike | None = None,
) -> CrossCheck:
    """Compare the closed form of KL(q ‖ p), and its gradient, with estimates from samples.

    q is a posterior and p is a prior.

    Args:
        posterior: The `Posterior` that makes q from `parameters`.
        parameters: Parameters of q, `[batch, posterior.parameter_size]`.
        prior: The `tfd.Distribution` p. KL(q ‖ p) must have a closed form.
        num_samples: Number of samples per example. Default: 1.
        seed: Seed of the samples, int32 `[2]`. If None, each call takes new samples.

    Returns:
        A `CrossCheck` with one value per example. Average the values over many examples, because
        the estimate for one example is noisy.

    Raises:
        ValueError: If the event shapes differ, or if `num_samples` is not a positive integer.
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
