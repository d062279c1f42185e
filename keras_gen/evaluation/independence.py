"""Measure how many nats a VAE loses because its posterior assumes independent latents."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import keras
import numpy as np
import numpy.typing as npt
import scipy.stats
import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._typing import Data, Distribution, TensorLike
from keras_gen.distributions import DiagonalNormal, FullCovarianceNormal, Posterior
from keras_gen.evaluation.likelihood import log_likelihood, samples_per_chunk
from keras_gen.models import VAE
from keras_gen.networks._copies import call_network, copy_of

_NEGLIGIBLE = 0.1  # in nats; a smaller loss is negligible
_LATE_STEP = 2**30  # a training step after the end of every KL weight schedule
_LEARNING_RATE = 0.03  # initial learning rate for the posteriors of single images
_REFINEMENT_SAMPLES = 8


class Interval(NamedTuple):
    """A mean and its 95 % confidence interval, computed with Student's t distribution."""

    mean: float
    """Mean."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Self:
        """Return the mean of two or more independent values, and its 95 % confidence interval.

        Example:

        >>> print(Interval.of([1.0, 2.0, 3.0]))
        +2.000 (95 %: -0.484 to +4.484)
        """
        values = np.asarray(values, np.float64)
        quantile = scipy.stats.t.ppf(0.975, len(values) - 1)
        width = quantile * np.std(values, ddof=1) / np.sqrt(len(values))
        mean = values.mean()
        return cls(float(mean), float(mean - width), float(mean + width))

    def __str__(self) -> str:
        """Return the mean and the two ends of the interval as text."""
        return f"{self.mean:+.3f} (95 %: {self.low:+.3f} to {self.high:+.3f})"


@dataclasses.dataclass(frozen=True)
class IndependenceAudit:
    """The result of `audit_independence`, in nats per example. `print` shows a summary.

    `audit_independence` measures how much a VAE loses because its posterior assumes independent
    latents. The evidence lower bound (ELBO) is a lower bound on log p(x). `elbo_gain` and
    `log_likelihood_gain` compare two VAEs: one with independent latents, and one with correlated
    latents. The attributes `amortization_gap`, `independence_gap` and `normality_gap` belong to the
    VAE that was passed to `audit_independence`. Their sum is log p(x) minus the ELBO of this VAE.
    """

    elbo_gain: Interval
    """ELBO of a VAE with a full-covariance posterior minus ELBO of a VAE with a diagonal posterior,
    on the test data. Both are copies of the VAE that was passed to `audit_independence`, and are
    trained further. Their training differs only in the posterior."""
    log_likelihood_gain: Interval
    """log p(x) of a VAE with a full-covariance posterior minus log p(x) of a VAE with a diagonal
    posterior, on the test data. The two VAEs are those of `elbo_gain`. Both numbers are estimated
    by importance sampling."""
    amortization_gap: Interval
    """ELBO of the best diagonal posterior of each image minus ELBO of the encoder's posterior. The
    VAE loses this amount because one encoder computes the posteriors of all images. The best
    posterior of an image is found by optimization for this image alone."""
    independence_gap: Interval
    """ELBO of the best full-covariance posterior of each image minus ELBO of the best diagonal
    posterior of this image. The VAE loses this amount because its posterior assumes independent
    latents."""
    normality_gap: Interval
    """log p(x) of each image minus ELBO of the best full-covariance posterior of this image. The
    VAE loses this amount because its posterior is a normal distribution."""
    correlations: np.ndarray
    """Typical absolute correlation of each pair of latents, `[n, n]` for n latents. In the best
    full-covariance posterior of an image, each pair of latents has a correlation. An entry is the
    root mean square of this correlation over the images."""
    seeds: tuple[int, ...]
    """Seeds of the trainings. With several seeds, the intervals of `elbo_gain` and
    `log_likelihood_gain` describe the variation between seeds. With a single seed, these two
    intervals describe the variation between test images."""
    images: int
    """Number of test images from which the three gaps were computed."""

    @property
    def adequate(self) -> bool:
        """Whether a full-covariance posterior would increase the ELBO by less than 0.1 nats.

        The attributes `independence_gap` and `elbo_gain` are two estimates of this increase, each
        with a confidence interval. The value is True if the upper ends of both intervals are below
        0.1.
        """
        return max(self.independence_gap.high, self.elbo_gain.high) < _NEGLIGIBLE

    def __str__(self) -> str:
        """Return a summary.

        The first sentence says whether independent latents are adequate, or that this is undecided.
        Then the summary states how much the ELBO and log p(x) increase if the posterior has a full
        covariance matrix. The difference between log p(x) and the ELBO has three causes: the
        encoder, the assumption of independence, and the assumption of a normal distribution. The
        summary states how much each cause contributes. The last sentence states the strongest
        correlation of two latents.
        """
        if self.adequate:
            verdict = (
                "Independent latents were adequate: a full covariance gains less than 0.1 nats."
            )
        elif self.elbo_gain.low > 0 or self.independence_gap.low > _NEGLIGIBLE:
            verdict = (
                "Independent latents have a cost: a full covariance fits the posterior better."
            )
        else:
            verdict = (
                "Undecided: an interval contains values below and above 0.1 nats. Use more seeds "
                "or images."
            )
        off_diagonal = self.correlations - np.diag(np.diag(self.correlations))
        return (
            f"{verdict}\n"
            f"Gain by training with a full covariance, over {len(self.seeds)} seed(s): "
            f"ELBO {self.elbo_gain} nats, log p(x) {self.log_likelihood_gain} nats.\n"
            f"Gap between log p(x) and the ELBO, over {self.images} single images: "
            f"{self.amortization_gap} nats from the encoder, "
            f"{self.independence_gap} nats from independence, "
            f"{self.normality_gap} nats from normality.\n"
            f"The strongest correlation of two latents is {np.max(np.abs(off_diagonal)):.2f}."
        )


def audit_independence(
    vae: VAE,
    train: Data | Callable[[], Data],
    test: TensorLike | tf.data.Dataset,
    condition: TensorLike | None = None,
    epochs: int = 10,
    seeds: Sequence[int] = (0, 1, 2),
    images: int = 100,
    num_samples: int = 1000,
    refinement_steps: int = 1000,
    **fit: Any,
) -> IndependenceAudit:
    """Measure how many nats a VAE loses because its posterior assumes independent latents.

    The audit has two parts. The first part trains two copies of the VAE further, for each seed. The
    first copy keeps the diagonal posterior. The second copy has a full-covariance posterior. For n
    latents, the encoder of the second copy gets n(n − 1)/2 additional outputs. At first, these
    outputs are 0, which means that the latents are not correlated. Therefore the two copies start
    with the same posterior. Both copies see the training data in the same order, and use the same
    random noise. If the KL weight follows a schedule, both copies use the schedule's final value.
    Networks with `trainable=False`, for instance a fixed decoder, stay unchanged.

    The second part uses the networks of `vae`, and does not train them. For each test image, the
    function first optimizes a diagonal posterior. From this posterior, two further optimizations
    start: one of a diagonal posterior, and one of a full-covariance posterior. Each of the three
    optimizations has `refinement_steps` steps. The audit computes the evidence lower bound (ELBO)
    of the encoder's posterior and of the two final posteriors. From these numbers and an estimate
    of log p(x), it computes three gaps, whose sum is log p(x) minus the ELBO of the encoder's
    posterior (Cremer et al. 2018, arXiv:1801.03558). The docstring of `IndependenceAudit` defines
    the gaps.

    Args:
        vae: A trained and compiled `VAE` with a `DiagonalNormal` posterior of at least two latents.
        train: Training data in any form that `fit` takes, or a function that returns such data. If
            a function is given, it is called before each training. For a shuffled
            `tf.data.Dataset`, pass a function that builds the data set again, so that the two
            copies see the same order. For arrays, a function is not necessary.
        test: Test examples `[n, *data_shape]`, at least two, or a `tf.data.Dataset` of batches of
            such examples.
        condition: Labels of the test examples if the model is conditional, otherwise None.
        epochs: Number of additional passes over the training data. Default: 10.
        seeds: Seeds of the random numbers of the training. For each seed, each of the two copies is
            trained once. Default: `(0, 1, 2)`.
        images: Number of test examples whose posteriors are optimized separately, at least two. If
            there are fewer test examples, all of them are used. Default: 100.
        num_samples: Number of samples with which log p(x) of each test example is estimated.
            Default: 1000.
        refinement_steps: Number of optimizer steps per optimization of a single image's posterior.
            Default: 1000.
        **fit: Further arguments of `fit`, such as `batch_size`.

    Returns:
        `IndependenceAudit`.

    Raises:
        ValueError: If the VAE is not compiled, has another posterior than a `DiagonalNormal`, or
            has a single latent. If the encoder does not consist of Keras layers. If `epochs`,
            `images`, `num_samples` or `refinement_steps` is not an integer or is too small. If
            `seeds` is empty or contains a seed twice. If the test examples are invalid.
    """
    _check_vae(vae)
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"`seeds` must contain at least one seed, and no seed twice. Received: seeds={seeds!r}."
        )
    images = positive_int(None, "images", images, at_least=2)
    epochs = positive_int(None, "epochs", epochs)
    num_samples = positive_int(None, "num_samples", num_samples)
    refinement_steps = positive_int(None, "refinement_steps", refinement_steps)
    test, condition = vae.data_check.examples(test, condition, at_least=2)
    fit = {"verbose": 0, **fit}
    elbo_gains = []
    likelihood_gains = []
    for seed in seeds:
        estimates = []
        for full in (False, True):
            keras.utils.set_random_seed(seed)
            trained = _copy(vae, seed, full)
            trained.fit(train() if callable(train) else train, epochs=epochs, **fit)
            estimates.append(
                log_likelihood(trained, test, condition, num_samples, seed=seed, verbose=0)
            )
        diagonal, full_covariance = estimates
        elbo_gains.append(full_covariance.elbos - diagonal.elbos)
        likelihood_gains.append(full_covariance.values - diagonal.values)
    refined = _refine(
        _copy(vae, vae.seed, full=False),
        test[:images],
        None if condition is None else condition[:images],
        refinement_steps,
        num_samples,
    )
    return IndependenceAudit(
        elbo_gain=_interval_of_gains(elbo_gains),
        log_likelihood_gain=_interval_of_gains(likelihood_gains),
        amortization_gap=Interval.of(refined.amortization),
        independence_gap=Interval.of(refined.independence),
        normality_gap=Interval.of(refined.normality),
        correlations=refined.correlations,
        seeds=tuple(seeds),
        images=len(test[:images]),
    )


def _check_vae(vae: VAE) -> None:
    """Raise a `ValueError` if `audit_independence` does not accept a VAE."""
    posterior = getattr(vae, "posterior", None)
    if not isinstance(posterior, DiagonalNormal) or posterior.event_size < 2:
        raise ValueError(
            "`vae` must be a VAE with a DiagonalNormal posterior of at least two latents. "
            f"Received: {vae!r}, with posterior={posterior!r}."
        )
    if not vae.compiled:
        raise ValueError(
            "`vae` must be compiled, because its copies use the same optimizer and objective. "
            "Received: a VAE that is not compiled. Call vae.compile(...)."
        )


def _interval_of_gains(gains: list[np.ndarray]) -> Interval:
    """Return the mean gain and the 95 % confidence interval of this mean.

    A gain is a difference between two VAEs, such as the difference of their log-likelihoods. With
    several seeds, the interval describes the variation between the seeds. With one seed, it
    describes the variation between the examples.

    Args:
        gains: One array of gains `[examples]` per seed.
    """
    if len(gains) == 1:
        return Interval.of(gains[0])
    return Interval.of(np.mean(gains, axis=1))


def _copy(vae: VAE, seed: int, full: bool) -> VAE:
    """Return a compiled copy of a VAE. The copy has its own weights.

    Args:
        vae: The VAE.
        seed: Seed of the copy.
        full: Whether the copy has a full-covariance posterior. Before further training, this
            posterior equals the diagonal posterior of `vae`.
    """
    made = type(vae).from_config({**vae.get_config(), "seed": seed})
    made.set_weights(vae.get_weights())
    if full:
        posterior = FullCovarianceNormal(vae.posterior.event_size)
        encoder = extended(made.encoder, posterior)
        made = VAE(encoder, made.decoder, posterior, made.likelihood, made.prior, seed=seed)
    made.encoder.trainable = vae.encoder.trainable
    made.decoder.trainable = vae.decoder.trainable
    optimizer = type(vae.optimizer).from_config(vae.optimizer.get_config())
    made.compile(optimizer, objective=_objective_after_schedules(vae.objective))
    return made


def _objective_after_schedules(objective: Any) -> Any:
    """Copy an objective, and replace a schedule of the KL weight by the schedule's last value.

    `keras-gen audit` continues the training of copies of a trained VAE. If a copy kept the
    schedule, the KL weight would start again at the schedule's first value.
    """
    objective = copy.copy(objective)
    weight = getattr(objective, "kl_weight", None)
    if isinstance(weight, list):
        objective.kl_weight = [_last_value(each) for each in weight]
    elif callable(weight):
        objective.kl_weight = _last_value(weight)
    return objective


def _last_value(weight: Any) -> Any:
    """Return the last value of a schedule. Anything else is returned unchanged."""
    if not callable(weight):
        return weight
    return weight.end if hasattr(weight, "end") else float(weight(_LATE_STEP))


def extended(encoder: keras.Model, posterior: FullCovarianceNormal) -> keras.Model:
    """Return a copy of an encoder that outputs the parameters of a full-covariance posterior.

    The copy has the outputs of `encoder`, and additional outputs for the covariances of the
    latents. A new dense layer computes the additional outputs. This layer receives the same
    input as the last layer of `encoder` that has weights. Before training, the additional outputs
    are 0, which means that the latents are not correlated. Therefore the copy starts with the same
    posterior as `encoder`.

    Args:
        encoder: Keras model that outputs the parameters of a `DiagonalNormal`.
        posterior: The full-covariance posterior, with as many latents as the `DiagonalNormal`.

    Raises:
        ValueError: If the encoder does not consist of Keras layers.
    """
    try:
        last = [layer for layer in encoder.layers if layer.weights][-1]
        new_outputs = keras.layers.Dense(
            posterior.parameter_size - 2 * posterior.event_size,
            kernel_initializer="zeros",
            dtype="float32",
            name="below",
        )(keras.layers.Flatten()(last.input))
        outputs = keras.layers.Concatenate(dtype="float32")([encoder.outputs[0], new_outputs])
        inputs = encoder.inputs if len(encoder.inputs) > 1 else encoder.inputs[0]
        return copy_of(keras.Model(inputs, outputs))
    except (AttributeError, IndexError, ValueError) as error:
        raise ValueError(
            "`encoder` must consist of Keras layers, because the audit adds a layer to it. "
            f"Received: {encoder!r}. Build it as a keras.Sequential or a functional keras.Model."
        ) from error


class _Refined(NamedTuple):
    """The result of `_refine`, which compares three posteriors of each image.

    These are the encoder's posterior, the best diagonal posterior and the best full-covariance
    posterior. The fields are three gaps per image, and the correlations of the latents. A gap is
    the difference in nats between two evidence lower bounds (ELBOs), or between log p(x) and an
    ELBO. The array of a gap has the shape `[images]`.
    """

    amortization: np.ndarray
    """ELBO of the best diagonal posterior minus ELBO of the encoder's posterior."""
    independence: np.ndarray
    """ELBO of the best full-covariance posterior minus ELBO of the best diagonal posterior."""
    normality: np.ndarray
    """log p(x) minus ELBO of the best full-covariance posterior."""
    correlations: np.ndarray
    """Root mean square, over the images, of the correlation of each pair of latents, `[n, n]`."""


