"""Read image data sets of TensorFlow Datasets (TFDS)."""

from __future__ import annotations

import difflib
import pathlib
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import tensorflow as tf

from keras_gen._files import PathLike
from keras_gen.data._pipeline import Splits, resized

if TYPE_CHECKING:  # this import takes a second, so functions import it when called
    import tensorflow_datasets as tfds

_DOWNLOADS = "https://storage.googleapis.com"


def read_tfds_folder(folder: pathlib.Path, image_size: tuple[int, int] | None) -> Splits:
    """Read a data set that TFDS wrote to disk. `folder` contains one version of the data set."""
    import tensorflow_datasets as tfds

    return _read_splits(tfds.builder_from_directory(folder), image_size)


def read_tfds(name: str, data_dir: PathLike | None, image_size: tuple[int, int] | None) -> Splits:
    """Read a TFDS data set by name. TFDS downloads a data set that is not on disk.

    Args:
        name: Name of the data set, such as `"emnist/letters"`.
        data_dir: Folder that contains the TFDS data sets. Default: the default folder of TFDS.
        image_size: Size in pixels of the returned images, `(height, width)`. Default: no resizing.
    """
    builder = _find_builder(name, data_dir)
    if not builder.is_prepared():
        if not _is_online():
            raise ValueError(
                f"The TFDS data set {name!r} is not in {builder.data_dir}, and there is no network "
                f"to download it. Run `tfds.load({name!r})` on a machine with a network. Copy the "
                "folder of TFDS data sets to this machine, and pass the path of the copy as "
                "`data_dir` or in the environment variable TFDS_DATA_DIR. Alternatively, use "
                "'mnist_mini', which needs no download."
            )
        builder.download_and_prepare()
    return _read_splits(builder, image_size)


def tfds_folder_classes(folder: pathlib.Path) -> list[str] | None:
    """Return the class names of a data set on disk, or None if it has no class labels."""
    import tensorflow_datasets as tfds

    return _class_names(tfds.builder_from_directory(folder))


def tfds_classes(name: str, data_dir: PathLike | None) -> list[str] | None:
    """Return the class names of the TFDS data set `name`, without downloading the data set.

    If the data set has no class labels, return None.
    """
    return _class_names(_find_builder(name, data_dir))


def _find_builder(name: str, data_dir: PathLike | None) -> tfds.core.DatasetBuilder:
    """Return the TFDS builder of a data set.

    Raises:
        ValueError: If TFDS has no data set of this name. If there is a similar name, the message
            suggests it.
    """
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        names = ["mnist_mini", *tfds.list_builders(with_community_datasets=False)]
        similar = difflib.get_close_matches(name, names, n=1, cutoff=0.8)
        hint = f" Did you mean {similar[0]!r}?" if similar else ""
        raise ValueError(
            "Expected `source` to be 'mnist_mini', the name of a TFDS data set, a folder of "
            f"images, or an .npz or .csv file. Received: {name!r}, which is none of these.{hint}"
        ) from error


def _is_online() -> bool:
    """Return whether TFDS can download data sets. The check takes a few seconds at most.

    Without an internet connection, a download by TFDS would fail only after minutes of retries.
    """
    try:
        urllib.request.urlopen(_DOWNLOADS, timeout=3)
    except urllib.error.HTTPError:
        return True  # the server answers, even if it has no page at this address
    except OSError:
        return False
    return True


def _read_splits(builder: tfds.core.DatasetBuilder, image_size: tuple[int, int] | None) -> Splits:
    """Read the images of a data set, and the labels if the data set has class labels.

    If the data set has no split `test`, the split `validation` contains the test examples.

    Raises:
        ValueError: If the data set has no images, no split `train`, or neither of the splits `test`
            and `validation`. If the images differ in size, and `image_size` is None.
    """
    import tensorflow_datasets as tfds

    features = builder.info.features
    image_key = _first_key(builder, tfds.features.Image)
    label_key = _first_key(builder, tfds.features.ClassLabel)
    test_splits = [name for name in ("test", "validation") if name in builder.info.splits]
    if image_key is None or "train" not in builder.info.splits or not test_splits:
        raise ValueError(
            "Expected a TFDS data set of images with the splits train and test. Received: "
            f"{builder.info.name} with features {sorted(features)} and splits "
            f"{sorted(builder.info.splits)}. To train on this data set, make a "
            "`tf.data.Dataset` of batches from it and pass these batches to `fit`."
        )
    if image_size is None and None in features[image_key].shape[:2]:
        raise ValueError(
            f"Expected images of one size. Received: {builder.info.name}, whose images differ in "
            "size. Pass `image_size=(height, width)` to resize them."
        )

    # AutoGraph has nothing to convert here, but would need much time to find that out.
    @tf.autograph.experimental.do_not_convert
    def select(example: dict[str, tf.Tensor]) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
        image = example[image_key]
        if image_size is not None:
            image = resized(image, image_size)
        return image if label_key is None else (image, example[label_key])

    def read(split: str) -> tf.data.Dataset:
        examples = builder.as_dataset(split=split, shuffle_files=False)
        return examples.map(select, num_parallel_calls=tf.data.AUTOTUNE)

    return Splits(read("train"), read(test_splits[0]))


def _class_names(builder: tfds.core.DatasetBuilder) -> list[str] | None:
    """Return the class names of the first TFDS feature that is a class label, or None."""
    import tensorflow_datasets as tfds

    key = _first_key(builder, tfds.features.ClassLabel)
    return None if key is None else list(builder.info.features[key].names)


def _first_key(builder: tfds.core.DatasetBuilder, kind: type) -> str | None:
    """Return the name of the first TFDS feature of the class `kind`, or None if there is none."""
    features = builder.info.features
    return next((key for key, feature in features.items() if isinstance(feature, kind)), None)
