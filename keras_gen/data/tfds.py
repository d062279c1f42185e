"""Reader of TFDS data sets."""

import difflib
import urllib.error
import urllib.request

import tensorflow as tf

_DOWNLOADS = "https://storage.googleapis.com"


def read_tfds_folder(folder, image_size):
    import tensorflow_datasets as tfds

    return _tfds_splits(tfds.builder_from_directory(folder), image_size)


def read_tfds(name, data_dir, image_size):
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        names = ["mnist_mini", *tfds.list_builders(with_community_datasets=False)]
        meant = "".join(
            f" Did you mean {near!r}?"
            for near in difflib.get_close_matches(name, names, n=1, cutoff=0.8)
        )
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
    classes = [
        key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)
    ]
    held_out = next(
        (split for split in ("test", "validation") if split in builder.info.splits), None
    )
    if not images or "train" not in builder.info.splits or held_out is None:
        raise ValueError(
            f"Expected a TFDS data set of images with the splits train and test. Received: {builder.info.name} with features "
            f"{sorted(features)} and splits {sorted(builder.info.splits)}. Make a tf.data.Dataset of it and pass that to `fit`."
        )
    if image_size is None and None in features[images[0]].shape[:2]:
        raise ValueError(
            f"The images of {builder.info.name} differ in size: pass image_size=(height, width)."
        )

    def example(features):
        image = _resized(features[images[0]], image_size) if image_size else features[images[0]]
        return (image, features[classes[0]]) if classes else image

    splits = (builder.as_dataset(split=split, shuffle_files=False) for split in ("train", held_out))
    return tuple(split.map(example, num_parallel_calls=tf.data.AUTOTUNE) for split in splits)


def _resized(image, size):
    return tf.cast(tf.round(tf.image.resize(image, size, antialias=True)), tf.uint8)
