"""Objectives: the losses that a variational autoencoder (VAE) can minimize.

The module also has schedules, which change the weight of the Kullback-Leibler (KL) term of a loss
during training. Pass an objective to a VAE with `compile(objective=...)`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_gen._arguments import is_real, positive_int
from keras_gen._serialization import Serializable
from keras_gen._typing import Distribution, TensorLike
from keras_gen.distributions import kl_divergence
from keras_gen.regularizers import LatentMMD

KLWeight = float | Callable[[tf.Tensor], tf.Tensor]
"""A KL weight: a number, or a schedule that computes the weight from the training step."""


@dataclasses.dataclass(frozen=True)
class Batch:
    """All inputs from which an objective computes the loss of one batch.

    Distributions, such as q(z | x), are `tfd.Distribution` objects of TensorFlow Probability.
    """

    x: tf.Tensor
    """Data x at which p(x | z) is evaluated, `[batch, ...]`."""
    posterior: Distribution
    """q(z | x). Its batch shape is `[batch]`."""
    frozen_posterior: Callable[[], Distribution]
    """Function that returns a copy of q(z | x) whose parameters have no gradient with respect to
    the weights of the encoder. Call it before you sample from `posterior`, because sampling can
    change the state of random layers, such as dropout. For a model with several layers of latents
    and bottom-up inference, the copy has a method `layer_kls`."""
    prior: Distribution
    """p(z). If the prior depends on labels, its batch shape is `[batch]`. If not, its batch shape
    is `[]`."""
    likelihood: Callable[[tf.Tensor], Distribution]
    """Function that decodes latents z `[samples, batch, n]` and returns p(x | z)."""
    seed: TensorLike
    """Seed with which z is sampled, int32 `[2]`. The same seed gives the same samples."""
    step: tf.Tensor
    """Number of completed training steps, an integer scalar."""
    layer_kls: Callable[[tf.Tensor, bool], Sequence[tf.Tensor]] | None = None
    """Function `(z, closed_form)` for a model with several layers of latents. It returns the term
    of each layer in KL(q(z | x) ‖ p(z)), from the bottom layer to the top layer, for samples z of
    q(z | x). Each term has the shape `[samples, batch]`. If `closed_form` is False, the term of
    layer i is log q − log p of the sample z_i. If it is True, closed forms are used where there are
    some. None for a model with one layer of latents."""


@dataclasses.dataclass(frozen=True)
class Terms:
    """Output of an objective: the loss, and the terms of a lower bound on log p(x).

    Each tensor has the shape `[batch]`, with one value per example, in nats.
    """

    loss: tf.Tensor
    """The value to minimize."""
    reconstruction_loss: tf.Tensor
    """−E_q[log p(x | z)], where z is sampled from q(z | x)."""
    kl_loss: tf.Tensor
    """KL(q(z | x) ‖ p(z)), not multiplied by the KL weight."""
    elbo: tf.Tensor
    """The evidence lower bound, −(`reconstruction_loss` + `kl_loss`)."""
    layer_kl_losses: tuple[tf.Tensor, ...] = ()
    """For a model with several layers of latents, the term of each layer in `kl_loss`, from the
    bottom layer to the top layer. Empty for a model with one layer of latents."""

    def by_name(self) -> dict[str, tf.Tensor]:
        """Return a dictionary from the logged name of each term to the term.

        The logged name of a term is the name of its field. The terms in the field `layer_kl_losses`
        have the names `kl_loss_1`, `kl_loss_2`, and so on.
        """
        terms = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        layers = terms.pop("layer_kl_losses")
        return terms | {f"kl_loss_{number}": kl for number, kl in enumerate(layers, 1)}


class Objective(Serializable):
    """Base class of the objectives, the losses of a VAE.

    An objective computes a loss and a lower bound on log p(x) from the distributions of one batch.
    A subclass must store each constructor argument unchanged in the attribute of the same name.
    Keras reads these attributes when it saves the model.
    """

    def __call__(self, batch: Batch) -> Terms:
        """Compute the loss, and the terms of a lower bound on log p(x).

        Args:
            batch: The data, the distributions and the noise seed of one batch.

        Returns:
            The loss and the terms in nats, each with one value per example. The model averages
            these values over the batch.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define `__call__`, which returns `Terms` for a `Batch`."
        )


