"""What a VAE minimizes, as an object for `compile(objective=)`, and schedules for the weight of its KL."""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_gen._arguments import is_real, positive_int
from keras_gen._serialization import Serializable
from keras_gen._typing import Distribution, TensorLike
from keras_gen.distributions import kl_divergence


class Objective(Serializable):
    """A bound on the evidence, computed from the distributions of one batch."""

    def __call__(
        self,
        x: tf.Tensor,
        posterior: Distribution,
        frozen_posterior: Distribution,
        prior: Distribution,
        decode: Callable[[tf.Tensor], Distribution],
        seed: TensorLike,
        step: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The terms of the bound in nats, one value per example.

        Args:
            x: Data that the likelihood is asked about, `[batch, ...]`.
            posterior: q(z | x), a `tfd.Distribution` with batch shape `[batch]`.
            frozen_posterior: The same, through whose parameters no gradient flows.
            prior: p(z), a `tfd.Distribution`.
            decode: Function from latents `[samples, batch, n]` to the `tfd.Distribution` p(x | z).
            seed: Stateless seed, int32 `[2]`.
            step: Training steps so far, an integer tensor.

        Returns:
            `[batch]` tensors by name: `loss`, to be minimized, and for the logs `reconstruction_loss`, `kl_loss` and
            `elbo`.
        """
        raise NotImplementedError(f"{type(self).__name__} must return its terms from `__call__`.")


@keras.saving.register_keras_serializable("keras_gen")
class ELBO(Objective):
    """−ELBO = −E_q[log p(x | z)] + KL(q(z | x) ‖ p(z)), the expectation from draws of z (MATH 2; arXiv:1312.6114, eq. 3).

    Args:
        kl_weight: Factor on the KL in the loss: a number, or a schedule of the training step such as `LinearWarmUp`. Other than 1
            it is a β-VAE (Higgins et al. 2017) and the loss is no bound. The logs keep `kl_loss` and `elbo` without it.
        num_samples: Draws of z an example.
        free_bits: Nats of KL an example that cost nothing: the loss takes max(KL, free_bits) (after Kingma et al. 2016,
            arXiv:1606.04934, section C.8, with all latents in one group).
    """

    def __init__(
        self,
        kl_weight: float | Callable[[tf.Tensor], tf.Tensor] = 1.0,
        num_samples: int = 1,
        free_bits: float = 0.0,
    ) -> None:
        if not callable(kl_weight) and not _is_number(kl_weight):
            raise ValueError(
                f"`kl_weight` of ELBO is a number of at least 0 or a schedule. Received: kl_weight={kl_weight!r}"
            )
        if not _is_number(free_bits):
            raise ValueError(
                f"`free_bits` of ELBO is a number of nats, at least 0. Received: free_bits={free_bits!r}"
            )
        self.kl_weight = kl_weight if callable(kl_weight) else float(kl_weight)
        self.num_samples = positive_int(self, "num_samples", num_samples)
        self.free_bits = float(free_bits)

    def __call__(
        self,
        x: tf.Tensor,
        posterior: Distribution,
        frozen_posterior: Distribution,
        prior: Distribution,
        decode: Callable[[tf.Tensor], Distribution],
        seed: TensorLike,
        step: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """−log p(x | z), the KL, their weighted sum and the ELBO."""
        z = posterior.sample(self.num_samples, seed=seed)
        reconstruction_loss = -tf.reduce_mean(decode(z).log_prob(x), axis=0)
        kl_loss = kl_divergence(posterior, prior, num_samples=self.num_samples, seed=seed).value
        kl_weight = self.kl_weight(step) if callable(self.kl_weight) else self.kl_weight
        return {
            "loss": reconstruction_loss + kl_weight * tf.maximum(kl_loss, self.free_bits),
            "reconstruction_loss": reconstruction_loss,
            "kl_loss": kl_loss,
            "elbo": -reconstruction_loss - kl_loss,
        }


@keras.saving.register_keras_serializable("keras_gen")
class IWAE(Objective):
    """−log 1/K Σ_k w_k with w_k = p(x | z_k) p(z_k) / q(z_k | x) (Burda et al. 2016, arXiv:1509.00519): tighter as K grows.

    The logs' `reconstruction_loss`, `kl_loss` and `elbo` are the means over the same K draws; the bound itself is −`loss`.

    Args:
        num_samples: K, draws of z an example.
        doubly_reparameterized: Use the gradient of Tucker et al. 2019 (arXiv:1810.04152, eq. 8) for the encoder, which noise does
            not drown as K grows. The posterior must have no weights of its own.
    """

    def __init__(self, num_samples: int = 50, doubly_reparameterized: bool = False) -> None:
        self.num_samples = positive_int(self, "num_samples", num_samples)
        self.doubly_reparameterized = bool(doubly_reparameterized)

    def __call__(
        self,
        x: tf.Tensor,
        posterior: Distribution,
        frozen_posterior: Distribution,
        prior: Distribution,
        decode: Callable[[tf.Tensor], Distribution],
        seed: TensorLike,
        step: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """The bound, and the means of its parts."""
        z = posterior.sample(self.num_samples, seed=seed)
        if self.doubly_reparameterized:
            posterior = frozen_posterior
            z, weigh_gradient = _with_weighed_gradient(z)
        log_likelihood = decode(z).log_prob(x)
        log_ratio = posterior.log_prob(z) - prior.log_prob(z)
        log_weights = log_likelihood - log_ratio  # [samples, batch]
        bound = tf.reduce_logsumexp(log_weights, axis=0) - math.log(self.num_samples)
        if self.doubly_reparameterized:
            # log q of the frozen posterior leaves Σ_k w̃_k ∂log w_k; weighed once more on its way to z, the encoder has w̃_k²
            weigh_gradient(tf.nn.softmax(log_weights, axis=0))
        reconstruction_loss, kl_loss = (
            -tf.reduce_mean(log_likelihood, axis=0),
            tf.reduce_mean(log_ratio, axis=0),
        )
        return {
            "loss": -bound,
            "reconstruction_loss": reconstruction_loss,
            "kl_loss": kl_loss,
            "elbo": -reconstruction_loss - kl_loss,
        }


def _with_weighed_gradient(z):
    """`z`, whose gradient is multiplied by weights `[samples, batch]` known only later, and the function that takes them."""
    known: list[tf.Tensor] = []

    @tf.custom_gradient
    def identity(z):
        return tf.identity(z), lambda gradient: gradient * tf.stop_gradient(known[0])[..., None]

    return identity(z), known.append


# === Schedules of the weight of the KL: functions of the training step, so that a resumed run goes on where it was ===


@keras.saving.register_keras_serializable("keras_gen")
class LinearWarmUp(Serializable):
    """Rises from 0 to `end` in `steps` training steps and stays there (Sønderby et al. 2016, arXiv:1602.02282).

    Args:
        steps: Training steps of the rise.
        end: Weight from then on.

    Example:

    >>> [float(LinearWarmUp(steps=100)(step)) for step in (0, 50, 100, 1000)]
    [0.0, 0.5, 1.0, 1.0]
    """

    def __init__(self, steps: int, end: float = 1.0) -> None:
        self.steps = positive_int(self, "steps", steps)
        self.end = _largest_weight(self, end)

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """The weight at `step`."""
        return self.end * tf.minimum(tf.cast(step, tf.float32) / self.steps, 1.0)


@keras.saving.register_keras_serializable("keras_gen")
class Cyclical(Serializable):
    """Rises from 0 to `end` in the first `rise` of each period and stays there for its rest (Fu et al. 2019, arXiv:1903.10145).

    Args:
        period: Training steps of a period.
        rise: Share of the period that the rise takes, in (0, 1].
        end: Largest weight.

    Example:

    >>> [float(Cyclical(period=100)(step)) for step in (0, 25, 50, 99, 100)]
    [0.0, 0.5, 1.0, 1.0, 0.0]
    """

    def __init__(self, period: int, rise: float = 0.5, end: float = 1.0) -> None:
        if not _is_number(rise) or not 0 < rise <= 1:
            raise ValueError(
                f"`rise` of Cyclical is a share of the period in (0, 1]. Received: rise={rise!r}"
            )
        self.period = positive_int(self, "period", period)
        self.rise = rise
        self.end = _largest_weight(self, end)

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """The weight at `step`."""
        within = (
            tf.cast(tf.math.floormod(tf.cast(step, tf.int64), self.period), tf.float32)
            / self.period
        )
        return self.end * tf.minimum(within / self.rise, 1.0)


def _largest_weight(schedule, end):
    if not _is_number(end):
        raise ValueError(
            f"`end` of {type(schedule).__name__} is a number of at least 0. Received: end={end!r}"
        )
    return float(end)


def _is_number(value):
    return is_real(value) and 0 <= value < math.inf
