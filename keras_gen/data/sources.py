"""Readers of images and tables, and the pipeline from a reader to batches."""

import csv
import pathlib
import urllib.error
import urllib.request

import numpy as np
import tensorflow as tf

MNIST_MINI = pathlib.Path(__file__).parent / "mnist_mini" / "1.0.0"
"""The embedded data set, in TFDS's prepared form."""

_MEMORY_LIMIT = 2**30  # bytes of decoded examples that are kept in memory
_DOWNLOADS = "https://storage.googleapis.com"  # where TFDS keeps most of what it downloads


def load(source="mnist_mini", batch_size=128, labels=False, data_dir=None, image_size=None, seed=0):
    """Load a data set as `(train, test)`, two `tf.data.Dataset`s of float32 batches in [0, 1].

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

    Returns:
        `(train, test)`. Pixels of 8 or 16 bits are divided by 255 or 65,535, numbers of 0 and 1 are taken as they are, floats must lie
        in [0, 1] already. Images are `(height, width, channels)`.

    Raises:
        ValueError: If the source is not found, not available offline, has no labels or values outside [0, 1].

    Example:

    >>> train, test = load("mnist_mini", batch_size=100)
    >>> train.element_spec.shape.as_list(), len(train), len(test)
    ([None, 28, 28, 1], 100, 20)
    """
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"`batch_size` is an int of at least 1. Received: batch_size={batch_size!r}")
    path = pathlib.Path(source).expanduser()
    if str(source) == "mnist_mini":
        splits = _read_tfds_folder(MNIST_MINI, image_size)
    elif path.suffix in (".npz", ".csv"):
        if not path.is_file():
            raise ValueError(f"Expected `source` to be a file. Received: {source}, which does not exist.")
        splits = _read_arrays(*(_npz_arrays(path) if path.suffix == ".npz" else _csv_arrays(path)), seed)
    elif path.is_dir():
        splits = _read_image_folder(path, image_size, labels, seed)
    else:
        splits = _read_tfds(str(source), data_dir, image_size)
    if labels and not isinstance(splits[0].element_spec, tuple):
        raise ValueError(f"Expected labels in {source}. Received: examples without labels. Load it with labels=False.")
    train, test = (split if labels else split.map(_without_label) for split in splits)
    return _batches(train, batch_size, seed), _batches(test, batch_size, None)


# === Readers: source → (train, test) of single examples, as integers in 0..255 or floats in [0, 1] ===


def _read_tfds_folder(folder, image_size):
    import tensorflow_datasets as tfds

    return _tfds_splits(tfds.builder_from_directory(folder), image_size)


def _read_tfds(name, data_dir, image_size):
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise ValueError(
            "Expected `source` to be 'mnist_mini', a TFDS data set, a folder of images, an .npz or a .csv file. "
            f"Received: {name!r}, which is none of these."
        ) from error
    if not builder.is_prepared():
        if not _online():
            raise ValueError(
                f"The TFDS data set {name!r} is not in {builder.data_dir} and there is no network to download it from. Prepare it "
                f"where there is one, tfds.load({name!r}), copy the folder here and pass its parent as `data_dir` (or set "
                "TFDS_DATA_DIR); or use the embedded 'mnist_mini'."
            )
        builder.download_and_prepare()
    return _tfds_splits(builder, image_size)


def _online():
    """Whether TFDS's downloads can be reached, within seconds; TFDS itself would try for minutes."""
    try:
        urllib.request.urlopen(_DOWNLOADS, timeout=3)
    except urllib.error.HTTPError:
        return True  # an answer, though not a page
    except OSError:
        return False
    return True


def _tfds_splits(builder, image_size):
    import tensorflow_datasets as tfds

    features = builder.info.features
    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    classes = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    held_out = next((split for split in ("test", "validation") if split in builder.info.splits), None)
    if not images or "train" not in builder.info.splits or held_out is None:
        raise ValueError(
            f"Expected a TFDS data set of images with the splits train and test. Received: {builder.info.name} with features "
            f"{sorted(features)} and splits {sorted(builder.info.splits)}. Make a tf.data.Dataset of it and pass that to `fit`."
        )
    if image_size is None and None in features[images[0]].shape[:2]:
        raise ValueError(f"The images of {builder.info.name} differ in size: pass image_size=(height, width).")

    def example(features):
        image = _resized(features[images[0]], image_size) if image_size else features[images[0]]
        return (image, features[classes[0]]) if classes else image

    splits = (builder.as_dataset(split=split, shuffle_files=False) for split in ("train", held_out))
    return tuple(split.map(example, num_parallel_calls=tf.data.AUTOTUNE) for split in splits)


