"""The base class of models that detect anomalies: a score per example, and a threshold."""

from __future__ import annotations

import fractions
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from keras_gen._arguments import is_real
from keras_gen._tracing import traced
from keras_gen._typing import Examples, TensorLike
from keras_gen.models.base import CheckedBatch, GenerativeModel

ScoreFunctions: TypeAlias = tuple[Callable[[], tf.Tensor], Callable[[], tf.Tensor]]
"""Functions without arguments that return `score(x)` and `score_per_feature(x)`."""

_BATCH = 256  # number of examples whose scores `calibrate` computes together


class AnomalyDetector(GenerativeModel):
    """Base class of the models that compute an anomaly score and compare it with a threshold.

    A subclass implements `score`, `score_per_feature` and `score_of_batch`. The constructor of the
    subclass has an argument `threshold`.
    """

    threshold: float | None = None
    """An example is an anomaly if its score is above this number. The threshold is None until the
    constructor or `calibrate` sets it.
    """

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
        """Compute how much each element of each example adds to the anomaly score.

        The result has the shape `[batch, *data_shape]`.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `score_per_feature`.")

    def calibrate(
        self,
        x: Examples,
        quantile: float | None = None,
        condition: TensorLike | None = None,
        *,
        false_alarm_rate: float | None = None,
        anomalies: TensorLike | None = None,
        false_alarm_cost: float | None = None,
        miss_cost: float | None = None,
    ) -> float:
        """Compute the threshold of the anomaly scores from data `x`, and store the threshold.

        The method `is_anomaly` then compares anomaly scores with the threshold. Use data `x` that
        the model was not trained on. There are three ways to choose the threshold:

        * `quantile`: The threshold is this quantile of the scores of `x`. The data `x` must not
          contain anomalies. Among new examples that are not anomalies, a fraction of about
          1 − `quantile` will have a score above the threshold.
        * `false_alarm_rate`: A new example that is not an anomaly has a score above the threshold
          with a probability of at most `false_alarm_rate`. The data `x` must not contain anomalies.
          The n examples in `x` and the new example must be independent samples of one distribution,
          or at least exchangeable. The probability is an average over all choices of `x`. For one
          given `x`, the fraction of false alarms can be higher or lower. The threshold is the
          ⌈(n + 1)(1 − `false_alarm_rate`)⌉-th smallest of the n scores. Such a threshold is called
          conformal (Laxhammar and Falkman 2010; Bates et al. 2023, arXiv:2104.08279).
        * `anomalies`: Labels say which examples of `x` are anomalies. The threshold maximizes the
          F1 score on `x`. If you also pass `false_alarm_cost` and `miss_cost`, the threshold
          minimizes the total cost on `x` instead. The fraction of anomalies in `x` should be the
          same as in new data. If several thresholds are equally good, the highest is used. The
          threshold is halfway between two scores of `x`, or slightly below the lowest score, or
          equal to the highest score. If two scores are neighboring float32 numbers, the lower of
          the two is used instead of their midpoint.

        If you choose none of the three, `quantile` is 0.99. A score that is NaN counts as infinite.
        The `.keras` file contains the threshold. If the model has a threshold when it is exported,
        the exported function `score` also returns `anomaly`, the result of `is_anomaly`. If you
        later compile an autoencoder with another loss, its scores change, and the threshold is
        removed.

        Args:
            x: An array, or a `tf.data.Dataset` of batches. For a conditional model, a batch of a
                data set is a pair (data, labels). For other models, a batch can also be a pair
                (noisy data, clean data). For an accurate quantile, pass at least
                100 / (1 − `quantile`) examples, so that about a hundred scores are above the
                threshold. For `false_alarm_rate`, pass at least 1 / `false_alarm_rate` − 1
                examples.
            quantile: Fraction of the examples whose score is at most the threshold, a number
                above 0 and below 1. Default: 0.99, if no other way is chosen.
            condition: Labels `[n]` if the model is conditional and `x` is an array. None in all
                other cases.
            false_alarm_rate: Largest probability that an example that is not an anomaly has a score
                above the threshold. A number above 0 and below 1.
            anomalies: Bool array `[n]`, True for each example of the array `x` that is an anomaly.
                1 and 0 are also accepted. At least one example must be an anomaly, and at least one
                must not be an anomaly.
            false_alarm_cost: Cost of one example that is not an anomaly but has a score above the
                threshold. A number of at least 0.
            miss_cost: Cost of one anomaly whose score is not above the threshold, in the same unit
                as `false_alarm_cost`. A number of at least 0.

        Returns:
            The threshold.

        Raises:
            ValueError: If an argument is invalid. If `x` is empty, or has too few examples for
                `false_alarm_rate`. If the threshold would be infinite.

        Example:
            >>> import numpy as np
            >>> from keras_gen import RegularizedAutoencoder, networks
            >>> encoder = networks.mlp((2,), (1,), hidden=())
            >>> decoder = networks.mlp((1,), (2,), hidden=())
            >>> autoencoder = RegularizedAutoencoder(encoder, decoder, seed=0)
            >>> autoencoder.compile(loss="mse")
            >>> x = np.random.default_rng(0).normal(size=(200, 2))
            >>> threshold = autoencoder.calibrate(x, false_alarm_rate=0.05)
            >>> int(np.sum(autoencoder.is_anomaly(x)))
            9
            >>> threshold = autoencoder.calibrate(x, anomalies=np.abs(x[:, 0]) > 2)
        """
        ways = {
            "quantile": quantile,
            "false_alarm_rate": false_alarm_rate,
            "anomalies": anomalies,
        }
        chosen = [name for name, value in ways.items() if value is not None]
        if len(chosen) > 1:
            raise ValueError(
                "Expected at most one of `quantile`, `false_alarm_rate` and `anomalies`. "
                f"Received: {' and '.join(chosen)}."
            )
        if quantile is None:
            quantile = 0.99
        _check_fraction("quantile", quantile, 0.99)
        if false_alarm_rate is not None:
            _check_fraction("false_alarm_rate", false_alarm_rate, 0.01)
        costs = _checked_costs(false_alarm_cost, miss_cost, anomalies is not None)
        self._check_calibration_data(x, condition, anomalies is not None)
        self.data_check.before_work(x, None if condition is None else np.asarray(condition))
        labels = None if anomalies is None else _checked_labels(anomalies, len(x))
        parts = [self.score_of_batch(self.unpack(data)).numpy() for data in _batches(x, condition)]
        scores = np.concatenate(parts) if parts else np.empty(0, np.float32)
        if not len(scores):
            raise ValueError("Expected at least one in-distribution example. Received: none.")
        infinite = ~np.isfinite(scores)
        scores = np.where(np.isnan(scores), np.inf, scores)
        if labels is not None:
            threshold = _best_threshold(scores, labels, costs)
        elif false_alarm_rate is not None:
            threshold = _conformal_threshold(scores, false_alarm_rate)
        else:
            with np.errstate(invalid="ignore"):  # NumPy interpolates between infinite scores
                threshold = np.quantile(scores, quantile)
        if not np.isfinite(threshold):
            raise ValueError(
                "Expected a finite threshold. Received: an infinite threshold, because too many "
                f"scores are NaN or infinite: {infinite.sum()} of {len(scores)}. Check whether the "
                "training of the model has failed, or remove the examples with these scores."
            )
        self.threshold = float(threshold)
        return self.threshold

    def _check_calibration_data(
        self, x: Examples, condition: TensorLike | None, labelled: bool
    ) -> None:
        """Check that `calibrate` received an array, or a data set without separate labels.

        Args:
            x: The argument `x` of `calibrate`.
            condition: The argument `condition` of `calibrate`.
            labelled: Whether the argument `anomalies` of `calibrate` is given.

        Raises:
            ValueError: If `x` is neither an array nor a `tf.data.Dataset`. Also if `x` is a
                `tf.data.Dataset` and `condition` or `anomalies` is given.
        """
        is_dataset = isinstance(x, tf.data.Dataset)
        if not is_dataset and not hasattr(x, "dtype"):
            raise ValueError(
                f"Expected `x` as an array or a tf.data.Dataset. Received: {type(x).__name__}."
            )
        if is_dataset and condition is not None:
            raise ValueError(
                "Expected no `condition`, because a tf.data.Dataset contains its labels itself. "
                "Received: labels. Use a data set of pairs (data, labels)."
            )
        if is_dataset and labelled:
            raise ValueError(
                "Expected `x` as an array if `anomalies` are given, because a data set can change "
                "the order of its examples. Received: a tf.data.Dataset. Convert it: "
                "x, y = keras_gen.data.as_arrays(dataset)."
            )

    def is_anomaly(self, x: TensorLike, condition: TensorLike | None = None) -> tf.Tensor:
        """Return whether the score of each example is above the threshold, bool `[batch]`.

        If a score is NaN, the result is True.

        Args:
            x: Data `[batch, *data_shape]`.
            condition: Labels `[batch]` if the model is conditional, otherwise None.

        Raises:
            ValueError: If the model has no threshold. In this case, call `calibrate` first. Also if
                `score` rejects `x` or `condition`.
        """
        if self.threshold is None:
            raise ValueError(
                f"{self.name} has no threshold yet. Call calibrate(x) with in-distribution data "
                "that the model was not trained on."
            )
        return self.exceeds(self.score(x, *self._condition_arguments(condition)))

    def exceeds(self, score: tf.Tensor) -> tf.Tensor:
        """Return whether each score is above the threshold. For NaN, the result is True."""
        return ~(score <= self.threshold)

    def score_functions(self, x: TensorLike, condition: TensorLike | None = None) -> ScoreFunctions:
        """Return two functions without arguments, which compute the scores of `x`.

        The first function returns the result of `score(x)`. The second function returns the result
        of `score_per_feature(x)`. A subclass can override this method, so that both functions use
        the same reconstruction instead of computing it twice.

        Args:
            x: Data `[batch, *data_shape]`.
            condition: Labels `[batch]` if the model is conditional, otherwise None.
        """
        labels = self._condition_arguments(condition, x)
        return (
            functools.partial(self.score, x, *labels),
            functools.partial(self.score_per_feature, x, *labels),
        )

    @traced("x", "condition")
    def score_and_features(
        self, x: TensorLike, condition: TensorLike | None = None
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Compute `score(x)` and `score_per_feature(x)`, with one call of the networks if possible.

        Args:
            x: Data `[batch, *data_shape]`.
            condition: Labels `[batch]` if the model is conditional, otherwise None.

        Returns:
            `(score, per_feature)`. If `score_per_feature` raises a `ValueError`, because the score
            is not a sum over the elements of an example, `per_feature` is None.

        Raises:
            ValueError: If an argument is invalid, as in `score`.
        """
        # A subclass of the user that overrides `score` need not override `score_functions`.
        names = ("score", "score_per_feature", "score_functions")
        owners: set[Any] = {
            next(cls for cls in type(self).__mro__ if name in vars(cls)) for name in names
        }
        owner = owners.pop() if len(owners) == 1 else AnomalyDetector
        score_function, per_feature_function = owner.score_functions(self, x, condition)
        score = score_function()
        try:
            return score, per_feature_function()
        except ValueError:  # a loss or a likelihood of the user may not be a sum over elements
            return score, None

    def score_outputs(
        self, inputs: tf.Tensor, condition: TensorLike | None = None
    ) -> dict[str, tf.Tensor]:
        """Compute the outputs of the function `score` in an exported model.

        An example with an invalid value, such as infinity, gets an infinite score. NaN is also
        invalid, unless the model accepts missing entries. An example with an invalid value does not
        change the scores of other examples in the batch.

        Args:
            inputs: Data `[batch, *data_shape]`.
            condition: Labels `[batch]` if the model is conditional, otherwise None.

        Returns:
            A dictionary with up to three keys.

            * `score`: The anomaly scores, `[batch]`.
            * `per_feature`: How much each element adds to the score, in the shape of `inputs`. For
              an example with invalid values, the result is infinite for each invalid value, and 0
              elsewhere. If `score_per_feature` raises a `ValueError`, this key is omitted.
            * `anomaly`: Whether each score is above the threshold, bool `[batch]`. If the model has
              no threshold, this key is omitted.
        """
        valid = self.data_check.valid(inputs)
        valid_rows = tf.reduce_all(valid, axis=tf.range(1, tf.rank(valid)), keepdims=True)
        x = tf.where(valid_rows, inputs, self.data_check.example)
        score, per_feature = self.score_and_features(x, condition)
        is_valid = tf.reshape(valid_rows, (-1,))
        score = tf.where(is_valid, score, np.inf)
        outputs = {"score": score}
        if per_feature is not None:
            of_invalid = tf.where(valid, 0.0, np.inf)
            outputs["per_feature"] = tf.where(valid_rows, per_feature, of_invalid)
        if self.threshold is not None:
            outputs["anomaly"] = self.exceeds(score)
        return outputs


