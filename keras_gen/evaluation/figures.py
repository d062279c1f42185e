"""Pictures: grids of images, a map of codes, a matrix, the curves of a training."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import keras
import numpy as np
import numpy.typing as npt

from keras_gen._files import PathLike, atomic_write

_WIDTH = 4.0  # inches of a chart, of 100 pixels each


def are_images(examples: np.ndarray) -> bool:
    """Whether an array `[n, ...]` can be shown as pictures: `[n, height, width, 1 or 3]`."""
    return len(examples.shape) == 4 and examples.shape[-1] in (1, 3)


def grid(images: npt.ArrayLike, columns: int = 10, zoom: int = 1) -> np.ndarray:
    """Images as one image of uint8, `[height, width, 1 or 3]`, black where the last row has none left.

    Args:
        images: `[n, height, width, 1 or 3]` in [0, 1]; what is beyond becomes black or white.
        columns: Images in a row.
        zoom: Width and height of each pixel.
    """
    images = np.asarray(images)
    images = np.concatenate([images, np.zeros((-len(images) % columns, *images.shape[1:]))])
    _, height, width, channels = images.shape
    together = (
        images.reshape(-1, columns, height, width, channels)
        .swapaxes(1, 2)
        .reshape(-1, columns * width, channels)
    )
    return np.clip(255 * together.repeat(zoom, 0).repeat(zoom, 1), 0, 255).astype(np.uint8)


def save_grid(path: PathLike, images: npt.ArrayLike, columns: int = 10, zoom: int = 2) -> None:
    """Write `grid(images)` as a PNG.

    Args:
        path: The file.
        images, columns, zoom: As of `grid`.

    Raises:
        OSError: If the file cannot be written; one that was there stays as it was.
    """
    with atomic_write(path) as unfinished:
        keras.utils.save_img(unfinished, grid(images, columns, zoom), scale=False)


def save_map(path: PathLike, points: np.ndarray, labels: np.ndarray | None = None) -> None:
    """Write points of the plane as a PNG.

    Args:
        path: The file.
        points: `[n, 2]`.
        labels: Integers `[n]` to colour them by; one colour for all if None.

    Raises:
        OSError: If the file cannot be written; one that was there stays as it was.
    """
    figure, axes = _chart(1.2 * _WIDTH, _WIDTH)
    axes.axis("off")
    axes.set_aspect("equal", "datalim")
    for label in np.unique(labels) if labels is not None else [None]:
        some = points if label is None else points[labels == label]
        axes.scatter(
            *some.T,
            s=4,
            alpha=0.8,
            linewidths=0,
            color=None if label is None else f"C{label % 10}",
            label=label,
        )
    if labels is not None:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), markerscale=3, frameon=False)
    _save(figure, path)


def save_matrix(path: PathLike, matrix: npt.ArrayLike, largest: float = 1.0) -> None:
    """Write a matrix as a PNG, with the scale of its colours.

    Args:
        path: The file.
        matrix: `[n, n]`, of the latents.
        largest: End of the scale, which begins at 0.

    Raises:
        OSError: If the file cannot be written; one that was there stays as it was.
    """
    figure, axes = _chart(1.3 * _WIDTH, _WIDTH)
    axes.set(xlabel="latent", ylabel="latent")
    figure.colorbar(axes.imshow(matrix, cmap="viridis", vmin=0, vmax=largest))
    _save(figure, path)


def curves(history: Mapping[str, Sequence[float]]) -> dict[str, str]:
    """Charts of a training, each an SVG by its name: each number with its value on the validation data.

    Args:
        history: Values by name, `"epoch"` and `"val_..."` among them. What does not change is left out.
    """
    charts = {}
    for name, values in history.items():
        if name == "epoch" or name.startswith("val_"):
            continue
        lines = {"training": values, "validation": history.get(f"val_{name}")}
        lines = {
            which: line for which, line in lines.items() if line is not None and np.ptp(line) > 0
        }
        if not lines:
            continue
        figure, axes = _chart(_WIDTH, 0.6 * _WIDTH)
        for which, line in lines.items():
            axes.plot(np.asarray(history["epoch"]) + 1, line, label=which)
        axes.set(title=name, xlabel="epoch")
        if len(lines) == 2:
            axes.legend(frameon=False)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
        charts[name] = file.getvalue().decode()
    return charts


def _chart(width, height):
    import matplotlib.figure  # half a second, which only those wait for who draw

    figure = matplotlib.figure.Figure((width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(figure, path):
    with atomic_write(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=150)
