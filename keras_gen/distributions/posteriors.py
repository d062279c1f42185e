"""Posterior families q(z | x): the encoder's output tensor ⇄ a distribution over the latents."""

import math

import keras
import tensorflow as tf

from keras_gen.serialization import Serializable

SCALE_FLOOR = 1e-4
_SOFTPLUS_OF_THIS_IS_ONE = math.log(math.e - 1)


def positive_scale(raw):
    """A scale from an unbounded tensor: never below `SCALE_FLOOR`, never infinite, and 1 where `raw` is 0."""
    return SCALE_FLOOR + (1 - SCALE_FLOOR) * tf.math.softplus(raw + _SOFTPLUS_OF_THIS_IS_ONE)


class Posterior(Serializable):
    """A family of distributions over the latents, indexed by the tensor that an encoder puts out.

    A subclass says how large that tensor is (`parameter_size`) and turns it into a distribution (`__call__`).

    Args:
        event_size: Number of latent dimensions, n of the notes.
    """

    def __init__(self, event_size):
        if not isinstance(event_size, int) or event_size < 1:
            raise ValueError(
                f"`event_size` of {type(self).__name__} is the number of latent dimensions, an int of at least 1. "
                f"Received: event_size={event_size!r}"
            )
        self.event_size = event_size

    @property
    def parameter_size(self):
        """Number of encoder outputs that index one distribution of the family."""
        raise NotImplementedError(f"{type(self).__name__} must say its `parameter_size`, the size of the encoder's output.")

    def __call__(self, parameters):
        """Turn `[..., parameter_size]` into a `tfd.Distribution` with event shape `[event_size]`."""
        raise NotImplementedError(f"{type(self).__name__} must turn parameters into a distribution in `__call__`.")


@keras.saving.register_keras_serializable("keras_gen")
class DiagonalNormal(Posterior):
    """q(z | x) = N(μ(x), diag σ²(x)), independent latents (MATH 2; Kingma & Welling 2014, arXiv:1312.6114).

    The first half of the parameters is μ; the second, through a softplus with a floor, is σ. Parameters of 0 give N(0, I).

    Args:
        event_size: Number of latent dimensions.

    Example:

    >>> posterior = DiagonalNormal(event_size=2)
    >>> posterior.parameter_size
    4
    >>> posterior(tf.zeros((1, 4))).stddev().numpy().tolist()
    [[1.0, 1.0]]
    """

    @property
    def parameter_size(self):
        """Twice the number of latents: μ, then the raw σ."""
        return 2 * self.event_size

    def __call__(self, parameters):
        """Turn `[..., 2 * event_size]` into N(μ, diag σ²) over `[event_size]`."""
        from tensorflow_probability import distributions as tfd

        mean, raw_scale = tf.split(tf.cast(parameters, tf.float32), 2, axis=-1)
        return tfd.Independent(tfd.Normal(mean, positive_scale(raw_scale)), 1)
