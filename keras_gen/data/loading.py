"""Load data sets as batches, from any supported source."""

from __future__ import annotations

import pathlib

import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._files import PathLike
from keras_gen.data._pipeline import reading_errors, to_batches, without_labels
from keras_gen.data.arrays import read_npz
from keras_gen.data.images import count_image_folder_classes, read_image_folder
from keras_gen.data.tables import read_csv
from keras_gen.data.tfds import (
    count_tfds_classes,
    count_tfds_folder_classes,
    read_tfds,
    read_tfds_folder,
)

MNIST_MINI = pathlib.Path(__file__).parent / "mnist_mini" / "1.0.0"
"""Folder of the embedded data set, which TFDS prepared."""

_FILE_READERS = {".npz": read_npz, ".csv": read_csv}


def load(
    source: PathLike = "mnist_mini",
    batch_size: int = 128,
    labels: bool = False,
    data_dir: PathLike | None = None,
    image_size: tuple[int, int] | None = None,
    seed: int = 0,
    skip_corrupt: bool = False,
    binarize: bool = False,
) -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """Load training and test data as batches of float32 values in [0, 1].

    Args:
        source: The data set, which is one of the following:

            - `"mnist_mini"`: 10,000 training and 2,000 test images of MNIST. They come with the
              package.
            - The name of a TFDS image data set, such as `"fashion_mnist"` or `"emnist/letters"`.
            - A folder of images. If it contains `train/` and `test/`, these are the two splits.
              The first folder on the path to an image is its class.
            - An `.npz` file with `x_train` and `x_test`, or with `x`. Its labels, if any, are
              `y_train` and `y_test`, or `y`.
            - A `.csv` file of numbers, one example per row. If it has a header with a column
              `label`, that column becomes the labels.

            If a file or folder has only one split, a random tenth of it becomes the test data.
        batch_size: Examples per batch. The last batch may be smaller.
        labels: Return batches `(x, y)` with integer labels `y`, instead of `x`.
        data_dir: Folder of all TFDS data sets. Default: the environment variable `TFDS_DATA_DIR`
            if it is set, otherwise `~/tensorflow_datasets`.
        image_size: `(height, width)` in pixels to resize images to. Default: no resizing for TFDS
            data sets, and the size of the first image for a folder of images.
        seed: Seed of the order of the training examples, which changes in every epoch, of the
            choice of test examples, and of binarized pixels.
        skip_corrupt: Skip the files of a folder that cannot be decoded, with a warning that counts
            them. Default: such a file is an error.
        binarize: Binarize pixels: sample each pixel as 0 or 1 with its grey value as the
            probability of 1. Training images are resampled every epoch; test images are sampled
            once. The Bernoulli likelihood is a distribution of such data, and not of grey values
            (Burda et al. 2016, arXiv:1509.00519, section 5).

    Returns:
        `(train, test)`. Images have shape `(batch, height, width, channels)`, rows of tables
        `(batch, columns)`. Pixels of 8 or 16 bits are divided by 255 or 65,535. Integers that are
        all 0 or 1 stay as they are. Floats must be in [0, 1].

    Raises:
        ValueError: If the source does not exist, is neither on disk nor available for download, is
            empty or damaged, or has no labels though `labels` is True. If values are NaN, infinite
            or outside [0, 1]. If an image file is damaged. The message names the file, or the array
            and the index.

    Example:
        >>> train, test = load("mnist_mini", batch_size=100)
        >>> train.element_spec.shape.as_list(), len(train), len(test)
        ([100, 28, 28, 1], 100, 20)
    """
    batch_size = positive_int(None, "batch_size", batch_size)
    path = pathlib.Path(source).expanduser()
    if str(source) == "mnist_mini":
        train, test = read_tfds_folder(MNIST_MINI, image_size)
    elif path.suffix in _FILE_READERS:
        _check_is_file(path)
        train, test = _FILE_READERS[path.suffix](path, seed)
    elif path.is_dir():
        train, test = read_image_folder(path, image_size, labels, seed, skip_corrupt)
    else:
        train, test = read_tfds(str(source), data_dir, image_size)
    if labels and not isinstance(train.element_spec, tuple):
        raise ValueError(
            f"Expected labels in {source}. Received: examples without labels. Load the data with "
            "`labels=False`."
        )
    if not labels:
        train = without_labels(train)
        test = without_labels(test)
    for name, examples in (("train", train), ("test", test)):
        if int(examples.cardinality()) == 0:
            raise ValueError(
                f"Expected examples in both splits of {source}. Received: none in {name}. Each "
                "split needs at least one example."
            )
    with reading_errors(source):
        return (
            to_batches(train, batch_size, shuffle=True, seed=seed, binarize=binarize),
            to_batches(test, batch_size, shuffle=False, seed=seed, binarize=binarize),
        )


def number_of_classes(
    source: PathLike = "mnist_mini", data_dir: PathLike | None = None
) -> int | None:
    """Return the number of classes of a data set, without reading any example.

    The labels of `load(source, labels=True)` are integers from 0 to the number of classes − 1. The
    number is known for TFDS data sets with class labels and for folders of images. The labels of
    `.npz` and `.csv` files have to be read to count them.

    Args:
        source: The data set, as for `load`. A TFDS data set is not downloaded.
        data_dir: Folder of all TFDS data sets, as for `load`.

    Returns:
        The number of classes, or None if the source does not say it. Images in a folder without
        class folders all have the same class.

    Raises:
        ValueError: If the source does not exist, or is a folder without images.

    Example:
        >>> number_of_classes("mnist_mini")
        10
    """
    path = pathlib.Path(source).expanduser()
    if str(source) == "mnist_mini":
        return count_tfds_folder_classes(MNIST_MINI)
    if path.suffix in _FILE_READERS:
        _check_is_file(path)
        return None
    if path.is_dir():
        return count_image_folder_classes(path)
    return count_tfds_classes(str(source), data_dir)


def _check_is_file(path: pathlib.Path) -> None:
    if not path.is_file():
        raise ValueError(
            f"Expected `source` to be a file. Received: {path}, which does not exist. Check the "
            "path."
        )
