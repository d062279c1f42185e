"""Readers of images and tables, and the pipeline from a reader to batches."""

import concurrent.futures
import csv
import difflib
import pathlib
import re
import urllib.error
import urllib.request
import warnings
import zipfile
import zlib

import numpy as np
import PIL.Image
import tensorflow as tf

from keras_gen.serialization import checked_count
from keras_gen.storage import PathLike

MNIST_MINI = pathlib.Path(__file__).parent / "mnist_mini" / "1.0.0"
"""The embedded data set, in TFDS's prepared form."""

MARK = "<keras_gen>"
"""Stands around a message of ours, so that it can be found inside a TensorFlow error."""

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
_MEMORY_LIMIT = 2**30  # bytes of decoded examples that are kept in memory
_DOWNLOADS = "https://storage.googleapis.com"  # where TFDS keeps most of what it downloads


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
    batch_size = checked_count(None, "batch_size", batch_size)
    path = pathlib.Path(source).expanduser()
    if str(source) == "mnist_mini":
        splits = _read_tfds_folder(MNIST_MINI, image_size)
    elif path.suffix in (".npz", ".csv"):
        if not path.is_file():
            raise ValueError(f"Expected `source` to be a file. Received: {source}, which does not exist.")
        splits = _read_arrays(seed, *(_npz_arrays(path) if path.suffix == ".npz" else _csv_arrays(path)))
    elif path.is_dir():
        splits = _read_image_folder(path, image_size, labels, seed, skip_corrupt)
    else:
        splits = _read_tfds(str(source), data_dir, image_size)
    if labels and not isinstance(splits[0].element_spec, tuple):
        raise ValueError(f"Expected labels in {source}. Received: examples without labels. Load it with labels=False.")
    train, test = (split if labels else split.map(_without_label) for split in splits)
    for name, split in (("train", train), ("test", test)):
        if int(split.cardinality()) == 0:
            raise ValueError(f"Expected examples in both splits of {source}. Received: none in {name}. A split needs at least one.")
    try:
        return _batches(train, batch_size, seed, binarize, shuffle=True), _batches(test, batch_size, seed, binarize)
    except tf.errors.DataLossError as error:
        raise ValueError(f"Expected whole records in {source}. Received: {error.message}. Prepare or copy it anew.") from None
    except tf.errors.InvalidArgumentError as error:
        found = re.search(f"{MARK}(.*){MARK}", str(error))
        if not found:
            raise
        raise ValueError(found[1]) from None


# === Readers: source → (train, test) of single examples, as integers in 0..255 or floats in [0, 1] ===


