"""Heat maps and bars that explain anomaly scores."""

import types

import numpy as np
import pytest
import tensorflow as tf
from keras.utils import load_img
from support import IMAGE

from keras_gen import RegularizedAutoencoder, distributions, evaluation, networks
from keras_gen._columns import Column
from keras_gen.evaluation import anomalies

NAN = np.float32("nan")
RANDOM = np.random.default_rng(0)
BLACK = [0.0, 0.0, 0.0]


def brightness(image):
    return image @ [0.299, 0.587, 0.114]


def test_a_heat_map_is_brighter_where_the_sum_over_the_channels_is_larger():
    per_feature = RANDOM.normal(size=(4, 5, 6, 3))
    maps = anomalies.heat_maps(per_feature)
    assert maps.shape == (4, 5, 6, 3)
    assert maps.min() >= 0
    assert maps.max() <= 1
    for image, parts in zip(maps, per_feature.sum(axis=-1), strict=True):
        order = np.argsort(parts.ravel())
        steps = np.diff(brightness(image).ravel()[order])
        assert (steps > -0.01).all()  # two pixels may have the same color
        np.testing.assert_allclose(image.reshape(-1, 3)[order[0]], BLACK, atol=0.02)
        assert brightness(image).max() > 0.9


def test_a_heat_map_does_not_depend_on_an_offset_or_a_scale():
    per_feature = RANDOM.normal(size=(2, 5, 6, 1))
    maps = anomalies.heat_maps(per_feature)
    np.testing.assert_allclose(anomalies.heat_maps(7 * per_feature - 100), maps, atol=0.01)


def test_infinite_scores_are_the_largest_and_equal_scores_are_black():
    per_feature = np.zeros((3, 2, 2, 1))
    per_feature[0, 0, 1] = np.inf
    per_feature[1] = np.inf
    maps = brightness(anomalies.heat_maps(per_feature))
    assert (maps[0] > 0.9).tolist() == [[False, True], [False, False]]
    assert (maps[1] > 0.9).all()
    assert (maps[2] < 0.01).all()


@pytest.mark.parametrize("name", ["autoencoder", "vae", "conditional_vae"])
def test_the_figure_shows_the_images_with_the_largest_scores(name, models, images, tmp_path):
    model = models[name]
    labels = np.arange(20) % model.num_classes if model.num_classes else None
    given = () if labels is None else (labels,)
    assert anomalies.save_anomalies(model, tmp_path / "a.png", images, *given)
    figure = np.asarray(load_img(tmp_path / "a.png"))
    assert figure.shape == (3 * 2 * IMAGE[0], 10 * 2 * IMAGE[1], 3)
    rows = figure[::2, ::2].reshape(3, IMAGE[0], 10, IMAGE[1], 3).swapaxes(1, 2) / 255
    order = np.argsort(-model.score(images, *given).numpy())[:10]
    np.testing.assert_allclose(rows[0, ..., :1], images[order], atol=1 / 255)
    reconstructions = model.reconstruct(images, *given).numpy()[order]
    np.testing.assert_allclose(rows[1, ..., :1], np.clip(reconstructions, 0, 1), atol=1 / 200)
    parts = model.score_per_feature(images, *given).numpy()[order]
    hottest = brightness(rows[2]).reshape(10, -1).argmax(axis=1)
    np.testing.assert_array_equal(hottest, parts.reshape(10, -1).argmax(axis=1))


def test_without_scores_per_pixel_there_is_no_figure(images, tmp_path):
    encoder = networks.mlp(IMAGE, (2,), hidden=())
    model = RegularizedAutoencoder(encoder, networks.mlp((2,), IMAGE, hidden=()))
    model.compile(loss=lambda x, output: tf.reduce_max(tf.abs(x - output), axis=(1, 2, 3)))
    assert not anomalies.save_anomalies(model, tmp_path / "a.png", images)
    without_decoder = types.SimpleNamespace(columns=None)
    assert not anomalies.save_anomalies(without_decoder, tmp_path / "a.png", images)
    vectors = RegularizedAutoencoder(
        networks.mlp((4,), (2,), hidden=()), networks.mlp((2,), (4,), hidden=())
    )
    vectors.compile(loss="mse")
    assert not anomalies.save_anomalies(vectors, tmp_path / "a.png", np.ones((3, 4), np.float32))
    assert not (tmp_path / "a.png").exists()


