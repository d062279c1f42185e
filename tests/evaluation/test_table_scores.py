"""Scores of generated rows against pandas, scipy and scikit-learn, and the figures."""

import itertools
import types

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.spatial.distance import cdist
from scipy.stats import contingency

from keras_gen.data import Column
from keras_gen.evaluation import tables

COLUMNS = (
    Column("mass", "real", mean=2.0, scale=3.0, decimals=1),
    Column("length", "positive", mean=1.0, scale=0.5, decimals=2),
    Column("id", "identifier"),
    Column("visits", "count", mean=4.0, scale=2.0, decimals=0),
    Column("sex", "binary", ("f", "m")),
    Column("kind", "category", ("a", "b", "c")),
)


def rows(count, seed, missing=0.1):
    random = np.random.default_rng(seed)
    kind = random.integers(0, 3, count)
    sex = (random.random(count) < 0.3 + 0.2 * kind).astype(float)
    mass = np.round(2 + kind + 3 * random.normal(size=count), 1)
    length = np.round(np.exp(1 + 0.1 * mass + 0.3 * random.normal(size=count)), 2)
    visits = random.poisson(4 - kind, count)
    array = np.stack([mass, length, visits, sex, kind], axis=1)
    array[random.random(array.shape) < missing] = np.nan
    return array


def test_associations_are_those_of_pandas_and_scipy():
    array = rows(200, 0)
    names = ["mass", "length", "visits", "sex", "kind"]
    frame = pd.DataFrame(array, columns=names)
    found = pd.DataFrame(tables.associations(COLUMNS, array), names, names)
    numbers = names[:3]
    np.testing.assert_allclose(found.loc[numbers, numbers], frame[numbers].corr(), atol=1e-12)
    counts = pd.crosstab(frame["sex"], frame["kind"])
    assert found.loc["sex", "kind"] == pytest.approx(contingency.association(counts))
    for number, category in itertools.product(numbers, ("sex", "kind")):
        pair = frame[[number, category]].dropna()
        between = pair.groupby(category)[number].transform("mean").var(ddof=0)
        expected = np.sqrt(between / pair[number].var(ddof=0))
        assert found.loc[number, category] == pytest.approx(expected)
        assert found.loc[category, number] == pytest.approx(expected)


def test_an_association_with_a_constant_is_not_defined():
    array = rows(20, 0)
    array[:, 0] = 5.0
    found = tables.associations(COLUMNS, array)
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1:, 1:]).all()


def test_near_copies_are_those_of_a_brute_force_search():
    train, held_out = rows(60, 1, missing=0), rows(30, 2, missing=0)
    generated = rows(50, 3, missing=0)
    generated[:10] = train[5:15] + np.array([0.04, 0.004, 0, 0, 0])  # the same after rounding

    def features(array):
        numbers = (array[:, :3] - [2, 0, 4]) / [3, 1, 2]
        numbers[:, 1] = (np.log(array[:, 1]) - 1) / 0.5
        codes = array[:, 3:]
        return numbers, codes

    def closest(array):
        (x, c), (y, d) = features(array), features(train)
        different = (c[:, None] != d[None]).sum(axis=-1)
        return np.sqrt(cdist(x, y) ** 2 + different).min(axis=1)

    found = tables.near_copies(COLUMNS, generated, train, held_out)
    assert found.equal == 0.2
    assert found.equal_held_out == 0
    assert found.distance == pytest.approx(np.median(closest(generated)))
    assert found.distance_held_out == pytest.approx(np.median(closest(held_out)))
    limit = np.quantile(closest(held_out), 0.05)
    assert found.near == pytest.approx(np.mean(closest(generated) < limit))


def test_training_rows_themselves_are_copies_and_are_reported():
    train, held_out = rows(200, 1, missing=0), rows(40, 2, missing=0)
    held_out[7] = train[0]
    scores, comments = tables.table_scores(COLUMNS, train, train, held_out, label=4)
    by_name = {score.name: score.value for score in scores}
    assert by_name["rows equal to a training row"] == 100
    assert by_name["the same for held-out rows"] == 2.5
    assert by_name["difference of associations"] == 0
    real, generated = (
        by_name[f"classifier trained on {which} rows"] for which in ("real", "generated")
    )
    assert real == generated
    assert "the model memorizes rows" in " ".join(comments)


