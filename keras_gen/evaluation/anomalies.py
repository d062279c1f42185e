"""Figures that explain anomaly scores: heat maps for images, and bar charts for rows of a table."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_gen._columns import decode_array, modeled_columns
from keras_gen._files import PathLike, atomic_write
from keras_gen.evaluation.figures import are_images, save_grid
from keras_gen.evaluation.summary import format_number

_BATCH = 256
_SHOWN_IMAGES = 10
_SHOWN_ROWS = 4  # panels of the figure of a table
_SHOWN_COLUMNS = 6  # bars per panel
_TEXT_LENGTH = 32
_COLOR = "#c44e52"


def heat_maps(per_feature: np.ndarray) -> np.ndarray:
    """Convert anomaly scores per pixel to color images.

    The color of a pixel shows the sum of its scores over the channels. In each image, the colors go
    from black for the smallest sum, over purple and orange, to light yellow for the largest sum. A
    pixel with an infinite sum, or a sum of NaN, is light yellow, too. If all finite sums of an
    image are equal, the pixels with these sums are black.

    Args:
        per_feature: Scores of each pixel and channel, `[n, height, width, channels]`, such as
            `model.score_per_feature(images)`.

    Returns:
        RGB images `[n, height, width, 3]` with values in [0, 1].

    Example: the pixel with the largest score gets the color light yellow.

    >>> per_feature = np.zeros((1, 8, 8, 1))
    >>> per_feature[0, 2, 5] = 3.0
    >>> heat_maps(per_feature)[0, 2, 5].round(2)
    array([0.99, 1.  , 0.64])
    """
    import matplotlib  # imported here, because the import takes long

    sums = np.asarray(per_feature, np.float64).sum(axis=-1)
    finite = np.where(np.isfinite(sums), sums, np.nan)
    flat = finite.reshape(len(sums), -1)
    # If no score of an image is finite, all its pixels get the color of the largest score.
    low = np.nanmin(flat, axis=1, initial=np.inf)[:, None, None]
    high = np.nanmax(flat, axis=1, initial=-np.inf)[:, None, None]
    scale = np.where(high > low, high - low, 1.0)
    values = np.where(np.isfinite(sums), (finite - low) / scale, 1.0)
    return matplotlib.colormaps["inferno"](values)[..., :3]


def explained_images(
    images: np.ndarray, reconstructions: np.ndarray, per_feature: np.ndarray
) -> np.ndarray:
    """Stack images, their reconstructions and the heat maps of their anomaly scores for a figure.

    Args:
        images: Images `[n, height, width, 1 or 3]`.
        reconstructions: Reconstructions of the images, in the same shape.
        per_feature: Anomaly scores per pixel and channel of the images, in the same shape.

    Returns:
        RGB images `[3, n, height, width, 3]`. Along the first axis are the images, the
        reconstructions and the heat maps.
    """
    shape = (*images.shape[:-1], 3)
    return np.stack(
        [
            np.broadcast_to(images, shape),
            np.broadcast_to(reconstructions, shape),
            heat_maps(per_feature),
        ]
    )


def save_anomalies(
    model: Any, path: PathLike, x: np.ndarray, condition: np.ndarray | None = None
) -> bool:
    """Write a figure that shows and explains the examples with the largest anomaly scores.

    For images, the first row shows the ten images with the largest scores, with the largest score
    on the left. The second row shows their reconstructions, and the third row their heat maps.

    For a table, the figure has four panels, one for each of the four rows of `x` with the largest
    scores. Each bar of a panel belongs to one column. The length of a bar is the score of the row's
    entry in this column, minus the median score of the observed entries of the column in `x`. If
    the row's entry is missing, the length is 0. A panel shows only the six largest bars.

    Args:
        model: A model with the method `score_and_features`, such as an autoencoder or a VAE.
        path: Path of the PNG file. If writing fails, an existing file stays unchanged.
        x: Examples `[n, *data_shape]`.
        condition: Labels `[n]` if the model is conditional. Default: None.

    Returns:
        Whether a figure was written. There is no figure if the examples are neither images nor rows
        of a table, if the scores are not sums over the elements of an example, or if the examples
        are images and the model has no method `reconstruct`.
    """
    if not model.columns and not (are_images(x) and hasattr(model, "reconstruct")):
        return False
    score, per_feature = scores(model, x, condition)
    if per_feature is None:
        return False
    order = np.argsort(-np.nan_to_num(score, nan=np.inf), kind="stable")
    if model.columns:
        _save_bars(path, model.columns, x, score, per_feature, order[:_SHOWN_ROWS])
        return True
    shown = order[:_SHOWN_IMAGES]
    labels = [] if condition is None else [condition[shown]]
    reconstructions = np.asarray(model.reconstruct(x[shown], *labels))
    rows = explained_images(x[shown], reconstructions, per_feature[shown])
    save_grid(path, rows.reshape(-1, *rows.shape[2:]), columns=len(shown))
    return True


def scores(
    model: Any, x: np.ndarray, condition: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Compute the anomaly score of each example, and how much each element adds to the score.

    Args:
        model: A model with the method `score_and_features`.
        x: Examples `[n, *data_shape]`, n ≥ 1.
        condition: Labels `[n]` if the model is conditional. Default: None.

    Returns:
        `(score, per_feature)` of shapes `[n]` and `[n, *data_shape]`. `per_feature` is None if the
        score is not a sum over the elements.
    """
    compute = compiled_scores(model)
    parts = []
    for start in range(0, len(x), _BATCH):
        rows = slice(start, start + _BATCH)
        labels = [] if condition is None else [np.asarray(condition[rows], np.int32)]
        parts.append(compute(x[rows], *labels))
    score = np.concatenate([of_batch for of_batch, _ in parts])
    if parts[0][1] is None:
        return score, None
    return score, np.concatenate([per_feature for _, per_feature in parts])


