"""Load a data set from any supported source, as batches."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import os
import pathlib
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._files import PathLike
from keras_gen.data._pipeline import (
    Examples,
    Splits,
    are_images,
    example_spec,
    has_labels,
    reading_errors,
    resized,
    to_batches,
    without_labels,
)
from keras_gen.data._table_sources import has_table_name
from keras_gen.data.arrays import npz_classes, read_npz
from keras_gen.data.images import image_folder_classes, read_image_folder
from keras_gen.data.tables import read_splits
from keras_gen.data.tfds import (
    read_tfds,
    read_tfds_folder,
    tfds_classes,
    tfds_folder_classes,
)

if TYPE_CHECKING:
    import pandas

MNIST_MINI = pathlib.Path(__file__).parent / "mnist_mini" / "1.0.0"
"""Folder of the data set `"mnist_mini"`. The package contains this folder, which has the format
of TensorFlow Datasets (TFDS)."""


def load(
    source: PathLike | pandas.DataFrame = "mnist_mini",
    batch_size: int = 128,
    labels: bool = False,
    data_dir: PathLike | None = None,
    image_size: tuple[int, int] | None = None,
    seed: int = 0,
    skip_corrupt: bool = False,
    binarize: bool = False,
    background: str = "white",
    label: str | None = None,
    flip: bool = False,
) -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """Load training and test data as batches of float32 values.

    Args:
        source: The data set, one of the following:

            - `"mnist_mini"`: 10,000 training and 2,000 test images of MNIST. The package contains
              these images.
            - The name of an image data set of TensorFlow Datasets (TFDS), such as
              `"fashion_mnist"` or `"emnist/letters"`. The data set must have the split `train`, and
              the split `test` or `validation`.
            - A folder of images, as described below.
            - An `.npz` file. It contains either the arrays `x_train` and `x_test`, or the array
              `x`. It can also contain labels, in `y_train` and `y_test`, or in `y`.
            - A table: `"penguins"`, a `.csv`, `.tsv`, `.txt`, `.parquet` or `.xlsx` file, or a
              `pandas.DataFrame`, as described below.

            If a file or folder contains no separate test data, a random tenth of the examples
            becomes the test data. In this case, at least 10 examples are needed.
        batch_size: Examples per batch. The last batch may be smaller.
        labels: Whether to return batches `(x, y)` with integer labels `y`. If False, the batches
            are `x` alone.
        data_dir: Folder that contains the TFDS data sets. Default: the environment variable
            `TFDS_DATA_DIR` if it is set, otherwise `~/tensorflow_datasets`.
        image_size: Size in pixels of the returned images, `(height, width)`. An image of another
            size is scaled, without changing its proportions, until it covers this size. Then it is
            cropped at the edges. Default: images keep their size, but all images of a folder get
            the size of the first image. If the images of a TFDS data set differ in size,
            `image_size` is required.
        seed: Seed of all random choices: the order of the training examples, the choice of test
            examples, the binarized pixels, and the images to flip. The order of the training
            examples changes in every epoch.
        skip_corrupt: Whether to skip image files that cannot be decoded, in a folder of images. If
            files are skipped, a warning states their number. If `skip_corrupt` is False, such a
            file raises an error.
        binarize: Whether to replace each grey value p in [0, 1] by a random number, which is 1 with
            probability p and otherwise 0. Training images are sampled again in every epoch. Test
            images are the same in every epoch. Use `binarize` with the Bernoulli likelihood, whose
            only values are 0 and 1 (Burda et al. 2016, arXiv:1509.00519, section 5).
        background: The color behind transparent images of a folder, as a name or as `"#rrggbb"`.
        label: Name of the table column that contains the class labels. This column is not part of
            `x`. Default: the column `label`, if there is one. Otherwise, if `labels` is True and
            exactly one column is called `label`, `class` or `target` in any capitalization, this
            column contains the labels.
        flip: Whether to mirror each training image left to right with probability 1/2. The choice
            of the mirrored images changes in every epoch. Test images are not mirrored.

    Returns:
        `(train, test)`, two data sets of batches. Images have shape
        `(batch, height, width, channels)`. Rows of tables have shape `(batch, columns)`. Pixels of
        dtype uint8 are divided by 255, and pixels of dtype uint16 by 65,535. If all values of an
        `.npz` file are the integers 0 and 1, they are not divided. Values of other dtypes in an
        `.npz` file must be in [0, 1].

    **Tables.** A batch contains rows of the table. A row contains numbers in the units of the
    table, indices of categories, and NaN for missing entries. To obtain a description of the
    columns, call `data.read_table` instead of `load`.

    There is one exception: the columns of a table can be the pixels of images. Then no entry is
    missing, and all entries are numbers in [0, 1] or whole numbers from 0 to 255. `data.is_table`
    returns False for such a table. The docstring of `data.is_table` gives the exact rule. `load`
    divides the whole numbers by 255, so that the batches contain numbers in [0, 1].

    **Folders of images.** Each subfolder is one class. The folder can also contain the two folders
    `train/` and `test/`. Then `train/` contains the training data, `test/` contains the test data,
    and the subfolders of these two folders are the classes. Capital letters in the two names do not
    matter. `training` is another name of `train`. `testing`, `validation`, `valid` and `val` are
    other names of `test`. If there are several folders of test data, the first in this order is
    used: test, testing, validation, valid, val. If the folder contains only `train/`, a random
    tenth of its images becomes the test data.

    `load` reads all image formats that Pillow decodes without further packages, except formats of
    scientific data. If any image has colors, all images get three channels. If no image has colors,
    all images get one channel. Images are rotated as their EXIF orientation says. Color profiles
    are ignored. The pixels of image files with more than 8 bits per channel are converted to 8
    bits. If a file has several frames or pages, only the first one is read.

    Hidden files and folders, files of other formats and links that cannot be followed are skipped.
    Warnings state how many files were skipped, and how many images were scaled, cropped or
    converted. An image of more than `PIL.Image.MAX_IMAGE_PIXELS` pixels raises an error. Images of
    32-bit integers, images of floats outside [0, 1], and 16-bit TIFF images in which 0 is white
    also raise an error. If `skip_corrupt` is True, all these images are skipped instead.

    At the start, the header of each file is read. If the training images need at most 512 MiB
    as 8-bit pixels, they are decoded once and kept in memory. Otherwise, they are decoded again in
    every epoch. The same rule applies to the test images.

    Raises:
        ValueError: If the source does not exist and cannot be downloaded. If the source is empty or
            damaged. If `image_size` or `flip` is given and the examples are not images. If
            `binarize` is True and the source is a table whose columns are not pixels. If `labels`
            is True, and the source has no labels, or only some images of a folder are in
            subfolders. If values of an `.npz` file are NaN, infinite, or neither in [0, 1] nor
            pixels of dtype uint8 or uint16. If a table needs more than 1 GiB of memory: call
            `data.read_table` instead. The message names the place of the error: the damaged file,
            the array and the index of the value, or the line and the column of the table.

    Example:
        >>> train, test = load("mnist_mini", batch_size=100)
        >>> train.element_spec.shape.as_list(), len(train), len(test)
        ([100, 28, 28, 1], 100, 20)
    """
    batch_size = positive_int(None, "batch_size", batch_size)
    examples = find_examples(
        source, labels, data_dir, image_size, seed, skip_corrupt, binarize, flip, background, label
    )
    return examples.batches(batch_size)


@dataclasses.dataclass(frozen=True)
class UnbatchedExamples:
    """Training and test examples that are not divided into batches yet.

    The docstring of `load` explains `seed`, `binarize` and `flip`.
    """

    source: PathLike
    train: Examples
    test: Examples
    seed: int
    binarize: bool
    flip: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example, without its label."""
        return tuple(example_spec(self.train).shape)

    def batches(self, batch_size: int) -> tuple[tf.data.Dataset, tf.data.Dataset]:
        """Return the training data and the test data as batches, like the function `load`.

        If the images of a folder fit into memory, this method decodes them.
        """
        options: dict[str, Any] = {"seed": self.seed, "binarize": self.binarize}
        # While one thread makes a TensorFlow graph, the other one can decode images.
        with reading_errors(self.source), concurrent.futures.ThreadPoolExecutor(1) as other:
            test = other.submit(to_batches, self.test, batch_size, shuffle=False, **options)
            train = to_batches(self.train, batch_size, shuffle=True, flip=self.flip, **options)
            return train, test.result()