def test_the_difference_of_associations_is_the_mean_over_all_pairs_of_columns():
    generated, train = rows(100, 1), rows(100, 2)
    scores, _ = tables.table_scores(COLUMNS, generated, train, rows(40, 3))
    found, expected = (tables.associations(COLUMNS, array) for array in (generated, train))
    pairs = itertools.combinations(range(5), 2)
    mean = np.mean([abs(found[pair] - expected[pair]) for pair in pairs])
    assert scores[0].name == "difference of associations"
    assert scores[0].value == pytest.approx(mean)


def test_a_classifier_learns_only_from_informative_rows():
    """Its balanced accuracy is near that of guessing if the labels of its rows are shuffled."""
    train, test = rows(600, 1), rows(300, 2)
    train[:, 0], test[:, 0] = 10 * train[:, 4], 10 * test[:, 4]
    observed = ~np.isnan(test).any(axis=1)
    assert tables.classifier_accuracy(COLUMNS, 4, train, test[observed]) > 0.95
    train[:, 4] = np.random.default_rng(0).permutation(train[:, 4])
    assert tables.classifier_accuracy(COLUMNS, 4, train, test) == pytest.approx(1 / 3, abs=0.12)


def test_errors_of_imputed_entries():
    array = rows(100, 4)
    hidden = tables.hide_entries(array, 0.2, seed=0)
    observed = ~np.isnan(array)
    assert not (hidden & ~observed).any()
    assert (observed & ~hidden).any(axis=1).all()
    assert hidden.sum() == pytest.approx(0.2 * observed.sum(), rel=0.3)
    simple = tables.simple_imputation(COLUMNS, array)
    frame = pd.DataFrame(array)
    np.testing.assert_allclose(simple[:3], frame.mean()[:3])
    np.testing.assert_allclose(simple[3:], frame.mode().loc[0, 3:])
    imputed = np.where(hidden, simple, array)
    errors = tables.imputation_errors(COLUMNS, array, imputed, hidden)
    for index in range(5):
        of_column = hidden[:, index]
        true, guess = array[of_column, index], imputed[of_column, index]
        if index < 3:
            expected = np.sqrt(np.mean((true - guess) ** 2)) / frame[index].std(ddof=0)
        else:
            expected = np.mean(true != guess)
        assert errors[index] == pytest.approx(expected)


def test_a_row_with_one_entry_keeps_it():
    array = np.full((50, 5), np.nan)
    array[np.arange(50), np.arange(50) % 5] = 1.0
    assert not tables.hide_entries(array, 0.9, seed=0).any()


@pytest.mark.parametrize("save", [tables.save_columns, tables.save_associations])
def test_figures_show_both_kinds_of_rows(save, tmp_path):
    """The figure of other generated rows differs, and every column has a part of the figure."""
    many = Column("place", "category", tuple(f"a long name of a place {n}" for n in range(30)))
    array = np.concatenate([rows(80, 0), np.arange(80)[:, None] % 30], axis=1)
    other = np.concatenate([rows(80, 5), np.full((80, 1), 3)], axis=1)
    images = []
    for generated in (array, other):
        save(tmp_path / "x.png", (*COLUMNS, many), array, generated)
        images.append(np.asarray(Image.open(tmp_path / "x.png").convert("L"), float))
    assert images[0].shape == images[1].shape
    assert (images[0] != images[1]).any()
    assert (images[0] < 128).any(axis=1).mean() > 0.5


