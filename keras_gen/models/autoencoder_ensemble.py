"""An ensemble of small autoencoders that detects anomalies in tables."""

from __future__ import annotations

import contextlib
import math
import types
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_gen._arguments import is_real, positive_int
from keras_gen._columns import Column
from keras_gen._tracing import traced
from keras_gen._typing import Array, Data, Endpoint, TensorLike
from keras_gen.data import as_arrays
from keras_gen.distributions import Columns
from keras_gen.fitting.data_check import DataCheck
from keras_gen.models.anomalies import AnomalyDetector, ScoreFunctions
from keras_gen.models.base import CheckedBatch
from keras_gen.networks import ColumnFeatures

_OWN_OPTIMIZER = "optimizer_of_fit"  # name of the optimizer that `fit` makes
_PART = 500  # number of examples whose scores are computed together
_NUM_REFERENCE_ROWS = 1000  # number of training rows from which the scales of the score follow
_MIN_VARIANCE = 1e-2  # added to the mean squared residuals of standardized features
_MIN_MEDIAN = 1e-6
_LARGEST_FEATURE = 1e9  # the square of this number is finite in float32


@keras.saving.register_keras_serializable("keras_gen")
class AutoencoderEnsemble(AnomalyDetector):
    """An ensemble of small autoencoders that detects anomalies in the rows of a table.

    Use this model if the training data contain unlabelled anomalies, and if you do not want to
    choose networks and settings for your data. The data can be an array of numbers with any units,
    or a table with categories. NaN means that an entry is missing.

    The model has `num_members` independent autoencoders, the members. Each member has one hidden
    layer in the encoder and one in the decoder. Each member is trained on its own small random
    subset of the rows. Even if many anomalies resemble each other, most subsets contain few or none
    of them. Therefore most members do not learn to reconstruct the anomalies. Ensembles of
    autoencoders are due to Chen et al. 2017 ("Outlier Detection with Autoencoder Ensembles", SIAM
    International Conference on Data Mining). Subsets of varied size are due to Aggarwal and Sathe
    2015 ("Theoretical Foundations and Algorithms for Outlier Ensembles", SIGKDD Explorations 17).

    The model computes features from each row. For an array, the features are the columns. For a
    table, `ColumnFeatures` computes the features. `fit` computes the mean and the standard
    deviation of each feature, with which the model standardizes the features.

    The score of a row is the mean of the members' scores. A member computes the sum
    Σ_d log(1 + r_d² / σ_d²) over the features d. The residual r_d is standardized feature d minus
    its reconstruction. σ_d² is 0.01 plus the mean of r_d² over training rows. The score of the
    member is this sum, divided by the median of the sums of training rows. So a typical training
    row has a score of about 1.
    Before a member reconstructs a row to score it, the member clips the latents of the row. The
    argument `clip` defines the limits.

    If entries of a row are missing, the sum contains only the features of the observed entries.
    This sum is multiplied by (number of features) / (number of features of observed entries). If
    all entries of a row are missing, the score is infinite.

    Args:
        features: The number of columns of the data, or the columns of a table, such as
            `table.columns`.
        num_members: Number of autoencoders.
        subset_sizes: Numbers of training rows in the members' subsets. The first member uses the
            first number, the second member the second number, and so on. After the last number, the
            first number follows again. No subset has more than 80 % of the rows, so that the
            members differ.
        latent_sizes: Numbers of latents of the members. With k numbers in `subset_sizes`, the first
            k members use the first number of latents. The next k members use the second number, and
            so on. After the last number, the first number follows again. A member always has fewer
            latents than there are features, but at least one.
        hidden_size: Number of units of the hidden layers.
        clip: A member that scores a row clips each latent to a range. The limits of this range are
            the quantiles `clip` and 1 − `clip` of the latent over training rows. With `clip=0`, the
            range goes from the minimum to the maximum.
        threshold: An example is an anomaly if its score is above this number. If None, call
            `calibrate` to compute the threshold.
        seed: Seed of all random numbers of the model, an int in [0, 2³¹). If None, the seed is
            random.
        **kwargs: Arguments of `keras.Model`: `name`, `dtype` and `trainable`. The members always
            compute in float32.

    Raises:
        ValueError: If an argument is invalid.

    Example: the second new row is an anomaly because of its value in column 1, which is −8.
        >>> x = np.random.default_rng(0).normal([10.0, -5.0, 0.0], [3.0, 0.1, 1.0], (200, 3))
        >>> ensemble = AutoencoderEnsemble(3, num_members=8, seed=0)
        >>> history = ensemble.fit(x[:150], epochs=1, verbose=0)
        >>> threshold = ensemble.calibrate(x[150:], false_alarm_rate=0.05)
        >>> new = [[11.0, -5.1, 0.5], [11.0, -8.0, 0.5]]
        >>> ensemble.is_anomaly(new).numpy()
        array([False,  True])
        >>> ensemble.score_per_feature(new).numpy().argmax(axis=1)[1]
        np.int64(1)
    """

    has_encoder = False
    evaluated_losses = ("loss",)

    def __init__(
        self,
        features: int | Iterable[Column],
        num_members: int = 48,
        subset_sizes: Sequence[int] = (16, 32, 64, 128, 256, 512),
        latent_sizes: Sequence[int] = (1, 2, 4, 8),
        hidden_size: int = 48,
        clip: float = 0.05,
        threshold: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if isinstance(features, Iterable):
            features = tuple(features)
            data_check = DataCheck.of_likelihood(Columns(features))
        else:
            features = positive_int(self, "features", features)
            data_check = DataCheck((features,), missing=True)
        super().__init__(data_check, seed, **kwargs)
        self.features = features
        self.num_members = positive_int(self, "num_members", num_members)
        self.subset_sizes = self._checked_sizes("subset_sizes", subset_sizes)
        self.latent_sizes = self._checked_sizes("latent_sizes", latent_sizes)
        self.hidden_size = positive_int(self, "hidden_size", hidden_size)
        if not is_real(clip) or not 0 <= clip < 0.5:
            raise ValueError(f"`clip` must be a number in [0, 0.5). Received: clip={clip!r}")
        self.clip = float(clip)
        self.threshold = self.check_threshold(threshold)
        self.column_features: ColumnFeatures | None = None
        of_column = np.arange(self.data_shape[0])
        if isinstance(features, tuple):
            self.columns = features
            self.column_features = ColumnFeatures(features)
            of_column = np.asarray(self.column_features.column_of_feature)
        # features × columns: 1 if the feature is a feature of the column
        self._in_column = np.eye(self.data_shape[0], dtype=np.float32)[of_column]
        self._make_networks(len(of_column))

    def _checked_sizes(self, name: str, sizes: Sequence[int]) -> tuple[int, ...]:
        """Check that an argument contains positive integers, and return them as a tuple."""
        if not isinstance(sizes, (tuple, list)) or not sizes:
            raise ValueError(
                f"`{name}` must be a tuple of positive integers. Received: {name}={sizes!r}"
            )
        return tuple(positive_int(self, name, size) for size in sizes)

    def _make_networks(self, num_features: int) -> None:
        """Make the encoder and the decoder of all members, and the weights that are not trained.

        The weights that are not trained are statistics of the training data, such as the mean of
        each feature. `fit` computes their values.
        """
        members = np.arange(self.num_members)
        turn = members // len(self.subset_sizes) % len(self.latent_sizes)
        # With as many latents as features, a member could learn the identity. It would then
        # reconstruct every row, also an anomaly.
        latents = np.minimum(np.asarray(self.latent_sizes)[turn], max(1, num_features - 1))
        num_latents = int(latents.max())
        seeds = iter(np.random.default_rng(self.seed).integers(0, 2**31, 4).tolist())

        def dense(units: int, activation: str | None = None) -> layers.Layer:
            # Keras takes the first axis of a kernel [members, in, out] for a part of the fan-in.
            initializer = keras.initializers.VarianceScaling(
                self.num_members, "fan_avg", "uniform", seed=next(seeds)
            )
            return layers.EinsumDense(
                "bmi,mio->bmo",
                (self.num_members, units),
                activation=activation,
                bias_axes="mo",
                kernel_initializer=initializer,
                dtype="float32",
            )

        inputs = keras.Input((self.num_members, num_features), dtype="float32")
        z = dense(num_latents)(dense(self.hidden_size, "tanh")(inputs))
        # A member with fewer latents than others has zeros in their place.
        mask = (np.arange(num_latents) < latents[:, None]).astype(float).tolist()
        self.encoder = keras.Model(inputs, layers.Rescaling(mask, dtype="float32")(z))
        inputs = keras.Input((self.num_members, num_latents), dtype="float32")
        outputs = dense(num_features)(dense(self.hidden_size, "tanh")(inputs))
        self.decoder = keras.Model(inputs, outputs)

        def weight(name: str, *shape: int, initializer: str = "zeros") -> keras.Variable:
            return self.add_weight(
                shape, initializer, "float32", trainable=False, autocast=False, name=name
            )

        self.feature_mean = weight("feature_mean", num_features)
        self.feature_scale = weight("feature_scale", num_features, initializer="ones")
        self.lowest_latents = weight("lowest_latents", self.num_members, num_latents)
        self.highest_latents = weight("highest_latents", self.num_members, num_latents)
        self.residual_variance = weight("residual_variance", self.num_members, num_features)
        self.median_score = weight("median_score", self.num_members)

    # === Training ===

    def compile(self, optimizer: keras.optimizers.Optimizer | str = "adam", **kwargs: Any) -> None:
        """Configure the model for training, like `keras.Model.compile`.

        You do not need to call this method: `fit` compiles a model that is not compiled.

        Args:
            optimizer: Keras optimizer or its name.
            **kwargs: Other arguments of `keras.Model.compile`, except `loss`, `metrics` and
                `weighted_metrics`. The loss is always the mean squared difference between the
                standardized features and their reconstructions.

        Raises:
            ValueError: If `loss`, `metrics` or `weighted_metrics` is given.
        """
        for name in ("loss", "metrics", "weighted_metrics"):
            if kwargs.get(name) is not None:
                raise ValueError(
                    f"{type(self).__name__} has no `{name}`, since its loss is the mean squared "
                    f"residual of the members. Received: {name}={kwargs[name]!r}"
                )
        super().compile(optimizer, **kwargs)

    def fit(
        self,
        x: Data | None = None,
        y: Array | None = None,
        batch_size: int | None = None,
        epochs: int = 4,
        verbose: Literal["auto", 0, 1, 2] = "auto",
        callbacks: keras.callbacks.Callback | Sequence[keras.callbacks.Callback] | None = None,
        validation_split: float = 0.0,
        validation_data: Data | tuple[Any, ...] | None = None,
        shuffle: bool = True,
        class_weight: dict[int, float] | None = None,
        sample_weight: TensorLike | None = None,
        *,
        steps_per_epoch: int | None = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train all autoencoders of the ensemble, and scale their anomaly scores.

        `fit` first computes the mean and the standard deviation of each feature, and chooses a
        random subset of the rows for each autoencoder. In each step, each autoencoder is trained on
        a batch of rows that are sampled from its subset, with replacement. So the training takes
        about as long for many rows as for few rows. At the end of each epoch, `fit` scores at most
        1,000 rows of `x`, and scales the scores so that a typical row has a score of about 1.

        If you did not compile the model, each call of `fit` compiles it with a new Adam optimizer.
        The learning rate then decays from 0.01 to 0 during the training, with a cosine schedule.

        Args:
            x: Rows `[n, columns]`, an array or a `tf.data.Dataset` of batches. NaN means that an
                entry is missing. The data set must fit into memory.
            y: Must be None. The training uses no labels.
            batch_size: Number of rows per autoencoder and step. Default: 32.
            epochs: Number of epochs. An epoch has `steps_per_epoch` steps.
            verbose: As in Keras.
            callbacks: Keras callbacks.
            validation_split: Fraction of the rows that is used for validation. These rows are the
                last rows of `x`.
            validation_data: Rows for the validation, an array or a `tf.data.Dataset` of batches.
            shuffle: Has no effect, since the order of the rows is always random.
            class_weight: Must be None.
            sample_weight: Must be None.
            steps_per_epoch: Number of training steps per epoch. Default: 100.
            **kwargs: Other arguments of `keras.Model.fit`.

        Raises:
            ValueError: If an argument or the data are invalid, for instance a column without an
                observed entry.
            NonFiniteError: If a loss or a gradient is NaN or infinite.
        """
        for name, value in {"y": y, "sample_weight": sample_weight}.items():
            if value is not None:
                raise ValueError(
                    f"{type(self).__name__} is trained without `{name}`. Received: `{name}` of "
                    f"type {type(value).__name__}. Omit it: fit(x)."
                )
        if not is_real(validation_split) or not 0 <= validation_split < 1:
            raise ValueError(
                "`validation_split` must be a number in [0, 1). "
                f"Received: validation_split={validation_split!r}"
            )
        batch_size = 32 if batch_size is None else positive_int(None, "batch_size", batch_size)
        steps = 100 if steps_per_epoch is None else steps_per_epoch
        steps = positive_int(None, "steps_per_epoch", steps)
        epochs = positive_int(None, "epochs", epochs)
        rows = self._training_rows(x)
        if validation_split and validation_data is None:
            count = max(1, int(len(rows) * (1 - validation_split)))
            validation_data = rows[count:]
            rows = rows[:count]
        if not self.compiled or self._optimizer_name == _OWN_OPTIMIZER:
            self._compile_for(epochs, steps)
        if steps % self.steps_per_execution:  # Keras would take more steps in each epoch
            raise ValueError(
                "`steps_per_epoch` must be a multiple of `steps_per_execution`. Received: "
                f"steps_per_epoch={steps}, steps_per_execution={self.steps_per_execution}"
            )
        subsets = _Subsets(steps, batch_size)
        if isinstance(callbacks, keras.callbacks.CallbackList):
            subsets.set_model(self)
            callbacks.callbacks.insert(0, subsets)
        else:
            callbacks = [subsets, *keras.tree.flatten(callbacks or [])]
        return super().fit(
            rows,
            epochs=epochs,
            verbose=verbose,
            callbacks=callbacks,
            validation_data=validation_data,
            class_weight=class_weight,
            **kwargs,
        )

    def _training_rows(self, x: Any) -> np.ndarray:
        """Check the rows that `fit` receives, and return them as a float32 array."""
        if isinstance(x, tf.data.Dataset):
            x, labels = as_arrays(x)
            if labels is not None:
                raise ValueError(
                    "Expected a data set of batches without labels, because "
                    f"{type(self).__name__} is trained without labels. Received: pairs. Omit the "
                    "labels: fit(dataset.map(lambda x, y: x))."
                )
        if isinstance(x, (types.GeneratorType, keras.utils.PyDataset)) or x is None:
            raise ValueError(
                "Expected `x` as an array or a tf.data.Dataset, because each member samples its "
                f"own subset of the rows. Received: {type(x).__name__}."
            )
        given = np.asarray(x)
        rows, _ = self.data_check.examples(given)
        observed = np.isfinite(rows)
        names = self.data_check.names or [f"{index}" for index in range(rows.shape[1])]
        if not observed.any(axis=0).all():
            column = names[np.flatnonzero(~observed.any(axis=0))[0]]
            raise ValueError(
                f"Expected at least one observed entry per column. Received: none in the column "
                f"{column!r}. Remove this column."
            )
        error = np.nanmax(np.abs(given - rows), axis=0)
        deviation = np.nanstd(given.astype(np.float64), axis=0)
        lost = (error > 0.05 * deviation) & (deviation > 0)
        if lost.any():
            column = names[np.flatnonzero(lost)[0]]
            raise ValueError(
                "Expected columns in which float32 can represent the differences between rows. "
                f"Received: the column {column!r}, whose numbers are too large compared with these "
                "differences. Subtract the mean of the column."
            )
        return rows

    @property
    def _optimizer_name(self) -> str:
        optimizer: Any = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        return str(optimizer.name)

    def _compile_for(self, epochs: int, steps_per_epoch: int) -> None:
        """Compile the model with Adam, whose learning rate decays to 0 over all training steps."""
        schedule = keras.optimizers.schedules.CosineDecay(1e-2, epochs * steps_per_epoch)
        several = self.distribute_strategy.num_replicas_in_sync > 1
        self.compile(
            keras.optimizers.Adam(schedule, name=_OWN_OPTIMIZER),
            steps_per_execution=1 if several else math.gcd(50, steps_per_epoch),
        )

    def train_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Raise a `ValueError`, because each member needs rows of its own subset."""
        raise ValueError(
            f"{type(self).__name__} cannot be trained on one batch, because each member samples "
            "its own subset of all rows. Use fit(x)."
        )

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Take one optimizer step for all members, and return the logged loss.

        Args:
            data: Standardized features, with a different batch for each member,
                `[batch, members, features]`.
        """
        with tf.GradientTape() as tape:
            loss = self.average(self._loss(data))
        loss += self.minimize(tape, data, loss, self.trainable_variables, {"loss": loss})
        self.log(data, loss=loss)
        return self.get_metrics_result()

    def test_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Compute the loss of one batch, and return the logs."""
        batch = self.unpack(data)
        features = tf.repeat(self._standardized(batch.target)[:, None], self.num_members, axis=1)
        loss = self.average(self._loss(features), batch.sample_weight)
        self.log(batch.x, loss=loss)
        return self.get_metrics_result()

    def _loss(self, features: tf.Tensor) -> tf.Tensor:
        """Return the mean squared residual of each example, `[batch]`.

        A residual is a feature minus its reconstruction. The residual of a missing feature is 0.
        The mean is over all members of the ensemble and all features.

        Args:
            features: Standardized features, `[batch, members, features]`. NaN means that a feature
                is missing.
        """
        known = _zero_where_missing(features)
        output = self.decoder(self.encoder(known))
        squares = tf.where(tf.math.is_nan(features), 0.0, tf.square(known - output))
        return tf.reduce_mean(squares, axis=(1, 2))

    # === Features and scores ===

    def _raw_features(self, x: tf.Tensor) -> tf.Tensor:
        """Convert rows to features `[batch, features]`, without standardizing the features.

        A missing feature is NaN.
        """
        if self.column_features is None:
            return x
        features = self.column_features(x)[:, : len(self._in_column)]
        missing = tf.gather(tf.math.is_nan(x), np.argmax(self._in_column, axis=1), axis=1)
        return tf.where(missing, np.nan, features)

    def _standardized(self, x: tf.Tensor) -> tf.Tensor:
        """Convert rows to standardized features `[batch, features]`. A missing feature is NaN.

        The features are clipped to [−1e9, 1e9], so that their squares are finite in float32.
        """
        features = (self._raw_features(x) - self.feature_mean) / self.feature_scale
        return tf.clip_by_value(features, -_LARGEST_FEATURE, _LARGEST_FEATURE)

    def standardize(self, rows: np.ndarray) -> np.ndarray:
        """Return standardized features of training rows, and store the mean and scale per feature.

        The scale of a feature is its standard deviation, or 1 if the feature is constant. `fit`
        calls this method. The model later standardizes new rows with the same means and scales.

        Args:
            rows: Training rows `[n, columns]`, float32.
        """
        features = np.asarray(self._raw_features(tf.constant(rows)), np.float64)
        mean = np.nanmean(features, axis=0)
        scale = np.nanstd(features, axis=0)
        # Such small differences are rounding errors of float32.
        constant = scale <= 1e-7 * np.abs(mean)
        self.feature_mean.assign(mean)
        self.feature_scale.assign(np.where(constant, 1.0, scale))
        return self._standardized(tf.constant(rows)).numpy()

    def set_scales(self, features: np.ndarray) -> None:
        """Compute the scales of the score and the limits of the latents from training rows.

        `fit` calls this method at the end of each epoch. The residual r_d is feature d minus its
        reconstruction. For each member of the ensemble, the method computes σ_d², which is 0.01
        plus the mean of r_d² over the rows in which feature d is observed. Then the method computes
        the sum Σ_d log(1 + r_d² / σ_d²) for each row, and the median of these sums. If a row has
        missing features, its sum is divided by the fraction of features that are observed. The
        method also computes the limits to which the member clips each latent.

        Args:
            features: Standardized features `[n, features]`. NaN means that a feature is missing.
        """
        parts = [features[start : start + _PART] for start in range(0, len(features), _PART)]
        known = [_zero_where_missing(self._of_members(tf.constant(part))) for part in parts]
        z = np.concatenate([self.encoder(part) for part in known])
        self.lowest_latents.assign(np.quantile(z, self.clip, axis=0))
        self.highest_latents.assign(np.quantile(z, 1 - self.clip, axis=0))
        squares = [self._squared_residuals(tf.constant(part)).numpy() for part in parts]
        observed = ~np.isnan(features)
        total = sum(part.sum(axis=0, dtype=np.float64) for part in squares)
        count = np.maximum(observed.sum(axis=0), 1)
        self.residual_variance.assign(total / count + _MIN_VARIANCE)
        sums = [np.log1p(part / self.residual_variance.numpy()).sum(axis=2) for part in squares]
        share = np.mean(observed, axis=1, keepdims=True)
        used = share[:, 0] > 0
        scores = np.concatenate(sums)[used] / share[used]
        self.median_score.assign(np.maximum(np.median(scores, axis=0), _MIN_MEDIAN))

    def _of_members(self, features: tf.Tensor) -> tf.Tensor:
        """Repeat features `[batch, features]` for each member, `[batch, members, features]`."""
        return tf.repeat(features[:, None], self.num_members, axis=1)

    def _squared_residuals(self, features: tf.Tensor) -> tf.Tensor:
        """Return the squared residual of each feature for each member of the ensemble.

        A residual is a feature minus its reconstruction. The residual of a missing feature is 0.

        Args:
            features: Standardized features `[batch, features]`. NaN means that a feature is
                missing.

        Returns:
            Tensor `[batch, members, features]`.
        """
        features = self._of_members(features)
        known = _zero_where_missing(features)
        z = self.encoder(known)
        z = tf.clip_by_value(z, self.lowest_latents, self.highest_latents)
        output = self.decoder(z)
        return tf.where(tf.math.is_nan(features), 0.0, tf.square(known - output))

    def _parts(self, x: tf.Tensor) -> tf.Tensor:
        """Return how much each column adds to the score of each row, `[batch, columns]`."""
        features = self._standardized(x)
        # not `log1p`, which ONNX lacks
        logs = tf.math.log(1.0 + self._squared_residuals(features) / self.residual_variance)
        of_features = tf.reduce_mean(logs / self.median_score[:, None], axis=1)
        observed = tf.cast(~tf.math.is_nan(features), tf.float32)
        share = tf.reduce_mean(observed, axis=1, keepdims=True)
        return tf.math.divide_no_nan(of_features, share) @ self._in_column

    def score_functions(self, x: TensorLike, condition: TensorLike | None = None) -> ScoreFunctions:
        """Return a function that computes `score(x)`, and one for `score_per_feature(x)`.

        Both functions use the same outputs of the networks, which this method computes only once.

        Returns:
            Two functions without arguments. The first function returns the result of `score(x)`.
            The second function returns the result of `score_per_feature(x)`.
        """
        x = self._scored(x, condition)
        if tf.executing_eagerly() and len(x) > _PART:
            rows = [x[start : start + _PART] for start in range(0, len(x), _PART)]
            parts = tf.concat([self._parts(part) for part in rows], axis=0)
        else:
            parts = self._parts(x)
        unknown = tf.reduce_all(tf.math.is_nan(x), axis=1)
        return (
            lambda: tf.where(unknown, np.inf, tf.reduce_sum(parts, axis=1)),
            lambda: parts,
        )

    @traced("x")
    def score(self, x: TensorLike, condition: TensorLike | None = None) -> tf.Tensor:
        """Compute the anomaly score of each example, `[batch]`.

        An example is a row. A typical training row has a score of about 1. A higher score means a
        more anomalous example. If all entries of an example are missing, its score is infinite.

        Args:
            x: Rows `[batch, columns]`, with NaN where an entry is missing.
            condition: Must be None, because the model is not conditional.

        Raises:
            ValueError: If the model is not trained. If `x` has the wrong shape or dtype, or invalid
                values. If `condition` is given.
        """
        return self.score_functions(x, condition)[0]()

    @traced("x")
    def score_per_feature(self, x: TensorLike, condition: TensorLike | None = None) -> tf.Tensor:
        """Compute how much each element of each example adds to the anomaly score.

        An example is a row, and an element is its entry in one column. The anomaly score of an
        example is the sum of these values over its elements. The value of a missing element is 0.
        If all elements of an example are missing, all values are 0, but the score is infinite.

        Args:
            x: Rows `[batch, columns]`, with NaN where an entry is missing.
            condition: Must be None, because the model is not conditional.

        Returns:
            Tensor `[batch, columns]`.

        Raises:
            ValueError: If `score` raises a `ValueError` for the same arguments.
        """
        return self.score_functions(x, condition)[1]()

    def score_of_batch(self, batch: CheckedBatch) -> tf.Tensor:
        """Return the anomaly score of each example of a batch, `[batch]`."""
        return self.score(batch.x)

    def _scored(self, x: TensorLike, condition: TensorLike | None) -> tf.Tensor:
        """Check the data that `score` receives, and return them as float32."""
        with tf.init_scope():
            trained = bool(tf.reduce_all(self.median_score > 0))
        if not trained:
            raise ValueError(
                f"{self.name} is not trained, so it cannot compute scores. Call fit(x)."
            )
        return self.checked_arguments(x, condition)[0]

    def call(self, inputs: Array, training: bool = False) -> tf.Tensor:
        """Return `score(inputs)`."""
        return self.score(inputs)

    def generate_rows(
        self, seed: TensorLike, condition: TensorLike | None = None
    ) -> dict[str, tf.Tensor]:
        """Raise a `ValueError`, because the model detects anomalies but does not generate data."""
        raise ValueError(
            f"Expected a model that generates data. Received: {type(self).__name__}, which only "
            "detects anomalies."
        )

    def signatures(self) -> dict[str, Endpoint]:
        """Return a dictionary of the functions that `export` writes, and their input specs.

        The keys `serving_default` and `score` have the same value: the function that computes the
        anomaly scores, and a list with the `tf.TensorSpec` of its argument.
        """
        data = [tf.TensorSpec((None, *self.data_shape), tf.float32, name="inputs")]
        return {
            "serving_default": (self.score_outputs, data),
            "score": (self.score_outputs, data),
        }


class _Subsets(keras.callbacks.Callback):
    """Train each member of the ensemble on its own subset of the rows.

    At the end of each epoch, this callback computes the scales of the anomaly score. The scales
    are numbers by which squared residuals and scores are divided, so that a typical row has a score
    of about 1. This callback runs before all other callbacks. Therefore, if another callback saves
    or copies the weights at the end of an epoch, the scales already match these weights.

    Args:
        steps: Number of steps per epoch.
        batch_size: Number of rows that each member receives in one step.
    """

    def __init__(self, steps: int, batch_size: int) -> None:
        super().__init__()
        self.steps = steps
        self.batch_size = batch_size

    @contextlib.contextmanager
    def around(
        self, model: AutoencoderEnsemble, arguments: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Replace the argument `x` of `fit` by a data set with different rows for each member.

        A member is one autoencoder of the ensemble. The batches of the data set have the shape
        `[batch, members, features]`.
        """
        features = model.standardize(arguments["x"])
        random = np.random.default_rng(model.seed)
        self.reference = random.permutation(features)[:_NUM_REFERENCE_ROWS]
        members = np.arange(model.num_members)
        sizes = np.asarray(model.subset_sizes)[members % len(model.subset_sizes)]
        sizes = np.minimum(sizes, max(1, int(0.8 * len(features))))
        subsets = np.zeros((model.num_members, sizes.max()), np.int32)
        for subset, size in zip(subsets, sizes, strict=True):
            subset[:size] = random.choice(len(features), size, replace=False)
        dataset = self._dataset(features, subsets, sizes, model.seed, arguments["epochs"])
        yield {
            **arguments,
            "x": dataset,
            "batch_size": None,
            "shuffle": False,
            "steps_per_epoch": self.steps,
        }

    def _dataset(
        self,
        features: np.ndarray,
        subsets: np.ndarray,
        sizes: np.ndarray,
        seed: int,
        epochs: int,
    ) -> tf.data.Dataset:
        """Return a data set with the batches of all epochs.

        A batch has the shape `[batch, members, features]`. A member is one autoencoder of the
        ensemble. For each member, the batch contains random rows from the member's own subset.

        Args:
            features: Standardized features of all training rows.
            subsets: Indices of the training rows in the subset of each member, `[members, largest
                size]`. If a subset is smaller than the largest one, its indices are followed by
                zeros, which are not used.
            sizes: Size of the subset of each member, `[members]`.
            seed: Seed of the random choice of rows for each batch.
            epochs: Number of epochs.
        """
        shape = (self.batch_size, len(sizes))
        member = tf.broadcast_to(tf.range(len(sizes)), shape)

        def batch(step: tf.Tensor) -> tf.Tensor:
            uniform = tf.random.stateless_uniform(shape, tf.stack([seed, step]))
            position = tf.cast(uniform * sizes.astype(np.float32), tf.int32)
            position = tf.minimum(position, sizes.astype(np.int32) - 1)
            rows = tf.gather_nd(subsets, tf.stack([member, position], axis=-1))
            return tf.gather(features, rows)

        options = tf.data.Options()
        options.autotune.enabled = False  # it delays every other epoch by seconds
        steps = tf.data.Dataset.range(epochs * self.steps)
        return steps.map(batch).prefetch(2).with_options(options)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compute the scales of the score for the new weights."""
        self.model.set_scales(self.reference)


def _zero_where_missing(features: tf.Tensor) -> tf.Tensor:
    """Replace missing features by 0, the mean of a standardized feature."""
    return tf.where(tf.math.is_nan(features), 0.0, features)