def _refine(
    vae: VAE, x: np.ndarray, condition: np.ndarray | None, steps: int, num_samples: int
) -> _Refined:
    """Compare the ELBOs of three posteriors of each image.

    The encoder computes the first posterior. The second is the best diagonal posterior, and the
    third is the best full-covariance posterior. The second and the third posterior are optimized
    for each image separately.

    Args:
        vae: A VAE with a diagonal posterior.
        x: Images `[images, *data_shape]`.
        condition: Labels `[images]` if the VAE is conditional, otherwise None.
        steps: Number of optimizer steps per optimization.
        num_samples: Number of samples with which an ELBO is estimated.
    """
    diagonal = vae.posterior
    full = FullCovarianceNormal(diagonal.event_size)
    labels = None if condition is None else tf.constant(condition)
    x = tf.constant(x)
    encoded = call_network(vae.encoder, x, labels, training=False)
    best = _optimized(vae, diagonal, encoded, x, labels, steps)
    # The diagonal posterior gets as many steps as the full-covariance posterior. Otherwise the
    # full-covariance posterior would gain from its additional steps, even without correlations.
    best_diagonal = _optimized(vae, diagonal, best, x, labels, steps)
    no_covariance = tf.zeros((len(x), full.parameter_size - diagonal.parameter_size))
    best_full = _optimized(vae, full, tf.concat([best, no_covariance], axis=1), x, labels, steps)
    encoder_elbo, _ = _elbo(vae, diagonal(encoded), x, labels, num_samples)
    diagonal_elbo, _ = _elbo(vae, diagonal(best_diagonal), x, labels, num_samples)
    full_elbo, log_likelihoods = _elbo(vae, full(best_full), x, labels, num_samples)
    return _Refined(
        amortization=diagonal_elbo - encoder_elbo,
        independence=full_elbo - diagonal_elbo,
        normality=log_likelihoods - full_elbo,
        correlations=_mean_correlations(np.asarray(full(best_full).covariance())),
    )