def _batches(x: Examples, condition: TensorLike | None) -> Iterator[Any]:
    """Yield batches of `x`. If `condition` is given, yield pairs (batch, labels of the batch)."""
    if isinstance(x, tf.data.Dataset):
        yield from x
        return
    for start in range(0, len(x), _BATCH):
        part = slice(start, start + _BATCH)
        if condition is None:
            yield tf.convert_to_tensor(x[part])
        else:
            yield tf.convert_to_tensor(x[part]), tf.convert_to_tensor(condition[part])


# === Thresholds ===


def _check_fraction(name: str, value: Any, example: float) -> None:
    """Raise a `ValueError` if `value` is not a number above 0 and below 1.

    Args:
        name: Name of the argument in the error message.
        value: Value of the argument.
        example: A valid value, for the error message.
    """
    if not is_real(value) or not 0 < value < 1:
        raise ValueError(
            f"`{name}` must be a number between 0 and 1, such as {example}. "
            f"Received: {name}={value!r}"
        )


def _checked_costs(
    false_alarm_cost: float | None, miss_cost: float | None, labelled: bool
) -> tuple[float, float] | None:
    """Check the two cost arguments of `calibrate`, and return both as floats.

    If neither cost is given, return None.

    Args:
        false_alarm_cost: The argument `false_alarm_cost` of `calibrate`.
        miss_cost: The argument `miss_cost` of `calibrate`.
        labelled: Whether the argument `anomalies` of `calibrate` is given.

    Raises:
        ValueError: If only one cost is given, if a cost is invalid, or if both are 0. Also if a
            cost is given without `anomalies`.
    """
    if false_alarm_cost is None and miss_cost is None:
        return None
    received = f"Received: false_alarm_cost={false_alarm_cost!r}, miss_cost={miss_cost!r}"
    if not labelled:
        raise ValueError(
            "`false_alarm_cost` and `miss_cost` need `anomalies`, the labels of the examples. "
            f"{received} without `anomalies`."
        )
    if false_alarm_cost is None or miss_cost is None:
        raise ValueError(f"Expected both `false_alarm_cost` and `miss_cost`. {received}")
    costs = {"false_alarm_cost": false_alarm_cost, "miss_cost": miss_cost}
    for name, cost in costs.items():
        if not is_real(cost) or not 0 <= cost < np.inf:
            raise ValueError(f"`{name}` must be a number of at least 0. Received: {name}={cost!r}")
    if false_alarm_cost == miss_cost == 0:
        raise ValueError(f"Expected at least one cost above 0. {received}")
    return float(false_alarm_cost), float(miss_cost)


