"""Read data sets of images from folders."""

from __future__ import annotations

import collections
import concurrent.futures
import dataclasses
import functools
import itertools
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
import PIL.Image
import PIL.ImageColor
import PIL.ImageOps
import tensorflow as tf

from keras_gen._errors import mark, warn_user
from keras_gen.data._image_files import (
    Color,
    Header,
    UnreadableImageError,
    has_image_suffix,
    is_colored,
    printable,
    read_header,
    read_image,
)
from keras_gen.data._pipeline import READ_AT_ONCE, IndexedExamples

_TRAIN_FOLDERS = ("train", "training")
_TEST_FOLDERS = ("test", "testing", "validation", "valid", "val")  # the first one is used
_SYSTEM_FILES = {
    ".DS_Store",
    "Thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "__MACOSX",
    "@eaDir",
    "$RECYCLE.BIN",
    "System Volume Information",
}
_NO_IMAGE_FORMAT = "have no suffix of an image format"
_HIDDEN = "are hidden, because their names begin with a dot"
_LOOP = "are links to a folder that contains them"
_NO_FILE = "are broken links or special files"
_EMPTY = "are folders without images"
_FRAMES = "contain several frames or pages, of which only the first is read"
_INVISIBLE = (
    "become images of one color, because all their visible pixels have the color of the background "
    "(pass another `background`)"
)
_PART = 256  # number of files per part; one thread reads the headers of a part
_FIRST_PART = 16  # number of files of the first part, whose time is measured
_SLOW_FILE = 1e-4  # seconds per header, above which several threads read the headers
_SMALL_IMAGE = 2**14  # size in bytes of the largest images that are decoded in groups
_NO_HEADER = Header(0, 0, False, False)


class _Notes:
    """Count the files that are skipped or changed, and warn about them.

    The files are counted per reason. For each reason, the path of one file is kept as an example.
    """

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.examples: dict[str, str] = {}

    def add(self, reason: str, path: str, count: int = 1) -> None:
        self.counts[reason] += count
        self.examples.setdefault(reason, printable(path))

    def warn(self, message: str, *reasons: str) -> None:
        """Give one warning about the files that the method `add` has counted.

        If no file was counted for any of the `reasons`, there is no warning.

        Args:
            message: Text at the beginning of the warning.
            *reasons: Reasons why files were skipped or changed, such as `_HIDDEN`, the text for
                hidden files. For each reason, the warning says how many files were counted, and
                names one of these files.
        """
        parts = [
            f"{self.counts[reason]} {reason}, for example {self.examples[reason]}."
            for reason in reasons
            if self.counts[reason]
        ]
        if parts:
            warn_user(" ".join([message, *parts]))


@dataclasses.dataclass(frozen=True)
class _ImageFiles:
    """Image files in the folder `root` and its subfolders. Each subfolder is one class."""

    root: str
    files: list[str]

    def class_names(self) -> list[str]:
        """Return the class name of each file.

        The class name is the name of the subfolder of `root` that contains the file, directly or in
        a deeper folder. If the file is directly in `root`, the class name is "".
        """
        start = len(self.root) + 1
        return [file[start:].rpartition(os.sep)[0].partition(os.sep)[0] for file in self.files]

    def select(self, indices: Iterable[int]) -> _ImageFiles:
        """Return the files at `indices`."""
        return _ImageFiles(self.root, [self.files[i] for i in indices])


class _Headers(NamedTuple):
    """The properties of images, such as their heights, read from the headers of the image files.

    Each field is an array with one entry per file. The class `Header` contains the same properties
    for one file, and explains them.
    """

    heights: np.ndarray
    widths: np.ndarray
    is_color: np.ndarray
    is_plain: np.ndarray
    has_frames: np.ndarray
    is_invisible: np.ndarray

    def select(self, indices: np.ndarray) -> _Headers:
        """Return the headers at `indices`."""
        return _Headers(*(values[indices] for values in self))

    def have_size(self, height: int, width: int) -> np.ndarray:
        """Return for each image whether it has this size."""
        return (self.heights == height) & (self.widths == width)