def drawn(monkeypatch):
    """Return a list that gets each figure. The files are empty, which saves time."""
    figures = []

    def savefig(figure, path, **_):
        figures.append(figure)
        path.touch()

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", savefig)
    return figures


def test_a_panel_shows_the_six_largest_bars_from_top_to_bottom(tmp_path, monkeypatch):
    columns = [Column(f"c{index}", "real") for index in range(8)]
    parts = RANDOM.permuted(np.arange(24.0)).reshape(3, 8)
    x = parts.copy()
    x[0, 2] = NAN
    model = types.SimpleNamespace(columns=columns)
    monkeypatch.setattr(anomalies, "scores", lambda *_: (parts.sum(axis=1), parts))
    figures = drawn(monkeypatch)
    assert anomalies.save_anomalies(model, tmp_path / "a.png", x)
    [figure] = figures
    assert [axes.axison for axes in figure.axes] == [True, True, True, False]
    for axes, row in zip(figure.axes, np.argsort(-parts.sum(axis=1)), strict=False):
        lengths = np.nan_to_num(parts - np.nanmedian(np.where(np.isnan(x), NAN, parts), axis=0))
        lengths[0, 2] = 0.0  # the entry is missing
        order = np.argsort(-lengths[row], kind="stable")[:6]
        assert [bar.get_width() for bar in axes.patches] == lengths[row, order].tolist()
        names = [label.get_text().split(" = ")[0] for label in axes.get_yticklabels()]
        assert names == [f"c{index}" for index in order]
        assert axes.yaxis_inverted()
    assert figure.get_size_inches()[1] > 0.4 * 2 * 6  # inches per bar of two panels


def test_long_texts_of_entries_are_cut():
    assert anomalies._entry("n" * 28, "y") == f"{'n' * 28} = y"
    assert anomalies._entry("n" * 28, "yz") == f"{'n' * 28} = …"


def test_the_bars_of_a_table_name_the_unusual_entries(tmp_path, monkeypatch):
    columns = (
        Column("mass", "positive", mean=8.3, scale=0.2),
        Column("id", "identifier"),
        Column("eggs in $", "count", mean=2.0, scale=1.5),
        Column("sex", "binary", ("f", "m")),
    )
    likelihood = distributions.Columns(columns)
    model = RegularizedAutoencoder(
        networks.mlp((3,), (2,), features=networks.ColumnFeatures(columns)),
        networks.mlp((2,), likelihood.parameter_shape),
        seed=0,
    )
    model.compile("adam", loss=likelihood)
    x = np.stack(
        [RANDOM.lognormal(8.3, 0.2, 40), RANDOM.poisson(2, 40), RANDOM.integers(0, 2, 40)], axis=1
    ).astype("float32")
    x[7, 0] = 90_000.0
    x[9, 1] = 70.0
    x[11] = NAN
    figures = drawn(monkeypatch)
    assert anomalies.save_anomalies(model, tmp_path / "a.png", x)
    assert "minus the median" in figures[0].get_supxlabel()
    panels = {axes.get_title(): axes for axes in figures[0].axes}
    score, parts = anomalies.scores(model, x)
    for row, entry, index in ((7, "mass = 90000", 0), (9, r"eggs in \$ = 70", 1)):
        axes = panels[f"score {evaluation.format_number(float(score[row]))}"]
        assert axes.get_yticklabels()[0].get_text() == entry
        expected = parts[row, index] - np.median(np.delete(parts[:, index], 11))
        assert axes.patches[0].get_width() == pytest.approx(expected, rel=1e-4)