def _checked_labels(anomalies: TensorLike, number: int) -> np.ndarray:
    """Check the argument `anomalies` of `calibrate`, and return it as a bool array.

    Args:
        anomalies: One label per example: True or 1 for an anomaly, otherwise False or 0.
        number: Number of examples.

    Raises:
        ValueError: If the number of labels is not `number`, or if a label has another value. Also
            if all examples are anomalies, or none.
    """
    labels = np.asarray(anomalies)
    if labels.shape != (number,):
        raise ValueError(
            f"`anomalies` must contain one value per example, shape ({number},). "
            f"Received: shape {labels.shape}."
        )
    if not np.isin(labels, (0, 1)).all():
        wrong = labels[~np.isin(labels, (0, 1))][0]
        raise ValueError(
            "`anomalies` must be True or 1 for an anomaly, and False or 0 for each other example. "
            f"Received: {wrong!r}."
        )
    labels = labels.astype(bool)
    if labels.all() or not labels.any():
        raise ValueError(
            "`anomalies` must mark at least one anomaly and one other example. "
            f"Received: {labels.sum()} anomalies among {number} examples."
        )
    return labels


def _conformal_threshold(scores: np.ndarray, false_alarm_rate: float) -> float:
    """Return a threshold that a new score exceeds with at most the probability `false_alarm_rate`.

    The threshold is the k-th smallest of the n scores, where k = ⌈(n + 1)(1 − `false_alarm_rate`)⌉.
    If there are no ties, the rank of a new score among n + 1 exchangeable scores is uniform.
    Therefore the new score exceeds the k-th smallest of the other n scores with the probability
    (n + 1 − k) / (n + 1). Ties make this probability smaller.

    Args:
        scores: Anomaly scores `[n]` of examples that are not anomalies.
        false_alarm_rate: Largest allowed probability, between 0 and 1.

    Raises:
        ValueError: If there are too few scores for this rate.
    """
    # A fraction has no rounding errors, so that 0.29 of 100 is 29.
    rate = fractions.Fraction(str(float(false_alarm_rate)))
    above = math.floor((len(scores) + 1) * rate)
    if above == 0:
        raise ValueError(
            f"Expected at least {math.ceil(1 / rate) - 1} examples for "
            f"false_alarm_rate={false_alarm_rate!r}. Received: {len(scores)}. Pass more examples, "
            "or a larger rate."
        )
    return float(np.sort(scores)[len(scores) - above])