def _read_image_folder(folder, image_size, labels, seed):
    import keras

    suffixes = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
    first = next((file for file in sorted(folder.rglob("*")) if file.suffix.lower() in suffixes), None)
    if first is None:
        raise ValueError(f"Expected a folder of images ({', '.join(suffixes)}). Received: {folder}, which has none.")
    image = keras.utils.load_img(first, color_mode="rgb")
    grayscale = all(np.array_equal(channel, np.asarray(image)[..., 0]) for channel in np.moveaxis(np.asarray(image), -1, 0))
    options = {
        "labels": "inferred" if labels else None,
        "color_mode": "grayscale" if grayscale else "rgb",
        "image_size": image_size or image.size[::-1],
        "batch_size": None,
        "verbose": False,
    }
    read = keras.utils.image_dataset_from_directory
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        splits = tuple(read(folder / split, shuffle=False, **options) for split in ("train", "test"))
    else:
        splits = read(folder, seed=seed, validation_split=0.1, subset="both", **options)
    return tuple(split.map(_as_levels, num_parallel_calls=tf.data.AUTOTUNE) for split in splits)


def _as_levels(image, *label):
    image = tf.cast(tf.round(image), tf.uint8)
    return (image, *label) if label else image


def _npz_arrays(path):
    """`(x_train, y_train, x_test, y_test)` of an .npz; the labels may be None, and so may the test set."""
    with np.load(path) as arrays:
        if "x_train" in arrays and "x_test" in arrays:
            found = [arrays.get(key) for key in ("x_train", "y_train", "x_test", "y_test")]
        elif "x" in arrays:
            found = [arrays["x"], arrays.get("y"), None, None]
        else:
            raise ValueError(f"Expected {path} to hold x_train and x_test, or x. Received: {sorted(arrays)}.")
    return found


def _csv_arrays(path):
    """`(x, labels or None, None, None)` of a table of numbers, with or without a header."""
    with path.open(newline="") as file:
        first = next(csv.reader(file), [])
    header = None
    try:
        [float(field) for field in first]
    except ValueError:
        header = [field.strip() for field in first]
    try:
        table = np.loadtxt(path, delimiter=",", skiprows=int(header is not None), ndmin=2, dtype=np.float32)
    except ValueError as error:
        raise ValueError(f"Expected {path} to hold numbers alone, below a header at most. Received: {error}.") from error
    y = None
    if header and "label" in header:
        column = header.index("label")
        y, table = table[:, column].astype(np.int64), np.delete(table, column, axis=1)
    whole = table.size and table.min() >= 0 and table.max() <= 255 and np.all(table == np.round(table))
    return table.astype(np.uint8) if whole else table, y, None, None


def _read_arrays(x_train, y_train, x_test, y_test, seed):
    if x_test is None:
        order = np.random.default_rng(seed).permutation(len(x_train))
        train, test = order[len(order) // 10 :], order[: len(order) // 10]
        x_train, x_test = x_train[train], x_train[test]
        y_train, y_test = (y_train[train], y_train[test]) if y_train is not None else (None, None)
    binary = max(x_train.max(initial=0), x_test.max(initial=0)) <= 1
    splits = []
    for x, y in ((x_train, y_train), (x_test, y_test)):
        if (binary and x.dtype.kind in "iu") or x.dtype == bool:
            x = x.astype(np.float32)
        levels = x.dtype in (np.uint8, np.uint16)
        if not levels and x.size and not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(
                f"Expected numbers in [0, 1], or uint8 or uint16 pixels. Received: {x.dtype} from {x.min():g} to {x.max():g}."
            )
        x = x[..., None] if x.ndim == 3 else x
        splits.append(tf.data.Dataset.from_tensor_slices(x if y is None else (x, y)))
    return splits


# === Pipeline: single examples → batches ===


def _without_label(x, *_):
    return x


def _resized(image, size):
    return tf.cast(tf.round(tf.image.resize(image, size, antialias=True)), tf.uint8)


def _scaled(x, *y):
    x = tf.cast(x, tf.float32) / (x.dtype.max if x.dtype.is_integer else 1.0)
    return (x, *y) if y else x


def _batches(examples, batch_size, shuffle_seed):
    options = tf.data.Options()
    options.autotune.enabled = False  # tf.data's tuner held the first batch of every other epoch back for two seconds
    count = int(examples.cardinality())
    spec = tf.nest.flatten(examples.element_spec)[0]
    fits = count > 0 and spec.shape.is_fully_defined() and count * spec.shape.num_elements() * spec.dtype.size <= _MEMORY_LIMIT
    if fits:  # not `cache()`, which a reader that stops half-way leaves truncated for all who come after
        examples = tf.data.Dataset.from_tensor_slices(next(iter(examples.batch(count).with_options(options))))
    if shuffle_seed is not None and count != 0:
        examples = examples.shuffle(count if fits else 10_000, seed=shuffle_seed)
    return examples.batch(batch_size).map(_scaled).prefetch(2).with_options(options)
