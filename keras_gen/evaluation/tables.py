"""Compare generated rows of a table with real rows, and measure imputation errors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_gen._columns import CODED, NUMBERS, Column, modeled_columns
from keras_gen._files import PathLike, atomic_write
from keras_gen.evaluation.summary import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from keras_gen.models import VAE

_MOST_ROWS = 20_000  # largest number of rows that nearest neighbors and classifiers use
_SHOWN_CATEGORIES = 12
_NAME_LENGTH = 24
_REAL = "#4c72b0"
_GENERATED = "#dd8452"


def associations(columns: Iterable[Column], rows: np.ndarray) -> np.ndarray:
    """Compute how strongly the columns of a table depend on each other.

    - For two columns of numbers, the association is the Pearson correlation, in [-1, 1].
    - For two columns of categories, the association is Cramér's V, in [0, 1], without bias
      correction.
    - For a column of numbers and a column of categories, the association is the correlation ratio
      η, in [0, 1]. If each number is predicted by the mean number of its category, the predictions
      explain the share η² of the variance of the numbers.

    For each pair of columns, the function uses only the rows in which both entries are observed.

    Args:
        columns: All columns of the table, such as `table.columns`. The modeled columns are all
            columns except constants and identifiers.
        rows: Rows of the table, `[n, modeled columns]`, NaN where an entry is missing.

    Returns:
        Symmetric matrix `[modeled columns, modeled columns]`. If no row is used for a pair of
        columns, the association is NaN. It is also NaN if all entries of one of the two columns are
        equal in the used rows.

    Example:

    >>> columns = [Column("x", "real"), Column("y", "real"), Column("c", "binary", ("a", "b"))]
    >>> rows = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 0.0], [4.0, 8.0, 1.0], [5.0, 10.0, 1.0]])
    >>> associations(columns, rows).round(3)
    array([[1.  , 1.  , 0.97],
           [1.  , 1.  , 0.97],
           [0.97, 0.97, 1.  ]])
    """
    modeled = modeled_columns(columns)
    rows = np.asarray(rows, np.float64)
    matrix = np.full((len(modeled), len(modeled)), np.nan)
    for i, first in enumerate(modeled):
        for j, second in enumerate(modeled[: i + 1]):
            pair = rows[:, [i, j]]
            pair = pair[~np.isnan(pair).any(axis=1)]
            matrix[i, j] = matrix[j, i] = _association(first, second, *pair.T)
    return matrix


def _association(first: Column, second: Column, x: np.ndarray, y: np.ndarray) -> float:
    if not len(x) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    if first.kind in NUMBERS and second.kind in NUMBERS:
        return float(np.corrcoef(x, y)[0, 1])
    if first.kind in NUMBERS:
        return _correlation_ratio(x, y)
    if second.kind in NUMBERS:
        return _correlation_ratio(y, x)
    from scipy.stats.contingency import association, crosstab

    return float(association(crosstab(x, y).count, method="cramer"))


def _correlation_ratio(numbers: np.ndarray, codes: np.ndarray) -> float:
    """Return the correlation ratio η, which measures how strongly numbers depend on categories.

    Replace each number by the mean of its category. η² is the variance of these means, divided by
    the variance of the original numbers. Therefore η is 0 if all categories have the same mean.

    Args:
        numbers: Numbers `[n]`.
        codes: For each number, the index of its category, `[n]`.
    """
    _, index, counts = np.unique(codes, return_inverse=True, return_counts=True)
    means = np.bincount(index, numbers) / counts
    between = np.sum(counts * (means - numbers.mean()) ** 2)
    return float(np.sqrt(between / np.sum((numbers - numbers.mean()) ** 2)))


@dataclasses.dataclass(frozen=True)
class NearCopies:
    """Numbers that show whether generated rows are copies of training rows.

    Held-out rows are real rows on which the model was not trained. If a model memorizes training
    rows, its generated rows are closer to the training rows than the held-out rows are.

    The distance between two rows is Euclidean. It is computed from standardized numbers, and for
    positive columns from standardized logarithms. Two different categories of a column have the
    distance 1.
    """

    equal: float
    """Share of the generated rows that equal a training row."""
    equal_held_out: float
    """Share of the held-out rows that equal a training row."""
    distance: float
    """Median distance from a generated row to the closest training row."""
    distance_held_out: float
    """Median distance from a held-out row to the closest training row."""
    near: float
    """Share of the generated rows that are very close to a training row. Such a row is closer to
    its closest training row than 95 % of the held-out rows are to theirs. If the model does not
    memorize training rows, this share is about 0.05."""


def near_copies(
    columns: Iterable[Column], generated: np.ndarray, train: np.ndarray, held_out: np.ndarray
) -> NearCopies:
    """Measure whether generated rows are copies of training rows.

    To save time, distances are computed only from the first 20,000 rows of each argument.

    Args:
        columns: All columns of the table, such as `table.columns`. The modeled columns are all
            columns except constants and identifiers.
        generated: Generated rows, `[n, modeled columns]`.
        train: Training rows, `[m, modeled columns]`, NaN where an entry is missing.
        held_out: Real rows on which the model was not trained, `[k, modeled columns]`.

    Returns:
        A `NearCopies`. It contains shares of rows that equal a training row, and distances to the
        closest training row.

    Example:

    >>> columns = [Column("x", "real", decimals=0)]
    >>> found = near_copies(columns, np.array([[1.0], [5.0]]), np.array([[1.0]]), np.array([[3.0]]))
    >>> found.equal, found.distance_held_out
    (0.5, 2.0)
    """
    from sklearn.neighbors import NearestNeighbors

    modeled = modeled_columns(columns)
    known = {row.tobytes() for row in _rounded(modeled, train)}
    equal = [
        float(np.mean([row.tobytes() in known for row in _rounded(modeled, rows)]))
        for rows in (generated, held_out)
    ]
    neighbors = NearestNeighbors(n_neighbors=1).fit(_features(modeled, train[:_MOST_ROWS]))
    distances = [
        neighbors.kneighbors(_features(modeled, rows[:_MOST_ROWS]))[0][:, 0]
        for rows in (generated, held_out)
    ]
    return NearCopies(
        equal=equal[0],
        equal_held_out=equal[1],
        distance=float(np.median(distances[0])),
        distance_held_out=float(np.median(distances[1])),
        near=float(np.mean(distances[0] < np.quantile(distances[1], 0.05))),
    )


def _rounded(columns: Sequence[Column], rows: np.ndarray) -> np.ndarray:
    """Round the numbers in `rows` to the decimal places of their columns."""
    rounded = np.array(rows, np.float64)
    for index, column in enumerate(columns):
        if column.decimals is not None and column.kind in NUMBERS:
            rounded[:, index] = np.round(rounded[:, index], column.decimals)
    return rounded + 0.0  # no negative zero


def _features(columns: Sequence[Column], rows: np.ndarray) -> np.ndarray:
    """Convert rows of a table to vectors for nearest neighbors and classifiers.

    Numbers are standardized. In a positive column, the logarithms of the numbers are standardized.
    A missing number becomes 0, which is the standardized mean. A category becomes a one-hot vector,
    divided by √2, so that two different categories have the distance 1. A missing category becomes
    a vector of zeros.
    """
    parts = []
    for index, column in enumerate(columns):
        entries = np.asarray(rows[:, index], np.float64)
        if column.kind in CODED:
            one_hot = entries[:, None] == np.arange(len(column.categories))
            parts.append(one_hot / math.sqrt(2))
            continue
        scaled = np.log(entries) if column.kind == "positive" else entries
        parts.append(np.nan_to_num((scaled - column.mean) / column.scale)[:, None])
    return np.concatenate(parts, axis=1)


def classifier_accuracy(
    columns: Iterable[Column], label: int, train: np.ndarray, test: np.ndarray, seed: int = 0
) -> float:
    """Train a random forest that predicts one column, and return its accuracy on other rows.

    Let `train` contain generated rows, and let `test` contain real rows. The result is then the
    score "train on synthetic, test on real" (TSTR; Esteban et al. 2017, arXiv:1706.02633).

    Args:
        columns: All columns of the table, such as `table.columns`. The modeled columns are all
            columns except constants and identifiers.
        label: Index, among the modeled columns, of the column that the forest predicts. The column
            must contain categories, which are the classes.
        train: Rows on which the forest is trained, `[n, modeled columns]`. Of `train` and of
            `test`, only the first 20,000 rows are used. Rows in which the predicted column has no
            entry are ignored.
        test: Rows on which the accuracy is measured, `[m, modeled columns]`.
        seed: Seed of the forest. Default: 0.

    Returns:
        Balanced accuracy in [0, 1]: the share of correct predictions in each class, averaged over
        the classes. With random predictions, it is 1 / (number of classes).

    Example:

    >>> columns = [Column("x", "real"), Column("c", "binary", ("a", "b"))]
    >>> rows = np.array([[-1.0, 0.0], [-2.0, 0.0], [1.0, 1.0], [2.0, 1.0]] * 5)
    >>> classifier_accuracy(columns, 1, rows, rows)
    1.0
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import balanced_accuracy_score

    modeled = modeled_columns(columns)
    others = [column for index, column in enumerate(modeled) if index != label]
    parts = []
    for rows in (train[:_MOST_ROWS], test[:_MOST_ROWS]):
        rows = rows[~np.isnan(rows[:, label])]
        parts.append((_features(others, np.delete(rows, label, axis=1)), rows[:, label]))
    forest = RandomForestClassifier(200, min_samples_leaf=2, random_state=seed, n_jobs=-1)
    forest.fit(*parts[0])
    x, y = parts[1]
    return float(balanced_accuracy_score(y, forest.predict(x)))