def _mean_correlations(covariances: np.ndarray) -> np.ndarray:
    """Average the correlation of each pair of latents over all images, as a root mean square.

    Args:
        covariances: Covariance matrix of the latents for each image, `[images, n, n]`.

    Returns:
        Array `[n, n]` with values in [0, 1].
    """
    scales = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
    correlations = covariances / (scales[:, :, None] * scales[:, None, :])
    return np.sqrt(np.mean(correlations**2, axis=0))


def _elbo(
    vae: VAE,
    posterior: Distribution,
    x: tf.Tensor,
    labels: tf.Tensor | None,
    num_samples: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate the ELBO and log p(x) of each image from samples of its posterior.

    Both estimates use the same samples.

    Args:
        vae: The VAE.
        posterior: The posterior of each image, a distribution with batch shape `[images]`.
        x: Images `[images, *data_shape]`.
        labels: Labels `[images]` if the VAE is conditional, otherwise None.
        num_samples: Number of samples per image.

    Returns:
        `(elbos, log_likelihoods)`, two arrays `[images]` in nats.
    """
    chunk = samples_per_chunk(vae.decoder, rows=len(x))
    parts = []
    for first in range(0, num_samples, chunk):
        size = min(chunk, num_samples - first)
        seed = (vae.seed, -1 - first)
        parts.append(vae.log_weights(x, labels, size, seed=seed, posterior=posterior))
    log_weights = np.concatenate(parts).astype(np.float64)
    log_likelihoods = np.logaddexp.reduce(log_weights, axis=0) - np.log(num_samples)
    return log_weights.mean(axis=0), log_likelihoods


def _optimized(
    vae: VAE,
    posterior: Posterior,
    parameters: tf.Tensor,
    x: tf.Tensor,
    labels: tf.Tensor | None,
    steps: int,
) -> tf.Tensor:
    """Maximize the ELBO of each image over the parameters of its posterior, with Adam.

    Args:
        vae: The VAE.
        posterior: The `Posterior` that converts parameters to a distribution.
        parameters: Initial parameters of the posteriors, one row per image.
        x: Images `[images, *data_shape]`.
        labels: Labels `[images]` if the VAE is conditional, otherwise None.
        steps: Number of optimizer steps.

    Returns:
        The final parameters, one row per image.
    """
    parameters = tf.Variable(parameters)
    schedule = keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, steps)
    optimizer = keras.optimizers.Adam(schedule)
    optimizer.build([parameters])

    @tf.function
    def step(number: tf.Tensor) -> None:
        seed = tf.stack([tf.cast(vae.seed, tf.int32), number])
        with tf.GradientTape() as tape:
            log_weights = vae.log_weights(
                x, labels, _REFINEMENT_SAMPLES, seed, posterior(parameters)
            )
            loss = -tf.reduce_sum(tf.reduce_mean(log_weights, axis=0))
        optimizer.apply(tape.gradient(loss, [parameters]), [parameters])

    for number in tf.range(steps):
        step(number)
    return tf.convert_to_tensor(parameters)