def _best_threshold(
    scores: np.ndarray, anomalies: np.ndarray, costs: tuple[float, float] | None
) -> float:
    """Return the threshold with the largest F1 score, or with the smallest total cost.

    If several thresholds are equally good, the highest of them is returned.

    Args:
        scores: Anomaly scores `[n]` without NaN, float32.
        anomalies: Bool `[n]`, True for each anomaly.
        costs: The cost of a false alarm and the cost of a missed anomaly. If `costs` is None, the
            F1 score is maximized. Otherwise, the total cost is minimized.
    """
    values = np.unique(scores)
    with np.errstate(over="ignore", invalid="ignore"):
        middle = values[:-1] / 2 + values[1:] / 2
    # Two neighboring float32 numbers have no float32 number between them.
    separates = middle < values[1:]
    below = np.nextafter(values[:1], -np.inf, dtype=np.float32)
    thresholds = np.concatenate(
        [below, np.where(separates, middle, values[:-1]), values[-1:]], dtype=np.float32
    )
    of_anomalies = np.sort(scores[anomalies])
    of_others = np.sort(scores[~anomalies])
    missed = np.searchsorted(of_anomalies, thresholds, side="right")
    false_alarms = len(of_others) - np.searchsorted(of_others, thresholds, side="right")
    if costs is None:
        found = len(of_anomalies) - missed
        quality = 2 * found / (2 * found + false_alarms + missed)
    else:
        quality = -(costs[0] * false_alarms + costs[1] * missed)
    return float(thresholds[np.flatnonzero(quality == quality.max())[-1]])
