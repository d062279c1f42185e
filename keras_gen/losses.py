"""Adversarial losses: both players' formulas in one object, one value per example, on logits."""

import keras
import tensorflow as tf

from keras_gen.serialization import Serializable


class AdversarialLoss(Serializable):
    """What each player of a GAN minimizes. Logits are `[batch, 1]`, the discriminator's γ is their sigmoid."""

    def generator(self, fake_logits):
        """Loss of the generator, `[batch]`, from the discriminator's logits on generated examples."""
        raise NotImplementedError(f"{type(self).__name__} must return the generator's loss from `generator`.")

    def discriminator(self, real_logits, fake_logits):
        """Loss of the discriminator, `[batch]`, from its logits on real and on generated examples."""
        raise NotImplementedError(f"{type(self).__name__} must return the discriminator's loss from `discriminator`.")


@keras.saving.register_keras_serializable("keras_gen")
class NonSaturating(AdversarialLoss):
    """L_g = −log γ(x̂), L_d = −log γ(x) − log(1 − γ(x̂)) in nats (MATH 4; Goodfellow et al. 2014, arXiv:1406.2661, section 3).

    Example: a discriminator that cannot tell has γ = ½ everywhere.

    >>> loss, undecided = NonSaturating(), tf.zeros((1, 1))
    >>> loss.generator(undecided).numpy().round(4), loss.discriminator(undecided, undecided).numpy().round(4)
    (array([0.6931], dtype=float32), array([1.3863], dtype=float32))
    """

    def generator(self, fake_logits):
        """−log γ(x̂)."""
        return tf.squeeze(tf.math.softplus(-fake_logits), -1)

    def discriminator(self, real_logits, fake_logits):
        """−log γ(x) − log(1 − γ(x̂))."""
        return tf.squeeze(tf.math.softplus(-real_logits) + tf.math.softplus(fake_logits), -1)
