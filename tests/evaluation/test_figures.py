"""The curves of a training, the grid of images and the plot of a matrix."""

import re

import matplotlib.axes
import matplotlib.figure
import numpy as np
import PIL.Image
import pytest

from keras_gen.evaluation import figures


@pytest.fixture
def drawn(monkeypatch):
    """The figures that the tested function makes."""
    made = []
    original = matplotlib.figure.Figure.__init__

    def remember(figure, *arguments, **options):
        made.append(figure)
        original(figure, *arguments, **options)

    monkeypatch.setattr(matplotlib.figure.Figure, "__init__", remember)
    return made


def test_each_metric_that_changes_has_a_figure_with_its_curves(drawn):
    history = {
        "epoch": [0, 1, 2],
        "loss": [3.0, 2.0, 1.0],
        "val_loss": [4.0, 3.0, 2.5],
        "kl": [1.0, 1.5, 1.0],
        "weight": [1.0, 1.0, 1.0],
        "val_weight": [1.0, 1.0, 1.0],
        "rate": [0.1, 0.1, 0.1],
        "val_rate": [0.1, 0.2, 0.1],
    }
    svgs = figures.curves(history)
    assert list(svgs) == ["loss", "kl", "rate"]
    assert all(re.search("<svg", svg) and "<dc:date>" not in svg for svg in svgs.values())
    axes = [figure.axes[0] for figure in drawn]
    assert [each.get_title() for each in axes] == ["loss", "kl", "rate"]
    lines = [[(line.get_label(), *line.get_xydata().T.tolist()) for line in a.lines] for a in axes]
    assert lines == [
        [("training", [1, 2, 3], [3, 2, 1]), ("validation", [1, 2, 3], [4, 3, 2.5])],
        [("training", [1, 2, 3], [1, 1.5, 1])],
        [("validation", [1, 2, 3], [0.1, 0.2, 0.1])],
    ]
    assert [each.get_legend() is not None for each in axes] == [True, False, False]
    assert {each.get_xlabel() for each in axes} == {"epoch"}
    for figure in drawn:
        width, height = figure.get_size_inches()
        assert 1 < height < width


@pytest.mark.parametrize("largest", [None, 0.25])
def test_the_colors_of_a_matrix_go_from_0_to_the_largest_value(drawn, tmp_path, largest):
    matrix = np.array([[0.0, 0.2], [0.2, 0.1]])
    figures.save_matrix(tmp_path / "m.png", matrix, *([] if largest is None else [largest]))
    [image] = drawn[0].axes[0].images
    np.testing.assert_array_equal(image.get_array(), matrix)
    assert image.get_clim() == (0, largest or 1)
    axes, _ = drawn[0].axes  # the second one is the bar of colors
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("latent", "latent")
    width, height = drawn[0].get_size_inches()
    assert width >= height
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")


def test_points_with_the_same_label_have_the_same_color(drawn, tmp_path):
    points = np.arange(10.0).reshape(5, 2)
    figures.save_scatter(tmp_path / "s.png", points, np.array([12, 1, 12, 3, 1]))
    [one, _, twelve] = drawn[0].axes[0].collections
    np.testing.assert_array_equal(one.get_offsets(), points[[1, 4]])
    np.testing.assert_array_equal(twelve.get_offsets(), points[[0, 2]])
    expected = matplotlib.colors.to_rgb("C2")  # there are ten colors
    np.testing.assert_allclose(twelve.get_facecolors()[0][:3], expected)
    [axes] = drawn[0].axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["1", "3", "12"]
    assert not axes.axison  # coordinates of t-SNE have no unit
    assert axes.get_aspect() == 1
    width, height = drawn[0].get_size_inches()
    assert width >= height
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    for names, expected in {
        ("a", "b", "c", "_d"): ["b", "_d", "12", "-1"],
        ("",) * 13: ["1", "3", "12", "-1"],
    }.items():
        labels = np.array([12, 1, -1, 3, 1])
        figures.save_scatter(tmp_path / "s.png", points, labels, names)
        legend = drawn.pop().axes[0].get_legend().get_texts()
        assert sorted(text.get_text() for text in legend) == sorted(expected)
    figures.save_scatter(tmp_path / "s.png", points)
    np.testing.assert_array_equal(drawn[1].axes[0].collections[0].get_offsets(), points)


def test_a_grid_clips_values_and_fills_the_last_row_with_black():
    images = np.array([-1.0, 0.0, 0.5, 1.0, 2.0])[:, None, None, None] * np.ones((5, 1, 2, 3))
    found = figures.grid(images, columns=3)
    assert (found.shape, found.dtype) == ((2, 6, 3), np.uint8)
    assert found[:, ::2, 0].tolist() == [[0, 0, 127], [255, 255, 0]]
    assert figures.grid(np.ones((4, 2, 2, 1))).shape == (2, 20, 1)


def test_a_file_of_a_grid_has_the_grey_values_of_the_images(tmp_path):
    figures.save_grid(tmp_path / "g.png", np.full((2, 3, 4, 1), 0.5), columns=2)
    image = np.asarray(PIL.Image.open(tmp_path / "g.png"))
    assert (image.shape, set(image.ravel())) == ((6, 16), {127})


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((2, 8, 8, 1), True), ((2, 8, 8, 3), True), ((2, 8, 8, 2), False), ((2, 8, 1), False)],
)
def test_images_have_one_or_three_channels(shape, expected):
    assert figures.are_images(np.zeros(shape)) == expected
