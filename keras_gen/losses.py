"""Adversarial losses, both players' formulas in one object, and penalties on the discriminator's gradient.

All return one value per example; the model averages them. Logits are `[batch, 1]`, the discriminator's γ is their sigmoid.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_gen._arguments import is_real, positive_float, positive_int
from keras_gen._serialization import Serializable
from keras_gen._typing import TensorLike


class AdversarialLoss(Serializable):
    """What each player of a GAN minimizes."""

    relative = False
    """Whether only differences of logits mean anything, so that none says by itself that an example is real."""
    paired = False
    """Whether the generator's loss compares with real examples, too, and so needs their logits."""

    def generator(self, fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None) -> tf.Tensor:
        """Loss of the generator, `[batch]`, from the logits of generated and, if `paired`, of real examples."""
        raise NotImplementedError(
            f"{type(self).__name__} must return the generator's loss from `generator`."
        )

    def discriminator(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        """Loss of the discriminator, `[batch]`, from its logits of real and of generated examples."""
        raise NotImplementedError(
            f"{type(self).__name__} must return the discriminator's loss from `discriminator`."
        )

    def boundary(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor | float:
        """The logit over which the discriminator calls an example real; half-way between both means if the loss is relative."""
        return (
            (tf.reduce_mean(real_logits) + tf.reduce_mean(fake_logits)) / 2
            if self.relative
            else 0.0
        )


@keras.saving.register_keras_serializable("keras_gen")
class NonSaturating(AdversarialLoss):
    """L_g = −log γ(x̂), L_d = −log γ(x) − log(1 − γ(x̂)) in nats (MATH 4; Goodfellow et al. 2014, arXiv:1406.2661, section 3).

    Args:
        label_smoothing: s in [0, ½): real examples count as real with 1 − s, −(1 − s) log γ(x) − s log(1 − γ(x)), generated ones as
            generated without any doubt (one-sided; Salimans et al. 2016, arXiv:1606.03498, section 3.4).

    Example: a discriminator that cannot tell has γ = ½ everywhere.

    >>> loss, undecided = NonSaturating(), tf.zeros((1, 1))
    >>> loss.generator(undecided).numpy().round(4), loss.discriminator(undecided, undecided).numpy().round(4)
    (array([0.6931], dtype=float32), array([1.3863], dtype=float32))
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not is_real(label_smoothing) or not 0 <= label_smoothing < 0.5:
            raise ValueError(
                f"`label_smoothing` is a number in [0, 0.5). Received: label_smoothing={label_smoothing!r}"
            )
        self.label_smoothing = float(label_smoothing)

    def generator(self, fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None) -> tf.Tensor:
        """−log γ(x̂)."""
        return tf.squeeze(tf.math.softplus(-fake_logits), -1)

    def discriminator(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        """−log γ(x) − log(1 − γ(x̂)), with smoothing on the first."""
        real = (
            tf.math.softplus(-real_logits) + self.label_smoothing * real_logits
        )  # softplus(l) = softplus(−l) + l
        return tf.squeeze(real + tf.math.softplus(fake_logits), -1)


@keras.saving.register_keras_serializable("keras_gen")
class Minimax(NonSaturating):
    """The saddle point min_G max_D E[log γ(x)] + E[log(1 − γ(x̂))]: L_g = log(1 − γ(x̂)) (MATH 4; arXiv:1406.2661, equation 1).

    At the optimal discriminator its value is 2·JS(data ‖ generated) − log 4. Its gradient for the generator vanishes where the
    discriminator is sure: to train, take `NonSaturating`.

    Args:
        label_smoothing: As of `NonSaturating`.

    Example:

    >>> Minimax().generator(tf.zeros((1, 1))).numpy().round(4)
    array([-0.6931], dtype=float32)
    """

    def generator(self, fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None) -> tf.Tensor:
        """log(1 − γ(x̂))."""
        return tf.squeeze(-tf.math.softplus(fake_logits), -1)


@keras.saving.register_keras_serializable("keras_gen")
class LeastSquares(AdversarialLoss):
    """L_d = ½(D(x) − b)² + ½(D(x̂) − a)², L_g = ½(D(x̂) − c)², on the logit D itself (Mao et al. 2017, arXiv:1611.04076).

    Args:
        fake_label: a.
        real_label: b; less than 1 is label smoothing.
        generator_label: c. With b − a = 2 and b − c = 1, such as (−1, 1, 0), the generator minimizes Pearson's χ².

    Example:

    >>> LeastSquares().generator(tf.zeros((1, 1))).numpy()
    array([0.5], dtype=float32)
    """

    def __init__(
        self, fake_label: float = 0.0, real_label: float = 1.0, generator_label: float = 1.0
    ) -> None:
        labels = {
            "fake_label": fake_label,
            "real_label": real_label,
            "generator_label": generator_label,
        }
        if not all(is_real(label) for label in labels.values()) or not fake_label < real_label:
            raise ValueError(
                f"The labels of LeastSquares are numbers, `fake_label` less than `real_label`. Received: {labels}"
            )
        self.fake_label = fake_label
        self.real_label = real_label
        self.generator_label = generator_label

    def generator(self, fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None) -> tf.Tensor:
        """½(D(x̂) − c)²."""
        return tf.squeeze((fake_logits - self.generator_label) ** 2 / 2, -1)

    def discriminator(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        """½(D(x) − b)² + ½(D(x̂) − a)²."""
        return tf.squeeze(
            ((real_logits - self.real_label) ** 2 + (fake_logits - self.fake_label) ** 2) / 2, -1
        )

    def boundary(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> float:
        """Half-way between both labels."""
        return (self.fake_label + self.real_label) / 2


@keras.saving.register_keras_serializable("keras_gen")
class Hinge(AdversarialLoss):
    """L_d = max(0, 1 − D(x)) + max(0, 1 + D(x̂)), L_g = −D(x̂) (Lim & Ye 2017, arXiv:1705.02894; SNGAN, arXiv:1802.05957).

    Example:

    >>> Hinge().discriminator(tf.constant([[0.25]]), tf.constant([[-3.0]])).numpy()
    array([0.75], dtype=float32)
    """

    def generator(self, fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None) -> tf.Tensor:
        """−D(x̂)."""
        return tf.squeeze(-fake_logits, -1)

    def discriminator(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        """max(0, 1 − D(x)) + max(0, 1 + D(x̂))."""
        return tf.squeeze(tf.nn.relu(1 - real_logits) + tf.nn.relu(1 + fake_logits), -1)


@keras.saving.register_keras_serializable("keras_gen")
class Wasserstein(AdversarialLoss):
    """L_d = D(x̂) − D(x), L_g = −D(x̂): the earth mover's distance if D is 1-Lipschitz (Arjovsky et al. 2017, arXiv:1701.07875).

    Something must keep D so: `GradientPenalty`, or spectral normalization in the network.

    Example:

    >>> Wasserstein().discriminator(tf.constant([[2.0]]), tf.constant([[0.5]])).numpy()
    array([-1.5], dtype=float32)
    """

    relative = True

    def generator(self, fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None) -> tf.Tensor:
        """−D(x̂)."""
        return tf.squeeze(-fake_logits, -1)

    def discriminator(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        """D(x̂) − D(x)."""
        return tf.squeeze(fake_logits - real_logits, -1)


@keras.saving.register_keras_serializable("keras_gen")
class RelativisticPairing(AdversarialLoss):
    """L_d = −log σ(D(x) − D(x̂)), L_g = −log σ(D(x̂) − D(x)) (Jolicoeur-Martineau 2018, arXiv:1807.00734; R3GAN, arXiv:2501.05441).

    Each generated example is compared with one real one, so that none can be left out: made for `R1` and `R2` together.

    Example:

    >>> RelativisticPairing().generator(tf.zeros((1, 1)), tf.zeros((1, 1))).numpy().round(4)
    array([0.6931], dtype=float32)
    """

    relative = True
    paired = True

    def generator(self, fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None) -> tf.Tensor:
        """−log σ(D(x̂) − D(x))."""
        return tf.squeeze(tf.math.softplus(real_logits - fake_logits), -1)

    def discriminator(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        """−log σ(D(x) − D(x̂))."""
        return tf.squeeze(tf.math.softplus(fake_logits - real_logits), -1)


class Penalty(Serializable):
    """A penalty on the slope ‖∇D‖ of the discriminator at some points, in float32 whatever the network computes in.

    A subclass says where it looks in `points` and what it makes of the squared slope in `of_squared_slope`.

    Args:
        weight: Its factor.
        every: Training steps from one use to the next, with `every` times the weight (lazy regularization; Karras et al. 2020,
            arXiv:1912.04958, appendix B).
    """

    def __init__(self, weight: float, every: int = 1) -> None:
        self.weight = positive_float(self, "weight", weight)
        self.every = positive_int(self, "every", every)

    def points(self, real: tf.Tensor, fake: tf.Tensor, seed: TensorLike) -> tf.Tensor:
        """Where the slope is taken, shaped as `real` and `fake`; `seed` is a stateless seed, int32 `[2]`."""
        raise NotImplementedError(f"{type(self).__name__} must say where it looks in `points`.")

    def of_squared_slope(self, squared_slope: tf.Tensor) -> tf.Tensor:
        """The penalty without its weight, `[batch]`, from ‖∇D‖² `[batch]`."""
        raise NotImplementedError(
            f"{type(self).__name__} must return the penalty from `of_squared_slope`."
        )

    def __call__(
        self,
        discriminator: Callable[[tf.Tensor], tf.Tensor],
        real: tf.Tensor,
        fake: tf.Tensor,
        seed: TensorLike,
    ) -> tf.Tensor:
        """The penalty, `[batch]`.

        Args:
            discriminator: Function from examples to logits, in float32.
            real, fake: Real and generated examples, `[batch, ...]`.
            seed: Stateless seed, int32 `[2]`.
        """
        points = tf.stop_gradient(self.points(real, fake, seed))
        with tf.GradientTape() as tape:
            tape.watch(points)
            logits = discriminator(points)
        slopes = tf.reshape(tape.gradient(logits, points), (tf.shape(points)[0], -1))
        return self.weight * self.of_squared_slope(tf.reduce_sum(slopes**2, axis=1))


@keras.saving.register_keras_serializable("keras_gen")
class R1(Penalty):
    """½ weight ‖∇D(x)‖² at real examples (Mescheder et al. 2018, arXiv:1801.04406, equation 9).

    Args:
        weight: The paper's γ.
        every: As of `Penalty`.

    Example:

    >>> R1(10.0)(lambda x: x @ [[3.0], [4.0]], tf.zeros((1, 2)), tf.ones((1, 2)), seed=(0, 0)).numpy()
    array([125.], dtype=float32)
    """

    def points(self, real: tf.Tensor, fake: tf.Tensor, seed: TensorLike) -> tf.Tensor:
        """The real examples."""
        return tf.convert_to_tensor(real)

    def of_squared_slope(self, squared_slope: tf.Tensor) -> tf.Tensor:
        """½‖∇D‖²."""
        return squared_slope / 2


@keras.saving.register_keras_serializable("keras_gen")
class R2(R1):
    """½ weight ‖∇D(x̂)‖² at generated examples (Mescheder et al. 2018, arXiv:1801.04406, equation 10).

    Args:
        weight: The paper's γ.
        every: As of `Penalty`.

    Example:

    >>> R2(10.0)(lambda x: x @ [[3.0], [4.0]], tf.zeros((1, 2)), tf.ones((1, 2)), seed=(0, 0)).numpy()
    array([125.], dtype=float32)
    """

    def points(self, real: tf.Tensor, fake: tf.Tensor, seed: TensorLike) -> tf.Tensor:
        """The generated examples."""
        return tf.convert_to_tensor(fake)


@keras.saving.register_keras_serializable("keras_gen")
class GradientPenalty(Penalty):
    """weight (‖∇D(x̃)‖ − target)², x̃ at random between a real and a generated example (WGAN-GP; arXiv:1704.00028, equation 3).

    Args:
        weight: The paper's λ.
        target: The slope that costs nothing.
        every: As of `Penalty`.

    Example:

    >>> GradientPenalty()(lambda x: x @ [[3.0], [4.0]], tf.zeros((1, 2)), tf.ones((1, 2)), seed=(0, 0)).numpy()
    array([160.], dtype=float32)
    """

    def __init__(self, weight: float = 10.0, target: float = 1.0, every: int = 1) -> None:
        super().__init__(weight, every)
        if not is_real(target) or not 0 <= target < math.inf:
            raise ValueError(
                f"`target` of {type(self).__name__} is a number of at least 0. Received: target={target!r}"
            )
        self.target = float(target)

    def points(self, real: tf.Tensor, fake: tf.Tensor, seed: TensorLike) -> tf.Tensor:
        """ε x + (1 − ε) x̂ with one ε ~ U(0, 1) an example."""
        share = _one_an_example(real, seed)
        return share * real + (1 - share) * fake

    def of_squared_slope(self, squared_slope: tf.Tensor) -> tf.Tensor:
        """(‖∇D‖ − target)²; the root is kept off 0, where its own slope is infinite."""
        return (tf.sqrt(tf.maximum(squared_slope, 1e-12)) - self.target) ** 2


@keras.saving.register_keras_serializable("keras_gen")
class DRAGAN(GradientPenalty):
    """weight (‖∇D(x̃)‖ − target)², x̃ near a real example: x + α δ (Kodali et al. 2017, arXiv:1705.07215).

    Args:
        weight: The paper's λ.
        target: The slope that costs nothing.
        noise: δ is `noise` times the standard deviation of the batch times uniform noise in [0, 1), as in the authors' code.
        every: As of `Penalty`.

    Example:

    >>> DRAGAN()(lambda x: x @ [[3.0], [4.0]], tf.zeros((1, 2)), tf.ones((1, 2)), seed=(0, 0)).numpy()
    array([160.], dtype=float32)
    """

    def __init__(
        self, weight: float = 10.0, target: float = 1.0, noise: float = 0.5, every: int = 1
    ) -> None:
        super().__init__(weight, target, every)
        self.noise = positive_float(self, "noise", noise)

    def points(self, real: tf.Tensor, fake: tf.Tensor, seed: TensorLike) -> tf.Tensor:
        """x + α δ with one α ~ U(0, 1) an example."""
        first, second = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        delta = (
            self.noise
            * tf.math.reduce_std(real)
            * tf.random.stateless_uniform(tf.shape(real), first)
        )
        return real + _one_an_example(real, second) * delta


def _one_an_example(x, seed):
    """Uniform in [0, 1), `[batch, 1, …]` of the rank of `x`."""
    return tf.random.stateless_uniform(
        tf.concat([tf.shape(x)[:1], tf.ones(tf.rank(x) - 1, tf.int32)], 0), seed
    )