@keras.saving.register_keras_serializable("keras_gen")
class ELBO(Objective):
    """Minimize the negative evidence lower bound, −E_q[log p(x | z)] + KL(q(z | x) ‖ p(z)).

    The expectation E_q is estimated from samples z of the posterior q(z | x). KL is the
    Kullback-Leibler divergence. If the divergence has no closed form, it is estimated from the same
    samples. The source is Kingma & Welling 2014, arXiv:1312.6114, equation 3.

    Args:
        kl_weight: Weight of the KL term in the loss: a number, or a schedule such as
            `LinearWarmUp`, which computes the weight from the training step. Default: 1. If the
            weight is a number other than 1, the model is a β-VAE (Higgins et al. 2017). If the
            weight is below 1, −loss can be above log p(x), and is then not a lower bound. The
            logged values `kl_loss` and `elbo` do not contain the weight. For a `HierarchicalVAE`,
            the argument can also be a list with one weight or schedule per layer of latents, from
            the bottom layer to the top layer.
        num_samples: Number of samples of z per example. Default: 1.
        free_bits: Threshold in nats for the KL of each example. The KL term of the loss is
            max(KL, free_bits). Below the threshold, a smaller KL does not lower the loss. Kingma et
            al. (2016, arXiv:1606.04934, section C.8) apply a threshold to each group of latents.
            `ELBO` applies one threshold to the KL of all latents together. For a
            `HierarchicalVAE`, `ELBO` applies the threshold to each layer of latents. Default: 0, no
            threshold.
        mmd: A `regularizers.LatentMMD`, which compares the latents of the batch with samples of the
            prior. Its value is a part of the logged `loss`, but not of the other logged values. A
            model with `mmd` is an InfoVAE (Zhao et al. 2019, arXiv:1706.02262). A model with `mmd`
            and `kl_weight=0` is a Wasserstein autoencoder with a random encoder. Default: None, the
            loss has no such term.

    Example:

    >>> ELBO(kl_weight=LinearWarmUp(steps=100), free_bits=0.5).num_samples
    1
    """

    def __init__(
        self,
        kl_weight: KLWeight | Sequence[KLWeight] = 1.0,
        num_samples: int = 1,
        free_bits: float = 0.0,
        mmd: LatentMMD | None = None,
    ) -> None:
        if mmd is not None and not isinstance(mmd, LatentMMD):
            raise ValueError(
                "`mmd` of ELBO must be a keras_gen.regularizers.LatentMMD, such as "
                f"LatentMMD(10.0), or None. Received: mmd={mmd!r}"
            )
        weights = _as_list(kl_weight)
        if not weights or not all(callable(each) or _is_non_negative(each) for each in weights):
            raise ValueError(
                "`kl_weight` of ELBO must be a number of at least 0, or a schedule such as "
                "LinearWarmUp(steps=1000), or a list of these with one item per layer of latents. "
                f"Received: kl_weight={kl_weight!r}"
            )
        if not _is_non_negative(free_bits):
            raise ValueError(
                "`free_bits` of ELBO must be a number of nats of at least 0. "
                f"Received: free_bits={free_bits!r}"
            )
        weights = [each if callable(each) else float(each) for each in weights]
        several = isinstance(kl_weight, (list, tuple))
        self.kl_weight: KLWeight | list[KLWeight] = weights if several else weights[0]
        self.num_samples = positive_int(self, "num_samples", num_samples)
        self.free_bits = float(free_bits)
        self.mmd = mmd

    def __call__(self, batch: Batch) -> Terms:
        """Compute the loss, the reconstruction loss, the KL divergence and the ELBO."""
        z = batch.posterior.sample(self.num_samples, seed=batch.seed)
        reconstruction_loss = -tf.reduce_mean(batch.likelihood(z).log_prob(batch.x), axis=0)
        if batch.layer_kls is None:
            kl = kl_divergence(batch.posterior, batch.prior, self.num_samples, batch.seed).value
            kls = [kl]
        else:
            kls = [tf.reduce_mean(kl, axis=0) for kl in batch.layer_kls(z, True)]
        kl_loss = tf.add_n(kls)
        weighted = [
            weight * tf.maximum(kl, self.free_bits)
            for weight, kl in zip(self._kl_weights(len(kls), batch.step), kls, strict=True)
        ]
        loss = reconstruction_loss + tf.add_n(weighted)
        if self.mmd is not None:
            loss += self.mmd.between(z[0], _prior_samples(batch, tf.shape(z)[1]))
        return Terms(
            loss=loss,
            reconstruction_loss=reconstruction_loss,
            kl_loss=kl_loss,
            elbo=-reconstruction_loss - kl_loss,
            layer_kl_losses=() if batch.layer_kls is None else tuple(kls),
        )

    def _kl_weights(self, layers: int, step: tf.Tensor) -> list[tf.Tensor | float]:
        """Return the KL weight of each layer of latents at a training step."""
        weights = self.kl_weight if isinstance(self.kl_weight, list) else [self.kl_weight] * layers
        if len(weights) != layers:
            raise ValueError(
                f"`kl_weight` of ELBO must have one item per layer of latents, {layers} for this "
                f"model. Received: kl_weight={self.kl_weight!r}"
            )
        return [weight(step) if callable(weight) else weight for weight in weights]