def find_examples(
    source: PathLike | pandas.DataFrame,
    labels: bool,
    data_dir: PathLike | None,
    image_size: tuple[int, int] | None,
    seed: int,
    skip_corrupt: bool,
    binarize: bool,
    flip: bool,
    background: str = "white",
    label: str | None = None,
) -> UnbatchedExamples:
    """Find the training and test examples of a data set. The arguments are those of `load`.

    Of the files in a folder of images, this function reads only the headers. If `skip_corrupt` is
    True, it also decodes each file once, to find the damaged ones.

    Raises:
        ValueError: If the source or an argument is invalid, as described for `load`.
    """
    if image_size is not None:
        image_size = _check_image_size(image_size)
    train: Examples
    test: Examples
    if has_table_name(source):
        train, test = read_splits(source, labels, label, seed, binarize)
        source = source if isinstance(source, (str, os.PathLike)) else "the DataFrame"
    elif str(source) == "mnist_mini":
        train, test = read_tfds_folder(MNIST_MINI, image_size)
    elif (path := pathlib.Path(source).expanduser()).suffix == ".npz":
        _check_is_file(path)
        train, test = _with_size(read_npz(path, seed, labels), image_size)
    elif path.is_dir():
        train, test = read_image_folder(path, image_size, labels, seed, skip_corrupt, background)
    else:
        train, test = read_tfds(str(source), data_dir, image_size)
    if labels and not has_labels(train):
        raise ValueError(
            f"Expected labels in {source}. Received: examples without labels. Load the data with "
            "`labels=False`. If a column of a table contains the labels, pass its name as `label`."
        )
    if not labels:
        train = without_labels(train)
        test = without_labels(test)
    if (flip or image_size is not None) and not are_images(train):
        name = "flip" if flip else "image_size"
        raise ValueError(
            f"`{name}` must be {False if flip else None} unless the examples are images. Received: "
            f"{name}={flip or image_size!r} for {source}. Omit `{name}`, or load a folder of "
            "images, an .npz file of images or a TFDS data set of images."
        )
    for name, examples in (("train", train), ("test", test)):
        if int(examples.cardinality()) == 0:
            raise ValueError(
                f"Expected training and test examples in {source}. Received: no examples in the "
                f"{name} split. Each split needs at least one example. If the test split is a "
                "random tenth of the examples, at least 10 examples are needed."
            )
    return UnbatchedExamples(source, train, test, seed, binarize, flip)


