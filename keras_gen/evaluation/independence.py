"""Was assuming independent latents adequate? What a full covariance of the posterior would gain, in training and for single images."""

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
from keras_gen._typing import Data, TensorLike
from keras_gen.distributions import DiagonalNormal, FullCovarianceNormal
from keras_gen.evaluation.likelihood import draws_at_once, log_likelihood
from keras_gen.models import VAE
from keras_gen.networks._copies import copy_of, with_labels

_NEGLIGIBLE = 0.1  # nats
_LATE = 2**30  # a training step by which schedules have come to their end


class Interval(NamedTuple):
    """A mean and its 95 % interval, by Student's t."""

    mean: float
    """The mean."""
    low: float
    """Lower end."""
    high: float
    """Upper end."""

    @classmethod
    def of(cls, values: npt.ArrayLike) -> Self:
        """The mean and interval of independent values, two at least."""
        values = np.asarray(values, np.float64)
        width = (
            scipy.stats.t.ppf(0.975, len(values) - 1)
            * np.std(values, ddof=1)
            / np.sqrt(len(values))
        )
        return cls(float(values.mean()), float(values.mean() - width), float(values.mean() + width))

    def __str__(self) -> str:
        """The three numbers."""
        return f"{self.mean:+.3f} (95 %: {self.low:+.3f} to {self.high:+.3f})"


