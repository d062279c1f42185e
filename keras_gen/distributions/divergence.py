"""The Kullback-Leibler divergence between two TFP distributions: closed form where there is one, sampled otherwise."""

from __future__ import annotations

import functools
from typing import NamedTuple

import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._typing import Distribution, TensorLike
from keras_gen.distributions.posteriors import Posterior


class KLDivergence(NamedTuple):
    """A divergence in nats, and how it was had."""

    value: tf.Tensor
    """KL(a ‖ b), one value for each distribution of the batch."""
    analytic: bool
    """True for the closed form, False for an estimate from samples."""


def kl_divergence(
    a: Distribution, b: Distribution, num_samples: int = 1, seed: TensorLike | None = None
) -> KLDivergence:
    """KL(a ‖ b) = E_a[log a − log b] in nats, the expectation under the first argument (MATH 3).

    The closed form that TFP has registered for the pair; without one, the mean of log a(z) − log b(z) over `num_samples` draws
    z ~ a, unbiased, through which gradients flow where `a` is reparameterized.

    Args:
        a, b: `tfd.Distribution` objects over the same event shape.
        num_samples: Draws for a pair without a closed form.
        seed: Stateless seed of these draws, int32 `[2]`; without it they are drawn anew each time.

    Returns:
        `KLDivergence(value, analytic)`, `value` of the broadcast batch shape.

    Raises:
        ValueError: If the event shapes differ, or `num_samples` is no positive int.

    Example:

    >>> from tensorflow_probability import distributions as tfd
    >>> kl_divergence(tfd.Normal(1.0, 1.0), tfd.Normal(0.0, 1.0)).value.numpy()
    np.float32(0.5)
    """
    num_samples = positive_int(None, "num_samples", num_samples)
    if not a.event_shape.is_compatible_with(b.event_shape):
        raise ValueError(
            f"A divergence needs one event shape. Received: {a.event_shape} and {b.event_shape}."
        )
    value = closed_form_kl(a, b)
    if value is not None:
        return KLDivergence(value, analytic=True)
    z = a.sample(num_samples, seed=seed)
    return KLDivergence(tf.reduce_mean(a.log_prob(z) - b.log_prob(z), axis=0), analytic=False)


def closed_form_kl(a: Distribution, b: Distribution) -> tf.Tensor | None:
    """Return KL(a ‖ b) in closed form, in nats, or None for a pair without one."""
    _register_mixed_pairs()
    try:
        return a.kl_divergence(b)
    except NotImplementedError:
        return None


class CrossCheck(NamedTuple):
    """The closed form of a divergence beside an estimate from samples, each `[batch]`."""

    analytic: tf.Tensor
    """KL(q ‖ p) in closed form, nats."""
    sampled: tf.Tensor
    """The same, estimated."""
    difference: tf.Tensor
    """The estimate less the closed form: 0 in the mean if both are right."""
    gradient_difference: tf.Tensor
    """The same of the gradients in the parameters, along the gradient of the closed form."""


def cross_check(
    family: Posterior,
    parameters: TensorLike,
    prior: Distribution,
    num_samples: int = 1,
    seed: TensorLike | None = None,
) -> CrossCheck:
    """Compute KL(q ‖ p) and its gradient both ways, to be compared over many examples.

    Args:
        family: A `Posterior`.
        parameters: Tensor `[batch, family.parameter_size]`.
        prior: `tfd.Distribution` p, for which the pair has a closed form.
        num_samples: Draws an example.
        seed: Stateless seed, int32 `[2]`.

    Returns:
        `CrossCheck`.

    Raises:
        ValueError: As `kl_divergence`.
    """
    parameters = tf.cast(parameters, tf.float32)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(parameters)
        q = family(parameters)
        analytic = kl_divergence(q, prior, num_samples).value
        z = q.sample(num_samples, seed=seed)
        sampled = tf.reduce_mean(q.log_prob(z) - prior.log_prob(z), axis=0)
    expected = tape.gradient(analytic, parameters)
    difference = tape.gradient(sampled, parameters, unconnected_gradients="zero") - expected
    along = tf.math.divide_no_nan(
        tf.reduce_sum(difference * expected, -1), tf.norm(expected, axis=-1)
    )
    return CrossCheck(analytic, sampled, sampled - analytic, along)


@functools.cache
def _register_mixed_pairs():
    """Teach TFP the divergence between a full-covariance and a diagonal normal, which it lacks, in both orders."""
    from tensorflow_probability import distributions as tfd

    def mean_and_scale(distribution):
        if not isinstance(distribution.distribution, tfd.Normal):
            raise NotImplementedError("only independent normals have a closed form here")
        normal = distribution.distribution
        return normal.loc, tf.broadcast_to(normal.scale, tf.shape(normal.loc))

    @tfd.RegisterKL(tfd.MultivariateNormalTriL, tfd.Independent)
    def _(a, b, name=None):
        """½ [tr(Σ_b⁻¹Σ_a) + (m_b − m_a)ᵀΣ_b⁻¹(m_b − m_a) − n + log(det Σ_b / det Σ_a)] with Σ_b = diag η² (MATH 3)."""
        beta, eta = mean_and_scale(b)
        scale_tril = a.scale.to_dense()
        trace = tf.reduce_sum((scale_tril / eta[..., None]) ** 2, axis=[-2, -1])
        distance = tf.reduce_sum(((beta - a.loc) / eta) ** 2, axis=-1)
        log_ratio = tf.reduce_sum(
            tf.math.log(eta) - tf.math.log(tf.linalg.diag_part(scale_tril)), axis=-1
        )
        return 0.5 * (trace + distance - eta.shape[-1]) + log_ratio

    @tfd.RegisterKL(tfd.Independent, tfd.MultivariateNormalTriL)
    def _(a, b, name=None):
        """The same with Σ_a = diag σ²."""
        mu, sigma = mean_and_scale(a)
        trace = tf.reduce_sum(b.scale.solve(tf.linalg.diag(sigma)) ** 2, axis=[-2, -1])
        distance = tf.reduce_sum(b.scale.solvevec(b.loc - mu) ** 2, axis=-1)
        log_ratio = b.scale.log_abs_determinant() - tf.reduce_sum(tf.math.log(sigma), axis=-1)
        return 0.5 * (trace + distance - sigma.shape[-1]) + log_ratio