def read_image_folder(
    folder: pathlib.Path,
    image_size: tuple[int, int] | None,
    labels: bool,
    seed: int,
    skip_corrupt: bool,
    background: str,
) -> tuple[IndexedExamples, IndexedExamples]:
    """Find the images of a folder, and divide them into training and test examples.

    The docstring of `load` describes which subfolders contain the training and the test images.
    This function reads the headers of all files. The pixels of a file are decoded each time its
    example is needed. If any image has colors, all examples have three channels. Otherwise, all
    examples have one channel.

    Args:
        folder: The folder.
        image_size: Size in pixels of the returned images, `(height, width)`. Default: the size of
            the first image. An image of another size is scaled without changing its proportions,
            and is then cropped at two opposite edges.
        labels: Whether the examples have labels. The label of an image is the index of its class in
            the sorted list of classes.
        seed: Seed of the random choice of test images, if no subfolder contains test images.
        skip_corrupt: Whether to skip files that cannot be decoded. If files are skipped, a warning
            states how many.
        background: The color behind transparent images, as a name or as `"#rrggbb"`.

    Returns:
        `(training examples, test examples)`.
    """
    color = _parse_color(background)
    notes = _Notes()
    splits = _find_files(folder, notes)
    class_names = _sorted_classes(splits) if labels else None
    headers = []
    for i, split in enumerate(splits):
        splits[i], split_headers = _read_headers(split, color, skip_corrupt, notes)
        headers.append(split_headers)
    shape = _image_shape(splits, headers, image_size, color)
    if image_size is None:
        _note_other_sizes(splits, headers, shape, notes)
    _warn(notes)
    if len(splits) == 1:
        parts = _hold_out(len(splits[0].files), seed)
        splits = [splits[0].select(part) for part in parts]
        headers = [headers[0].select(part) for part in parts]
    elif class_names is not None:
        _warn_of_classes_without_training_images(splits)
    train, test = (
        _to_examples(split, split_headers, shape, class_names, color)
        for split, split_headers in zip(splits, headers, strict=True)
    )
    return train, test


def image_folder_classes(folder: pathlib.Path) -> list[str]:
    """Return the names of the classes in a folder of images.

    Each subfolder is one class. If the images are in the two folders `train` and `test`, or all in
    the folder `train`, the classes are the subfolders of these folders. The label of a class is the
    index of its name in the returned list. If there are no subfolders, all images have the same
    class, whose name is "".
    """
    return [printable(name) for name in _sorted_classes(_find_files(folder, _Notes()))]


def _parse_color(background: str) -> Color:
    try:
        color = PIL.ImageColor.getrgb(background)
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            "`background` must be a color, such as 'white', 'black' or '#808080'. Received: "
            f"background={background!r}."
        ) from error
    return color[:3]


def _find_files(folder: pathlib.Path, notes: _Notes) -> list[_ImageFiles]:
    """Find the image files of a folder.

    Args:
        folder: The folder.
        notes: Object that counts the skipped files, for a warning.

    Returns:
        A list with two elements, the training files and the test files, if the folder contains two
        subfolders such as `train` and `test`. Otherwise, a list with one element, all files. If all
        of them are in a subfolder such as `train`, the `root` of this element is the subfolder, so
        that the subfolder is not a class.

    Raises:
        ValueError: If there are no training images, or several folders of training images.
    """
    root = os.fspath(folder)
    top = _entries(root, _Notes())
    folders = [entry.name for entry in top if entry.is_dir()]
    train = [name for name in folders if name.lower() in _TRAIN_FOLDERS]
    test = [name for name in folders if name.lower() in _TEST_FOLDERS]
    test.sort(key=lambda name: _TEST_FOLDERS.index(name.lower()))
    if len(train) > 1:
        raise ValueError(
            f"Expected one folder of training images. Received: {' and '.join(train)} in "
            f"{printable(root)}. Move the images into one folder."
        )
    if train and test:
        for entry in _entries(root, notes):
            if entry.name not in (train[0], test[0]):
                beside = f"are beside the folders {train[0]} and {test[0]}"
                notes.add(beside, entry.path)
        return [_list_images(os.path.join(root, name), notes) for name in (train[0], test[0])]
    files = _list_images(root, notes)
    first_folders = set(files.class_names())
    if first_folders == set(train):  # a folder named `train` is not a class
        return [_list_images(os.path.join(root, train[0]), _Notes())]
    if first_folders <= set(test):
        raise ValueError(
            f"Expected a folder of training images, such as {printable(root)}{os.sep}train. "
            f"Received: {printable(root)}, which contains only {' and '.join(test)}. Move the "
            "training images into this folder. If all images are for training, pass "
            f"{printable(os.path.join(root, test[0]))}."
        )
    return [files]