def _prior_samples(batch: Batch, number: tf.Tensor) -> tf.Tensor:
    """Return one sample of the prior for each of the `number` examples, `[number, n]`.

    The seed differs from the seed of the posterior's samples, so that the prior's samples are
    independent of them.
    """
    seed = tf.random.experimental.stateless_fold_in(batch.seed, 1)
    if batch.prior.batch_shape.rank:  # one distribution per label
        return batch.prior.sample(seed=seed)
    return batch.prior.sample(number, seed=seed)


@keras.saving.register_keras_serializable("keras_gen")
class IWAE(Objective):
    """Minimize −log(1/K Σ_k w_k), the negative importance-weighted lower bound on log p(x).

    Let z_1 … z_K be samples of the posterior q(z | x). The weights are w_k = p(x | z_k) p(z_k) /
    q(z_k | x). The bound becomes tighter as K grows (Burda et al. 2016, arXiv:1509.00519). The
    logged values `reconstruction_loss`, `kl_loss` and `elbo` are means over the K samples.

    Args:
        num_samples: K, the number of samples of z per example. Default: 50.
        doubly_reparameterized: Whether to train the encoder with the doubly reparameterized
            gradient (Tucker et al. 2019, arXiv:1810.04152, equation 8). As K grows, the usual
            gradient of the encoder has a lower and lower signal-to-noise ratio. The doubly
            reparameterized gradient does not have this problem. If True, the posterior of each
            layer of latents must have no weights, like `DiagonalNormal`, and a `HierarchicalVAE`
            must have bottom-up inference. With batch normalization in a network that receives
            latents, this gradient is biased, because the samples of a batch then depend on each
            other. Default: False.

    Example:

    >>> IWAE(num_samples=20)
    IWAE(num_samples=20, doubly_reparameterized=False)
    """

    def __init__(self, num_samples: int = 50, doubly_reparameterized: bool = False) -> None:
        self.num_samples = positive_int(self, "num_samples", num_samples)
        self.doubly_reparameterized = bool(doubly_reparameterized)

    def __call__(self, batch: Batch) -> Terms:
        """Compute the loss, which is the negative importance-weighted bound on log p(x).

        The reconstruction loss, the KL divergence and the ELBO are means over the samples of z.
        """
        posterior = batch.posterior
        layer_kls = batch.layer_kls
        if self.doubly_reparameterized:
            posterior = batch.frozen_posterior()
            layer_kls = getattr(posterior, "layer_kls", None)
        z = batch.posterior.sample(self.num_samples, seed=batch.seed)
        if self.doubly_reparameterized:
            z, set_gradient_weights = _with_weighted_gradient(z)
        log_likelihood = batch.likelihood(z).log_prob(batch.x)
        if layer_kls is None:
            log_ratios = [posterior.log_prob(z) - batch.prior.log_prob(z)]
        else:
            log_ratios = list(layer_kls(z, False))
        log_ratio = tf.add_n(log_ratios)
        log_weights = log_likelihood - log_ratio  # [samples, batch]
        bound = tf.reduce_logsumexp(log_weights, axis=0) - math.log(self.num_samples)
        if self.doubly_reparameterized:
            # With log q of the frozen posterior, the gradient is Σ_k w̃_k ∂log w_k, where w̃_k are
            # the normalized weights. The part of the gradient that reaches the encoder through z_k
            # needs the factor w̃_k² instead. Therefore this part is multiplied by w̃_k once more.
            set_gradient_weights(tf.nn.softmax(log_weights, axis=0))
        reconstruction_loss = -tf.reduce_mean(log_likelihood, axis=0)
        kl_loss = tf.reduce_mean(log_ratio, axis=0)
        kls = tuple(tf.reduce_mean(each, axis=0) for each in log_ratios)
        return Terms(
            loss=-bound,
            reconstruction_loss=reconstruction_loss,
            kl_loss=kl_loss,
            elbo=-reconstruction_loss - kl_loss,
            layer_kl_losses=() if layer_kls is None else kls,
        )


