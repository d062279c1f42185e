"""Adversarial losses of a GAN, and penalties on the gradient of its discriminator.

Each adversarial loss defines the loss L_g of the generator and the loss L_d of the discriminator.
All losses and penalties return one value per example, and the model averages these values. The
discriminator returns a logit D(x) for each example x. γ(x) = sigmoid(D(x)) is the discriminator's
estimate of the probability that x is a real example.
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
    """Base class of the adversarial losses.

    A subclass implements `generator`, the loss of the generator, and `discriminator`, the loss of
    the discriminator. In the formulas of the subclasses, x is a real example, and x̂ is a generated
    example. D(x) and D(x̂) are the logits that the discriminator returns for these examples.
    """

    relative = False
    """Whether the loss of the discriminator depends only on differences between logits.

    If True, the sign of a single logit does not show whether the discriminator classifies an
    example as real.
    """
    paired = False
    """Whether the loss of the generator also needs the logits of real examples."""

    def generator(self, fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None) -> tf.Tensor:
        """Return the loss of the generator, `[batch]`.

        Args:
            fake_logits: Logits of generated examples, `[batch, 1]`.
            real_logits: Logits of real examples, `[batch, 1]`. This argument is required only if
                the attribute `paired` is True. Then the loss of the generator also depends on the
                real examples. Default: None.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `generator` and return the generator's loss."
        )

    def discriminator(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        """Return the loss of the discriminator, `[batch]`.

        Args:
            real_logits: Logits of real examples, `[batch, 1]`.
            fake_logits: Logits of generated examples, `[batch, 1]`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `discriminator` and return the discriminator's "
            "loss."
        )

    def boundary(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor | float:
        """Return the logit above which the discriminator classifies an example as real.

        By default, this logit is 0. If the attribute `relative` is True, this logit is the midpoint
        between the mean logit of the real examples and the mean logit of the generated examples.
        """
        if self.relative:
            return (tf.reduce_mean(real_logits) + tf.reduce_mean(fake_logits)) / 2
        return 0.0


@keras.saving.register_keras_serializable("keras_gen")
class NonSaturating(AdversarialLoss):
    """Compute the non-saturating loss, in nats.

    Let x be a real example, and x̂ a generated example. D(x) is the logit that the discriminator
    returns for x. γ(x) = sigmoid(D(x)) is the discriminator's estimate of the probability that x is
    real. The loss of the generator is L_g = −log γ(x̂). The loss of the discriminator is
    L_d = −log γ(x) − log(1 − γ(x̂)). The source is Goodfellow et al. 2014, arXiv:1406.2661, section
    3.

    Args:
        label_smoothing: A number s in [0, ½). In L_d, the term −log γ(x) of real examples becomes
            −(1 − s) log γ(x) − s log(1 − γ(x)). This is called one-sided label smoothing (Salimans
            et al. 2016, arXiv:1606.03498, section 3.4). Default: 0, no smoothing.

    Example:
        If the logits are 0, then γ = ½. The discriminator cannot tell real from generated examples.

        >>> loss = NonSaturating()
        >>> logits = tf.zeros((1, 1))
        >>> loss.generator(logits).numpy().round(4)
        array([0.6931], dtype=float32)
        >>> loss.discriminator(logits, logits).numpy().round(4)
        array([1.3863], dtype=float32)
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not is_real(label_smoothing) or not 0 <= label_smoothing < 0.5:
            raise ValueError(
                f"`label_smoothing` of {type(self).__name__} must be a number in [0, 0.5). "
                f"Received: label_smoothing={label_smoothing!r}"
            )
        self.label_smoothing = float(label_smoothing)

    def generator(self, fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None) -> tf.Tensor:
        """Return −log γ(x̂)."""
        return tf.squeeze(tf.math.softplus(-fake_logits), -1)

    def discriminator(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        """Return L_d, the loss of the discriminator, `[batch]`. The class defines L_d."""
        # −(1 − s) log γ − s log(1 − γ) = softplus(−D) + s D, since softplus(D) = softplus(−D) + D.
        real = tf.math.softplus(-real_logits) + self.label_smoothing * real_logits
        return tf.squeeze(real + tf.math.softplus(fake_logits), -1)


@keras.saving.register_keras_serializable("keras_gen")
class Minimax(NonSaturating):
    """Compute the minimax loss, in nats.

    Let x be a real example, and x̂ a generated example. γ(x) is the discriminator's estimate of the
    probability that x is real. The discriminator maximizes V = E[log γ(x)] + E[log(1 − γ(x̂))],
    where E is the mean, and the generator minimizes V (Goodfellow et al. 2014, arXiv:1406.2661,
    equation 1).

    The loss of the discriminator is L_d = −log γ(x) − log(1 − γ(x̂)). The loss of the generator is
    L_g = log(1 − γ(x̂)), because the first term of V does not depend on the generator. For an
    optimal discriminator, V = 2·JS − log 4. Here JS is the Jensen-Shannon divergence between the
    distributions of x and x̂.

    When γ(x̂) is close to 0, the gradient of L_g vanishes. Therefore prefer `NonSaturating` for
    training.

    Args:
        label_smoothing: A number s in [0, ½). In L_d, the term −log γ(x) of real examples becomes
            −(1 − s) log γ(x) − s log(1 − γ(x)). This is called one-sided label smoothing. Default:
            0, no smoothing.

    Example:
        >>> Minimax().generator(tf.zeros((1, 1))).numpy().round(4)
        array([-0.6931], dtype=float32)
    """

    def generator(self, fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None) -> tf.Tensor:
        """Return log(1 − γ(x̂))."""
        return tf.squeeze(-tf.math.softplus(fake_logits), -1)


@keras.saving.register_keras_serializable("keras_gen")
class LeastSquares(AdversarialLoss):
    """Compute the least-squares loss of the logits.

    D(x) is the logit of a real example x, and D(x̂) is the logit of a generated example x̂. The
    loss of the discriminator is L_d = ½(D(x) − b)² + ½(D(x̂) − a)². The loss of the generator is
    L_g = ½(D(x̂) − c)² (Mao et al. 2017, arXiv:1611.04076, equation 2). The arguments set the
    constants a, b and c.

    Args:
        fake_label: a, the logit that the discriminator should return for generated examples.
            Default: 0.
        real_label: b, the logit that the discriminator should return for real examples. Default: 1.
            A smaller b is a form of label smoothing.
        generator_label: c, the value of D(x̂) at which the loss of the generator is 0. Default: 1.
            If b − a = 2 and b − c = 1, the generator minimizes Pearson's χ² divergence. For
            instance, a = −1, b = 1 and c = 0 meet these two conditions.

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
                "The labels of LeastSquares must be numbers, with `fake_label` less than "
                f"`real_label`. Received: {labels}"
            )
        self.fake_label = fake_label
        self.real_label = real_label
        self.generator_label = generator_label

    def generator(self, fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None) -> tf.Tensor:
        """Return ½(D(x̂) − c)²."""
        return tf.squeeze((fake_logits - self.generator_label) ** 2 / 2, -1)

    def discriminator(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        """Return ½(D(x) − b)² + ½(D(x̂) − a)²."""
        real = (real_logits - self.real_label) ** 2
        fake = (fake_logits - self.fake_label) ** 2
        return tf.squeeze((real + fake) / 2, -1)

    def boundary(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> float:
        """Return (a + b) / 2, the midpoint between `fake_label` and `real_label`."""
        return (self.fake_label + self.real_label) / 2


@keras.saving.register_keras_serializable("keras_gen")
class Hinge(AdversarialLoss):
    """Compute the hinge loss.

    D(x) is the logit of a real example x, and D(x̂) is the logit of a generated example x̂. The loss
    of the discriminator is L_d = max(0, 1 − D(x)) + max(0, 1 + D(x̂)). The loss of the generator is
    L_g = −D(x̂). The source is Lim & Ye 2017, arXiv:1705.02894. SNGAN, the GAN with spectral
    normalization, uses this loss (Miyato et al. 2018, arXiv:1802.05957).

    Example:
        >>> Hinge().discriminator(tf.constant([[0.25]]), tf.constant([[-3.0]])).numpy()
        array([0.75], dtype=float32)
    """

    def generator(self, fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None) -> tf.Tensor:
        """Return −D(x̂)."""
        return tf.squeeze(-fake_logits, -1)

    def discriminator(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        """Return max(0, 1 − D(x)) + max(0, 1 + D(x̂))."""
        return tf.squeeze(tf.nn.relu(1 - real_logits) + tf.nn.relu(1 + fake_logits), -1)


@keras.saving.register_keras_serializable("keras_gen")
class Wasserstein(AdversarialLoss):
    """Compute the Wasserstein loss.

    D(x) is the logit of a real example x, and D(x̂) is the logit of a generated example x̂. The
    loss of the discriminator is L_d = D(x̂) − D(x). The loss of the generator is L_g = −D(x̂). The
    source is Arjovsky et al. 2017, arXiv:1701.07875.

    Let E[L_d] be the mean of L_d. If D minimizes E[L_d] among all 1-Lipschitz functions, −E[L_d] is
    the earth mover's distance between the distributions of x and x̂. The loss alone does not make D
    1-Lipschitz. Therefore add a `GradientPenalty` to the loss, or use spectral normalization in the
    discriminator.

    Example:
        >>> Wasserstein().discriminator(tf.constant([[2.0]]), tf.constant([[0.5]])).numpy()
        array([-1.5], dtype=float32)
    """

    relative = True

    def generator(self, fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None) -> tf.Tensor:
        """Return −D(x̂)."""
        return tf.squeeze(-fake_logits, -1)

    def discriminator(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        """Return D(x̂) − D(x)."""
        return tf.squeeze(fake_logits - real_logits, -1)


@keras.saving.register_keras_serializable("keras_gen")
class RelativisticPairing(AdversarialLoss):
    """Compute the relativistic pairing loss, in nats.

    D(x) is the logit of a real example x, D(x̂) is the logit of a generated example x̂, and σ is the
    sigmoid. The loss of the discriminator is L_d = −log σ(D(x) − D(x̂)). The loss of the generator
    is L_g = −log σ(D(x̂) − D(x)). The source is Jolicoeur-Martineau 2018, arXiv:1807.00734.

    Each generated example is compared with one real example. This comparison discourages the
    generator from omitting modes of the data. The GAN R3GAN uses this loss together with the
    penalties `R1` and `R2` (Huang et al. 2025, arXiv:2501.05441).

    Example:
        >>> RelativisticPairing().generator(tf.zeros((1, 1)), tf.zeros((1, 1))).numpy().round(4)
        array([0.6931], dtype=float32)
    """

    relative = True
    paired = True

    def generator(self, fake_logits: tf.Tensor, real_logits: tf.Tensor | None = None) -> tf.Tensor:
        """Return −log σ(D(x̂) − D(x))."""
        return tf.squeeze(tf.math.softplus(real_logits - fake_logits), -1)

    def discriminator(self, real_logits: tf.Tensor, fake_logits: tf.Tensor) -> tf.Tensor:
        """Return −log σ(D(x) − D(x̂))."""
        return tf.squeeze(tf.math.softplus(fake_logits - real_logits), -1)


class Penalty(Serializable):
    """Base class of the penalties on ‖∇D‖, the gradient norm of the discriminator.

    ∇D is the gradient of the discriminator's logit D with respect to the input of the
    discriminator. A subclass implements two methods. `points` returns the points at which ∇D is
    computed. `from_squared_norm` computes the penalty from ‖∇D‖². The penalty is computed in
    float32, also under mixed precision.

    Args:
        weight: Factor of the penalty, a positive number.
        every: Interval in training steps. The GAN applies the penalty once per interval, multiplied
            by `every`. Therefore the average penalty per step does not depend on `every`. This is
            the lazy regularization of Karras et al. 2020, arXiv:1912.04958, appendix B. Default: 1,
            every step.
    """

    def __init__(self, weight: float, every: int = 1) -> None:
        self.weight = positive_float(self, "weight", weight)
        self.every = positive_int(self, "every", every)

    def points(self, real: tf.Tensor, fake: tf.Tensor, seed: TensorLike) -> tf.Tensor:
        """Return the inputs of the discriminator at which its gradient is penalized.

        The result has the shape of `real`.

        Args:
            real: Real examples, `[batch, ...]`.
            fake: Generated examples, `[batch, ...]`.
            seed: Seed for the stateless random functions of TensorFlow, int32 `[2]`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `points` and return the points at which to "
            "compute the gradient."
        )

    def from_squared_norm(self, squared_norm: tf.Tensor) -> tf.Tensor:
        """Return the penalty of each example without the factor `weight`, `[batch]`.

        Args:
            squared_norm: Squared norm of the discriminator's gradient for each example, ‖∇D‖²,
                `[batch]`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `from_squared_norm` and return the penalty."
        )

    def __call__(
        self,
        discriminator: Callable[[tf.Tensor], tf.Tensor],
        real: tf.Tensor,
        fake: tf.Tensor,
        seed: TensorLike,
    ) -> tf.Tensor:
        """Return the penalty of each example, including the factor `weight`, `[batch]`.

        Args:
            discriminator: Function that maps examples to their logits, float32 `[batch, 1]`.
            real: Real examples, `[batch, ...]`.
            fake: Generated examples, `[batch, ...]`.
            seed: Seed for the stateless random functions of TensorFlow, int32 `[2]`.
        """
        points = tf.stop_gradient(self.points(real, fake, seed))
        with tf.GradientTape() as tape:
            tape.watch(points)
            logits = discriminator(points)
        gradients = tf.reshape(tape.gradient(logits, points), (tf.shape(points)[0], -1))
        squared_norm = tf.reduce_sum(gradients**2, axis=1)
        # Subclasses written for version 0.1.0 define `of_squared_slope`, the former name of
        # `from_squared_norm`.
        from_squared_norm = getattr(self, "of_squared_slope", self.from_squared_norm)
        return self.weight * from_squared_norm(squared_norm)


@keras.saving.register_keras_serializable("keras_gen")
class R1(Penalty):
    """Penalize the gradient norm at real examples x with ½ · weight · ‖∇D(x)‖².

    ∇D is the gradient of the discriminator's logit D with respect to the input of the
    discriminator. The source is Mescheder et al. 2018, arXiv:1801.04406, equation 9.

    Args:
        weight: Factor of the penalty, γ in the paper.
        every: Interval in training steps. The penalty is applied once per interval, multiplied by
            `every`. Default: 1, every step.

    Example:
        The gradient of this discriminator is (3, 4). So the penalty is ½ · 10 · 25.

        >>> real, fake = tf.zeros((1, 2)), tf.ones((1, 2))
        >>> R1(10.0)(lambda x: x @ [[3.0], [4.0]], real, fake, seed=(0, 0)).numpy()
        array([125.], dtype=float32)
    """

    def points(self, real: tf.Tensor, fake: tf.Tensor, seed: TensorLike) -> tf.Tensor:
        """Return the real examples."""
        return tf.convert_to_tensor(real)

    def from_squared_norm(self, squared_norm: tf.Tensor) -> tf.Tensor:
        """Return ½‖∇D‖²."""
        return squared_norm / 2


@keras.saving.register_keras_serializable("keras_gen")
class R2(R1):
    """Penalize the gradient norm at generated examples x̂ with ½ · weight · ‖∇D(x̂)‖².

    ∇D is the gradient of the discriminator's logit D with respect to the input of the
    discriminator. The source is Mescheder et al. 2018, arXiv:1801.04406, equation 10.

    Args:
        weight: Factor of the penalty, γ in the paper.
        every: Interval in training steps. The penalty is applied once per interval, multiplied by
            `every`. Default: 1, every step.

    Example:
        The logit is 3 x₁ + 4 x₂. Its gradient norm is 5, and the penalty is ½ · 10 · 5² = 125.

        >>> real, fake = tf.zeros((1, 2)), tf.ones((1, 2))
        >>> R2(10.0)(lambda x: x @ [[3.0], [4.0]], real, fake, seed=(0, 0)).numpy()
        array([125.], dtype=float32)
    """

    def points(self, real: tf.Tensor, fake: tf.Tensor, seed: TensorLike) -> tf.Tensor:
        """Return the generated examples."""
        return tf.convert_to_tensor(fake)


@keras.saving.register_keras_serializable("keras_gen")
class GradientPenalty(Penalty):
    """Penalize the deviation of the gradient norm from a target: weight · (‖∇D(x̃)‖ − target)².

    ∇D is the gradient of the discriminator's logit D with respect to the input of the
    discriminator. Each point x̃ is sampled uniformly from the straight line between a real example
    and a generated example. The penalty was introduced with WGAN-GP (Gulrajani et al. 2017,
    arXiv:1704.00028, equation 3).

    Args:
        weight: Factor of the penalty, λ in the paper. Default: 10.
        target: Gradient norm at which the penalty is 0. Default: 1.
        every: Interval in training steps. The penalty is applied once per interval, multiplied by
            `every`. Default: 1, every step.

    Example:
        The logit is 3 x₁ + 4 x₂. Its gradient norm is 5, and the penalty is 10 · (5 − 1)² = 160.

        >>> real, fake = tf.zeros((1, 2)), tf.ones((1, 2))
        >>> GradientPenalty()(lambda x: x @ [[3.0], [4.0]], real, fake, seed=(0, 0)).numpy()
        array([160.], dtype=float32)
    """

    def __init__(self, weight: float = 10.0, target: float = 1.0, every: int = 1) -> None:
        super().__init__(weight, every)
        if not is_real(target) or not 0 <= target < math.inf:
            raise ValueError(
                f"`target` of {type(self).__name__} must be a number of at least 0. "
                f"Received: target={target!r}"
            )
        self.target = float(target)

    def points(self, real: tf.Tensor, fake: tf.Tensor, seed: TensorLike) -> tf.Tensor:
        """Return points ε x + (1 − ε) x̂ between real examples x and generated examples x̂.

        There is one ε per example, sampled uniformly from [0, 1).
        """
        share = _uniform_per_example(real, seed)
        return share * real + (1 - share) * fake

    def from_squared_norm(self, squared_norm: tf.Tensor) -> tf.Tensor:
        """Return (‖∇D‖ − target)², the penalty without the factor `weight`.

        ‖∇D‖ is the gradient norm of the discriminator, the square root of `squared_norm`.
        If the squared norm is below 1e-12, it is replaced by 1e-12, because the derivative of the
        square root is infinite at 0.
        """
        return (tf.sqrt(tf.maximum(squared_norm, 1e-12)) - self.target) ** 2


@keras.saving.register_keras_serializable("keras_gen")
class DRAGAN(GradientPenalty):
    """Penalize, near real examples, the deviation of the gradient norm from a target.

    The penalty is weight · (‖∇D(x̃)‖ − target)² (Kodali et al. 2017, arXiv:1705.07215). ∇D is the
    gradient of the discriminator's logit D with respect to the input of the discriminator. The
    point x̃ = x + α δ is near the real example x. One number α per example is sampled uniformly
    from [0, 1). As in the authors' code, the tensor δ is `noise` · s · u. Here s is the standard
    deviation of all values in the batch of real examples. The tensor u has the shape of x, and its
    elements are sampled uniformly from [0, 1).

    Args:
        weight: Factor of the penalty, λ in the paper. Default: 10.
        target: Gradient norm at which the penalty is 0. Default: 1.
        noise: Upper limit of the elements of δ, in units of s. Default: 0.5.
        every: Interval in training steps. The penalty is applied once per interval, multiplied by
            `every`. Default: 1, every step.

    Example:
        The logit is 3 x₁ + 4 x₂. Its gradient norm is 5, and the penalty is 10 · (5 − 1)² = 160.

        >>> real, fake = tf.zeros((1, 2)), tf.ones((1, 2))
        >>> DRAGAN()(lambda x: x @ [[3.0], [4.0]], real, fake, seed=(0, 0)).numpy()
        array([160.], dtype=float32)
    """

    def __init__(
        self, weight: float = 10.0, target: float = 1.0, noise: float = 0.5, every: int = 1
    ) -> None:
        super().__init__(weight, target, every)
        self.noise = positive_float(self, "noise", noise)

    def points(self, real: tf.Tensor, fake: tf.Tensor, seed: TensorLike) -> tf.Tensor:
        """Return points x + α δ near the real examples x.

        There is one α per example, sampled uniformly from [0, 1). The docstring of the class
        describes how the noise δ is sampled.
        """
        delta_seed, alpha_seed = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
        uniform = tf.random.stateless_uniform(tf.shape(real), delta_seed)
        delta = self.noise * tf.math.reduce_std(real) * uniform
        return real + _uniform_per_example(real, alpha_seed) * delta


def _uniform_per_example(x: tf.Tensor, seed: TensorLike) -> tf.Tensor:
    """Sample one number per example uniformly from [0, 1).

    The result has the shape `[batch, 1, …, 1]`, with as many axes as `x`.
    """
    shape = tf.concat([tf.shape(x)[:1], tf.ones(tf.rank(x) - 1, tf.int32)], 0)
    return tf.random.stateless_uniform(shape, seed)
