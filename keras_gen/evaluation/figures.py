"""Draw grids of images, scatter plots, matrices and training curves."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
import numpy.typing as npt

from keras_gen._files import PathLike, atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 4.0  # width of a figure in inches
_DPI = 150


def are_images(examples: np.ndarray) -> bool:
    """Return whether an array has the shape of images, `[n, height, width, 1 or 3]`."""
    return len(examples.shape) == 4 and examples.shape[-1] in (1, 3)


def grid(images: npt.ArrayLike, columns: int = 10, zoom: int = 1) -> np.ndarray:
    """Arrange images row by row in a grid, and return the grid as one image.

    If the last row has fewer than `columns` images, the rest of the row is black.

    Args:
        images: Images `[n, height, width, 1 or 3]` with values in [0, 1]. Values outside
            this range are clipped.
        columns: Number of images per row. Default: 10.
        zoom: Enlargement factor. Each pixel of an image becomes `zoom` × `zoom` pixels. Default: 1.

    Returns:
        uint8 array `[height, width, 1 or 3]`.

    Example:

    >>> grid(np.ones((3, 8, 8, 1)), columns=2).shape
    (16, 16, 1)
    """
    images = np.asarray(images)
    images = np.concatenate([images, np.zeros((-len(images) % columns, *images.shape[1:]))])
    _, height, width, channels = images.shape
    rows = images.reshape(-1, columns, height, width, channels).swapaxes(1, 2)
    together = rows.reshape(-1, columns * width, channels)
    enlarged = together.repeat(zoom, axis=0).repeat(zoom, axis=1)
    return np.clip(255 * enlarged, 0, 255).astype(np.uint8)


def save_grid(path: PathLike, images: npt.ArrayLike, columns: int = 10, zoom: int = 2) -> None:
    """Write a grid of images as a PNG file.

    Args:
        path: Path of the file. If writing fails, an existing file stays unchanged.
        images: Images `[n, height, width, 1 or 3]` with values in [0, 1].
        columns: Number of images per row. Default: 10.
        zoom: Enlargement factor. Each pixel of an image becomes `zoom` × `zoom` pixels. Default: 2.

    Raises:
        OSError: If the file cannot be written.
    """
    with atomic_write(path) as unfinished:
        keras.utils.save_img(unfinished, grid(images, columns, zoom), scale=False)


def save_scatter(
    path: PathLike,
    points: np.ndarray,
    labels: np.ndarray | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """Write a scatter plot as a PNG file.

    Args:
        path: Path of the file. If writing fails, an existing file stays unchanged.
        points: Points `[n, 2]`.
        labels: Integers `[n]`, one per point. Points with the same integer have the same colour.
            There are ten colours, so integers with the same last digit share a colour. If None, all
            points have the same colour.
        names: Name of each class for the legend, by label. A class without a name, or with an
            empty name, is shown as its label. Default: no names.

    Raises:
        OSError: If the file cannot be written.
    """
    figure, axes = _new_figure(1.2 * _WIDTH, _WIDTH)
    axes.axis("off")
    axes.set_aspect("equal", "datalim")
    if labels is None:
        axes.scatter(points[:, 0], points[:, 1], s=4, alpha=0.8, linewidths=0)
    else:
        found = np.unique(labels)
        groups = []
        for label in found:
            x, y = points[labels == label].T
            color = f"C{label % 10}"
            groups.append(axes.scatter(x, y, s=4, alpha=0.8, linewidths=0, color=color))
        axes.legend(
            groups,
            [_name_of(label, names or ()) for label in found],
            loc="center left",
            bbox_to_anchor=(1, 0.5),
            markerscale=3,
            frameon=False,
        )
    _save(figure, path)


def _name_of(label: int, names: Sequence[str]) -> str:
    """Return the name of a class, or its label if it has no name."""
    return (names[label] if 0 <= label < len(names) else "") or str(label)


def save_matrix(path: PathLike, matrix: npt.ArrayLike, largest: float = 1.0) -> None:
    """Plot a matrix with one row and one column per latent, and write the plot as a PNG file.

    Args:
        path: Path of the file. If writing fails, an existing file stays unchanged.
        matrix: Values `[n, n]` for n latents.
        largest: Upper end of the colour scale. Default: 1. The lower end is 0.

    Raises:
        OSError: If the file cannot be written.
    """
    figure, axes = _new_figure(1.3 * _WIDTH, _WIDTH)
    axes.set(xlabel="latent", ylabel="latent")
    figure.colorbar(axes.imshow(np.asarray(matrix), cmap="viridis", vmin=0, vmax=largest))
    _save(figure, path)


def curves(history: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """Plot the training curve and the validation curve of each metric, in one figure per metric.

    Constant curves are not plotted. If a metric has only constant curves, it gets no figure.

    Args:
        history: Dictionary of lists with one number per epoch. The key `"NAME"` contains the
            training values of the metric NAME. The optional key `"val_NAME"` contains its
            validation values. The key `"epoch"` must contain the epoch numbers, counted from 0.

    Returns:
        Dictionary `{name of the metric: figure}`. A figure is SVG text.
    """
    figures = {}
    for name, values in history.items():
        if name == "epoch" or name.startswith("val_"):
            continue
        lines = {"training": values, "validation": history.get(f"val_{name}")}
        varying = {
            label: line for label, line in lines.items() if line is not None and np.ptp(line) > 0
        }
        if not varying:
            continue
        figure, axes = _new_figure(_WIDTH, 0.6 * _WIDTH)
        for label, line in varying.items():
            axes.plot(np.asarray(history["epoch"]) + 1, line, label=label)
        axes.set(title=name, xlabel="epoch")
        if len(varying) == 2:
            axes.legend(frameon=False)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
        figures[name] = file.getvalue().decode()
    return figures


def _new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure and its axes. `width` and `height` are in inches."""
    import matplotlib.figure  # imported here, because the import takes half a second

    figure = matplotlib.figure.Figure((width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure: Figure, path: PathLike) -> None:
    """Write a figure as a PNG file."""
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=_DPI)
