"""Read data sets of images from folders."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import pathlib
import warnings

import numpy as np
import PIL.Image
import tensorflow as tf

from keras_gen._errors import mark
from keras_gen.data._pipeline import Splits

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")


@dataclasses.dataclass(frozen=True)
class _ImageFiles:
    """Image files in the folder `root` and its subfolders. Each subfolder is one class."""

    root: pathlib.Path
    files: list[pathlib.Path]

    def class_names(self) -> list[str]:
        """Return the class name of each file: its first folder below `root`, or "" without one."""
        below = [file.relative_to(self.root) for file in self.files]
        return [path.parts[0] if len(path.parts) > 1 else "" for path in below]


def read_image_folder(
    folder: pathlib.Path,
    image_size: tuple[int, int] | None,
    labels: bool,
    seed: int,
    skip_corrupt: bool,
) -> Splits:
    """Read the images of a folder as training and test examples.

    If the folder contains the folders `train/` and `test/`, they contain the training images and
    the test images. Otherwise a random tenth of all images becomes the test images.

    Args:
        folder: The folder.
        image_size: Size in pixels of the returned images, `(height, width)`. Default: the size of
            the first image.
        labels: Whether to return `(image, label)`. The label is the index of the image's class in
            the sorted list of classes.
        seed: Seed of the random choice of test images.
        skip_corrupt: Whether to skip files that cannot be decoded. If files are skipped, a warning
            states their number.
    """
    splits = _find_files(folder)
    if skip_corrupt:
        for i, split in enumerate(splits):
            splits[i] = _without_corrupt_files(split)
    shape = _image_shape(splits[0].files[0], image_size)
    if len(splits) == 1:
        splits = _hold_out(splits[0], seed)
    class_names = _sorted_classes(splits) if labels else None
    train, test = splits
    return Splits(_to_dataset(train, shape, class_names), _to_dataset(test, shape, class_names))


def count_image_folder_classes(folder: pathlib.Path) -> int:
    """Return the number of classes that `read_image_folder` uses as labels."""
    return len(_sorted_classes(_find_files(folder)))


def _find_files(folder: pathlib.Path) -> list[_ImageFiles]:
    """Return the files of `train/` and of `test/`, or all files if one of these is missing."""
    roots = [folder / "train", folder / "test"]
    if not all(root.is_dir() for root in roots):
        roots = [folder]
    splits = []
    for root in roots:
        files = [file for file in root.rglob("*") if file.suffix.lower() in _SUFFIXES]
        if not files:
            raise ValueError(
                f"Expected a folder of images ({', '.join(_SUFFIXES)}). Received: {root}, which "
                "contains no images."
            )
        splits.append(_ImageFiles(root, sorted(files)))
    return splits


def _sorted_classes(splits: list[_ImageFiles]) -> list[str]:
    """Return the sorted class names of all splits. The label of a class is its index here."""
    return sorted({name for split in splits for name in split.class_names()})


def _hold_out(split: _ImageFiles, seed: int) -> list[_ImageFiles]:
    """Return `[training files, test files]`. The test files are a random tenth of all files."""
    order = np.random.default_rng(seed).permutation(len(split.files))
    num_test = len(order) // 10
    train = sorted(split.files[i] for i in order[num_test:])
    test = sorted(split.files[i] for i in order[:num_test])
    return [_ImageFiles(split.root, train), _ImageFiles(split.root, test)]


def _image_shape(file: pathlib.Path, size: tuple[int, int] | None) -> tuple[int, int, int]:
    """Return `(height, width, channels)` of an image. A grey image has one channel.

    Args:
        file: The image file.
        size: The `(height, width)` to return. Default: the height and width of the image.
    """
    image = _read_image(file)
    height, width = size or (image.height, image.width)
    colors = np.asarray(image.convert("RGB"))
    is_grey = bool(np.all(colors == colors[..., :1]))
    return height, width, 1 if is_grey else 3


def _to_dataset(
    split: _ImageFiles, shape: tuple[int, int, int], class_names: list[str] | None
) -> tf.data.Dataset:
    """Return uint8 images of one shape as a data set, with labels if `class_names` is given."""

    def decode(name: tf.Tensor) -> tf.Tensor:
        pixels = tf.numpy_function(
            lambda name: _decode(name.decode(), shape), [name], tf.uint8, stateful=False
        )
        return tf.ensure_shape(pixels, shape)

    names = np.asarray([str(file) for file in split.files], str)
    images = tf.data.Dataset.from_tensor_slices(names).map(
        decode, num_parallel_calls=tf.data.AUTOTUNE
    )
    if class_names is None:
        return images
    labels = np.asarray([class_names.index(name) for name in split.class_names()], np.int64)
    return tf.data.Dataset.zip((images, tf.data.Dataset.from_tensor_slices(labels)))


def _decode(file: str, shape: tuple[int, int, int]) -> np.ndarray:
    """Return an image as uint8 pixels `[height, width, channels]`.

    TensorFlow calls this function. If the function raises an error, TensorFlow raises an error of
    its own with a longer message. The original message is marked, so that `reading_errors` finds it
    in the longer message.
    """
    height, width, channels = shape
    try:
        image = _read_image(pathlib.Path(file))
        image = image.convert("L" if channels == 1 else "RGB")
    except ValueError as error:
        raise ValueError(mark(str(error))) from error
    if image.size != (width, height):
        image = image.resize((width, height), PIL.Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)


def _read_image(file: pathlib.Path) -> PIL.Image.Image:
    """Read an image file, and reduce its channels to 8 bits if they have more bits."""
    image: PIL.Image.Image
    try:
        with PIL.Image.open(file) as image:
            image.load()
        if image.mode.startswith("I"):  # 16 bits, which Pillow's `convert` would clip at 255
            image = PIL.Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"Expected an image. Received: {file}, which is damaged or not an image. Remove the "
            "file, or pass `skip_corrupt=True` to skip all such files."
        ) from error
    return image


def _without_corrupt_files(split: _ImageFiles) -> _ImageFiles:
    """Return the files that can be decoded, and warn about the others."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        readable = list(pool.map(_is_readable, split.files))
    files = [file for file, good in zip(split.files, readable, strict=True) if good]
    corrupt = [file for file, good in zip(split.files, readable, strict=True) if not good]
    if not files:
        raise ValueError(
            f"Expected images. Received: {len(corrupt)} files, which are all damaged or not "
            f"images, for example {corrupt[0]}."
        )
    if corrupt:
        warnings.warn(
            f"Skipped {len(corrupt)} of {len(split.files)} files. The skipped files are damaged or "
            f"not images, for example {corrupt[0]}.",
            stacklevel=4,  # the warning names the line that calls `load`
        )
    return _ImageFiles(split.root, files)


def _is_readable(file: pathlib.Path) -> bool:
    """Return whether a file can be decoded as an image."""
    try:
        _read_image(file)
    except ValueError:
        return False
    return True