@dataclasses.dataclass(frozen=True)
class IndependenceAudit:
    """What independent latents cost, in nats an example. `print` shows it in words."""

    elbo_gain: Interval
    """ELBO of the full posterior less that of the diagonal one on the test data, trained alike from the same weights."""
    log_likelihood_gain: Interval
    """The same of log p(x), by importance sampling."""
    amortization_gap: Interval
    """What the encoder loses: ELBO of the best diagonal posterior of each image less that of the encoder's."""
    family_gap: Interval
    """What independence loses: ELBO of the best full posterior of each image less that of the best diagonal one."""
    rest: Interval
    """What a normal loses: log p(x) less the ELBO of the best full posterior."""
    correlations: np.ndarray
    """Root mean square over the images of the correlations in their best full posteriors, `[n, n]`."""
    seeds: tuple[int, ...]
    """Seeds of the trainings; with one, the first two intervals are over the test images rather than over trainings."""
    images: int
    """How many images were refined."""

    @property
    def adequate(self) -> bool:
        """Whether less than a tenth of a nat is lost, at the upper end of the intervals of the family gap and the ELBO's gain."""
        return max(self.family_gap.high, self.elbo_gain.high) < _NEGLIGIBLE

    def __str__(self) -> str:
        """The verdict and its numbers."""
        if self.adequate:
            verdict = (
                "Independent latents were adequate: a full covariance gains less than 0.1 nats."
            )
        elif self.elbo_gain.low > 0 or self.family_gap.low > _NEGLIGIBLE:
            verdict = (
                "Independent latents cost something: a full covariance fits the posterior better."
            )
        else:
            verdict = "Undecided: the intervals hold both no cost and more than 0.1 nats. Use more seeds or images."
        strongest = np.max(np.abs(self.correlations - np.diag(np.diag(self.correlations))))
        return "\n".join(
            [
                verdict,
                f"Trained with a full covariance, over {len(self.seeds)} seed(s): ELBO {self.elbo_gain}, log p(x) "
                f"{self.log_likelihood_gain} nats.",
                f"Of single images, {self.images} of them, the gap between log p(x) and the ELBO is {self.amortization_gap} from the "
                f"encoder, {self.family_gap} from independence, {self.rest} from normality.",
                f"The strongest correlation of two latents is {strongest:.2f}.",
            ]
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
    """Train diagonal and full-covariance posteriors alike from a trained VAE, and refine the posteriors of single images.

    For each seed two copies of the VAE go on training, one as it is and one whose encoder has n(n − 1)/2 more outputs that begin at 0,
    so that both begin with the same posterior; order and noise are the same, and a schedule of the KL's weight is at its end.
    The gap of single images is split as by Cremer et al. 2018 (arXiv:1801.03558): the posterior of each image is optimized by itself,
    first diagonal, and from there as long again, once diagonal and once with a full covariance.
    What is not `trainable` in the VAE, its decoder for instance, stays as it is.

    Args:
        vae: A trained and compiled `VAE` with a `DiagonalNormal` posterior of at least two latents.
        train: Training data, as for `fit`, or a function that returns them, called for each training: of a `tf.data.Dataset` that is
            made anew, shuffled by its seed, both see the same order, as of arrays.
        test: Test examples, an array `[n, *data_shape]`.
        condition: Labels of the test examples for a conditional model.
        epochs: Further passes over the training data.
        seeds: Of the pairs of trainings.
        images: How many test examples are refined.
        num_samples: Draws for the likelihood of each test example.
        refinement_steps: Optimization steps of the posterior of a single image, twice.
        **fit: Further arguments of `fit`, such as `batch_size`.

    Returns:
        `IndependenceAudit`.

    Raises:
        ValueError: If the VAE is not compiled, or has another posterior or a single latent, if its encoder cannot be extended, if
            numbers are no counts, or seeds are none or alike.
    """
    if (
        not isinstance(vae, VAE)
        or not isinstance(vae.posterior, DiagonalNormal)
        or vae.posterior.event_size < 2
    ):
        raise ValueError(
            f"Expected a VAE with a DiagonalNormal posterior of at least two latents. Received: {vae!r}."
        )
    if not vae.compiled:
        raise ValueError(
            "Expected a compiled VAE, whose optimizer and objective the audit uses. Received: one that is not."
        )
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"Expected at least one seed, no two alike. Received: seeds={seeds!r}.")
    images = positive_int(None, "images", images, at_least=2)
    epochs, num_samples = (
        positive_int(None, "epochs", epochs),
        positive_int(None, "num_samples", num_samples),
    )
    refinement_steps = positive_int(None, "refinement_steps", refinement_steps)
    test, condition = vae.data_check.examples(test, condition, at_least=2)
    fit = {"verbose": 0, **fit}
    elbos, likelihoods = [], []
    for seed in seeds:
        pair = []
        for full in (False, True):
            keras.utils.set_random_seed(seed)
            trained = _copy(vae, seed, full)
            trained.fit(train() if callable(train) else train, epochs=epochs, **fit)
            pair.append(log_likelihood(trained, test, condition, num_samples, seed=seed, verbose=0))
        elbos.append(pair[1].elbos - pair[0].elbos)
        likelihoods.append(pair[1].values - pair[0].values)
    some, labels = test[:images], None if condition is None else condition[:images]
    gaps, correlations = _refine(
        _copy(vae, vae.seed, full=False), some, labels, refinement_steps, num_samples
    )
    amortization, family, rest = map(Interval.of, gaps)
    over = (
        (lambda values: values[0]) if len(seeds) == 1 else (lambda values: np.mean(values, axis=1))
    )
    return IndependenceAudit(
        Interval.of(over(elbos)),
        Interval.of(over(likelihoods)),
        amortization,
        family,
        rest,
        correlations,
        tuple(seeds),
        len(some),
    )


def _copy(vae, seed, full):
    """A copy of a VAE with weights of its own, compiled alike; with `full`, its posterior has a covariance that begins diagonal."""
    made = type(vae).from_config({**vae.get_config(), "seed": seed})
    made.set_weights(vae.get_weights())
    if full:
        posterior = FullCovarianceNormal(vae.posterior.event_size)
        made = VAE(
            extended(made.encoder, posterior),
            made.decoder,
            posterior,
            made.likelihood,
            made.prior,
            seed=seed,
        )
    made.encoder.trainable, made.decoder.trainable = vae.encoder.trainable, vae.decoder.trainable
    objective = copy.copy(vae.objective)
    weight = getattr(objective, "kl_weight", None)
    if callable(weight):  # or the steps of the copy, from 0, would begin the schedule again
        objective.kl_weight = weight.end if hasattr(weight, "end") else float(weight(_LATE))
    made.compile(type(vae.optimizer).from_config(vae.optimizer.get_config()), objective=objective)
    return made


