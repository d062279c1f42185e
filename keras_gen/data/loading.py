"""`load`: a source → batches."""

import pathlib

import tensorflow as tf

from keras_gen._arguments import positive_int
from keras_gen._errors import marked_message
from keras_gen._files import PathLike
from keras_gen.data._pipeline import batches, without_label
from keras_gen.data.arrays import npz_arrays, read_arrays
from keras_gen.data.images import read_image_folder
from keras_gen.data.tables import csv_arrays
from keras_gen.data.tfds import read_tfds, read_tfds_folder

MNIST_MINI = pathlib.Path(__file__).parent / "mnist_mini" / "1.0.0"
"""The embedded data set, in TFDS's prepared form."""


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
    """Load a data set as `(train, test)`, two `tf.data.Dataset` objects of float32 batches in [0, 1].

    Args:
        source: What to load:
            `"mnist_mini"`, 10,000 training and 2,000 test images of MNIST that come with the package;
            the name of any TFDS image data set, such as `"fashion_mnist"` or `"emnist/letters"`;
            a folder of images, with `train/` and `test/` in it or a tenth held out, one folder a class if there are labels;
            an `.npz` with `x_train` and `x_test` (and `y_train`, `y_test`), or with `x` (and `y`), a tenth held out;
            a `.csv` of numbers, one example a row, with a header if it has a column `label`; a tenth held out.
        batch_size: Examples a batch; the last batch may be smaller.
        labels: Give `(x, y)` in place of `x`.
        data_dir: Where TFDS keeps its data; `TFDS_DATA_DIR` or `~/tensorflow_datasets` if None.
        image_size: `(height, width)` to resize images to; a folder's images take the size of the first if None.
        seed: Seed of the order of the training examples, which changes each epoch, and of what is held out.
        skip_corrupt: Leave out the files of a folder that are no whole images, with a warning that counts them.
        binarize: Draw each pixel as 0 or 1 with its grey value as the probability of 1: for training anew each time, for the test set
            always the same. A Bernoulli is a likelihood of such data, not of grey ones (Burda et al. 2016, arXiv:1509.00519,
            section 5).

    Returns:
        `(train, test)`. Pixels of 8 or 16 bits are divided by 255 or 65,535, numbers of 0 and 1 are taken as they are, floats must lie
        in [0, 1] already. Images are `(height, width, channels)`.

    Raises:
        ValueError: If the source is not found, not available offline, empty, damaged or without labels; if it has values that are
            NaN or outside [0, 1], with the split and the index; if a file is no whole image, with its name.

    Example:

    >>> train, test = load("mnist_mini", batch_size=100)
    >>> train.element_spec.shape.as_list(), len(train), len(test)
    ([100, 28, 28, 1], 100, 20)
    """
    batch_size = positive_int(None, "batch_size", batch_size)
    path = pathlib.Path(source).expanduser()
    if str(source) == "mnist_mini":
        splits = read_tfds_folder(MNIST_MINI, image_size)
    elif path.suffix in (".npz", ".csv"):
        if not path.is_file():
            raise ValueError(
                f"Expected `source` to be a file. Received: {source}, which does not exist."
            )
        splits = read_arrays(
            seed, *(npz_arrays(path) if path.suffix == ".npz" else csv_arrays(path))
        )
    elif path.is_dir():
        splits = read_image_folder(path, image_size, labels, seed, skip_corrupt)
    else:
        splits = read_tfds(str(source), data_dir, image_size)
    if labels and not isinstance(splits[0].element_spec, tuple):
        raise ValueError(
            f"Expected labels in {source}. Received: examples without labels. Load it with labels=False."
        )
    train, test = (split if labels else split.map(without_label) for split in splits)
    for name, split in (("train", train), ("test", test)):
        if int(split.cardinality()) == 0:
            raise ValueError(
                f"Expected examples in both splits of {source}. Received: none in {name}. A split needs at least one."
            )
    try:
        return batches(train, batch_size, seed, binarize, shuffle=True), batches(
            test, batch_size, seed, binarize
        )
    except tf.errors.DataLossError as error:
        raise ValueError(
            f"Expected whole records in {source}. Received: {error.message}. Prepare or copy it anew."
        ) from None
    except tf.errors.InvalidArgumentError as error:
        message = marked_message(error)
        if message is None:
            raise
        raise ValueError(message) from None
