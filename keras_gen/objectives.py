"""What a VAE minimizes, as an object for `compile(objective=)`."""

import keras

from keras_gen.distributions import kl_divergence
from keras_gen.serialization import Serializable


class Objective(Serializable):
    """A bound on the evidence, computed from the distributions of one batch."""

    def __call__(self, x, posterior, prior, decode, seed):
        """The terms of the bound in nats, one value per example.

        Args:
            x: Data that the likelihood is asked about, `[batch, ...]`.
            posterior: q(z | x), a `tfd.Distribution` with batch shape `[batch]`.
            prior: p(z), a `tfd.Distribution`.
            decode: Function from latents `[batch, n]` to the `tfd.Distribution` p(x | z).
            seed: Stateless seed, int32 `[2]`.

        Returns:
            Dictionary of `[batch]` tensors: `loss`, to be minimized, and its parts for the logs.
        """
        raise NotImplementedError(f"{type(self).__name__} must return its terms from `__call__`.")


@keras.saving.register_keras_serializable("keras_gen")
class ELBO(Objective):
    """−ELBO = −E_q[log p(x | z)] + KL(q(z | x) ‖ p(z)), with one reparameterized draw of z (MATH 2; arXiv:1312.6114, eq. 3).

    Args:
        kl_weight: Factor on the KL in the loss; other than 1 it is a β-VAE (Higgins et al. 2017) and the loss no bound.
            The logs keep `kl_loss` and `elbo` without the factor.
    """

    def __init__(self, kl_weight=1.0):
        if isinstance(kl_weight, bool) or not isinstance(kl_weight, (int, float)) or kl_weight < 0:
            raise ValueError(f"`kl_weight` of ELBO is a number of at least 0. Received: kl_weight={kl_weight!r}")
        self.kl_weight = float(kl_weight)

    def __call__(self, x, posterior, prior, decode, seed):
        """−log p(x | z), the KL, their weighted sum and the ELBO."""
        reconstruction_loss = -decode(posterior.sample(seed=seed)).log_prob(x)
        kl_loss = kl_divergence(posterior, prior, seed=seed).value
        return {
            "loss": reconstruction_loss + self.kl_weight * kl_loss,
            "reconstruction_loss": reconstruction_loss,
            "kl_loss": kl_loss,
            "elbo": -reconstruction_loss - kl_loss,
        }