@pytest.fixture
def figures(monkeypatch):
    """Return a list that gets each figure. The files are empty, which saves time."""
    made = []
    figure = matplotlib.figure.Figure

    def remember(*arguments, **options):
        made.append(figure(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(figure, "savefig", lambda _, path, **options: path.touch())
    monkeypatch.setattr(matplotlib.figure, "Figure", remember)
    return made


@pytest.mark.parametrize("number", [1, 3, 5])
def test_the_columns_of_a_table_are_in_rows_of_three(number, figures, tmp_path):
    columns = [column for column in COLUMNS if column.modeled][:number]
    array = rows(80, 0)[:, :number]
    tables.save_columns(tmp_path / "x.png", columns, array, array)
    [figure] = figures
    grid = figure.axes[0].get_subplotspec().get_gridspec()
    height, width = {1: (1, 1), 3: (1, 3), 5: (2, 3)}[number]
    assert (grid.nrows, grid.ncols) == (height, width)
    assert [axes.axison for axes in figure.axes] == [True] * number + [False] * (number == 5)
    inches = figure.get_size_inches() / (width, height)  # per column
    assert 3 < inches[0] < 4
    assert 2 < inches[1] < 3
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["real rows", "generated rows"]
    assert "%" in figure.get_supylabel()


def numbers(count, length=4):
    """Return columns of numbers whose names have the given length."""
    return [Column(f"{index:0{length}}", "real") for index in range(count)]


@pytest.mark.parametrize("number", [12, 13])
def test_the_figure_of_associations_has_three_panels(number, figures, tmp_path):
    columns = numbers(number)
    random = np.random.default_rng(0)
    real, generated = random.normal(size=(2, 6, number))
    generated[:, 1] = 1.0
    generated[:, 3] = 2 * generated[:, 2]
    tables.save_associations(tmp_path / "x.png", columns, real, generated)
    [figure] = figures
    *panels, _ = figure.axes  # the last one is the bar of colors
    matrices = [tables.associations(columns, array) for array in (real, generated)]
    matrices.append(matrices[1] - matrices[0])
    titles = ["real rows", "generated rows", "generated − real"]
    assert [axes.get_title() for axes in panels] == titles
    names = [column.name for column in columns]
    for axes, matrix in zip(panels, matrices, strict=True):
        [image] = axes.images
        np.testing.assert_allclose(image.get_array().filled(np.nan), matrix)
        assert image.get_clim() == (-1, 1)
        assert axes.get_facecolor()[:3] != (1, 1, 1)  # where an association is not defined
        assert [label.get_text() for label in axes.get_xticklabels()] == names
        beside = [label.get_text() for label in axes.get_yticklabels()]
        assert [text for text in beside if text] == (names if axes is panels[0] else [])
        texts = {text.get_position()[::-1]: text for text in axes.texts}
        shown = np.argwhere(np.isfinite(matrix)) if number <= 12 else []
        assert set(texts) == set(map(tuple, shown))
        for place, text in texts.items():
            assert float(text.get_text()) == pytest.approx(matrix[place], abs=0.0501)
            assert text.get_text() != "-0.0"
            assert text.get_color() == ("white" if abs(matrix[place]) > 0.6 else "black")


def test_the_figure_of_associations_has_space_for_all_names(figures, tmp_path):
    for columns in (numbers(6), numbers(60), numbers(6, length=24)):
        array = np.random.default_rng(0).normal(size=(4, len(columns)))
        tables.save_associations(tmp_path / "x.png", columns, array, array)
    few, many, long = (figure.get_size_inches() for figure in figures)
    assert many[0] > 3 * 60 * 0.2  # inches per name
    assert many[1] > 60 * 0.2
    assert long[1] > few[1] + 1
    assert long[0] == few[0]


def test_the_numbers_of_an_axis_are_smaller_than_its_title(tmp_path, figures):
    """The axes are small, so larger numbers would cover each other."""
    tables.save_columns(tmp_path / "x.png", COLUMNS, rows(80, 0), rows(80, 1))
    shown = [axes for axes in figures[0].axes if axes.get_title()]
    assert len(shown) == 5
    for axes in shown:
        sizes = {label.get_size() for label in (*axes.get_xticklabels(), *axes.get_yticklabels())}
        assert sizes == {8}
        assert axes.title.get_size() == 10


@pytest.mark.parametrize(("decimals", "step"), [(0, 1.0), (1, 0.1), (2, 0.01)])
def test_each_bar_of_a_histogram_has_as_many_rounded_numbers(decimals, step):
    """Otherwise the histogram of rounded numbers is a comb."""
    column = Column("x", "real", mean=0.0, scale=1.0, decimals=decimals)
    for count in (130, 135):
        numbers = (np.arange(count) + 40) * step  # each number once
        axes = matplotlib.figure.Figure().subplots()
        tables._draw_numbers(axes, column, numbers, numbers)
        heights, edges, _ = axes.patches[0].get_data()
        per_bar = np.histogram(numbers, edges)[0]
        assert 8 <= len(per_bar) <= 16
        assert len(set(per_bar[:-2])) == 1  # the last bars contain the rest
        np.testing.assert_allclose(heights, 100 * per_bar / count)
        # Each edge is in the middle between two possible numbers.
        np.testing.assert_allclose((edges / step) % 1, 0.5)
        assert numbers[-1] < edges[-1] < numbers[-1] + 2 * (edges[1] - edges[0])


def test_two_different_categories_have_the_distance_1():
    columns = (Column("x", "real", mean=0.0, scale=2.0), Column("c", "category", ("a", "b", "c")))
    train = np.array([[0.0, 0.0]])
    generated, held_out = np.array([[0.0, 2.0]]), np.array([[2.0, 1.0]])
    found = tables.near_copies(columns, generated, train, held_out)
    assert found.distance == pytest.approx(1)
    assert found.distance_held_out == pytest.approx(np.sqrt(2))


def test_the_associations_do_not_depend_on_the_order_of_the_columns():
    array = rows(100, 0)
    modeled = [column for column in COLUMNS if column.modeled]
    order = [3, 0, 4, 2, 1]
    found = tables.associations([modeled[index] for index in order], array[:, order])
    expected = tables.associations(COLUMNS, array)[np.ix_(order, order)]
    np.testing.assert_allclose(found, expected)


def test_scores_of_imputation_are_those_of_the_hidden_entries():
    train, test = rows(50, 1), rows(40, 2)
    calls = []

    def impute(array, num_samples, seed):
        calls.append((array, num_samples, seed))
        return np.where(np.isnan(array), [2.5, 3.0, 4.0, 1.0, 2.0], array)

    vae = types.SimpleNamespace(impute=impute)
    scores, [text] = tables.imputation_scores(vae, COLUMNS, train, test, seed=3)
    hidden = tables.hide_entries(test, 0.2, seed=3)
    [(array, number, seed)] = calls
    assert (number, seed) == (200, 3)
    np.testing.assert_array_equal(array, np.where(hidden, np.nan, test))
    simple = np.where(hidden, tables.simple_imputation(COLUMNS, train), test)
    errors, others = (
        tables.imputation_errors(COLUMNS, test, imputed, hidden)
        for imputed in (impute(array, 1, 0), simple)
    )
    assert {(score.name, score.unit): score.value for score in scores} == {
        ("imputed numbers, error", "standard deviations"): pytest.approx(errors[:3].mean()),
        ("imputed numbers, error (mean or mode)", "standard deviations"): pytest.approx(
            others[:3].mean()
        ),
        ("imputed categories, wrong", "%"): pytest.approx(100 * errors[3:].mean()),
        ("imputed categories, wrong (mean or mode)", "%"): pytest.approx(100 * others[3:].mean()),
    }
    assert {score.protocol for score in scores} == {
        "20 % of the entries of 40 held-out rows, mean over columns"
    }
    lines = text.splitlines()
    assert lines[1] == f"  mass    {errors[0]:.2f} standard deviations ({others[0]:.2f})"
    assert lines[4] == f"  sex     {100 * errors[3]:.0f} % wrong ({100 * others[3]:.0f} %)"
    assert len(lines) == 6


def test_a_column_without_hidden_entries_has_no_error():
    array = rows(40, 2)
    hidden = np.zeros(array.shape, bool)
    hidden[3, 1] = True
    array[:, 0] = 5.0
    hidden[4, 0] = True
    imputed = array.copy()
    imputed[4, 0] = 6.0
    errors = tables.imputation_errors(COLUMNS, array, imputed, hidden)
    np.testing.assert_array_equal(errors, [np.nan, 0, np.nan, np.nan, np.nan])
    text = tables._error_table([c for c in COLUMNS if c.modeled], errors, errors)
    assert text.splitlines()[1:] == ["  length  0.00 standard deviations (0.00)"]


def test_rows_without_labels_have_no_accuracy():
    train, test = rows(30, 1), rows(20, 2)
    generated = train.copy()
    generated[:, 4] = np.nan
    scores, _ = tables.table_scores(COLUMNS, generated, train, test, label=4)
    values = {score.name: score.value for score in scores}
    assert np.isnan(values["classifier trained on generated rows"])
    assert 0 <= values["classifier trained on real rows"] <= 1
    assert values["difference of associations"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("near", "held_out"), [(0.2, True), (0.2, False), (0.1, True), (0.15, True)]
)
def test_memorized_rows_are_reported_from_15_percent_and_20_held_out_rows(near, held_out):
    train = np.arange(100.0)[:, None] * 10
    test = train[: 20 if held_out else 19] + 3
    copied = round(near * 100)
    generated = np.concatenate([train[:copied], train[: 100 - copied] + 3])  # as far as held-out
    scores, comments = tables.table_scores([Column("x", "real")], generated, train, test)
    values = {score.name: score.value for score in scores}
    assert values["near copies of training rows"] == pytest.approx(100 * near)
    assert bool(comments) == (near > 0.15 and held_out)
    assert values["rows equal to a training row"] == pytest.approx(100 * near)
    assert values["the same for held-out rows"] == 0
    assert values["the same distance for held-out rows"] == pytest.approx(3)


def test_an_error_is_relative_to_a_small_standard_deviation():
    array = np.array([[0.01], [0.03]])
    hidden = np.array([[True], [False]])
    errors = tables.imputation_errors([Column("x", "real")], array, array + 0.02, hidden)
    np.testing.assert_allclose(errors, [2.0])


def bars(column, real, generated):
    """Return the labels and the heights of the bars of a column of categories.

    The two bars of a category meet at its label, and do not touch the bars of the next category.
    """
    axes = matplotlib.figure.Figure().subplots()
    tables._draw_categories(axes, column, np.float64(real), np.float64(generated))
    labels = [label.get_text() for label in axes.get_xticklabels()]
    heights = [bar.get_height() for bar in axes.patches]
    first, second = axes.patches[: len(labels)], axes.patches[len(labels) :]
    for place, left, right in zip(axes.get_xticks(), first, second, strict=True):
        assert left.get_x() + left.get_width() == pytest.approx(place)
        assert right.get_x() == pytest.approx(place)
        assert left.get_width() == pytest.approx(right.get_width())
        assert 0 < left.get_width() < 0.5
    return labels, heights[: len(labels)], heights[len(labels) :]


def test_bars_are_shares_and_only_the_most_frequent_categories_have_their_own():
    column = Column("c", "category", tuple("abcdefghijkl"))
    real = np.arange(12).repeat(np.arange(1, 13))
    labels, first, second = bars(column, real, [0, 0, 0, 11])
    assert labels == list("abcdefghijkl")
    np.testing.assert_allclose(first, 100 * np.arange(1, 13) / 78)
    np.testing.assert_allclose(second, [75, *[0] * 10, 25])
    column = Column("c", "category", tuple("abcdefghijklm"))
    real = np.arange(13).repeat(np.arange(1, 14))
    labels, first, second = bars(column, real, [0, 0, 12])
    assert labels == [*"mlkjihgfedc", "2 others"]
    np.testing.assert_allclose(first, 100 * np.array([*range(13, 2, -1), 3]) / 91)
    np.testing.assert_allclose(second, [100 / 3, *[0] * 10, 200 / 3])
    assert bars(column, real, [])[2] == pytest.approx([0] * 11 + [100])
    assert bars(column, real, [12])[2] == pytest.approx([100] + [0] * 11)


@pytest.mark.parametrize(
    ("categories", "is_turned"),
    [
        (("a" * 15, "b" * 15), False),
        (("a" * 15, "b" * 16), True),
        (tuple("abcdefghijkl"), False),
        (tuple("abcdefghijklm"), True),
    ],
)
def test_long_texts_below_bars_are_turned(categories, is_turned):
    axes = matplotlib.figure.Figure().subplots()
    codes = np.arange(float(len(categories)))
    tables._draw_categories(axes, Column("c", "category", categories), codes, codes)
    assert {label.get_rotation() > 0 for label in axes.get_xticklabels()} == {is_turned}


def test_the_outer_bars_of_a_histogram_count_the_numbers_that_are_far_outside():
    column = Column("x", "real", mean=0.0, scale=1.0)
    real = np.linspace(0, 1, 1000)
    real[[0, 999]] = -1e6, 1e6
    axes = matplotlib.figure.Figure().subplots()
    tables._draw_numbers(axes, column, real, np.array([-50.0, 0.5, 0.5, 50.0]))
    shares, edges, _ = axes.patches[0].get_data()
    np.testing.assert_allclose(edges[[0, -1]], np.quantile(real, [0.01, 0.99]))
    assert len(shares) == 37  # 1.2 √1000
    assert shares.sum() == pytest.approx(100)
    assert axes.patches[1].get_data()[0][[0, -1]].tolist() == [25, 25]
    tables._draw_numbers(axes, column, np.array([]), real)
    assert len(axes.patches) == 2


def histogram(real, generated=(1.0,), decimals=None):
    """Return the shares of both kinds of rows and the edges of the bars of a column of numbers."""
    axes = matplotlib.figure.Figure().subplots()
    column = Column("x", "real", decimals=decimals)
    tables._draw_numbers(axes, column, np.float64(real), np.float64(generated))
    (first, edges, _), (second, *_) = (patch.get_data() for patch in axes.patches)
    assert axes.patches[0].get_fill()
    assert not axes.patches[1].get_fill()  # an outline, so that both are seen
    return first, second, edges


@pytest.mark.parametrize(("largest", "end"), [(13.0, 13.0), (13.5, 11.0)])
def test_numbers_are_far_outside_if_they_make_the_range_five_times_as_large(largest, end):
    """98 % of the numbers are between 10 and 11."""
    *_, edges = histogram([8.0, *[10.0, 11.0] * 500, largest])
    assert edges[-1] == end


@pytest.mark.parametrize(("count", "number_of_bars"), [(4, 8), (100, 12), (2000, 40)])
def test_more_rows_have_a_finer_histogram(count, number_of_bars):
    first, second, _ = histogram(np.linspace(0, 2, count))
    assert len(first) == number_of_bars
    assert second.sum() == pytest.approx(100)  # of one row


def test_equal_numbers_are_one_bar_with_all_rows():
    first, _, edges = histogram([3.0] * 9)
    assert first.tolist() == [100, *[0] * 7]
    assert (edges[0], edges[-1]) == (3, 4)
    first, _, edges = histogram([3.0] * 9, decimals=0)
    assert first.tolist() == [100, 0]
    np.testing.assert_allclose(edges, [2.5, 3.5, 4.5])
    first, *_ = histogram([30.0] * 9, decimals=-1)
    assert first.tolist() == [100, 0]


def test_long_names_are_cut():
    assert tables._short("x" * 24) == "x" * 24
    assert tables._short("x" * 25) == "x" * 23 + "…"


def test_near_copies_are_closer_than_95_percent_of_the_held_out_rows():
    held_out = np.arange(1.0, 101.0)[:, None]  # their quantile of 5 % is 5.95
    generated = np.array([[3.0], [5.9], [6.0], [8.0], [10.5], [20.0]])
    found = tables.near_copies([Column("x", "real")], generated, np.zeros((1, 1)), held_out)
    assert found.near == pytest.approx(2 / 6)


def test_equal_rows_are_equal_after_rounding_only():
    column = Column("x", "real", decimals=0)
    found = tables.near_copies([column], np.array([[-0.2]]), np.array([[0.3]]), np.ones((1, 1)))
    assert found.equal == 1
    assert found.distance == pytest.approx(0.5)
    small = np.array([[1e-20]])
    assert tables.near_copies([Column("x", "real")], small, 2 * small, small).equal == 0


def test_a_missing_number_is_as_close_as_the_mean():
    column = Column("x", "real", mean=2.0, scale=3.0)
    found = tables.near_copies([column], *np.array([[[2.0]], [[np.nan]], [[5.0]]]))
    assert found.distance == 0
    assert found.distance_held_out == 1


def test_distances_are_those_of_the_first_20000_rows():
    array = np.zeros((20_001, 1))
    array[20_000] = 5.0
    found = tables.near_copies([Column("x", "real")], array[-1:], array, array[:1])
    assert found.equal == 1
    assert found.distance == 5


def test_a_class_of_two_rows_is_learned():
    columns = (Column("x", "real"), Column("c", "binary", ("a", "b")))
    array = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    assert tables.classifier_accuracy(columns, 1, array, array) == 1
