"""Anomaly detection with the autoencoder and the VAE: a score per example, and a threshold."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from keras_gen._arguments import is_real
from keras_gen._typing import Examples, TensorLike
from keras_gen.models.base import CheckedBatch, GenerativeModel

_BATCH = 256  # number of examples whose scores `calibrate` computes together


class AnomalyDetector(GenerativeModel):
    """Base class of the models that compute an anomaly score and compare it with a threshold.

    A subclass implements `score`, `score_per_feature` and `score_of_batch`. Its constructor has an
    argument `threshold`.
    """

    threshold: float | None = None
    """An example is an anomaly if its score is above this number. None until the constructor or
    `calibrate` sets the threshold."""

    def check_threshold(self, threshold: float | None) -> float | None:
        """Return the threshold if it is a number or None, otherwise raise a `ValueError`."""
        if threshold is not None and not is_real(threshold):
            raise ValueError(
                "`threshold` must be a number or None. Call `calibrate` to compute it. "
                f"Received: threshold={threshold!r}"
            )
        return threshold

    def score_of_batch(self, batch: CheckedBatch) -> tf.Tensor:
        """Return the anomaly score of each example of a batch, `[batch]`."""
        raise NotImplementedError(f"{type(self).__name__} must implement `score_of_batch`.")

    def score(self, x: TensorLike, condition: TensorLike | None = None) -> tf.Tensor:
        """Compute the anomaly score of each example, `[batch]`."""
        raise NotImplementedError(f"{type(self).__name__} must implement `score`.")

    def score_per_feature(self, x: TensorLike, condition: TensorLike | None = None) -> tf.Tensor:
        """Compute how much each element of an example adds to its score, `[batch, *data_shape]`."""
        raise NotImplementedError(f"{type(self).__name__} must implement `score_per_feature`.")

    def calibrate(
        self, x: Examples, quantile: float = 0.99, condition: TensorLike | None = None
    ) -> float:
        """Compute and store the threshold of `is_anomaly`, given data `x` without anomalies.

        The threshold is the `quantile` of the anomaly scores of `x`. Use data that the model was
        not trained on. Then about a fraction 1 − `quantile` of new examples without anomalies will
        have a score above the threshold. The `.keras` file contains the threshold. With a
        threshold, the exported function `score` also returns `anomaly`. If you compile an
        autoencoder with another loss later, its threshold is removed.

        Args:
            x: Data without anomalies: an array, or a `tf.data.Dataset` of batches. For a
                conditional model, a batch of a data set is a pair (data, labels). For other models,
                a batch can also be a pair (noisy data, clean data). For an accurate threshold, pass
                at least 100 / (1 − `quantile`) examples, so that about a hundred scores are above
                the threshold.
            quantile: Fraction of the examples whose score is at most the threshold, a number
                between 0 and 1. Default: 0.99.
            condition: Labels `[n]` if the model is conditional and `x` is an array. None in all
                other cases.

        Returns:
            The threshold.

        Raises:
            ValueError: If `x` is empty or invalid, or if `quantile` is not between 0 and 1.
        """
        if not is_real(quantile) or not 0 < quantile < 1:
            raise ValueError(
                "`quantile` must be a number between 0 and 1, such as 0.99. "
                f"Received: quantile={quantile!r}"
            )
        if not isinstance(x, tf.data.Dataset) and not hasattr(x, "dtype"):
            raise ValueError(
                f"Expected `x` as an array or a tf.data.Dataset. Received: {type(x).__name__}."
            )
        if isinstance(x, tf.data.Dataset) and condition is not None:
            raise ValueError(
                "Expected no `condition`, because a tf.data.Dataset contains its labels itself. "
                "Received: labels. Use a data set of pairs (data, labels)."
            )
        self.data_check.before_work(x, None if condition is None else np.asarray(condition))
        scores: list[float] = []
        for data in _batches(x, condition):
            scores.extend(self.score_of_batch(self.unpack(data)).numpy())
        if not scores:
            raise ValueError("Expected at least one in-distribution example. Received: none.")
        self.threshold = float(np.quantile(scores, quantile))
        return self.threshold

    def is_anomaly(self, x: TensorLike, condition: TensorLike | None = None) -> tf.Tensor:
        """Return whether the score of each example is above the threshold, bool `[batch]`.

        Args:
            x: Data `[batch, *data_shape]`.
            condition: Labels `[batch]` if the model is conditional, otherwise None.

        Raises:
            ValueError: If the model has no threshold yet, or if `score` raises an error.
        """
        if self.threshold is None:
            raise ValueError(
                f"{self.name} has no threshold yet. Call calibrate(x) with in-distribution data "
                "that the model was not trained on."
            )
        return self.exceeds(self.score(x, *self._condition_arguments(condition)))

    def exceeds(self, score: tf.Tensor) -> tf.Tensor:
        """Return whether each score is above the threshold. A NaN counts as above."""
        return ~(score <= self.threshold)

    def score_outputs(
        self, inputs: tf.Tensor, condition: TensorLike | None = None
    ) -> dict[str, tf.Tensor]:
        """Return the outputs of the exported function `score`.

        An example with an invalid value, such as NaN, is an anomaly: its score is infinite. Other
        examples of the same batch keep their scores.

        Returns:
            A dictionary with up to three keys. `score` has the shape `[batch]`. `per_feature` has
            the shape of `inputs`. For an example with an invalid value, `per_feature` is infinite
            where a value is invalid, and 0 elsewhere. `per_feature` is omitted if
            `score_per_feature` raises an error. `anomaly` is a bool `[batch]`, and is omitted if
            the model has no threshold.
        """
        valid = self.data_check.valid(inputs)
        valid_rows = tf.reduce_all(valid, axis=tf.range(1, tf.rank(valid)), keepdims=True)
        x = tf.where(valid_rows, inputs, self.data_check.example)
        labels = self._condition_arguments(condition, x)
        is_valid = tf.reshape(valid_rows, (-1,))
        score = tf.where(is_valid, self.score(x, *labels), np.inf)
        outputs = {"score": score}
        # A loss or a likelihood of the user may not be a sum over elements.
        with contextlib.suppress(ValueError):
            of_invalid = tf.where(valid, 0.0, np.inf)
            per_feature = self.score_per_feature(x, *labels)
            outputs["per_feature"] = tf.where(valid_rows, per_feature, of_invalid)
        if self.threshold is not None:
            outputs["anomaly"] = self.exceeds(score)
        return outputs


def _batches(x: Examples, condition: TensorLike | None) -> Iterator[Any]:
    """Yield batches of `x`, or pairs of a batch and its labels."""
    if isinstance(x, tf.data.Dataset):
        yield from x
        return
    for start in range(0, len(x), _BATCH):
        part = slice(start, start + _BATCH)
        if condition is None:
            yield tf.convert_to_tensor(x[part])
        else:
            yield tf.convert_to_tensor(x[part]), tf.convert_to_tensor(condition[part])
