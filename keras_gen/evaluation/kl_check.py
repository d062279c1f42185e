"""The cross-check of the KL during evaluation: its closed form beside an estimate from samples (MATH 3)."""

from __future__ import annotations

import warnings

import keras
import tensorflow as tf

from keras_gen._typing import Distribution, TensorLike
from keras_gen.distributions import Posterior, cross_check

LARGEST_Z_SCORE = 4
FEWEST_EXAMPLES = 100  # of fewer, the standard error itself is not known
NUM_SAMPLES = 8  # draws an example


class ZScore(keras.metrics.Metric):
    """How many standard errors the mean of all values is from 0; differences of rounding count as 0."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.sums = self.add_variable((3,), "zeros", name="sums")

    def update_state(self, values: tf.Tensor) -> None:
        """Take in values `[batch]`."""
        self.sums.assign_add(
            tf.stack(
                [
                    tf.cast(tf.size(values), tf.float32),
                    tf.reduce_sum(values),
                    tf.reduce_sum(values**2),
                ]
            )
        )

    def result(self) -> tf.Tensor:
        """The mean over its standard error; 0 before any value."""
        count, total, squares = tf.unstack(tf.convert_to_tensor(self.sums))
        mean, mean_square = (
            tf.math.divide_no_nan(total, count),
            tf.math.divide_no_nan(squares, count),
        )
        standard_error = tf.sqrt(
            tf.math.divide_no_nan(tf.maximum(mean_square - mean**2, 0.0), count)
        )
        return tf.math.divide_no_nan(mean, standard_error + 1e-5)


class KLCheck:
    """Running means of both, and how many standard errors lie between them and between their gradients."""

    names = ("kl_analytic", "kl_sampled", "kl_z_score", "kl_gradient_z_score")

    def __init__(self) -> None:
        means = [keras.metrics.Mean(name=name) for name in self.names[:2]]
        self.metrics = [*means, *(ZScore(name=name) for name in self.names[2:])]

    def update(
        self, family: Posterior, parameters: tf.Tensor, prior: Distribution, seed: TensorLike
    ) -> None:
        """Take in a batch: the encoder's output `[batch, parameter_size]` and the prior's distribution."""
        seed = tf.random.experimental.stateless_fold_in(seed, 1)  # not the draws of the objective
        for metric, values in zip(
            self.metrics, cross_check(family, parameters, prior, NUM_SAMPLES, seed), strict=True
        ):
            metric.update_state(values)

    @property
    def examples(self) -> float:
        """On how many examples the KL has been checked since the metrics were last reset."""
        return float(tf.convert_to_tensor(self.metrics[0].count.value))

    def warn(self, pair: str) -> None:
        """Warn, naming the pair, if the two lie too far apart."""
        scores = {metric.name: float(metric.result()) for metric in self.metrics[2:]}
        if self.examples >= FEWEST_EXAMPLES and max(map(abs, scores.values())) > LARGEST_Z_SCORE:
            warnings.warn(
                f"The closed form of the KL between {pair} and its estimate from samples disagree: {scores}, in standard errors. "
                "One of the two distributions has a wrong density, divergence or sampler.",
                stacklevel=3,
            )