def compiled_scores(model: Any) -> Any:
    """Return the method `model.score_and_features`, compiled by `tf.function`.

    The method computes the anomaly score of each example, and how much each element of the example
    adds to this score. If the model is conditional, the compiled function has a second argument:
    int32 labels.
    """
    specs = [tf.TensorSpec((None, *model.data_shape), tf.float32)]
    if model.num_classes:
        specs.append(tf.TensorSpec((None,), tf.int32))
    return tf.function(model.score_and_features, specs)


def _save_bars(
    path: PathLike,
    columns: Any,
    x: np.ndarray,
    score: np.ndarray,
    per_feature: np.ndarray,
    shown: np.ndarray,
) -> None:
    """Write a figure that explains the anomaly scores of up to four rows of a table.

    There is one panel per row. A bar is the score of one entry of the row, minus the median score
    of the observed entries of the column. For a missing entry, the bar has the length 0. Each panel
    shows only the six largest bars.

    Args:
        path: Path of the PNG file.
        columns: The columns of the table.
        x: Rows `[n, d]`.
        score: Anomaly score of each row, `[n]`.
        per_feature: Anomaly score of each entry, `[n, d]`.
        shown: Indices of the rows in the figure.
    """
    import matplotlib.figure  # imported here, because the import takes half a second

    observed = ~np.isnan(x)
    medians = [
        np.median(per_feature[observed[:, index], index]) if observed[:, index].any() else 0.0
        for index in range(x.shape[1])
    ]
    differences = np.where(observed, per_feature - np.asarray(medians), 0.0)
    frame = decode_array(columns, x[shown])
    names = [column.name for column in modeled_columns(columns)]
    number = min(_SHOWN_COLUMNS, len(names))
    figure = matplotlib.figure.Figure((10, 1.6 + 0.56 * number), layout="constrained")
    grid: Any = figure.subplots(2, 2, squeeze=False)
    for axes in grid.flat[len(shown) :]:
        axes.axis("off")
    for place, (axes, row) in enumerate(zip(grid.flat, shown, strict=False)):
        largest = np.argsort(-differences[row], kind="stable")[:number]
        texts = [_entry(names[index], frame[names[index]].iloc[place]) for index in largest]
        axes.barh(np.arange(number), differences[row, largest], color=_COLOR)
        axes.set_yticks(np.arange(number), texts, fontsize=8)
        axes.invert_yaxis()
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(f"score {format_number(float(score[row]))}", fontsize=10)
    figure.supxlabel("score of the entry minus the median score of the column", fontsize=9)
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=120)


def _entry(name: str, value: Any) -> str:
    """Return the text of an entry, such as "age = 39".

    A text of more than 32 characters is cut off. A dollar sign is escaped, because matplotlib would
    take text between two dollar signs for a formula.
    """
    is_number = isinstance(value, (float, np.floating))
    text = f"{name} = {value:g}" if is_number else f"{name} = {value}"
    # matplotlib would take text between two dollar signs for a formula
    text = text.replace("$", r"\$")
    return text if len(text) <= _TEXT_LENGTH else f"{text[: _TEXT_LENGTH - 1]}…"