def hide_entries(rows: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Choose random entries of a table to hide from a model, as a test of its imputation.

    The test later compares the hidden entries with the entries that the model imputes. Only
    observed entries are chosen. In each row, at least one observed entry is not chosen.

    Args:
        rows: Rows of a table, NaN where an entry is missing.
        share: Probability with which an observed entry is hidden.
        seed: Seed of the random choice.

    Returns:
        Bool array of the shape of `rows`, in which True marks an entry to hide.
    """
    random = np.random.default_rng(seed).random(rows.shape)
    observed = ~np.isnan(rows)
    hidden = observed & (random < share)
    kept = np.where(observed, random, -1.0).argmax(axis=1)
    hidden[np.arange(len(rows)), kept] = False
    return hidden


def imputation_errors(
    columns: Iterable[Column], rows: np.ndarray, imputed: np.ndarray, hidden: np.ndarray
) -> np.ndarray:
    """Compute the error of imputed entries for each column.

    Args:
        columns: All columns of the table, such as `table.columns`. The modeled columns are all
            columns except constants and identifiers.
        rows: Real rows, `[n, modeled columns]`.
        imputed: A copy of `rows` with imputed values in place of the hidden entries.
        hidden: Bool array `[n, modeled columns]`, in which True marks a hidden entry.

    Returns:
        One error per modeled column. The error of a column of numbers is the root mean squared
        error, divided by the standard deviation of all entries of the column in `rows` that are not
        NaN. The error of any other column is the share of wrong categories. If no entry of a column
        was hidden, or if the standard deviation of a column of numbers is 0, the error is NaN.

    Example:

    >>> columns = [Column("x", "real"), Column("c", "binary", ("a", "b"))]
    >>> rows = np.array([[0.0, 0.0], [2.0, 1.0]])
    >>> imputed = np.array([[1.0, 1.0], [2.0, 1.0]])
    >>> imputation_errors(columns, rows, imputed, np.array([[True, True], [False, False]]))
    array([1., 1.])
    """
    errors = []
    for index, column in enumerate(modeled_columns(columns)):
        of_column = hidden[:, index]
        true, guess = rows[of_column, index], imputed[of_column, index]
        if not of_column.any():
            errors.append(math.nan)
        elif column.kind in CODED:
            errors.append(float(np.mean(true != guess)))
        else:
            scale = np.nanstd(rows[:, index])
            rmse = np.sqrt(np.mean((true.astype(np.float64) - guess) ** 2))
            errors.append(float(rmse / scale) if scale > 0 else math.nan)
    return np.array(errors)


def simple_imputation(columns: Iterable[Column], train: np.ndarray) -> np.ndarray:
    """Return the mean of each column of numbers, and the most frequent category of other columns.

    These values are a simple replacement of missing entries, as a baseline for a model.

    Args:
        columns: All columns of the table, such as `table.columns`. The modeled columns are all
            columns except constants and identifiers.
        train: Training rows, `[n, modeled columns]`, NaN where an entry is missing.

    Returns:
        One value per modeled column. A category is returned as its index.
    """
    values = []
    for index, column in enumerate(modeled_columns(columns)):
        observed = train[~np.isnan(train[:, index]), index]
        if column.kind in CODED:
            values.append(float(np.bincount(observed.astype(int)).argmax()))
        else:
            values.append(float(observed.mean(dtype=np.float64)))
    return np.array(values)


# === Scores ===


def table_scores(
    columns: Iterable[Column],
    generated: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    label: int | None = None,
    seed: int = 0,
) -> tuple[list[Score], list[str]]:
    """Compute scores that compare generated rows of a table with real rows.

    Args:
        columns: All columns of the table, such as `table.columns`. The modeled columns are all
            columns except constants and identifiers.
        generated: Generated rows, `[n, modeled columns]`.
        train: Training rows, `[l, modeled columns]`.
        test: Real rows on which the model was not trained, `[k, modeled columns]`.
        label: Index, among the modeled columns, of a column that a classifier predicts from the
            other columns. Default: no classifier is trained.
        seed: Seed of the classifier. Default: 0.

    Returns:
        `(scores, comments)`: a list of `Score`, and a list of sentences about the scores.
    """
    columns = tuple(columns)
    modeled = modeled_columns(columns)
    number = f"{len(generated):,} generated rows, {len(train):,} training rows"
    held_out = f"{len(test):,} held-out rows"
    difference = np.abs(associations(columns, generated) - associations(columns, train))
    pairs = difference[np.triu_indices(len(modeled), 1)]
    scores = []
    if np.isfinite(pairs).any():
        protocol = f"{number}; 0 if each pair of columns has the same association"
        mean = float(np.nanmean(pairs))
        scores.append(Score("difference of associations", mean, protocol=protocol))
    copies = near_copies(columns, generated, train, test)
    near = f"{number}; about 5 % if the model does not memorize rows"
    scores += [
        Score("rows equal to a training row", 100 * copies.equal, "%", protocol=number),
        Score("the same for held-out rows", 100 * copies.equal_held_out, "%", protocol=held_out),
        Score("distance to the closest training row", copies.distance, protocol=number),
        Score("the same distance for held-out rows", copies.distance_held_out, protocol=held_out),
        Score("near copies of training rows", 100 * copies.near, "%", protocol=near),
    ]
    comments = []
    if copies.near > 0.15 and len(test) >= 20:
        comments.append(
            "Generated rows are closer to training rows than held-out rows are: the model "
            "memorizes rows. Train for fewer epochs, or with smaller `hidden`."
        )
    if label is not None:
        classes = f"balanced accuracy of {modeled[label].name}, {held_out}"
        for name, rows in (("generated", generated), ("real", train)):
            accuracy = _accuracy_or_nan(columns, label, rows, test, seed)
            scores.append(Score(f"classifier trained on {name} rows", accuracy, protocol=classes))
    return scores, comments


def _accuracy_or_nan(
    columns: Sequence[Column], label: int, rows: np.ndarray, test: np.ndarray, seed: int
) -> float:
    """Train a classifier on `rows`, and return its accuracy on the rows `test`.

    The function `classifier_accuracy` computes this accuracy. The classifier predicts the column
    with the index `label`. If all entries of this column are missing in `rows` or in `test`, the
    result is NaN.
    """
    if any(np.isnan(part[:, label]).all() for part in (rows, test)):
        return math.nan
    return classifier_accuracy(columns, label, rows, test, seed)


def imputation_scores(
    vae: VAE, columns: Iterable[Column], train: np.ndarray, test: np.ndarray, seed: int = 0
) -> tuple[list[Score], list[str]]:
    """Hide 20 % of the entries of held-out rows, impute them, and compute the errors.

    Args:
        vae: A trained model of the table.
        columns: All columns of the table, such as `table.columns`. The modeled columns are all
            columns except constants and identifiers.
        train: Training rows, `[m, modeled columns]`. The baseline replaces a hidden number by the
            mean of its column in these rows. It replaces a hidden category by the most frequent
            category.
        test: Real rows on which the model was not trained, `[k, modeled columns]`.
        seed: Seed of the choice of hidden entries, and of the imputation. Default: 0.

    Returns:
        `(scores, comments)`. `scores` is a list of `Score`: the errors of the VAE and of the
        baseline, averaged over columns. `comments` is a list with one text, a table with the errors
        of each column.
    """
    columns = tuple(columns)
    modeled = modeled_columns(columns)
    hidden = hide_entries(test, 0.2, seed)
    imputed = vae.impute(np.where(hidden, np.nan, test), num_samples=200, seed=seed)
    simple = np.where(hidden, simple_imputation(columns, train), test)
    errors = [imputation_errors(columns, test, rows, hidden) for rows in (imputed, simple)]
    coded = np.array([column.kind in CODED for column in modeled])
    scores = []
    for kinds, name, unit in (
        (~coded, "imputed numbers, error", "standard deviations"),
        (coded, "imputed categories, wrong", "%"),
    ):
        factor = 100 if unit == "%" else 1
        for of_method, method in zip(errors, ("", " (mean or mode)"), strict=True):
            if np.isfinite(of_method[kinds]).any():
                value = factor * float(np.nanmean(of_method[kinds]))
                protocol = f"20 % of the entries of {len(test):,} held-out rows, mean over columns"
                scores.append(Score(f"{name}{method}", value, unit, protocol=protocol))
    return scores, [_error_table(modeled, *errors)]


def _error_table(modeled: Sequence[Column], errors: np.ndarray, simple: np.ndarray) -> str:
    """Return a text with the errors of imputed entries, one line per column.

    A line contains the error of the VAE, and in parentheses the error of the baseline. The baseline
    replaces a missing entry by the mean or the most frequent category of its column.

    Args:
        modeled: The columns that the VAE models.
        errors: Error of the VAE in each column. If the error is NaN, the column is omitted.
        simple: Error of the baseline in each column.
    """
    width = max(len(column.name) for column in modeled)
    lines = ["Errors of imputed entries, and in parentheses of the mean or the mode:"]
    for column, error, other in zip(modeled, errors, simple, strict=True):
        if np.isnan(error):
            continue
        if column.kind in CODED:
            text = f"{100 * error:.0f} % wrong ({100 * other:.0f} %)"
        else:
            text = f"{error:.2f} standard deviations ({other:.2f})"
        lines.append(f"  {column.name:<{width}}  {text}")
    return "\n".join(lines)


# === Figures ===


def save_columns(
    path: PathLike, columns: Iterable[Column], real: np.ndarray, generated: np.ndarray
) -> None:
    """Plot histograms of each column for real and for generated rows, and write a PNG file.

    Args:
        path: Path of the file. If writing fails, an existing file stays unchanged.
        columns: All columns of the table, such as `table.columns`. The modeled columns are all
            columns except constants and identifiers.
        real: Real rows, `[n, modeled columns]`.
        generated: Generated rows, `[m, modeled columns]`.
    """
    import matplotlib.figure  # imported here, because the import takes half a second

    modeled = modeled_columns(columns)
    width = min(3, len(modeled))
    height = math.ceil(len(modeled) / width)
    figure = matplotlib.figure.Figure((3.3 * width, 2.4 * height + 0.4), layout="constrained")
    grid: Any = figure.subplots(height, width, squeeze=False)
    for axes in grid.flat[len(modeled) :]:
        axes.axis("off")
    for index, (axes, column) in enumerate(zip(grid.flat, modeled, strict=False)):
        samples = [rows[~np.isnan(rows[:, index]), index] for rows in (real, generated)]
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(_short(column.name), fontsize=10)
        axes.tick_params(labelsize=8)
        draw = _draw_categories if column.kind in CODED else _draw_numbers
        draw(axes, column, *samples)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    figure.supylabel("share of rows (%)", fontsize=9)
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=120)


def _draw_categories(axes: Axes, column: Column, real: np.ndarray, generated: np.ndarray) -> None:
    """Draw two bars per category: its frequency in real rows and in generated rows, in percent.

    If there are more than 12 categories, only the 11 most frequent categories of the real rows are
    drawn separately. One more pair of bars shows the sum of all other categories.
    """
    number = len(column.categories)
    counts = [np.bincount(codes.astype(int), minlength=number) for codes in (real, generated)]
    order = np.arange(number)
    names = [_short(str(category)) for category in column.categories]
    if number > _SHOWN_CATEGORIES:
        by_count = np.argsort(-counts[0], kind="stable")
        order = by_count[: _SHOWN_CATEGORIES - 1]
    shares = []
    for of_category in counts:
        share = 100 * of_category / max(of_category.sum(), 1)
        rest = [] if len(order) == number else [100 - share[order].sum()]
        shares.append(np.array([*share[order], *rest]))
    shown = [names[index] for index in order]
    if len(order) < number:
        shown.append(f"{number - len(order)} others")
    places = np.arange(len(shown))
    axes.bar(places - 0.2, shares[0], 0.4, color=_REAL, label="real rows")
    axes.bar(places + 0.2, shares[1], 0.4, color=_GENERATED, label="generated rows")
    is_long = sum(map(len, shown)) > 30 or len(order) < number
    rotation: Any = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if is_long else {}
    axes.set_xticks(places, shown, **rotation)


def _draw_numbers(axes: Axes, column: Column, real: np.ndarray, generated: np.ndarray) -> None:
    """Draw a histogram of the real rows and one of the generated rows, with the same bins.

    The bins cover the range of the numbers in the real rows. If a few of these numbers are far from
    all others, the bins cover only the central 98 % of the numbers. The first bin also counts all
    smaller numbers, and the last bin also counts all larger numbers.
    """
    if not len(real):
        return
    low, high = np.quantile(real, [0.0, 1.0])
    inner = np.quantile(real, [0.01, 0.99])
    if high - low > 5 * max(inner[1] - inner[0], 1e-30):  # a few numbers are far outside
        low, high = inner
    count = int(np.clip(np.sqrt(len(real)) * 1.2, 8, 40))
    bins = np.linspace(low, high if high > low else low + 1, count + 1)
    if column.decimals is not None:
        step = 10.0**-column.decimals
        width = max(step, round((bins[1] - bins[0]) / step) * step)  # each bin has as many values
        count = max(1, round((bins[-1] - bins[0]) / width))
        bins = low - step / 2 + width * np.arange(count + 2)
    # The outer bins contain all numbers outside of the range.
    shares = [
        np.histogram(np.clip(numbers, bins[0], bins[-1]), bins)[0] / max(len(numbers), 1)
        for numbers in (real, generated)
    ]
    axes.stairs(100 * shares[0], bins, fill=True, color=_REAL, alpha=0.75, label="real rows")
    axes.stairs(100 * shares[1], bins, color=_GENERATED, linewidth=1.8, label="generated rows")


def save_associations(
    path: PathLike, columns: Iterable[Column], real: np.ndarray, generated: np.ndarray
) -> None:
    """Plot how strongly the columns of a table depend on each other, and write a PNG file.

    The function `associations` measures this dependence. The figure has three panels: the
    associations in the real rows, the associations in the generated rows, and the difference,
    generated minus real.

    Args:
        path: Path of the file. If writing fails, an existing file stays unchanged.
        columns: All columns of the table, such as `table.columns`. The modeled columns are all
            columns except constants and identifiers.
        real: Real rows, `[n, modeled columns]`.
        generated: Generated rows, `[m, modeled columns]`.
    """
    import matplotlib.figure

    columns = tuple(columns)
    names = [_short(column.name) for column in modeled_columns(columns)]
    matrices = [associations(columns, rows) for rows in (real, generated)]
    matrices.append(matrices[1] - matrices[0])
    side = 1.4 + 0.28 * max(len(names), 6)
    longest = max(map(len, names))
    height = 0.88 * side + 0.5 + 0.08 * longest
    figure = matplotlib.figure.Figure((3 * side + 1.6, height), layout="constrained")
    grid: Any = figure.subplots(1, 3)
    titles = ("real rows", "generated rows", "generated − real")
    for axes, matrix, title in zip(grid, matrices, titles, strict=True):
        axes.set_facecolor("#dddddd")  # associations that are not defined
        image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_title(title, fontsize=10)
        axes.set_xticks(range(len(names)), names, fontsize=8, rotation=90)
        axes.set_yticks(range(len(names)), names if axes is grid[0] else [], fontsize=8)
        if len(names) <= 12:
            for row, column in np.ndindex(matrix.shape):
                value = matrix[row, column]
                if np.isfinite(value):
                    color = "white" if abs(value) > 0.6 else "black"
                    text = f"{value:.1f}".replace("-0.0", "0.0")
                    axes.text(column, row, text, ha="center", va="center", fontsize=6, color=color)
    figure.colorbar(image, ax=grid, shrink=0.6)
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=120)


def _short(name: str) -> str:
    return name if len(name) <= _NAME_LENGTH else f"{name[: _NAME_LENGTH - 1]}…"