def extended(encoder: keras.Model, posterior: FullCovarianceNormal) -> keras.Model:
    """The encoder of a `DiagonalNormal` posterior as one of a full covariance, whose new outputs are 0: the posterior stays the same.

    Args:
        encoder: Keras model; what its last layer with weights sees, the new outputs see, too. Weights and layers are copied.
        posterior: The full covariance, of as many latents.

    Raises:
        ValueError: If the encoder is not made of Keras layers.
    """
    try:
        last = [layer for layer in encoder.layers if layer.weights][-1]
        more = keras.layers.Dense(
            posterior.parameter_size - 2 * posterior.event_size,
            kernel_initializer="zeros",
            dtype="float32",
            name="below",
        )(keras.layers.Flatten()(last.input))
        outputs = keras.layers.Concatenate(dtype="float32")([encoder.outputs[0], more])
        inputs = encoder.inputs if len(encoder.inputs) > 1 else encoder.inputs[0]
        return copy_of(keras.Model(inputs, outputs))
    except (AttributeError, IndexError, ValueError) as error:
        raise ValueError(
            f"Expected an encoder of Keras layers, to whose last one outputs can be added. Received: {encoder!r}."
        ) from error


def _refine(vae, x, labels, steps, num_samples):
    """`((amortization, family, rest) of each image, correlations)`: the posterior of each image is optimized by itself."""
    diagonal, full = vae.posterior, FullCovarianceNormal(vae.posterior.event_size)
    labels = None if labels is None else tf.constant(labels)
    x = tf.constant(x)
    encoded = with_labels(vae.encoder, x, labels, training=False)
    begun = _elbo(vae, diagonal(encoded), x, labels, num_samples)[0]
    best = _optimized(vae, diagonal, encoded, x, labels, steps)
    again = _optimized(vae, diagonal, best, x, labels, steps)  # as long as the full one below
    of_diagonal = _elbo(vae, diagonal(again), x, labels, num_samples)[0]
    below = tf.zeros((len(x), full.parameter_size - diagonal.parameter_size))
    best = full(_optimized(vae, full, tf.concat([best, below], axis=1), x, labels, steps))
    of_full, values = _elbo(vae, best, x, labels, num_samples)
    covariance = np.asarray(best.covariance())
    scales = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    correlations = covariance / (scales[:, :, None] * scales[:, None, :])
    gaps = of_diagonal - begun, of_full - of_diagonal, values - of_full
    return gaps, np.sqrt(np.mean(correlations**2, axis=0))


def _elbo(vae, posterior, x, labels, num_samples):
    """ELBO and log p(x) of each image, `[batch]`, from the same draws."""
    draws = draws_at_once(vae.decoder, rows=len(x))
    parts = [
        vae.log_weights(
            x,
            labels,
            min(draws, num_samples - first),
            seed=(vae.seed, -1 - first),
            posterior=posterior,
        )
        for first in range(0, num_samples, draws)
    ]
    log_weights = np.concatenate(parts).astype(np.float64)
    return log_weights.mean(axis=0), np.logaddexp.reduce(log_weights, axis=0) - np.log(num_samples)


def _optimized(vae, family, parameters, x, labels, steps, draws=8):
    """Parameters of the family, one row an image, whose ELBO is the highest that Adam finds."""
    parameters = tf.Variable(parameters)
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.03, steps))
    optimizer.build([parameters])

    @tf.function
    def step(number):
        with tf.GradientTape() as tape:
            seed = tf.stack([tf.cast(vae.seed, tf.int32), number])
            loss = -tf.reduce_sum(
                tf.reduce_mean(vae.log_weights(x, labels, draws, seed, family(parameters)), axis=0)
            )
        optimizer.apply(tape.gradient(loss, [parameters]), [parameters])

    for number in tf.range(steps):
        step(number)
    return tf.convert_to_tensor(parameters)