def _list_images(root: str, notes: _Notes) -> _ImageFiles:
    """Return all image files in a folder and its subfolders.

    Args:
        root: Path of the folder.
        notes: Object that counts the skipped files and folders, for a warning.

    Raises:
        ValueError: If there are no image files.
    """
    files = list(_walk(root, notes))
    split = _ImageFiles(root, files)
    if not files:
        skipped = notes.counts[_NO_IMAGE_FORMAT]
        others = f" Its {skipped} files {_NO_IMAGE_FORMAT}." if skipped else ""
        raise ValueError(
            "Expected a folder of images (such as .png, .jpg, .webp, .tif, .bmp, .gif). Received: "
            f"{printable(root)}, which contains no images.{others}"
        )
    classes = set(split.class_names())
    for entry in _entries(root, _Notes()):
        if entry.is_dir() and entry.name not in classes:
            notes.add(_EMPTY, entry.path)
    return split


def _walk(root: str, notes: _Notes) -> Iterator[str]:
    """Generate the paths of all image files in a folder and its subfolders, in sorted order.

    The function follows links. It does not follow a link to a folder that contains the link.
    Otherwise, the search would not end. The function records skipped files and links in `notes`.
    """
    start = os.stat(root)
    remaining: list[tuple[os.DirEntry[str], tuple[tuple[int, int], ...]]] = []
    above: tuple[tuple[int, int], ...] = ((start.st_dev, start.st_ino),)
    remaining.extend((entry, above) for entry in reversed(_entries(root, notes)))
    while remaining:
        entry, above = remaining.pop()
        if entry.is_dir():
            status = entry.stat()
            identity = (status.st_dev, status.st_ino)
            if identity in above:
                notes.add(_LOOP, entry.path)
                continue
            inside = reversed(_entries(entry.path, notes))
            remaining.extend((found, (*above, identity)) for found in inside)
        elif not has_image_suffix(entry.name):
            notes.add(_NO_IMAGE_FORMAT, entry.path)
        elif not entry.is_file():
            notes.add(_NO_FILE, entry.path)
        else:
            yield entry.path


def _entries(folder: str, notes: _Notes) -> list[os.DirEntry[str]]:
    """Return the visible entries of a folder, sorted by name.

    Hidden files and the files that operating systems add, such as `Thumbs.db`, are omitted.
    """
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(
            f"Expected a folder that can be read. Received: {printable(folder)}. Reading the "
            f"folder failed: {error.strerror}."
        ) from error
    visible = []
    for entry in entries:
        if entry.name in _SYSTEM_FILES or entry.name.startswith("._"):
            continue
        if entry.name.startswith("."):
            notes.add(_HIDDEN, entry.path)
        else:
            visible.append(entry)
    return visible