def number_of_classes(
    source: PathLike = "mnist_mini", data_dir: PathLike | None = None
) -> int | None:
    """Return the number of classes of a data set, without reading its examples.

    The function returns a number for TFDS data sets with class labels, for folders of images, and
    for `.npz` files whose labels are text. For these sources, `load(source, labels=True)` returns
    labels from 0 to the number of classes − 1. For all other sources, such as tables and `.npz`
    files whose labels are numbers, the function returns None.

    Args:
        source: The data set, as for `load`, but not a `DataFrame`. This function does not download
            TFDS data sets.
        data_dir: Folder that contains the TFDS data sets, as for `load`.

    Returns:
        The number of classes, or None. For a folder of images without subfolders, the number is 1,
        because all images have the same class.

    Raises:
        ValueError: If the source does not exist, or is a folder without images. If some images of a
            folder are in subfolders and others are not.

    Example:
        >>> number_of_classes("mnist_mini")
        10
    """
    names = class_names(source, data_dir)
    return None if names is None else len(names)


def class_names(
    source: PathLike = "mnist_mini", data_dir: PathLike | None = None
) -> list[str] | None:
    """Return the names of the classes of a data set, without reading its examples.

    In the data of `load(source, labels=True)`, the label of a class is the index of its name.

    Args:
        source: The data set, as for `load`, but not a `DataFrame`. This function does not download
            TFDS data sets.
        data_dir: Folder that contains the TFDS data sets, as for `load`.

    Returns:
        The names, or None if the names are not known. The names are known for TFDS data sets with
        class labels, for `.npz` files whose labels are text, and for folders of images. In a folder
        of images, each class has the name of its subfolder. If there are no subfolders, all images
        have the same class, whose name is "".

    Raises:
        ValueError: If the source does not exist, or is a folder without images. If some images of a
            folder are in subfolders and others are not.

    Example:
        >>> class_names("mnist_mini")
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']
    """
    path = pathlib.Path(source).expanduser()
    if str(source) == "mnist_mini":
        return tfds_folder_classes(MNIST_MINI)
    if str(source) == "penguins":
        return None
    if path.suffix == ".npz":
        _check_is_file(path)
        return npz_classes(path)
    if has_table_name(source):
        _check_is_file(path)
        return None
    if path.is_dir():
        return image_folder_classes(path)
    return tfds_classes(str(source), data_dir)


def _check_image_size(image_size: tuple[int, int]) -> tuple[int, int]:
    """Check that `image_size` is a height and a width, and return two Python integers."""
    if not isinstance(image_size, tuple | list) or len(image_size) != 2:
        raise ValueError(
            "`image_size` must be a height and a width in pixels, such as (64, 64). Received: "
            f"image_size={image_size!r}."
        )
    height, width = (positive_int(None, "image_size", side) for side in image_size)
    return height, width


def _with_size(splits: Splits, image_size: tuple[int, int] | None) -> Splits:
    """Resize images from an .npz file to `image_size`, which is `(height, width)`.

    If the examples are not images, or if `image_size` is None, the examples do not change.
    """
    if image_size is None or not are_images(splits.train):
        return splits

    def resize(image: tf.Tensor, *labels: tf.Tensor) -> Any:
        image = resized(image, image_size)
        return (image, *labels) if labels else image

    return Splits(*(split.map(resize, num_parallel_calls=tf.data.AUTOTUNE) for split in splits))


def _check_is_file(path: pathlib.Path) -> None:
    if not path.is_file():
        raise ValueError(
            f"Expected `source` to be an existing file. Received: {path}, which does not exist. "
            "Check the path."
        )