def as_arrays(dataset: tf.data.Dataset, count: int | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """`(x, y or None)` of a data set of batches of `x`, `(x, y)` or `(x, y, sample_weight)`.

    Args:
        dataset: Batches.
        count: How many examples at most; all if None.

    Raises:
        ValueError: If there is none, no end of them, or they are in another form.
    """
    if count is None and dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ValueError("Expected a data set that ends. Received: one that repeats. Take a part of it: dataset.take(100).")
    spec = dataset.element_spec
    if not all(isinstance(part, tf.TensorSpec) and part.shape.rank != 0 for part in (spec if isinstance(spec, tuple) else (spec,))):
        raise ValueError(f"Expected a data set of batches of x or (x, y): dataset.batch(100). Received: elements {spec}.")
    batches = dataset if count is None else dataset.unbatch().batch(count).take(1)
    batches = [batch if isinstance(batch, tuple) else (batch,) for batch in batches.as_numpy_iterator()]
    if not batches:
        raise ValueError("Expected at least one batch. Received: an empty data set.")
    columns = [np.concatenate(column) for column in zip(*batches, strict=True)]
    return columns[0], columns[1] if len(columns) > 1 else None


def _read_tfds_folder(folder, image_size):
    import tensorflow_datasets as tfds

    return _tfds_splits(tfds.builder_from_directory(folder), image_size)


def _read_tfds(name, data_dir, image_size):
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        names = ["mnist_mini", *tfds.list_builders(with_community_datasets=False)]
        meant = "".join(f" Did you mean {near!r}?" for near in difflib.get_close_matches(name, names, n=1, cutoff=0.8))
        raise ValueError(
            "Expected `source` to be 'mnist_mini', a TFDS data set, a folder of images, an .npz or a .csv file. "
            f"Received: {name!r}, which is none of these.{meant}"
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


def _read_image_folder(folder, image_size, labels, seed, skip_corrupt):
    folders = [folder / "train", folder / "test"]
    held_out = all(split.is_dir() for split in folders)
    files = [_images_below(split) for split in folders] if held_out else [_images_below(folder)]
    if not all(files):
        raise ValueError(f"Expected a folder of images ({', '.join(_SUFFIXES)}). Received: {folder}, which has none.")
    if skip_corrupt:
        files = [_whole_images(split) for split in files]
    first = _read_image(files[0][0])
    colors = np.asarray(first.convert("RGB"))
    shape = (*(image_size or first.size[::-1]), 1 if np.all(colors == colors[..., :1]) else 3)
    if not held_out:
        order = np.random.default_rng(seed).permutation(len(files[0]))
        test, train = np.split(np.asarray(files[0])[order], [len(order) // 10])
        files = [sorted(train), sorted(test)]
    roots = folders if held_out else [folder, folder]
    classes = sorted({_class_of(file, root) for split, root in zip(files, roots, strict=True) for file in split})

    def image(name):
        levels = tf.numpy_function(lambda name: _levels(name.decode(), shape), [name], tf.uint8, stateful=False)
        return tf.ensure_shape(levels, shape)

    splits = []
    for split, root in zip(files, roots, strict=True):
        names = tf.data.Dataset.from_tensor_slices(np.asarray([str(file) for file in split], str))
        images = names.map(image, num_parallel_calls=tf.data.AUTOTUNE)
        if labels:
            numbers = np.asarray([classes.index(_class_of(file, root)) for file in split], np.int64)
            images = tf.data.Dataset.zip((images, tf.data.Dataset.from_tensor_slices(numbers)))
        splits.append(images)
    return splits


def _images_below(folder):
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES)


def _class_of(file, root):
    """The first folder below `root` on the way to a file; the folder itself if there is none."""
    return file.relative_to(root).parts[0] if file.parent != root else ""


def _read_image(file):
    """The decoded image of a file; its name is in the error if it is none."""
    image: PIL.Image.Image
    try:
        with PIL.Image.open(file) as image:
            image.load()
        if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
            image = PIL.Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"{MARK}Expected images. Received: {file}, which is damaged or no image. Remove it, or leave out all such files: "
            f"--skip-corrupt, data.load(..., skip_corrupt=True).{MARK}"
        ) from error
    return image


def _levels(file, shape):
    """The image of a file as uint8 `[height, width, channels]`."""
    height, width, channels = shape
    image = _read_image(file).convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = image.resize((width, height), PIL.Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)


def _whole_images(files):
    """Those of the files that can be decoded; a warning counts the others."""

    def is_whole(file):
        try:
            return _read_image(file) is not None
        except ValueError:
            return False

    with concurrent.futures.ThreadPoolExecutor() as pool:
        whole = list(pool.map(is_whole, files))
    corrupt = [file for file, good in zip(files, whole, strict=True) if not good]
    if len(corrupt) == len(files):
        raise ValueError(f"Expected images. Received: {len(files)} files, none of which is a whole image, such as {files[0]}.")
    if corrupt:
        warnings.warn(
            f"{len(corrupt)} of {len(files)} files are left out, since they are no whole images: {corrupt[0]}, …", stacklevel=4
        )
    return [file for file, good in zip(files, whole, strict=True) if good]


def _npz_arrays(path):
    """`(x_train, y_train, x_test, y_test)` of an .npz; the labels may be None, and so may the test set."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            names = sorted(arrays)
            found = {name: arrays[name] for name in names if name in ("x", "y", "x_train", "y_train", "x_test", "y_test")}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(
            f"Expected {path} to be an .npz of plain arrays. Received: {error}. Write it anew with np.savez."
        ) from error
    if "x_train" in found and "x_test" in found:
        return [found.get(key) for key in ("x_train", "y_train", "x_test", "y_test")]
    if "x" not in found:
        raise ValueError(f"Expected {path} to hold x_train and x_test, or x. Received: {names}. Save the data under these names.")
    return [found["x"], found.get("y"), None, None]


def _csv_arrays(path):
    """`(x, labels or None, None, None)` of a table of numbers, with or without a header."""
    with path.open(newline="") as file:
        first = next(csv.reader(file), None)
    if first is None:
        raise ValueError(f"Expected {path} to hold numbers, one example a row. Received: an empty file.")
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


def _read_arrays(seed, x_train, y_train, x_test, y_test):
    given = [("x", x_train, y_train)] if x_test is None else [("x_train", x_train, y_train), ("x_test", x_test, y_test)]
    for name, x, y in given:
        _check_array(name, x)
        if y is not None and np.shape(y) != (len(x),):
            raise ValueError(f"Expected one label for each of the {len(x)} examples of {name}. Received: labels {np.shape(y)}.")
    if x_test is None:
        order = np.random.default_rng(seed).permutation(len(x_train))
        train, test = order[len(order) // 10 :], order[: len(order) // 10]
        x_train, x_test = x_train[train], x_train[test]
        y_train, y_test = (y_train[train], y_train[test]) if y_train is not None else (None, None)
    if x_train.shape[1:] != x_test.shape[1:]:
        raise ValueError(f"Expected x_train and x_test of one shape. Received: {x_train.shape} and {x_test.shape}.")
    binary = max(x_train.max(initial=0), x_test.max(initial=0)) <= 1
    splits = []
    for x, y in ((x_train, y_train), (x_test, y_test)):
        if (binary and x.dtype.kind in "iu") or x.dtype == bool:
            x = x.astype(np.float32)
        if x.dtype not in (np.uint8, np.uint16) and x.size and not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(
                f"Expected numbers in [0, 1], or uint8 or uint16 pixels. Received: {x.dtype} from {x.min():g} to {x.max():g}. "
                "Scale them: (x - x.min()) / (x.max() - x.min())."
            )
        x = x[..., None] if x.ndim == 3 else x
        splits.append(tf.data.Dataset.from_tensor_slices(x if y is None else (x, y)))
    return splits


def _check_array(name, x):
    """Check that an array can be examples: numbers, one example a row, finite."""
    if x.dtype.kind not in "biuf":
        raise ValueError(f"Expected {name} as numbers. Received: an array of {x.dtype}.")
    if not 2 <= x.ndim <= 4 or 0 in x.shape[1:]:
        raise ValueError(
            f"Expected {name} as rows (n, columns) or images (n, height, width) or (n, height, width, channels). Received: shape "
            f"{x.shape}. Reshape it."
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        first = np.argwhere(~np.isfinite(x))[0]
        bad = np.count_nonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1))
        raise ValueError(
            f"Expected finite numbers. Received: {x[tuple(first)]} at {first.tolist()} of {name}; such numbers are in {bad} of "
            f"{len(x)} examples. Mend or remove these."
        )


# === Pipeline: single examples → batches ===


def _without_label(x, *_):
    return x


def _resized(image, size):
    return tf.cast(tf.round(tf.image.resize(image, size, antialias=True)), tf.uint8)


def _batches(examples, batch_size, seed, binarize, shuffle=False):
    options = tf.data.Options()
    options.autotune.enabled = False  # tf.data's tuner held the first batch of every other epoch back for two seconds
    count = int(examples.cardinality())
    spec = tf.nest.flatten(examples.element_spec)[0]
    fits = count > 0 and spec.shape.is_fully_defined() and count * spec.shape.num_elements() * spec.dtype.size <= _MEMORY_LIMIT
    if fits:  # not `cache()`, which a reader that stops half-way leaves truncated for all who come after
        kept = next(iter(examples.batch(count).with_options(options)))
        examples = tf.data.Dataset.range(count)  # numbers alone go one by one through shuffling and batching
    if shuffle and count != 0:
        examples = examples.shuffle(count if fits else 10_000, seed=seed)
    batches = examples.batch(batch_size, drop_remainder=count > 0 and count % batch_size == 0)  # their size known to the graph
    if binarize:
        batches = tf.data.Dataset.zip((batches, tf.data.Dataset.random(seed, rerandomize_each_iteration=shuffle)))

    def made(batch, seed=None):  # one function, since each has a price
        x, *y = tf.nest.flatten(tf.nest.map_structure(lambda values: tf.gather(values, batch), kept) if fits else batch)
        x = tf.cast(x, tf.float32) / (x.dtype.max if x.dtype.is_integer else 1.0)
        if binarize:
            x = tf.cast(tf.random.stateless_uniform(tf.shape(x), (seed, 0)) < x, tf.float32)
        return (x, *y) if y else x

    return batches.map(made).prefetch(2).with_options(options)
