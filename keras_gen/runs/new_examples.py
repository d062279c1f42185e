"""Read new examples for `keras-gen score` from an .npz file, a folder of images, or a table."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import PIL.ImageOps

from keras_gen._files import PathLike
from keras_gen.data._image_files import has_image_suffix, read_image
from keras_gen.data._table_sources import all_rows, has_table_name, open_table
from keras_gen.data.tables import _unit_or_grey

_BATCH = 256


def new_examples(
    source: PathLike, shape: tuple[int, ...]
) -> tuple[str, list[Any], Iterator[np.ndarray]]:
    """Read examples from a file or a folder. Return their names, and their values in batches.

    Args:
        source: An `.npz` file with the array `x`, a table whose columns are pixels, or a folder
            that contains images, also in subfolders.
        shape: Shape of one example of the model. If an image of a folder has another size, it is
            scaled and cropped, as in training.

    Returns:
        `(title, names, batches)`. `names` has one entry per example. `title` tells what an entry
        is: `"file"`, `"index"` (counted from 0) or `"row"` (counted from 1). `batches` yields
        float32 arrays `[n, *shape]`. Grey values from 0 to 255 in images and tables are divided by
        255. An array of the dtype uint8 or uint16 is divided by the largest number of its dtype,
        unless all its values are 0 or 1.

    Raises:
        ValueError: If the source does not exist, has an unsupported suffix, or is damaged. If it
            contains no examples of this shape, or if the numbers of a table are not pixels.
    """
    path = pathlib.Path(source).expanduser()
    if path.is_dir():
        files = _image_files(path, shape)
        return "file", [str(file.relative_to(path)) for file in files], _images(files, shape)
    if path.suffix.lower() == ".npz" and path.is_file():
        x = _npz(path)
    elif has_table_name(path):
        x = _table(path)
    else:
        raise ValueError(
            "`data` must be an .npz file with the array x, a folder of images, or a table. "
            f"Received: {path}, which does not exist or has another suffix."
        )
    if (*x.shape[1:], 1) == shape:
        x = x[..., None]
    if x.shape[1:] != shape:
        raise ValueError(
            f"Expected examples of shape {shape} in {path}, as in the training. Received: an array "
            f"of shape {x.shape}."
        )
    batches = (x[start : start + _BATCH] for start in range(0, len(x), _BATCH))
    if path.suffix.lower() == ".npz":
        return "index", [*range(len(x))], batches
    return "row", [*range(1, len(x) + 1)], batches


def _npz(path: pathlib.Path) -> np.ndarray:
    try:
        with np.load(path) as archive:
            received = sorted(archive)
            x = archive["x"] if "x" in received else None
    except Exception as error:  # damaged files raise errors of many classes
        raise ValueError(
            f"Expected {path} to be an .npz file of numeric arrays. Reading the file failed: "
            f"{error}. Write the file again with `np.savez`."
        ) from error
    if x is None:
        raise ValueError(
            f"Expected {path} to contain the array x, whose examples are scored. Received: "
            f"{', '.join(received)}. Save the examples under this name: `np.savez(path, x=x)`."
        )
    if x.dtype.kind not in "biuf" or not len(x):
        raise ValueError(
            f"Expected the array x in {path} to contain at least one example, and its dtype to be "
            f"numeric. Received: shape {x.shape} and dtype {x.dtype}."
        )
    if x.dtype in (np.uint8, np.uint16) and x.max() > 1:
        return (x / np.float32(np.iinfo(x.dtype).max)).astype(np.float32)
    return x.astype(np.float32)


def _table(path: pathlib.Path) -> np.ndarray:
    x = _unit_or_grey(all_rows(open_table(path, None)[0]), None)
    if x is None:
        raise ValueError(
            f"Expected numbers in [0, 1], or pixels from 0 to 255, in {path}, as in the training. "
            "Received: other values."
        )
    return x / np.float32(255) if x.dtype == np.uint8 else x


def _image_files(folder: pathlib.Path, shape: tuple[int, ...]) -> list[pathlib.Path]:
    if len(shape) != 3 or shape[2] not in (1, 3):
        raise ValueError(
            f"Expected examples of shape {shape}, as in the training. Received: the folder "
            f"{folder}. A folder of images needs a model of images."
        )
    found = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = pathlib.Path(root, name)
            if not name.startswith(".") and has_image_suffix(name):
                found.append(file)
    if not found:
        raise ValueError(
            "Expected a folder of images (such as .png, .jpg, .webp, .tif, .bmp, .gif). Received: "
            f"{folder}, which contains no images."
        )
    return found


def _images(files: list[pathlib.Path], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    height, width, channels = shape
    batch = []
    for file in files:
        image = read_image(str(file), (255, 255, 255), least_size=2 * max(height, width))
        image = image.convert("L" if channels == 1 else "RGB")
        if image.size != (width, height):
            image = PIL.ImageOps.fit(image, (width, height))
        batch.append(np.asarray(image, np.float32).reshape(shape) / np.float32(255))
        if len(batch) == _BATCH:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)
