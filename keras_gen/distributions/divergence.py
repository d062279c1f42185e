"""The Kullback-Leibler divergence between two TFP distributions: closed form where there is one, sampled otherwise."""

from typing import NamedTuple

import tensorflow as tf


class KLDivergence(NamedTuple):
    """A divergence in nats, and how it was had."""

    value: tf.Tensor
    """KL(a ‖ b), one value for each distribution of the batch."""
    analytic: bool
    """True for the closed form, False for an estimate from samples."""


def kl_divergence(a, b, num_samples=1, seed=None):
    """KL(a ‖ b) = E_a[log a − log b] in nats, the expectation under the first argument (MATH 3).

    The closed form that TFP has registered for the pair; without one, the mean of log a(z) − log b(z) over `num_samples` draws
    z ~ a, unbiased, through which gradients flow where `a` is reparameterized.

    Args:
        a, b: `tfd.Distribution`s over the same event shape.
        num_samples: Draws for a pair without a closed form.
        seed: Stateless seed of these draws, int32 `[2]`; without it they are drawn anew each time.

    Returns:
        `KLDivergence(value, analytic)`, `value` of the broadcast batch shape.

    Example:

    >>> from tensorflow_probability import distributions as tfd
    >>> kl_divergence(tfd.Normal(1.0, 1.0), tfd.Normal(0.0, 1.0)).value.numpy()
    np.float32(0.5)
    """
    if num_samples < 1:
        raise ValueError(f"`num_samples` is the number of draws, at least 1. Received: num_samples={num_samples!r}")
    try:
        return KLDivergence(a.kl_divergence(b), analytic=True)
    except NotImplementedError:
        z = a.sample(num_samples, seed=seed)
        return KLDivergence(tf.reduce_mean(a.log_prob(z) - b.log_prob(z), axis=0), analytic=False)