class KLDecomposition(NamedTuple):
    """Three terms whose sum is log q(z | x) − log p(z), an estimate of the KL divergence.

    Each field is a tensor `[batch]`, in nats. q(z) is the aggregate posterior, the mean of the
    densities q(z | x) over the data. The index d is the index of a latent, and q(z_d) is the
    marginal density of this latent.
    """

    mutual_information: tf.Tensor
    """log q(z | x) − log q(z). The mean over all x and z is the mutual information of the data and
    the latents."""
    total_correlation: tf.Tensor
    """log q(z) − Σ_d log q(z_d). The mean over all x and z is the total correlation of the
    latents."""
    dimension_wise_kl: tf.Tensor
    """Σ_d log q(z_d) − log p(z)."""


@keras.saving.register_keras_serializable("keras_gen")
class TotalCorrelation(Objective):
    """Minimize −ELBO + (β − 1) TC, where TC is the total correlation, for a β-TC-VAE.

    Let q(z) be the aggregate posterior, the mean of the densities q(z | x) over the data. Averaged
    over the data, the KL term of the ELBO is the sum of three terms (Chen et al. 2018,
    arXiv:1802.04942, equation 2): the mutual information of x and z, the total correlation
    KL(q(z) ‖ Π_d q(z_d)), and the sum over the latents d of KL(q(z_d) ‖ p(z_d)). The total
    correlation is 0 if the latents are independent. A weight β > 1 of the total correlation favours
    independent latents. In contrast to a β-VAE, the weight of the mutual information stays 1. With
    β = 1, the loss is −ELBO.

    q(z) is estimated from the batch, with the stratified sampling of the paper (appendix C.2). For
    the latents z_i of example i, in a batch of M examples from a data set of N examples,

    q(z_i) ≈ 1/N q(z_i | x_i) + (N − 1)/(N (M − 1)) Σ_{j≠i} q(z_i | x_j).

    This estimate is unbiased, but the estimate of log q(z_i) is too low on average. Therefore use
    large batches. For a batch of one example, the total correlation is 0. With several replicas,
    each replica computes the estimate from its part of the batch.

    The posterior of the VAE must be a `DiagonalNormal`, or another posterior that returns a
    `tfd.Independent` distribution. The logged values `kl_loss` and `elbo` do not contain β.

    Args:
        beta: β, the weight of the total correlation. A number of at least 0.
        num_examples: N, the number of examples of the training data.

    Example:

    >>> TotalCorrelation(beta=6.0, num_examples=60_000)
    TotalCorrelation(beta=6.0, num_examples=60000)
    """

    def __init__(self, beta: float, num_examples: int) -> None:
        if not _is_non_negative(beta):
            raise ValueError(
                "`beta` of TotalCorrelation must be a number of at least 0. "
                f"Received: beta={beta!r}"
            )
        self.beta = float(beta)
        self.num_examples = positive_int(self, "num_examples", num_examples, at_least=2)

    def __call__(self, batch: Batch) -> Terms:
        """Compute the loss, the reconstruction loss, the KL divergence and the ELBO."""
        terms = ELBO()(batch)
        z = batch.posterior.sample(1, seed=batch.seed)[0]  # the sample that `ELBO` decodes
        total_correlation = self.decompose(batch, z).total_correlation
        return dataclasses.replace(terms, loss=terms.loss + (self.beta - 1) * total_correlation)

    def decompose(self, batch: Batch, z: tf.Tensor) -> KLDecomposition:
        """Estimate the three terms of the KL divergence of q(z | x) and p(z), for each example.

        The terms are the mutual information, the total correlation and the dimension-wise KL. The
        docstring of the class explains these terms.

        Args:
            batch: The distributions of one batch.
            z: One sample of q(z | x) per example, `[batch, n]`.

        Raises:
            ValueError: If the latents are not independent given x.
        """
        from tensorflow_probability import distributions as tfd

        posterior = batch.posterior
        if not isinstance(posterior, tfd.Independent) or posterior.distribution.event_shape.rank:
            raise ValueError(
                "TotalCorrelation needs a posterior with independent latents, such as "
                f"DiagonalNormal. Received: a posterior that returns {posterior}."
            )
        # log q(z_id | x_j), `[i, j, d]`
        log_prob = posterior.distribution.log_prob(z[:, None])
        log_weights = self._log_weights(tf.shape(z)[0])
        log_joint = tf.reduce_logsumexp(tf.reduce_sum(log_prob, axis=2) + log_weights, axis=1)
        log_marginals = tf.reduce_logsumexp(log_prob + log_weights[..., None], axis=1)
        log_product = tf.reduce_sum(log_marginals, axis=1)
        return KLDecomposition(
            mutual_information=posterior.log_prob(z) - log_joint,
            total_correlation=log_joint - log_product,
            dimension_wise_kl=log_product - batch.prior.log_prob(z),
        )

    def _log_weights(self, batch_size: tf.Tensor) -> tf.Tensor:
        """Return the logarithm of the weight of q(z_i | x_j) in the estimate of q(z_i), `[i, j]`.

        The docstring of the class defines this estimate. For N training examples and a batch of M
        examples, the weight is 1/N for j = i, and (N − 1)/(N (M − 1)) for j ≠ i. In a batch of one
        example, the weight is 1.
        """
        total = self.num_examples
        number = tf.cast(batch_size, tf.float32)
        own = tf.where(number > 1, -math.log(total), 0.0)
        others = math.log1p(-1 / total) - tf.math.log(tf.maximum(number - 1, 1.0))
        is_own = tf.eye(batch_size)
        return is_own * own + (1 - is_own) * others