def _sorted_classes(splits: list[_ImageFiles]) -> list[str]:
    """Return the sorted names of all classes. The label of a class is the index of its name.

    Args:
        splits: The training files and the test files. If the files are not split yet, the list has
            one element with all files.

    Raises:
        ValueError: If some images are in a subfolder for their class and others are not.
    """
    found = [set(split.class_names()) for split in splits]
    classes = set().union(*found)
    if "" in classes and len(classes) > 1:
        split = next(split for split, names in zip(splits, found, strict=True) if "" in names)
        file = split.files[split.class_names().index("")]
        raise ValueError(
            "Expected every image to be in the subfolder of its class, or no image to be in a "
            f"subfolder. Received: {printable(file)}, which is in no subfolder, although other "
            "images are. Move the image into the subfolder of its class, or load the data with "
            "`labels=False`."
        )
    return sorted(classes)


def _warn_of_classes_without_training_images(splits: list[_ImageFiles]) -> None:
    train, test = (set(split.class_names()) for split in splits)
    names = [printable(name) for name in sorted(test - train)]
    if names:
        warn_user(
            f"{len(names)} classes have test images, but no training images: {', '.join(names)}. "
            f"The class folders with training images are {', '.join(sorted(train))}.",
        )


def _read_headers(
    split: _ImageFiles, background: Color, skip_corrupt: bool, notes: _Notes
) -> tuple[_ImageFiles, _Headers]:
    """Read the headers of image files. Return the readable files and the headers of these files.

    Args:
        split: The image files of one split of the data, such as the training split.
        background: Color behind transparent images.
        skip_corrupt: Whether to omit damaged files. If True, each file is also decoded, because a
            file with a valid header can have damaged pixels. If False, a damaged header raises an
            error.
        notes: Object that counts files with special content, such as several frames, for a warning.

    Returns:
        `(files, headers)`.
    """

    def read(file: str) -> Header:
        try:
            if skip_corrupt:
                read_image(file, background)
            return read_header(file, background)
        except UnreadableImageError:
            if skip_corrupt:
                return _NO_HEADER
            raise

    def read_part(files: list[str]) -> np.ndarray:
        return np.asarray([read(file) for file in files], np.int32)

    starts = [0, *range(_FIRST_PART, len(split.files), _PART)]
    parts = [split.files[i:j] for i, j in itertools.pairwise([*starts, len(split.files)])]
    rows: list[np.ndarray] = []
    # If the files are in the page cache of the system, one thread is twice as fast as several.
    seconds_per_file = math.inf if skip_corrupt else 0.0
    while len(rows) < len(parts) and seconds_per_file < _SLOW_FILE:
        start = time.perf_counter()
        rows.append(read_part(parts[len(rows)]))
        seconds_per_file = (time.perf_counter() - start) / len(rows[-1])
    if len(rows) < len(parts):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            rows.extend(pool.map(read_part, parts[len(rows) :]))
    headers = _Headers(*np.concatenate(rows).T)
    readable = np.flatnonzero(headers.heights)
    for reason, marked in ((_FRAMES, headers.has_frames), (_INVISIBLE, headers.is_invisible)):
        found = np.flatnonzero(marked)
        if len(found):
            notes.add(reason, split.files[found[0]], len(found))
    if len(readable) == len(split.files):
        return split, headers
    num_corrupt = len(split.files) - len(readable)
    example = printable(split.files[np.flatnonzero(headers.heights == 0)[0]])
    if not len(readable):
        raise ValueError(
            f"Expected images. Received: {num_corrupt} files, which are all damaged or not images, "
            f"for example {example}."
        )
    warn_user(
        f"Skipped {num_corrupt} of {len(split.files)} files. The skipped files are damaged or not "
        f"images, for example {example}.",
    )
    return split.select(readable), headers.select(readable)


def _image_shape(
    splits: list[_ImageFiles],
    headers: list[_Headers],
    size: tuple[int, int] | None,
    background: Color,
) -> tuple[int, int, int]:
    """Return `(height, width, channels)` of the images to load.

    There are three channels if any image has colors, and one channel if no image has colors.

    Args:
        splits: The image files of each split of the data, such as the training split.
        headers: The headers of the files of each split.
        size: The `(height, width)` to return. Default: the height and width of the first image.
        background: The color behind transparent images. It can add color to a grey image.
    """
    height, width = size or (int(headers[0].heights[0]), int(headers[0].widths[0]))
    stored_in_color = [
        split.files[i]
        for split, split_headers in zip(splits, headers, strict=True)
        for i in np.flatnonzero(split_headers.is_color)
    ]
    # Usually the first of these files has colors. Then only one file is decoded.
    any_color = any(is_colored(read_image(file, background)) for file in stored_in_color)
    return height, width, 3 if any_color else 1


