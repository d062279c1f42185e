"""An estimator for scikit-learn that detects anomalies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from keras_gen import data
from keras_gen._arguments import is_real
from keras_gen._columns import ColumnTuple, encode_frame
from keras_gen.models import AutoencoderEnsemble
from keras_gen.models.anomalies import AnomalyDetector as _Model

_BATCH = 256  # number of rows whose scores are computed together


class AnomalyDetector(OutlierMixin, BaseEstimator):
    """Detect anomalies with a model of keras_gen, as an estimator of scikit-learn.

    The estimator accepts arrays of numbers and `DataFrame`s. Numbers can have any units. NaN means
    that an entry is missing. If a `DataFrame` has columns that are not numbers, such as text, it is
    read as a table: `data.read_table` infers the kind of each column. The estimator then ignores
    constant columns and identifiers.

    As in scikit-learn, `score_samples` and `decision_function` are smaller for more anomalous rows.
    `predict` returns −1 for an anomaly, and 1 for any other row. The method `score` of a keras_gen
    model has the opposite sign: it is larger for more anomalous rows.

    Args:
        model: Function that makes the model. The estimator calls `model(features, seed=seed)`. For
            a table, `features` is the description of its columns, such as `table.columns`. In all
            other cases, `features` is the number of columns. The returned model must have an
            anomaly score. It must be compiled, unless its method `fit` compiles it. Default:
            `AutoencoderEnsemble`. To change an argument of the ensemble, use for instance
            `functools.partial(AutoencoderEnsemble, num_members=16)`.
        contamination: Fraction of the training rows that are anomalies, in (0, 0.5]. The estimator
            chooses `offset_` so that `predict` returns −1 for about this fraction of the training
            rows. Default: 0.1.
        kinds: Dictionary from the name of a column to its kind, as in `data.read_table`. Only for a
            `DataFrame`, which is then read as a table even if all of its columns are numbers.
        unseen: What to do with a category that no training row has. `"error"`, the default, raises
            an error. `"missing"` treats the entry as missing.
        fit_arguments: Dictionary of arguments for the model's method `fit`, such as
            `{"epochs": 8}`. Default: only `verbose=0`, which is also used if the dictionary has no
            `verbose`.
        random_state: Seed of the model, as in scikit-learn: None, an int, or a
            `numpy.random.RandomState`.

    Attributes:
        model_: The fitted keras_gen model. Its threshold is −`offset_`, so that the exported
            function `score` flags the same rows as `predict`.
        offset_: Threshold of `score_samples`. A row with a smaller value is an anomaly.
        columns_: The columns of the table, if `X` is read as a table. Otherwise None.
        n_features_in_: Number of columns of `X`.
        feature_names_in_: Names of the columns, if all names of the `DataFrame` are strings.

    Example:
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import PowerTransformer
        >>> X = np.random.default_rng(0).normal(size=(100, 3)) ** 3
        >>> X[0] = [-3.0, 5.0, 90.0]
        >>> detector = AnomalyDetector(contamination=0.01, random_state=0)
        >>> labels = make_pipeline(PowerTransformer(), detector).fit_predict(X)
        >>> np.flatnonzero(labels == -1)
        array([0])
    """

    def __init__(
        self,
        model: Callable[..., Any] | None = None,
        *,
        contamination: float = 0.1,
        kinds: dict[str, Any] | None = None,
        unseen: Literal["error", "missing"] = "error",
        fit_arguments: dict[str, Any] | None = None,
        random_state: Any = None,
    ) -> None:
        self.model = model
        self.contamination = contamination
        self.kinds = kinds
        self.unseen = unseen
        self.fit_arguments = fit_arguments
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train a new model, and compute `offset_`, the threshold of `score_samples`.

        Args:
            X: Rows `[n, columns]`, an array or a `DataFrame`. Some rows may be anomalies.
            y: Ignored.

        Returns:
            The estimator.

        Raises:
            ValueError: If `X` or an argument of the constructor is invalid.
        """
        if not is_real(self.contamination) or not 0 < self.contamination <= 0.5:
            raise ValueError(
                "`contamination` must be a number in (0, 0.5]. "
                f"Received: contamination={self.contamination!r}"
            )
        if self.unseen not in ("error", "missing"):
            raise ValueError(
                f"`unseen` must be 'error' or 'missing'. Received: unseen={self.unseen!r}"
            )
        self.columns_: ColumnTuple | None = None
        if _is_table(X) or (self.kinds is not None and hasattr(X, "dtypes")):
            self.columns_ = data.read_table(X, kinds=self.kinds, test_fraction=0.0).columns
        elif self.kinds is not None:
            raise ValueError("`kinds` needs a DataFrame. Received: `X` without names of columns.")
        rows = self._rows(X, reset=True)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        make = AutoencoderEnsemble if self.model is None else self.model
        features = rows.shape[1] if self.columns_ is None else self.columns_
        self.model_ = make(features, seed=seed)
        if not isinstance(self.model_, _Model):
            raise ValueError(
                "`model` must return a keras_gen model with an anomaly score, such as an "
                f"AutoencoderEnsemble or a VAE. Received: {type(self.model_).__name__}."
            )
        self.model_.fit(rows, **{"verbose": 0, **(self.fit_arguments or {})})
        scores = self._scores(rows)
        # A float32 number, so that the model, which compares in float32, flags the same rows.
        self.offset_ = float(np.float32(np.percentile(scores, 100 * self.contamination)))
        self.model_.threshold = -self.offset_
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Compute the negative anomaly score of each row, `[n]`.

        A lower value means a more anomalous row.

        Args:
            X: Rows `[n, columns]`.
        """
        check_is_fitted(self)
        return self._scores(self._rows(X))

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute `score_samples(X) - offset_`, `[n]`. A negative value means an anomaly.

        The attribute `offset_` is the threshold of `score_samples`.

        Args:
            X: Rows `[n, columns]`.
        """
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """Return −1 for each anomaly and 1 for each other row, int `[n]`.

        A row is an anomaly if its value of `score_samples` is less than `offset_`, or is NaN.

        Args:
            X: Rows `[n, columns]`.
        """
        # A comparison with NaN is false, so a row whose score is NaN is an anomaly.
        return np.where(self.score_samples(X) >= self.offset_, 1, -1)

    def score_per_feature(self, X: Any) -> Any:
        """Compute how much each entry of a row adds to the anomaly score of the row.

        A larger value means that the entry is more anomalous.

        Args:
            X: Rows `[n, columns]`.

        Returns:
            An array `[n, columns]`. For a table, a `DataFrame` with the columns of the table,
            except constants and identifiers.

        Raises:
            ValueError: If `X` is invalid, or if the score of the model is not a sum over the
                columns.
        """
        check_is_fitted(self)
        rows = self._rows(X)
        values = _by_batch(self.model_.score_per_feature, rows)
        if self.columns_ is None:
            return values
        import pandas

        names = [column.name for column in self.columns_ if column.modeled]
        return pandas.DataFrame(values, index=X.index, columns=names)

    def _rows(self, X: Any, reset: bool = False) -> np.ndarray:
        """Check rows, and return them as the float array that the model receives.

        Args:
            X: Rows that the user passed, an array or a `DataFrame`.
            reset: True in `fit`, which stores the number and the names of the columns. False in all
                other methods, which compare the columns of `X` with the stored ones.
        """
        if self.columns_ is None:
            return np.asarray(
                validate_data(
                    self,
                    X,
                    reset=reset,
                    dtype=[np.float64, np.float32],
                    ensure_all_finite="allow-nan",
                )
            )
        if not hasattr(X, "dtypes"):
            raise ValueError(
                f"Expected `X` as a DataFrame, as in `fit`. Received: {type(X).__name__}."
            )
        validate_data(self, X, reset=reset, skip_check_array=True)
        if not len(X):
            raise ValueError("Expected at least one row in `X`. Received: none.")
        return encode_frame(self.columns_, X, self.unseen)

    def _scores(self, rows: np.ndarray) -> np.ndarray:
        """Return the negative anomaly scores of checked rows."""
        return -_by_batch(self.model_.score, rows).astype(np.float64)

    def __sklearn_tags__(self) -> Any:
        """Return the tags of the estimator, which say that entries can be NaN."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def _is_table(X: Any) -> bool:
    """Return whether `X` is a `DataFrame` in which at least one column is not numeric."""
    if not hasattr(X, "dtypes") or not hasattr(X, "columns"):
        return False
    from pandas.api.types import is_numeric_dtype

    return not all(is_numeric_dtype(dtype) for dtype in X.dtypes)


def _by_batch(function: Callable[..., Any], rows: np.ndarray) -> np.ndarray:
    """Apply a function to rows in batches, and concatenate the results.

    The result for a row does not depend on the number of rows. To achieve this, all batches have
    the same size, because the rounding errors of a matrix product depend on the size of the batch.
    Copies of the last row fill up the last batch.
    """
    count = len(rows)
    rows = np.concatenate([rows, np.repeat(rows[-1:], -count % _BATCH, axis=0)])
    starts = range(0, len(rows), _BATCH)
    return np.concatenate([function(rows[start : start + _BATCH]) for start in starts])[:count]