def _with_weighted_gradient(z: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], None]]:
    """Make a copy of `z` whose gradient is multiplied by weights during backpropagation.

    The weights cannot be an argument, because the caller computes them from the copy.

    Args:
        z: Latents `[samples, batch, n]`.

    Returns:
        `(copy, set_weights)`. Before the caller computes the gradient, it must call the function
        `set_weights` with the weights `[samples, batch]`.
    """
    weights: list[tf.Tensor] = []

    @tf.custom_gradient
    def identity(z: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def weighted(gradient: tf.Tensor) -> tf.Tensor:
            return gradient * tf.stop_gradient(weights[0])[..., None]

        return tf.identity(z), weighted

    return identity(z), weights.append


# === Schedules of the KL weight ===
# A schedule computes the KL weight from the training step alone. A checkpoint contains the training
# step, so a resumed training continues the schedule.


@keras.saving.register_keras_serializable("keras_gen")
class LinearWarmUp(Serializable):
    """Increase the KL weight linearly from 0 to `end` in `steps` steps, then keep it at `end`.

    The source is Sønderby et al. 2016, arXiv:1602.02282.

    Args:
        steps: Number of training steps until the weight reaches `end`.
        end: KL weight after `steps` training steps. Default: 1.

    Example:

    >>> [float(LinearWarmUp(steps=100)(step)) for step in (0, 50, 100, 1000)]
    [0.0, 0.5, 1.0, 1.0]
    """

    def __init__(self, steps: int, end: float = 1.0) -> None:
        self.steps = positive_int(self, "steps", steps)
        self.end = _checked_end(self, end)

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """Return the KL weight at a training step."""
        return self.end * tf.minimum(tf.cast(step, tf.float32) / self.steps, 1.0)


@keras.saving.register_keras_serializable("keras_gen")
class Cyclical(Serializable):
    """Increase the KL weight linearly from 0 to `end` at the start of every period.

    After the increase, the weight stays at `end` until the period ends. The source is Fu et al.
    2019, arXiv:1903.10145.

    Args:
        period: Number of training steps per period.
        rise: Length of the increase as a fraction of the period, a number in (0, 1]. Default: 0.5.
        end: Largest KL weight. Default: 1.

    Example:

    >>> [float(Cyclical(period=100)(step)) for step in (0, 25, 50, 99, 100)]
    [0.0, 0.5, 1.0, 1.0, 0.0]
    """

    def __init__(self, period: int, rise: float = 0.5, end: float = 1.0) -> None:
        if not _is_non_negative(rise) or not 0 < rise <= 1:
            raise ValueError(
                "`rise` of Cyclical must be a fraction of the period, a number in (0, 1]. "
                f"Received: rise={rise!r}"
            )
        self.period = positive_int(self, "period", period)
        self.rise = rise
        self.end = _checked_end(self, end)

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        """Return the KL weight at a training step."""
        step_in_period = tf.math.floormod(tf.cast(step, tf.int64), self.period)
        fraction = tf.cast(step_in_period, tf.float32) / self.period
        return self.end * tf.minimum(fraction / self.rise, 1.0)


def _as_list(kl_weight: Any) -> list[KLWeight]:
    """Return the argument `kl_weight` as a list. A single weight becomes a list with one item."""
    return list(kl_weight) if isinstance(kl_weight, (list, tuple)) else [kl_weight]


def _checked_end(schedule: Serializable, end: float) -> float:
    """Check that the argument `end` of a schedule is at least 0, and return it as a float.

    Args:
        schedule: The schedule of the KL weight. The error message names its class.
        end: The value that the user passed.

    Raises:
        ValueError: If `end` is not a finite number of at least 0.
    """
    if not _is_non_negative(end):
        raise ValueError(
            f"`end` of {type(schedule).__name__} must be a number of at least 0. "
            f"Received: end={end!r}"
        )
    return float(end)


def _is_non_negative(value: object) -> bool:
    """Return whether a value is a finite number of at least 0. For a bool, return False."""
    return is_real(value) and 0 <= value < math.inf