def _note_other_sizes(
    splits: list[_ImageFiles],
    headers: list[_Headers],
    shape: tuple[int, int, int],
    notes: _Notes,
) -> None:
    """Count the images whose size differs from the size of the first image.

    The function stores the counts in `notes`, from which a warning is made later.
    """
    reason = (
        "have another size than the first image, and are scaled and cropped to "
        f"{shape[0]}×{shape[1]} pixels (pass `image_size=(height, width)` to choose the size)"
    )
    for split, split_headers in zip(splits, headers, strict=True):
        others = np.flatnonzero(~split_headers.have_size(*shape[:2]))
        if len(others):
            notes.add(reason, split.files[others[0]], len(others))


def _warn(notes: _Notes) -> None:
    """Warn about everything that was counted."""
    changed = [reason for reason in notes.counts if reason in (_FRAMES, _INVISIBLE)]
    sizes = [reason for reason in notes.counts if reason.startswith("have another size")]
    skipped = [reason for reason in notes.counts if reason not in (*changed, *sizes)]
    notes.warn("Skipped files and folders:", *skipped)
    notes.warn("Some images were changed:", *changed, *sizes)


def _hold_out(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split `count` files at random into training files and test files.

    A tenth of the files become test files.

    Returns:
        The indices of the training files, and the indices of the test files.
    """
    order = np.random.default_rng(seed).permutation(count)
    num_test = count // 10
    return np.sort(order[num_test:]), np.sort(order[:num_test])


def _to_examples(
    split: _ImageFiles,
    headers: _Headers,
    shape: tuple[int, int, int],
    class_names: list[str] | None,
    background: Color,
) -> IndexedExamples:
    """Return one example per image file. A file is decoded each time its example is needed.

    Args:
        split: The files.
        headers: Properties of the images, such as their sizes, from the headers of the files.
        shape: Shape of the returned uint8 images, `(height, width, channels)`.
        class_names: Names of the classes. None if the examples have no labels.
        background: Color behind transparent images.
    """
    paths = tf.constant([os.fsencode(file) for file in split.files], tf.string)
    # TensorFlow decodes the plain files, several times faster than Pillow.
    same_channels = (headers.is_color == 0) | (shape[2] == 3)
    is_plain = (headers.is_plain == 1) & headers.have_size(*shape[:2]) & same_channels

    def read(indices: tf.Tensor) -> tf.Tensor:
        return _read_with_pillow(tf.gather(paths, indices), shape, background)

    def read_quickly(indices: tf.Tensor) -> tf.Tensor:
        if not is_plain.any():
            return read(indices)
        batch = tf.gather(paths, indices)
        read_plain = _plain_decoder(shape)
        if is_plain.all():
            return read_plain(batch)
        is_plain_here = tf.gather(is_plain, indices)
        plain = tf.cast(tf.where(is_plain_here)[:, 0], tf.int32)
        other = tf.cast(tf.where(~is_plain_here)[:, 0], tf.int32)
        pixels = (
            read_plain(tf.gather(batch, plain)),
            _read_with_pillow(tf.gather(batch, other), shape, background),
        )
        return tf.dynamic_stitch((plain, other), pixels)

    spec = tf.TensorSpec(shape, tf.uint8)
    if class_names is None:
        return IndexedExamples(len(split.files), spec, read, read_quickly, labels=None)
    numbers = {name: number for number, name in enumerate(class_names)}
    labels = np.asarray([numbers[name] for name in split.class_names()], np.int64)
    return IndexedExamples(len(split.files), spec, read, read_quickly, labels)


def _read_with_pillow(
    paths: tf.Tensor, shape: tuple[int, int, int], background: Color
) -> tf.Tensor:
    """Decode image files with Pillow inside a TensorFlow graph, and return their uint8 pixels.

    Args:
        paths: Paths of the files, a string tensor `[batch]`.
        shape: Shape of the returned images, `(height, width, channels)`.
        background: Color behind transparent images.
    """

    def read(paths: np.ndarray) -> np.ndarray:
        pixels = np.empty((len(paths), *shape), np.uint8)
        for i, path in enumerate(paths):
            pixels[i] = _read_pixels(os.fsdecode(path), shape, background)
        return pixels

    pixels = tf.numpy_function(read, [paths], tf.uint8, stateful=False)
    return tf.ensure_shape(pixels, (None, *shape))


@functools.lru_cache(16)
def _plain_decoder(shape: tuple[int, int, int]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function that maps the paths of plain image files to uint8 pixels.

    A file is plain if TensorFlow and Pillow decode the file to the same pixels. TensorFlow is
    faster than Pillow. If TensorFlow cannot decode one of the files, it raises an
    `InvalidArgumentError` that does not name the file. The training and the test images use the
    same function, so that it is traced only once.

    Args:
        shape: Shape of each image, `(height, width, channels)`.
    """

    # Each iteration of `map_fn` has an overhead. Therefore, it decodes several small files.
    group_size = READ_AT_ONCE if math.prod(shape) <= _SMALL_IMAGE else 1

    def decode_one(content: tf.Tensor) -> tf.Tensor:
        # This operation also decodes PNG files. Only with INTEGER_ACCURATE, the pixels of JPEG
        # files equal the pixels of Pillow.
        image = tf.io.decode_jpeg(content, channels=shape[2], dct_method="INTEGER_ACCURATE")
        return tf.ensure_shape(image, shape)

    def decode_several(contents: tf.Tensor) -> tf.Tensor:
        return tf.stack([decode_one(content) for content in tf.unstack(contents)])

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def decode(paths: tf.Tensor) -> tf.Tensor:
        contents = tf.numpy_function(_read_files, [paths], tf.string, stateful=False)
        contents = tf.ensure_shape(contents, (None,))
        # If the files do not fill the last group, the last file is decoded repeatedly.
        count = tf.size(contents)
        num_groups = -(-count // group_size)
        filled = tf.gather(contents, tf.minimum(tf.range(num_groups * group_size), count - 1))
        groups = tf.map_fn(
            decode_several,
            tf.reshape(filled, (-1, group_size)),
            fn_output_signature=tf.TensorSpec((group_size, *shape), tf.uint8),
            parallel_iterations=2,
        )
        return tf.reshape(groups, (-1, *shape))[:count]

    return decode


def _read_files(paths: np.ndarray) -> np.ndarray:
    """Return the contents of files. For small files, this is faster than `tf.io.read_file`."""
    contents = np.empty(len(paths), object)
    for i, path in enumerate(paths):
        with open(path, "rb", buffering=0) as file:
            contents[i] = file.readall()
    return contents


def _read_pixels(file: str, shape: tuple[int, int, int], background: Color) -> np.ndarray:
    """Read an image file, and return its uint8 pixels `[height, width, channels]`.

    An image of another size is scaled until it covers the height and width in `shape`, and is then
    cropped at two opposite edges.

    TensorFlow calls this function, and adds its own text to the message of an error. Therefore the
    function puts marks around its message. `reading_errors` finds the text between the marks, and
    shows only this text to the user.
    """
    height, width, channels = shape
    try:
        # A JPEG file shrinks much faster during decoding than afterwards. With the factor 2, the
        # shrunk image is still larger than the result, so that the result is smooth.
        image = read_image(file, background, least_size=2 * max(height, width))
    except ValueError as error:
        raise ValueError(mark(str(error))) from error
    image = image.convert("L" if channels == 1 else "RGB")
    if image.size != (width, height):
        image = PIL.ImageOps.fit(image, (width, height))
    return np.asarray(image).reshape(shape)
