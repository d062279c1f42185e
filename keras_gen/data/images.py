"""Reader of image folders."""

import concurrent.futures
import warnings

import numpy as np
import PIL.Image
import tensorflow as tf

from keras_gen._errors import mark

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")


def read_image_folder(folder, image_size, labels, seed, skip_corrupt):
    folders = [folder / "train", folder / "test"]
    held_out = all(split.is_dir() for split in folders)
    files = [_images_below(split) for split in folders] if held_out else [_images_below(folder)]
    if not all(files):
        raise ValueError(
            f"Expected a folder of images ({', '.join(_SUFFIXES)}). Received: {folder}, which has none."
        )
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
    classes = sorted(
        {_class_of(file, root) for split, root in zip(files, roots, strict=True) for file in split}
    )

    def image(name):
        levels = tf.numpy_function(
            lambda name: _marked_levels(name.decode(), shape), [name], tf.uint8, stateful=False
        )
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
            f"Expected images. Received: {file}, which is damaged or no image. Remove it, or leave out all such files: "
            f"--skip-corrupt, data.load(..., skip_corrupt=True)."
        ) from error
    return image


def _marked_levels(file, shape):
    """`_levels`, whose error can be found again outside the graph."""
    try:
        return _levels(file, shape)
    except ValueError as error:
        raise ValueError(mark(str(error))) from error


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
        raise ValueError(
            f"Expected images. Received: {len(files)} files, none of which is a whole image, such as {files[0]}."
        )
    if corrupt:
        warnings.warn(
            f"{len(corrupt)} of {len(files)} files are left out, since they are no whole images: {corrupt[0]}, …",
            stacklevel=4,
        )
    return [file for file, good in zip(files, whole, strict=True) if good]
